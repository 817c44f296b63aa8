/* matmul_avx2.h - quantised products in ymm registers, with VPDPBUSD where the file is compiled for AVX-VNNI, else with VPMADDUBSW.
 *
 * VPMADDUBSW adds two products of unsigned code and signed q into 16 bits with saturation. No sum of ours can reach it: codes
 * below 16 are added over all 8 k-groups (8 * 2 * 15 * 127 = 30,480), below 32 over 4, below 64 over 2, up to 124 alone; of 8 bits are
 * split into nibbles, I = 16 * high + low. A VPMADDWD with ones, 16s or the sub-scales then widens to 32 bits.
 * A panel of one tile x 512 columns is unpacked once and used for blocks of 16 rows x 2 or 3 tokens. */
#pragma once
#include "compute/kernels.h"
#include "compute/unpack_avx2.h"

#if defined(__AVXVNNI__)
#define VNNI 1
#else
#define VNNI 0
#endif

enum { PANEL_GROUPS = 16, PANEL_TOKENS = 96, PREFETCH_BYTES = 2048 };

/* How a type's codes are used. */
typedef struct recipe {
    int form;                    /* bm_form */
    int run;                     /* k-groups that 16 bits hold the sum of; 0: codes of 8 bits, split */
    int zero;                    /* level = code - zero */
} recipe;

INLINE recipe recipe_of(bm_qtype type)
{
    recipe r = { form_of(type), 8, is_table(type) ? raise_of(type) : zero_of(type) };

    if (is_table(type))
        r.run = raise_of(type) == 16 ? 4 : raise_of(type) == 62 ? 1 : 0;
    else if (type == BM_Q5_0 || type == BM_Q5_1 || type == BM_Q5_K || type == BM_Q3_K || type == BM_Q2_K)
        r.run = 4;
    else if (type == BM_Q6_K)
        r.run = 2;
    else if (type == BM_Q8_0)
        r.run = 0;
    return r;
}

/* 16 rows x PANEL_GROUPS groups. split: with run 0 and without VNNI, the low nibbles, then the high ones. */
typedef struct panel {
    _Alignas(64) unsigned char code[PANEL_GROUPS][2][16][32];
    float d[PANEL_GROUPS][2][8], m[PANEL_GROUPS][2][8];
    int16_t sub[PANEL_GROUPS][2][16], min[PANEL_GROUPS][2][16];
} panel;

INLINE __m256i broadcast4(const void *p)
{
    int32_t v;

    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}

INLINE __m256i widen(__m256i sum16, __m256i by) { return _mm256_madd_epi16(sum16, by); }

#if VNNI
INLINE __m256i dot4(__m256i sum, __m256i code, __m256i x) { return _mm256_dpbusd_avx_epi32(sum, code, x); }
#else
INLINE __m256i dot4(__m256i sum, __m256i code, __m256i x) { return _mm256_add_epi16(sum, _mm256_maddubs_epi16(code, x)); }
#endif

/* dot[c][j] = what the k-groups [k, k + n) of both halves give for n_tok tokens, as dot4 adds it up. */
INLINE void dots(const __m256i *const code[2], int k, int n, const int8_t *q, int64_t q_stride, int n_tok, __m256i dot[2][3])
{
    UNROLL
    for (int j = 0; j < n_tok; j++)
        dot[0][j] = dot[1][j] = _mm256_setzero_si256();
    UNROLL
    for (int i = k; i < k + n; i++)
        UNROLL
        for (int j = 0; j < n_tok; j++) {
            __m256i x = broadcast4(q + j * q_stride + 4 * (i & 7));
            dot[0][j] = dot4(dot[0][j], code[0][i], x);
            dot[1][j] = dot4(dot[1][j], code[1][i], x);
        }
}

/* total[c][j] = sub0 * I0 + sub1 * I1 with VNNI's 32-bit dots, or I: exact. */
INLINE void whole_dots(recipe r, const __m256i *const code[2], const scales256 s[2], const int8_t *q, int64_t q_stride, int n_tok,
                       __m256i total[2][3])
{
    const bool apart = r.form == BM_FORM_SUB || r.form == BM_FORM_SUBMIN;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i dot[2][3];

    if (VNNI && !apart) {
        dots(code, 0, 8, q, q_stride, n_tok, total);
        return;
    }
    const int n_runs = VNNI ? 2 : r.run == 0 ? 2 : 8 / r.run, run = 8 / (n_runs == 1 ? 1 : VNNI || r.run == 0 ? 2 : n_runs);
    UNROLL
    for (int i = 0; i < n_runs; i++) {
        if (!VNNI && r.run == 0)
            dots(code, 8 * i, 8, q, q_stride, n_tok, dot);
        else
            dots(code, run * i, run, q, q_stride, n_tok, dot);
        UNROLL
        for (int c = 0; c < 2; c++) {
            __m256i by = r.run == 0 && i == 1 ? _mm256_set1_epi16(16) : ones;
            if (apart) {                                 /* the sub-scale of this half of the columns, twice per row */
                __m256i first = i < n_runs / 2 ? _mm256_slli_epi32(s[c].sub, 16) : s[c].sub;
                by = _mm256_blend_epi16(_mm256_srli_epi32(first, 16), first, 0xAA);
            }
            UNROLL
            for (int j = 0; j < n_tok; j++) {
                __m256i more = VNNI ? _mm256_mullo_epi32(dot[c][j], _mm256_srai_epi32(by, 16)) : widen(dot[c][j], by);
                total[c][j] = i == 0 ? more : _mm256_add_epi32(total[c][j], more);
            }
        }
    }
}

/* Sub-scales times the zero; at most 1,922. */
INLINE __m256i sub_zero(__m256i sub, int zero)
{
    return zero == 62 ? _mm256_mullo_epi16(sub, _mm256_set1_epi16(62)) : _mm256_slli_epi16(sub, zero == 32 ? 5 : zero == 16 ? 4 : 2);
}

/* The same for a form whose halves of 16 columns have scales of their own. */
INLINE void add_halves(recipe r, const __m256i *const code[2], const scales256 s[2], const bm_acts *x, int64_t at, const int8_t *q,
                       int n_tok, __m256 acc[2][3])
{
    __m256i dot[2][3];

    UNROLL
    for (int h = 0; h < 2; h++) {
        dots(code, 4 * h, 4, q, x->q_stride, n_tok, dot);
        UNROLL
        for (int j = 0; j < n_tok; j++) {
            __m256i zeros = _mm256_set1_epi32(-r.zero * x->sum16[2 * (at + j * x->s_stride) + h]);
            __m256 sx = _mm256_set1_ps(x->scale[at + j * x->s_stride]);
            UNROLL
            for (int c = 0; c < 2; c++) {
                __m256i all = _mm256_add_epi32(VNNI ? dot[c][j] : widen(dot[c][j], _mm256_set1_epi16(1)), zeros);
                acc[c][j] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(all), _mm256_mul_ps(h == 0 ? s[c].d : s[c].m, sx), acc[c][j]);
            }
        }
    }
}

/* What one group adds to acc[half][token]; `at` indexes token and block in the arrays of x, q is its first column. */
INLINE void add_group(recipe r, const __m256i *const code[2], const scales256 s[2], const bm_acts *x, int64_t at, const int8_t *q,
                      int n_tok, __m256 acc[2][3])
{
    __m256i total[2][3];

    if (r.form == BM_FORM_D16) {
        add_halves(r, code, s, x, at, q, n_tok, acc);
        return;
    }
    whole_dots(r, code, s, q, x->q_stride, n_tok, total);
    UNROLL
    for (int j = 0; j < n_tok; j++) {
        __m256i sums = broadcast4(x->sum16 + 2 * (at + j * x->s_stride));
        __m256 sx = _mm256_set1_ps(x->scale[at + j * x->s_stride]);
        UNROLL
        for (int c = 0; c < 2; c++) {
            __m256i all = total[c][j];
            if (r.form == BM_FORM_D)
                all = _mm256_add_epi32(all, widen(sums, _mm256_set1_epi16((short)-r.zero)));
            else if (r.form == BM_FORM_SUB)
                all = _mm256_sub_epi32(all, widen(sums, sub_zero(s[c].sub, r.zero)));
            acc[c][j] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(all), _mm256_mul_ps(s[c].d, sx), acc[c][j]);
            if (r.form == BM_FORM_DM)
                acc[c][j] = _mm256_fmadd_ps(s[c].m, _mm256_set1_ps(x->scaled_sum[at + j * x->s_stride]), acc[c][j]);
            if (r.form == BM_FORM_SUBMIN)
                acc[c][j] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(widen(sums, s[c].min)), _mm256_mul_ps(s[c].m, sx), acc[c][j]);
        }
    }
}

/* Unpack a group's codes for half c to out[16]: split when the recipe says so. */
INLINE void group_codes(bm_qtype type, const unsigned char *q, int half, __m256i out[16])
{
    const __m256i low4 = _mm256_set1_epi8(15);

    unpack_codes(type, q, half, out);
    if (!VNNI && recipe_of(type).run == 0)
        UNROLL
        for (int j = 0; j < 8; j++) {
            out[j + 8] = _mm256_and_si256(_mm256_srli_epi16(out[j], 4), low4);
            out[j] = _mm256_and_si256(out[j], low4);
        }
}

INLINE void unpack_panel(bm_qtype type, const unsigned char *head, const unsigned char *q, int n_groups, panel *p)
{
    const int form = form_of(type), per_block = groups_per_block(type);
    const bool split = !VNNI && recipe_of(type).run == 0;

    for (int i = 0; i < n_groups; i++, q += group_bytes_of(type)) {
        UNROLL
        for (int b = 0; b < group_bytes_of(type); b += 64)
            _mm_prefetch((const char *)q + group_bytes_of(type) * PANEL_GROUPS + b, _MM_HINT_T0);
        UNROLL
        for (int c = 0; c < 2; c++) {
            __m256i w[16];
            scales256 s;
            group_codes(type, q, c, w);
            UNROLL
            for (int j = 0; j < 8; j++) {
                _mm256_store_si256((__m256i *)(void *)p->code[i][c][j], w[j]);
                if (split)
                    _mm256_store_si256((__m256i *)(void *)p->code[i][c][j + 8], w[j + 8]);
            }
            unpack_scales(type, head + i / per_block * head_bytes_of(type), i % per_block, c, &s);
            _mm256_storeu_ps(p->d[i][c], s.d);
            if (form == BM_FORM_DM || form == BM_FORM_SUBMIN || form == BM_FORM_D16)
                _mm256_storeu_ps(p->m[i][c], s.m);
            if (form >= BM_FORM_SUB)
                _mm256_storeu_si256((__m256i *)(void *)p->sub[i][c], s.sub);
            if (form == BM_FORM_SUBMIN)
                _mm256_storeu_si256((__m256i *)(void *)p->min[i][c], s.min);
        }
    }
}

/* n_tok tokens (a constant) from t on, 16 rows, groups [0, n_groups) of the panel, which begins at group g0 of the matrix. */
INLINE void panel_block(recipe r, const panel *p, int n_groups, int64_t g0, const bm_acts *x, int64_t t, int n_tok, float (*sums)[16])
{
    __m256 acc[2][3];

    UNROLL
    for (int j = 0; j < n_tok; j++)
        UNROLL
        for (int c = 0; c < 2; c++)
            acc[c][j] = _mm256_load_ps(sums[j] + 8 * c);
    for (int i = 0; i < n_groups; i++) {
        const __m256i *const code[2] = { (const __m256i *)(const void *)p->code[i][0], (const __m256i *)(const void *)p->code[i][1] };
        scales256 s[2];
        UNROLL
        for (int c = 0; c < 2; c++) {
            s[c].d = _mm256_loadu_ps(p->d[i][c]);
            s[c].m = _mm256_loadu_ps(p->m[i][c]);
            s[c].sub = load256((const unsigned char *)p->sub[i][c]);
            s[c].min = load256((const unsigned char *)p->min[i][c]);
        }
        add_group(r, code, s, x, t * x->s_stride + g0 + i, x->q + t * x->q_stride + (g0 + i) * BM_GROUP, n_tok, acc);
    }
    UNROLL
    for (int j = 0; j < n_tok; j++)
        UNROLL
        for (int c = 0; c < 2; c++)
            _mm256_store_ps(sums[j] + 8 * c, acc[c][j]);
}

INLINE void panel_tokens(recipe r, const panel *p, int n_groups, int64_t g0, const bm_acts *x, int64_t t, int n, float (*sums)[16])
{
    const int step = r.form >= BM_FORM_SUB || (!VNNI && r.run != 8) ? 2 : 3;

    for (; n >= step; n -= step, t += step, sums += step)
        panel_block(r, p, n_groups, g0, x, t, step, sums);
    if (n == 2 && step > 2)
        panel_block(r, p, n_groups, g0, x, t, 2, sums);
    if (n == 1)
        panel_block(r, p, n_groups, g0, x, t, 1, sums);
}

/* One tile, one token: codes go from the pack to the product without a stop in memory. */
INLINE void tile_token(bm_qtype type, const bm_packed *w, size_t quants, int64_t tile, const bm_acts *x, int64_t t, __m256 acc[2][3])
{
    const unsigned char *head = w->data + (size_t)tile * w->tile_bytes, *q = head + quants;
    const int per_block = groups_per_block(type);
    const int64_t n_groups = w->n_cols / BM_GROUP;
    const int8_t *xq = x->q + t * x->q_stride;
    int64_t at = t * x->s_stride;

    acc[0][0] = acc[1][0] = _mm256_setzero_ps();
    for (int64_t g = 0; g < n_groups; head += head_bytes_of(type))
        for (int i = 0; i < per_block; i++, g++, at++, q += group_bytes_of(type), xq += BM_GROUP) {
            __m256i w0[16], w1[16];
            const __m256i *const code[2] = { w0, w1 };
            scales256 s[2];
            UNROLL
            for (int b = 0; b < group_bytes_of(type); b += 64)
                _mm_prefetch((const char *)q + PREFETCH_BYTES + b, _MM_HINT_T0);
            group_codes(type, q, 0, w0);
            group_codes(type, q, 1, w1);
            unpack_scales(type, head, i, 0, &s[0]);
            unpack_scales(type, head, i, 1, &s[1]);
            add_group(recipe_of(type), code, s, x, at, xq, 1, acc);
        }
}

static void store_half(float *y, __m256 v, int64_t rows)
{
    float t[8];

    if (rows >= 8) {
        _mm256_storeu_ps(y, v);
    } else if (rows > 0) {
        _mm256_storeu_ps(t, v);
        memcpy(y, t, (size_t)rows * sizeof *y);
    }
}

INLINE void matvec(bm_qtype type, const bm_packed *w, int64_t tile, int64_t tile_end, const bm_acts *x, int64_t t, float *y)
{
    const size_t quants = bm_tile_quants(w);
    __m256 acc[2][3];

    for (; tile < tile_end; tile++) {
        tile_token(type, w, quants, tile, x, t, acc);
        UNROLL
        for (int c = 0; c < 2; c++)
            store_half(y + tile * BM_TILE_ROWS + 8 * c, acc[c][0], w->n_rows - tile * BM_TILE_ROWS - 8 * c);
    }
}

/* Per type: the panel's unpacking, its products, and one token's product. */
#define TYPE_FNS(name, type) \
    static __attribute__((noinline)) void panel_##name(const unsigned char *head, const unsigned char *q, int n, panel *p) \
    { unpack_panel(type, head, q, n, p); } \
    static __attribute__((noinline)) void matvec_##name(const bm_packed *w, int64_t tile, int64_t tile_end, const bm_acts *x, \
                                                        int64_t t, float *y) \
    { matvec(type, w, tile, tile_end, x, t, y); }
#define TOKENS_FN(name, type) \
    static __attribute__((noinline)) void tokens_##name(const panel *p, int n_groups, int64_t g0, const bm_acts *x, int64_t t, int n, \
                                                        float (*sums)[16]) \
    { panel_tokens(recipe_of(type), p, n_groups, g0, x, t, n, sums); }

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
TOKENS_FN(q4_0, BM_Q4_0)         /* one per recipe */
TOKENS_FN(q4_1, BM_Q4_1)
TOKENS_FN(q5_0, BM_Q5_0)
TOKENS_FN(q5_1, BM_Q5_1)
TOKENS_FN(q8_0, BM_Q8_0)
TOKENS_FN(q2_k, BM_Q2_K)
TOKENS_FN(q3_k, BM_Q3_K)
TOKENS_FN(q6_k, BM_Q6_K)
TOKENS_FN(iq1_m, BM_IQ1_M)
TOKENS_FN(iq2_xs, BM_IQ2_XS)
TOKENS_FN(iq3_xxs, BM_IQ3_XXS)
TOKENS_FN(tq2_0, BM_TQ2_0)
TOKENS_FN(nvfp4, BM_NVFP4)

typedef struct type_fns {
    void (*panel)(const unsigned char *head, const unsigned char *q, int n_groups, panel *p);
    void (*tokens)(const panel *p, int n_groups, int64_t g0, const bm_acts *x, int64_t t, int n, float (*sums)[16]);
    void (*matvec)(const bm_packed *w, int64_t tile, int64_t tile_end, const bm_acts *x, int64_t t, float *y);
} type_fns;

static const type_fns fns[BM_QTYPE_END] = {
    [BM_Q4_0]   = { panel_q4_0,   tokens_q4_0, matvec_q4_0 },
    [BM_Q4_1]   = { panel_q4_1,   tokens_q4_1, matvec_q4_1 },
    [BM_Q5_0]   = { panel_q5_0,   tokens_q5_0, matvec_q5_0 },
    [BM_Q5_1]   = { panel_q5_1,   tokens_q5_1, matvec_q5_1 },
    [BM_Q8_0]   = { panel_q8_0,   tokens_q8_0, matvec_q8_0 },
    [BM_Q2_K]   = { panel_q2_k,   tokens_q2_k, matvec_q2_k },
    [BM_Q3_K]   = { panel_q3_k,   tokens_q3_k, matvec_q3_k },
    [BM_Q4_K]   = { panel_q4_k,   tokens_q4_1, matvec_q4_k },
    [BM_Q5_K]   = { panel_q5_k,   tokens_q5_1, matvec_q5_k },
    [BM_Q6_K]   = { panel_q6_k,   tokens_q6_k, matvec_q6_k },
    [BM_IQ4_NL] = { panel_iq4_nl, tokens_q8_0, matvec_iq4_nl },
    [BM_IQ4_XS] = { panel_iq4_xs, tokens_q8_0, matvec_iq4_xs },
    [BM_MXFP4]  = { panel_mxfp4,  tokens_q5_0, matvec_mxfp4 },
    [BM_IQ1_S]    = { panel_iq1_s, tokens_q5_0, matvec_iq1_s },
    [BM_IQ1_M]    = { panel_iq1_m, tokens_iq1_m, matvec_iq1_m },
    [BM_IQ2_XXS]  = { panel_iq2_xxs, tokens_iq3_xxs, matvec_iq2_xxs },
    [BM_IQ2_XS]   = { panel_iq2_xs, tokens_iq2_xs, matvec_iq2_xs },
    [BM_IQ2_S]    = { panel_iq2_s, tokens_iq2_xs, matvec_iq2_s },
    [BM_IQ3_XXS]  = { panel_iq3_xxs, tokens_iq3_xxs, matvec_iq3_xxs },
    [BM_IQ3_S]    = { panel_iq3_s, tokens_q5_0, matvec_iq3_s },
    [BM_TQ1_0]    = { panel_tq1_0, tokens_tq2_0, matvec_tq1_0 },
    [BM_TQ2_0]    = { panel_tq2_0, tokens_tq2_0, matvec_tq2_0 },
    [BM_Q1_0]     = { panel_q1_0, tokens_tq2_0, matvec_q1_0 },
    [BM_Q2_0]     = { panel_q2_0, tokens_tq2_0, matvec_q2_0 },
    [BM_NVFP4]    = { panel_nvfp4, tokens_nvfp4, matvec_nvfp4 },
};

static void matmul_panels(const bm_packed *w, int64_t tile, const bm_acts *x, int64_t t, int n, float *y, int64_t y_stride)
{
    const bm_layout *l = bm_layout_of(w->type);
    const unsigned char *base = w->data + (size_t)tile * w->tile_bytes;
    const int per_block = bm_qtype_traits((uint32_t)w->type)->block_len / BM_GROUP;
    const int64_t n_groups = w->n_cols / BM_GROUP, row = tile * BM_TILE_ROWS;
    const size_t quants = bm_tile_quants(w);
    _Alignas(64) float sums[PANEL_TOKENS][16];
    panel p;

    memset(sums, 0, (size_t)n * sizeof *sums);
    for (int64_t g = 0; g < n_groups; g += PANEL_GROUPS) {
        int m = n_groups - g < PANEL_GROUPS ? (int)(n_groups - g) : PANEL_GROUPS;
        fns[w->type].panel(base + (size_t)(g / per_block) * l->head_bytes, base + quants + (size_t)g * l->group_bytes, m, &p);
        fns[w->type].tokens(&p, m, g, x, t, n, sums);
    }
    for (int j = 0; j < n; j++)
        for (int c = 0; c < 2; c++)
            store_half(y + (t + j) * y_stride + row + 8 * c, _mm256_load_ps(sums[j] + 8 * c), w->n_rows - row - 8 * c);
}

static void matmul(const bm_packed *w, int64_t tile_begin, int64_t tile_end, const bm_acts *x, int64_t t_begin, int64_t t_end,
                   float *y, int64_t y_stride)
{
    if (matmul_floats(w, tile_begin, tile_end, x, t_begin, t_end, y, y_stride))
        return;
    if (t_end - t_begin == 1) {
        fns[w->type].matvec(w, tile_begin, tile_end, x, t_begin, y + t_begin * y_stride);
        return;
    }
    for (int64_t t = t_begin; t < t_end; t += PANEL_TOKENS)
        for (int64_t tile = tile_begin; tile < tile_end; tile++)
            matmul_panels(w, tile, x, t, t_end - t < PANEL_TOKENS ? (int)(t_end - t) : PANEL_TOKENS, y, y_stride);
}
