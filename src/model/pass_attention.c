/* pass_attention.c - grouped-query attention in training: the forward of attention.c over the segments of a row, and back.
 *
 * A token's place in the pages is its index in the row, so that segments need no padding; its position is counted from its
 * segment's start. Forward keeps q, the pages of K and V in the cache's type, and per row the log of the sum of exp: backward
 * makes the scores again, tile by tile (FlashAttention, arXiv 2205.14135, algorithm 4). The gradient passes through the rounding
 * of K and V unchanged. */
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

static unsigned char *kv_head(const bm_train_walk *w, int layer, int64_t page, int head)
{
    const bm_model *m = w->p->model;

    return bm_pass_saved(w->p, layer)->kv + (size_t)page * m->kv_layer_bytes + (size_t)head * m->kv_head_bytes;
}

/* The first place that token t sees. */
static int64_t first_seen(const bm_train_walk *w, int layer, int64_t t)
{
    int64_t first = w->p->first[t], window = w->p->model->h.layers[layer].window;

    return window > 0 && t - first >= window ? t - window + 1 : first;
}

/* ---- q, k and v ---- */

static void linear_rows(const bm_train_walk *w, int layer, bm_lora_site site, const bm_linear *l, int64_t row, int64_t n_rows,
                        int64_t t, int64_t end, float *out, int64_t stride)
{
    int64_t tile = row / BM_TILE_ROWS;

    bm_linear_part(&w->w, l, &w->p->in, tile, tile + (n_rows + BM_TILE_ROWS - 1) / BM_TILE_ROWS, t, end, out, stride);
    bm_train_lora_up(w, layer, site, row, n_rows, t, end, out, stride);
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

static void kv_item(const bm_train_walk *w, int layer, int head, int n_heads, int64_t t, int64_t end)
{
    const bm_model *m = w->p->model;
    const bm_hparams *h = &m->h;
    const bm_layer_weights *l = &m->w.layers[layer];
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
            w->w.k->kv_store(m->kv_type, kv_head(w, layer, t / BM_PAGE_TOKENS, head + i), m->kv_v_offset, (int)(t % BM_PAGE_TOKENS),
                             k, v, h->head_k, h->head_v);
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

/* Tokens [t, end) of query head `head`, all spans folded: attn_out and lse. */
static void attend(const bm_train_walk *w, int layer, int head, int64_t t, int64_t end)
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
        first[i] = (int32_t)first_seen(w, layer, t + i);
        last[i] = (int32_t)t + i;
    }
    for (int64_t page = first[0] / BM_PAGE_TOKENS; page <= (end - 1) / BM_PAGE_TOKENS; page++)
        w->own->pages[page] = kv_head(w, layer, page, head / (h->n_heads / h->n_kv_heads));
    for (int32_t from = first[0] / BM_ATTN_SPAN * BM_ATTN_SPAN; from < end; from += BM_ATTN_SPAN) {
        span.span_begin = from;
        span.span_end = from + BM_ATTN_SPAN < (int32_t)end ? from + BM_ATTN_SPAN : (int32_t)end;
        w->w.k->attn_span(&span);
        for (int i = 0; i < n; i++)
            bm_attention_fold(w->w.k, &top[i], &sum[i], w->own->sum_acc + (int64_t)i * e, m1[i], l1[i], acc[i], e);
    }
    for (int i = 0; i < n; i++) {
        float *out = s->attn_out + ((t + i) * h->n_heads + head) * e, inv = 1 / sum[i];
        for (int j = 0; j < e; j++)
            out[j] = w->own->sum_acc[(int64_t)i * e + j] * inv;
        s->lse[(int64_t)head * w->n_tokens + t + i] = top[i] + logf(sum[i]);
    }
}

static void attend_phase(const bm_train_walk *w, int layer)
{
    int64_t n_blocks = (w->n_tokens + BM_ATTN_ROWS - 1) / BM_ATTN_ROWS, n_heads = w->p->model->h.n_heads;
    size_t n_items = (size_t)(n_blocks * n_heads), begin, end;

    /* Later blocks see more: longest first. */
    while (bm_worker_claim(w->w.worker, n_items, 1, &begin, &end)) {
        int64_t item = (int64_t)(n_items - 1 - begin), t = item / n_heads * BM_ATTN_ROWS;
        attend(w, layer, (int)(item % n_heads), t, t + BM_ATTN_ROWS < w->n_tokens ? t + BM_ATTN_ROWS : w->n_tokens);
    }
    bm_worker_barrier(w->w.worker);
}

void bm_train_attention(const bm_train_walk *w, int layer)
{
    bm_pass *p = w->p;
    const bm_saved *s = bm_pass_saved(p, layer);
    int64_t o = (int64_t)p->model->h.n_heads * p->model->h.head_v;
    bm_site out = p->attn;
    size_t t, end;

    out.f32 = s->attn_out;
    out.acts.f32 = s->attn_out;
    qkv_phase(w, layer);
    attend_phase(w, layer);
    while (bm_worker_claim(w->w.worker, (size_t)w->n_tokens, BM_TRAIN_TOKENS, &t, &end)) {
        bm_site_put_rows(w->w.k, &out, (int64_t)t, (int64_t)(end - t), 0, o, s->attn_out + (int64_t)t * o, o);
        bm_train_lora_down(w, layer, BM_LORA_O, s->attn_out, (int64_t)t, (int64_t)end);
    }
    bm_worker_barrier(w->w.worker);
    bm_train_linear_phase(w, layer, BM_LORA_O, &p->model->w.layers[layer].o, &out, s->y_attn);
}

/* ---- backward of attention ---- */

enum { TILE = BM_PAGE_TOKENS };

/* K of a page as [Ek][64] and V as [64][Ev], floats. */
static void load_page(const bm_train_walk *w, int layer, int64_t page, int head)
{
    const bm_model *m = w->p->model;
    int64_t e = m->h.head_k, n = TILE * (int64_t)m->h.head_v;
    const unsigned char *k = kv_head(w, layer, page, head), *v = k + m->kv_v_offset;

    for (int64_t i = 0; i < TILE / 16 * e; i++) {
        float *to = w->own->key + i % e * TILE + i / e * 16;
        if (m->kv_type == BM_KV_F32)
            memcpy(to, (const float *)(const void *)k + i * 16, 16 * sizeof *to);
        else
            w->w.k->get_f16(to, (const uint16_t *)(const void *)k + i * 16, 16);
    }
    if (m->kv_type == BM_KV_F32)
        memcpy(w->own->value, v, (size_t)n * sizeof(float));
    else
        w->w.k->get_f16(w->own->value, (const uint16_t *)(const void *)v, n);
}

/* P and dS of queries [t, end) against places [from, to) of the page at `at`; zero where a query does not see a place. */
static void score_tile(const bm_train_walk *w, int layer, int head, int64_t t, int64_t end, int64_t at)
{
    bm_pass *p = w->p;
    const bm_hparams *h = &p->model->h;
    const bm_saved *saved = bm_pass_saved(p, layer);
    int64_t q_stride = (int64_t)h->n_heads * h->head_k, o_stride = (int64_t)h->n_heads * h->head_v;
    float *s = w->own->s, *ds = w->own->ds;

    p->grad->gemm(&(bm_gemm){ .m = end - t, .n = TILE, .k = h->head_k, .a = saved->q + t * q_stride + (int64_t)head * h->head_k,
                              .a_row = q_stride, .a_col = 1, .b = w->own->key, .b_row = TILE, .b_col = 1, .c = s, .c_row = TILE,
                              .alpha = 1, .exact = true });      /* exp would make much of the error of a rounded score */
    p->grad->gemm(&(bm_gemm){ .m = end - t, .n = TILE, .k = h->head_v, .a = p->d_attn + t * o_stride + (int64_t)head * h->head_v,
                              .a_row = o_stride, .a_col = 1, .b = w->own->value, .b_row = 1, .b_col = h->head_v, .c = ds,
                              .c_row = TILE, .alpha = 1, .exact = p->exact });
    for (int64_t i = t; i < end; i++, s += TILE, ds += TILE) {
        int64_t seen = first_seen(w, layer, i), from = seen > at ? seen - at : 0, to = i + 1 - at < TILE ? i + 1 - at : TILE;
        from = from < to ? from : to;    /* none of the page */
        int64_t row = (int64_t)head * w->n_tokens + i;
        w->w.k->attn_back(s + from, ds + from, to - from, h->attn_scale, h->attn_softcap, saved->lse[row], p->delta[row]);
        memset(s, 0, (size_t)from * sizeof *s);
        memset(ds, 0, (size_t)from * sizeof *ds);
        memset(s + to, 0, (size_t)(TILE - to) * sizeof *s);
        memset(ds + to, 0, (size_t)(TILE - to) * sizeof *ds);
    }
}

/* What the tile adds to dV, dK (own memory, of the whole page) and dQ. */
static void add_tile(const bm_train_walk *w, int layer, int head, int64_t t, int64_t end)
{
    bm_pass *p = w->p;
    const bm_hparams *h = &p->model->h;
    int64_t q_stride = (int64_t)h->n_heads * h->head_k, q_at = t * q_stride + (int64_t)head * h->head_k;
    int64_t o_stride = (int64_t)h->n_heads * h->head_v;

    p->grad->gemm(&(bm_gemm){ .m = TILE, .n = h->head_v, .k = end - t, .a = w->own->s, .a_row = 1, .a_col = TILE,
                              .b = p->d_attn + t * o_stride + (int64_t)head * h->head_v, .b_row = o_stride, .b_col = 1,
                              .c = w->own->d_value, .c_row = h->head_v, .alpha = 1, .add = true, .exact = p->exact });
    p->grad->gemm(&(bm_gemm){ .m = TILE, .n = h->head_k, .k = end - t, .a = w->own->ds, .a_row = 1, .a_col = TILE,
                              .b = bm_pass_saved(p, layer)->q + q_at, .b_row = q_stride, .b_col = 1,
                              .c = w->own->d_key, .c_row = h->head_k, .alpha = 1, .add = true, .exact = p->exact });
    p->grad->gemm(&(bm_gemm){ .m = end - t, .n = h->head_k, .k = TILE, .a = w->own->ds, .a_row = TILE, .a_col = 1,
                              .b = w->own->key, .b_row = 1, .b_col = TILE, .c = p->dq + q_at, .c_row = q_stride, .alpha = 1,
                              .add = true, .exact = p->exact });
}

/* One query head over the tokens [begin, end) of a segment: dq, and its own part of dK and dV. */
static void attend_back(const bm_train_walk *w, int layer, int head, int64_t begin, int64_t end)
{
    bm_pass *p = w->p;
    const bm_hparams *h = &p->model->h;
    int64_t n_heads = h->n_heads, ek = h->head_k, ev = h->head_v, window = h->layers[layer].window;
    const float *out = bm_pass_saved(p, layer)->attn_out;

    for (int64_t t = begin; t < end; t++) {
        int64_t at = (t * n_heads + head) * ev;
        p->delta[(int64_t)head * w->n_tokens + t] = w->w.k->dot(p->d_attn + at, out + at, ev);
        memset(p->dq + (t * n_heads + head) * ek, 0, (size_t)ek * sizeof *p->dq);
    }
    for (int64_t at = begin / TILE * TILE; at < end; at += TILE) {
        int64_t from = at > begin ? at : begin, to = at + TILE < end ? at + TILE : end;
        int64_t last = window > 0 && to - 1 + window < end ? to - 1 + window : end;      /* queries from here on see none of the page */
        load_page(w, layer, at / TILE, head / (int)(n_heads / h->n_kv_heads));
        memset(w->own->d_key, 0, (size_t)(TILE * ek) * sizeof(float));
        memset(w->own->d_value, 0, (size_t)(TILE * ev) * sizeof(float));
        for (int64_t t = from; t < last; t += TILE) {
            int64_t t_end = t + TILE < last ? t + TILE : last;
            score_tile(w, layer, head, t, t_end, at);
            add_tile(w, layer, head, t, t_end);
        }
        for (int64_t t = from; t < to; t++) {
            memcpy(p->dk_heads + (t * n_heads + head) * ek, w->own->d_key + (t - at) * ek, (size_t)ek * sizeof(float));
            memcpy(p->dv_heads + (t * n_heads + head) * ev, w->own->d_value + (t - at) * ev, (size_t)ev * sizeof(float));
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
