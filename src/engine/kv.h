/* kv.h - pages of KV: one pool per (model, layer group), counted by reference, under one byte budget for the engine.
 * A pool is a span of addresses of which only touched pages cost memory; no call allocates after init. Pages are reserved in
 * numbers first (one per group) and then taken: taking a reserved page cannot fail.
 * Any thread: the budget's lock guards all counts; the bytes of a page belong to who holds it. */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

typedef struct bm_kv_budget {
    pthread_mutex_t lock;
    uint64_t total_bytes;        /* the limit */
    uint64_t committed_bytes;    /* pages reserved or in use, idle ones too */
    uint64_t idle_bytes;         /* pages that only the prefix cache holds: given back when room is needed */
    uint64_t resident_bytes;     /* pages in use, or free but touched */
    struct bm_kv_pool *pools;    /* all pools: a free touched page of one gives way to another */
} bm_kv_budget;

typedef struct bm_kv_pool {
    bm_kv_budget *budget;
    struct bm_kv_pool *next;
    unsigned char *base;         /* page i is base + i * stride */
    size_t page_bytes, stride, map_bytes;
    int32_t n_pages;             /* capacity */
    int32_t n_fresh;             /* pages [n_fresh, n_pages) were never taken */
    int32_t *clean, *dirty;      /* free pages, zero or not */
    int32_t n_clean, n_dirty;
    uint32_t *refs;              /* [n_pages] */
    int32_t n_used, n_reserved, n_idle;
} bm_kv_pool;

int  bm_kv_budget_init(bm_kv_budget *budget, uint64_t total_bytes, bm_error *err);
void bm_kv_budget_done(bm_kv_budget *budget);
/* Make the limit `bytes`; false when more than that is committed. */
bool bm_kv_budget_resize(bm_kv_budget *budget, uint64_t bytes);
uint64_t bm_kv_committed(bm_kv_budget *budget);
void bm_kv_budget_trim(bm_kv_budget *budget);        /* the memory of free pages goes back to the system */

int  bm_kv_pool_init(bm_kv_pool *pool, bm_kv_budget *budget, size_t page_bytes, bm_error *err);
void bm_kv_pool_done(bm_kv_pool *pool);              /* all pages must have been dropped */

/* Reserve n[i] more pages of pools[i], all or (false) none. */
bool bm_kv_reserve(bm_kv_budget *budget, bm_kv_pool *pools, const int32_t *n, int n_pools);
void bm_kv_release(bm_kv_pool *pool, int32_t n);     /* what was reserved and not taken */
void *bm_kv_take(bm_kv_pool *pool);                  /* one reserved page: zeroed, one reference */
void *bm_kv_take_raw(bm_kv_pool *pool);              /* one with any content, for who writes all of it */
void bm_kv_ref(bm_kv_pool *pool, void *page);
bool bm_kv_drop(bm_kv_pool *pool, void *page);       /* true when it was the last reference and the page is free */
bool bm_kv_shared(bm_kv_pool *pool, void *page);     /* more than one reference */
void bm_kv_idle(bm_kv_pool *pool, bool idle);        /* one page more, or one less, is idle */
