/* job.h - what a tuning job is told (job.json) and what it reports (one JSON object a line on stdout).
 *
 * `baimo job DIR` reads DIR/job.json, loads the model, trains, and keeps in DIR:
 *     checkpoint.bin      the whole state (train/checkpoint.h), replaced as one; a second start goes on from it, exactly
 *     metrics.jsonl       a line per step and per validation: the events "step" and "valid" below without "event"
 *     curve.svg           the loss curve
 *     adapter/            the result, as PEFT writes it; there only after "done"
 * SIGTERM and SIGINT: a checkpoint after the step that runs, then "stopped". Exit 0 after "done" and "stopped", 1 after "error".
 *
 * job.json; what is not there, or null, has its default. Unknown keys are refused by name.
 *     {"kind": "tune", "name": "sql",                              name of the adapter
 *      "model": {"path": "/m.gguf", "sha256": "...", "name": "..."},   sha256 and name go into the adapter's record ("")
 *      "adapter": "DIR",                                           train this one further: its sites, rank and alpha hold (none)
 *      "data": [{"path": "/d.jsonl", "weight": 1, "shape": "auto", "render": "auto", "part": null, "prompt_field": null,
 *                "target_field": null, "loss_after": null, "no_header": false,
 *                "valid": false}],                           no_header: of CSV; valid: all its rows are for validation
 *      "options": {"method": "auto|sft|dpo",                       auto: dpo when the rows are preferences
 *          "targets": "all-linear" | ["q_proj", ...], "rank": 16, "alpha": 32, "rslora": false,
 *          "lr": 2e-4, "decay": "cosine|linear|constant", "warmup": 0.03,         of all steps; from 1 on: steps; 0: none
 *          "epochs": 1, "steps": 0,                                steps: exactly so many, whatever the epochs
 *          "batch_size": 4, "pack": false, "max_length": 1024,     pack: a step is batch_size full sequences, else rows
 *          "micro_tokens": 0,                                      tokens computed together, at least a row (512)
 *          "weight_decay": 0, "clip": 1, "beta": 0.1,              clip: norm of the gradient, 0: none; beta: of DPO
 *          "valid_share": 0, "valid_every": 0, "patience": 0,      every: steps, 0: an eighth of the run; patience 0: no early stop
 *          "save_every": 0,                                        steps; 0: when a minute has gone
 *          "seed": 0, "threads": 0, "precision": "fast|f32", "recompute": "auto|on|off",
 *          "memory_mib": 0,                                        refuse to start when more is needed; 0: no limit
 *          "split_long": false, "drop_bad": false, "dry_run": false}}
 *
 * Events:
 *     {"event":"message","level":"info|warn|error","message":...}         bad rows are listed so, with "line"
 *     {"event":"start","step":0,"n_steps":..,"data":[{"path","sha256","rows","valid_rows","tokens","target_tokens","bad"}],
 *      "parameters":..,"memory_bytes":..,"method":"sft"}                     step > 0: it goes on from a checkpoint
 *     {"event":"step","step":1,"n_steps":..,"epoch":0.01,"loss":..,"lr":..,"grad_norm":..,"tokens":(so far),"tokens_per_s":..,
 *      "time_left_s":..,"peak_memory_bytes":..}    dpo: and "margin", "accuracy". tokens_per_s: real tokens through forward and
 *                                                  backward, no padding, nothing from a cache, over the time of the whole step
 *     {"event":"valid","step":..,"valid_loss":..,"valid_tokens":..}        dpo: and "valid_margin", "valid_accuracy"
 *     {"event":"checkpoint","step":..,"path":"checkpoint.bin"}
 *     {"event":"estimate",...}                                             with dry_run, before "done": see bm_train_estimate
 *     {"event":"done","result":{"adapter":"DIR/adapter","steps":..,"loss":..,"valid_loss":..,"tokens":..,"tokens_per_s":..,
 *      "seconds":..,"peak_memory_bytes":..,"early":false}}                   valid_loss: of the adapter that was written
 *     {"event":"stopped","step":..}
 *     {"event":"error","code":"out_of_memory","message":..,"hint":..} */
#pragma once
#include "base/json_out.h"
#include "train/rows.h"
#include "train/trainer.h"

typedef struct bm_tune_set {
    const char *path, *part, *prompt_field, *target_field, *loss_after;
    bm_data_shape shape;
    bm_data_render render;
    double weight;               /* 0: 1 */
    bool no_header, valid;
} bm_tune_set;

enum { BM_TUNE_MAX_SETS = 32 };

typedef struct bm_tune_job {
    const char *name;
    const char *model_path, *model_sha256, *model_name;      /* the latter two "" or NULL when not known */
    const char *adapter;                                     /* NULL: a new one */
    bm_tune_set sets[BM_TUNE_MAX_SETS];
    int n_sets;
    bm_train_options train;
    double valid_share;
    bool split_long, drop_bad, f32, dry_run;
    int n_threads;                                           /* 0: what the machine allows */
    int64_t memory_mib;
    void *json;                                              /* what the strings of a job that was read point into */
} bm_tune_job;

/* Read job.json's text; strings stay valid until done(). Errors name the key, what was found and what was expected. A zero job is a
 * valid start for a caller that fills one by hand. */
int  bm_tune_job_parse(bm_tune_job *out, const char *text, size_t len, bm_error *err);
void bm_tune_job_done(bm_tune_job *job);
/* The text of job.json, as parse reads it: how a command or a route makes one. Checks what parse checks. */
int  bm_tune_job_write(bm_buf *out, const bm_tune_job *job, bm_error *err);
/* The members of "options" alone, into an object that is open. */
void bm_tune_options_json(bm_json *j, const bm_tune_job *job);
/* Names of PEFT's modules, or "all-linear", into bits of bm_lora_site. BM_INVALID names those that are known. */
int  bm_tune_sites(const char *names, unsigned *sites, bm_error *err);       /* comma-separated */
