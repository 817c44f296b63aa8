/* ffn.c - the gated feed-forward: y = down(act(gate(x)) * up(x)).
 * An item of the first phase makes a few columns of gate and up for a block of tokens in its own scratch, applies the
 * activation, and writes them straight as the input of the down matrix: the wide F never travels through memory as floats
 * unless the down matrix wants floats. */
#include <math.h>

#include "model/adapter.h"

/* --precision f32 uses the C library's functions, so that only rounding separates it from transformers. */
static void act_exact(bm_act_kind act, float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i];
        if (act == BM_ACT_SILU)
            gate[i] = g / (1 + expf(-g)) * up[i];
        else
            gate[i] = 0.5f * g * (1 + tanhf(0.79788456080286535588f * (g + 0.044715f * g * g * g))) * up[i];
    }
}

static void act_mul(const bm_walk *w, float *gate, const float *up, int64_t n)
{
    bm_act_kind act = w->model->h.row->act;

    if (w->model->f32)
        act_exact(act, gate, up, n);
    else if (act == BM_ACT_SILU)
        w->k->silu_mul(gate, gate, up, n);
    else
        w->k->gelu_tanh_mul(gate, gate, up, n);
}

static void gate_up_item(const bm_walk *w, int layer, int64_t col, int64_t n_cols, int64_t t_begin,
                         int64_t t_end)
{
    const bm_layer_weights *l = &w->model->w.layers[layer];
    int64_t tile = col / BM_TILE_ROWS, tile_end = (col + n_cols + BM_TILE_ROWS - 1) / BM_TILE_ROWS;
    float *gate = w->own->gate, *up = w->own->up;

    bm_linear_part(w, &l->gate, w->in, tile, tile_end, t_begin, t_end, gate, n_cols);
    bm_linear_part(w, &l->up, w->in, tile, tile_end, t_begin, t_end, up, n_cols);
    bm_lora_up(w, layer, BM_LORA_GATE, tile, tile_end, t_begin, t_end, gate, n_cols);
    bm_lora_up(w, layer, BM_LORA_UP, tile, tile_end, t_begin, t_end, up, n_cols);
    act_mul(w, gate, up, (t_end - t_begin) * n_cols);
    bm_site_put_rows(w->k, &w->step->ffn, t_begin, t_end - t_begin, col, n_cols, gate, n_cols);
}

static void gate_up_phase(const bm_walk *w, int layer)
{
    int64_t n_ff = w->model->h.d_ff, n_tokens = w->step->n_tokens;
    int64_t n_blocks = (n_tokens + BM_TOKEN_BLOCK - 1) / BM_TOKEN_BLOCK;
    int64_t width = n_ff * n_blocks < BM_FFN_COLS * 8 * w->worker->n ? 32 : BM_FFN_COLS;       /* several items for each worker */
    int64_t n_cols = (n_ff + width - 1) / width;
    size_t begin, end, chunk = w->step->small ? 1 + (size_t)(n_cols / (6 * w->worker->n)) : 1;

    while (bm_worker_claim(w->worker, (size_t)(n_cols * n_blocks), chunk, &begin, &end))
        for (size_t i = begin; i < end; i++) {
            int64_t t = (int64_t)i / n_cols * BM_TOKEN_BLOCK, col = (int64_t)i % n_cols * width;
            int64_t t_end = t + BM_TOKEN_BLOCK < n_tokens ? t + BM_TOKEN_BLOCK : n_tokens;
            gate_up_item(w, layer, col, col + width < n_ff ? width : n_ff - col, t, t_end);
        }
    bm_worker_barrier(w->worker);
}

void bm_ffn_forward(const bm_walk *w, int layer)
{
    gate_up_phase(w, layer);
    bm_lora_down_phase(w, layer, BM_LORA_FFN, &w->step->ffn);
    bm_linear_phase(w, layer, BM_LORA_DOWN, &w->step->ffn);
}
