/* grad_tables.h - the tables that grad.c chooses from; one kernel file defines each. */
#pragma once
#include "compute/grad.h"

extern const bm_grad_kernels bm_grad_kernels_ref, bm_grad_kernels_avx2, bm_grad_kernels_avxvnni, bm_grad_kernels_avx512,
    bm_grad_kernels_avx512bf16;
