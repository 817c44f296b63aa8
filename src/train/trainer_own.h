/* trainer_own.h - what trainer.c and trainer_step.c share. Private to src/train. */
#pragma once
#include "train/checkpoint.h"
#include "train/loss.h"
#include "train/trainer.h"

struct bm_trainer {
    const bm_model *model;
    bm_team *team;
    bm_train_options o;          /* defaults filled in */
    bool dpo;
    bm_trainable *adapter;
    bm_pass *pass;
    size_t pass_bytes;
    bm_adamw adamw;
    bm_mix *mix, *valid;
    double *nll;                 /* [max_tokens], of one sequence */
    float *coef;
    int max_tokens;

    bm_pair_nll *refs;           /* DPO: by row of the sets, one after the other; chosen is NaN until it is known */
    size_t *refs_begin;          /* [n_sets]: where a set's rows begin in refs */
    size_t n_refs;

    int64_t n_steps, n_warmup;
    int64_t step, tokens;        /* done */
    double seconds;              /* of steps, since the run's first start */
    int64_t run_steps, run_tokens;       /* of this process */
    double run_seconds;
    double best_loss;
    int64_t n_worse;
    float *best;                 /* NULL without patience; [n] */
    bm_train_event *history;
    size_t n_history, cap_history;
    char *settings;

    char *checkpoint_path, *metrics_path;    /* NULL: none are kept */
    int metrics_fd;
    int64_t saved_step, saved_ns;
};

/* What one step or one validation adds up. */
typedef struct bm_train_sums {
    double loss, margin;
    int64_t n_right, n_pairs, tokens, targets;
} bm_train_sums;

/* Forward of every sequence of the batch, and with `learn` backward into the gradients. The losses are summed, not averaged, for
 * a validation; with learn they are those of a step. */
int bm_trainer_batch(bm_trainer *t, const bm_batch *batch, bool learn, bm_train_sums *sums, bm_error *err);
/* The sum over all validation rows. 1: done; 0: *stop was set meanwhile. */
int bm_trainer_validate(bm_trainer *t, const atomic_bool *stop, bm_train_sums *sums, bm_error *err);
