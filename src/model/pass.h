/* pass.h - forward and backward of one row of training, for every architecture of the table.
 *
 * A pass holds the work memory for up to max_tokens tokens. forward runs the arithmetic that serves - packed weights, quantised
 * activations, K and V in the cache's type, A and B packed as a mounted adapter has them - so that a token's loss is what the server
 * says of it; with --precision f32 all of it in f32. Between the two, BM_PASS_FINE multiplies what the 8 bits of an activation leave out
 * as well: for steps, whose few tokens do not average that noise away. It keeps what backward needs; backward adds to the gradients
 * of the trainable adapter, passing roundings unchanged. The base weights are frozen and only read.
 * A row is several segments that do not see each other: each begins at position 0. Results do not depend on the threads. */
#pragma once
#include "compute/team.h"
#include "model/lora.h"

/* The trainable adapter: f32 master copies in one array, gradients in another of the same layout. */
typedef struct bm_trainable bm_trainable;
typedef struct bm_trainable_options {
    unsigned sites;              /* bit per bm_lora_site; 0: all linear maps */
    int rank;                    /* 0: 16 */
    float alpha;                 /* 0: 2 * rank */
    bool rslora;
    uint64_t seed;               /* A: uniform in +-1/sqrt(K) (kaiming_uniform of peft); B: 0 */
} bm_trainable_options;
int  bm_trainable_new(bm_trainable **out, const bm_model *model, const bm_trainable_options *options, bm_error *err);
void bm_trainable_free(bm_trainable *t);
size_t bm_trainable_n(const bm_trainable *t);                /* parameters */
float *bm_trainable_values(bm_trainable *t);                 /* [n] */
float *bm_trainable_grads(bm_trainable *t);                  /* [n] */
/* The matrices in order; a and b point into values (and, at the same offsets, grads). */
const bm_lora_matrix *bm_trainable_matrices(const bm_trainable *t, size_t *n);

typedef struct bm_train_row {
    const int32_t *tokens;       /* [n_tokens], each in [0, V) */
    int n_tokens;
    const int32_t *starts;       /* [n_segments]: index of each segment's first token; starts[0] is 0 */
    int n_segments;
    const uint8_t *target;       /* [n_tokens]: 1 where the loss of tokens[t] given those before it in its segment counts; the first token of
                                    a segment never does */
} bm_train_row;

typedef struct bm_pass bm_pass;
typedef struct bm_pass_options {
    int max_tokens;
    int n_threads;
    int max_rank;                /* of adapters; 0: 16 */
    bool recompute;              /* keep only each layer's input and run its forward again in backward: less memory, more time */
} bm_pass_options;
size_t bm_pass_bytes(const bm_model *model, const bm_pass_options *options);
int  bm_pass_new(bm_pass **out, const bm_model *model, const bm_pass_options *options, bm_error *err);
void bm_pass_free(bm_pass *pass);

enum bm_pass_flags {
    BM_PASS_KEEP = 1,            /* backward may follow */
    BM_PASS_FINE = 2,            /* activations in two parts of 8 bits, but for gate and up: 40 % of the products, 15 % of the noise */
    BM_PASS_FINEST = 4           /* for those as well */
};
/* adapter NULL: the base alone. nll[t] = -log p(tokens[t] | before it) where target[t], else 0; f32 accumulated in f64 where it sums.
 * The head runs only where there is a target, its logits in chunks of the vocabulary. */
int bm_pass_forward(bm_pass *pass, bm_team *team, const bm_trainable *adapter, const bm_train_row *row, unsigned flags, double *nll,
                    bm_error *err);
/* Of the last forward with BM_PASS_KEEP: grads += d(sum_t coef[t] * nll[t]) / d(values). coef[t] is read where target[t]. */
int bm_pass_backward(bm_pass *pass, bm_team *team, bm_trainable *adapter, const float *coef, bm_error *err);
