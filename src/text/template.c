/* template.c - chat templates: compile once, render from any thread. The interpreter is in jinja_*.c, in order of the data:
 * lexer, expr and parser (tree), scope (frames), eval, exec and loop (run), then values and what can be done with them. */
#include "text/template.h"

#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "text/jinja_ast.h"

enum { DEFAULT_STEPS = 10 * 1000 * 1000, DEFAULT_OUTPUT = 64 << 20, MAX_MEMORY = 256 << 20, MAX_TREE = 256 << 20 };

/* Valid UTF-8, \n for every line end, and without the last one. */
static int clean_source(bm_template *t, const char *source, size_t len, bm_error *err)
{
    bm_buf b = {0};
    size_t n = 0;

    if (len > BM_J_MAX_SOURCE)
        return bm_fail(err, BM_LIMIT, "a chat template of %zu bytes: at most %d are read", len, (int)BM_J_MAX_SOURCE);
    bm_utf8_sanitize(&b, source, len);
    if (b.failed) {
        bm_buf_done(&b);
        return bm_fail(err, BM_NOMEM, "no memory to compile the chat template");
    }
    for (size_t i = 0; i < b.len; i++) {
        if (b.data[i] == '\r') {
            b.data[n++] = '\n';
            i += i + 1 < b.len && b.data[i + 1] == '\n';
        } else {
            b.data[n++] = b.data[i];
        }
    }
    t->len = n > 0 && b.data[n - 1] == '\n' && !t->plain ? n - 1 : n;
    t->source = bm_arena_strndup(&t->arena, n > 0 ? b.data : "", t->len);
    bm_buf_done(&b);
    return t->source == NULL ? bm_fail(err, BM_NOMEM, "no memory to compile the chat template") : 0;
}

static int compile(bm_template **out, const char *source, size_t len, bool plain, bm_error *err)
{
    bm_error local = {0};
    bm_jcompile c = {.err = err == NULL ? &local : err};
    int rc;

    *out = NULL;
    if ((c.tmpl = bm_zalloc(sizeof *c.tmpl)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory to compile the chat template");
    c.tmpl->arena.limit_bytes = MAX_TREE;
    c.tmpl->plain = plain;
    rc = clean_source(c.tmpl, source, len, c.err);
    if (rc == 0 && !(bm_jlex(&c) && bm_jparse(&c) && bm_jscope(&c)))
        rc = c.err->code;
    if (rc < 0) {
        bm_template_free(c.tmpl);
        return rc;
    }
    *out = c.tmpl;
    return 0;
}

int bm_template_compile(bm_template **out, const char *source, size_t len, bm_error *err)
{
    return compile(out, source, len, false, err);
}

int bm_template_compile_plain(bm_template **out, const char *source, size_t len, bm_error *err)
{
    return compile(out, source, len, true, err);
}

void bm_template_free(bm_template *tmpl)
{
    if (tmpl == NULL)
        return;
    bm_arena_done(&tmpl->arena);
    bm_free(tmpl);
}

bool bm_template_mentions(const bm_template *tmpl, const char *name)
{
    uint32_t id = bm_template_name(tmpl, name, strlen(name));

    return id != UINT32_MAX && tmpl->names[id].loaded;
}

/* ---- what the caller passes, as values ---- */

static bool from_json(bm_jrun *r, const json_t *json, int src, bm_jval *out);

/* A role is template text when it is one of the names that chat formats use: templates build markers from it ("<|" + role + "|>"),
 * and no such name contains one. Any other string of a message is the message's. */
static int role_source(const char *role, int src)
{
    static const char *const known[] = {"system", "user", "assistant", "tool", "developer", "function", "ipython", "model",
                                        "observation", "context", "documents"};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(role, known[i]) == 0)
            return BM_SPAN_TEMPLATE;
    return src;
}

static bool from_array(bm_jrun *r, const json_t *json, int src, bool number, bm_jval *out)
{
    bm_jlist *list = bm_jlist_new(r, json_array_size(json));
    bm_jval v;

    for (size_t i = 0; list != NULL && i < json_array_size(json); i++)
        if (!from_json(r, json_array_get(json, i), number ? (int)i : src, &v) || !bm_jlist_add(r, list, v))
            return false;
    return bm_jval_list(r, BM_J_LIST, list, out);
}

static bool add_json(bm_jrun *r, bm_jdict *d, const char *key, size_t len, const json_t *json, int src)
{
    bool is_role = src >= 0 && src < BM_SPAN_TOOLS && len == 4 && memcmp(key, "role", 4) == 0 && json_is_string(json) && r->depth == 1;
    bm_jval name, v;

    return bm_jval_str(&name, bm_jstr_borrow(r, key, len, src)) &&
           from_json(r, json, is_role ? role_source(json_string_value(json), src) : src, &v) && bm_jdict_set(r, d, name, v);
}

static bool from_object(bm_jrun *r, const json_t *json, int src, bm_jdict *d)
{
    json_t *object = (json_t *)(uintptr_t)json;          /* the iterator's functions read only, but take it without const */

    for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it))
        if (!add_json(r, d, json_object_iter_key(it), json_object_iter_key_len(it), json_object_iter_value(it), src))
            return false;
    return true;
}

static bool from_json_some(bm_jrun *r, const json_t *json, int src, bm_jval *out)
{
    switch (json_typeof(json)) {
    case JSON_STRING:
        return bm_jval_str(out, bm_jstr_borrow(r, json_string_value(json), json_string_length(json), src));
    case JSON_INTEGER:
        *out = bm_jint(json_integer_value(json));
        return true;
    case JSON_REAL:
        *out = bm_jfloat(json_real_value(json));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = bm_jbool(json_is_true(json));
        return true;
    case JSON_ARRAY:
        return from_array(r, json, src, false, out);
    case JSON_OBJECT:
        *out = (bm_jval){.type = BM_J_DICT, .dict = bm_jdict_new(r)};
        return out->dict != NULL && from_object(r, json, src, out->dict);
    default:
        *out = bm_jnone();
        return true;
    }
}

static bool from_json(bm_jrun *r, const json_t *json, int src, bm_jval *out)
{
    bool ok = bm_jrun_enter(r) && from_json_some(r, json, src, out);

    bm_jrun_leave(r);
    return ok;
}

static bool set_var(bm_jrun *r, const char *name, bm_jval v)
{
    bm_jval key;

    return bm_jval_str(&key, bm_jstr_text(r, name)) && bm_jdict_set(r, r->vars, key, v);
}

static bool set_token(bm_jrun *r, const char *name, const char *text)
{
    bm_jval v;

    return text == NULL || (bm_jval_str(&v, bm_jstr_text(r, text)) && set_var(r, name, v));
}

/* The variables as transformers passes them: tools and documents are None when there are none. */
static bool set_vars(bm_jrun *r, const bm_render_options *o)
{
    bm_jval messages, tools = bm_jnone();

    if ((r->vars = bm_jdict_new(r)) == NULL)
        return false;
    if (r->plain)
        return o->vars == NULL || from_object(r, o->vars, BM_SPAN_VARS, r->vars);
    if (!set_var(r, "documents", bm_jnone()))
        return false;
    if (!set_token(r, "bos_token", o->bos_token) || !set_token(r, "eos_token", o->eos_token))
        return false;
    if (o->vars != NULL && json_is_object(o->vars) && !from_object(r, o->vars, BM_SPAN_VARS, r->vars))
        return false;
    if (o->messages == NULL || !json_is_array(o->messages))
        return bm_jrun_fail(r, "messages must be an array");
    if (!from_array(r, o->messages, 0, true, &messages))
        return false;
    if (o->tools != NULL && !from_json(r, o->tools, BM_SPAN_TOOLS, &tools))
        return false;
    return set_var(r, "messages", messages) && set_var(r, "tools", tools) &&
           set_var(r, "add_generation_prompt", bm_jbool(o->add_generation_prompt));
}

/* ---- what comes out ---- */

static int take_output(const bm_jrun *r, bm_rendered *out, bm_error *err)
{
    const bm_jsb *b = &r->out;
    size_t begin = 0;

    out->text = bm_strndup(b->len > 0 ? b->data : "", b->len);
    out->spans = bm_calloc(b->n_pieces + 1, sizeof *out->spans);
    out->generation = bm_calloc(r->n_generation + 1, sizeof *out->generation);
    if (out->text == NULL || out->spans == NULL || out->generation == NULL) {
        bm_rendered_done(out);
        return bm_fail(err, BM_NOMEM, "no memory for the rendered prompt");
    }
    out->len = b->len;
    for (size_t i = 0; i < b->n_pieces; i++) {
        out->spans[i] = (bm_span){begin, b->pieces[i].end, b->pieces[i].src};
        begin = b->pieces[i].end;
    }
    out->n_spans = b->n_pieces;
    if (r->n_generation > 0)
        memcpy(out->generation, r->generation, r->n_generation * sizeof *out->generation);
    out->n_generation = r->n_generation;
    return 0;
}

int bm_template_render(const bm_template *tmpl, const bm_render_options *options, bm_rendered *out, bm_error *err)
{
    bm_jrun r = {.tmpl = tmpl, .plain = tmpl->plain, .err = err, .err_pos = UINT32_MAX, .now_s = options->now_s,
                 .max_steps = options->max_steps != 0 ? options->max_steps : DEFAULT_STEPS,
                 .arena.limit_bytes = MAX_MEMORY};
    size_t line, column;
    int rc;

    memset(out, 0, sizeof *out);
    bm_jsb_init(&r.out, &r);
    r.out.limit = options->max_output_bytes != 0 ? options->max_output_bytes : DEFAULT_OUTPUT;
    r.context = bm_jrun_alloc(&r, tmpl->n_names + 1, sizeof *r.context);
    bool ok = r.context != NULL && set_vars(&r, options) && bm_jexec_template(&r);
    rc = ok && r.rc == 0 ? take_output(&r, out, err) : r.rc;
    if (r.rc != 0 && r.rc != BM_NOMEM && r.err_pos != UINT32_MAX && !r.bare) {
        bm_template_position(tmpl, r.err_pos, &line, &column);
        bm_wrap(err, "line %zu, column %zu", line, column);
    }
    bm_arena_done(&r.arena);
    return rc;
}

void bm_rendered_done(bm_rendered *r)
{
    bm_free(r->text);
    bm_free(r->spans);
    bm_free(r->generation);
    memset(r, 0, sizeof *r);
}
