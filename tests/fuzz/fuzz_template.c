/* fuzz_template.c - a template as the input: compiled and rendered with small budgets. The first byte chooses what it is given. */
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/template.h"

static const char *const MESSAGES[] = {
    "[{\"role\": \"user\", \"content\": \"Hello World\"}]",
    "[{\"role\": \"system\", \"content\": \" S\\u00e9\\ud83c\\udf89 \"}, {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a,b\\nc\"}]}, "
    "{\"role\": \"assistant\", \"content\": null, \"reasoning_content\": \"think\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": "
    "{\"x\": [1, 2.5, \"z\"], \"y\": {\"k\": null}}}}]}, {\"role\": \"tool\", \"content\": \"{}\"}]",
    "[]",
    "[{\"role\": \"\", \"content\": \"\", \"n\": -1, \"big\": 9223372036854775807, \"f\": 1e308, \"t\": true, \"items\": [], \"\": {}}, {}]",
};

static json_t *messages[4], *tools, *vars;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const bm_rendered *r)
{
    size_t at = 0;

    for (size_t i = 0; i < r->n_spans; i++) {
        if (r->spans[i].begin != at || r->spans[i].end <= at)
            abort();
        at = r->spans[i].end;
    }
    if (at != r->len || r->text[r->len] != '\0')
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bm_template *t = NULL;
    bm_rendered out;
    bm_error err;

    if (tools == NULL) {
        for (int i = 0; i < 4; i++)
            messages[i] = json_loads(MESSAGES[i], 0, NULL);
        tools = json_loads("[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\"}}}]", 0, NULL);
        vars = json_loads("{\"s\": \"a b\", \"l\": [3, 1, 2], \"d\": {\"b\": 1, \"a\": [2]}, \"n\": 7, \"f\": 2.5, \"enable_thinking\": false}", 0, NULL);
    }
    if (size < 1)
        return 0;
    bm_render_options o = {.messages = messages[data[0] & 3], .tools = data[0] & 4 ? tools : NULL, .vars = data[0] & 8 ? vars : NULL,
                           .bos_token = data[0] & 16 ? "<s>" : NULL, .add_generation_prompt = (data[0] & 32) != 0, .now_s = 1,
                           .max_steps = 20000, .max_output_bytes = 1 << 16};
    if (bm_template_compile(&t, (const char *)data + 1, size - 1, &err) < 0)
        return 0;
    if (bm_template_render(t, &o, &out, &err) == 0)
        check(&out);
    bm_rendered_done(&out);
    bm_template_free(t);
    return 0;
}
