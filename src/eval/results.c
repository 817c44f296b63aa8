/* results.c - the results of a run in lm-eval's shape, groups put together from their tasks, and its table; see tally.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "eval/stats.h"
#include "eval/tally.h"

/* ---- groups ---- */

/* Tasks below a group, each once, in order. */
static void leaves(const bm_task_list *list, const bm_group *g, bool *in, size_t *out, size_t *n)
{
    for (size_t i = 0; i < g->n_members; i++) {
        const struct bm_member *m = &g->members[i];
        if (m->is_group)
            leaves(list, &list->groups[m->index], in, out, n);
        else if (!in[m->index])
            in[m->index] = true, out[(*n)++] = m->index;
    }
}

typedef struct gathered { double *scores, *errors; size_t *sizes, n; bool with_errors; } gathered;

/* What the group's tasks have under a key. */
static void gather(gathered *g, json_t *const *entries, const size_t *tasks, size_t n_tasks, const char *key, const char *error_key)
{
    g->n = 0;
    g->with_errors = true;
    for (size_t i = 0; i < n_tasks; i++) {
        const json_t *e = entries[tasks[i]], *score = json_object_get(e, key), *error = json_object_get(e, error_key);
        if (!json_is_number(score))
            continue;
        g->scores[g->n] = json_number_value(score);
        g->sizes[g->n] = (size_t)json_integer_value(json_object_get(e, "sample_len"));
        g->errors[g->n] = json_number_value(error);
        g->with_errors = g->with_errors && json_is_number(error);
        g->n++;
    }
}

static void put_group_metric(json_t *out, gathered *g, json_t *const *entries, const size_t *tasks, size_t n_tasks,
                             const bm_group_metric *m, const char *filter)
{
    char key[320], error_key[320];

    snprintf(key, sizeof key, "%s,%s", m->metric, filter);
    snprintf(error_key, sizeof error_key, "%s_stderr,%s", m->metric, filter);
    gather(g, entries, tasks, n_tasks, key, error_key);
    if (g->n == 0)
        return;
    double error = g->with_errors ? bm_group_stderr(g->errors, g->sizes, g->n, m->weight_by_size) : NAN;
    json_object_set_new(out, key, json_real(bm_group_mean(g->scores, g->sizes, g->n, m->weight_by_size)));
    json_object_set_new(out, error_key, isfinite(error) ? json_real(error) : json_string("N/A"));
}

/* Every filter under which any of the tasks has the metric, sorted. */
static void each_filter(json_t *out, gathered *g, json_t *const *entries, const size_t *tasks, size_t n_tasks, const bm_group_metric *m)
{
    size_t len = strlen(m->metric);
    json_t *names = json_object(), *value;
    const char *key;

    for (size_t i = 0; i < n_tasks; i++)
        json_object_foreach(entries[tasks[i]], key, value)
            if (strncmp(key, m->metric, len) == 0 && key[len] == ',')
                json_object_set_new(names, key + len + 1, json_null());
    json_object_foreach(names, key, value)
        put_group_metric(out, g, entries, tasks, n_tasks, m, key);
    json_decref(names);
}

static int group_entry(json_t **out, const bm_task_list *list, const bm_group *group, json_t *const *entries, bm_error *err)
{
    size_t n = 0, documents = 0, *tasks = bm_calloc(2 * list->n_tasks + 1, sizeof *tasks);
    bool *in = bm_calloc(list->n_tasks + 1, sizeof *in);
    double *numbers = bm_calloc(2 * list->n_tasks + 1, sizeof *numbers);
    json_t *o = json_pack("{s:s, s:s}", "alias", group->alias ? group->alias : group->name, "name", group->name);
    int rc = 0;

    *out = NULL;
    if (tasks == NULL || in == NULL || numbers == NULL || o == NULL) {
        rc = bm_fail(err, BM_NOMEM, "no memory for the scores of group %s", group->name);
        goto out;
    }
    gathered g = { numbers, numbers + list->n_tasks, tasks + list->n_tasks, 0, false };
    leaves(list, group, in, tasks, &n);
    for (size_t i = 0; i < n; i++)
        documents += (size_t)json_integer_value(json_object_get(entries[tasks[i]], "sample_len"));
    if (group->n_metrics > 0)
        json_object_set_new(o, "sample_len", json_integer((json_int_t)documents));
    for (size_t i = 0; i < group->n_metrics; i++) {
        const bm_group_metric *m = &group->metrics[i];
        for (size_t f = 0; f < m->n_filters; f++)
            put_group_metric(o, &g, entries, tasks, n, m, m->filters[f]);
        if (m->filters == NULL)
            each_filter(o, &g, entries, tasks, n, m);
    }
    *out = o, o = NULL;
out:
    json_decref(o);
    bm_free(tasks);
    bm_free(in);
    bm_free(numbers);
    return rc;
}

/* ---- the whole ---- */

static void describe_task(json_t *out, const bm_task *task, size_t n_all, size_t n_scored)
{
    json_t *better = json_object();

    for (size_t i = 0; i < task->n_metrics; i++)
        json_object_set_new(better, task->metrics[i].name, json_boolean(task->metrics[i].higher_is_better));
    json_object_set(json_object_get(out, "configs"), task->name, task->config);
    json_object_set_new(json_object_get(out, "versions"), task->name, json_string(task->version));
    json_object_set_new(json_object_get(out, "n-shot"), task->name, json_integer(task->num_fewshot));
    json_object_set_new(json_object_get(out, "higher_is_better"), task->name, better);
    json_object_set_new(json_object_get(out, "n-samples"), task->name,
                        json_pack("{s:I, s:I}", "original", (json_int_t)n_all, "effective", (json_int_t)n_scored));
}

/* Members' names; and what all of them have alike is the group's too. */
static void describe_group(json_t *out, const bm_task_list *list, const bm_group *g)
{
    json_t *names = json_array(), *shots = json_object_get(out, "n-shot"), *higher = json_object_get(out, "higher_is_better");
    json_t *same = NULL, *better = json_object(), *value;
    bool alike = true;
    const char *key;

    for (size_t i = 0; i < g->n_members; i++) {
        const struct bm_member *m = &g->members[i];
        const char *name = m->is_group ? list->groups[m->index].name : list->tasks[m->index]->name;
        json_t *shot = json_object_get(shots, name);
        json_array_append_new(names, json_string(name));
        alike = alike && (same == NULL || json_equal(same, shot));
        same = shot != NULL ? shot : same;
        json_object_foreach(json_object_get(higher, name), key, value) {
            json_t *have = json_object_get(better, key);
            json_object_set(better, key, have == NULL || json_equal(have, value) ? value : json_null());
        }
    }
    json_object_set_new(json_object_get(out, "group_subtasks"), g->name, names);
    json_object_set_new(json_object_get(out, "versions"), g->name, json_string(g->version));
    if (alike && same != NULL)
        json_object_set(shots, g->name, same);
    if (json_object_size(better) > 0)
        json_object_set(higher, g->name, better);
    json_decref(better);
}

int bm_results_make(json_t **out, const bm_task_list *list, bm_tally *const *tallies, const size_t *n_documents, int iterations,
                    bm_error *err)
{
    json_t *o = json_pack("{s:{}, s:{}, s:{}, s:{}, s:{}, s:{}, s:{}, s:{}}", "results", "groups", "group_subtasks", "configs", "versions",
                          "n-shot", "higher_is_better", "n-samples");
    json_t **entries = bm_calloc(list->n_tasks + 1, sizeof *entries), *entry;
    int rc = o != NULL && entries != NULL ? 0 : bm_fail(err, BM_NOMEM, "no memory for results");

    *out = NULL;
    for (size_t i = 0; rc == 0 && i < list->n_tasks; i++)
        if ((rc = bm_tally_results(&entries[i], tallies[i], iterations, err)) == 0) {
            json_object_set(json_object_get(o, "results"), list->tasks[i]->name, entries[i]);
            describe_task(o, list->tasks[i], n_documents[i], (size_t)json_integer_value(json_object_get(entries[i], "sample_len")));
        }
    for (size_t i = list->n_groups; rc == 0 && i-- > 0;)         /* members stand behind the groups that name them */
        if ((rc = group_entry(&entry, list, &list->groups[i], entries, err)) == 0) {
            json_object_set(json_object_get(o, "results"), list->groups[i].name, entry);
            if (list->groups[i].n_metrics > 0)
                json_object_set(json_object_get(o, "groups"), list->groups[i].name, entry);
            json_decref(entry);
            describe_group(o, list, &list->groups[i]);
        }
    for (size_t i = 0; entries != NULL && i < list->n_tasks; i++)
        json_decref(entries[i]);
    bm_free(entries);
    if (rc == 0 && json_object_size(json_object_get(o, "groups")) == 0)
        json_object_del(o, "groups");
    if (rc < 0)
        json_decref(o);
    else
        *out = o;
    return rc;
}

/* ---- the table ---- */

enum { COLUMNS = 9 };
typedef struct row { char cell[COLUMNS][96]; } row;
typedef struct table { row *rows; size_t n, cap; } table;

static row *new_row(table *t)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 32;
        row *more = bm_realloc(t->rows, cap * sizeof *more);
        if (more == NULL)
            return NULL;
        t->rows = more, t->cap = cap;
    }
    memset(&t->rows[t->n], 0, sizeof *t->rows);
    return &t->rows[t->n++];
}

static void number_cell(char cell[96], const json_t *v)
{
    if (json_is_real(v))
        snprintf(cell, 96, "%.4f", json_real_value(v));
    else if (json_is_integer(v))
        snprintf(cell, 96, "%lld", (long long)json_integer_value(v));
    else
        snprintf(cell, 96, "%s", json_is_string(v) ? json_string_value(v) : "N/A");
}

static int compare_keys(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* The metrics of one task or group, by name. */
static bool add_rows(table *t, const json_t *results, const char *name, const json_t *entry, int depth)
{
    const json_t *better = json_object_get(json_object_get(results, "higher_is_better"), name);
    const char *keys[256], *key, *title = name;
    json_t *value;
    size_t n = 0;

    json_object_foreach((json_t *)(uintptr_t)entry, key, value)
        if (strchr(key, ',') != NULL && strstr(key, "_stderr,") == NULL && n < 256)
            keys[n++] = key;
    qsort(keys, n, sizeof *keys, compare_keys);
    title = json_string_value(json_object_get(entry, "alias"));
    for (size_t i = 0; i < n || (i == 0 && n == 0); i++) {
        row *r = new_row(t);
        char metric[128] = "", error_key[320];
        if (r == NULL)
            return false;
        if (i == 0) {
            snprintf(r->cell[0], 96, "%*s%s%s", depth, "", depth > 0 ? "- " : "", title != NULL ? title : name);
            number_cell(r->cell[1], json_object_get(json_object_get(results, "versions"), name));
        }
        if (n == 0)
            break;
        const char *comma = strchr(keys[i], ',');
        snprintf(metric, sizeof metric, "%.*s", (int)(comma - keys[i]), keys[i]);
        snprintf(error_key, sizeof error_key, "%s_stderr%s", metric, comma);
        const json_t *shot = json_object_get(json_object_get(results, "n-shot"), name), *up = json_object_get(better, metric);
        snprintf(r->cell[2], 96, "%s", comma + 1);
        if (shot != NULL)
            number_cell(r->cell[3], shot);
        snprintf(r->cell[4], 96, "%.95s", metric);
        snprintf(r->cell[5], 96, "%s", json_is_true(up) ? "↑" : json_is_false(up) ? "↓" : "");
        number_cell(r->cell[6], json_object_get(entry, keys[i]));
        snprintf(r->cell[7], 96, "±");
        number_cell(r->cell[8], json_object_get(entry, error_key));
    }
    return true;
}

/* Below a group its members, further in. */
static bool add_tree(table *t, const json_t *results, const char *column, const char *name, int depth, json_t *done)
{
    const json_t *entry = json_object_get(json_object_get(results, column), name);
    json_t *member;
    size_t i;

    if (json_object_get(done, name) != NULL)
        return true;
    json_object_set_new(done, name, json_null());
    if (entry != NULL && !add_rows(t, results, name, entry, depth))
        return false;
    json_array_foreach(json_object_get(json_object_get(results, "group_subtasks"), name), i, member)
        if (!add_tree(t, results, column, json_string_value(member), depth + 1, done))
            return false;
    return true;
}

static bool is_member(const json_t *results, const char *name)
{
    const char *group;
    json_t *members, *member;
    size_t i;

    json_object_foreach(json_object_get(results, "group_subtasks"), group, members)
        json_array_foreach(members, i, member)
            if (strcmp(json_string_value(member), name) == 0)
                return true;
    return false;
}

static size_t width_of(const char *s)
{
    size_t n = 0;

    for (; *s != '\0'; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

/* Markdown: numbers to the right, as pytablewriter sets them. */
static void print_table(bm_buf *out, const table *t, const char *first)
{
    const char *heads[COLUMNS] = { first, "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr" };
    static const bool right[COLUMNS] = { [1] = true, [3] = true, [6] = true, [8] = true };
    size_t width[COLUMNS];

    for (int c = 0; c < COLUMNS; c++) {
        width[c] = width_of(heads[c]) > (c == 5 || c == 7 ? 0u : 2u) ? width_of(heads[c]) : c == 5 || c == 7 ? 1u : 3u;
        for (size_t i = 0; i < t->n; i++)
            if (width_of(t->rows[i].cell[c]) > width[c])
                width[c] = width_of(t->rows[i].cell[c]);
    }
    for (long i = -2; i < (long)t->n; i++) {
        for (int c = 0; c < COLUMNS; c++) {
            const char *text = i == -2 ? heads[c] : i >= 0 ? t->rows[i].cell[c] : "";
            int pad = (int)(width[c] - width_of(text));
            bm_buf_putc(out, '|');
            if (i == -1) {
                for (size_t k = 0; k + (right[c] ? 1 : 0) < width[c]; k++)
                    bm_buf_putc(out, '-');
                bm_buf_puts(out, right[c] ? ":" : "");
            } else {
                bm_buf_printf(out, "%*s%s%*s", right[c] && i >= 0 ? pad : 0, "", text, right[c] && i >= 0 ? 0 : pad, "");
            }
        }
        bm_buf_puts(out, "|\n");
    }
}

static int table_of(bm_buf *out, const json_t *results, const char *column, const char *first, bm_error *err)
{
    json_t *done = json_object(), *entry;
    table t = { 0 };
    const char *name;
    bool ok = done != NULL;

    json_object_foreach(json_object_get(results, column), name, entry)
        if (ok && !is_member(results, name))
            ok = add_tree(&t, results, column, name, 0, done);
    if (ok && t.n > 0)
        print_table(out, &t, first);
    json_decref(done);
    bm_free(t.rows);
    return ok && !out->failed ? 0 : bm_fail(err, BM_NOMEM, "no memory for a table");
}

int bm_results_table(bm_buf *out, const json_t *results, bm_error *err)
{
    int rc = table_of(out, results, "results", "Tasks", err);

    if (rc == 0 && json_object_size(json_object_get(results, "groups")) > 0) {
        bm_buf_putc(out, '\n');
        rc = table_of(out, results, "groups", "Groups", err);
    }
    return rc;
}
