/* kernels_lora.h - the two thin products of an adapter, h = A x and y += B h, over the 16 lanes of a lanes_*.h. A is read once per
 * block of tokens, and several sums are under way at once: with few tokens it is the read of A and B that costs. */
#pragma once

/* Columns k and k + 1 of a float tile, k even and k + 1 < K. */
LANES void load_columns(bm_qtype type, const unsigned char *tile, int64_t k, v16 *even, v16 *odd)
{
    if (type == BM_F32) {
        *even = v_load((const float *)(const void *)(tile + 64 * k));
        *odd = v_load((const float *)(const void *)(tile + 64 * k + 64));
    } else {
        const uint16_t *pair = (const uint16_t *)(const void *)(tile + 32 * k);
        *even = v_load_bf16_even(pair);
        *odd = v_load_bf16_odd(pair);
    }
}

/* One tile of A times n_tok tokens, a constant at each call. Four partial sums by k mod 4. */
LANES void lora_a_block(const unsigned char *tile, bm_qtype type, int64_t n_cols, const float *x, int64_t x_stride, int n_tok,
                        float *h, int64_t h_stride)
{
    v16 acc[FLOAT_TOKENS][4], column[4];
    int64_t k = 0;

    UNROLL
    for (int t = 0; t < n_tok; t++)
        UNROLL
        for (int j = 0; j < 4; j++)
            acc[t][j] = v_set(0);
    for (; k + 4 <= n_cols; k += 4) {
        load_columns(type, tile, k, &column[0], &column[1]);
        load_columns(type, tile, k + 2, &column[2], &column[3]);
        UNROLL
        for (int t = 0; t < n_tok; t++)
            UNROLL
            for (int j = 0; j < 4; j++)
                acc[t][j] = v_fma(column[j], v_set(x[t * x_stride + k + j]), acc[t][j]);
    }
    for (; k < n_cols; k++) {
        column[0] = load_column(type, tile, k, n_cols);
        UNROLL
        for (int t = 0; t < n_tok; t++)
            acc[t][k & 3] = v_fma(column[0], v_set(x[t * x_stride + k]), acc[t][k & 3]);
    }
    UNROLL
    for (int t = 0; t < n_tok; t++)
        v_store(h + t * h_stride, v_add(v_add(acc[t][0], acc[t][1]), v_add(acc[t][2], acc[t][3])));
}

LANES void lora_a_typed(const bm_packed *a, bm_qtype type, const float *x, int64_t x_stride, int64_t n_tokens, float *h,
                        int64_t h_stride)
{
    for (int64_t i = 0; i < a->n_tiles; i++, h += BM_TILE_ROWS) {
        const unsigned char *tile = a->data + (size_t)i * a->tile_bytes;
        int64_t t = 0;
        for (; t + FLOAT_TOKENS <= n_tokens; t += FLOAT_TOKENS)
            lora_a_block(tile, type, a->n_cols, x + t * x_stride, x_stride, FLOAT_TOKENS, h + t * h_stride, h_stride);
        for (; t + 2 <= n_tokens && FLOAT_TOKENS > 2; t += 2)
            lora_a_block(tile, type, a->n_cols, x + t * x_stride, x_stride, FLOAT_TOKENS < 2 ? 1 : 2, h + t * h_stride, h_stride);
        for (; t < n_tokens; t++)
            lora_a_block(tile, type, a->n_cols, x + t * x_stride, x_stride, 1, h + t * h_stride, h_stride);
    }
}

static void lora_a(const bm_packed *a, const float *x, int64_t x_stride, int64_t n_tokens, float *h, int64_t h_stride)
{
    if (a->type == BM_F32)
        lora_a_typed(a, BM_F32, x, x_stride, n_tokens, h, h_stride);
    else
        lora_a_typed(a, BM_BF16, x, x_stride, n_tokens, h, h_stride);
}

/* n_tiles tiles of B times n_tok tokens, constants at each call. Two partial sums by k mod 2. */
LANES void lora_b_block(const bm_packed *b, bm_qtype type, int64_t tile, int n_tiles, const float *h, int64_t h_stride, int n_tok,
                        float *y, int64_t y_stride)
{
    const unsigned char *at = b->data + (size_t)tile * b->tile_bytes;
    v16 acc[2][FLOAT_TOKENS][2];

    UNROLL
    for (int i = 0; i < n_tiles; i++)
        UNROLL
        for (int t = 0; t < n_tok; t++)
            acc[i][t][0] = acc[i][t][1] = v_set(0);
    for (int64_t k = 0; k < b->n_cols; k += 2)
        UNROLL
        for (int i = 0; i < n_tiles; i++) {
            v16 even, odd;
            load_columns(type, at + (size_t)i * b->tile_bytes, k, &even, &odd);
            UNROLL
            for (int t = 0; t < n_tok; t++) {
                acc[i][t][0] = v_fma(even, v_set(h[t * h_stride + k]), acc[i][t][0]);
                acc[i][t][1] = v_fma(odd, v_set(h[t * h_stride + k + 1]), acc[i][t][1]);
            }
        }
    UNROLL
    for (int i = 0; i < n_tiles; i++)
        UNROLL
        for (int t = 0; t < n_tok; t++) {
            int64_t left = b->n_rows - (tile + i) * BM_TILE_ROWS;
            float *out = y + t * y_stride + i * BM_TILE_ROWS;
            v16 sum = v_add(acc[i][t][0], acc[i][t][1]);
            if (left >= BM_TILE_ROWS)
                v_store(out, v_add(v_load(out), sum));
            else
                v_store_n(out, v_add(v_load_n(out, (int)left, 0), sum), (int)left);
        }
}

LANES void lora_b_typed(const bm_packed *b, bm_qtype type, int64_t tile, int64_t tile_end, const float *h, int64_t h_stride,
                        int64_t n_tokens, float *y, int64_t y_stride)
{
    for (; tile < tile_end; tile += 2, y += 2 * BM_TILE_ROWS) {
        int64_t t = 0;
        if (tile + 2 > tile_end) {
            for (; t < n_tokens; t++)
                lora_b_block(b, type, tile, 1, h + t * h_stride, h_stride, 1, y + t * y_stride, y_stride);
            return;
        }
        for (; t + FLOAT_TOKENS <= n_tokens; t += FLOAT_TOKENS)
            lora_b_block(b, type, tile, 2, h + t * h_stride, h_stride, FLOAT_TOKENS, y + t * y_stride, y_stride);
        for (; t + 2 <= n_tokens && FLOAT_TOKENS > 2; t += 2)
            lora_b_block(b, type, tile, 2, h + t * h_stride, h_stride, FLOAT_TOKENS < 2 ? 1 : 2, y + t * y_stride, y_stride);
        for (; t < n_tokens; t++)
            lora_b_block(b, type, tile, 2, h + t * h_stride, h_stride, 1, y + t * y_stride, y_stride);
    }
}

static void lora_b(const bm_packed *b, int64_t tile_begin, int64_t tile_end, const float *h, int64_t h_stride, int64_t n_tokens,
                   float *y, int64_t y_stride)
{
    if (b->type == BM_F32)
        lora_b_typed(b, BM_F32, tile_begin, tile_end, h, h_stride, n_tokens, y, y_stride);
    else
        lora_b_typed(b, BM_BF16, tile_begin, tile_end, h, h_stride, n_tokens, y, y_stride);
}
