/* compare.c - see compare.h. */
#include "eval/compare.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

enum { MAX_BYTES = 1 << 30, MAX_METRICS = 64 };

typedef struct lines { char *text; size_t len, at; } lines;

/* The next line as an object, NULL behind the last one. A line that is none ends the file. */
static json_t *next_line(lines *l)
{
    const char *end = l->at < l->len ? memchr(l->text + l->at, '\n', l->len - l->at) : NULL;
    json_t *o;

    if (end == NULL)
        return NULL;
    o = json_loadb(l->text + l->at, (size_t)(end - l->text) - l->at, JSON_ALLOW_NUL, NULL);
    l->at = (size_t)(end - l->text) + 1;
    return o;
}

typedef struct column { char metric[64], filter[64]; double *a, *b; long *ids; size_t n, cap; } column;
typedef struct table { column columns[MAX_METRICS]; size_t n; } table;

static column *find_column(table *t, const char *filter, const char *metric)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->columns[i].metric, metric) == 0 && strcmp(t->columns[i].filter, filter) == 0)
            return &t->columns[i];
    if (t->n == MAX_METRICS)
        return NULL;
    column *c = &t->columns[t->n++];
    snprintf(c->metric, sizeof c->metric, "%s", metric);
    snprintf(c->filter, sizeof c->filter, "%s", filter);
    return c;
}

static bool add_pair(column *c, long id, double a, double b)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 256;
        double *ma = bm_realloc(c->a, cap * sizeof *ma), *mb;
        long *ids;
        if (ma == NULL)
            return false;
        c->a = ma;
        if ((mb = bm_realloc(c->b, cap * sizeof *mb)) == NULL)
            return false;
        c->b = mb;
        if ((ids = bm_realloc(c->ids, cap * sizeof *ids)) == NULL)
            return false;
        c->ids = ids, c->cap = cap;
    }
    c->a[c->n] = a, c->b[c->n] = b, c->ids[c->n++] = id;
    return true;
}

/* Numbers that both documents have. */
static bool add_doc(table *t, long id, const json_t *a, const json_t *b)
{
    const char *filter, *metric;
    json_t *entry, *value;

    json_object_foreach(json_object_get(a, "filters"), filter, entry)
        json_object_foreach(json_object_get(entry, "metrics"), metric, value) {
            const json_t *other = json_object_get(json_object_get(json_object_get(json_object_get(b, "filters"), filter), "metrics"), metric);
            column *c = json_is_number(value) && json_is_number(other) ? find_column(t, filter, metric) : NULL;
            if (c != NULL && !add_pair(c, id, json_number_value(value), json_number_value(other)))
                return false;
        }
    return true;
}

static int conclude(bm_compared *out, const column *c)
{
    snprintf(out->metric, sizeof out->metric, "%s", c->metric);
    snprintf(out->filter, sizeof out->filter, "%s", c->filter);
    out->paired = bm_paired_compare(c->a, c->b, c->n);
    if ((out->changed = bm_calloc(c->n + 1, sizeof *out->changed)) == NULL)
        return BM_NOMEM;
    for (size_t i = 0; i < c->n; i++) {
        out->mean_a += c->a[i] / (double)c->n;
        out->mean_b += c->b[i] / (double)c->n;
        if (c->a[i] != c->b[i])
            out->changed[out->n_changed++] = (bm_changed){ c->ids[i], c->a[i], c->b[i] };
    }
    return 0;
}

static int pair_up(bm_comparison *out, table *t, lines *a, lines *b, bm_error *err)
{
    bool ok = true;

    while (ok) {
        json_t *x = next_line(a), *y = next_line(b);
        const char *hx = json_string_value(json_object_get(x, "doc_hash")), *hy = json_string_value(json_object_get(y, "doc_hash"));
        bool alike = hx != NULL && hy != NULL && strcmp(hx, hy) == 0;
        if (alike) {
            out->n_documents++;
            ok = add_doc(t, (long)json_integer_value(json_object_get(x, "doc_id")), x, y);
        } else if (x != NULL || y != NULL) {
            out->n_unlike++;
        }
        bool end = x == NULL && y == NULL;
        json_decref(x);
        json_decref(y);
        if (end)
            break;
    }
    return ok ? 0 : bm_fail(err, BM_NOMEM, "no memory for a comparison");
}

int bm_compare_samples(bm_comparison *out, const char *path_a, const char *path_b, bm_error *err)
{
    lines a = { 0 }, b = { 0 };
    table *t = bm_zalloc(sizeof *t);
    int rc = t ? 0 : bm_fail(err, BM_NOMEM, "no memory for a comparison");

    *out = (bm_comparison){ 0 };
    if (rc == 0 && (rc = bm_read_file(&a.text, &a.len, path_a, MAX_BYTES, err)) == 0 &&
        (rc = bm_read_file(&b.text, &b.len, path_b, MAX_BYTES, err)) == 0)
        rc = pair_up(out, t, &a, &b, err);
    if (rc == 0 && (out->metrics = bm_calloc(t->n + 1, sizeof *out->metrics)) == NULL)
        rc = bm_fail(err, BM_NOMEM, "no memory for a comparison");
    for (size_t i = 0; rc == 0 && i < t->n; i++)
        if (conclude(&out->metrics[out->n_metrics++], &t->columns[i]) < 0)
            rc = bm_fail(err, BM_NOMEM, "no memory for a comparison");
    for (size_t i = 0; t != NULL && i < t->n; i++) {
        bm_free(t->columns[i].a);
        bm_free(t->columns[i].b);
        bm_free(t->columns[i].ids);
    }
    bm_free(t);
    bm_free(a.text);
    bm_free(b.text);
    if (rc < 0)
        bm_comparison_done(out);
    return rc;
}

void bm_comparison_done(bm_comparison *c)
{
    for (size_t i = 0; c->metrics != NULL && i < c->n_metrics; i++)
        bm_free(c->metrics[i].changed);
    bm_free(c->metrics);
    *c = (bm_comparison){ 0 };
}
