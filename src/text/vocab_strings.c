/* vocab_strings.c - numbered strings, found by content: open addressing over one block of bytes. */
#include "text/vocab.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

int bm_strings_reserve(bm_strings *t, size_t n, size_t len, bm_error *err)
{
    size_t slots = 64;

    if (n >= UINT32_MAX / 4)
        return bm_fail(err, BM_FORMAT, "%zu strings are too many for a vocabulary", n);
    while (slots < n * 2)
        slots *= 2;
    t->bytes = bm_malloc(len);
    t->at = bm_calloc(n + 1, sizeof *t->at);
    t->slots = bm_calloc(slots, sizeof *t->slots);
    if (t->bytes == NULL || t->at == NULL || t->slots == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a vocabulary of %zu tokens", n);
    t->cap_bytes = len, t->cap = (uint32_t)n, t->mask = slots - 1;
    return 0;
}

/* The slot of s, or the free one where it belongs. */
static size_t slot_of(const bm_strings *t, const char *s, size_t len, uint64_t hash)
{
    size_t i = (size_t)(hash ^ hash >> 29) & t->mask;

    for (;; i = (i + 1) & t->mask) {
        uint64_t slot = t->slots[i];
        if (slot == 0)
            return i;
        if ((slot ^ hash) >> 32 == 0) {
            bm_str have = bm_strings_at(t, (uint32_t)slot - 1);
            if (have.len == len && memcmp(have.data, s, len) == 0)
                return i;
        }
    }
}

int64_t bm_strings_find(const bm_strings *t, const char *s, size_t len)
{
    uint64_t slot = t->slots[slot_of(t, s, len, bm_hash64(s, len, 0))];

    return slot == 0 ? -1 : (int64_t)(uint32_t)slot - 1;
}

int64_t bm_strings_add(bm_strings *t, const char *s, size_t len, bool *added, bm_error *err)
{
    uint64_t hash = bm_hash64(s, len, 0);
    size_t i = slot_of(t, s, len, hash);

    *added = t->slots[i] == 0;
    if (!*added)
        return (int64_t)(uint32_t)t->slots[i] - 1;
    if (t->n == t->cap || len > t->cap_bytes - t->len)
        return bm_fail(err, BM_INTERNAL, "a vocabulary grew over what was reserved for it");
    memcpy(t->bytes + t->len, s, len);
    t->len += len;
    t->at[++t->n] = t->len;
    t->slots[i] = (hash >> 32 << 32) | t->n;
    return t->n - 1;
}

void bm_strings_done(bm_strings *t)
{
    bm_free(t->bytes);
    bm_free(t->at);
    bm_free(t->slots);
    memset(t, 0, sizeof *t);
}
