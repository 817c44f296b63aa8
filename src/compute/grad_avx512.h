/* grad_avx512.h - transposition of words, for both files of training's products with AVX-512. */
#pragma once
#include "compute/lanes_avx512.h"

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
