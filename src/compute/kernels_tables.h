/* kernels_tables.h - the tables that kernels.c chooses from; one kernel file defines each. */
#pragma once
#include "compute/kernels.h"

extern const bm_kernels bm_kernels_ref, bm_kernels_avx2, bm_kernels_avxvnni, bm_kernels_avx512, bm_kernels_avx512bf16;
