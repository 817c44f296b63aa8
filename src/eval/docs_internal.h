/* docs_internal.h - the readers of docs.c: each appends objects to rows. Private. text is the whole file, valid UTF-8 is checked here. */
#pragma once
#include "eval/docs.h"

typedef struct bm_docs_reader {
    const char *path;                    /* for errors */
    const char *text;
    size_t len;
    const json_t *kwargs;                /* object or NULL */
    json_t *rows;
    bm_error *err;
} bm_docs_reader;

int bm_docs_read_json(bm_docs_reader *r);
int bm_docs_read_csv(bm_docs_reader *r, char delimiter);
int bm_docs_read_text(bm_docs_reader *r);
int bm_docs_no_memory(bm_error *err, const char *path);
/* docs_types.c: give every row every column, nested ones too, and reals where a column has any. */
int bm_docs_unify(json_t *rows, const char *path, bm_error *err);
/* Fill n and features from the rows; no rows are an error. */
int bm_docs_note_features(bm_docs *docs, bm_error *err);
