/* matmul_avx512.h - quantised products with VNNI. Two ways, the same arithmetic:
 * - one token: a tile's groups are unpacked in registers and used at once; the read of the weights is what it costs;
 * - more: a panel of two tiles x 512 columns is unpacked once into 16 KB that stay in L1, then blocks of 2 tiles x 6 tokens
 *   hold 12 integer and 12 float accumulators in registers. Between panels the accumulators rest in `sums`. */
#pragma once
#include "compute/kernels.h"
#include "compute/unpack_avx512.h"

enum { PANEL_GROUPS = 16, PANEL_TOKENS = 96, PREFETCH_BYTES = 2048 };

/* 16 rows x PANEL_GROUPS groups. Codes of the forms without a minimum are level + 128, so that offset32 corrects them all. */
typedef struct panel {
    _Alignas(64) unsigned char code[PANEL_GROUPS][8][64];
    float d[PANEL_GROUPS][16], m[PANEL_GROUPS][16], sub[PANEL_GROUPS][2][16], min[PANEL_GROUPS][2][16];
} panel;

INLINE void unpack_panel(bm_qtype type, const unsigned char *head, const unsigned char *q, int n_groups, panel *p)
{
    const int form = form_of(type), per_block = groups_per_block(type);
    const __m512i raise = _mm512_set1_epi8((char)(128 - zero_of(type)));

    for (int i = 0; i < n_groups; i++, q += group_bytes_of(type)) {
        __m512i w[8];
        scales512 s;
        unpack_codes(type, q, w);
        UNROLL
        for (int j = 0; j < 8; j++) {
            if ((form == BM_FORM_D || form == BM_FORM_SUB) && zero_of(type) != 128)
                w[j] = _mm512_add_epi8(w[j], raise);
            _mm512_store_si512((void *)p->code[i][j], w[j]);
        }
        UNROLL
        for (int b = 0; b < group_bytes_of(type); b += 64)
            _mm_prefetch((const char *)q + group_bytes_of(type) * PANEL_GROUPS + b, _MM_HINT_T0);
        unpack_scales(type, head + i / per_block * head_bytes_of(type), i % per_block, &s);
        _mm512_store_ps(p->d[i], s.d);
        if (form == BM_FORM_DM || form == BM_FORM_SUBMIN || form == BM_FORM_D16)
            _mm512_store_ps(p->m[i], s.m);
        UNROLL
        for (int h = 0; h < 2 && form >= BM_FORM_SUB; h++) {
            _mm512_store_ps(p->sub[i][h], s.sub[h]);
            if (form == BM_FORM_SUBMIN)
                _mm512_store_ps(p->min[i][h], s.min[h]);
        }
    }
}

/* A function per type, so that the one dispatch on it is per panel. */
#define PANEL_FN(name, type) \
    static __attribute__((noinline)) void name(const unsigned char *head, const unsigned char *q, int n, panel *p) \
    { unpack_panel(type, head, q, n, p); }
PANEL_FN(panel_q4_0, BM_Q4_0)
PANEL_FN(panel_q4_1, BM_Q4_1)
PANEL_FN(panel_q5_0, BM_Q5_0)
PANEL_FN(panel_q5_1, BM_Q5_1)
PANEL_FN(panel_q8_0, BM_Q8_0)
PANEL_FN(panel_q2_k, BM_Q2_K)
PANEL_FN(panel_q3_k, BM_Q3_K)
PANEL_FN(panel_q4_k, BM_Q4_K)
PANEL_FN(panel_q5_k, BM_Q5_K)
PANEL_FN(panel_q6_k, BM_Q6_K)
PANEL_FN(panel_iq4_nl, BM_IQ4_NL)
PANEL_FN(panel_iq4_xs, BM_IQ4_XS)
PANEL_FN(panel_mxfp4, BM_MXFP4)
PANEL_FN(panel_iq1_s, BM_IQ1_S)
PANEL_FN(panel_iq1_m, BM_IQ1_M)
PANEL_FN(panel_iq2_xxs, BM_IQ2_XXS)
PANEL_FN(panel_iq2_xs, BM_IQ2_XS)
PANEL_FN(panel_iq2_s, BM_IQ2_S)
PANEL_FN(panel_iq3_xxs, BM_IQ3_XXS)
PANEL_FN(panel_iq3_s, BM_IQ3_S)
PANEL_FN(panel_tq1_0, BM_TQ1_0)
PANEL_FN(panel_tq2_0, BM_TQ2_0)
PANEL_FN(panel_q1_0, BM_Q1_0)
PANEL_FN(panel_q2_0, BM_Q2_0)
PANEL_FN(panel_nvfp4, BM_NVFP4)

typedef void panel_fn(const unsigned char *head, const unsigned char *q, int n_groups, panel *p);
static panel_fn *const panel_fns[BM_QTYPE_END] = {
    [BM_Q4_0] = panel_q4_0, [BM_Q4_1] = panel_q4_1, [BM_Q5_0] = panel_q5_0, [BM_Q5_1] = panel_q5_1, [BM_Q8_0] = panel_q8_0,
    [BM_Q2_K] = panel_q2_k, [BM_Q3_K] = panel_q3_k, [BM_Q4_K] = panel_q4_k, [BM_Q5_K] = panel_q5_k, [BM_Q6_K] = panel_q6_k,
    [BM_IQ4_NL] = panel_iq4_nl, [BM_IQ4_XS] = panel_iq4_xs, [BM_MXFP4] = panel_mxfp4,
    [BM_IQ1_S] = panel_iq1_s, [BM_IQ1_M] = panel_iq1_m, [BM_IQ2_XXS] = panel_iq2_xxs, [BM_IQ2_XS] = panel_iq2_xs, [BM_IQ2_S] = panel_iq2_s,
    [BM_IQ3_XXS] = panel_iq3_xxs, [BM_IQ3_S] = panel_iq3_s, [BM_TQ1_0] = panel_tq1_0, [BM_TQ2_0] = panel_tq2_0,
    [BM_Q1_0] = panel_q1_0, [BM_Q2_0] = panel_q2_0, [BM_NVFP4] = panel_nvfp4,
};

INLINE __m512i broadcast4(const void *p)
{
    int32_t v;

    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

/* What the block of one token adds, given its integer dots; s: scale, `at`: index of token and block in the arrays of x. */
INLINE __m512 add_block(int form, const panel *p, int i, const bm_acts *x, int64_t at, __m512i i0, __m512i i1, __m512 acc)
{
    __m512 s = _mm512_set1_ps(x->scale[at]), f;

    if (form == BM_FORM_D16) {
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(i0), _mm512_mul_ps(_mm512_load_ps(p->d[i]), s), acc);
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(i1), _mm512_mul_ps(_mm512_load_ps(p->m[i]), s), acc);
    }
    if (form == BM_FORM_D || form == BM_FORM_DM) {
        f = _mm512_cvtepi32_ps(i0);
    } else {
        f = _mm512_mul_ps(_mm512_cvtepi32_ps(i0), _mm512_load_ps(p->sub[i][0]));
        f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(i1), _mm512_load_ps(p->sub[i][1]), f);       /* whole and below 2^24: exact */
    }
    acc = _mm512_fmadd_ps(f, _mm512_mul_ps(_mm512_load_ps(p->d[i]), s), acc);
    if (form == BM_FORM_DM)
        acc = _mm512_fmadd_ps(_mm512_load_ps(p->m[i]), _mm512_set1_ps(x->scaled_sum[at]), acc);
    if (form == BM_FORM_SUBMIN) {
        f = _mm512_mul_ps(_mm512_load_ps(p->min[i][0]), _mm512_set1_ps((float)x->sum16[2 * at]));
        f = _mm512_fmadd_ps(_mm512_load_ps(p->min[i][1]), _mm512_set1_ps((float)x->sum16[2 * at + 1]), f);
        acc = _mm512_fnmadd_ps(f, _mm512_mul_ps(_mm512_load_ps(p->m[i]), s), acc);
    }
    return acc;
}

/* n_tok tokens (a constant) from t on, 2 tiles, groups [0, n_groups) of the panels, which begin at group g0 of the matrix. */
INLINE void panel_block(int form, const panel *p, int n_groups, int64_t g0, const bm_acts *x, int64_t t, int n_tok, float (*sums)[32])
{
    __m512 acc[2][6];

    UNROLL
    for (int j = 0; j < n_tok; j++)
        acc[0][j] = _mm512_load_ps(sums[j]), acc[1][j] = _mm512_load_ps(sums[j] + 16);
    for (int i = 0; i < n_groups; i++) {
        const int8_t *q = x->q + t * x->q_stride + (g0 + i) * BM_GROUP;
        int64_t at = t * x->s_stride + g0 + i;
        __m512i dot[2][2][6];
        UNROLL
        for (int h = 0; h < 2; h++) {
            bool halves_apart = form >= BM_FORM_D16;
            int to = halves_apart ? h : 0;
            if (h == 0 || halves_apart)
                UNROLL
                for (int j = 0; j < n_tok; j++) {
                    if (form == BM_FORM_D)
                        dot[0][0][j] = broadcast4(&x->offset32[at + j * x->s_stride]);
                    else if (form == BM_FORM_SUB || form == BM_FORM_D16)
                        dot[0][to][j] = broadcast4(&x->offset16[2 * (at + j * x->s_stride) + h]);
                    else
                        dot[0][to][j] = _mm512_setzero_si512();
                    dot[1][to][j] = dot[0][to][j];
                }
            UNROLL
            for (int k = 4 * h; k < 4 * h + 4; k++) {
                __m512i w0 = load512(p[0].code[i][k]), w1 = load512(p[1].code[i][k]);
                UNROLL
                for (int j = 0; j < n_tok; j++) {
                    __m512i b = broadcast4(q + j * x->q_stride + 4 * k);
                    dot[0][to][j] = _mm512_dpbusd_epi32(dot[0][to][j], w0, b);
                    dot[1][to][j] = _mm512_dpbusd_epi32(dot[1][to][j], w1, b);
                }
            }
        }
        UNROLL
        for (int j = 0; j < n_tok; j++)
            UNROLL
            for (int c = 0; c < 2; c++)
                acc[c][j] = add_block(form, &p[c], i, x, at + j * x->s_stride, dot[c][0][j], dot[c][1][j], acc[c][j]);
    }
    UNROLL
    for (int j = 0; j < n_tok; j++)
        _mm512_store_ps(sums[j], acc[0][j]), _mm512_store_ps(sums[j] + 16, acc[1][j]);
}

INLINE void panel_tokens(int form, const panel *p, int n_groups, int64_t g0, const bm_acts *x, int64_t t, int n, float (*sums)[32])
{
    const int step = form == BM_FORM_D || form == BM_FORM_DM ? 6 : 4;

    for (; n >= step; n -= step, t += step, sums += step)
        panel_block(form, p, n_groups, g0, x, t, step, sums);
    switch (n) {
    case 5: if (step > 5) panel_block(form, p, n_groups, g0, x, t, 5, sums); break;
    case 4: if (step > 4) panel_block(form, p, n_groups, g0, x, t, 4, sums); break;
    case 3: panel_block(form, p, n_groups, g0, x, t, 3, sums); break;
    case 2: panel_block(form, p, n_groups, g0, x, t, 2, sums); break;
    case 1: panel_block(form, p, n_groups, g0, x, t, 1, sums); break;
    default: break;
    }
}

#define TOKENS_FN(name, form) \
    static __attribute__((noinline)) void name(const panel *p, int n_groups, int64_t g0, const bm_acts *x, int64_t t, int n, \
                                               float (*sums)[32]) \
    { panel_tokens(form, p, n_groups, g0, x, t, n, sums); }
TOKENS_FN(tokens_d, BM_FORM_D)
TOKENS_FN(tokens_dm, BM_FORM_DM)
TOKENS_FN(tokens_d16, BM_FORM_D16)
TOKENS_FN(tokens_sub, BM_FORM_SUB)
TOKENS_FN(tokens_submin, BM_FORM_SUBMIN)

typedef void tokens_fn(const panel *p, int n_groups, int64_t g0, const bm_acts *x, int64_t t, int n, float (*sums)[32]);
static tokens_fn *const tokens_fns[] = {
    [BM_FORM_D] = tokens_d, [BM_FORM_DM] = tokens_dm, [BM_FORM_D16] = tokens_d16, [BM_FORM_SUB] = tokens_sub, [BM_FORM_SUBMIN] = tokens_submin
};

static void store_rows(float *y, __m512 v, int64_t rows)
{
    if (rows >= 16)
        _mm512_storeu_ps(y, v);
    else if (rows > 0)
        _mm512_mask_storeu_ps(y, (__mmask16)((1u << rows) - 1), v);
}

/* Tiles tile and tile + 1 (the second only if `two`: else it repeats the first and is not stored). */
static void matmul_panels(const bm_packed *w, int64_t tile, bool two, const bm_acts *x, int64_t t, int n, float *y, int64_t y_stride)
{
    const bm_layout *l = bm_layout_of(w->type);
    const unsigned char *base[2] = { w->data + (size_t)tile * w->tile_bytes, w->data + (size_t)(tile + two) * w->tile_bytes };
    const int per_block = bm_qtype_traits((uint32_t)w->type)->block_len / BM_GROUP;
    const int64_t n_groups = w->n_cols / BM_GROUP;
    const size_t quants = bm_tile_quants(w);
    _Alignas(64) float sums[PANEL_TOKENS][32];
    panel p[2];

    memset(sums, 0, (size_t)n * sizeof *sums);
    for (int64_t g = 0; g < n_groups; g += PANEL_GROUPS) {
        int m = n_groups - g < PANEL_GROUPS ? (int)(n_groups - g) : PANEL_GROUPS;
        UNROLL
        for (int c = 0; c <= two; c++)
            panel_fns[w->type](base[c] + (size_t)(g / per_block) * l->head_bytes, base[c] + quants + (size_t)g * l->group_bytes, m, &p[c]);
        if (!two)
            memcpy(&p[1], &p[0], sizeof p[0]);
        tokens_fns[l->form](p, m, g, x, t, n, sums);
    }
    for (int j = 0; j < n; j++)
        for (int c = 0; c <= two; c++)
            store_rows(y + (t + j) * y_stride + (tile + c) * BM_TILE_ROWS, _mm512_load_ps(sums[j] + 16 * c),
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
            dot[0] = dot[1] = _mm512_setzero_si512();
            if (form == BM_FORM_D)
                dot[0] = broadcast4(&x->offset32[at]);
            else if (form == BM_FORM_SUB || form == BM_FORM_D16)
                dot[0] = broadcast4(&x->offset16[2 * at]), dot[1] = broadcast4(&x->offset16[2 * at + 1]);
            if (form == BM_FORM_D || form == BM_FORM_SUB) {
                int by = zero_of(type) == 8 ? 4 : zero_of(type) == 16 ? 3 : zero_of(type) == 32 ? 2 : zero_of(type) == 4 ? 5 : zero_of(type) == 1 ? 7 : 0;
                dot[0] = _mm512_srai_epi32(dot[0], (unsigned)by);                /* -128 * sum to -zero * sum, exact */
                dot[1] = _mm512_srai_epi32(dot[1], (unsigned)by);
            }
            UNROLL
            for (int k = 0; k < 4; k++) {                                      /* two chains */
                dot[0] = _mm512_dpbusd_epi32(dot[0], code[k], broadcast4(xq + 4 * k));
                dot[1] = _mm512_dpbusd_epi32(dot[1], code[k + 4], broadcast4(xq + 4 * k + 16));
            }
            __m512 sx = _mm512_set1_ps(x->scale[at]), f;
            if (form == BM_FORM_D16) {
                acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[0]), _mm512_mul_ps(s.d, sx), acc);
                acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[1]), _mm512_mul_ps(s.m, sx), acc);
                continue;
            }
            if (form == BM_FORM_D || form == BM_FORM_DM) {
                f = _mm512_cvtepi32_ps(_mm512_add_epi32(dot[0], dot[1]));
            } else {
                f = _mm512_mul_ps(_mm512_cvtepi32_ps(dot[0]), s.sub[0]);
                f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[1]), s.sub[1], f);
            }
            acc = _mm512_fmadd_ps(f, _mm512_mul_ps(s.d, sx), acc);
            if (form == BM_FORM_DM)
                acc = _mm512_fmadd_ps(s.m, _mm512_set1_ps(x->scaled_sum[at]), acc);
            if (form == BM_FORM_SUBMIN) {
                f = _mm512_mul_ps(s.min[0], _mm512_set1_ps((float)x->sum16[2 * at]));
                f = _mm512_fmadd_ps(s.min[1], _mm512_set1_ps((float)x->sum16[2 * at + 1]), f);
                acc = _mm512_fnmadd_ps(f, _mm512_mul_ps(s.m, sx), acc);
            }
        }
    return acc;
}

INLINE void matvec(bm_qtype type, const bm_packed *w, int64_t tile, int64_t tile_end, const bm_acts *x, int64_t t, float *y)
{
    const size_t quants = bm_tile_quants(w);

    for (; tile < tile_end; tile++)
        store_rows(y + tile * BM_TILE_ROWS, tile_token(type, w, quants, tile, x, t), w->n_rows - tile * BM_TILE_ROWS);
}

#define MATVEC_FN(name, type) \
    static __attribute__((noinline)) void name(const bm_packed *w, int64_t tile, int64_t tile_end, const bm_acts *x, int64_t t, float *y) \
    { matvec(type, w, tile, tile_end, x, t, y); }
MATVEC_FN(matvec_q4_0, BM_Q4_0)
MATVEC_FN(matvec_q4_1, BM_Q4_1)
MATVEC_FN(matvec_q5_0, BM_Q5_0)
MATVEC_FN(matvec_q5_1, BM_Q5_1)
MATVEC_FN(matvec_q8_0, BM_Q8_0)
MATVEC_FN(matvec_q2_k, BM_Q2_K)
MATVEC_FN(matvec_q3_k, BM_Q3_K)
MATVEC_FN(matvec_q4_k, BM_Q4_K)
MATVEC_FN(matvec_q5_k, BM_Q5_K)
MATVEC_FN(matvec_q6_k, BM_Q6_K)
MATVEC_FN(matvec_iq4_nl, BM_IQ4_NL)
MATVEC_FN(matvec_iq4_xs, BM_IQ4_XS)
MATVEC_FN(matvec_mxfp4, BM_MXFP4)
MATVEC_FN(matvec_iq1_s, BM_IQ1_S)
MATVEC_FN(matvec_iq1_m, BM_IQ1_M)
MATVEC_FN(matvec_iq2_xxs, BM_IQ2_XXS)
MATVEC_FN(matvec_iq2_xs, BM_IQ2_XS)
MATVEC_FN(matvec_iq2_s, BM_IQ2_S)
MATVEC_FN(matvec_iq3_xxs, BM_IQ3_XXS)
MATVEC_FN(matvec_iq3_s, BM_IQ3_S)
MATVEC_FN(matvec_tq1_0, BM_TQ1_0)
MATVEC_FN(matvec_tq2_0, BM_TQ2_0)
MATVEC_FN(matvec_q1_0, BM_Q1_0)
MATVEC_FN(matvec_q2_0, BM_Q2_0)
MATVEC_FN(matvec_nvfp4, BM_NVFP4)

typedef void matvec_fn(const bm_packed *w, int64_t tile, int64_t tile_end, const bm_acts *x, int64_t t, float *y);
static matvec_fn *const matvec_fns[BM_QTYPE_END] = {
    [BM_Q4_0] = matvec_q4_0, [BM_Q4_1] = matvec_q4_1, [BM_Q5_0] = matvec_q5_0, [BM_Q5_1] = matvec_q5_1, [BM_Q8_0] = matvec_q8_0,
    [BM_Q2_K] = matvec_q2_k, [BM_Q3_K] = matvec_q3_k, [BM_Q4_K] = matvec_q4_k, [BM_Q5_K] = matvec_q5_k, [BM_Q6_K] = matvec_q6_k,
    [BM_IQ4_NL] = matvec_iq4_nl, [BM_IQ4_XS] = matvec_iq4_xs, [BM_MXFP4] = matvec_mxfp4,
    [BM_IQ1_S] = matvec_iq1_s, [BM_IQ1_M] = matvec_iq1_m, [BM_IQ2_XXS] = matvec_iq2_xxs, [BM_IQ2_XS] = matvec_iq2_xs,
    [BM_IQ2_S] = matvec_iq2_s, [BM_IQ3_XXS] = matvec_iq3_xxs, [BM_IQ3_S] = matvec_iq3_s, [BM_TQ1_0] = matvec_tq1_0,
    [BM_TQ2_0] = matvec_tq2_0, [BM_Q1_0] = matvec_q1_0, [BM_Q2_0] = matvec_q2_0, [BM_NVFP4] = matvec_nvfp4,
};

static void matmul(const bm_packed *w, int64_t tile_begin, int64_t tile_end, const bm_acts *x, int64_t t_begin, int64_t t_end,
                   float *y, int64_t y_stride)
{
    if (matmul_floats(w, tile_begin, tile_end, x, t_begin, t_end, y, y_stride))
        return;
    if (t_end - t_begin == 1) {
        matvec_fns[w->type](w, tile_begin, tile_end, x, t_begin, y + t_begin * y_stride);
        return;
    }
    for (int64_t t = t_begin; t < t_end; t += PANEL_TOKENS)
        for (int64_t tile = tile_begin; tile < tile_end; tile += 2)
            matmul_panels(w, tile, tile + 1 < tile_end, x, t, t_end - t < PANEL_TOKENS ? (int)(t_end - t) : PANEL_TOKENS, y, y_stride);
}
