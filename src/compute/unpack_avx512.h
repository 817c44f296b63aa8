/* unpack_avx512.h - groups of 32 packed columns into zmm registers: codes as unsigned bytes, scales as floats of the 16 rows.
 * `type` is a constant at every call, so that only its own path is left. The layout stands in pack_layout.h. */
#pragma once
#include <immintrin.h>
#include "compute/pack_consts.h"

/* Scales of a group; what a form does not use stays unset. */
typedef struct scales512 {
    __m512 d, m;                 /* as in bm_group */
    __m512 sub[2], min[2];       /* whole numbers */
} scales512;

INLINE __m512i load512(const unsigned char *p) { return _mm512_load_si512((const void *)p); }
INLINE __m512i shift_left(__m512i x, int by) { return by >= 0 ? _mm512_slli_epi16(x, by) : _mm512_srli_epi16(x, -by); }

/* Codes of the 8 k-groups, natural range; tables and Q8_0: level + 128. q is 64-byte aligned. */
INLINE void unpack_codes(bm_qtype type, const unsigned char *q, __m512i w[8])
{
    const __m512i low4 = _mm512_set1_epi8(15), low2 = _mm512_set1_epi8(3);
    int low = low_bits_of(type), high = high_bits_of(type);

    if (low == 8) {
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_xor_si512(load512(q + 64 * j), _mm512_set1_epi8((char)0x80));
        return;
    }
    if (low == 0) {                                                            /* 2 * bit - 1 */
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_and_si512(shift_left(load512(q), 1 - j), _mm512_set1_epi8(2));
        return;
    }
    if (low == 4)
        UNROLL
        for (int v = 0; v < 4; v++) {
            __m512i z = load512(q + 64 * v);
            w[v] = _mm512_and_si512(z, low4);
            w[v + 4] = _mm512_and_si512(_mm512_srli_epi16(z, 4), low4);
        }
    else
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_and_si512(shift_left(load512(q + 64 * (j & 1)), -2 * (j >> 1)), low2);
    if (high == 1) {
        __m512i h = load512(q + 64 * low), at = _mm512_set1_epi8((char)(1 << low));
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_ternarylogic_epi32(w[j], shift_left(h, low - j), at, 0xF8);      /* w | (h & at) */
    } else if (high == 2) {
        const __m512i at = _mm512_set1_epi8(0x30);
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_ternarylogic_epi32(w[j], shift_left(load512(q + 64 * (low + (j & 1))), 4 - 2 * (j >> 1)), at, 0xF8);
    }
    if (is_table(type)) {
        const __m128i *levels = (const __m128i *)(const void *)table_of(type);
        __m512i table = _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128(levels)), _mm512_set1_epi8((char)0x80));
        UNROLL
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_shuffle_epi8(table, w[j]);
    }
}

INLINE __m512 halves(const unsigned char *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INLINE __m128i bytes16(const unsigned char *p) { return _mm_loadu_si128((const __m128i *)p); }
INLINE __m512 floats_of_u8(__m128i x) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(x)); }
INLINE __m512 floats_of_i8(__m128i x) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x)); }

/* The two 6-bit numbers of group g (see pack_layout.h) less `zero`. */
INLINE void unpack_pairs(const unsigned char *pairs, int g, int zero, __m512 *x, __m512 *y)
{
    const __m128i low4 = _mm_set1_epi8(15), two = _mm_set1_epi8(0x30);
    __m128i a = bytes16(pairs + 16 * g), b = bytes16(pairs + 128 + 16 * (g >> 1));

    b = _mm_srl_epi16(b, _mm_cvtsi32_si128(4 * (g & 1)));
    __m128i u = _mm_or_si128(_mm_and_si128(a, low4), _mm_and_si128(_mm_slli_epi16(b, 4), two));
    __m128i v = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(a, 4), low4), _mm_and_si128(_mm_slli_epi16(b, 2), two));
    *x = floats_of_i8(_mm_sub_epi8(u, _mm_set1_epi8((char)zero)));
    *y = floats_of_i8(_mm_sub_epi8(v, _mm_set1_epi8((char)zero)));
}

INLINE __m512 unpack_e8m0(const unsigned char *head)
{
    __m512i e = _mm512_cvtepu8_epi32(bytes16(head));
    __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    __mmask16 tiny = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));

    return _mm512_castsi512_ps(_mm512_mask_sllv_epi32(normal, tiny, _mm512_set1_epi32(0x00200000), e));
}

INLINE __m512 unpack_iq4_xs_scale(const unsigned char *head, int g)
{
    __m128i a = _mm_srl_epi16(bytes16(head + 32 + 16 * (g >> 1)), _mm_cvtsi32_si128(4 * (g & 1)));
    __m128i b = _mm_srl_epi16(bytes16(head + 96 + 16 * (g >> 2)), _mm_cvtsi32_si128(2 * (g & 3)));
    __m128i x = _mm_or_si128(_mm_and_si128(a, _mm_set1_epi8(15)), _mm_and_si128(_mm_slli_epi16(b, 4), _mm_set1_epi8(0x30)));

    return floats_of_i8(_mm_sub_epi8(x, _mm_set1_epi8(32)));
}

/* Half of ue4m3, see quant_iq.c. */
INLINE __m512 unpack_ue4m3(const unsigned char *scales)
{
    __m512i x = _mm512_cvtepu8_epi32(bytes16(scales)), seven = _mm512_and_si512(x, _mm512_set1_epi32(127));
    __m512 tiny = _mm512_mul_ps(_mm512_cvtepi32_ps(seven), _mm512_set1_ps(0x1p-10f));
    __m512i normal = _mm512_add_epi32(_mm512_slli_epi32(seven, 20), _mm512_set1_epi32(119 << 23));
    __mmask16 is_tiny = _mm512_cmplt_epi32_mask(seven, _mm512_set1_epi32(8)), no_nan = _mm512_cmpneq_epi32_mask(x, _mm512_set1_epi32(127));

    return _mm512_maskz_mov_ps(no_nan, _mm512_mask_mov_ps(_mm512_castsi512_ps(normal), is_tiny, tiny));
}

/* 2s + 1 of the nibble that begins at bit `shift` of each byte. */
INLINE __m512 unpack_odd(const unsigned char *nibbles, int shift)
{
    __m128i s = _mm_and_si128(_mm_srl_epi16(bytes16(nibbles), _mm_cvtsi32_si128(shift)), _mm_set1_epi8(15));

    return floats_of_u8(_mm_or_si128(_mm_add_epi8(s, s), _mm_set1_epi8(1)));
}

/* Scales of group g (0..7) of the block whose head is at `head`. */
INLINE void unpack_scales(bm_qtype type, const unsigned char *head, int g, scales512 *s)
{
    __m512 x, y;

    if (type == BM_MXFP4) {
        s->d = unpack_e8m0(head);
        return;
    }
    if (type == BM_NVFP4) {
        s->d = unpack_ue4m3(head + 32 * g);
        s->m = unpack_ue4m3(head + 32 * g + 16);
        return;
    }
    s->d = halves(head);
    if (has_nibble32(type)) {                                                  /* every product here is exact */
        s->d = _mm512_mul_ps(s->d, _mm512_mul_ps(unpack_odd(head + 32 + 16 * (g >> 1), 4 * (g & 1)), _mm512_set1_ps(factor_of(type))));
        return;
    }
    if (has_nibble16(type)) {
        s->d = _mm512_mul_ps(s->d, _mm512_set1_ps(factor_of(type)));
        s->sub[0] = unpack_odd(head + 32 + 16 * g, 0);
        s->sub[1] = unpack_odd(head + 32 + 16 * g, 4);
        return;
    }
    switch (type) {
    case BM_Q4_1: case BM_Q5_1:
        s->m = halves(head + 32);
        break;
    case BM_Q4_K: case BM_Q5_K:
        unpack_pairs(head + 64, g, 0, &x, &y);
        s->d = _mm512_mul_ps(s->d, x);
        s->m = _mm512_xor_ps(_mm512_mul_ps(halves(head + 32), y), _mm512_set1_ps(-0.0f));
        break;
    case BM_Q3_K:
        unpack_pairs(head + 32, g, 32, &s->sub[0], &s->sub[1]);
        break;
    case BM_Q2_K:
        s->m = halves(head + 32);
        UNROLL
        for (int i = 0; i < 2; i++) {
            __m128i v = bytes16(head + 64 + 16 * (2 * g + i));
            s->sub[i] = floats_of_u8(_mm_and_si128(v, _mm_set1_epi8(15)));
            s->min[i] = floats_of_u8(_mm_and_si128(_mm_srli_epi16(v, 4), _mm_set1_epi8(15)));
        }
        break;
    case BM_Q6_K:
        UNROLL
        for (int i = 0; i < 2; i++)
            s->sub[i] = floats_of_i8(bytes16(head + 32 + 16 * (2 * g + i)));
        break;
    case BM_IQ4_XS:
        s->d = _mm512_mul_ps(s->d, unpack_iq4_xs_scale(head, g));
        break;
    default: break;
    }
}
