/* quant_blocks.h - the block layouts behind quant.c's table of traits, for quant*.c and pack.c only. Every bm_dequantize_*
 * dequantises n values (a multiple of the type's block length) to the f32 bits of ggml's reference. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "compute/quant.h"

void bm_dequantize_q2_k(const void *blocks, float *out, size_t n);
void bm_dequantize_q3_k(const void *blocks, float *out, size_t n);
void bm_dequantize_q4_k(const void *blocks, float *out, size_t n);
void bm_dequantize_q5_k(const void *blocks, float *out, size_t n);
void bm_dequantize_q6_k(const void *blocks, float *out, size_t n);
void bm_dequantize_iq4_xs(const void *blocks, float *out, size_t n);
void bm_dequantize_iq1_s(const void *blocks, float *out, size_t n);
void bm_dequantize_iq1_m(const void *blocks, float *out, size_t n);
void bm_dequantize_iq2_xxs(const void *blocks, float *out, size_t n);
void bm_dequantize_iq2_xs(const void *blocks, float *out, size_t n);
void bm_dequantize_iq2_s(const void *blocks, float *out, size_t n);
void bm_dequantize_iq3_xxs(const void *blocks, float *out, size_t n);
void bm_dequantize_iq3_s(const void *blocks, float *out, size_t n);
void bm_dequantize_tq1_0(const void *blocks, float *out, size_t n);
void bm_dequantize_tq2_0(const void *blocks, float *out, size_t n);
void bm_dequantize_q1_0(const void *blocks, float *out, size_t n);
void bm_dequantize_q2_0(const void *blocks, float *out, size_t n);
void bm_dequantize_nvfp4(const void *blocks, float *out, size_t n);

/* The 16 levels of IQ4_NL and IQ4_XS. */
extern const signed char bm_iq4_levels[16];

/* A block of one row as whole numbers. */
typedef struct bm_raw_block {
    uint8_t code[256];
    uint16_t d, m;               /* bits of the f16; MXFP4: d is the exponent byte */
    uint8_t x[16], y[16];        /* sub-scales and mins as stored (8, 6 with their offset, 4 or 3 bits); NVFP4: its scales */
} bm_raw_block;

/* How the scales lie in quant_iq.c's types (IQ1 IQ2 IQ3 TQ1_0 TQ2_0 Q1_0 Q2_0 NVFP4). But for NVFP4, value = d * (2x + 1) * factor
 * * level[code], every product exact in f32. */
typedef enum bm_scale_kind { BM_SCALE_NONE, BM_SCALE_32, BM_SCALE_16, BM_SCALE_UE4M3_16 } bm_scale_kind;

typedef struct bm_small_type {
    void (*read)(const unsigned char *block, bm_raw_block *out);       /* of code, d and x what the type has */
    const int8_t *levels;        /* 16, so that four bits of a code can never be beside it */
    bm_scale_kind kind;
    float factor;                /* a power of two */
} bm_small_type;

/* NULL for the other types. */
const bm_small_type *bm_small_type_of(bm_qtype type);
/* Half of the unsigned float of 4 bits of exponent (bias 7) and 3 of mantissa, as NVFP4's doubled levels want it. */
float bm_half_of_ue4m3(unsigned x);

extern const int8_t bm_levels_iq1[16], bm_levels_iq2[16], bm_levels_iq3xxs[16], bm_levels_iq3s[16], bm_levels_ternary[16],
    bm_levels_sign[16];

extern const uint16_t bm_grid_iq2xxs[256], bm_grid_iq2xs[512], bm_grid_iq2s[1024], bm_grid_iq1[2048], bm_grid_iq3xxs[256],
    bm_grid_iq3s[512];
