/* jinja_method_list.c - the methods of list, tuple and dict that read. Those that change raise SecurityError (jinja_call.c). */
#include "text/jinja.h"

static bool l_index(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    int64_t n = (int64_t)c->self.list->n, from = 0, to = n;
    bool equal = false;

    if ((c->a[1].type != BM_J_MISSING && !bm_jarg_int(r, c->a[1], "start", &from)) ||
        (c->a[2].type != BM_J_MISSING && !bm_jarg_int(r, c->a[2], "stop", &to)))
        return false;
    from = from < 0 ? (from + n < 0 ? 0 : from + n) : from;
    to = to < 0 ? to + n : to > n ? n : to;
    for (int64_t i = from; i < to; i++) {
        if (!bm_jval_eq(r, c->self.list->items[i], c->a[0], &equal))
            return false;
        if (equal) {
            *out = bm_jint(i);
            return true;
        }
    }
    return bm_jrun_fail(r, "the value is not in the list");
}

static bool l_count(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bool equal;

    *out = bm_jint(0);
    for (size_t i = 0; i < c->self.list->n; i++) {
        if (!bm_jval_eq(r, c->self.list->items[i], c->a[0], &equal))
            return false;
        out->i += equal;
    }
    return true;
}

static bool itself(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    (void)r;
    *out = c->self;
    return true;
}

static bool view(bm_jrun *r, const bm_jcall *c, int kind, bm_jval *out)
{
    bm_jview *v = bm_jrun_alloc(r, 1, sizeof *v);

    if (v == NULL)
        return false;
    *v = (bm_jview){.dict = c->self.dict, .kind = kind};
    *out = (bm_jval){.type = BM_J_VIEW, .view = v};
    return true;
}

static bool d_keys(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return view(r, c, BM_J_KEYS, out); }
static bool d_values(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return view(r, c, BM_J_VALUES, out); }
static bool d_items(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return view(r, c, BM_J_ITEMS, out); }

static bool d_get(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    if (!bm_jdict_get(r, c->self.dict, c->a[0], out))
        return false;
    if (out->type == BM_J_MISSING)
        *out = c->a[1].type == BM_J_MISSING ? bm_jnone() : c->a[1];
    return true;
}

static bool d_fromkeys(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jdict *d = bm_jdict_new(r);
    bm_jiter it;
    bm_jval key;

    if (d == NULL || !bm_jiter_open(r, c->a[0], &it))
        return false;
    for (;;) {
        if (!bm_jiter_next(r, &it, &key))
            return false;
        if (key.type == BM_J_MISSING)
            break;
        if (!bm_jdict_set(r, d, key, c->a[1].type == BM_J_MISSING ? bm_jnone() : c->a[1]))
            return false;
    }
    *out = (bm_jval){.type = BM_J_DICT, .dict = d};
    return true;
}

const bm_jdef bm_jmethods_list[] = {
    {"index", "/value,start=,stop=", l_index}, {"count", "/value", l_count}, {"copy", "", itself}, {NULL, NULL, NULL},
};
const bm_jdef bm_jmethods_dict[] = {
    {"get", "/key,default=", d_get}, {"keys", "", d_keys}, {"values", "", d_values}, {"items", "", d_items},
    {"copy", "", itself}, {"fromkeys", "/iterable,value=", d_fromkeys}, {NULL, NULL, NULL},
};
