/* quant.h - the block types of GGUF tensors and their traits: one row per type.
 * A block is block_len consecutive values of one row in block_bytes bytes. Ids are those of ggml (ggml.h, enum ggml_type),
 * so that a GGUF tensor header needs no translation. Knows nothing of files. Read-only, any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum bm_qtype {
    BM_F32 = 0, BM_F16 = 1, BM_Q4_0 = 2, BM_Q4_1 = 3, BM_Q5_0 = 6, BM_Q5_1 = 7, BM_Q8_0 = 8,
    BM_Q2_K = 10, BM_Q3_K = 11, BM_Q4_K = 12, BM_Q5_K = 13, BM_Q6_K = 14,
    BM_IQ2_XXS = 16, BM_IQ2_XS = 17, BM_IQ3_XXS = 18, BM_IQ1_S = 19, BM_IQ4_NL = 20, BM_IQ3_S = 21, BM_IQ2_S = 22, BM_IQ4_XS = 23,
    BM_IQ1_M = 29, BM_BF16 = 30, BM_TQ1_0 = 34, BM_TQ2_0 = 35, BM_MXFP4 = 39, BM_NVFP4 = 40, BM_Q1_0 = 41, BM_Q2_0 = 42,
    BM_QTYPE_END = 43
} bm_qtype;

typedef struct bm_qtraits {
    const char *name;        /* "Q4_K", as llama.cpp prints it; NULL in rows of ids that are not carried out */
    int block_len;           /* values: 1, 32, 64, 128 or 256 */
    int block_bytes;
    bool quantized;
    /* Dequantise n values (a multiple of block_len) exactly as ggml's reference does: the same f32 bits. */
    void (*dequantize)(const void *blocks, float *out, size_t n);
} bm_qtraits;

/* Traits of a type id from a file; NULL when the id is unknown or not carried out. */
const bm_qtraits *bm_qtype_traits(uint32_t id);
/* Name of any published ggml type id, carried out or not ("IQ2_XXS"), for error messages; "?" when unknown. */
const char *bm_qtype_name(uint32_t id);
/* Bytes of one row of n_cols values; false when n_cols is no multiple of the block or on overflow. */
bool bm_qtype_row_bytes(bm_qtype type, uint64_t n_cols, size_t *out);

/* IEEE half and bfloat16, exact (round to nearest even on the way down; NaN stays NaN). */
float    bm_f16_to_f32(uint16_t h);
uint16_t bm_f32_to_f16(float f);
float    bm_bf16_to_f32(uint16_t h);
uint16_t bm_f32_to_bf16(float f);
