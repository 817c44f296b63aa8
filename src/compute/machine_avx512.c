/* machine_avx512.c - peaks of AVX-512: see machine_peaks.h. */
#if defined(__x86_64__)
#include <immintrin.h>
#include "compute/machine_peaks.h"

double bm_peak_fp32_avx512(long rounds)
{
    __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);

    BM_PEAK_LOOP(__m512, a, _mm512_fmadd_ps(c[i], a, b), 32);
}

double bm_peak_int8_avx512(long rounds)
{
    __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(2);

    BM_PEAK_LOOP(__m512i, a, _mm512_dpbusd_epi32(c[i], a, b), 128);
}
#endif
