/* walk.h - one worker's walk through the layers of a step. Private to src/model.
 *
 * All workers run the same walk (SPMD); phases are separated by barriers and their work is claimed. No result depends on
 * who claims what: a float is always the sum of the same terms in the same order.
 *
 * Two regimes with the same arithmetic: a *small* step (few tokens: decoding) does the per-token work - residual sum, norm,
 * quantising - in every worker on a private copy, which is cheaper than a barrier; a large one shares it out by tokens.
 * Phases of a layer: [norm] | q k v, RoPE, store | attention | output matrix | [norm] | gate, up, activation | down matrix,
 * where the bracketed ones take a barrier of their own in large steps only. The last layer of a large step makes keys and values of
 * all tokens, and goes on with those tokens alone whose hidden rows will be read. */
#pragma once
#include "compute/kernels.h"
#include "compute/team.h"
#include "model/arch.h"
#include "model/lora.h"
#include "model/model.h"
#include "model/weights.h"

enum {
    BM_SMALL_TOKENS = 4,         /* at most so many tokens make a small step */
    BM_TOKEN_BLOCK = 96,         /* tokens of one item of work in a large step: what a matrix product takes at once */
    BM_FFN_COLS = 64             /* columns of the feed-forward that one item works on at most */
};

struct bm_model {
    bm_model_info info;
    bm_hparams h;
    bm_weights w;
    const bm_kernels *kernels;
    bool f32;
    bm_kv_type kv_type;
    size_t kv_head_bytes, kv_layer_bytes;            /* in a page: one head of one layer, one layer */
    size_t kv_v_offset;                              /* from a head's K to its V */
    /* Which forms of activations the matrices take: quantised, f32, or both (types may differ from layer to layer). */
    struct bm_act_need { bool q, f32; } need_in, need_attn, need_ffn, need_head;
};

/* Activations on their way into matrix products: quantised, f32 or both as `need` says. */
typedef struct bm_site {
    bm_acts acts;
    float *f32;                  /* [T][n_cols]; NULL when nobody needs it: neither matrices nor an adapter in the step */
    float *room;                 /* where f32 stands when it is needed */
    struct bm_act_need need;
} bm_site;

/* Consecutive tokens of a step that have one adapter. */
typedef struct bm_lora_span { const bm_adapter *adapter; int first, n; } bm_lora_span;

/* Consecutive tokens of one run that attention takes together. */
typedef struct bm_block { int run, first, n; } bm_block;         /* first: index of a token in the step */

/* Lays out one block of memory: hands out 64-byte aligned pieces; counts only while base is NULL. */
typedef struct bm_cursor { unsigned char *base; size_t at; } bm_cursor;
void *bm_cursor_take(bm_cursor *c, int64_t n, size_t size);
void  bm_cursor_take_site(bm_cursor *c, bm_site *site, int64_t n_tokens, int64_t n_cols, struct bm_act_need need);

typedef struct bm_scratch {      /* one worker's own memory */
    float *row;                  /* [max(D, H*Ev)] */
    float *kv;                   /* [BM_TOKEN_BLOCK][kv unit] */
    float *gate, *up;            /* [BM_TOKEN_BLOCK][BM_FFN_COLS] */
    const void **pages;          /* [n_ctx / 64 + 1] */
    float *acc, *sum_acc;        /* [BM_ATTN_ROWS][Ev] */
    float *x;                    /* [BM_SMALL_TOKENS][D] */
    bm_site in, attn;            /* of a small step */
    float *h;                    /* [BM_SMALL_TOKENS][h_stride] */
} bm_scratch;

struct bm_step {
    const bm_model *model;
    void *memory;
    size_t len_bytes;
    int max_tokens, n_threads;
    int n_tokens;                /* that the walk takes; from the last layer's attention on those that are read */
    int n_rows;                  /* tokens of the last forward */
    bool small, narrow;          /* narrow: a large one of which some hidden rows are unread */
    int32_t *kept;               /* [T]: where the hidden row of a token stands; -1: unread */
    float *x;                    /* [T][D] residual stream; after forward the final hidden rows */
    float *y;                    /* [T][D] what a mixer or feed-forward adds */
    float *q;                    /* [T][H*Ek] */
    float *attn_out;             /* [T][H*Ev] */
    float *cos_sin[2];           /* [T][n_rot] */
    int32_t *position;           /* [T] */
    int32_t *token;              /* [T] */
    int32_t *run;                /* [T] */
    bm_block *blocks;            /* [T] */
    int n_blocks;
    bm_site in, attn, ffn, head;
    bm_lora_span *spans;         /* [T]; ascending, n_spans of them in this step */
    int n_spans;
    int64_t h_stride;            /* rows of h that the adapters of this step need */
    float *h;                    /* [T][h_stride] of a large step: what A makes of an input (adapter.h) */
    bm_scratch *scratch;         /* [n_threads] */
    /* Partials of attention of a small step: slot ((token * H + head) * max_spans + span). */
    int max_spans;
    float *part_m, *part_l, *part_acc;
    const bm_run *runs;          /* during forward, n_runs */
    int n_runs;
};

typedef struct bm_walk {
    const bm_model *model;
    bm_step *step;
    bm_worker *worker;
    const bm_kernels *k;
    bm_scratch *own;
    float *x;                    /* [T][D]: shared, or own in a small step */
    bm_site *in, *attn;          /* likewise */
    float *h;                    /* likewise */
} bm_walk;

/* Kernels address rows and tokens by absolute index; scratch begins at another one. */
static inline float *bm_rebase(float *p, int64_t back)
{
    return (float *)((uintptr_t)p - (uintptr_t)(back * (int64_t)sizeof *p));
}

/* Write row t of a site: f32 and quantised as needed. x may be the site's own f32 row. */
void bm_site_put(const bm_kernels *k, bm_site *site, int64_t t, const float *x);
/* The same for n columns from col on of n_rows tokens, row i from x + i * x_stride; col and n multiples of 32 when the site is
 * quantised. Faster than one by one. */
void bm_site_put_rows(const bm_kernels *k, bm_site *site, int64_t t, int64_t n_rows, int64_t col, int64_t n, const float *x,
                      int64_t x_stride);

void bm_norm_apply(const bm_walk *w, const bm_norm *norm, float *out, const float *x, int64_t n);

/* y[t][n] = W x + bias for rows of tiles [tile_begin, tile_end) and tokens [t_begin, t_end). `out` is where row
 * 16*tile_begin of token t_begin goes. */
void bm_linear_part(const bm_walk *w, const bm_linear *l, const bm_site *x, int64_t tile_begin, int64_t tile_end,
                    int64_t t_begin, int64_t t_end, float *out, int64_t out_stride);
/* One of a layer's two maps back to D (o, down), with adapters, into step->y, as one phase: claims, and ends with a barrier. */
void bm_linear_phase(const bm_walk *w, int layer, bm_lora_site site, const bm_site *x);

/* x += post(y) when there is a y, then in = norm(x): the step before a layer's mixer and before its feed-forward, whose adapters
 * take it as `input` (a bm_lora_input). post: weight NULL for none. */
void bm_residual_norm(const bm_walk *w, bool add_y, const bm_norm *post, const bm_norm *norm, int layer, int input);

/* The step's tokens without those that are unread: their rows of x move together. One worker alone. */
void bm_step_narrow(bm_step *step);
/* Keys and values of all tokens alone. */
void bm_attention_store(const bm_walk *w, int layer);
/* Each takes its input from w->in and leaves its output in step->y, complete for all workers. stored: after bm_attention_store. */
void bm_attention_forward(const bm_walk *w, int layer, bool stored);
void bm_ffn_forward(const bm_walk *w, int layer);

/* (m, l, acc[n]) of the spans so far takes in the next one's; the same function for every way of cutting the work. */
void bm_attention_fold(const bm_kernels *k, float *m, float *l, float *acc, float m2, float l2, const float *acc2, int n);

/* Floats of k and v that one item of attention makes for a token. */
int64_t bm_attention_kv_unit(const bm_hparams *h);
/* Cut a run's tokens into blocks of so many. */
int bm_attention_block(const bm_hparams *h);

/* The whole step, its tokens set up; and the logits of rows of its final hidden state. */
void bm_walk_run(bm_step *step, bm_team *team);
/* What comes after the head's product: scale and cap. */
void bm_finish_logits(const bm_model *model, float *logits, int64_t n);
void bm_walk_logits(bm_step *step, bm_team *team, const int32_t *rows, int n_rows, float *logits);
