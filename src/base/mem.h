/* mem.h - the one door for allocation, checked size arithmetic, and arenas.
 * Tests can count allocations and make the Nth fail. All functions are safe from any thread; an arena has one owner. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

void *bm_malloc(size_t len_bytes);                     /* NULL when there is none; len 0 gives a valid pointer */
void *bm_zalloc(size_t len_bytes);                     /* zeroed */
void *bm_calloc(size_t n, size_t size);                /* zeroed; NULL on overflow too */
void *bm_realloc(void *p, size_t len_bytes);           /* p stays valid on failure */
void *bm_alloc_aligned(size_t len_bytes, size_t align);/* align a power of two; free with bm_free */
char *bm_strdup(const char *s);
char *bm_strndup(const char *s, size_t len_bytes);     /* copies len bytes and adds a NUL */
/* Zeroed memory in whole pages of the system, at a multiple of 2 MiB, with huge pages asked for: for what is large and long
 * lived. A mapping of its own, so that a file may take its place. */
void *bm_pages_alloc(size_t len_bytes);
void  bm_pages_free(void *p, size_t len_bytes);        /* NULL is fine */
void  bm_free(void *p);                                /* NULL is fine */

/* Test hook: allocation number n from now (1 = the next) fails once, in any thread; 0 turns it off. */
void bm_mem_fail_at(long n);
long bm_mem_count(void);                               /* allocations so far */

/* Overflow-safe arithmetic on sizes from outside: true and *out on success, false on overflow. */
static inline bool bm_mul_size(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool bm_add_size(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* Memory freed all at once. Zero-initialise; done() frees. */
typedef struct bm_arena {
    struct bm_arena_block *head;
    size_t total_bytes;        /* handed out so far */
    size_t limit_bytes;        /* 0: none; over it alloc gives NULL */
} bm_arena;
void *bm_arena_alloc(bm_arena *arena, size_t len_bytes);              /* zeroed, 16-byte aligned; NULL when there is none */
char *bm_arena_strndup(bm_arena *arena, const char *s, size_t len_bytes);
void  bm_arena_done(bm_arena *arena);
