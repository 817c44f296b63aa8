/* machine_avx512bf16.c - the peak of bf16 dot products: see machine_peaks.h. */
#if defined(__x86_64__)
#include <immintrin.h>
#include "compute/machine_peaks.h"

double bm_peak_bf16_avx512bf16(long rounds)
{
    __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.5f)), b = a;

    BM_PEAK_LOOP(__m512, _mm512_set1_ps(0.25f), _mm512_dpbf16_ps(c[i], a, b), 64);
}
#endif
