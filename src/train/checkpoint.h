/* checkpoint.h - the whole state of a training run in one file that is replaced as one: a temporary file beside it, fsync, rename.
 *
 * A kill at any moment, or a full disk, leaves the file of before or the new one. Layout, in the byte order of the machine (the
 * magic tells): a header of fixed size with the sha256 of each section and, last, of itself; then the sections one behind the other:
 * settings (text), values, m, v, best (f32 [n]; best may be missing), history (bm_train_event), refs (bm_pair_nll).
 * A damaged file is refused with the section named. One thread at a time. */
#pragma once
#include "train/loss.h"
#include "train/trainer.h"

typedef struct bm_checkpoint {
    /* plain values */
    int64_t step, adam_t, tokens;
    bm_mix_state place;          /* in the data; the random state too */
    double best_loss;
    int64_t n_worse;             /* validations since the best */
    double seconds;
    /* sections: written from here; read into memory that load allocates, done() frees */
    char *settings;              /* "key=value" lines: what a run that goes on must have in common */
    size_t n;                    /* parameters */
    float *values, *m, *v;
    float *best;                 /* NULL: none */
    bm_train_event *history;
    size_t n_history;
    bm_pair_nll *refs;
    size_t n_refs;
} bm_checkpoint;

int  bm_checkpoint_write(const char *path, const bm_checkpoint *c, bm_error *err);
/* 1: read; 0: there is no such file. */
int  bm_checkpoint_read(bm_checkpoint *out, const char *path, bm_error *err);
void bm_checkpoint_done(bm_checkpoint *c);           /* of one that was read */
/* What writers that were killed left beside path. */
void bm_checkpoint_sweep(const char *path);
