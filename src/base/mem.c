/* mem.c - allocation with a hook for tests, and arenas. */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_long n_allocs;
static atomic_long fail_at;      /* absolute number of the allocation that fails; 0: none */

void bm_mem_fail_at(long n) { atomic_store(&fail_at, n > 0 ? atomic_load(&n_allocs) + n : 0); }
long bm_mem_count(void) { return atomic_load(&n_allocs); }

static bool must_fail(void)
{
    long mine = atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed) + 1;
    long at = atomic_load_explicit(&fail_at, memory_order_relaxed);

    if (at == 0 || mine != at)
        return false;
    atomic_store(&fail_at, 0);
    return true;
}

void *bm_malloc(size_t len_bytes) { return must_fail() ? NULL : malloc(len_bytes ? len_bytes : 1); }
void *bm_zalloc(size_t len_bytes) { return must_fail() ? NULL : calloc(1, len_bytes ? len_bytes : 1); }

void *bm_calloc(size_t n, size_t size)
{
    size_t len;

    return bm_mul_size(n, size, &len) ? bm_zalloc(len) : NULL;
}

void *bm_realloc(void *p, size_t len_bytes) { return must_fail() ? NULL : realloc(p, len_bytes ? len_bytes : 1); }

void *bm_alloc_aligned(size_t len_bytes, size_t align)
{
    void *p;

    if (must_fail())
        return NULL;
    if (align < sizeof(void *))
        align = sizeof(void *);
    return posix_memalign(&p, align, len_bytes ? len_bytes : 1) == 0 ? p : NULL;
}

enum { HUGE_PAGE = 2 << 20 };

void *bm_pages_alloc(size_t len_bytes)
{
    size_t room, head;
    unsigned char *all, *at;

    if (must_fail() || !bm_add_size(len_bytes ? len_bytes : 1, 4095, &room) || !bm_add_size(room &= ~(size_t)4095, HUGE_PAGE, &room))
        return NULL;
    if ((all = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED)
        return NULL;
    at = (unsigned char *)(((uintptr_t)all + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    head = (size_t)(at - all);
    room -= HUGE_PAGE;
    if (head > 0)
        munmap(all, head);
    if (head < HUGE_PAGE)
        munmap(at + room, HUGE_PAGE - head);
    madvise(at, room, MADV_HUGEPAGE);       /* fewer TLB misses while streaming; no matter if refused */
    return at;
}

void bm_pages_free(void *p, size_t len_bytes)
{
    if (p != NULL)
        munmap(p, ((len_bytes ? len_bytes : 1) + 4095) & ~(size_t)4095);
}

char *bm_strndup(const char *s, size_t len_bytes)
{
    size_t room;
    char *p;

    if (!bm_add_size(len_bytes, 1, &room) || (p = bm_malloc(room)) == NULL)
        return NULL;
    if (len_bytes != 0)                     /* s may be NULL then */
        memcpy(p, s, len_bytes);
    p[len_bytes] = '\0';
    return p;
}

char *bm_strdup(const char *s) { return bm_strndup(s, strlen(s)); }
void bm_free(void *p) { free(p); }

struct bm_arena_block {
    struct bm_arena_block *next;
    size_t used, cap;
    _Alignas(16) unsigned char bytes[];
};

enum { FIRST_BLOCK = 4096, LARGEST_STEP = 1 << 20 };

static struct bm_arena_block *grow(bm_arena *arena, size_t need)
{
    size_t cap = arena->head == NULL ? FIRST_BLOCK : arena->head->cap * 2;
    struct bm_arena_block *block;
    size_t room;

    if (cap > LARGEST_STEP)
        cap = LARGEST_STEP;
    if (cap < need)
        cap = need;
    if (!bm_add_size(cap, sizeof *block, &room) || (block = bm_zalloc(room)) == NULL)
        return NULL;
    block->cap = cap;
    block->next = arena->head;
    arena->head = block;
    return block;
}

void *bm_arena_alloc(bm_arena *arena, size_t len_bytes)
{
    struct bm_arena_block *block = arena->head;
    size_t need;

    if (!bm_add_size(len_bytes, 15, &need))
        return NULL;
    need &= ~(size_t)15;
    if (arena->limit_bytes != 0 && (need > arena->limit_bytes || arena->total_bytes > arena->limit_bytes - need))
        return NULL;
    if (block == NULL || block->cap - block->used < need)
        if ((block = grow(arena, need)) == NULL)
            return NULL;
    void *p = block->bytes + block->used;
    block->used += need;
    arena->total_bytes += need;
    return p;
}

char *bm_arena_strndup(bm_arena *arena, const char *s, size_t len_bytes)
{
    size_t room;
    char *p;

    if (!bm_add_size(len_bytes, 1, &room) || (p = bm_arena_alloc(arena, room)) == NULL)
        return NULL;
    if (len_bytes != 0)
        memcpy(p, s, len_bytes);
    return p;
}

void bm_arena_done(bm_arena *arena)
{
    while (arena->head != NULL) {
        struct bm_arena_block *next = arena->head->next;
        bm_free(arena->head);
        arena->head = next;
    }
    arena->total_bytes = 0;
}
