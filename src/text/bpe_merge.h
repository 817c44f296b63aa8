/* bpe_merge.h - merging neighbours by rank, for both kinds of BPE: the pair of the lowest rank first, then the leftmost.
 * Short words scan for it; long ones sort their pairs and keep a heap of new ones: n log n for any input. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

enum { BM_MERGE_NONE = UINT32_MAX };     /* no such pair; no such symbol */

typedef struct bm_symbol {
    uint32_t sym;                        /* the vocabulary's own number, or BM_MERGE_NONE */
    uint32_t at, len;                    /* its bytes in the word */
    uint32_t rank, merged;               /* of the pair with the symbol behind it: rank, and what they become */
    uint32_t prev, next;                 /* only while a long word merges */
} bm_symbol;

typedef struct bm_merge_work {           /* room that one encoding call keeps from word to word; zero-initialise */
    bm_symbol *symbols;
    size_t cap;
    uint64_t *heap;
    size_t n_heap, cap_heap;
} bm_merge_work;

typedef struct bm_merger {
    /* Fill left->rank and left->merged for the pair of neighbours; rank BM_MERGE_NONE when they do not merge. */
    void (*pair)(const void *vocab, const char *word, bm_symbol *left, const bm_symbol *right);
    const void *vocab;
} bm_merger;

int  bm_merge_room(bm_merge_work *work, size_t n, bm_error *err);      /* at least n symbols */
/* Merge work->symbols[0..n) (sym, at, len are set) in place; *left is how many remain. */
int  bm_merge_run(bm_merge_work *work, const bm_merger *merger, const char *word, size_t n, size_t *left, bm_error *err);
void bm_merge_done(bm_merge_work *work);

/* Words that came before in the same call, with their ids: most of a text. Direct-mapped, one line of the cache each. */
typedef struct bm_word {
    uint64_t bytes[3];
    uint8_t len, n;                      /* len 0: free */
    uint8_t unused[2];
    int32_t ids[9];
} bm_word;
enum { BM_WORDS = 4096, BM_WORD_BYTES = 24, BM_WORD_IDS = 9 };
/* The entry for word[0..len), len 1 to BM_WORD_BYTES, whose key is written to *key; it matches when bm_word_is. */
bm_word *bm_word_slot(bm_word *words, const char *word, size_t len, bm_word *key);
static inline int bm_word_is(const bm_word *a, const bm_word *key)
{
    return a->len == key->len && a->bytes[0] == key->bytes[0] && a->bytes[1] == key->bytes[1] && a->bytes[2] == key->bytes[2];
}
