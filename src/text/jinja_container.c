/* jinja_container.c - lists, dicts in order of insertion, iteration, sorting. Built once, then never changed: templates cannot
 * mutate them (jinja2's immutable sandbox), so values are shared freely. */
#include <string.h>

#include "text/jinja.h"

bm_jlist *bm_jlist_new(bm_jrun *r, size_t cap)
{
    bm_jlist *list = bm_jrun_alloc(r, 1, sizeof *list);

    if (list == NULL || (cap > 0 && (list->items = bm_jrun_alloc(r, cap, sizeof *list->items)) == NULL))
        return NULL;
    list->cap = cap;
    return list;
}

bool bm_jlist_add(bm_jrun *r, bm_jlist *list, bm_jval v)
{
    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 4 : list->cap * 2;
        bm_jval *grown = bm_jrun_alloc(r, cap, sizeof *grown);
        if (grown == NULL)
            return false;
        if (list->n > 0)
            memcpy(grown, list->items, list->n * sizeof *grown);
        list->items = grown, list->cap = cap;
    }
    list->items[list->n++] = v;
    return true;
}

bool bm_jval_list(bm_jrun *r, bm_jtype type, bm_jlist *list, bm_jval *out)
{
    (void)r;
    *out = (bm_jval){.type = type, .list = list};
    return list != NULL;
}

bool bm_jval_pair(bm_jrun *r, bm_jval a, bm_jval b, bm_jval *out)
{
    bm_jlist *list = bm_jlist_new(r, 2);

    return list != NULL && bm_jlist_add(r, list, a) && bm_jlist_add(r, list, b) && bm_jval_list(r, BM_J_TUPLE, list, out);
}

bool bm_jval_gen(bm_jrun *r, bm_jlist *list, bm_jval *out)
{
    bm_jgen *gen = list == NULL ? NULL : bm_jrun_alloc(r, 1, sizeof *gen);

    if (gen == NULL)
        return false;
    gen->list = list;
    *out = (bm_jval){.type = BM_J_ITER, .gen = gen};
    return true;
}

bm_jdict *bm_jdict_new(bm_jrun *r) { return bm_jrun_alloc(r, 1, sizeof(bm_jdict)); }

/* Entry number + 1 of the key, 0 when absent, in *at. Up to 8 entries are searched one by one, more by an index. */
static bool locate(bm_jrun *r, const bm_jdict *d, bm_jval key, uint64_t hash, size_t *at)
{
    bool equal;

    *at = 0;
    if (d->n_index == 0) {
        for (size_t i = 0; i < d->n; i++) {
            if (d->entries[i].hash != hash)
                continue;
            if (!bm_jval_eq(r, d->entries[i].key, key, &equal))
                return false;
            if (equal) {
                *at = i + 1;
                return true;
            }
        }
        return true;
    }
    for (size_t i = hash & (d->n_index - 1); d->index[i] != 0; i = (i + 1) & (d->n_index - 1)) {
        const bm_jentry *e = &d->entries[d->index[i] - 1];
        if (e->hash != hash)
            continue;
        if (!bm_jval_eq(r, e->key, key, &equal))
            return false;
        if (equal) {
            *at = d->index[i];
            return true;
        }
    }
    return true;
}

static void put_index(bm_jdict *d, size_t number)
{
    size_t i = d->entries[number - 1].hash & (d->n_index - 1);

    while (d->index[i] != 0)
        i = (i + 1) & (d->n_index - 1);
    d->index[i] = (uint32_t)number;
}

static bool grow(bm_jrun *r, bm_jdict *d)
{
    size_t cap = d->cap == 0 ? 8 : d->cap * 2;
    bm_jentry *entries = bm_jrun_alloc(r, cap, sizeof *entries);

    if (entries == NULL || cap > UINT32_MAX / 2)
        return false;
    if (d->n > 0)
        memcpy(entries, d->entries, d->n * sizeof *entries);
    d->entries = entries, d->cap = cap;
    if (cap <= 8)
        return true;
    if ((d->index = bm_jrun_alloc(r, cap * 2, sizeof *d->index)) == NULL)
        return false;
    d->n_index = cap * 2;
    for (size_t i = 1; i <= d->n; i++)
        put_index(d, i);
    return true;
}

bool bm_jdict_set(bm_jrun *r, bm_jdict *d, bm_jval key, bm_jval value)
{
    uint64_t hash;
    size_t at;

    if (!bm_jval_hash(r, key, &hash) || !locate(r, d, key, hash, &at))
        return false;
    if (at > 0) {
        d->entries[at - 1].value = value;
        return true;
    }
    if (d->n == d->cap && !grow(r, d))
        return false;
    d->entries[d->n++] = (bm_jentry){.key = key, .value = value, .hash = hash};
    if (d->n_index > 0)
        put_index(d, d->n);
    return true;
}

bool bm_jdict_get(bm_jrun *r, const bm_jdict *d, bm_jval key, bm_jval *out)
{
    uint64_t hash;
    size_t at;

    *out = (bm_jval){0};
    if (!bm_jval_hash(r, key, &hash) || !bm_jrun_step(r, 1) || !locate(r, d, key, hash, &at))
        return false;
    if (at > 0)
        *out = d->entries[at - 1].value;
    return true;
}

bm_jval bm_jdict_name(const bm_jdict *d, const char *name, size_t len)
{
    for (size_t i = 0; d != NULL && i < d->n; i++) {
        const bm_jval *key = &d->entries[i].key;
        if (key->type == BM_J_STR && key->s->len == len && key->s->data != NULL && memcmp(key->s->data, name, len) == 0)
            return d->entries[i].value;
    }
    return (bm_jval){0};
}

bool bm_jval_iterable(bm_jval v)
{
    return v.type == BM_J_STR || v.type == BM_J_LIST || v.type == BM_J_TUPLE || v.type == BM_J_DICT || v.type == BM_J_RANGE ||
           v.type == BM_J_VIEW || v.type == BM_J_ITER || v.type == BM_J_UNDEF || v.type == BM_J_LOOP;
}

bool bm_jiter_open(bm_jrun *r, bm_jval of, bm_jiter *it)
{
    *it = (bm_jiter){.of = of};
    if (bm_jval_strict(r, of))
        return bm_jval_touch(r, of);
    if (!bm_jval_iterable(of) || of.type == BM_J_LOOP)
        return bm_jrun_fail(r, "'%s' object is not iterable", bm_jval_type(of));
    return of.type != BM_J_STR || bm_jstr_flat(r, of.s);
}

bool bm_jiter_next(bm_jrun *r, bm_jiter *it, bm_jval *out)
{
    bm_jval of = it->of;
    size_t n = 0;

    *out = (bm_jval){0};
    if (!bm_jrun_step(r, 1))
        return false;
    switch (of.type) {
    case BM_J_STR: {
        uint32_t cp;
        if (it->pos >= of.s->len)
            return true;
        n = (size_t)bm_j_decode(of.s->data + it->pos, of.s->len - it->pos, &cp);
        it->pos += n;
        return bm_jval_str(out, bm_jstr_plain(r, bm_jstr_slice(r, of.s, it->pos - n, it->pos)));
    }
    case BM_J_LIST:
    case BM_J_TUPLE:
        if (it->pos < of.list->n)
            *out = of.list->items[it->pos++];
        return true;
    case BM_J_RANGE:
        if (it->pos < (size_t)of.range->n)
            *out = bm_jint(of.range->start + (int64_t)it->pos++ * of.range->step);
        return true;
    case BM_J_DICT:
        if (it->pos < of.dict->n)
            *out = of.dict->entries[it->pos++].key;
        return true;
    case BM_J_VIEW: {
        if (it->pos >= of.view->dict->n)
            return true;
        const bm_jentry *e = &of.view->dict->entries[it->pos++];
        if (of.view->kind == BM_J_ITEMS)
            return bm_jval_pair(r, e->key, e->value, out);
        *out = of.view->kind == BM_J_KEYS ? e->key : e->value;
        return true;
    }
    case BM_J_ITER:
        if (of.gen->pos < of.gen->list->n)
            *out = of.gen->list->items[of.gen->pos++];
        return true;
    default:
        return true;
    }
}

bool bm_jval_collect(bm_jrun *r, bm_jval of, bm_jlist **out)
{
    bm_jiter it;
    bm_jval v;

    if (of.type == BM_J_LIST || of.type == BM_J_TUPLE) {
        *out = of.list;
        return true;
    }
    if (!bm_jiter_open(r, of, &it) || (*out = bm_jlist_new(r, 0)) == NULL)
        return false;
    for (;;) {
        if (!bm_jiter_next(r, &it, &v))
            return false;
        if (v.type == BM_J_MISSING)
            return true;
        if (!bm_jlist_add(r, *out, v))
            return false;
    }
}

typedef struct sorted { bm_jval key, item; } sorted;

static bool comes_first(bm_jrun *r, bm_jval a, bm_jval b, bool reverse, bool *out)
{
    int c;

    if (!bm_jval_cmp(r, a, b, &c))
        return false;
    *out = reverse ? c == 1 : c == -1;
    return true;
}

static bool merge(bm_jrun *r, sorted *from, sorted *to, size_t lo, size_t mid, size_t hi, bool reverse)
{
    size_t a = lo, b = mid;

    for (size_t i = lo; i < hi; i++) {
        bool right_first = a >= mid;
        if (a < mid && b < hi && !comes_first(r, from[b].key, from[a].key, reverse, &right_first))
            return false;
        to[i] = b < hi && right_first ? from[b++] : from[a++];
    }
    return true;
}

bool bm_jval_sort(bm_jrun *r, bm_jval *keys, bm_jval *items, size_t n, bool reverse)
{
    sorted *from = bm_jrun_alloc(r, n + 1, sizeof *from), *to = bm_jrun_alloc(r, n + 1, sizeof *to), *swap;

    if (from == NULL || to == NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        from[i] = (sorted){keys[i], items[i]};
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            size_t mid = lo + width < n ? lo + width : n, hi = lo + 2 * width < n ? lo + 2 * width : n;
            if (!bm_jrun_step(r, hi - lo) || !merge(r, from, to, lo, mid, hi, reverse))
                return false;
        }
        swap = from, from = to, to = swap;
    }
    for (size_t i = 0; i < n; i++)
        keys[i] = from[i].key, items[i] = from[i].item;
    return true;
}
