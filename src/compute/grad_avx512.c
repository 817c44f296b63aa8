/* grad_avx512.c - training's products in f32 with AVX-512: fast and exact are the same. */
#if defined(__x86_64__)
#include "compute/grad_avx512.h"
#include "compute/grad_tables.h"

#define STEP_K 1
#define ROWS_MAX 12
#define VECS 2
LANES v16 v_step(v16 acc, v16 a, v16 b) { return v_fma(a, b, acc); }
LANES v16 words_along(const float *p, int n) { return n == 16 ? v_load(p) : v_load_n(p, n, 0); }
LANES v16 words_across(const float *p0, const float *p1, int n) { return (void)p1, words_along(p0, n); }
LANES void columns_panel(v16 *col, float *out)
{
    transpose16(col);
    transpose16(col + 16);
    for (int r = 0; r < 16; r++, out += 32) {
        v_store(out, col[r]);
        v_store(out + 16, col[16 + r]);
    }
}
LANES void tile_panel(bm_qtype type, const unsigned char *head, const unsigned char *q, int i, float *out)
{
    v16 col[32];

    tile_columns(type, head, q, i, col);
    columns_panel(col, out);
}
#include "compute/grad_lanes.h"

static size_t dy_bytes(int64_t max_tokens, int64_t n_rows, bool exact) { return (void)exact, dy_words_bytes(max_tokens, n_rows); }
static size_t scratch_bytes(int64_t n_rows, bool exact) { return (void)n_rows, (void)exact, panel_bytes(); }

const bm_grad_kernels bm_grad_kernels_avx512 = {
    .isa = BM_ISA_AVX512, .gemm = gemm_words, .dy_bytes = dy_bytes, .dy_put = dy_words_put, .scratch_bytes = scratch_bytes,
    .matmul_back = back_words,
};
#endif
