/* machine_avxvnni.c - the peak of AVX-VNNI: see machine_peaks.h. */
#if defined(__x86_64__)
#include <immintrin.h>
#include "compute/machine_peaks.h"

double bm_peak_int8_avxvnni(long rounds)
{
    __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(2);

    BM_PEAK_LOOP(__m256i, a, _mm256_dpbusd_avx_epi32(c[i], a, b), 64);
}
#endif
