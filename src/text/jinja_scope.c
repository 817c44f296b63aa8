/* jinja_scope.c - which slot of which frame a name means, decided once, as jinja2's idtracking.py does it.
 * A frame is what jinja2 gives a level of names: the template, a loop's body, its else and its condition, a macro, a call,
 * generation, filter, set or named block, with. `if` has none. For each frame first all its names are found in order of the
 * text (without inner frames): a name stored before it is loaded starts undefined there, or as a copy of an outer frame's;
 * one only loaded is the nearest outer frame's, or the caller's variable. Then names are resolved and inner frames follow. */
#include <string.h>

#include "text/jinja_ast.h"

enum { MAX_WORK = 20 * 1000 * 1000, MAX_SCOPE_DEPTH = 1000 };

typedef struct mark { bool ref, stored; bm_jload load; uint32_t hops, slot; } mark;
typedef struct marks { mark *v; uint32_t n, cap; } marks;       /* by slot of the frame; shorter than the frame: the rest is unset */

typedef struct scope {
    bm_jcompile *c;
    bm_jframe *frame;
    marks m;
    int depth;
} scope;

typedef struct walk { bm_jcompile *c; bm_jframe *frame; bool soft, in_loop; int depth; } walk;

static bool spend(bm_jcompile *c, size_t n)
{
    c->work += n;
    if (c->work <= MAX_WORK)
        return true;
    bm_fail(c->err, BM_LIMIT, "the chat template is too large to analyse");
    return false;
}

static bool too_deep(bm_jcompile *c, uint32_t pos)
{
    return bm_jcompile_fail(c, pos, "the template nests deeper than %d levels", MAX_SCOPE_DEPTH);
}

/* The frame's slot for a name; added when it has none. */
static bool slot_of(bm_jcompile *c, bm_jframe *f, uint32_t name, bool add, uint32_t *slot)
{
    if (!spend(c, f->n + 1))
        return false;
    for (*slot = 0; *slot < f->n; ++*slot)
        if (f->slots[*slot].name == name)
            return true;
    *slot = BM_J_NO_SLOT;
    if (!add)
        return true;
    if (f->n == f->cap) {
        uint32_t cap = f->cap == 0 ? 8 : f->cap * 2;
        bm_jslot *grown = bm_jcompile_alloc(c, cap, sizeof *grown);
        if (grown == NULL)
            return false;
        if (f->n > 0)
            memcpy(grown, f->slots, f->n * sizeof *grown);
        f->slots = grown, f->cap = cap;
    }
    *slot = f->n++;
    f->slots[*slot].name = name;
    f->slots[*slot].load = BM_L_UNDEFINED;
    return true;
}

/* Where the frames around `f` hold a name: *slot NO_SLOT when none does. */
static bool find_outer(bm_jcompile *c, const bm_jframe *f, uint32_t name, uint32_t *hops, uint32_t *slot)
{
    *slot = BM_J_NO_SLOT;
    *hops = 1;
    for (bm_jframe *p = f->isolated ? NULL : f->parent; p != NULL; p = p->isolated ? NULL : p->parent, ++*hops) {
        if (!slot_of(c, p, name, false, slot))
            return false;
        if (*slot != BM_J_NO_SLOT)
            return true;
    }
    return true;
}

static mark *mark_at(scope *s, uint32_t slot)
{
    if (slot >= s->m.cap) {
        uint32_t cap = slot + 8 > s->m.cap * 2 ? slot + 8 : s->m.cap * 2;
        mark *grown = bm_jcompile_alloc(s->c, cap, sizeof *grown);
        if (grown == NULL)
            return NULL;
        if (s->m.n > 0)
            memcpy(grown, s->m.v, s->m.n * sizeof *grown);
        s->m.v = grown, s->m.cap = cap;
    }
    if (slot >= s->m.n)
        s->m.n = slot + 1;
    return &s->m.v[slot];
}

static bool declare_param(scope *s, uint32_t name, uint32_t *slot)
{
    mark *m;

    if (!slot_of(s->c, s->frame, name, true, slot) || (m = mark_at(s, *slot)) == NULL)
        return false;
    *m = (mark){.ref = true, .stored = true, .load = BM_L_PARAM};
    return true;
}

static bool store_name(scope *s, uint32_t name)
{
    uint32_t slot;
    mark *m;

    if (!slot_of(s->c, s->frame, name, true, &slot) || (m = mark_at(s, slot)) == NULL)
        return false;
    m->stored = true;
    if (m->ref)
        return true;
    uint32_t hops, outer;
    if (!find_outer(s->c, s->frame, name, &hops, &outer))
        return false;
    m->ref = true;
    m->load = outer == BM_J_NO_SLOT ? BM_L_UNDEFINED : BM_L_ALIAS;
    m->hops = hops, m->slot = outer;
    return true;
}

static bool load_name(scope *s, uint32_t name)
{
    uint32_t slot, hops, outer;
    mark *m;

    if (!slot_of(s->c, s->frame, name, false, &slot))
        return false;
    if (slot != BM_J_NO_SLOT && slot < s->m.n && s->m.v[slot].ref)
        return true;
    if (!find_outer(s->c, s->frame, name, &hops, &outer))
        return false;
    if (outer != BM_J_NO_SLOT)
        return true;
    if (!slot_of(s->c, s->frame, name, true, &slot) || (m = mark_at(s, slot)) == NULL)
        return false;
    m->ref = true;
    m->load = BM_L_RESOLVE;
    return true;
}

static bool visit(scope *s, bm_jnode *n, bool as_param);

static bool visit_all(scope *s, bm_jnodes list, bool as_param)
{
    for (uint32_t i = 0; i < list.n; i++)
        if (!visit(s, list.v[i], as_param))
            return false;
    return true;
}

static bool visit_branch(scope *s, bm_jnodes body, marks *before, marks *after)
{
    s->m = (marks){0};
    if (!spend(s->c, before->n + 1))
        return false;
    if (before->n > 0) {
        if (mark_at(s, before->n - 1) == NULL)
            return false;
        memcpy(s->m.v, before->v, before->n * sizeof *before->v);
    }
    if (!visit_all(s, body, false))
        return false;
    *after = s->m;
    return true;
}

/* What the branches of an `if` leave: a name that only some of them store keeps what it was outside. */
static bool merge_branches(scope *s, marks *before, marks branch[3])
{
    uint32_t n = s->frame->n;

    s->m = *before;
    if (n > 0 && mark_at(s, n - 1) == NULL)
        return false;
    if (!spend(s->c, n * 4))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        mark *m = &s->m.v[i];
        bool was_stored = m->stored;
        for (int k = 0; k < 3; k++) {
            if (i >= branch[k].n || !branch[k].v[i].ref)
                continue;
            bool stored = m->stored || branch[k].v[i].stored;
            *m = branch[k].v[i];
            m->stored = stored;
        }
        if (!m->stored || was_stored)
            continue;
        if (!find_outer(s->c, s->frame, s->frame->slots[i].name, &m->hops, &m->slot))
            return false;
        m->load = m->slot == BM_J_NO_SLOT ? BM_L_RESOLVE : BM_L_ALIAS;
    }
    return true;
}

static bool visit_if(scope *s, bm_jnode *n)
{
    marks branch[3];

    if (!visit(s, n->a, false))
        return false;
    marks before = s->m;
    return visit_branch(s, n->kids, &before, &branch[0]) && visit_branch(s, n->alt, &before, &branch[1]) &&
           visit_branch(s, n->more, &before, &branch[2]) && merge_branches(s, &before, branch);
}

static bool visit_some(scope *s, bm_jnode *n, bool as_param)
{
    uint32_t slot;

    switch (n->kind) {
    case BM_N_NAME:
        if (as_param)
            return declare_param(s, n->name, &slot);
        return n->store ? store_name(s, n->name) : load_name(s, n->name);
    case BM_N_NSREF:
        return load_name(s, n->name);
    case BM_N_IF:
        return visit_if(s, n);
    case BM_N_MACRO:
        return store_name(s, n->name);
    case BM_N_FOR:
        return visit(s, n->b, false);
    case BM_N_SET:
        return visit(s, n->b, false) && visit(s, n->a, false);
    case BM_N_SETBLOCK:
        return visit(s, n->a, false);
    case BM_N_CALLBLOCK:
    case BM_N_FILTERBLOCK:
        return visit(s, n->b, false);
    case BM_N_WITH:
        return visit_all(s, n->more, false);
    case BM_N_SCOPE:
    case BM_N_BLOCK:
    case BM_N_GENERATION:
        return true;
    default:
        return (n->a == NULL || visit(s, n->a, as_param)) && (n->b == NULL || visit(s, n->b, as_param)) &&
               (n->c == NULL || visit(s, n->c, as_param)) && visit_all(s, n->kids, as_param);
    }
}

static bool visit(scope *s, bm_jnode *n, bool as_param)
{
    if (++s->depth > MAX_SCOPE_DEPTH)
        return too_deep(s->c, n->pos);
    bool ok = visit_some(s, n, as_param);
    s->depth--;
    return ok;
}

/* Does the body load `name` before it stores it (jinja2's find_undeclared, in its order of children)? 1 yes, -1 stored first. */
static int mentions(bm_jcompile *c, const bm_jnode *n, uint32_t name, int depth);

static int mentions_list(bm_jcompile *c, bm_jnodes list, uint32_t name, int depth)
{
    int found = 0;

    for (uint32_t i = 0; found == 0 && i < list.n; i++)
        found = mentions(c, list.v[i], name, depth);
    return found;
}

static int mentions(bm_jcompile *c, const bm_jnode *n, uint32_t name, int depth)
{
    int found = 0;

    if (n == NULL || n->kind == BM_N_BLOCK || depth > MAX_SCOPE_DEPTH || !spend(c, 1))
        return 0;
    if (n->kind == BM_N_NAME && n->name == name)
        return n->store ? -1 : 1;
    const bm_jnode *order[3] = {n->a, n->b, n->c};
    if (n->kind == BM_N_CALLBLOCK)
        found = mentions(c, n->b, name, depth + 1);
    else
        for (int i = 0; found == 0 && i < 3 && n->kind != BM_N_FILTERBLOCK && n->kind != BM_N_FOR; i++)
            found = mentions(c, order[i], name, depth + 1);
    for (int i = 0; found == 0 && i < 2 && n->kind == BM_N_FOR; i++)
        found = mentions(c, order[i], name, depth + 1);
    bool alt_first = n->kind == BM_N_MACRO || n->kind == BM_N_CALLBLOCK || n->kind == BM_N_WITH;
    if (found == 0 && alt_first)
        found = mentions_list(c, n->alt, name, depth + 1);
    if (found == 0 && n->kind == BM_N_WITH)
        found = mentions_list(c, n->more, name, depth + 1);
    if (found == 0)
        found = mentions_list(c, n->kids, name, depth + 1);
    if (found == 0 && !alt_first)
        found = mentions_list(c, n->alt, name, depth + 1);
    if (found == 0 && n->kind != BM_N_WITH)
        found = mentions_list(c, n->more, name, depth + 1);
    if (found == 0 && n->kind == BM_N_FOR)
        found = mentions(c, n->c, name, depth + 1);
    if (found == 0 && n->kind == BM_N_FILTERBLOCK)
        found = mentions(c, n->b, name, depth + 1);
    return found;
}

static bool new_frame(bm_jcompile *c, bm_jframe *parent, scope *s)
{
    *s = (scope){.c = c, .frame = bm_jcompile_alloc(c, 1, sizeof *s->frame)};
    if (s->frame == NULL)
        return false;
    s->frame->parent = parent;
    return true;
}

/* Put what was found into the frame. */
static bm_jframe *seal(scope *s)
{
    for (uint32_t i = 0; i < s->frame->n; i++) {
        const mark *m = i < s->m.n ? &s->m.v[i] : &(mark){.load = BM_L_RESOLVE};
        s->frame->slots[i].load = m->load;
        s->frame->slots[i].hops = m->hops;
        s->frame->slots[i].slot = m->slot;
    }
    return s->frame;
}

static bool resolve(walk w, bm_jnode *n);

static bool resolve_list(walk w, bm_jnodes list)
{
    for (uint32_t i = 0; i < list.n; i++)
        if (!resolve(w, list.v[i]))
            return false;
    return true;
}

static bool resolve_name(walk w, bm_jnode *n)
{
    if (!n->store)
        w.c->tmpl->names[n->name].loaded = true;
    n->hops = 0;
    if (!slot_of(w.c, w.frame, n->name, false, &n->slot))
        return false;
    if (n->slot != BM_J_NO_SLOT)
        return true;
    if (!find_outer(w.c, w.frame, n->name, &n->hops, &n->slot))
        return false;
    if (n->slot != BM_J_NO_SLOT)
        return true;
    /* Only where jinja2's own analysis forgets a place (the filters of a set block): it fails there, this reads the variable. */
    n->hops = 0;
    if (!slot_of(w.c, w.frame, n->name, true, &n->slot))
        return false;
    w.frame->slots[n->slot].load = BM_L_RESOLVE;
    return true;
}

static walk inner(walk w, bm_jframe *frame, bool in_loop)
{
    return (walk){.c = w.c, .frame = frame, .in_loop = in_loop, .depth = w.depth};
}

/* Nothing inside a loop may assign to its `loop`; parameters and the targets of `with` may have that name. */
static bool find_loop_store(walk w, const bm_jnode *n, uint32_t loop)
{
    bool scoped = n->kind == BM_N_MACRO || n->kind == BM_N_CALLBLOCK || n->kind == BM_N_WITH;
    const bm_jnode *parts[2] = {n->a, n->b};
    const bm_jnodes lists[3] = {n->kids, scoped ? (bm_jnodes){0} : n->alt, n->more};

    if (n->kind == BM_N_NAME && n->store && n->name == loop)
        return bm_jcompile_fail(w.c, n->pos, "Can't assign to special loop variable in for-loop target");
    if (++w.depth > MAX_SCOPE_DEPTH)
        return too_deep(w.c, n->pos);
    if (!spend(w.c, 1))
        return false;
    for (int i = 0; i < 2; i++)
        if (parts[i] != NULL && !find_loop_store(w, parts[i], loop))
            return false;
    for (int i = 0; i < 3; i++)
        for (uint32_t k = 0; k < lists[i].n; k++)
            if (!find_loop_store(w, lists[i].v[k], loop))
                return false;
    return true;
}

static bool resolve_for(walk w, bm_jnode *n)
{
    scope body, other, test;
    uint32_t loop;

    if (!resolve(w, n->b) || !bm_jcompile_name(w.c, "loop", 4, &loop) || !find_loop_store(w, n, loop))
        return false;
    /* Targets first in both frames: the condition then finds them in the same slots as the body. */
    if (!new_frame(w.c, w.frame, &body) || !visit(&body, n->a, true))
        return false;
    if (n->recursive || mentions_list(w.c, n->kids, loop, 0) == 1)
        if (!declare_param(&body, loop, &n->special.loop))
            return false;
    if (!visit_all(&body, n->kids, false))
        return false;
    n->frame = seal(&body);
    if (!resolve(inner(w, n->frame, true), n->a) || !resolve_list(inner(w, n->frame, true), n->kids))
        return false;
    if (n->c != NULL) {
        if (!new_frame(w.c, w.frame, &test) || !visit(&test, n->a, true) || !visit(&test, n->c, false))
            return false;
        n->test_frame = seal(&test);
        if (!resolve(inner(w, n->test_frame, false), n->c))
            return false;
    }
    if (n->alt.n == 0)
        return true;
    if (!new_frame(w.c, w.frame, &other) || !visit_all(&other, n->alt, false))
        return false;
    n->alt_frame = seal(&other);
    return resolve_list(inner(w, n->alt_frame, w.in_loop && !n->recursive), n->alt);
}

static bool declare_special(scope *s, bm_jnode *n, const char *text, uint32_t *slot, bool *explicit_param)
{
    uint32_t name;

    if (!bm_jcompile_name(s->c, text, strlen(text), &name))
        return false;
    *explicit_param = false;
    for (uint32_t i = 0; i < n->alt.n; i++)
        if (n->alt.v[i]->name == name) {
            *explicit_param = true;
            if (strcmp(text, "caller") == 0 && n->alt.v[i]->a == NULL && mentions_list(s->c, n->kids, name, 0) == 1)
                return bm_jcompile_fail(s->c, n->pos, "When defining macros or call blocks the special \"caller\" argument "
                                        "must be omitted or be given a default.");
        }
    if (*explicit_param || mentions_list(s->c, n->kids, name, 0) != 1)
        return true;
    return declare_param(s, name, slot);
}

/* The body of a macro, a call block or a generation block: parameters stand in the first slots, in order. */
static bool resolve_macro(walk w, bm_jnode *n)
{
    bool is_explicit;
    scope s;
    uint32_t slot;

    if (!new_frame(w.c, w.frame, &s))
        return false;
    for (uint32_t i = 0; i < n->alt.n; i++)
        if (!declare_param(&s, n->alt.v[i]->name, &slot))
            return false;
    for (uint32_t i = 0; i < n->alt.n; i++)
        if (n->alt.v[i]->a != NULL && !visit(&s, n->alt.v[i]->a, false))
            return false;
    if (!visit_all(&s, n->kids, false) || !declare_special(&s, n, "caller", &n->special.caller, &is_explicit) ||
        !declare_special(&s, n, "kwargs", &n->special.kwargs, &is_explicit) ||
        !declare_special(&s, n, "varargs", &n->special.varargs, &is_explicit))
        return false;
    n->frame = seal(&s);
    for (uint32_t i = 0; i < n->alt.n; i++)
        if (n->alt.v[i]->a != NULL && !resolve(inner(w, n->frame, false), n->alt.v[i]->a))
            return false;
    return resolve_list(inner(w, n->frame, false), n->kids);
}

static bool resolve_block(walk w, bm_jnode *n)
{
    bool named = n->kind == BM_N_BLOCK;
    scope s;

    if (!new_frame(w.c, w.frame, &s))
        return false;
    s.frame->isolated = named && n->op == 0;
    for (uint32_t i = 0; n->kind == BM_N_WITH && i < n->alt.n; i++)
        if (!visit(&s, n->alt.v[i], true))
            return false;
    if (!visit_all(&s, n->kids, false))
        return false;
    n->frame = seal(&s);
    return resolve_list(inner(w, n->frame, w.in_loop && !named), n->kids);
}

static bool resolve_with(walk w, bm_jnode *n)
{
    if (!resolve_list(w, n->more) || !resolve_block(w, n))
        return false;
    return resolve_list(inner(w, n->frame, false), n->alt);
}

/* The filters of a filter block or a set block read the names of the block's own frame. */
static bool resolve_filter_block(walk w, bm_jnode *n)
{
    if (!resolve_block(w, n))
        return false;
    if (n->b != NULL && !resolve(inner(w, n->frame, false), n->b))
        return false;
    return n->kind != BM_N_SETBLOCK || resolve(w, n->a);
}

static bool resolve_def(walk w, bm_jnode *n)
{
    const bm_jstr *name = w.c->tmpl->names[n->name].text;

    n->def = n->kind == BM_N_FILTER ? bm_jfilter_find(name->data) : bm_jtest_find(name->data);
    if (n->kind == BM_N_FILTER && w.c->tmpl->plain && bm_jstr_is(name, bm_jfilter_regex.name))
        n->def = &bm_jfilter_regex;
    if (n->def != NULL || w.soft)
        return true;
    return bm_jcompile_fail(w.c, n->pos, "No %s named '%.80s'.", n->kind == BM_N_FILTER ? "filter" : "test", name->data);
}

static bool resolve_some(walk w, bm_jnode *n)
{
    bm_jnode *parts[3] = {n->a, n->b, n->c};

    switch (n->kind) {
    case BM_N_NAME:
    case BM_N_NSREF:
        return resolve_name(w, n);
    case BM_N_FOR:
        return resolve_for(w, n);
    case BM_N_MACRO:
        return slot_of(w.c, w.frame, n->name, true, &n->slot) && resolve_macro(w, n);
    case BM_N_CALLBLOCK:
        return resolve(w, n->b) && resolve_macro(w, n);
    case BM_N_GENERATION:
        return resolve_macro(w, n);
    case BM_N_FILTERBLOCK:
    case BM_N_SETBLOCK:
        return resolve_filter_block(w, n);
    case BM_N_WITH:
        return resolve_with(w, n);
    case BM_N_SCOPE:
        return resolve(w, n->a) && resolve_block(w, n);
    case BM_N_BLOCK:
        return resolve_block(w, n);
    case BM_N_BREAK:
    case BM_N_CONTINUE:
        return w.in_loop || bm_jcompile_fail(w.c, n->pos, "'%s' outside loop", n->kind == BM_N_BREAK ? "break" : "continue");
    case BM_N_IF:
    case BM_N_COND:
        w.soft = true;
        break;
    case BM_N_FILTER:
    case BM_N_TEST:
        if (!resolve_def(w, n))
            return false;
        break;
    default:
        break;
    }
    for (int i = 0; i < 3; i++)
        if (parts[i] != NULL && !resolve(w, parts[i]))
            return false;
    return resolve_list(w, n->kids) && resolve_list(w, n->alt) && resolve_list(w, n->more);
}

static bool resolve(walk w, bm_jnode *n)
{
    if (++w.depth > MAX_SCOPE_DEPTH)
        return too_deep(w.c, n->pos);
    return spend(w.c, 1) && resolve_some(w, n);
}

bool bm_jscope(bm_jcompile *c)
{
    scope s;

    if (!new_frame(c, NULL, &s) || !visit_all(&s, c->tmpl->body, false))
        return false;
    c->tmpl->frame = seal(&s);
    return resolve_list((walk){.c = c, .frame = c->tmpl->frame}, c->tmpl->body) && spend(c, 0);
}
