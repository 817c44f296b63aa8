/* fields.c - see fields.h; the rules are those of ConfigurableTask.doc_to_text, doc_to_target, doc_to_choice and resolve_field. */
#include "eval/fields.h"

#include <string.h>

#include "base/mem.h"
#include "eval/docs_internal.h"
#include "eval/known.h"
#include "eval/literal.h"

enum { MAX_PROMPT = 16 << 20 };

static int field_fail(const bm_field *f, int code, const char *what, bm_error *err)
{
    return bm_fail(err, code, "%s:%d: %s: %s", f->field->file, f->field->line, f->key, what);
}

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory for a prompt"); }

int bm_field_open(bm_field *f, const bm_task_field *field, const char *key, const bm_docs *data, bm_error *err)
{
    const char *text = field->kind == BM_FIELD_TEXT ? field->text : field->kind == BM_FIELD_KNOWN ? field->known->template_text : NULL;
    int rc;

    *f = (bm_field){.field = field, .key = key};
    f->feature = field->kind == BM_FIELD_TEXT && data != NULL && bm_docs_has_feature(data, field->text);
    if (text == NULL || f->feature)
        return 0;
    rc = bm_template_compile_plain(&f->tmpl, text, field->kind == BM_FIELD_TEXT ? field->len_text : strlen(text), err);
    return rc < 0 ? bm_wrap(err, "%s:%d: %s", field->file, field->line, key) : 0;
}

void bm_field_done(bm_field *f)
{
    bm_template_free(f->tmpl);
    f->tmpl = NULL;
}

static int render(json_t **out, const bm_field *f, const json_t *doc, bm_error *err)
{
    bm_render_options o = {.vars = doc, .max_output_bytes = MAX_PROMPT};
    bm_rendered r;
    int rc = bm_template_render(f->tmpl, &o, &r, err);

    *out = NULL;
    if (rc < 0) {
        bm_wrap(err, "%s", f->key);
        return bm_wrap(err, "%s:%d", f->field->file, f->field->line);
    }
    *out = json_stringn(r.text, r.len);
    bm_rendered_done(&r);
    return *out == NULL ? no_memory(err) : 0;
}

static int feature(json_t **out, const bm_field *f, const json_t *doc, bm_error *err)
{
    *out = json_incref(json_object_get(doc, f->field->text));
    return *out == NULL ? field_fail(f, BM_INVALID, "the document has no such field", err) : 0;
}

/* Replace a string by the literal that it holds. */
static int to_literal(json_t **value, const bm_field *f, bm_error *err)
{
    json_t *parsed;
    int rc = bm_literal_parse(&parsed, json_string_value(*value), json_string_length(*value), err);

    json_decref(*value);
    *value = parsed;
    if (rc == 0)
        return 0;
    bm_wrap(err, "%s", f->key);
    return bm_wrap(err, "%s:%d", f->field->file, f->field->line);
}

static bool all_digits(const json_t *s)
{
    const char *text = json_string_value(s);
    size_t len = json_string_length(s);

    return len > 0 && strspn(text, "0123456789") == len;
}

static bool looks_like_list(const json_t *s)
{
    const char *text = json_string_value(s);
    size_t len = json_string_length(s);

    return len >= 2 && text[0] == '[' && text[len - 1] == ']';
}

/* A template's output, or a known function's value. done: nothing more is to be made of it. */
static int evaluate(json_t **out, const bm_field *f, const json_t *doc, bool *done, bm_error *err)
{
    int rc;

    *done = true;
    *out = NULL;
    switch (f->field->kind) {
    case BM_FIELD_NONE:
        return bm_fail(err, BM_INVALID, "%s: missing", f->key);
    case BM_FIELD_VALUE:
        *out = json_incref(f->field->value);
        return 0;
    case BM_FIELD_KNOWN:
        rc = render(out, f, doc, err);
        return rc == 0 && f->field->known->kind == BM_KNOWN_VALUE ? to_literal(out, f, err) : rc;
    default:
        *done = f->feature;
        return f->feature ? feature(out, f, doc, err) : render(out, f, doc, err);
    }
}

int bm_field_text(json_t **out, const bm_field *f, const json_t *doc, bool has_choices, bm_error *err)
{
    bool done;
    int rc = evaluate(out, f, doc, &done, err);

    if (rc == 0 && !done && has_choices && all_digits(*out))
        rc = to_literal(out, f, err);
    if (rc == 0 && json_is_boolean(*out)) {              /* a bool is an int in Python */
        json_t *one = json_integer(json_is_true(*out));
        json_decref(*out);
        *out = one;
    }
    if (rc == 0 && !json_is_string(*out) && !json_is_integer(*out)) {
        json_decref(*out);
        *out = NULL;
        return field_fail(f, BM_INVALID, "gives neither a text nor an index for this document", err);
    }
    return rc;
}

int bm_field_target(json_t **out, const bm_field *f, const json_t *doc, bool has_choices, bm_error *err)
{
    bool done;
    int rc = evaluate(out, f, doc, &done, err);
    bm_error ignored;
    json_t *list;

    if (rc < 0 || done)
        return rc;
    if (has_choices && all_digits(*out))
        return to_literal(out, f, err);
    if (looks_like_list(*out) && bm_literal_parse(&list, json_string_value(*out), json_string_length(*out), &ignored) == 0) {
        json_decref(*out);
        *out = list;
    }
    return 0;
}

static int dict_values(json_t **value, bm_error *err)
{
    json_t *list = json_array(), *v;
    const char *key;

    json_object_foreach(*value, key, v)
        if (list != NULL && json_array_append(list, v) != 0) {
            json_decref(list);
            list = NULL;
        }
    json_decref(*value);
    *value = list;
    return list == NULL ? no_memory(err) : 0;
}

int bm_field_choices(json_t **out, const bm_field *f, const json_t *doc, bm_error *err)
{
    bool done;
    int rc = evaluate(out, f, doc, &done, err);

    if (rc == 0 && !done)
        rc = to_literal(out, f, err);
    if (rc == 0 && f->field->kind == BM_FIELD_VALUE && json_is_object(*out))
        rc = dict_values(out, err);
    if (rc < 0)
        return rc;
    bool good = json_is_array(*out) && json_array_size(*out) > 0;
    for (size_t i = 0; good && i < json_array_size(*out); i++)
        good = json_is_string(json_array_get(*out, i));
    if (!good) {
        json_decref(*out);
        *out = NULL;
        return field_fail(f, BM_INVALID, "does not give a list of strings for this document", err);
    }
    return 0;
}

int bm_field_line(json_t **out, const bm_field *f, const json_t *doc, bool in_doc, bm_error *err)
{
    json_t *own;
    int rc;

    if (f->field->kind == BM_FIELD_NONE || f->field->len_text == 0)
        return (*out = json_string("")) == NULL ? no_memory(err) : 0;
    own = in_doc ? json_object_get(doc, f->field->text) : NULL;
    if (own != NULL)
        *out = json_incref(own), rc = 0;
    else if (f->feature)
        rc = feature(out, f, doc, err);
    else
        rc = render(out, f, doc, err);
    if (rc < 0)
        return rc;
    if (json_is_null(*out)) {
        *out = json_string("");
        return *out == NULL ? no_memory(err) : 0;
    }
    if (json_is_string(*out))
        return 0;
    json_decref(*out);
    *out = NULL;
    return field_fail(f, BM_INVALID, "does not give a text for this document", err);
}

/* ---- process_docs ---- */

static int process_one(json_t **row, bool *keep, const bm_field *f, bm_error *err)
{
    json_t *made, *copy;
    int rc = render(&made, f, *row, err);

    *keep = true;
    if (rc < 0 || (rc = to_literal(&made, f, err)) < 0)
        return rc;
    if (f->field->known->kind == BM_KNOWN_KEEP) {
        *keep = json_is_true(made);
    } else if (!json_is_object(made)) {
        rc = field_fail(f, BM_INTERNAL, "its equivalent gives no document", err);
    } else if ((copy = json_copy(*row)) == NULL || json_object_update(copy, made) != 0) {
        json_decref(copy);
        rc = no_memory(err);
    } else {
        *row = copy;
        json_decref(made);
        return 0;
    }
    json_decref(made);
    if (rc == 0)
        json_incref(*row);
    return rc;
}

int bm_field_process(bm_docs *docs, const bm_task_field *field, bm_error *err)
{
    json_t *rows = json_array();
    bm_field f;
    int rc;

    if (field->kind == BM_FIELD_NONE || rows == NULL) {
        json_decref(rows);
        return rows == NULL ? no_memory(err) : 0;
    }
    rc = bm_field_open(&f, field, "process_docs", NULL, err);
    for (size_t i = 0; i < docs->n && rc == 0; i++) {
        json_t *row = json_array_get(docs->rows, i);
        bool keep;
        if ((rc = process_one(&row, &keep, &f, err)) < 0)
            bm_wrap(err, "document %zu of %s", i, docs->path != NULL ? docs->path : "samples");
        else if (keep && json_array_append(rows, row) != 0)
            rc = no_memory(err);
        if (rc == 0)
            json_decref(row);
    }
    bm_field_done(&f);
    if (rc < 0) {
        json_decref(rows);
        return rc;
    }
    json_decref(docs->rows);
    docs->rows = rows;
    return bm_docs_note_features(docs, err);
}

int bm_value_str(json_t **out, const json_t *value, bm_error *err)
{
    static const char source[] = "{{v|string}}";
    bm_template *tmpl;
    json_t *vars = json_pack("{s:O}", "v", value);
    bm_task_field field = {.kind = BM_FIELD_TEXT, .file = "", .line = 0};
    int rc;

    *out = NULL;
    if (vars == NULL)
        return no_memory(err);
    if ((rc = bm_template_compile_plain(&tmpl, source, sizeof source - 1, err)) == 0) {
        bm_field f = {.field = &field, .key = "str", .tmpl = tmpl};
        rc = render(out, &f, vars, err);
        bm_template_free(tmpl);
    }
    json_decref(vars);
    return rc;
}
