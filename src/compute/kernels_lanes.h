/* kernels_lanes.h - everything but the quantised products, written once over 16 lanes and compiled by every kernel file after its
 * lanes_*.h: so the order of operations is the same in every table. Only kernels_*.c include it. */
#pragma once
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "compute/kernels.h"

#define EXP_LOWEST (-87.3f)
#define EXP_HIGHEST 88.7228f
enum { KV_DIM_MAX = 1024 };      /* dimensions of a head */

/* e^x, about 1 ulp. x = n ln 2 + r with ln 2 in two parts; e^r by a polynomial of degree 6 fitted for relative error (3e-9).
 * 0 below EXP_LOWEST (no subnormal results), infinity above EXP_HIGHEST, NaN for NaN; e^0 = 1 exactly. */
LANES v16 v_exp(v16 x)
{
    v16 clamped = v_min(v_max(x, v_set(EXP_LOWEST)), v_set(EXP_HIGHEST));
    v16 n = v_rint(v_mul(clamped, v_set(0x1.715476p+0f)));
    v16 r = v_fma(n, v_set(0x1.05c61p-29f), v_fma(n, v_set(-0x1.62e43p-1f), clamped));
    v16 p = v_set(0x1.6a2256p-10f);

    p = v_fma(p, r, v_set(0x1.123b04p-7f));
    p = v_fma(p, r, v_set(0x1.5558f8p-5f));
    p = v_fma(p, r, v_set(0x1.55549p-3f));
    p = v_fma(p, r, v_set(0x1.fffffcp-2f));
    p = v_fma(p, v_mul(r, r), v_add(r, v_set(1.0f)));
    p = v_scale2(p, n);
    p = v_select(v_less(x, v_set(EXP_LOWEST)), v_set(0.0f), p);
    p = v_select(v_less(v_set(EXP_HIGHEST), x), v_set(INFINITY), p);
    return v_select(v_is_nan(x), x, p);
}

/* x / (1 + e^-z): x times the logistic function of z. */
LANES v16 v_gate(v16 x, v16 z) { return v_div(x, v_add(v_set(1.0f), v_exp(v_sub(v_set(0.0f), z)))); }

/* cap * tanh(x / cap) with tanh y = 1 - 2 / (e^2y + 1). */
LANES v16 v_softcap(v16 x, float cap)
{
    v16 e = v_exp(v_mul(v_div(x, v_set(cap)), v_set(2.0f)));

    return v_mul(v_set(cap), v_sub(v_set(1.0f), v_div(v_set(2.0f), v_add(e, v_set(1.0f)))));
}

#include "compute/kernels_quantize.h"

/* The sum of x^2 (or of (x - mean)^2) in 16 partials. */
LANES float sum_squares(const float *x, int64_t n, float mean)
{
    v16 sum = v_set(0), m = v_set(mean);
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
        v16 d = v_sub(v_load(x + i), m);
        sum = v_fma(d, d, sum);
    }
    if (i < n) {
        v16 d = v_sub(v_load_n(x + i, (int)(n - i), mean), m);
        sum = v_fma(d, d, sum);
    }
    return v_sum(sum);
}

static void rmsnorm(float *out, const float *x, const float *weight, int64_t n, float eps)
{
    v16 by = v_set(1.0f / sqrtf(sum_squares(x, n, 0) / (float)n + eps));

    for (int64_t i = 0; i < n; i += 16) {
        int m = n - i < 16 ? (int)(n - i) : 16;
        v16 v = v_mul(m == 16 ? v_load(x + i) : v_load_n(x + i, m, 0), by);
        if (weight != NULL)
            v = v_mul(v, m == 16 ? v_load(weight + i) : v_load_n(weight + i, m, 0));
        if (m == 16)
            v_store(out + i, v);
        else
            v_store_n(out + i, v, m);
    }
}

static void layernorm(float *out, const float *x, const float *weight, const float *bias, int64_t n, float eps)
{
    v16 sum = v_set(0), by, mean;

    for (int64_t i = 0; i < n; i += 16)
        sum = v_add(sum, v_load_n(x + i, n - i < 16 ? (int)(n - i) : 16, 0));
    mean = v_set(v_sum(sum) / (float)n);
    by = v_set(1.0f / sqrtf(sum_squares(x, n, v_largest(mean)) / (float)n + eps));
    for (int64_t i = 0; i < n; i += 16) {
        int m = n - i < 16 ? (int)(n - i) : 16;
        v16 v = v_mul(v_sub(v_load_n(x + i, m, 0), mean), by);
        if (weight != NULL)
            v = v_mul(v, v_load_n(weight + i, m, 0));
        if (bias != NULL)
            v = v_add(v, v_load_n(bias + i, m, 0));
        v_store_n(out + i, v, m);
    }
}

LANES v16 gelu_tanh(v16 x)
{
    v16 cube = v_mul(v_mul(x, x), x);

    return v_gate(x, v_mul(v_set(1.5957691216f), v_fma(cube, v_set(0.044715f), x)));       /* 2 sqrt(2 / pi) */
}

LANES void gated(float *out, const float *gate, const float *up, int64_t n, bool gelu)
{
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
        v16 g = v_load(gate + i);
        v_store(out + i, v_mul(gelu ? gelu_tanh(g) : v_gate(g, g), v_load(up + i)));
    }
    if (i < n) {
        int m = (int)(n - i);
        v16 g = v_load_n(gate + i, m, 0);
        v_store_n(out + i, v_mul(gelu ? gelu_tanh(g) : v_gate(g, g), v_load_n(up + i, m, 0)), m);
    }
}

static void silu_mul(float *out, const float *gate, const float *up, int64_t n) { gated(out, gate, up, n, false); }
static void gelu_tanh_mul(float *out, const float *gate, const float *up, int64_t n) { gated(out, gate, up, n, true); }

static void add(float *x, const float *y, int64_t n)
{
    int64_t i = 0;

    for (; i + 16 <= n; i += 16)
        v_store(x + i, v_add(v_load(x + i), v_load(y + i)));
    for (; i < n; i++)
        x[i] += y[i];
}

static void scale(float *x, float by, int64_t n)
{
    int64_t i = 0;

    for (; i + 16 <= n; i += 16)
        v_store(x + i, v_mul(v_load(x + i), v_set(by)));
    for (; i < n; i++)
        x[i] *= by;
}

static void softcap(float *x, float cap, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        int m = n - i < 16 ? (int)(n - i) : 16;
        v_store_n(x + i, v_softcap(v_load_n(x + i, m, 0), cap), m);
    }
}

/* (x0, x1) by the angle whose cosine and sine are c and s. */
LANES void rotate(v16 x0, v16 x1, v16 c, v16 s, v16 *y0, v16 *y1)
{
    *y0 = v_sub(v_mul(x0, c), v_mul(x1, s));
    *y1 = v_add(v_mul(x0, s), v_mul(x1, c));
}

static void rope(float *x, const float *cos_sin, int n_rot, bool neox)
{
    int half = n_rot / 2, i = 0;
    v16 c, s, x0, x1, y0, y1;

    for (; i + 16 <= half; i += 16) {
        v_load_pairs(cos_sin + 2 * i, &c, &s);
        if (neox) {
            rotate(v_load(x + i), v_load(x + half + i), c, s, &y0, &y1);
            v_store(x + i, y0);
            v_store(x + half + i, y1);
        } else {
            v_load_pairs(x + 2 * i, &x0, &x1);
            rotate(x0, x1, c, s, &y0, &y1);
            v_store_pairs(x + 2 * i, y0, y1);
        }
    }
    for (; i < half; i++) {
        float *p0 = neox ? x + i : x + 2 * i, *p1 = neox ? x + half + i : x + 2 * i + 1;
        float cs = cos_sin[2 * i], sn = cos_sin[2 * i + 1], a = *p0, b = *p1;
        *p0 = a * cs - b * sn;
        *p1 = a * sn + b * cs;
    }
}

static float largest(const float *x, int64_t n)
{
    v16 m = v_set(-INFINITY);
    int64_t i = 0;

    for (; i + 16 <= n; i += 16)
        m = v_max(v_load(x + i), m);
    if (i < n)
        m = v_max(v_load_n(x + i, (int)(n - i), -INFINITY), m);
    return v_largest(m);
}

static float sum_exp(const float *x, int64_t n, float max)
{
    v16 sum = v_set(0), m = v_set(max);
    int64_t i = 0;

    for (; i + 16 <= n; i += 16)
        sum = v_add(sum, v_exp(v_sub(v_load(x + i), m)));
    if (i < n)
        sum = v_add(sum, v_exp(v_sub(v_load_n(x + i, (int)(n - i), -INFINITY), m)));
    return v_sum(sum);
}

static void rotate_groups(float *x, int n)
{
    const v16 by = v_set(0x1.6a09e6p-3f);        /* 1 / sqrt(32) */

    for (; n >= BM_KV_GROUP; x += BM_KV_GROUP, n -= BM_KV_GROUP) {
        v16 even, odd;
        for (int step = 0; step < 5; step++) {
            v_load_pairs(x, &even, &odd);
            v_store(x, v_add(even, odd));
            v_store(x + 16, v_sub(even, odd));
        }
        v_store(x, v_mul(v_load(x), by));
        v_store(x + 16, v_mul(v_load(x + 16), by));
    }
}

/* Up to BM_KV_GROUP values as int8 with one scale. What is not finite makes the scale, and so all values of the group, NaN. */
LANES void quantize_kv(const float *x, int n, int8_t q[BM_KV_GROUP], uint16_t *scale)
{
    uint16_t half[16];
    float wide[16];
    v16 a = v_load_n(x, n < 16 ? n : 16, 0), b = v_load_n(x + 16, n > 16 ? n - 16 : 0, 0);
    float most = v_largest(v_max(v_abs(a), v_abs(b))), taint = v_sum(v_add(v_mul(a, v_set(0)), v_mul(b, v_set(0))));

    v_store_f16(half, v_set(fminf(most / 127, 65504.0f) + taint));
    *scale = half[0];
    v_store(wide, v_load_f16(half));
    memset(q, 0, BM_KV_GROUP);
    if (!(wide[0] > 0))                          /* all zero, too small, or NaN */
        return;
    v16 inv = v_set(1 / wide[0]), low = v_set(-127), high = v_set(127);
    i_store8(q, v_to_int(v_min(v_max(v_mul(a, inv), low), high)));
    i_store8(q + 16, v_to_int(v_min(v_max(v_mul(b, inv), low), high)));
}

LANES int n_groups_of(int dim) { return (dim + BM_KV_GROUP - 1) / BM_KV_GROUP; }

static void put_k8(int8_t *to, int slot, const float *k, int dim)
{
    size_t sub = (size_t)(slot / 16), lane = (size_t)(slot & 15), n_pairs = (size_t)(dim + 1) / 2, n_groups = (size_t)n_groups_of(dim);
    uint16_t *scale = (uint16_t *)(void *)(to + 2 * BM_PAGE_TOKENS * n_pairs) + sub * n_groups * 16 + lane;
    int8_t q[BM_KV_GROUP];

    to += 2 * (sub * n_pairs * 16 + lane);
    for (int d = 0; d < dim; d += BM_KV_GROUP, scale += 16) {
        quantize_kv(k + d, dim - d < BM_KV_GROUP ? dim - d : BM_KV_GROUP, q, scale);
        for (int i = d; i < dim + dim % 2 && i < d + BM_KV_GROUP; i++)
            to[32 * (i / 2) + i % 2] = q[i - d];
    }
}

static void put_v8(int8_t *to, int slot, const float *v, int dim)
{
    uint16_t *scale = (uint16_t *)(void *)(to + BM_PAGE_TOKENS * (size_t)(dim + dim % 2)) + slot;
    int8_t q[BM_KV_GROUP];

    to += 2 * (slot / 2 * dim) + slot % 2;
    for (int d = 0; d < dim; d += BM_KV_GROUP, scale += BM_PAGE_TOKENS) {
        quantize_kv(v + d, dim - d < BM_KV_GROUP ? dim - d : BM_KV_GROUP, q, scale);
        for (int i = d; i < dim && i < d + BM_KV_GROUP; i++)
            to[2 * i] = q[i - d];
    }
}

/* x[n] as whole numbers in +-4095 times the scale that comes back. Room for n rounded up to 32, zeros there. What is not finite
 * gives NaN and zeros. */
LANES float round_row(int16_t *out, const float *x, int n)
{
    v16 most = v_set(0), taint = v_set(0), by, shift = v_set(ROUND_SHIFT);
    float largest;

    for (int i = 0; i < n; i += 16) {
        v16 a = n - i < 16 ? v_load_n(x + i, n - i, 0) : v_load(x + i);
        most = v_max(v_abs(a), most);
        taint = v_fma(a, v_set(0), taint);
    }
    largest = v_largest(most);
    if (v_any_nan(taint) || !(largest > 1e-30f)) {
        memset(out, 0, (size_t)((n + 31) / 32) * 64);
        return v_any_nan(taint) ? NAN : 0;
    }
    by = v_set(4095 / largest);
    for (int i = 0; i < n; i += 32) {
        v16 a = n - i < 16 ? v_load_n(x + i, n - i, 0) : v_load(x + i), b = v_set(0);
        if (n - i > 16)
            b = n - i < 32 ? v_load_n(x + i + 16, n - i - 16, 0) : v_load(x + i + 16);
        v_store_low(out + i, v_fma(a, by, shift), v_fma(b, by, shift));
    }
    return largest / 4095;
}

static float put_int16(int16_t *out, const float *x, int n)
{
    int16_t row[KV_DIM_MAX];
    float scale = round_row(row, x, n);

    memcpy(out, row, (size_t)n * sizeof *out);
    return scale;
}

LANES bool is_whole(bm_kv_type type) { return type == BM_KV_INT8 || type == BM_KV_INT16 || type == BM_KV_INT16_8; }

static void put_whole(bm_kv_type type, void *head, int slot, const float *x, int dim, bool is_k)
{
    int16_t row[KV_DIM_MAX];

    if (type == BM_KV_INT8) {
        (is_k ? put_k8 : put_v8)(head, slot, x, dim);
        return;
    }
    float scale = round_row(row, x, dim);
    (is_k ? bm_kv_place_k16 : bm_kv_place_v16)(head, slot, row, scale, dim);
}

static void kv_store(bm_kv_type type, void *head_k, size_t v_offset, int slot, const float *k, const float *v, int head_dim_k,
                     int head_dim_v)
{
    size_t at = (size_t)(slot / 16) * (size_t)head_dim_k * 16 + (size_t)(slot & 15);
    unsigned char *head_v = (unsigned char *)head_k + v_offset;

    if (is_whole(type)) {
        put_whole(bm_kv_type_k(type), head_k, slot, k, head_dim_k, true);
        put_whole(bm_kv_type_v(type), head_v, slot, v, head_dim_v, false);
        return;
    }
    if (type == BM_KV_F32) {
        for (int d = 0; d < head_dim_k; d++)
            ((float *)head_k)[at + 16 * (size_t)d] = k[d];
        memcpy((float *)(void *)head_v + (size_t)slot * (size_t)head_dim_v, v, (size_t)head_dim_v * sizeof *v);
        return;
    }
    for (int d = 0; d < head_dim_k; d += 16) {
        int n = head_dim_k - d < 16 ? head_dim_k - d : 16;
        uint16_t half[16];
        v_store_f16(half, v_load_n(k + d, n, 0));
        for (int i = 0; i < n; i++)
            ((uint16_t *)head_k)[at + 16 * (size_t)(d + i)] = half[i];
    }
    for (int d = 0; d < head_dim_v; d += 16) {
        int n = head_dim_v - d < 16 ? head_dim_v - d : 16;
        uint16_t half[16];
        v_store_f16(half, v_load_n(v + d, n, 0));
        memcpy((uint16_t *)(void *)head_v + (size_t)slot * (size_t)head_dim_v + d, half, (size_t)n * sizeof *half);
    }
}

/* Column k of a float tile. */
LANES v16 load_column(bm_qtype type, const unsigned char *tile, int64_t k, int64_t n_cols)
{
    if (type == BM_F32)
        return v_load((const float *)(const void *)(tile + 64 * k));
    if (type == BM_F16)
        return v_load_f16((const uint16_t *)(const void *)(tile + 32 * k));
    if ((k | 1) < n_cols) {
        const uint16_t *pair = (const uint16_t *)(const void *)(tile + 64 * (k >> 1));
        return k & 1 ? v_load_bf16_odd(pair) : v_load_bf16_even(pair);
    }
    uint16_t last[32] = { 0 };
    for (int i = 0; i < 16; i++)
        memcpy(&last[2 * i], tile + 32 * k + 2 * i, 2);
    return v_load_bf16_even(last);
}

/* y for n_tiles tiles x n_tok tokens, both constants at each call: one accumulator each, one fused multiply-add per column. */
LANES void float_block(const bm_packed *w, bm_qtype type, int64_t tile, int n_tiles, const bm_acts *x, int64_t t, int n_tok,
                       float *y, int64_t y_stride)
{
    const unsigned char *at = w->data + (size_t)tile * w->tile_bytes;
    v16 acc[FLOAT_TILES * 2][FLOAT_TOKENS];

    UNROLL
    for (int i = 0; i < n_tiles; i++)
        UNROLL
        for (int j = 0; j < n_tok; j++)
            acc[i][j] = v_set(0);
    for (int64_t k = 0; k < w->n_cols; k++) {
        v16 column[FLOAT_TILES * 2];
        UNROLL
        for (int i = 0; i < n_tiles; i++)
            column[i] = load_column(type, at + (size_t)i * w->tile_bytes, k, w->n_cols);
        UNROLL
        for (int j = 0; j < n_tok; j++) {
            v16 xk = v_set(x->f32[(t + j) * x->f32_stride + k]);
            UNROLL
            for (int i = 0; i < n_tiles; i++)
                acc[i][j] = v_fma(column[i], xk, acc[i][j]);
        }
    }
    UNROLL
    for (int i = 0; i < n_tiles; i++)
        UNROLL
        for (int j = 0; j < n_tok; j++) {
            int64_t row = (tile + i) * BM_TILE_ROWS, left = w->n_rows - row;
            if (left >= BM_TILE_ROWS)
                v_store(y + (t + j) * y_stride + row, acc[i][j]);
            else
                v_store_n(y + (t + j) * y_stride + row, acc[i][j], (int)left);
        }
}

LANES void float_matmul(const bm_packed *w, bm_qtype type, int64_t tile, int64_t tile_end, const bm_acts *x, int64_t t_begin,
                        int64_t t_end, float *y, int64_t y_stride)
{
    int64_t t;

    for (; tile + FLOAT_TILES <= tile_end; tile += FLOAT_TILES) {
        for (t = t_begin; t + FLOAT_TOKENS <= t_end; t += FLOAT_TOKENS)
            float_block(w, type, tile, FLOAT_TILES, x, t, FLOAT_TOKENS, y, y_stride);
        for (; t < t_end; t++)
            float_block(w, type, tile, FLOAT_TILES, x, t, 1, y, y_stride);
    }
    for (; tile < tile_end; tile++) {
        for (t = t_begin; t + FLOAT_TOKENS <= t_end; t += FLOAT_TOKENS)
            float_block(w, type, tile, 1, x, t, FLOAT_TOKENS, y, y_stride);
        for (; t < t_end; t++)
            float_block(w, type, tile, 1, x, t, 1, y, y_stride);
    }
}

/* True when w holds floats: then the product is done. */
static bool matmul_floats(const bm_packed *w, int64_t tile_begin, int64_t tile_end, const bm_acts *x, int64_t t_begin,
                          int64_t t_end, float *y, int64_t y_stride)
{
    switch (w->type) {
    case BM_F32: float_matmul(w, BM_F32, tile_begin, tile_end, x, t_begin, t_end, y, y_stride); return true;
    case BM_F16: float_matmul(w, BM_F16, tile_begin, tile_end, x, t_begin, t_end, y, y_stride); return true;
    case BM_BF16: float_matmul(w, BM_BF16, tile_begin, tile_end, x, t_begin, t_end, y, y_stride); return true;
    default: return false;
    }
}

#include "compute/kernels_attn.h"
#include "compute/kernels_lora.h"
#include "compute/kernels_back.h"

#define BM_KERNELS_TABLE(which, product) { \
    .isa = which, .quantize_row = quantize_row, .quantize_rows = quantize_rows, .matmul = product, .rmsnorm = rmsnorm, .layernorm = layernorm, \
    .silu_mul = silu_mul, .gelu_tanh_mul = gelu_tanh_mul, .add = add, .scale = scale, .softcap = softcap, .rope = rope, \
    .rotate = rotate_groups, .kv_store = kv_store, .attn_span = attn_span, .max = largest, .sum_exp = sum_exp, \
    .lora_a = lora_a, .lora_b = lora_b, \
    .silu_back = silu_back, .gelu_tanh_back = gelu_tanh_back, .rmsnorm_back = rmsnorm_back, .layernorm_back = layernorm_back, \
    .attn_back = attn_back, .softmax_back = softmax_back, .dot = dot_product, .put_f16 = put_f16, .get_f16 = get_f16, .put_int16 = put_int16 }
