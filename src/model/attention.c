/* attention.c - grouped-query attention over paged KV: q, k, v; RoPE; store; attention; the output matrix.
 *
 * K and V are stored first and always read back from pages in the cache's type. Scores of a row are reduced in spans of
 * BM_ATTN_SPAN positions fixed by absolute position; partials of spans are folded in ascending order. A large step works
 * through all spans of a (token block, kv-head) in one item; a small one makes an item of each span and every worker folds. */
#include <math.h>
#include <string.h>

#include "model/adapter.h"

/* ---- q, k and v ---- */

/* Heads that one item makes: one, when tiles end where heads end; else all of them. */
static int heads_per_unit(int n_heads, int head_dim)
{
    return head_dim % BM_TILE_ROWS ? n_heads : 1;
}

static int kv_heads_per_unit(const bm_hparams *h)
{
    return h->head_v % BM_TILE_ROWS ? h->n_kv_heads : heads_per_unit(h->n_kv_heads, h->head_k);
}

int64_t bm_attention_kv_unit(const bm_hparams *h)
{
    return (int64_t)kv_heads_per_unit(h) * (h->head_k + h->head_v);
}

static void rotate(const bm_walk *w, int rope, int64_t t, float *head)
{
    const bm_rope *r = &w->model->h.ropes[rope];

    w->k->rope(head, w->step->cos_sin[rope] + t * r->n_rot, r->n_rot, true);
}

/* Attention temperature (llama 4's, in mistral3): attention stays sharp beyond the original context. */
static void apply_temperature(const bm_walk *w, int64_t t, float *head)
{
    const bm_hparams *h = &w->model->h;

    if (h->temp_scale > 0)
        w->k->scale(head, 1 + h->temp_scale * logf(1 + floorf((float)w->step->position[t] / (float)h->temp_len)), h->head_k);
}

/* What is kept in int8 is kept rotated: see kernels.h. `type` is that of K, which q follows, or of V, which the output follows. */
static void rotate_for_kv(const bm_walk *w, bm_kv_type type, float *head, int n)
{
    if (type == BM_KV_INT8)
        w->k->rotate(head, n);
}

static void q_item(const bm_walk *w, int layer, int head, int n_heads, int64_t t_begin, int64_t t_end)
{
    const bm_hparams *h = &w->model->h;
    const bm_layer_weights *l = &w->model->w.layers[layer];
    int64_t stride = (int64_t)h->n_heads * h->head_k, row = (int64_t)head * h->head_k;
    float *q = w->step->q + t_begin * stride + row;

    int64_t tile = row / BM_TILE_ROWS, tile_end = (row + (int64_t)n_heads * h->head_k + BM_TILE_ROWS - 1) / BM_TILE_ROWS;

    bm_linear_part(w, &l->q, w->in, tile, tile_end, t_begin, t_end, q, stride);
    bm_lora_up(w, layer, BM_LORA_Q, tile, tile_end, t_begin, t_end, q, stride);
    for (int64_t t = t_begin; t < t_end; t++, q += stride)
        for (int i = 0; i < n_heads; i++) {
            float *x = q + (int64_t)i * h->head_k;
            if (l->q_norm.weight)
                bm_norm_apply(w, &l->q_norm, x, x, h->head_k);
            rotate(w, h->layers[layer].rope, t, x);
            apply_temperature(w, t, x);
            rotate_for_kv(w, bm_kv_type_k(w->model->kv_type), x, h->head_k);
        }
}

static unsigned char *kv_head(const bm_walk *w, int layer, int run, int32_t page, int head)
{
    const bm_layer_plan *plan = &w->model->h.layers[layer];
    unsigned char *p = w->step->runs[run].kv->pages[plan->group][page];

    return p + (size_t)plan->group_layer * w->model->kv_layer_bytes + (size_t)head * w->model->kv_head_bytes;
}

static void kv_item(const bm_walk *w, int layer, int head, int n_heads, int64_t t_begin, int64_t t_end)
{
    const bm_model *m = w->model;
    const bm_hparams *h = &m->h;
    const bm_layer_weights *l = &m->w.layers[layer];
    int64_t stride = bm_attention_kv_unit(h), k_rows = (int64_t)n_heads * h->head_k, v_rows = (int64_t)n_heads * h->head_v;
    int64_t k_tile = (int64_t)head * h->head_k / BM_TILE_ROWS, v_tile = (int64_t)head * h->head_v / BM_TILE_ROWS;
    float *kv = w->own->kv;

    int64_t k_end = k_tile + (k_rows + BM_TILE_ROWS - 1) / BM_TILE_ROWS, v_end = v_tile + (v_rows + BM_TILE_ROWS - 1) / BM_TILE_ROWS;

    bm_linear_part(w, &l->k, w->in, k_tile, k_end, t_begin, t_end, kv, stride);
    bm_lora_up(w, layer, BM_LORA_K, k_tile, k_end, t_begin, t_end, kv, stride);
    bm_linear_part(w, &l->v, w->in, v_tile, v_end, t_begin, t_end, kv + k_rows, stride);
    bm_lora_up(w, layer, BM_LORA_V, v_tile, v_end, t_begin, t_end, kv + k_rows, stride);
    for (int64_t t = t_begin; t < t_end; t++, kv += stride)
        for (int i = 0; i < n_heads; i++) {
            float *k = kv + (int64_t)i * h->head_k, *v = kv + k_rows + (int64_t)i * h->head_v;
            int32_t pos = w->step->position[t];
            if (l->k_norm.weight)
                bm_norm_apply(w, &l->k_norm, k, k, h->head_k);
            rotate(w, h->layers[layer].rope, t, k);
            rotate_for_kv(w, bm_kv_type_k(m->kv_type), k, h->head_k);
            rotate_for_kv(w, bm_kv_type_v(m->kv_type), v, h->head_v);
            w->k->kv_store(m->kv_type, kv_head(w, layer, w->step->run[t], pos / BM_PAGE_TOKENS, head + i), m->kv_v_offset,
                           pos % BM_PAGE_TOKENS, k, v, h->head_k, h->head_v);
        }
}

static void qkv_phase(const bm_walk *w, int layer, bool kv, bool q)
{
    const bm_hparams *h = &w->model->h;
    int64_t n_tokens = w->step->n_tokens, n_blocks = (n_tokens + BM_TOKEN_BLOCK - 1) / BM_TOKEN_BLOCK;
    int q_unit = heads_per_unit(h->n_heads, h->head_k), kv_unit = kv_heads_per_unit(h);
    int n_kv = kv ? h->n_kv_heads / kv_unit : 0, n_items = n_kv + (q ? h->n_heads / q_unit : 0);
    size_t begin, end;

    /* The kv items, twice as long, come first: shares end even. */
    while (bm_worker_claim(w->worker, (size_t)(n_items * n_blocks), 1, &begin, &end)) {
        int64_t t = (int64_t)begin / n_items * BM_TOKEN_BLOCK, item = (int64_t)begin % n_items;
        int64_t t_end = t + BM_TOKEN_BLOCK < n_tokens ? t + BM_TOKEN_BLOCK : n_tokens;
        if (item < n_kv)
            kv_item(w, layer, (int)item * kv_unit, kv_unit, t, t_end);
        else
            q_item(w, layer, (int)(item - n_kv) * q_unit, q_unit, t, t_end);
    }
    bm_worker_barrier(w->worker);
}

/* ---- attention ---- */

/* The rows of one call: heads [head, head + n_heads) of one kv-head's group, for the tokens of a block. */
typedef struct rows {
    int kv_head, head, n_heads, run;
    int64_t token;               /* first */
    int n_tokens;
    int32_t first, last;         /* positions seen by any row */
    bm_attn_span span;
    const float *q[BM_ATTN_ROWS];
    int32_t row_first[BM_ATTN_ROWS], row_last[BM_ATTN_ROWS];
    float m[BM_ATTN_ROWS], l[BM_ATTN_ROWS];
    float *acc[BM_ATTN_ROWS];
} rows;

/* Query heads of a group that fit one call, and in how many parts a group is taken. */
static int group_part(const bm_hparams *h)
{
    int group = h->n_heads / h->n_kv_heads;

    return group < BM_ATTN_ROWS ? group : BM_ATTN_ROWS;
}

static int n_group_parts(const bm_hparams *h)
{
    return (h->n_heads / h->n_kv_heads + group_part(h) - 1) / group_part(h);
}

int bm_attention_block(const bm_hparams *h)
{
    return BM_ATTN_ROWS / group_part(h);
}

/* Item `unit` of a block: a kv-head and a part of its group. */
static void rows_init(rows *r, const bm_walk *w, int layer, const bm_block *block, int unit)
{
    const bm_hparams *h = &w->model->h;
    int group = h->n_heads / h->n_kv_heads, part = group_part(h), n_parts = n_group_parts(h), n = 0;
    int32_t window = h->layers[layer].window;

    r->kv_head = unit / n_parts;
    r->head = r->kv_head * group + unit % n_parts * part;
    r->n_heads = unit % n_parts == n_parts - 1 ? group - (n_parts - 1) * part : part;
    r->run = block->run;
    r->token = block->first;
    r->n_tokens = block->n;
    for (int t = 0; t < block->n; t++) {
        int32_t pos = w->step->position[block->first + t];
        for (int i = 0; i < r->n_heads; i++, n++) {
            r->q[n] = w->step->q + ((block->first + t) * (int64_t)h->n_heads + r->head + i) * h->head_k;
            r->row_first[n] = window > 0 && pos >= window ? pos - window + 1 : 0;
            r->row_last[n] = pos;
        }
    }
    r->first = r->row_first[0];
    r->last = r->row_last[n - 1];
    r->span = (bm_attn_span){
        .type = w->model->kv_type, .head_dim_k = h->head_k, .head_dim_v = h->head_v, .n_rows = n, .q = r->q,
        .first = r->row_first, .last = r->row_last, .scale = h->attn_scale, .softcap = h->attn_softcap,
        .pages = w->own->pages, .v_offset = w->model->kv_v_offset, .m = r->m, .l = r->l, .acc = r->acc };
}

/* Partials of the span that starts at `begin` into m, l, acc of r. */
static void rows_span(rows *r, const bm_walk *w, int layer, int32_t begin)
{
    int32_t end = begin + BM_ATTN_SPAN <= r->last ? begin + BM_ATTN_SPAN : r->last + 1;
    int32_t page = (begin > r->first ? begin : r->first) / BM_PAGE_TOKENS;

    for (; page <= (end - 1) / BM_PAGE_TOKENS; page++)
        w->own->pages[page] = kv_head(w, layer, r->run, page, r->kv_head);
    r->span.span_begin = begin;
    r->span.span_end = end;
    w->k->attn_span(&r->span);
}

/* sum_exp of one value is the table's own exp. */
void bm_attention_fold(const bm_kernels *k, float *m, float *l, float *acc, float m2, float l2, const float *acc2, int n)
{
    if (l2 == 0)
        return;
    if (*l == 0) {
        *m = m2, *l = l2;
        memcpy(acc, acc2, (size_t)n * sizeof *acc);
        return;
    }
    float top = *m > m2 ? *m : m2, a = k->sum_exp(m, 1, top), b = k->sum_exp(&m2, 1, top);
    for (int i = 0; i < n; i++)
        acc[i] = acc[i] * a + acc2[i] * b;
    *m = top;
    *l = *l * a + l2 * b;
}

static void finish_row(const bm_walk *w, const float *acc, float l, float *out, int n)
{
    float inv = l > 0 ? 1 / l : 0;

    for (int i = 0; i < n; i++)
        out[i] = acc[i] * inv;
    rotate_for_kv(w, bm_kv_type_v(w->model->kv_type), out, n);
}

/* Can the worker that computed a head's output quantise it too? */
static bool quantise_by_head(const bm_walk *w)
{
    return !w->step->small && (!w->model->need_attn.q || w->model->h.head_v % BM_ACT_BLOCK == 0);
}

/* All spans of a block and unit, folded in this worker's scratch. */
static void attend_block(const bm_walk *w, int layer, const bm_block *block, int unit)
{
    const bm_hparams *h = &w->model->h;
    int e = h->head_v;
    float m[BM_ATTN_ROWS], l[BM_ATTN_ROWS] = { 0 };
    rows r;

    rows_init(&r, w, layer, block, unit);
    for (int i = 0; i < r.span.n_rows; i++)
        r.acc[i] = w->own->acc + (int64_t)i * e;
    for (int32_t begin = r.first / BM_ATTN_SPAN * BM_ATTN_SPAN; begin <= r.last; begin += BM_ATTN_SPAN) {
        rows_span(&r, w, layer, begin);
        for (int i = 0; i < r.span.n_rows; i++)
            bm_attention_fold(w->k, &m[i], &l[i], w->own->sum_acc + (int64_t)i * e, r.m[i], r.l[i], r.acc[i], e);
    }
    for (int i = 0; i < r.span.n_rows; i++) {
        int64_t t = r.token + i / r.n_heads, col = (int64_t)(r.head + i % r.n_heads) * e;
        float *out = w->step->attn_out + t * h->n_heads * e + col;
        finish_row(w, w->own->sum_acc + (int64_t)i * e, l[i], out, e);
    }
    if (quantise_by_head(w))
        bm_site_put_rows(w->k, &w->step->attn, r.token, r.n_tokens, (int64_t)r.head * e, (int64_t)r.n_heads * e,
                         w->step->attn_out + (r.token * (int64_t)h->n_heads + r.head) * e, (int64_t)h->n_heads * e);
}

static void large_phase(const bm_walk *w, int layer)
{
    const bm_hparams *h = &w->model->h;
    int n_units = h->n_kv_heads * n_group_parts(h);
    size_t begin, end, n_items = (size_t)w->step->n_blocks * (size_t)n_units;

    while (bm_worker_claim(w->worker, n_items, 1, &begin, &end))
        attend_block(w, layer, &w->step->blocks[begin / (size_t)n_units], (int)(begin % (size_t)n_units));
    bm_worker_barrier(w->worker);
    if (quantise_by_head(w))
        return;
    while (bm_worker_claim(w->worker, (size_t)w->step->n_tokens, 4, &begin, &end))
        for (size_t t = begin; t < end; t++)
            bm_site_put(w->k, &w->step->attn, (int64_t)t, w->step->attn_out + (int64_t)t * h->n_heads * h->head_v);
    bm_worker_barrier(w->worker);
}

/* ---- small steps: an item is one span ---- */

static int64_t part_slot(const bm_step *s, int64_t t, int head, int span)
{
    return (t * s->model->h.n_heads + head) * s->max_spans + span;
}

static int first_span(const bm_walk *w, int layer, int64_t t)
{
    int32_t window = w->model->h.layers[layer].window, pos = w->step->position[t];

    return window > 0 && pos >= window ? (pos - window + 1) / BM_ATTN_SPAN : 0;
}

static int last_span(const bm_walk *w, int64_t t)
{
    return w->step->position[t] / BM_ATTN_SPAN;
}

static void attend_span(const bm_walk *w, int layer, const bm_block *block, int unit, int span)
{
    bm_step *s = w->step;
    rows r;

    rows_init(&r, w, layer, block, unit);
    for (int i = 0; i < r.span.n_rows; i++)
        r.acc[i] = s->part_acc + part_slot(s, r.token + i / r.n_heads, r.head + i % r.n_heads, span) * w->model->h.head_v;
    rows_span(&r, w, layer, span * BM_ATTN_SPAN);
    for (int i = 0; i < r.span.n_rows; i++) {
        int64_t slot = part_slot(s, r.token + i / r.n_heads, r.head + i % r.n_heads, span);
        s->part_m[slot] = r.m[i];
        s->part_l[slot] = r.l[i];
    }
}

/* Every worker folds all rows into its own site. */
static void fold_all(const bm_walk *w, int layer)
{
    const bm_hparams *h = &w->model->h;
    const bm_step *s = w->step;

    for (int64_t t = 0; t < s->n_tokens; t++) {
        for (int head = 0; head < h->n_heads; head++) {
            float m = 0, l = 0;
            for (int span = first_span(w, layer, t); span <= last_span(w, t); span++) {
                int64_t slot = part_slot(s, t, head, span);
                bm_attention_fold(w->k, &m, &l, w->own->sum_acc, s->part_m[slot], s->part_l[slot], s->part_acc + slot * h->head_v,
                                  h->head_v);
            }
            finish_row(w, w->own->sum_acc, l, w->own->row + (int64_t)head * h->head_v, h->head_v);
        }
        bm_site_put(w->k, w->attn, t, w->own->row);
    }
}

static void small_phase(const bm_walk *w, int layer)
{
    const bm_hparams *h = &w->model->h;
    const bm_step *s = w->step;
    int n_units = h->n_kv_heads * n_group_parts(h);
    int first[BM_SMALL_TOKENS], n_spans[BM_SMALL_TOKENS];
    size_t begin, end, n_items = 0;

    for (int b = 0; b < s->n_blocks; b++) {
        const bm_block *block = &s->blocks[b];
        first[b] = first_span(w, layer, block->first);
        n_spans[b] = last_span(w, block->first + block->n - 1) - first[b] + 1;
        n_items += (size_t)n_spans[b];
    }
    n_items *= (size_t)n_units;
    while (bm_worker_claim(w->worker, n_items, 1, &begin, &end)) {
        int b = 0, i = (int)(begin / (size_t)n_units);
        while (i >= n_spans[b])
            i -= n_spans[b++];
        attend_span(w, layer, &s->blocks[b], (int)(begin % (size_t)n_units), first[b] + i);
    }
    bm_worker_barrier(w->worker);
    fold_all(w, layer);
}

void bm_attention_store(const bm_walk *w, int layer) { qkv_phase(w, layer, true, false); }

void bm_attention_forward(const bm_walk *w, int layer, bool stored)
{
    qkv_phase(w, layer, !stored, true);
    if (w->step->small)
        small_phase(w, layer);
    else
        large_phase(w, layer);
    bm_lora_down_phase(w, layer, BM_LORA_ATTN, w->attn);
    bm_linear_phase(w, layer, BM_LORA_O, w->attn);
}
