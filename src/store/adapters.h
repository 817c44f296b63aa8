/* adapters.h - table adapter: LoRA adapters on the shelf, children of their base, with where they come from. An adapter's name
 * is a model name of its own: models, adapters and aliases share one space of names. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "store/store.h"

typedef struct bm_adapter_row {
    int64_t id, size_bytes, created_ms;
    char name[128], path[4096];  /* a directory in PEFT's layout */
    char sha256[65];             /* of its content */
    char base_name[128], base_sha256[65];
    char source[16];             /* "tune" "peft" "gguf" */
    char run[40], data_sha256[65];       /* the run that made it and its training data, or "" */
    char version[32], license[64];
    char *settings, *curve;      /* JSON: an object; an array of {"step","loss","valid_loss"}. NULL when inserting: {} and [] */
} bm_adapter_row;

/* Insert; row->id is set. BM_EXISTS when the name is a model's, an adapter's or an alias's already. */
int  bm_adapters_insert(bm_store *store, bm_adapter_row *row, bm_error *err);
/* New content under the same name: everything but the name; aliases keep pointing to it. BM_NOTFOUND. */
int  bm_adapters_replace(bm_store *store, bm_adapter_row *row, bm_error *err);
/* All, by name; *out is the caller's to give to bm_adapters_free. */
int  bm_adapters_list(bm_store *store, bm_adapter_row **out, size_t *n, bm_error *err);
void bm_adapters_free(bm_adapter_row *rows, size_t n);
/* By exact name: 1 and *out, whose strings bm_adapter_row_done gives back; or 0. */
int  bm_adapters_find(bm_store *store, const char *name, bm_adapter_row *out, bm_error *err);
void bm_adapter_row_done(bm_adapter_row *row);
/* The adapter and its aliases. BM_NOTFOUND. */
int  bm_adapters_delete(bm_store *store, const char *name, bm_error *err);
