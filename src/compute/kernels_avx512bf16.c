/* kernels_avx512bf16.c - the table for AVX-512 with VNNI and BF16: for now the kernels of AVX-512, which are exact. */
#if defined(__x86_64__)
#include "compute/lanes_avx512.h"
#include "compute/kernels_lanes.h"
#include "compute/kernels_tables.h"
#include "compute/matmul_avx512.h"

const bm_kernels bm_kernels_avx512bf16 = BM_KERNELS_TABLE(BM_ISA_AVX512BF16, matmul);
#endif
