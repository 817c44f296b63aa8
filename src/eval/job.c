/* job.c - job.json of an evaluation, read and written; see job.h. */
#include "eval/job.h"

#include <math.h>
#include <string.h>

#include "base/json_out.h"
#include "base/mem.h"

/* ---- reading ---- */

typedef struct key {
    const char *name;
    enum { TEXT, NAMES, OBJECT, NUMBER, FLAG } kind;
    void *to, *count;            /* const char **, names[] and size_t *, const json_t **, double *, bool * */
} key;

static const char *kind_name(int kind)
{
    static const char *const names[] = { "a string", "a list of strings", "an object", "a number", "true or false" };

    return names[kind];
}

static int read_names(const json_t *v, const key *k, bm_error *err)
{
    const char **names = k->to;
    size_t *n = k->count, i;
    json_t *one;

    if (json_array_size(v) > BM_EVAL_MAX_NAMES)
        return bm_fail(err, BM_LIMIT, "job.json: %s has %zu names, at most %d can be given", k->name, json_array_size(v), BM_EVAL_MAX_NAMES);
    json_array_foreach(v, i, one) {
        if (!json_is_string(one))
            return bm_fail(err, BM_INVALID, "job.json: %s must be a list of strings", k->name);
        names[(*n)++] = json_string_value(one);
    }
    return 0;
}

static int read_value(const json_t *v, const key *k, bm_error *err)
{
    if (k->kind == TEXT && json_is_string(v))
        *(const char **)k->to = json_string_value(v);
    else if (k->kind == NAMES && json_is_array(v))
        return read_names(v, k, err);
    else if (k->kind == OBJECT && json_is_object(v))
        *(const json_t **)k->to = v;
    else if (k->kind == NUMBER && json_is_number(v))
        *(double *)k->to = json_number_value(v);
    else if (k->kind == FLAG && json_is_boolean(v))
        *(bool *)k->to = json_is_true(v);
    else
        return bm_fail(err, BM_INVALID, "job.json: %s must be %s", k->name, kind_name(k->kind));
    return 0;
}

static int read_object(const json_t *o, const char *where, const key *keys, size_t n, bm_error *err)
{
    const char *name;
    json_t *v;
    int rc;

    json_object_foreach((json_t *)(uintptr_t)o, name, v) {
        size_t i = 0;
        while (i < n && strcmp(keys[i].name, name) != 0)
            i++;
        if (i == n)
            return bm_fail(err, BM_INVALID, "job.json: %s has no key '%.60s'", where, name);
        if (!json_is_null(v) && (rc = read_value(v, &keys[i], err)) < 0)
            return rc;
    }
    return 0;
}

/* A whole number within bounds. */
static int whole(double x, const char *name, double min, double max, bm_error *err)
{
    if (x >= min && x <= max && x == floor(x))
        return 0;
    return bm_fail(err, BM_INVALID, "job.json: %s must be a whole number between %.0f and %.0f", name, min, max);
}

static int read_options(bm_eval_job *job, const json_t *o, bm_error *err)
{
    double limit = 0, shots = -1, fewshot_seed = 1234, seed = 0, bootstrap = 0, threads = 0, context = 0, memory = 0;
    bm_eval_options *e = &job->options;
    const json_t *gen = NULL;
    const char *precision = "fast";
    const key keys[] = {
        { "precision", TEXT, &precision, NULL },
        { "limit", NUMBER, &limit, NULL }, { "num_fewshot", NUMBER, &shots, NULL }, { "fewshot_seed", NUMBER, &fewshot_seed, NULL },
        { "seed", NUMBER, &seed, NULL }, { "bootstrap", NUMBER, &bootstrap, NULL }, { "threads", NUMBER, &threads, NULL },
        { "context", NUMBER, &context, NULL }, { "memory_mib", NUMBER, &memory, NULL }, { "gen_kwargs", OBJECT, &gen, NULL },
        { "apply_chat_template", FLAG, &e->apply_chat_template, NULL }, { "fewshot_as_multiturn", FLAG, &e->fewshot_as_multiturn, NULL },
        { "system_instruction", TEXT, &e->system_instruction, NULL } };
    int rc;

    if ((rc = read_object(o, "options", keys, sizeof keys / sizeof keys[0], err)) < 0 || (rc = whole(limit, "limit", 0, 1e15, err)) < 0 ||
        (rc = whole(shots, "num_fewshot", -1, 10000, err)) < 0 || (rc = whole(fewshot_seed, "fewshot_seed", 0, 1e15, err)) < 0 ||
        (rc = whole(seed, "seed", 0, 1e15, err)) < 0 || (rc = whole(bootstrap, "bootstrap", -1, 1e7, err)) < 0 ||
        (rc = whole(threads, "threads", 0, 4096, err)) < 0 || (rc = whole(context, "context", 0, 1 << 24, err)) < 0 ||
        (rc = whole(memory, "memory_mib", 0, 1e9, err)) < 0)
        return rc;
    if (strcmp(precision, "fast") != 0 && strcmp(precision, "f32") != 0)
        return bm_fail(err, BM_INVALID, "job.json: precision must be \"fast\" or \"f32\"");
    job->f32 = strcmp(precision, "f32") == 0;
    e->limit = (uint64_t)limit;
    e->has_num_fewshot = shots >= 0;
    e->num_fewshot = shots >= 0 ? (int)shots : 0;
    e->fewshot_seed = (uint64_t)fewshot_seed;
    e->seed = (uint64_t)seed;
    e->bootstrap_iterations = (int)bootstrap;
    e->gen_kwargs = gen;
    job->n_threads = (int)threads;
    job->n_ctx = (int32_t)context;
    job->memory_mib = (int64_t)memory;
    return 0;
}

/* job.json's datasets: "PATH/NAME:SPLIT", or "PATH:SPLIT" without a name. */
static int resolve(void *arg, const char *path, const char *name, const char *split, char **out, bm_error *err)
{
    const bm_eval_job *job = arg;
    bm_buf k = { 0 };
    const char *file;

    *out = NULL;
    bm_buf_printf(&k, "%s%s%s:%s", path ? path : "", name ? "/" : "", name ? name : "", split);
    if (k.failed)
        return bm_fail(err, BM_NOMEM, "no memory for a name");
    file = json_string_value(json_object_get(job->datasets, k.data));
    if (file == NULL) {
        bm_fail(err, BM_NOTFOUND, "the data set %s is not here", k.data);
        bm_hint(err, "baimo data add FILE --as %s", k.data);
    } else if ((*out = bm_strdup(file)) == NULL) {
        bm_fail(err, BM_NOMEM, "no memory for a path");
    }
    bm_buf_done(&k);
    return *out != NULL ? 0 : err ? err->code : file ? BM_NOMEM : BM_NOTFOUND;
}

static int read_job(bm_eval_job *job, bm_error *err)
{
    const json_t *model = NULL, *adapter = NULL, *options = NULL;
    const char *kind = NULL;
    const key keys[] = { { "kind", TEXT, &kind, NULL }, { "name", TEXT, &job->name, NULL }, { "model", OBJECT, &model, NULL },
                         { "adapter", OBJECT, &adapter, NULL }, { "tasks", NAMES, job->tasks, &job->n_tasks },
                         { "folders", NAMES, job->folders, &job->n_folders }, { "datasets", OBJECT, &job->datasets, NULL },
                         { "options", OBJECT, &options, NULL } };
    const key of_model[] = { { "path", TEXT, &job->model_path, NULL }, { "sha256", TEXT, &job->model_sha256, NULL },
                             { "name", TEXT, &job->model_name, NULL } };
    const key of_adapter[] = { { "path", TEXT, &job->adapter_path, NULL }, { "sha256", TEXT, &job->adapter_sha256, NULL },
                               { "name", TEXT, &job->adapter_name, NULL } };
    int rc = read_object(job->json, "the job", keys, sizeof keys / sizeof keys[0], err);

    if (rc == 0)
        rc = read_object(model, "model", of_model, 3, err);
    if (rc == 0)
        rc = read_object(adapter, "adapter", of_adapter, 3, err);
    if (rc == 0)
        rc = read_options(job, options, err);
    if (rc < 0)
        return rc;
    if (kind == NULL || strcmp(kind, "eval") != 0)
        return bm_fail(err, BM_INVALID, "job.json: kind must be \"eval\"");
    if (job->model_path == NULL || job->n_tasks == 0)
        return bm_fail(err, BM_INVALID, "job.json: model.path and tasks must be given");
    return 0;
}

int bm_eval_job_parse(bm_eval_job *job, const char *text, size_t len, bm_error *err)
{
    json_error_t why;
    int rc;

    *job = (bm_eval_job){ 0 };
    if ((job->json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why)) == NULL)
        return bm_fail(err, BM_INVALID, "job.json, line %d: %s", why.line, why.text);
    if (!json_is_object(job->json))
        rc = bm_fail(err, BM_INVALID, "job.json must be an object");
    else
        rc = read_job(job, err);
    if (rc < 0) {
        bm_eval_job_done(job);
        return rc;
    }
    job->options.tasks = job->tasks;
    job->options.n_tasks = job->n_tasks;
    job->options.folders = job->folders;
    job->options.n_folders = job->n_folders;
    job->options.resolve = resolve;
    job->options.resolve_arg = job;
    return 0;
}

void bm_eval_job_done(bm_eval_job *job)
{
    json_decref(job->json);
    *job = (bm_eval_job){ 0 };
}

/* ---- writing ---- */

static void write_names(bm_json *j, const char *label, const char *const *names, size_t n)
{
    bm_json_key(j, label);
    bm_json_open(j, '[');
    for (size_t i = 0; i < n; i++)
        bm_json_str(j, names[i]);
    bm_json_close(j, ']');
}

static void write_file(bm_json *j, const char *label, const char *path, const char *sha256, const char *name)
{
    bm_json_key(j, label);
    if (path == NULL) {
        bm_json_null(j);
        return;
    }
    bm_json_open(j, '{');
    bm_json_kstr(j, "path", path);
    bm_json_kstr(j, "sha256", sha256);
    bm_json_kstr(j, "name", name);
    bm_json_close(j, '}');
}

static void write_options(bm_json *j, const bm_eval_job *job)
{
    const bm_eval_options *e = &job->options;

    bm_json_key(j, "options");
    bm_json_open(j, '{');
    bm_json_kint(j, "limit", (int64_t)e->limit);
    if (e->has_num_fewshot)
        bm_json_kint(j, "num_fewshot", e->num_fewshot);
    bm_json_kint(j, "fewshot_seed", (int64_t)e->fewshot_seed);
    bm_json_kint(j, "seed", (int64_t)e->seed);
    bm_json_kbool(j, "apply_chat_template", e->apply_chat_template);
    bm_json_kbool(j, "fewshot_as_multiturn", e->fewshot_as_multiturn);
    bm_json_kstr(j, "system_instruction", e->system_instruction);
    bm_json_key(j, "gen_kwargs");
    bm_json_value(j, e->gen_kwargs);
    bm_json_kint(j, "bootstrap", e->bootstrap_iterations);
    bm_json_kint(j, "threads", job->n_threads);
    bm_json_kint(j, "context", job->n_ctx);
    bm_json_kint(j, "memory_mib", job->memory_mib);
    bm_json_kstr(j, "precision", job->f32 ? "f32" : "fast");
    bm_json_close(j, '}');
}

int bm_eval_job_write(bm_buf *out, const bm_eval_job *job, bm_error *err)
{
    bm_json j = { out, false };

    bm_json_open(&j, '{');
    bm_json_kstr(&j, "kind", "eval");
    bm_json_kstr(&j, "name", job->name);
    write_file(&j, "model", job->model_path, job->model_sha256, job->model_name);
    write_file(&j, "adapter", job->adapter_path, job->adapter_sha256, job->adapter_name);
    write_names(&j, "tasks", job->tasks, job->n_tasks);
    write_names(&j, "folders", job->folders, job->n_folders);
    bm_json_key(&j, "datasets");
    bm_json_value(&j, job->datasets);
    write_options(&j, job);
    bm_json_close(&j, '}');
    bm_buf_putc(out, '\n');
    return out->failed ? bm_fail(err, BM_NOMEM, "no memory for a job") : 0;
}
