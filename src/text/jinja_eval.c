/* jinja_eval.c - expressions to values, by walking the tree. The innermost node that fails gives the error its place. */
#include <string.h>

#include "text/jinja_ast.h"

static bool eval_name(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    for (uint32_t i = 0; i < n->hops; i++)
        env = env->parent;
    *out = env->slots[n->slot];
    return out->type != BM_J_MISSING || bm_jval_no_name(r, r->tmpl->names[n->name].text, out);
}

static bool eval_list(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bm_jlist *list = bm_jlist_new(r, n->kids.n);
    bm_jval v;

    if (list == NULL)
        return false;
    for (uint32_t i = 0; i < n->kids.n; i++)
        if (!bm_jeval(r, env, n->kids.v[i], &v) || !bm_jlist_add(r, list, v))
            return false;
    return bm_jval_list(r, n->kind == BM_N_LIST ? BM_J_LIST : BM_J_TUPLE, list, out);
}

static bool eval_dict(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bm_jdict *d = bm_jdict_new(r);
    bm_jval key, v;

    if (d == NULL)
        return false;
    for (uint32_t i = 0; i + 1 < n->kids.n; i += 2)
        if (!bm_jeval(r, env, n->kids.v[i], &key) || !bm_jeval(r, env, n->kids.v[i + 1], &v) || !bm_jdict_set(r, d, key, v))
            return false;
    *out = (bm_jval){.type = BM_J_DICT, .dict = d};
    return true;
}

static bool eval_concat(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bm_jstr *all = NULL;
    bm_jval v;

    for (uint32_t i = 0; i < n->kids.n; i++) {
        if (!bm_jeval(r, env, n->kids.v[i], &v))
            return false;
        bm_jstr *part = v.type == BM_J_STR ? v.s : bm_jval_to_str(r, v);
        if (part == NULL || (all = all == NULL ? part : bm_jstr_cat(r, all, part)) == NULL)
            return false;
    }
    /* jinja2 joins as str: a plain string again */
    return bm_jval_str(out, bm_jstr_plain(r, all));
}

static bool eval_compare(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bm_jval left, right;
    bool holds = true;

    if (!bm_jeval(r, env, n->a, &left))
        return false;
    for (uint32_t i = 0; holds && i < n->kids.n; i++) {
        if (!bm_jeval(r, env, n->kids.v[i]->a, &right) || !bm_jop_compare(r, n->kids.v[i]->op, left, right, &holds))
            return false;
        left = right;
    }
    *out = bm_jbool(holds);
    return true;
}

static bool eval_binary(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bm_jval a, b;

    return bm_jeval(r, env, n->a, &a) && bm_jeval(r, env, n->b, &b) && bm_jop_binary(r, n->op, a, b, out);
}

static bool eval_logic(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bool test;

    if (!bm_jeval(r, env, n->a, out) || !bm_jval_test(r, *out, &test))
        return false;
    return test == (n->kind == BM_N_OR) || bm_jeval(r, env, n->b, out);
}

static bool eval_cond(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bm_jval test;
    bool holds;

    if (!bm_jeval(r, env, n->a, &test) || !bm_jval_test(r, test, &holds))
        return false;
    if (holds)
        return bm_jeval(r, env, n->b, out);
    if (n->c != NULL)
        return bm_jeval(r, env, n->c, out);
    if (!bm_jval_undef(r, "the inline if-expression evaluated to false and no else section was defined.", out))
        return false;
    out->undef->lenient = true;                          /* jinja2 takes the plain Undefined here, whatever the environment's */
    return true;
}

/* ---- attributes and subscripts: environment.getattr and .getitem of jinja2's sandbox ---- */

static bool unsafe_attribute(bm_jrun *r, bm_jval obj, const bm_jstr *name, bm_jval *out)
{
    bm_jsb b;

    bm_jsb_init(&b, r);
    bm_jsb_puts(&b, "access to attribute '");
    bm_jsb_add(&b, name->data, name->len > 60 ? 0 : name->len, BM_SPAN_TEMPLATE);
    bm_jsb_puts(&b, "' of '");
    bm_jsb_puts(&b, bm_jval_type(obj));
    bm_jsb_puts(&b, "' object is unsafe.");
    bm_jsb_add(&b, "", 1, BM_SPAN_TEMPLATE);
    return r->rc == 0 && bm_jval_undef(r, b.data, out);
}

/* The attribute as getattr() of Python finds it: MISSING when there is none. */
static bool attribute(bm_jrun *r, bm_jval obj, const bm_jstr *name, bm_jval *out)
{
    bool unsafe = false;

    *out = (bm_jval){0};
    if (obj.type == BM_J_NAMESPACE) {
        *out = bm_jdict_name(obj.dict, name->data, name->len);
        return true;
    }
    if (name->len >= 4 && memcmp(name->data, "__", 2) == 0 && memcmp(name->data + name->len - 2, "__", 2) == 0 &&
        obj.type != BM_J_DICT)
        return unsafe_attribute(r, obj, name, out);
    if (obj.type == BM_J_LOOP && (!bm_jloop_attr(r, obj.loop, name, out) || out->type != BM_J_MISSING))
        return r->rc == 0;
    if (obj.type == BM_J_CYCLER && bm_jstr_is(name, "current")) {
        *out = obj.cycler->items->items[obj.cycler->pos];
        return true;
    }
    if (obj.type == BM_J_TUPLE && obj.list->group && (bm_jstr_is(name, "grouper") || bm_jstr_is(name, "list"))) {
        *out = obj.list->items[name->data[0] == 'l'];
        return true;
    }
    if (obj.type == BM_J_MACRO && bm_jstr_is(name, "name") && obj.macro->node->kind == BM_N_MACRO)
        return bm_jval_str(out, r->tmpl->names[obj.macro->node->name].text);
    const bm_jdef *def = bm_jmethod_find(obj, name, &unsafe);
    if (def != NULL && obj.type == BM_J_STR && !bm_jstr_flat(r, obj.s))
        return false;
    if (unsafe)
        return unsafe_attribute(r, obj, name, out);
    if (def == NULL)
        return true;
    bm_jmethod *m = bm_jrun_alloc(r, 1, sizeof *m);
    if (m == NULL)
        return false;
    *m = (bm_jmethod){.self = obj, .def = def};
    *out = (bm_jval){.type = BM_J_METHOD, .method = m};
    return true;
}

bm_jstr *bm_jstr_at(bm_jrun *r, bm_jstr *s, int64_t begin, int64_t end)
{
    if (!bm_jstr_flat(r, s) || !bm_jrun_step(r, s->n_chars == s->len ? 1 : s->len / 32 + 1))
        return NULL;
    return bm_jstr_slice(r, s, bm_jstr_offset(s, (size_t)begin), bm_jstr_offset(s, (size_t)end));
}

/* obj[key]; MISSING where Python raises TypeError or LookupError. */
static bool subscript(bm_jrun *r, bm_jval obj, bm_jval key, bm_jval *out)
{
    size_t n;

    *out = (bm_jval){0};
    if (obj.type == BM_J_DICT) {
        if (key.type == BM_J_LIST || key.type == BM_J_DICT || key.type == BM_J_VIEW)
            return true;
        return bm_jdict_get(r, obj.dict, key, out);
    }
    bool indexed = obj.type == BM_J_STR || obj.type == BM_J_LIST || obj.type == BM_J_TUPLE || obj.type == BM_J_RANGE;
    if (!indexed || !bm_jis_integral(key))
        return true;
    if (!bm_jval_len(r, obj, &n))
        return false;
    int64_t i = bm_jintegral(key);
    if (i < 0)
        i += (int64_t)n;
    if (i < 0 || i >= (int64_t)n)
        return true;
    if (obj.type == BM_J_RANGE)
        *out = bm_jint(obj.range->start + i * obj.range->step);
    else if (obj.type == BM_J_STR)
        return bm_jval_str(out, bm_jstr_at(r, obj.s, i, i + 1));
    else
        *out = obj.list->items[i];
    return true;
}

bool bm_jval_getattr(bm_jrun *r, bm_jval obj, bm_jstr *name, bm_jval *out)
{
    bm_jval key = {.type = BM_J_STR, .s = name};

    if (obj.type == BM_J_UNDEF)
        return bm_jval_touch(r, obj);
    if (!attribute(r, obj, name, out))
        return false;
    if (out->type == BM_J_MISSING && !subscript(r, obj, key, out))
        return false;
    return out->type != BM_J_MISSING || bm_jval_no_key(r, obj, key, out);
}

bool bm_jval_getitem(bm_jrun *r, bm_jval obj, bm_jval key, bm_jval *out)
{
    if (obj.type == BM_J_UNDEF)
        return bm_jval_touch(r, obj);
    if (key.type == BM_J_STR && !bm_jstr_flat(r, key.s))
        return false;
    if (!subscript(r, obj, key, out))
        return false;
    if (out->type == BM_J_MISSING && key.type == BM_J_STR && !attribute(r, obj, key.s, out))
        return false;
    return out->type != BM_J_MISSING || bm_jval_no_key(r, obj, key, out);
}

static bool slice_index(bm_jrun *r, bm_jval v, int64_t missing, int64_t n, int64_t low, int64_t high, int64_t *out)
{
    *out = missing;
    if (!bm_jarg_given(v))
        return true;
    if (!bm_jis_integral(v))
        return bm_jrun_fail(r, "slice indices must be integers or None or have an __index__ method");
    *out = bm_jintegral(v);
    if (*out < 0)
        *out += n;
    *out = *out < low ? low : *out > high ? high : *out;
    return true;
}

static bool slice_str(bm_jrun *r, bm_jstr *s, int64_t start, int64_t step, int64_t count, bm_jval *out)
{
    bm_jsb b;

    if (step == 1)
        return bm_jval_str(out, bm_jstr_at(r, s, start, start + count));
    bm_jsb_init(&b, r);
    for (int64_t i = 0; i < count; i++) {
        bm_jstr *one = bm_jstr_at(r, s, start + i * step, start + i * step + 1);
        if (one == NULL)
            return false;
        bm_jsb_slice(&b, one, 0, one->len);
    }
    if (!bm_jval_str(out, bm_jsb_finish(&b)))
        return false;
    out->s->markup = s->markup;
    return true;
}

bool bm_jval_slice(bm_jrun *r, bm_jval of, const bm_jval part[3], bm_jval *out)
{
    int64_t step = 1, start, stop;
    size_t len;

    if (of.type == BM_J_UNDEF)
        return bm_jval_touch(r, of);
    if (of.type != BM_J_STR && of.type != BM_J_LIST && of.type != BM_J_TUPLE && of.type != BM_J_RANGE)
        return bm_jrun_fail(r, of.type == BM_J_DICT ? "unhashable type: 'slice'" : "'%s' object is not subscriptable", bm_jval_type(of));
    if (!bm_jval_len(r, of, &len))
        return false;
    int64_t n = (int64_t)len;
    if (bm_jarg_given(part[2])) {
        if (!bm_jis_integral(part[2]))
            return bm_jrun_fail(r, "slice indices must be integers or None or have an __index__ method");
        if ((step = bm_jintegral(part[2])) == 0)
            return bm_jrun_fail(r, "slice step cannot be zero");
    }
    bool up = step > 0;
    step = step > n + 1 ? n + 1 : step < -n - 1 ? -n - 1 : step;
    if (!slice_index(r, part[0], up ? 0 : n - 1, n, up ? 0 : -1, up ? n : n - 1, &start) ||
        !slice_index(r, part[1], up ? n : -1, n, up ? 0 : -1, up ? n : n - 1, &stop))
        return false;
    int64_t count = up ? (stop > start ? (stop - start - 1) / step + 1 : 0) : (start > stop ? (start - stop - 1) / -step + 1 : 0);
    if (of.type == BM_J_STR)
        return slice_str(r, of.s, start, step, count, out);
    if (of.type == BM_J_RANGE) {
        bm_jrange *range = bm_jrun_alloc(r, 1, sizeof *range);
        if (range == NULL)
            return false;
        *range = (bm_jrange){of.range->start + start * of.range->step, of.range->start + stop * of.range->step, of.range->step * step, count};
        *out = (bm_jval){.type = BM_J_RANGE, .range = range};
        return true;
    }
    bm_jlist *list = bm_jrun_step(r, (size_t)count / 8 + 1) ? bm_jlist_new(r, (size_t)count) : NULL;
    if (list == NULL)
        return false;
    for (int64_t i = 0; i < count; i++)
        list->items[list->n++] = of.list->items[start + i * step];
    return bm_jval_list(r, of.type, list, out);
}

static bool eval_getitem(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bm_jval obj, key, part[3] = {{0}, {0}, {0}};

    if (!bm_jeval(r, env, n->a, &obj))
        return false;
    if (n->b->kind != BM_N_SLICE)
        return bm_jeval(r, env, n->b, &key) && bm_jval_getitem(r, obj, key, out);
    if ((n->b->a != NULL && !bm_jeval(r, env, n->b->a, &part[0])) || (n->b->b != NULL && !bm_jeval(r, env, n->b->b, &part[1])) ||
        (n->b->c != NULL && !bm_jeval(r, env, n->b->c, &part[2])))
        return false;
    return bm_jval_slice(r, obj, part, out);
}

/* ---- calls ---- */

static bool add_keywords(bm_jrun *r, bm_jdict *to, bm_jval from)
{
    bm_jval had;

    if (from.type != BM_J_DICT)
        return bm_jrun_fail(r, "argument after ** must be a mapping, not %s", bm_jval_type(from));
    for (size_t i = 0; i < from.dict->n; i++) {
        const bm_jentry *e = &from.dict->entries[i];
        if (e->key.type != BM_J_STR)
            return bm_jrun_fail(r, "keywords must be strings");
        if (!bm_jdict_get(r, to, e->key, &had))
            return false;
        if (had.type != BM_J_MISSING)
            return bm_jrun_fail(r, "got multiple values for a keyword argument");
        if (!bm_jdict_set(r, to, e->key, e->value))
            return false;
    }
    return true;
}

/* The arguments of a CALL, FILTER or TEST node. */
static bool eval_args(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval caller, bm_jargs *args)
{
    bm_jlist *pos = bm_jlist_new(r, n->kids.n), *more;
    bm_jdict *kw = NULL;
    bm_jval v, key;

    *args = (bm_jargs){0};
    if (pos == NULL)
        return false;
    bool has_kw = n->c != NULL || caller.type != BM_J_MISSING || (n->kids.n > 0 && n->kids.v[n->kids.n - 1]->kind == BM_N_KEYWORD);
    if (has_kw && (kw = bm_jdict_new(r)) == NULL)
        return false;
    for (uint32_t i = 0; i < n->kids.n; i++) {
        const bm_jnode *k = n->kids.v[i];
        bool named = k->kind == BM_N_KEYWORD;
        if (!bm_jeval(r, env, named ? k->a : k, &v))
            return false;
        if (named)
            bm_jval_str(&key, r->tmpl->names[k->name].text);
        if (!(named ? bm_jdict_set(r, kw, key, v) : bm_jlist_add(r, pos, v)))
            return false;
    }
    if (caller.type != BM_J_MISSING && (!bm_jval_str(&key, bm_jstr_text(r, "caller")) || !bm_jdict_set(r, kw, key, caller)))
        return false;
    if (n->b != NULL) {
        if (!bm_jeval(r, env, n->b, &v) || !bm_jval_collect(r, v, &more))
            return false;
        for (size_t i = 0; i < more->n; i++)
            if (!bm_jlist_add(r, pos, more->items[i]))
                return false;
    }
    if (n->c != NULL && (!bm_jeval(r, env, n->c, &v) || !add_keywords(r, kw, v)))
        return false;
    *args = (bm_jargs){.pos = pos->items, .n = pos->n, .kw = kw};
    return true;
}

bool bm_jeval_call(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval caller, bm_jval *out)
{
    bm_jargs args;
    bm_jval callee;

    bool ok = bm_jeval(r, env, n->a, &callee) && eval_args(r, env, n, caller, &args) && bm_jval_call(r, callee, &args, out);
    if (!ok && r->err_pos == UINT32_MAX)
        r->err_pos = n->pos;
    return ok;
}

static bool eval_filter(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bool is_filter = n->kind == BM_N_FILTER;
    bm_jval self = r->block_text;
    bm_jargs args;

    if (n->a != NULL && !bm_jeval(r, env, n->a, &self))
        return false;
    if (!eval_args(r, env, n, (bm_jval){0}, &args))
        return false;
    if (n->def == NULL)
        return bm_jrun_fail(r, "No %s named '%s' found.", is_filter ? "filter" : "test", r->tmpl->names[n->name].text->data);
    return bm_jdef_call(r, n->def, self, &args, out);
}

static bool eval_some(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bm_jval v;
    bool test;

    switch (n->kind) {
    case BM_N_CONST:
        *out = n->value;
        return true;
    case BM_N_NAME:
        return eval_name(r, env, n, out);
    case BM_N_TUPLE:
    case BM_N_LIST:
        return eval_list(r, env, n, out);
    case BM_N_DICT:
        return eval_dict(r, env, n, out);
    case BM_N_BINARY:
        return eval_binary(r, env, n, out);
    case BM_N_UNARY:
        return bm_jeval(r, env, n->a, &v) && bm_jop_unary(r, n->op, v, out);
    case BM_N_NOT:
        if (!bm_jeval(r, env, n->a, &v))
            return false;
        if (!bm_jval_test(r, v, &test))
            return false;
        *out = bm_jbool(!test);
        return true;
    case BM_N_AND:
    case BM_N_OR:
        return eval_logic(r, env, n, out);
    case BM_N_CONCAT:
        return eval_concat(r, env, n, out);
    case BM_N_COMPARE:
        return eval_compare(r, env, n, out);
    case BM_N_COND:
        return eval_cond(r, env, n, out);
    case BM_N_GETATTR:
        return bm_jeval(r, env, n->a, &v) && bm_jval_getattr(r, v, r->tmpl->names[n->name].text, out);
    case BM_N_GETITEM:
        return eval_getitem(r, env, n, out);
    case BM_N_CALL:
        return bm_jeval_call(r, env, n, (bm_jval){0}, out);
    case BM_N_FILTER:
    case BM_N_TEST:
        return eval_filter(r, env, n, out);
    default:
        return bm_jrun_fail(r, n->kind == BM_N_SLICE ? "a slice stands where a value must" : "not an expression");
    }
}

bool bm_jeval(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bool ok = bm_jrun_step(r, 1) && bm_jrun_enter(r) && eval_some(r, env, n, out);

    bm_jrun_leave(r);
    if (!ok && r->err_pos == UINT32_MAX)
        r->err_pos = n->pos;
    return ok;
}
