/* tuning.c - /v1/fine_tuning/jobs: OpenAI's routes of fine-tuning over this server's runs, so that its clients tune here.
 *
 * What a request may say: model, training_file, validation_file, suffix, seed, hyperparameters or method (supervised, dpo). Among
 * the hyperparameters stand OpenAI's (n_epochs, batch_size, learning_rate_multiplier of 2e-4, beta; "auto" is the default) and every
 * setting of platform/tune.c under its own name (rank, lr, max_length, ...). Anything else is refused by name.
 * States: stopping is still "running", stopped is "cancelled". Jobs started by the command line are listed too. */
#include "server/tuning.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/number.h"
#include "platform/jobs.h"
#include "platform/shelf.h"
#include "platform/tune.h"
#include "store/uploads.h"

enum { MOST_ROWS = 1000 };
static const double base_lr = 2e-4;

int64_t bm_ask_sees(const bm_key *key) { return (key->scopes & BM_SCOPE_ADMIN) != 0 ? 0 : key->id; }

void bm_list_open(bm_json *j)
{
    bm_json_open(j, '{');
    bm_json_kstr(j, "object", "list");
    bm_json_key(j, "data");
    bm_json_open(j, '[');
}

void bm_list_close(bm_json *j, bool has_more)
{
    bm_json_close(j, ']');
    bm_json_kbool(j, "has_more", has_more);
    bm_json_close(j, '}');
}

/* ---- a job as JSON ---- */

static const char *status_of(const bm_run_row *run)
{
    return strcmp(run->state, "stopping") == 0 ? "running" : strcmp(run->state, "stopped") == 0 ? "cancelled" : run->state;
}

static void write_hyperparameters(bm_json *j, const json_t *settings, bool dpo)
{
    bm_json_open(j, '{');
    bm_json_key(j, "n_epochs");
    double epochs = json_number_value(json_object_get(settings, "epochs"));
    if (epochs == (double)(int64_t)epochs)
        bm_json_int(j, (int64_t)epochs);
    else
        bm_json_double(j, epochs);
    bm_json_kint(j, "batch_size", json_integer_value(json_object_get(settings, "batch_size")));
    bm_json_kdouble(j, "learning_rate_multiplier", json_number_value(json_object_get(settings, "lr")) / base_lr);
    if (dpo)
        bm_json_kdouble(j, "beta", json_number_value(json_object_get(settings, "beta")));
    bm_json_close(j, '}');
}

/* The id of an uploaded file, else the last part of its path. */
static void write_data(bm_json *j, const bm_run_row *run)
{
    json_t *list = json_loads(run->data, 0, NULL);

    for (size_t i = 0; i < 2; i++) {
        const char *path = json_string_value(json_object_get(json_array_get(list, i), "path"));
        const char *slash = path == NULL ? NULL : strrchr(path, '/');
        const char *name = slash != NULL ? slash + 1 : path;
        bm_json_kstr(j, i == 0 ? "training_file" : "validation_file", name == NULL && i == 0 ? "" : name);
    }
    json_decref(list);
}

static void write_time(bm_json *j, const char *key, int64_t ms)
{
    bm_json_key(j, key);
    if (ms > 0)
        bm_json_int(j, ms / 1000);
    else
        bm_json_null(j);
}

static void write_error(bm_json *j, const bm_run_row *run)
{
    bm_json_key(j, "error");
    if (strcmp(run->state, "failed") != 0) {
        bm_json_null(j);
        return;
    }
    bm_json_open(j, '{');
    bm_json_kstr(j, "code", "failed");
    bm_json_kstr(j, "message", run->error);
    bm_json_kstr(j, "param", NULL);
    bm_json_kstr(j, "hint", run->hint[0] != '\0' ? run->hint : NULL);
    bm_json_close(j, '}');
}

static void write_job(bm_json *j, const bm_run_row *run)
{
    json_t *settings = json_loads(run->settings, 0, NULL);
    const char *method = json_string_value(json_object_get(settings, "method"));
    bool dpo = method != NULL && strcmp(method, "dpo") == 0, ok = strcmp(run->state, "succeeded") == 0;

    bm_json_open(j, '{');
    bm_json_kstr(j, "id", run->id);
    bm_json_kstr(j, "object", "fine_tuning.job");
    write_time(j, "created_at", run->created_ms);
    write_time(j, "finished_at", run->finished_ms);
    bm_json_kstr(j, "model", run->model);
    bm_json_kstr(j, "fine_tuned_model", ok ? run->name : NULL);
    bm_json_kstr(j, "organization_id", "baimo");
    bm_json_key(j, "result_files");
    bm_json_open(j, '[');
    bm_json_close(j, ']');
    bm_json_kstr(j, "status", status_of(run));
    write_data(j, run);
    bm_json_key(j, "hyperparameters");
    write_hyperparameters(j, settings, dpo);
    bm_json_key(j, "method");
    bm_json_open(j, '{');
    bm_json_kstr(j, "type", dpo ? "dpo" : "supervised");
    bm_json_key(j, dpo ? "dpo" : "supervised");
    bm_json_open(j, '{');
    bm_json_key(j, "hyperparameters");
    write_hyperparameters(j, settings, dpo);
    bm_json_close(j, '}');
    bm_json_close(j, '}');
    bm_json_kint(j, "seed", run->seed);
    bm_json_key(j, "trained_tokens");
    if (ok)
        bm_json_int(j, run->tokens);
    else
        bm_json_null(j);
    write_error(j, run);
    bm_json_key(j, "integrations");
    bm_json_open(j, '[');
    bm_json_close(j, ']');
    bm_json_kint(j, "step", run->step);
    bm_json_kint(j, "n_steps", run->n_steps);
    bm_json_close(j, '}');
    json_decref(settings);
}

/* ---- making one ---- */

static int refuse(bm_ask *ask, const char *param, const char *fmt, const char *value)
{
    bm_fail(&ask->err, BM_INVALID, fmt, value);
    return bm_param(&ask->err, param), BM_INVALID;
}

static bool is_auto(const json_t *value)
{
    return json_is_null(value) || (json_is_string(value) && strcmp(json_string_value(value), "auto") == 0);
}

/* OpenAI's names become ours, in a copy. */
static int take_hyperparameters(bm_ask *ask, bm_tune_request *r, json_t *object, const char *prefix)
{
    static const char *const names[][2] = { { "n_epochs", "epochs" }, { "batch_size", "batch_size" }, { "beta", "beta" } };
    const json_t *multiplier = json_object_get(object, "learning_rate_multiplier");

    if (object == NULL || json_is_null(object))
        return 0;
    if (!json_is_object(object))
        return refuse(ask, prefix, "%s: expected an object", prefix);
    if (multiplier != NULL && !is_auto(multiplier)) {
        if (!json_is_number(multiplier) || json_number_value(multiplier) <= 0)
            return refuse(ask, prefix, "%s: expected a number above 0, or auto", "learning_rate_multiplier");
        r->lr = base_lr * json_number_value(multiplier);
    }
    json_object_del(object, "learning_rate_multiplier");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *value = json_incref(json_object_get(object, names[i][0]));
        json_object_del(object, names[i][0]);
        if (value != NULL && !is_auto(value))
            json_object_set(object, names[i][1], value);
        json_decref(value);
    }
    return bm_tune_read(r, object, prefix, &ask->err);
}

static int take_method(bm_ask *ask, bm_tune_request *r, const json_t *method)
{
    const char *type = json_string_value(json_object_get(method, "type"));

    if (method == NULL || json_is_null(method))
        return 0;
    if (type == NULL || (strcmp(type, "supervised") != 0 && strcmp(type, "dpo") != 0))
        return refuse(ask, "method.type", "method.type: expected supervised or dpo, found '%.40s'",
                      type == NULL ? "nothing" : type);
    r->method = strcmp(type, "dpo") == 0 ? "dpo" : "sft";
    return take_hyperparameters(ask, r, json_object_get(json_object_get(method, type), "hyperparameters"),
                                strcmp(type, "dpo") == 0 ? "method.dpo.hyperparameters" : "method.supervised.hyperparameters");
}

/* The path of an uploaded file that this key may see; the caller's to bm_buf_done. */
static int take_file(bm_ask *ask, const json_t *body, const char *field, bm_buf *path)
{
    const json_t *value = json_object_get(body, field);
    const char *id = json_string_value(value);
    int64_t sees = bm_ask_sees(&ask->key);
    bm_upload_row row;
    int rc;

    if (value == NULL || json_is_null(value))
        return 0;
    if (id == NULL)
        return refuse(ask, field, "%s: expected the id of a file", field);
    if ((rc = bm_uploads_find(ask->server->options.store, id, &row, &ask->err)) == 0 && sees != 0 && row.key_id != sees)
        rc = bm_fail(&ask->err, BM_NOTFOUND, "there is no file '%.60s'", id);
    if (rc == 0)
        rc = bm_files_path(ask->server, id, path, &ask->err);
    return rc < 0 ? bm_param(&ask->err, field) : 0;
}

static int check_fields(bm_ask *ask, const json_t *body)
{
    static const char known[] = " model training_file validation_file suffix seed hyperparameters method integrations metadata ";
    const char *key;
    char padded[80];
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)body, key, value) {
        snprintf(padded, sizeof padded, " %.70s ", key);
        if (strstr(known, padded) == NULL)
            return refuse(ask, key, "there is no field '%.60s'", key);
    }
    value = json_object_get(body, "integrations");
    if (value != NULL && !json_is_null(value) && json_array_size(value) > 0)
        return refuse(ask, "integrations", "%s are not carried out here", "integrations");
    if (!json_is_string(json_object_get(body, "model")))
        return refuse(ask, "model", "%s: expected the name of a model", "model");
    if (!json_is_string(json_object_get(body, "training_file")))
        return refuse(ask, "training_file", "%s: expected the id of a file", "training_file");
    return 0;
}

/* "ft:MODEL:SUFFIX:6 digits": free on any shelf. */
static int name_adapter(bm_ask *ask, const char *model, const json_t *suffix, char out[128])
{
    unsigned char random[3];
    char hex[7];
    const char *text = json_is_string(suffix) ? json_string_value(suffix) : "tuned";
    int rc = bm_random_bytes(random, sizeof random, &ask->err);

    if (suffix != NULL && !json_is_null(suffix) && !json_is_string(suffix))
        return refuse(ask, "suffix", "%s: expected a string", "suffix");
    if (rc < 0)
        return rc;
    if (strlen(text) > 64)
        return refuse(ask, "suffix", "%s: expected at most 64 bytes", "suffix");
    bm_hex(hex, random, sizeof random);
    snprintf(out, 128, "ft:%.48s:%s:%s", model, text, hex);
    return 0;
}

/* By name, never by path: a request must not learn which files there are. */
static int find_model(bm_ask *ask, const char *name, bm_shelf_model *row)
{
    int rc = bm_shelf_find(ask->server->options.store, name, row, &ask->err);

    return rc < 0 ? bm_param(&ask->err, "model") : 0;
}

static int create(bm_ask *ask, json_t *body, bm_run_row *run)
{
    const char *model = json_string_value(json_object_get(body, "model"));
    bm_buf train = { 0 }, valid = { 0 };
    bm_shelf_model row;
    bm_tune_request r;
    char name[128];
    int rc;

    bm_tune_defaults(&r);
    const json_t *seed = json_object_get(body, "seed");
    if (seed != NULL && !json_is_null(seed) && (!json_is_integer(seed) || json_integer_value(seed) < 0))
        return refuse(ask, "seed", "%s: expected a whole number from 0", "seed");
    r.seed = json_integer_value(seed);
    if ((rc = take_hyperparameters(ask, &r, json_object_get(body, "hyperparameters"), "hyperparameters")) == 0 &&
        (rc = take_method(ask, &r, json_object_get(body, "method"))) == 0 &&
        (rc = take_file(ask, body, "training_file", &train)) == 0 && (rc = take_file(ask, body, "validation_file", &valid)) == 0 &&
        (rc = find_model(ask, model, &row)) == 0 &&
        (rc = name_adapter(ask, row.name, json_object_get(body, "suffix"), name)) == 0) {
        r.model = row.name;
        r.name = name;
        r.data[0].path = train.data;
        r.n_data = 1;
        r.valid_data = valid.data;
        rc = bm_tune_create(ask->server->options.store, &r, ask->key.id, run, &ask->err);
    }
    bm_buf_done(&valid);
    bm_buf_done(&train);
    return rc;
}

static int fill_create(bm_ask *ask)
{
    bm_json j = { &ask->out, false };
    bm_run_row run = { 0 };
    json_t *body;
    int rc = bm_ask_json(ask, &body);

    if (rc == 0 && (rc = check_fields(ask, body)) == 0 && (rc = create(ask, body, &run)) == 0) {
        write_job(&j, &run);
        bm_jobs_wake(ask->server->options.jobs);
    }
    bm_run_row_done(&run);
    json_decref(body);
    return rc;
}

/* ---- the others ---- */

static int find_job(bm_ask *ask, bm_run_row *run)
{
    int64_t sees = bm_ask_sees(&ask->key);
    char id[64];
    int rc = bm_ask_segment(ask, 3, id, sizeof id);

    if (rc < 0 || (rc = bm_runs_find(ask->server->options.store, id, run, &ask->err)) < 0)
        return rc;
    if (strcmp(run->kind, "tune") == 0 && (sees == 0 || sees == run->key_id))
        return 0;
    bm_run_row_done(run);
    return bm_fail(&ask->err, BM_NOTFOUND, "there is no tuning job '%s'", id);
}

static int fill_job(bm_ask *ask)
{
    bm_json j = { &ask->out, false };
    bm_run_row run;
    int rc = find_job(ask, &run);

    if (rc == 0)
        write_job(&j, &run), bm_run_row_done(&run);
    return rc;
}

static int fill_jobs(bm_ask *ask)
{
    bm_json j = { &ask->out, false };
    bm_runs_filter filter = { .kind = "tune", .key_id = bm_ask_sees(&ask->key) };
    char after[64];
    bm_run_row *rows;
    int64_t most;
    size_t n;
    int rc;

    if ((rc = bm_ask_param(ask, "after", after, sizeof after)) < 0 ||
        (rc = bm_ask_count(ask, "limit", 1, MOST_ROWS, 20, &most)) < 0)
        return rc;
    filter.after = after, filter.most = (size_t)most + 1;
    if ((rc = bm_runs_list(ask->server->options.store, &filter, &rows, &n, &ask->err)) < 0)
        return rc;
    bm_list_open(&j);
    for (size_t i = 0; i < n && i < (size_t)most; i++)
        write_job(&j, &rows[i]);
    bm_list_close(&j, n > (size_t)most);
    bm_runs_free(rows, n);
    return 0;
}

/* POST .../cancel, .../pause and .../resume: the job as it is after. */
static int change(bm_ask *ask, int (*how)(bm_store *store, const char *id, bm_error *err))
{
    bm_json j = { &ask->out, false };
    bm_store *store = ask->server->options.store;
    bm_run_row run, now;
    int rc = find_job(ask, &run);

    if (rc < 0)
        return rc;
    if ((rc = how(store, run.id, &ask->err)) == 0 && (rc = bm_runs_find(store, run.id, &now, &ask->err)) == 0) {
        write_job(&j, &now);
        bm_run_row_done(&now);
        bm_jobs_wake(ask->server->options.jobs);
    }
    bm_run_row_done(&run);
    return rc;
}

static int fill_cancel(bm_ask *ask) { return change(ask, bm_job_stop); }
static int fill_resume(bm_ask *ask) { return change(ask, bm_job_resume); }

/* What a step's event says in words, as OpenAI's does; others have their own. */
static void write_event_message(bm_json *j, const bm_run_event *e, const json_t *data)
{
    double loss = json_number_value(json_object_get(data, "loss")), valid = json_number_value(json_object_get(data, "valid_loss"));
    char text[160];

    if (strcmp(e->type, "metrics") == 0 && json_object_get(data, "valid_loss") != NULL)
        snprintf(text, sizeof text, "Step %lld: validation loss=%.4f", (long long)e->step, valid);
    else if (strcmp(e->type, "metrics") == 0)
        snprintf(text, sizeof text, "Step %lld: training loss=%.4f", (long long)e->step, loss);
    else if (strcmp(e->type, "checkpoint") == 0)
        snprintf(text, sizeof text, "Checkpoint at step %lld", (long long)e->step);
    else
        text[0] = '\0';
    bm_json_kstr(j, "message", text[0] != '\0' ? text : e->message);
}

static void write_event(bm_json *j, const bm_run_event *e)
{
    json_t *data = json_loads(e->data, 0, NULL);
    char id[40];

    snprintf(id, sizeof id, "ftevent-%lld", (long long)e->id);
    bm_json_open(j, '{');
    bm_json_kstr(j, "id", id);
    bm_json_kstr(j, "object", "fine_tuning.job.event");
    bm_json_kint(j, "created_at", e->at_ms / 1000);
    bm_json_kstr(j, "level", e->level);
    write_event_message(j, e, data);
    bm_json_kstr(j, "type", strcmp(e->type, "metrics") == 0 ? "metrics" : "message");
    bm_json_key(j, "data");
    if (json_is_object(data))
        bm_json_raw(j, e->data, strlen(e->data));
    else
        bm_json_null(j);
    bm_json_close(j, '}');
    json_decref(data);
}

static void write_checkpoint(bm_json *j, const bm_run_event *e, const bm_run_row *run)
{
    char id[80], name[200];

    snprintf(id, sizeof id, "ftckpt-%s-%lld", run->id + strlen("ftjob-"), (long long)e->step);
    snprintf(name, sizeof name, "%s:ckpt-step-%lld", run->name, (long long)e->step);
    bm_json_open(j, '{');
    bm_json_kstr(j, "id", id);
    bm_json_kstr(j, "object", "fine_tuning.job.checkpoint");
    bm_json_kint(j, "created_at", e->at_ms / 1000);
    bm_json_kstr(j, "fine_tuned_model_checkpoint", name);
    bm_json_kstr(j, "fine_tuning_job_id", run->id);
    bm_json_kint(j, "step_number", e->step);
    bm_json_key(j, "metrics");
    bm_json_open(j, '{');
    bm_json_kint(j, "step", e->step);
    bm_json_close(j, '}');
    bm_json_close(j, '}');
}

/* Events or checkpoints of a job, the latest first; `after` is the id of one of them. */
static int list_events(bm_ask *ask, const char *type, int64_t fallback)
{
    bm_json j = { &ask->out, false };
    bm_run_events_filter filter = { .type = type };
    bm_run_event *events = NULL;
    bm_run_row run;
    char after[64];
    int64_t most;
    size_t n = 0;
    int rc;

    if ((rc = bm_ask_param(ask, "after", after, sizeof after)) < 0 ||
        (rc = bm_ask_count(ask, "limit", 1, MOST_ROWS, fallback, &most)) < 0 || (rc = find_job(ask, &run)) < 0)
        return rc;
    if (strncmp(after, "ftevent-", 8) == 0 && bm_parse_int(after + 8, 1, INT64_MAX, &filter.after))
        (void)0;
    else if (after[0] != '\0')
        rc = refuse(ask, "after", "after: '%.40s' is not the id of an event", after);
    filter.run = run.number, filter.most = (size_t)most + 1;
    if (rc == 0 && (rc = bm_run_events_list(ask->server->options.store, &filter, &events, &n, &ask->err)) == 0) {
        bm_list_open(&j);
        for (size_t i = 0; i < n && i < (size_t)most; i++) {
            if (type == NULL)
                write_event(&j, &events[i]);
            else
                write_checkpoint(&j, &events[i], &run);
        }
        bm_list_close(&j, n > (size_t)most);
    }
    bm_run_events_free(events, n);
    bm_run_row_done(&run);
    return rc;
}

static int fill_events(bm_ask *ask) { return list_events(ask, NULL, 20); }
static int fill_checkpoints(bm_ask *ask) { return list_events(ask, "checkpoint", 10); }

void bm_route_tune_create(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_create); }
void bm_route_tune_jobs(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_jobs); }
void bm_route_tune_job(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_job); }
void bm_route_tune_cancel(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_cancel); }
void bm_route_tune_resume(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_resume); }
void bm_route_tune_events(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_events); }
void bm_route_tune_checkpoints(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_checkpoints); }
