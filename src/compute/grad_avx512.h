/* grad_avx512.h - 32 packed columns of a tile as vectors of its 16 rows in f32, and transposition: see grad_lanes.h. */
#pragma once
#include "compute/lanes_avx512.h"
#include "compute/unpack_avx512.h"

/* 4 x 4 words in each quarter of four vectors. */
LANES void transpose4(__m512i *a, __m512i *b, __m512i *c, __m512i *d)
{
    __m512i ab0 = _mm512_unpacklo_epi32(*a, *b), ab1 = _mm512_unpackhi_epi32(*a, *b);
    __m512i cd0 = _mm512_unpacklo_epi32(*c, *d), cd1 = _mm512_unpackhi_epi32(*c, *d);

    *a = _mm512_unpacklo_epi64(ab0, cd0), *b = _mm512_unpackhi_epi64(ab0, cd0);
    *c = _mm512_unpacklo_epi64(ab1, cd1), *d = _mm512_unpackhi_epi64(ab1, cd1);
}

LANES void transpose16(v16 *v)
{
    __m512i x[16];

    UNROLL
    for (int i = 0; i < 16; i++)
        x[i] = _mm512_castps_si512(v[i]);
    UNROLL
    for (int i = 0; i < 16; i += 4)
        transpose4(&x[i], &x[i + 1], &x[i + 2], &x[i + 3]);
    UNROLL
    for (int i = 0; i < 4; i++) {                        /* quarter q of x[4j + i] is quarter j of row 4q + i */
        __m512i ab0 = _mm512_shuffle_i32x4(x[i], x[4 + i], 0x88), ab1 = _mm512_shuffle_i32x4(x[i], x[4 + i], 0xDD);
        __m512i cd0 = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0x88), cd1 = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0xDD);
        v[i] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(ab0, cd0, 0x88));
        v[8 + i] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(ab0, cd0, 0xDD));
        v[4 + i] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(ab1, cd1, 0x88));
        v[12 + i] = _mm512_castsi512_ps(_mm512_shuffle_i32x4(ab1, cd1, 0xDD));
    }
}

/* The 32 columns of group i of a block: the f32 bits of the GGUF rows. */
LANES void tile_columns(bm_qtype type, const unsigned char *head, const unsigned char *q, int i, v16 *col)
{
    const int form = form_of(type);
    const __m512i zero = _mm512_set1_epi8((char)zero_of(type));
    __m512i code[8];
    scales512 s;

    unpack_codes(type, q, code);
    unpack_scales(type, head, i, &s);
    UNROLL
    for (int half = 0; half < 2; half++) {
        __m512 d = form == BM_FORM_D16 && half == 1 ? s.m : form == BM_FORM_SUB || form == BM_FORM_SUBMIN ? _mm512_mul_ps(s.d, s.sub[half])
                                                                                                         : s.d;
        __m512 m = form == BM_FORM_SUBMIN ? _mm512_mul_ps(s.m, s.min[half]) : form == BM_FORM_DM ? s.m : _mm512_setzero_ps();
        UNROLL
        for (int j = 4 * half; j < 4 * half + 4; j++) {
            __m512i level = zero_of(type) != 0 ? _mm512_sub_epi8(code[j], zero) : code[j];
            UNROLL
            for (int b = 0; b < 4; b++) {
                __m512i x = _mm512_srai_epi32(b == 3 ? level : _mm512_slli_epi32(level, 24 - 8 * b), 24);
                __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(x));
                col[4 * j + b] = form == BM_FORM_DM ? _mm512_add_ps(v, m) : form == BM_FORM_SUBMIN ? _mm512_sub_ps(v, m) : v;
            }
        }
    }
}
