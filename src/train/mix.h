/* mix.h - the order in which rows are trained: sets mixed by weight, shuffled by seed, packed into sequences, cut into steps.
 *
 * The plan of an epoch is a function of (rows, weights, options, epoch) alone; so the place in the data is the two numbers in
 * bm_mix_state, and a run that was killed goes on with the very batches that it would have had. One owner. */
#pragma once
#include "model/pass.h"
#include "train/rows.h"

typedef struct bm_mix bm_mix;

typedef struct bm_mix_set {
    const bm_data *data;         /* borrowed */
    double weight;               /* how often each row comes in an epoch; 0 means 1. 2.5: twice, and another half of the rows each
                                    epoch a third time */
} bm_mix_set;

typedef struct bm_mix_options {
    int max_tokens;              /* of a sequence: what a pass holds. A row, or a pair of preferences, has to fit */
    int batch_size;              /* rows of a step (a pair of preferences is one); with `pack`: sequences of a step; 0: 1 */
    bool pack;                   /* a step is batch_size sequences filled with rows. Else it is batch_size rows, which share sequences
                                    only to be computed together */
    bool valid;                  /* the validation rows, each once, in the order of the files */
    uint64_t seed;
} bm_mix_options;

/* The place in the data, for checkpoints: plain values, no pointers. The random state is in it: (seed, epoch) is all there is. */
typedef struct bm_mix_state {
    uint64_t fingerprint;        /* of the sets' rows, weights and options: a checkpoint of other data is refused */
    uint64_t epoch, step;        /* from 0: the step that comes next */
} bm_mix_state;

typedef struct bm_mix_segment { int32_t set; bool rejected; size_t row; } bm_mix_segment;    /* sets[set].data->rows[row] */

/* What one step of the optimiser eats. Rows do not see each other: each is a segment of a sequence, and segments stand one behind
 * the other without padding. Of a pair the chosen segment comes first, and the rejected one right behind it in the same sequence. */
typedef struct bm_batch {
    const bm_train_row *rows;    /* [n_rows] sequences of at most max_tokens */
    int n_rows;
    const bm_mix_segment *const *segments;       /* [n_rows][rows[i].n_segments]: where each came from */
    int64_t n_tokens, n_targets; /* of all */
    int n_examples;              /* rows of data; a pair is one */
    bool preference;             /* segments come in pairs */
    uint64_t epoch, step, n_steps;       /* of this epoch */
} bm_batch;

/* Sets of pairs and sets of rows do not mix (BM_INVALID), nor does a row longer than max_tokens (have and need). No row at all:
 * BM_INVALID, but for `valid`, whose first bm_mix_next is 0 then. */
int  bm_mix_new(bm_mix **out, const bm_mix_set *sets, int n_sets, const bm_mix_options *options, bm_error *err);
void bm_mix_free(bm_mix *mix);
/* 1: *out is the next step, borrowed until the next call; 0: the epoch is over, and the call after this begins the next. */
int  bm_mix_next(bm_mix *mix, bm_batch *out, bm_error *err);
/* Steps of an epoch. With `pack` they may differ from epoch to epoch. */
int  bm_mix_steps(bm_mix *mix, uint64_t epoch, uint64_t *n_steps, bm_error *err);
void bm_mix_tell(const bm_mix *mix, bm_mix_state *out);
int  bm_mix_seek(bm_mix *mix, const bm_mix_state *state, bm_error *err);     /* BM_INVALID: of other data or settings */
