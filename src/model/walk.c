/* walk.c - what the kinds of layers share: sites, norms, matrix phases; and the walk through a step itself. */
#include "model/walk.h"
#include "model/adapter.h"

#include <math.h>
#include <string.h>

/* ---- sites ---- */

void bm_site_put_rows(const bm_kernels *k, bm_site *site, int64_t t, int64_t n_rows, int64_t col, int64_t n, const float *x,
                      int64_t x_stride)
{
    bm_acts part = site->acts;           /* the same rows, seen from column col on */

    for (int64_t i = 0; i < n_rows && site->f32; i++) {
        float *f32 = site->f32 + (t + i) * site->acts.n_cols + col;
        if (f32 != x + i * x_stride)
            memcpy(f32, x + i * x_stride, (size_t)n * sizeof *x);
    }
    if (!site->need.q)
        return;
    part.n_cols = n;
    part.q += col;
    part.scale += col / BM_ACT_BLOCK;
    part.scaled_sum += col / BM_ACT_BLOCK;
    part.offset32 += col / BM_ACT_BLOCK;
    part.sum16 += col / 16;
    part.offset16 += col / 16;
    k->quantize_rows(&part, t, t + n_rows, x, x_stride);
}

void bm_site_put(const bm_kernels *k, bm_site *site, int64_t t, const float *x)
{
    bm_site_put_rows(k, site, t, 1, 0, site->acts.n_cols, x, 0);
}

/* ---- norms ---- */

void bm_norm_apply(const bm_walk *w, const bm_norm *norm, float *out, const float *x, int64_t n)
{
    float eps = w->model->h.norm_eps;

    if (w->model->h.row->norm == BM_NORM_RMS)
        w->k->rmsnorm(out, x, norm->weight, n, eps);
    else
        w->k->layernorm(out, x, norm->weight, norm->bias, n, eps);
}

/* x += post(y) for one token. */
static void add_residual(const bm_walk *w, const bm_norm *post, int64_t t)
{
    int64_t d = w->model->h.d_model;
    float *x = w->x + t * d, *y = w->step->y + t * d, *sum = y;

    if (post->weight || w->model->h.residual_scale != 1) {
        sum = w->own->row;               /* y is shared in a small step: its sum goes through own memory */
        if (post->weight)
            bm_norm_apply(w, post, sum, y, d);
        else
            memcpy(sum, y, (size_t)d * sizeof *y);
        if (w->model->h.residual_scale != 1)
            w->k->scale(sum, w->model->h.residual_scale, d);
    }
    w->k->add(x, sum, d);
}

/* out: [n_tokens][D] for the norms of tokens [t, t + n_tokens). */
static void residual_norm_tokens(const bm_walk *w, bool add_y, const bm_norm *post, const bm_norm *norm, int64_t t, int64_t n_tokens,
                                 float *out)
{
    int64_t d = w->model->h.d_model;

    for (int64_t i = 0; i < n_tokens; i++) {
        if (add_y)
            add_residual(w, post, t + i);
        bm_norm_apply(w, norm, out + i * d, w->x + (t + i) * d, d);
    }
    bm_site_put_rows(w->k, w->in, t, n_tokens, 0, d, out, d);
}

void bm_residual_norm(const bm_walk *w, bool add_y, const bm_norm *post, const bm_norm *norm, int layer, int input)
{
    size_t n = (size_t)w->step->n_tokens, begin, end;
    int64_t d = w->model->h.d_model;

    if (w->step->small) {
        for (int64_t t = 0; t < (int64_t)n; t++)
            residual_norm_tokens(w, add_y, post, norm, t, 1, w->in->f32 ? w->in->f32 + t * d : w->own->row);
        bm_lora_down(w, layer, (bm_lora_input)input, w->in, 0, (int64_t)n);
        return;
    }
    /* What y holds of a token is not needed once it is added: there is room for the norm. */
    while (bm_worker_claim(w->worker, n, 4, &begin, &end)) {
        residual_norm_tokens(w, add_y, post, norm, (int64_t)begin, (int64_t)(end - begin),
                             (w->in->f32 ? w->in->f32 : w->step->y) + (int64_t)begin * d);
        bm_lora_down(w, layer, (bm_lora_input)input, w->in, (int64_t)begin, (int64_t)end);
    }
    bm_worker_barrier(w->worker);
}

/* ---- matrices ---- */

void bm_linear_part(const bm_walk *w, const bm_linear *l, const bm_site *x, int64_t tile_begin, int64_t tile_end,
                    int64_t t_begin, int64_t t_end, float *out, int64_t out_stride)
{
    int64_t row = tile_begin * BM_TILE_ROWS, end = tile_end * BM_TILE_ROWS;
    int64_t n = (end < l->w.n_rows ? end : l->w.n_rows) - row;

    w->k->matmul(&l->w, tile_begin, tile_end, &x->acts, t_begin, t_end, bm_rebase(out, t_begin * out_stride + row), out_stride);
    for (int64_t t = 0; t < t_end - t_begin && l->scale; t++)
        w->k->scale(out + t * out_stride, *l->scale, n);
    if (l->bias)
        for (int64_t t = 0; t < t_end - t_begin; t++)
            w->k->add(out + t * out_stride, l->bias + row, n);
}

/* Tiles of one item: few claims, but several items for each worker, and pairs, which products take together. */
static int64_t tiles_per_item(const bm_walk *w, int64_t n_tiles, int64_t n_blocks)
{
    int64_t tiles = n_tiles * n_blocks / (8 * w->worker->n) & ~(int64_t)1;

    return tiles < 2 ? 2 : w->step->small || tiles < 4 ? tiles : 4;
}

void bm_linear_phase(const bm_walk *w, int layer, bm_lora_site site, const bm_site *x)
{
    const bm_layer_weights *weights = &w->model->w.layers[layer];
    const bm_linear *l = site == BM_LORA_O ? &weights->o : &weights->down;
    int64_t n_tokens = w->step->n_tokens, stride = w->model->h.d_model;
    int64_t n_blocks = (n_tokens + BM_TOKEN_BLOCK - 1) / BM_TOKEN_BLOCK, tiles = tiles_per_item(w, l->w.n_tiles, n_blocks);
    int64_t n_parts = (l->w.n_tiles + tiles - 1) / tiles;
    size_t begin, end;

    while (bm_worker_claim(w->worker, (size_t)(n_parts * n_blocks), 1, &begin, &end)) {
        int64_t tile = (int64_t)begin % n_parts * tiles, t = (int64_t)begin / n_parts * BM_TOKEN_BLOCK;
        int64_t tile_end = tile + tiles < l->w.n_tiles ? tile + tiles : l->w.n_tiles;
        int64_t t_end = t + BM_TOKEN_BLOCK < n_tokens ? t + BM_TOKEN_BLOCK : n_tokens;
        float *out = w->step->y + t * stride + tile * BM_TILE_ROWS;
        bm_linear_part(w, l, x, tile, tile_end, t, t_end, out, stride);
        bm_lora_up(w, layer, site, tile, tile_end, t, t_end, out, stride);
    }
    bm_worker_barrier(w->worker);
}

/* ---- the walk ---- */

static void embed_token(const bm_walk *w, int64_t t)
{
    const bm_hparams *h = &w->model->h;
    float *x = w->x + t * h->d_model;

    bm_packed_row(&w->model->w.embd, w->step->token[t], x);
    if (h->embed_scale != 1)
        w->k->scale(x, h->embed_scale, h->d_model);
}

static void fill_cos_sin(const bm_walk *w, int64_t t)
{
    for (int i = 0; i < w->model->h.n_ropes; i++) {
        const bm_rope *rope = &w->model->h.ropes[i];
        bm_rope_fill(rope, w->step->position[t], w->step->cos_sin[i] + t * rope->n_rot);
    }
}

/* Embeddings and cosines. In a small step every worker embeds for itself, and worker 0 has made the cosines before. */
static void begin_tokens(const bm_walk *w)
{
    size_t n = (size_t)w->step->n_tokens, begin, end;

    if (w->step->small) {
        for (size_t t = 0; t < n; t++)
            embed_token(w, (int64_t)t);
        return;
    }
    while (bm_worker_claim(w->worker, n, 4, &begin, &end))
        for (size_t t = begin; t < end; t++) {
            embed_token(w, (int64_t)t);
            fill_cos_sin(w, (int64_t)t);
        }
    bm_worker_barrier(w->worker);
}

/* The last residual sum and norm, into step->x. */
static void end_tokens(const bm_walk *w)
{
    const bm_layer_weights *last = &w->model->w.layers[w->model->h.n_layers - 1];
    int64_t d = w->model->h.d_model;
    size_t begin, end;

    while (bm_worker_claim(w->worker, (size_t)w->step->n_tokens, w->step->small ? 1 : 4, &begin, &end))
        for (size_t t = begin; t < end; t++) {
            add_residual(w, &last->ffn_post_norm, (int64_t)t);
            bm_norm_apply(w, &w->model->w.out_norm, w->step->x + (int64_t)t * d, w->x + (int64_t)t * d, d);
        }
}

/* In the last layer: what all tokens leave behind; then only those go on that will be read. False: none. */
static bool narrow_tokens(const bm_walk *w, int layer)
{
    static const bm_norm none;

    switch (w->model->h.layers[layer].mixer) {
    case BM_MIXER_ATTENTION: bm_attention_store(w, layer); break;
    }
    if (w->worker->id == 0) {
        bm_step_narrow(w->step);
        for (int64_t t = 0; t < w->step->n_tokens; t++)
            fill_cos_sin(w, t);
    }
    bm_worker_barrier(w->worker);
    if (w->step->n_tokens == 0)
        return false;
    bm_residual_norm(w, false, &none, &w->model->w.layers[layer].attn_norm, layer, BM_LORA_IN);
    return true;
}

static void walk_layers(bm_worker *worker, void *arg)
{
    static const bm_norm none;
    bm_step *s = arg;
    bm_scratch *own = &s->scratch[worker->id];
    bm_walk w = { .model = s->model, .step = s, .worker = worker, .k = s->model->kernels, .own = own,
                  .x = s->small ? own->x : s->x, .in = s->small ? &own->in : &s->in, .attn = s->small ? &own->attn : &s->attn,
                  .h = s->small ? own->h : s->h };
    const bm_norm *post = &none;

    begin_tokens(&w);
    for (int i = 0; i < s->model->h.n_layers; i++) {
        const bm_layer_weights *l = &s->model->w.layers[i];
        bool narrow = s->narrow && i == s->model->h.n_layers - 1;
        bm_residual_norm(&w, i > 0, post, &l->attn_norm, i, BM_LORA_IN);
        if (narrow && !narrow_tokens(&w, i))
            return;
        switch (s->model->h.layers[i].mixer) {
        case BM_MIXER_ATTENTION: bm_attention_forward(&w, i, narrow); break;
        }
        bm_residual_norm(&w, true, &l->attn_post_norm, &l->ffn_norm, i, BM_LORA_MLP);
        switch (s->model->h.layers[i].ffn) {
        case BM_FFN_GATED: bm_ffn_forward(&w, i); break;
        }
        post = &l->ffn_post_norm;
    }
    end_tokens(&w);
}

void bm_walk_run(bm_step *s, bm_team *team)
{
    if (s->small)
        for (int t = 0; t < s->n_tokens; t++)
            fill_cos_sin(&(bm_walk){ .model = s->model, .step = s }, t);
    bm_team_run(team, walk_layers, s);
}

/* ---- logits ---- */

typedef struct head_job {
    bm_step *step;
    const int32_t *rows;
    int n_rows;
    float *logits;
} head_job;

void bm_finish_logits(const bm_model *m, float *x, int64_t n)
{
    float cap = m->h.final_softcap;

    if (m->h.logit_scale != 1)
        m->kernels->scale(x, m->h.logit_scale, n);
    if (cap > 0 && !m->f32)
        m->kernels->softcap(x, cap, n);
    if (cap > 0 && m->f32)
        for (int64_t i = 0; i < n; i++)
            x[i] = cap * tanhf(x[i] / cap);
}

static void head_worker(bm_worker *worker, void *arg)
{
    const head_job *job = arg;
    bm_step *s = job->step;
    const bm_model *m = s->model;
    const bm_packed *head = &m->w.head;
    int64_t tiles = 2 + (head->n_tiles / (16 * worker->n) & ~(int64_t)1), v = head->n_rows;
    size_t begin, end;

    tiles = tiles < 64 ? tiles : 64;
    while (bm_worker_claim(worker, (size_t)job->n_rows, 1, &begin, &end))
        bm_site_put(m->kernels, &s->head, (int64_t)begin, bm_step_hidden(s, job->rows[begin]));
    bm_worker_barrier(worker);
    while (bm_worker_claim(worker, (size_t)((head->n_tiles + tiles - 1) / tiles), 1, &begin, &end)) {
        int64_t tile = (int64_t)begin * tiles, tile_end = tile + tiles < head->n_tiles ? tile + tiles : head->n_tiles;
        int64_t row = tile * BM_TILE_ROWS, row_end = tile_end * BM_TILE_ROWS < v ? tile_end * BM_TILE_ROWS : v;
        m->kernels->matmul(head, tile, tile_end, &s->head.acts, 0, job->n_rows, job->logits, v);
        for (int i = 0; i < job->n_rows; i++)
            bm_finish_logits(m, job->logits + i * v + row, row_end - row);
    }
}

void bm_walk_logits(bm_step *s, bm_team *team, const int32_t *rows, int n_rows, float *logits)
{
    head_job job = { .step = s, .rows = rows, .n_rows = n_rows, .logits = logits };

    bm_team_run(team, head_worker, &job);
}
