/* jinja_compile.c - memory, names and errors of one compilation; freed with the template. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "text/jinja_ast.h"

void *bm_jcompile_alloc(bm_jcompile *c, size_t n, size_t size)
{
    size_t len;
    void *p = bm_mul_size(n, size, &len) ? bm_arena_alloc(&c->tmpl->arena, len) : NULL;

    if (p == NULL)
        bm_fail(c->err, BM_NOMEM, "no memory to compile the chat template");
    return p;
}

void bm_template_position(const bm_template *t, uint32_t pos, size_t *line, size_t *column)
{
    *line = 1, *column = 1;
    for (uint32_t i = 0; i < pos && i < t->len; i++) {
        if (t->source[i] == '\n')
            *line += 1, *column = 1;
        else if ((t->source[i] & 0xC0) != 0x80)
            *column += 1;
    }
}

bool bm_jcompile_fail(bm_jcompile *c, uint32_t pos, const char *fmt, ...)
{
    size_t line, column;
    va_list ap;

    bm_template_position(c->tmpl, pos, &line, &column);
    va_start(ap, fmt);
    bm_vfail(c->err, BM_INVALID, fmt, ap);
    va_end(ap);
    bm_wrap(c->err, "line %zu, column %zu", line, column);
    return false;
}

bm_jstr *bm_jcompile_str(bm_jcompile *c, const char *data, size_t len, bool copy)
{
    bm_jstr *s = bm_jcompile_alloc(c, 1, sizeof *s);

    if (s == NULL)
        return NULL;
    if (copy && (data = bm_arena_strndup(&c->tmpl->arena, data, len)) == NULL) {
        bm_fail(c->err, BM_NOMEM, "no memory to compile the chat template");
        return NULL;
    }
    s->data = data;
    s->len = len;
    s->src = BM_SPAN_TEMPLATE;
    s->n_chars = SIZE_MAX;
    bm_jstr_chars(s);                    /* constants are shared by threads: nothing may be counted later */
    return s;
}

static uint32_t *find_place(const bm_template *t, const char *s, size_t len)
{
    size_t at = bm_hash64(s, len, 0) & (t->n_name_index - 1);

    while (t->name_index[at] != 0) {
        const bm_jstr *text = t->names[t->name_index[at] - 1].text;
        if (text->len == len && memcmp(text->data, s, len) == 0)
            break;
        at = (at + 1) & (t->n_name_index - 1);
    }
    return &t->name_index[at];
}

uint32_t bm_template_name(const bm_template *t, const char *s, size_t len)
{
    if (t->n_name_index == 0)
        return UINT32_MAX;
    uint32_t *place = find_place(t, s, len);
    return *place == 0 ? UINT32_MAX : *place - 1;
}

static bool grow_names(bm_jcompile *c)
{
    bm_template *t = c->tmpl;
    uint32_t cap = t->cap_names == 0 ? 64 : t->cap_names * 2;
    bm_jname *names = bm_jcompile_alloc(c, cap, sizeof *names);
    uint32_t *index = bm_jcompile_alloc(c, (size_t)cap * 2, sizeof *index);

    if (names == NULL || index == NULL)
        return false;
    if (t->n_names > 0)
        memcpy(names, t->names, t->n_names * sizeof *names);
    t->names = names, t->cap_names = cap;
    t->name_index = index, t->n_name_index = (size_t)cap * 2;
    for (uint32_t i = 0; i < t->n_names; i++)
        *find_place(t, names[i].text->data, names[i].text->len) = i + 1;
    return true;
}

bool bm_jcompile_name(bm_jcompile *c, const char *s, size_t len, uint32_t *id)
{
    bm_template *t = c->tmpl;

    if (t->n_names == t->cap_names && !grow_names(c))
        return false;
    uint32_t *place = find_place(t, s, len);
    if (*place == 0) {
        if ((t->names[t->n_names].text = bm_jcompile_str(c, s, len, true)) == NULL)
            return false;
        *place = ++t->n_names;
    }
    *id = *place - 1;
    return true;
}

bm_jnode *bm_jnode_new(bm_jcompile *c, bm_jkind kind, uint32_t pos)
{
    bm_jnode *n = bm_jcompile_alloc(c, 1, sizeof *n);

    if (n == NULL)
        return NULL;
    n->kind = kind;
    n->pos = pos;
    n->slot = BM_J_NO_SLOT;
    n->special.caller = n->special.kwargs = n->special.varargs = n->special.loop = BM_J_NO_SLOT;
    return n;
}

bool bm_jvec_add(bm_jcompile *c, bm_jvec *v, bm_jnode *n)
{
    if (n == NULL)
        return false;
    if (v->n == v->cap) {
        uint32_t cap = v->cap == 0 ? 4 : v->cap * 2;
        bm_jnode **grown = bm_jcompile_alloc(c, cap, sizeof *grown);
        if (grown == NULL)
            return false;
        if (v->n > 0)
            memcpy(grown, v->v, v->n * sizeof *grown);
        v->v = grown, v->cap = cap;
    }
    v->v[v->n++] = n;
    return true;
}
