/* bpe_merge.c - merging neighbours by rank. */
#include "text/bpe_merge.h"

#include <string.h>

#include "base/mem.h"

enum { SHORT = 40 };                     /* up to here a scan per merge beats a heap */

int bm_merge_room(bm_merge_work *work, size_t n, bm_error *err)
{
    size_t cap = work->cap == 0 ? 64 : work->cap;
    bm_symbol *p;

    if (n <= work->cap)
        return 0;
    while (cap < n)
        cap *= 2;
    if ((p = bm_realloc(work->symbols, cap * sizeof *p)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory to tokenise a word of %zu characters", n);
    work->symbols = p, work->cap = cap;
    return 0;
}

void bm_merge_done(bm_merge_work *work)
{
    bm_free(work->symbols);
    bm_free(work->heap);
    memset(work, 0, sizeof *work);
}

static void set_pair(const bm_merger *m, const char *word, bm_symbol *left, const bm_symbol *right)
{
    m->pair(m->vocab, word, left, right);
}

static size_t merge_short(bm_symbol *s, const bm_merger *m, const char *word, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++)
        set_pair(m, word, &s[i], &s[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (s[i].rank < s[best].rank)
                best = i;
        if (s[best].rank == BM_MERGE_NONE)
            break;
        s[best].sym = s[best].merged;
        s[best].len += s[best + 1].len;
        n--;
        memmove(&s[best + 1], &s[best + 2], (n - best - 1) * sizeof *s);
        if (best + 1 < n)
            set_pair(m, word, &s[best], &s[best + 1]);
        if (best > 0)
            set_pair(m, word, &s[best - 1], &s[best]);
    }
    return n;
}

/* A long word's pairs as rank << 32 | place, the smallest next: those of the start, sorted once, and a heap of those that merges
 * make. An entry is stale when the pair at its place has another rank by now. */
enum { DIGIT = 11, DIGITS = 1 << DIGIT, FEW = 1000 };   /* a few go straight to the heap */

/* Sort by rank; entries come in the order of their places, and stay so among equals. tmp has room for n. */
static void sort_by_rank(uint64_t *x, uint64_t *tmp, size_t n)
{
    for (int shift = 32; shift < 64; shift += DIGIT) {
        size_t count[DIGITS + 1] = { 0 };
        for (size_t i = 0; i < n; i++)
            count[(x[i] >> shift & (DIGITS - 1)) + 1]++;
        for (size_t d = 1; d < DIGITS; d++)
            count[d] += count[d - 1];
        for (size_t i = 0; i < n; i++)
            tmp[count[x[i] >> shift & (DIGITS - 1)]++] = x[i];
        memcpy(x, tmp, n * sizeof *x);
    }
}

static void push(bm_merge_work *work, uint64_t x)
{
    size_t i = work->n_heap++;

    for (; i > 0 && work->heap[(i - 1) / 4] > x; i = (i - 1) / 4)
        work->heap[i] = work->heap[(i - 1) / 4];
    work->heap[i] = x;
}

/* Take the first entry off the heap: the hole goes down to a leaf, then the last entry up from there. */
static void pop(bm_merge_work *work)
{
    uint64_t *heap = work->heap, last = heap[--work->n_heap];
    size_t n = work->n_heap, i = 0, child;

    while ((child = 4 * i + 1) < n) {
        size_t best = child, end = child + 4 < n ? child + 4 : n;
        while (++child < end)
            if (heap[child] < heap[best])
                best = child;
        if (heap[best] >= last)
            break;
        heap[i] = heap[best];
        i = best;
    }
    heap[i] = last;
}

static void push_pair(bm_merge_work *work, const bm_merger *m, const char *word, uint32_t i)
{
    bm_symbol *s = work->symbols;

    s[i].rank = BM_MERGE_NONE;
    if (s[i].next == BM_MERGE_NONE)
        return;
    set_pair(m, word, &s[i], &s[s[i].next]);
    if (s[i].rank != BM_MERGE_NONE)
        push(work, (uint64_t)s[i].rank << 32 | i);
}

/* Merge the pair at i, and look at the two that this makes. */
static void merge_at(bm_merge_work *work, const bm_merger *m, const char *word, uint32_t i)
{
    bm_symbol *s = work->symbols;
    uint32_t gone = s[i].next;

    s[i].sym = s[i].merged;
    s[i].len += s[gone].len;
    s[i].next = s[gone].next;
    s[gone].rank = BM_MERGE_NONE;
    if (s[i].next != BM_MERGE_NONE)
        s[s[i].next].prev = i;
    push_pair(work, m, word, i);
    if (s[i].prev != BM_MERGE_NONE)
        push_pair(work, m, word, s[i].prev);
}

/* Link the symbols; the pairs that merge go to first[]. Returns how many. */
static size_t first_pairs(bm_symbol *s, const bm_merger *m, const char *word, size_t n, uint64_t *first)
{
    size_t n_first = 0;

    for (uint32_t i = 0; i < n; i++) {
        s[i].prev = i == 0 ? BM_MERGE_NONE : i - 1;
        s[i].next = i + 1 == n ? BM_MERGE_NONE : i + 1;
        s[i].rank = BM_MERGE_NONE;
        if (i + 1 < n)
            set_pair(m, word, &s[i], &s[i + 1]);
        if (s[i].rank != BM_MERGE_NONE)
            first[n_first++] = (uint64_t)s[i].rank << 32 | i;
    }
    return n_first;
}

/* Each merge takes away one symbol and adds at most two entries: n for the start and 2n for the heap are enough. */
static int merge_long(bm_merge_work *work, const bm_merger *m, const char *word, size_t n, size_t *left, bm_error *err)
{
    bm_symbol *s = work->symbols;
    size_t kept = 0, n_first, at = 0;
    uint64_t *first;

    if (work->cap_heap < 3 * n) {
        bm_free(work->heap);
        work->cap_heap = 0;
        if ((work->heap = bm_malloc(3 * n * sizeof *work->heap)) == NULL)
            return bm_fail(err, BM_NOMEM, "no memory to tokenise a word of %zu characters", n);
        work->cap_heap = 3 * n;
    }
    first = work->heap + 2 * n;
    n_first = first_pairs(s, m, word, n, first);
    work->n_heap = 0;
    if (n_first >= FEW)
        sort_by_rank(first, work->heap, n_first);
    else
        for (; at < n_first; at++)
            push(work, first[at]);
    while (at < n_first || work->n_heap > 0) {
        uint64_t top;
        if (work->n_heap == 0 || (at < n_first && first[at] < work->heap[0])) {
            top = first[at++];
        } else {
            top = work->heap[0];
            pop(work);
        }
        if (s[(uint32_t)top].rank == (uint32_t)(top >> 32))
            merge_at(work, m, word, (uint32_t)top);
    }
    for (uint32_t i = 0; i != BM_MERGE_NONE;) {
        uint32_t next = s[i].next;
        s[kept++] = s[i];
        i = next;
    }
    *left = kept;
    return 0;
}

int bm_merge_run(bm_merge_work *work, const bm_merger *merger, const char *word, size_t n, size_t *left, bm_error *err)
{
    if (n > SHORT)
        return merge_long(work, merger, word, n, left, err);
    *left = merge_short(work->symbols, merger, word, n);
    return 0;
}

bm_word *bm_word_slot(bm_word *words, const char *word, size_t len, bm_word *key)
{
    uint64_t h;

    key->bytes[0] = key->bytes[1] = key->bytes[2] = 0;
    memcpy(key->bytes, word, len);
    key->len = (uint8_t)len;
    h = (key->bytes[0] ^ len) * 0x9E3779B97F4A7C15u;
    h = (h ^ h >> 29 ^ key->bytes[1]) * 0xD6E8FEB86659FD93u;
    h = (h ^ h >> 32 ^ key->bytes[2]) * 0xA0761D6478BD642Fu;
    return &words[h >> 52];
}
