/* literal.c - a recursive-descent parser of Python's literals. */
#include "eval/literal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/number.h"
#include "base/utf8.h"

enum { MAX_DEPTH = 100 };

typedef struct lit { const char *s; size_t len, at; int depth; bm_error *err; } lit;

static int fail(const lit *p, const char *what)
{
    size_t show = p->len - p->at > 40 ? 40 : p->len - p->at;

    return bm_fail(p->err, BM_INVALID, "not a Python literal: %s at byte %zu, before '%.*s'", what, p->at, (int)show, p->s + p->at);
}

static int parse_value(lit *p, json_t **out);

static void skip(lit *p)
{
    while (p->at < p->len && strchr(" \t\n\r\f", p->s[p->at]) != NULL && p->s[p->at] != '\0')
        p->at++;
}

static bool next_is(lit *p, char c)
{
    skip(p);
    return p->at < p->len && p->s[p->at] == c;
}

/* ---- strings ---- */

static int hex_escape(lit *p, bm_buf *b, int digits)
{
    uint32_t cp = 0;
    char utf8[4];

    for (int i = 0; i < digits; i++) {
        char c = p->at < p->len ? p->s[p->at] : '\0';
        int v = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (v < 0)
            return fail(p, "a bad escape");
        cp = cp << 4 | (uint32_t)v;
        p->at++;
    }
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000))
        return fail(p, "an escape that is no character");
    bm_buf_add(b, utf8, (size_t)bm_utf8_encode(cp, utf8));
    return 0;
}

static int octal_escape(lit *p, bm_buf *b)
{
    uint32_t cp = 0;
    char utf8[4];

    for (int i = 0; i < 3 && p->at < p->len && p->s[p->at] >= '0' && p->s[p->at] <= '7'; i++)
        cp = cp * 8 + (uint32_t)(p->s[p->at++] - '0');
    bm_buf_add(b, utf8, (size_t)bm_utf8_encode(cp, utf8));
    return 0;
}

static int escape(lit *p, bm_buf *b)
{
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    char c = p->at < p->len ? p->s[p->at] : '\0';
    const char *known = c != '\0' ? strchr(from, c) : NULL;

    if (c >= '0' && c <= '7')
        return octal_escape(p, b);
    p->at++;
    if (known != NULL)
        bm_buf_putc(b, to[known - from]);
    else if (c == 'x' || c == 'u' || c == 'U')
        return hex_escape(p, b, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    else if (c != '\n') {                                /* an unknown escape stays as it is */
        bm_buf_putc(b, '\\');
        p->at--;
    }
    return 0;
}

static int string_body(lit *p, bm_buf *b, bool raw)
{
    char quote = p->s[p->at];
    bool triple = p->at + 2 < p->len && p->s[p->at + 1] == quote && p->s[p->at + 2] == quote;
    int rc = 0;

    p->at += triple ? 3 : 1;
    while (p->at < p->len && rc == 0) {
        char c = p->s[p->at];
        if (c == quote && (!triple || (p->at + 2 < p->len && p->s[p->at + 1] == quote && p->s[p->at + 2] == quote))) {
            p->at += triple ? 3 : 1;
            return 0;
        }
        if (c == '\n' && !triple)
            break;
        p->at++;
        if (c == '\\' && !raw) {
            rc = escape(p, b);
        } else {
            bm_buf_putc(b, c);
            if (c == '\\' && p->at < p->len)
                bm_buf_putc(b, p->s[p->at++]);
        }
    }
    return rc < 0 ? rc : fail(p, "a string without its end");
}

/* The length of a prefix that a quote follows, or SIZE_MAX when this is no string. */
static size_t string_prefix(const lit *p, bool *raw)
{
    size_t n = 0;

    *raw = false;
    while (p->at + n < p->len && n < 2 && strchr("rRuU", p->s[p->at + n]) != NULL && p->s[p->at + n] != '\0')
        *raw |= (p->s[p->at + n++] | 32) == 'r';
    return p->at + n < p->len && (p->s[p->at + n] == '\'' || p->s[p->at + n] == '"') ? n : SIZE_MAX;
}

static int parse_string(lit *p, json_t **out)
{
    bm_buf b = {0};
    size_t prefix;
    bool raw;
    int rc = 0;

    while (rc == 0 && (skip(p), prefix = string_prefix(p, &raw)) != SIZE_MAX) {
        p->at += prefix;
        rc = string_body(p, &b, raw);
    }
    if (rc == 0 && (b.failed || (*out = json_stringn(b.len > 0 ? b.data : "", b.len)) == NULL))
        rc = b.failed ? bm_fail(p->err, BM_NOMEM, "no memory for a literal") : fail(p, "text that is not UTF-8");
    bm_buf_done(&b);
    return rc;
}

/* ---- numbers and names ---- */

static int parse_number(lit *p, json_t **out)
{
    char text[80];
    size_t n = 0;
    bool negative = false, real = false;
    int64_t i;
    double f;

    for (; p->at < p->len && (p->s[p->at] == '-' || p->s[p->at] == '+'); p->at++, skip(p))
        negative ^= p->s[p->at] == '-';
    if (negative)
        text[n++] = '-';
    for (; p->at < p->len && n + 1 < sizeof text; p->at++) {
        char c = p->s[p->at];
        if (c == '_')
            continue;
        bool sign = (c == '-' || c == '+') && n > 0 && (text[n - 1] | 32) == 'e';
        if (!((c >= '0' && c <= '9') || c == '.' || c == 'e' || c == 'E' || sign))
            break;
        real |= c == '.' || c == 'e' || c == 'E';
        text[n++] = c;
    }
    text[n] = '\0';
    if (!real && n > 1 + (size_t)negative && text[negative] == '0' && strspn(text + negative, "0") != n - negative)
        return fail(p, "a number with leading zeros");
    if (!real && bm_parse_int(text, INT64_MIN, INT64_MAX, &i)) {
        *out = json_integer(i);
        return *out == NULL ? bm_fail(p->err, BM_NOMEM, "no memory for a literal") : 0;
    }
    char *end;
    f = strtod(text, &end);
    if (!real || end == text || *end != '\0' || !isfinite(f))
        return fail(p, real ? "a bad number" : "a value");
    *out = json_real(f);
    return *out == NULL ? bm_fail(p->err, BM_NOMEM, "no memory for a literal") : 0;
}

static bool word(lit *p, const char *name)
{
    size_t n = strlen(name);

    if (p->len - p->at < n || memcmp(p->s + p->at, name, n) != 0)
        return false;
    char after = p->at + n < p->len ? p->s[p->at + n] : '\0';
    if (after == '_' || (after >= '0' && after <= '9') || ((after | 32) >= 'a' && (after | 32) <= 'z') || (unsigned char)after >= 0x80)
        return false;
    p->at += n;
    return true;
}

/* ---- containers ---- */

static int parse_items(lit *p, char close, json_t **out)
{
    json_t *list = json_array(), *v;
    bool comma = true;
    int rc = list == NULL ? bm_fail(p->err, BM_NOMEM, "no memory for a literal") : 0;

    *out = list;
    while (rc == 0 && !next_is(p, close)) {
        if (!comma)
            return fail(p, "no comma");
        v = NULL;
        if ((rc = parse_value(p, &v)) == 0 && json_array_append_new(list, v) != 0)
            rc = bm_fail(p->err, BM_NOMEM, "no memory for a literal");
        comma = rc == 0 && next_is(p, ',');
        p->at += comma;
    }
    if (rc == 0)
        p->at++;
    if (rc == 0 && close == ')' && json_array_size(list) == 1 && !comma) {     /* (x) is x */
        *out = json_incref(json_array_get(list, 0));
        json_decref(list);
    }
    return rc;
}

static int set_key(lit *p, json_t *dict, json_t *key, json_t *value)
{
    char text[32];
    int rc;

    if (json_is_string(key))
        rc = json_object_setn_nocheck(dict, json_string_value(key), json_string_length(key), value);
    else if (json_is_integer(key) || json_is_real(key)) {
        if (json_is_real(key))
            bm_number_write(text, json_real_value(key));
        else
            snprintf(text, sizeof text, "%lld", (long long)json_integer_value(key));
        rc = json_object_set_nocheck(dict, text, value);
    } else {
        rc = json_object_set_nocheck(dict, json_is_true(key) ? "true" : json_is_false(key) ? "false" : "null", value);
    }
    return rc != 0 ? bm_fail(p->err, BM_NOMEM, "no memory for a literal") : 0;
}

static int parse_braces(lit *p, json_t **out)
{
    json_t *first = NULL, *value = NULL, *dict;
    int rc = 0;

    if (next_is(p, '}')) {
        p->at++;
        return (*out = json_object()) == NULL ? bm_fail(p->err, BM_NOMEM, "no memory for a literal") : 0;
    }
    size_t begin = p->at;
    if ((rc = parse_value(p, &first)) < 0)
        return rc;
    if (!next_is(p, ':')) {                              /* a set */
        json_decref(first);
        p->at = begin;
        return parse_items(p, '}', out);
    }
    if ((dict = *out = json_object()) == NULL)
        rc = bm_fail(p->err, BM_NOMEM, "no memory for a literal");
    for (;;) {
        if (rc == 0 && !next_is(p, ':'))
            rc = fail(p, "no colon");
        p->at += rc == 0;
        if (rc == 0 && (rc = parse_value(p, &value)) == 0)
            rc = json_is_array(first) || json_is_object(first) ? fail(p, "a key that is no plain value") : set_key(p, dict, first, value);
        json_decref(first), json_decref(value);
        first = value = NULL;
        if (rc < 0)
            return rc;
        bool comma = next_is(p, ',');
        p->at += comma;
        if (next_is(p, '}')) {
            p->at++;
            return 0;
        }
        if (!comma)
            return fail(p, "no comma");
        if ((rc = parse_value(p, &first)) < 0)
            return rc;
    }
}

static int parse_inside(lit *p, json_t **out)
{
    char c = p->s[p->at];
    bool raw;

    if (string_prefix(p, &raw) != SIZE_MAX)
        return parse_string(p, out);
    if (c == '[' || c == '(') {
        p->at++;
        return parse_items(p, c == '[' ? ']' : ')', out);
    }
    if (c == '{') {
        p->at++;
        return parse_braces(p, out);
    }
    if (word(p, "None"))
        *out = json_null();
    else if (word(p, "True"))
        *out = json_true();
    else if (word(p, "False"))
        *out = json_false();
    else
        return parse_number(p, out);
    return 0;
}

static int parse_value(lit *p, json_t **out)
{
    int rc;

    *out = NULL;
    skip(p);
    if (p->at >= p->len)
        return fail(p, "nothing");
    if (p->depth >= MAX_DEPTH)
        return fail(p, "nested too deep");
    p->depth++;
    rc = parse_inside(p, out);
    p->depth--;
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

/* In parentheses, so that "1, 2" is the tuple that it is in Python, and "(x)" is x. */
int bm_literal_parse(json_t **out, const char *text, size_t len, bm_error *err)
{
    bm_buf b = {0};
    int rc;

    *out = NULL;
    bm_buf_putc(&b, '(');
    bm_buf_add(&b, text, len);
    bm_buf_puts(&b, "\n)");
    lit p = {b.data, b.len, 0, 0, err};
    if (b.failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a literal");
    else if (p.at = 1, next_is(&p, ')'))
        rc = fail(&p, "nothing");
    else if (p.at = 0, (rc = parse_value(&p, out)) == 0 && (skip(&p), p.at < p.len))
        rc = fail(&p, "more than one value");
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    bm_buf_done(&b);
    return rc;
}
