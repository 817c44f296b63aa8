/* dump_ifeval.c - for tests/oracle/eval/: standard input: lines of {"doc", "response"}; output: [strict, loose] lists, or {"error"};
 * {"sentences"}: a text whose sentences, capital words and language are asked for. */
#include <stdio.h>
#include <stdlib.h>

#include "eval/ifeval.h"
#include "eval/ifeval_text.h"

static json_t *flags(const bool *v, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_boolean(v[i]));
    return list;
}

static json_t *check(const json_t *in)
{
    const json_t *text = json_object_get(in, "text"), *response = json_object_get(in, "response");
    bm_ifeval_result r;
    bm_error err = {0};
    size_t capitals = 0;

    if (text != NULL) {
        const char *code = bm_ifeval_language(json_string_value(text), json_string_length(text));
        bm_ifeval_capital_words(&capitals, json_string_value(text), json_string_length(text), &err);
        return json_pack("[I, I, s?]", (json_int_t)bm_ifeval_sentences(json_string_value(text), json_string_length(text)), (json_int_t)capitals, code);
    }
    if (bm_ifeval_check(&r, json_object_get(in, "doc"), json_string_value(response), json_string_length(response), &err) < 0)
        return json_pack("{s:s}", "error", err.msg);
    json_t *out = json_pack("[o, o]", flags(r.strict, r.n), flags(r.loose, r.n));
    bm_ifeval_result_done(&r);
    return out;
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;

    while ((len = getline(&line, &cap, stdin)) > 0) {
        json_t *in = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, NULL), *out = check(in);
        char *text = json_dumps(out, JSON_COMPACT);
        puts(text);
        free(text);
        json_decref(in), json_decref(out);
    }
    free(line);
    return 0;
}
