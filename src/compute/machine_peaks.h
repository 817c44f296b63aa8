/* machine_peaks.h - loops of nothing but one instruction, for machine.c; one machine_*.c file defines each. A call of `rounds`
 * does rounds * 12 instructions in 12 independent chains. Only machine*.c include it. */
#pragma once

#define BM_PEAK_CHAINS 12

double bm_peak_fp32_avx2(long rounds);         /* the operations done */
double bm_peak_int8_avx2(long rounds);
double bm_peak_int8_avxvnni(long rounds);
double bm_peak_fp32_avx512(long rounds);
double bm_peak_int8_avx512(long rounds);
double bm_peak_bf16_avx512bf16(long rounds);

/* Twelve chains of `step` on registers of `vec`. The empty statements hide from the optimiser what a, b and the chains begin with: it
 * would make one chain of twelve equal ones. */
#define BM_PEAK_LOOP(vec, start, step, ops) \
    vec c[BM_PEAK_CHAINS]; \
    _Pragma("GCC unroll 12") for (int i = 0; i < BM_PEAK_CHAINS; i++) { c[i] = start; __asm__ volatile("" : "+v"(c[i])); } \
    for (long n = 0; n < rounds; n++) { \
        _Pragma("GCC unroll 12") for (int i = 0; i < BM_PEAK_CHAINS; i++) c[i] = step; \
        __asm__ volatile("" : "+v"(a), "+v"(b)); \
    } \
    _Pragma("GCC unroll 12") for (int i = 0; i < BM_PEAK_CHAINS; i++) __asm__ volatile("" : : "v"(c[i])); \
    return (double)rounds * BM_PEAK_CHAINS * (ops)
