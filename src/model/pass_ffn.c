/* pass_ffn.c - the gated feed-forward in training: y = down(act(gate(x)) * up(x)), and back. */
#include "model/pass_walk.h"

#include <string.h>

/* ---- forward ---- */

static void act_row(const bm_train_walk *w, float *out, const float *gate, const float *up, int64_t n)
{
    if (w->p->model->h.row->act == BM_ACT_SILU)
        w->w.k->silu_mul(out, gate, up, n);
    else
        w->w.k->gelu_tanh_mul(out, gate, up, n);
}

/* Columns [col, col + n) of gate, up and what they make, for tokens [t, end). */
static void gate_up_item(const bm_train_walk *w, int layer, int64_t col, int64_t n, int64_t t, int64_t end)
{
    bm_pass *p = w->p;
    const bm_layer_weights *l = &p->model->w.layers[layer];
    const bm_saved *s = bm_pass_saved(p, layer);
    int64_t tile = col / BM_TILE_ROWS, tile_end = (col + n + BM_TILE_ROWS - 1) / BM_TILE_ROWS, f = p->model->h.d_ff;
    float *gate = w->own->gate, *up = w->own->up;

    bm_train_linear_part(w, layer, BM_LORA_GATE, &l->gate, p->in, tile, tile_end, t, end, gate, n);
    bm_train_linear_part(w, layer, BM_LORA_UP, &l->up, p->in, tile, tile_end, t, end, up, n);
    for (int64_t i = t; i < end; i++, gate += n, up += n) {
        bm_keep_floats(w, p->exact, s->gate, i * f + col, gate, n);
        bm_keep_floats(w, p->exact, s->up, i * f + col, up, n);
        act_row(w, p->ffn + i * f + col, gate, up, n);
    }
    bm_train_put(w, BM_LORA_DOWN, p->down, t, end - t, col, n, p->ffn + t * f + col, f);
}

static void gate_up_phase(const bm_train_walk *w, int layer)
{
    int64_t f = w->p->model->h.d_ff, n_cols = (f + BM_FFN_COLS - 1) / BM_FFN_COLS;
    int64_t n_blocks = (w->n_tokens + BM_TOKEN_BLOCK - 1) / BM_TOKEN_BLOCK;
    size_t begin, end;

    while (bm_worker_claim(w->w.worker, (size_t)(n_cols * n_blocks), 1, &begin, &end)) {
        int64_t t = (int64_t)begin / n_cols * BM_TOKEN_BLOCK, col = (int64_t)begin % n_cols * BM_FFN_COLS;
        int64_t t_end = t + BM_TOKEN_BLOCK < w->n_tokens ? t + BM_TOKEN_BLOCK : w->n_tokens;
        gate_up_item(w, layer, col, col + BM_FFN_COLS < f ? BM_FFN_COLS : f - col, t, t_end);
    }
    bm_worker_barrier(w->w.worker);
}

void bm_train_ffn(const bm_train_walk *w, int layer, bool output)
{
    const bm_layer_weights *l = &w->p->model->w.layers[layer];
    bm_lora_use use;
    size_t t, end;

    gate_up_phase(w, layer);
    if (bm_train_lora_find(w, layer, BM_LORA_DOWN, &use)) {
        while (bm_worker_claim(w->w.worker, (size_t)w->n_tokens, BM_TRAIN_TOKENS, &t, &end))
            bm_train_lora_down(w, layer, BM_LORA_DOWN, w->p->ffn, (int64_t)t, (int64_t)end);
        bm_worker_barrier(w->w.worker);
    }
    if (output)
        bm_train_linear_phase(w, layer, BM_LORA_DOWN, &l->down, w->p->down, bm_pass_saved(w->p, layer)->y_ffn);
}

/* ---- backward ---- */

/* d_gate holds the gradient of the product of both in these columns: it becomes those of gate and up, and ffn the product. */
static void act_back(const bm_train_walk *w, int layer, int64_t col, int64_t n)
{
    bm_pass *p = w->p;
    const bm_saved *s = bm_pass_saved(p, layer);
    int64_t f = p->model->h.d_ff;
    float *gate = w->own->gate, *up = w->own->up;

    for (int64_t t = 0; t < w->n_tokens; t++) {
        int64_t at = t * f + col;
        bm_kept_floats(w, p->exact, s->gate, at, gate, n);
        bm_kept_floats(w, p->exact, s->up, at, up, n);
        if (p->model->h.row->act == BM_ACT_SILU)
            w->w.k->silu_back(gate, up, p->d_gate + at, p->ffn + at, n);
        else
            w->w.k->gelu_tanh_back(gate, up, p->d_gate + at, p->ffn + at, n);
        memcpy(p->d_gate + at, gate, (size_t)n * sizeof *gate);
        memcpy(p->d_up + at, up, (size_t)n * sizeof *up);
    }
}

void bm_train_ffn_back(bm_train_walk *w, int layer)
{
    bm_pass *p = w->p;
    const bm_layer_weights *l = &p->model->w.layers[layer];
    const bm_saved *s = bm_pass_saved(p, layer);
    int64_t d = p->model->h.d_model;
    size_t t, end;

    bm_back_begin(w, 0, BM_LORA_DOWN, &l->down, p->g);
    while (bm_worker_claim(w->w.worker, (size_t)w->n_tokens, BM_TRAIN_TOKENS, &t, &end)) {
        for (size_t i = t; i < end; i++)
            bm_residual_back(w, &l->ffn_post_norm, s->y_ffn, (int64_t)i);
        bm_back_put(w, layer, 0, (int64_t)t, (int64_t)end);
    }
    bm_worker_barrier(w->w.worker);
    bm_back_phase(w, layer, 1, p->ffn, p->d_gate, act_back);

    bm_back_begin(w, 0, BM_LORA_GATE, &l->gate, p->d_gate);
    bm_back_begin(w, 1, BM_LORA_UP, &l->up, p->d_up);
    while (bm_worker_claim(w->w.worker, (size_t)w->n_tokens, BM_TRAIN_TOKENS, &t, &end)) {
        for (size_t i = t; i < end; i++)
            bm_train_norm(w, &l->ffn_norm, p->norm + (int64_t)i * d, s->x_ffn + (int64_t)i * d, d);
        bm_back_put(w, layer, 0, (int64_t)t, (int64_t)end);
        bm_back_put(w, layer, 1, (int64_t)t, (int64_t)end);
    }
    bm_worker_barrier(w->w.worker);
    bm_back_phase(w, layer, 2, p->norm, p->dn, NULL);
}
