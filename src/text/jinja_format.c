/* jinja_format.c - "..." % args and "...".format(...): the mini-languages of Python for str, int and float. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja.h"

enum { MAX_WIDTH = 10000, MAX_PRECISION = 300 };

typedef struct spec {
    char fill[4];
    size_t n_fill;
    char align, sign, group, type;        /* '\0': not given */
    bool alternate, zero;
    int64_t width, precision;             /* -1: not given */
} spec;

/* Body with its sign or prefix of `n_lead` bytes, padded to the width. */
static void add_padded(bm_jsb *b, bm_jstr *text, size_t n_lead, const spec *f, char align)
{
    size_t chars = bm_jstr_chars(text), pad = f->width > (int64_t)chars ? (size_t)f->width - chars : 0;
    size_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0;

    bm_jsb_fill(b, f->fill, f->n_fill, left, BM_SPAN_TEMPLATE);
    bm_jsb_slice(b, text, 0, n_lead);
    if (align == '=')
        bm_jsb_fill(b, f->fill, f->n_fill, pad, BM_SPAN_TEMPLATE);
    bm_jsb_slice(b, text, n_lead, text->len);
    if (align != '=')
        bm_jsb_fill(b, f->fill, f->n_fill, pad - left, BM_SPAN_TEMPLATE);
}

static bool format_text(bm_jsb *b, bm_jstr *s, const spec *f)
{
    if (!bm_jstr_flat(b->run, s))
        return false;
    if (f->precision >= 0 && (s = bm_jstr_slice(b->run, s, 0, bm_jstr_offset(s, (size_t)f->precision))) == NULL)
        return false;
    add_padded(b, s, 0, f, f->align != '\0' && f->align != '=' ? f->align : '<');
    return b->run->rc == 0;
}

/* Put separators between groups of the whole digits: text is sign and prefix (lead bytes), digits, rest. */
static size_t group_digits(char *text, size_t len, size_t lead, size_t room, char sep, int every)
{
    size_t digits = lead;

    while (digits < len && isxdigit((unsigned char)text[digits]))
        digits++;
    for (size_t at = digits; at > lead + (size_t)every;) {
        at -= (size_t)every;
        if (len + 2 > room)
            return len;
        memmove(text + at + 1, text + at, len - at);
        text[at] = sep;
        len++;
    }
    text[len] = '\0';
    return len;
}

static bool add_number(bm_jsb *b, char *text, size_t len, size_t lead, size_t room, const spec *f)
{
    if (f->group != '\0')
        len = group_digits(text, len, lead, room, f->group, f->type == 'x' || f->type == 'X' || f->type == 'b' || f->type == 'o' ? 4 : 3);
    bm_jstr *s = bm_jstr_copy(b->run, text, len, BM_SPAN_TEMPLATE);
    if (s == NULL)
        return false;
    add_padded(b, s, lead, f, f->align != '\0' ? f->align : '>');
    return b->run->rc == 0;
}

static size_t put_sign(char *text, bool negative, const spec *f)
{
    text[0] = negative ? '-' : f->sign;
    return negative || f->sign == '+' || f->sign == ' ' ? 1 : 0;
}

static bool format_int(bm_jsb *b, int64_t v, const spec *f)
{
    char text[420], digits[70];
    uint64_t rest = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    unsigned base = f->type == 'x' || f->type == 'X' ? 16 : f->type == 'o' ? 8 : f->type == 'b' ? 2 : 10;
    size_t lead = put_sign(text, v < 0, f), n = 0, zeros;

    if (f->alternate && base != 10) {
        text[lead++] = '0';
        text[lead++] = f->type;
    }
    do
        digits[n++] = (f->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[rest % base];
    while ((rest /= base) > 0);
    zeros = f->precision > (int64_t)n ? (size_t)f->precision - n : 0;       /* only of %-formats; at most MAX_PRECISION */
    memset(text + lead, '0', zeros);
    for (size_t i = 0; i < n; i++)
        text[lead + zeros + i] = digits[n - 1 - i];
    return add_number(b, text, lead + zeros + n, lead, sizeof text, f);
}

static bool format_float(bm_jsb *b, double v, const spec *f)
{
    char text[1100], pattern[16], body[760];
    char type = f->type == '\0' || f->type == 'n' ? 'g' : f->type == '%' ? 'f' : f->type;
    size_t lead = put_sign(text, signbit(v) && !isnan(v), f);
    int precision = f->precision >= 0 ? (int)f->precision : 6;

    if (f->type == '%')
        v *= 100;
    if (isnan(v) || isinf(v)) {
        bool upper = isupper((unsigned char)type) != 0;
        snprintf(body, sizeof body, "%s", isnan(v) ? (upper ? "NAN" : "nan") : upper ? "INF" : "inf");
    } else {
        snprintf(pattern, sizeof pattern, "%%%s.*%c", f->alternate ? "#" : "", type);
        snprintf(body, sizeof body, pattern, precision, fabs(v));
    }
    int n = snprintf(text + lead, sizeof text / 2 + 200 - lead, "%s%s", body, f->type == '%' ? "%" : "");
    return add_number(b, text, lead + (size_t)n, lead, sizeof text, f);
}

static bool parse_number(const bm_jstr *s, size_t *at, int64_t max, int64_t *out)
{
    *out = -1;
    if (*at >= s->len || !isdigit((unsigned char)s->data[*at]))
        return true;
    *out = 0;
    for (; *at < s->len && isdigit((unsigned char)s->data[*at]); ++*at) {
        *out = *out * 10 + (s->data[*at] - '0');
        if (*out > max)
            return false;
    }
    return true;
}

static bool too_wide(bm_jrun *r) { return bm_jrun_fail_code(r, BM_LIMIT, "a format asks for more than %d columns", MAX_WIDTH); }

static bool is_align(char ch) { return ch == '<' || ch == '>' || ch == '^' || ch == '='; }

static bool parse_spec(bm_jrun *r, const bm_jstr *s, spec *f)
{
    size_t i = 0;
    uint32_t cp;

    *f = (spec){.fill = " ", .n_fill = 1, .width = -1, .precision = -1};
    size_t n = s->len > 0 ? (size_t)bm_j_decode(s->data, s->len, &cp) : 0;
    if (n > 0 && n < s->len && is_align(s->data[n])) {
        memcpy(f->fill, s->data, n);
        f->n_fill = n, f->align = s->data[n], i = n + 1;
    } else if (n == 1 && is_align(s->data[0])) {
        f->align = s->data[i++];
    }
    bool filled = i > 1;
    if (i < s->len && (s->data[i] == '+' || s->data[i] == '-' || s->data[i] == ' '))
        f->sign = s->data[i++];
    if (i < s->len && s->data[i] == '#')
        f->alternate = true, i++;
    if (i < s->len && s->data[i] == '0') {
        f->zero = true, i++;
        if (!filled)
            f->fill[0] = '0', f->n_fill = 1;
        if (f->align == '\0')
            f->align = '=';
    }
    if (!parse_number(s, &i, MAX_WIDTH, &f->width))
        return too_wide(r);
    if (i < s->len && (s->data[i] == ',' || s->data[i] == '_'))
        f->group = s->data[i++];
    if (i < s->len && s->data[i] == '.') {
        i++;
        if (!parse_number(s, &i, MAX_PRECISION, &f->precision))
            return too_wide(r);
        if (f->precision < 0)
            return bm_jrun_fail(r, "Format specifier missing precision");
    }
    if (i < s->len)
        f->type = s->data[i++];
    return i == s->len || bm_jrun_fail(r, "Invalid format specifier");
}

static bool bad_code(bm_jrun *r, char type, bm_jval v)
{
    return bm_jrun_fail(r, "Unknown format code '%c' for object of type '%s'", type, bm_jval_type(v));
}

/* format(v, spec) */
static bool format_value(bm_jsb *b, bm_jval v, const bm_jstr *text)
{
    spec f;

    if (text->len == 0)
        return bm_jval_write(b, v);
    if (v.type != BM_J_STR && !bm_jis_num(v))
        return bm_jrun_fail(b->run, "unsupported format string passed to %s.__format__", bm_jval_type(v));
    if (!parse_spec(b->run, text, &f))
        return false;
    if (v.type == BM_J_STR) {
        if ((f.type != '\0' && f.type != 's') || f.sign != '\0' || f.group != '\0' || (f.align == '=' && !f.zero))
            return bad_code(b->run, f.type != '\0' ? f.type : '=', v);
        return format_text(b, v.s, &f);
    }
    bool as_float = v.type == BM_J_FLOAT || (f.type != '\0' && strchr("eEfFgG%", f.type) != NULL);
    if (f.type != '\0' && strchr(as_float ? "eEfFgGn%" : "bcdoxXn", f.type) == NULL)
        return bad_code(b->run, f.type, v);
    if (!as_float && f.precision >= 0)
        return bm_jrun_fail(b->run, "Precision not allowed in integer format specifier");
    if (!as_float)
        return format_int(b, bm_jintegral(v), &f);
    if (f.type != '\0' || f.precision >= 0)
        return format_float(b, bm_jreal(v), &f);
    bm_jstr *plain = bm_jval_to_str(b->run, v);
    if (plain == NULL)
        return false;
    char copy[64];
    size_t negative = plain->data[0] == '-', lead = put_sign(copy, negative, &f);
    memcpy(copy + lead, plain->data + negative, plain->len - negative);
    return add_number(b, copy, lead + plain->len - negative, lead, sizeof copy, &f);
}

/* ---- str.format ---- */

typedef struct braces { bm_jrun *run; bm_jstr *s; const bm_jargs *args; size_t next; int numbering; } braces;   /* 1 automatic, 2 by hand */

static bool field_first(braces *f, size_t begin, size_t end, bm_jval *out)
{
    bm_jrun *r = f->run;
    size_t at = begin;
    int64_t number;

    if (!parse_number(f->s, &at, 1000000, &number))
        return bm_jrun_fail(r, "Too many decimal digits in format string");
    if (begin == end || (number >= 0 && at == end)) {
        int how = begin == end ? 1 : 2;
        if (f->numbering != 0 && f->numbering != how)
            return bm_jrun_fail(r, "cannot switch between automatic field numbering and manual field specification");
        f->numbering = how;
        size_t i = how == 1 ? f->next++ : (size_t)number;
        if (i >= f->args->n)
            return bm_jrun_fail(r, "Replacement index %zu out of range for positional args tuple", i);
        *out = f->args->pos[i];
        return true;
    }
    *out = bm_jdict_name(f->args->kw, f->s->data + begin, end - begin);
    if (out->type == BM_J_MISSING)
        return bm_jrun_fail(r, "format() misses the field '%.*s'", (int)(end - begin > 60 ? 60 : end - begin), f->s->data + begin);
    return true;
}

/* name.attr[key] at [begin, end) */
static bool field_value(braces *f, size_t begin, size_t end, bm_jval *out)
{
    bm_jrun *r = f->run;
    size_t at = begin;
    int64_t number;
    bm_jval key;

    while (at < end && f->s->data[at] != '.' && f->s->data[at] != '[')
        at++;
    if (!field_first(f, begin, at, out))
        return false;
    while (at < end) {
        bool is_attr = f->s->data[at++] == '.';
        size_t from = at, digits = at;
        while (at < end && (is_attr ? f->s->data[at] != '.' && f->s->data[at] != '[' : f->s->data[at] != ']'))
            at++;
        if (from == at || (!is_attr && at >= end))
            return bm_jrun_fail(r, "Empty attribute in format string");
        bm_jstr *name = bm_jstr_slice(r, f->s, from, at);
        if (!is_attr)
            at++;
        if (!bm_jval_str(&key, name))
            return false;
        if (!is_attr && parse_number(f->s, &digits, 1000000, &number) && number >= 0 && digits == from + name->len)
            key = bm_jint(number);
        if (!(is_attr ? bm_jval_getattr(r, *out, name, out) : bm_jval_getitem(r, *out, key, out)))
            return false;
        if (at < end && f->s->data[at] != '.' && f->s->data[at] != '[')
            return bm_jrun_fail(r, "Only '.' or '[' may follow ']' in format field specifier");
    }
    return true;
}

static bool format_range(braces *f, bm_jsb *b, size_t begin, size_t end, int depth);

static bool convert(bm_jrun *r, char how, bm_jval *v)
{
    bm_jsb b;

    if (how == 's')
        return bm_jval_str(v, bm_jval_to_str(r, *v));
    if (how != 'r')
        return bm_jrun_fail(r, "Unknown conversion specifier '%c'", how);
    bm_jsb_init(&b, r);
    return bm_jval_repr(&b, *v) && bm_jval_str(v, bm_jsb_finish(&b));
}

/* {field} with [begin, end) between the braces */
static bool format_field(braces *f, bm_jsb *b, size_t begin, size_t end, int depth)
{
    bm_jrun *r = f->run;
    size_t at = begin;
    char how = '\0';
    bm_jval v;
    bm_jsb inner;

    for (int open = 0; at < end && (open > 0 || (f->s->data[at] != '!' && f->s->data[at] != ':')); at++)
        open = f->s->data[at] == '[' ? 1 : f->s->data[at] == ']' ? 0 : open;
    if (!field_value(f, begin, at, &v))
        return false;
    if (at < end && f->s->data[at] == '!') {
        if (at + 1 >= end || (at + 2 < end && f->s->data[at + 2] != ':'))
            return bm_jrun_fail(r, "expected ':' after conversion specifier");
        how = f->s->data[at + 1];
        at += 2;
        if (!convert(r, how, &v))
            return false;
    }
    bm_jsb_init(&inner, r);
    if (at < end && !format_range(f, &inner, at + 1, end, depth + 1))
        return false;
    bm_jstr *text = bm_jsb_finish(&inner);
    return text != NULL && format_value(b, v, text);
}

static bool format_range(braces *f, bm_jsb *b, size_t begin, size_t end, int depth)
{
    bm_jstr *s = f->s;

    if (depth > 2)
        return bm_jrun_fail(f->run, "Max string recursion exceeded");
    for (size_t i = begin; i < end;) {
        size_t plain = i;
        while (i < end && s->data[i] != '{' && s->data[i] != '}')
            i++;
        bm_jsb_slice(b, s, plain, i);
        if (i >= end)
            break;
        if (i + 1 < end && s->data[i + 1] == s->data[i] && depth == 0) {
            bm_jsb_slice(b, s, i, i + 1);
            i += 2;
            continue;
        }
        if (s->data[i] == '}')
            return bm_jrun_fail(f->run, "Single '}' encountered in format string");
        size_t from = ++i;
        for (int open = 1; i < end; i++) {
            open += s->data[i] == '{' ? 1 : s->data[i] == '}' ? -1 : 0;
            if (open == 0)
                break;
        }
        if (i >= end)
            return bm_jrun_fail(f->run, from >= end ? "Single '{' encountered in format string" : "expected '}' before end of string");
        if (!bm_jrun_step(f->run, i - from + 1) || !format_field(f, b, from, i, depth))
            return false;
        i++;
    }
    return f->run->rc == 0;
}

bool bm_jformat_braces(bm_jrun *r, bm_jstr *format, const bm_jargs *args, bm_jval *out)
{
    braces f = {.run = r, .s = format, .args = args};
    bm_jsb b;

    bm_jsb_init(&b, r);
    return bm_jrun_step(r, format->len / 16 + 1) && format_range(&f, &b, 0, format->len, 0) && bm_jval_str(out, bm_jsb_finish(&b));
}

/* ---- "..." % args ---- */

typedef struct percent { bm_jrun *run; bm_jstr *s; size_t at, next; bm_jval args, one; bool used_names; } percent;

static bool next_arg(percent *p, bm_jval *out)
{
    if (p->args.type == BM_J_TUPLE) {
        if (p->next >= p->args.list->n)
            return bm_jrun_fail(p->run, "not enough arguments for format string");
        *out = p->args.list->items[p->next++];
        return true;
    }
    if (p->next++ > 0)
        return bm_jrun_fail(p->run, "not enough arguments for format string");
    *out = p->args;
    return true;
}

static bool star_or_number(percent *p, int64_t max, int64_t *out)
{
    bm_jval v;

    if (p->at < p->s->len && p->s->data[p->at] == '*') {
        p->at++;
        if (!next_arg(p, &v) || !bm_jis_integral(v))
            return bm_jrun_fail(p->run, "* wants int");
        *out = bm_jintegral(v);
        return *out <= max && *out >= -max ? true : too_wide(p->run);
    }
    return parse_number(p->s, &p->at, max, out) ? true : too_wide(p->run);
}

static bool percent_key(percent *p)
{
    size_t from = ++p->at;
    bm_jval key;

    for (int open = 1; p->at < p->s->len; p->at++) {
        open += p->s->data[p->at] == '(' ? 1 : p->s->data[p->at] == ')' ? -1 : 0;
        if (open == 0)
            break;
    }
    if (p->at >= p->s->len)
        return bm_jrun_fail(p->run, "incomplete format key");
    if (p->args.type != BM_J_DICT)
        return bm_jrun_fail(p->run, "format requires a mapping");
    if (!bm_jval_str(&key, bm_jstr_slice(p->run, p->s, from, p->at++)) || !bm_jdict_get(p->run, p->args.dict, key, &p->one))
        return false;
    if (p->one.type == BM_J_MISSING)
        return bm_jrun_fail(p->run, "the format's key is not in the mapping");
    p->used_names = true;
    return true;
}

static bool percent_number(percent *p, bm_jsb *b, bm_jval v, spec *f)
{
    bool is_int = strchr("diuxXo", f->type) != NULL;
    bm_jval whole = v;

    if (!bm_jis_num(v) || (v.type == BM_J_FLOAT && strchr("xXo", f->type) != NULL))
        return bm_jrun_fail(p->run, "%%%c format: a %s is required, not %s", f->type, is_int ? "real number" : "number", bm_jval_type(v));
    if (f->zero && f->align == '\0')
        f->align = '=', f->fill[0] = '0';
    if (!is_int)
        return format_float(b, bm_jreal(v), f);
    if (v.type == BM_J_FLOAT && !bm_jnum_from_float(p->run, v.f, &whole))
        return false;
    if (f->type == 'i' || f->type == 'u')
        f->type = 'd';
    return format_int(b, bm_jintegral(whole), f);
}

static bool percent_char(percent *p, bm_jval v, bm_jstr **out)
{
    char text[4];

    if (v.type == BM_J_STR) {
        *out = v.s;
        if (!bm_jstr_flat(p->run, v.s))
            return false;
        return bm_jstr_chars(v.s) == 1 || bm_jrun_fail(p->run, "%%c requires int or char");
    }
    if (!bm_jis_integral(v) || bm_jintegral(v) < 0 || bm_jintegral(v) > 0x10FFFF)
        return bm_jrun_fail(p->run, "%%c requires int or char");
    *out = bm_jstr_copy(p->run, text, (size_t)bm_utf8_encode((uint32_t)bm_jintegral(v), text), BM_SPAN_TEMPLATE);
    return *out != NULL;
}

static bool percent_value(percent *p, bm_jsb *b, spec *f)
{
    bm_jval v = p->one;
    bm_jstr *text = NULL;
    bm_jsb inner;

    p->one = (bm_jval){0};
    if (v.type == BM_J_MISSING && !next_arg(p, &v))
        return false;
    if (strchr("diuxXoeEfFgG", f->type) != NULL)
        return percent_number(p, b, v, f);
    if (f->align == '\0')
        f->align = '>';
    bm_jsb_init(&inner, p->run);
    if (f->type == 's')
        text = bm_jval_to_str(p->run, v);
    else if (f->type == 'r' || f->type == 'a')
        text = bm_jval_repr(&inner, v) ? bm_jsb_finish(&inner) : NULL;
    else if (f->type == 'c')
        f->precision = -1, percent_char(p, v, &text);
    else
        return bm_jrun_fail(p->run, "unsupported format character '%c'", f->type);
    return text != NULL && format_text(b, text, f);
}

/* After the '%': [(key)][flags][width][.precision][length]type */
static bool percent_item(percent *p, bm_jsb *b)
{
    spec f = {.fill = " ", .n_fill = 1, .width = -1, .precision = -1};
    bm_jstr *s = p->s;

    if (p->at < s->len && s->data[p->at] == '(' && !percent_key(p))
        return false;
    for (; p->at < s->len && s->data[p->at] != '\0' && strchr("-+ #0", s->data[p->at]) != NULL; p->at++) {
        char ch = s->data[p->at];
        f.align = ch == '-' ? '<' : f.align;
        f.sign = ch == '+' || (ch == ' ' && f.sign == '\0') ? ch : f.sign;
        f.alternate |= ch == '#';
        f.zero |= ch == '0';
    }
    if (!star_or_number(p, MAX_WIDTH, &f.width))
        return false;
    if (f.width < -1)
        f.align = '<', f.width = -f.width;
    if (p->at < s->len && s->data[p->at] == '.') {
        p->at++;
        if (!star_or_number(p, MAX_PRECISION, &f.precision))
            return false;
        f.precision = f.precision < 0 ? 0 : f.precision;
    }
    while (p->at < s->len && (s->data[p->at] == 'h' || s->data[p->at] == 'l' || s->data[p->at] == 'L'))
        p->at++;
    if (p->at >= s->len || s->data[p->at] == '\0')
        return bm_jrun_fail(p->run, "incomplete format");
    f.type = s->data[p->at++];
    if (f.type == '%') {
        bm_jsb_slice(b, s, p->at - 1, p->at);
        return true;
    }
    return percent_value(p, b, &f);
}

bool bm_jformat_percent(bm_jrun *r, bm_jstr *format, bm_jval args, bm_jval *out)
{
    percent p = {.run = r, .s = format, .args = args};
    bm_jsb b;

    bm_jsb_init(&b, r);
    while (p.at < format->len) {
        const char *hit = memchr(format->data + p.at, '%', format->len - p.at);
        size_t stop = hit == NULL ? format->len : (size_t)(hit - format->data);
        bm_jsb_slice(&b, format, p.at, stop);
        p.at = stop + 1;
        if (hit != NULL && (!bm_jrun_step(r, 2) || !percent_item(&p, &b)))
            return false;
    }
    bool rest = args.type == BM_J_TUPLE ? p.next < args.list->n
              : p.next == 0 && args.type != BM_J_DICT && args.type != BM_J_LIST && args.type != BM_J_UNDEF && args.type != BM_J_RANGE;
    if (rest && !p.used_names)
        return bm_jrun_fail(r, "not all arguments converted during string formatting");
    if (!bm_jval_str(out, bm_jsb_finish(&b)))
        return false;
    out->s->markup = format->markup;
    return true;
}
