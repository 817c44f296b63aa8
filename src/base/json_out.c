/* json_out.c - JSON as text. */
#include "base/json_out.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/utf8.h"

static void separate(bm_json *j)
{
    if (j->comma)
        bm_buf_putc(j->out, ',');
    j->comma = true;
}

void bm_json_open(bm_json *j, char bracket)
{
    separate(j);
    bm_buf_putc(j->out, bracket);
    j->comma = false;
}

void bm_json_close(bm_json *j, char bracket)
{
    bm_buf_putc(j->out, bracket);
    j->comma = true;
}

static void put_escaped(bm_buf *out, const char *s, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        bm_buf_add(out, s + from, i - from);
        from = i + 1;
        char esc[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };
        static const char plain[] = "\"\"\\\\\bb\ff\nn\rr\tt";
        const char *p = NULL;
        for (size_t k = 0; k + 1 < sizeof plain && p == NULL; k += 2)
            if (plain[k] == (char)c)
                p = plain + k + 1;
        if (p != NULL) {
            esc[1] = *p;
            bm_buf_add(out, esc, 2);
        } else {
            bm_buf_add(out, esc, 6);
        }
    }
    bm_buf_add(out, s + from, len - from);
}

void bm_json_strn(bm_json *j, const char *s, size_t len)
{
    separate(j);
    bm_buf_putc(j->out, '"');
    if (bm_utf8_valid(s, len)) {
        put_escaped(j->out, s, len);
    } else {
        bm_buf clean = { 0 };
        bm_utf8_sanitize(&clean, s, len);
        put_escaped(j->out, clean.data == NULL ? "" : clean.data, clean.len);
        j->out->failed |= clean.failed;
        bm_buf_done(&clean);
    }
    bm_buf_putc(j->out, '"');
}

void bm_json_str(bm_json *j, const char *s)
{
    if (s == NULL)
        bm_json_null(j);
    else
        bm_json_strn(j, s, strlen(s));
}

void bm_json_key(bm_json *j, const char *key)
{
    bm_json_str(j, key);
    bm_buf_putc(j->out, ':');
    j->comma = false;
}

void bm_json_int(bm_json *j, int64_t x)
{
    char text[24];

    bm_json_raw(j, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)x));
}

void bm_json_double(bm_json *j, double x)
{
    char text[32];

    if (isfinite(x))
        bm_json_raw(j, text, (size_t)bm_number_write(text, x));
    else
        bm_json_null(j);
}

void bm_json_float(bm_json *j, float x)
{
    char text[32];
    double best = (double)x;

    for (int digits = 1; digits <= 9 && isfinite(x); digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        best = strtod(text, NULL);
        if ((float)best == x)
            break;
    }
    bm_json_double(j, best);
}

void bm_json_bool(bm_json *j, bool x) { bm_json_raw(j, x ? "true" : "false", x ? 4 : 5); }
void bm_json_null(bm_json *j) { bm_json_raw(j, "null", 4); }

void bm_json_raw(bm_json *j, const char *json, size_t len)
{
    separate(j);
    bm_buf_add(j->out, json, len);
}

void bm_json_kstr(bm_json *j, const char *key, const char *s) { bm_json_key(j, key); bm_json_str(j, s); }
void bm_json_kint(bm_json *j, const char *key, int64_t x) { bm_json_key(j, key); bm_json_int(j, x); }
void bm_json_kdouble(bm_json *j, const char *key, double x) { bm_json_key(j, key); bm_json_double(j, x); }
void bm_json_kbool(bm_json *j, const char *key, bool x) { bm_json_key(j, key); bm_json_bool(j, x); }

void bm_json_value(bm_json *j, const json_t *value)
{
    const char *key;
    json_t *v;
    size_t i;

    switch (value == NULL ? JSON_NULL : json_typeof(value)) {
    case JSON_OBJECT:
        bm_json_open(j, '{');
        json_object_foreach((json_t *)(uintptr_t)value, key, v) {
            bm_json_key(j, key);
            bm_json_value(j, v);
        }
        bm_json_close(j, '}');
        break;
    case JSON_ARRAY:
        bm_json_open(j, '[');
        json_array_foreach(value, i, v)
            bm_json_value(j, v);
        bm_json_close(j, ']');
        break;
    case JSON_STRING: bm_json_strn(j, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: bm_json_int(j, json_integer_value(value)); break;
    case JSON_REAL: bm_json_double(j, json_real_value(value)); break;
    case JSON_TRUE: case JSON_FALSE: bm_json_bool(j, json_is_true(value)); break;
    case JSON_NULL: bm_json_null(j); break;
    }
}
