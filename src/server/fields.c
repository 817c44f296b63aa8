/* fields.c - the table of request fields and the check of a body against it. */
#include "server/fields.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/nearest.h"

#define BOTH (BM_CHAT | BM_COMPLETIONS)
#define USED(name, routes, type, min, max)      { name, routes, BM_FIELD_USED, type, min, max, NULL, NULL }
#define HARMLESS(name, routes, type)            { name, routes, BM_FIELD_HARMLESS, type, -1e300, 1e300, NULL, NULL }
#define REFUSED(name, routes, neutral, hint)    { name, routes, BM_FIELD_REFUSED, BM_F_ANY, 0, 0, neutral, hint }

static const char no_tools[] = "leave it out: this version does not carry out tool calls";

const bm_field bm_fields[] = {
    USED("model",                 BOTH,           BM_F_STRING, 0, 0),
    USED("messages",              BM_CHAT,        BM_F_ANY,    0, 0),
    USED("prompt",                BM_COMPLETIONS, BM_F_ANY,    0, 0),
    USED("stream",                BOTH,           BM_F_BOOL,   0, 0),
    USED("stream_options",        BOTH,           BM_F_OBJECT, 0, 0),
    USED("n",                     BOTH,           BM_F_INT,    1, 32),
    USED("max_tokens",            BM_CHAT,        BM_F_INT,    1, 2147483647),
    USED("max_tokens",            BM_COMPLETIONS, BM_F_INT,    0, 2147483647),
    USED("max_completion_tokens", BM_CHAT,        BM_F_INT,    1, 2147483647),
    USED("temperature",           BOTH,           BM_F_NUMBER, 0, 2),
    USED("top_p",                 BOTH,           BM_F_NUMBER, 0, 1),
    USED("top_k",                 BOTH,           BM_F_INT,    -1, 2147483647),
    USED("min_p",                 BOTH,           BM_F_NUMBER, 0, 1),
    USED("repetition_penalty",    BOTH,           BM_F_NUMBER, 0.01, 10),
    USED("frequency_penalty",     BOTH,           BM_F_NUMBER, -2, 2),
    USED("presence_penalty",      BOTH,           BM_F_NUMBER, -2, 2),
    USED("logit_bias",            BOTH,           BM_F_OBJECT, 0, 0),
    USED("seed",                  BOTH,           BM_F_INT,    -9.3e18, 9.3e18),
    USED("stop",                  BOTH,           BM_F_ANY,    0, 0),
    USED("logprobs",              BM_CHAT,        BM_F_BOOL,   0, 0),
    USED("top_logprobs",          BM_CHAT,        BM_F_INT,    0, 20),
    USED("logprobs",              BM_COMPLETIONS, BM_F_INT,    0, 20),
    USED("echo",                  BM_COMPLETIONS, BM_F_BOOL,   0, 0),
    USED("best_of",               BM_COMPLETIONS, BM_F_INT,    1, 32),
    USED("ignore_eos",            BOTH,           BM_F_BOOL,   0, 0),
    USED("cache_prompt",          BOTH,           BM_F_BOOL,   0, 0),
    USED("chat_template_kwargs",  BM_CHAT,        BM_F_OBJECT, 0, 0),

    HARMLESS("user",                   BOTH,    BM_F_STRING),
    HARMLESS("metadata",               BM_CHAT, BM_F_OBJECT),
    HARMLESS("safety_identifier",      BM_CHAT, BM_F_STRING),
    HARMLESS("service_tier",           BM_CHAT, BM_F_STRING),
    HARMLESS("prompt_cache_key",       BM_CHAT, BM_F_STRING),
    HARMLESS("prompt_cache_options",   BM_CHAT, BM_F_OBJECT),
    HARMLESS("prompt_cache_retention", BM_CHAT, BM_F_STRING),
    HARMLESS("parallel_tool_calls",    BM_CHAT, BM_F_BOOL),     /* says how tools are called, and tools are refused */

    REFUSED("tools",               BM_CHAT, "[]", no_tools),
    REFUSED("tool_choice",         BM_CHAT, "\"none\"\n\"auto\"", no_tools),
    REFUSED("functions",           BM_CHAT, "[]", no_tools),
    REFUSED("function_call",       BM_CHAT, "\"none\"\n\"auto\"", no_tools),
    REFUSED("response_format",     BM_CHAT, "{\"type\":\"text\"}",
            "leave it out or send {\"type\":\"text\"}: this version does not enforce formats"),
    REFUSED("modalities",          BM_CHAT, "[\"text\"]", "this model answers with text: send [\"text\"] or leave it out"),
    REFUSED("audio",               BM_CHAT, NULL, "leave it out: this model answers with text"),
    REFUSED("prediction",          BM_CHAT, NULL, "leave it out"),
    REFUSED("web_search_options",  BM_CHAT, NULL, "leave it out: this server does not search the web"),
    REFUSED("moderation",          BM_CHAT, NULL, "leave it out: this server does not moderate"),
    REFUSED("reasoning_effort",    BM_CHAT, NULL, "models that think take chat_template_kwargs: {\"enable_thinking\": false}"),
    REFUSED("verbosity",           BM_CHAT, "\"medium\"",
            "leave it out and say in the system message how long answers shall be"),
    REFUSED("store",               BM_CHAT, "false", "leave it out: answers are not kept by this server"),
    REFUSED("suffix",              BM_COMPLETIONS, "\"\"",
            "leave it out, or put the model's own fill-in-the-middle tokens into prompt ids"),
};
const size_t bm_n_fields = sizeof bm_fields / sizeof bm_fields[0];

const bm_field *bm_field_find(unsigned route, const char *name)
{
    for (size_t i = 0; i < bm_n_fields; i++)
        if ((bm_fields[i].routes & route) && strcmp(bm_fields[i].name, name) == 0)
            return &bm_fields[i];
    return NULL;
}

static int unknown(unsigned route, const char *name, bm_error *err)
{
    const char *names[sizeof bm_fields / sizeof bm_fields[0]];
    size_t n = 0, best;

    bm_fail(err, BM_INVALID, "unknown field '%.60s'", name);
    for (size_t i = 0; i < bm_n_fields; i++)
        if (bm_fields[i].routes & route)
            names[n++] = bm_fields[i].name;
    if (bm_nearest(name, names, n, &best, 1) > 0)
        bm_hint(err, "did you mean '%s'?", names[best]);
    else
        bm_hint(err, "leave it out: what this server does not know it does not ignore");
    return bm_param(err, name);
}

static const char *type_text(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:  return "an object";
    case JSON_ARRAY:   return "an array";
    case JSON_STRING:  return "a string";
    case JSON_INTEGER: case JSON_REAL: return "a number";
    case JSON_TRUE: case JSON_FALSE:   return "a boolean";
    default: return "null";
    }
}

static int wrong_type(const bm_field *f, const json_t *v, const char *wanted, bm_error *err)
{
    bm_fail(err, BM_INVALID, "'%s' must be %s, got %s", f->name, wanted, type_text(v));
    return bm_param(err, f->name);
}

static int check_number(const bm_field *f, const json_t *v, bm_error *err)
{
    double x = json_number_value(v);

    if (!json_is_number(v))
        return wrong_type(f, v, f->type == BM_F_INT ? "an integer" : "a number", err);
    if (f->type == BM_F_INT && x != floor(x)) {
        bm_fail(err, BM_INVALID, "'%s' must be an integer, got %g", f->name, x);
        return bm_param(err, f->name);
    }
    if (!(x >= f->min && x <= f->max)) {
        bm_fail(err, BM_INVALID, "'%s' must be between %.15g and %.15g, got %.15g", f->name, f->min, f->max, x);
        return bm_param(err, f->name);
    }
    return 0;
}

static int check_type(const bm_field *f, const json_t *v, bm_error *err)
{
    switch (f->type) {
    case BM_F_BOOL:   return json_is_boolean(v) ? 0 : wrong_type(f, v, "true or false", err);
    case BM_F_STRING: return json_is_string(v) ? 0 : wrong_type(f, v, "a string", err);
    case BM_F_OBJECT: return json_is_object(v) ? 0 : wrong_type(f, v, "an object", err);
    case BM_F_INT: case BM_F_NUMBER: return check_number(f, v, err);
    case BM_F_ANY: break;
    }
    return 0;
}

static bool is_neutral(const bm_field *f, const json_t *v)
{
    for (const char *p = f->neutral; p != NULL && *p != '\0'; ) {
        size_t len = strcspn(p, "\n");
        json_t *neutral = json_loadb(p, len, JSON_DECODE_ANY, NULL);
        bool equal = neutral != NULL && json_equal(neutral, v);
        json_decref(neutral);
        if (equal)
            return true;
        p += len + (p[len] == '\n');
    }
    return false;
}

static int check_field(unsigned route, const char *name, const json_t *v, bm_error *err)
{
    const bm_field *f = bm_field_find(route, name);

    if (json_is_null(v) && f != NULL)
        return 0;
    if (f == NULL)
        return unknown(route, name, err);
    if (f->treatment != BM_FIELD_REFUSED)
        return check_type(f, v, err);
    if (is_neutral(f, v))
        return 0;
    bm_fail(err, BM_UNSUPPORTED, "'%s' is not supported: it would change the answer, and this version cannot carry it out",
            name);
    if (f->hint != NULL)
        bm_hint(err, "%s", f->hint);
    return bm_param(err, name);
}

int bm_fields_check(unsigned route, const json_t *body, bm_error *err)
{
    const char *name;
    json_t *v;
    int rc;

    json_object_foreach((json_t *)body, name, v)
        if ((rc = check_field(route, name, v, err)) < 0)
            return rc;
    return 0;
}
