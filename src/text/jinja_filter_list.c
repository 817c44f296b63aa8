/* jinja_filter_list.c - filters over sequences. What is a generator in jinja2 is one here too: true, without length, read once. */
#include <string.h>

#include "text/jinja.h"

/* ---- keys: attributes by "a.b.0" or several by "a,b" ---- */

static bool is_digits(const bm_jstr *s)
{
    for (size_t i = 0; i < s->len; i++)
        if (s->data[i] < '0' || s->data[i] > '9')
            return false;
    return s->len > 0;
}

static bool follow(bm_jrun *r, bm_jval item, bm_jstr *path, bm_jval fallback, bm_jval *out)
{
    size_t at = 0;
    bool large;

    *out = item;
    while (at <= path->len) {
        const char *dot = memchr(path->data + at, '.', path->len - at);
        size_t end = dot == NULL ? path->len : (size_t)(dot - path->data);
        bm_jval key;
        int64_t i;
        if (!bm_jval_str(&key, bm_jstr_slice(r, path, at, end)))
            return false;
        if (is_digits(key.s) && bm_jnum_parse_int(key.s, 10, &i, &large) && !large)
            key = bm_jint(i);
        if (!bm_jval_getitem(r, *out, key, out))
            return false;
        if (out->type == BM_J_UNDEF && bm_jarg_given(fallback))
            *out = fallback;
        at = end + 1;
    }
    return true;
}

static bool ignore_case(bm_jrun *r, bm_jval *v)
{
    return v->type != BM_J_STR || bm_jval_str(v, bm_jstr_case(r, v->s, 'l'));
}

/* make_attrgetter: attribute None: the item itself */
static bool get_attribute(bm_jrun *r, bm_jval item, bm_jval attribute, bm_jval fallback, bool fold, bm_jval *out)
{
    *out = item;
    if (attribute.type == BM_J_STR) {
        if (!bm_jstr_flat(r, attribute.s) || !follow(r, item, attribute.s, fallback, out))
            return false;
    } else if (bm_jarg_given(attribute)) {
        if (!bm_jval_getitem(r, item, attribute, out))
            return false;
        if (out->type == BM_J_UNDEF && bm_jarg_given(fallback))
            *out = fallback;
    }
    return !fold || ignore_case(r, out);
}

/* make_multi_attrgetter: a list of the values of "a,b" */
static bool get_attributes(bm_jrun *r, bm_jval item, bm_jval attribute, bool fold, bm_jval *out)
{
    bm_jlist *list = bm_jlist_new(r, 1);
    bm_jval part = attribute, v;
    size_t at = 0;

    if (list == NULL)
        return false;
    do {
        if (attribute.type == BM_J_STR) {
            if (!bm_jstr_flat(r, attribute.s))
                return false;
            const char *comma = memchr(attribute.s->data + at, ',', attribute.s->len - at);
            size_t end = comma == NULL ? attribute.s->len : (size_t)(comma - attribute.s->data);
            if (!bm_jval_str(&part, bm_jstr_slice(r, attribute.s, at, end)))
                return false;
            at = end + 1;
        }
        if (!get_attribute(r, item, part, (bm_jval){0}, fold, &v) || !bm_jlist_add(r, list, v))
            return false;
    } while (attribute.type == BM_J_STR && at <= attribute.s->len);
    return bm_jval_list(r, BM_J_LIST, list, out);
}

/* ---- the filters ---- */

static bool f_length(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    size_t n;

    if (!bm_jval_len(r, c->self, &n))
        return false;
    *out = bm_jint((int64_t)n);
    return true;
}

static bool f_first(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jiter it;

    if (!bm_jiter_open(r, c->self, &it) || !bm_jiter_next(r, &it, out))
        return false;
    return out->type != BM_J_MISSING || bm_jval_undef(r, "No first item, sequence was empty.", out);
}

static bool reversible(bm_jrun *r, bm_jval v)
{
    return (bm_jval_iterable(v) && v.type != BM_J_ITER && v.type != BM_J_LOOP) ||
           bm_jrun_fail(r, "'%s' object is not reversible", bm_jval_type(v));
}

static bool f_last(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *list;

    if (!reversible(r, c->self))
        return false;
    if (c->self.type == BM_J_STR) {
        int64_t n = bm_jstr_flat(r, c->self.s) ? (int64_t)bm_jstr_chars(c->self.s) : 0;
        if (n > 0)
            return bm_jval_str(out, bm_jstr_at(r, c->self.s, n - 1, n));
    }
    if (!bm_jval_collect(r, c->self, &list))
        return false;
    if (list->n == 0)
        return bm_jval_undef(r, "No last item, sequence was empty.", out);
    *out = list->items[list->n - 1];
    return true;
}

static bool map_attribute(bm_jrun *r, bm_jval from, bm_jval attribute, bm_jval fallback, bm_jlist **out)
{
    bm_jiter it;
    bm_jval v;

    if (!bm_jiter_open(r, from, &it) || (*out = bm_jlist_new(r, 0)) == NULL)
        return false;
    for (;;) {
        if (!bm_jiter_next(r, &it, &v))
            return false;
        if (v.type == BM_J_MISSING)
            return true;
        if (!get_attribute(r, v, attribute, fallback, false, &v) || !bm_jlist_add(r, *out, v))
            return false;
    }
}

static bool f_join(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *sep = c->a[0].type == BM_J_MISSING ? bm_jstr_text(r, "") : bm_jval_to_str(r, c->a[0]);
    bm_jval parts = c->self;

    if (sep == NULL)
        return false;
    if (bm_jarg_given(c->a[1])) {
        parts.type = BM_J_LIST;
        if (!map_attribute(r, c->self, c->a[1], (bm_jval){0}, &parts.list))
            return false;
    }
    return bm_jval_str(out, bm_jstr_join(r, sep, parts, true));
}

static bool f_list(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *list;

    return bm_jval_collect(r, c->self, &list) && bm_jval_list(r, BM_J_LIST, list, out);
}

static bool f_reverse(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *from, *list;

    if (c->self.type == BM_J_STR)
        return bm_jval_slice(r, c->self, (bm_jval[3]){{0}, {0}, bm_jint(-1)}, out);
    if (!bm_jval_iterable(c->self))
        return bm_jrun_fail(r, "argument must be iterable");
    if (!bm_jval_collect(r, c->self, &from) || (list = bm_jlist_new(r, from->n)) == NULL)
        return false;
    while (list->n < from->n) {
        list->items[list->n] = from->items[from->n - 1 - list->n];
        list->n++;
    }
    return c->self.type == BM_J_ITER ? bm_jval_list(r, BM_J_LIST, list, out) : bm_jval_gen(r, list, out);
}

static bool f_batch(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *items, *all = bm_jlist_new(r, 0), *row = NULL;
    int64_t width;
    bm_jval v;

    if (all == NULL || !bm_jarg_int(r, c->a[0], "linecount", &width) || !bm_jval_collect(r, c->self, &items))
        return false;
    for (size_t i = 0; i < items->n; i++) {
        if (row == NULL || (int64_t)row->n == width) {
            if (!bm_jval_list(r, BM_J_LIST, row = bm_jlist_new(r, 0), &v) || !bm_jlist_add(r, all, v))
                return false;
        }
        if (!bm_jlist_add(r, row, items->items[i]))
            return false;
    }
    while (row != NULL && bm_jarg_given(c->a[1]) && (int64_t)row->n < width)
        if (!bm_jrun_step(r, 1) || !bm_jlist_add(r, row, c->a[1]))
            return false;
    return bm_jval_gen(r, all, out);
}

static bool f_slice(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *items, *all = bm_jlist_new(r, 0), *row;
    int64_t slices;
    size_t at = 0;
    bm_jval v;

    if (all == NULL || !bm_jarg_int(r, c->a[0], "slices", &slices) || !bm_jval_collect(r, c->self, &items))
        return false;
    if (slices == 0)
        return bm_jrun_fail(r, "integer division or modulo by zero");
    for (int64_t i = 0; i < slices; i++) {
        bool longer = i < (int64_t)(items->n % (size_t)slices);
        size_t n = items->n / (size_t)slices + longer;
        if (!bm_jrun_step(r, n + 1) || (row = bm_jlist_new(r, n + 1)) == NULL)
            return false;
        while (row->n < n)
            row->items[row->n++] = items->items[at++];
        if (bm_jarg_given(c->a[1]) && !longer && !bm_jlist_add(r, row, c->a[1]))
            return false;
        if (!bm_jval_list(r, BM_J_LIST, row, &v) || !bm_jlist_add(r, all, v))
            return false;
    }
    return bm_jval_gen(r, all, out);
}

static bool sorted_by(bm_jrun *r, bm_jval from, bool reverse, bool fold, bm_jval attribute, bm_jlist **out)
{
    bm_jlist *items;

    if (!bm_jval_collect(r, from, &items) || (*out = bm_jlist_new(r, items->n)) == NULL)
        return false;
    bm_jval *keys = bm_jrun_alloc(r, items->n + 1, sizeof *keys);
    for (size_t i = 0; keys != NULL && i < items->n; i++) {
        if (!get_attributes(r, items->items[i], attribute, fold, &keys[i]))
            return false;
        (*out)->items[(*out)->n++] = items->items[i];
    }
    return keys != NULL && bm_jval_sort(r, keys, (*out)->items, (*out)->n, reverse);
}

static bool f_sort(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *list;

    return sorted_by(r, c->self, bm_jval_true(c->a[0]), !bm_jval_true(c->a[1]), c->a[2], &list) &&
           bm_jval_list(r, BM_J_LIST, list, out);
}

static bool f_unique(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *items, *list = bm_jlist_new(r, 0);
    bm_jdict *seen = bm_jdict_new(r);
    bm_jval key, had;

    if (list == NULL || seen == NULL || !bm_jval_collect(r, c->self, &items))
        return false;
    for (size_t i = 0; i < items->n; i++) {
        if (!get_attribute(r, items->items[i], c->a[1], (bm_jval){0}, !bm_jval_true(c->a[0]), &key) || !bm_jdict_get(r, seen, key, &had))
            return false;
        if (had.type == BM_J_MISSING && (!bm_jdict_set(r, seen, key, bm_jnone()) || !bm_jlist_add(r, list, items->items[i])))
            return false;
    }
    return bm_jval_gen(r, list, out);
}

static bool extreme(bm_jrun *r, const bm_jcall *c, int want, bm_jval *out)
{
    bm_jlist *items;
    bm_jval best = {0}, key;
    int order;

    if (!bm_jval_collect(r, c->self, &items))
        return false;
    if (items->n == 0)
        return bm_jval_undef(r, "No aggregated item, sequence was empty.", out);
    for (size_t i = 0; i < items->n; i++) {
        if (!get_attribute(r, items->items[i], c->a[1], (bm_jval){0}, !bm_jval_true(c->a[0]), &key))
            return false;
        if (i > 0 && !bm_jval_cmp(r, key, best, &order))
            return false;
        if (i == 0 || order == want)
            best = key, *out = items->items[i];
    }
    return true;
}

static bool f_min(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return extreme(r, c, -1, out); }
static bool f_max(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return extreme(r, c, 1, out); }

static bool f_sum(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *items;

    *out = c->a[1].type == BM_J_MISSING ? bm_jint(0) : c->a[1];
    if (out->type == BM_J_STR)
        return bm_jrun_fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    if (bm_jarg_given(c->a[0]) ? !map_attribute(r, c->self, c->a[0], (bm_jval){0}, &items) : !bm_jval_collect(r, c->self, &items))
        return false;
    for (size_t i = 0; i < items->n; i++)
        if (!bm_jrun_step(r, 1) || !bm_jop_binary(r, '+', *out, items->items[i], out))
            return false;
    return true;
}

static bool pairs_of(bm_jrun *r, const bm_jdict *d, bm_jlist **out)
{
    bm_jval v;

    if ((*out = bm_jlist_new(r, d->n)) == NULL)
        return false;
    for (size_t i = 0; i < d->n; i++)
        if (!bm_jval_pair(r, d->entries[i].key, d->entries[i].value, &v) || !bm_jlist_add(r, *out, v))
            return false;
    return true;
}

static bool f_items(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *list;

    if (c->self.type == BM_J_UNDEF)
        return bm_jval_gen(r, bm_jlist_new(r, 0), out);
    if (c->self.type != BM_J_DICT)
        return bm_jrun_fail(r, "Can only get item pairs from a mapping.");
    return pairs_of(r, c->self.dict, &list) && bm_jval_gen(r, list, out);
}

static bool f_dictsort(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *list;
    bm_jstr *by;
    size_t part = 0;

    if (c->a[1].type != BM_J_MISSING) {
        if (!bm_jarg_str(r, c->a[1], "by", &by))
            return false;
        if (!bm_jstr_is(by, "key") && !bm_jstr_is(by, "value"))
            return bm_jrun_fail(r, "You can only sort by either \"key\" or \"value\"");
        part = by->data[0] == 'v';
    }
    if (c->self.type == BM_J_UNDEF)
        return bm_jval_touch(r, c->self);
    if (c->self.type != BM_J_DICT)
        return bm_jrun_fail(r, "dictsort wants a mapping, not %s", bm_jval_type(c->self));
    bm_jval *keys = bm_jrun_alloc(r, c->self.dict->n + 1, sizeof *keys);
    if (keys == NULL || !pairs_of(r, c->self.dict, &list))
        return false;
    for (size_t i = 0; i < list->n; i++) {
        keys[i] = list->items[i].list->items[part];
        if (!bm_jval_true(c->a[0]) && !ignore_case(r, &keys[i]))
            return false;
    }
    return bm_jval_sort(r, keys, list->items, list->n, bm_jval_true(c->a[2])) && bm_jval_list(r, BM_J_LIST, list, out);
}

static bool add_group(bm_jrun *r, bm_jlist *groups, bm_jval name, bm_jlist *members)
{
    bm_jval list, group;

    if (!bm_jval_list(r, BM_J_LIST, members, &list) || !bm_jval_pair(r, name, list, &group))
        return false;
    group.list->group = true;
    return bm_jlist_add(r, groups, group);
}

static bool f_groupby(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *items, *groups = bm_jlist_new(r, 0), *members = NULL;
    bool fold = !bm_jval_true(c->a[2]), same;
    bm_jval *keys;

    if (groups == NULL || !bm_jval_collect(r, c->self, &items))
        return false;
    bm_jval *copy = bm_jrun_alloc(r, items->n + 1, sizeof *copy);
    if (copy == NULL || (keys = bm_jrun_alloc(r, items->n + 1, sizeof *keys)) == NULL)
        return false;
    for (size_t i = 0; i < items->n; i++) {
        copy[i] = items->items[i];
        if (!get_attribute(r, copy[i], c->a[0], c->a[1], fold, &keys[i]))
            return false;
    }
    if (!bm_jval_sort(r, keys, copy, items->n, false))
        return false;
    for (size_t i = 0; i < items->n; i++) {
        if (i > 0 && !bm_jval_eq(r, keys[i], keys[i - 1], &same))
            return false;
        if (i == 0 || !same) {
            bm_jval name;
            if ((members = bm_jlist_new(r, 0)) == NULL || !get_attribute(r, copy[i], c->a[0], c->a[1], false, &name) ||
                !add_group(r, groups, name, members))
                return false;
        }
        if (!bm_jlist_add(r, members, copy[i]))
            return false;
    }
    return bm_jval_list(r, BM_J_LIST, groups, out);
}

static bool f_attr(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *name;

    if (!bm_jarg_str(r, c->a[0], "attr() argument", &name))
        return false;
    if (c->self.type == BM_J_DICT) {                     /* an attribute only: no key of the mapping */
        bool unsafe;
        if (bm_jmethod_find(c->self, name, &unsafe) == NULL && !unsafe)
            return bm_jval_no_key(r, c->self, c->a[0], out);
    }
    return bm_jval_getattr(r, c->self, name, out);
}

static bool refuse_random(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    (void)c, (void)out;
    return bm_jrun_fail(r, "the filter 'random' is refused: a prompt must not be random");
}

static bool refuse_urlize(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    (void)c, (void)out;
    return bm_jrun_fail(r, "the filter 'urlize' makes HTML and is not carried out");
}

/* ---- map, select, reject: another filter or test for each item ---- */

typedef struct each { const bm_jdef *def; bm_jargs args; bm_jval attribute, fallback; bool by_attribute, keep; } each;

static bool find_each(bm_jrun *r, const bm_jcall *c, size_t skip, bool is_filter, each *e)
{
    bm_jstr *name;

    if (!bm_jarg_str(r, c->args->pos[skip], "the name of a filter or test", &name))
        return false;
    char text[80] = "";
    if (name->len < sizeof text)
        memcpy(text, name->data, name->len), text[name->len] = '\0';
    e->def = is_filter ? bm_jfilter_find(text) : bm_jtest_find(text);
    e->args = (bm_jargs){.pos = c->args->pos + skip + 1, .n = c->args->n - skip - 1, .kw = c->args->kw};
    return e->def != NULL || bm_jrun_fail(r, "No %s named '%s'.", is_filter ? "filter" : "test", text);
}

static bool f_map(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jval attribute = bm_jdict_name(c->args->kw, "attribute", 9), v;
    bm_jlist *list = bm_jlist_new(r, 0);
    bm_jiter it;
    each e = {0};

    if (list == NULL || !bm_jval_true(c->self))
        return bm_jval_gen(r, list, out);
    if (c->args->n == 0 && attribute.type != BM_J_MISSING) {
        bm_jval fallback = bm_jdict_name(c->args->kw, "default", 7);
        if (c->args->kw->n > 1u + (fallback.type != BM_J_MISSING))
            return bm_jrun_fail(r, "Unexpected keyword argument of map()");
        return map_attribute(r, c->self, attribute, fallback, &list) && bm_jval_gen(r, list, out);
    }
    if (c->args->n == 0)
        return bm_jrun_fail(r, "map requires a filter argument");
    if (!find_each(r, c, 0, true, &e) || !bm_jiter_open(r, c->self, &it))
        return false;
    for (;;) {
        if (!bm_jiter_next(r, &it, &v))
            return false;
        if (v.type == BM_J_MISSING)
            return bm_jval_gen(r, list, out);
        if (!bm_jdef_call(r, e.def, v, &e.args, &v) || !bm_jlist_add(r, list, v))
            return false;
    }
}

static bool pick(bm_jrun *r, const bm_jcall *c, bool by_attribute, bool keep, bm_jval *out)
{
    bm_jlist *list = bm_jlist_new(r, 0);
    bm_jval item, v;
    bm_jiter it;
    each e = {0};

    if (list == NULL || !bm_jval_true(c->self))
        return bm_jval_gen(r, list, out);
    if (by_attribute && c->args->n == 0)
        return bm_jrun_fail(r, "Missing parameter for attribute name");
    if (c->args->n > by_attribute && !find_each(r, c, by_attribute, false, &e))
        return false;
    if (!bm_jiter_open(r, c->self, &it))
        return false;
    for (;;) {
        if (!bm_jiter_next(r, &it, &item))
            return false;
        if (item.type == BM_J_MISSING)
            return bm_jval_gen(r, list, out);
        v = item;
        if (by_attribute && !get_attribute(r, item, c->args->pos[0], (bm_jval){0}, false, &v))
            return false;
        if (e.def != NULL && !bm_jdef_call(r, e.def, v, &e.args, &v))
            return false;
        if (bm_jval_true(v) == keep && !bm_jlist_add(r, list, item))
            return false;
    }
}

static bool f_select(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return pick(r, c, false, true, out); }
static bool f_reject(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return pick(r, c, false, false, out); }
static bool f_selectattr(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return pick(r, c, true, true, out); }
static bool f_rejectattr(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return pick(r, c, true, false, out); }

const bm_jdef bm_jfilters_list[] = {
    {"length", "", f_length}, {"count", "", f_length}, {"first", "", f_first}, {"last", "", f_last}, {"join", "d=,attribute=", f_join},
    {"list", "", f_list}, {"reverse", "", f_reverse}, {"batch", "linecount,fill_with=", f_batch},
    {"slice", "slices,fill_with=", f_slice}, {"sort", "reverse=,case_sensitive=,attribute=", f_sort},
    {"unique", "case_sensitive=,attribute=", f_unique}, {"min", "case_sensitive=,attribute=", f_min},
    {"max", "case_sensitive=,attribute=", f_max}, {"sum", "attribute=,start=", f_sum}, {"items", "", f_items},
    {"dictsort", "case_sensitive=,by=,reverse=", f_dictsort}, {"groupby", "attribute,default=,case_sensitive=", f_groupby},
    {"attr", "name", f_attr}, {"random", "", refuse_random}, {"urlize", NULL, refuse_urlize}, {"map", NULL, f_map},
    {"select", NULL, f_select}, {"reject", NULL, f_reject}, {"selectattr", NULL, f_selectattr}, {"rejectattr", NULL, f_rejectattr},
    {NULL, NULL, NULL},
};

const bm_jdef *bm_jfilter_find(const char *name)
{
    const bm_jdef *const tables[] = {bm_jfilters_text, bm_jfilters_list, bm_jfilters_wrap};

    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const bm_jdef *d = tables[i]; d->name != NULL; d++)
            if (strcmp(d->name, name) == 0)
                return d;
    return NULL;
}
