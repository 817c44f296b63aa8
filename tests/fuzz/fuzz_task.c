/* fuzz_task.c - a task file as the input: YAML, the task that it makes, its templates over one document, and its text as a literal. */
#include <stdint.h>
#include <stdlib.h>

#include "eval/fields.h"
#include "eval/literal.h"
#include "eval/source.h"
#include "eval/task_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const bm_task *task)
{
    static json_t *doc;
    bm_field field;
    bm_error err;
    json_t *v = NULL;

    if (doc == NULL)
        doc = json_loads("{\"q\": \"a question\", \"a\": 1, \"l\": [\"x\", \"y\"], \"d\": {\"k\": null}}", 0, NULL);
    if (bm_field_open(&field, &task->doc_to_text, "doc_to_text", NULL, &err) == 0 && bm_field_text(&v, &field, doc, true, &err) == 0)
        json_decref(v);
    bm_field_done(&field);
    if (bm_field_open(&field, &task->doc_to_choice, "doc_to_choice", NULL, &err) == 0 && bm_field_choices(&v, &field, doc, &err) == 0)
        json_decref(v);
    bm_field_done(&field);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bm_source source = {.arena.limit_bytes = 64 << 20};
    const bm_yaml_node *map;
    bm_task *task = NULL;
    json_t *v = NULL;
    bm_error err;

    if (bm_yaml_parse(&source.arena, &map, (const char *)data, size, "fuzz.yaml", &err) == 0) {
        if (bm_yaml_to_json_named(&v, map, &err) == 0)
            json_decref(v);
        if (map->kind == BM_YAML_MAP && bm_task_from_map(&task, &source, map, NULL, &err) == 0)
            use(task);
    }
    bm_task_free(task);
    bm_arena_done(&source.arena);
    if (bm_literal_parse(&v, (const char *)data, size, &err) == 0)
        json_decref(v);
    return 0;
}
