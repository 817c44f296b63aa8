/* kernels_avx512.c - the table for AVX-512 (F, BW, VL, DQ) with VNNI, and the one for CPUs that have BF16 too: they share all
 * kernels, which are exact where bf16 dot products are not. */
#if defined(__x86_64__)
#include "compute/lanes_avx512.h"
#include "compute/kernels_lanes.h"
#include "compute/kernels_tables.h"
#include "compute/matmul_avx512.h"

const bm_kernels bm_kernels_avx512 = BM_KERNELS_TABLE(BM_ISA_AVX512, matmul);
const bm_kernels bm_kernels_avx512bf16 = BM_KERNELS_TABLE(BM_ISA_AVX512BF16, matmul);
#endif
