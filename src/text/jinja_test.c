/* jinja_test.c - what may stand after `is`. */
#include <string.h>

#include "text/jinja_ast.h"

#define TYPE_TEST(name, expr) \
    static bool t_##name(bm_jrun *r, const bm_jcall *c, bm_jval *out) \
    { \
        bm_jval v = c->self; \
        (void)r; \
        *out = bm_jbool(expr); \
        return true; \
    }
TYPE_TEST(defined, v.type != BM_J_UNDEF)
TYPE_TEST(undefined, v.type == BM_J_UNDEF)
TYPE_TEST(none, v.type == BM_J_NONE)
TYPE_TEST(boolean, v.type == BM_J_BOOL)
TYPE_TEST(true, v.type == BM_J_BOOL && v.b)
TYPE_TEST(false, v.type == BM_J_BOOL && !v.b)
TYPE_TEST(integer, v.type == BM_J_INT)
TYPE_TEST(float, v.type == BM_J_FLOAT)
TYPE_TEST(number, bm_jis_num(v))
TYPE_TEST(string, v.type == BM_J_STR)
TYPE_TEST(mapping, v.type == BM_J_DICT)
TYPE_TEST(iterable, bm_jval_iterable(v))
TYPE_TEST(sequence, v.type == BM_J_STR || v.type == BM_J_LIST || v.type == BM_J_TUPLE || v.type == BM_J_DICT || v.type == BM_J_RANGE ||
                    v.type == BM_J_UNDEF)
TYPE_TEST(callable, v.type == BM_J_MACRO || v.type == BM_J_FUNC || v.type == BM_J_METHOD || v.type == BM_J_LOOP ||
                    v.type == BM_J_JOINER || v.type == BM_J_UNDEF)
TYPE_TEST(escaped, v.type == BM_J_STR && v.s->markup)
#undef TYPE_TEST

static bool modulo_is(bm_jrun *r, bm_jval v, bm_jval by, int64_t want, bm_jval *out)
{
    bm_jval rest;
    bool equal;

    if (!bm_jop_binary(r, '%', v, by, &rest) || !bm_jval_eq(r, rest, bm_jint(want), &equal))
        return false;
    *out = bm_jbool(equal);
    return true;
}

static bool t_odd(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return modulo_is(r, c->self, bm_jint(2), 1, out); }
static bool t_even(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return modulo_is(r, c->self, bm_jint(2), 0, out); }
static bool t_divisibleby(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return modulo_is(r, c->self, c->a[0], 0, out); }

static bool class_is(bm_jrun *r, const bm_jcall *c, const char *which, bm_jval *out)
{
    bm_jstr *s = bm_jval_to_str(r, c->self);

    *out = bm_jbool(s != NULL && bm_jstr_class(s, which));
    return s != NULL;
}

static bool t_lower(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return class_is(r, c, "islower", out); }
static bool t_upper(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return class_is(r, c, "isupper", out); }

/* `is` of Python: the same object. Equal small numbers and equal constants are the same there. */
static bool t_sameas(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jval a = c->self, b = c->a[0];
    bool same = a.type == b.type;

    if (same && (a.type == BM_J_INT || a.type == BM_J_BOOL || a.type == BM_J_FLOAT || a.type == BM_J_STR)) {
        if (!bm_jval_eq(r, a, b, &same))
            return false;
    } else if (same && a.type != BM_J_NONE) {
        same = a.s == b.s;
    }
    *out = bm_jbool(same);
    return true;
}

static bool compare(bm_jrun *r, const bm_jcall *c, int op, bm_jval *out)
{
    bool holds;

    if (!bm_jop_compare(r, op, c->self, c->a[0], &holds))
        return false;
    *out = bm_jbool(holds);
    return true;
}

static bool t_eq(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return compare(r, c, BM_T_EQ, out); }
static bool t_ne(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return compare(r, c, BM_T_NE, out); }
static bool t_lt(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return compare(r, c, BM_T_LT, out); }
static bool t_le(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return compare(r, c, BM_T_LTEQ, out); }
static bool t_gt(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return compare(r, c, BM_T_GT, out); }
static bool t_ge(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return compare(r, c, BM_T_GTEQ, out); }
static bool t_in(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return compare(r, c, BM_T_IN, out); }

static bool names(bm_jrun *r, const bm_jcall *c, const bm_jdef *(*find)(const char *), bm_jval *out)
{
    char text[80] = "";
    uint64_t hash;

    if (!bm_jval_hash(r, c->self, &hash))
        return false;
    if (c->self.type == BM_J_STR) {
        if (!bm_jstr_flat(r, c->self.s))
            return false;
        if (c->self.s->len < sizeof text && memchr(c->self.s->data, '\0', c->self.s->len) == NULL)
            memcpy(text, c->self.s->data, c->self.s->len), text[c->self.s->len] = '\0';
    }
    *out = bm_jbool(text[0] != '\0' && find(text) != NULL);
    return true;
}

static bool t_filter(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return names(r, c, bm_jfilter_find, out); }
static bool t_test(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return names(r, c, bm_jtest_find, out); }

static const bm_jdef TESTS[] = {
    {"odd", "", t_odd}, {"even", "", t_even}, {"divisibleby", "num", t_divisibleby}, {"defined", "", t_defined},
    {"undefined", "", t_undefined}, {"filter", "", t_filter}, {"test", "", t_test}, {"none", "", t_none},
    {"boolean", "", t_boolean}, {"false", "", t_false}, {"true", "", t_true}, {"integer", "", t_integer}, {"float", "", t_float},
    {"lower", "", t_lower}, {"upper", "", t_upper}, {"string", "", t_string}, {"mapping", "", t_mapping}, {"number", "", t_number},
    {"sequence", "", t_sequence}, {"iterable", "", t_iterable}, {"callable", "", t_callable}, {"sameas", "other", t_sameas},
    {"escaped", "", t_escaped}, {"in", "seq", t_in}, {"==", "/b", t_eq}, {"eq", "/b", t_eq}, {"equalto", "/b", t_eq},
    {"!=", "/b", t_ne}, {"ne", "/b", t_ne}, {">", "/b", t_gt}, {"gt", "/b", t_gt}, {"greaterthan", "/b", t_gt}, {"ge", "/b", t_ge},
    {">=", "/b", t_ge}, {"<", "/b", t_lt}, {"lt", "/b", t_lt}, {"lessthan", "/b", t_lt}, {"<=", "/b", t_le}, {"le", "/b", t_le},
    {NULL, NULL, NULL},
};

const bm_jdef *bm_jtest_find(const char *name)
{
    for (const bm_jdef *d = TESTS; d->name != NULL; d++)
        if (strcmp(d->name, name) == 0)
            return d;
    return NULL;
}
