/* kv.c - the pools of pages. */
#include "engine/kv.h"

#include <string.h>
#include <sys/mman.h>
#include "base/mem.h"

int bm_kv_budget_init(bm_kv_budget *budget, uint64_t total_bytes, bm_error *err)
{
    memset(budget, 0, sizeof *budget);
    budget->total_bytes = total_bytes;
    return pthread_mutex_init(&budget->lock, NULL) == 0 ? 0 : bm_fail(err, BM_NOMEM, "no memory for the lock of the KV budget");
}

void bm_kv_budget_done(bm_kv_budget *budget)
{
    BM_CHECK(budget->pools == NULL && budget->committed_bytes == 0);
    pthread_mutex_destroy(&budget->lock);
}

bool bm_kv_budget_resize(bm_kv_budget *budget, uint64_t bytes)
{
    pthread_mutex_lock(&budget->lock);
    bool ok = budget->committed_bytes <= bytes;
    if (ok)
        budget->total_bytes = bytes;
    pthread_mutex_unlock(&budget->lock);
    return ok;
}

int bm_kv_pool_init(bm_kv_pool *pool, bm_kv_budget *budget, size_t page_bytes, bm_error *err)
{
    memset(pool, 0, sizeof *pool);
    pool->page_bytes = page_bytes;
    pool->stride = (page_bytes + 63) & ~(size_t)63;
    uint64_t n = pool->stride > 0 ? budget->total_bytes / page_bytes : 0;
    if (n == 0)
        return bm_fail(err, BM_NOMEM, "one page of KV is %zu bytes, the budget for all is %llu", page_bytes,
                       (unsigned long long)budget->total_bytes);
    pool->n_pages = (int32_t)(n < 1 << 24 ? n : 1 << 24);
    if (!bm_mul_size((size_t)pool->n_pages, pool->stride, &pool->map_bytes))
        return bm_fail(err, BM_NOMEM, "a KV budget of %llu bytes cannot be addressed", (unsigned long long)budget->total_bytes);
    pool->clean = bm_calloc((size_t)pool->n_pages, sizeof *pool->clean);
    pool->dirty = bm_calloc((size_t)pool->n_pages, sizeof *pool->dirty);
    pool->refs = bm_calloc((size_t)pool->n_pages, sizeof *pool->refs);
    void *map = mmap(NULL, pool->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    pool->base = map == MAP_FAILED ? NULL : map;
    pool->budget = budget;
    pthread_mutex_lock(&budget->lock);
    pool->next = budget->pools;
    budget->pools = pool;
    pthread_mutex_unlock(&budget->lock);
    if (pool->clean == NULL || pool->dirty == NULL || pool->refs == NULL || pool->base == NULL) {
        bm_kv_pool_done(pool);
        return bm_fail(err, BM_NOMEM, "no address space for %llu MiB of KV", (unsigned long long)(budget->total_bytes >> 20));
    }
    madvise(pool->base, pool->map_bytes, MADV_HUGEPAGE);     /* a hint: small pages only cost speed */
    return 0;
}

void bm_kv_pool_done(bm_kv_pool *pool)
{
    if (pool->budget == NULL)
        return;
    pthread_mutex_lock(&pool->budget->lock);
    BM_CHECK(pool->n_used == 0 && pool->n_reserved == 0);
    pool->budget->resident_bytes -= (uint64_t)pool->n_dirty * pool->page_bytes;
    for (bm_kv_pool **at = &pool->budget->pools; *at != NULL; at = &(*at)->next)
        if (*at == pool) {
            *at = pool->next;
            break;
        }
    pthread_mutex_unlock(&pool->budget->lock);
    if (pool->base != NULL)
        munmap(pool->base, pool->map_bytes);
    bm_free(pool->clean);
    bm_free(pool->dirty);
    bm_free(pool->refs);
    memset(pool, 0, sizeof *pool);
}

static bool fits(const bm_kv_budget *budget, const bm_kv_pool *pools, const int32_t *n, int n_pools)
{
    uint64_t need = 0;

    for (int i = 0; i < n_pools; i++) {
        if (n[i] > pools[i].n_pages - pools[i].n_used - pools[i].n_reserved)
            return false;
        need += (uint64_t)n[i] * pools[i].page_bytes;
    }
    return budget->committed_bytes <= budget->total_bytes && need <= budget->total_bytes - budget->committed_bytes;
}

bool bm_kv_reserve(bm_kv_budget *budget, bm_kv_pool *pools, const int32_t *n, int n_pools)
{
    pthread_mutex_lock(&budget->lock);
    bool ok = fits(budget, pools, n, n_pools);
    for (int i = 0; ok && i < n_pools; i++) {
        pools[i].n_reserved += n[i];
        budget->committed_bytes += (uint64_t)n[i] * pools[i].page_bytes;
    }
    pthread_mutex_unlock(&budget->lock);
    return ok;
}

void bm_kv_release(bm_kv_pool *pool, int32_t n)
{
    pthread_mutex_lock(&pool->budget->lock);
    BM_CHECK(n >= 0 && n <= pool->n_reserved);
    pool->n_reserved -= n;
    pool->budget->committed_bytes -= (uint64_t)n * pool->page_bytes;
    pthread_mutex_unlock(&pool->budget->lock);
}

/* Give touched free pages back to the system until `bytes` more fit. */
static void trim(bm_kv_budget *budget, uint64_t bytes)
{
    for (bm_kv_pool *p = budget->pools; p != NULL; p = p->next)
        while (p->n_dirty > 0 && budget->resident_bytes + bytes > budget->total_bytes) {
            int32_t page = p->dirty[--p->n_dirty];
            unsigned char *at = p->base + (size_t)page * p->stride;
            /* Whole system pages only; the edges may be a neighbour's. What is left over is cleared by hand. */
            size_t head = (4096 - ((uintptr_t)at & 4095)) & 4095;
            size_t inner = p->stride > head ? (p->stride - head) & ~(size_t)4095 : 0;
            if (inner > 0 && madvise(at + head, inner, MADV_DONTNEED) == 0) {
                memset(at, 0, head);
                memset(at + head + inner, 0, p->stride - head - inner);
            } else {
                memset(at, 0, p->stride);
            }
            p->clean[p->n_clean++] = page;
            budget->resident_bytes -= p->page_bytes;
        }
}

void bm_kv_budget_trim(bm_kv_budget *budget)
{
    pthread_mutex_lock(&budget->lock);
    trim(budget, budget->total_bytes);
    pthread_mutex_unlock(&budget->lock);
}

uint64_t bm_kv_committed(bm_kv_budget *budget)
{
    pthread_mutex_lock(&budget->lock);
    uint64_t bytes = budget->committed_bytes;
    pthread_mutex_unlock(&budget->lock);
    return bytes;
}

/* A reserved page with one reference; dirty: its bytes are what its last owner left. */
static unsigned char *take(bm_kv_pool *pool, bool *dirty)
{
    bm_kv_budget *budget = pool->budget;
    int32_t page;

    pthread_mutex_lock(&budget->lock);
    BM_CHECK(pool->n_reserved > 0);
    pool->n_reserved--;
    pool->n_used++;
    if ((*dirty = pool->n_dirty > 0)) {
        page = pool->dirty[--pool->n_dirty];
    } else {
        trim(budget, pool->page_bytes);
        page = pool->n_clean > 0 ? pool->clean[--pool->n_clean] : pool->n_fresh++;
        BM_CHECK(page < pool->n_pages);
        budget->resident_bytes += pool->page_bytes;
    }
    pool->refs[page] = 1;
    pthread_mutex_unlock(&budget->lock);
    return pool->base + (size_t)page * pool->stride;
}

void *bm_kv_take(bm_kv_pool *pool)
{
    bool dirty;
    unsigned char *at = take(pool, &dirty);

    if (dirty)
        memset(at, 0, pool->stride);
    return at;
}

void *bm_kv_take_raw(bm_kv_pool *pool)
{
    bool dirty;

    return take(pool, &dirty);
}

static int32_t index_of(const bm_kv_pool *pool, const void *page)
{
    size_t at = (size_t)((const unsigned char *)page - pool->base);

    BM_CHECK(at % pool->stride == 0 && at / pool->stride < (size_t)pool->n_pages);
    return (int32_t)(at / pool->stride);
}

void bm_kv_ref(bm_kv_pool *pool, void *page)
{
    pthread_mutex_lock(&pool->budget->lock);
    pool->refs[index_of(pool, page)]++;
    pthread_mutex_unlock(&pool->budget->lock);
}

bool bm_kv_drop(bm_kv_pool *pool, void *page)
{
    int32_t i = index_of(pool, page);

    pthread_mutex_lock(&pool->budget->lock);
    BM_CHECK(pool->refs[i] > 0);
    bool last = --pool->refs[i] == 0;
    if (last) {
        pool->dirty[pool->n_dirty++] = i;
        pool->n_used--;
        pool->budget->committed_bytes -= (uint64_t)pool->page_bytes;
    }
    pthread_mutex_unlock(&pool->budget->lock);
    return last;
}

bool bm_kv_shared(bm_kv_pool *pool, void *page)
{
    pthread_mutex_lock(&pool->budget->lock);
    bool shared = pool->refs[index_of(pool, page)] > 1;
    pthread_mutex_unlock(&pool->budget->lock);
    return shared;
}

void bm_kv_idle(bm_kv_pool *pool, bool idle)
{
    pthread_mutex_lock(&pool->budget->lock);
    pool->n_idle += idle ? 1 : -1;
    pool->budget->idle_bytes += idle ? pool->page_bytes : (uint64_t)0 - pool->page_bytes;
    pthread_mutex_unlock(&pool->budget->lock);
}
