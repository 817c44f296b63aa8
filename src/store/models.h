/* models.h - tables model, alias, alias_history. Names are compared exactly here; the shelf knows what people mean. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "store/store.h"

typedef struct bm_model_row {
    int64_t id, size_bytes, created_ms;
    char name[128], path[4096], sha256[65], arch[32], quantization[16], license[64];
    char source[32];             /* "file" "ollama" "lmstudio" "hf" "llama.cpp" */
    int64_t n_params, n_ctx_train;
    bool missing;                /* not a column: the shelf looks at the file */
    int64_t mtime_ns, device, inode, parent;     /* the file that was hashed; parent: id of another model, 0: none */
} bm_model_row;

/* Insert; row->id is set. BM_EXISTS when the name is a model's or an alias's already. */
int bm_models_insert(bm_store *store, bm_model_row *row, bm_error *err);
/* The same bytes at another place, or with another time: path, mtime_ns, device and inode of row->id. */
int bm_models_move(bm_store *store, const bm_model_row *row, bm_error *err);
/* All, by name; *out is the caller's to bm_free (NULL when there are none). */
int bm_models_list(bm_store *store, bm_model_row **out, size_t *n, bm_error *err);
/* The model and its aliases. BM_NOTFOUND. */
int bm_models_delete(bm_store *store, const char *name, bm_error *err);

/* An alias stands for a model or an adapter: `model` is the name of either, and one of the two ids is 0. */
typedef struct bm_alias_row { char name[128], model[128]; int64_t model_id, adapter_id, updated_ms; } bm_alias_row;
int bm_aliases_list(bm_store *store, bm_alias_row **out, size_t *n, bm_error *err);
/* Point an alias at a model or an adapter, made when new, with a row of history. BM_EXISTS when one of them has that name. */
int bm_aliases_set(bm_store *store, const char *alias, const char *target, bm_error *err);
/* As set, with the reason in the history: JSON of the run and the gate that allowed it. */
int bm_aliases_move(bm_store *store, const char *alias, const char *target, const char *evidence, bm_error *err);
/* BM_NOTFOUND. */
int bm_aliases_delete(bm_store *store, const char *alias, bm_error *err);

/* What an alias stood for, latest first; target "" says that it went away. *out is the caller's to bm_free. */
typedef struct bm_alias_move { int64_t id, at_ms; char alias[128], target[128], sha256[65], evidence[2048]; } bm_alias_move;
int bm_aliases_history(bm_store *store, const char *alias, bm_alias_move **out, size_t *n, bm_error *err);
