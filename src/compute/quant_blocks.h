/* quant_blocks.h - the block layouts behind quant.c's table of traits; nobody else includes it. Every function dequantises
 * n values (a multiple of the type's block length) with the float operations, and their order, of ggml's reference. */
#pragma once
#include <stddef.h>

void bm_dequantize_q2_k(const void *blocks, float *out, size_t n);
void bm_dequantize_q3_k(const void *blocks, float *out, size_t n);
void bm_dequantize_q4_k(const void *blocks, float *out, size_t n);
void bm_dequantize_q5_k(const void *blocks, float *out, size_t n);
void bm_dequantize_q6_k(const void *blocks, float *out, size_t n);
void bm_dequantize_iq4_xs(const void *blocks, float *out, size_t n);

/* The 16 levels of IQ4_NL and IQ4_XS. */
extern const signed char bm_iq4_levels[16];
