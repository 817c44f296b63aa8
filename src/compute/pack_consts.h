/* pack_consts.h - pack.c's table of layouts as functions that fold to constants, for kernels whose type is a constant. */
#pragma once
#include <stdbool.h>
#include "compute/pack_layout.h"
#include "compute/unroll.h"

INLINE int form_of(bm_qtype type)
{
    switch (type) {
    case BM_Q4_1: case BM_Q5_1: case BM_Q4_K: case BM_Q5_K: return BM_FORM_DM;
    case BM_Q3_K: case BM_Q6_K: return BM_FORM_SUB;
    case BM_Q2_K: return BM_FORM_SUBMIN;
    default: return BM_FORM_D;
    }
}

INLINE int low_bits_of(bm_qtype type) { return type == BM_Q8_0 ? 8 : type == BM_Q2_K || type == BM_Q3_K ? 2 : 4; }
INLINE int high_bits_of(bm_qtype type)
{
    return type == BM_Q6_K ? 2 : type == BM_Q5_0 || type == BM_Q5_1 || type == BM_Q5_K || type == BM_Q3_K;
}
INLINE bool is_table(bm_qtype type) { return type == BM_IQ4_NL || type == BM_IQ4_XS || type == BM_MXFP4; }

/* level = code - zero for the codes that unpack_codes gives; 0 for the forms with a minimum. */
INLINE int zero_of(bm_qtype type)
{
    switch (type) {
    case BM_Q4_0: return 8;
    case BM_Q5_0: return 16;
    case BM_Q6_K: return 32;
    case BM_Q3_K: return 4;
    case BM_Q8_0: case BM_IQ4_NL: case BM_IQ4_XS: case BM_MXFP4: return 128;
    default: return 0;
    }
}

INLINE int group_bytes_of(bm_qtype type) { return 64 * (low_bits_of(type) + high_bits_of(type)); }
INLINE int groups_per_block(bm_qtype type)
{
    return type == BM_Q2_K || type == BM_Q3_K || type == BM_Q4_K || type == BM_Q5_K || type == BM_Q6_K || type == BM_IQ4_XS ? 8 : 1;
}
INLINE int head_bytes_of(bm_qtype type)
{
    switch (type) {
    case BM_Q4_1: case BM_Q5_1: return 64;
    case BM_MXFP4: return 16;
    case BM_Q2_K: return 320;
    case BM_Q3_K: return 224;
    case BM_Q4_K: case BM_Q5_K: return 256;
    case BM_Q6_K: return 288;
    case BM_IQ4_XS: return 128;
    default: return 32;
    }
}
