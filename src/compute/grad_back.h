/* grad_back.h - products with transposed packed weights in f32, compiled by grad_avx2.c and grad_avx512.c after grad_lanes.h
 * (STEP_K is 1 there): a panel is a block of rows of W by 32 columns. The including file gives:
 *   tile_rows(type, head, q, i, out)  the 16 rows of group i of a block as out[16][32], the f32 bits of the GGUF rows
 *   columns_to_rows(col, out)         the same of 32 columns of 16 rows */
#pragma once
#include "compute/pack_consts.h"

/* dY rests as floats [block][token][row], the rows of the last block padded to 16. */
static int64_t block_rows(int64_t n_rows, int64_t row)
{
    return n_rows - row < BM_GRAD_BLOCK ? n_rows - row : BM_GRAD_BLOCK;
}

static size_t f32_dy_bytes(int64_t max_tokens, int64_t n_rows)
{
    return (size_t)max_tokens * (size_t)((n_rows + 15) / 16 * 16) * sizeof(float);
}

static void f32_dy_put(bm_dy *dy, int64_t t_begin, int64_t t_end, const float *y, int64_t y_stride)
{
    for (int64_t row = 0; row < dy->n_rows; row += BM_GRAD_BLOCK) {
        int64_t n = block_rows(dy->n_rows, row), stride = (n + 15) / 16 * 16;
        float *block = (float *)dy->memory + row * dy->n_tokens;
        for (int64_t t = t_begin; t < t_end; t++)
            memcpy(block + t * stride, y + t * y_stride + row, (size_t)n * sizeof *y);
    }
}

/* Columns 32g.. of a tile of floats, those from K on 0. */
LANES void float_tile_rows(bm_qtype type, const unsigned char *tile, int64_t g, int64_t n_cols, float *out)
{
    v16 col[PANEL_COLS];

    for (int i = 0; i < PANEL_COLS; i++) {
        int64_t k = g * PANEL_COLS + i;
        if (k >= n_cols)
            col[i] = v_set(0);
        else if (type == BM_F32)
            col[i] = v_load((const float *)(const void *)(tile + 64 * k));
        else if (type == BM_F16)
            col[i] = v_load_f16((const uint16_t *)(const void *)(tile + 32 * k));
        else if ((k | 1) < n_cols) {
            const uint16_t *pair = (const uint16_t *)(const void *)(tile + 64 * (k >> 1));
            col[i] = k & 1 ? v_load_bf16_odd(pair) : v_load_bf16_even(pair);
        } else {
            uint16_t last[32] = { 0 };                                         /* an odd last column stands alone */
            for (int r = 0; r < 16; r++)
                memcpy(&last[2 * r], tile + 32 * k + 2 * r, 2);
            col[i] = v_load_bf16_even(last);
        }
    }
    columns_to_rows(col, out);
}

LANES void tiles_rows(bm_qtype type, const bm_packed *w, int64_t tile, int64_t tile_end, int64_t g, float *out)
{
    const bool is_float = type == BM_F32 || type == BM_F16 || type == BM_BF16;
    const size_t quants = is_float ? 0 : bm_tile_quants(w), group = (size_t)g;
    const size_t per_block = (size_t)groups_per_block(type);

    for (; tile < tile_end; tile++, out += BM_TILE_ROWS * PANEL_COLS) {
        const unsigned char *at = w->data + (size_t)tile * w->tile_bytes;
        if (is_float)
            float_tile_rows(type, at, g, w->n_cols, out);
        else
            tile_rows(type, at + group / per_block * (size_t)head_bytes_of(type), at + quants + group * (size_t)group_bytes_of(type),
                      (int)(group % per_block), out);
    }
}

/* A function per type: columns 32g.. of tiles [tile, tile_end) as out[row][32]; rows from N on are finite. */
#define BACK_TYPES(X) \
    X(F32) X(F16) X(BF16) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS) X(MXFP4) \
    X(IQ1_S) X(IQ1_M) X(IQ2_XXS) X(IQ2_XS) X(IQ2_S) X(IQ3_XXS) X(IQ3_S) X(TQ1_0) X(TQ2_0) X(Q1_0) X(Q2_0) X(NVFP4)
#define BACK_FN(type) \
    static __attribute__((noinline)) void rows_##type(const bm_packed *w, int64_t tile, int64_t tile_end, int64_t g, float *out) \
    { tiles_rows(BM_##type, w, tile, tile_end, g, out); }
#define BACK_ROW(type) [BM_##type] = rows_##type,
BACK_TYPES(BACK_FN)
static void (*const rows_fns[BM_QTYPE_END])(const bm_packed *w, int64_t tile, int64_t tile_end, int64_t g, float *out) = {
    BACK_TYPES(BACK_ROW)
};

static void f32_back(const bm_packed *w, const bm_dy *dy, int64_t k_begin, int64_t k_end, float *dx, int64_t dx_stride, bool add,
                     void *scratch)
{
    for (int64_t k = k_begin; k < k_end; k += PANEL_COLS)
        for (int64_t row = 0; row < w->n_rows; row += BM_GRAD_BLOCK) {
            int64_t n = block_rows(w->n_rows, row), tile = row / BM_TILE_ROWS;
            left_words a = { (const float *)dy->memory + row * dy->n_tokens, (n + 15) / 16 * 16, 1 };
            sums_to to = { dx + k, dx_stride, k_end - k < PANEL_COLS ? (int)(k_end - k) : PANEL_COLS, 1.0f, add || row > 0 };
            rows_fns[w->type](w, tile, tile + (n + BM_TILE_ROWS - 1) / BM_TILE_ROWS, k / PANEL_COLS, scratch);
            product(a, dy->n_tokens, scratch, n, &to);
        }
}
