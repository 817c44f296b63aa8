/* kernels_avxvnni.c - the table for AVX2 with AVX-VNNI: the same in all but the integer products. */
#if defined(__x86_64__)
#include "compute/lanes_avx2.h"
#include "compute/kernels_lanes.h"
#include "compute/kernels_tables.h"
#include "compute/matmul_avx2.h"

const bm_kernels bm_kernels_avxvnni = BM_KERNELS_TABLE(BM_ISA_AVXVNNI, matmul);
#endif
