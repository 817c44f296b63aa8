/* task_config.c - the resolved configuration as JSON: the keys and the order of lm-eval's TaskConfig.to_dict(), without what is null.
 * Functions stand as "!function module.name", where lm-eval prints their source. */
#include <string.h>

#include "eval/task_internal.h"

static int put(bm_task_reader *r, json_t *into, const char *key, json_t *value)
{
    return json_object_set_new(into, key, value) != 0 ? bm_task_no_memory(r->err) : 0;
}

/* A key of the file as it stands there; null or missing: fallback (stolen), and NULL leaves it out. */
static int put_key(bm_task_reader *r, json_t *into, const bm_yaml_node *map, const char *key, json_t *fallback)
{
    const bm_yaml_pair *pair = bm_yaml_get(map, key);
    json_t *v;
    int rc;

    if (pair == NULL || pair->value->kind == BM_YAML_NULL)
        return fallback == NULL ? 0 : put(r, into, key, fallback);
    json_decref(fallback);
    if ((rc = bm_yaml_to_json_named(&v, pair->value, r->err)) < 0)
        return rc;
    return put(r, into, key, v);
}

/* FewshotConfig: its own keys over the task's, null ones included. */
static int put_fewshot(bm_task_reader *r, json_t *into)
{
    static const char *const own[] = {"sampler", "split", "process_docs", "fewshot_indices", "samples", "doc_to_text", "doc_to_choice",
                                      "doc_to_target", "gen_prefix", "fewshot_delimiter", "target_delimiter"};
    const bm_yaml_pair *pair = bm_yaml_get(r->map, "fewshot_config");
    json_t *config = json_object(), *v;
    int rc = config == NULL || json_object_set_new(into, "fewshot_config", config) != 0 ? bm_task_no_memory(r->err) : 0;

    for (size_t i = 0; i < sizeof own / sizeof own[0] && rc == 0; i++) {
        const char *inherited = strcmp(own[i], "split") == 0 ? "fewshot_split" : own[i];
        bool inherits = i != 0 && i != 3 && i != 4;      /* not sampler, fewshot_indices, samples */
        const bm_yaml_pair *here = pair != NULL ? bm_yaml_get(pair->value, own[i]) : NULL;
        if (here != NULL) {
            rc = bm_yaml_to_json_named(&v, here->value, r->err);
        } else {
            v = i == 0 ? json_string("default") : NULL;
            if (inherits && bm_yaml_get(r->map, inherited) != NULL)
                rc = bm_yaml_to_json_named(&v, bm_yaml_get(r->map, inherited)->value, r->err);
            else if (inherits)
                v = json_incref(json_object_get(into, inherited));       /* the delimiters' defaults */
            v = v == NULL ? json_null() : v;
        }
        if (rc == 0)
            rc = put(r, config, own[i], v);
    }
    return rc;
}

static int put_tail(bm_task_reader *r, json_t *c)
{
    const bm_task *t = r->task;
    const bm_yaml_node *map = r->map;
    int rc = put_fewshot(r, c);

    if (rc == 0 && t->num_fewshot_set)
        rc = put(r, c, "num_fewshot", json_integer(t->num_fewshot));
    if (rc < 0 || (rc = put_key(r, c, map, "metric_list", NULL)) < 0 || (rc = put_key(r, c, map, "output_type", json_string("generate_until"))) < 0)
        return rc;
    if (t->generation_kwargs != NULL && (rc = put(r, c, "generation_kwargs", json_deep_copy(t->generation_kwargs))) < 0)
        return rc;
    if ((rc = put_key(r, c, map, "repeats", json_integer(1))) < 0 || (rc = put_key(r, c, map, "filter_list", NULL)) < 0 ||
        (rc = put_key(r, c, map, "should_decontaminate", json_false())) < 0 ||
        (rc = put_key(r, c, map, "doc_to_decontamination_query", NULL)) < 0 || (rc = put_key(r, c, map, "gen_prefix", NULL)) < 0)
        return rc;
    return put(r, c, "metadata", json_deep_copy(t->metadata));
}

int bm_task_make_config(bm_task_reader *r)
{
    static const char *const head[] = {"task", "task_alias", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs",
        "training_split", "validation_split", "test_split", "fewshot_split", "process_docs", "doc_to_text", "doc_to_target", "doc_to_image",
        "doc_to_audio"};
    const bm_yaml_node *map = r->map;
    json_t *c = r->task->config = json_object();
    int rc = c == NULL ? bm_task_no_memory(r->err) : 0;

    for (size_t i = 0; i < sizeof head / sizeof head[0] && rc == 0; i++)
        rc = put_key(r, c, map, head[i], NULL);
    if (rc < 0 || (rc = put_key(r, c, map, "unsafe_code", json_false())) < 0 || (rc = put_key(r, c, map, "doc_to_choice", NULL)) < 0 ||
        (rc = put_key(r, c, map, "process_results", NULL)) < 0 || (rc = put_key(r, c, map, "description", json_string(""))) < 0 ||
        (rc = put_key(r, c, map, "target_delimiter", json_string(" "))) < 0 ||
        (rc = put_key(r, c, map, "fewshot_delimiter", json_string("\n\n"))) < 0)
        return rc;
    return put_tail(r, c);
}
