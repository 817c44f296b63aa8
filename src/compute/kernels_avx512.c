/* kernels_avx512.c - placeholder until its own product lands. */
#if defined(__x86_64__)
#include "compute/lanes_avx512.h"
#include "compute/kernels_lanes.h"
#include "compute/kernels_tables.h"
static void matmul(const bm_packed *w, int64_t tile_begin, int64_t tile_end, const bm_acts *x, int64_t t_begin, int64_t t_end,
                   float *y, int64_t y_stride)
{
    if (!matmul_floats(w, tile_begin, tile_end, x, t_begin, t_end, y, y_stride))
        bm_kernels_ref.matmul(w, tile_begin, tile_end, x, t_begin, t_end, y, y_stride);
}
const bm_kernels bm_kernels_avx512 = BM_KERNELS_TABLE(BM_ISA_AVX512, matmul);
#endif
