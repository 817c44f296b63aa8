/* evals.c - see evals.h. */
#include "platform/evals.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "eval/job.h"
#include "platform/jobs.h"
#include "platform/shelf.h"
#include "store/datasets.h"

enum { DEFAULT_CONTEXT = 8192, FEWSHOT_SEED = 1234, MAX_RESULTS_BYTES = 256 << 20 };

/* ---- job.json ---- */

/* Every data set that answers for a task: {"OWNER/SET[/CONFIG]:SPLIT": path}. */
static int collect_datasets(bm_store *store, json_t **out, bm_error *err)
{
    bm_dataset_row *rows;
    size_t n;
    int rc = bm_datasets_list(store, &rows, &n, err);

    if ((*out = json_object()) == NULL && rc == 0)
        rc = bm_fail(err, BM_NOMEM, "no memory for the data sets");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        char key[400];
        if (rows[i].hub[0] == '\0')
            continue;
        snprintf(key, sizeof key, "%s:%s", rows[i].hub, rows[i].split);
        json_object_set_new(*out, key, json_string(rows[i].path));
    }
    bm_free(rows);
    return rc;
}

/* Task files and folders by whole paths: the child has another working directory. */
static int absolute(const char *given, char *out, bm_error *err)
{
    char real[PATH_MAX];

    if (realpath(given, real) == NULL)
        return bm_fail(err, BM_NOTFOUND, "%.300s: there is no such file or folder", given);
    strcpy(out, real);
    return 0;
}

static bool is_file(const char *task)
{
    size_t len = strlen(task);

    return (len > 5 && strcmp(task + len - 5, ".yaml") == 0) || (len > 4 && strcmp(task + len - 4, ".yml") == 0);
}

typedef struct paths { char text[2 * BM_EVAL_MOST_TASKS][PATH_MAX]; size_t n; } paths;

static int fill_names(bm_eval_job *job, const bm_eval_request *r, char *shipped, paths *p, bm_error *err)
{
    int rc = 0;

    if (shipped != NULL)
        job->folders[job->n_folders++] = shipped;
    for (size_t i = 0; i < r->n_include && rc == 0; i++)
        if ((rc = absolute(r->include[i], p->text[p->n], err)) == 0)
            job->folders[job->n_folders++] = p->text[p->n++];
    for (size_t i = 0; i < r->n_tasks && rc == 0; i++) {
        if (!is_file(r->tasks[i]))
            job->tasks[job->n_tasks++] = r->tasks[i];
        else if ((rc = absolute(r->tasks[i], p->text[p->n], err)) == 0)
            job->tasks[job->n_tasks++] = p->text[p->n++];
    }
    return rc;
}

static void fill_options(bm_eval_job *job, const bm_eval_request *r, const bm_shelf_target *target)
{
    int64_t own = target->model.n_ctx_train;

    job->options = (bm_eval_options){
        .limit = (uint64_t)r->limit, .has_num_fewshot = r->num_fewshot >= 0, .num_fewshot = r->num_fewshot >= 0 ? (int)r->num_fewshot : 0,
        .seed = (uint64_t)r->seed, .fewshot_seed = r->fewshot_seed ? (uint64_t)r->fewshot_seed : FEWSHOT_SEED,
        .apply_chat_template = r->apply_chat_template, .fewshot_as_multiturn = r->fewshot_as_multiturn,
        .system_instruction = r->system_instruction, .gen_kwargs = r->gen_kwargs, .bootstrap_iterations = (int)r->bootstrap };
    job->n_threads = (int)r->threads;
    job->n_ctx = (int32_t)(r->context > 0 ? r->context : own > 0 && own < DEFAULT_CONTEXT ? own : DEFAULT_CONTEXT);
    job->memory_mib = r->memory_mib;
    job->f32 = r->f32;
}

/* A request as job.json. */
typedef struct plan {
    bm_shelf_target target;
    bm_eval_job job;
    paths paths;
    bm_buf text;
} plan;

static void plan_free(plan *p)
{
    if (p != NULL)
        bm_buf_done(&p->text);
    bm_free(p);
}

static int write_plan(bm_store *store, const bm_eval_request *r, plan *p, bm_error *err)
{
    json_t *datasets = NULL;
    char *shipped = NULL;
    int rc;

    if ((rc = bm_shelf_find_target(store, r->model, &p->target, err)) < 0 || (rc = collect_datasets(store, &datasets, err)) < 0)
        goto out;
    bm_task_shipped_dir(&shipped, NULL);                 /* without it there are the given folders */
    if ((rc = fill_names(&p->job, r, shipped, &p->paths, err)) < 0)
        goto out;
    p->job.name = r->name;
    p->job.model_path = p->target.model.path, p->job.model_sha256 = p->target.model.sha256, p->job.model_name = p->target.model.name;
    if (p->target.adapter.id != 0) {
        p->job.adapter_path = p->target.adapter.path;
        p->job.adapter_sha256 = p->target.adapter.sha256;
        p->job.adapter_name = p->target.adapter.name;
    }
    p->job.datasets = datasets;
    fill_options(&p->job, r, &p->target);
    rc = bm_eval_job_write(&p->text, &p->job, err);
out:
    json_decref(datasets);
    bm_free(shipped);
    return rc;
}

static int plan_new(plan **out, bm_store *store, const bm_eval_request *r, bm_error *err)
{
    plan *p = bm_zalloc(sizeof *p);
    int rc = p ? write_plan(store, r, p, err) : bm_fail(err, BM_NOMEM, "no memory for an evaluation");

    *out = rc == 0 ? p : NULL;
    if (rc < 0)
        plan_free(p);
    return rc;
}

/* Its tasks and data as the job will find them; what is wrong with them is said now. *job belongs to *eval. */
static int open_eval(const plan *p, bm_eval_job **job, bm_eval **eval, bm_error *err)
{
    int rc;

    *eval = NULL;
    if ((*job = bm_zalloc(sizeof **job)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a job");
    if ((rc = bm_eval_job_parse(*job, p->text.data, p->text.len, err)) == 0 && (rc = bm_eval_open(eval, &(*job)->options, err)) < 0)
        bm_eval_job_done(*job);
    if (rc < 0) {
        bm_free(*job);
        *job = NULL;
    }
    return rc;
}

static void close_eval(bm_eval_job *job, bm_eval *eval)
{
    bm_eval_close(eval);
    if (job != NULL)
        bm_eval_job_done(job);
    bm_free(job);
}

/* ---- the run ---- */

static void name_run(const bm_eval_request *r, char out[128])
{
    size_t at = 0;

    out[0] = '\0';
    if (r->name != NULL) {
        snprintf(out, 128, "%s", r->name);
        return;
    }
    for (size_t i = 0; i < r->n_tasks && at < 100; i++)
        at += (size_t)snprintf(out + at, 128 - at, "%s%.40s", i > 0 ? "," : "", strrchr(r->tasks[i], '/') ? strrchr(r->tasks[i], '/') + 1 : r->tasks[i]);
}

static int make_run(bm_store *store, const bm_eval_request *r, const bm_shelf_target *target, const bm_buf *text, int64_t key_id, bm_run_row *out,
                    bm_error *err)
{
    bm_run_row row = { .kind = "eval", .seed = r->seed, .key_id = key_id };
    json_t *job = json_loadb(text->data, text->len, 0, NULL), *kept = json_object();
    char *settings;
    int rc;

    json_object_set(kept, "tasks", json_object_get(job, "tasks"));
    json_object_set(kept, "options", json_object_get(job, "options"));
    settings = json_dumps(kept, JSON_COMPACT);
    row.settings = settings ? bm_strdup(settings) : NULL;
    row.data = bm_strdup("[]");
    free(settings);
    json_decref(kept);
    json_decref(job);
    name_run(r, row.name);
    snprintf(row.model, sizeof row.model, "%s", target->model.name);
    snprintf(row.model_sha256, sizeof row.model_sha256, "%s", target->model.sha256);
    if (target->adapter.id != 0) {
        snprintf(row.adapter, sizeof row.adapter, "%s", target->adapter.name);
        snprintf(row.adapter_sha256, sizeof row.adapter_sha256, "%s", target->adapter.sha256);
    }
    if (row.settings == NULL || row.data == NULL)
        rc = bm_fail(err, BM_NOMEM, "no memory for a run");
    else if ((rc = bm_job_create(store, &row, text->data, text->len, err)) == 0)
        rc = bm_runs_find(store, row.id, out, err);
    bm_run_row_done(&row);
    return rc;
}

int bm_evals_create(bm_store *store, const bm_eval_request *r, int64_t key_id, bm_run_row *out, bm_error *err)
{
    bm_eval_job *job;
    bm_eval *eval;
    plan *p;
    int rc;

    *out = (bm_run_row){ 0 };
    if ((rc = plan_new(&p, store, r, err)) < 0)
        return rc;
    if ((rc = open_eval(p, &job, &eval, err)) == 0) {
        close_eval(job, eval);
        rc = make_run(store, r, &p->target, &p->text, key_id, out, err);
    }
    plan_free(p);
    return rc;
}

/* ---- results ---- */

int bm_evals_results(bm_store *store, const bm_run_row *run, json_t **out, bm_error *err)
{
    bm_buf path = { 0 };
    char *text;
    size_t len;
    int rc = bm_job_dir(&path, bm_store_home(store), run->id, err);

    *out = NULL;
    bm_buf_puts(&path, "/results.json");
    if (rc == 0 && path.failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a path");
    if (rc == 0 && (rc = bm_read_file(&text, &len, path.data, MAX_RESULTS_BYTES, NULL)) < 0) {
        rc = bm_fail(err, BM_NOTFOUND, "run %s (%s) has no results", run->id, run->state);
        bm_hint(err, "baimo eval resume %s", run->id);
    } else if (rc == 0) {
        if ((*out = json_loadb(text, len, 0, NULL)) == NULL)
            rc = bm_fail(err, BM_FORMAT, "%s: the results are damaged", path.data);
        bm_free(text);
    }
    bm_buf_done(&path);
    return rc;
}

/* The options that a score depends on. */
static json_t *score_options(const char *text, size_t len)
{
    json_t *whole = json_loadb(text, len, 0, NULL), *options = json_incref(json_object_get(whole, "options"));

    json_decref(whole);
    json_object_del(options, "threads");
    json_object_del(options, "memory_mib");
    json_object_del(options, "bootstrap");
    return options;
}

/* 1: the run has the scores that the evaluation would come to. */
static int answers(bm_store *store, const bm_run_row *run, const bm_eval *eval, const json_t *options, bm_error *err)
{
    json_t *theirs = score_options(run->settings, strlen(run->settings)), *results = NULL;
    bool yes = false;
    int rc = 0;

    if (json_equal(theirs, options) && bm_evals_results(store, run, &results, NULL) == 0)
        rc = bm_eval_is_current(eval, json_object_get(results, "inputs"), &yes, err);
    json_decref(results);
    json_decref(theirs);
    return rc < 0 ? rc : yes;
}

int bm_evals_latest(bm_store *store, const bm_eval_request *r, bm_run_row *out, bm_error *err)
{
    bm_runs_filter filter = { .kind = "eval", .state = "succeeded" };
    bm_run_row *rows = NULL;
    bm_eval_job *job = NULL;
    bm_eval *eval = NULL;
    json_t *options = NULL;
    size_t n = 0;
    plan *p;
    int rc, found = 0;

    *out = (bm_run_row){ 0 };
    if ((rc = plan_new(&p, store, r, err)) < 0)
        return rc;
    if ((rc = open_eval(p, &job, &eval, err)) < 0 || (rc = bm_runs_list(store, &filter, &rows, &n, err)) < 0)
        goto out;
    options = score_options(p->text.data, p->text.len);
    for (size_t i = 0; rc == 0 && i < n && !found; i++)
        if (strcmp(rows[i].model_sha256, p->target.model.sha256) == 0 &&
            strcmp(rows[i].adapter_sha256, p->target.adapter.id != 0 ? p->target.adapter.sha256 : "") == 0 &&
            (rc = answers(store, &rows[i], eval, options, err)) == 1) {
            found = 1;
            rc = bm_runs_find(store, rows[i].id, out, err);
        }
out:
    json_decref(options);
    bm_runs_free(rows, n);
    close_eval(job, eval);
    plan_free(p);
    return rc < 0 ? rc : found;
}
