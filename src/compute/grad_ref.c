/* grad_ref.c - the scalar table of training's kernels: f32 throughout, the specification of the others. dY rests as it came,
 * row after row; a panel of W is one block of rows by 32 columns of f32. */
#include "compute/grad.h"
#include "compute/grad_tables.h"
#include "compute/pack_layout.h"

#include <string.h>

typedef float panel[BM_GRAD_BLOCK][BM_GROUP];

static void gemm(const bm_gemm *g)
{
    for (int64_t m = 0; m < g->m; m++)
        for (int64_t n = 0; n < g->n; n++) {
            const float *a = g->a + m * g->a_row, *b = g->b + n * g->b_col;
            float *c = g->c + m * g->c_row + n;
            if (!g->add)
                *c = 0;
            for (int64_t block = 0; block < g->k; block += BM_GRAD_BLOCK) {
                int64_t end = block + BM_GRAD_BLOCK < g->k ? block + BM_GRAD_BLOCK : g->k;
                float sum = 0;
                for (int64_t k = block; k < end; k++)
                    sum += a[k * g->a_col] * b[k * g->b_row];
                *c += g->alpha * sum;
            }
        }
}

static size_t dy_bytes(int64_t max_tokens, int64_t n_rows, bool exact)
{
    (void)exact;
    return (size_t)max_tokens * (size_t)n_rows * sizeof(float);
}

static void dy_put(bm_dy *dy, int64_t t_begin, int64_t t_end, const float *y, int64_t y_stride)
{
    for (int64_t t = t_begin; t < t_end; t++)
        memcpy((float *)dy->memory + t * dy->n_rows, y + t * y_stride, (size_t)dy->n_rows * sizeof *y);
}

static size_t scratch_bytes(int64_t n_rows, bool exact)
{
    (void)n_rows, (void)exact;
    return sizeof(panel);
}

/* What rows [row, row + rows) add to dx[t][k .. k + columns). */
static void add_panel(panel w, int64_t row, int rows, int columns, const bm_dy *dy, int64_t t, float *dx)
{
    const float *y = (const float *)dy->memory + t * dy->n_rows + row;
    float sum[BM_GROUP] = { 0 };

    for (int n = 0; n < rows; n++)
        for (int k = 0; k < BM_GROUP; k++)
            sum[k] += y[n] * w[n][k];
    for (int k = 0; k < columns; k++)
        dx[k] += sum[k];
}

static void matmul_back(const bm_packed *w, const bm_dy *dy, int64_t k_begin, int64_t k_end, float *dx, int64_t dx_stride,
                        bool add, void *scratch)
{
    panel *values = scratch;

    for (int64_t k = k_begin; k < k_end; k += BM_GROUP) {
        int columns = k_end - k < BM_GROUP ? (int)(k_end - k) : BM_GROUP;
        for (int64_t t = 0; t < dy->n_tokens && !add; t++)
            memset(dx + t * dx_stride + k, 0, (size_t)columns * sizeof *dx);
        for (int64_t row = 0; row < w->n_rows; row += BM_GRAD_BLOCK) {
            int rows = w->n_rows - row < BM_GRAD_BLOCK ? (int)(w->n_rows - row) : BM_GRAD_BLOCK;
            for (int r = 0; r < rows; r += BM_TILE_ROWS)
                bm_group_values(w, w->data + (size_t)((row + r) / BM_TILE_ROWS) * w->tile_bytes, k / BM_GROUP, 0,
                                rows - r < BM_TILE_ROWS ? rows - r : BM_TILE_ROWS, *values + r);
            for (int64_t t = 0; t < dy->n_tokens; t++)
                add_panel(*values, row, rows, columns, dy, t, dx + t * dx_stride + k);
        }
    }
}

const bm_grad_kernels bm_grad_kernels_ref = {
    .isa = BM_ISA_REF, .gemm = gemm, .dy_bytes = dy_bytes, .dy_put = dy_put, .scratch_bytes = scratch_bytes, .matmul_back = matmul_back,
};
