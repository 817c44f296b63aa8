/* lanes_avx512.h - lanes_ref.h in one zmm register. The meaning of each function stands there. */
#pragma once
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "compute/unroll.h"

typedef __m512 v16;
typedef __m512i i16;
typedef __mmask16 m16;
#define LANES static inline __attribute__((always_inline))
enum { ATTN_ROWS_MAX = 6, ATTN_SUBTILES = 4, FLOAT_TILES = 4, FLOAT_TOKENS = 4 };

LANES m16 first_lanes(int n) { return (__mmask16)((1u << n) - 1); }
LANES v16 v_set(float x) { return _mm512_set1_ps(x); }
LANES v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
LANES void v_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
LANES v16 v_load_n(const float *p, int n, float fill) { return _mm512_mask_loadu_ps(v_set(fill), first_lanes(n), p); }
LANES void v_store_n(float *p, v16 a, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), a); }
LANES v16 v_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
LANES void v_store_f16(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
LANES v16 v_load_bf16_even(const uint16_t *p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
LANES v16 v_load_bf16_odd(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32((int)0xFFFF0000u)));
}
LANES v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
LANES v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
LANES v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
LANES v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
LANES v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
LANES v16 v_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
LANES v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
LANES v16 v_abs(v16 a) { return _mm512_abs_ps(a); }
LANES v16 v_rint(v16 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
LANES m16 v_less(v16 a, v16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
LANES m16 v_is_nan(v16 a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
LANES v16 v_select(m16 m, v16 a, v16 b) { return _mm512_mask_blend_ps(m, b, a); }
LANES v16 v_keep(v16 a, int from, int to, v16 fill)
{
    return _mm512_mask_blend_ps((__mmask16)(first_lanes(to) & ~first_lanes(from)), fill, a);
}
LANES v16 v_scale2(v16 a, v16 n)
{
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23)));
}
LANES i16 v_to_int(v16 a) { return _mm512_cvtps_epi32(a); }
LANES void i_store8(int8_t *p, i16 a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(a)); }
LANES int32_t i_sum(i16 a) { return _mm512_reduce_add_epi32(a); }
LANES i16 i_zero(void) { return _mm512_setzero_si512(); }
LANES i16 i_load(const int16_t *p) { return _mm512_loadu_si512(p); }
LANES i16 i_load8(const int8_t *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p)); }
LANES i16 i_pair(const int16_t *p)
{
    int32_t pair;

    memcpy(&pair, p, 4);
    return _mm512_set1_epi32(pair);
}
LANES i16 i_dot(i16 sum, i16 a, i16 b)
{
    sum = _mm512_dpwssd_epi32(sum, a, b);
    __asm__("" : "+v"(sum));             /* gcc would move every sum to another register and back: half the speed */
    return sum;
}
LANES v16 v_from_int(i16 a) { return _mm512_cvtepi32_ps(a); }
#define ROUND_SHIFT 0x1.8p23f
LANES void v_store_low(int16_t *p, v16 a, v16 b)
{
    const __m512i even = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26, 24, 22, 20, 18,
                                          16, 14, 12, 10, 8, 6, 4, 2, 0);

    _mm512_storeu_si512(p, _mm512_permutex2var_epi16(_mm512_castps_si512(a), even, _mm512_castps_si512(b)));
}
LANES v16 v_scale2_shifted(v16 a, v16 z)
{
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_slli_epi32(_mm512_castps_si512(z), 23)));
}
LANES bool v_any_nan(v16 a) { return v_is_nan(a) != 0; }
LANES __m256 low_half(v16 a) { return _mm512_castps512_ps256(a); }
LANES __m256 high_half(v16 a) { return _mm512_extractf32x8_ps(a, 1); }
LANES float v_sum(v16 a)
{
    __m256 b = _mm256_add_ps(low_half(a), high_half(a));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}
LANES float v_largest(v16 a)
{
    __m256 b = _mm256_max_ps(low_half(a), high_half(a));
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
}
/* The tree of v_largest for 16 vectors at once: at each level halves of two vectors meet in one. */
LANES v16 v_largest4(v16 a, v16 b, v16 c, v16 d)         /* four partials of each in its quarter */
{
    v16 ab = _mm512_max_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
    v16 cd = _mm512_max_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
    return _mm512_max_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
}
LANES v16 v_largests(const v16 *in)
{
    v16 a = v_largest4(in[0], in[4], in[8], in[12]), b = v_largest4(in[1], in[5], in[9], in[13]);
    v16 c = v_largest4(in[2], in[6], in[10], in[14]), d = v_largest4(in[3], in[7], in[11], in[15]);
    v16 ab = _mm512_max_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
    v16 cd = _mm512_max_ps(_mm512_shuffle_ps(c, d, 0x44), _mm512_shuffle_ps(c, d, 0xEE));
    return _mm512_max_ps(_mm512_shuffle_ps(ab, cd, 0x88), _mm512_shuffle_ps(ab, cd, 0xDD));
}
LANES v16 low_pairs(v16 a, v16 b) { return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
LANES v16 high_pairs(v16 a, v16 b) { return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
LANES void v_transpose(v16 *m)
{
    v16 a[16];

    UNROLL
    for (int i = 0; i < 16; i += 4) {        /* quarter L of a[i + j]: rows i to i + 3 of column 4L + j */
        v16 low0 = _mm512_unpacklo_ps(m[i], m[i + 1]), high0 = _mm512_unpackhi_ps(m[i], m[i + 1]);
        v16 low1 = _mm512_unpacklo_ps(m[i + 2], m[i + 3]), high1 = _mm512_unpackhi_ps(m[i + 2], m[i + 3]);
        a[i] = low_pairs(low0, low1), a[i + 1] = high_pairs(low0, low1);
        a[i + 2] = low_pairs(high0, high1), a[i + 3] = high_pairs(high0, high1);
    }
    UNROLL
    for (int j = 0; j < 4; j++) {
        v16 p = _mm512_shuffle_f32x4(a[j], a[j + 4], 0x44), q = _mm512_shuffle_f32x4(a[j + 8], a[j + 12], 0x44);
        v16 r = _mm512_shuffle_f32x4(a[j], a[j + 4], 0xEE), s = _mm512_shuffle_f32x4(a[j + 8], a[j + 12], 0xEE);
        m[j] = _mm512_shuffle_f32x4(p, q, 0x88), m[j + 4] = _mm512_shuffle_f32x4(p, q, 0xDD);
        m[j + 8] = _mm512_shuffle_f32x4(r, s, 0x88), m[j + 12] = _mm512_shuffle_f32x4(r, s, 0xDD);
    }
}
LANES uint32_t m_bits(m16 m) { return (uint32_t)m; }
LANES i16 i_add(i16 a, i16 b) { return _mm512_add_epi32(a, b); }
LANES void i_store(int32_t *p, i16 a) { _mm512_storeu_si512(p, a); }
LANES i16 i_bytes(i16 a, i16 b, i16 c, i16 d)
{
    const __m512i at = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));

    return _mm512_shuffle_epi8(_mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)), at);
}
LANES void i_store_lanes(int8_t *const *to, const i16 *w)
{
    UNROLL
    for (int h = 0; h < 2; h++, w += 4) {
        i16 low0 = _mm512_unpacklo_epi32(w[0], w[1]), high0 = _mm512_unpackhi_epi32(w[0], w[1]);
        i16 low1 = _mm512_unpacklo_epi32(w[2], w[3]), high1 = _mm512_unpackhi_epi32(w[2], w[3]);
        i16 a[4] = { _mm512_unpacklo_epi64(low0, low1), _mm512_unpackhi_epi64(low0, low1), _mm512_unpacklo_epi64(high0, high1),
                     _mm512_unpackhi_epi64(high0, high1) };
        UNROLL
        for (int j = 0; j < 4; j++) {
            _mm_storeu_si128((__m128i *)to[j] + h, _mm512_castsi512_si128(a[j]));
            _mm_storeu_si128((__m128i *)to[4 + j] + h, _mm512_extracti32x4_epi32(a[j], 1));
            _mm_storeu_si128((__m128i *)to[8 + j] + h, _mm512_extracti32x4_epi32(a[j], 2));
            _mm_storeu_si128((__m128i *)to[12 + j] + h, _mm512_extracti32x4_epi32(a[j], 3));
        }
    }
}
LANES void v_load_pairs(const float *p, v16 *even, v16 *odd)
{
    const __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    v16 a = v_load(p), b = v_load(p + 16);

    *even = _mm512_permutex2var_ps(a, at, b);
    *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(at, _mm512_set1_epi32(1)), b);
}
LANES void v_store_pairs(float *p, v16 even, v16 odd)
{
    const __m512i at = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);

    v_store(p, _mm512_permutex2var_ps(even, at, odd));
    v_store(p + 16, _mm512_permutex2var_ps(even, _mm512_add_epi32(at, _mm512_set1_epi32(8)), odd));
}
