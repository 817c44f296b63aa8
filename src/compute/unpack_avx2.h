/* unpack_avx2.h - groups of 32 packed columns into ymm registers, 8 rows (half a tile) at a time: codes as unsigned bytes, scales
 * of the 8 rows. `type` is a constant at every call. The layout stands in pack_layout.h. */
#pragma once
#include <immintrin.h>
#include "compute/pack_consts.h"

/* Scales of a group for 8 rows; what a form does not use stays unset. */
typedef struct scales256 {
    __m256 d, m;                 /* as in bm_group */
    __m256i sub, min;            /* int16 pairs: of the first and the second 16 columns of each row */
} scales256;

INLINE __m256i load256(const unsigned char *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
INLINE __m256i shift_left(__m256i x, int by) { return by >= 0 ? _mm256_slli_epi16(x, by) : _mm256_srli_epi16(x, -by); }

/* What is added to the levels of a table, so that they are not negative and as small as may be. */
INLINE int raise_of(bm_qtype type)
{
    switch (type) {
    case BM_MXFP4: case BM_NVFP4: case BM_IQ1_S: case BM_IQ1_M: case BM_IQ3_S: return 16;
    case BM_IQ2_XXS: case BM_IQ2_XS: case BM_IQ2_S: case BM_IQ3_XXS: return 62;
    default: return 128;
    }
}

/* Codes of the 8 k-groups of rows 8 * half on, natural range; tables: level + raise_of; Q8_0: level + 128. */
INLINE void unpack_codes(bm_qtype type, const unsigned char *q, int half, __m256i w[8])
{
    const __m256i low4 = _mm256_set1_epi8(15), low2 = _mm256_set1_epi8(3);
    int low = low_bits_of(type), high = high_bits_of(type);

    q += 32 * half;
    if (low == 8) {
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm256_xor_si256(load256(q + 64 * j), _mm256_set1_epi8((char)0x80));
        return;
    }
    if (low == 0) {                                                            /* 2 * bit - 1 */
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm256_and_si256(shift_left(load256(q), 1 - j), _mm256_set1_epi8(2));
        return;
    }
    if (low == 4)
        UNROLL
        for (int v = 0; v < 4; v++) {
            __m256i z = load256(q + 64 * v);
            w[v] = _mm256_and_si256(z, low4);
            w[v + 4] = _mm256_and_si256(_mm256_srli_epi16(z, 4), low4);
        }
    else
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm256_and_si256(shift_left(load256(q + 64 * (j & 1)), -2 * (j >> 1)), low2);
    if (high == 1) {
        __m256i h = load256(q + 64 * low), at = _mm256_set1_epi8((char)(1 << low));
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm256_or_si256(w[j], _mm256_and_si256(shift_left(h, low - j), at));
    } else if (high == 2) {
        const __m256i at = _mm256_set1_epi8(0x30);
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm256_or_si256(w[j], _mm256_and_si256(shift_left(load256(q + 64 * (low + (j & 1))), 4 - 2 * (j >> 1)), at));
    }
    if (is_table(type)) {
        __m128i t = _mm_add_epi8(_mm_loadu_si128((const __m128i *)(const void *)table_of(type)), _mm_set1_epi8((char)raise_of(type)));
        __m256i table = _mm256_broadcastsi128_si256(t);
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm256_shuffle_epi8(table, w[j]);
    }
}

INLINE __m256 halves(const unsigned char *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }
INLINE __m128i bytes8(const unsigned char *p) { return _mm_loadl_epi64((const __m128i *)(const void *)p); }
INLINE __m256 floats_of_i8(__m128i x) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)); }
/* Signed bytes of 8 rows, twice, as int16 pairs. */
INLINE __m256i pairs_of_i8(__m128i x, __m128i y) { return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(x, y)); }

/* The two 6-bit numbers of group g (see pack_layout.h) of 8 rows, less `zero`, as bytes. */
INLINE void unpack_pairs(const unsigned char *pairs, int g, int half, int zero, __m128i *x, __m128i *y)
{
    const __m128i low4 = _mm_set1_epi8(15), two = _mm_set1_epi8(0x30);
    __m128i a = bytes8(pairs + 16 * g + 8 * half), b = bytes8(pairs + 128 + 16 * (g >> 1) + 8 * half);

    b = _mm_srl_epi16(b, _mm_cvtsi32_si128(4 * (g & 1)));
    *x = _mm_or_si128(_mm_and_si128(a, low4), _mm_and_si128(_mm_slli_epi16(b, 4), two));
    *y = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(a, 4), low4), _mm_and_si128(_mm_slli_epi16(b, 2), two));
    *x = _mm_sub_epi8(*x, _mm_set1_epi8((char)zero));
    *y = _mm_sub_epi8(*y, _mm_set1_epi8((char)zero));
}

INLINE __m256 unpack_e8m0(const unsigned char *head)
{
    __m256i e = _mm256_cvtepu8_epi32(bytes8(head));
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);

    return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}

INLINE __m256 unpack_iq4_xs_scale(const unsigned char *head, int g, int half)
{
    __m128i a = _mm_srl_epi16(bytes8(head + 32 + 16 * (g >> 1) + 8 * half), _mm_cvtsi32_si128(4 * (g & 1)));
    __m128i b = _mm_srl_epi16(bytes8(head + 96 + 16 * (g >> 2) + 8 * half), _mm_cvtsi32_si128(2 * (g & 3)));
    __m128i x = _mm_or_si128(_mm_and_si128(a, _mm_set1_epi8(15)), _mm_and_si128(_mm_slli_epi16(b, 4), _mm_set1_epi8(0x30)));

    return floats_of_i8(_mm_sub_epi8(x, _mm_set1_epi8(32)));
}

/* Half of ue4m3, see quant_iq.c. */
INLINE __m256 unpack_ue4m3(const unsigned char *scales)
{
    __m256i x = _mm256_cvtepu8_epi32(bytes8(scales)), seven = _mm256_and_si256(x, _mm256_set1_epi32(127));
    __m256 tiny = _mm256_mul_ps(_mm256_cvtepi32_ps(seven), _mm256_set1_ps(0x1p-10f));
    __m256i normal = _mm256_add_epi32(_mm256_slli_epi32(seven, 20), _mm256_set1_epi32(119 << 23));
    __m256i is_tiny = _mm256_cmpgt_epi32(_mm256_set1_epi32(8), seven), is_nan = _mm256_cmpeq_epi32(x, _mm256_set1_epi32(127));

    return _mm256_andnot_ps(_mm256_castsi256_ps(is_nan), _mm256_blendv_ps(_mm256_castsi256_ps(normal), tiny, _mm256_castsi256_ps(is_tiny)));
}

/* 2s + 1 of the nibble that begins at bit `shift` of each byte. */
INLINE __m128i unpack_odd(const unsigned char *nibbles, int shift)
{
    __m128i s = _mm_and_si128(_mm_srl_epi16(bytes8(nibbles), _mm_cvtsi32_si128(shift)), _mm_set1_epi8(15));

    return _mm_or_si128(_mm_add_epi8(s, s), _mm_set1_epi8(1));
}

/* Scales of group g (0..7) of the block whose head is at `head`, rows 8 * half on. */
INLINE void unpack_scales(bm_qtype type, const unsigned char *head, int g, int half, scales256 *s)
{
    const __m128i low4 = _mm_set1_epi8(15);
    __m128i x, y;

    if (type == BM_MXFP4) {
        s->d = unpack_e8m0(head + 8 * half);
        return;
    }
    if (type == BM_NVFP4) {
        s->d = unpack_ue4m3(head + 32 * g + 8 * half);
        s->m = unpack_ue4m3(head + 32 * g + 16 + 8 * half);
        return;
    }
    s->d = halves(head + 16 * half);
    if (has_nibble32(type)) {                                                  /* every product here is exact */
        x = unpack_odd(head + 32 + 16 * (g >> 1) + 8 * half, 4 * (g & 1));
        s->d = _mm256_mul_ps(s->d, _mm256_mul_ps(floats_of_i8(x), _mm256_set1_ps(factor_of(type))));
        return;
    }
    if (has_nibble16(type)) {
        s->d = _mm256_mul_ps(s->d, _mm256_set1_ps(factor_of(type)));
        s->sub = pairs_of_i8(unpack_odd(head + 32 + 16 * g + 8 * half, 0), unpack_odd(head + 32 + 16 * g + 8 * half, 4));
        return;
    }
    switch (type) {
    case BM_Q4_1: case BM_Q5_1:
        s->m = halves(head + 32 + 16 * half);
        break;
    case BM_Q4_K: case BM_Q5_K:
        unpack_pairs(head + 64, g, half, 0, &x, &y);
        s->d = _mm256_mul_ps(s->d, floats_of_i8(x));
        s->m = _mm256_xor_ps(_mm256_mul_ps(halves(head + 32 + 16 * half), floats_of_i8(y)), _mm256_set1_ps(-0.0f));
        break;
    case BM_Q3_K:
        unpack_pairs(head + 32, g, half, 32, &x, &y);
        s->sub = pairs_of_i8(x, y);
        break;
    case BM_Q2_K:
        s->m = halves(head + 32 + 16 * half);
        x = bytes8(head + 64 + 32 * g + 8 * half), y = bytes8(head + 80 + 32 * g + 8 * half);
        s->sub = pairs_of_i8(_mm_and_si128(x, low4), _mm_and_si128(y, low4));
        s->min = pairs_of_i8(_mm_and_si128(_mm_srli_epi16(x, 4), low4), _mm_and_si128(_mm_srli_epi16(y, 4), low4));
        break;
    case BM_Q6_K:
        s->sub = pairs_of_i8(bytes8(head + 32 + 32 * g + 8 * half), bytes8(head + 48 + 32 * g + 8 * half));
        break;
    case BM_IQ4_XS:
        s->d = _mm256_mul_ps(s->d, unpack_iq4_xs_scale(head, g, half));
        break;
    default: break;
    }
}
