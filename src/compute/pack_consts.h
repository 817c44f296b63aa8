/* pack_consts.h - pack.c's table of layouts as functions that fold to constants, for kernels whose type is a constant. */
#pragma once
#include <stdbool.h>
#include "compute/pack_layout.h"
#include "compute/unroll.h"

INLINE int form_of(bm_qtype type)
{
    switch (type) {
    case BM_Q4_1: case BM_Q5_1: case BM_Q4_K: case BM_Q5_K: return BM_FORM_DM;
    case BM_Q3_K: case BM_Q6_K: case BM_IQ1_M: case BM_IQ2_XS: case BM_IQ2_S: return BM_FORM_SUB;
    case BM_Q2_K: return BM_FORM_SUBMIN;
    case BM_NVFP4: return BM_FORM_D16;
    default: return BM_FORM_D;
    }
}

/* Codes of 3 bits: the magnitudes of a grid, a sign above. */
INLINE bool is_grid8(bm_qtype type)
{
    return type == BM_IQ1_S || type == BM_IQ1_M || type == BM_IQ2_XXS || type == BM_IQ2_XS || type == BM_IQ2_S;
}
INLINE bool is_ternary(bm_qtype type) { return type == BM_TQ1_0 || type == BM_TQ2_0 || type == BM_Q2_0; }

INLINE int low_bits_of(bm_qtype type)
{
    if (is_grid8(type) || is_ternary(type))
        return 2;
    return type == BM_Q8_0 ? 8 : type == BM_Q2_K || type == BM_Q3_K ? 2 : type == BM_Q1_0 ? 0 : 4;
}
INLINE int high_bits_of(bm_qtype type)
{
    if (is_grid8(type) || type == BM_Q1_0)
        return 1;
    return type == BM_Q6_K ? 2 : type == BM_Q5_0 || type == BM_Q5_1 || type == BM_Q5_K || type == BM_Q3_K;
}
/* The levels of the types whose codes index a table, else NULL. */
INLINE const int8_t *table_of(bm_qtype type)
{
    switch (type) {
    case BM_IQ4_NL: case BM_IQ4_XS: return bm_levels_iq4;
    case BM_MXFP4: case BM_NVFP4: return bm_levels_mxfp4;
    case BM_IQ1_S: case BM_IQ1_M: return bm_levels_iq1;
    case BM_IQ2_XXS: case BM_IQ2_XS: case BM_IQ2_S: return bm_levels_iq2;
    case BM_IQ3_XXS: return bm_levels_iq3xxs;
    case BM_IQ3_S: return bm_levels_iq3s;
    default: return NULL;
    }
}
INLINE bool is_table(bm_qtype type) { return table_of(type) != NULL; }

/* Where the scales of the IQ types below IQ4 lie: a nibble for 32 columns, or one for 16. */
INLINE bool has_nibble32(bm_qtype type) { return type == BM_IQ1_S || type == BM_IQ2_XXS || type == BM_IQ3_XXS || type == BM_IQ3_S; }
INLINE bool has_nibble16(bm_qtype type) { return type == BM_IQ1_M || type == BM_IQ2_XS || type == BM_IQ2_S; }
INLINE float factor_of(bm_qtype type) { return type == BM_IQ3_S ? 1.0f : type == BM_IQ3_XXS ? 0.25f : 0.125f; }

/* level = code - zero for the codes that unpack_codes gives; 0 for the forms with a minimum. */
INLINE int zero_of(bm_qtype type)
{
    if (is_table(type))
        return 128;
    switch (type) {
    case BM_Q4_0: return 8;
    case BM_Q5_0: return 16;
    case BM_Q6_K: return 32;
    case BM_Q3_K: return 4;
    case BM_Q8_0: return 128;
    case BM_Q1_0: case BM_Q2_0: case BM_TQ1_0: case BM_TQ2_0: return 1;
    default: return 0;
    }
}

INLINE int group_bytes_of(bm_qtype type) { return 64 * (low_bits_of(type) + high_bits_of(type)); }
INLINE int groups_per_block(bm_qtype type)
{
    switch (type) {
    case BM_Q4_0: case BM_Q4_1: case BM_Q5_0: case BM_Q5_1: case BM_Q8_0: case BM_IQ4_NL: case BM_MXFP4: return 1;
    case BM_Q2_0: case BM_NVFP4: return 2;
    case BM_Q1_0: return 4;
    default: return 8;
    }
}
INLINE int head_bytes_of(bm_qtype type)
{
    switch (type) {
    case BM_Q4_1: case BM_Q5_1: case BM_NVFP4: return 64;
    case BM_MXFP4: return 16;
    case BM_Q2_K: return 320;
    case BM_Q3_K: return 224;
    case BM_Q4_K: case BM_Q5_K: return 256;
    case BM_Q6_K: return 288;
    case BM_IQ4_XS: return 128;
    case BM_IQ1_S: case BM_IQ2_XXS: case BM_IQ3_XXS: case BM_IQ3_S: return 96;
    case BM_IQ1_M: case BM_IQ2_XS: case BM_IQ2_S: return 160;
    default: return 32;
    }
}
