/* tune.h - a fine-tuning from its request to its run: one table of settings serves the command line, both HTTP routes, job.json and
 * the record. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"
#include "store/runs.h"
#include "store/store.h"

enum { BM_TUNE_MOST_DATA = 16 };

typedef struct bm_tune_data { const char *path; double weight; } bm_tune_data;       /* a file, or the name of a registered set */

/* What to train. bm_tune_defaults fills in what the command line would; strings are borrowed. */
typedef struct bm_tune_request {
    const char *model, *name;    /* a shelf name or path; the adapter's name to be */
    bm_tune_data data[BM_TUNE_MOST_DATA];        /* mixed by weight */
    int n_data;
    const char *valid_data;      /* a file of its own for validation, or NULL */
    /* The settings: names, ranges and meaning are those of train/job.h. */
    const char *method, *targets, *decay, *precision, *recompute;
    const char *shape, *render, *part, *prompt_field, *target_field, *loss_after;        /* NULL: by looking at the file */
    int64_t rank, steps, batch_size, max_length, micro_tokens, valid_every, save_every, patience, threads, seed, memory_mib;
    double alpha, lr, epochs, warmup, weight_decay, clip, valid_share, beta;
    bool rslora, pack, drop_bad, split_long, no_header;
} bm_tune_request;

void bm_tune_defaults(bm_tune_request *request);
/* Settings out of a JSON object whose keys are the table's names ("batch_size"): each checked for type and range, an unknown one
 * refused with the nearest name; err->param is "PREFIX.KEY". Strings are borrowed from object. */
int  bm_tune_read(bm_tune_request *request, const json_t *object, const char *prefix, bm_error *err);
/* The settings as a JSON object. */
void bm_tune_write(bm_buf *out, const bm_tune_request *request);

/* Check the request, resolve its model, and queue it: the row of the run is *out (bm_run_row_done). The model must be on the shelf: its
 * hash is what the adapter will belong to. The name must be free, also among runs that have not ended. */
int  bm_tune_create(bm_store *store, const bm_tune_request *request, int64_t key_id, bm_run_row *out, bm_error *err);
/* The text of job.json (train/job.h) for a checked request, without a run. */
int  bm_tune_text(bm_store *store, const bm_tune_request *request, bool dry_run, bm_buf *out, bm_error *err);

/* The loss curve of a run out of its events: *out [*n], the caller's to bm_free. NaN: not measured at that step. */
typedef struct bm_tune_point { int64_t step, tokens; double loss, valid_loss, lr, tokens_per_s; } bm_tune_point;
int  bm_tune_curve(bm_store *store, int64_t run, bm_tune_point **out, size_t *n, bm_error *err);

/* The adapter that a finished run left in its directory goes on the shelf: moved to home/adapters/RUN, recorded with base, data,
 * settings, curve and version. Done before: 0. BM_INVALID when it belongs to another base than the run's.
 * Its new place takes the old one's in run->result. */
int  bm_tune_shelve(bm_store *store, bm_run_row *run, const char *dir, bm_error *err);
