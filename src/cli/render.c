/* render.c - `baimo render`: the prompt as a chat template makes it, byte for byte. */
#define _GNU_SOURCE      /* strptime, timegm */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/number.h"
#include "cli/cli.h"
#include "format/gguf.h"
#include "platform/shelf.h"
#include "text/template.h"

enum { MAX_JSON = 256 << 20, MAX_TEMPLATE = 16 << 20 };

typedef struct settings { const char *template, *messages, *tools, *now; cli_list sets; bool no_generation_prompt, as_json; } settings;

/* A template and the texts of the two tokens that it may name; all the caller's to free. */
typedef struct source { char *text, *bos, *eos; size_t len; } source;

static void source_done(source *s)
{
    bm_free(s->text);
    bm_free(s->bos);
    bm_free(s->eos);
}

static int token_text(char **out, const bm_gguf *gguf, const char *key, bm_error *err)
{
    const bm_gguf_kv *tokens = bm_gguf_find(gguf, "tokenizer.ggml.tokens");
    uint32_t id;
    bm_str text;

    if (tokens == NULL || !bm_gguf_get_u32(gguf, key, &id) || !bm_gguf_elem_str(tokens, id, &text))
        return 0;
    *out = bm_strndup(text.data, text.len);
    return *out == NULL ? bm_fail(err, BM_NOMEM, "no memory for a token") : 0;
}

static int read_gguf(source *s, const char *path, bm_error *err)
{
    bm_gguf *gguf = NULL;
    bm_str text;
    int rc;

    if ((rc = bm_gguf_open(&gguf, path, err)) < 0)
        return rc;
    if (!bm_gguf_get_str(gguf, "tokenizer.chat_template", &text)) {
        rc = bm_fail(err, BM_NOTFOUND, "%s: the model has no chat template (tokenizer.chat_template)", path);
        bm_hint(err, "baimo render --template FILE.jinja --messages FILE.json");
    } else if ((s->text = bm_strndup(text.data, text.len)) == NULL) {
        rc = bm_fail(err, BM_NOMEM, "no memory for the chat template");
    }
    s->len = rc < 0 ? 0 : text.len;
    if (rc == 0 && (rc = token_text(&s->bos, gguf, "tokenizer.ggml.bos_token_id", err)) == 0)
        rc = token_text(&s->eos, gguf, "tokenizer.ggml.eos_token_id", err);
    bm_gguf_close(gguf);
    return rc;
}

static int read_model(source *s, const char *model, bm_error *err)
{
    bm_store *store = NULL;
    bm_shelf_model row;
    int rc;

    if ((rc = cli_open_store(&store, err)) == 0 && (rc = bm_shelf_resolve(store, model, &row, err)) == 0)
        rc = read_gguf(s, row.path, err);
    bm_store_close(store);
    return rc;
}

static int read_json(json_t **out, const char *path, bm_error *err)
{
    json_error_t where;
    size_t len;
    char *text;
    int rc;

    if ((rc = bm_read_file(&text, &len, path, MAX_JSON, err)) < 0)
        return rc;
    *out = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
    bm_free(text);
    return *out == NULL ? bm_fail(err, BM_INVALID, "%s: not JSON: line %d, column %d: %s", path, where.line, where.column, where.text) : 0;
}

/* A file with the array of messages, or a request body with "messages" (and perhaps "tools") in it. */
static int read_messages(json_t **messages, json_t **tools, const char *path, bm_error *err)
{
    json_t *json = NULL;
    int rc;

    if ((rc = read_json(&json, path, err)) < 0)
        return rc;
    *messages = json_is_object(json) ? json_incref(json_object_get(json, "messages")) : json_incref(json);
    if (json_is_object(json))
        *tools = json_incref(json_object_get(json, "tools"));
    json_decref(json);
    return json_is_array(*messages) ? 0 : bm_fail(err, BM_INVALID, "%s: expected an array of messages", path);
}

static int set_variable(json_t *vars, const char *text, bm_error *err)
{
    const char *eq = strchr(text, '=');
    json_error_t where;
    char name[100];

    if (eq == NULL || eq == text || (size_t)(eq - text) >= sizeof name)
        return bm_fail(err, BM_INVALID, "--set %s: expected NAME=JSON", text);
    memcpy(name, text, (size_t)(eq - text));
    name[eq - text] = '\0';
    json_t *value = json_loads(eq + 1, JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
    if (value == NULL) {
        bm_fail(err, BM_INVALID, "--set %s: the value is not JSON: %s", text, where.text);
        return bm_hint(err, "a string needs its quotes: --set '%s=\"text\"'", name);
    }
    return json_object_set_new(vars, name, value) < 0 ? bm_fail(err, BM_NOMEM, "no memory for a variable") : 0;
}

/* "2025-01-31", "2025-01-31 14:05[:30]" (or with a T) as local wall time, or seconds since 1970. */
static int parse_time(const char *text, int64_t *out, bm_error *err)
{
    static const char *const formats[] = {"%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"};

    if (bm_parse_int(text, 1, (int64_t)1 << 40, out))
        return 0;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        struct tm tm = {0};
        const char *end = strptime(text, formats[i], &tm);
        if (end != NULL && *end == '\0') {
            *out = (int64_t)timegm(&tm);
            return 0;
        }
    }
    return bm_fail(err, BM_INVALID, "--now %s: expected a time such as 2025-01-31 or '2025-01-31 14:05'", text);
}

static json_t *spans_json(const bm_span *spans, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        json_t *from = spans[i].message == BM_SPAN_TEMPLATE ? json_string("template") : spans[i].message == BM_SPAN_TOOLS ? json_string("tools")
                     : spans[i].message == BM_SPAN_VARS ? json_string("vars") : json_integer(spans[i].message);
        json_array_append_new(list, json_pack("{s:I, s:I, s:o}", "begin", (json_int_t)spans[i].begin, "end", (json_int_t)spans[i].end, "from", from));
    }
    return list;
}

static int print_result(const bm_rendered *r, bool as_json)
{
    if (!as_json)
        return fwrite(r->text, 1, r->len, stdout) == r->len && fflush(stdout) == 0 ? 0 : 1;
    return cli_print_json(json_pack("{s:s%, s:o, s:o}", "prompt", r->text, r->len, "spans", spans_json(r->spans, r->n_spans),
                                    "generation", spans_json(r->generation, r->n_generation)));
}

static int render(const source *s, const bm_render_options *options, const char *name, bool as_json, bm_error *err)
{
    bm_template *tmpl = NULL;
    bm_rendered out = {0};
    int rc;

    if ((rc = bm_template_compile(&tmpl, s->text, s->len, err)) == 0)
        rc = bm_template_render(tmpl, options, &out, err);
    if (rc < 0)
        bm_wrap(err, "the chat template of %s", name);
    rc = rc < 0 ? cli_fail(err) : print_result(&out, as_json);
    bm_rendered_done(&out);
    bm_template_free(tmpl);
    return rc;
}

static int run(const char *model, const settings *s)
{
    bm_render_options o = {.add_generation_prompt = !s->no_generation_prompt};
    json_t *messages = NULL, *tools = NULL, *vars = json_object();
    source src = {0};
    bm_error err = {0};
    int rc;

    rc = model != NULL ? read_model(&src, model, &err) : bm_read_file(&src.text, &src.len, s->template, MAX_TEMPLATE, &err);
    if (rc == 0)
        rc = read_messages(&messages, &tools, s->messages, &err);
    if (rc == 0 && s->tools != NULL) {
        json_decref(tools);
        tools = NULL;
        rc = read_json(&tools, s->tools, &err);
    }
    for (int i = 0; rc == 0 && i < s->sets.n; i++)
        rc = set_variable(vars, s->sets.items[i], &err);
    if (rc == 0 && s->now != NULL)
        rc = parse_time(s->now, &o.now_s, &err);
    o.messages = messages, o.tools = tools, o.vars = vars, o.bos_token = src.bos, o.eos_token = src.eos;
    rc = rc < 0 ? cli_fail(&err) : render(&src, &o, model != NULL ? model : s->template, s->as_json, &err);
    json_decref(messages);
    json_decref(tools);
    json_decref(vars);
    source_done(&src);
    return rc;
}

int cmd_render(int argc, char **argv)
{
    settings s = {0};
    const cli_option options[] = {
        {"template", NULL, CLI_STR, &s.template, 0, 0, "FILE", "a Jinja file instead of the model's template"},
        {"messages", NULL, CLI_STR, &s.messages, 0, 0, "FILE", "JSON: an array of messages, or a request with one (\"-\": standard input)"},
        {"tools", NULL, CLI_STR, &s.tools, 0, 0, "FILE", "JSON: an array of tools"},
        {"set", NULL, CLI_LIST, &s.sets, 0, 0, "NAME=JSON", "a variable of the template, such as enable_thinking=false"},
        {"now", NULL, CLI_STR, &s.now, 0, 0, "TIME", "what the template's clock says (default: the clock)"},
        {"no-generation-prompt", NULL, CLI_FLAG, &s.no_generation_prompt, 0, 0, NULL, "do not open the assistant's turn"},
        {"json", NULL, CLI_FLAG, &s.as_json, 0, 0, NULL, "for programs: the prompt and where each byte comes from"},
        {.name = NULL}};
    const cli_command self = {"render", "MODEL|--template FILE --messages FILE",
                              "The prompt as the chat template makes it. MODEL is a name on the shelf or a GGUF file.",
                              "baimo render smollm2 --messages chat.json\n"
                              "echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' | baimo render --template my.jinja --messages -", options};
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n > 1 || (n == 0) == (s.template == NULL))
        return cli_usage_error(self.name, "expected either MODEL or --template FILE");
    if (s.messages == NULL)
        return cli_usage_error(self.name, "--messages FILE is missing");
    return run(n == 1 ? argv[0] : NULL, &s);
}
