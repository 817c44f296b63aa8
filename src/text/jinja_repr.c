/* jinja_repr.c - values as text: str(), repr() and json.dumps() of Python, each byte with its source. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "text/jinja_ast.h"

static void add_float(bm_jsb *b, double f)
{
    char text[32];

    if (isnan(f))
        bm_jsb_puts(b, "nan");
    else if (isinf(f))
        bm_jsb_puts(b, f < 0 ? "-inf" : "inf");
    else
        bm_jsb_add(b, text, (size_t)bm_number_write(text, f), BM_SPAN_TEMPLATE);
}

static void add_int(bm_jsb *b, int64_t i)
{
    char text[24];

    bm_jsb_add(b, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)i), BM_SPAN_TEMPLATE);
}

static int source_at(const bm_jstr *s, size_t *piece, size_t at)
{
    if (s->n_pieces == 0)
        return s->src;
    while (s->pieces[*piece].end <= at)
        ++*piece;
    return s->pieces[*piece].src;
}

static bool repr_str(bm_jsb *b, bm_jstr *s)
{
    size_t plain = 0, piece = 0;
    char esc[16];
    uint32_t cp;

    if (!bm_jstr_flat(b->run, s) || !bm_jrun_step(b->run, s->len / 16 + 1))
        return false;
    char quote = memchr(s->data, '\'', s->len) != NULL && memchr(s->data, '"', s->len) == NULL ? '"' : '\'';
    if (s->markup)
        bm_jsb_puts(b, "Markup(");
    bm_jsb_add(b, &quote, 1, BM_SPAN_TEMPLATE);
    for (size_t i = 0, n; i < s->len; i += n) {
        n = (size_t)bm_j_decode(s->data + i, s->len - i, &cp);
        if (cp == (uint32_t)quote || cp == '\\')
            snprintf(esc, sizeof esc, "\\%c", (char)cp);
        else if (cp == '\n' || cp == '\r' || cp == '\t')
            snprintf(esc, sizeof esc, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
        else if (cp < 0x80 ? cp >= 32 && cp < 127 : bm_j_printable(cp))
            continue;
        else
            snprintf(esc, sizeof esc, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
        bm_jsb_slice(b, s, plain, i);
        bm_jsb_add(b, esc, strlen(esc), source_at(s, &piece, i));
        plain = i + n;
    }
    bm_jsb_slice(b, s, plain, s->len);
    bm_jsb_add(b, &quote, 1, BM_SPAN_TEMPLATE);
    if (s->markup)
        bm_jsb_puts(b, ")");
    return b->run->rc == 0;
}

static bool repr_list(bm_jsb *b, const bm_jlist *list, const char *open, const char *close)
{
    bm_jsb_puts(b, open);
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0)
            bm_jsb_puts(b, ", ");
        if (!bm_jval_repr(b, list->items[i]))
            return false;
    }
    if (list->n == 1 && *close == ')')
        bm_jsb_puts(b, ",");
    bm_jsb_puts(b, close);
    return b->run->rc == 0;
}

static bool repr_dict(bm_jsb *b, const bm_jdict *d)
{
    bm_jsb_puts(b, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i > 0)
            bm_jsb_puts(b, ", ");
        if (!bm_jval_repr(b, d->entries[i].key))
            return false;
        bm_jsb_puts(b, ": ");
        if (!bm_jval_repr(b, d->entries[i].value))
            return false;
    }
    bm_jsb_puts(b, "}");
    return b->run->rc == 0;
}

static bool repr_view(bm_jsb *b, const bm_jview *view)
{
    static const char *const names[] = {"dict_keys([", "dict_values([", "dict_items(["};
    bm_jiter it;
    bm_jval v;

    bm_jsb_puts(b, names[view->kind]);
    if (!bm_jiter_open(b->run, (bm_jval){.type = BM_J_VIEW, .view = (bm_jview *)(uintptr_t)view}, &it))
        return false;
    for (bool first = true;; first = false) {
        if (!bm_jiter_next(b->run, &it, &v))
            return false;
        if (v.type == BM_J_MISSING)
            break;
        if (!first)
            bm_jsb_puts(b, ", ");
        if (!bm_jval_repr(b, v))
            return false;
    }
    bm_jsb_puts(b, "])");
    return true;
}

static bool repr_range(bm_jsb *b, const bm_jrange *range)
{
    char text[100];
    int n = range->step == 1 ? snprintf(text, sizeof text, "range(%lld, %lld)", (long long)range->start, (long long)range->stop)
          : snprintf(text, sizeof text, "range(%lld, %lld, %lld)", (long long)range->start, (long long)range->stop, (long long)range->step);

    bm_jsb_add(b, text, (size_t)n, BM_SPAN_TEMPLATE);
    return true;
}

static bool repr_macro(bm_jsb *b, const bm_jnode *n)
{
    if (n->kind != BM_N_MACRO) {
        bm_jsb_puts(b, "<Macro anonymous>");
        return true;
    }
    bm_jsb_puts(b, "<Macro ");
    if (!repr_str(b, b->run->tmpl->names[n->name].text))
        return false;
    bm_jsb_puts(b, ">");
    return true;
}

static bool repr_some(bm_jsb *b, bm_jval v)
{
    switch (v.type) {
    case BM_J_UNDEF:
        bm_jsb_puts(b, "Undefined");
        break;
    case BM_J_NONE:
        bm_jsb_puts(b, "None");
        break;
    case BM_J_BOOL:
        bm_jsb_puts(b, v.b ? "True" : "False");
        break;
    case BM_J_INT:
        add_int(b, v.i);
        break;
    case BM_J_FLOAT:
        add_float(b, v.f);
        break;
    case BM_J_STR:
        return repr_str(b, v.s);
    case BM_J_LIST:
        return repr_list(b, v.list, "[", "]");
    case BM_J_TUPLE:
        return repr_list(b, v.list, "(", ")");
    case BM_J_DICT:
        return repr_dict(b, v.dict);
    case BM_J_NAMESPACE:
        bm_jsb_puts(b, "<Namespace ");
        if (!repr_dict(b, v.dict))
            return false;
        bm_jsb_puts(b, ">");
        break;
    case BM_J_VIEW:
        return repr_view(b, v.view);
    case BM_J_RANGE:
        return repr_range(b, v.range);
    case BM_J_MACRO:
        return repr_macro(b, v.macro->node);
    case BM_J_LOOP:
        return bm_jloop_repr(b, v.loop);
    default:
        return bm_jrun_fail(b->run, "printing a %s would print its address", bm_jval_type(v));
    }
    return b->run->rc == 0;
}

bool bm_jval_repr(bm_jsb *b, bm_jval v)
{
    bool ok = bm_jrun_step(b->run, 1) && bm_jrun_enter(b->run) && repr_some(b, v);

    bm_jrun_leave(b->run);
    return ok;
}

bool bm_jval_write(bm_jsb *b, bm_jval v)
{
    if (v.type == BM_J_STR) {
        bm_jsb_str(b, v.s);
        return b->run->rc == 0;
    }
    if (v.type == BM_J_UNDEF)
        return !bm_jval_strict(b->run, v) || bm_jval_touch(b->run, v);
    return bm_jval_repr(b, v);
}

bm_jstr *bm_jval_to_str(bm_jrun *r, bm_jval v)
{
    bm_jsb b;

    if (v.type == BM_J_STR)
        return bm_jstr_flat(r, v.s) ? v.s : NULL;
    bm_jsb_init(&b, r);
    return bm_jval_write(&b, v) ? bm_jsb_finish(&b) : NULL;
}

static void json_escape(char esc[16], uint32_t cp)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *known = cp > 0 && cp < 0x80 ? strchr(from, (int)cp) : NULL;

    if (known != NULL)
        snprintf(esc, 16, "\\%c", to[known - from]);
    else if (cp < 0x10000)
        snprintf(esc, 16, "\\u%04x", cp);
    else
        snprintf(esc, 16, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10), 0xDC00 + ((cp - 0x10000) & 0x3FF));
}

static bool json_str(bm_jsb *b, bm_jstr *s, bool ensure_ascii)
{
    size_t plain = 0, piece = 0;
    char esc[16];
    uint32_t cp;

    if (!bm_jstr_flat(b->run, s) || !bm_jrun_step(b->run, s->len / 16 + 1))
        return false;
    bm_jsb_puts(b, "\"");
    for (size_t i = 0, n; i < s->len; i += n) {
        cp = (unsigned char)s->data[i];
        n = cp < 0x80 ? 1 : (size_t)bm_j_decode(s->data + i, s->len - i, &cp);
        if (cp >= 32 && cp != '"' && cp != '\\' && (cp < 0x7F || !ensure_ascii))
            continue;
        bm_jsb_slice(b, s, plain, i);
        json_escape(esc, cp);
        bm_jsb_add(b, esc, strlen(esc), source_at(s, &piece, i));
        plain = i + n;
    }
    bm_jsb_slice(b, s, plain, s->len);
    bm_jsb_puts(b, "\"");
    return b->run->rc == 0;
}

static void json_newline(bm_jsb *b, const bm_jjson *how, size_t level)
{
    if (how->indent == NULL)
        return;
    bm_jsb_puts(b, "\n");
    for (size_t i = 0; i < level && how->indent->len > 0; i++)
        bm_jsb_str(b, how->indent);
}

static bool json_list(bm_jsb *b, const bm_jlist *list, const bm_jjson *how, size_t level)
{
    if (list->n == 0) {
        bm_jsb_puts(b, "[]");
        return true;
    }
    bm_jsb_puts(b, "[");
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0)
            bm_jsb_str(b, how->item_sep);
        json_newline(b, how, level + 1);
        if (!bm_jval_json(b, list->items[i], how, level + 1))
            return false;
    }
    json_newline(b, how, level);
    bm_jsb_puts(b, "]");
    return true;
}

static bool json_key(bm_jsb *b, bm_jval key, const bm_jjson *how)
{
    if (key.type == BM_J_STR)
        return json_str(b, key.s, how->ensure_ascii);
    if (!bm_jis_num(key) && key.type != BM_J_NONE)
        return bm_jrun_fail(b->run, "keys must be str, int, float, bool or None, not %s", bm_jval_type(key));
    bm_jsb_puts(b, "\"");
    if (!bm_jval_json(b, key, how, 0))
        return false;
    bm_jsb_puts(b, "\"");
    return true;
}

static bool json_dict(bm_jsb *b, const bm_jdict *d, const bm_jjson *how, size_t level)
{
    bm_jval *keys, *values;

    if (d->n == 0) {
        bm_jsb_puts(b, "{}");
        return true;
    }
    if ((keys = bm_jrun_alloc(b->run, d->n, sizeof *keys)) == NULL || (values = bm_jrun_alloc(b->run, d->n, sizeof *values)) == NULL)
        return false;
    for (size_t i = 0; i < d->n; i++)
        keys[i] = d->entries[i].key, values[i] = d->entries[i].value;
    if (how->sort_keys && !bm_jval_sort(b->run, keys, values, d->n, false))
        return false;
    bm_jsb_puts(b, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i > 0)
            bm_jsb_str(b, how->item_sep);
        json_newline(b, how, level + 1);
        if (!json_key(b, keys[i], how))
            return false;
        bm_jsb_str(b, how->key_sep);
        if (!bm_jval_json(b, values[i], how, level + 1))
            return false;
    }
    json_newline(b, how, level);
    bm_jsb_puts(b, "}");
    return true;
}

static bool json_some(bm_jsb *b, bm_jval v, const bm_jjson *how, size_t level)
{
    char text[32];

    switch (v.type) {
    case BM_J_NONE:
        bm_jsb_puts(b, "null");
        return true;
    case BM_J_BOOL:
        bm_jsb_puts(b, v.b ? "true" : "false");
        return true;
    case BM_J_INT:
        add_int(b, v.i);
        return true;
    case BM_J_FLOAT:
        bm_jsb_add(b, text, (size_t)bm_number_write(text, v.f), BM_SPAN_TEMPLATE);
        return true;
    case BM_J_STR:
        return json_str(b, v.s, how->ensure_ascii);
    case BM_J_LIST:
    case BM_J_TUPLE:
        return json_list(b, v.list, how, level);
    case BM_J_DICT:
        return json_dict(b, v.dict, how, level);
    default:
        return bm_jrun_fail(b->run, "Object of type %s is not JSON serializable", bm_jval_type(v));
    }
}

bool bm_jval_json(bm_jsb *b, bm_jval v, const bm_jjson *how, size_t level)
{
    bool ok = bm_jrun_step(b->run, 1) && bm_jrun_enter(b->run) && json_some(b, v, how, level) && b->run->rc == 0;

    bm_jrun_leave(b->run);
    return ok;
}
