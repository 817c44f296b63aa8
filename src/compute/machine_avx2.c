/* machine_avx2.c - peaks of AVX2: see machine_peaks.h. */
#if defined(__x86_64__)
#include <immintrin.h>
#include "compute/machine_peaks.h"

double bm_peak_fp32_avx2(long rounds)
{
    __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);

    BM_PEAK_LOOP(__m256, a, _mm256_fmadd_ps(c[i], a, b), 16);
}

/* VPMADDUBSW and the addition that goes with it. */
double bm_peak_int8_avx2(long rounds)
{
    __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(2);

    BM_PEAK_LOOP(__m256i, a, _mm256_add_epi16(_mm256_maddubs_epi16(c[i], b), a), 64);
}
#endif
