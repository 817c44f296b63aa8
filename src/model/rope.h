/* rope.h - rotary position embedding: the frequencies of a model and the cosines of a position.
 * RoFormer (arXiv 2104.09864); linear interpolation (2306.15595); YaRN (2309.00071, section 3); the factors of llama 3 come
 * as the tensor rope_freqs.weight or as keys. Angles are computed in double precision and rounded once, so that a position
 * has the same bits in every step. Read-only after init: any thread. */
#pragma once
#include <stdint.h>

typedef enum bm_rope_scaling { BM_ROPE_PLAIN, BM_ROPE_LINEAR, BM_ROPE_YARN, BM_ROPE_LLAMA3 } bm_rope_scaling;

typedef struct bm_rope_params {
    int n_rot;                   /* rotated values of a head, even */
    double base;                 /* theta */
    bm_rope_scaling scaling;
    double factor;               /* of linear, yarn, llama3; > 0 */
    double original_ctx;         /* yarn, llama3 */
    double beta_fast, beta_slow; /* yarn: 32 and 1 */
    double ext_factor;           /* yarn: 1; how much of the ramp is used */
    double low_freq, high_freq;  /* llama3: 1 and 4 */
    double magnitude;            /* multiplies cos and sin: yarn's attention factor; 1: none */
    const float *divisors;       /* [n_rot/2] or NULL: rope_freqs.weight */
} bm_rope_params;

typedef struct bm_rope {
    int n_rot;
    float magnitude;
    double freq[512];            /* [n_rot/2], radians per position */
} bm_rope;

void bm_rope_init(bm_rope *rope, const bm_rope_params *params);
/* cos_sin[n_rot] = cos0 sin0 cos1 sin1 ... of a position, as kernels.h wants them. */
void bm_rope_fill(const bm_rope *rope, int32_t position, float *cos_sin);
/* Row r of a head-major matrix in the order of HF (halves: pairs are (i, i + n_rot/2)) is this row of a file whose pairs are
 * (2i, 2i + 1), as in the llama family's GGUFs. */
int32_t bm_rope_file_row(int head_rows, int n_rot, int32_t r);
