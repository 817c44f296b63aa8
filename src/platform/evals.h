/* evals.h - an evaluation from its request to its run, and the results of runs that are there already. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "store/runs.h"

enum { BM_EVAL_MOST_TASKS = 64 };

/* What to evaluate; strings are borrowed, zero is the default everywhere. */
typedef struct bm_eval_request {
    const char *model, *name;    /* a model, adapter or alias of the shelf; name NULL: the tasks' */
    const char *tasks[BM_EVAL_MOST_TASKS], *include[BM_EVAL_MOST_TASKS];
    size_t n_tasks, n_include;   /* include: further folders of task files */
    int64_t limit, num_fewshot;  /* num_fewshot -1: the tasks' own */
    int64_t seed, fewshot_seed;  /* fewshot_seed 0: 1234 */
    int64_t threads, context, bootstrap, memory_mib;         /* context 0: the model's own, at most 8192 */
    bool apply_chat_template, fewshot_as_multiturn;
    bool f32;                    /* weights dequantised, activations and KV in f32: what rounding costs, not what is served */
    const char *system_instruction;
    const json_t *gen_kwargs;    /* object or NULL */
} bm_eval_request;

/* Check names, tasks and their data, resolve the model and queue the run: *out is the caller's to give to bm_run_row_done. What is wrong
 * with a task file is said here, by file, line and key, before anything is loaded. */
int bm_evals_create(bm_store *store, const bm_eval_request *request, int64_t key_id, bm_run_row *out, bm_error *err);

/* results.json of a run that succeeded, a new reference. BM_NOTFOUND when it has none. */
int bm_evals_results(bm_store *store, const bm_run_row *run, json_t **out, bm_error *err);

/* The latest run that succeeded at what the request would do: this model and adapter by hash, these settings, its tasks with the present
 * configuration and data, this version (threads, memory and bootstrap aside): 1 and *out, or 0. */
int bm_evals_latest(bm_store *store, const bm_eval_request *request, bm_run_row *out, bm_error *err);
