/* pass_head.c - the head and the loss: logits where the next token is a target, in blocks of rows, and the gradient of each
 * -log p with respect to its hidden row while the logits are at hand: backward then only scales rows. */
#include "model/pass_walk.h"

#include <math.h>
#include <string.h>

enum {
    SUM_COLUMNS = 4096,          /* exp are added up in floats so far, then in doubles */
    PEAK_COLUMNS = 128           /* columns looked at together for peaks */
};
#define PEAK 0x1p-9f             /* probabilities from here on, at most 512 of a row */

typedef struct block { int64_t first, n; } block;       /* targets */

/* Hidden rows of the block's targets, ready for the head. */
static void hidden_phase(const bm_train_walk *w, block b)
{
    bm_pass *p = w->p;
    int64_t d = p->model->h.d_model;
    const float *x = p->x_attn[p->model->h.n_layers];
    size_t i, end;

    while (bm_worker_claim(w->w.worker, (size_t)b.n, 4, &i, &end))
        for (; i < end; i++) {
            float *hidden = p->hidden + (int64_t)i * d;
            bm_train_norm(w, &p->model->w.out_norm, hidden, x + p->target_row[b.first + (int64_t)i] * d, d);
            bm_train_put(w, BM_LORA_SITES, p->head, (int64_t)i, 1, 0, d, hidden, d);
        }
    bm_worker_barrier(w->w.worker);
}

static void logits_phase(const bm_train_walk *w, block b)
{
    bm_pass *p = w->p;
    const bm_packed *head = &p->model->w.head;
    int64_t tiles = 8, v = head->n_rows;
    size_t begin, end;

    while (bm_worker_claim(w->w.worker, (size_t)((head->n_tiles + tiles - 1) / tiles), 1, &begin, &end)) {
        int64_t tile = (int64_t)begin * tiles, tile_end = tile + tiles < head->n_tiles ? tile + tiles : head->n_tiles;
        int64_t row = tile * BM_TILE_ROWS, row_end = tile_end * BM_TILE_ROWS < v ? tile_end * BM_TILE_ROWS : v;
        for (int64_t t = 0; t < b.n; t += BM_TOKEN_BLOCK) {
            int64_t t_end = t + BM_TOKEN_BLOCK < b.n ? t + BM_TOKEN_BLOCK : b.n;
            w->w.k->matmul(head, tile, tile_end, &p->head[0].acts, t, t_end, p->logits, v);
            bm_train_add_rest(w, BM_LORA_SITES, head, p->head, NULL, tile, tile_end, t, t_end, p->logits + t * v + row, v);
        }
        for (int64_t t = 0; t < b.n; t++)
            bm_finish_logits(p->model, p->logits + t * v + row, row_end - row);
    }
    bm_worker_barrier(w->w.worker);
}

static double log_sum_exp(const bm_kernels *k, const float *x, int64_t n)
{
    float most = k->max(x, n);
    double sum = 0;

    for (int64_t i = 0; i < n; i += SUM_COLUMNS)
        sum += (double)k->sum_exp(x + i, n - i < SUM_COLUMNS ? n - i : SUM_COLUMNS, most);
    return most + log(sum);
}

/* d_hidden += x[v] * W[v] */
static void spread(const bm_train_walk *w, float *d_hidden, float *x, int64_t v)
{
    int64_t d = w->p->model->h.d_model;
    float *row = w->own->row;

    bm_packed_row(&w->p->model->w.head, v, row);
    w->w.k->scale(row, x[v], d);
    w->w.k->add(d_hidden, row, d);
    x[v] = 0;
}

/* A table may round the gradient of logits to 8 bits per block of columns. Beside the 1 of the token, or beside any large
 * probability, all others of the block would be rounded away (measured on text: 17 % of error in the gradients of SmolLM2, 3 % without
 * them): those few are multiplied with their own rows of W here. */
static void spread_peaks(const bm_train_walk *w, float *d_hidden, float *x, int32_t token)
{
    int64_t v = w->p->model->h.n_vocab;
    float peak = PEAK * w->p->model->h.logit_scale;

    memset(d_hidden, 0, (size_t)w->p->model->h.d_model * sizeof *d_hidden);
    spread(w, d_hidden, x, token);
    for (int64_t i = 0; i < v; i += PEAK_COLUMNS) {
        int64_t end = i + PEAK_COLUMNS < v ? i + PEAK_COLUMNS : v;
        if (w->w.k->max(x + i, end - i) <= peak)
            continue;
        for (int64_t j = i; j < end; j++)
            if (x[j] > peak)
                spread(w, d_hidden, x, j);
    }
}

/* -log p of each target; with keep its logits become their gradient: (p - 1 at the token) through cap and scale. */
static void loss_phase(const bm_train_walk *w, block b, bool keep)
{
    bm_pass *p = w->p;
    const bm_hparams *h = &p->model->h;
    int64_t v = h->n_vocab;
    float cap = h->final_softcap;
    bm_dy dy = { .n_tokens = b.n, .n_rows = v, .memory = p->head_dy, .exact = p->exact };
    size_t i, end;

    while (bm_worker_claim(w->w.worker, (size_t)b.n, 1, &i, &end)) {
        float *x = p->logits + (int64_t)i * v;
        int64_t t = p->target_row[b.first + (int64_t)i] + 1;
        double lse = log_sum_exp(w->w.k, x, v);
        float at_token = x[p->token[t]];
        p->nll[t] = lse - at_token;
        if (!keep)
            continue;
        w->w.k->softmax_back(x, v, (float)lse, cap, h->logit_scale);
        x[p->token[t]] -= h->logit_scale * (cap > 0 ? 1 - at_token / cap * (at_token / cap) : 1);
        if (!p->exact)
            spread_peaks(w, p->d_hidden + (b.first + (int64_t)i) * h->d_model, x, p->token[t]);
        p->grad->dy_put(&dy, (int64_t)i, (int64_t)end, p->logits, v);
    }
    bm_worker_barrier(w->w.worker);
}

static void hidden_back_phase(const bm_train_walk *w, block b)
{
    bm_pass *p = w->p;
    int64_t d = p->model->h.d_model, width = d / (4 * w->w.worker->n) / 32 * 32;
    bm_dy dy = { .n_tokens = b.n, .n_rows = p->model->h.n_vocab, .memory = p->head_dy, .exact = p->exact };
    size_t begin, end;

    width = width < 32 ? 32 : width > 128 ? 128 : width;
    while (bm_worker_claim(w->w.worker, (size_t)((d + width - 1) / width), 1, &begin, &end)) {
        int64_t col = (int64_t)begin * width;
        p->grad->matmul_back(&p->model->w.head, &dy, col, col + width < d ? col + width : d, p->d_hidden + b.first * d, d, !p->exact,
                             w->own->back);
    }
    bm_worker_barrier(w->w.worker);
}

void bm_pass_head(const bm_train_walk *w, bool keep)
{
    int64_t n = w->p->n_targets, n_blocks = (n + w->p->head_rows - 1) / w->p->head_rows;

    for (int64_t i = 0; i < n_blocks; i++) {
        block b = { .first = n * i / n_blocks };
        b.n = n * (i + 1) / n_blocks - b.first;
        hidden_phase(w, b);
        logits_phase(w, b);
        loss_phase(w, b, keep);
        if (keep)
            hidden_back_phase(w, b);
    }
}
