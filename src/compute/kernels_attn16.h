/* kernels_attn16.h - attention over K and V in int16 or int8: both products are sums of whole numbers, exact in any order; included by
 * kernels_attn.h, whose words hold here too but for the arithmetic of a page:
 *   q of a row is rounded like a row of K in int16, once a span. Dimensions are taken in chunks: of 128, or of the BM_KV_GROUP that
 *   share a scale of int8. y = (float)I * (scale of K's position), I = sum over the chunk of q[d] * K[d][position]; of further chunks
 *   y = fma((float)I, scale, y). With a softcap, y is then capped in units of scores;
 *   top = max y of the seen positions; m' = max(m, top); of the two one counts less: c = e^(m - m') or d = e^(top - m'), the other is 1;
 *   p = e^(y - top); l = fma(p[0..15] + p[16..31] + (p[32..47] + p[48..63]), d, l * c) in 16 partials;
 *   w = p * (scale of V's position / the largest such scale) in steps of 1 / P_STEPS, 0 where the row does not see the position;
 *   int8: so for each group of dimensions;
 *   acc = fma((float)(sum over positions w * V), d * largest scale / P_STEPS, acc * c).
 * What is not finite in q, in K of a seen position, or in what of V shares a scale with it, makes acc NaN. Positions not seen may hold
 * anything. */
#pragma once

enum { CHUNK_PAIRS = 64, P_STEPS = 8191 };       /* 4095 * 4095 * 128 and 8191 * 4095 * 64 are below 2^31 */

typedef union row16 { float y[PAGE]; int16_t w[PAGE]; } row16;   /* scores, then in their place w */

typedef struct work16 {
    v16 l[BM_ATTN_ROWS];
    _Alignas(64) row16 rows[BM_ATTN_ROWS];
    _Alignas(64) float p[BM_ATTN_ROWS][PAGE];        /* of int8, whose groups of dimensions have each their w */
    _Alignas(64) float m[BM_ATTN_ROWS], unit[BM_ATTN_ROWS], by[BM_ATTN_ROWS];        /* unit: of y in q.k; by: from y to log2 p */
    _Alignas(64) float top[BM_ATTN_ROWS], c[BM_ATTN_ROWS], d[BM_ATTN_ROWS];
    _Alignas(64) float v_scale[PAGE];    /* of this page (and group), times P_STEPS / largest */
    float v_step, step[BM_ATTN_ROWS];    /* largest / P_STEPS; what a row's sums of w * V are multiplied by */
    page_seen seen;
    const unsigned char *ahead;
    _Alignas(64) int16_t q[BM_ATTN_ROWS * KV_DIM_MAX];
} work16;

/* Into the second level: two pages of K and V would fill the first, and what is needed now with it (measured: 7.8 to 6.3 ms of a
 * step's attention at 4,096 positions; the scales fetched too: 4.9 ms). */
LANES void fetch16(const unsigned char *ahead, size_t offset, size_t len_bytes)
{
    if (ahead != NULL)
        for (size_t i = 0; i < len_bytes; i += 64)
            __builtin_prefetch(ahead + offset + i, 0, 2);
}

/* 2^x for x <= 0, relative error 3e-6; 2^-64 below that; NaN for NaN; 2^0 = 1 exactly. */
LANES v16 v_exp2_16(v16 x)
{
    v16 clamped = v_max(v_set(-64.0f), x), z = v_add(clamped, v_set(ROUND_SHIFT)), r = v_sub(clamped, v_sub(z, v_set(ROUND_SHIFT)));
    v16 p = v_fma(v_set(0x1.3a02cap-7f), r, v_set(0x1.c9fc46p-5f));

    p = v_fma(p, r, v_set(0x1.ec0378p-3f));
    p = v_fma(p, r, v_set(0x1.62e12cp-1f));
    p = v_fma(p, r, v_set(1.0f));
    return v_scale2_shifted(p, z);
}

LANES int n_pairs_of(int dim) { return (dim + 1) / 2; }
LANES int q_stride(int dim) { return (dim + 31) / 32 * 32; }

/* 16 pairs, from pair `at` on. */
LANES i16 load_pairs(bm_kv_type type, const void *base, size_t at)
{
    return type == BM_KV_INT8 ? i_load8((const int8_t *)base + 2 * at) : i_load((const int16_t *)base + 2 * at);
}

/* The scales of 16 positions, from scale `at` on. */
LANES v16 load_scale(bm_kv_type type, const void *scales, size_t at)
{
    return type == BM_KV_INT8 ? v_load_f16((const uint16_t *)scales + at) : v_load((const float *)scales + at);
}

LANES const void *scales_of(bm_kv_type type, const void *values, int dim)
{
    return (const unsigned char *)values + 2 * PAGE * value_bytes(type) * (size_t)n_pairs_of(dim);
}

/* Scores of n_rows rows (a constant) at n_sub (a constant) times 16 positions. */
LANES void score16_block(const bm_attn_span *s, bm_kv_type type, const void *k, work16 *w, const int *rows, int n_rows, int sub,
                         int n_sub)
{
    const int n_pairs = n_pairs_of(s->head_dim_k), chunk = type == BM_KV_INT8 ? BM_KV_GROUP / 2 : CHUNK_PAIRS;
    const int n_groups = type == BM_KV_INT8 ? n_groups_of(s->head_dim_k) : 1;
    const void *scales = scales_of(type, k, s->head_dim_k);
    const size_t vector_bytes = 32 * value_bytes(type);
    const int16_t *q[6];

    UNROLL
    for (int r = 0; r < n_rows; r++)
        q[r] = w->q + rows[r] * q_stride(s->head_dim_k);
    for (int begin = 0; begin < n_pairs; begin += chunk) {
        int end = begin + chunk < n_pairs ? begin + chunk : n_pairs, group = type == BM_KV_INT8 ? begin / chunk : 0;
        i16 sum[6][SUBTILES];
        UNROLL
        for (int r = 0; r < n_rows; r++)
            UNROLL
            for (int i = 0; i < n_sub; i++)
                sum[r][i] = i_zero();
        for (int j = begin; j < end; j++) {
            i16 kj[SUBTILES];
            fetch16(w->ahead, (size_t)(sub * n_pairs + j * n_sub) * vector_bytes, (size_t)n_sub * vector_bytes);
            UNROLL
            for (int i = 0; i < n_sub; i++)
                kj[i] = load_pairs(type, k, (size_t)((sub + i) * n_pairs + j) * 16);
            UNROLL
            for (int r = 0; r < n_rows; r++) {
                i16 qj = i_pair(q[r] + 2 * j);
                UNROLL
                for (int i = 0; i < n_sub; i++)
                    sum[r][i] = i_dot(sum[r][i], kj[i], qj);
            }
        }
        UNROLL
        for (int i = 0; i < n_sub; i++) {
            v16 scale = load_scale(type, scales, (size_t)((sub + i) * n_groups + group) * 16);
            UNROLL
            for (int r = 0; r < n_rows; r++) {
                float *y = &w->rows[rows[r]].y[16 * (sub + i)];
                v16 x = v_from_int(sum[r][i]);
                v_store(y, begin == 0 ? v_mul(x, scale) : v_fma(x, scale, v_load(y)));
            }
        }
    }
}

LANES void score16_rows(const bm_attn_span *s, bm_kv_type type, const void *k, work16 *w, const int *rows, int n_rows)
{
    for (int sub = 0; sub < SUBTILES; sub += ATTN_SUBTILES)
        score16_block(s, type, k, w, rows, n_rows, sub, ATTN_SUBTILES);
}

LANES void score16_page_of(const bm_attn_span *s, bm_kv_type type, const void *k, work16 *w)
{
    for (int i = 0, n; i < w->seen.n; i += ATTN_ROWS_MAX) {
        n = w->seen.n - i;
#define SCORE(rows_n) score16_rows(s, type, k, w, w->seen.rows + i, rows_n)
        ATTN_DISPATCH(SCORE)
#undef SCORE
        w->ahead = NULL;                         /* once is enough */
    }
}

static void score16_page(const bm_attn_span *s, const void *k, work16 *w)
{
    if (bm_kv_type_k(s->type) == BM_KV_INT8)
        score16_page_of(s, BM_KV_INT8, k, w);
    else
        score16_page_of(s, BM_KV_INT16, k, w);
}

/* acc of n_rows rows for 16 * n_vec values of V (n_rows, n_vec constants) from dimension d on, of which n exist. V is read up to 60
 * bytes beyond a pair of positions: behind the last its scales stand. */
LANES void value16_block(const bm_attn_span *s, bm_kv_type type, const void *v, work16 *w, const int *rows, int n_rows, int d, int n_vec,
                         int n)
{
    i16 sum[6][CHUNK];
    int begin = w->seen.from[rows[0]], end = w->seen.to[rows[0]];

    UNROLL
    for (int r = 0; r < n_rows; r++) {
        begin = w->seen.from[rows[r]] < begin ? w->seen.from[rows[r]] : begin;
        end = w->seen.to[rows[r]] > end ? w->seen.to[rows[r]] : end;
        UNROLL
        for (int i = 0; i < n_vec; i++)
            sum[r][i] = i_zero();
    }
    for (int j = begin / 2; j < n_pairs_of(end); j++) {
        size_t at = (size_t)j * (size_t)s->head_dim_v + (size_t)d;
        i16 vj[CHUNK];
        fetch16(w->ahead, 2 * at * value_bytes(type), (size_t)n_vec * 32 * value_bytes(type));
        UNROLL
        for (int i = 0; i < n_vec; i++)
            vj[i] = load_pairs(type, v, at + (size_t)(16 * i));
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            i16 p = i_pair(w->rows[rows[r]].w + 2 * j);
            UNROLL
            for (int i = 0; i < n_vec; i++)
                sum[r][i] = i_dot(sum[r][i], vj[i], p);
        }
    }
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        v16 step = v_set(w->step[rows[r]]), c = v_set(w->c[rows[r]]);
        UNROLL
        for (int i = 0; i < n_vec; i++) {
            float *acc = s->acc[rows[r]] + d + 16 * i;
            if (n == 16 * n_vec)
                v_store(acc, v_fma(v_from_int(sum[r][i]), step, v_mul(v_load(acc), c)));
            else
                v_store_n(acc, v_fma(v_from_int(sum[r][i]), step, v_mul(v_load_n(acc, n, 0), c)), n);
        }
    }
}

/* Dimensions [d, end). */
LANES void value16_rows(const bm_attn_span *s, bm_kv_type type, const void *v, work16 *w, const int *rows, int n_rows, int d, int end)
{
    const int n_vec = (int)ATTN_SUBTILES != (int)SUBTILES ? 1 : type == BM_KV_INT8 ? BM_KV_GROUP / 16 : CHUNK;       /* registers */

    for (; d + 16 * n_vec <= end; d += 16 * n_vec)
        value16_block(s, type, v, w, rows, n_rows, d, n_vec, 16 * n_vec);
    for (; n_vec > 1 && d + 16 <= end; d += 16)
        value16_block(s, type, v, w, rows, n_rows, d, 1, 16);
    if (d < end)
        value16_block(s, type, v, w, rows, n_rows, d, 1, end - d);
}

LANES void value16_dims(const bm_attn_span *s, bm_kv_type type, const void *v, work16 *w, int d, int end)
{
    const unsigned char *ahead = w->ahead;

    for (int i = 0, n; i < w->seen.n; i += ATTN_ROWS_MAX) {
        n = w->seen.n - i;
#define VALUE(rows_n) value16_rows(s, type, v, w, w->seen.rows + i, rows_n, d, end)
        ATTN_DISPATCH(VALUE)
#undef VALUE
        w->ahead = NULL;
    }
    w->ahead = ahead;
}

/* Lanes of the i-th 16 positions that row r sees; fill elsewhere. */
LANES v16 keep_seen(const page_seen *seen, int r, int i, v16 x, v16 fill)
{
    int from = seen->from[r] - 16 * i, to = seen->to[r] - 16 * i;

    return v_keep(x, from < 0 ? 0 : from > 16 ? 16 : from, to < 0 ? 0 : to > 16 ? 16 : to, fill);
}

LANES bool sees_all(const page_seen *seen, int r) { return seen->from[r] == 0 && seen->to[r] == PAGE; }

/* The largest of each partial of row r's scores, which are made ready first: capped, -inf where the row does not see. */
LANES v16 top_partials(const bm_attn_span *s, work16 *w, int r)
{
    float *y = w->rows[r].y;

    if (s->softcap > 0)
        for (int i = 0; i < PAGE; i += 16)
            v_store(y + i, v_softcap(v_mul(v_load(y + i), v_set(w->unit[r])), s->softcap));
    if (!sees_all(&w->seen, r))
        for (int i = 0; i < SUBTILES; i++)
            v_store(y + 16 * i, keep_seen(&w->seen, r, i, v_load(y + 16 * i), v_set(-INFINITY)));
    return v_max(v_max(v_load(y), v_load(y + 16)), v_max(v_load(y + 32), v_load(y + 48)));
}

/* m, top, c and d of rows [begin, begin + 16), sixteen at a time. */
LANES void weigh_rows(const bm_attn_span *s, work16 *w, int begin)
{
    int n = s->n_rows - begin < 16 ? s->n_rows - begin : 16;
    v16 partials[16], top, m = v_load(w->m + begin), most, less;
    m16 rise;

    for (int i = 0; i < 16; i++)
        partials[i] = i < n && w->seen.to[begin + i] > 0 ? top_partials(s, w, begin + i) : v_set(-INFINITY);
    if (n > 4) {
        top = v_largests(partials);
    } else {
        for (int i = 0; i < 16; i++)
            w->top[begin + i] = i < n ? v_largest(partials[i]) : -INFINITY;
        top = v_load(w->top + begin);
    }
    most = v_max(top, m);
    less = v_exp2_16(v_mul(v_sub(v_min(top, m), most), v_load(w->by + begin)));
    rise = v_less(m, top);
    v_store(w->top + begin, top);
    v_store(w->m + begin, most);
    v_store(w->c + begin, v_select(rise, less, v_set(1)));
    v_store(w->d + begin, v_select(rise, v_set(1), less));
}

/* The scales of V that row r sees (seen NULL: all), times P_STEPS / the largest; NaN for one that is not finite. What comes back is the
 * largest / P_STEPS, NaN if any is. */
LANES float weigh_values(bm_kv_type type, const void *scales, const page_seen *seen, int r, v16 out[SUBTILES])
{
    v16 most = v_set(1e-30f), sum = v_set(0), by;
    float largest;

    UNROLL
    for (int i = 0; i < SUBTILES; i++) {
        out[i] = load_scale(type, scales, (size_t)(16 * i));
        if (seen != NULL)
            out[i] = keep_seen(seen, r, i, out[i], v_set(0));
        most = v_max(out[i], most);
        sum = v_add(sum, out[i]);
    }
    largest = v_largest(most);
    by = v_set(P_STEPS / largest);
    UNROLL
    for (int i = 0; i < SUBTILES; i++)
        out[i] = v_mul(out[i], by);
    return v_any_nan(sum) ? NAN : largest * (1.0f / P_STEPS);
}

LANES void weigh_page(bm_kv_type type, const void *scales, work16 *w)
{
    v16 scale[SUBTILES];

    w->v_step = weigh_values(type, scales, NULL, 0, scale);
    UNROLL
    for (int i = 0; i < SUBTILES; i++)
        v_store(w->v_scale + 16 * i, scale[i]);
}

/* w of row r from its p. */
LANES void round_values(bm_kv_type type, const void *scales, work16 *w, int r, const v16 p[SUBTILES])
{
    v16 scale[SUBTILES], shift = v_set(ROUND_SHIFT);
    float step = w->v_step;

    UNROLL
    for (int i = 0; i < SUBTILES; i++)
        scale[i] = v_load(w->v_scale + 16 * i);
    if (!sees_all(&w->seen, r))
        step = weigh_values(type, scales, &w->seen, r, scale);
    w->step[r] = v_any_nan(w->l[r]) ? NAN : step * w->d[r];
    UNROLL
    for (int i = 0; i < SUBTILES; i += 2)
        v_store_low(w->rows[r].w + 16 * i, v_fma(p[i], scale[i], shift), v_fma(p[i + 1], scale[i + 1], shift));
}

/* Scores of row r become p; l follows. */
LANES void softmax16_row(work16 *w, int r, v16 p[SUBTILES])
{
    v16 sum, top = v_set(w->top[r]), by = v_set(w->by[r]);

    UNROLL
    for (int i = 0; i < SUBTILES; i++)
        p[i] = v_exp2_16(v_mul(v_sub(v_load(w->rows[r].y + 16 * i), top), by));
    sum = v_add(v_add(p[0], p[1]), v_add(p[2], p[3]));
    w->l[r] = v_fma(sum, v_set(w->d[r]), v_mul(w->l[r], v_set(w->c[r])));
}

/* Softmax and the product with V; int16 rounds p while it is in registers. */
static void finish16_page(const bm_attn_span *s, const int16_t *v, work16 *w)
{
    const float *scales = scales_of(BM_KV_INT16, v, s->head_dim_v);
    v16 p[SUBTILES];

    weigh_page(BM_KV_INT16, scales, w);
    for (int i = 0; i < w->seen.n; i++) {
        softmax16_row(w, w->seen.rows[i], p);
        round_values(BM_KV_INT16, scales, w, w->seen.rows[i], p);
    }
    value16_dims(s, BM_KV_INT16, v, w, 0, s->head_dim_v);
}

static void finish8_page(const bm_attn_span *s, const int8_t *v, work16 *w)
{
    const uint16_t *scales = scales_of(BM_KV_INT8, v, s->head_dim_v);
    v16 p[SUBTILES];

    for (int i = 0; i < w->seen.n; i++) {
        softmax16_row(w, w->seen.rows[i], p);
        UNROLL
        for (int j = 0; j < SUBTILES; j++)
            v_store(w->p[w->seen.rows[i]] + 16 * j, p[j]);
    }
    for (int d = 0; d < s->head_dim_v; d += BM_KV_GROUP, scales += PAGE) {
        weigh_page(BM_KV_INT8, scales, w);
        for (int i = 0; i < w->seen.n; i++) {
            UNROLL
            for (int j = 0; j < SUBTILES; j++)
                p[j] = v_load(w->p[w->seen.rows[i]] + 16 * j);
            round_values(BM_KV_INT8, scales, w, w->seen.rows[i], p);
        }
        value16_dims(s, BM_KV_INT8, v, w, d, d + BM_KV_GROUP < s->head_dim_v ? d + BM_KV_GROUP : s->head_dim_v);
    }
}

static void attn16_init(const bm_attn_span *s, work16 *w)
{
    for (int r = 0; r < BM_ATTN_ROWS; r++)
        w->m[r] = -INFINITY, w->by[r] = 1;
    for (int r = 0; r < s->n_rows; r++) {
        w->unit[r] = round_row(w->q + r * q_stride(s->head_dim_k), s->q[r], s->head_dim_k) * s->scale;
        w->by[r] = (s->softcap > 0 ? 1 : w->unit[r]) * 0x1.715476p+0f;
        if (w->by[r] == 0)                       /* q is 0, and so is y: 1 spares 0 * infinity */
            w->by[r] = 1;
        w->l[r] = v_set(0);
        memset(s->acc[r], 0, (size_t)s->head_dim_v * sizeof **s->acc);
    }
}

static void attn16_span(const bm_attn_span *s)
{
    const bm_kv_type k_type = bm_kv_type_k(s->type), v_type = bm_kv_type_v(s->type);
    const size_t k_bytes = bm_kv_side_bytes(k_type, s->head_dim_k), v_bytes = bm_kv_side_bytes(v_type, s->head_dim_v);
    const size_t k_values = 2 * PAGE * value_bytes(k_type) * (size_t)n_pairs_of(s->head_dim_k);
    const size_t v_values = 2 * PAGE * value_bytes(v_type) * (size_t)n_pairs_of(s->head_dim_v);
    bool begun = false;
    work16 w;

    attn16_init(s, &w);
    for (int32_t begin = s->span_begin; begin < s->span_end; begin += PAGE) {
        const unsigned char *page = s->pages[begin / PAGE], *next = begin + PAGE < s->span_end ? s->pages[begin / PAGE + 1] : NULL;
        const void *v = page + s->v_offset;
        see_page(s, &w.seen, begin);
        if (w.seen.n == 0)
            continue;
        if (!begun) {
            fetch16(page, 0, k_bytes);
            fetch16(v, 0, v_bytes);
            begun = true;
        }
        w.ahead = next;
        fetch16(next, k_values, k_bytes - k_values);
        score16_page(s, page, &w);
        for (int r = 0; r < s->n_rows; r += 16)
            weigh_rows(s, &w, r);
        w.ahead = next != NULL ? next + s->v_offset : NULL;
        fetch16(w.ahead, v_values, v_bytes - v_values);
        if (v_type == BM_KV_INT8)
            finish8_page(s, v, &w);
        else
            finish16_page(s, v, &w);
    }
    for (int r = 0; r < s->n_rows; r++) {
        s->l[r] = v_sum(w.l[r]);
        s->m[r] = w.m[r] == -INFINITY ? -INFINITY : s->softcap > 0 ? w.m[r] : w.m[r] * w.unit[r];
    }
}
