/* datasets.h - files of rows by name: for training (`tune start --data NAME`) and as what evaluation tasks call OWNER/SET[/CONFIG] and
 * split. A file stays where it is and is recorded with sha256, rows, licence and source; the record says what the file was then. */
#pragma once
#include "store/datasets.h"

typedef bm_dataset_row bm_dataset;       /* `missing`: the file is gone or has another size now */

typedef struct bm_dataset_options {
    const char *name;            /* NULL: `as`, else the file's stem */
    const char *license, *source;/* NULL: "" */
    const char *as;              /* "OWNER/SET[/CONFIG]:SPLIT" of an evaluation task; NULL: none */
    const char *part;            /* the list of rows to count in a file that holds several; NULL: the only one */
    bool no_header;              /* of CSV: its first record is a row */
    const char *shape;           /* as bm_data_read found it; NULL: looked at here */
    int64_t n_tokens;            /* counted with a model; 0: not */
} bm_dataset_options;

/* Read, count, hash and record a file. The same bytes at the same place under the same name are no error: *out is their row.
 * n_bad: rows that could not be read and are not counted. A name or a split that is taken by another file: BM_EXISTS. */
int bm_dataset_add(bm_store *store, const char *path, const bm_dataset_options *options, bm_dataset *out, uint64_t *n_bad,
                   bm_error *err);
/* All by name; *out is the caller's to bm_free. */
int bm_dataset_list(bm_store *store, bm_dataset **out, size_t *n, bm_error *err);
/* By exact name. BM_NOTFOUND names the nearest in the hint. */
int bm_dataset_find(bm_store *store, const char *name, bm_dataset *out, bm_error *err);
/* What answers for a task's dataset_path and dataset_name (NULL or "": none) and a split: 1 and *out, or 0. */
int bm_dataset_find_split(bm_store *store, const char *set, const char *config, const char *split, bm_dataset *out, bm_error *err);
/* DATA of the command line: a registered name, else an existing file (only path is filled then, id is 0). */
int bm_dataset_resolve(bm_store *store, const char *what, bm_dataset *out, bm_error *err);
int bm_dataset_remove(bm_store *store, const char *name, bm_error *err);     /* the record only: the file stays */
