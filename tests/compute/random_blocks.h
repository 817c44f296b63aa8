/* random_blocks.h - GGUF rows of random but finite values, for the tests of compute. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "compute/quant.h"

static const bm_qtype all_types[] = { BM_F32, BM_F16, BM_BF16, BM_Q4_0, BM_Q4_1, BM_Q5_0, BM_Q5_1, BM_Q8_0, BM_Q2_K, BM_Q3_K,
                                      BM_Q4_K, BM_Q5_K, BM_Q6_K, BM_IQ4_NL, BM_IQ4_XS, BM_MXFP4, BM_IQ1_S, BM_IQ1_M, BM_IQ2_XXS,
                                      BM_IQ2_XS, BM_IQ2_S, BM_IQ3_XXS, BM_IQ3_S, BM_TQ1_0, BM_TQ2_0, BM_Q1_0, BM_Q2_0, BM_NVFP4 };
enum { N_TYPES = sizeof all_types / sizeof all_types[0] };

typedef struct rng { uint64_t state; } rng;
static inline uint32_t next_u32(rng *r)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) >> 32);
}
static inline int next_below(rng *r, int n) { return (int)(next_u32(r) % (uint32_t)n); }
static inline float next_float(rng *r) { return (float)(next_u32(r) >> 8) * 0x1p-23f - 1.0f; }     /* [-1, 1) */

/* How the scales are drawn. */
typedef enum scale_kind { SCALES_USUAL, SCALES_TINY, SCALES_HUGE, SCALES_ZERO } scale_kind;

static inline uint16_t next_scale(rng *r, scale_kind kind)
{
    switch (kind) {
    case SCALES_TINY: return (uint16_t)(next_u32(r) & 0x83FF);                   /* subnormal halves */
    case SCALES_HUGE: return (uint16_t)(0x7800 | (next_u32(r) & 0x83FF));        /* up to 65504 */
    case SCALES_ZERO: return 0;
    default: return bm_f32_to_f16(0.02f * next_float(r));
    }
}

/* Offsets of the f16 fields of a block; -1 ends. */
static inline const int *half_fields(bm_qtype type)
{
    static const int at0[] = { 0, -1 }, at02[] = { 0, 2, -1 }, q2[] = { 80, 82, -1 }, q3[] = { 108, -1 }, q6[] = { 208, -1 }, none[] = { -1 },
                     tq1[] = { 52, -1 }, tq2[] = { 64, -1 };
    switch (type) {
    case BM_Q4_1: case BM_Q5_1: case BM_Q4_K: case BM_Q5_K: return at02;
    case BM_Q2_K: return q2;
    case BM_Q3_K: return q3;
    case BM_Q6_K: return q6;
    case BM_TQ1_0: return tq1;
    case BM_TQ2_0: return tq2;
    case BM_MXFP4: case BM_NVFP4: case BM_IQ1_M: return none;
    default: return at0;
    }
}

/* extreme: quants are all ones or all zeros per block, so that products reach their bounds. */
static inline void random_rows(rng *r, bm_qtype type, void *rows, size_t n_values, scale_kind kind, int extreme)
{
    const bm_qtraits *t = bm_qtype_traits((uint32_t)type);
    unsigned char *b = rows;

    for (size_t i = 0; i < n_values / (size_t)t->block_len; i++, b += t->block_bytes) {
        if (!t->quantized) {
            float v = kind == SCALES_ZERO ? 0 : kind == SCALES_TINY ? next_float(r) * 1e-39f : next_float(r);
            uint16_t h = type == BM_F16 ? bm_f32_to_f16(v) : bm_f32_to_bf16(v);
            memcpy(b, type == BM_F32 ? (void *)&v : (void *)&h, (size_t)t->block_bytes);
            continue;
        }
        int fill = extreme ? next_below(r, 4) : 3;
        for (int j = 0; j < t->block_bytes; j++)
            b[j] = (unsigned char)(fill == 0 ? 0xFF : fill == 1 ? 0x00 : fill == 2 ? 0x80 : next_u32(r));
        for (const int *f = half_fields(type); *f >= 0; f++) {
            uint16_t h = next_scale(r, kind);
            memcpy(b + *f, &h, 2);
        }
        if (type == BM_IQ1_M) {                          /* its f16 stands in the top nibbles of four words */
            uint16_t h = next_scale(r, kind);
            for (int j = 0; j < 4; j++)
                b[49 + 2 * j] = (unsigned char)((b[49 + 2 * j] & 15) | (h >> 4 * j & 15) << 4);
        }
        for (int j = 0; j < 4 && type == BM_NVFP4; j++)  /* ue4m3: 0x7F and 0xFF are its NaNs, which ggml reads as 0 and 240 */
            b[j] = (unsigned char)(kind == SCALES_TINY ? next_below(r, 9) : kind == SCALES_HUGE ? 0x77 + next_below(r, 9) :
                                   kind == SCALES_ZERO ? 0x80 * next_below(r, 2) : (int)(next_u32(r) & 0xFF));
        if (type == BM_MXFP4)
            b[0] = (unsigned char)(kind == SCALES_TINY ? next_below(r, 3) : kind == SCALES_HUGE ? 140 : 118 + next_below(r, 6));
    }
}
