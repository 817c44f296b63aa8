/* sampler.h - from a row of logits to a token, and to log-probabilities. Pure: a result depends on the row, the settings, the
 * counts and one number u in [0, 1) only. Ties go to the lower id. No full sort of the vocabulary in the common cases.
 * A bm_sampler is the work memory of one thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "compute/kernels.h"
#include "engine/engine.h"

typedef struct bm_candidate { float x; int32_t id; } bm_candidate;

typedef struct bm_sampler {
    float (*sum_exp)(const float *x, int64_t n, float max);      /* of the kernel table */
    int n_vocab;
    float *block_max;            /* [ceil(V / 64)] of the row last scanned */
    float *work;                 /* [V]: the row with penalties, bias and temperature */
    bm_candidate *candidates;    /* [V] */
} bm_sampler;

int  bm_sampler_init(bm_sampler *s, const bm_kernels *kernels, int n_vocab, bm_error *err);
void bm_sampler_done(bm_sampler *s);

/* What penalties count for one choice. count[t]: how often t was generated, with BM_COUNT_PROMPT set when it is in the prompt. */
enum { BM_COUNT_PROMPT = 1 << 30 };
typedef struct bm_counts {
    uint32_t *count;             /* [V]; NULL: nothing is counted */
    int32_t *distinct;           /* the ids with count != 0, n of them */
    int32_t n;
} bm_counts;
bool bm_sampling_counts(const bm_sampling *p);       /* whether these settings need counts */
void bm_counts_prompt(bm_counts *c, int32_t token);
void bm_counts_generated(bm_counts *c, int32_t token);

/* A number in [0, 1) with 53 random bits: a function of its arguments (three rounds of the SplitMix64 finaliser, Steele et
 * al., "Fast Splittable Pseudorandom Number Generators", 2014). position counts tokens of prompt and answer. */
double bm_random_unit(uint64_t seed, uint32_t choice, uint32_t position);

/* The next token, or -1 when the row has a NaN or no finite maximum. */
int32_t bm_sample(bm_sampler *s, const float *logits, const bm_sampling *p, const bm_counts *counts, double u);
/* log softmax(logits)[token], and the n_top most likely into top (most likely first). False as above. n_top <= 20. */
enum { BM_MAX_TOP = 20 };
bool bm_logprob_of(bm_sampler *s, const float *logits, int32_t token, int n_top, float *logprob, struct bm_top *top);
