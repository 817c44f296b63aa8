/* jinja_filter.c - filters that make or read one value: text and numbers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja.h"

static bool text_of(bm_jrun *r, const bm_jcall *c, bm_jstr **s)
{
    *s = bm_jval_to_str(r, c->self);
    return *s != NULL;
}

static bool cased(bm_jrun *r, const bm_jcall *c, char how, bm_jval *out)
{
    bm_jstr *s;

    return text_of(r, c, &s) && bm_jval_str(out, bm_jstr_case(r, s, how));
}

static bool f_upper(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return cased(r, c, 'u', out); }
static bool f_lower(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return cased(r, c, 'l', out); }
static bool f_capitalize(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return cased(r, c, 'c', out); }

/* Words begin after blanks, "-", "(", "{", "[" or "<", unlike str.title. */
static bool f_title(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bool starts = true;
    bm_jstr *s, *part;
    uint32_t cp;
    bm_jsb b;

    bm_jsb_init(&b, r);
    if (!text_of(r, c, &s))
        return false;
    for (size_t i = 0, n; i < s->len; i += n) {
        n = (size_t)bm_j_decode(s->data + i, s->len - i, &cp);
        bool between = bm_j_is_space(cp) || (cp < 0x80 && cp != 0 && strchr("-({[<", (int)cp) != NULL);
        if ((part = bm_jstr_slice(r, s, i, i + n)) == NULL || (part = bm_jstr_case(r, part, starts && !between ? 'u' : 'l')) == NULL)
            return false;
        bm_jsb_slice(&b, part, 0, part->len);
        starts = between;
    }
    return bm_jval_str(out, bm_jsb_finish(&b));
}

static bool f_trim(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *s, *chars = NULL;

    if (!text_of(r, c, &s) || (bm_jarg_given(c->a[0]) && !bm_jarg_str(r, c->a[0], "strip arg", &chars)))
        return false;
    return bm_jval_str(out, bm_jstr_strip(r, s, chars, true, true));
}

static bool f_replace(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *s, *old = bm_jval_to_str(r, c->a[0]), *new_text = bm_jval_to_str(r, c->a[1]);
    int64_t count = -1;

    if (!text_of(r, c, &s) || old == NULL || new_text == NULL)
        return false;
    if (bm_jarg_given(c->a[2]) && !bm_jarg_int(r, c->a[2], "count", &count))
        return false;
    return bm_jval_str(out, bm_jstr_replace(r, s, old, new_text, count));
}

static bool f_string(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *s;

    return text_of(r, c, &s) && bm_jval_str(out, s);
}

static bool f_safe(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *s, *marked = bm_jrun_alloc(r, 1, sizeof *marked);

    if (marked == NULL || !text_of(r, c, &s))
        return false;
    *marked = *s;
    marked->markup = true;
    return bm_jval_str(out, marked);
}

static bool f_escape(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *s;

    if (!text_of(r, c, &s) || (!s->markup && !bm_jstr_escape(r, s, &s)))
        return false;
    return bm_jval_str(out, s);
}

static bool f_forceescape(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *s;

    return text_of(r, c, &s) && bm_jstr_escape(r, s, &s) && bm_jval_str(out, s);
}

static bool f_format(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jval args = {.type = BM_J_TUPLE, .list = &(bm_jlist){.n = c->args->n, .items = (bm_jval *)(uintptr_t)c->args->pos}};
    bool named = c->args->kw != NULL && c->args->kw->n > 0;
    bm_jstr *s;

    if (named && c->args->n > 0)
        return bm_jrun_fail(r, "can't handle positional and keyword arguments at the same time");
    if (named)
        args = (bm_jval){.type = BM_J_DICT, .dict = (bm_jdict *)(uintptr_t)c->args->kw};
    return text_of(r, c, &s) && bm_jformat_percent(r, s, args, out);
}

static bool f_indent(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bool first = bm_jval_true(c->a[1]), blank = bm_jval_true(c->a[2]);
    bm_jstr *s, *with = NULL;
    int64_t width = 4;
    bm_jlist *lines;
    bm_jsb b, pad;

    if (c->self.type == BM_J_UNDEF)
        return bm_jval_touch(r, c->self);
    if (!bm_jarg_str(r, c->self, "indent() value", &s))
        return false;
    if (c->a[0].type == BM_J_STR)
        with = c->a[0].s;
    else if (c->a[0].type != BM_J_MISSING && !bm_jarg_int(r, c->a[0], "width", &width))
        return false;
    bm_jsb_init(&pad, r);
    bm_jsb_fill(&pad, " ", 1, width > 0 ? (size_t)width : 0, BM_SPAN_TEMPLATE);
    if (with == NULL && (with = bm_jsb_finish(&pad)) == NULL)
        return false;
    /* Python adds a line end before it splits: "" is one empty line, and "a\n" two lines. */
    if ((s = bm_jstr_cat(r, s, &(bm_jstr){.data = "\n", .len = 1, .n_chars = 1, .src = BM_SPAN_TEMPLATE})) == NULL ||
        !bm_jstr_flat(r, s) || !bm_jstr_flat(r, with) || (lines = bm_jstr_lines(r, s, false)) == NULL)
        return false;
    bm_jsb_init(&b, r);
    for (size_t i = 0; i < lines->n; i++) {
        bm_jstr *line = lines->items[i].s;
        if (i > 0)
            bm_jsb_puts(&b, "\n");
        if (i == 0 ? first : blank || line->len > 0)
            bm_jsb_slice(&b, with, 0, with->len);
        bm_jsb_slice(&b, line, 0, line->len);
    }
    return bm_jval_str(out, bm_jsb_finish(&b));
}

static bool f_truncate(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    int64_t length = 255, leeway = 5;
    bm_jstr *s, *end = bm_jstr_text(r, "..."), *head;
    size_t n;
    bm_jsb b;

    if (end == NULL ||
        (c->a[0].type != BM_J_MISSING && !bm_jarg_int(r, c->a[0], "length", &length)) ||
        (c->a[2].type != BM_J_MISSING && !bm_jarg_str(r, c->a[2], "end", &end)) ||
        (bm_jarg_given(c->a[3]) && !bm_jarg_int(r, c->a[3], "leeway", &leeway)))
        return false;
    int64_t n_end = (int64_t)bm_jstr_chars(end);
    if (!bm_jval_len(r, c->self, &n))
        return false;
    if (length < n_end || leeway < 0)
        return bm_jrun_fail(r, "expected length >= %lld, got %lld", (long long)n_end, (long long)length);
    *out = c->self;
    if (leeway > INT64_MAX - length || (int64_t)n <= length + leeway)
        return true;
    if (!bm_jarg_str(r, c->self, "truncate() value", &s) || (head = bm_jstr_at(r, s, 0, length - n_end)) == NULL)
        return false;
    size_t cut = head->len;
    if (!bm_jval_true(c->a[1])) {
        while (cut > 0 && head->data[cut - 1] != ' ')
            cut--;
        cut = cut > 0 ? cut - 1 : head->len;
    }
    bm_jsb_init(&b, r);
    bm_jsb_slice(&b, head, 0, cut);
    bm_jsb_slice(&b, end, 0, end->len);
    return bm_jval_str(out, bm_jsb_finish(&b));
}

static bool f_center(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    int64_t width = 80;
    bm_jstr *s;

    if (!text_of(r, c, &s) || (c->a[0].type != BM_J_MISSING && !bm_jarg_int(r, c->a[0], "width", &width)))
        return false;
    return bm_jval_str(out, bm_jstr_pad(r, s, width, " ", 1, '^'));
}

static bool f_wordcount(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bool inside = false;
    uint32_t cp;
    bm_jstr *s;

    if (!text_of(r, c, &s) || !bm_jrun_step(r, s->len / 16))
        return false;
    *out = bm_jint(0);
    for (size_t i = 0; i < s->len;) {
        i += (size_t)bm_j_decode(s->data + i, s->len - i, &cp);
        bool word = bm_j_is_word(cp);
        out->i += word && !inside;
        inside = word;
    }
    return true;
}

static bool quote_url(bm_jsb *b, bm_jval v, bool query)
{
    bm_jstr *s = bm_jval_to_str(b->run, v);
    char hex[4];

    for (size_t i = 0; s != NULL && i < s->len; i++) {
        unsigned char ch = (unsigned char)s->data[i];
        bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
                     (ch != 0 && strchr("_.-~", ch) != NULL) || (ch == '/' && !query);
        if (plain)
            bm_jsb_slice(b, s, i, i + 1);
        else if (ch == ' ' && query)
            bm_jsb_add(b, "+", 1, bm_jstr_source(s));
        else
            bm_jsb_add(b, hex, (size_t)snprintf(hex, sizeof hex, "%%%02X", ch), bm_jstr_source(s));
    }
    return b->run->rc == 0;
}

static bool f_urlencode(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *pairs, *pair;
    bm_jview view = {.kind = BM_J_ITEMS};
    bm_jval from = c->self;
    bm_jsb b;

    bm_jsb_init(&b, r);
    if (from.type == BM_J_STR || !bm_jval_iterable(from))
        return quote_url(&b, from, false) && bm_jval_str(out, bm_jsb_finish(&b));
    if (from.type == BM_J_DICT) {
        view.dict = from.dict;
        from = (bm_jval){.type = BM_J_VIEW, .view = &view};
    }
    if (!bm_jval_collect(r, from, &pairs))
        return false;
    for (size_t i = 0; i < pairs->n; i++) {
        if (!bm_jval_collect(r, pairs->items[i], &pair))
            return false;
        if (pair->n != 2)
            return bm_jrun_fail(r, "urlencode wants pairs");
        if (i > 0)
            bm_jsb_puts(&b, "&");
        if (!quote_url(&b, pair->items[0], true))
            return false;
        bm_jsb_puts(&b, "=");
        if (!quote_url(&b, pair->items[1], true))
            return false;
    }
    return bm_jval_str(out, bm_jsb_finish(&b));
}

static bool f_xmlattr(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bool space = c->a[0].type == BM_J_MISSING || bm_jval_true(c->a[0]);
    bm_jstr *key, *value;
    bm_jsb b;

    if (c->self.type != BM_J_DICT)
        return bm_jrun_fail(r, "xmlattr wants a mapping, not %s", bm_jval_type(c->self));
    bm_jsb_init(&b, r);
    for (size_t i = 0; i < c->self.dict->n; i++) {
        const bm_jentry *e = &c->self.dict->entries[i];
        if (e->value.type == BM_J_NONE || e->value.type == BM_J_UNDEF)
            continue;
        if (!bm_jarg_str(r, e->key, "an attribute's name", &key))
            return false;
        for (size_t k = 0; k < key->len; k++)
            if (key->data[k] == '\0' ? false : strchr(" \t\n\r\f\v/>=", key->data[k]) != NULL)
                return bm_jrun_fail(r, "Invalid character in attribute name");
        if ((value = bm_jval_to_str(r, e->value)) == NULL || !bm_jstr_escape(r, key, &key) || (!value->markup && !bm_jstr_escape(r, value, &value)))
            return false;
        if (space || b.len > 0)
            bm_jsb_puts(&b, " ");
        bm_jsb_str(&b, key);
        bm_jsb_puts(&b, "=\"");
        bm_jsb_str(&b, value);
        bm_jsb_puts(&b, "\"");
    }
    return bm_jval_str(out, bm_jsb_finish(&b));
}

/* Comments, then tags go; blanks become single spaces; the five entities of |escape become characters again. */
static bool f_striptags(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    static const char *const marks[2][2] = {{"<!--", "-->"}, {"<", ">"}};
    static const char *const entities[][2] = {{"&lt;", "<"}, {"&gt;", ">"}, {"&#34;", "\""}, {"&quot;", "\""}, {"&#39;", "'"}, {"&amp;", "&"}};
    bm_jstr *s, *open, *close, *space;
    bm_jval words = {.type = BM_J_LIST};
    size_t at, from, to;
    bm_jsb b;

    if (!text_of(r, c, &s) || (space = bm_jstr_text(r, " ")) == NULL)
        return false;
    for (int i = 0; i < 2; i++) {
        if ((open = bm_jstr_text(r, marks[i][0])) == NULL || (close = bm_jstr_text(r, marks[i][1])) == NULL)
            return false;
        bm_jsb_init(&b, r);
        for (at = 0; (from = bm_jstr_find(s, at, open)) != SIZE_MAX && (to = bm_jstr_find(s, from, close)) != SIZE_MAX; at = to + close->len)
            bm_jsb_slice(&b, s, at, from);
        bm_jsb_slice(&b, s, at, s->len);
        if (!bm_jrun_step(r, s->len / 16) || (s = bm_jsb_finish(&b)) == NULL)
            return false;
    }
    if ((words.list = bm_jstr_words(r, s)) == NULL || (s = bm_jstr_join(r, space, words, false)) == NULL)
        return false;
    for (size_t i = 0; i < sizeof entities / sizeof entities[0]; i++) {
        open = bm_jstr_text(r, entities[i][0]), close = bm_jstr_text(r, entities[i][1]);
        if (open == NULL || close == NULL || (s = bm_jstr_replace(r, s, open, close, -1)) == NULL)
            return false;
    }
    return bm_jval_str(out, s);
}

static bool f_tojson(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jjson how = {.ensure_ascii = bm_jval_true(c->a[0]), .sort_keys = bm_jval_true(c->a[3])};
    bm_jval indent = c->a[1], seps = c->a[2];
    int64_t width;
    bm_jsb b;

    if (indent.type == BM_J_STR) {
        how.indent = indent.s;
    } else if (bm_jarg_given(indent)) {
        if (!bm_jarg_int(r, indent, "indent", &width))
            return false;
        bm_jsb_init(&b, r);
        bm_jsb_fill(&b, " ", 1, width > 0 ? (size_t)width : 0, BM_SPAN_TEMPLATE);
        if ((how.indent = bm_jsb_finish(&b)) == NULL)
            return false;
    }
    how.item_sep = bm_jstr_text(r, how.indent == NULL ? ", " : ",");
    how.key_sep = bm_jstr_text(r, ": ");
    if (bm_jarg_given(seps)) {
        bool pair = (seps.type == BM_J_TUPLE || seps.type == BM_J_LIST) && seps.list->n == 2;
        if (!pair || !bm_jarg_str(r, seps.list->items[0], "separator", &how.item_sep) ||
            !bm_jarg_str(r, seps.list->items[1], "separator", &how.key_sep))
            return bm_jrun_fail(r, "separators must be a tuple of two str");
    }
    bm_jsb_init(&b, r);
    return how.item_sep != NULL && how.key_sep != NULL && bm_jval_json(&b, c->self, &how, 0) && bm_jval_str(out, bm_jsb_finish(&b));
}

static bool sort_dicts(bm_jrun *r, bm_jval v, bm_jval *out);

static bool sort_list(bm_jrun *r, bm_jval v, bm_jval *out)
{
    bm_jlist *list = bm_jlist_new(r, v.list->n);
    bm_jval item;

    for (size_t i = 0; list != NULL && i < v.list->n; i++)
        if (!sort_dicts(r, v.list->items[i], &item) || !bm_jlist_add(r, list, item))
            return false;
    return bm_jval_list(r, v.type, list, out);
}

static bool sort_dict(bm_jrun *r, const bm_jdict *d, bm_jval *out)
{
    bm_jval *keys = bm_jrun_alloc(r, d->n + 1, sizeof *keys), *values = bm_jrun_alloc(r, d->n + 1, sizeof *values), v;
    bm_jdict *sorted = bm_jdict_new(r);

    if (keys == NULL || values == NULL || sorted == NULL)
        return false;
    for (size_t i = 0; i < d->n; i++)
        keys[i] = d->entries[i].key, values[i] = d->entries[i].value;
    if (!bm_jval_sort(r, keys, values, d->n, false))
        return false;
    for (size_t i = 0; i < d->n; i++)
        if (!sort_dicts(r, values[i], &v) || !bm_jdict_set(r, sorted, keys[i], v))
            return false;
    *out = (bm_jval){.type = BM_J_DICT, .dict = sorted};
    return true;
}

static bool sort_dicts(bm_jrun *r, bm_jval v, bm_jval *out)
{
    *out = v;
    bool ok = bm_jrun_enter(r);
    if (ok && (v.type == BM_J_LIST || v.type == BM_J_TUPLE))
        ok = sort_list(r, v, out);
    else if (ok && v.type == BM_J_DICT)
        ok = sort_dict(r, v.dict, out);
    bm_jrun_leave(r);
    return ok;
}

/* pprint.pformat, for what fits on its line of 80 characters. */
static bool f_pprint(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jval v;
    bm_jsb b;

    bm_jsb_init(&b, r);
    if (!sort_dicts(r, c->self, &v) || !bm_jval_repr(&b, v) || !bm_jval_str(out, bm_jsb_finish(&b)))
        return false;
    return bm_jstr_chars(out->s) <= 80 || bm_jrun_fail(r, "pprint of more than one line is not carried out; use tojson(indent=2)");
}

static bool f_filesizeformat(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    bool is_binary = bm_jval_true(c->a[0]);
    double base = is_binary ? 1024 : 1000, bytes, unit = base * base;
    char text[400];
    int i = 0;

    if (bm_jis_num(c->self))
        bytes = bm_jreal(c->self);
    else if (c->self.type != BM_J_STR || !bm_jstr_flat(r, c->self.s) || !bm_jnum_parse_float(c->self.s, &bytes))
        return bm_jrun_fail(r, "could not convert to a number of bytes");
    if (bytes == 1) {
        snprintf(text, sizeof text, "1 Byte");
    } else if (bytes < base) {
        snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes));
    } else {
        for (; i < 7 && bytes >= unit; i++)
            unit *= base;
        snprintf(text, sizeof text, "%.1f %s", base * bytes / unit, (is_binary ? binary : decimal)[i]);
    }
    return bm_jval_str(out, bm_jstr_copy(r, text, strlen(text), BM_SPAN_TEMPLATE));
}

static bool f_abs(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    if (!bm_jis_num(c->self))
        return bm_jrun_fail(r, "bad operand type for abs(): '%s'", bm_jval_type(c->self));
    bool negative = c->self.type == BM_J_FLOAT ? signbit(c->self.f) : bm_jintegral(c->self) < 0;
    return bm_jop_unary(r, negative ? '-' : '+', c->self, out);
}

static bool f_int(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bool too_large = false;
    int64_t base = 10, v;
    double f;

    if (c->self.type == BM_J_UNDEF)
        return bm_jval_touch(r, c->self);
    if (c->a[1].type != BM_J_MISSING && !bm_jarg_int(r, c->a[1], "base", &base))
        return false;
    *out = c->a[0].type == BM_J_MISSING ? bm_jint(0) : c->a[0];
    if (bm_jis_integral(c->self))
        *out = bm_jint(bm_jintegral(c->self));
    else if (c->self.type == BM_J_FLOAT)
        return isnan(c->self.f) || bm_jnum_from_float(r, c->self.f, out);
    else if (c->self.type == BM_J_STR) {
        if (!bm_jstr_flat(r, c->self.s))
            return false;
        if (bm_jnum_parse_int(c->self.s, (int)(base < 0 || base > 36 ? 1 : base), &v, &too_large)) {
            *out = bm_jint(v);
            return !too_large || bm_jrun_fail(r, "the number does not fit into 64 bits");
        }
        if (bm_jnum_parse_float(c->self.s, &f) && isfinite(f))
            return bm_jnum_from_float(r, f, out);
    }
    return true;
}

static bool f_float(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    double f;

    if (c->self.type == BM_J_UNDEF)
        return bm_jval_touch(r, c->self);
    *out = c->a[0].type == BM_J_MISSING ? bm_jfloat(0) : c->a[0];
    if (bm_jis_num(c->self))
        *out = bm_jfloat(bm_jreal(c->self));
    else if (c->self.type == BM_J_STR && bm_jstr_flat(r, c->self.s) && bm_jnum_parse_float(c->self.s, &f))
        *out = bm_jfloat(f);
    return r->rc == 0;
}

static bool f_round(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    int64_t digits = 0;
    bm_jstr *how = NULL;
    bm_jval unit, scaled;

    if (!bm_jis_num(c->self))
        return bm_jrun_fail(r, "type %s doesn't define __round__ method", bm_jval_type(c->self));
    if (c->a[0].type != BM_J_MISSING && !bm_jarg_int(r, c->a[0], "precision", &digits))
        return false;
    if (c->a[1].type != BM_J_MISSING && !bm_jarg_str(r, c->a[1], "method", &how))
        return false;
    if (how == NULL || bm_jstr_is(how, "common"))
        return bm_jnum_round(r, c->self, digits, out);
    if (!bm_jstr_is(how, "ceil") && !bm_jstr_is(how, "floor"))
        return bm_jrun_fail(r, "method must be common, ceil or floor");
    if (!bm_jop_binary(r, 'p', bm_jint(10), bm_jint(digits), &unit) || !bm_jop_binary(r, '*', c->self, unit, &scaled))
        return false;
    double whole = bm_jreal(scaled);
    whole = bm_jstr_is(how, "ceil") ? ceil(whole) : floor(whole);
    return bm_jnum_from_float(r, whole, &scaled) && bm_jop_binary(r, '/', scaled, unit, out);
}

static bool f_default(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bool use = c->self.type == BM_J_UNDEF || (bm_jval_true(c->a[1]) && !bm_jval_true(c->self));

    *out = c->self;
    if (!use)
        return true;
    if (c->a[0].type == BM_J_MISSING)
        return bm_jval_str(out, bm_jstr_text(r, ""));
    *out = c->a[0];
    return true;
}

const bm_jdef bm_jfilters_text[] = {
    {"upper", "", f_upper}, {"lower", "", f_lower}, {"capitalize", "", f_capitalize}, {"title", "", f_title}, {"trim", "chars=", f_trim},
    {"replace", "old,new,count=", f_replace}, {"string", "", f_string}, {"safe", "", f_safe}, {"escape", "", f_escape},
    {"e", "", f_escape}, {"forceescape", "", f_forceescape}, {"format", NULL, f_format},
    {"indent", "width=,first=,blank=", f_indent}, {"truncate", "length=,killwords=,end=,leeway=", f_truncate},
    {"center", "width=", f_center}, {"wordcount", "", f_wordcount}, {"urlencode", "", f_urlencode},
    {"xmlattr", "autospace=", f_xmlattr}, {"striptags", "", f_striptags},
    {"tojson", "ensure_ascii=,indent=,separators=,sort_keys=", f_tojson}, {"pprint", "", f_pprint},
    {"filesizeformat", "binary=", f_filesizeformat}, {"abs", "", f_abs}, {"int", "default=,base=", f_int},
    {"float", "default=", f_float}, {"round", "precision=,method=", f_round}, {"default", "default_value=,boolean=", f_default},
    {"d", "default_value=,boolean=", f_default}, {NULL, NULL, NULL},
};
