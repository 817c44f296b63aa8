/* kernels.h - one table of kernels per instruction set, all with the same meaning; the scalar one is the specification.
 *
 * Every float result is defined down to the order of operations, so that all instruction sets give the same bits:
 * - products of int8 blocks are exact integers; per 32 columns, in ascending order, fused multiply-adds into one f32
 *   accumulator per (row, token). With I = the sum of level * q over the block, s = its scale in X, S = sum of q:
 *     D:       acc = fma((float)I, d * s, acc)                    Q4_0 Q5_0 Q8_0 IQ4_NL MXFP4 TQ1_0 TQ2_0 Q1_0 Q2_0;
 *              IQ4_XS IQ1_S IQ2_XXS IQ3_XXS IQ3_S with d = d * (float)sub-scale (* 1/8 or 1/4)
 *     D + M:   the same, then acc = fma(m, s * (float)S, acc)     Q4_1 Q5_1; Q4_K Q5_K with d = d * (float)scale, m = -(dmin * (float)min)
 *     D16:     acc = fma((float)I0, d0 * s, acc), then acc = fma((float)I1, d1 * s, acc) for the two 16s            NVFP4
 *     sub:     I = sub0 * I0 + sub1 * I1 over the two 16s, then as D                                         Q3_K Q6_K
 *                                                                                                         IQ1_M IQ2_XS IQ2_S
 *     sub min: the same, then acc = fma((float)(min0 * S0 + min1 * S1), -(dmin * s), acc)                    Q2_K
 *   every product in brackets rounded once. Float weights: acc = fma(w, x, acc), column by column;
 * - reductions over a vector use 16 partial sums (element i goes to partial i mod 16, fused multiply-add), then a fixed
 *   tree: partials p and p+8, then p+4, p+2, p+1;
 * - exp is one polynomial, the same in every table.
 * A result never depends on how many tokens, tiles or threads share a call. Where a table must differ (bf16 dot products),
 * the difference and its bound stand in the tolerance table of tests/compute.
 * Shapes: docs/SHAPES.md. All pointers 64-byte aligned unless said otherwise; no aliasing unless said. Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "compute/cpu.h"
#include "compute/pack.h"

enum { BM_ACT_BLOCK = 32 };

/* Activations X[T, K] as a matrix product wants them. For quantised weights: int8 per token and per 32 columns,
 * x = scale * q, q in [-127, 127]: the better of two grids, max|x| / 127 and max|x| / 120, by squared error after a least-squares
 * fit of scale (0 for an all-zero block); sum16 holds the sum of q over each 16.
 * For float weights (F32 F16 BF16) the f32 rows are used as they are. Memory is the caller's (bm_acts_bytes). */
typedef struct bm_acts {
    int64_t n_tokens, n_cols;    /* T, K */
    int8_t *q;                   /* [T][q_stride] bytes; q_stride = K rounded up to 64 */
    float *scale;                /* [T][s_stride], s_stride = K/32 rounded up to 16 */
    int16_t *sum16;              /* [T][2*s_stride] */
    float *scaled_sum;           /* [T][s_stride]: scale * (sum of the 32 q), for types with a minimum */
    int32_t *offset32;           /* [T][s_stride]: -128 * sum: what unsigned weights (level + 128) count too much */
    int32_t *offset16;           /* [T][2*s_stride]: the same per 16 */
    int64_t q_stride, s_stride;
    const float *f32;            /* [T][f32_stride]: set by the caller when weights are floats, else may be NULL */
    int64_t f32_stride;
} bm_acts;
#define BM_ACT_TINY 1e-18f       /* a block whose largest |x| is not above this counts as zero */
#define BM_ACT_HUGE 1e16f        /* from here on the plain scale max|x| / 127: squares would overflow */
size_t bm_acts_bytes(int64_t max_tokens, int64_t n_cols);                   /* for all of the above but f32 */
void   bm_acts_place(bm_acts *a, void *memory, int64_t max_tokens, int64_t n_cols);

/* INT8: per position and BM_KV_GROUP dimensions one f16 scale; a value is (float)q * (float)scale, q in [-127, 127], scale the
 * largest magnitude / 127. Callers rotate q, k and v before (and what comes out, after): a few dimensions of a head are far larger
 * than the rest, and spread over the group they cost all of it less.
 * INT16: per position and head one f32 scale, the largest magnitude / 4095; a value is (float)q * scale, q in [-4095, 4095].
 * Attention rounds its query rows likewise, so that its products are sums of whole numbers.
 * INT16_8: K as in INT16, V as in INT8: what a model whose keys have biases makes of INT8. */
typedef enum bm_kv_type { BM_KV_F32, BM_KV_F16, BM_KV_INT8, BM_KV_INT16, BM_KV_INT16_8, BM_KV_TYPE_COUNT } bm_kv_type;
bm_kv_type bm_kv_type_k(bm_kv_type type);                /* of K alone, and of V: what is not INT16_8 is both */
bm_kv_type bm_kv_type_v(bm_kv_type type);
int  bm_kv_type_find(bm_kv_type *out, const char *name, bm_error *err);     /* int16, int8 or f16; BM_INVALID names them */
enum { BM_PAGE_TOKENS = 64, BM_ATTN_SPAN = 1024, BM_KV_GROUP = 32 };     /* positions per page, per partial of attention */

/* One layer's part of a page holds K, then V, of each kv-head. Floats: K as [64/16][head_dim][16 positions], V as [64][head_dim].
 * INT8 and INT16: K as [64/16][head_dim/2][16 positions][2], with 0 behind an odd last dimension, V as [64/2][head_dim][2 positions]
 * with room for an even number of dimensions, and behind each its scales: INT16 [64]; INT8 of K [64/16][groups][16 positions], of V
 * [groups][64]. Fresh pages are zeroed, so that masked positions hold finite values. */
size_t bm_kv_page_bytes(bm_kv_type type, int n_kv_heads, int head_dim_k, int head_dim_v);     /* one layer, one page */
/* K, or V, of one head: where V begins behind K. The type is that of K, or of V, alone. */
size_t bm_kv_side_bytes(bm_kv_type type, int head_dim);

/* Put one token's k, or v, of one kv-head, rounded already, at place `slot` of a page of INT16. */
void bm_kv_place_k16(void *head_k, int slot, const int16_t *k, float scale, int head_dim);
void bm_kv_place_v16(void *head_v, int slot, const int16_t *v, float scale, int head_dim);

/* Attention of query rows against one kv-head over the positions of one span. A query row is one (token, head of the group);
 * row r sees positions [first[r], last[r]] (inclusive), clipped to the span; rows without any position give m = -inf, l = 0. */
typedef struct bm_attn_span {
    bm_kv_type type;
    int head_dim_k, head_dim_v;  /* multiples of 16 are the fast case; any multiple of 2 works */
    int n_rows;                  /* query rows, at most BM_ATTN_ROWS */
    const float *const *q;       /* [n_rows] -> head_dim_k floats, after RoPE, not scaled */
    const int32_t *first, *last; /* [n_rows] */
    float scale;                 /* multiplies q.k */
    float softcap;               /* 0: none; else s = cap * tanh(s / cap) */
    int32_t span_begin;          /* a multiple of BM_ATTN_SPAN */
    int32_t span_end;            /* exclusive, <= span_begin + BM_ATTN_SPAN */
    const void *const *pages;    /* page of position p: pages[p / 64], the start of this layer's and this head's K there */
    size_t v_offset;             /* bytes from this head's K to its V in a page */
    float *m, *l;                /* [n_rows] out: running maximum and sum of exp */
    float *const *acc;           /* [n_rows] -> head_dim_v floats out: sum of exp(s - m) * V */
} bm_attn_span;
enum { BM_ATTN_ROWS = 64 };

typedef struct bm_kernels {
    bm_isa isa;
    /* q, scale, sum16 of token t from x[K]. K need not be a multiple of 32 only when no quantised weight uses it. */
    void (*quantize_row)(bm_acts *a, int64_t t, const float *x);
    /* The same for rows [t_begin, t_end), row t_begin from x: faster than one by one when rows are short. */
    void (*quantize_rows)(bm_acts *a, int64_t t_begin, int64_t t_end, const float *x, int64_t x_stride);
    /* y[t][n] = sum_k W[n, k] X[t, k] for rows of tiles [tile_begin, tile_end) and tokens [t_begin, t_end);
     * y + t * y_stride + n, only n < N is written; y unaligned is fine. */
    void (*matmul)(const bm_packed *w, int64_t tile_begin, int64_t tile_end, const bm_acts *x, int64_t t_begin, int64_t t_end,
                   float *y, int64_t y_stride);
    /* out[i] = x[i] / sqrt(mean(x^2) + eps) * (weight[i]); weight may be NULL; out may be x; unaligned is fine. */
    void (*rmsnorm)(float *out, const float *x, const float *weight, int64_t n, float eps);
    void (*layernorm)(float *out, const float *x, const float *weight, const float *bias, int64_t n, float eps);
    /* out = act(gate) * up, elementwise; out may be gate. */
    void (*silu_mul)(float *out, const float *gate, const float *up, int64_t n);
    void (*gelu_tanh_mul)(float *out, const float *gate, const float *up, int64_t n);
    void (*add)(float *x, const float *y, int64_t n);                       /* x += y */
    void (*scale)(float *x, float by, int64_t n);
    void (*softcap)(float *x, float cap, int64_t n);                        /* x = cap * tanh(x / cap) */
    /* Rotate head vectors in place. x[head_dim], n_rot <= head_dim of them (even); cos_sin[n_rot] = cos0 sin0 cos1 sin1 ...
     * for this position. neox: pairs (i, i + n_rot/2); else (2i, 2i+1). */
    void (*rope)(float *x, const float *cos_sin, int n_rot, bool neox);
    /* Each whole group of BM_KV_GROUP of x[n] becomes its Walsh-Hadamard transform / sqrt(BM_KV_GROUP): its own inverse, and what
     * keeps q.k. For KV in INT8. In five steps of y[i] = x[2i] + x[2i+1], y[16+i] = x[2i] - x[2i+1]. */
    void (*rotate)(float *x, int n);
    /* Store one token's k[head_dim_k] and v[head_dim_v] of one kv-head at place `slot` (0..63) of a page (see above). */
    void (*kv_store)(bm_kv_type type, void *head_k, size_t v_offset, int slot, const float *k, const float *v,
                     int head_dim_k, int head_dim_v);
    void (*attn_span)(const bm_attn_span *s);
    float (*max)(const float *x, int64_t n);
    /* sum over x of exp(x - max), the 16-partial order above; for log-probabilities. */
    float (*sum_exp)(const float *x, int64_t n, float max);
    /* The two products of an adapter; A and B are F32 or BF16. h[t][r] = sum_k A[r, k] x[t][k] for all rows of A's tiles (those
     * that pad are written too), as (p0 + p1) + (p2 + p3) with p_j the chain of fused multiply-adds over k = j mod 4. */
    void (*lora_a)(const bm_packed *a, const float *x, int64_t x_stride, int64_t n_tokens, float *h, int64_t h_stride);
    /* y[t][n] += sum_k B[n, k] h[t][k] for rows n of tiles [tile_begin, tile_end); y is where row 16 * tile_begin of token 0
     * stands. K is even. The sum is p0 + p1, the chains over even and odd k; it is added to y last. */
    void (*lora_b)(const bm_packed *b, int64_t tile_begin, int64_t tile_end, const float *h, int64_t h_stride, int64_t n_tokens,
                   float *y, int64_t y_stride);

    /* What only training needs; unaligned is fine throughout. Activation: h = act(gate) * up, and gate and up become the gradients
     * of gate and up when dh is that of h. h may be dh. */
    void (*silu_back)(float *gate, float *up, const float *dh, float *h, int64_t n);
    void (*gelu_tanh_back)(float *gate, float *up, const float *dh, float *h, int64_t n);
    /* dx = (add ? dx : 0) + the gradient of x when dy is that of norm(x). dx may be dy. */
    void (*rmsnorm_back)(float *dx, const float *dy, const float *x, const float *weight, int64_t n, float eps, bool add);
    void (*layernorm_back)(float *dx, const float *dy, const float *x, const float *weight, int64_t n, float eps, bool add);
    /* Scores q.k of one query row become p = exp(cap(by * s) - lse); ds, in: the gradients of p, becomes those of q.k, delta being
     * the sum of p * dp over the whole row. cap(x) = cap * tanh(x / cap), or x when cap is 0. */
    void (*attn_back)(float *s, float *ds, int64_t n, float by, float cap, float lse, float delta);
    /* Logits x (capped already) become by * (1 - (x / cap)^2) * exp(x - lse), cap 0: by * exp(x - lse). */
    void (*softmax_back)(float *x, int64_t n, float lse, float cap, float by);
    float (*dot)(const float *x, const float *y, int64_t n);        /* the 16-partial order above */
    void (*put_f16)(uint16_t *out, const float *x, int64_t n);      /* clamped to the largest half float */
    void (*get_f16)(float *out, const uint16_t *x, int64_t n);
    float (*put_int16)(int16_t *out, const float *x, int n);        /* a row of one head as KV in INT16; the scale */
} bm_kernels;

/* The table of an instruction set; NULL when it was not built for this architecture. Whether the CPU can run it is bm_isa_usable's. */
const bm_kernels *bm_kernels_get(bm_isa isa);
