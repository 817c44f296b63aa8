/* lanes_avx2.h - lanes_ref.h in two ymm registers. The meaning of each function stands there. */
#pragma once
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include "compute/unroll.h"
#include <string.h>

typedef struct v16 { __m256 a, b; } v16;
typedef struct i16 { __m256i a, b; } i16;
typedef struct m16 { __m256 a, b; } m16;
#define LANES static inline __attribute__((always_inline))
#define BOTH(f, ...) (v16){ f(x.a, ##__VA_ARGS__), f(x.b, ##__VA_ARGS__) }
enum { ATTN_ROWS_MAX = 4, ATTN_SUBTILES = 1, FLOAT_TILES = 2, FLOAT_TOKENS = 2 };

LANES v16 v_set(float x) { return (v16){ _mm256_set1_ps(x), _mm256_set1_ps(x) }; }
LANES v16 v_load(const float *p) { return (v16){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) }; }
LANES void v_store(float *p, v16 x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
LANES v16 v_load_n(const float *p, int n, float fill)
{
    float t[16];

    v_store(t, v_set(fill));
    memcpy(t, p, (size_t)n * sizeof *p);
    return v_load(t);
}
LANES void v_store_n(float *p, v16 x, int n)
{
    float t[16];

    v_store(t, x);
    memcpy(p, t, (size_t)n * sizeof *p);
}
LANES v16 v_load_f16(const uint16_t *p)
{
    return (v16){ _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1)) };
}
LANES void v_store_f16(uint16_t *p, v16 x)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)p + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
LANES __m256 bf16_even(const uint16_t *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i *)p), 16));
}
LANES __m256 bf16_odd(const uint16_t *p)
{
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256((const __m256i *)p), _mm256_set1_epi32((int)0xFFFF0000u)));
}
LANES v16 v_load_bf16_even(const uint16_t *p) { return (v16){ bf16_even(p), bf16_even(p + 16) }; }
LANES v16 v_load_bf16_odd(const uint16_t *p) { return (v16){ bf16_odd(p), bf16_odd(p + 16) }; }
LANES v16 v_add(v16 x, v16 y) { return (v16){ _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b) }; }
LANES v16 v_sub(v16 x, v16 y) { return (v16){ _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b) }; }
LANES v16 v_mul(v16 x, v16 y) { return (v16){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) }; }
LANES v16 v_div(v16 x, v16 y) { return (v16){ _mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b) }; }
LANES v16 v_fma(v16 x, v16 y, v16 z) { return (v16){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) }; }
LANES v16 v_min(v16 x, v16 y) { return (v16){ _mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b) }; }
LANES v16 v_max(v16 x, v16 y) { return (v16){ _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b) }; }
LANES v16 v_abs(v16 x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);

    return (v16){ _mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b) };
}
LANES v16 v_rint(v16 x) { return BOTH(_mm256_round_ps, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
LANES m16 v_less(v16 x, v16 y) { return (m16){ _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ) }; }
LANES m16 v_is_nan(v16 x) { return (m16){ _mm256_cmp_ps(x.a, x.a, _CMP_UNORD_Q), _mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q) }; }
LANES v16 v_select(m16 m, v16 x, v16 y) { return (v16){ _mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b) }; }
LANES __m256 keep8(__m256 x, __m256i lane, int from, int to, __m256 fill)
{
    __m256i in = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(from), lane), _mm256_cmpgt_epi32(_mm256_set1_epi32(to), lane));

    return _mm256_blendv_ps(fill, x, _mm256_castsi256_ps(in));
}
LANES v16 v_keep(v16 x, int from, int to, v16 fill)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    return (v16){ keep8(x.a, lane, from, to, fill.a), keep8(x.b, lane, from - 8, to - 8, fill.b) };
}
LANES __m256 scale2_8(__m256 a, __m256 n)
{
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
}
LANES v16 v_scale2(v16 x, v16 n) { return (v16){ scale2_8(x.a, n.a), scale2_8(x.b, n.b) }; }
LANES i16 v_to_int(v16 x) { return (i16){ _mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b) }; }
LANES void i_store8(int8_t *p, i16 x)
{
    __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xD8);

    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}
LANES int32_t i_sum(i16 x)
{
    __m256i s = _mm256_add_epi32(x.a, x.b);
    __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    t = _mm_add_epi32(t, _mm_unpackhi_epi64(t, t));
    return _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 1)));
}
LANES i16 i_add(i16 x, i16 y) { return (i16){ _mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b) }; }
LANES void i_store(int32_t *p, i16 x) { _mm256_storeu_si256((__m256i *)p, x.a), _mm256_storeu_si256((__m256i *)p + 1, x.b); }
LANES uint32_t m_bits(m16 m) { return (uint32_t)_mm256_movemask_ps(m.a) | (uint32_t)_mm256_movemask_ps(m.b) << 8; }
LANES __m256i join_bytes(__m256i a, __m256i b, __m256i c, __m256i d)
{
    const __m256i at = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));

    return _mm256_shuffle_epi8(_mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)), at);
}
LANES i16 i_bytes(i16 x, i16 y, i16 z, i16 t) { return (i16){ join_bytes(x.a, y.a, z.a, t.a), join_bytes(x.b, y.b, z.b, t.b) }; }
LANES __m256 low_pairs(__m256 a, __m256 b) { return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b))); }
LANES __m256 high_pairs(__m256 a, __m256 b) { return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b))); }
LANES void transpose8(__m256 *m)
{
    __m256 a[8];

    UNROLL
    for (int i = 0; i < 8; i += 4) {         /* half L of a[i + j]: rows i to i + 3 of column 4L + j */
        __m256 low0 = _mm256_unpacklo_ps(m[i], m[i + 1]), high0 = _mm256_unpackhi_ps(m[i], m[i + 1]);
        __m256 low1 = _mm256_unpacklo_ps(m[i + 2], m[i + 3]), high1 = _mm256_unpackhi_ps(m[i + 2], m[i + 3]);
        a[i] = low_pairs(low0, low1), a[i + 1] = high_pairs(low0, low1);
        a[i + 2] = low_pairs(high0, high1), a[i + 3] = high_pairs(high0, high1);
    }
    UNROLL
    for (int j = 0; j < 4; j++)
        m[j] = _mm256_permute2f128_ps(a[j], a[j + 4], 0x20), m[j + 4] = _mm256_permute2f128_ps(a[j], a[j + 4], 0x31);
}
LANES void v_transpose(v16 *m)
{
    __m256 t[4][8];

    UNROLL
    for (int i = 0; i < 8; i++)
        t[0][i] = m[i].a, t[1][i] = m[i].b, t[2][i] = m[i + 8].a, t[3][i] = m[i + 8].b;
    UNROLL
    for (int i = 0; i < 4; i++)
        transpose8(t[i]);
    UNROLL
    for (int i = 0; i < 8; i++)
        m[i] = (v16){ t[0][i], t[2][i] }, m[i + 8] = (v16){ t[1][i], t[3][i] };
}
LANES void i_store_lanes(int8_t *const *to, const i16 *w)
{
    UNROLL
    for (int h = 0; h < 2; h++) {
        __m256 m[8];
        UNROLL
        for (int k = 0; k < 8; k++)
            m[k] = _mm256_castsi256_ps(h == 0 ? w[k].a : w[k].b);
        transpose8(m);
        UNROLL
        for (int e = 0; e < 8; e++)
            _mm256_storeu_si256((__m256i *)to[8 * h + e], _mm256_castps_si256(m[e]));
    }
}
LANES i16 i_zero(void) { return (i16){ _mm256_setzero_si256(), _mm256_setzero_si256() }; }
LANES i16 i_load(const int16_t *p)
{
    return (i16){ _mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)p + 1) };
}
LANES i16 i_load8(const int8_t *p)
{
    return (i16){ _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p + 1)) };
}
LANES i16 i_pair(const int16_t *p)
{
    int32_t pair;

    memcpy(&pair, p, 4);
    return (i16){ _mm256_set1_epi32(pair), _mm256_set1_epi32(pair) };
}
LANES __m256i dot8(__m256i sum, __m256i x, __m256i y)
{
#if defined(__AVXVNNI__)
    sum = _mm256_dpwssd_avx_epi32(sum, x, y);
#else
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, y));
#endif
    __asm__("" : "+x"(sum));             /* see lanes_avx512.h */
    return sum;
}
LANES i16 i_dot(i16 sum, i16 x, i16 y) { return (i16){ dot8(sum.a, x.a, y.a), dot8(sum.b, x.b, y.b) }; }
LANES v16 v_from_int(i16 x) { return (v16){ _mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b) }; }
#define ROUND_SHIFT 0x1.8p23f
LANES void store_low8(int16_t *p, v16 x)
{
    const __m256i low = _mm256_set1_epi32(0xFFFF);
    __m256i a = _mm256_and_si256(_mm256_castps_si256(x.a), low), b = _mm256_and_si256(_mm256_castps_si256(x.b), low);

    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xD8));
}
LANES void v_store_low(int16_t *p, v16 x, v16 y) { store_low8(p, x), store_low8(p + 16, y); }
LANES __m256 scale2_shifted8(__m256 a, __m256 z)
{
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(z), 23)));
}
LANES v16 v_scale2_shifted(v16 x, v16 z) { return (v16){ scale2_shifted8(x.a, z.a), scale2_shifted8(x.b, z.b) }; }
LANES bool v_any_nan(v16 x)
{
    m16 nan = v_is_nan(x);

    return _mm256_movemask_ps(_mm256_or_ps(nan.a, nan.b)) != 0;
}
LANES float v_sum(v16 x)
{
    __m256 b = _mm256_add_ps(x.a, x.b);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}
LANES float v_largest(v16 x)
{
    __m256 b = _mm256_max_ps(x.a, x.b);
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
}
/* The tree of v_largest for 16 vectors at once: at each level halves of two vectors meet in one. */
LANES __m256 largest2(v16 x, v16 y)          /* four partials of each in its half */
{
    __m256 a = _mm256_max_ps(x.a, x.b), b = _mm256_max_ps(y.a, y.b);
    return _mm256_max_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}
LANES __m256 largest8(const v16 *in)
{
    __m256 a = largest2(in[0], in[4]), b = largest2(in[1], in[5]);
    __m256 c = largest2(in[2], in[6]), d = largest2(in[3], in[7]);
    __m256 ab = _mm256_max_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xEE));
    __m256 cd = _mm256_max_ps(_mm256_shuffle_ps(c, d, 0x44), _mm256_shuffle_ps(c, d, 0xEE));
    return _mm256_max_ps(_mm256_shuffle_ps(ab, cd, 0x88), _mm256_shuffle_ps(ab, cd, 0xDD));
}
LANES v16 v_largests(const v16 *in) { return (v16){ largest8(in), largest8(in + 8) }; }
/* shuffle_ps takes 4 + 4 within each half: the 64-bit permutation puts the quarters in order. */
LANES __m256 in_order(__m256 x) { return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xD8)); }
LANES void pairs8(const float *p, __m256 *even, __m256 *odd)
{
    __m256 a = _mm256_loadu_ps(p), b = _mm256_loadu_ps(p + 8);

    *even = in_order(_mm256_shuffle_ps(a, b, 0x88));
    *odd = in_order(_mm256_shuffle_ps(a, b, 0xDD));
}
LANES void v_load_pairs(const float *p, v16 *even, v16 *odd) { pairs8(p, &even->a, &odd->a), pairs8(p + 16, &even->b, &odd->b); }
LANES void store_pairs8(float *p, __m256 even, __m256 odd)
{
    __m256 low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd);

    _mm256_storeu_ps(p, _mm256_permute2f128_ps(low, high, 0x20));
    _mm256_storeu_ps(p + 8, _mm256_permute2f128_ps(low, high, 0x31));
}
LANES void v_store_pairs(float *p, v16 even, v16 odd) { store_pairs8(p, even.a, odd.a), store_pairs8(p + 16, even.b, odd.b); }
