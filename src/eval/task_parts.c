/* task_parts.c - the parts of a task that repeat: doc_to_* fields, metrics, filters. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "eval/known.h"
#include "eval/task_internal.h"
#include "text/regex.h"
#include "text/template.h"

int bm_task_no_memory(bm_error *err)
{
    return bm_fail(err, BM_NOMEM, "no memory for a task");
}

int bm_task_read_string(bm_task_reader *r, char **out, const bm_yaml_pair *pair)
{
    const bm_yaml_node *v = pair != NULL ? pair->value : NULL;

    if (v == NULL || v->kind == BM_YAML_NULL)
        return 0;
    if (v->kind != BM_YAML_STR)
        return bm_source_fail(r->err, BM_INVALID, pair, "must be a string, not %s", bm_yaml_kind_name(v->kind));
    if (strlen(v->s) != v->len)
        return bm_source_fail(r->err, BM_INVALID, pair, "a NUL character");
    bm_free(*out);
    *out = bm_strndup(v->s, v->len);
    return *out == NULL ? bm_task_no_memory(r->err) : 0;
}

int bm_task_read_version(char **out, const bm_yaml_node *map, const char *fallback, bm_error *err)
{
    const bm_yaml_pair *metadata = bm_yaml_get(map, "metadata");
    const bm_yaml_pair *version = metadata != NULL ? bm_yaml_get(metadata->value, "version") : NULL;
    const bm_yaml_node *v = version != NULL ? version->value : NULL;
    char text[40];

    snprintf(text, sizeof text, "%.39s", fallback);
    if (v != NULL && v->kind == BM_YAML_STR)
        snprintf(text, sizeof text, "%.39s", v->s);
    else if (v != NULL && v->kind == BM_YAML_INT)
        snprintf(text, sizeof text, "%lld", (long long)v->i);
    else if (v != NULL && v->kind == BM_YAML_REAL)
        bm_number_write(text, v->f);
    return (*out = bm_strdup(text)) == NULL ? bm_task_no_memory(err) : 0;
}

/* ---- fields ---- */

void bm_task_field_done(bm_task_field *field)
{
    bm_free(field->text);
    json_decref(field->value);
    memset(field, 0, sizeof *field);
}

int bm_task_copy_field(bm_task_field *out, const bm_task_field *from, bm_error *err)
{
    *out = *from;
    out->value = json_incref(from->value);
    if (from->text != NULL && (out->text = bm_strndup(from->text, from->len_text)) == NULL)
        return bm_task_no_memory(err);
    return 0;
}

static int read_template(bm_task_reader *r, bm_task_field *out, const bm_yaml_pair *pair, const char *where)
{
    bm_template *compiled;
    int rc;

    out->kind = BM_FIELD_TEXT;
    out->len_text = pair->value->len;
    if ((out->text = bm_strndup(pair->value->s, out->len_text)) == NULL)
        return bm_task_no_memory(r->err);
    if ((rc = bm_template_compile_plain(&compiled, out->text, out->len_text, r->err)) < 0) {
        bm_wrap(r->err, "the template");
        bm_wrap(r->err, "%s%s", where, pair->key);
        bm_wrap(r->err, "%s:%d", pair->file, pair->value->line);
        return rc;
    }
    bm_template_free(compiled);
    return 0;
}

static int read_known(bm_task_reader *r, bm_task_field *out, const bm_yaml_pair *pair, const char *where)
{
    const char *file = pair->value->file, *slash = strrchr(file, '/');
    char dir[4096], why[200];

    snprintf(dir, sizeof dir, "%.*s", slash == NULL ? 1 : (int)(slash - file), slash == NULL ? "." : file);
    out->kind = BM_FIELD_KNOWN;
    if ((out->known = bm_known_find(dir, pair->value->s, why)) != NULL)
        return 0;
    bm_fail(r->err, BM_UNSUPPORTED, "%s%s: !function %.80s: %s", where, pair->key, pair->value->s, why);
    return bm_wrap(r->err, "%s:%d", pair->file, pair->value->line);
}

int bm_task_read_field(bm_task_reader *r, bm_task_field *out, const bm_yaml_pair *pair, const char *where)
{
    out->line = pair->line;
    out->file = r->task->file;                           /* when it comes from a group's overrides */
    for (size_t i = 0; i < r->task->n_sources; i++)
        if (strcmp(r->task->sources[i], pair->file) == 0)
            out->file = r->task->sources[i];
    switch (pair->value->kind) {
    case BM_YAML_NULL:
        return 0;
    case BM_YAML_STR:
        return read_template(r, out, pair, where);
    case BM_YAML_FUNCTION:
        return read_known(r, out, pair, where);
    case BM_YAML_BOOL:                                   /* an int in Python */
    case BM_YAML_INT:
        out->kind = BM_FIELD_VALUE;
        out->value = json_integer(pair->value->kind == BM_YAML_BOOL ? pair->value->b : pair->value->i);
        return out->value == NULL ? bm_task_no_memory(r->err) : 0;
    case BM_YAML_LIST:
    case BM_YAML_MAP:
        out->kind = BM_FIELD_VALUE;
        return bm_yaml_to_json(&out->value, pair->value, r->err);
    default:
        bm_fail(r->err, BM_INVALID, "%s%s: must be a template, an integer or a list, not %s", where, pair->key, bm_yaml_kind_name(pair->value->kind));
        return bm_wrap(r->err, "%s:%d", pair->file, pair->line);
    }
}

/* ---- metrics ---- */

static int metric_fail(bm_task_reader *r, int code, const bm_yaml_node *at, size_t i, const char *key, const char *what, const char *name)
{
    bm_fail(r->err, code, "metric_list[%zu]%s%s: %s%.60s", i, *key != '\0' ? "." : "", key, what, name);
    return bm_wrap(r->err, "%s:%d", at->file, at->line);
}

static int read_aggregation(bm_task_reader *r, bm_metric *m, const bm_yaml_node *map, size_t i, const bm_metric_kind *kind)
{
    const bm_yaml_pair *pair = bm_yaml_get(map, "aggregation");
    bm_task_field field = {0};
    const char *name = kind != NULL ? kind->aggregation : "mean";
    int rc;

    if (pair != NULL && pair->value->kind == BM_YAML_FUNCTION) {
        if ((rc = read_known(r, &field, pair, "metric_list.")) < 0)
            return rc;
        m->aggregation_known = field.known;
        return field.known->kind == BM_KNOWN_AGGREGATION ? 0
             : metric_fail(r, BM_UNSUPPORTED, pair->value, i, "aggregation", "not an aggregation: ", pair->value->s);
    }
    if (pair != NULL && pair->value->kind != BM_YAML_STR)
        return metric_fail(r, BM_INVALID, pair->value, i, "aggregation", "must be a name", "");
    if (pair != NULL)
        name = pair->value->s;
    else if (kind == NULL)
        return metric_fail(r, BM_INVALID, map, i, "aggregation", "missing, and there is no default for ", m->name);
    if (!bm_aggregation_known(name))
        return metric_fail(r, BM_UNSUPPORTED, pair != NULL ? pair->value : map, i, "aggregation", "not carried out here: ", name);
    return (m->aggregation = bm_strdup(name)) == NULL ? bm_task_no_memory(r->err) : 0;
}

static int read_metric_args(bm_task_reader *r, bm_metric *m, const bm_yaml_node *map)
{
    static const char *const structural[] = {"metric", "aggregation", "higher_is_better", "hf_evaluate"};
    json_t *v;
    int rc;

    if ((m->args = json_object()) == NULL)
        return bm_task_no_memory(r->err);
    for (size_t i = 0; i < map->n_pairs; i++) {
        bool skip = false;
        for (size_t k = 0; k < sizeof structural / sizeof structural[0]; k++)
            skip |= strcmp(map->pairs[i].key, structural[k]) == 0;
        if (skip)
            continue;
        if ((rc = bm_yaml_to_json(&v, map->pairs[i].value, r->err)) < 0)
            return rc;
        if (json_object_set_new_nocheck(m->args, map->pairs[i].key, v) != 0)
            return bm_task_no_memory(r->err);
    }
    return 0;
}

static int check_ignored(bm_task_reader *r, const bm_metric *m, const bm_yaml_node *map, size_t i)
{
    const json_t *list = json_object_get(m->args, "regexes_to_ignore");
    bm_regex *regex;

    if (list != NULL && !json_is_null(list) && !json_is_array(list))
        return metric_fail(r, BM_INVALID, map, i, "regexes_to_ignore", "must be a list of strings", "");
    for (size_t k = 0; k < json_array_size(list); k++) {
        const json_t *s = json_array_get(list, k);
        if (!json_is_string(s))
            return metric_fail(r, BM_INVALID, map, i, "regexes_to_ignore", "must be a list of strings", "");
        int rc = bm_regex_compile(&regex, json_string_value(s), json_string_length(s), 0, r->err);
        if (rc < 0) {
            bm_wrap(r->err, "metric_list[%zu].regexes_to_ignore[%zu]", i, k);
            bm_wrap(r->err, "%s:%d", map->file, map->line);
            return rc;
        }
        bm_regex_free(regex);
    }
    return 0;
}

static int read_metric(bm_task_reader *r, bm_metric *m, const bm_yaml_node *map, size_t i)
{
    const bm_yaml_pair *name = bm_yaml_get(map, "metric"), *higher = bm_yaml_get(map, "higher_is_better"), *hf = bm_yaml_get(map, "hf_evaluate");
    bool own_results = r->task->process_results.kind == BM_FIELD_KNOWN;
    const bm_metric_kind *kind;
    int rc;

    if (name == NULL)
        return metric_fail(r, BM_INVALID, map, i, "metric", "missing", "");
    if (name->value->kind == BM_YAML_FUNCTION)
        return metric_fail(r, BM_UNSUPPORTED, name->value, i, "metric", "Python functions are not run: !function ", name->value->s);
    if (name->value->kind != BM_YAML_STR)
        return metric_fail(r, BM_INVALID, name->value, i, "metric", "must be a name", "");
    if ((m->name = bm_strdup(name->value->s)) == NULL)
        return bm_task_no_memory(r->err);
    kind = bm_metric_kind_find(m->name);
    if (!own_results && (kind == NULL || (hf != NULL && hf->value->kind == BM_YAML_BOOL && hf->value->b)))
        return metric_fail(r, BM_UNSUPPORTED, name->value, i, "metric", kind == NULL ? "not carried out here: " : "hf_evaluate is not: ", m->name);
    if ((rc = read_aggregation(r, m, map, i, kind)) < 0 || (rc = read_metric_args(r, m, map)) < 0)
        return rc;
    if (higher != NULL && higher->value->kind != BM_YAML_BOOL)
        return metric_fail(r, BM_INVALID, higher->value, i, "higher_is_better", "must be true or false", "");
    m->higher_is_better = higher != NULL ? higher->value->b : kind == NULL || kind->higher_is_better;
    return check_ignored(r, m, map, i);
}

static int default_metrics(bm_task_reader *r)
{
    static const char *const names[][3] = {[BM_TASK_MULTIPLE_CHOICE] = {"acc", "acc_norm"}, [BM_TASK_LOGLIKELIHOOD] = {"perplexity", "acc"},
        [BM_TASK_ROLLING] = {"word_perplexity", "byte_perplexity", "bits_per_byte"}, [BM_TASK_GENERATE] = {"exact_match"}};
    const char *const *list = names[r->task->output];

    if ((r->task->metrics = bm_calloc(3, sizeof *r->task->metrics)) == NULL)
        return bm_task_no_memory(r->err);
    for (size_t i = 0; i < 3 && list[i] != NULL; i++) {
        const bm_metric_kind *kind = bm_metric_kind_find(list[i]);
        bm_metric *m = &r->task->metrics[r->task->n_metrics++];
        m->higher_is_better = kind->higher_is_better;
        m->name = bm_strdup(kind->name), m->aggregation = bm_strdup(kind->aggregation), m->args = json_object();
        if (m->name == NULL || m->aggregation == NULL || m->args == NULL)
            return bm_task_no_memory(r->err);
    }
    return 0;
}

int bm_task_read_metrics(bm_task_reader *r)
{
    const bm_yaml_pair *pair = bm_yaml_get(r->map, "metric_list");
    const bm_yaml_node *list = pair != NULL ? pair->value : NULL;
    int rc = 0;

    if (list == NULL || list->kind == BM_YAML_NULL)
        return default_metrics(r);
    if (list->kind != BM_YAML_LIST)
        return bm_source_fail(r->err, BM_INVALID, pair, "must be a list, not %s", bm_yaml_kind_name(list->kind));
    if ((r->task->metrics = bm_calloc(list->n_items + 1, sizeof *r->task->metrics)) == NULL)
        return bm_task_no_memory(r->err);
    for (size_t i = 0; i < list->n_items && rc == 0; i++) {
        if (list->items[i]->kind != BM_YAML_MAP)
            return metric_fail(r, BM_INVALID, list->items[i], i, "", "must be a map", "");
        rc = read_metric(r, &r->task->metrics[r->task->n_metrics++], list->items[i], i);
    }
    return rc;
}

/* ---- filters ---- */

static int filter_fail(bm_task_reader *r, int code, const bm_yaml_node *at, size_t i, const char *what, const char *name)
{
    bm_fail(r->err, code, "filter_list[%zu]: %s%.80s", i, what, name);
    return bm_wrap(r->err, "%s:%d", at->file, at->line);
}

static int check_step(bm_task_reader *r, const bm_filter_step *step, const bm_yaml_node *map, size_t i)
{
    const json_t *pattern = json_object_get(step->args, "regex_pattern"), *k = json_object_get(step->args, "k");
    bm_regex *regex;
    int rc;

    if (strcmp(step->function, "take_first_k") == 0 && !json_is_integer(k))
        return filter_fail(r, BM_INVALID, map, i, "take_first_k needs an integer k", "");
    if (pattern == NULL)
        return 0;
    if (!json_is_string(pattern))
        return filter_fail(r, BM_INVALID, map, i, "regex_pattern must be a string", "");
    if ((rc = bm_regex_compile(&regex, json_string_value(pattern), json_string_length(pattern), 0, r->err)) < 0) {
        bm_wrap(r->err, "filter_list[%zu].regex_pattern", i);
        bm_wrap(r->err, "%s:%d", map->file, map->line);
        return rc;
    }
    bm_regex_free(regex);
    return 0;
}

static int read_step(bm_task_reader *r, bm_filter_step *step, const bm_yaml_node *map, size_t i)
{
    const bm_yaml_pair *function = bm_yaml_get(map, "function");
    json_t *v;
    int rc;

    if (map->kind != BM_YAML_MAP || function == NULL)
        return filter_fail(r, BM_INVALID, map, i, "each step is a map with `function`", "");
    if (function->value->kind == BM_YAML_FUNCTION)
        return filter_fail(r, BM_UNSUPPORTED, function->value, i, "Python functions are not run: !function ", function->value->s);
    if (function->value->kind != BM_YAML_STR || !bm_filter_name_known(function->value->s))
        return filter_fail(r, BM_UNSUPPORTED, function->value, i, "no such filter here: ", function->value->kind == BM_YAML_STR ? function->value->s : "?");
    if ((step->function = bm_strdup(function->value->s)) == NULL || (step->args = json_object()) == NULL)
        return bm_task_no_memory(r->err);
    for (size_t k = 0; k < map->n_pairs; k++) {
        if (strcmp(map->pairs[k].key, "function") == 0)
            continue;
        if ((rc = bm_yaml_to_json(&v, map->pairs[k].value, r->err)) < 0)
            return rc;
        if (json_object_set_new_nocheck(step->args, map->pairs[k].key, v) != 0)
            return bm_task_no_memory(r->err);
    }
    return check_step(r, step, map, i);
}

static int read_filter(bm_task_reader *r, bm_filter *f, const bm_yaml_node *map, size_t i)
{
    const bm_yaml_pair *name = bm_yaml_get(map, "name"), *steps = bm_yaml_get(map, "filter");
    int rc = 0;

    if (map->kind != BM_YAML_MAP || name == NULL || name->value->kind != BM_YAML_STR || steps == NULL || steps->value->kind != BM_YAML_LIST)
        return filter_fail(r, BM_INVALID, map, i, "must be a map with a `name` and a list `filter`", "");
    f->name = bm_strdup(name->value->s);
    f->steps = bm_calloc(steps->value->n_items + 1, sizeof *f->steps);
    if (f->name == NULL || f->steps == NULL)
        return bm_task_no_memory(r->err);
    for (size_t k = 0; k < steps->value->n_items && rc == 0; k++)
        rc = read_step(r, &f->steps[f->n_steps++], steps->value->items[k], i);
    return rc;
}

static int default_filter(bm_task_reader *r)
{
    bm_filter *f = r->task->filters = bm_zalloc(sizeof *f);

    if (f == NULL)
        return bm_task_no_memory(r->err);
    r->task->n_filters = 1;
    f->name = bm_strdup("none");
    if ((f->steps = bm_zalloc(sizeof *f->steps)) == NULL)
        return bm_task_no_memory(r->err);
    f->n_steps = 1;
    f->steps->function = bm_strdup("take_first");
    f->steps->args = json_object();
    return f->name == NULL || f->steps->function == NULL || f->steps->args == NULL ? bm_task_no_memory(r->err) : 0;
}

int bm_task_read_filters(bm_task_reader *r)
{
    const bm_yaml_pair *pair = bm_yaml_get(r->map, "filter_list");
    const bm_yaml_node *list = pair != NULL ? pair->value : NULL;
    int rc = 0;

    if (list == NULL || list->kind == BM_YAML_NULL)
        return default_filter(r);
    if (list->kind != BM_YAML_LIST)
        return bm_source_fail(r->err, BM_INVALID, pair, "must be a list, not %s", bm_yaml_kind_name(list->kind));
    if ((r->task->filters = bm_calloc(list->n_items + 1, sizeof *r->task->filters)) == NULL)
        return bm_task_no_memory(r->err);
    for (size_t i = 0; i < list->n_items && rc == 0; i++)
        rc = read_filter(r, &r->task->filters[r->task->n_filters++], list->items[i], i);
    return rc;
}
