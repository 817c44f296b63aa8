/* run.h - an evaluation: tasks over one model, every document recorded, scores at the end; resumable after any stop.
 *
 * In its directory:
 *     inputs.json             what the scores depend on, by hash: model, adapter, template, tasks, data, settings, version
 *     samples_TASK.jsonl      a line per document (eval/tally.h), written as it is scored; a resumed run goes on behind the last whole one
 *     results.json            lm-eval's results, with "inputs" and, apart, "run": when, where, how fast
 * Everything but "run" has the same bytes at any thread count, beside any load, and after any number of stops. */
#pragma once
#include "eval/tally.h"

typedef struct bm_eval bm_eval;

typedef struct bm_eval_options {
    const char *const *tasks;            /* names, tags, groups, patterns, or paths of YAML files */
    size_t n_tasks;
    const char *const *folders;          /* of task files, later ones win */
    size_t n_folders;
    uint64_t limit;                      /* documents per task at most; 0: all */
    int num_fewshot;                     /* with has_num_fewshot, in place of the tasks' */
    bool has_num_fewshot;
    const json_t *gen_kwargs;            /* merged over the tasks' generation_kwargs; NULL: none */
    uint64_t fewshot_seed, seed;         /* of examples (lm-eval's default is 1234), of sampled generations */
    bool apply_chat_template, fewshot_as_multiturn;
    const char *system_instruction;
    int bootstrap_iterations;            /* -1: none; 0: 100,000, lm-eval's */
    bm_data_resolve *resolve;
    void *resolve_arg;
} bm_eval_options;

/* Read and check the tasks and their data, before any model is loaded. options and what it points to must outlive the evaluation.
 * Errors name file, line and key; data that are not here come with the command that registers them. */
int  bm_eval_open(bm_eval **out, const bm_eval_options *options, bm_error *err);
void bm_eval_close(bm_eval *eval);
const bm_task_list *bm_eval_tasks(const bm_eval *eval);
size_t bm_eval_documents(const bm_eval *eval);               /* to be scored, of all tasks */
/* Whether a run whose results.json has these "inputs" read each of the tasks as it is now: version, configuration, data. */
int  bm_eval_is_current(const bm_eval *eval, const json_t *inputs, bool *yes, bm_error *err);

typedef struct bm_eval_progress {
    const char *task;
    size_t done, total, failed;          /* documents of all tasks */
    int64_t n_tokens, n_cached;          /* of prompts, in this process; cached: not computed again */
} bm_eval_progress;

typedef struct bm_eval_run_options {
    const char *dir;                     /* exists */
    const char *model_name, *model_sha256, *adapter_name, *adapter_sha256;       /* of the backend; "" or NULL: none */
    const char *precision;               /* "fast" or "f32": how the backend's model was loaded */
    int n_threads;                       /* for the record */
    const char *machine;                 /* likewise */
    /* After each document, in order; false stops (BM_CANCELED): all that was scored is kept. NULL is fine. */
    bool (*progress)(void *arg, const bm_eval_progress *p);
    void *progress_arg;
} bm_eval_run_options;

/* Score what is not recorded yet and write results.json. *results (may be NULL) is a new reference. A document that failed does not end
 * the run: *n_failed tells how many there are. BM_INVALID when dir holds a run with other inputs. */
int  bm_eval_run(bm_eval *eval, bm_backend *backend, const bm_eval_run_options *options, json_t **results, size_t *n_failed, bm_error *err);

/* dir/samples_TASK.jsonl, with what cannot stand in a file's name replaced. */
int  bm_eval_samples_path(bm_buf *out, const char *dir, const char *task, bm_error *err);
