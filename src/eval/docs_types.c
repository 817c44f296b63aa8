/* docs_types.c - one schema for all rows, as Arrow has it: a key that some rows lack is null there, at every depth; integers become
 * reals in a column (or a list's elements) that has a real anywhere. Columns that mix other types stay as they are. */
#include <string.h>

#include "base/mem.h"
#include "eval/docs_internal.h"

enum { MAX_FIELDS = 4096, MAX_SHAPE_DEPTH = 64 };

/* What a column has been seen to hold. */
typedef struct shape shape;
struct shape {
    bool real, integer, other;           /* other: anything that is neither number nor null */
    json_t *index;                       /* key -> place in fields */
    struct field { const char *key; shape *shape; } *fields;
    size_t n, cap;
    shape *element;                      /* of lists */
};

typedef struct pass { bm_arena *arena; const char *path; bm_error *err; } pass;

static int no_memory(const pass *p) { return bm_docs_no_memory(p->err, p->path); }

static shape *new_shape(pass *p) { return bm_arena_alloc(p->arena, sizeof(shape)); }

static int add_field(pass *p, shape *s, const char *key, shape **out)
{
    const json_t *at = s->index != NULL ? json_object_get(s->index, key) : NULL;

    if (at != NULL) {
        *out = s->fields[json_integer_value(at)].shape;
        return 0;
    }
    if (s->n == MAX_FIELDS)
        return bm_fail(p->err, BM_LIMIT, "%s: rows have more than %d different keys in one place: give them as lists", p->path, MAX_FIELDS);
    if (s->n == s->cap) {
        size_t cap = s->cap == 0 ? 8 : s->cap * 2;
        struct field *grown = bm_arena_alloc(p->arena, cap * sizeof *grown);
        if (grown == NULL)
            return no_memory(p);
        if (s->n > 0)
            memcpy(grown, s->fields, s->n * sizeof *grown);
        s->fields = grown, s->cap = cap;
    }
    if (s->index == NULL)
        s->index = json_object();
    s->fields[s->n].key = bm_arena_strndup(p->arena, key, strlen(key));
    s->fields[s->n].shape = *out = new_shape(p);
    if (*out == NULL || s->fields[s->n].key == NULL || json_object_set_new_nocheck(s->index, key, json_integer((json_int_t)s->n)) != 0)
        return no_memory(p);
    s->n++;
    return 0;
}

static int look(pass *p, shape *s, const json_t *v, int depth)
{
    json_t *object = (json_t *)(uintptr_t)v;
    shape *inner = NULL;
    int rc = 0;

    s->real |= json_is_real(v), s->integer |= json_is_integer(v);
    s->other |= !json_is_number(v) && !json_is_null(v);
    if (depth > MAX_SHAPE_DEPTH)
        return bm_fail(p->err, BM_LIMIT, "%s: rows nest deeper than %d levels", p->path, MAX_SHAPE_DEPTH);
    if (json_is_array(v) && s->element == NULL && (s->element = new_shape(p)) == NULL)
        return no_memory(p);
    for (size_t i = 0; json_is_array(v) && i < json_array_size(v) && rc == 0; i++)
        rc = look(p, s->element, json_array_get(v, i), depth + 1);
    if (!json_is_object(v))
        return rc;
    for (void *it = json_object_iter(object); it != NULL && rc == 0; it = json_object_iter_next(object, it))
        if ((rc = add_field(p, s, json_object_iter_key(it), &inner)) == 0)
            rc = look(p, inner, json_object_iter_value(it), depth + 1);
    return rc;
}

static void forget(shape *s)
{
    for (size_t i = 0; i < s->n; i++)
        forget(s->fields[i].shape);
    if (s->element != NULL)
        forget(s->element);
    json_decref(s->index);
}

static bool changes(const shape *s)
{
    return s->n > 0 || s->element != NULL || (s->real && s->integer && !s->other);
}

/* The value as the shape wants it: itself, or a new one. A new reference; NULL: no memory. */
static json_t *fit(const shape *s, json_t *v)
{
    json_t *out;

    if (json_is_integer(v) && s->real && !s->other)
        return json_real((double)json_integer_value(v));
    if (json_is_array(v) && s->element != NULL && changes(s->element)) {
        out = json_array();
        for (size_t i = 0; out != NULL && i < json_array_size(v); i++)
            if (json_array_append_new(out, fit(s->element, json_array_get(v, i))) != 0) {
                json_decref(out);
                return NULL;
            }
        return out;
    }
    if (json_is_object(v) && s->n > 0) {
        out = json_object();
        for (size_t i = 0; out != NULL && i < s->n; i++) {
            json_t *old = json_object_get(v, s->fields[i].key);
            if (json_object_set_new_nocheck(out, s->fields[i].key, old != NULL ? fit(s->fields[i].shape, old) : json_null()) != 0) {
                json_decref(out);
                return NULL;
            }
        }
        return out;
    }
    return json_incref(v);
}

int bm_docs_unify(json_t *rows, const char *path, bm_error *err)
{
    bm_arena arena = {.limit_bytes = 512 << 20};
    pass p = {&arena, path, err};
    shape *root = new_shape(&p);
    int rc = root == NULL ? no_memory(&p) : 0;

    for (size_t i = 0; i < json_array_size(rows) && rc == 0; i++)
        rc = look(&p, root, json_array_get(rows, i), 0);
    for (size_t i = 0; i < json_array_size(rows) && rc == 0; i++)
        if (json_array_set_new(rows, i, fit(root, json_array_get(rows, i))) != 0)
            rc = no_memory(&p);
    if (root != NULL)
        forget(root);
    bm_arena_done(&arena);
    return rc;
}
