/* tune.c - see tune.h. */
#include "platform/tune.h"
#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "platform/datasets.h"
#include "platform/jobs.h"
#include "platform/shelf.h"
#include "store/adapters.h"
#include "train/job.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the table of settings ---- */

typedef enum kind { INT, NUMBER, TEXT, BOOL } kind;
typedef struct setting {
    const char *name;
    kind kind;
    size_t at;                   /* in bm_tune_request */
    double min, max;
    const char *values;          /* of TEXT: what it may be, separated by blanks; NULL: anything */
    bool of_data;                /* stands with each data set, else in "options" */
} setting;

#define AT(field) offsetof(bm_tune_request, field)
static const setting settings[] = {
    { "method", TEXT, AT(method), 0, 0, "auto sft dpo", false },
    { "targets", TEXT, AT(targets), 0, 0, NULL, false },
    { "rank", INT, AT(rank), 1, 512, NULL, false },
    { "alpha", NUMBER, AT(alpha), 1e-6, 1e6, NULL, false },
    { "rslora", BOOL, AT(rslora), 0, 0, NULL, false },
    { "lr", NUMBER, AT(lr), 0, 10, NULL, false },
    { "decay", TEXT, AT(decay), 0, 0, "cosine linear constant", false },
    { "warmup", NUMBER, AT(warmup), 0, 1e9, NULL, false },
    { "weight_decay", NUMBER, AT(weight_decay), 0, 10, NULL, false },
    { "clip", NUMBER, AT(clip), 0, 1e9, NULL, false },
    { "beta", NUMBER, AT(beta), 1e-6, 100, NULL, false },
    { "epochs", NUMBER, AT(epochs), 0, 10000, NULL, false },
    { "steps", INT, AT(steps), 0, 1e9, NULL, false },
    { "batch_size", INT, AT(batch_size), 1, 4096, NULL, false },
    { "pack", BOOL, AT(pack), 0, 0, NULL, false },
    { "max_length", INT, AT(max_length), 2, 1 << 20, NULL, false },
    { "micro_tokens", INT, AT(micro_tokens), 0, 1 << 24, NULL, false },
    { "save_every", INT, AT(save_every), 0, 1e9, NULL, false },
    { "valid_every", INT, AT(valid_every), 0, 1e9, NULL, false },
    { "patience", INT, AT(patience), 0, 1e6, NULL, false },
    { "valid_share", NUMBER, AT(valid_share), 0, 0.9, NULL, false },
    { "precision", TEXT, AT(precision), 0, 0, "fast f32", false },
    { "recompute", TEXT, AT(recompute), 0, 0, "auto on off", false },
    { "threads", INT, AT(threads), 0, 1024, NULL, false },
    { "memory_mib", INT, AT(memory_mib), 0, 1e9, NULL, false },
    { "seed", INT, AT(seed), 0, 9e15, NULL, false },
    { "drop_bad", BOOL, AT(drop_bad), 0, 0, NULL, false },
    { "split_long", BOOL, AT(split_long), 0, 0, NULL, false },
    { "shape", TEXT, AT(shape), 0, 0, NULL, true },
    { "render", TEXT, AT(render), 0, 0, "auto chat text", true },
    { "part", TEXT, AT(part), 0, 0, NULL, true },
    { "prompt_field", TEXT, AT(prompt_field), 0, 0, NULL, true },
    { "target_field", TEXT, AT(target_field), 0, 0, NULL, true },
    { "loss_after", TEXT, AT(loss_after), 0, 0, NULL, true },
    { "no_header", BOOL, AT(no_header), 0, 0, NULL, true },
};
enum { N_SETTINGS = sizeof settings / sizeof settings[0] };

void bm_tune_defaults(bm_tune_request *request)
{
    *request = (bm_tune_request){
        .method = "auto", .targets = "all-linear", .precision = "fast", .recompute = "auto", .decay = "cosine", .rank = 16,
        .alpha = 32, .lr = 2e-4, .warmup = 0.03, .clip = 1, .beta = 0.1, .epochs = 1, .batch_size = 4, .max_length = 1024,
    };
}

static bool one_of(const char *values, const char *text)
{
    size_t len = strlen(text);

    for (const char *v = values; *v != '\0'; v += strcspn(v, " "), v += *v == ' ')
        if (strcspn(v, " ") == len && strncmp(v, text, len) == 0)
            return true;
    return false;
}

static int bad_value(const setting *s, const char *prefix, bm_error *err)
{
    char param[64];

    if (s->kind == TEXT && s->values != NULL)
        bm_fail(err, BM_INVALID, "%s: expected one of: %s", s->name, s->values);
    else if (s->kind == INT || s->kind == NUMBER)
        bm_fail(err, BM_INVALID, "%s: expected %s from %.10g to %.10g", s->name, s->kind == INT ? "a whole number" : "a number",
                s->min, s->max);
    else
        bm_fail(err, BM_INVALID, "%s: expected %s", s->name, s->kind == TEXT ? "a string" : "true or false");
    snprintf(param, sizeof param, "%s%s%s", prefix, *prefix != '\0' ? "." : "", s->name);
    return bm_param(err, param), BM_INVALID;
}

static int set(bm_tune_request *r, const setting *s, const json_t *value, const char *prefix, bm_error *err)
{
    void *to = (char *)r + s->at;
    double x = json_number_value(value);

    if (json_is_null(value))
        return 0;
    switch (s->kind) {
    case INT:
        if (!json_is_number(value) || x < s->min || x > s->max || x != floor(x))
            return bad_value(s, prefix, err);
        *(int64_t *)to = (int64_t)x;
        break;
    case NUMBER:
        if (!json_is_number(value) || x < s->min || x > s->max)
            return bad_value(s, prefix, err);
        *(double *)to = x;
        break;
    case TEXT:
        if (!json_is_string(value) || (s->values != NULL && !one_of(s->values, json_string_value(value))))
            return bad_value(s, prefix, err);
        *(const char **)to = json_string_value(value);
        break;
    case BOOL:
        if (!json_is_boolean(value))
            return bad_value(s, prefix, err);
        *(bool *)to = json_is_true(value);
        break;
    }
    return 0;
}

static int unknown(const char *key, const char *prefix, bm_error *err)
{
    const char *names[N_SETTINGS];
    char param[64];
    size_t best;

    for (size_t i = 0; i < N_SETTINGS; i++)
        names[i] = settings[i].name;
    bm_fail(err, BM_INVALID, "there is no setting '%.60s'", key);
    if (bm_nearest(key, names, N_SETTINGS, &best, 1) == 1)
        bm_hint(err, "did you mean %s?", names[best]);
    snprintf(param, sizeof param, "%s%s%.40s", prefix, *prefix != '\0' ? "." : "", key);
    return bm_param(err, param), BM_INVALID;
}

int bm_tune_read(bm_tune_request *request, const json_t *object, const char *prefix, bm_error *err)
{
    const char *key;
    json_t *value;
    int rc;

    json_object_foreach ((json_t *)(uintptr_t)object, key, value) {
        const setting *s = NULL;
        for (size_t i = 0; i < N_SETTINGS && s == NULL; i++)
            if (strcmp(settings[i].name, key) == 0)
                s = &settings[i];
        if ((rc = s == NULL ? unknown(key, prefix, err) : set(request, s, value, prefix, err)) < 0)
            return rc;
    }
    return 0;
}

/* Comma-separated names as a list; "all-linear" as it stands. */
static void write_targets(bm_json *j, const char *targets)
{
    bm_json_key(j, "targets");
    if (strcmp(targets, "all-linear") == 0) {
        bm_json_str(j, targets);
        return;
    }
    bm_json_open(j, '[');
    for (const char *at = targets; *at != '\0';) {
        size_t len = strcspn(at, ",");
        bm_json_strn(j, at, len);
        at += len + (at[len] == ',');
    }
    bm_json_close(j, ']');
}

static void write_one(bm_json *j, const bm_tune_request *r, const setting *s)
{
    const void *from = (const char *)r + s->at;

    switch (s->kind) {
    case INT:    bm_json_kint(j, s->name, *(const int64_t *)from); break;
    case NUMBER: bm_json_kdouble(j, s->name, *(const double *)from); break;
    case TEXT:   bm_json_kstr(j, s->name, *(const char *const *)from); break;
    case BOOL:   bm_json_kbool(j, s->name, *(const bool *)from); break;
    }
}

static void write_settings(bm_json *j, const bm_tune_request *r, bool of_data)
{
    for (size_t i = 0; i < N_SETTINGS; i++)
        if (settings[i].of_data == of_data && settings[i].at == AT(targets))
            write_targets(j, r->targets);
        else if (settings[i].of_data == of_data)
            write_one(j, r, &settings[i]);
}

void bm_tune_write(bm_buf *out, const bm_tune_request *request)
{
    bm_json j = { out, false };

    bm_json_open(&j, '{');
    for (size_t i = 0; i < N_SETTINGS; i++)
        write_one(&j, request, &settings[i]);
    bm_json_close(&j, '}');
}

/* ---- checking ---- */

static int check_ranges(const bm_tune_request *r, bm_error *err)
{
    bm_tune_request copy = *r;
    bm_buf text = { 0 };
    json_t *object;
    int rc;

    bm_tune_write(&text, r);
    object = text.failed ? NULL : json_loadb(text.data, text.len, 0, NULL);
    rc = object == NULL ? bm_fail(err, BM_INVALID, "the settings hold text that is not UTF-8, or there is no memory")
                        : bm_tune_read(&copy, object, "", err);
    json_decref(object);
    bm_buf_done(&text);
    return rc;
}

static int check_file(const char *path, char real[PATH_MAX], bm_error *err)
{
    struct stat st;

    if (realpath(path, real) == NULL || stat(real, &st) < 0)
        return bm_fail(err, errno == ENOENT ? BM_NOTFOUND : BM_IO, "%.300s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return bm_fail(err, BM_INVALID, "%.300s: not a file", path);
    return 0;
}

/* The name of the adapter to be: free on the shelf, and no other run is about to take it. */
static int check_name(bm_store *store, const char *name, bm_error *err)
{
    bm_runs_filter open = { .kind = "tune", .state = "open", .name = name, .most = 1 };
    bm_shelf_model model;
    bm_adapter_row adapter;
    bm_run_row *rows;
    size_t n;
    int rc = bm_shelf_check_name(name, err);

    if (rc < 0)
        return rc;
    if (bm_shelf_find(store, name, &model, NULL) == 0)
        return bm_fail(err, BM_EXISTS, "the name '%s' is a model's on the shelf: an adapter needs another", name);
    if ((rc = bm_adapters_find(store, name, &adapter, err)) < 0)
        return rc;
    bm_adapter_row_done(&adapter);
    if (rc == 1) {
        bm_fail(err, BM_EXISTS, "an adapter named '%s' is on the shelf already", name);
        return bm_hint(err, "baimo shelf rm %s, or take another --name", name), BM_EXISTS;
    }
    if ((rc = bm_runs_list(store, &open, &rows, &n, err)) == 0 && n > 0) {
        rc = bm_fail(err, BM_EXISTS, "the run %s is making '%s' already", rows[0].id, name);
        bm_hint(err, "baimo tune stop %s, or take another --name", rows[0].id);
    }
    bm_runs_free(rows, n);
    return rc;
}

static int resolve_model(bm_store *store, const char *name, bm_shelf_model *out, bm_error *err)
{
    int rc = bm_shelf_resolve(store, name, out, err);

    if (rc < 0)
        return rc;
    if (out->id == 0) {
        bm_fail(err, BM_INVALID, "%.300s is not on the shelf: an adapter belongs to a model there, by its hash", out->path);
        return bm_hint(err, "baimo shelf add %.200s", out->path), BM_INVALID;
    }
    return 0;
}

/* ---- job.json ---- */

static int write_set(bm_json *j, bm_store *store, const bm_tune_request *r, const bm_tune_data *set, bool valid, bm_error *err)
{
    char real[PATH_MAX];
    bm_dataset known;
    int rc;

    if ((rc = bm_dataset_resolve(store, set->path, &known, err)) < 0 || (rc = check_file(known.path, real, err)) < 0)
        return rc;
    bm_json_open(j, '{');
    bm_json_kstr(j, "path", real);
    bm_json_kdouble(j, "weight", set->weight == 0 ? 1 : set->weight);
    bm_json_kbool(j, "valid", valid);
    write_settings(j, r, true);
    bm_json_close(j, '}');
    return 0;
}

static int write_data(bm_json *j, bm_store *store, const bm_tune_request *r, bm_error *err)
{
    const bm_tune_data valid = { .path = r->valid_data, .weight = 1 };
    int rc = 0;

    if (r->n_data < 1)
        return bm_fail(err, BM_INVALID, "no data to train on: name a file");
    bm_json_key(j, "data");
    bm_json_open(j, '[');
    for (int i = 0; i < r->n_data && rc == 0; i++)
        rc = write_set(j, store, r, &r->data[i], false, err);
    if (rc == 0 && r->valid_data != NULL)
        rc = write_set(j, store, r, &valid, true, err);
    bm_json_close(j, ']');
    return rc;
}

/* What the job's process would refuse is refused here, before anything waits in a queue. */
static int check_job(const bm_buf *text, bm_error *err)
{
    bm_tune_job job;
    int rc = bm_tune_job_parse(&job, text->data, text->len, err);

    if (rc == 0)
        bm_tune_job_done(&job);
    return rc;
}

static int write_job(bm_store *store, const bm_tune_request *r, const bm_shelf_model *model, bool dry_run, bm_buf *out,
                     bm_error *err)
{
    bm_json j = { out, false };
    int rc;

    bm_json_open(&j, '{');
    bm_json_kstr(&j, "kind", "tune");
    bm_json_kstr(&j, "name", r->name);
    bm_json_key(&j, "model");
    bm_json_open(&j, '{');
    bm_json_kstr(&j, "path", model->path);
    bm_json_kstr(&j, "sha256", model->sha256);
    bm_json_kstr(&j, "name", model->name);
    bm_json_close(&j, '}');
    rc = write_data(&j, store, r, err);
    bm_json_key(&j, "options");
    bm_json_open(&j, '{');
    write_settings(&j, r, false);
    bm_json_kbool(&j, "dry_run", dry_run);
    bm_json_close(&j, '}');
    bm_json_close(&j, '}');
    if (rc == 0 && out->failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a job");
    return rc < 0 ? rc : check_job(out, err);
}

int bm_tune_text(bm_store *store, const bm_tune_request *request, bool dry_run, bm_buf *out, bm_error *err)
{
    bm_shelf_model model;
    int rc;

    if ((rc = check_ranges(request, err)) < 0 || (rc = resolve_model(store, request->model, &model, err)) < 0)
        return rc;
    return write_job(store, request, &model, dry_run, out, err);
}

int bm_tune_create(bm_store *store, const bm_tune_request *request, int64_t key_id, bm_run_row *out, bm_error *err)
{
    bm_run_row row = { .kind = "tune", .seed = request->seed, .key_id = key_id };
    bm_buf job = { 0 }, text = { 0 };
    bm_shelf_model model;
    json_t *object = NULL;
    char *data = NULL;
    int rc;

    *out = (bm_run_row){ 0 };
    if ((rc = check_ranges(request, err)) < 0 || (rc = check_name(store, request->name, err)) < 0 ||
        (rc = resolve_model(store, request->model, &model, err)) < 0 ||
        (rc = write_job(store, request, &model, false, &job, err)) < 0)
        goto out;
    snprintf(row.name, sizeof row.name, "%s", request->name);
    snprintf(row.model, sizeof row.model, "%s", model.name);
    snprintf(row.model_sha256, sizeof row.model_sha256, "%s", model.sha256);
    bm_tune_write(&text, request);
    object = json_loadb(job.data, job.len, 0, NULL);
    data = json_dumps(json_object_get(object, "data"), JSON_COMPACT);
    row.settings = bm_buf_take(&text);
    row.data = data == NULL ? NULL : bm_strdup(data);
    if (row.settings == NULL || row.data == NULL)
        rc = bm_fail(err, BM_NOMEM, "no memory for a run");
    else if ((rc = bm_job_create(store, &row, job.data, job.len, err)) == 0)
        rc = bm_runs_find(store, row.id, out, err);
out:
    free(data);
    json_decref(object);
    bm_buf_done(&text);
    bm_buf_done(&job);
    bm_run_row_done(&row);
    return rc;
}

/* ---- the curve ---- */

static double number_of(const json_t *object, const char *key)
{
    const json_t *x = json_object_get(object, key);

    return json_is_number(x) ? json_number_value(x) : NAN;
}

static void take_point(bm_tune_point *p, const bm_run_event *event)
{
    json_t *object = json_loads(event->data, 0, NULL);
    double tokens = number_of(object, "tokens");

    *p = (bm_tune_point){ .step = event->step, .tokens = tokens >= 0 && tokens < 9e15 ? (int64_t)tokens : 0,
                          .loss = number_of(object, "loss"), .valid_loss = number_of(object, "valid_loss"),
                          .lr = number_of(object, "lr"), .tokens_per_s = number_of(object, "tokens_per_s") };
    json_decref(object);
}

int bm_tune_curve(bm_store *store, int64_t run, bm_tune_point **out, size_t *n, bm_error *err)
{
    bm_run_events_filter filter = { .run = run, .type = "metrics", .oldest_first = true };
    bm_run_event *events;
    int rc = bm_run_events_list(store, &filter, &events, n, err);

    *out = NULL;
    if (rc == 0 && (*out = bm_calloc(*n + 1, sizeof **out)) == NULL)
        rc = bm_fail(err, BM_NOMEM, "no memory for %zu points of a curve", *n);
    for (size_t i = 0; i < *n && rc == 0; i++)
        take_point(&(*out)[i], &events[i]);
    bm_run_events_free(events, *n);
    if (rc < 0)
        *n = 0;
    return rc;
}
