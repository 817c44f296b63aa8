/* jinja_loop.c - for: its iteration, its filter, its else, and the `loop` variable. Items are fetched one by one, as in jinja2:
 * a condition may depend on what the body did before, and only loop.last, nextitem and length look ahead. */
#include <stdio.h>
#include <string.h>

#include "text/jinja_ast.h"

struct bm_jloop {
    const bm_jnode *node;
    bm_jenv *outer, *test_env;
    bm_jiter it;
    bm_jlist *rest;                        /* what was fetched ahead for the length */
    size_t rest_at;
    bm_jval current, before, after;        /* after: fetched ahead by one, MISSING when not */
    bm_jval last_changed;
    int64_t index0, length, depth0;        /* length -1: not known */
};

static bool fetch_passing(bm_jrun *r, bm_jloop *loop, bm_jval *out)
{
    const bm_jnode *n = loop->node;
    bm_jval test;
    bool holds;

    if (loop->test_env == NULL) {
        loop->test_env = bm_jenv_new(r, loop->outer, n->test_frame);
        if (loop->test_env == NULL || !bm_jenv_enter(r, loop->test_env))
            return false;
    }
    for (;;) {
        if (!bm_jiter_next(r, &loop->it, out))
            return false;
        if (out->type == BM_J_MISSING)
            return true;
        if (!bm_jassign(r, loop->test_env, n->a, *out) || !bm_jeval(r, loop->test_env, n->c, &test) || !bm_jval_test(r, test, &holds))
            return false;
        if (holds)
            return true;
    }
}

static bool fetch(bm_jrun *r, bm_jloop *loop, bm_jval *out)
{
    if (loop->rest != NULL) {
        *out = loop->rest_at < loop->rest->n ? loop->rest->items[loop->rest_at++] : (bm_jval){0};
        return true;
    }
    return loop->node->c != NULL ? fetch_passing(r, loop, out) : bm_jiter_next(r, &loop->it, out);
}

static bool advance(bm_jrun *r, bm_jloop *loop, bm_jval *out)
{
    *out = loop->after;
    loop->after = (bm_jval){0};
    if (out->type == BM_J_MISSING && !fetch(r, loop, out))
        return false;
    if (out->type == BM_J_MISSING)
        return true;
    loop->index0++;
    loop->before = loop->current;
    loop->current = *out;
    return true;
}

static bool peek(bm_jrun *r, bm_jloop *loop)
{
    return loop->after.type != BM_J_MISSING || fetch(r, loop, &loop->after);
}

static bool find_length(bm_jrun *r, bm_jloop *loop)
{
    bm_jlist *rest;
    bm_jval v;
    size_t n;

    if (loop->length >= 0)
        return true;
    if (loop->node->c == NULL && loop->it.of.type != BM_J_ITER) {
        if (!bm_jval_len(r, loop->it.of, &n))
            return false;
        loop->length = (int64_t)n;
        return true;
    }
    if ((rest = bm_jlist_new(r, 0)) == NULL)
        return false;
    for (;;) {
        if (!fetch(r, loop, &v))
            return false;
        if (v.type == BM_J_MISSING)
            break;
        if (!bm_jlist_add(r, rest, v))
            return false;
    }
    loop->rest = rest;
    loop->rest_at = 0;
    loop->length = (int64_t)rest->n + loop->index0 + 1 + (loop->after.type != BM_J_MISSING);
    return true;
}

static bool run_iterations(bm_jrun *r, bm_jloop *loop, bm_jenv *body, bm_jflow *flow, bool *complete)
{
    const bm_jnode *n = loop->node;
    bm_jval item;

    for (;;) {
        if (!advance(r, loop, &item))
            return false;
        if (item.type == BM_J_MISSING)
            return true;
        if (!bm_jassign(r, body, n->a, item))
            return false;
        if (n->special.loop != BM_J_NO_SLOT)
            body->slots[n->special.loop] = (bm_jval){.type = BM_J_LOOP, .loop = loop};
        if (!bm_jenv_enter(r, body))
            return false;
        *flow = bm_jexec(r, body, n->kids);
        if (*flow == BM_FLOW_FAIL)
            return false;
        *complete |= *flow == BM_FLOW_NEXT;
        if (*flow == BM_FLOW_BREAK)
            return true;
    }
}

/* jinja2 runs `else` when no iteration reached its end: also after a break or continue in each. */
static bm_jflow run_loop(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval over, int64_t depth0)
{
    bm_jloop *loop = bm_jrun_alloc(r, 1, sizeof *loop);
    bm_jenv *body = bm_jenv_new(r, env, n->frame), *other;
    bm_jflow flow = BM_FLOW_NEXT;
    bool complete = false;

    if (loop == NULL || body == NULL)
        return BM_FLOW_FAIL;
    *loop = (bm_jloop){.node = n, .outer = env, .index0 = -1, .length = -1, .depth0 = depth0};
    if (!bm_jiter_open(r, over, &loop->it) || !run_iterations(r, loop, body, &flow, &complete))
        return BM_FLOW_FAIL;
    if (complete || n->alt.n == 0)
        return BM_FLOW_NEXT;
    if ((other = bm_jenv_new(r, env, n->alt_frame)) == NULL || !bm_jenv_enter(r, other))
        return BM_FLOW_FAIL;
    return bm_jexec(r, other, n->alt);
}

/* A recursive loop is a function in jinja2: its output is captured, then written. */
static bool run_recursive(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval over, int64_t depth0, bm_jval *out)
{
    size_t begin = bm_jcapture_begin(r);
    bm_jflow flow = bm_jrun_enter(r) ? run_loop(r, env, n, over, depth0) : BM_FLOW_FAIL;

    bm_jrun_leave(r);
    return bm_jval_str(out, bm_jcapture_end(r, begin)) && flow != BM_FLOW_FAIL;
}

bm_jflow bm_jexec_for(bm_jrun *r, bm_jenv *env, const bm_jnode *n)
{
    bm_jval over, text;

    if (!bm_jeval(r, env, n->b, &over))
        return BM_FLOW_FAIL;
    if (!n->recursive)
        return run_loop(r, env, n, over, 0);
    return run_recursive(r, env, n, over, 0, &text) && bm_jval_write(&r->out, text) ? BM_FLOW_NEXT : BM_FLOW_FAIL;
}

bool bm_jloop_call(bm_jrun *r, bm_jloop *loop, const bm_jargs *args, bm_jval *out)
{
    bm_jval over = args->n == 1 ? args->pos[0] : (bm_jval){0};

    if (!loop->node->recursive)
        return bm_jrun_fail(r, "The loop must have the 'recursive' marker to be called recursively.");
    if (over.type == BM_J_MISSING || args->kw != NULL)
        return bm_jrun_fail(r, "loop() takes one iterable");
    return run_recursive(r, loop->outer, loop->node, over, loop->depth0 + 1, out);
}

bool bm_jloop_repr(bm_jsb *b, bm_jloop *loop)
{
    char text[64];

    if (!find_length(b->run, loop))
        return false;
    snprintf(text, sizeof text, "<LoopContext %lld/%lld>", (long long)loop->index0 + 1, (long long)loop->length);
    bm_jsb_add(b, text, strlen(text), BM_SPAN_TEMPLATE);
    return true;
}

static bool neighbour(bm_jrun *r, bm_jval v, const char *hint, bm_jval *out)
{
    *out = v;
    return v.type != BM_J_MISSING || bm_jval_undef(r, hint, out);
}

bool bm_jloop_attr(bm_jrun *r, bm_jloop *loop, const bm_jstr *name, bm_jval *out)
{
    int64_t index0 = loop->index0;

    *out = (bm_jval){0};
    if (bm_jstr_is(name, "index0") || bm_jstr_is(name, "index"))
        *out = bm_jint(index0 + (name->len == 5));
    else if (bm_jstr_is(name, "first"))
        *out = bm_jbool(index0 == 0);
    else if (bm_jstr_is(name, "depth") || bm_jstr_is(name, "depth0"))
        *out = bm_jint(loop->depth0 + (name->len == 5));
    else if (bm_jstr_is(name, "previtem"))
        return neighbour(r, loop->before, "there is no previous item", out);
    else if (bm_jstr_is(name, "last")) {
        if (!peek(r, loop))
            return false;
        *out = bm_jbool(loop->after.type == BM_J_MISSING);
    } else if (bm_jstr_is(name, "nextitem")) {
        return peek(r, loop) && neighbour(r, loop->after, "there is no next item", out);
    } else if (bm_jstr_is(name, "length") || bm_jstr_is(name, "revindex") || bm_jstr_is(name, "revindex0")) {
        if (!find_length(r, loop))
            return false;
        *out = bm_jint(name->len == 6 ? loop->length : loop->length - index0 - (name->len == 9));
    }
    return true;
}

static bool loop_cycle(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    if (c->args->n == 0)
        return bm_jrun_fail(r, "no items for cycling given");
    *out = c->args->pos[(size_t)c->self.loop->index0 % c->args->n];
    return true;
}

static bool loop_changed(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jlist *list = bm_jlist_new(r, c->args->n);
    bm_jval now;
    bool same = false;

    for (size_t i = 0; list != NULL && i < c->args->n; i++)
        if (!bm_jlist_add(r, list, c->args->pos[i]))
            return false;
    if (!bm_jval_list(r, BM_J_TUPLE, list, &now))
        return false;
    if (c->self.loop->last_changed.type != BM_J_MISSING && !bm_jval_eq(r, c->self.loop->last_changed, now, &same))
        return false;
    if (!same)
        c->self.loop->last_changed = now;
    *out = bm_jbool(!same);
    return true;
}

const bm_jdef bm_jmethods_loop[] = {{"cycle", NULL, loop_cycle}, {"changed", NULL, loop_changed}, {NULL, NULL, NULL}};
