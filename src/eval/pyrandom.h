/* pyrandom.h - Python's random.Random, draw for draw: the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) seeded by an integer,
 * and sample() and choices() as CPython 3 makes them from it. One owner. */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct bm_pyrandom { uint32_t state[624]; int at; } bm_pyrandom;

void     bm_pyrandom_seed(bm_pyrandom *r, uint64_t seed);            /* random.Random(seed) */
double   bm_pyrandom_unit(bm_pyrandom *r);                           /* random(): [0, 1), 53 bits */
uint64_t bm_pyrandom_below(bm_pyrandom *r, uint64_t n);              /* _randbelow(n): [0, n), n > 0 */
/* sample(range(n), k): k different indices below n, in the order of drawing; k <= n. -1: no memory. */
int      bm_pyrandom_sample(bm_pyrandom *r, size_t n, size_t k, size_t *out);
