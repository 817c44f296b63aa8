/* jinja_number.c - arithmetic with Python's rules: ints of 64 bits (beyond: an error, where Python goes on), floats, floor
 * division and modulo with the divisor's sign, round half to even; + and * of sequences. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "text/jinja.h"
#include "text/jinja_ast.h"

static const char *op_text(int op)
{
    return op == 'f' ? "//" : op == 'p' ? "** or pow()" : op == '+' ? "+" : op == '-' ? "-" : op == '*' ? "*" : op == '/' ? "/" : "%";
}

static bool overflow(bm_jrun *r) { return bm_jrun_fail(r, "the result does not fit into 64 bits"); }

static bool int_floordiv(bm_jrun *r, int64_t a, int64_t b, int64_t *quotient, int64_t *rest)
{
    if (b == 0)
        return bm_jrun_fail(r, "integer division or modulo by zero");
    if (b == -1) {
        *rest = 0;
        return __builtin_sub_overflow(0, a, quotient) ? overflow(r) : true;
    }
    *quotient = a / b;
    *rest = a % b;
    if (*rest != 0 && (*rest < 0) != (b < 0))
        *quotient -= 1, *rest += b;
    return true;
}

static bool int_pow(bm_jrun *r, int64_t a, int64_t b, bm_jval *out)
{
    int64_t v = 1;

    if (b < 0) {
        if (a == 0)
            return bm_jrun_fail(r, "0.0 cannot be raised to a negative power");
        *out = bm_jfloat(pow((double)a, (double)b));
        return true;
    }
    for (; b > 0; b >>= 1) {
        if ((b & 1) && __builtin_mul_overflow(v, a, &v))
            return overflow(r);
        if (b > 1 && __builtin_mul_overflow(a, a, &a))
            return overflow(r);
    }
    *out = bm_jint(v);
    return true;
}

static bool int_op(bm_jrun *r, int op, int64_t a, int64_t b, bm_jval *out)
{
    int64_t v = 0, rest = 0;
    bool too_large = false;

    switch (op) {
    case '+':
        too_large = __builtin_add_overflow(a, b, &v);
        break;
    case '-':
        too_large = __builtin_sub_overflow(a, b, &v);
        break;
    case '*':
        too_large = __builtin_mul_overflow(a, b, &v);
        break;
    case '/':
        if (b == 0)
            return bm_jrun_fail(r, "division by zero");
        *out = bm_jfloat((double)((long double)a / (long double)b));
        return true;
    case 'p':
        return int_pow(r, a, b, out);
    default:
        if (!int_floordiv(r, a, b, &v, &rest))
            return false;
        v = op == '%' ? rest : v;
    }
    *out = bm_jint(v);
    return too_large ? overflow(r) : true;
}

static double float_mod(double a, double b, double *quotient)
{
    double rest = fmod(a, b);

    if (rest != 0 && (rest < 0) != (b < 0))
        rest += b;
    else if (rest == 0)
        rest = copysign(0.0, b);
    double q = (a - rest) / b, whole = floor(q);
    if (q - whole > 0.5)
        whole += 1;
    *quotient = q != 0 ? whole : copysign(0.0, a / b);
    return rest;
}

static bool float_op(bm_jrun *r, int op, double a, double b, bm_jval *out)
{
    double quotient, v;

    switch (op) {
    case '+':
        v = a + b;
        break;
    case '-':
        v = a - b;
        break;
    case '*':
        v = a * b;
        break;
    case '/':
        if (b == 0)
            return bm_jrun_fail(r, "float division by zero");
        v = a / b;
        break;
    case 'p':
        if (a == 0 && b < 0)
            return bm_jrun_fail(r, "0.0 cannot be raised to a negative power");
        v = pow(a, b);
        if (a < 0 && isnan(v) && !isnan(b))
            return bm_jrun_fail(r, "the result is a complex number");
        if (isinf(v) && isfinite(a) && isfinite(b))
            return bm_jrun_fail(r, "(34, 'Numerical result out of range')");
        break;
    default:
        if (b == 0)
            return bm_jrun_fail(r, op == '%' ? "float modulo" : "float floor division by zero");
        v = float_mod(a, b, &quotient);
        v = op == '%' ? v : quotient;
    }
    *out = bm_jfloat(v);
    return true;
}

static bool str_add(bm_jrun *r, bm_jstr *a, bm_jstr *b, bm_jval *out)
{
    if (a->markup != b->markup && !bm_jstr_escape(r, a->markup ? b : a, a->markup ? &b : &a))
        return false;
    bm_jstr *s = bm_jstr_cat(r, a, b);
    if (s != NULL && s->markup != a->markup && s != b && s != a)
        s->markup = a->markup;
    return bm_jval_str(out, s);
}

static bool list_add(bm_jrun *r, bm_jval a, bm_jval b, bm_jval *out)
{
    bm_jlist *list = bm_jlist_new(r, a.list->n + b.list->n);

    if (list == NULL || !bm_jrun_step(r, list->cap / 8))
        return false;
    for (size_t i = 0; i < a.list->n; i++)
        list->items[list->n++] = a.list->items[i];
    for (size_t i = 0; i < b.list->n; i++)
        list->items[list->n++] = b.list->items[i];
    return bm_jval_list(r, a.type, list, out);
}

static bool repeat(bm_jrun *r, bm_jval what, int64_t times, bm_jval *out)
{
    size_t n = times > 0 ? (size_t)times : 0, all;
    bm_jsb b;

    if (what.type == BM_J_STR) {
        if (!bm_jstr_flat(r, what.s))
            return false;
        bm_jsb_init(&b, r);
        if (what.s->n_pieces == 0)
            bm_jsb_fill(&b, what.s->data, what.s->len, n, what.s->src);
        else
            for (size_t i = 0; i < n && r->rc == 0; i++)
                bm_jsb_str(&b, what.s);
        if (!bm_jval_str(out, bm_jsb_finish(&b)))
            return false;
        out->s->markup = what.s->markup;
        return true;
    }
    if (!bm_mul_size(n, what.list->n, &all))
        return bm_jrun_fail_code(r, BM_LIMIT, "a list grows too long");
    bm_jlist *list = bm_jrun_step(r, all) ? bm_jlist_new(r, all) : NULL;
    if (list == NULL)
        return false;
    while (list->n < all)
        for (size_t k = 0; k < what.list->n; k++)
            list->items[list->n++] = what.list->items[k];
    return bm_jval_list(r, what.type, list, out);
}

static bool is_sequence(bm_jval v) { return v.type == BM_J_STR || v.type == BM_J_LIST || v.type == BM_J_TUPLE; }

bool bm_jop_binary(bm_jrun *r, int op, bm_jval a, bm_jval b, bm_jval *out)
{
    if (bm_jis_integral(a) && bm_jis_integral(b))
        return int_op(r, op, bm_jintegral(a), bm_jintegral(b), out);
    if (bm_jis_num(a) && bm_jis_num(b))
        return float_op(r, op, bm_jreal(a), bm_jreal(b), out);
    if (op == '%' && a.type == BM_J_STR)
        return bm_jstr_flat(r, a.s) && bm_jformat_percent(r, a.s, b, out);
    if (a.type == BM_J_UNDEF || b.type == BM_J_UNDEF)
        return bm_jval_touch(r, a.type == BM_J_UNDEF ? a : b);
    if (op == '+' && a.type == BM_J_STR && b.type == BM_J_STR)
        return str_add(r, a.s, b.s, out);
    if (op == '+' && a.type == b.type && (a.type == BM_J_LIST || a.type == BM_J_TUPLE))
        return list_add(r, a, b, out);
    if (op == '*' && is_sequence(a) && bm_jis_integral(b))
        return repeat(r, a, bm_jintegral(b), out);
    if (op == '*' && is_sequence(b) && bm_jis_integral(a))
        return repeat(r, b, bm_jintegral(a), out);
    if (op == '+' && a.type == BM_J_STR)
        return bm_jrun_fail(r, "can only concatenate str (not \"%s\") to str", bm_jval_type(b));
    return bm_jrun_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", op_text(op), bm_jval_type(a), bm_jval_type(b));
}

bool bm_jop_unary(bm_jrun *r, int op, bm_jval a, bm_jval *out)
{
    if (a.type == BM_J_UNDEF)
        return bm_jval_touch(r, a);
    if (a.type == BM_J_FLOAT) {
        *out = bm_jfloat(op == '-' ? -a.f : a.f);
        return true;
    }
    if (!bm_jis_integral(a))
        return bm_jrun_fail(r, "bad operand type for unary %c: '%s'", op, bm_jval_type(a));
    int64_t v = bm_jintegral(a);
    if (op == '-' && __builtin_sub_overflow(0, v, &v))
        return overflow(r);
    *out = bm_jint(v);
    return true;
}

bool bm_jop_compare(bm_jrun *r, int op, bm_jval a, bm_jval b, bool *out)
{
    int c;

    if (op == BM_T_EQ || op == BM_T_NE) {
        if (!bm_jval_eq(r, a, b, out))
            return false;
        *out = *out == (op == BM_T_EQ);
        return true;
    }
    if (op == BM_T_IN || op == BM_T_NOTIN) {
        if (!bm_jval_contains(r, a, b, out))
            return false;
        *out = *out == (op == BM_T_IN);
        return true;
    }
    if (!bm_jval_cmp(r, a, b, &c))
        return false;
    *out = op == BM_T_LT ? c == -1 : op == BM_T_LTEQ ? c == -1 || c == 0 : op == BM_T_GT ? c == 1 : c == 1 || c == 0;
    return true;
}

/* The digits of a number as Python's int() and float() take them: blanks around, single underscores between digits. */
static bool clean(const bm_jstr *s, char *out, size_t room)
{
    size_t lead = bm_j_lstrip(s->data, s->len), n = bm_j_rstrip(s->data, s->len), len = 0;

    for (size_t i = lead; i < n; i++) {
        char ch = s->data[i];
        if (ch == '_') {
            bool between = i > lead && i + 1 < n && s->data[i - 1] != '_' && s->data[i + 1] != '_';
            if (!between)
                return false;
            continue;
        }
        if (ch == '\0' || len + 1 >= room)
            return false;
        out[len++] = ch;
    }
    out[len] = '\0';
    return len > 0;
}

bool bm_jnum_parse_int(const bm_jstr *s, int base, int64_t *out, bool *too_large)
{
    char text[400], *p = text;
    bool negative = false;

    *too_large = false;
    if (!clean(s, text, sizeof text))
        return false;
    if (*p == '+' || *p == '-')
        negative = *p++ == '-';
    char kind = p[0] == '0' ? (char)(p[1] | 0x20) : '\0';
    int prefix = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (prefix != 0 && (base == prefix || base == 0))
        p += 2, base = prefix;
    if (base == 0) {
        base = 10;
        if (p[0] == '0' && strspn(p, "0") != strlen(p))
            return false;
    }
    if (*p == '\0' || base < 2 || base > 36)
        return false;
    *out = 0;
    for (; *p != '\0'; p++) {
        int d = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'z' ? *p - 'a' + 10 : *p >= 'A' && *p <= 'Z' ? *p - 'A' + 10 : 99;
        if (d >= base)
            return false;
        if (__builtin_mul_overflow(*out, base, out) || (negative ? __builtin_sub_overflow(*out, d, out) : __builtin_add_overflow(*out, d, out)))
            *too_large = true;
    }
    return true;
}

bool bm_jnum_parse_float(const bm_jstr *s, double *out)
{
    static const char *const words[] = {"inf", "infinity", "nan"};
    char text[400], *end, *p = text;

    if (!clean(s, text, sizeof text))
        return false;
    p += *p == '+' || *p == '-';
    bool known = (*p >= '0' && *p <= '9') || *p == '.';
    for (size_t i = 0; i < 3 && !known; i++)
        known = strcasecmp(p, words[i]) == 0;
    if (!known || strpbrk(p, "xXpP") != NULL)
        return false;
    *out = strtod(text, &end);
    return *end == '\0';
}

bool bm_jnum_from_float(bm_jrun *r, double f, bm_jval *out)
{
    if (!isfinite(f))
        return bm_jrun_fail(r, "cannot convert float %s to integer", isnan(f) ? "NaN" : "infinity");
    if (f >= 9223372036854775808.0 || f < -9223372036854775808.0)
        return overflow(r);
    *out = bm_jint((int64_t)f);
    return true;
}

static bool round_int(bm_jrun *r, int64_t v, int64_t digits, bm_jval *out)
{
    int64_t unit = 1, quotient, rest;

    *out = bm_jint(v);
    if (digits >= 0)
        return true;
    for (; digits < 0; digits++)
        if (__builtin_mul_overflow(unit, 10, &unit)) {
            *out = bm_jint(0);
            return true;
        }
    if (!int_floordiv(r, v, unit, &quotient, &rest))
        return false;
    if (rest > unit - rest || (rest == unit - rest && (quotient & 1)))
        quotient++;
    return __builtin_mul_overflow(quotient, unit, &out->i) ? overflow(r) : true;
}

bool bm_jnum_round(bm_jrun *r, bm_jval v, int64_t digits, bm_jval *out)
{
    char text[400];

    if (bm_jis_integral(v))
        return round_int(r, bm_jintegral(v), digits, out);
    *out = v;
    if (!isfinite(v.f) || digits > 323)
        return true;
    if (digits < -308) {
        *out = bm_jfloat(copysign(0.0, v.f));
        return true;
    }
    if (digits >= 0) {
        if (fabs(v.f) >= 1e22)                           /* an integer already, and too long for the buffer */
            return true;
        snprintf(text, sizeof text, "%.*f", (int)digits, v.f);    /* correctly rounded, ties to even, as Python's */
        *out = bm_jfloat(strtod(text, NULL));
        return true;
    }
    double unit = pow(10, (double)-digits);
    *out = bm_jfloat(rint(v.f / unit) * unit);
    return true;
}
