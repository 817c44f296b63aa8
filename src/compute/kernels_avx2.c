/* kernels_avx2.c - the table for AVX2 with FMA and F16C. */
#if defined(__x86_64__)
#include "compute/lanes_avx2.h"
#include "compute/kernels_lanes.h"
#include "compute/kernels_tables.h"
#include "compute/matmul_avx2.h"

const bm_kernels bm_kernels_avx2 = BM_KERNELS_TABLE(BM_ISA_AVX2, matmul);
#endif
