/* pass_walk.c - what the kinds of layers share in training: norms, residual sums, adapters, phases of matrices forward and
 * backward; and the two walks themselves. */
#include "model/pass_walk.h"

#include <string.h>

bm_saved *bm_pass_saved(const bm_pass *p, int layer)
{
    return &p->saved[p->n_saved > 1 ? layer : 0];
}

void bm_keep_floats(const bm_train_walk *w, bool f32, void *kept, int64_t at, const float *x, int64_t n)
{
    if (f32)
        memcpy((float *)kept + at, x, (size_t)n * sizeof *x);
    else
        w->w.k->put_f16((uint16_t *)kept + at, x, n);
}

void bm_kept_floats(const bm_train_walk *w, bool f32, const void *kept, int64_t at, float *x, int64_t n)
{
    if (f32)
        memcpy(x, (const float *)kept + at, (size_t)n * sizeof *x);
    else
        w->w.k->get_f16(x, (const uint16_t *)kept + at, n);
}

/* ---- norms and the residual stream ---- */

void bm_train_norm(const bm_train_walk *w, const bm_norm *norm, float *out, const float *x, int64_t n)
{
    bm_norm_apply(&w->w, norm, out, x, n);
}

void bm_train_norm_back(const bm_train_walk *w, const bm_norm *norm, float *dx, const float *dy, const float *x, int64_t n, bool add)
{
    float eps = w->p->model->h.norm_eps;

    if (w->p->model->h.row->norm == BM_NORM_RMS)
        w->w.k->rmsnorm_back(dx, dy, x, norm->weight, n, eps, add);
    else
        w->w.k->layernorm_back(dx, dy, x, norm->weight, n, eps, add);
}

void bm_residual_add(const bm_train_walk *w, const bm_norm *post, float *x_out, const float *x, const float *y, int64_t t)
{
    const bm_hparams *h = &w->p->model->h;
    int64_t d = h->d_model;
    float *row = w->own->row;

    if (post->weight)
        bm_train_norm(w, post, row, y + t * d, d);
    else
        memcpy(row, y + t * d, (size_t)d * sizeof *row);
    if (h->residual_scale != 1)
        w->w.k->scale(row, h->residual_scale, d);
    memcpy(x_out + t * d, x + t * d, (size_t)d * sizeof *row);
    w->w.k->add(x_out + t * d, row, d);
}

void bm_residual_back(const bm_train_walk *w, const bm_norm *post, const float *y, int64_t t)
{
    const bm_hparams *h = &w->p->model->h;
    int64_t d = h->d_model;
    float *g = w->p->g + t * d;

    if (w->norm)
        bm_train_norm_back(w, w->norm, w->p->dx + t * d, w->p->dn + t * d, w->norm_x + t * d, d, true);
    memcpy(g, w->p->dx + t * d, (size_t)d * sizeof *g);
    if (h->residual_scale != 1)
        w->w.k->scale(g, h->residual_scale, d);
    if (post->weight)
        bm_train_norm_back(w, post, g, g, y + t * d, d, false);
}

/* ---- adapters ---- */

bool bm_train_lora_find(const bm_train_walk *w, int layer, bm_lora_site site, bm_lora_use *use)
{
    const bm_trainable *t = w->p->adapter;
    const bm_lora_matrix *m;

    if (!t || !(t->sites >> site & 1))
        return false;
    m = &t->matrices[layer * t->n_sites + __builtin_popcount(t->sites & ((1u << site) - 1))];
    bm_lora_shape(w->p->model, layer, site, &use->n_in, &use->n_out);
    size_t a = (size_t)(m->a - t->values), b = (size_t)(m->b - t->values);
    use->rank = m->rank, use->stride = t->rank_padded;
    use->scale = m->scale;
    use->packs = &t->packs[m - t->matrices];
    use->a = m->a, use->b = m->b;
    use->da = t->grads + a, use->db = t->grads + b;
    return true;
}

void bm_train_lora_down(const bm_train_walk *w, int layer, bm_lora_site site, const float *x, int64_t t_begin, int64_t t_end)
{
    float *u = bm_pass_saved(w->p, layer)->u[site];
    bm_lora_use l;

    if (!bm_train_lora_find(w, layer, site, &l))
        return;
    u += t_begin * l.stride;
    w->w.k->lora_a(&l.packs->a, x + t_begin * l.n_in, l.n_in, t_end - t_begin, u, l.stride);
    for (int64_t t = t_begin; t < t_end && l.scale != 1; t++, u += l.stride)
        w->w.k->scale(u, l.scale, l.stride);
}

void bm_train_lora_up(const bm_train_walk *w, int layer, bm_lora_site site, int64_t tile, int64_t tile_end, int64_t t_begin,
                      int64_t t_end, float *out, int64_t out_stride)
{
    bm_lora_use l;

    if (bm_train_lora_find(w, layer, site, &l))
        w->w.k->lora_b(&l.packs->b, tile, tile_end, bm_pass_saved(w->p, layer)->u[site] + t_begin * l.stride, l.stride,
                       t_end - t_begin, out, out_stride);
}

/* The values as a served adapter has them. In the fast mode that rounds them to bf16: the gradient is that at the rounded values,
 * and goes to the masters unchanged. */
static void pack_adapter(const bm_train_walk *w)
{
    const bm_trainable *t = w->p->adapter;
    size_t i, end;

    if (!t)
        return;
    while (bm_worker_claim(w->w.worker, t->n_matrices, 1, &i, &end)) {
        const struct bm_train_pack *p = &t->packs[i];
        bm_pack_floats(&p->a, t->packed + (p->a.data - t->packed), t->matrices[i].a, p->a.n_cols);
        bm_pack_floats(&p->b, t->packed + (p->b.data - t->packed), t->matrices[i].b, t->rank);
    }
    bm_worker_barrier(w->w.worker);
}

/* ---- matrices ---- */

static bool is_fine(const bm_train_walk *w, bm_lora_site lora)
{
    return w->p->fine & BM_PASS_FINEST || (w->p->fine && lora != BM_LORA_GATE && lora != BM_LORA_UP);
}

static void put_rest(const bm_train_walk *w, bm_site *site, int64_t t, int64_t n_rows, int64_t col, int64_t n, const float *x,
                     int64_t x_stride)
{
    const bm_acts *a = &site[0].acts;
    float *rest = w->own->rest;

    for (int64_t i = 0; i < n_rows; i++, rest += n, x += x_stride) {
        const int8_t *q = a->q + (t + i) * a->q_stride + col;
        const float *scale = a->scale + (t + i) * a->s_stride + col / BM_ACT_BLOCK;
        for (int64_t j = 0; j < n; j++)
            rest[j] = x[j] - scale[j / BM_ACT_BLOCK] * (float)q[j];
    }
    bm_site_put_rows(w->w.k, &site[1], t, n_rows, col, n, w->own->rest, n);
}

void bm_train_put(const bm_train_walk *w, bm_lora_site lora, bm_site *site, int64_t t, int64_t n_rows, int64_t col, int64_t n,
                  const float *x, int64_t x_stride)
{
    bm_site_put_rows(w->w.k, &site[0], t, n_rows, col, n, x, x_stride);
    for (int64_t i = 0; i < n_rows && site[0].need.q && is_fine(w, lora); i += BM_TRAIN_TOKENS)
        put_rest(w, site, t + i, n_rows - i < BM_TRAIN_TOKENS ? n_rows - i : BM_TRAIN_TOKENS, col, n, x + i * x_stride, x_stride);
}

void bm_train_add_rest(const bm_train_walk *w, bm_lora_site lora, const bm_packed *m, const bm_site *site, const float *scale,
                       int64_t tile, int64_t tile_end, int64_t t, int64_t t_end, float *out, int64_t out_stride)
{
    if (!is_fine(w, lora) || !bm_qtype_traits(m->type)->quantized)
        return;
    for (int64_t step = BM_REST_ROWS / BM_TILE_ROWS; tile < tile_end; tile += step, out += BM_REST_ROWS) {
        int64_t end = tile + step < tile_end ? tile + step : tile_end, row = tile * BM_TILE_ROWS;
        int64_t n = (end * BM_TILE_ROWS < m->n_rows ? end * BM_TILE_ROWS : m->n_rows) - row;
        float *rest = w->own->rest;
        w->w.k->matmul(m, tile, end, &site[1].acts, t, t_end, bm_rebase(rest, t * BM_REST_ROWS + row), BM_REST_ROWS);
        for (int64_t i = 0; i < t_end - t; i++, rest += BM_REST_ROWS) {
            if (scale)
                w->w.k->scale(rest, *scale, n);
            w->w.k->add(out + i * out_stride, rest, n);
        }
    }
}

void bm_train_linear_part(const bm_train_walk *w, int layer, bm_lora_site lora, const bm_linear *l, const bm_site *site, int64_t tile,
                          int64_t tile_end, int64_t t, int64_t t_end, float *out, int64_t out_stride)
{
    bm_linear_part(&w->w, l, &site[0], tile, tile_end, t, t_end, out, out_stride);
    bm_train_add_rest(w, lora, &l->w, site, l->scale, tile, tile_end, t, t_end, out, out_stride);
    bm_train_lora_up(w, layer, lora, tile, tile_end, t, t_end, out, out_stride);
}

void bm_train_linear_phase(const bm_train_walk *w, int layer, bm_lora_site lora, const bm_linear *l, const bm_site *site, float *y)
{
    int64_t n_tokens = w->n_tokens, n_blocks = (n_tokens + BM_TOKEN_BLOCK - 1) / BM_TOKEN_BLOCK, tiles = 4;
    int64_t n_parts = (l->w.n_tiles + tiles - 1) / tiles;
    size_t begin, end;

    while (bm_worker_claim(w->w.worker, (size_t)(n_parts * n_blocks), 1, &begin, &end)) {
        int64_t tile = (int64_t)begin % n_parts * tiles, t = (int64_t)begin / n_parts * BM_TOKEN_BLOCK;
        int64_t tile_end = tile + tiles < l->w.n_tiles ? tile + tiles : l->w.n_tiles, row = tile * BM_TILE_ROWS;
        int64_t t_end = t + BM_TOKEN_BLOCK < n_tokens ? t + BM_TOKEN_BLOCK : n_tokens;
        bm_train_linear_part(w, layer, lora, l, site, tile, tile_end, t, t_end, y + t * l->w.n_rows + row, l->w.n_rows);
    }
    bm_worker_barrier(w->w.worker);
}

void bm_back_begin(bm_train_walk *w, int i, bm_lora_site site, const bm_linear *l, const float *g)
{
    w->maps[i] = (bm_back_map){ .site = site, .linear = l, .g = g, .du = w->p->du[i],
                                .dy = { .n_tokens = w->n_tokens, .n_rows = l->w.n_rows, .memory = w->p->dy[i],
                                        .exact = w->p->exact } };
}

void bm_back_put(bm_train_walk *w, int layer, int i, int64_t t_begin, int64_t t_end)
{
    bm_back_map *map = &w->maps[i];
    int64_t n = map->linear->w.n_rows;
    const float *g = map->g + t_begin * n;
    bm_lora_use l;

    if (bm_train_lora_find(w, layer, map->site, &l))
        w->p->grad->gemm(&(bm_gemm){ .m = t_end - t_begin, .n = l.rank, .k = n, .a = g, .a_row = n, .a_col = 1, .b = l.b,
                                     .b_row = l.rank, .b_col = 1, .c = map->du + t_begin * l.rank, .c_row = l.rank,
                                     .alpha = l.scale, .exact = w->p->exact });
    if (!map->linear->scale) {
        w->p->grad->dy_put(&map->dy, t_begin, t_end, map->g, n);
        return;
    }
    for (int64_t t = t_begin; t < t_end; t++, g += n) {
        memcpy(w->own->row, g, (size_t)n * sizeof *g);
        w->w.k->scale(w->own->row, *map->linear->scale, n);
        w->p->grad->dy_put(&map->dy, t, t + 1, bm_rebase(w->own->row, t * n), n);
    }
}

/* Columns [col, end) of the maps' common input: dx, then dA. */
static void back_columns(const bm_train_walk *w, int layer, int n_maps, const float *x, float *dx, int64_t n_cols, int64_t col,
                         int64_t end, void (*after)(const bm_train_walk *w, int layer, int64_t col, int64_t n_cols))
{
    bm_pass *p = w->p;
    bm_lora_use l;

    for (int i = 0; i < n_maps && dx; i++)
        p->grad->matmul_back(&w->maps[i].linear->w, &w->maps[i].dy, col, end, dx, n_cols, i > 0, w->own->back);
    for (int i = 0; i < n_maps && dx; i++)
        if (bm_train_lora_find(w, layer, w->maps[i].site, &l))
            p->grad->gemm(&(bm_gemm){ .m = w->n_tokens, .n = end - col, .k = l.rank, .a = w->maps[i].du, .a_row = l.rank, .a_col = 1,
                                      .b = l.a + col, .b_row = n_cols, .b_col = 1, .c = dx + col, .c_row = n_cols, .alpha = 1,
                                      .add = true, .exact = p->exact });
    if (after)
        after(w, layer, col, end - col);
    for (int i = 0; i < n_maps; i++)
        if (bm_train_lora_find(w, layer, w->maps[i].site, &l))
            p->grad->gemm(&(bm_gemm){ .m = l.rank, .n = end - col, .k = w->n_tokens, .a = w->maps[i].du, .a_row = 1, .a_col = l.rank,
                                      .b = x + col, .b_row = n_cols, .b_col = 1, .c = l.da + col, .c_row = n_cols, .alpha = 1,
                                      .add = true, .exact = p->exact });
}

/* dB += dY^T u for rows [row, end) of a map. */
static void back_rows(const bm_train_walk *w, int layer, const bm_back_map *map, int64_t row, int64_t end)
{
    bm_lora_use l;

    if (bm_train_lora_find(w, layer, map->site, &l))
        w->p->grad->gemm(&(bm_gemm){ .m = end - row, .n = l.rank, .k = w->n_tokens, .a = map->g + row, .a_row = 1, .a_col = l.n_out,
                                     .b = bm_pass_saved(w->p, layer)->u[map->site], .b_row = l.stride, .b_col = 1,
                                     .c = l.db + row * l.rank, .c_row = l.rank, .alpha = 1, .add = true,
                                     .exact = w->p->exact });
}

enum { BACK_ROWS = 192 };        /* rows of dB of one item */

void bm_back_phase(const bm_train_walk *w, int layer, int n_maps, const float *x, float *dx,
                   void (*after)(const bm_train_walk *w, int layer, int64_t col, int64_t n_cols))
{
    const bm_back_map *maps = w->maps;
    int64_t n_cols = maps[0].linear->w.n_cols, width = n_cols / (8 * w->w.worker->n) / 32 * 32;
    int64_t items[4];            /* columns, then rows of each map */
    size_t begin, end, n_items;

    width = width < 32 ? 32 : width > 128 ? 128 : width;
    n_items = (size_t)(items[0] = (n_cols + width - 1) / width);
    for (int i = 0; i < n_maps; i++)
        n_items += (size_t)(items[i + 1] = w->p->adapter ? (maps[i].linear->w.n_rows + BACK_ROWS - 1) / BACK_ROWS : 0);
    while (bm_worker_claim(w->w.worker, n_items, 1, &begin, &end)) {
        int64_t item = (int64_t)begin;
        int kind = 0;
        while (item >= items[kind])
            item -= items[kind++];
        int64_t step = kind ? BACK_ROWS : width, most = kind ? maps[kind - 1].linear->w.n_rows : n_cols;
        int64_t from = item * step, to = from + step < most ? from + step : most;
        if (kind == 0)
            back_columns(w, layer, n_maps, x, dx, n_cols, from, to, after);
        else
            back_rows(w, layer, &maps[kind - 1], from, to);
    }
    bm_worker_barrier(w->w.worker);
}

/* ---- forward ---- */

static void begin_token(const bm_train_walk *w, int64_t t)
{
    const bm_pass *p = w->p;
    const bm_hparams *h = &p->model->h;
    float *x = p->x_attn[0] + t * h->d_model;

    bm_packed_row(&p->model->w.embd, p->token[t], x);
    if (h->embed_scale != 1)
        w->w.k->scale(x, h->embed_scale, h->d_model);
    for (int i = 0; i < h->n_ropes; i++)
        bm_rope_fill(&h->ropes[i], (int32_t)t - p->first[t], p->cos_sin[i] + t * h->ropes[i].n_rot);
}

/* The layer's input where it is not yet there: what the layer below left, added up. */
static void layer_input(const bm_train_walk *w, int layer, int64_t t)
{
    const bm_pass *p = w->p;
    const bm_saved *below;

    if (layer == 0) {
        begin_token(w, t);
        return;
    }
    below = bm_pass_saved(p, layer - 1);
    bm_residual_add(w, &p->model->w.layers[layer - 1].ffn_post_norm, p->x_attn[layer], below->x_ffn, below->y_ffn, t);
}

/* Tokens [t, end): their norm, its quantised form and A x of the maps [first, last] that read it. */
static void enter(const bm_train_walk *w, int layer, const bm_norm *norm, const float *x, int first, int last, int64_t t, int64_t end)
{
    bm_pass *p = w->p;
    int64_t d = p->model->h.d_model;

    for (int64_t i = t; i < end; i++)
        bm_train_norm(w, norm, p->norm + i * d, x + i * d, d);
    bm_train_put(w, (bm_lora_site)first, p->in, t, end - t, 0, d, p->norm + t * d, d);
    for (int site = first; site <= last; site++)
        bm_train_lora_down(w, layer, (bm_lora_site)site, p->norm, t, end);
}

/* again: the layer's input is there, and its output is wanted only where backward reads it. */
static void layer_forward(const bm_train_walk *w, int layer, bool again)
{
    const bm_layer_weights *l = &w->p->model->w.layers[layer];
    const bm_saved *s = bm_pass_saved(w->p, layer);
    float *x = w->p->x_attn[layer];
    size_t t, end;

    while (bm_worker_claim(w->w.worker, (size_t)w->n_tokens, BM_TRAIN_TOKENS, &t, &end)) {
        for (size_t i = t; i < end && !again; i++)
            layer_input(w, layer, (int64_t)i);
        enter(w, layer, &l->attn_norm, x, BM_LORA_Q, BM_LORA_V, (int64_t)t, (int64_t)end);
    }
    bm_worker_barrier(w->w.worker);
    bm_train_attention(w, layer);
    while (bm_worker_claim(w->w.worker, (size_t)w->n_tokens, BM_TRAIN_TOKENS, &t, &end)) {
        for (size_t i = t; i < end; i++)
            bm_residual_add(w, &l->attn_post_norm, s->x_ffn, x, s->y_attn, (int64_t)i);
        enter(w, layer, &l->ffn_norm, s->x_ffn, BM_LORA_GATE, BM_LORA_UP, (int64_t)t, (int64_t)end);
    }
    bm_worker_barrier(w->w.worker);
    bm_train_ffn(w, layer, !again || l->ffn_post_norm.weight);
}

static bm_train_walk begin_walk(bm_worker *worker, bm_pass *p)
{
    return (bm_train_walk){ .w = { .model = p->model, .worker = worker, .k = p->model->kernels }, .p = p,
                            .own = &p->scratch[worker->id], .n_tokens = p->n_tokens };
}

static void forward_worker(bm_worker *worker, void *arg)
{
    bm_pass *p = arg;
    bm_train_walk w = begin_walk(worker, p);
    int n_layers = p->model->h.n_layers;
    size_t t, end;

    pack_adapter(&w);
    for (int i = 0; i < n_layers; i++)
        layer_forward(&w, i, false);
    while (bm_worker_claim(worker, (size_t)w.n_tokens, BM_TRAIN_TOKENS, &t, &end))
        for (; t < end; t++)
            layer_input(&w, n_layers, (int64_t)t);
    bm_worker_barrier(worker);
    bm_pass_head(&w, p->kept);
}

void bm_pass_walk_forward(bm_pass *p, bm_team *team)
{
    bm_team_run(team, forward_worker, p);
}

/* ---- backward ---- */

/* dx of the last layer's output, from the gradients that the head left: one row for each target. */
static void begin_back(const bm_train_walk *w)
{
    bm_pass *p = w->p;
    int64_t d = p->model->h.d_model;
    size_t i, end;

    /* Items are targets; the rows between them, which nothing reads further up, belong to the one that follows. */
    while (bm_worker_claim(w->w.worker, (size_t)p->n_targets + 1, BM_TRAIN_TOKENS, &i, &end))
        for (; i < end; i++) {
            int64_t row = (int)i < p->n_targets ? p->target_row[i] : w->n_tokens, from = i > 0 ? p->target_row[i - 1] + 1 : 0;
            float *g = p->d_hidden + (int64_t)i * d, *dx = p->dx + row * d;
            memset(p->dx + from * d, 0, (size_t)((row - from) * d) * sizeof *dx);
            if ((int)i == p->n_targets)
                break;
            bm_train_norm_back(w, &p->model->w.out_norm, dx, g, p->x_attn[p->model->h.n_layers] + row * d, d, false);
            w->w.k->scale(dx, p->coef[row + 1], d);
        }
    bm_worker_barrier(w->w.worker);
}

/* One layer: its feed-forward, then its mixer; dx passes from its output to its input, but for the last norm. */
static void layer_back(bm_train_walk *w, int layer)
{
    const bm_layer_weights *l = &w->p->model->w.layers[layer];

    bm_train_ffn_back(w, layer);
    w->norm = &l->ffn_norm;
    w->norm_x = bm_pass_saved(w->p, layer)->x_ffn;
    bm_train_attention_back(w, layer, layer > 0);
    w->norm = &l->attn_norm;
    w->norm_x = w->p->x_attn[layer];
}

static void backward_worker(bm_worker *worker, void *arg)
{
    bm_pass *p = arg;
    bm_train_walk w = begin_walk(worker, p);

    begin_back(&w);
    for (int i = p->model->h.n_layers - 1; i >= 0; i--) {
        if (p->n_saved == 1)
            layer_forward(&w, i, true);
        layer_back(&w, i);
    }
}

void bm_pass_walk_backward(bm_pass *p, bm_team *team)
{
    bm_team_run(team, backward_worker, p);
}
