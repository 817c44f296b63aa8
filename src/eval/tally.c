/* tally.c - lines of samples, written and read; see tally.h. */
#include "eval/tally.h"

#include <math.h>
#include <string.h>

#include "base/json_out.h"
#include "base/mem.h"
#include "eval/filter.h"

/* ---- writing ---- */

static int doc_hash(const json_t *doc, char hex[65], bm_error *err)
{
    bm_buf text = { 0 };
    bm_json j = { &text, false };
    bm_sha256 sum;
    int rc;

    bm_json_value(&j, doc);
    rc = text.failed ? bm_fail(err, BM_NOMEM, "no memory for the hash of a document") : bm_sha256_bytes(&sum, text.data, text.len, err);
    if (rc == 0)
        bm_hex(hex, sum.bytes, sizeof sum.bytes);
    bm_buf_done(&text);
    return rc;
}

static bool same_context(const bm_request_text *a, const bm_request_text *b)
{
    return a->len_context == b->len_context && (a->len_context == 0 || memcmp(a->context, b->context, a->len_context) == 0);
}

static void write_requests(bm_json *j, const bm_task *task, const bm_scored *doc)
{
    const bm_sample *s = doc->sample;

    bm_json_key(j, "context");
    bm_json_strn(j, s->requests[0].context, s->requests[0].len_context);
    if (task->output == BM_TASK_GENERATE) {
        bm_json_key(j, "responses");
        bm_json_value(j, doc->answers[0].responses);
        return;
    }
    bm_json_key(j, "requests");
    bm_json_open(j, '[');
    for (size_t i = 0; i < s->n_requests; i++) {
        bm_json_open(j, '{');
        if (!same_context(&s->requests[i], &s->requests[0])) {
            bm_json_key(j, "context");
            bm_json_strn(j, s->requests[i].context, s->requests[i].len_context);
        }
        bm_json_key(j, "continuation");
        bm_json_strn(j, s->requests[i].continuation, s->requests[i].len_continuation);
        bm_json_kdouble(j, "logprob", doc->answers[i].logprob);
        bm_json_kbool(j, "greedy", doc->answers[i].greedy);
        bm_json_close(j, '}');
    }
    bm_json_close(j, ']');
}

static int write_filters(bm_json *j, const bm_task *task, const bm_scored *doc, bm_error *err)
{
    int rc;

    bm_json_key(j, "filters");
    bm_json_open(j, '{');
    for (size_t i = 0; i < task->n_filters; i++) {
        json_t *filtered = NULL, *metrics;
        if (task->output == BM_TASK_GENERATE &&
            (rc = bm_filter_apply(&filtered, &task->filters[i], doc->answers[0].responses, doc->sample->doc, err)) < 0)
            return rc;
        if ((rc = bm_metrics_of(&metrics, task, doc->sample, doc->answers, filtered, err)) < 0) {
            json_decref(filtered);
            return rc;
        }
        bm_json_key(j, task->filters[i].name);
        bm_json_open(j, '{');
        if (filtered != NULL) {
            bm_json_key(j, "filtered");
            bm_json_value(j, filtered);
        }
        bm_json_key(j, "metrics");
        bm_json_value(j, metrics);
        bm_json_close(j, '}');
        json_decref(filtered);
        json_decref(metrics);
    }
    bm_json_close(j, '}');
    return 0;
}

static void write_error(bm_json *j, const bm_error *error)
{
    bm_json_key(j, "error");
    bm_json_open(j, '{');
    bm_json_kstr(j, "code", bm_error_slug(error->code));
    bm_json_kstr(j, "message", error->msg);
    bm_json_close(j, '}');
}

int bm_sample_line(bm_buf *out, const bm_task *task, const bm_scored *doc, bm_error *err)
{
    bm_json j = { out, false };
    bm_error own = { 0 };
    char hash[65];
    bm_buf scored = { 0 };
    bm_json js = { &scored, false };
    int rc = doc_hash(doc->sample->doc, hash, err);

    if (rc < 0)
        return rc;
    bm_json_open(&j, '{');
    bm_json_kint(&j, "doc_id", (int64_t)doc->sample->doc_id);
    bm_json_kstr(&j, "doc_hash", hash);
    if (doc->error == NULL) {                /* first aside: filters and metrics may fail */
        bm_json_open(&js, '{');
        rc = write_filters(&js, task, doc, &own);
    }
    if (doc->error != NULL || rc < 0) {
        write_error(&j, doc->error != NULL ? doc->error : &own);
    } else {
        bm_json_key(&j, "target");
        bm_json_value(&j, doc->sample->target);
        write_requests(&j, task, doc);
        bm_json_kint(&j, "n_tokens", doc->n_tokens);
        bm_buf_putc(out, ',');
        bm_buf_add(out, scored.data + 1, scored.len - 1);
    }
    bm_json_close(&j, '}');
    bm_buf_putc(out, '\n');
    bool failed = out->failed || scored.failed;
    bm_buf_done(&scored);
    return failed ? bm_fail(err, BM_NOMEM, "no memory for the record of a document") : 0;
}

/* ---- reading ---- */

struct bm_tally {
    const bm_task *task;
    size_t n, cap, n_failed;
    json_t **values;             /* [cap][n_filters * n_metrics]: document by document; NULL: none */
};

int bm_tally_new(bm_tally **out, const bm_task *task, bm_error *err)
{
    *out = bm_zalloc(sizeof **out);
    if (*out == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the scores of %s", task->name);
    (*out)->task = task;
    return 0;
}

static size_t per_doc(const bm_tally *t) { return t->task->n_filters * t->task->n_metrics; }

void bm_tally_free(bm_tally *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->n * per_doc(t); i++)
        json_decref(t->values[i]);
    bm_free(t->values);
    bm_free(t);
}

size_t bm_tally_count(const bm_tally *t) { return t->n; }
size_t bm_tally_failed(const bm_tally *t) { return t->n_failed; }

static int grow(bm_tally *t, bm_error *err)
{
    size_t cap = t->cap ? 2 * t->cap : 256, bytes;
    json_t **more;

    if (t->n < t->cap)
        return 0;
    if (!bm_mul_size(cap * (per_doc(t) + 1), sizeof *more, &bytes) || (more = bm_realloc(t->values, bytes)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the scores of %zu documents", cap);
    t->values = more;
    t->cap = cap;
    return 0;
}

int bm_tally_add(bm_tally *t, const char *line, size_t len, bm_error *err)
{
    json_error_t why;
    json_t *o = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why), *id = json_object_get(o, "doc_id");
    int rc;

    if (!json_is_integer(id) || json_integer_value(id) != (json_int_t)t->n || (!json_object_get(o, "filters") && !json_object_get(o, "error"))) {
        json_decref(o);
        return bm_fail(err, BM_FORMAT, "line %zu of the samples of %s is not that of document %zu", t->n + 1, t->task->name, t->n);
    }
    if ((rc = grow(t, err)) < 0) {
        json_decref(o);
        return rc;
    }
    json_t **at = t->values + t->n * per_doc(t);
    for (size_t f = 0; f < t->task->n_filters; f++) {
        const json_t *metrics = json_object_get(json_object_get(json_object_get(o, "filters"), t->task->filters[f].name), "metrics");
        for (size_t m = 0; m < t->task->n_metrics; m++)
            *at++ = json_incref(json_object_get(metrics, t->task->metrics[m].name));
    }
    t->n_failed += json_object_get(o, "error") != NULL;
    t->n++;
    json_decref(o);
    return 0;
}

/* ---- scores ---- */

static json_t *number_or_na(double x) { return isfinite(x) ? json_real(x) : json_string("N/A"); }

static int add_metric(json_t *out, const bm_tally *t, size_t f, size_t m, int iterations, size_t *most, bm_error *err)
{
    const bm_metric *metric = &t->task->metrics[m];
    json_t **column = bm_calloc(t->n + 1, sizeof *column);
    double score, error;
    char key[320];
    size_t n;
    int rc;

    if (column == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the scores of %zu documents", t->n);
    for (size_t i = 0; i < t->n; i++)
        column[i] = t->values[i * per_doc(t) + f * t->task->n_metrics + m];
    rc = bm_metrics_total(metric, column, t->n, iterations, &score, &error, &n, err);
    bm_free(column);
    if (rc < 0)
        return rc;
    *most = n > *most ? n : *most;
    snprintf(key, sizeof key, "%s,%s", metric->name, t->task->filters[f].name);
    json_object_set_new(out, key, number_or_na(score));
    snprintf(key, sizeof key, "%s_stderr,%s", metric->name, t->task->filters[f].name);
    json_object_set_new(out, key, number_or_na(error));
    return 0;
}

int bm_tally_results(json_t **out, const bm_tally *t, int iterations, bm_error *err)
{
    json_t *o = json_pack("{s:s, s:s, s:i}", "name", t->task->name, "alias", t->task->alias ? t->task->alias : t->task->name,
                          "sample_len", 0);
    size_t most = 0;
    int rc = o ? 0 : bm_fail(err, BM_NOMEM, "no memory for results");

    *out = NULL;
    for (size_t f = 0; rc == 0 && f < t->task->n_filters; f++)
        for (size_t m = 0; rc == 0 && m < t->task->n_metrics; m++)
            rc = add_metric(o, t, f, m, iterations, &most, err);
    if (rc < 0) {
        json_decref(o);
        return rc;
    }
    json_object_set_new(o, "sample_len", json_integer((json_int_t)most));
    *out = o;
    return 0;
}
