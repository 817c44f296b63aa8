/* pass_attention.c - grouped-query attention in training: the forward of attention.c over the segments of a row, and back.
 *
 * Forward keeps q, K and V, these two in the cache's type, and per row the log of the sum of exp. Each item lays a segment's K and
 * V out in pages as serving would have them, so that the same kernel adds up in the same order: the bits are those of serving.
 * Backward makes the scores again, tile by tile (FlashAttention, arXiv 2205.14135, algorithm 4), from q, K and V as its products
 * took them. The gradient passes through the roundings of q, K, V and, with int16, of the probabilities unchanged. */
#include "model/pass_walk.h"

#include <math.h>
#include <string.h>

/* Heads that one item makes: one, when tiles end where heads end; else all of them. */
static int heads_per_item(int n_heads, int head_dim)
{
    return head_dim % BM_TILE_ROWS ? n_heads : 1;
}

static int kv_heads_per_item(const bm_hparams *h)
{
    return h->head_v % BM_TILE_ROWS ? h->n_kv_heads : heads_per_item(h->n_kv_heads, h->head_k);
}

static float temperature(const bm_train_walk *w, int64_t t)
{
    const bm_hparams *h = &w->p->model->h;
    float position = (float)((int32_t)t - w->p->first[t]);

    return h->temp_scale > 0 ? 1 + h->temp_scale * logf(1 + floorf(position / (float)h->temp_len)) : 1;
}

/* The first token that token t sees. */
static int64_t first_seen(const bm_train_walk *w, int layer, int64_t t)
{
    int64_t first = w->p->first[t], window = w->p->model->h.layers[layer].window;

    return window > 0 && t - first >= window ? t - window + 1 : first;
}

/* ---- q, k and v ---- */

static void linear_rows(const bm_train_walk *w, int layer, bm_lora_site lora, const bm_linear *l, int64_t row, int64_t n_rows,
                        int64_t t, int64_t end, float *out, int64_t stride)
{
    int64_t tile = row / BM_TILE_ROWS, tile_end = tile + (n_rows + BM_TILE_ROWS - 1) / BM_TILE_ROWS;

    bm_train_linear_part(w, layer, lora, l, w->p->in, tile, tile_end, t, end, out, stride);
}

/* Head norm (what comes in is kept in raw) and RoPE of one head. */
static void finish_head(const bm_train_walk *w, int layer, const bm_norm *norm, float *raw, float *x, int64_t t)
{
    const bm_hparams *h = &w->p->model->h;
    int rope = h->layers[layer].rope, n_rot = h->ropes[rope].n_rot;

    if (norm->weight) {
        memcpy(raw, x, (size_t)h->head_k * sizeof *x);
        bm_train_norm(w, norm, x, x, h->head_k);
    }
    w->w.k->rope(x, w->p->cos_sin[rope] + t * n_rot, n_rot, true);
}

static void q_item(const bm_train_walk *w, int layer, int head, int n_heads, int64_t t, int64_t end)
{
    const bm_hparams *h = &w->p->model->h;
    const bm_layer_weights *l = &w->p->model->w.layers[layer];
    const bm_saved *s = bm_pass_saved(w->p, layer);
    int64_t stride = (int64_t)h->n_heads * h->head_k, row = (int64_t)head * h->head_k;

    linear_rows(w, layer, BM_LORA_Q, &l->q, row, (int64_t)n_heads * h->head_k, t, end, s->q + t * stride + row, stride);
    for (; t < end; t++)
        for (int i = 0; i < n_heads; i++) {
            int64_t at = t * stride + row + (int64_t)i * h->head_k;
            float warm = temperature(w, t);
            finish_head(w, layer, &l->q_norm, s->q_raw ? s->q_raw + at : NULL, s->q + at, t);
            if (warm != 1)
                w->w.k->scale(s->q + at, warm, h->head_k);
        }
}

/* Row `row` of K or V (kv-head * T + token) as the cache has it, and n_rows of them back as floats. */
static void keep_kv(const bm_train_walk *w, void *kept, float *scale, int64_t row, const float *x, int dim)
{
    bm_kv_type type = w->p->model->kv_type;

    if (type == BM_KV_INT16)
        scale[row] = w->w.k->put_int16((int16_t *)kept + row * dim, x, dim);
    else
        bm_keep_floats(w, type == BM_KV_F32, kept, row * dim, x, dim);
}

static void kept_kv(const bm_train_walk *w, const void *kept, const float *scale, int64_t row, float *x, int64_t n_rows, int dim)
{
    bm_kv_type type = w->p->model->kv_type;

    if (type != BM_KV_INT16) {
        bm_kept_floats(w, type == BM_KV_F32, kept, row * dim, x, n_rows * dim);
        return;
    }
    for (const int16_t *q = (const int16_t *)kept + row * dim; n_rows > 0; n_rows--, row++)
        for (int d = 0; d < dim; d++)
            *x++ = (float)*q++ * scale[row];
}

static void kv_item(const bm_train_walk *w, int layer, int head, int n_heads, int64_t t, int64_t end)
{
    const bm_hparams *h = &w->p->model->h;
    const bm_layer_weights *l = &w->p->model->w.layers[layer];
    const bm_saved *s = bm_pass_saved(w->p, layer);
    int64_t stride = bm_attention_kv_unit(h), k_rows = (int64_t)n_heads * h->head_k, v_rows = (int64_t)n_heads * h->head_v;
    float *kv = w->own->kv;

    linear_rows(w, layer, BM_LORA_K, &l->k, (int64_t)head * h->head_k, k_rows, t, end, kv, stride);
    linear_rows(w, layer, BM_LORA_V, &l->v, (int64_t)head * h->head_v, v_rows, t, end, kv + k_rows, stride);
    for (; t < end; t++, kv += stride)
        for (int i = 0; i < n_heads; i++) {
            float *k = kv + (int64_t)i * h->head_k, *v = kv + k_rows + (int64_t)i * h->head_v;
            int64_t at = (t * h->n_kv_heads + head + i) * h->head_k;
            finish_head(w, layer, &l->k_norm, s->k_raw ? s->k_raw + at : NULL, k, t);
            keep_kv(w, s->k, s->k_scale, (head + i) * (int64_t)w->n_tokens + t, k, h->head_k);
            keep_kv(w, s->v, s->v_scale, (head + i) * (int64_t)w->n_tokens + t, v, h->head_v);
        }
}

static void qkv_phase(const bm_train_walk *w, int layer)
{
    const bm_hparams *h = &w->p->model->h;
    int64_t n_tokens = w->n_tokens, n_blocks = (n_tokens + BM_TOKEN_BLOCK - 1) / BM_TOKEN_BLOCK;
    int q_unit = heads_per_item(h->n_heads, h->head_k), kv_unit = kv_heads_per_item(h);
    int n_kv = h->n_kv_heads / kv_unit, n_items = n_kv + h->n_heads / q_unit;
    size_t begin, end;

    while (bm_worker_claim(w->w.worker, (size_t)(n_items * n_blocks), 1, &begin, &end)) {
        int64_t t = (int64_t)begin / n_items * BM_TOKEN_BLOCK, item = (int64_t)begin % n_items;
        int64_t t_end = t + BM_TOKEN_BLOCK < n_tokens ? t + BM_TOKEN_BLOCK : n_tokens;
        if (item < n_kv)
            kv_item(w, layer, (int)item * kv_unit, kv_unit, t, t_end);
        else
            q_item(w, layer, (int)(item - n_kv) * q_unit, q_unit, t, t_end);
    }
    bm_worker_barrier(w->w.worker);
}

/* ---- attention ---- */

/* K and V of kv-head `kv` for the segment [begin, end), as pages of the cache. */
static void make_pages(const bm_train_walk *w, int layer, int kv, int64_t begin, int64_t end)
{
    const bm_model *m = w->p->model;
    const bm_saved *s = bm_pass_saved(w->p, layer);
    int64_t ek = m->h.head_k, ev = m->h.head_v;
    float *k = w->own->key, *v = w->own->value;

    for (int64_t at = begin; at < end; at += BM_PAGE_TOKENS) {
        int64_t page = (at - begin) / BM_PAGE_TOKENS, n = end - at < BM_PAGE_TOKENS ? end - at : BM_PAGE_TOKENS;
        unsigned char *memory = w->own->page_memory + (size_t)page * m->kv_head_bytes;
        int64_t row = kv * (int64_t)w->n_tokens + at;
        w->own->pages[page] = memory;
        if (m->kv_type == BM_KV_INT16) {
            for (int i = 0; i < (int)n; i++, row++) {
                bm_kv_place_k16(memory, i, (const int16_t *)s->k + row * ek, s->k_scale[row], (int)ek);
                bm_kv_place_v16(memory + m->kv_v_offset, i, (const int16_t *)s->v + row * ev, s->v_scale[row], (int)ev);
            }
            continue;
        }
        kept_kv(w, s->k, s->k_scale, row, k, n, (int)ek);
        kept_kv(w, s->v, s->v_scale, row, v, n, (int)ev);
        for (int i = 0; i < (int)n; i++)
            w->w.k->kv_store(m->kv_type, memory, m->kv_v_offset, i, k + i * ek, v + i * ev, (int)ek, (int)ev);
    }
}

/* Tokens [t, end) of query head `head`, all spans folded: attn_out and lse. Pages are those of their segment from `begin` on. */
static void attend(const bm_train_walk *w, int layer, int head, int64_t begin, int64_t t, int64_t end)
{
    const bm_model *m = w->p->model;
    const bm_hparams *h = &m->h;
    const bm_saved *s = bm_pass_saved(w->p, layer);
    const float *q[BM_ATTN_ROWS];
    float *acc[BM_ATTN_ROWS], m1[BM_ATTN_ROWS], l1[BM_ATTN_ROWS], top[BM_ATTN_ROWS], sum[BM_ATTN_ROWS] = { 0 };
    int32_t first[BM_ATTN_ROWS], last[BM_ATTN_ROWS];
    int n = (int)(end - t), e = h->head_v;
    bm_attn_span span = { .type = m->kv_type, .head_dim_k = h->head_k, .head_dim_v = e, .n_rows = n, .q = q, .first = first,
                          .last = last, .scale = h->attn_scale, .softcap = h->attn_softcap, .pages = w->own->pages,
                          .v_offset = m->kv_v_offset, .m = m1, .l = l1, .acc = acc };

    for (int i = 0; i < n; i++) {
        q[i] = s->q + ((t + i) * h->n_heads + head) * h->head_k;
        acc[i] = w->own->acc + (int64_t)i * e;
        first[i] = (int32_t)(first_seen(w, layer, t + i) - begin);
        last[i] = (int32_t)(t + i - begin);
    }
    for (int32_t from = first[0] / BM_ATTN_SPAN * BM_ATTN_SPAN; from < end - begin; from += BM_ATTN_SPAN) {
        span.span_begin = from;
        span.span_end = from + BM_ATTN_SPAN < (int32_t)(end - begin) ? from + BM_ATTN_SPAN : (int32_t)(end - begin);
        w->w.k->attn_span(&span);
        for (int i = 0; i < n; i++)
            bm_attention_fold(w->w.k, &top[i], &sum[i], w->own->sum_acc + (int64_t)i * e, m1[i], l1[i], acc[i], e);
    }
    for (int i = 0; i < n; i++) {
        float *out = s->attn_out + ((t + i) * h->n_heads + head) * e, inv = sum[i] > 0 ? 1 / sum[i] : 0;
        for (int j = 0; j < e; j++)
            out[j] = w->own->sum_acc[(int64_t)i * e + j] * inv;
        s->lse[(int64_t)head * w->n_tokens + t + i] = top[i] + logf(sum[i]);
    }
}

/* Of int16: q as the products took it, for backward. Scores made again from another q would not fit the log of the sum of exp, and
 * where scores are large the difference in the exponent is too. */
static void keep_rounded_q(const bm_train_walk *w, int layer, int head, int64_t begin, int64_t end)
{
    const bm_hparams *h = &w->p->model->h;
    int16_t rounded[BM_MAX_HEAD_DIM];

    if (w->p->model->kv_type != BM_KV_INT16)
        return;
    for (int64_t t = begin; t < end; t++) {
        float *q = bm_pass_saved(w->p, layer)->q + (t * h->n_heads + head) * h->head_k;
        float scale = w->w.k->put_int16(rounded, q, h->head_k);
        for (int i = 0; i < h->head_k; i++)
            q[i] = (float)rounded[i] * scale;
    }
}

/* Items are segments and query heads. */
static void attend_phase(const bm_train_walk *w, int layer)
{
    const bm_hparams *h = &w->p->model->h;
    size_t n_heads = (size_t)h->n_heads, item, next;

    while (bm_worker_claim(w->w.worker, (size_t)w->p->n_segments * n_heads, 1, &item, &next)) {
        int head = (int)(item % n_heads);
        int64_t begin = w->p->starts[item / n_heads], end = w->p->starts[item / n_heads + 1];
        make_pages(w, layer, head / (h->n_heads / h->n_kv_heads), begin, end);
        for (int64_t t = begin; t < end; t += BM_ATTN_ROWS)
            attend(w, layer, head, begin, t, t + BM_ATTN_ROWS < end ? t + BM_ATTN_ROWS : end);
        keep_rounded_q(w, layer, head, begin, end);
    }
    bm_worker_barrier(w->w.worker);
}

void bm_train_attention(const bm_train_walk *w, int layer)
{
    bm_pass *p = w->p;
    const bm_saved *s = bm_pass_saved(p, layer);
    int64_t o = (int64_t)p->model->h.n_heads * p->model->h.head_v;
    bm_site out[2] = { p->attn[0], p->attn[1] };
    size_t t, end;

    out[0].f32 = s->attn_out;
    out[0].acts.f32 = s->attn_out;
    qkv_phase(w, layer);
    attend_phase(w, layer);
    while (bm_worker_claim(w->w.worker, (size_t)w->n_tokens, BM_TRAIN_TOKENS, &t, &end)) {
        bm_train_put(w, BM_LORA_O, out, (int64_t)t, (int64_t)(end - t), 0, o, s->attn_out + (int64_t)t * o, o);
        bm_train_lora_down(w, layer, BM_LORA_O, s->attn_out, (int64_t)t, (int64_t)end);
    }
    bm_worker_barrier(w->w.worker);
    bm_train_linear_phase(w, layer, BM_LORA_O, &p->model->w.layers[layer].o, out, s->y_attn);
}

/* ---- backward of attention ---- */

enum { TILE = BM_PAGE_TOKENS };

/* Queries [t, t_end) against keys [at, at_end) of one segment, for one query head. */
typedef struct tile {
    int layer, head;
    int64_t t, t_end, at, at_end;
} tile;

/* P and dS of a tile, zero where a query does not see a key. */
static void score_tile(const bm_train_walk *w, const tile *x)
{
    bm_pass *p = w->p;
    const bm_hparams *h = &p->model->h;
    const bm_saved *saved = bm_pass_saved(p, x->layer);
    int64_t ek = h->head_k, ev = h->head_v, row = x->t * h->n_heads + x->head, n = x->at_end - x->at;
    float *s = w->own->s, *ds = w->own->ds;

    p->grad->gemm(&(bm_gemm){ .m = x->t_end - x->t, .n = n, .k = ek, .a = saved->q + row * ek, .a_row = h->n_heads * ek, .a_col = 1,
                              .b = w->own->key, .b_row = 1, .b_col = ek, .c = s, .c_row = TILE, .alpha = 1,
                              .exact = true });      /* exp would make much of the error of a rounded score */
    p->grad->gemm(&(bm_gemm){ .m = x->t_end - x->t, .n = n, .k = ev, .a = p->d_attn + row * ev, .a_row = h->n_heads * ev, .a_col = 1,
                              .b = w->own->value, .b_row = 1, .b_col = ev, .c = ds, .c_row = TILE, .alpha = 1,
                              .exact = p->exact });
    for (int64_t t = x->t; t < x->t_end; t++, s += TILE, ds += TILE) {
        int64_t seen = first_seen(w, x->layer, t) - x->at, from = seen > 0 ? seen : 0, to = t + 1 - x->at < n ? t + 1 - x->at : n;
        from = from < to ? from : to;                /* none of the tile */
        int64_t at = (int64_t)x->head * w->n_tokens + t;
        w->w.k->attn_back(s + from, ds + from, to - from, h->attn_scale, h->attn_softcap, saved->lse[at], p->delta[at]);
        memset(s, 0, (size_t)from * sizeof *s);
        memset(ds, 0, (size_t)from * sizeof *ds);
        memset(s + to, 0, (size_t)(n - to) * sizeof *s);
        memset(ds + to, 0, (size_t)(n - to) * sizeof *ds);
    }
}

/* What a tile adds to dV, dK (of this query head) and dQ. */
static void add_tile(const bm_train_walk *w, const tile *x)
{
    bm_pass *p = w->p;
    const bm_hparams *h = &p->model->h;
    int64_t ek = h->head_k, ev = h->head_v, row = x->t * h->n_heads + x->head, key = x->at * h->n_heads + x->head;
    int64_t n_queries = x->t_end - x->t, n_keys = x->at_end - x->at;

    p->grad->gemm(&(bm_gemm){ .m = n_keys, .n = ev, .k = n_queries, .a = w->own->s, .a_row = 1, .a_col = TILE,
                              .b = p->d_attn + row * ev, .b_row = h->n_heads * ev, .b_col = 1,
                              .c = p->dv_heads + key * ev, .c_row = h->n_heads * ev, .alpha = 1, .add = true, .exact = p->exact });
    p->grad->gemm(&(bm_gemm){ .m = n_keys, .n = ek, .k = n_queries, .a = w->own->ds, .a_row = 1, .a_col = TILE,
                              .b = bm_pass_saved(p, x->layer)->q + row * ek, .b_row = h->n_heads * ek, .b_col = 1,
                              .c = p->dk_heads + key * ek, .c_row = h->n_heads * ek, .alpha = 1, .add = true, .exact = p->exact });
    p->grad->gemm(&(bm_gemm){ .m = n_queries, .n = ek, .k = n_keys, .a = w->own->ds, .a_row = TILE, .a_col = 1,
                              .b = w->own->key, .b_row = ek, .b_col = 1, .c = p->dq + row * ek, .c_row = h->n_heads * ek, .alpha = 1,
                              .add = true, .exact = p->exact });
}

/* delta, and zeros to add to. */
static void begin_attend_back(const bm_train_walk *w, int layer, int head, int64_t begin, int64_t end)
{
    bm_pass *p = w->p;
    int64_t n_heads = p->model->h.n_heads, ek = p->model->h.head_k, ev = p->model->h.head_v;
    const float *out = bm_pass_saved(p, layer)->attn_out;

    for (int64_t t = begin; t < end; t++) {
        int64_t row = t * n_heads + head;
        p->delta[(int64_t)head * w->n_tokens + t] = w->w.k->dot(p->d_attn + row * ev, out + row * ev, ev);
        memset(p->dq + row * ek, 0, (size_t)ek * sizeof(float));
        memset(p->dk_heads + row * ek, 0, (size_t)ek * sizeof(float));
        memset(p->dv_heads + row * ev, 0, (size_t)ev * sizeof(float));
    }
}

/* One query head over the tokens [begin, end) of a segment: dq, and its own part of dK and dV. */
static void attend_back(const bm_train_walk *w, int layer, int head, int64_t begin, int64_t end)
{
    const bm_hparams *h = &w->p->model->h;
    const bm_saved *s = bm_pass_saved(w->p, layer);
    int64_t window = h->layers[layer].window, kv = head / (h->n_heads / h->n_kv_heads);
    tile x = { .layer = layer, .head = head };

    begin_attend_back(w, layer, head, begin, end);
    for (x.at = begin; x.at < end; x.at += TILE) {
        x.at_end = x.at + TILE < end ? x.at + TILE : end;
        /* Queries from here on see none of these keys. */
        int64_t last = window > 0 && x.at_end - 1 + window < end ? x.at_end - 1 + window : end;
        kept_kv(w, s->k, s->k_scale, kv * w->n_tokens + x.at, w->own->key, x.at_end - x.at, h->head_k);
        kept_kv(w, s->v, s->v_scale, kv * w->n_tokens + x.at, w->own->value, x.at_end - x.at, h->head_v);
        for (x.t = x.at; x.t < last; x.t += TILE) {
            x.t_end = x.t + TILE < last ? x.t + TILE : last;
            score_tile(w, &x);
            add_tile(w, &x);
        }
    }
}

static void attend_back_phase(const bm_train_walk *w, int layer)
{
    size_t n_heads = (size_t)w->p->model->h.n_heads, begin, end;
    const int32_t *starts = w->p->starts;

    while (bm_worker_claim(w->w.worker, (size_t)w->p->n_segments * n_heads, 1, &begin, &end))
        attend_back(w, layer, (int)(begin % n_heads), starts[begin / n_heads], starts[begin / n_heads + 1]);
    bm_worker_barrier(w->w.worker);
}

/* ---- backward of q, k and v ---- */

/* dq and dk of one token back through RoPE and head norms; dk and dv are first added up over the heads of a group. */
static void qkv_token_back(const bm_train_walk *w, int layer, int64_t t)
{
    bm_pass *p = w->p;
    const bm_hparams *h = &p->model->h;
    const bm_layer_weights *l = &p->model->w.layers[layer];
    const bm_saved *s = bm_pass_saved(p, layer);
    int rope = h->layers[layer].rope, n_rot = h->ropes[rope].n_rot, group = h->n_heads / h->n_kv_heads;
    int64_t ek = h->head_k, ev = h->head_v;
    float *back = w->own->row, warm = temperature(w, t);

    memcpy(back, p->cos_sin[rope] + t * n_rot, (size_t)n_rot * sizeof *back);
    for (int i = 1; i < n_rot; i += 2)
        back[i] = -back[i];
    for (int head = 0; head < h->n_heads; head++) {
        int64_t at = (t * h->n_heads + head) * ek;
        if (warm != 1)
            w->w.k->scale(p->dq + at, warm, ek);
        w->w.k->rope(p->dq + at, back, n_rot, true);
        if (l->q_norm.weight)
            bm_train_norm_back(w, &l->q_norm, p->dq + at, p->dq + at, s->q_raw + at, ek, false);
    }
    for (int kv = 0; kv < h->n_kv_heads; kv++) {
        int64_t head = t * h->n_heads + (int64_t)kv * group, at = t * h->n_kv_heads + kv;
        float *dk = p->dk + at * ek, *dv = p->dv + at * ev;
        memcpy(dk, p->dk_heads + head * ek, (size_t)ek * sizeof *dk);
        memcpy(dv, p->dv_heads + head * ev, (size_t)ev * sizeof *dv);
        for (int i = 1; i < group; i++) {
            w->w.k->add(dk, p->dk_heads + (head + i) * ek, ek);
            w->w.k->add(dv, p->dv_heads + (head + i) * ev, ev);
        }
        w->w.k->rope(dk, back, n_rot, true);
        if (l->k_norm.weight)
            bm_train_norm_back(w, &l->k_norm, dk, dk, s->k_raw + at * ek, ek, false);
    }
}

static void qkv_back_phase(bm_train_walk *w, int layer, bool below)
{
    bm_pass *p = w->p;
    const bm_layer_weights *l = &p->model->w.layers[layer];
    int64_t d = p->model->h.d_model;
    size_t t, end;

    bm_back_begin(w, 0, BM_LORA_Q, &l->q, p->dq);
    bm_back_begin(w, 1, BM_LORA_K, &l->k, p->dk);
    bm_back_begin(w, 2, BM_LORA_V, &l->v, p->dv);
    while (bm_worker_claim(w->w.worker, (size_t)w->n_tokens, BM_TRAIN_TOKENS, &t, &end)) {
        for (size_t i = t; i < end; i++) {
            qkv_token_back(w, layer, (int64_t)i);
            bm_train_norm(w, &l->attn_norm, p->norm + (int64_t)i * d, p->x_attn[layer] + (int64_t)i * d, d);
        }
        for (int i = 0; i < 3; i++)
            bm_back_put(w, layer, i, (int64_t)t, (int64_t)end);
    }
    bm_worker_barrier(w->w.worker);
    bm_back_phase(w, layer, 3, p->norm, below ? p->dn : NULL, NULL);
}

void bm_train_attention_back(bm_train_walk *w, int layer, bool below)
{
    bm_pass *p = w->p;
    const bm_layer_weights *l = &p->model->w.layers[layer];
    const bm_saved *s = bm_pass_saved(p, layer);
    size_t t, end;

    bm_back_begin(w, 0, BM_LORA_O, &l->o, p->g);
    while (bm_worker_claim(w->w.worker, (size_t)w->n_tokens, BM_TRAIN_TOKENS, &t, &end)) {
        for (size_t i = t; i < end; i++)
            bm_residual_back(w, &l->attn_post_norm, s->y_attn, (int64_t)i);
        bm_back_put(w, layer, 0, (int64_t)t, (int64_t)end);
    }
    bm_worker_barrier(w->w.worker);
    bm_back_phase(w, layer, 1, s->attn_out, p->d_attn, NULL);
    attend_back_phase(w, layer);
    qkv_back_phase(w, layer, below);
}
