/* grad.c - the choice of a table of training's kernels. */
#include "compute/grad.h"
#include "compute/grad_tables.h"

const bm_grad_kernels *bm_grad_kernels_get(bm_isa isa)
{
    switch (isa) {
    case BM_ISA_REF: return &bm_grad_kernels_ref;
#if defined(__x86_64__)
    case BM_ISA_AVX2: return &bm_grad_kernels_avx2;
    case BM_ISA_AVXVNNI: return &bm_grad_kernels_avxvnni;
    case BM_ISA_AVX512: return &bm_grad_kernels_avx512;
    case BM_ISA_AVX512BF16: return &bm_grad_kernels_avx512bf16;
#endif
    default: return NULL;
    }
}
