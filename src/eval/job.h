/* job.h - what an evaluation job is told (job.json) and what it reports (one JSON object a line on stdout).
 *
 * `baimo job DIR` reads DIR/job.json, checks tasks and data, loads the model, scores, and keeps in DIR what eval/run.h says. A second
 * start goes on behind the last document that was recorded. SIGTERM and SIGINT: "stopped" after the documents in hand.
 *
 * job.json; what is not there, or null, has its default. Unknown keys are refused by name.
 *     {"kind": "eval", "name": "nightly",
 *      "model": {"path": "/m.gguf", "sha256": "...", "name": "..."},
 *      "adapter": {"path": "DIR", "sha256": "...", "name": "..."},         (none)
 *      "tasks": ["arc_easy", "/my/task.yaml"],
 *      "folders": ["/usr/share/baimo/tasks"],                             of task files; later ones win
 *      "datasets": {"OWNER/SET:test": "/d.jsonl", "OWNER/SET/CONFIG:train": ...},      what answers a task's dataset_path, dataset_name, split
 *      "options": {"limit": 0, "num_fewshot": null, "fewshot_seed": 1234, "seed": 0, "apply_chat_template": false,
 *          "fewshot_as_multiturn": false, "system_instruction": null, "gen_kwargs": null, "bootstrap": 100000,
 *          "threads": 0, "context": 0, "memory_mib": 0, "precision": "fast|f32"}}
 *
 * Events:
 *     {"event":"message","level":"info|warn|error","message":...}
 *     {"event":"start","step":(documents recorded before),"n_steps":(documents),"tasks":[...]}
 *     {"event":"step","step":..,"n_steps":..,"task":"arc_easy","failed":0,"tokens":(of prompts),"cached_tokens":..,"tokens_per_s":..,
 *      "time_left_s":..}                                                  a few a second at most
 *     {"event":"done","result":{"results":"DIR/results.json","documents":..,"failed":..,"seconds":..}}
 *     {"event":"stopped","step":..}
 *     {"event":"error","code":"not_found","message":..,"hint":..} */
#pragma once
#include <jansson.h>
#include "base/buf.h"
#include "eval/run.h"

enum { BM_EVAL_MAX_NAMES = 256 };

typedef struct bm_eval_job {
    const char *name;
    const char *model_path, *model_sha256, *model_name;      /* the latter two NULL when not known */
    const char *adapter_path, *adapter_sha256, *adapter_name;        /* NULL: none */
    const char *tasks[BM_EVAL_MAX_NAMES], *folders[BM_EVAL_MAX_NAMES];
    size_t n_tasks, n_folders;
    const json_t *datasets;      /* object, or NULL */
    bm_eval_options options;     /* tasks and folders point here; resolve asks datasets */
    int n_threads;               /* 0: what the machine allows */
    int32_t n_ctx;               /* 0: the largest that fits */
    int64_t memory_mib;
    bool f32;                    /* precision "f32": weights dequantised, activations and KV in f32 */
    json_t *json;                /* what the strings of a job that was read point into */
} bm_eval_job;

/* Read job.json's text; strings stay valid until done(), and *out must not move. Errors name the key, what was found and what was expected. */
int  bm_eval_job_parse(bm_eval_job *out, const char *text, size_t len, bm_error *err);
void bm_eval_job_done(bm_eval_job *job);
/* The text of job.json, as parse reads it. */
int  bm_eval_job_write(bm_buf *out, const bm_eval_job *job, bm_error *err);
