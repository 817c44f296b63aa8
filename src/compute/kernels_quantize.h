/* kernels_quantize.h - activations to int8, over the 16 lanes of a lanes_*.h. Part of kernels_lanes.h.
 *
 * Two grids a block, the better one: a finer step for the largest is not always the better fit of the other 31. Against one grid
 * of largest / 127 the mean KL divergence of SmolLM2 Q4_1 falls by 6 %. Sixteen blocks go together, a lane each, so that their
 * sums need no reduction: a block alone is a chain of short ones and costs five times as much. */
#pragma once

enum { QUANT_BLOCKS = 16 };

/* A block of 32 values and where it goes. */
typedef struct quant_block {
    const float *x;
    int8_t *q;
    int64_t at;                  /* in the arrays of bm_acts that have an entry per block */
} quant_block;

/* -128 * sum. Sums of what is not finite wrap; its scale is NaN and makes all of it NaN. */
LANES int32_t offset_of(uint32_t sum) { return (int32_t)(0u - 128u * sum); }

LANES void put_block(bm_acts *a, int64_t at, float scale, int32_t sum0, int32_t sum1)
{
    uint32_t sum = (uint32_t)sum0 + (uint32_t)sum1;

    a->scale[at] = scale;
    a->sum16[2 * at] = (int16_t)sum0;
    a->sum16[2 * at + 1] = (int16_t)sum1;
    a->offset16[2 * at] = offset_of((uint32_t)sum0);
    a->offset16[2 * at + 1] = offset_of((uint32_t)sum1);
    a->offset32[at] = offset_of(sum);
    a->scaled_sum[at] = scale * (float)(int32_t)sum;
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

/* Of 16 blocks side by side, value i of block b in lane b of x[i], what a tree of v_sum or v_largest makes of the leaves of the
 * partials 0 to 15: partials p and p+8, then p+4, p+2, p+1. */
#define TREE(name, type, leaf, join) \
    LANES type name##_8(const v16 *x, v16 by, v16 scale, int p) { return join(leaf(x, by, scale, p), leaf(x, by, scale, p + 8)); } \
    LANES type name##_4(const v16 *x, v16 by, v16 scale, int p) { return join(name##_8(x, by, scale, p), name##_8(x, by, scale, p + 4)); } \
    LANES type name##_2(const v16 *x, v16 by, v16 scale, int p) { return join(name##_4(x, by, scale, p), name##_4(x, by, scale, p + 2)); } \
    LANES type name(const v16 *x, v16 by, v16 scale) { return join(name##_2(x, by, scale, 0), name##_2(x, by, scale, 1)); }

LANES v16 size_leaf(const v16 *x, v16 by, v16 scale, int p) { (void)by, (void)scale; return v_max(v_abs(x[p]), v_abs(x[p + 16])); }
TREE(sizes, v16, size_leaf, v_max)

typedef struct fit_sums { v16 product, square; } fit_sums;
LANES fit_sums fit_leaf(const v16 *x, v16 by, v16 scale, int p)
{
    v16 r0 = v_rint(v_mul(x[p], by)), r1 = v_rint(v_mul(x[p + 16], by));

    (void)scale;
    return (fit_sums){ v_fma(x[p + 16], r1, v_mul(x[p], r0)), v_fma(r1, r1, v_mul(r0, r0)) };
}
LANES fit_sums fit_join(fit_sums a, fit_sums b) { return (fit_sums){ v_add(a.product, b.product), v_add(a.square, b.square) }; }
TREE(fits, fit_sums, fit_leaf, fit_join)

LANES v16 error_leaf(const v16 *x, v16 by, v16 minus, int p)
{
    v16 e0 = v_fma(v_rint(v_mul(x[p], by)), minus, x[p]), e1 = v_fma(v_rint(v_mul(x[p + 16], by)), minus, x[p + 16]);

    return v_fma(e1, e1, v_mul(e0, e0));
}
TREE(errors, v16, error_leaf, v_add)

/* One grid: scale, the least-squares fit, and the squared error. Rounding again is cheaper than keeping what was rounded. */
LANES v16 fit_blocks(const v16 *x, v16 inverse, v16 *scale)
{
    fit_sums sums = fits(x, inverse, v_set(0));

    *scale = v_div(sums.product, sums.square);
    return errors(x, inverse, v_sub(v_set(-0.0f), *scale));
}

/* The values on the grid `inverse` as bytes, and the sums of each 16. */
LANES void write_blocks(const quant_block *b, const v16 *x, v16 inverse, int32_t sum[2][QUANT_BLOCKS])
{
    int8_t *to[QUANT_BLOCKS];
    i16 words[BM_ACT_BLOCK / 4];

    UNROLL
    for (int h = 0; h < 2; h++) {
        i16 all = v_to_int(v_set(0));
        UNROLL
        for (int k = 4 * h; k < 4 * h + 4; k++) {
            i16 q[4];
            UNROLL
            for (int i = 0; i < 4; i++) {
                q[i] = v_to_int(v_rint(v_mul(x[4 * k + i], inverse)));
                all = i_add(all, q[i]);
            }
            words[k] = i_bytes(q[0], q[1], q[2], q[3]);
        }
        i_store(sum[h], all);
    }
    for (int i = 0; i < QUANT_BLOCKS; i++)
        to[i] = b[i].q;
    i_store_lanes(to, words);
}

/* 16 whole blocks, to the same bits as quantize_block, which does those again that hold a NaN or whose squares left the range. */
static void quantize_blocks(bm_acts *a, const quant_block *b)
{
    v16 x[BM_ACT_BLOCK], largest, inverse[2], error[2], scale[2];
    float scales[QUANT_BLOCKS];
    int32_t sum[2][QUANT_BLOCKS];
    m16 better;

    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < QUANT_BLOCKS; i++)
            x[16 * h + i] = v_load(b[i].x + 16 * h);
        v_transpose(x + 16 * h);
    }
    largest = sizes(x, v_set(0), v_set(0));
    inverse[0] = v_div(v_set(127.0f), largest), inverse[1] = v_div(v_set(120.0f), largest);
    error[0] = fit_blocks(x, inverse[0], &scale[0]);
    error[1] = fit_blocks(x, inverse[1], &scale[1]);
    better = v_less(error[1], error[0]);
    write_blocks(b, x, v_select(better, inverse[1], inverse[0]), sum);
    v_store(scales, v_select(better, scale[1], scale[0]));
    for (int i = 0; i < QUANT_BLOCKS; i++)
        put_block(a, b[i].at, scales[i], sum[0][i], sum[1][i]);
    uint32_t again = 0xFFFF & ~(m_bits(v_less(v_set(BM_ACT_TINY), largest)) & m_bits(v_less(largest, v_set(BM_ACT_HUGE))));
    again |= m_bits(v_is_nan(error[0]));
    for (; again != 0; again &= again - 1)
        quantize_block(a, &b[__builtin_ctz(again)], BM_ACT_BLOCK);
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
