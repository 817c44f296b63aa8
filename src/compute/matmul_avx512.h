/* matmul_avx512.h - quantised products with VNNI. Two ways, the same arithmetic:
 * - one token: a tile's groups are unpacked in registers and used at once; the read of the weights is what it costs;
 * - more: a group of 32 columns of two tiles is unpacked into 16 registers and used for all tokens of a block, 2 or 4 at a time;
 *   the float accumulators rest in `sums`, which stay in L1. Nothing unpacked ever goes through memory, so it costs little even
 *   with few tokens, and the read of weights ahead is spread over the products. */
#pragma once
#include "compute/kernels.h"
#include "compute/unpack_avx512.h"

enum { BLOCK_TOKENS = 96, PREFETCH_BYTES = 2048 };
/* Rows of activations longer than this are too far apart for the CPU to fetch ahead by itself: half as many stay in L1. */
enum { LONG_COLS = 2048 };
/* Outputs of a matrix of so many rows (a head's) are in no cache when they are written: their lines are fetched ahead. */
enum { FAR_ROWS = 16384 };

INLINE __m512i broadcast4(const void *p)
{
    int32_t v;

    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

typedef float pair_sums[2][16];

/* Two tiles' codes and scales of a group. Codes of the forms without a minimum are level + 128: offset32 corrects them all. */
typedef struct pair_group {
    __m512i code[2][8];
    scales512 s[2];
} pair_group;

INLINE void unpack_raised(bm_qtype type, const unsigned char *q, __m512i code[8])
{
    unpack_codes(type, q, code);
    if ((form_of(type) == BM_FORM_D || form_of(type) == BM_FORM_SUB) && zero_of(type) != 128)
        UNROLL
        for (int k = 0; k < 8; k++)
            code[k] = _mm512_add_epi8(code[k], _mm512_set1_epi8((char)(128 - zero_of(type))));
}

/* What the dots of half h of a group begin with. */
INLINE __m512i dot_start(int form, const bm_acts *x, int64_t at, int h)
{
    return form == BM_FORM_D ? broadcast4(&x->offset32[at])
         : form == BM_FORM_SUB || form == BM_FORM_D16 ? broadcast4(&x->offset16[2 * at + h]) : _mm512_setzero_si512();
}

/* acc and what the block of one token adds to it, given its integer dots; `at`: index of token and block in the arrays of x. */
INLINE __m512 add_block(int form, const scales512 *w, const bm_acts *x, int64_t at, __m512i i0, __m512i i1, __m512 acc)
{
    __m512 s = _mm512_set1_ps(x->scale[at]), f = _mm512_cvtepi32_ps(i0);

    if (form == BM_FORM_D16)
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(i1), _mm512_mul_ps(w->m, s), _mm512_fmadd_ps(f, _mm512_mul_ps(w->d, s), acc));
    if (form == BM_FORM_SUB || form == BM_FORM_SUBMIN)
        f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(i1), w->sub[1], _mm512_mul_ps(f, w->sub[0]));       /* whole, below 2^24: exact */
    acc = _mm512_fmadd_ps(f, _mm512_mul_ps(w->d, s), acc);
    if (form == BM_FORM_DM)
        acc = _mm512_fmadd_ps(w->m, _mm512_set1_ps(x->scaled_sum[at]), acc);
    if (form == BM_FORM_SUBMIN) {
        f = _mm512_mul_ps(w->min[0], _mm512_set1_ps((float)x->sum16[2 * at]));
        f = _mm512_fmadd_ps(w->min[1], _mm512_set1_ps((float)x->sum16[2 * at + 1]), f);
        acc = _mm512_fnmadd_ps(f, _mm512_mul_ps(w->m, s), acc);
    }
    return acc;
}

/* The products of a group with n_tok tokens (a constant), whose chains of dots run beside each other. */
INLINE void pair_tokens(int form, const pair_group *g, const bm_acts *x, const int8_t *q, int64_t at, int n_tok, pair_sums *sums)
{
    const bool halves_apart = form >= BM_FORM_D16;
    __m512i dot[2][2][4];

    UNROLL
    for (int h = 0; h < 2; h++) {
        int to = halves_apart ? h : 0;
        if (h == to)
            UNROLL
            for (int j = 0; j < n_tok; j++)
                dot[to][0][j] = dot[to][1][j] = dot_start(form, x, at + j * x->s_stride, h);
        UNROLL
        for (int k = 4 * h; k < 4 * h + 4; k++)
            UNROLL
            for (int j = 0; j < n_tok; j++) {
                __m512i b = broadcast4(q + j * x->q_stride + 4 * k);
                dot[to][0][j] = _mm512_dpbusd_epi32(dot[to][0][j], g->code[0][k], b);
                dot[to][1][j] = _mm512_dpbusd_epi32(dot[to][1][j], g->code[1][k], b);
            }
    }
    UNROLL
    for (int j = 0; j < n_tok; j++)
        UNROLL
        for (int c = 0; c < 2; c++)
            _mm512_store_ps(sums[j][c], add_block(form, &g->s[c], x, at + j * x->s_stride, dot[0][c][j], dot[1][c][j],
                                                  _mm512_load_ps(sums[j][c])));
}

static void store_rows(float *y, __m512 v, int64_t rows)
{
    if (rows >= 16)
        _mm512_storeu_ps(y, v);
    else if (rows > 0)
        _mm512_mask_storeu_ps(y, (__mmask16)((1u << rows) - 1), v);
}

/* Tiles tile and tile + 1 (the second only if `two`: else it repeats the first and is not stored), n <= BLOCK_TOKENS tokens. */
INLINE void matmul_pair(bm_qtype type, const bm_packed *w, int64_t tile, bool two, const bm_acts *acts, int64_t t, int n, float *y,
                        int64_t y_stride)
{
    const bm_acts own = *acts, *x = &own;                /* a store to sums could change *acts, for all that C knows */
    const int form = form_of(type), per_block = groups_per_block(type);
    const int step = form == BM_FORM_D || form == BM_FORM_DM ? 4 : 2;
    const unsigned char *head = w->data + (size_t)tile * w->tile_bytes, *q = head + bm_tile_quants(w);
    const size_t second = two ? w->tile_bytes : 0, heads = bm_tile_quants(w);
    const int n_groups = (int)(w->n_cols / BM_GROUP), near_end = n_groups - PREFETCH_BYTES / group_bytes_of(type);
    const size_t jump = w->n_rows > (tile + 2) * BM_TILE_ROWS ? w->tile_bytes + heads : 0;        /* to the quants of the next pair */
    const int late = w->n_rows < FAR_ROWS ? n_groups : n_groups > n ? n_groups - n : 0;      /* a token's in each of the last groups */
    _Alignas(64) pair_sums sums[BLOCK_TOKENS];

    memset(sums, 0, (size_t)n * sizeof *sums);
    for (int i = 0; i < n_groups; i++, q += group_bytes_of(type)) {
        const int8_t *xq = x->q + t * x->q_stride + (int64_t)i * BM_GROUP;
        int64_t at = t * x->s_stride + i;
        const char *soon = (const char *)q + PREFETCH_BYTES + (i < near_end ? 0 : jump);
        pair_group g;
        int j = 0;
        for (int to = i - late; to >= 0 && to < n; to += n_groups) {
            __builtin_prefetch(y + (t + to) * y_stride + tile * BM_TILE_ROWS, 1);
            __builtin_prefetch(y + (t + to) * y_stride + (tile + 1) * BM_TILE_ROWS, 1);
        }
        UNROLL
        for (int c = 0; c < 2; c++) {
            UNROLL
            for (int b = 0; b < group_bytes_of(type); b += 64)
                _mm_prefetch(soon + c * second + b, _MM_HINT_T0);
            if (64 * (size_t)i < heads)
                _mm_prefetch((const char *)head + (2 + c) * second + 64 * i, _MM_HINT_T0);
            unpack_raised(type, q + c * second, g.code[c]);
            unpack_scales(type, head + c * second + i / per_block * head_bytes_of(type), i % per_block, &g.s[c]);
        }
        for (; j + step <= n; j += step, xq += step * x->q_stride, at += step * x->s_stride)
            pair_tokens(form, &g, x, xq, at, step, sums + j);
        if (step == 4 && n - j >= 2) {
            pair_tokens(form, &g, x, xq, at, 2, sums + j);
            j += 2, xq += 2 * x->q_stride, at += 2 * x->s_stride;
        }
        if (j < n)
            pair_tokens(form, &g, x, xq, at, 1, sums + j);
    }
    for (int j = 0; j < n; j++)
        for (int c = 0; c <= two; c++)
            store_rows(y + (t + j) * y_stride + (tile + c) * BM_TILE_ROWS, _mm512_load_ps(sums[j][c]),
                       w->n_rows - (tile + c) * BM_TILE_ROWS);
}

/* One tile, one token. */
INLINE __m512 tile_token(bm_qtype type, const bm_packed *w, size_t quants, int64_t tile, const bm_acts *x, int64_t t)
{
    const unsigned char *head = w->data + (size_t)tile * w->tile_bytes, *q = head + quants;
    const int form = form_of(type), per_block = groups_per_block(type);
    const int8_t *xq = x->q + t * x->q_stride;
    const int64_t n_groups = w->n_cols / BM_GROUP;
    int64_t at = t * x->s_stride;
    __m512 acc = _mm512_setzero_ps();

    for (int64_t g = 0; g < n_groups; head += head_bytes_of(type))
        for (int i = 0; i < per_block; i++, g++, at++, q += group_bytes_of(type), xq += BM_GROUP) {
            __m512i code[8], dot[2];
            scales512 s;
            UNROLL
            for (int b = 0; b < group_bytes_of(type); b += 64)
                _mm_prefetch((const char *)q + PREFETCH_BYTES + b, _MM_HINT_T0);
            unpack_codes(type, q, code);
            unpack_scales(type, head, i, &s);
            dot[0] = dot_start(form, x, at, 0);
            dot[1] = form >= BM_FORM_D16 ? dot_start(form, x, at, 1) : _mm512_setzero_si512();
            if (form == BM_FORM_D || form == BM_FORM_SUB) {
                int zero = zero_of(type), by = zero == 1 ? 7 : zero == 4 ? 5 : zero == 8 ? 4 : zero == 16 ? 3 : zero == 32 ? 2 : 0;
                dot[0] = _mm512_srai_epi32(dot[0], (unsigned)by);                /* -128 * sum to -zero * sum, exact */
                dot[1] = _mm512_srai_epi32(dot[1], (unsigned)by);
            }
            UNROLL
            for (int k = 0; k < 4; k++) {                                      /* two chains */
                dot[0] = _mm512_dpbusd_epi32(dot[0], code[k], broadcast4(xq + 4 * k));
                dot[1] = _mm512_dpbusd_epi32(dot[1], code[k + 4], broadcast4(xq + 4 * k + 16));
            }
            if (form < BM_FORM_D16)
                dot[0] = _mm512_add_epi32(dot[0], dot[1]);
            acc = add_block(form, &s, x, at, dot[0], dot[1], acc);
        }
    return acc;
}

INLINE void matvec(bm_qtype type, const bm_packed *w, int64_t tile, int64_t tile_end, const bm_acts *x, int64_t t, float *y)
{
    const size_t quants = bm_tile_quants(w);

    for (; tile < tile_end; tile++)
        store_rows(y + tile * BM_TILE_ROWS, tile_token(type, w, quants, tile, x, t), w->n_rows - tile * BM_TILE_ROWS);
}

/* A function per type, so that the one dispatch on it is per call. */
#define TYPE_FNS(name, type) \
    static __attribute__((noinline)) void matvec_##name(const bm_packed *w, int64_t tile, int64_t tile_end, const bm_acts *x, \
                                                        int64_t t, float *y) \
    { matvec(type, w, tile, tile_end, x, t, y); } \
    static __attribute__((noinline)) void pair_##name(const bm_packed *w, int64_t tile, bool two, const bm_acts *x, int64_t t, int n, \
                                                      float *y, int64_t y_stride) \
    { matmul_pair(type, w, tile, two, x, t, n, y, y_stride); }
TYPE_FNS(q4_0, BM_Q4_0)
TYPE_FNS(q4_1, BM_Q4_1)
TYPE_FNS(q5_0, BM_Q5_0)
TYPE_FNS(q5_1, BM_Q5_1)
TYPE_FNS(q8_0, BM_Q8_0)
TYPE_FNS(q2_k, BM_Q2_K)
TYPE_FNS(q3_k, BM_Q3_K)
TYPE_FNS(q4_k, BM_Q4_K)
TYPE_FNS(q5_k, BM_Q5_K)
TYPE_FNS(q6_k, BM_Q6_K)
TYPE_FNS(iq4_nl, BM_IQ4_NL)
TYPE_FNS(iq4_xs, BM_IQ4_XS)
TYPE_FNS(mxfp4, BM_MXFP4)
TYPE_FNS(iq1_s, BM_IQ1_S)
TYPE_FNS(iq1_m, BM_IQ1_M)
TYPE_FNS(iq2_xxs, BM_IQ2_XXS)
TYPE_FNS(iq2_xs, BM_IQ2_XS)
TYPE_FNS(iq2_s, BM_IQ2_S)
TYPE_FNS(iq3_xxs, BM_IQ3_XXS)
TYPE_FNS(iq3_s, BM_IQ3_S)
TYPE_FNS(tq1_0, BM_TQ1_0)
TYPE_FNS(tq2_0, BM_TQ2_0)
TYPE_FNS(q1_0, BM_Q1_0)
TYPE_FNS(q2_0, BM_Q2_0)
TYPE_FNS(nvfp4, BM_NVFP4)

typedef struct type_fns {
    void (*matvec)(const bm_packed *w, int64_t tile, int64_t tile_end, const bm_acts *x, int64_t t, float *y);
    void (*pair)(const bm_packed *w, int64_t tile, bool two, const bm_acts *x, int64_t t, int n, float *y, int64_t y_stride);
} type_fns;

#define FNS(name) { matvec_##name, pair_##name }
static const type_fns fns[BM_QTYPE_END] = {
    [BM_Q4_0] = FNS(q4_0), [BM_Q4_1] = FNS(q4_1), [BM_Q5_0] = FNS(q5_0), [BM_Q5_1] = FNS(q5_1),
    [BM_Q8_0] = FNS(q8_0), [BM_Q2_K] = FNS(q2_k), [BM_Q3_K] = FNS(q3_k), [BM_Q4_K] = FNS(q4_k),
    [BM_Q5_K] = FNS(q5_k), [BM_Q6_K] = FNS(q6_k), [BM_IQ4_NL] = FNS(iq4_nl), [BM_IQ4_XS] = FNS(iq4_xs),
    [BM_MXFP4] = FNS(mxfp4), [BM_IQ1_S] = FNS(iq1_s), [BM_IQ1_M] = FNS(iq1_m), [BM_IQ2_XXS] = FNS(iq2_xxs),
    [BM_IQ2_XS] = FNS(iq2_xs), [BM_IQ2_S] = FNS(iq2_s), [BM_IQ3_XXS] = FNS(iq3_xxs), [BM_IQ3_S] = FNS(iq3_s),
    [BM_TQ1_0] = FNS(tq1_0), [BM_TQ2_0] = FNS(tq2_0), [BM_Q1_0] = FNS(q1_0), [BM_Q2_0] = FNS(q2_0),
    [BM_NVFP4] = FNS(nvfp4),
};

static void matmul(const bm_packed *w, int64_t tile_begin, int64_t tile_end, const bm_acts *x, int64_t t_begin, int64_t t_end,
                   float *y, int64_t y_stride)
{
    const int64_t block = w->n_cols > LONG_COLS ? BLOCK_TOKENS / 2 : BLOCK_TOKENS;

    if (matmul_floats(w, tile_begin, tile_end, x, t_begin, t_end, y, y_stride))
        return;
    if (t_end - t_begin == 1) {
        fns[w->type].matvec(w, tile_begin, tile_end, x, t_begin, y + t_begin * y_stride);
        return;
    }
    for (int64_t t = t_begin; t < t_end; t += block)
        for (int64_t tile = tile_begin; tile < tile_end; tile += 2)
            fns[w->type].pair(w, tile, tile + 1 < tile_end, x, t, (int)(t_end - t < block ? t_end - t : block), y, y_stride);
}
