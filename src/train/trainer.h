/* trainer.h - the training of one adapter: steps over packed batches, validation, checkpoints, progress to a sink.
 *
 * Supervised: the loss of a step is the mean over all target tokens of its rows, however they are cut into sequences
 * (transformers from 4.46 on). DPO (Rafailov et al. 2023, equation 7): references are log-probabilities of the same base with
 * the adapter off. Deterministic for given model file, data, options, version and instruction set, at any number of threads; a run
 * that was killed at any moment and goes on from its checkpoint gives the same adapter and the same losses, bit for bit.
 * Knows no HTTP, users or store. One thread calls; stop may be asked for from anywhere. */
#pragma once
#include <stdatomic.h>
#include "model/pass.h"
#include "train/mix.h"
#include "train/optimizer.h"

typedef enum bm_train_method { BM_TRAIN_AUTO, BM_TRAIN_SFT, BM_TRAIN_DPO } bm_train_method;
typedef enum bm_train_recompute { BM_RECOMPUTE_AUTO, BM_RECOMPUTE_ON, BM_RECOMPUTE_OFF } bm_train_recompute;

/* Zero means default, but for seed. What has another "off" than its default takes a negative number for it. */
typedef struct bm_train_options {
    bm_train_method method;      /* AUTO: by the rows */
    bm_trainable_options adapter;/* its seed is ignored: `seed` below holds for all */
    double lr;                   /* 2e-4 */
    bm_decay decay;              /* cosine */
    double warmup;               /* 0.03: share of all steps; from 1 on: steps; negative: none */
    double epochs;               /* 1; may be a fraction */
    int64_t steps;               /* > 0: exactly so many */
    int batch_size;              /* 4 */
    bool pack;
    int max_length;              /* 1024 */
    int micro_tokens;            /* tokens of a forward and backward: 512, at least the longest row; more gain nothing */
    double weight_decay;         /* 0 */
    double clip;                 /* 1; negative: none */
    double beta;                 /* 0.1, of DPO */
    int64_t valid_every;         /* steps; 0: an eighth of the run. The last step is always validated */
    int patience;                /* validations without a better loss until it stops, with the best adapter; 0: never */
    int64_t save_every;          /* steps; 0: when a minute has gone */
    uint64_t seed;
    bm_train_recompute recompute;/* AUTO: off, when that fits memory_bytes, else on */
    int64_t memory_bytes;        /* 0: no limit */
} bm_train_options;

typedef enum bm_train_said { BM_TRAIN_START, BM_TRAIN_STEP, BM_TRAIN_VALID, BM_TRAIN_CHECKPOINT } bm_train_said;

typedef struct bm_train_event {
    bm_train_said what;
    int64_t step, n_steps;       /* steps done */
    double epoch;                /* epochs done */
    double loss, lr, grad_norm;  /* STEP; VALID: loss alone. grad_norm: before clipping */
    double margin, accuracy;     /* DPO: mean of beta (chosen - rejected) against the reference, share of pairs where it is > 0; else NaN */
    int64_t tokens;              /* real tokens through forward and backward so far; VALID: target tokens */
    double tokens_per_s, time_left_s;
    int64_t peak_memory_bytes;   /* of this process */
} bm_train_event;

/* Told after each; a negative code stops the training with it (err filled). */
typedef struct bm_train_sink {
    int (*tell)(void *arg, const bm_train_event *event, bm_error *err);
    void *arg;
} bm_train_sink;

typedef struct bm_train_result {
    int64_t steps, n_steps, tokens;
    double loss, valid_loss;     /* the last step's; of the adapter as it stands, NaN without validation rows */
    double seconds, tokens_per_s;/* of this process's steps, validation and checkpoints not counted in tokens_per_s */
    int64_t peak_memory_bytes;
    bool stopped, early;         /* asked to stop; patience ended */
} bm_train_result;

typedef struct bm_train_estimate {
    int64_t n_steps, tokens;     /* of the whole run */
    double tokens_per_s, seconds;/* by one micro-batch that was timed */
    int64_t memory_bytes;        /* peak of the process */
} bm_train_estimate;

typedef struct bm_trainer bm_trainer;

/* dir: where checkpoint.bin and metrics.jsonl are; NULL: none are kept. A checkpoint there is gone on from: one of other data,
 * options or model is refused (BM_INVALID, which of them). Everything is borrowed, and must outlive the trainer. */
int  bm_trainer_new(bm_trainer **out, const bm_model *model, bm_team *team, const bm_mix_set *sets, int n_sets,
                    const bm_train_options *options, const char *dir, bm_error *err);
void bm_trainer_free(bm_trainer *trainer);                   /* NULL is fine */
/* Before run: begin with these values instead of drawn ones. Sites and ranks must be those of the options. */
int  bm_trainer_start_from(bm_trainer *trainer, const bm_lora_matrix *matrices, size_t n, bm_error *err);
/* Until the last step, or until *stop (NULL is fine) is set: then the state is in the checkpoint. Loss or gradient not finite:
 * BM_LIMIT with what to change; the checkpoint before it stays. */
int  bm_trainer_run(bm_trainer *trainer, const bm_train_sink *sink, const atomic_bool *stop, bm_train_result *out, bm_error *err);
/* Times one micro-batch; trains nothing. */
int  bm_trainer_estimate(bm_trainer *trainer, bm_train_estimate *out, bm_error *err);
const bm_lora_matrix *bm_trainer_matrices(const bm_trainer *trainer, size_t *n);
/* The options with their defaults filled in, and the method by the rows. */
const bm_train_options *bm_trainer_options(const bm_trainer *trainer);
/* STEP and VALID events so far, also those before the checkpoint; until the next step. */
const bm_train_event *bm_trainer_history(const bm_trainer *trainer, size_t *n);
int64_t bm_trainer_memory(const bm_trainer *trainer);        /* bytes that it needs beside the model's weights */
