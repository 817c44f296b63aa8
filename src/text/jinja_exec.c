/* jinja_exec.c - statements: printing, branches, assignments, blocks that capture their output, macros and calls. */
#include <string.h>

#include "text/jinja_ast.h"

/* A variable that no frame sets: what the caller passed, then a built-in function. Looked up once per name. */
static bool context_name(bm_jrun *r, uint32_t name, bm_jval *out)
{
    const bm_jstr *text = r->tmpl->names[name].text;
    bm_jval key = {.type = BM_J_STR, .s = r->tmpl->names[name].text};

    *out = r->context[name];
    if (out->type == BM_J_UNDEF)                         /* looked up before and not there */
        *out = (bm_jval){0};
    else if (out->type == BM_J_MISSING) {
        if (!bm_jdict_get(r, r->vars, key, out))
            return false;
        const bm_jdef *func = out->type == BM_J_MISSING ? bm_jfunc_find(text->data) : NULL;
        if (func != NULL)
            *out = (bm_jval){.type = BM_J_FUNC, .func = func};
        r->context[name] = out->type == BM_J_MISSING ? (bm_jval){.type = BM_J_UNDEF} : *out;
    }
    return true;
}

bm_jenv *bm_jenv_new(bm_jrun *r, bm_jenv *parent, const bm_jframe *frame)
{
    bm_jenv *env = bm_jrun_alloc(r, 1, sizeof *env);

    if (env == NULL || (env->slots = bm_jrun_alloc(r, frame->n + 1, sizeof *env->slots)) == NULL)
        return NULL;
    env->parent = parent;
    env->frame = frame;
    return env;
}

/* A named block sees what the template's own level has set so far. */
static bool exported_name(bm_jrun *r, uint32_t name, bm_jval *out)
{
    const bm_jframe *f = r->root->frame;

    for (uint32_t i = 0; i < f->n; i++)
        if (f->slots[i].name == name && r->root->slots[i].type != BM_J_MISSING) {
            *out = r->root->slots[i];
            return true;
        }
    return context_name(r, name, out);
}

bool bm_jenv_enter(bm_jrun *r, bm_jenv *env)
{
    const bm_jframe *f = env->frame;

    if (!bm_jrun_step(r, f->n))
        return false;
    for (uint32_t i = 0; i < f->n; i++) {
        bm_jval *v = &env->slots[i];
        bm_jenv *from = env;
        switch (f->slots[i].load) {
        case BM_L_PARAM:
            break;
        case BM_L_RESOLVE:
            if (!(f->isolated ? exported_name(r, f->slots[i].name, v) : context_name(r, f->slots[i].name, v)))
                return false;
            break;
        case BM_L_ALIAS:
            for (uint32_t k = 0; k < f->slots[i].hops; k++)
                from = from->parent;
            *v = from->slots[f->slots[i].slot];
            break;
        case BM_L_UNDEFINED:
            *v = (bm_jval){0};
        }
    }
    return true;
}

static bm_jenv *enter_frame(bm_jrun *r, bm_jenv *parent, const bm_jframe *frame)
{
    bm_jenv *env = bm_jenv_new(r, parent, frame);

    return env != NULL && bm_jenv_enter(r, env) ? env : NULL;
}

size_t bm_jcapture_begin(bm_jrun *r)
{
    if (r->n_captures++ == 0)
        r->root_len = r->out.len;
    return r->out.len;
}

bm_jstr *bm_jcapture_end(bm_jrun *r, size_t begin)
{
    r->n_captures--;
    return bm_jsb_cut(&r->out, begin);
}

static bool is_namespace(bm_jrun *r, bm_jenv *env, const bm_jnode *target, bm_jval *ns)
{
    for (uint32_t i = 0; i < target->hops; i++)
        env = env->parent;
    *ns = env->slots[target->slot];
    return ns->type == BM_J_NAMESPACE || bm_jrun_fail(r, "cannot assign attribute on non-namespace object");
}

static bool assign_namespace(bm_jrun *r, bm_jenv *env, const bm_jnode *target, bm_jval v)
{
    const bm_jstr *attr = target->value.s;
    bm_jval ns;

    if (!is_namespace(r, env, target, &ns))
        return false;
    if (attr->data[0] == '_')
        return bm_jrun_fail(r, "Chat templates cannot store underscore-prefixed attributes on a namespace");
    return bm_jdict_set(r, ns.dict, target->value, v);
}

bool bm_jassign(bm_jrun *r, bm_jenv *env, const bm_jnode *target, bm_jval v)
{
    bm_jlist *parts;

    if (target->kind == BM_N_NSREF)
        return assign_namespace(r, env, target, v);
    if (target->kind == BM_N_NAME) {
        for (uint32_t i = 0; i < target->hops; i++)
            env = env->parent;
        env->slots[target->slot] = v;
        return true;
    }
    if (!bm_jval_iterable(v))
        return bm_jrun_fail(r, "cannot unpack non-iterable %s object", bm_jval_type(v));
    if (!bm_jval_collect(r, v, &parts))
        return false;
    if (parts->n != target->kids.n)
        return bm_jrun_fail(r, parts->n > target->kids.n ? "too many values to unpack (expected %u, got %zu)"
                            : "not enough values to unpack (expected %u, got %zu)", target->kids.n, parts->n);
    for (uint32_t i = 0; i < target->kids.n; i++)
        if (!bm_jassign(r, env, target->kids.v[i], parts->items[i]))
            return false;
    return true;
}

static bool print_value(bm_jrun *r, bm_jenv *env, const bm_jnode *n)
{
    bm_jval v;

    return bm_jeval(r, env, n, &v) && bm_jval_write(&r->out, v);
}

static bool exec_print(bm_jrun *r, bm_jenv *env, const bm_jnode *n)
{
    if (n->op == 0)
        return print_value(r, env, n->a);
    for (uint32_t i = 0; i < n->a->kids.n; i++)
        if (!print_value(r, env, n->a->kids.v[i]))
            return false;
    return true;
}

static bm_jflow exec_if(bm_jrun *r, bm_jenv *env, const bm_jnode *n)
{
    bm_jval test;
    bool holds;

    if (!bm_jeval(r, env, n->a, &test) || !bm_jval_test(r, test, &holds))
        return BM_FLOW_FAIL;
    if (holds)
        return bm_jexec(r, env, n->kids);
    for (uint32_t i = 0; i < n->alt.n; i++) {
        if (!bm_jeval(r, env, n->alt.v[i]->a, &test) || !bm_jval_test(r, test, &holds))
            return BM_FLOW_FAIL;
        if (holds)
            return bm_jexec(r, env, n->alt.v[i]->kids);
    }
    return bm_jexec(r, env, n->more);
}

static bool check_namespaces(bm_jrun *r, bm_jenv *env, const bm_jnode *target)
{
    bm_jval ns;

    if (target->kind == BM_N_NSREF)
        return is_namespace(r, env, target, &ns);
    for (uint32_t i = 0; target->kind == BM_N_TUPLE && i < target->kids.n; i++)
        if (!check_namespaces(r, env, target->kids.v[i]))
            return false;
    return true;
}

static bool exec_set(bm_jrun *r, bm_jenv *env, const bm_jnode *n)
{
    bm_jval v;

    return check_namespaces(r, env, n->a) && bm_jeval(r, env, n->b, &v) && bm_jassign(r, env, n->a, v);
}

/* {% set x %}...{% endset %} and {% filter f %}...{% endfilter %} */
static bm_jflow exec_captured(bm_jrun *r, bm_jenv *env, const bm_jnode *n)
{
    bm_jenv *inner = enter_frame(r, env, n->frame);
    bm_jval v;

    if (inner == NULL)
        return BM_FLOW_FAIL;
    size_t begin = bm_jcapture_begin(r);
    bm_jflow flow = bm_jexec(r, inner, n->kids);
    bm_jstr *text = bm_jcapture_end(r, begin);
    if (text == NULL)
        return BM_FLOW_FAIL;
    if (flow != BM_FLOW_NEXT)                            /* break out of the block: what it printed is lost, as in jinja2 */
        return flow;
    bm_jval_str(&v, text);
    r->block_text = v;
    if (n->b != NULL && !bm_jeval(r, inner, n->b, &v))
        return BM_FLOW_FAIL;
    bool ok = n->kind == BM_N_SETBLOCK ? bm_jassign(r, env, n->a, v) : bm_jval_write(&r->out, v);
    return ok ? BM_FLOW_NEXT : BM_FLOW_FAIL;
}

static bm_jflow exec_scope(bm_jrun *r, bm_jenv *env, const bm_jnode *n)
{
    bm_jenv *inner = enter_frame(r, env, n->frame);
    bm_jval v;

    if (inner == NULL)
        return BM_FLOW_FAIL;
    for (uint32_t i = 0; n->kind == BM_N_WITH && i < n->alt.n; i++)
        if (!bm_jeval(r, env, n->more.v[i], &v) || !bm_jassign(r, inner, n->alt.v[i], v))
            return BM_FLOW_FAIL;
    return bm_jexec(r, inner, n->kids);
}

static bool new_macro(bm_jrun *r, bm_jenv *env, const bm_jnode *n, bm_jval *out)
{
    bm_jmacro *m = bm_jrun_alloc(r, 1, sizeof *m);

    if (m == NULL)
        return false;
    *m = (bm_jmacro){.node = n, .env = env};
    *out = (bm_jval){.type = BM_J_MACRO, .macro = m};
    return true;
}

static bool exec_call_block(bm_jrun *r, bm_jenv *env, const bm_jnode *n)
{
    bm_jval caller, v;

    return new_macro(r, env, n, &caller) && bm_jeval_call(r, env, n->b, caller, &v) && bm_jval_write(&r->out, v);
}

/* The block's text is noted where jinja2's tracker of transformers sees it: inside a macro that is the text before the macro. */
static bool exec_generation(bm_jrun *r, bm_jenv *env, const bm_jnode *n)
{
    size_t begin = r->n_captures == 0 ? r->out.len : r->root_len, from = r->out.len;
    bm_jenv *inner = enter_frame(r, env, n->frame);

    if (inner == NULL || bm_jexec(r, inner, n->kids) != BM_FLOW_NEXT)
        return false;
    if (r->n_generation == r->cap_generation) {
        size_t cap = r->cap_generation == 0 ? 8 : r->cap_generation * 2;
        bm_span *grown = bm_jrun_alloc(r, cap, sizeof *grown);
        if (grown == NULL)
            return false;
        if (r->n_generation > 0)
            memcpy(grown, r->generation, r->n_generation * sizeof *grown);
        r->generation = grown, r->cap_generation = cap;
    }
    r->generation[r->n_generation] = (bm_span){begin, begin + (r->out.len - from), (int)r->n_generation};
    r->n_generation++;
    return true;
}

static bool exec_macro(bm_jrun *r, bm_jenv *env, const bm_jnode *n)
{
    bm_jval v;

    if (!new_macro(r, env, n, &v))
        return false;
    env->slots[n->slot] = v;
    return true;
}

static bm_jflow exec_one(bm_jrun *r, bm_jenv *env, const bm_jnode *n)
{
    bool ok = true;

    switch (n->kind) {
    case BM_N_DATA:
        bm_jsb_add(&r->out, n->value.s->data, n->value.s->len, BM_SPAN_TEMPLATE);
        ok = r->rc == 0;
        break;
    case BM_N_PRINT:
        ok = exec_print(r, env, n);
        break;
    case BM_N_IF:
        return exec_if(r, env, n);
    case BM_N_FOR:
        return bm_jexec_for(r, env, n);
    case BM_N_SET:
        ok = exec_set(r, env, n);
        break;
    case BM_N_SETBLOCK:
    case BM_N_FILTERBLOCK:
        return exec_captured(r, env, n);
    case BM_N_MACRO:
        ok = exec_macro(r, env, n);
        break;
    case BM_N_CALLBLOCK:
        ok = exec_call_block(r, env, n);
        break;
    case BM_N_GENERATION:
        ok = exec_generation(r, env, n);
        break;
    case BM_N_WITH:
    case BM_N_SCOPE:
    case BM_N_BLOCK:
        return exec_scope(r, env, n);
    case BM_N_BREAK:
        return BM_FLOW_BREAK;
    case BM_N_CONTINUE:
        return BM_FLOW_CONTINUE;
    default:
        ok = bm_jrun_fail(r, "a chat template has no other files: '%s' is not possible", r->tmpl->names[n->name].text->data);
    }
    return ok ? BM_FLOW_NEXT : BM_FLOW_FAIL;
}

bm_jflow bm_jexec(bm_jrun *r, bm_jenv *env, bm_jnodes list)
{
    bm_jflow flow = BM_FLOW_NEXT;

    if (!bm_jrun_enter(r))
        flow = BM_FLOW_FAIL;
    for (uint32_t i = 0; flow == BM_FLOW_NEXT && i < list.n; i++) {
        flow = bm_jrun_step(r, 1) ? exec_one(r, env, list.v[i]) : BM_FLOW_FAIL;
        if (flow == BM_FLOW_FAIL && r->err_pos == UINT32_MAX)
            r->err_pos = list.v[i]->pos;
    }
    bm_jrun_leave(r);
    return flow;
}

/* ---- macros ---- */

static bool bind_keywords(bm_jrun *r, const bm_jmacro *m, const bm_jargs *args, bm_jenv *env, bm_jdict *rest)
{
    const bm_jnode *n = m->node;

    for (size_t i = 0; args->kw != NULL && i < args->kw->n; i++) {
        const bm_jentry *e = &args->kw->entries[i];
        bool taken = false;
        for (uint32_t k = (uint32_t)(args->n < n->alt.n ? args->n : n->alt.n); k < n->alt.n && !taken; k++) {
            const bm_jstr *name = r->tmpl->names[n->alt.v[k]->name].text;
            taken = name->len == e->key.s->len && memcmp(name->data, e->key.s->data, name->len) == 0;
            if (taken)
                env->slots[k] = e->value;
        }
        if (!taken && n->special.caller != BM_J_NO_SLOT && bm_jstr_is(e->key.s, "caller")) {
            env->slots[n->special.caller] = e->value;
            continue;
        }
        if (!taken && n->special.kwargs == BM_J_NO_SLOT)
            return bm_jrun_fail(r, "the macro takes no keyword argument '%.*s'", (int)(e->key.s->len > 60 ? 60 : e->key.s->len), e->key.s->data);
        if (!taken && !bm_jdict_set(r, rest, e->key, e->value))
            return false;
    }
    return true;
}

static bool missing_param(bm_jrun *r, const bm_jstr *name, bm_jval *out)
{
    bm_jsb b;

    bm_jsb_init(&b, r);
    bm_jsb_puts(&b, "parameter '");
    bm_jsb_add(&b, name->data, name->len > 60 ? 60 : name->len, BM_SPAN_TEMPLATE);
    bm_jsb_puts(&b, "' was not provided");
    bm_jsb_add(&b, "", 1, BM_SPAN_TEMPLATE);
    return r->rc == 0 && bm_jval_undef(r, b.data, out);
}

static bool bind_macro(bm_jrun *r, const bm_jmacro *m, const bm_jargs *args, bm_jenv *env)
{
    const bm_jnode *n = m->node;
    bm_jdict *rest = bm_jdict_new(r);
    uint32_t n_params = n->alt.n;

    if (rest == NULL)
        return false;
    for (uint32_t i = 0; i < n_params && i < args->n; i++)
        env->slots[i] = args->pos[i];
    if (n->special.caller != BM_J_NO_SLOT && !bm_jval_undef(r, "No caller defined", &env->slots[n->special.caller]))
        return false;
    if (!bind_keywords(r, m, args, env, rest))
        return false;
    if (n->special.kwargs != BM_J_NO_SLOT)
        env->slots[n->special.kwargs] = (bm_jval){.type = BM_J_DICT, .dict = rest};
    if (args->n > n_params && n->special.varargs == BM_J_NO_SLOT)
        return bm_jrun_fail(r, "the macro takes not more than %u argument(s)", n_params);
    if (n->special.varargs != BM_J_NO_SLOT) {
        bm_jlist *list = bm_jlist_new(r, args->n);
        for (size_t i = n_params; list != NULL && i < args->n; i++)
            if (!bm_jlist_add(r, list, args->pos[i]))
                return false;
        if (!bm_jval_list(r, BM_J_TUPLE, list, &env->slots[n->special.varargs]))
            return false;
    }
    if (!bm_jenv_enter(r, env))
        return false;
    for (uint32_t i = 0; i < n_params; i++) {
        if (env->slots[i].type != BM_J_MISSING)
            continue;
        bool ok = n->alt.v[i]->a != NULL ? bm_jeval(r, env, n->alt.v[i]->a, &env->slots[i])
                : missing_param(r, r->tmpl->names[n->alt.v[i]->name].text, &env->slots[i]);
        if (!ok)
            return false;
    }
    return true;
}

bool bm_jmacro_call(bm_jrun *r, const bm_jmacro *m, const bm_jargs *args, bm_jval *out)
{
    bm_jenv *env = bm_jenv_new(r, m->env, m->node->frame);

    if (env == NULL || !bind_macro(r, m, args, env))
        return false;
    size_t begin = bm_jcapture_begin(r);
    bm_jflow flow = bm_jexec(r, env, m->node->kids);
    return bm_jval_str(out, bm_jcapture_end(r, begin)) && flow == BM_FLOW_NEXT;
}

bool bm_jexec_template(bm_jrun *r)
{
    r->root = bm_jenv_new(r, NULL, r->tmpl->frame);
    return r->root != NULL && bm_jenv_enter(r, r->root) && bm_jexec(r, r->root, r->tmpl->body) == BM_FLOW_NEXT;
}
