/* kernels_ref.c - the scalar table: the specification of all others, slow on purpose. */
#include "compute/lanes_ref.h"
#include "compute/kernels_lanes.h"
#include "compute/kernels_tables.h"
#include "compute/pack_layout.h"

/* What each group of 32 columns adds to the accumulator of row r, token t; see kernels.h. */
static float add_group(const bm_group *g, int form, int r, const bm_acts *x, int64_t t, int64_t b, float acc)
{
    const int8_t *q = x->q + t * x->q_stride + b * BM_ACT_BLOCK;
    const int16_t *sum = x->sum16 + 2 * (t * x->s_stride + b);
    float sx = x->scale[t * x->s_stride + b];
    int32_t dot[2] = { 0, 0 };

    for (int k = 0; k < BM_ACT_BLOCK; k++)
        dot[k / 16] += g->level[r][k] * q[k];
    if (form == BM_FORM_D || form == BM_FORM_DM) {
        acc = fmaf((float)(dot[0] + dot[1]), g->d[r] * sx, acc);
        return form == BM_FORM_D ? acc : fmaf(g->m[r], sx * (float)(sum[0] + sum[1]), acc);
    }
    if (form == BM_FORM_D16) {
        acc = fmaf((float)dot[0], g->d[r] * sx, acc);
        return fmaf((float)dot[1], g->m[r] * sx, acc);
    }
    acc = fmaf((float)(g->sub[r][0] * dot[0] + g->sub[r][1] * dot[1]), g->d[r] * sx, acc);
    if (form == BM_FORM_SUBMIN)
        acc = fmaf((float)(g->min[r][0] * sum[0] + g->min[r][1] * sum[1]), -(g->m[r] * sx), acc);
    return acc;
}

static void matmul(const bm_packed *w, int64_t tile_begin, int64_t tile_end, const bm_acts *x, int64_t t_begin, int64_t t_end,
                   float *y, int64_t y_stride)
{
    if (matmul_floats(w, tile_begin, tile_end, x, t_begin, t_end, y, y_stride))
        return;
    for (int64_t tile = tile_begin; tile < tile_end; tile++) {
        int64_t row = tile * BM_TILE_ROWS;
        int rows = w->n_rows - row < BM_TILE_ROWS ? (int)(w->n_rows - row) : BM_TILE_ROWS;
        for (int64_t t = t_begin; t < t_end; t++)
            for (int r = 0; r < rows; r++)
                y[t * y_stride + row + r] = 0;
        for (int64_t b = 0; b < w->n_cols / BM_GROUP; b++) {
            bm_group g;
            bm_group_unpack(w, w->data + (size_t)tile * w->tile_bytes, b, 0, rows, &g);
            for (int64_t t = t_begin; t < t_end; t++)
                for (int r = 0; r < rows; r++) {
                    float *out = y + t * y_stride + row + r;
                    *out = add_group(&g, bm_layout_of(w->type)->form, r, x, t, b, *out);
                }
        }
    }
}

const bm_kernels bm_kernels_ref = BM_KERNELS_TABLE(BM_ISA_REF, matmul);
