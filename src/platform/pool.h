/* pool.h - the models that a server has loaded or may load: names to backends. Loads named ones at start and shelf models
 * at their first request, one at a time, on a thread of its own; the event loop never waits for a load. Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "engine/backend.h"
#include "platform/shelf.h"

typedef struct bm_pool bm_pool;

typedef struct bm_pool_options {
    int32_t n_ctx;               /* 0: the largest that fits */
    int n_parallel;              /* 0: 4 */
    bm_kv_type kv_type;          /* 0: int16 */
    void (*log)(void *arg, const char *line);    /* one line per load, with the arithmetic; from the pool's thread */
    void *log_arg;
    uint64_t adapter_bytes;      /* what mounted adapters may take together; those least recently used go first. 0: an eighth of what is
                                  * available now */
    const char *pack_dir;        /* where packed weights are kept; NULL: in memory only. Must live as long as the pool */
} bm_pool_options;

int  bm_pool_new(bm_pool **out, bm_engine *engine, bm_store *store, const bm_pool_options *options, bm_error *err);
/* Cancels a running load and waits for it; `ready` of waiters that are left is not called. All references must be back. */
void bm_pool_free(bm_pool *pool);
/* Ask for a model or an adapter by name (NULL or "": the one that was named at start, else the alias `default`, else the only model).
 * An adapter is named by its own name, which is its canonical one, by an alias, or as BASE+NAME; this call mounts it on its
 * loaded base, which takes some milliseconds and delays no request that runs; BM_BUSY when adapters that are in use leave no room.
 * Ready: 0 and a reference in *out. Not loaded yet: starts the load and returns 1; `ready` is called once from another thread,
 * perhaps before this returns, when it is there or failed; then call get again. A failure is answered for some seconds before the
 * load is tried again. Unknown: BM_NOTFOUND with the nearest names. Never opens a path: only what was named at start and the shelf. */
int bm_pool_get(bm_pool *pool, const char *name, bm_backend **out, char canonical[128], void (*ready)(void *arg), void *arg,
                bm_error *err);
/* Give up waiting: true when `ready` with this arg will not be called any more, false when it was or is being called. */
bool bm_pool_forget(bm_pool *pool, void (*ready)(void *arg), void *arg);
void bm_pool_put(bm_pool *pool, bm_backend *backend);
/* Load now and wait: for names given to `serve --model`. A path is fine. */
int  bm_pool_load(bm_pool *pool, const char *model, bm_error *err);
/* As load, but returns at once: progress and state tell. For a server that answers /health meanwhile. */
int  bm_pool_want(bm_pool *pool, const char *model, bm_error *err);

typedef struct bm_pool_entry {
    char name[128];
    bool loaded, loading;
    double progress;
    int64_t size_bytes, created_s;   /* in memory when loaded, else of the file */
    int32_t ctx;                 /* 0 when not loaded */
    bm_loaded_stats stats;       /* zero when not loaded */
    bm_loaded *model;            /* NULL when not loaded */
    char parent[128];            /* of an adapter: its base; loaded: it is mounted */
} bm_pool_entry;
/* Loaded and loadable models, then adapters; *out is the caller's to bm_free; model is borrowed: good until the pool is called again. */
int  bm_pool_list(bm_pool *pool, bm_pool_entry **out, size_t *n, bm_error *err);
/* 0..1 while something named at start is loading, 1 when ready. */
double bm_pool_progress(bm_pool *pool);
/* Of what was named at start: 0 all there, 1 still loading, negative: the first that failed, and why. */
int  bm_pool_state(bm_pool *pool, bm_error *err);
