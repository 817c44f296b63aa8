/* run.c - the tasks of an evaluation one after another; see run.h. */
#include "eval/run.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"

enum { MAX_SAMPLES_BYTES = 1 << 30, MAX_INPUTS_BYTES = 64 << 20, BOOTSTRAP = 100000 };

struct bm_eval {
    const bm_eval_options *options;
    bm_task_list *list;
    size_t *n_documents;         /* [n_tasks] in the data */
    char (*data_sha256)[65];     /* [n_tasks] of the documents' file; "" when they stand in the task file */
};

static size_t wanted(const bm_eval *e, size_t task)
{
    size_t n = e->n_documents[task];

    return e->options->limit > 0 && e->options->limit < n ? (size_t)e->options->limit : n;
}

const bm_task_list *bm_eval_tasks(const bm_eval *e) { return e->list; }

size_t bm_eval_documents(const bm_eval *e)
{
    size_t n = 0;

    for (size_t i = 0; i < e->list->n_tasks; i++)
        n += wanted(e, i);
    return n;
}

/* ---- opening ---- */

/* Stands for the model's template while none is loaded: only whether the messages can be built is checked. */
static int plain_chat(void *arg, const json_t *messages, bool add_generation_prompt, char **out, bm_error *err)
{
    (void)arg, (void)messages, (void)add_generation_prompt;
    *out = bm_strdup("");
    return *out ? 0 : bm_fail(err, BM_NOMEM, "no memory for a chat");
}

static bm_prompt_options prompt_options(const bm_eval_options *o)
{
    return (bm_prompt_options){ .fewshot_seed = o->fewshot_seed, .system_instruction = o->system_instruction,
                                .apply_chat_template = o->apply_chat_template, .fewshot_as_multiturn = o->fewshot_as_multiturn,
                                .chat = plain_chat, .resolve = o->resolve, .resolve_arg = o->resolve_arg };
}

static int look_at_data(bm_eval *e, size_t i, bm_error *err)
{
    bm_prompt_options o = prompt_options(e->options);
    bm_prompts *prompts;
    bm_sha256 sum;
    int rc = bm_prompts_open(&prompts, e->list->tasks[i], &o, err);

    if (rc < 0)
        return rc;
    const bm_docs *docs = bm_prompts_docs(prompts);
    e->n_documents[i] = bm_prompts_count(prompts);
    if (docs->path != NULL && (rc = bm_sha256_file(&sum, docs->path, NULL, NULL, err)) == 0)
        bm_hex(e->data_sha256[i], sum.bytes, sizeof sum.bytes);
    bm_prompts_close(prompts);
    return rc;
}

int bm_eval_open(bm_eval **out, const bm_eval_options *options, bm_error *err)
{
    bm_task_options task = { .num_fewshot = options->num_fewshot, .has_num_fewshot = options->has_num_fewshot,
                             .gen_kwargs = options->gen_kwargs };
    bm_task_index *index = NULL;
    bm_eval *e = bm_zalloc(sizeof *e);
    int rc;

    *out = NULL;
    if (e == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for an evaluation");
    e->options = options;
    if ((rc = bm_task_index_open(&index, options->folders, options->n_folders, NULL, NULL, err)) < 0 ||
        (rc = bm_task_list_load(&e->list, index, options->tasks, options->n_tasks, &task, err)) < 0)
        goto out;
    e->n_documents = bm_calloc(e->list->n_tasks + 1, sizeof *e->n_documents);
    e->data_sha256 = bm_calloc(e->list->n_tasks + 1, sizeof *e->data_sha256);
    if (e->n_documents == NULL || e->data_sha256 == NULL) {
        rc = bm_fail(err, BM_NOMEM, "no memory for an evaluation");
        goto out;
    }
    for (size_t i = 0; i < e->list->n_tasks && rc == 0; i++)
        rc = look_at_data(e, i, err);
    if (rc == 0)
        *out = e, e = NULL;
out:
    bm_task_index_close(index);
    bm_eval_close(e);
    return rc;
}

void bm_eval_close(bm_eval *e)
{
    if (e == NULL)
        return;
    bm_free(e->data_sha256);
    bm_free(e->n_documents);
    bm_task_list_free(e->list);
    bm_free(e);
}

/* ---- inputs ---- */

static int hash_of(const char *text, size_t len, char hex[65], bm_error *err)
{
    bm_sha256 sum;
    int rc = bm_sha256_bytes(&sum, text, len, err);

    if (rc == 0)
        bm_hex(hex, sum.bytes, sizeof sum.bytes);
    return rc;
}

static int config_hash(const bm_task *task, char hex[65], bm_error *err)
{
    bm_buf config = { 0 };
    bm_json j = { &config, false };
    int rc;

    bm_json_value(&j, task->config);
    rc = config.failed ? bm_fail(err, BM_NOMEM, "no memory for inputs") : hash_of(config.data, config.len, hex, err);
    bm_buf_done(&config);
    return rc;
}

static bool is_text(const json_t *v, const char *text) { return json_is_string(v) && strcmp(json_string_value(v), text) == 0; }

int bm_eval_is_current(const bm_eval *e, const json_t *inputs, bool *yes, bm_error *err)
{
    char hex[65];
    int rc = 0;

    *yes = is_text(json_object_get(inputs, "version"), BM_VERSION);
    for (size_t i = 0; i < e->list->n_tasks && rc == 0 && *yes; i++) {
        const json_t *task = json_object_get(json_object_get(inputs, "tasks"), e->list->tasks[i]->name);
        if ((rc = config_hash(e->list->tasks[i], hex, err)) == 0)
            *yes = is_text(json_object_get(task, "config_sha256"), hex) && is_text(json_object_get(task, "data_sha256"), e->data_sha256[i]);
    }
    return rc;
}

static int write_task_inputs(bm_json *j, const bm_eval *e, size_t i, bm_error *err)
{
    char hex[65];
    int rc = config_hash(e->list->tasks[i], hex, err);

    if (rc < 0)
        return rc;
    bm_json_key(j, e->list->tasks[i]->name);
    bm_json_open(j, '{');
    bm_json_kstr(j, "config_sha256", hex);
    bm_json_kstr(j, "data_sha256", e->data_sha256[i]);
    bm_json_close(j, '}');
    return 0;
}

static void write_settings(bm_json *j, const bm_eval_options *o, int32_t n_ctx)
{
    bm_json_key(j, "settings");
    bm_json_open(j, '{');
    bm_json_kint(j, "limit", (int64_t)o->limit);
    bm_json_key(j, "num_fewshot");
    if (o->has_num_fewshot)
        bm_json_int(j, o->num_fewshot);
    else
        bm_json_null(j);
    bm_json_kint(j, "fewshot_seed", (int64_t)o->fewshot_seed);
    bm_json_kint(j, "seed", (int64_t)o->seed);
    bm_json_kbool(j, "apply_chat_template", o->apply_chat_template);
    bm_json_kbool(j, "fewshot_as_multiturn", o->fewshot_as_multiturn);
    bm_json_kstr(j, "system_instruction", o->system_instruction);
    bm_json_key(j, "gen_kwargs");
    bm_json_value(j, o->gen_kwargs);
    bm_json_kint(j, "context", n_ctx);
    bm_json_close(j, '}');
}

/* What the scores depend on. */
static int make_inputs(bm_buf *out, const bm_eval *e, bm_backend *backend, const bm_eval_run_options *o, bm_error *err)
{
    const char *template = backend->template_source(backend);
    bm_json j = { out, false };
    char hex[65] = "";
    int rc = template != NULL ? hash_of(template, strlen(template), hex, err) : 0;

    bm_json_open(&j, '{');
    bm_json_kstr(&j, "model", o->model_name ? o->model_name : "");
    bm_json_kstr(&j, "model_sha256", o->model_sha256 ? o->model_sha256 : "");
    bm_json_kstr(&j, "adapter", o->adapter_name ? o->adapter_name : "");
    bm_json_kstr(&j, "adapter_sha256", o->adapter_sha256 ? o->adapter_sha256 : "");
    bm_json_kstr(&j, "precision", o->precision ? o->precision : "fast");
    bm_json_kstr(&j, "template_sha256", hex);
    bm_json_kstr(&j, "version", BM_VERSION);
    write_settings(&j, e->options, backend->ctx(backend));
    bm_json_key(&j, "tasks");
    bm_json_open(&j, '{');
    for (size_t i = 0; i < e->list->n_tasks && rc == 0; i++)
        rc = write_task_inputs(&j, e, i, err);
    bm_json_close(&j, '}');
    bm_json_close(&j, '}');
    bm_buf_putc(out, '\n');
    return rc < 0 ? rc : out->failed ? bm_fail(err, BM_NOMEM, "no memory for inputs") : 0;
}

/* Written at the first start; a later one must have the same. */
static int settle_inputs(const bm_buf *inputs, const char *dir, bm_error *err)
{
    bm_buf path = { 0 };
    struct stat st;
    char *before = NULL;
    size_t len;
    int rc;

    bm_buf_printf(&path, "%s/inputs.json", dir);
    if (path.failed)
        return bm_fail(err, BM_NOMEM, "no memory for a path");
    if (stat(path.data, &st) != 0) {
        rc = bm_write_file(path.data, inputs->data, inputs->len, 0600, err);
    } else if ((rc = bm_read_file(&before, &len, path.data, MAX_INPUTS_BYTES, err)) == 0 &&
               (len != inputs->len || memcmp(before, inputs->data, len) != 0)) {
        bm_fail(err, BM_INVALID, "%s: model, tasks, data, settings or version have changed since this run began", path.data);
        rc = bm_hint(err, "start a new one");
    }
    bm_free(before);
    bm_buf_done(&path);
    return rc;
}

/* ---- one task ---- */

int bm_eval_samples_path(bm_buf *out, const char *dir, const char *task, bm_error *err)
{
    bm_buf_printf(out, "%s/samples_", dir);
    for (const char *p = task; *p != '\0'; p++)
        bm_buf_putc(out, isalnum((unsigned char)*p) || *p == '-' || *p == '_' || (*p == '.' && p != task) ? *p : '_');
    bm_buf_puts(out, ".jsonl");
    return out->failed ? bm_fail(err, BM_NOMEM, "no memory for a path") : 0;
}

typedef struct task_run {
    bm_eval *eval;
    const bm_eval_run_options *options;
    const bm_task *task;
    bm_backend *backend;
    bm_tally *tally;
    int fd;
    const char *path;
    bm_buf line;
    bm_eval_progress *progress;
} task_run;

/* What an earlier start recorded; behind the last whole line the file is cut. */
static int read_samples(task_run *r, size_t most, bm_error *err)
{
    char *text;
    size_t len, at = 0;
    int rc = bm_read_file(&text, &len, r->path, MAX_SAMPLES_BYTES, err);

    if (rc < 0)
        return rc;
    while (rc == 0 && at < len && bm_tally_count(r->tally) < most) {
        const char *end = memchr(text + at, '\n', len - at);
        if (end == NULL || (rc = bm_tally_add(r->tally, text + at, (size_t)(end - text) - at, err)) == BM_FORMAT)
            break;
        at = (size_t)(end - text) + 1;
    }
    bm_free(text);
    if (rc < 0 && rc != BM_FORMAT)
        return rc;
    if (ftruncate(r->fd, (off_t)at) != 0 || lseek(r->fd, 0, SEEK_END) < 0)
        return bm_fail(err, BM_IO, "%s: %s", r->path, strerror(errno));
    return 0;
}

static bool tell(const task_run *r)
{
    return r->options->progress == NULL || r->options->progress(r->options->progress_arg, r->progress);
}

static int take(void *arg, const bm_scored *doc, bm_error *err)
{
    task_run *r = arg;
    size_t failed = bm_tally_failed(r->tally);
    int rc;

    bm_buf_clear(&r->line);
    if ((rc = bm_sample_line(&r->line, r->task, doc, err)) < 0 ||
        (rc = bm_tally_add(r->tally, r->line.data, r->line.len - 1, err)) < 0)
        return rc;
    if (bm_write_all(r->fd, r->line.data, r->line.len) < 0)
        return bm_fail(err, BM_IO, "%s: %s", r->path, strerror(errno));
    r->progress->done++;
    r->progress->failed += bm_tally_failed(r->tally) - failed;
    r->progress->n_tokens += doc->n_tokens;
    r->progress->n_cached += doc->n_cached;
    return tell(r) ? 0 : bm_fail(err, BM_CANCELED, "stopped");
}

static int chat_text(void *arg, const json_t *messages, bool add_generation_prompt, char **out, bm_error *err)
{
    bm_backend *backend = arg;
    bm_chat chat = { .messages = messages, .no_generation_prompt = !add_generation_prompt };

    return backend->render_chat(backend, &chat, out, err);
}

static int score_rest(task_run *r, size_t most, bm_error *err)
{
    const bm_eval_options *o = r->eval->options;
    bm_prompt_options po = prompt_options(o);
    bm_scorer_options so = { .first = bm_tally_count(r->tally), .limit = most, .seed = o->seed };
    bm_prompts *prompts;
    int rc;

    po.chat = chat_text, po.chat_arg = r->backend;
    if ((rc = bm_prompts_open(&prompts, r->task, &po, err)) < 0)
        return rc;
    rc = bm_scorer_run(r->backend, r->task, prompts, &so, take, r, err);
    bm_prompts_close(prompts);
    return rc;
}

static int run_task(bm_eval *e, size_t i, bm_backend *backend, const bm_eval_run_options *o, bm_tally *tally, bm_eval_progress *progress,
                    bm_error *err)
{
    task_run r = { .eval = e, .options = o, .task = e->list->tasks[i], .backend = backend, .tally = tally, .progress = progress, .fd = -1 };
    bm_buf path = { 0 };
    size_t most = wanted(e, i);
    int rc;

    progress->task = r.task->name;
    if ((rc = bm_eval_samples_path(&path, o->dir, r.task->name, err)) < 0)
        goto out;
    r.path = path.data;
    if ((r.fd = open(r.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0) {
        rc = bm_fail(err, BM_IO, "%s: %s", r.path, strerror(errno));
        goto out;
    }
    if ((rc = read_samples(&r, most, err)) < 0)
        goto out;
    progress->done += bm_tally_count(tally);
    progress->failed += bm_tally_failed(tally);
    if (!tell(&r))
        rc = bm_fail(err, BM_CANCELED, "stopped");
    else if (bm_tally_count(tally) < most)
        rc = score_rest(&r, most, err);
out:
    if (r.fd >= 0)
        close(r.fd);
    bm_buf_done(&r.line);
    bm_buf_done(&path);
    return rc;
}

/* ---- the run ---- */

static int write_results(const bm_eval_run_options *o, json_t *results, const bm_buf *inputs, const bm_eval_progress *p,
                         double seconds, int64_t began_ms, bm_error *err)
{
    bm_buf text = { 0 }, path = { 0 };
    bm_json j = { &text, false };
    json_t *value;
    const char *key;
    int rc;

    bm_json_open(&j, '{');
    json_object_foreach(results, key, value) {
        bm_json_key(&j, key);
        bm_json_value(&j, value);
    }
    bm_json_key(&j, "inputs");
    bm_json_raw(&j, inputs->data, inputs->len - 1);
    bm_json_kint(&j, "failed", (int64_t)p->failed);
    bm_json_key(&j, "run");
    bm_json_open(&j, '{');
    bm_json_kint(&j, "began_ms", began_ms);
    bm_json_kdouble(&j, "seconds", seconds);
    bm_json_kint(&j, "prompt_tokens", p->n_tokens);
    bm_json_kint(&j, "cached_tokens", p->n_cached);
    bm_json_kint(&j, "threads", o->n_threads);
    bm_json_kstr(&j, "machine", o->machine);
    bm_json_close(&j, '}');
    bm_json_close(&j, '}');
    bm_buf_putc(&text, '\n');
    bm_buf_printf(&path, "%s/results.json", o->dir);
    rc = text.failed || path.failed ? bm_fail(err, BM_NOMEM, "no memory for results")
                                    : bm_write_file(path.data, text.data, text.len, 0600, err);
    bm_buf_done(&text);
    bm_buf_done(&path);
    return rc;
}

static int run_all(bm_eval *e, bm_backend *backend, const bm_eval_run_options *o, bm_tally **tallies, bm_eval_progress *progress, bm_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < e->list->n_tasks && rc == 0; i++)
        if ((rc = bm_tally_new(&tallies[i], e->list->tasks[i], err)) == 0)
            rc = run_task(e, i, backend, o, tallies[i], progress, err);
    return rc;
}

int bm_eval_run(bm_eval *e, bm_backend *backend, const bm_eval_run_options *o, json_t **results, size_t *n_failed, bm_error *err)
{
    bm_eval_progress progress = { .total = bm_eval_documents(e) };
    int64_t began_ms = bm_wall_ms(), began = bm_now_ns();
    bm_tally **tallies = bm_calloc(e->list->n_tasks + 1, sizeof *tallies);
    int bootstrap = e->options->bootstrap_iterations == 0 ? BOOTSTRAP : e->options->bootstrap_iterations;
    bm_buf inputs = { 0 };
    json_t *made = NULL;
    int rc = tallies ? 0 : bm_fail(err, BM_NOMEM, "no memory for an evaluation");

    if (rc == 0 && (rc = make_inputs(&inputs, e, backend, o, err)) == 0 && (rc = settle_inputs(&inputs, o->dir, err)) == 0 &&
        (rc = run_all(e, backend, o, tallies, &progress, err)) == 0 &&
        (rc = bm_results_make(&made, e->list, tallies, e->n_documents, bootstrap, err)) == 0)
        rc = write_results(o, made, &inputs, &progress, (double)(bm_now_ns() - began) / 1e9, began_ms, err);
    *n_failed = progress.failed;
    if (rc == 0 && results != NULL)
        *results = json_incref(made);
    json_decref(made);
    for (size_t i = 0; tallies != NULL && i < e->list->n_tasks; i++)
        bm_tally_free(tallies[i]);
    bm_free(tallies);
    bm_buf_done(&inputs);
    return rc;
}
