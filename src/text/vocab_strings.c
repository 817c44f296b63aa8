/* vocab_strings.c - numbered strings, found by content: open addressing over one block of bytes. The table is as large as what
 * is reserved needs and grows when more comes; a slot holds half of the hash, so that other strings are hardly ever read. */
#include "text/vocab.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

static const uint64_t max_bytes = UINT32_MAX;

/* Where a hash belongs: its upper half scaled to the number of slots, which so need not be a power of two. */
static size_t home_of(const bm_strings *t, uint64_t hash) { return (size_t)((hash >> 32) * (uint64_t)t->n_slots >> 32); }

/* The slot of s, or the free one where it belongs. */
static size_t slot_of(const bm_strings *t, const char *s, size_t len, uint64_t hash)
{
    size_t i = home_of(t, hash);

    for (;; i = i + 1 == t->n_slots ? 0 : i + 1) {
        uint64_t slot = t->slots[i];
        if (slot == 0)
            return i;
        if (slot >> 32 == (uint32_t)hash) {
            bm_str have = bm_strings_at(t, (uint32_t)slot - 1);
            if (have.len == len && memcmp(have.data, s, len) == 0)
                return i;
        }
    }
}

/* Slots for n strings, three quarters full at most, filled with those that are there. */
static int make_slots(bm_strings *t, size_t n, bm_error *err)
{
    size_t n_slots = n + n / 3 + 16;
    uint64_t *slots = bm_calloc(n_slots, sizeof *slots);

    if (slots == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a vocabulary of %zu tokens", n);
    bm_free(t->slots);
    t->slots = slots;
    t->n_slots = (uint32_t)n_slots;
    for (uint32_t i = 0; i < t->n; i++) {
        bm_str s = bm_strings_at(t, i);
        uint64_t hash = bm_hash64(s.data, s.len, 0);
        t->slots[slot_of(t, s.data, s.len, hash)] = hash << 32 | (i + 1);
    }
    return 0;
}

int bm_strings_reserve(bm_strings *t, size_t n, size_t len, bm_error *err)
{
    if (n >= UINT32_MAX / 4 || len > max_bytes)
        return bm_fail(err, BM_FORMAT, "%zu strings of %zu bytes are too many for a vocabulary", n, len);
    t->bytes = bm_malloc(len);
    t->at = bm_malloc((n + 1) * sizeof *t->at);
    if (t->bytes == NULL || t->at == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a vocabulary of %zu tokens", n);
    t->at[0] = 0;
    t->cap_bytes = len, t->cap = (uint32_t)n;
    return make_slots(t, n, err);
}

uint64_t bm_strings_soon(const bm_strings *t, const char *s, size_t len)
{
    uint64_t hash = bm_hash64(s, len, 0);

    __builtin_prefetch(&t->slots[home_of(t, hash)]);
    return hash;
}

int64_t bm_strings_find(const bm_strings *t, const char *s, size_t len)
{
    uint64_t slot = t->slots[slot_of(t, s, len, bm_hash64(s, len, 0))];

    return slot == 0 ? -1 : (int64_t)(uint32_t)slot - 1;
}

/* Room for one more string of len bytes. */
static int grow(bm_strings *t, size_t len, bm_error *err)
{
    size_t cap = (size_t)t->cap + t->cap / 2 + 64, cap_bytes = t->cap_bytes + t->cap_bytes / 2 + len + 64;

    if (t->n == t->cap) {
        uint32_t *at = cap < UINT32_MAX / 4 ? bm_realloc(t->at, (cap + 1) * sizeof *at) : NULL;
        if (at == NULL)
            return bm_fail(err, BM_NOMEM, "no memory for a vocabulary of %zu tokens", cap);
        t->at = at;
        t->cap = (uint32_t)cap;
        int rc = make_slots(t, cap, err);
        if (rc < 0)
            return rc;
    }
    if (len > t->cap_bytes - t->len) {
        char *bytes = bm_realloc(t->bytes, cap_bytes);
        if (bytes == NULL)
            return bm_fail(err, BM_NOMEM, "no memory for %zu bytes of tokens", cap_bytes);
        t->bytes = bytes;
        t->cap_bytes = cap_bytes;
    }
    return 0;
}

int64_t bm_strings_add(bm_strings *t, const char *s, size_t len, bool *added, bm_error *err)
{
    return bm_strings_add_hashed(t, s, len, bm_hash64(s, len, 0), added, err);
}

int64_t bm_strings_add_hashed(bm_strings *t, const char *s, size_t len, uint64_t hash, bool *added, bm_error *err)
{
    size_t i = slot_of(t, s, len, hash);
    int rc;

    *added = t->slots[i] == 0;
    if (!*added)
        return (int64_t)(uint32_t)t->slots[i] - 1;
    if (len > max_bytes - t->len)
        return bm_fail(err, BM_FORMAT, "the texts of a vocabulary have more than 4 GiB");
    if (t->n == t->cap || len > t->cap_bytes - t->len) {
        if ((rc = grow(t, len, err)) < 0)
            return rc;
        i = slot_of(t, s, len, hash);
    }
    memcpy(t->bytes + t->len, s, len);
    t->len += len;
    t->at[++t->n] = (uint32_t)t->len;
    t->slots[i] = hash << 32 | t->n;
    return t->n - 1;
}

void bm_strings_done(bm_strings *t)
{
    bm_free(t->bytes);
    bm_free(t->at);
    bm_free(t->slots);
    memset(t, 0, sizeof *t);
}
