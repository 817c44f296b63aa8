/* jinja_value.c - values as Python has them: truth, equality, order, hashing, length, membership; undefined. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "text/jinja.h"

bool bm_jval_str(bm_jval *out, bm_jstr *s)
{
    *out = (bm_jval){.type = BM_J_STR, .s = s};
    return s != NULL;
}

const char *bm_jval_type(bm_jval v)
{
    static const char *const names[] = {
        [BM_J_MISSING] = "missing", [BM_J_UNDEF] = "Undefined", [BM_J_NONE] = "NoneType", [BM_J_BOOL] = "bool",
        [BM_J_INT] = "int", [BM_J_FLOAT] = "float", [BM_J_STR] = "str", [BM_J_LIST] = "list", [BM_J_TUPLE] = "tuple",
        [BM_J_DICT] = "dict", [BM_J_RANGE] = "range", [BM_J_VIEW] = "dict_items", [BM_J_ITER] = "generator",
        [BM_J_NAMESPACE] = "Namespace", [BM_J_MACRO] = "Macro", [BM_J_LOOP] = "LoopContext", [BM_J_CYCLER] = "Cycler",
        [BM_J_JOINER] = "Joiner", [BM_J_FUNC] = "function", [BM_J_METHOD] = "builtin_function_or_method",
    };

    return names[v.type];
}

bool bm_jval_test(bm_jrun *r, bm_jval v, bool *out)
{
    *out = bm_jval_true(v);
    return !bm_jval_strict(r, v) || bm_jval_touch(r, v);
}

bool bm_jval_true(bm_jval v)
{
    switch (v.type) {
    case BM_J_MISSING:
    case BM_J_UNDEF:
    case BM_J_NONE:
        return false;
    case BM_J_BOOL:
        return v.b;
    case BM_J_INT:
        return v.i != 0;
    case BM_J_FLOAT:
        return v.f != 0;
    case BM_J_STR:
        return v.s->len > 0;
    case BM_J_LIST:
    case BM_J_TUPLE:
        return v.list->n > 0;
    case BM_J_DICT:
        return v.dict->n > 0;
    case BM_J_RANGE:
        return v.range->n > 0;
    case BM_J_VIEW:
        return v.view->dict->n > 0;
    default:
        return true;
    }
}

/* Exact, as Python compares an int with a float: -1 0 1, or 2 for NaN. */
static int compare_mixed(int64_t i, double f)
{
    if (isnan(f))
        return 2;
    if (f >= 9223372036854775808.0)
        return -1;
    if (f < -9223372036854775808.0)
        return 1;
    int64_t whole = (int64_t)f;
    double rest = f - (double)whole;
    if (i != whole)
        return i < whole ? -1 : 1;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

static int compare_numbers(bm_jval a, bm_jval b)
{
    if (a.type == BM_J_FLOAT && b.type == BM_J_FLOAT)
        return isnan(a.f) || isnan(b.f) ? 2 : a.f < b.f ? -1 : a.f > b.f;
    if (a.type == BM_J_FLOAT) {
        int c = compare_mixed(bm_jintegral(b), a.f);
        return c == 2 ? 2 : -c;
    }
    if (b.type == BM_J_FLOAT)
        return compare_mixed(bm_jintegral(a), b.f);
    int64_t x = bm_jintegral(a), y = bm_jintegral(b);
    return x < y ? -1 : x > y;
}

static bool str_eq(bm_jrun *r, bm_jstr *a, bm_jstr *b, bool *out)
{
    *out = false;
    if (a->len != b->len)
        return true;
    if (!bm_jstr_flat(r, a) || !bm_jstr_flat(r, b) || !bm_jrun_step(r, a->len / 64))
        return false;
    *out = memcmp(a->data, b->data, a->len) == 0;
    return true;
}

static bool list_eq(bm_jrun *r, const bm_jlist *a, const bm_jlist *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++)
        if (!bm_jval_eq(r, a->items[i], b->items[i], out))
            return false;
    return true;
}

static bool dict_eq(bm_jrun *r, const bm_jdict *a, const bm_jdict *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++) {
        bm_jval other;
        if (!bm_jdict_get(r, b, a->entries[i].key, &other))
            return false;
        *out = other.type != BM_J_MISSING;
        if (*out && !bm_jval_eq(r, a->entries[i].value, other, out))
            return false;
    }
    return true;
}

static bool same_type_eq(bm_jrun *r, bm_jval a, bm_jval b, bool *out)
{
    switch (a.type) {
    case BM_J_UNDEF:
    case BM_J_NONE:
        *out = true;
        return true;
    case BM_J_STR:
        return str_eq(r, a.s, b.s, out);
    case BM_J_LIST:
    case BM_J_TUPLE:
        return list_eq(r, a.list, b.list, out);
    case BM_J_DICT:
        return dict_eq(r, a.dict, b.dict, out);
    case BM_J_RANGE:
        *out = a.range->n == b.range->n && (a.range->n == 0 || (a.range->start == b.range->start &&
               (a.range->n == 1 || a.range->step == b.range->step)));
        return true;
    case BM_J_METHOD:
        *out = a.method->def == b.method->def && a.method->self.type == b.method->self.type &&
               a.method->self.s == b.method->self.s;
        return true;
    default:
        *out = a.s == b.s;                               /* the same object: all are pointers */
        return true;
    }
}

bool bm_jval_eq(bm_jrun *r, bm_jval a, bm_jval b, bool *out)
{
    *out = false;
    if (bm_jval_strict(r, a) || bm_jval_strict(r, b))
        return bm_jval_touch(r, bm_jval_strict(r, a) ? a : b);
    if (bm_jis_num(a) && bm_jis_num(b)) {
        *out = compare_numbers(a, b) == 0;
        return true;
    }
    if (a.type != b.type)
        return true;
    bool ok = bm_jrun_step(r, 1) && bm_jrun_enter(r) && same_type_eq(r, a, b, out);
    bm_jrun_leave(r);
    return ok;
}

static bool list_cmp(bm_jrun *r, const bm_jlist *a, const bm_jlist *b, int *out)
{
    size_t n = a->n < b->n ? a->n : b->n;

    for (size_t i = 0; i < n; i++) {
        bool equal;
        if (!bm_jval_eq(r, a->items[i], b->items[i], &equal))
            return false;
        if (!equal)
            return bm_jval_cmp(r, a->items[i], b->items[i], out);
    }
    *out = a->n < b->n ? -1 : a->n > b->n;
    return true;
}

static bool str_cmp(bm_jrun *r, bm_jstr *a, bm_jstr *b, int *out)
{
    if (!bm_jstr_flat(r, a) || !bm_jstr_flat(r, b))
        return false;
    size_t n = a->len < b->len ? a->len : b->len;
    if (!bm_jrun_step(r, n / 64))
        return false;
    int c = memcmp(a->data, b->data, n);                 /* the order of UTF-8 bytes is that of code points */
    *out = c != 0 ? (c < 0 ? -1 : 1) : a->len < b->len ? -1 : a->len > b->len;
    return true;
}

bool bm_jval_cmp(bm_jrun *r, bm_jval a, bm_jval b, int *out)
{
    *out = 0;
    if (bm_jis_num(a) && bm_jis_num(b)) {
        *out = compare_numbers(a, b);
        return true;
    }
    if (a.type == BM_J_UNDEF || b.type == BM_J_UNDEF)
        return bm_jval_touch(r, a.type == BM_J_UNDEF ? a : b);
    if (a.type == b.type && a.type == BM_J_STR)
        return str_cmp(r, a.s, b.s, out);
    if (a.type == b.type && (a.type == BM_J_LIST || a.type == BM_J_TUPLE)) {
        bool ok = bm_jrun_step(r, 1) && bm_jrun_enter(r) && list_cmp(r, a.list, b.list, out);
        bm_jrun_leave(r);
        return ok;
    }
    return bm_jrun_fail(r, "'<' not supported between instances of '%s' and '%s'", bm_jval_type(a), bm_jval_type(b));
}

static bool hash_tuple(bm_jrun *r, const bm_jlist *list, uint64_t *out)
{
    *out = 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < list->n; i++) {
        uint64_t h;
        if (!bm_jval_hash(r, list->items[i], &h))
            return false;
        *out = (*out ^ h) * 0xD6E8FEB86659FD93u;
    }
    return true;
}

bool bm_jval_hash(bm_jrun *r, bm_jval v, uint64_t *out)
{
    bool ok;

    switch (v.type) {
    case BM_J_LIST:
    case BM_J_DICT:
    case BM_J_VIEW:
        return bm_jrun_fail(r, "unhashable type: '%s'", bm_jval_type(v));
    case BM_J_STR:
        if (!bm_jstr_flat(r, v.s) || !bm_jrun_step(r, v.s->len / 64))
            return false;
        *out = bm_hash64(v.s->data, v.s->len, 1);
        return true;
    case BM_J_FLOAT:
        if (v.f >= -9223372036854775808.0 && v.f < 9223372036854775808.0 && v.f == (double)(int64_t)v.f) {
            int64_t whole = (int64_t)v.f;                /* equal numbers hash alike, whatever their type */
            *out = bm_hash64(&whole, sizeof whole, 2);
        } else {
            *out = bm_hash64(&v.f, sizeof v.f, 2);
        }
        return true;
    case BM_J_BOOL:
    case BM_J_INT: {
        int64_t i = bm_jintegral(v);
        *out = bm_hash64(&i, sizeof i, 2);
        return true;
    }
    case BM_J_TUPLE:
        ok = bm_jrun_step(r, 1) && bm_jrun_enter(r) && hash_tuple(r, v.list, out);
        bm_jrun_leave(r);
        return ok;
    case BM_J_NONE:
    case BM_J_UNDEF:
        *out = v.type;
        return !bm_jval_strict(r, v) || bm_jval_touch(r, v);
    default:
        *out = bm_hash64(&v.s, sizeof v.s, 3);
        return true;
    }
}

bool bm_jval_len(bm_jrun *r, bm_jval v, size_t *out)
{
    switch (v.type) {
    case BM_J_STR:
        if (!bm_jstr_flat(r, v.s) || (v.s->n_chars == SIZE_MAX && !bm_jrun_step(r, v.s->len / 64)))
            return false;
        *out = bm_jstr_chars(v.s);
        return true;
    case BM_J_LIST:
    case BM_J_TUPLE:
        *out = v.list->n;
        return true;
    case BM_J_DICT:
        *out = v.dict->n;
        return true;
    case BM_J_RANGE:
        *out = (size_t)v.range->n;
        return true;
    case BM_J_VIEW:
        *out = v.view->dict->n;
        return true;
    case BM_J_UNDEF:
        *out = 0;
        return !bm_jval_strict(r, v) || bm_jval_touch(r, v);
    default:
        return bm_jrun_fail(r, "object of type '%s' has no len()", bm_jval_type(v));
    }
}

static bool range_contains(const bm_jrange *range, bm_jval item)
{
    if (!bm_jis_num(item) || range->n == 0)
        return false;
    if (item.type == BM_J_FLOAT && (item.f != floor(item.f) || fabs(item.f) > 9e18))
        return false;
    int64_t i = item.type == BM_J_FLOAT ? (int64_t)item.f : bm_jintegral(item);
    int64_t last = range->start + (range->n - 1) * range->step;
    int64_t lo = range->step > 0 ? range->start : last, hi = range->step > 0 ? last : range->start;
    return i >= lo && i <= hi && (i - range->start) % range->step == 0;
}

bool bm_jval_contains(bm_jrun *r, bm_jval item, bm_jval in, bool *out)
{
    bm_jval found;
    bm_jiter it;

    *out = false;
    if (in.type == BM_J_STR) {
        if (item.type != BM_J_STR)
            return bm_jrun_fail(r, "'in <string>' requires string as left operand, not %s", bm_jval_type(item));
        if (!bm_jstr_flat(r, item.s) || !bm_jstr_flat(r, in.s) || !bm_jrun_step(r, in.s->len / 64))
            return false;
        *out = bm_jstr_find(in.s, 0, item.s) != SIZE_MAX;
        return true;
    }
    if (in.type == BM_J_DICT || (in.type == BM_J_VIEW && in.view->kind == BM_J_KEYS)) {
        if (!bm_jdict_get(r, in.type == BM_J_DICT ? in.dict : in.view->dict, item, &found))
            return false;
        *out = found.type != BM_J_MISSING;
        return true;
    }
    if (in.type == BM_J_RANGE) {
        *out = range_contains(in.range, item);
        return true;
    }
    if (!bm_jval_iterable(in))
        return bm_jrun_fail(r, "argument of type '%s' is not iterable", bm_jval_type(in));
    if (!bm_jiter_open(r, in, &it))
        return false;
    for (;;) {
        if (!bm_jiter_next(r, &it, &found))
            return false;
        if (found.type == BM_J_MISSING)
            return true;
        if (!bm_jval_eq(r, found, item, out))
            return false;
        if (*out)
            return true;
    }
}

static bool new_undef(bm_jrun *r, const char *hint, bm_jval obj, bm_jstr *name, bm_jval key, bm_jval *out)
{
    bm_jundef *u = bm_jrun_alloc(r, 1, sizeof *u);

    if (u == NULL)
        return false;
    *u = (bm_jundef){.hint = hint, .obj = obj, .name = name, .key = key};
    *out = (bm_jval){.type = BM_J_UNDEF, .undef = u};
    return true;
}

bool bm_jval_undef(bm_jrun *r, const char *hint, bm_jval *out)
{
    return new_undef(r, hint, (bm_jval){0}, NULL, (bm_jval){0}, out);
}

bool bm_jval_no_name(bm_jrun *r, bm_jstr *name, bm_jval *out)
{
    return new_undef(r, NULL, (bm_jval){0}, name, (bm_jval){0}, out);
}

bool bm_jval_no_key(bm_jrun *r, bm_jval obj, bm_jval key, bm_jval *out)
{
    return new_undef(r, NULL, obj, NULL, key, out);
}

bool bm_jval_touch(bm_jrun *r, bm_jval undef)
{
    const bm_jundef *u = undef.undef;
    const char *type = u->obj.type == BM_J_NONE ? "None" : bm_jval_type(u->obj);
    const char *object = u->obj.type == BM_J_NONE ? "" : " object";

    if (u->hint != NULL)
        return bm_jrun_fail(r, "%s", u->hint);
    if (u->name != NULL)
        return bm_jrun_fail(r, "'%.*s' is undefined", (int)(u->name->len > 100 ? 100 : u->name->len), u->name->data);
    bm_jstr *key = bm_jval_to_str(r, u->key);
    if (key == NULL)
        return false;
    int len = (int)(key->len > 100 ? 100 : key->len);
    if (u->key.type == BM_J_STR)
        return bm_jrun_fail(r, "'%s%s' has no attribute '%.*s'", type, object, len, key->data);
    return bm_jrun_fail(r, "%s%s has no element %.*s", type, object, len, key->data);
}
