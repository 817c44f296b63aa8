/* shelf.h - the shelf of models: files in place, recorded with their sha256, size, architecture and licence. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "store/store.h"

typedef struct bm_shelf_model {
    int64_t id, size_bytes, created_ms;
    char name[128], path[4096], sha256[65], arch[32], quantization[16], license[64], source[32];   /* source: "file" "ollama" "lmstudio" "hf" "llama.cpp" */
    int64_t n_params, n_ctx_train;
    bool missing;                /* the file is gone or has another size now */
} bm_shelf_model;

/* Add a GGUF in place. name NULL: made from general.name or the file name. The same file again is not an error: *out is its
 * row. A name taken by another file: BM_EXISTS. Hashing reports to progress. Nothing is half-registered. */
int bm_shelf_add(bm_store *store, const char *path, const char *name, const char *source,
                 int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, bm_shelf_model *out, bm_error *err);
/* All models by name; *out is the caller's to bm_free. */
int bm_shelf_list(bm_store *store, bm_shelf_model **out, size_t *n, bm_error *err);
/* By exact name, else unique case-insensitive name, else the alias. BM_NOTFOUND names the nearest names in the hint. */
int bm_shelf_find(bm_store *store, const char *name, bm_shelf_model *out, bm_error *err);
int bm_shelf_remove(bm_store *store, const char *name, bm_error *err);       /* the record only: the file stays */
int bm_shelf_alias(bm_store *store, const char *alias, const char *name, bm_error *err);
/* MODEL of the command line: "" or NULL: the alias `default`, else the only model; an existing path; else a shelf name.
 * Fills path and name; row fields only when it is on the shelf. store may be NULL when MODEL is a path. */
int bm_shelf_resolve(bm_store *store, const char *model, bm_shelf_model *out, bm_error *err);

/* Find GGUFs of Ollama, LM Studio, the Hugging Face and llama.cpp caches below `root` (NULL: the user's home) and report each. */
typedef struct bm_scan_hit { char path[4096], name[128], source[32]; } bm_scan_hit;
int bm_shelf_scan(const char *root, int (*found)(void *arg, const bm_scan_hit *hit), void *arg, bm_error *err);
