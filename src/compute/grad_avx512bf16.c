/* grad_avx512bf16.c - training's products of float matrices as bf16 pairs, summed in f32; all else is grad_avx512.c's, whose 8 bits are
 * faster than pairs where weights are packed. */
#if defined(__x86_64__)
#include "compute/lanes_avx512.h"
#include "compute/grad_tables.h"

#define STEP_K 2
#define ROWS_MAX 12
#define VECS 2
LANES v16 v_step(v16 acc, v16 a, v16 b) { return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b); }
LANES v16 pairs_of(v16 high, v16 low) { return (v16)_mm512_cvtne2ps_pbh(high, low); }
LANES v16 words_along(const float *p, int n)
{
    if (n == 32)
        return pairs_of(v_load(p + 16), v_load(p));
    return pairs_of(n > 16 ? v_load_n(p + 16, n - 16, 0) : v_set(0), n >= 16 ? v_load(p) : v_load_n(p, n, 0));
}
LANES v16 words_across(const float *p0, const float *p1, int n)
{
    const __m512i at = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3,
                                        18, 2, 17, 1, 16, 0);
    v16 low = n == 16 ? v_load(p0) : v_load_n(p0, n, 0), high = p1 == NULL ? v_set(0) : n == 16 ? v_load(p1) : v_load_n(p1, n, 0);

    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(at, _mm512_castps_si512(pairs_of(high, low))));
}
#include "compute/grad_lanes.h"

static void gemm(const bm_gemm *g)
{
    if (g->exact)
        bm_grad_kernels_avx512.gemm(g);
    else
        gemm_words(g);
}

static size_t dy_bytes(int64_t max_tokens, int64_t n_rows, bool exact)
{
    return bm_grad_kernels_avx512.dy_bytes(max_tokens, n_rows, exact);
}

static void dy_put(bm_dy *dy, int64_t t_begin, int64_t t_end, const float *y, int64_t y_stride)
{
    bm_grad_kernels_avx512.dy_put(dy, t_begin, t_end, y, y_stride);
}

static size_t scratch_bytes(int64_t n_rows, bool exact) { return bm_grad_kernels_avx512.scratch_bytes(n_rows, exact); }

static void matmul_back(const bm_packed *w, const bm_dy *dy, int64_t k_begin, int64_t k_end, float *dx, int64_t dx_stride,
                        bool add, void *scratch)
{
    bm_grad_kernels_avx512.matmul_back(w, dy, k_begin, k_end, dx, dx_stride, add, scratch);
}

const bm_grad_kernels bm_grad_kernels_avx512bf16 = {
    .isa = BM_ISA_AVX512BF16, .gemm = gemm, .dy_bytes = dy_bytes, .dy_put = dy_put, .scratch_bytes = scratch_bytes,
    .matmul_back = matmul_back,
};
#endif
