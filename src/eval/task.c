/* task.c - a task's life: from a merged map of keys to the resolved value, and its end. Parts that repeat are in task_parts.c. */
#include "eval/task.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "eval/known.h"
#include "eval/task_internal.h"

/* The keys of TaskConfig. Those of a group that a task file may still carry are dropped by lm-eval too. */
static const char *const KEYS[] = {
    "task", "task_alias", "tag", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs", "training_split", "validation_split",
    "test_split", "fewshot_split", "process_docs", "doc_to_text", "doc_to_target", "doc_to_image", "doc_to_audio", "unsafe_code",
    "doc_to_choice", "process_results", "use_prompt", "description", "target_delimiter", "fewshot_delimiter", "fewshot_config",
    "num_fewshot", "metric_list", "output_type", "generation_kwargs", "repeats", "filter_list", "should_decontaminate",
    "doc_to_decontamination_query", "gen_prefix", "metadata"};
enum { N_KEYS = sizeof KEYS / sizeof KEYS[0] };
static const char *const DROPPED[] = {"group", "task_list"};
static const char *const FEWSHOT_KEYS[] = {"sampler", "split", "process_docs", "fewshot_indices", "samples", "doc_to_text", "doc_to_choice",
                                           "doc_to_target", "gen_prefix", "fewshot_delimiter", "target_delimiter"};
enum { N_FEWSHOT_KEYS = sizeof FEWSHOT_KEYS / sizeof FEWSHOT_KEYS[0] };

static int check_keys(const bm_yaml_node *map, const char *const *known, size_t n, const char *what, bm_error *err)
{
    for (size_t i = 0; i < map->n_pairs; i++) {
        const bm_yaml_pair *pair = &map->pairs[i];
        size_t k = 0, near;
        while (k < n && strcmp(known[k], pair->key) != 0)
            k++;
        if (k < n || strcmp(pair->key, DROPPED[0]) == 0 || strcmp(pair->key, DROPPED[1]) == 0)
            continue;
        if (strcmp(pair->key, "class") == 0)
            return bm_source_fail(err, BM_UNSUPPORTED, pair, "a task written as a Python class is not run");
        bm_source_fail(err, BM_INVALID, pair, "no such key in %s", what);
        if (bm_nearest(pair->key, known, n, &near, 1) > 0)
            bm_hint(err, "did you mean %s?", known[near]);
        return err != NULL ? err->code : BM_INVALID;
    }
    return 0;
}

/* What needs more than this program has: images, sounds, code that the model writes, prompts of another package. */
static int check_refused(bm_task_reader *r)
{
    static const struct { const char *key, *why; } refused[] = {
        {"doc_to_image", "images are not read"}, {"doc_to_audio", "sounds are not read"}, {"use_prompt", "promptsource is not read"}};
    const bm_yaml_pair *pair;

    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if ((pair = bm_yaml_get(r->map, refused[i].key)) != NULL && pair->value->kind != BM_YAML_NULL)
            return bm_source_fail(r->err, BM_UNSUPPORTED, pair, "%s", refused[i].why);
    pair = bm_yaml_get(r->map, "custom_dataset");
    if (pair != NULL && pair->value->kind != BM_YAML_NULL)
        return bm_source_fail(r->err, BM_UNSUPPORTED, pair, "Python functions are not run (!function %.80s)",
                              pair->value->kind == BM_YAML_FUNCTION ? pair->value->s : "?");
    pair = bm_yaml_get(r->map, "unsafe_code");
    if (pair != NULL && pair->value->kind == BM_YAML_BOOL && pair->value->b)
        return bm_source_fail(r->err, BM_UNSUPPORTED, pair, "code that a model writes is not run");
    return 0;
}

static int read_output(bm_task_reader *r)
{
    const bm_yaml_pair *pair = bm_yaml_get(r->map, "output_type");

    r->task->output = BM_TASK_GENERATE;
    if (pair == NULL || pair->value->kind == BM_YAML_NULL)
        return 0;
    for (int i = 0; pair->value->kind == BM_YAML_STR && i <= BM_TASK_GENERATE; i++)
        if (strcmp(bm_task_output_name((bm_task_output)i), pair->value->s) == 0) {
            r->task->output = (bm_task_output)i;
            return 0;
        }
    return bm_source_fail(r->err, BM_INVALID, pair, "'%.60s' is not one of multiple_choice, loglikelihood, loglikelihood_rolling, generate_until",
                          pair->value->kind == BM_YAML_STR ? pair->value->s : bm_yaml_kind_name(pair->value->kind));
}

static int read_strings(bm_task_reader *r)
{
    bm_task *t = r->task;
    struct { const char *key; char **out; } strings[] = {
        {"task", &t->name}, {"task_alias", &t->alias}, {"dataset_path", &t->dataset_path}, {"dataset_name", &t->dataset_name},
        {"training_split", &t->training_split}, {"validation_split", &t->validation_split}, {"test_split", &t->test_split},
        {"fewshot_split", &t->fewshot_split}, {"target_delimiter", &t->target_delimiter}, {"fewshot_delimiter", &t->fewshot_delimiter}};
    int rc = 0;

    t->target_delimiter = bm_strdup(" "), t->fewshot_delimiter = bm_strdup("\n\n");
    if (t->target_delimiter == NULL || t->fewshot_delimiter == NULL)
        return bm_task_no_memory(r->err);
    for (size_t i = 0; i < sizeof strings / sizeof strings[0] && rc == 0; i++)
        rc = bm_task_read_string(r, strings[i].out, bm_yaml_get(r->map, strings[i].key));
    if (rc == 0 && (t->name == NULL || t->name[0] == '\0'))
        rc = bm_fail(r->err, BM_INVALID, "%s:%d: task: no name", r->map->file, r->map->line);
    return rc;
}

static int read_tags(bm_task_reader *r)
{
    const bm_yaml_pair *pair = bm_yaml_get(r->map, "tag");
    const bm_yaml_node *v = pair != NULL ? pair->value : NULL;
    size_t n = v == NULL || v->kind == BM_YAML_NULL ? 0 : v->kind == BM_YAML_LIST ? v->n_items : 1;

    if (n == 0)
        return 0;
    if ((r->task->tags = bm_calloc(n, sizeof *r->task->tags)) == NULL)
        return bm_task_no_memory(r->err);
    for (size_t i = 0; i < n; i++) {
        const bm_yaml_node *one = v->kind == BM_YAML_LIST ? v->items[i] : v;
        if (one->kind != BM_YAML_STR)
            return bm_source_fail(r->err, BM_INVALID, pair, "must be a name or a list of names");
        if ((r->task->tags[i] = bm_strdup(one->s)) == NULL)
            return bm_task_no_memory(r->err);
        r->task->n_tags++;
    }
    return 0;
}

/* A field that may be a template, a value or a function of the kinds allowed (a bit for each bm_known_kind). */
static int read_field(bm_task_reader *r, const bm_yaml_node *map, const char *key, bm_task_field *out, unsigned kinds, const char *where)
{
    const bm_yaml_pair *pair = bm_yaml_get(map, key);
    int rc;

    if (pair == NULL || pair->value->kind == BM_YAML_NULL)
        return 0;
    bm_task_field_done(out);
    if ((rc = bm_task_read_field(r, out, pair, where)) < 0)
        return rc;
    if (out->kind == BM_FIELD_KNOWN && (kinds >> out->known->kind & 1) == 0)
        return bm_source_fail(r->err, BM_INVALID, pair, "!function %.80s is of another kind", pair->value->s);
    return 0;
}

enum { MAKES_TEXT = 1u << BM_KNOWN_TEXT | 1u << BM_KNOWN_VALUE, MAKES_DOCS = 1u << BM_KNOWN_DOCS | 1u << BM_KNOWN_KEEP };

/* Keys that hold one template, or one function, and nothing else. */
static int only(bm_task_reader *r, const bm_yaml_node *map, const char *key, const bm_task_field *f, bm_field_kind kind)
{
    if (f->kind == BM_FIELD_NONE || f->kind == kind)
        return 0;
    return bm_source_fail(r->err, BM_INVALID, bm_yaml_get(map, key), kind == BM_FIELD_TEXT ? "must be a string" : "must be a !function");
}

static int read_fields(bm_task_reader *r)
{
    bm_task *t = r->task;
    const bm_yaml_node *map = r->map;
    int rc;

    if ((rc = read_field(r, map, "process_docs", &t->process_docs, MAKES_DOCS, "")) < 0 ||
        (rc = only(r, map, "process_docs", &t->process_docs, BM_FIELD_KNOWN)) < 0 ||
        (rc = read_field(r, map, "process_results", &t->process_results, 1u << BM_KNOWN_RESULTS, "")) < 0 ||
        (rc = only(r, map, "process_results", &t->process_results, BM_FIELD_KNOWN)) < 0 ||
        (rc = read_field(r, map, "doc_to_text", &t->doc_to_text, MAKES_TEXT, "")) < 0 ||
        (rc = read_field(r, map, "doc_to_target", &t->doc_to_target, MAKES_TEXT, "")) < 0 ||
        (rc = read_field(r, map, "doc_to_choice", &t->doc_to_choice, MAKES_TEXT, "")) < 0 ||
        (rc = read_field(r, map, "description", &t->description, 0, "")) < 0 ||
        (rc = only(r, map, "description", &t->description, BM_FIELD_TEXT)) < 0 ||
        (rc = read_field(r, map, "gen_prefix", &t->gen_prefix, 0, "")) < 0)
        return rc;
    return only(r, map, "gen_prefix", &t->gen_prefix, BM_FIELD_TEXT);
}

/* ---- few-shot ---- */

static int inherit_fewshot(bm_task_reader *r)
{
    bm_task *t = r->task;
    int rc;

    if ((t->fewshot_split != NULL && (t->fewshot.split = bm_strdup(t->fewshot_split)) == NULL) ||
        (t->fewshot.target_delimiter = bm_strdup(t->target_delimiter)) == NULL ||
        (t->fewshot.fewshot_delimiter = bm_strdup(t->fewshot_delimiter)) == NULL)
        return bm_task_no_memory(r->err);
    if ((rc = bm_task_copy_field(&t->fewshot.doc_to_text, &t->doc_to_text, r->err)) < 0 ||
        (rc = bm_task_copy_field(&t->fewshot.doc_to_target, &t->doc_to_target, r->err)) < 0 ||
        (rc = bm_task_copy_field(&t->fewshot.doc_to_choice, &t->doc_to_choice, r->err)) < 0 ||
        (rc = bm_task_copy_field(&t->fewshot.gen_prefix, &t->gen_prefix, r->err)) < 0)
        return rc;
    return bm_task_copy_field(&t->fewshot.process_docs, &t->process_docs, r->err);
}

static int read_samples(bm_task_reader *r, const bm_yaml_pair *pair)
{
    json_t *samples;
    int rc;

    if (pair == NULL || pair->value->kind == BM_YAML_NULL)
        return 0;
    if (pair->value->kind != BM_YAML_LIST)
        return bm_source_fail(r->err, pair->value->kind == BM_YAML_FUNCTION ? BM_UNSUPPORTED : BM_INVALID, pair, "%s",
                              pair->value->kind == BM_YAML_FUNCTION ? "Python functions are not run" : "must be a list of documents");
    if ((rc = bm_yaml_to_json(&samples, pair->value, r->err)) < 0)
        return rc;
    r->task->fewshot.samples = samples;
    for (size_t i = 0; i < json_array_size(samples); i++)
        if (!json_is_object(json_array_get(samples, i)))
            return bm_source_fail(r->err, BM_INVALID, pair, "must be a list of documents (maps)");
    return 0;
}

static int read_sampler(bm_task_reader *r, const bm_yaml_pair *pair)
{
    if (pair == NULL || pair->value->kind == BM_YAML_NULL)
        return 0;
    if (pair->value->kind == BM_YAML_FUNCTION)
        return bm_source_fail(r->err, BM_UNSUPPORTED, pair, "Python functions are not run (!function %.80s)", pair->value->s);
    r->task->fewshot.first_n = pair->value->kind == BM_YAML_STR && strcmp(pair->value->s, "first_n") == 0;
    if (!r->task->fewshot.first_n && (pair->value->kind != BM_YAML_STR || strcmp(pair->value->s, "default") != 0))
        return bm_source_fail(r->err, BM_INVALID, pair, "must be default or first_n");
    return 0;
}

static int read_fewshot(bm_task_reader *r)
{
    static const char where[] = "fewshot_config.";
    const bm_yaml_pair *pair = bm_yaml_get(r->map, "fewshot_config");
    bm_task *t = r->task;
    const bm_yaml_node *map;
    int rc = inherit_fewshot(r);

    if (rc < 0 || pair == NULL || pair->value->kind == BM_YAML_NULL)
        return rc;
    map = pair->value;
    if (map->kind != BM_YAML_MAP)
        return bm_source_fail(r->err, BM_INVALID, pair, "must be a map, not %s", bm_yaml_kind_name(map->kind));
    if ((rc = check_keys(map, FEWSHOT_KEYS, N_FEWSHOT_KEYS, "fewshot_config", r->err)) < 0 ||
        (rc = read_sampler(r, bm_yaml_get(map, "sampler"))) < 0 || (rc = read_samples(r, bm_yaml_get(map, "samples"))) < 0 ||
        (rc = bm_task_read_string(r, &t->fewshot.split, bm_yaml_get(map, "split"))) < 0 ||
        (rc = bm_task_read_string(r, &t->fewshot.target_delimiter, bm_yaml_get(map, "target_delimiter"))) < 0 ||
        (rc = bm_task_read_string(r, &t->fewshot.fewshot_delimiter, bm_yaml_get(map, "fewshot_delimiter"))) < 0 ||
        (rc = read_field(r, map, "process_docs", &t->fewshot.process_docs, MAKES_DOCS, where)) < 0 ||
        (rc = read_field(r, map, "doc_to_text", &t->fewshot.doc_to_text, MAKES_TEXT, where)) < 0 ||
        (rc = read_field(r, map, "doc_to_target", &t->fewshot.doc_to_target, MAKES_TEXT, where)) < 0 ||
        (rc = read_field(r, map, "doc_to_choice", &t->fewshot.doc_to_choice, MAKES_TEXT, where)) < 0)
        return rc;
    return read_field(r, map, "gen_prefix", &t->fewshot.gen_prefix, 0, where);
}

/* ---- numbers and maps ---- */

static int read_int(bm_task_reader *r, const char *key, int low, int high, int *out, bool *given)
{
    const bm_yaml_pair *pair = bm_yaml_get(r->map, key);

    if (pair == NULL || pair->value->kind == BM_YAML_NULL)
        return 0;
    if (pair->value->kind != BM_YAML_INT || pair->value->i < low || pair->value->i > high)
        return bm_source_fail(r->err, BM_INVALID, pair, "must be an integer from %d to %d", low, high);
    *out = (int)pair->value->i;
    if (given != NULL)
        *given = true;
    return 0;
}

static int read_object(bm_task_reader *r, const char *key, json_t **out)
{
    const bm_yaml_pair *pair = bm_yaml_get(r->map, key);

    if (pair == NULL || pair->value->kind == BM_YAML_NULL)
        return 0;
    if (pair->value->kind != BM_YAML_MAP)
        return bm_source_fail(r->err, BM_INVALID, pair, "must be a map, not %s", bm_yaml_kind_name(pair->value->kind));
    return bm_yaml_to_json(out, pair->value, r->err);
}

static int read_metadata(bm_task_reader *r)
{
    const bm_yaml_pair *pair = bm_yaml_get(r->map, "metadata");
    json_t *v = NULL;
    int rc;

    if ((r->task->metadata = json_object()) == NULL)
        return bm_task_no_memory(r->err);
    if (pair == NULL)
        return 0;
    if ((rc = bm_yaml_to_json(&v, pair->value, r->err)) < 0)
        return rc;
    if (json_is_object(v)) {
        json_decref(r->task->metadata);
        r->task->metadata = v;
        return 0;
    }
    return json_object_set_new(r->task->metadata, "_metadata", v) != 0 ? bm_task_no_memory(r->err) : 0;
}

/* lm-eval's rules: temperature is a float, `until` has a default; a task without generation_kwargs generates greedily. */
static int read_generation(bm_task_reader *r, const bm_task_options *options)
{
    bm_task *t = r->task;
    json_t *g = NULL, *until;
    int rc = read_object(r, "generation_kwargs", &g);

    if (rc < 0 || (g == NULL && t->output != BM_TASK_GENERATE))
        return rc;
    if (g == NULL)
        g = json_pack("{s:f, s:b, s:i, s:[s]}", "temperature", 0.0, "do_sample", 0, "max_gen_toks", 256, "until", t->fewshot_delimiter);
    if ((t->generation_kwargs = g) == NULL)
        return bm_task_no_memory(r->err);
    if (json_is_integer(json_object_get(g, "temperature")))
        json_object_set_new(g, "temperature", json_real((double)json_integer_value(json_object_get(g, "temperature"))));
    if (json_object_get(g, "until") == NULL && json_object_set_new(g, "until", json_pack("[s]", t->fewshot_delimiter)) != 0)
        return bm_task_no_memory(r->err);
    if (options != NULL && options->gen_kwargs != NULL && json_object_update(g, (json_t *)(uintptr_t)options->gen_kwargs) != 0)
        return bm_task_no_memory(r->err);
    until = json_object_get(g, "until");
    if (!json_is_array(until) && !json_is_string(until) && !json_is_null(until))
        return bm_source_fail(r->err, BM_INVALID, bm_yaml_get(r->map, "generation_kwargs"), "until must be a string or a list of strings");
    for (size_t i = 0; i < json_array_size(until); i++)
        if (!json_is_string(json_array_get(until, i)))
            return bm_source_fail(r->err, BM_INVALID, bm_yaml_get(r->map, "generation_kwargs"), "until must be a string or a list of strings");
    return 0;
}

/* After the configuration is written down as lm-eval has it: `until` as a list, nothing for tasks that do not generate. */
static int normalize_generation(bm_task_reader *r)
{
    json_t *g = r->task->generation_kwargs, *until = json_object_get(g, "until");

    if (g == NULL)
        return 0;
    if (r->task->output != BM_TASK_GENERATE) {
        json_decref(g);
        r->task->generation_kwargs = NULL;
        return 0;
    }
    if ((r->task->generation_kwargs = json_deep_copy(g)) == NULL) {
        r->task->generation_kwargs = g;
        return bm_task_no_memory(r->err);
    }
    json_decref(g);
    g = r->task->generation_kwargs, until = json_object_get(g, "until");
    if (json_is_array(until))
        return 0;
    until = json_is_string(until) ? json_pack("[O]", until) : json_array();
    return json_object_set_new(g, "until", until) != 0 ? bm_task_no_memory(r->err) : 0;
}

static int read_numbers(bm_task_reader *r, const bm_task_options *options)
{
    bm_task *t = r->task;
    int rc;

    t->repeats = 1;
    if ((rc = read_int(r, "num_fewshot", 0, 10000, &t->num_fewshot, &t->num_fewshot_set)) < 0 ||
        (rc = read_int(r, "repeats", 1, 10000, &t->repeats, NULL)) < 0)
        return rc;
    if (options != NULL && options->has_num_fewshot && !(t->num_fewshot_set && t->num_fewshot == 0))
        t->num_fewshot = options->num_fewshot, t->num_fewshot_set = true;
    return 0;
}

static int note_sources(bm_task *t, const bm_source *source, bm_error *err)
{
    if ((t->sources = bm_calloc(source->n_files + 1, sizeof *t->sources)) == NULL)
        return bm_task_no_memory(err);
    for (size_t i = 0; i < source->n_files; i++) {
        if ((t->sources[i] = bm_strdup(source->files[i])) == NULL)
            return bm_task_no_memory(err);
        t->n_sources++;
    }
    return (t->file = bm_strdup(source->n_files > 0 ? source->files[0] : "")) == NULL ? bm_task_no_memory(err) : 0;
}

static int read_all(bm_task_reader *r, const bm_task_options *options)
{
    bm_task *t = r->task;
    int rc;

    if ((rc = check_keys(r->map, KEYS, N_KEYS, "a task", r->err)) < 0 || (rc = read_strings(r)) < 0 || (rc = check_refused(r)) < 0 ||
        (rc = read_output(r)) < 0 || (rc = read_tags(r)) < 0 || (rc = read_fields(r)) < 0 || (rc = read_fewshot(r)) < 0 ||
        (rc = read_numbers(r, options)) < 0 || (rc = read_object(r, "dataset_kwargs", &t->dataset_kwargs)) < 0 ||
        (rc = read_metadata(r)) < 0 || (rc = bm_task_read_version(&t->version, r->map, "Yaml", r->err)) < 0 ||
        (rc = read_generation(r, options)) < 0 || (rc = bm_task_read_metrics(r)) < 0 || (rc = bm_task_read_filters(r)) < 0 ||
        (rc = bm_task_make_config(r)) < 0)
        return rc;
    return normalize_generation(r);
}

int bm_task_from_map(bm_task **out, const bm_source *source, const bm_yaml_node *map, const bm_task_options *options, bm_error *err)
{
    bm_error local = {0};
    bm_task_reader r = {.map = map, .err = err != NULL ? err : &local};
    const bm_yaml_pair *name = bm_yaml_get(map, "task");
    int rc;

    *out = NULL;
    if ((r.task = bm_zalloc(sizeof *r.task)) == NULL)
        return bm_task_no_memory(err);
    r.task->line = name != NULL ? name->line : map->line;
    if ((rc = note_sources(r.task, source, r.err)) < 0 || (rc = read_all(&r, options)) < 0) {
        bm_task_free(r.task);
        return rc;
    }
    *out = r.task;
    return 0;
}

int bm_task_load_file(bm_task **out, const char *path, const bm_task_options *options, bm_error *err)
{
    bm_source source;
    int rc;

    *out = NULL;
    if ((rc = bm_source_read(&source, path, err)) < 0)
        return rc;
    if (bm_yaml_get(source.map, "group") != NULL && bm_yaml_get(source.map, "class") == NULL)
        rc = bm_source_fail(err, BM_INVALID, bm_yaml_get(source.map, "group"), "a group, where a task is wanted");
    else if (bm_yaml_get(source.map, "task") == NULL && bm_yaml_get(source.map, "class") == NULL)
        rc = bm_fail(err, BM_INVALID, "%s:%d: task: missing: neither a task nor a group", path, source.map->line);
    else
        rc = bm_task_from_map(out, &source, source.map, options, err);
    bm_source_done(&source);
    return rc;
}

/* ---- the end ---- */

static void free_metrics(bm_task *t)
{
    for (size_t i = 0; i < t->n_metrics; i++) {
        bm_free(t->metrics[i].name);
        bm_free(t->metrics[i].aggregation);
        json_decref(t->metrics[i].args);
    }
    bm_free(t->metrics);
}

static void free_filters(bm_task *t)
{
    for (size_t i = 0; i < t->n_filters; i++) {
        for (size_t k = 0; k < t->filters[i].n_steps; k++) {
            bm_free(t->filters[i].steps[k].function);
            json_decref(t->filters[i].steps[k].args);
        }
        bm_free(t->filters[i].steps);
        bm_free(t->filters[i].name);
    }
    bm_free(t->filters);
}

static void free_strings(char **list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bm_free(list[i]);
    bm_free(list);
}

void bm_task_free(bm_task *t)
{
    if (t == NULL)
        return;
    bm_task_field *fields[] = {&t->doc_to_text, &t->doc_to_target, &t->doc_to_choice, &t->description, &t->gen_prefix, &t->process_docs,
                               &t->process_results, &t->fewshot.doc_to_text, &t->fewshot.doc_to_target, &t->fewshot.doc_to_choice,
                               &t->fewshot.gen_prefix, &t->fewshot.process_docs};
    char *strings[] = {t->name, t->alias, t->version, t->file, t->dataset_path, t->dataset_name, t->training_split, t->validation_split,
                       t->test_split, t->fewshot_split, t->target_delimiter, t->fewshot_delimiter, t->fewshot.split,
                       t->fewshot.target_delimiter, t->fewshot.fewshot_delimiter};
    json_t *values[] = {t->dataset_kwargs, t->fewshot.samples, t->generation_kwargs, t->metadata, t->config};

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        bm_task_field_done(fields[i]);
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        bm_free(strings[i]);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        json_decref(values[i]);
    free_metrics(t);
    free_filters(t);
    free_strings(t->tags, t->n_tags);
    free_strings(t->sources, t->n_sources);
    bm_free(t);
}
