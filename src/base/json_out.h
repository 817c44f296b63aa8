/* json_out.h - JSON as text into a bm_buf, compact, with commas placed by the writer and the shortest numbers.
 * What was not valid UTF-8 is written with U+FFFD, so the output always parses. Failures stick in the buf. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"

typedef struct bm_json { bm_buf *out; bool comma; } bm_json;     /* start from {&buf, false} */

void bm_json_open(bm_json *j, char bracket);                     /* '{' or '[' */
void bm_json_close(bm_json *j, char bracket);                    /* '}' or ']' */
void bm_json_key(bm_json *j, const char *key);
void bm_json_str(bm_json *j, const char *s);                     /* NULL: null */
void bm_json_strn(bm_json *j, const char *s, size_t len);
void bm_json_int(bm_json *j, int64_t x);
void bm_json_double(bm_json *j, double x);                       /* NaN and infinities: null */
void bm_json_float(bm_json *j, float x);                         /* the shortest digits that read back as the same float */
void bm_json_bool(bm_json *j, bool x);
void bm_json_null(bm_json *j);
void bm_json_raw(bm_json *j, const char *json, size_t len);      /* a value already written */

/* Key and value in one call, the common case. */
void bm_json_kstr(bm_json *j, const char *key, const char *s);
void bm_json_kint(bm_json *j, const char *key, int64_t x);
void bm_json_kdouble(bm_json *j, const char *key, double x);
void bm_json_kbool(bm_json *j, const char *key, bool x);
struct json_t;
void bm_json_value(bm_json *j, const struct json_t *value);      /* a jansson value, members in its order; NULL: null */
