/* pass_twin.h - the naive twin of a training pass: the loss of a row in doubles, one token after the other, every formula written
 * out. It reads the weights of a model opened with f32, and shares no arithmetic with src/. For finite differences. */
#pragma once
#include <math.h>
#include <stdlib.h>
#include "model/pass.h"
#include "model/walk.h"

typedef struct twin {
    const bm_model *m;
    const bm_lora_matrix *matrices;      /* all sites of all layers; shapes and scales */
    const float *base;           /* what the matrices point into */
    const double *theta;         /* [n]: values to use instead */
    int n;                       /* tokens of the segment */
    double *x, *norm, *q, *k, *v, *out, *y, *gate, *up;
} twin;

static inline void twin_norm(const twin *w, const bm_norm *norm, double *out, const double *x, int n)
{
    double squares = 0;

    for (int i = 0; i < n; i++)
        squares += x[i] * x[i] / n;
    for (int i = 0; i < n; i++)
        out[i] = x[i] / sqrt(squares + (double)w->m->h.norm_eps) * (double)norm->weight[i];
}

/* y[t] = scale W x[t] + bias + s B A x[t] for all tokens. */
static inline void twin_linear(const twin *w, int layer, bm_lora_site site, const bm_linear *l, const double *x, double *y)
{
    const bm_lora_matrix *m = &w->matrices[layer * BM_LORA_SITES + (int)site];
    const double *a = w->theta + (m->a - w->base), *b = w->theta + (m->b - w->base);
    int64_t n_in = l->w.n_cols, n_out = l->w.n_rows;
    float *row = malloc((size_t)n_in * sizeof *row);

    for (int64_t r = 0; r < n_out; r++) {
        bm_packed_row(&l->w, r, row);
        for (int t = 0; t < w->n; t++) {
            double sum = 0;
            for (int64_t i = 0; i < n_in; i++)
                sum += (double)row[i] * x[t * n_in + i];
            y[t * n_out + r] = sum * (l->scale ? (double)*l->scale : 1) + (l->bias ? (double)l->bias[r] : 0);
        }
    }
    for (int t = 0; t < w->n; t++)
        for (int j = 0; j < m->rank; j++) {
            double u = 0;
            for (int64_t i = 0; i < n_in; i++)
                u += a[j * n_in + i] * x[t * n_in + i];
            for (int64_t r = 0; r < n_out; r++)
                y[t * n_out + r] += (double)m->scale * b[r * m->rank + j] * u;
        }
    free(row);
}

/* Head norm and RoPE of all heads. */
static inline void twin_heads(const twin *w, int layer, const bm_norm *norm, double *x, int n_heads)
{
    const bm_hparams *h = &w->m->h;
    const bm_rope *rope = &h->ropes[h->layers[layer].rope];
    int half = rope->n_rot / 2;

    for (int t = 0; t < w->n; t++)
        for (int head = 0; head < n_heads; head++, x += h->head_k) {
            if (norm->weight)
                twin_norm(w, norm, x, x, h->head_k);
            for (int i = 0; i < half; i++) {
                double c = cos(t * rope->freq[i]) * (double)rope->magnitude, s = sin(t * rope->freq[i]) * (double)rope->magnitude;
                double a = x[i], b = x[half + i];
                x[i] = a * c - b * s;
                x[half + i] = a * s + b * c;
            }
        }
}

static inline double twin_cap(double x, double cap) { return cap > 0 ? cap * tanh(x / cap) : x; }

static inline void twin_attend(const twin *w, int layer)
{
    const bm_hparams *h = &w->m->h;
    int window = h->layers[layer].window, group = h->n_heads / h->n_kv_heads;
    double *p = malloc((size_t)w->n * sizeof *p);

    for (int t = 0; t < w->n; t++)
        for (int head = 0; head < h->n_heads; head++) {
            const double *q = w->q + (t * h->n_heads + head) * h->head_k;
            double *out = w->out + (t * h->n_heads + head) * h->head_v, sum = 0;
            double warm = h->temp_scale > 0 ? 1 + (double)h->temp_scale * log(1 + floor((double)t / h->temp_len)) : 1;
            int first = window > 0 && t >= window ? t - window + 1 : 0;
            for (int i = 0; i < h->head_v; i++)
                out[i] = 0;
            for (int j = first; j <= t; j++) {
                const double *k = w->k + (j * h->n_kv_heads + head / group) * h->head_k;
                double s = 0;
                for (int i = 0; i < h->head_k; i++)
                    s += q[i] * warm * k[i];
                sum += p[j] = exp(twin_cap(s * (double)h->attn_scale, (double)h->attn_softcap));
            }
            for (int j = first; j <= t; j++)
                for (int i = 0; i < h->head_v; i++)
                    out[i] += p[j] / sum * w->v[(j * h->n_kv_heads + head / group) * h->head_v + i];
        }
    free(p);
}

static inline void twin_add(const twin *w, const bm_norm *post)
{
    int d = w->m->h.d_model;

    for (int t = 0; t < w->n; t++) {
        double *y = w->y + t * d;
        if (post->weight)
            twin_norm(w, post, y, y, d);
        for (int i = 0; i < d; i++)
            w->x[t * d + i] += (double)w->m->h.residual_scale * y[i];
    }
}

static inline void twin_layer(const twin *w, int layer)
{
    const bm_hparams *h = &w->m->h;
    const bm_layer_weights *l = &w->m->w.layers[layer];
    int d = h->d_model;

    for (int t = 0; t < w->n; t++)
        twin_norm(w, &l->attn_norm, w->norm + t * d, w->x + t * d, d);
    twin_linear(w, layer, BM_LORA_Q, &l->q, w->norm, w->q);
    twin_linear(w, layer, BM_LORA_K, &l->k, w->norm, w->k);
    twin_linear(w, layer, BM_LORA_V, &l->v, w->norm, w->v);
    twin_heads(w, layer, &l->q_norm, w->q, h->n_heads);
    twin_heads(w, layer, &l->k_norm, w->k, h->n_kv_heads);
    twin_attend(w, layer);
    twin_linear(w, layer, BM_LORA_O, &l->o, w->out, w->y);
    twin_add(w, &l->attn_post_norm);
    for (int t = 0; t < w->n; t++)
        twin_norm(w, &l->ffn_norm, w->norm + t * d, w->x + t * d, d);
    twin_linear(w, layer, BM_LORA_GATE, &l->gate, w->norm, w->gate);
    twin_linear(w, layer, BM_LORA_UP, &l->up, w->norm, w->up);
    for (int i = 0; i < w->n * h->d_ff; i++) {
        double g = w->gate[i];
        if (h->row->act == BM_ACT_SILU)
            w->gate[i] = g / (1 + exp(-g)) * w->up[i];
        else
            w->gate[i] = 0.5 * g * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (g + 0.044715 * g * g * g))) * w->up[i];
    }
    twin_linear(w, layer, BM_LORA_DOWN, &l->down, w->gate, w->y);
    twin_add(w, &l->ffn_post_norm);
}

/* sum of coef[t] * -log p(ids[t]) over a segment. */
static inline double twin_segment(const twin *w, const int32_t *ids, const float *coef)
{
    const bm_hparams *h = &w->m->h;
    int d = h->d_model, v = h->n_vocab;
    float *row = malloc((size_t)d * sizeof *row);
    double *sums = calloc((size_t)w->n, sizeof *sums), *own = calloc((size_t)w->n, sizeof *own), total = 0;

    for (int t = 0; t < w->n; t++) {
        bm_packed_row(&w->m->w.embd, ids[t], row);
        for (int i = 0; i < d; i++)
            w->x[t * d + i] = (double)row[i] * (double)h->embed_scale;
    }
    for (int i = 0; i < h->n_layers; i++)
        twin_layer(w, i);
    for (int t = 0; t < w->n; t++)
        twin_norm(w, &w->m->w.out_norm, w->norm + t * d, w->x + t * d, d);
    for (int r = 0; r < v; r++) {
        bm_packed_row(&w->m->w.head, r, row);
        for (int t = 0; t + 1 < w->n; t++) {
            double z = 0;
            for (int i = 0; i < d; i++)
                z += (double)row[i] * w->norm[t * d + i];
            z = twin_cap(z * (double)h->logit_scale, (double)h->final_softcap);
            sums[t] += exp(z);
            if (r == ids[t + 1])
                own[t] = z;
        }
    }
    for (int t = 0; t + 1 < w->n; t++)
        total += (double)coef[t + 1] * (log(sums[t]) - own[t]);
    free(row);
    free(sums);
    free(own);
    return total;
}

/* The loss of a row: coef[t] * nll[t] added up; coef 0 where there is no target. */
static inline double twin_loss(const bm_model *m, const bm_trainable *adapter, const double *theta, const bm_train_row *row,
                               const float *coef)
{
    const bm_hparams *h = &m->h;
    size_t n_matrices, t = (size_t)row->n_tokens, d = (size_t)h->d_model, o = (size_t)h->n_heads * (size_t)h->head_v;
    size_t q = (size_t)h->n_heads * (size_t)h->head_k, f = (size_t)h->d_ff;
    twin w = { .m = m, .theta = theta, .matrices = bm_trainable_matrices(adapter, &n_matrices) };
    double *memory = malloc(t * (3 * d + 3 * q + o + 2 * f) * sizeof *memory), total = 0;

    w.base = w.matrices[0].a;
    w.x = memory, w.norm = w.x + t * d, w.y = w.norm + t * d, w.q = w.y + t * d, w.k = w.q + t * q, w.v = w.k + t * q;
    w.out = w.v + t * q, w.gate = w.out + t * o, w.up = w.gate + t * f;
    for (int i = 0; i < row->n_segments; i++) {
        int from = row->starts[i], to = i + 1 < row->n_segments ? row->starts[i + 1] : row->n_tokens;
        w.n = to - from;
        total += twin_segment(&w, row->tokens + from, coef + from);
    }
    free(memory);
    return total;
}
