/* jinja_call.c - calling: binding arguments to parameters, the global functions, and what a value can be called for. */
#include <stdio.h>
#include <string.h>

#include "text/jinja_ast.h"

bool bm_jarg_int(bm_jrun *r, bm_jval v, const char *what, int64_t *out)
{
    if (v.type == BM_J_UNDEF)
        return bm_jval_touch(r, v);
    if (!bm_jis_integral(v))
        return bm_jrun_fail(r, "%s must be an int, not %s", what, bm_jval_type(v));
    *out = bm_jintegral(v);
    return true;
}

bool bm_jarg_str(bm_jrun *r, bm_jval v, const char *what, bm_jstr **out)
{
    if (v.type != BM_J_STR)
        return bm_jrun_fail(r, "%s must be str, not %s", what, bm_jval_type(v));
    *out = v.s;
    return bm_jstr_flat(r, v.s);
}

typedef struct params { const char *name[BM_J_MAX_PARAMS]; size_t len[BM_J_MAX_PARAMS]; bool optional[BM_J_MAX_PARAMS], no_names; size_t n; } params;

static params read_spec(const char *spec)
{
    params p = {.no_names = *spec == '/'};

    spec += p.no_names;
    while (*spec != '\0' && p.n < BM_J_MAX_PARAMS) {
        size_t len = strcspn(spec, ",");
        p.name[p.n] = spec;
        p.optional[p.n] = spec[len - 1] == '=';
        p.len[p.n] = len - p.optional[p.n];
        p.n++;
        spec += len + (spec[len] == ',');
    }
    return p;
}

static bool bind_names(bm_jrun *r, const bm_jdef *def, const params *p, const bm_jargs *args, bm_jcall *c)
{
    if (args->kw == NULL || args->kw->n == 0)
        return true;
    if (p->no_names)
        return bm_jrun_fail(r, "%s() takes no keyword arguments", def->name);
    for (size_t i = 0; i < args->kw->n; i++) {
        const bm_jstr *key = args->kw->entries[i].key.s;
        size_t k = 0;
        while (k < p->n && !(p->len[k] == key->len && memcmp(p->name[k], key->data, key->len) == 0))
            k++;
        if (k == p->n)
            return bm_jrun_fail(r, "%s() got an unexpected keyword argument '%.*s'", def->name, (int)(key->len > 60 ? 60 : key->len), key->data);
        if (k < args->n)
            return bm_jrun_fail(r, "%s() got multiple values for argument '%.*s'", def->name, (int)key->len, key->data);
        c->a[k] = args->kw->entries[i].value;
    }
    return true;
}

bool bm_jdef_call(bm_jrun *r, const bm_jdef *def, bm_jval self, const bm_jargs *args, bm_jval *out)
{
    bm_jcall c = {.self = self, .args = args};

    if (!bm_jrun_step(r, 1))
        return false;
    if (def->spec == NULL)
        return def->fn(r, &c, out);
    params p = read_spec(def->spec);
    if (args->n > p.n)
        return bm_jrun_fail(r, "%s() takes at most %zu arguments (%zu given)", def->name, p.n, args->n);
    for (size_t i = 0; i < args->n; i++)
        c.a[i] = args->pos[i];
    if (!bind_names(r, def, &p, args, &c))
        return false;
    for (size_t i = 0; i < p.n; i++)
        if (!p.optional[i] && c.a[i].type == BM_J_MISSING)
            return bm_jrun_fail(r, "%s() missing a required argument: '%.*s'", def->name, (int)p.len[i], p.name[i]);
    return def->fn(r, &c, out);
}

/* ---- global functions ---- */

static bool make_range(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    int64_t a[3] = {0, 0, 1};
    size_t n = c->args->n;

    if (n < 1 || n > 3 || c->args->kw != NULL)
        return bm_jrun_fail(r, "range expected 1 to 3 arguments, got %zu", n);
    for (size_t i = 0; i < n; i++)
        if (!bm_jarg_int(r, c->args->pos[i], "range() argument", &a[n == 1 ? 1 : i]))
            return false;
    if (a[2] == 0)
        return bm_jrun_fail(r, "range() arg 3 must not be zero");
    bool up = a[2] > 0;
    uint64_t gap = up ? (a[1] > a[0] ? (uint64_t)a[1] - (uint64_t)a[0] : 0) : (a[0] > a[1] ? (uint64_t)a[0] - (uint64_t)a[1] : 0);
    uint64_t unit = up ? (uint64_t)a[2] : 0 - (uint64_t)a[2], count = gap == 0 ? 0 : (gap - 1) / unit + 1;
    if (count > BM_J_MAX_RANGE)
        return bm_jrun_fail_code(r, BM_LIMIT, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", BM_J_MAX_RANGE);
    bm_jrange *range = bm_jrun_alloc(r, 1, sizeof *range);
    if (range == NULL)
        return false;
    *range = (bm_jrange){a[0], a[1], a[2], (int64_t)count};
    *out = (bm_jval){.type = BM_J_RANGE, .range = range};
    return true;
}

static bool add_pairs(bm_jrun *r, bm_jdict *d, bm_jval from)
{
    bm_jlist *pair;
    bm_jiter it;
    bm_jval item;

    if (from.type == BM_J_DICT) {
        for (size_t i = 0; i < from.dict->n; i++)
            if (!bm_jdict_set(r, d, from.dict->entries[i].key, from.dict->entries[i].value))
                return false;
        return true;
    }
    if (!bm_jiter_open(r, from, &it))
        return false;
    for (;;) {
        if (!bm_jiter_next(r, &it, &item))
            return false;
        if (item.type == BM_J_MISSING)
            return true;
        if (!bm_jval_collect(r, item, &pair))
            return false;
        if (pair->n != 2)
            return bm_jrun_fail(r, "dictionary update sequence element has length %zu; 2 is required", pair->n);
        if (!bm_jdict_set(r, d, pair->items[0], pair->items[1]))
            return false;
    }
}

static bool build_dict(bm_jrun *r, const bm_jcall *c, bm_jdict **out)
{
    if ((*out = bm_jdict_new(r)) == NULL)
        return false;
    if (c->args->n > 1)
        return bm_jrun_fail(r, "dict expected at most 1 argument, got %zu", c->args->n);
    if (c->args->n == 1 && !add_pairs(r, *out, c->args->pos[0]))
        return false;
    return c->args->kw == NULL || add_pairs(r, *out, (bm_jval){.type = BM_J_DICT, .dict = (bm_jdict *)(uintptr_t)c->args->kw});
}

static bool make_dict(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jdict *d;

    if (!build_dict(r, c, &d))
        return false;
    *out = (bm_jval){.type = BM_J_DICT, .dict = d};
    return true;
}

static bool make_namespace(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jdict *d;

    if (!build_dict(r, c, &d))
        return false;
    for (size_t i = 0; i < d->n; i++) {
        bm_jval key = d->entries[i].key;
        if (key.type == BM_J_STR && !bm_jstr_flat(r, key.s))
            return false;
        if (key.type == BM_J_STR && key.s->len > 0 && key.s->data[0] == '_')
            return bm_jrun_fail(r, "Chat templates cannot store underscore-prefixed attributes on a namespace");
    }
    *out = (bm_jval){.type = BM_J_NAMESPACE, .dict = d};
    return true;
}

static bool make_cycler(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jcycler *cycler = bm_jrun_alloc(r, 1, sizeof *cycler);
    bm_jlist *items = bm_jlist_new(r, c->args->n);

    if (cycler == NULL || items == NULL)
        return false;
    if (c->args->n == 0)
        return bm_jrun_fail(r, "at least one item has to be provided");
    for (size_t i = 0; i < c->args->n; i++)
        items->items[items->n++] = c->args->pos[i];
    cycler->items = items;
    *out = (bm_jval){.type = BM_J_CYCLER, .cycler = cycler};
    return true;
}

static bool cycler_next(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jcycler *cycler = c->self.cycler;

    (void)r;
    *out = cycler->items->items[cycler->pos];
    cycler->pos = (cycler->pos + 1) % cycler->items->n;
    return true;
}

static bool cycler_reset(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    (void)r;
    c->self.cycler->pos = 0;
    *out = bm_jnone();
    return true;
}

static bool make_joiner(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jcycler *joiner = bm_jrun_alloc(r, 1, sizeof *joiner);

    if (joiner == NULL)
        return false;
    joiner->sep = c->a[0];
    if (joiner->sep.type == BM_J_MISSING && !bm_jval_str(&joiner->sep, bm_jstr_text(r, ", ")))
        return false;
    *out = (bm_jval){.type = BM_J_JOINER, .cycler = joiner};
    return true;
}

static bool raise_exception(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *text = bm_jval_to_str(r, c->a[0]);

    (void)out;
    if (text == NULL)
        return false;
    r->bare = true;
    return bm_jrun_fail(r, "%.*s", (int)(text->len > 400 ? 400 : text->len), text->data);
}

static bool strftime_now(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *format = NULL;

    return bm_jarg_str(r, c->a[0], "strftime_now() argument", &format) && bm_jstrftime(r, format, out);
}

static bool refuse_lipsum(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    (void)c, (void)out;
    return bm_jrun_fail(r, "lipsum() makes random text: a prompt must not be random");
}

static const bm_jdef FUNCTIONS[] = {
    {"range", NULL, make_range}, {"dict", NULL, make_dict}, {"namespace", NULL, make_namespace}, {"cycler", NULL, make_cycler},
    {"joiner", "sep=", make_joiner}, {"raise_exception", "message", raise_exception}, {"strftime_now", "format", strftime_now},
    {"lipsum", NULL, refuse_lipsum}, {NULL, NULL, NULL},
};

static const bm_jdef CYCLER_METHODS[] = {{"next", "", cycler_next}, {"reset", "", cycler_reset}, {NULL, NULL, NULL}};

const bm_jdef *bm_jfunc_find(const char *name)
{
    for (const bm_jdef *d = FUNCTIONS; d->name != NULL; d++)
        if (strcmp(d->name, name) == 0)
            return d;
    return NULL;
}

static bool is_one_of(const bm_jstr *name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (bm_jstr_is(name, *names))
            return true;
    return false;
}

const bm_jdef *bm_jmethod_find(bm_jval self, const bm_jstr *name, bool *unsafe)
{
    static const char *const list_changes[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove", NULL};
    static const char *const dict_changes[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    const bm_jdef *d = self.type == BM_J_STR ? bm_jmethods_str : self.type == BM_J_LIST || self.type == BM_J_TUPLE ? bm_jmethods_list
                     : self.type == BM_J_DICT ? bm_jmethods_dict : self.type == BM_J_LOOP ? bm_jmethods_loop
                     : self.type == BM_J_CYCLER ? CYCLER_METHODS : NULL;

    *unsafe = (self.type == BM_J_LIST && is_one_of(name, list_changes)) || (self.type == BM_J_DICT && is_one_of(name, dict_changes));
    for (; !*unsafe && d != NULL && d->name != NULL; d++)
        if (bm_jstr_is(name, d->name))
            return d;
    return NULL;
}

bool bm_jval_call(bm_jrun *r, bm_jval callee, const bm_jargs *args, bm_jval *out)
{
    switch (callee.type) {
    case BM_J_MACRO:
        return bm_jmacro_call(r, callee.macro, args, out);
    case BM_J_FUNC:
        return bm_jdef_call(r, callee.func, (bm_jval){0}, args, out);
    case BM_J_METHOD:
        return bm_jdef_call(r, callee.method->def, callee.method->self, args, out);
    case BM_J_LOOP:
        return bm_jloop_call(r, callee.loop, args, out);
    case BM_J_JOINER:
        if (callee.cycler->pos++ == 0)
            return bm_jval_str(out, bm_jstr_text(r, ""));
        *out = callee.cycler->sep;
        return true;
    case BM_J_UNDEF:
        return bm_jval_touch(r, callee);
    default:
        return bm_jrun_fail(r, "'%s' object is not callable", bm_jval_type(callee));
    }
}
