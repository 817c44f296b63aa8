/* shelf.h - the shelf of models: files in place, recorded with their sha256, size, architecture and licence. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "engine/packs.h"
#include "store/adapters.h"
#include "store/models.h"
#include "store/store.h"

typedef bm_model_row bm_shelf_model;     /* `missing`: the file is gone or has another size now */

/* Add a GGUF in place: it is read, its architecture and tokenizer are checked, it is hashed, and only then recorded. name NULL:
 * made from the file name, or from general.name when that says more. The same file again is not an error: *out is its row.
 * A name taken by another file: BM_EXISTS. Hashing reports to progress; non-zero cancels. Nothing is half-registered. */
int bm_shelf_add(bm_store *store, const char *path, const char *name, const char *source,
                 int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, bm_shelf_model *out, bm_error *err);
/* Add an adapter in place, a child of `base` (a model of the shelf; NULL: the one whose sha256 the adapter names): its matrices are read
 * and checked against the base's shapes, its base hash against the base's, and its file is hashed. name NULL: made from the path.
 * A base or shapes that differ: BM_INVALID with both named. The name of an adapter of the same base takes the new content, which
 * requests see from then on. row->run, curve, license and source ("": "peft" or "gguf") may be given; the rest is filled. */
int bm_shelf_add_adapter(bm_store *store, const char *path, const char *base, const char *name, bm_adapter_row *row, bm_error *err);
/* The bytes that row->sha256 is of: adapter_model.safetensors of a directory, or the file itself. */
int bm_shelf_hash_adapter(const char *path, char hex[65], int64_t *size_bytes, bm_error *err);

/* All models by name; *out is the caller's to bm_free. */
int bm_shelf_list(bm_store *store, bm_shelf_model **out, size_t *n, bm_error *err);
/* By exact name, else unique case-insensitive name, else the alias, else NAME:latest. BM_NOTFOUND names the nearest names in
 * the hint. Never a path. */
int bm_shelf_find(bm_store *store, const char *name, bm_shelf_model *out, bm_error *err);
/* What a request's model is: a model, or one of its adapters (adapter.id 0: none; settings and curve are not read). */
typedef struct bm_shelf_target { bm_shelf_model model; bm_adapter_row adapter; } bm_shelf_target;
/* As find, and adapters too: by exact name, by an alias of theirs, or as BASE+NAME. An adapter whose base is not on the shelf any more,
 * by its hash, is BM_NOTFOUND. name NULL: the alias `default`, else the only model. */
int bm_shelf_find_target(bm_store *store, const char *name, bm_shelf_target *out, bm_error *err);
/* The model whose recorded path is this one: 1 and *out, or 0. */
int bm_shelf_find_path(bm_store *store, const char *path, bm_shelf_model *out, bm_error *err);
int bm_shelf_remove(bm_store *store, const char *name, bm_error *err);       /* model or adapter; the record only: the file stays */
int bm_shelf_alias(bm_store *store, const char *alias, const char *name, bm_error *err);
int bm_shelf_unalias(bm_store *store, const char *alias, bm_error *err);
/* MODEL of the command line: "" or NULL: the alias `default`, else the only model; a shelf name; else an existing path. What has
 * a '/' or ends with .gguf is tried as a path first.
 * Fills path and name; row fields only when it is on the shelf (id is 0 when not). store may be NULL when MODEL is a path.
 * A missing file is an error. */
int bm_shelf_resolve(bm_store *store, const char *model, bm_shelf_model *out, bm_error *err);

int bm_shelf_check_present(const bm_shelf_model *row, bm_error *err);          /* BM_NOTFOUND when it is missing */

/* What the row says of its file: false when it is not on the shelf. */
bool bm_shelf_known(const bm_shelf_model *row, bm_known_file *out);

/* A name for a model file from its path: the stem, in letters that names may have. */
void bm_shelf_name(const char *path, char out[128]);
/* 0 when it can be a model's or an alias's name: 1 to 127 bytes of UTF-8, letters, digits and ._:@/- without control or space
 * characters, beginning with a letter or digit, without "..", "//", and a closing '/'. */
int bm_shelf_check_name(const char *name, bm_error *err);

/* Find GGUFs of Ollama, LM Studio, the Hugging Face and llama.cpp caches below `root` and report each file once. root NULL: the
 * user's home, and where OLLAMA_MODELS, HF_HOME, HF_HUB_CACHE, LLAMA_CACHE and XDG_CACHE_HOME point. found() non-zero stops: BM_CANCELED. */
typedef struct bm_scan_hit { char path[4096], name[128], source[32]; } bm_scan_hit;
int bm_shelf_scan(const char *root, int (*found)(void *arg, const bm_scan_hit *hit), void *arg, bm_error *err);
