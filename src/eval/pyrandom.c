/* pyrandom.c - see pyrandom.h; the algorithms are those of CPython's _randommodule.c and random.py. */
#include "eval/pyrandom.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

enum { N = 624, M = 397 };

static void init(bm_pyrandom *r, uint32_t seed)
{
    r->state[0] = seed;
    for (uint32_t i = 1; i < N; i++)
        r->state[i] = 1812433253u * (r->state[i - 1] ^ r->state[i - 1] >> 30) + i;
    r->at = N;
}

/* init_by_array with the 32-bit words of the seed, least significant first. */
void bm_pyrandom_seed(bm_pyrandom *r, uint64_t seed)
{
    uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) }, *s = r->state;
    uint32_t len = key[1] != 0 ? 2 : 1, i = 1, j = 0;

    init(r, 19650218u);
    for (int k = N; k > 0; k--) {
        s[i] = (s[i] ^ (s[i - 1] ^ s[i - 1] >> 30) * 1664525u) + key[j] + j;
        if (++i >= N)
            s[0] = s[N - 1], i = 1;
        if (++j >= len)
            j = 0;
    }
    for (int k = N - 1; k > 0; k--) {
        s[i] = (s[i] ^ (s[i - 1] ^ s[i - 1] >> 30) * 1566083941u) - i;
        if (++i >= N)
            s[0] = s[N - 1], i = 1;
    }
    s[0] = 0x80000000u;
}

static void refill(bm_pyrandom *r)
{
    uint32_t *s = r->state;

    for (int i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7FFFFFFFu);
        s[i] = s[(i + M) % N] ^ y >> 1 ^ (y & 1 ? 0x9908B0DFu : 0);
    }
    r->at = 0;
}

static uint32_t next32(bm_pyrandom *r)
{
    if (r->at >= N)
        refill(r);
    uint32_t y = r->state[r->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9D2C5680u;
    y ^= y << 15 & 0xEFC60000u;
    return y ^ y >> 18;
}

double bm_pyrandom_unit(bm_pyrandom *r)
{
    uint32_t a = next32(r) >> 5, b = next32(r) >> 6;

    return (a * 67108864.0 + b) * (1.0 / 9007199254740992.0);
}

/* getrandbits(k), 1 <= k <= 64: words from the least significant on. */
static uint64_t bits(bm_pyrandom *r, int k)
{
    if (k <= 32)
        return next32(r) >> (32 - k);
    uint64_t low = next32(r);
    return low | (uint64_t)(next32(r) >> (64 - k)) << 32;
}

uint64_t bm_pyrandom_below(bm_pyrandom *r, uint64_t n)
{
    int k = 64 - __builtin_clzll(n);
    uint64_t x;

    do
        x = bits(r, k);
    while (x >= n);
    return x;
}

/* From a shrinking pool of what is left. */
static int sample_pool(bm_pyrandom *r, size_t n, size_t k, size_t *out)
{
    size_t *pool = bm_calloc(n + 1, sizeof *pool);

    if (pool == NULL)
        return -1;
    for (size_t i = 0; i < n; i++)
        pool[i] = i;
    for (size_t i = 0; i < k; i++) {
        size_t j = (size_t)bm_pyrandom_below(r, n - i);
        out[i] = pool[j];
        pool[j] = pool[n - i - 1];
    }
    bm_free(pool);
    return 0;
}

int bm_pyrandom_sample(bm_pyrandom *r, size_t n, size_t k, size_t *out)
{
    double set_size = 21;                    /* a small set costs as much as a list of so many */

    if (k > 5)
        set_size += pow(4, ceil(log((double)k * 3) / log(4)));
    if ((double)n <= set_size)
        return sample_pool(r, n, k, out);
    for (size_t i = 0; i < k; i++) {
        bool seen = true;
        while (seen) {
            out[i] = (size_t)bm_pyrandom_below(r, n);
            seen = false;
            for (size_t j = 0; j < i && !seen; j++)
                seen = out[j] == out[i];
        }
    }
    return 0;
}
