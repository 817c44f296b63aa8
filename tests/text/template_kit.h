/* template_kit.h - run cases of {"template", "messages", ..., "expected" or "error"} as the oracle's scripts write them. A case
 * without "template" gives the other keys of the cases after it. */
#pragma once
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "text/template.h"

static inline const char *kit_text(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* Render one case. Returns bm_template_compile's or bm_template_render's code. */
static inline int kit_render(const json_t *c, bm_rendered *out, bm_error *err)
{
    const json_t *source = json_object_get(c, "template"), *messages = json_object_get(c, "messages");
    bm_render_options o = {.messages = messages, .tools = json_object_get(c, "tools"), .vars = json_object_get(c, "vars"),
                           .bos_token = kit_text(c, "bos"), .eos_token = kit_text(c, "eos"),
                           .add_generation_prompt = json_is_true(json_object_get(c, "add_generation_prompt")),
                           .now_s = json_integer_value(json_object_get(c, "now"))};
    json_t *none = json_array();
    bm_template *t = NULL;
    int rc;

    if (o.messages == NULL)
        o.messages = none;
    memset(out, 0, sizeof *out);
    if ((rc = bm_template_compile(&t, json_string_value(source), json_string_length(source), err)) == 0)
        rc = bm_template_render(t, &o, out, err);
    bm_template_free(t);
    json_decref(none);
    return rc;
}

/* Spans must cover the text, ascend and not be empty. */
static inline int kit_spans_fit(const bm_rendered *r)
{
    size_t at = 0;

    for (size_t i = 0; i < r->n_spans; i++) {
        if (r->spans[i].begin != at || r->spans[i].end <= at)
            return 0;
        at = r->spans[i].end;
    }
    return at == r->len;
}

static inline int kit_generation_fits(const json_t *want, const bm_rendered *r)
{
    if (want == NULL)
        return 1;
    if (json_array_size(want) != r->n_generation)
        return 0;
    for (size_t i = 0; i < r->n_generation; i++) {
        const json_t *pair = json_array_get(want, i);
        if ((size_t)json_integer_value(json_array_get(pair, 0)) != r->generation[i].begin ||
            (size_t)json_integer_value(json_array_get(pair, 1)) != r->generation[i].end)
            return 0;
    }
    return 1;
}

static inline void kit_complain(const json_t *c, const char *why, const bm_rendered *r, const bm_error *err)
{
    const json_t *want = json_object_get(c, "expected");
    size_t same = 0;

    fprintf(stderr, "%s: %s\n", kit_text(c, "name") != NULL ? kit_text(c, "name") : "?", why);
    if (strlen(kit_text(c, "template")) < 400)
        fprintf(stderr, "  template %s\n", kit_text(c, "template"));
    if (want != NULL && r->text != NULL) {
        while (same < r->len && same < json_string_length(want) && r->text[same] == json_string_value(want)[same])
            same++;
        size_t from = same > 40 ? same - 40 : 0;
        fprintf(stderr, "  differs at byte %zu\n  want ...[%.200s]\n  got  ...[%.200s]\n", same, json_string_value(want) + from, r->text + from);
    } else if (want != NULL) {
        fprintf(stderr, "  want [%.200s]\n  got the error: %s\n", json_string_value(want), err->msg);
    } else {
        fprintf(stderr, "  want the error: %s\n  got [%.200s]\n", kit_text(c, "error"), r->text != NULL ? r->text : "");
    }
}

/* Number of cases that fail. */
static inline size_t kit_run(const json_t *cases)
{
    size_t n_bad = 0;

    const json_t *shared = NULL;

    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *c = json_array_get(cases, i);
        const json_t *want = json_object_get(c, "expected");
        if (json_object_get(c, "template") == NULL) {
            shared = c;
            continue;
        }
        if (shared != NULL)
            json_object_update_missing(c, (json_t *)(uintptr_t)shared);
        bm_error err = {0};
        bm_rendered r;
        int rc = kit_render(c, &r, &err);
        const char *why = NULL;

        if (rc == 0 && want == NULL)
            why = "rendered what jinja2 refuses";
        else if (rc < 0 && want != NULL)
            why = "refused what jinja2 renders";
        else if (rc == 0 && (json_string_length(want) != r.len || memcmp(json_string_value(want), r.text, r.len) != 0))
            why = "another text than jinja2's";
        else if (rc == 0 && !kit_spans_fit(&r))
            why = "the spans do not cover the text";
        else if (rc == 0 && !kit_generation_fits(json_object_get(c, "generation"), &r))
            why = "other generation spans than jinja2's";
        if (why != NULL)
            kit_complain(c, why, &r, &err);
        n_bad += why != NULL;
        bm_rendered_done(&r);
    }
    return n_bad;
}
