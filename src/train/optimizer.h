/* optimizer.h - AdamW, clipping by the global norm, and the learning rate of a step.
 *
 * AdamW: Loshchilov and Hutter 2019, algorithm 2, with the order of operations of torch.optim.AdamW. All in f32; the norm is
 * summed in f64 in fixed blocks, so no result depends on the team. The moments are the caller's to keep in checkpoints. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "compute/team.h"

typedef struct bm_adamw {
    size_t n;
    float *m, *v;                /* [n], zero at the start */
    int64_t t;                   /* steps done */
    double beta1, beta2, eps, weight_decay;
} bm_adamw;

/* beta1 0.9, beta2 0.999, eps 1e-8. */
int  bm_adamw_init(bm_adamw *o, size_t n, double weight_decay, bm_error *err);
void bm_adamw_done(bm_adamw *o);                                     /* a zero one is fine */
/* One step: values[n] from grads[n]; grads are scaled by grad_scale first (clipping) and set to zero. */
void bm_adamw_step(bm_adamw *o, bm_team *team, float *values, float *grads, float grad_scale, double lr);

/* The global norm sqrt(sum g^2). */
double bm_grad_norm(bm_team *team, const float *grads, size_t n);
/* What torch's clip_grad_norm_ multiplies by: min(1, max_norm / (norm + 1e-6)); max_norm <= 0: 1. */
float bm_clip_scale(double norm, double max_norm);

typedef enum bm_decay { BM_DECAY_COSINE, BM_DECAY_LINEAR, BM_DECAY_CONSTANT } bm_decay;
const char *bm_decay_name(bm_decay decay);                           /* "cosine", ... */
/* The learning rate of step `step` (from 0) out of n_steps: transformers' get_{cosine,linear,constant}_schedule_with_warmup. */
double bm_lr_at(bm_decay decay, double lr, int64_t step, int64_t n_warmup, int64_t n_steps);
