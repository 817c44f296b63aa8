/* fields.h - the one table of what a request may carry: field, type, range, treatment. It drives parsing and the tests.
 * A field that would change the answer and is not carried out is refused by name; so is a field that nobody knows.
 * Only those marked harmless are accepted and left alone. */
#pragma once
#include <jansson.h>
#include "base/error.h"

enum { BM_CHAT = 1, BM_COMPLETIONS = 2 };                /* routes, also as a mask */

typedef enum bm_field_type { BM_F_BOOL, BM_F_INT, BM_F_NUMBER, BM_F_STRING, BM_F_OBJECT, BM_F_ANY } bm_field_type;
typedef enum bm_treatment {
    BM_FIELD_USED,       /* carried out */
    BM_FIELD_HARMLESS,   /* changes nothing in the answer: accepted, type checked, otherwise left alone */
    BM_FIELD_REFUSED,    /* would change the answer: 400, except for null and the neutral values */
} bm_treatment;

typedef struct bm_field {
    const char *name;
    unsigned routes;
    bm_treatment treatment;
    bm_field_type type;
    double min, max;             /* of numbers, and of integers */
    const char *neutral;         /* REFUSED: JSON values that ask for nothing, one per line; or NULL */
    const char *hint;            /* what to do instead; or NULL */
} bm_field;

extern const bm_field bm_fields[];
extern const size_t bm_n_fields;

const bm_field *bm_field_find(unsigned route, const char *name);
/* Check every field of the body against the table. Errors carry param and hint. */
int bm_fields_check(unsigned route, const json_t *body, bm_error *err);
