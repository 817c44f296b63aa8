/* jinja_expr.c - expressions: a recursive descent with jinja2's precedence, lowest first: if-else, or, and, not, comparison,
 * + -, ~, * / // %, ** (to the left, as in jinja2), unary, postfix, filters and tests. */
#include <stdio.h>
#include <string.h>

#include "text/jinja_ast.h"

static bool enter(bm_jcompile *c)
{
    if (++c->depth <= BM_J_MAX_PARSE_DEPTH)
        return true;
    return bm_jcompile_fail(c, bm_jcur(c)->pos, "expressions and blocks nest deeper than %d levels", BM_J_MAX_PARSE_DEPTH);
}

bool bm_jcur_is(const bm_jcompile *c, const char *name)
{
    const bm_jtok *t = bm_jcur(c);

    return t->type == BM_T_NAME && bm_jstr_is(c->tmpl->names[t->name].text, name);
}

static const bm_jtok *peek(const bm_jcompile *c) { return &c->toks[c->at + (c->toks[c->at].type != BM_T_EOF)]; }

static const bm_jtok *next(bm_jcompile *c)
{
    const bm_jtok *t = bm_jcur(c);

    if (t->type != BM_T_EOF)
        c->at++;
    return t;
}

bool bm_jskip(bm_jcompile *c, bm_jtok_type type)
{
    if (bm_jcur(c)->type != type)
        return false;
    next(c);
    return true;
}

bool bm_jskip_name(bm_jcompile *c, const char *name)
{
    if (!bm_jcur_is(c, name))
        return false;
    next(c);
    return true;
}

static const char *const TOKEN_TEXT[] = {
    [BM_T_EOF] = "end of template", [BM_T_DATA] = "template data / text", [BM_T_BLOCK_BEGIN] = "begin of statement block",
    [BM_T_BLOCK_END] = "end of statement block", [BM_T_VAR_BEGIN] = "begin of print statement",
    [BM_T_VAR_END] = "end of print statement", [BM_T_NAME] = "name", [BM_T_STRING] = "string", [BM_T_INT] = "integer",
    [BM_T_FLOAT] = "float", [BM_T_ADD] = "+", [BM_T_SUB] = "-", [BM_T_MUL] = "*", [BM_T_DIV] = "/", [BM_T_FLOORDIV] = "//",
    [BM_T_MOD] = "%", [BM_T_POW] = "**", [BM_T_TILDE] = "~", [BM_T_PIPE] = "|", [BM_T_DOT] = ".", [BM_T_COMMA] = ",",
    [BM_T_COLON] = ":", [BM_T_SEMICOLON] = ";", [BM_T_ASSIGN] = "=", [BM_T_LPAREN] = "(", [BM_T_RPAREN] = ")",
    [BM_T_LBRACKET] = "[", [BM_T_RBRACKET] = "]", [BM_T_LBRACE] = "{", [BM_T_RBRACE] = "}", [BM_T_EQ] = "==",
    [BM_T_NE] = "!=", [BM_T_LT] = "<", [BM_T_LTEQ] = "<=", [BM_T_GT] = ">", [BM_T_GTEQ] = ">=",
};

void bm_jtok_describe(const bm_jcompile *c, const bm_jtok *t, char out[80])
{
    if (t->type == BM_T_NAME) {
        const bm_jstr *text = c->tmpl->names[t->name].text;
        snprintf(out, 80, "%.*s", text->len > 60 ? 0 : (int)text->len, text->data);
    } else {
        snprintf(out, 80, "%s", TOKEN_TEXT[t->type]);
    }
}

bool bm_jexpect(bm_jcompile *c, bm_jtok_type type)
{
    char got[80];

    if (bm_jskip(c, type))
        return true;
    if (bm_jcur(c)->type == BM_T_EOF)
        return bm_jcompile_fail(c, bm_jcur(c)->pos, "unexpected end of template, expected '%s'", TOKEN_TEXT[type]);
    bm_jtok_describe(c, bm_jcur(c), got);
    return bm_jcompile_fail(c, bm_jcur(c)->pos, "expected token '%s', got '%s'", TOKEN_TEXT[type], got);
}

static bool unexpected(bm_jcompile *c)
{
    char got[80];

    bm_jtok_describe(c, bm_jcur(c), got);
    return bm_jcompile_fail(c, bm_jcur(c)->pos, "unexpected '%s'", got);
}

/* BINARY, AND, OR: a, b. NULL when a part is. */
static bm_jnode *pair(bm_jcompile *c, bm_jkind kind, uint8_t op, uint32_t pos, bm_jnode *a, bm_jnode *b)
{
    bm_jnode *n = a == NULL || b == NULL ? NULL : bm_jnode_new(c, kind, pos);

    if (n != NULL)
        n->op = op, n->a = a, n->b = b;
    return n;
}

/* (positional, name=value, *args, **kwargs) into n: kids positional then KEYWORDs (name, a), b = *args, c = **kwargs */
static bool parse_args(bm_jcompile *c, bm_jnode *n)
{
    bm_jvec args = {0};
    uint32_t pos = bm_jcur(c)->pos;
    bool named = false;

    if (!bm_jexpect(c, BM_T_LPAREN))
        return false;
    for (bool first = true; bm_jcur(c)->type != BM_T_RPAREN; first = false) {
        if (!first && !bm_jexpect(c, BM_T_COMMA))
            return false;
        if (!first && bm_jcur(c)->type == BM_T_RPAREN)
            break;
        bool bad = n->c != NULL;
        if (bm_jcur(c)->type == BM_T_MUL) {
            bad |= n->b != NULL;
            next(c);
            if (!bad && (n->b = bm_jparse_expr(c, true)) == NULL)
                return false;
        } else if (bm_jcur(c)->type == BM_T_POW) {
            next(c);
            if (!bad && (n->c = bm_jparse_expr(c, true)) == NULL)
                return false;
        } else if (bm_jcur(c)->type == BM_T_NAME && peek(c)->type == BM_T_ASSIGN) {
            bm_jnode *kw = bm_jnode_new(c, BM_N_KEYWORD, bm_jcur(c)->pos);
            if (kw == NULL)
                return false;
            kw->name = bm_jcur(c)->name;
            for (uint32_t i = 0; i < args.n; i++)
                if (args.v[i]->kind == BM_N_KEYWORD && args.v[i]->name == kw->name)
                    return bm_jcompile_fail(c, kw->pos, "keyword argument repeated");
            next(c), next(c);
            named = true;
            if (!bad && ((kw->a = bm_jparse_expr(c, true)) == NULL || !bm_jvec_add(c, &args, kw)))
                return false;
        } else {
            bad |= n->b != NULL || named;
            if (!bad && !bm_jvec_add(c, &args, bm_jparse_expr(c, true)))
                return false;
        }
        if (bad)
            return bm_jcompile_fail(c, pos, "invalid syntax for function call expression");
    }
    n->kids = bm_jvec_done(&args);
    return bm_jexpect(c, BM_T_RPAREN);
}

/* CALL: a = what is called, and the arguments as parse_args puts them */
static bm_jnode *parse_call(bm_jcompile *c, bm_jnode *callee)
{
    bm_jnode *n = bm_jnode_new(c, BM_N_CALL, bm_jcur(c)->pos);

    if (n == NULL || !parse_args(c, n))
        return NULL;
    n->a = callee;
    return n;
}

/* start:stop:step or an expression. SLICE: a, b, c, each NULL when left out */
static bm_jnode *parse_subscript_part(bm_jcompile *c)
{
    uint32_t pos = bm_jcur(c)->pos;
    bm_jnode *first = NULL, *n;

    if (bm_jcur(c)->type != BM_T_COLON && (first = bm_jparse_expr(c, true)) == NULL)
        return NULL;
    if (!bm_jskip(c, BM_T_COLON))
        return first;
    if ((n = bm_jnode_new(c, BM_N_SLICE, pos)) == NULL)
        return NULL;
    n->a = first;
    bm_jtok_type t = bm_jcur(c)->type;
    if (t != BM_T_COLON && t != BM_T_RBRACKET && t != BM_T_COMMA && (n->b = bm_jparse_expr(c, true)) == NULL)
        return NULL;
    if (bm_jskip(c, BM_T_COLON)) {
        t = bm_jcur(c)->type;
        if (t != BM_T_RBRACKET && t != BM_T_COMMA && (n->c = bm_jparse_expr(c, true)) == NULL)
            return NULL;
    }
    return n;
}

/* GETATTR: a, name. GETITEM: a, b */
static bm_jnode *parse_subscript(bm_jcompile *c, bm_jnode *of)
{
    const bm_jtok *t = next(c);
    bm_jvec parts = {0};
    bm_jnode *n = bm_jnode_new(c, BM_N_GETITEM, t->pos);

    if (n == NULL)
        return NULL;
    n->a = of;
    if (t->type == BM_T_DOT) {
        const bm_jtok *attr = next(c);
        if (attr->type == BM_T_NAME) {
            n->kind = BM_N_GETATTR;
            n->name = attr->name;
            return n;
        }
        if (attr->type != BM_T_INT) {
            bm_jcompile_fail(c, attr->pos, "expected name or number");
            return NULL;
        }
        if ((n->b = bm_jnode_new(c, BM_N_CONST, attr->pos)) == NULL)
            return NULL;
        n->b->value = attr->value;
        return n;
    }
    while (bm_jcur(c)->type != BM_T_RBRACKET) {
        if (parts.n > 0 && !bm_jexpect(c, BM_T_COMMA))
            return NULL;
        if (!bm_jvec_add(c, &parts, parse_subscript_part(c)))
            return NULL;
    }
    if (!bm_jexpect(c, BM_T_RBRACKET))
        return NULL;
    if (parts.n == 1) {
        n->b = parts.v[0];
        return n;
    }
    if ((n->b = bm_jnode_new(c, BM_N_TUPLE, t->pos)) == NULL)
        return NULL;
    n->b->kids = bm_jvec_done(&parts);
    return n;
}

static bm_jnode *parse_postfix(bm_jcompile *c, bm_jnode *n)
{
    while (n != NULL) {
        bm_jtok_type t = bm_jcur(c)->type;
        if (t == BM_T_DOT || t == BM_T_LBRACKET)
            n = parse_subscript(c, n);
        else if (t == BM_T_LPAREN)
            n = parse_call(c, n);
        else
            break;
    }
    return n;
}

/* A name with dots, as filters and tests may have. */
static bool parse_dotted(bm_jcompile *c, uint32_t *id)
{
    char text[200];
    size_t len = 0;

    do {
        const bm_jtok *t = bm_jcur(c);
        if (!bm_jexpect(c, BM_T_NAME))
            return false;
        const bm_jstr *part = c->tmpl->names[t->name].text;
        if (len + part->len + 1 > sizeof text)
            return bm_jcompile_fail(c, t->pos, "a name longer than %zu bytes", sizeof text);
        if (len > 0)
            text[len++] = '.';
        memcpy(text + len, part->data, part->len);
        len += part->len;
    } while (bm_jskip(c, BM_T_DOT));
    return bm_jcompile_name(c, text, len, id);
}

/* FILTER: a = the value (NULL: the block's text), name, arguments */
bm_jnode *bm_jparse_filter(bm_jcompile *c, bm_jnode *node, bool start_inline)
{
    while (bm_jcur(c)->type == BM_T_PIPE || start_inline) {
        if (!start_inline)
            next(c);
        bm_jnode *n = bm_jnode_new(c, BM_N_FILTER, bm_jcur(c)->pos);
        if (n == NULL || !parse_dotted(c, &n->name))
            return NULL;
        if (bm_jcur(c)->type == BM_T_LPAREN && !parse_args(c, n))
            return NULL;
        n->a = node;
        node = n;
        start_inline = false;
    }
    return node;
}

/* Whether a test without brackets takes the next token as its argument. */
static bool starts_argument(const bm_jcompile *c)
{
    bm_jtok_type t = bm_jcur(c)->type;

    if (t == BM_T_NAME)
        return !bm_jcur_is(c, "else") && !bm_jcur_is(c, "or") && !bm_jcur_is(c, "and");
    return t == BM_T_STRING || t == BM_T_INT || t == BM_T_FLOAT || t == BM_T_LBRACKET || t == BM_T_LBRACE;
}

/* TEST: a = the value, name, arguments. NOT: a */
static bm_jnode *parse_test(bm_jcompile *c, bm_jnode *of)
{
    const bm_jtok *t = next(c);
    bool negated = bm_jskip_name(c, "not");
    bm_jnode *n = bm_jnode_new(c, BM_N_TEST, t->pos);

    if (n == NULL || !parse_dotted(c, &n->name))
        return NULL;
    n->a = of;
    if (bm_jcur(c)->type == BM_T_LPAREN) {
        if (!parse_args(c, n))
            return NULL;
    } else if (starts_argument(c)) {
        bm_jvec args = {0};
        if (bm_jcur_is(c, "is")) {
            bm_jcompile_fail(c, bm_jcur(c)->pos, "You cannot chain multiple tests with is");
            return NULL;
        }
        if (!bm_jvec_add(c, &args, parse_postfix(c, bm_jparse_primary(c, false))))
            return NULL;
        n->kids = bm_jvec_done(&args);
    }
    if (!negated)
        return n;
    bm_jnode *not = bm_jnode_new(c, BM_N_NOT, t->pos);
    if (not != NULL)
        not->a = n;
    return not;
}

static bm_jnode *parse_filter_expr(bm_jcompile *c, bm_jnode *n)
{
    while (n != NULL) {
        if (bm_jcur(c)->type == BM_T_PIPE)
            n = bm_jparse_filter(c, n, false);
        else if (bm_jcur_is(c, "is"))
            n = parse_test(c, n);
        else if (bm_jcur(c)->type == BM_T_LPAREN)
            n = parse_call(c, n);
        else
            break;
    }
    return n;
}

static bm_jnode *parse_unary(bm_jcompile *c, bool with_filter)
{
    const bm_jtok *t = bm_jcur(c);
    bm_jnode *n = NULL;

    if (!enter(c))
        return NULL;
    if (t->type == BM_T_SUB || t->type == BM_T_ADD) {
        next(c);
        bm_jnode *of = parse_unary(c, false);
        n = of == NULL ? NULL : bm_jnode_new(c, BM_N_UNARY, t->pos);
        if (n != NULL)
            n->op = t->type == BM_T_SUB ? '-' : '+', n->a = of;
    } else {
        n = bm_jparse_primary(c, false);
    }
    n = parse_postfix(c, n);
    if (with_filter)
        n = parse_filter_expr(c, n);
    c->depth--;
    return n;
}

static bm_jnode *parse_pow(bm_jcompile *c)
{
    uint32_t pos = bm_jcur(c)->pos;
    bm_jnode *left = parse_unary(c, true);

    while (left != NULL && bm_jskip(c, BM_T_POW))
        left = pair(c, BM_N_BINARY, 'p', pos, left, parse_unary(c, true));
    return left;
}

static bm_jnode *parse_product(bm_jcompile *c)
{
    bm_jnode *left = parse_pow(c);

    while (left != NULL) {
        const bm_jtok *t = bm_jcur(c);
        uint8_t op = t->type == BM_T_MUL ? '*' : t->type == BM_T_DIV ? '/' : t->type == BM_T_FLOORDIV ? 'f'
                   : t->type == BM_T_MOD ? '%' : 0;
        if (op == 0)
            break;
        next(c);
        left = pair(c, BM_N_BINARY, op, t->pos, left, parse_pow(c));
    }
    return left;
}

/* CONCAT: kids */
static bm_jnode *parse_concat(bm_jcompile *c)
{
    uint32_t pos = bm_jcur(c)->pos;
    bm_jnode *first = parse_product(c);
    bm_jvec parts = {0};

    if (first == NULL || bm_jcur(c)->type != BM_T_TILDE)
        return first;
    bm_jnode *n = bm_jnode_new(c, BM_N_CONCAT, pos);
    if (n == NULL || !bm_jvec_add(c, &parts, first))
        return NULL;
    while (bm_jskip(c, BM_T_TILDE))
        if (!bm_jvec_add(c, &parts, parse_product(c)))
            return NULL;
    n->kids = bm_jvec_done(&parts);
    return n;
}

static bm_jnode *parse_sum(bm_jcompile *c)
{
    bm_jnode *left = parse_concat(c);

    while (left != NULL && (bm_jcur(c)->type == BM_T_ADD || bm_jcur(c)->type == BM_T_SUB)) {
        const bm_jtok *t = next(c);
        left = pair(c, BM_N_BINARY, t->type == BM_T_ADD ? '+' : '-', t->pos, left, parse_concat(c));
    }
    return left;
}

/* COMPARE: a, kids = OPERANDs (op, a) */
static bm_jnode *parse_compare(bm_jcompile *c)
{
    uint32_t pos = bm_jcur(c)->pos;
    bm_jnode *first = parse_sum(c);
    bm_jvec parts = {0};

    while (first != NULL) {
        bm_jtok_type t = bm_jcur(c)->type;
        uint32_t at = bm_jcur(c)->pos;
        if (t >= BM_T_EQ && t <= BM_T_GTEQ) {
            next(c);
        } else if (bm_jskip_name(c, "in")) {
            t = BM_T_IN;
        } else if (bm_jcur_is(c, "not") && peek(c)->type == BM_T_NAME &&
                   bm_jstr_is(c->tmpl->names[peek(c)->name].text, "in")) {
            next(c), next(c);
            t = BM_T_NOTIN;
        } else {
            break;
        }
        bm_jnode *n = bm_jnode_new(c, BM_N_OPERAND, at);
        if (n == NULL || (n->a = parse_sum(c)) == NULL || !bm_jvec_add(c, &parts, n))
            return NULL;
        n->op = (uint8_t)t;
    }
    if (first == NULL || parts.n == 0)
        return first;
    bm_jnode *n = bm_jnode_new(c, BM_N_COMPARE, pos);
    if (n != NULL)
        n->a = first, n->kids = bm_jvec_done(&parts);
    return n;
}

static bm_jnode *parse_not(bm_jcompile *c)
{
    const bm_jtok *t = bm_jcur(c);
    bm_jnode *n = NULL, *of;

    if (!bm_jskip_name(c, "not"))
        return parse_compare(c);
    if (!enter(c) || (of = parse_not(c)) == NULL || (n = bm_jnode_new(c, BM_N_NOT, t->pos)) == NULL)
        return NULL;
    n->a = of;
    c->depth--;
    return n;
}

static bm_jnode *parse_and(bm_jcompile *c)
{
    uint32_t pos = bm_jcur(c)->pos;
    bm_jnode *left = parse_not(c);

    while (left != NULL && bm_jskip_name(c, "and"))
        left = pair(c, BM_N_AND, 0, pos, left, parse_not(c));
    return left;
}

static bm_jnode *parse_or(bm_jcompile *c)
{
    uint32_t pos = bm_jcur(c)->pos;
    bm_jnode *left = parse_and(c);

    while (left != NULL && bm_jskip_name(c, "or"))
        left = pair(c, BM_N_OR, 0, pos, left, parse_and(c));
    return left;
}

/* COND: a = test, b = then, c = else or NULL */
bm_jnode *bm_jparse_expr(bm_jcompile *c, bool with_cond)
{
    bm_jnode *n;

    if (!enter(c))
        return NULL;
    n = parse_or(c);
    while (with_cond && n != NULL && bm_jcur_is(c, "if")) {
        bm_jnode *cond = bm_jnode_new(c, BM_N_COND, next(c)->pos);
        if (cond == NULL || (cond->a = parse_or(c)) == NULL)
            return NULL;
        cond->b = n;
        if (bm_jskip_name(c, "else") && (cond->c = bm_jparse_expr(c, true)) == NULL)
            return NULL;
        n = cond;
    }
    c->depth--;
    return n;
}

static bool is_tuple_end(const bm_jcompile *c, const char *end_name)
{
    bm_jtok_type t = bm_jcur(c)->type;

    return t == BM_T_VAR_END || t == BM_T_BLOCK_END || t == BM_T_RPAREN || (end_name != NULL && bm_jcur_is(c, end_name));
}

/* TUPLE: kids; or the one expression when there is no comma */
bm_jnode *bm_jparse_tuple(bm_jcompile *c, bm_jtuple_mode mode, const char *end_name)
{
    uint32_t pos = bm_jcur(c)->pos;
    bool is_tuple = false;
    bm_jvec parts = {0};
    char got[80];

    for (;;) {
        if (parts.n > 0 && !bm_jexpect(c, BM_T_COMMA))
            return NULL;
        if (is_tuple_end(c, end_name))
            break;
        bm_jnode *part = mode == BM_TUPLE_TARGET || mode == BM_TUPLE_NS_TARGET
                       ? bm_jparse_primary(c, mode == BM_TUPLE_NS_TARGET) : bm_jparse_expr(c, mode != BM_TUPLE_NO_COND);
        if (!bm_jvec_add(c, &parts, part))
            return NULL;
        if (bm_jcur(c)->type != BM_T_COMMA)
            break;
        is_tuple = true;
    }
    if (!is_tuple && parts.n > 0)
        return parts.v[0];
    if (!is_tuple && mode != BM_TUPLE_PAREN) {
        bm_jtok_describe(c, bm_jcur(c), got);
        bm_jcompile_fail(c, bm_jcur(c)->pos, "Expected an expression, got '%s'", got);
        return NULL;
    }
    bm_jnode *n = bm_jnode_new(c, BM_N_TUPLE, pos);
    if (n != NULL)
        n->kids = bm_jvec_done(&parts);
    return n;
}

/* LIST: kids. DICT: kids, key and value in turn */
static bm_jnode *parse_display(bm_jcompile *c, bool is_dict)
{
    bm_jtok_type end = is_dict ? BM_T_RBRACE : BM_T_RBRACKET;
    bm_jnode *n = bm_jnode_new(c, is_dict ? BM_N_DICT : BM_N_LIST, next(c)->pos);
    bm_jvec parts = {0};

    if (n == NULL)
        return NULL;
    while (bm_jcur(c)->type != end) {
        if (parts.n > 0 && !bm_jexpect(c, BM_T_COMMA))
            return NULL;
        if (bm_jcur(c)->type == end)
            break;
        if (!bm_jvec_add(c, &parts, bm_jparse_expr(c, true)))
            return NULL;
        if (is_dict && (!bm_jexpect(c, BM_T_COLON) || !bm_jvec_add(c, &parts, bm_jparse_expr(c, true))))
            return NULL;
    }
    n->kids = bm_jvec_done(&parts);
    return bm_jexpect(c, end) ? n : NULL;
}

static bm_jnode *parse_strings(bm_jcompile *c)
{
    bm_jnode *n = bm_jnode_new(c, BM_N_CONST, bm_jcur(c)->pos);
    size_t len = 0, n_parts = 0;

    if (n == NULL)
        return NULL;
    n->value = bm_jcur(c)->value;
    while (c->toks[c->at + n_parts].type == BM_T_STRING)
        len += c->toks[c->at + n_parts++].value.s->len;
    if (n_parts > 1) {
        char *all = bm_jcompile_alloc(c, len + 1, 1);
        if (all == NULL)
            return NULL;
        len = 0;
        for (size_t i = 0; i < n_parts; i++) {
            const bm_jstr *part = c->toks[c->at + i].value.s;
            memcpy(all + len, part->data, part->len);
            len += part->len;
        }
        if (!bm_jval_str(&n->value, bm_jcompile_str(c, all, len, false)))
            return NULL;
    }
    c->at += n_parts;
    return n;
}

/* NAME: name. NSREF (a target "a.b"): name = a, value = "b". CONST: value */
static bm_jnode *parse_name(bm_jcompile *c, bool with_namespace)
{
    const bm_jtok *t = next(c), *attr;
    const bm_jstr *text = c->tmpl->names[t->name].text;
    bm_jnode *n = bm_jnode_new(c, BM_N_CONST, t->pos);

    if (n == NULL)
        return NULL;
    n->name = t->name;
    if (bm_jstr_is(text, "true") || bm_jstr_is(text, "True")) {
        n->value = bm_jbool(true);
    } else if (bm_jstr_is(text, "false") || bm_jstr_is(text, "False")) {
        n->value = bm_jbool(false);
    } else if (bm_jstr_is(text, "none") || bm_jstr_is(text, "None")) {
        n->value = bm_jnone();
    } else if (with_namespace && bm_jskip(c, BM_T_DOT)) {
        n->kind = BM_N_NSREF;
        attr = bm_jcur(c);
        if (!bm_jexpect(c, BM_T_NAME))
            return NULL;
        bm_jval_str(&n->value, c->tmpl->names[attr->name].text);
    } else {
        n->kind = BM_N_NAME;
    }
    return n;
}

bm_jnode *bm_jparse_primary(bm_jcompile *c, bool with_namespace)
{
    const bm_jtok *t = bm_jcur(c);
    bm_jnode *n = NULL;

    if (!enter(c))
        return NULL;
    switch (t->type) {
    case BM_T_NAME:
        n = parse_name(c, with_namespace);
        break;
    case BM_T_STRING:
        n = parse_strings(c);
        break;
    case BM_T_INT:
    case BM_T_FLOAT:
        if ((n = bm_jnode_new(c, BM_N_CONST, t->pos)) != NULL)
            n->value = next(c)->value;
        break;
    case BM_T_LPAREN:
        next(c);
        n = bm_jparse_tuple(c, BM_TUPLE_PAREN, NULL);
        if (n != NULL && !bm_jexpect(c, BM_T_RPAREN))
            n = NULL;
        break;
    case BM_T_LBRACKET:
    case BM_T_LBRACE:
        n = parse_display(c, t->type == BM_T_LBRACE);
        break;
    default:
        unexpected(c);
    }
    c->depth--;
    return n;
}
