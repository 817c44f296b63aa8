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

/* What the job would say of its tasks and data, said now. */
static int check(const bm_buf *text, bm_error *err)
{
    bm_eval_job *job = bm_zalloc(sizeof *job);
    bm_eval *eval;
    int rc;

    if (job == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a job");
    if ((rc = bm_eval_job_parse(job, text->data, text->len, err)) == 0) {
        if ((rc = bm_eval_open(&eval, &job->options, err)) == 0)
            bm_eval_close(eval);
        bm_eval_job_done(job);
    }
    bm_free(job);
    return rc;
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
    bm_eval_job *job = bm_zalloc(sizeof *job);
    bm_shelf_target *target = bm_zalloc(sizeof *target);
    paths *p = bm_zalloc(sizeof *p);
    json_t *datasets = NULL;
    char *shipped = NULL;
    bm_buf text = { 0 };
    int rc;

    *out = (bm_run_row){ 0 };
    if (job == NULL || target == NULL || p == NULL) {
        rc = bm_fail(err, BM_NOMEM, "no memory for an evaluation");
        goto out;
    }
    if ((rc = bm_shelf_find_target(store, r->model, target, err)) < 0 || (rc = collect_datasets(store, &datasets, err)) < 0)
        goto out;
    bm_task_shipped_dir(&shipped, NULL);                 /* without it there are the given folders */
    if ((rc = fill_names(job, r, shipped, p, err)) < 0)
        goto out;
    job->name = r->name;
    job->model_path = target->model.path, job->model_sha256 = target->model.sha256, job->model_name = target->model.name;
    if (target->adapter.id != 0)
        job->adapter_path = target->adapter.path, job->adapter_sha256 = target->adapter.sha256, job->adapter_name = target->adapter.name;
    job->datasets = datasets;
    fill_options(job, r, target);
    if ((rc = bm_eval_job_write(&text, job, err)) == 0 && (rc = check(&text, err)) == 0)
        rc = make_run(store, r, target, &text, key_id, out, err);
out:
    json_decref(datasets);
    bm_free(shipped);
    bm_buf_done(&text);
    bm_free(p);
    bm_free(target);
    bm_free(job);
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

static bool has_task(bm_store *store, const bm_run_row *run, const char *task, int64_t limit)
{
    json_t *settings = json_loads(run->settings, 0, NULL), *results = NULL;
    bool yes = json_integer_value(json_object_get(json_object_get(settings, "options"), "limit")) == limit &&
               bm_evals_results(store, run, &results, NULL) == 0 && json_object_get(json_object_get(results, "results"), task) != NULL;

    json_decref(results);
    json_decref(settings);
    return yes;
}

int bm_evals_latest(bm_store *store, const char *model_sha256, const char *adapter_sha256, const char *task, int64_t limit, bm_run_row *out,
                    bm_error *err)
{
    bm_runs_filter filter = { .kind = "eval", .state = "succeeded" };
    bm_run_row *rows;
    size_t n;
    int rc = bm_runs_list(store, &filter, &rows, &n, err), found = 0;

    *out = (bm_run_row){ 0 };
    for (size_t i = 0; rc == 0 && i < n && !found; i++)
        if (strcmp(rows[i].model_sha256, model_sha256) == 0 && strcmp(rows[i].adapter_sha256, adapter_sha256) == 0 &&
            has_task(store, &rows[i], task, limit)) {
            found = 1;
            rc = bm_runs_find(store, rows[i].id, out, err);
        }
    bm_runs_free(rows, n);
    return rc < 0 ? rc : found;
}
