/* dump_render.c - for tests/oracle/eval/: templates of task files rendered over documents.
 * Standard input: lines of {"template", "doc"}, or {"known": a function's name, "doc"}; output: {"text"} or {"error"}, and "literal" where
 * the text is a Python literal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "eval/known.h"
#include "eval/literal.h"
#include "text/template.h"

static const char *source_of(const json_t *in)
{
    const char *name = json_string_value(json_object_get(in, "known"));
    size_t n;
    const bm_known *table = bm_known_table(&n);

    for (size_t i = 0; name != NULL && i < n; i++)
        if (strcmp(table[i].name, name) == 0 && table[i].template_text != NULL)
            return table[i].template_text;
    return json_string_value(json_object_get(in, "template"));
}

static json_t *render(const json_t *in)
{
    const char *source = source_of(in);
    bm_render_options o = {.vars = json_object_get(in, "doc")};
    bm_template *tmpl = NULL;
    bm_rendered r = {0};
    bm_error err = {0};
    json_t *out = json_object(), *literal;

    if (bm_template_compile_plain(&tmpl, source, strlen(source), &err) < 0 ||
        bm_template_render(tmpl, &o, &r, &err) < 0) {
        json_object_set_new(out, "error", json_string(err.msg));
    } else {
        json_object_set_new(out, "text", json_stringn(r.text, r.len));
        if (bm_literal_parse(&literal, r.text, r.len, &err) == 0)
            json_object_set_new(out, "literal", literal);
    }
    bm_rendered_done(&r);
    bm_template_free(tmpl);
    return out;
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;

    while ((len = getline(&line, &cap, stdin)) > 0) {
        json_t *in = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, NULL), *out = render(in);
        char *text = json_dumps(out, JSON_COMPACT | JSON_ENCODE_ANY);
        puts(text);
        free(text);
        json_decref(in), json_decref(out);
    }
    free(line);
    return 0;
}
