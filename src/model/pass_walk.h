/* pass_walk.h - one worker's walk through a training pass: what its files share. Private to src/model.
 *
 * As in walk.h all workers run the same walk (SPMD), phases end at barriers and their work is claimed. Sums over tokens - the
 * gradients of A and B, dK and dV - are cut by what they give, never by tokens, and products do not depend on how they are cut
 * (compute/grad.h), so nothing depends on the threads.
 *
 * Forward of a layer: x_attn -> [norm, A x of q k v] | q k v, RoPE, store | attention | [A x of o] | output matrix ->
 * x_ffn -> [norm, A x of gate up] | gate, up, activation | [A x of down] | down matrix -> the next layer's x_attn.
 * Backward: [dY of down] | its columns and the activation | [dY of gate up] | columns | [norm, dY of o] | columns | attention |
 * [RoPE, head norms, dY of q k v] | columns | [norm, dY of the layer below]. Brackets: shared out by tokens. */
#pragma once
#include "compute/grad.h"
#include "model/pass.h"
#include "model/walk.h"

enum {
    BM_TRAIN_TOKENS = 16,        /* tokens of one item where work is shared out by tokens */
    BM_REST_ROWS = 128,          /* rows of a matrix of which the product with the rest is made at once */
    BM_DEFAULT_RANK = 16
};

struct bm_trainable {
    const bm_model *model;
    unsigned sites;
    int rank, rank_padded;       /* padded to 16 */
    int n_sites;                 /* of a layer */
    float scale;
    size_t n, n_matrices;        /* n_layers * n_sites: matrix (layer, i-th site) is layer * n_sites + i */
    float *values, *grads;       /* [n]: A, B of each matrix */
    bm_lora_matrix *matrices;
    struct bm_train_pack { bm_packed a, b; } *packs;     /* [n_matrices] as a served adapter has them; made anew by each forward */
    unsigned char *packed;       /* their memory */
};

/* An adapted map during a pass: its values, packed for forward and as they are for backward, and their gradients. */
typedef struct bm_lora_use {
    int64_t n_in, n_out;         /* K, N */
    int rank, stride;            /* stride: of u */
    float scale;
    const struct bm_train_pack *packs;
    const float *a, *b;          /* [R, K], [N, R] */
    float *da, *db;
} bm_lora_use;

/* What backward needs of one layer. */
typedef struct bm_saved {
    float *x_ffn;                /* [T][D] input of the feed-forward's norm */
    float *q;                    /* [T][H*Ek] after RoPE */
    float *q_raw, *k_raw;        /* [T][H*Ek], [T][G*Ek] before the head norms; NULL: there are none */
    void *k, *v;                 /* [G][T][Ek], [G][T][Ev] in the cache's type: int16, halves or floats */
    float *k_scale, *v_scale;    /* [G][T] of int16 */
    float *attn_out;             /* [T][H*Ev] */
    float *lse;                  /* [H][T] log of the sum of exp of the scores */
    float *y_attn, *y_ffn;       /* [T][D] before the post norms; without such, memory that every layer shares */
    void *gate, *up;             /* [T][F] half floats, exact: floats */
    float *u[BM_LORA_SITES];     /* [T][R padded to 16] scale * (A x) */
} bm_saved;

/* One of the maps that share a phase of backward: its weights, dY in both forms, and B^T dY. */
typedef struct bm_back_map {
    bm_lora_site site;
    const bm_linear *linear;
    const float *g;              /* dY[T][N] */
    bm_dy dy;
    float *du;                   /* [T][R] */
} bm_back_map;

typedef struct bm_pass_scratch { /* one worker's own memory */
    unsigned char *page_memory;  /* [T/64 + 1] pages of one kv-head */
    const void **pages;          /* [T/64 + 1] */
    float *acc, *sum_acc;        /* [BM_ATTN_ROWS][Ev] */
    float *row;                  /* [max(D, F, H*Ek, H*Ev)] */
    float *kv;                   /* [BM_TOKEN_BLOCK][bm_attention_kv_unit] */
    float *gate, *up;            /* [BM_TOKEN_BLOCK][BM_FFN_COLS] */
    float *rest;                 /* [BM_TRAIN_TOKENS][max(D, F, H*Ev)], or products [BM_TOKEN_BLOCK][BM_REST_ROWS] */
    float *key, *value;          /* [64][Ek], [64][Ev] */
    float *s, *ds;               /* [64][64] */
    void *back;                  /* of bm_grad_kernels.matmul_back */
} bm_pass_scratch;

struct bm_pass {
    const bm_model *model;
    const bm_grad_kernels *grad;
    bm_pass_options options;
    void *memory;
    bool exact;

    /* The row. */
    int n_tokens, n_segments, n_targets;
    int32_t *token, *first;      /* [T]: the index of the first token of its segment */
    int32_t *starts;             /* [T + 1]: of the segments, then n_tokens */
    int32_t *target_row;         /* [T]: rows whose next token carries loss, ascending */
    const bm_trainable *adapter; /* of the last forward */
    bool kept;                   /* backward may follow */
    unsigned fine;               /* of the last forward: BM_PASS_FINE, BM_PASS_FINEST */
    double *nll;                 /* the caller's, during forward */
    const float *coef;           /* during backward */

    float *cos_sin[2];           /* [T][n_rot] */
    float **x_attn;              /* [L + 1] -> [T][D] inputs of the layers; the last: of the output norm */
    bm_saved *saved;             /* [L], or one that every layer uses in turn */
    int n_saved;

    /* Work memory, [T] rows each. */
    float *norm;                 /* [T][D] of the layer's input */
    float *ffn;                  /* [T][F] act(gate) * up */
    bm_site in[2], attn[2], down[2];     /* inputs of matrices, and what rounding leaves of them */
    float *dx;                   /* [T][D] gradient of the residual stream */
    float *g;                    /* [T][D] dY of o or down */
    float *dn;                   /* [T][D] gradient of a norm's output */
    float *d_gate, *d_up;        /* [T][F] */
    float *d_attn;               /* [T][H*Ev] */
    float *dq, *dk_heads, *dv_heads;     /* [T][H*Ek], [T][H*Ek], [T][H*Ev]: of each query head */
    float *dk, *dv;              /* [T][G*Ek], [T][G*Ev] */
    float *delta;                /* [H][T] sum of dO O */
    void *dy[3];                 /* of the maps that share a phase */
    float *du[3];                /* [T][R] likewise */

    /* The head, in blocks of rows. */
    int head_rows;               /* at most */
    float *hidden;               /* [head_rows][D] */
    bm_site head[2];
    float *logits;               /* [head_rows][V] */
    void *head_dy;
    float *d_hidden;             /* [T][D] of nll, one row for each target */

    bm_pass_scratch *scratch;    /* [n_threads] */
};

/* Embedded in a bm_walk, so that the helpers of serving take it: only model, worker and k of that are set. */
typedef struct bm_train_walk {
    bm_walk w;
    bm_pass *p;
    bm_pass_scratch *own;
    int n_tokens;
    bm_back_map maps[3];         /* of the phase of backward that comes next */
    const bm_norm *norm;         /* not NULL: dn still has to pass through this norm of norm_x into dx */
    const float *norm_x;
} bm_train_walk;

bm_saved *bm_pass_saved(const bm_pass *p, int layer);

/* n floats at kept[at...] as floats or as half floats, and back. Gate and up wait as halves for backward, whose products round more;
 * K and V as the cache has them. */
void bm_keep_floats(const bm_train_walk *w, bool f32, void *kept, int64_t at, const float *x, int64_t n);
void bm_kept_floats(const bm_train_walk *w, bool f32, const void *kept, int64_t at, float *x, int64_t n);

/* False when the map has no adapter. */
bool bm_train_lora_find(const bm_train_walk *w, int layer, bm_lora_site site, bm_lora_use *use);
/* u for tokens [t_begin, t_end) of x[T][K]. Does nothing without an adapter, like those that follow. Both products are those of
 * serving, so that the losses of training are too. */
void bm_train_lora_down(const bm_train_walk *w, int layer, bm_lora_site site, const float *x, int64_t t_begin, int64_t t_end);
/* out += B u for rows of tiles [tile, tile_end) and tokens [t_begin, t_end); out: of row 16 * tile, token t_begin. */
void bm_train_lora_up(const bm_train_walk *w, int layer, bm_lora_site site, int64_t tile, int64_t tile_end, int64_t t_begin,
                      int64_t t_end, float *out, int64_t out_stride);
/* Rows of a site (of two: itself, and what rounding leaves of it) and, where the pass is fine, that rest; as bm_site_put_rows. lora: of
 * what takes it; of the head BM_LORA_SITES. */
void bm_train_put(const bm_train_walk *w, bm_lora_site lora, bm_site *site, int64_t t, int64_t n_rows, int64_t col, int64_t n,
                  const float *x, int64_t x_stride);
/* out += the product of the rest (times *scale where there is one); out: of row 16 * tile, token t. */
void bm_train_add_rest(const bm_train_walk *w, bm_lora_site lora, const bm_packed *m, const bm_site *site, const float *scale,
                       int64_t tile, int64_t tile_end, int64_t t, int64_t t_end, float *out, int64_t out_stride);
/* bm_linear_part of both parts, and B u of the adapter. */
void bm_train_linear_part(const bm_train_walk *w, int layer, bm_lora_site lora, const bm_linear *l, const bm_site *site, int64_t tile,
                          int64_t tile_end, int64_t t, int64_t t_end, float *out, int64_t out_stride);
/* A whole map into y[T][N], as one phase: claims, and ends with a barrier. */
void bm_train_linear_phase(const bm_train_walk *w, int layer, bm_lora_site lora, const bm_linear *l, const bm_site *site,
                           float *y);

/* Name map i of the next phase of backward; then its dY in both forms, and du, for tokens [t_begin, t_end) of g. */
void bm_back_begin(bm_train_walk *w, int i, bm_lora_site site, const bm_linear *l, const float *g);
void bm_back_put(bm_train_walk *w, int layer, int i, int64_t t_begin, int64_t t_end);
/* One phase of backward over maps [0, n_maps), which share their input x[T][K]: dx[T][K] = what they add up to (NULL: not
 * wanted), the gradients of A and B. after (may be NULL) is called with each range of columns when its dx is complete and before x is
 * read there. Ends with a barrier. */
void bm_back_phase(const bm_train_walk *w, int layer, int n_maps, const float *x, float *dx,
                   void (*after)(const bm_train_walk *w, int layer, int64_t col, int64_t n_cols));

/* out = norm(x); dx = (add ? dx : 0) + its gradient; one row. */
void bm_train_norm(const bm_train_walk *w, const bm_norm *norm, float *out, const float *x, int64_t n);
void bm_train_norm_back(const bm_train_walk *w, const bm_norm *norm, float *dx, const float *dy, const float *x, int64_t n, bool add);
/* dx complete where a norm is outstanding; then into the pass's g the gradient of y, which went into the residual stream through a
 * post norm and scale; one token. */
void bm_residual_back(const bm_train_walk *w, const bm_norm *post, const float *y, int64_t t);
/* x_out = x + residual_scale * post(y); one token. */
void bm_residual_add(const bm_train_walk *w, const bm_norm *post, float *x_out, const float *x, const float *y, int64_t t);

/* Each kind's forward and backward. Forward: from the norm's output to y of the layer's saved; output false: only what
 * backward reads. Backward: from dx to dn, the gradient of the norm's output, complete for all workers; below false: no dn. */
void bm_train_attention(const bm_train_walk *w, int layer);
void bm_train_attention_back(bm_train_walk *w, int layer, bool below);
void bm_train_ffn(const bm_train_walk *w, int layer, bool output);
void bm_train_ffn_back(bm_train_walk *w, int layer);

/* The walks: pass_walk.c. */
void bm_pass_walk_forward(bm_pass *p, bm_team *team);
void bm_pass_walk_backward(bm_pass *p, bm_team *team);
/* The head and the loss of all targets: pass_head.c. */
void bm_pass_head(const bm_train_walk *w, bool keep);
