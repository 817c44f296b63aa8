/* kernels_attn.h - attention of a few query rows over one span, page by page with an online softmax; included by kernels_lanes.h.
 * What follows is for KV in floats; kernels_attn16.h says how int16 and int8 differ.
 *
 * For each page that a row sees any position of, in ascending order:
 *   s = scale * sum_d q[d] * K[d][position], fused, d ascending; softcap; -inf where the row does not see the position;
 *   m' = max(m, max s); c = e^(m - m'); p = e^(s - m'); l = l * c + p[0..15] + p[16..31] + p[32..47] + p[48..63] in 16 partials;
 *   acc = acc * c, then for each seen position in ascending order acc = fma(p, V[position], acc).
 * At the end of the span l is reduced by the fixed tree. Nothing of a row depends on the rows beside it: positions that it does
 * not see are never multiplied, whatever their memory holds. */
#pragma once

enum { PAGE = BM_PAGE_TOKENS, SUBTILES = PAGE / 16, CHUNK = 4, WIDEN_DIM = 256 };

/* Which rows see which part of a page. */
typedef struct page_seen {
    int from[BM_ATTN_ROWS], to[BM_ATTN_ROWS];        /* positions [from, to) of the page; 0, 0: none */
    int rows[BM_ATTN_ROWS], n;   /* rows that see any */
} page_seen;

typedef struct attn_work {
    v16 l[BM_ATTN_ROWS];
    _Alignas(64) float p[BM_ATTN_ROWS][PAGE];
    float c[BM_ATTN_ROWS];       /* what the page multiplies the row's acc by */
    page_seen seen;
    _Alignas(64) float wide[PAGE * WIDEN_DIM];       /* K, then V, of a page that many rows share */
    const unsigned char *ahead;  /* K, or V, of the next page, fetched while this one is read; NULL: none */
} attn_work;

/* Pages lie apart, and each is too short for the CPU to fetch ahead by itself. */
LANES void fetch_ahead(const unsigned char *ahead, size_t offset, size_t len_bytes)
{
    if (ahead != NULL)
        for (size_t i = 0; i < len_bytes; i += 64)
            __builtin_prefetch(ahead + offset + i);
}

LANES size_t value_bytes(bm_kv_type type) { return type == BM_KV_F32 ? 4 : type == BM_KV_INT8 ? 1 : 2; }

LANES v16 load_kv(bm_kv_type type, const void *base, size_t at)
{
    return type == BM_KV_F32 ? v_load((const float *)base + at) : v_load_f16((const uint16_t *)base + at);
}

/* Raw scores of n_rows rows (a constant) at n_sub (a constant) times 16 positions. */
LANES void score_block(const bm_attn_span *s, bm_kv_type type, const void *k, attn_work *w, const int *rows, int n_rows, int sub,
                       int n_sub)
{
    v16 acc[6][SUBTILES];
    const float *q[6];

    UNROLL
    for (int r = 0; r < n_rows; r++) {
        q[r] = s->q[rows[r]];
        UNROLL
        for (int i = 0; i < n_sub; i++)
            acc[r][i] = v_set(0);
    }
    for (int d = 0; d < s->head_dim_k; d++) {
        v16 kd[SUBTILES];
        fetch_ahead(w->ahead, (size_t)(sub * s->head_dim_k + d * n_sub) * 16 * value_bytes(type), (size_t)n_sub * 16 * value_bytes(type));
        UNROLL
        for (int i = 0; i < n_sub; i++)
            kd[i] = load_kv(type, k, ((size_t)(sub + i) * (size_t)s->head_dim_k + (size_t)d) * 16);
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            v16 qd = v_set(q[r][d]);
            UNROLL
            for (int i = 0; i < n_sub; i++)
                acc[r][i] = v_fma(qd, kd[i], acc[r][i]);
        }
    }
    UNROLL
    for (int r = 0; r < n_rows; r++)
        UNROLL
        for (int i = 0; i < n_sub; i++)
            v_store(&w->p[rows[r]][16 * (sub + i)], acc[r][i]);
}

/* acc of n_rows rows that see the same positions, for 16 * n_vec values of V (n_rows, n_vec constants) from dimension d on. */
LANES void value_block(const bm_attn_span *s, bm_kv_type type, const void *v, attn_work *w, const int *rows, int n_rows, int d,
                       int n_vec)
{
    v16 acc[6][CHUNK];
    int from = w->seen.from[rows[0]], to = w->seen.to[rows[0]];

    UNROLL
    for (int r = 0; r < n_rows; r++)
        UNROLL
        for (int i = 0; i < n_vec; i++)
            acc[r][i] = v_mul(v_load(s->acc[rows[r]] + d + 16 * i), v_set(w->c[rows[r]]));
    for (int at = from; at < to; at++) {
        v16 vd[CHUNK];
        fetch_ahead(w->ahead, (size_t)(at * s->head_dim_v + d) * value_bytes(type), (size_t)n_vec * 16 * value_bytes(type));
        UNROLL
        for (int i = 0; i < n_vec; i++)
            vd[i] = load_kv(type, v, (size_t)at * (size_t)s->head_dim_v + (size_t)(d + 16 * i));
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            v16 pr = v_set(w->p[rows[r]][at]);
            UNROLL
            for (int i = 0; i < n_vec; i++)
                acc[r][i] = v_fma(pr, vd[i], acc[r][i]);
        }
    }
    UNROLL
    for (int r = 0; r < n_rows; r++)
        UNROLL
        for (int i = 0; i < n_vec; i++)
            v_store(s->acc[rows[r]] + d + 16 * i, acc[r][i]);
}

LANES void score_rows(const bm_attn_span *s, bm_kv_type type, const void *k, attn_work *w, const int *rows, int n_rows)
{
    for (int sub = 0; sub < SUBTILES; sub += ATTN_SUBTILES)
        score_block(s, type, k, w, rows, n_rows, sub, ATTN_SUBTILES);
}

LANES void value_rows(const bm_attn_span *s, bm_kv_type type, const void *v, attn_work *w, const int *rows, int n_rows)
{
    int d = 0;

    if ((int)ATTN_SUBTILES == (int)SUBTILES)     /* registers enough */
        for (; d + 16 * CHUNK <= s->head_dim_v; d += 16 * CHUNK)
            value_block(s, type, v, w, rows, n_rows, d, CHUNK);
    for (; d + 16 <= s->head_dim_v; d += 16)
        value_block(s, type, v, w, rows, n_rows, d, 1);
    for (; d < s->head_dim_v; d++)               /* head sizes that are no multiple of 16 */
        for (int r = 0; r < n_rows; r++) {
            int row = rows[r];
            float acc = s->acc[row][d] * w->c[row];
            for (int at = w->seen.from[row]; at < w->seen.to[row]; at++) {
                size_t i = (size_t)at * (size_t)s->head_dim_v + (size_t)d;
                float x = type == BM_KV_F32 ? ((const float *)v)[i] : bm_f16_to_f32(((const uint16_t *)v)[i]);
                acc = fmaf(w->p[row][at], x, acc);
            }
            s->acc[row][d] = acc;
        }
}

/* One block of rows, its size made a constant. */
#define ATTN_DISPATCH(call) \
    switch (n < ATTN_ROWS_MAX ? n : ATTN_ROWS_MAX) { \
    case 1: call(1); break; \
    case 2: if (ATTN_ROWS_MAX >= 2) call(2); break; \
    case 3: if (ATTN_ROWS_MAX >= 3) call(3); break; \
    case 4: if (ATTN_ROWS_MAX >= 4) call(4); break; \
    case 5: if (ATTN_ROWS_MAX >= 5) call(5); break; \
    default: if (ATTN_ROWS_MAX >= 6) call(6); break; \
    }

LANES void score_page_of(const bm_attn_span *s, bm_kv_type type, const void *k, attn_work *w)
{
    for (int i = 0, n; i < w->seen.n; i += ATTN_ROWS_MAX) {
        n = w->seen.n - i;
#define SCORE(rows_n) score_rows(s, type, k, w, w->seen.rows + i, rows_n)
        ATTN_DISPATCH(SCORE)
#undef SCORE
        w->ahead = NULL;                         /* once is enough */
    }
}

LANES void value_page_of(const bm_attn_span *s, bm_kv_type type, const void *v, attn_work *w)
{
    for (int i = 0, n; i < w->seen.n; i += n) {
        const int *rows = w->seen.rows + i;
        for (n = 1; n < ATTN_ROWS_MAX && i + n < w->seen.n; n++)
            if (w->seen.from[rows[n]] != w->seen.from[rows[0]] || w->seen.to[rows[n]] != w->seen.to[rows[0]])
                break;
#define VALUE(rows_n) value_rows(s, type, v, w, rows, rows_n)
        ATTN_DISPATCH(VALUE)
#undef VALUE
        w->ahead = NULL;
    }
}

static void score_page(const bm_attn_span *s, bm_kv_type type, const void *k, attn_work *w)
{
    if (type == BM_KV_F32)
        score_page_of(s, BM_KV_F32, k, w);
    else
        score_page_of(s, BM_KV_F16, k, w);
}

static void value_page(const bm_attn_span *s, bm_kv_type type, const void *v, attn_work *w)
{
    if (type == BM_KV_F32)
        value_page_of(s, BM_KV_F32, v, w);
    else
        value_page_of(s, BM_KV_F16, v, w);
}

/* Raw scores of row r become p; m, l and c follow. */
static void softmax_page(const bm_attn_span *s, attn_work *w, int r)
{
    const v16 minus_inf = v_set(-INFINITY);
    v16 x[SUBTILES], most = minus_inf, sum;
    float m;

    UNROLL
    for (int i = 0; i < SUBTILES; i++) {
        int from = w->seen.from[r] - 16 * i, to = w->seen.to[r] - 16 * i;
        x[i] = v_mul(v_load(&w->p[r][16 * i]), v_set(s->scale));
        if (s->softcap > 0)
            x[i] = v_softcap(x[i], s->softcap);
        if (from > 0 || to < 16)
            x[i] = v_keep(x[i], from < 0 ? 0 : from > 16 ? 16 : from, to < 0 ? 0 : to > 16 ? 16 : to, minus_inf);
        most = v_max(x[i], most);
    }
    m = v_largest(most);
    if (!(m > s->m[r]))
        m = s->m[r];
    w->c[r] = 1;
    if (m == -INFINITY) {                        /* all scores are -inf: e^(m - m) would count them */
        memset(w->p[r], 0, sizeof w->p[r]);
        return;
    }
    v_store(w->p[r], v_exp(v_sub(v_set(s->m[r]), v_set(m))));
    w->c[r] = w->p[r][0];
    sum = v_mul(w->l[r], v_set(w->c[r]));
    UNROLL
    for (int i = 0; i < SUBTILES; i++) {
        x[i] = v_exp(v_sub(x[i], v_set(m)));
        v_store(&w->p[r][16 * i], x[i]);
        sum = v_add(sum, x[i]);
    }
    w->l[r] = sum;
    s->m[r] = m;
}

/* Of the page that begins at position `begin`. */
static void see_page(const bm_attn_span *s, page_seen *seen, int32_t begin)
{
    seen->n = 0;
    for (int r = 0; r < s->n_rows; r++) {
        int64_t from = s->first[r], to = (int64_t)s->last[r] + 1;
        from = from > s->span_begin ? from : s->span_begin;
        to = to < s->span_end ? to : s->span_end;
        from = from > begin ? from - begin : 0;
        to = to < (int64_t)begin + PAGE ? to - begin : PAGE;
        seen->from[r] = seen->to[r] = 0;
        if (from >= to)
            continue;
        seen->from[r] = (int)from, seen->to[r] = (int)to;
        seen->rows[seen->n++] = r;
    }
}

/* A page's K or V as floats, once for all blocks of rows; NULL when that would not pay. */
LANES const void *widen_page(const bm_attn_span *s, const void *page, bool is_k, attn_work *w)
{
    int dim = is_k ? s->head_dim_k : s->head_dim_v;

    if (s->type == BM_KV_F32 || w->seen.n <= 2 * ATTN_ROWS_MAX || dim > WIDEN_DIM)
        return NULL;
    for (int i = 0; i < PAGE * dim; i += 16)
        v_store(w->wide + i, v_load_f16((const uint16_t *)page + i));
    return w->wide;
}

static void attn_pages(const bm_attn_span *s, attn_work *w)
{
    const bm_kv_type type = s->type;

    for (int32_t begin = s->span_begin; begin < s->span_end; begin += PAGE) {
        const unsigned char *page = s->pages[begin / PAGE], *next = begin + PAGE < s->span_end ? s->pages[begin / PAGE + 1] : NULL;
        const void *wide;
        see_page(s, &w->seen, begin);
        if (w->seen.n == 0)
            continue;
        w->ahead = NULL;
        if ((wide = widen_page(s, page, true, w)) != NULL) {
            score_page(s, BM_KV_F32, wide, w);
        } else {
            w->ahead = next;
            score_page(s, type, page, w);
        }
        for (int i = 0; i < w->seen.n; i++)
            softmax_page(s, w, w->seen.rows[i]);
        if ((wide = widen_page(s, page + s->v_offset, false, w)) != NULL) {
            value_page(s, BM_KV_F32, wide, w);
        } else {
            w->ahead = next != NULL ? next + s->v_offset : NULL;
            value_page(s, type, page + s->v_offset, w);
        }
    }
}

#include "compute/kernels_attn16.h"

static void attn_span(const bm_attn_span *s)
{
    attn_work w;

    if (is_whole(s->type)) {
        attn16_span(s);
        return;
    }
    for (int r = 0; r < s->n_rows; r++) {
        w.l[r] = v_set(0);
        s->m[r] = -INFINITY;
        memset(s->acc[r], 0, (size_t)s->head_dim_v * sizeof **s->acc);
    }
    attn_pages(s, &w);
    for (int r = 0; r < s->n_rows; r++)
        s->l[r] = v_sum(w.l[r]);
}
