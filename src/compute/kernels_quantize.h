/* kernels_quantize.h - activations to int8, over the 16 lanes of a lanes_*.h. Part of kernels_lanes.h.
 *
 * Two grids a block, the better one: a finer step for the largest is not always the better fit of the other 31. Against one grid
 * of largest / 127 the mean KL divergence of SmolLM2 Q4_1 falls by 6 %. Sixteen blocks go together, so that their sums are the
 * lanes of one vector: a block alone is a chain of short reductions and costs four times as much. */
#pragma once

enum { QUANT_BLOCKS = 16 };

/* A block of 32 values and where it goes. */
typedef struct quant_block {
    const float *x;
    int8_t *q;
    int64_t at;                  /* in the arrays of bm_acts that have an entry per block */
} quant_block;

static void put_block(bm_acts *a, int64_t at, float scale, int32_t sum0, int32_t sum1)
{
    a->scale[at] = scale;
    a->sum16[2 * at] = (int16_t)sum0;
    a->sum16[2 * at + 1] = (int16_t)sum1;
    a->offset16[2 * at] = -128 * sum0;
    a->offset16[2 * at + 1] = -128 * sum1;
    a->offset32[at] = -128 * (sum0 + sum1);
    a->scaled_sum[at] = scale * (float)(sum0 + sum1);
}

/* The 32 values x0 x1 rounded to multiples of largest / top; *scale is the least-squares fit to them. Returns the squared error. */
LANES float round_block(v16 x0, v16 x1, float largest, float top, v16 *r0, v16 *r1, float *scale)
{
    v16 inverse = v_set(top / largest);

    *r0 = v_rint(v_mul(x0, inverse)), *r1 = v_rint(v_mul(x1, inverse));
    *scale = v_sum(v_fma(x1, *r1, v_mul(x0, *r0))) / v_sum(v_fma(*r1, *r1, v_mul(*r0, *r0)));
    v16 minus = v_set(-*scale), e0 = v_fma(*r0, minus, x0), e1 = v_fma(*r1, minus, x1);
    return v_sum(v_fma(e1, e1, v_mul(e0, e0)));
}

/* One block of n <= 32 values: the specification. */
static void quantize_block(bm_acts *a, const quant_block *b, int n)
{
    v16 x0 = v_load_n(b->x, n < 16 ? n : 16, 0), x1 = n > 16 ? v_load_n(b->x + 16, n - 16, 0) : v_set(0);
    v16 r0 = v_set(0), r1 = v_set(0), s0, s1;
    /* Outside these bounds squares would leave the range of f32: nothing, or the plain scale. NaN falls through to 0. */
    float largest = v_largest(v_max(v_abs(x0), v_abs(x1))), scale = 0, other;

    if (largest > BM_ACT_TINY && largest < BM_ACT_HUGE) {
        float error = round_block(x0, x1, largest, 127.0f, &r0, &r1, &scale);
        if (round_block(x0, x1, largest, 120.0f, &s0, &s1, &other) < error)
            r0 = s0, r1 = s1, scale = other;
    } else if (largest >= BM_ACT_HUGE) {
        scale = largest / 127.0f;
        r0 = v_mul(x0, v_set(127.0f / largest)), r1 = v_mul(x1, v_set(127.0f / largest));
    }
    i16 q0 = v_to_int(v_max(v_min(r0, v_set(127.0f)), v_set(-127.0f)));
    i16 q1 = v_to_int(v_max(v_min(r1, v_set(127.0f)), v_set(-127.0f)));
    i_store8(b->q, q0);
    i_store8(b->q + 16, q1);
    put_block(a, b->at, scale, i_sum(q0), i_sum(q1));
}

/* 16 blocks on one grid: the rounded values, the scales, the squared errors. */
typedef struct quant_fit {
    v16 r[QUANT_BLOCKS][2];
    v16 inverse, scale, error;
} quant_fit;

LANES void fit_blocks(const quant_block *b, quant_fit *f)
{
    v16 product[QUANT_BLOCKS], square[QUANT_BLOCKS];
    float each[QUANT_BLOCKS];

    v_store(each, f->inverse);
    for (int i = 0; i < QUANT_BLOCKS; i++) {
        v16 x0 = v_load(b[i].x), x1 = v_load(b[i].x + 16), by = v_set(each[i]);
        v16 r0 = v_rint(v_mul(x0, by)), r1 = v_rint(v_mul(x1, by));
        f->r[i][0] = r0, f->r[i][1] = r1;
        product[i] = v_fma(x1, r1, v_mul(x0, r0));
        square[i] = v_fma(r1, r1, v_mul(r0, r0));
    }
    f->scale = v_div(v_sums(product), v_sums(square));
    v_store(each, v_sub(v_set(-0.0f), f->scale));
    for (int i = 0; i < QUANT_BLOCKS; i++) {
        v16 minus = v_set(each[i]), e0 = v_fma(f->r[i][0], minus, v_load(b[i].x)), e1 = v_fma(f->r[i][1], minus, v_load(b[i].x + 16));
        square[i] = v_fma(e1, e1, v_mul(e0, e0));
    }
    f->error = v_sums(square);
}

/* 16 whole blocks, to the same bits as quantize_block. */
static void quantize_blocks(bm_acts *a, const quant_block *b)
{
    quant_fit fit[2];
    v16 largest, q[2][QUANT_BLOCKS];
    m16 better;
    float size[QUANT_BLOCKS], scale[QUANT_BLOCKS], choice[QUANT_BLOCKS], sum[2][QUANT_BLOCKS];

    for (int i = 0; i < QUANT_BLOCKS; i++)
        q[0][i] = v_max(v_abs(v_load(b[i].x)), v_abs(v_load(b[i].x + 16)));
    largest = v_largests(q[0]);
    fit[0].inverse = v_div(v_set(127.0f), largest), fit[1].inverse = v_div(v_set(120.0f), largest);
    fit_blocks(b, &fit[0]);
    fit_blocks(b, &fit[1]);
    better = v_less(fit[1].error, fit[0].error);
    v_store(size, largest);
    v_store(scale, v_select(better, fit[1].scale, fit[0].scale));
    v_store(choice, v_select(better, v_set(1.0f), v_set(0.0f)));
    for (int i = 0; i < QUANT_BLOCKS; i++)
        for (int h = 0; h < 2; h++) {                    /* the bounds are for blocks that quantize_block does again below */
            q[h][i] = v_max(v_min(fit[(int)choice[i]].r[i][h], v_set(127.0f)), v_set(-127.0f));
            i_store8(b[i].q + 16 * h, v_to_int(q[h][i]));
        }
    v_store(sum[0], v_sums(q[0])), v_store(sum[1], v_sums(q[1]));    /* whole and small: exact in any order */
    for (int i = 0; i < QUANT_BLOCKS; i++)
        if (size[i] > BM_ACT_TINY && size[i] < BM_ACT_HUGE)
            put_block(a, b[i].at, scale[i], (int32_t)sum[0][i], (int32_t)sum[1][i]);
        else
            quantize_block(a, &b[i], BM_ACT_BLOCK);
}

/* n < 16 whole blocks: together with copies of the last when there are enough of them to pay. */
static void quantize_rest(bm_acts *a, quant_block *b, int n)
{
    if (n > 6) {
        for (int i = n; i < QUANT_BLOCKS; i++)
            b[i] = b[n - 1];
        quantize_blocks(a, b);
        return;
    }
    for (int i = 0; i < n; i++)
        quantize_block(a, &b[i], BM_ACT_BLOCK);
}

static void quantize_rows(bm_acts *a, int64_t t_begin, int64_t t_end, const float *x, int64_t x_stride)
{
    quant_block wait[QUANT_BLOCKS];
    int n = 0;

    for (int64_t t = t_begin; t < t_end; t++, x += x_stride)
        for (int64_t k = 0; k < a->n_cols; k += BM_ACT_BLOCK) {
            wait[n] = (quant_block){ x + k, a->q + t * a->q_stride + k, t * a->s_stride + k / BM_ACT_BLOCK };
            if (a->n_cols - k < BM_ACT_BLOCK)
                quantize_block(a, &wait[n], (int)(a->n_cols - k));
            else if (++n == QUANT_BLOCKS)
                quantize_blocks(a, wait), n = 0;
        }
    quantize_rest(a, wait, n);
}

static void quantize_row(bm_acts *a, int64_t t, const float *x) { quantize_rows(a, t, t + 1, x, 0); }
