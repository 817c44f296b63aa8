/* pass.c - the work memory of a training pass, laid out once; the checks of a row. One function lays out, with or without memory,
 * so that bm_pass_bytes and bm_pass_new cannot disagree. Memory is zeroed yet not touched: short rows cost what they need. */
#include <string.h>

#include "base/mem.h"
#include "model/pass_walk.h"

/* The logits of a block of rows get about so many bytes. */
enum { LOGIT_BYTES = 40 << 20, MAX_TOKENS = 1 << 20 };

/* ---- memory ---- */

static int64_t largest(int64_t a, int64_t b) { return a > b ? a : b; }

static float *take_floats(bm_cursor *c, int64_t n) { return bm_cursor_take(c, n, sizeof(float)); }

static void take_saved(bm_cursor *c, bm_saved *s, const bm_pass *p, float *y)
{
    const bm_model *m = p->model;
    const bm_hparams *h = &m->h;
    const bm_layer_weights *l = &m->w.layers[0];         /* head and post norms: of all layers or of none */
    int64_t t = p->options.max_tokens, q = (int64_t)h->n_heads * h->head_k, k = (int64_t)h->n_kv_heads * h->head_k;
    size_t kept = p->exact ? sizeof(float) : sizeof(uint16_t), cached = m->kv_type == BM_KV_F32 ? sizeof(float) : sizeof(uint16_t);

    s->x_ffn = take_floats(c, t * h->d_model);
    s->q = take_floats(c, t * q);
    s->q_raw = l->q_norm.weight ? take_floats(c, t * q) : NULL;
    s->k_raw = l->k_norm.weight ? take_floats(c, t * k) : NULL;
    s->k = bm_cursor_take(c, t * k, cached);
    s->v = bm_cursor_take(c, t * h->n_kv_heads * h->head_v, cached);
    s->k_scale = m->kv_type == BM_KV_INT16 ? take_floats(c, t * h->n_kv_heads) : NULL;
    s->v_scale = m->kv_type == BM_KV_INT16 ? take_floats(c, t * h->n_kv_heads) : NULL;
    s->attn_out = take_floats(c, t * h->n_heads * h->head_v);
    s->lse = take_floats(c, t * h->n_heads);
    s->y_attn = l->attn_post_norm.weight ? take_floats(c, t * h->d_model) : y;
    s->y_ffn = l->ffn_post_norm.weight ? take_floats(c, t * h->d_model) : y;
    s->gate = bm_cursor_take(c, t * h->d_ff, kept);
    s->up = bm_cursor_take(c, t * h->d_ff, kept);
    for (int i = 0; i < BM_LORA_SITES; i++)
        s->u[i] = take_floats(c, t * ((p->options.max_rank + BM_TILE_ROWS - 1) / BM_TILE_ROWS * BM_TILE_ROWS));
}

static void take_row(bm_cursor *c, bm_pass *p)
{
    const bm_hparams *h = &p->model->h;
    int64_t t = p->options.max_tokens;

    p->token = bm_cursor_take(c, t, sizeof(int32_t));
    p->first = bm_cursor_take(c, t, sizeof(int32_t));
    p->starts = bm_cursor_take(c, t + 1, sizeof(int32_t));
    p->target_row = bm_cursor_take(c, t, sizeof(int32_t));
    for (int i = 0; i < h->n_ropes; i++)
        p->cos_sin[i] = take_floats(c, t * h->ropes[i].n_rot);
}

/* A site whose floats lie elsewhere, and one for what rounding leaves of them. */
static void take_site(bm_cursor *c, bm_site site[2], int64_t n_tokens, int64_t n_cols, struct bm_act_need need, float *f32)
{
    for (int i = 0; i < 2; i++) {
        void *memory = need.q ? bm_cursor_take(c, (int64_t)bm_acts_bytes(n_tokens, n_cols), 1) : NULL;
        site[i] = (bm_site){ .need = { .q = need.q, .f32 = need.f32 && i == 0 }, .f32 = i == 0 ? f32 : NULL,
                             .acts = { .n_tokens = n_tokens, .n_cols = n_cols, .f32 = i == 0 ? f32 : NULL, .f32_stride = n_cols } };
        if (c->base && need.q)
            bm_acts_place(&site[i].acts, memory, n_tokens, n_cols);
    }
}

static void take_backward(bm_cursor *c, bm_pass *p)
{
    const bm_hparams *h = &p->model->h;
    int64_t t = p->options.max_tokens, q = (int64_t)h->n_heads * h->head_k, o = (int64_t)h->n_heads * h->head_v;
    int64_t widest[3] = { largest(largest(h->d_model, h->d_ff), q), largest(h->d_ff, h->n_kv_heads * (int64_t)h->head_k),
                          h->n_kv_heads * (int64_t)h->head_v };

    p->dx = take_floats(c, t * h->d_model);
    p->g = take_floats(c, t * h->d_model);
    p->dn = take_floats(c, t * h->d_model);
    p->d_gate = take_floats(c, t * h->d_ff);
    p->d_up = take_floats(c, t * h->d_ff);
    p->d_attn = take_floats(c, t * o);
    p->dq = take_floats(c, t * q);
    p->dk_heads = take_floats(c, t * q);
    p->dv_heads = take_floats(c, t * o);
    p->dk = take_floats(c, t * h->n_kv_heads * h->head_k);
    p->dv = take_floats(c, t * h->n_kv_heads * h->head_v);
    p->delta = take_floats(c, t * h->n_heads);
    for (int i = 0; i < 3; i++) {
        p->dy[i] = bm_cursor_take(c, (int64_t)p->grad->dy_bytes(t, widest[i], p->exact), 1);
        p->du[i] = take_floats(c, t * p->options.max_rank);
    }
}

static void take_head(bm_cursor *c, bm_pass *p)
{
    const bm_hparams *h = &p->model->h;
    int64_t fit = LOGIT_BYTES / (h->n_vocab * (int64_t)sizeof(float)) / 16 * 16;

    p->head_rows = (int)largest(16, fit);
    if (p->head_rows > p->options.max_tokens)
        p->head_rows = p->options.max_tokens;
    p->hidden = take_floats(c, (int64_t)p->head_rows * h->d_model);
    take_site(c, p->head, p->head_rows, h->d_model, p->model->need_head, p->hidden);
    p->logits = take_floats(c, (int64_t)p->head_rows * h->n_vocab);
    p->head_dy = bm_cursor_take(c, (int64_t)p->grad->dy_bytes(p->head_rows, h->n_vocab, p->exact), 1);
    p->d_hidden = take_floats(c, (int64_t)p->options.max_tokens * h->d_model);
}

static void take_scratch(bm_cursor *c, bm_pass_scratch *own, const bm_pass *p)
{
    const bm_hparams *h = &p->model->h;
    int64_t page = BM_PAGE_TOKENS, widest = largest(h->d_model, h->d_ff);

    own->page_memory = bm_cursor_take(c, p->options.max_tokens / page + 1, p->model->kv_head_bytes);
    own->pages = bm_cursor_take(c, p->options.max_tokens / page + 1, sizeof(void *));
    own->acc = take_floats(c, BM_ATTN_ROWS * (int64_t)h->head_v);
    own->sum_acc = take_floats(c, BM_ATTN_ROWS * (int64_t)h->head_v);
    own->row = take_floats(c, largest(widest, h->n_heads * (int64_t)(h->head_k + h->head_v)));
    own->kv = take_floats(c, BM_TOKEN_BLOCK * bm_attention_kv_unit(h));
    own->gate = take_floats(c, BM_TOKEN_BLOCK * BM_FFN_COLS);
    own->up = take_floats(c, BM_TOKEN_BLOCK * BM_FFN_COLS);
    own->key = take_floats(c, page * h->head_k);
    own->value = take_floats(c, page * h->head_v);
    own->rest = take_floats(c, largest(BM_TRAIN_TOKENS * largest(widest, h->n_heads * (int64_t)h->head_v),
                                       BM_TOKEN_BLOCK * BM_REST_ROWS));
    own->s = take_floats(c, page * page);
    own->ds = take_floats(c, page * page);
    own->back = bm_cursor_take(c, (int64_t)p->grad->scratch_bytes(largest(widest, h->n_vocab), p->exact), 1);
}

static void lay_out(bm_cursor *c, bm_pass *p)
{
    const bm_model *m = p->model;
    const bm_hparams *h = &m->h;
    int64_t t = p->options.max_tokens, d = h->d_model;
    bm_pass_scratch unplaced;
    bm_saved unsaved;

    p->n_saved = p->options.recompute ? 1 : h->n_layers;
    p->scratch = bm_cursor_take(c, p->options.n_threads, sizeof *p->scratch);
    p->saved = bm_cursor_take(c, p->n_saved, sizeof *p->saved);
    p->x_attn = bm_cursor_take(c, h->n_layers + 1, sizeof *p->x_attn);
    take_row(c, p);
    for (int i = 0; i <= h->n_layers; i++) {
        float *x = take_floats(c, t * d);
        if (c->base)
            p->x_attn[i] = x;
    }
    float *y = take_floats(c, t * d);
    for (int i = 0; i < p->n_saved; i++)
        take_saved(c, c->base ? &p->saved[i] : &unsaved, p, y);
    p->norm = take_floats(c, t * d);
    p->ffn = take_floats(c, t * h->d_ff);
    take_site(c, p->in, t, d, m->need_in, p->norm);
    take_site(c, p->attn, t, (int64_t)h->n_heads * h->head_v, m->need_attn, NULL);
    take_site(c, p->down, t, h->d_ff, m->need_ffn, p->ffn);
    take_backward(c, p);
    take_head(c, p);
    for (int i = 0; i < p->options.n_threads; i++)
        take_scratch(c, c->base ? &p->scratch[i] : &unplaced, p);
}

/* Everything but the memory. */
static bm_pass blank(const bm_model *model, const bm_pass_options *options)
{
    bm_pass p = { .model = model, .options = *options, .exact = model->f32 };

    if (p.options.max_rank == 0)
        p.options.max_rank = BM_DEFAULT_RANK;
    if (!(p.grad = bm_grad_kernels_get(model->kernels->isa)))
        p.grad = bm_grad_kernels_get(BM_ISA_REF);
    return p;
}

size_t bm_pass_bytes(const bm_model *model, const bm_pass_options *options)
{
    bm_pass p = blank(model, options);
    bm_cursor c = { 0 };

    lay_out(&c, &p);
    return sizeof p + c.at;
}

int bm_pass_new(bm_pass **out, const bm_model *model, const bm_pass_options *options, bm_error *err)
{
    bm_pass *p;
    bm_cursor c = { 0 };
    size_t len_bytes;
    void *memory = NULL;

    *out = NULL;
    if (options->max_tokens < 1 || options->max_tokens > MAX_TOKENS || options->n_threads < 1 || options->n_threads > 4096 ||
        options->max_rank < 0)
        return bm_fail(err, BM_INVALID, "a pass of %d tokens on %d threads with rank %d is not possible", options->max_tokens,
                       options->n_threads, options->max_rank);
    if (bm_kv_type_v(model->kv_type) == BM_KV_INT8)
        return bm_fail(err, BM_UNSUPPORTED, "training keeps K and V in int16, f16 or f32; the model was opened with KV in int8");
    len_bytes = bm_pass_bytes(model, options) - sizeof *p;
    if (!(p = bm_zalloc(sizeof *p)) || !(memory = bm_zalloc(len_bytes + 63))) {
        bm_free(p);
        bm_fail(err, BM_NOMEM, "no memory for %zu bytes of a training pass (%d tokens)", len_bytes, options->max_tokens);
        return bm_hint(err, options->recompute ? "use shorter rows" : "use shorter rows, or recompute layers in backward");
    }
    *p = blank(model, options);
    p->memory = memory;
    c.base = (unsigned char *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
    lay_out(&c, p);
    *out = p;
    return 0;
}

void bm_pass_free(bm_pass *p)
{
    if (!p)
        return;
    bm_free(p->memory);
    bm_free(p);
}

/* ---- a row ---- */

static int check_segments(const bm_pass *p, const bm_train_row *row, bm_error *err)
{
    int n_ctx = p->model->h.n_ctx;

    if (row->n_segments < 1 || row->n_segments > row->n_tokens || row->starts[0] != 0)
        return bm_fail(err, BM_INVALID, "a row of %d tokens has %d segments, the first from token %d", row->n_tokens, row->n_segments,
                       row->n_segments > 0 ? row->starts[0] : 0);
    for (int i = 0; i < row->n_segments; i++) {
        int32_t end = i + 1 < row->n_segments ? row->starts[i + 1] : row->n_tokens;
        if (end <= row->starts[i] || end > row->n_tokens)
            return bm_fail(err, BM_INVALID, "segment %d of a row runs from token %d to %d", i, row->starts[i], end);
        if (end - row->starts[i] > n_ctx)
            return bm_fail(err, BM_CONTEXT, "segment %d has %d tokens, the model's context is %d", i, end - row->starts[i], n_ctx);
    }
    return 0;
}

static int check_row(const bm_pass *p, const bm_team *team, const bm_trainable *adapter, const bm_train_row *row, bm_error *err)
{
    if (bm_team_size(team) > p->options.n_threads)
        return bm_fail(err, BM_INVALID, "a team of %d threads, the pass was made for %d", bm_team_size(team), p->options.n_threads);
    if (adapter && (adapter->model != p->model || adapter->rank > p->options.max_rank))
        return bm_fail(err, BM_INVALID, "the adapter is of another model, or its rank of %d is more than the pass's %d", adapter->rank,
                       p->options.max_rank);
    if (row->n_tokens < 1 || row->n_tokens > p->options.max_tokens)
        return bm_fail(err, BM_INVALID, "a row of %d tokens, expected 1 to %d", row->n_tokens, p->options.max_tokens);
    for (int t = 0; t < row->n_tokens; t++)
        if (row->tokens[t] < 0 || row->tokens[t] >= p->model->h.n_vocab)
            return bm_fail(err, BM_INVALID, "token %d at place %d, expected 0 to %d", row->tokens[t], t, p->model->h.n_vocab - 1);
    return check_segments(p, row, err);
}

static void set_row(bm_pass *p, const bm_train_row *row, double *nll)
{
    p->n_tokens = row->n_tokens;
    p->n_segments = row->n_segments;
    p->n_targets = 0;
    p->nll = nll;
    memcpy(p->token, row->tokens, (size_t)row->n_tokens * sizeof *p->token);
    memcpy(p->starts, row->starts, (size_t)row->n_segments * sizeof *p->starts);
    p->starts[row->n_segments] = row->n_tokens;
    for (int i = 0; i < row->n_segments; i++)
        for (int32_t t = p->starts[i]; t < p->starts[i + 1]; t++) {
            p->first[t] = p->starts[i];
            nll[t] = 0;
            if (t > p->starts[i] && row->target[t])
                p->target_row[p->n_targets++] = t - 1;
        }
}

int bm_pass_forward(bm_pass *pass, bm_team *team, const bm_trainable *adapter, const bm_train_row *row, unsigned flags, double *nll,
                    bm_error *err)
{
    int rc;

    pass->kept = false;
    if ((rc = check_row(pass, team, adapter, row, err)) < 0)
        return rc;
    set_row(pass, row, nll);
    pass->adapter = adapter;
    pass->fine = pass->exact ? 0 : flags & (BM_PASS_FINE | BM_PASS_FINEST);
    pass->kept = flags & BM_PASS_KEEP;
    bm_pass_walk_forward(pass, team);
    pass->nll = NULL;
    return 0;
}

int bm_pass_backward(bm_pass *pass, bm_team *team, bm_trainable *adapter, const float *coef, bm_error *err)
{
    if (!pass->kept || adapter != pass->adapter || !adapter)
        return bm_fail(err, BM_INVALID, "backward needs a forward that kept, of the same adapter");
    if (bm_team_size(team) > pass->options.n_threads)
        return bm_fail(err, BM_INVALID, "a team of %d threads, the pass was made for %d", bm_team_size(team), pass->options.n_threads);
    pass->coef = coef;
    bm_pass_walk_backward(pass, team);
    pass->coef = NULL;
    pass->kept = false;
    return 0;
}
