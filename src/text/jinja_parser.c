/* jinja_parser.c - statements. include, import and extends are read and refused when they are reached: a template has no
 * files. "do" and "trans" are unknown tags, as in the environment of transformers. */
#include <stdio.h>
#include <string.h>

#include "text/jinja_ast.h"

typedef struct end_tags { const char *names[4]; } end_tags;

static bool parse_statement(bm_jcompile *c, bm_jvec *out);

static bool is_end(const bm_jcompile *c, const end_tags *ends)
{
    if (ends != NULL)
        for (size_t i = 0; i < 4 && ends->names[i] != NULL; i++)
            if (bm_jcur_is(c, ends->names[i]))
                return true;
    return false;
}

static void ends_text(const end_tags *ends, char out[120])
{
    size_t len = 0;

    for (size_t i = 0; i < 4 && ends->names[i] != NULL; i++)
        len += (size_t)snprintf(out + len, 120 - len, "%s'%s'", i > 0 ? " or " : "", ends->names[i]);
}

/* Statements and text until one of the end tags, whose name is then the current token; without ends until the template's end.
 * DATA: value. PRINT: a */
static bool parse_body(bm_jcompile *c, const end_tags *ends, uint32_t pos, bm_jnodes *out)
{
    bm_jvec body = {0};
    bm_jnode *n;

    while (bm_jcur(c)->type != BM_T_EOF) {
        const bm_jtok *t = bm_jcur(c);
        if (bm_jskip(c, BM_T_DATA)) {
            if ((n = bm_jnode_new(c, BM_N_DATA, t->pos)) == NULL || !bm_jvec_add(c, &body, n))
                return false;
            n->value = t->value;
        } else if (bm_jskip(c, BM_T_VAR_BEGIN)) {
            if ((n = bm_jnode_new(c, BM_N_PRINT, t->pos)) == NULL || !bm_jvec_add(c, &body, n))
                return false;
            if ((n->a = bm_jparse_tuple(c, BM_TUPLE_FULL, NULL)) == NULL || !bm_jexpect(c, BM_T_VAR_END))
                return false;
        } else {
            if (!bm_jexpect(c, BM_T_BLOCK_BEGIN))
                return false;
            if (is_end(c, ends)) {
                *out = bm_jvec_done(&body);
                return true;
            }
            if (!parse_statement(c, &body) || !bm_jexpect(c, BM_T_BLOCK_END))
                return false;
        }
    }
    *out = bm_jvec_done(&body);
    if (ends == NULL)
        return true;
    char names[120];
    ends_text(ends, names);
    return bm_jcompile_fail(c, pos, "Unexpected end of template: this block is not closed, %s is missing", names);
}

/* The body of a statement: an optional colon, the tag's end, then as parse_body. */
static bool parse_block(bm_jcompile *c, const end_tags *ends, uint32_t pos, bool drop_needle, bm_jnodes *out)
{
    bm_jskip(c, BM_T_COLON);
    if (!bm_jexpect(c, BM_T_BLOCK_END) || !parse_body(c, ends, pos, out))
        return false;
    if (drop_needle)
        c->at++;
    return true;
}

static bool can_assign(bm_jcompile *c, bm_jnode *n)
{
    if (n->kind == BM_N_NAME) {
        n->store = true;
        return true;
    }
    if (n->kind == BM_N_NSREF)
        return true;
    if (n->kind == BM_N_TUPLE) {
        for (uint32_t i = 0; i < n->kids.n; i++)
            if (!can_assign(c, n->kids.v[i]))
                return false;
        return true;
    }
    return bm_jcompile_fail(c, n->pos, "can't assign to this expression");
}

static bm_jnode *parse_target(bm_jcompile *c, const char *end_name, bool with_namespace)
{
    bm_jnode *n = bm_jparse_tuple(c, with_namespace ? BM_TUPLE_NS_TARGET : BM_TUPLE_TARGET, end_name);

    return n != NULL && can_assign(c, n) ? n : NULL;
}

static bm_jnode *parse_target_name(bm_jcompile *c)
{
    const bm_jtok *t = bm_jcur(c);
    bm_jnode *n;

    if (!bm_jexpect(c, BM_T_NAME) || (n = bm_jnode_new(c, BM_N_NAME, t->pos)) == NULL)
        return NULL;
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < 6; i++)
        if (bm_jstr_is(c->tmpl->names[t->name].text, constants[i])) {
            bm_jcompile_fail(c, t->pos, "can't assign to '%s'", constants[i]);
            return NULL;
        }
    n->name = t->name;
    n->store = true;
    return n;
}

/* SET: a = target, b = value. SETBLOCK: a = target, b = filters or NULL, kids = body */
static bool parse_set(bm_jcompile *c, bm_jnode *n)
{
    static const end_tags ends = {{"endset"}};

    if ((n->a = parse_target(c, NULL, true)) == NULL)
        return false;
    if (bm_jskip(c, BM_T_ASSIGN)) {
        n->kind = BM_N_SET;
        return (n->b = bm_jparse_tuple(c, BM_TUPLE_FULL, NULL)) != NULL;
    }
    n->kind = BM_N_SETBLOCK;
    if (bm_jcur(c)->type == BM_T_PIPE && (n->b = bm_jparse_filter(c, NULL, false)) == NULL)
        return false;
    return parse_block(c, &ends, n->pos, true, &n->kids);
}

/* FOR: a = target, b = iterable, c = condition or NULL, kids = body, alt = else */
static bool parse_for(bm_jcompile *c, bm_jnode *n)
{
    static const end_tags ends = {{"endfor", "else"}}, last = {{"endfor"}};

    n->kind = BM_N_FOR;
    if ((n->a = parse_target(c, "in", false)) == NULL)
        return false;
    if (!bm_jskip_name(c, "in")) {
        char got[80];
        bm_jtok_describe(c, bm_jcur(c), got);
        return bm_jcompile_fail(c, bm_jcur(c)->pos, "expected token 'in', got '%s'", got);
    }
    if ((n->b = bm_jparse_tuple(c, BM_TUPLE_NO_COND, "recursive")) == NULL)
        return false;
    if (bm_jskip_name(c, "if") && (n->c = bm_jparse_expr(c, true)) == NULL)
        return false;
    n->recursive = bm_jskip_name(c, "recursive");
    if (!parse_block(c, &ends, n->pos, false, &n->kids))
        return false;
    if (bm_jskip_name(c, "endfor"))
        return true;
    c->at++;
    return parse_block(c, &last, n->pos, true, &n->alt);
}

/* IF: a = test, kids = body, alt = the elifs (IF with a and kids), more = else */
static bool parse_if(bm_jcompile *c, bm_jnode *n)
{
    static const end_tags ends = {{"elif", "else", "endif"}}, last = {{"endif"}};
    bm_jvec elifs = {0};
    bm_jnode *branch = n;

    for (;;) {
        branch->kind = BM_N_IF;
        if ((branch->a = bm_jparse_tuple(c, BM_TUPLE_NO_COND, NULL)) == NULL)
            return false;
        if (!parse_block(c, &ends, branch->pos, false, &branch->kids))
            return false;
        if (!bm_jcur_is(c, "elif"))
            break;
        branch = bm_jnode_new(c, BM_N_IF, bm_jcur(c)->pos);
        c->at++;
        if (!bm_jvec_add(c, &elifs, branch))
            return false;
    }
    n->alt = bm_jvec_done(&elifs);
    if (bm_jskip_name(c, "endif"))
        return true;
    c->at++;
    return parse_block(c, &last, n->pos, true, &n->more);
}

/* MACRO and CALLBLOCK: alt = parameters (NAME, its default in a), kids = body */
static bool parse_signature(bm_jcompile *c, bm_jnode *n)
{
    bm_jvec params = {0};
    bool defaults = false;

    if (!bm_jexpect(c, BM_T_LPAREN))
        return false;
    while (bm_jcur(c)->type != BM_T_RPAREN) {
        if (params.n > 0 && !bm_jexpect(c, BM_T_COMMA))
            return false;
        bm_jnode *param = parse_target_name(c);
        if (!bm_jvec_add(c, &params, param))
            return false;
        for (uint32_t i = 0; i + 1 < params.n; i++)
            if (params.v[i]->name == param->name)
                return bm_jcompile_fail(c, param->pos, "duplicate parameter");
        if (bm_jskip(c, BM_T_ASSIGN)) {
            defaults = true;
            if ((param->a = bm_jparse_expr(c, true)) == NULL)
                return false;
        } else if (defaults) {
            return bm_jcompile_fail(c, param->pos, "non-default argument follows default argument");
        }
    }
    n->alt = bm_jvec_done(&params);
    return bm_jexpect(c, BM_T_RPAREN);
}

static bool parse_macro(bm_jcompile *c, bm_jnode *n)
{
    static const end_tags ends = {{"endmacro"}};
    bm_jnode *name;

    n->kind = BM_N_MACRO;
    if ((name = parse_target_name(c)) == NULL)
        return false;
    n->name = name->name;
    return parse_signature(c, n) && parse_block(c, &ends, n->pos, true, &n->kids);
}

/* CALLBLOCK: b = the call, alt = parameters of caller, kids = body */
static bool parse_call_block(bm_jcompile *c, bm_jnode *n)
{
    static const end_tags ends = {{"endcall"}};

    n->kind = BM_N_CALLBLOCK;
    if (bm_jcur(c)->type == BM_T_LPAREN && !parse_signature(c, n))
        return false;
    if ((n->b = bm_jparse_expr(c, true)) == NULL)
        return false;
    if (n->b->kind != BM_N_CALL)
        return bm_jcompile_fail(c, n->pos, "expected call");
    return parse_block(c, &ends, n->pos, true, &n->kids);
}

static bool parse_filter_block(bm_jcompile *c, bm_jnode *n)
{
    static const end_tags ends = {{"endfilter"}};

    n->kind = BM_N_FILTERBLOCK;                          /* b = filters, kids = body */
    return (n->b = bm_jparse_filter(c, NULL, true)) != NULL && parse_block(c, &ends, n->pos, true, &n->kids);
}

/* WITH: alt = targets, more = values, kids = body */
static bool parse_with(bm_jcompile *c, bm_jnode *n)
{
    static const end_tags ends = {{"endwith"}};
    bm_jvec targets = {0}, values = {0};

    n->kind = BM_N_WITH;
    while (bm_jcur(c)->type != BM_T_BLOCK_END) {
        if (targets.n > 0 && !bm_jexpect(c, BM_T_COMMA))
            return false;
        if (!bm_jvec_add(c, &targets, parse_target(c, NULL, false)) || !bm_jexpect(c, BM_T_ASSIGN) ||
            !bm_jvec_add(c, &values, bm_jparse_expr(c, true)))
            return false;
    }
    n->alt = bm_jvec_done(&targets);
    n->more = bm_jvec_done(&values);
    return parse_block(c, &ends, n->pos, true, &n->kids);
}

/* SCOPE: kids = body (autoescape does nothing here: prompts are not HTML) */
static bool parse_autoescape(bm_jcompile *c, bm_jnode *n)
{
    static const end_tags ends = {{"endautoescape"}};

    n->kind = BM_N_SCOPE;
    return (n->a = bm_jparse_expr(c, true)) != NULL && parse_block(c, &ends, n->pos, true, &n->kids);
}

/* BLOCK: name, kids = body, op = 1 when scoped */
static bool parse_named_block(bm_jcompile *c, bm_jnode *n)
{
    static const end_tags ends = {{"endblock"}};

    n->kind = BM_N_BLOCK;
    n->name = bm_jcur(c)->name;
    if (!bm_jexpect(c, BM_T_NAME))
        return false;
    n->op = bm_jskip_name(c, "scoped");
    bm_jskip_name(c, "required");
    if (!parse_block(c, &ends, n->pos, true, &n->kids))
        return false;
    if (bm_jcur(c)->type == BM_T_NAME && bm_jcur(c)->name == n->name)
        c->at++;
    return true;
}

static bool parse_generation(bm_jcompile *c, bm_jnode *n)
{
    static const end_tags ends = {{"endgeneration"}};

    n->kind = BM_N_GENERATION;                           /* kids = body */
    return parse_block(c, &ends, n->pos, true, &n->kids);
}

static bool parse_break(bm_jcompile *c, bm_jnode *n)
{
    (void)c;
    n->kind = BM_N_BREAK;
    return true;
}

static bool parse_continue(bm_jcompile *c, bm_jnode *n)
{
    (void)c;
    n->kind = BM_N_CONTINUE;
    return true;
}

/* PRINT: a = a tuple of what to print, op = 1: one after the other */
static bool parse_print(bm_jcompile *c, bm_jnode *n)
{
    bm_jvec parts = {0};

    n->kind = BM_N_PRINT;
    n->op = 1;
    if ((n->a = bm_jnode_new(c, BM_N_TUPLE, n->pos)) == NULL)
        return false;
    while (bm_jcur(c)->type != BM_T_BLOCK_END)
        if ((parts.n > 0 && !bm_jexpect(c, BM_T_COMMA)) || !bm_jvec_add(c, &parts, bm_jparse_expr(c, true)))
            return false;
    n->a->kids = bm_jvec_done(&parts);
    return true;
}

/* REFUSE: name = the tag; the rest of the tag is skipped */
static bool parse_refused(bm_jcompile *c, bm_jnode *n)
{
    n->kind = BM_N_REFUSE;
    n->name = c->toks[c->at - 1].name;
    while (bm_jcur(c)->type != BM_T_BLOCK_END && bm_jcur(c)->type != BM_T_EOF)
        c->at++;
    return true;
}

static const struct { const char *tag; bool (*parse)(bm_jcompile *c, bm_jnode *n); } STATEMENTS[] = {
    {"set", parse_set}, {"if", parse_if}, {"for", parse_for}, {"macro", parse_macro}, {"call", parse_call_block},
    {"filter", parse_filter_block}, {"with", parse_with}, {"generation", parse_generation}, {"break", parse_break},
    {"continue", parse_continue}, {"autoescape", parse_autoescape}, {"block", parse_named_block}, {"print", parse_print},
    {"include", parse_refused}, {"import", parse_refused}, {"from", parse_refused}, {"extends", parse_refused},
};

static bool parse_statement(bm_jcompile *c, bm_jvec *out)
{
    const bm_jtok *t = bm_jcur(c);
    bm_jnode *n;
    char got[80];

    if (t->type != BM_T_NAME)
        return bm_jcompile_fail(c, t->pos, "tag name expected");
    if (++c->depth > BM_J_MAX_PARSE_DEPTH)
        return bm_jcompile_fail(c, t->pos, "expressions and blocks nest deeper than %d levels", BM_J_MAX_PARSE_DEPTH);
    for (size_t i = 0; i < sizeof STATEMENTS / sizeof STATEMENTS[0]; i++) {
        if (!bm_jcur_is(c, STATEMENTS[i].tag))
            continue;
        c->at++;
        if ((n = bm_jnode_new(c, BM_N_DATA, t->pos)) == NULL || !STATEMENTS[i].parse(c, n))
            return false;
        c->depth--;
        return bm_jvec_add(c, out, n);
    }
    bm_jtok_describe(c, t, got);
    return bm_jcompile_fail(c, t->pos, "Encountered unknown tag '%s'", got);
}

bool bm_jparse(bm_jcompile *c)
{
    return parse_body(c, NULL, 0, &c->tmpl->body);
}
