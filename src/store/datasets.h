/* datasets.h - table dataset: files of rows for training and evaluation, by name. The files stay where they are. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "store/store.h"

typedef struct bm_dataset_row {
    int64_t id, size_bytes, created_ms;
    char name[128], path[4096], sha256[65];
    char shape[16];              /* of its rows: "messages", "text", ...; "" when not looked at as training data */
    char license[64], source[256];
    char hub[256], split[64];    /* registered as OWNER/SET[/CONFIG] and split for evaluation tasks; "" and "" otherwise */
    int64_t n_rows, n_tokens;    /* n_tokens 0: not counted (it takes a model) */
    int64_t mtime_ns, device, inode;     /* the file that was hashed */
    bool missing;                /* not a column: platform/datasets.h looks at the file */
} bm_dataset_row;

/* Insert; row->id is set. BM_EXISTS when the name, or hub with this split, is taken. */
int bm_datasets_insert(bm_store *store, bm_dataset_row *row, bm_error *err);
/* All, by name; *out is the caller's to bm_free (NULL when there are none). */
int bm_datasets_list(bm_store *store, bm_dataset_row **out, size_t *n, bm_error *err);
/* BM_NOTFOUND. */
int bm_datasets_delete(bm_store *store, const char *name, bm_error *err);
