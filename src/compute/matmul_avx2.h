/* matmul_avx2.h - quantised products in ymm registers, with VPDPBUSD where the file is compiled for AVX-VNNI, else with VPMADDUBSW.
 *
 * VPMADDUBSW adds two products of unsigned code and signed q into 16 bits with saturation. No sum of ours can reach it: codes
 * below 16 are added over all 8 k-groups (8 * 2 * 15 * 127 = 30,480), below 32 over 4, below 64 over 2, up to 124 alone; of 8 bits are
 * split into nibbles, I = 16 * high + low. A VPMADDWD with ones, 16s or the sub-scales then widens to 32 bits.
 * A group of 8 rows x 32 columns is unpacked into 8 registers and used for all tokens of a block, 3 or 4 at a time; the float
 * accumulators rest in `sums`, which stay in L1. */
#pragma once
#include "compute/kernels.h"
#include "compute/unpack_avx2.h"

#if defined(__AVXVNNI__)
#define VNNI 1
#else
#define VNNI 0
#endif

enum { BLOCK_TOKENS = 96, STEP_TOKENS = VNNI ? 4 : 3, PREFETCH_BYTES = 2048 };
/* Rows of activations longer than this are too far apart for the CPU to fetch ahead by itself: half as many stay in L1. */
enum { LONG_COLS = 2048 };

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
INLINE __m256i dot4(__m256i sum, __m256i code, __m256i x)
{
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(code, x));
    __asm__("" : "+x"(sum));             /* gcc would make a tree of the additions, whose leaves do not fit the registers */
    return sum;
}
#endif

/* 8 rows of a group, ready for any number of tokens. */
typedef struct half_group {
    __m256i code[16];            /* run 0 and no VNNI: the low nibbles, then the high ones */
    scales256 s;
    __m256i zero;                /* FORM_SUB: sub-scales times the zero */
    __m256 sub[2];               /* FORM_SUB*: as floats, for VNNI */
} half_group;

/* dot[j] = what the k-groups [k, k + n) give for n_tok tokens, as dot4 adds it up. */
INLINE void dots(const __m256i *code, int k, int n, const int8_t *q, int64_t q_stride, int n_tok, __m256i *dot)
{
    UNROLL
    for (int j = 0; j < n_tok; j++)
        dot[j] = _mm256_setzero_si256();
    UNROLL
    for (int i = k; i < k + n; i++)
        UNROLL
        for (int j = 0; j < n_tok; j++)
            dot[j] = dot4(dot[j], code[i], broadcast4(q + j * q_stride + 4 * i));
}

/* total[j] = I of codes that are split into nibbles. */
INLINE void split_dots(const __m256i *code, const int8_t *q, int64_t q_stride, int n_tok, __m256i *total)
{
    const __m256i ones = _mm256_set1_epi16(1), sixteens = _mm256_set1_epi16(16);
    __m256i low[STEP_TOKENS], high[STEP_TOKENS];

    UNROLL
    for (int j = 0; j < n_tok; j++)
        low[j] = high[j] = _mm256_setzero_si256();
    UNROLL
    for (int i = 0; i < 8; i++)
        UNROLL
        for (int j = 0; j < n_tok; j++) {
            __m256i x = broadcast4(q + j * q_stride + 4 * i);
            low[j] = dot4(low[j], code[i], x);
            high[j] = dot4(high[j], code[i + 8], x);
        }
    UNROLL
    for (int j = 0; j < n_tok; j++)
        total[j] = _mm256_add_epi32(widen(low[j], ones), widen(high[j], sixteens));
}

/* total[j] = I, or sub0 * I0 + sub1 * I1, of codes that are not raised: exact. */
INLINE void whole_dots(recipe r, const half_group *g, const int8_t *q, int64_t q_stride, int n_tok, __m256i *total)
{
    const bool apart = r.form == BM_FORM_SUB || r.form == BM_FORM_SUBMIN;
    const int run = r.run == 0 ? 8 : r.run;
    __m256i dot[STEP_TOKENS];

    if (VNNI) {
        dots(g->code, 0, 8, q, q_stride, n_tok, total);
        return;
    }
    if (r.run == 0) {
        split_dots(g->code, q, q_stride, n_tok, total);
        return;
    }
    UNROLL
    for (int k = 0; k < 8; k += run) {
        __m256i by = _mm256_set1_epi16(1);
        if (apart) {                                     /* the sub-scale of this half of the columns, twice per row */
            __m256i first = k < 4 ? _mm256_slli_epi32(g->s.sub, 16) : g->s.sub;
            by = _mm256_blend_epi16(_mm256_srli_epi32(first, 16), first, 0xAA);
        }
        dots(g->code, k, run, q, q_stride, n_tok, dot);
        UNROLL
        for (int j = 0; j < n_tok; j++)
            total[j] = k == 0 ? widen(dot[j], by) : _mm256_add_epi32(total[j], widen(dot[j], by));
    }
}

/* Sub-scales times the zero; at most 1,922. */
INLINE __m256i sub_zero(__m256i sub, int zero)
{
    return zero == 62 ? _mm256_mullo_epi16(sub, _mm256_set1_epi16(62)) : _mm256_slli_epi16(sub, zero == 32 ? 5 : zero == 16 ? 4 : 2);
}

/* I0 or I1 as floats, for the forms whose halves of 16 columns are taken apart. */
INLINE __m256 half_dot(recipe r, __m256i dot, const bm_acts *x, int64_t at, int h)
{
    __m256i all = VNNI ? dot : widen(dot, _mm256_set1_epi16(1));

    if (r.form != BM_FORM_SUBMIN)
        all = _mm256_sub_epi32(all, _mm256_set1_epi32(r.zero * x->sum16[2 * at + h]));
    return _mm256_cvtepi32_ps(all);
}

/* What a group adds for n_tok tokens to the sums at sums[16 * j], when its halves are taken apart: FORM_D16, and FORM_SUB and
 * FORM_SUBMIN where there are 32-bit dots. */
INLINE void add_halves(recipe r, const half_group *g, const bm_acts *x, int64_t at, const int8_t *q, int n_tok, float *sums)
{
    __m256i dot[2][STEP_TOKENS];

    dots(g->code, 0, 4, q, x->q_stride, n_tok, dot[0]);
    dots(g->code, 4, 4, q, x->q_stride, n_tok, dot[1]);
    UNROLL
    for (int j = 0; j < n_tok; j++, at += x->s_stride) {
        __m256 f0 = half_dot(r, dot[0][j], x, at, 0), f1 = half_dot(r, dot[1][j], x, at, 1);
        __m256 sx = _mm256_set1_ps(x->scale[at]), acc = _mm256_loadu_ps(sums + 16 * j);
        if (r.form == BM_FORM_D16) {
            acc = _mm256_fmadd_ps(f0, _mm256_mul_ps(g->s.d, sx), acc);
            acc = _mm256_fmadd_ps(f1, _mm256_mul_ps(g->s.m, sx), acc);
        } else {                                         /* whole and below 2^24: exact */
            acc = _mm256_fmadd_ps(_mm256_fmadd_ps(f1, g->sub[1], _mm256_mul_ps(f0, g->sub[0])), _mm256_mul_ps(g->s.d, sx), acc);
            if (r.form == BM_FORM_SUBMIN)
                acc = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(widen(broadcast4(x->sum16 + 2 * at), g->s.min)),
                                       _mm256_mul_ps(g->s.m, sx), acc);
        }
        _mm256_storeu_ps(sums + 16 * j, acc);
    }
}

/* The same for every form; `at` indexes token and block in the arrays of x, q is the group's first column. */
INLINE void add_group(recipe r, const half_group *g, const bm_acts *x, int64_t at, const int8_t *q, int n_tok, float *sums)
{
    __m256i total[STEP_TOKENS];

    if (r.form == BM_FORM_D16 || (VNNI && r.form >= BM_FORM_SUB)) {
        add_halves(r, g, x, at, q, n_tok, sums);
        return;
    }
    whole_dots(r, g, q, x->q_stride, n_tok, total);
    UNROLL
    for (int j = 0; j < n_tok; j++, at += x->s_stride) {
        __m256i all = total[j];
        __m256 sx = _mm256_set1_ps(x->scale[at]), acc = _mm256_loadu_ps(sums + 16 * j);
        if (r.form == BM_FORM_D && r.zero == 128)
            all = _mm256_add_epi32(all, broadcast4(&x->offset32[at]));
        else if (r.form == BM_FORM_D)
            all = _mm256_add_epi32(all, widen(broadcast4(x->sum16 + 2 * at), _mm256_set1_epi16((short)-r.zero)));
        else if (r.form == BM_FORM_SUB)
            all = _mm256_sub_epi32(all, widen(broadcast4(x->sum16 + 2 * at), g->zero));
        acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(all), _mm256_mul_ps(g->s.d, sx), acc);
        if (r.form == BM_FORM_DM)
            acc = _mm256_fmadd_ps(g->s.m, _mm256_set1_ps(x->scaled_sum[at]), acc);
        if (r.form == BM_FORM_SUBMIN)
            acc = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(widen(broadcast4(x->sum16 + 2 * at), g->s.min)), _mm256_mul_ps(g->s.m, sx), acc);
        _mm256_storeu_ps(sums + 16 * j, acc);
    }
}

/* Unpack rows 8 * half on of group i of its block. */
INLINE void unpack_half(bm_qtype type, const unsigned char *head, const unsigned char *q, int i, int half, half_group *g)
{
    const recipe r = recipe_of(type);
    const __m256i low4 = _mm256_set1_epi8(15);

    unpack_codes(type, q, half, g->code);
    if (!VNNI && r.run == 0)
        UNROLL
        for (int j = 0; j < 8; j++) {
            g->code[j + 8] = _mm256_and_si256(_mm256_srli_epi16(g->code[j], 4), low4);
            g->code[j] = _mm256_and_si256(g->code[j], low4);
        }
    unpack_scales(type, head, i, half, &g->s);
    if (r.form == BM_FORM_SUB)
        g->zero = sub_zero(g->s.sub, r.zero);
    if (r.form >= BM_FORM_SUB) {
        g->sub[0] = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(g->s.sub, 16), 16));
        g->sub[1] = _mm256_cvtepi32_ps(_mm256_srai_epi32(g->s.sub, 16));
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

/* A tile and tokens [t, t + n), n <= BLOCK_TOKENS; `single`: n is 1, known to the compiler. The read of the weights ahead goes on
 * into the next tile's. */
INLINE void matmul_tile(bm_qtype type, bool single, const bm_packed *w, int64_t tile, const bm_acts *acts, int64_t t, int n, float *y,
                        int64_t y_stride)
{
    const bm_acts own = *acts, *x = &own;                /* a store to sums could change *acts, for all that C knows */
    const recipe r = recipe_of(type);
    const int per_block = groups_per_block(type);
    const unsigned char *head = w->data + (size_t)tile * w->tile_bytes, *q = head + bm_tile_quants(w);
    const int n_groups = (int)(w->n_cols / BM_GROUP);
    const int64_t row = tile * BM_TILE_ROWS;
    _Alignas(64) float sums[BLOCK_TOKENS][16];

    memset(sums, 0, (size_t)n * sizeof *sums);
    for (int i = 0; i < n_groups; i++, q += group_bytes_of(type)) {
        const unsigned char *block_head = head + i / per_block * head_bytes_of(type);
        UNROLL
        for (int b = 0; b < group_bytes_of(type); b += 64)
            _mm_prefetch((const char *)q + PREFETCH_BYTES + b, _MM_HINT_T0);
        UNROLL
        for (int c = 0; c < 2; c++) {
            const int8_t *xq = x->q + t * x->q_stride + (int64_t)i * BM_GROUP;
            int64_t at = t * x->s_stride + i;
            float *to = sums[0] + 8 * c;
            half_group g;
            int j = 0;
            unpack_half(type, block_head, q, i % per_block, c, &g);
            if (single) {
                add_group(r, &g, x, at, xq, 1, to);
                continue;
            }
            for (; j + STEP_TOKENS <= n; j += STEP_TOKENS, to += 16 * STEP_TOKENS, xq += STEP_TOKENS * x->q_stride,
                                         at += STEP_TOKENS * x->s_stride)
                add_group(r, &g, x, at, xq, STEP_TOKENS, to);
            if (n - j >= 2) {
                add_group(r, &g, x, at, xq, 2, to);
                j += 2, to += 32, xq += 2 * x->q_stride, at += 2 * x->s_stride;
            }
            if (j < n)
                add_group(r, &g, x, at, xq, 1, to);
        }
    }
    for (int j = 0; j < n; j++)
        for (int c = 0; c < 2; c++)
            store_half(y + (t + j) * y_stride + row + 8 * c, _mm256_load_ps(sums[j] + 8 * c), w->n_rows - row - 8 * c);
}

/* Functions per type, so that the one dispatch on it is per tile. */
#define TYPE_FNS(name, type) \
    static __attribute__((noinline)) void single_##name(const bm_packed *w, int64_t tile, const bm_acts *x, int64_t t, int n, float *y, \
                                                        int64_t y_stride) \
    { (void)n; matmul_tile(type, true, w, tile, x, t, 1, y, y_stride); } \
    static __attribute__((noinline)) void tokens_##name(const bm_packed *w, int64_t tile, const bm_acts *x, int64_t t, int n, float *y, \
                                                        int64_t y_stride) \
    { matmul_tile(type, false, w, tile, x, t, n, y, y_stride); }
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

typedef void tile_fn(const bm_packed *w, int64_t tile, const bm_acts *x, int64_t t, int n, float *y, int64_t y_stride);

#define FNS(name) { single_##name, tokens_##name }
static tile_fn *const fns[BM_QTYPE_END][2] = {
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
    for (int64_t t = t_begin; t < t_end; t += block) {
        int n = (int)(t_end - t < block ? t_end - t : block);
        for (int64_t tile = tile_begin; tile < tile_end; tile++)
            fns[w->type][n > 1](w, tile, x, t, n, y, y_stride);
    }
}
