/* jinja_method.c - the methods of str. What Python counts in characters is counted in code points here; a part of a string
 * keeps the source of each of its bytes. */
#include <string.h>

#include "text/jinja.h"

static bool in_set(const bm_jstr *chars, uint32_t cp)
{
    uint32_t other;

    if (chars == NULL)
        return bm_j_is_space(cp);
    for (size_t i = 0; i < chars->len;) {
        i += (size_t)bm_j_decode(chars->data + i, chars->len - i, &other);
        if (other == cp)
            return true;
    }
    return false;
}

static size_t prev_char(const bm_jstr *s, size_t end, uint32_t *cp)
{
    size_t at = end - 1;

    while (at > 0 && end - at < 4 && (s->data[at] & 0xC0) == 0x80)
        at--;
    if (bm_j_decode(s->data + at, end - at, cp) != (int)(end - at)) {
        at = end - 1;
        *cp = 0xFFFD;
    }
    return at;
}

bm_jstr *bm_jstr_strip(bm_jrun *r, bm_jstr *s, bm_jstr *chars, bool left, bool right)
{
    size_t begin = 0, end = s->len, at;
    uint32_t cp;

    while (left && begin < end) {
        size_t n = (size_t)bm_j_decode(s->data + begin, end - begin, &cp);
        if (!in_set(chars, cp))
            break;
        begin += n;
    }
    while (right && end > begin) {
        at = prev_char(s, end, &cp);
        if (!in_set(chars, cp))
            break;
        end = at;
    }
    if (!bm_jrun_step(r, (s->len - (end - begin)) / 16 * (chars == NULL ? 1 : chars->len + 1)))
        return NULL;
    return bm_jstr_slice(r, s, begin, end);
}

static bool strip(bm_jrun *r, const bm_jcall *c, bool left, bool right, bm_jval *out)
{
    bm_jstr *chars = NULL;

    if (bm_jarg_given(c->a[0]) && !bm_jarg_str(r, c->a[0], "strip arg", &chars))
        return false;
    return bm_jval_str(out, bm_jstr_strip(r, c->self.s, chars, left, right));
}

static bool m_strip(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return strip(r, c, true, true, out); }
static bool m_lstrip(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return strip(r, c, true, false, out); }
static bool m_rstrip(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return strip(r, c, false, true, out); }

static bool add_slice(bm_jrun *r, bm_jlist *list, bm_jstr *s, size_t begin, size_t end)
{
    bm_jval v;

    return bm_jrun_step(r, 1) && bm_jval_str(&v, bm_jstr_slice(r, s, begin, end)) && bm_jlist_add(r, list, v);
}

/* Words between whitespace, at most `max` splits (< 0: all), from the left. */
static bool split_space(bm_jrun *r, bm_jstr *s, int64_t max, bm_jlist *list)
{
    size_t at = bm_j_lstrip(s->data, s->len);
    uint32_t cp;

    while (at < s->len) {
        size_t end = at;
        if (max == 0)
            return add_slice(r, list, s, at, s->len);
        while (end < s->len) {
            size_t n = (size_t)bm_j_decode(s->data + end, s->len - end, &cp);
            if (bm_j_is_space(cp))
                break;
            end += n;
        }
        if (!add_slice(r, list, s, at, end))
            return false;
        max -= max > 0;
        at = end + bm_j_lstrip(s->data + end, s->len - end);
    }
    return true;
}

static void reverse_list(bm_jlist *list)
{
    for (size_t i = 0; i + 1 < list->n - i; i++) {
        bm_jval t = list->items[i];
        list->items[i] = list->items[list->n - 1 - i];
        list->items[list->n - 1 - i] = t;
    }
}

static bool rsplit_space(bm_jrun *r, bm_jstr *s, int64_t max, bm_jlist *list)
{
    size_t end = bm_j_rstrip(s->data, s->len);
    uint32_t cp;

    while (end > 0) {
        size_t at = end, before;
        if (max == 0) {
            if (!add_slice(r, list, s, 0, end))
                return false;
            break;
        }
        while (at > 0) {
            before = prev_char(s, at, &cp);
            if (bm_j_is_space(cp))
                break;
            at = before;
        }
        if (!add_slice(r, list, s, at, end))
            return false;
        max -= max > 0;
        end = bm_j_rstrip(s->data, at);
    }
    reverse_list(list);
    return true;
}

static size_t rfind(const bm_jstr *s, size_t begin, size_t end, const bm_jstr *what)
{
    if (end < begin || what->len > end - begin)
        return SIZE_MAX;
    for (size_t at = end - what->len;; at--) {
        if (memcmp(s->data + at, what->data, what->len) == 0)
            return at;
        if (at == begin)
            return SIZE_MAX;
    }
}

static bool split_sep(bm_jrun *r, bm_jstr *s, bm_jstr *sep, int64_t max, bm_jlist *list)
{
    size_t at = 0, hit;

    while (max != 0 && (hit = bm_jstr_find(s, at, sep)) != SIZE_MAX) {
        if (!add_slice(r, list, s, at, hit))
            return false;
        at = hit + sep->len;
        max -= max > 0;
    }
    return add_slice(r, list, s, at, s->len);
}

static bool rsplit_sep(bm_jrun *r, bm_jstr *s, bm_jstr *sep, int64_t max, bm_jlist *list)
{
    size_t end = s->len, hit;

    while (max != 0 && (hit = rfind(s, 0, end, sep)) != SIZE_MAX) {
        if (!add_slice(r, list, s, hit + sep->len, end))
            return false;
        end = hit;
        max -= max > 0;
    }
    if (!add_slice(r, list, s, 0, end))
        return false;
    reverse_list(list);
    return true;
}

static bool split(bm_jrun *r, const bm_jcall *c, bool from_right, bm_jval *out)
{
    bm_jlist *list = bm_jlist_new(r, 0);
    bm_jstr *sep = NULL;
    int64_t max = -1;
    bool ok;

    if (list == NULL || !bm_jrun_step(r, c->self.s->len / 16 + 1))
        return false;
    if (bm_jarg_given(c->a[0]) && !bm_jarg_str(r, c->a[0], "sep", &sep))
        return false;
    if (c->a[1].type != BM_J_MISSING && !bm_jarg_int(r, c->a[1], "maxsplit", &max))
        return false;
    if (sep != NULL && sep->len == 0)
        return bm_jrun_fail(r, "empty separator");
    if (sep == NULL)
        ok = from_right ? rsplit_space(r, c->self.s, max, list) : split_space(r, c->self.s, max, list);
    else
        ok = from_right ? rsplit_sep(r, c->self.s, sep, max, list) : split_sep(r, c->self.s, sep, max, list);
    return ok && bm_jval_list(r, BM_J_LIST, list, out);
}

static bool m_split(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return split(r, c, false, out); }
static bool m_rsplit(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return split(r, c, true, out); }

bm_jlist *bm_jstr_words(bm_jrun *r, bm_jstr *s)
{
    bm_jlist *list = bm_jlist_new(r, 0);

    return list != NULL && bm_jrun_step(r, s->len / 16 + 1) && split_space(r, s, -1, list) ? list : NULL;
}

static bool is_line_end(uint32_t cp)
{
    return (cp >= 10 && cp <= 13) || (cp >= 28 && cp <= 30) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

bm_jlist *bm_jstr_lines(bm_jrun *r, bm_jstr *s, bool keep_ends)
{
    bm_jlist *list = bm_jlist_new(r, 0);
    uint32_t cp;
    size_t begin = 0;

    if (list == NULL || !bm_jrun_step(r, s->len / 16 + 1))
        return NULL;
    for (size_t i = 0; i < s->len;) {
        size_t end = i;
        i += (size_t)bm_j_decode(s->data + i, s->len - i, &cp);
        if (!is_line_end(cp))
            continue;
        if (cp == '\r' && i < s->len && s->data[i] == '\n')
            i++;
        if (!add_slice(r, list, s, begin, keep_ends ? i : end))
            return NULL;
        begin = i;
    }
    if (begin < s->len && !add_slice(r, list, s, begin, s->len))
        return NULL;
    return list;
}

static bool m_splitlines(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    return bm_jval_list(r, BM_J_LIST, bm_jstr_lines(r, c->self.s, bm_jval_true(c->a[0])), out);
}

/* start and end arguments as bytes of s; false in *valid when start lies beyond end or the string. */
static bool window(bm_jrun *r, bm_jstr *s, bm_jval start, bm_jval end, size_t *from, size_t *to, bool *valid)
{
    int64_t n = (int64_t)bm_jstr_chars(s), a = 0, b = n;

    if (bm_jarg_given(start) && !bm_jarg_int(r, start, "start", &a))
        return false;
    if (bm_jarg_given(end) && !bm_jarg_int(r, end, "end", &b))
        return false;
    a = a < 0 ? (a + n < 0 ? 0 : a + n) : a;
    b = b < 0 ? (b + n < 0 ? 0 : b + n) : b > n ? n : b;
    *valid = a <= b;
    if (!*valid)
        return true;
    *from = bm_jstr_offset(s, (size_t)a);
    *to = bm_jstr_offset(s, (size_t)b);
    return bm_jrun_step(r, s->len / 32 + 1);
}

static bool affix(bm_jrun *r, const bm_jcall *c, bool at_end, bm_jval *out)
{
    bm_jlist one = {.n = 1, .items = (bm_jval[]){c->a[0]}};
    const bm_jlist *list = c->a[0].type == BM_J_TUPLE ? c->a[0].list : &one;
    bm_jstr *s = c->self.s, *part;
    size_t from = 0, to = 0;
    bool valid;

    if (!window(r, s, c->a[1], c->a[2], &from, &to, &valid))
        return false;
    *out = bm_jbool(false);
    for (size_t i = 0; i < list->n && !out->b; i++) {
        if (!bm_jarg_str(r, list->items[i], at_end ? "endswith first arg" : "startswith first arg", &part))
            return false;
        out->b = valid && part->len <= to - from && memcmp(s->data + (at_end ? to - part->len : from), part->data, part->len) == 0;
    }
    return true;
}

static bool m_startswith(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return affix(r, c, false, out); }
static bool m_endswith(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return affix(r, c, true, out); }

static bool search(bm_jrun *r, const bm_jcall *c, bool from_right, bool must, bm_jval *out)
{
    size_t from = 0, to = 0, hit = SIZE_MAX;
    bm_jstr *s = c->self.s, *what;
    bool valid;

    if (!bm_jarg_str(r, c->a[0], "sub", &what) || !window(r, s, c->a[1], c->a[2], &from, &to, &valid))
        return false;
    if (valid && from_right) {
        if (!bm_jrun_step(r, (to - from) / 8 + 1))
            return false;
        hit = rfind(s, from, to, what);
    } else if (valid) {
        hit = bm_jstr_find(s, from, what);
        hit = hit != SIZE_MAX && hit + what->len > to ? SIZE_MAX : hit;
    }
    if (hit == SIZE_MAX && must)
        return bm_jrun_fail(r, "substring not found");
    bm_jstr head = {.data = s->data, .len = hit == SIZE_MAX ? 0 : hit, .n_chars = s->n_chars == s->len ? hit : SIZE_MAX};
    *out = bm_jint(hit == SIZE_MAX ? -1 : (int64_t)bm_jstr_chars(&head));
    return true;
}

static bool m_find(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return search(r, c, false, false, out); }
static bool m_rfind(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return search(r, c, true, false, out); }
static bool m_index(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return search(r, c, false, true, out); }
static bool m_rindex(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return search(r, c, true, true, out); }

static bool m_count(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *s = c->self.s, *what;
    size_t from = 0, to = 0, hit;
    int64_t n = 0;
    bool valid;

    if (!bm_jarg_str(r, c->a[0], "sub", &what) || !window(r, s, c->a[1], c->a[2], &from, &to, &valid))
        return false;
    if (valid && what->len == 0) {
        bm_jstr part = {.data = s->data + from, .len = to - from, .n_chars = SIZE_MAX};
        n = (int64_t)bm_jstr_chars(&part) + 1;
    }
    while (valid && what->len > 0 && (hit = bm_jstr_find(s, from, what)) != SIZE_MAX && hit + what->len <= to)
        n++, from = hit + what->len;
    *out = bm_jint(n);
    return true;
}

bm_jstr *bm_jstr_replace(bm_jrun *r, bm_jstr *s, bm_jstr *old, bm_jstr *new_text, int64_t count)
{
    size_t at = 0, hit;
    uint32_t cp;
    bm_jsb b;

    bm_jsb_init(&b, r);
    if (!bm_jstr_flat(r, new_text) || !bm_jrun_step(r, s->len / 32 + 1))
        return NULL;
    if (old->len > 0 && bm_jstr_find(s, 0, old) == SIZE_MAX)
        return s;
    while (count != 0 && r->rc == 0) {
        hit = bm_jstr_find(s, at, old);
        if (hit == SIZE_MAX)
            break;
        bm_jsb_slice(&b, s, at, hit);
        bm_jsb_slice(&b, new_text, 0, new_text->len);
        at = hit + old->len;
        count -= count > 0;
        if (old->len > 0)
            continue;
        if (at >= s->len)
            break;
        hit = at + (size_t)bm_j_decode(s->data + at, s->len - at, &cp);
        bm_jsb_slice(&b, s, at, hit);
        at = hit;
        if (!bm_jrun_step(r, 1))
            return NULL;
    }
    bm_jsb_slice(&b, s, at, s->len);
    bm_jstr *done = bm_jsb_finish(&b);
    if (done != NULL)
        done->markup = s->markup;
    return done;
}

static bool m_replace(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *old, *new_text;
    int64_t count = -1;

    if (!bm_jarg_str(r, c->a[0], "replace() argument 1", &old) || !bm_jarg_str(r, c->a[1], "replace() argument 2", &new_text))
        return false;
    if (c->a[2].type != BM_J_MISSING && !bm_jarg_int(r, c->a[2], "replace() argument 3", &count))
        return false;
    return bm_jval_str(out, bm_jstr_replace(r, c->self.s, old, new_text, count));
}

bm_jstr *bm_jstr_join(bm_jrun *r, bm_jstr *sep, bm_jval parts, bool convert)
{
    bm_jiter it;
    bm_jsb b;
    bm_jval v;

    bm_jsb_init(&b, r);
    if (!bm_jstr_flat(r, sep) || !bm_jiter_open(r, parts, &it))
        return NULL;
    for (size_t i = 0;; i++) {
        if (!bm_jiter_next(r, &it, &v))
            return NULL;
        if (v.type == BM_J_MISSING)
            return bm_jsb_finish(&b);
        if (i > 0)
            bm_jsb_slice(&b, sep, 0, sep->len);
        if (v.type != BM_J_STR && !convert) {
            bm_jrun_fail(r, "sequence item %zu: expected str instance, %s found", i, bm_jval_type(v));
            return NULL;
        }
        if (!bm_jval_write(&b, v))
            return NULL;
    }
}

static bool m_join(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    return bm_jval_str(out, bm_jstr_join(r, c->self.s, c->a[0], false));
}

static bool changed_case(bm_jrun *r, const bm_jcall *c, char how, bm_jval *out) { return bm_jval_str(out, bm_jstr_case(r, c->self.s, how)); }
static bool m_upper(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return changed_case(r, c, 'u', out); }
static bool m_lower(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return changed_case(r, c, 'l', out); }
static bool m_title(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return changed_case(r, c, 't', out); }
static bool m_capitalize(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return changed_case(r, c, 'c', out); }
static bool m_swapcase(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return changed_case(r, c, 's', out); }
static bool m_casefold(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return changed_case(r, c, 'f', out); }

static bool m_format(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return bm_jformat_braces(r, c->self.s, c->args, out); }

static bool m_format_map(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    if (c->a[0].type != BM_J_DICT)
        return bm_jrun_fail(r, "format_map() takes a mapping, not %s", bm_jval_type(c->a[0]));
    return bm_jformat_braces(r, c->self.s, &(bm_jargs){.kw = c->a[0].dict}, out);
}

#define CLASS(name) \
    static bool m_##name(bm_jrun *r, const bm_jcall *c, bm_jval *out) \
    { \
        *out = bm_jbool(bm_jstr_class(c->self.s, #name)); \
        return bm_jrun_step(r, c->self.s->len / 16); \
    }
CLASS(isalpha) CLASS(isdigit) CLASS(isalnum) CLASS(isspace) CLASS(isdecimal) CLASS(isnumeric) CLASS(isascii)
CLASS(isprintable) CLASS(isupper) CLASS(islower) CLASS(istitle) CLASS(isidentifier)
#undef CLASS

bm_jstr *bm_jstr_pad(bm_jrun *r, bm_jstr *s, int64_t width, const char *fill, size_t n_fill, char align)
{
    size_t chars = bm_jstr_chars(s), pad = width > (int64_t)chars ? (size_t)width - chars : 0;
    /* Python's center puts the odd one to the left when the width is odd */
    size_t left = align == '>' ? pad : align == '^' ? pad / 2 + (pad & (size_t)width & 1) : 0;
    bm_jsb b;

    if (pad == 0)
        return s;
    bm_jsb_init(&b, r);
    bm_jsb_fill(&b, fill, n_fill, left, BM_SPAN_TEMPLATE);
    bm_jsb_slice(&b, s, 0, s->len);
    bm_jsb_fill(&b, fill, n_fill, pad - left, BM_SPAN_TEMPLATE);
    bm_jstr *done = bm_jsb_finish(&b);
    if (done != NULL)
        done->markup = s->markup;
    return done;
}

static bool pad(bm_jrun *r, const bm_jcall *c, char align, bm_jval *out)
{
    bm_jstr *fill = NULL;
    int64_t width;

    if (!bm_jarg_int(r, c->a[0], "width", &width))
        return false;
    if (c->a[1].type != BM_J_MISSING && !bm_jarg_str(r, c->a[1], "the fill character", &fill))
        return false;
    if (fill != NULL && bm_jstr_chars(fill) != 1)
        return bm_jrun_fail(r, "The fill character must be exactly one character long");
    return bm_jval_str(out, bm_jstr_pad(r, c->self.s, width, fill == NULL ? " " : fill->data, fill == NULL ? 1 : fill->len, align));
}

static bool m_ljust(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return pad(r, c, '<', out); }
static bool m_rjust(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return pad(r, c, '>', out); }
static bool m_center(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return pad(r, c, '^', out); }

static bool m_zfill(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *s = c->self.s;
    int64_t width;
    bm_jsb b;

    if (!bm_jarg_int(r, c->a[0], "width", &width))
        return false;
    size_t chars = bm_jstr_chars(s), sign = s->len > 0 && (s->data[0] == '+' || s->data[0] == '-');
    bm_jsb_init(&b, r);
    bm_jsb_slice(&b, s, 0, sign);
    if (width > (int64_t)chars)
        bm_jsb_fill(&b, "0", 1, (size_t)width - chars, BM_SPAN_TEMPLATE);
    bm_jsb_slice(&b, s, sign, s->len);
    return bm_jval_str(out, bm_jsb_finish(&b));
}

static bool m_removeprefix(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *s = c->self.s, *part;

    if (!bm_jarg_str(r, c->a[0], "removeprefix() argument", &part))
        return false;
    bool has = part->len <= s->len && memcmp(s->data, part->data, part->len) == 0;
    return bm_jval_str(out, bm_jstr_slice(r, s, has ? part->len : 0, s->len));
}

static bool m_removesuffix(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *s = c->self.s, *part;

    if (!bm_jarg_str(r, c->a[0], "removesuffix() argument", &part))
        return false;
    bool has = part->len <= s->len && memcmp(s->data + s->len - part->len, part->data, part->len) == 0;
    return bm_jval_str(out, bm_jstr_slice(r, s, 0, has ? s->len - part->len : s->len));
}

static bool partition(bm_jrun *r, const bm_jcall *c, bool from_right, bm_jval *out)
{
    bm_jlist *list = bm_jlist_new(r, 3);
    bm_jstr *s = c->self.s, *sep;

    if (list == NULL || !bm_jarg_str(r, c->a[0], "partition() argument", &sep) || !bm_jrun_step(r, s->len / 16 + 1))
        return false;
    if (sep->len == 0)
        return bm_jrun_fail(r, "empty separator");
    size_t hit = from_right ? rfind(s, 0, s->len, sep) : bm_jstr_find(s, 0, sep);
    size_t a = hit != SIZE_MAX ? hit : from_right ? 0 : s->len, b = hit != SIZE_MAX ? hit + sep->len : a;
    return add_slice(r, list, s, 0, a) && add_slice(r, list, s, a, b) && add_slice(r, list, s, b, s->len) &&
           bm_jval_list(r, BM_J_TUPLE, list, out);
}

static bool m_partition(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return partition(r, c, false, out); }
static bool m_rpartition(bm_jrun *r, const bm_jcall *c, bm_jval *out) { return partition(r, c, true, out); }

static bool m_expandtabs(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    bm_jstr *s = c->self.s;
    int64_t size = 8, column = 0;
    size_t plain = 0;
    bm_jsb b;

    if (c->a[0].type != BM_J_MISSING && !bm_jarg_int(r, c->a[0], "tabsize", &size))
        return false;
    bm_jsb_init(&b, r);
    for (size_t i = 0; i < s->len; i++) {
        if (s->data[i] == '\t') {
            size_t gap = size > 0 ? (size_t)(size - column % size) : 0;
            bm_jsb_slice(&b, s, plain, i);
            bm_jsb_fill(&b, " ", 1, gap, bm_jstr_source(s));
            column += (int64_t)gap;
            plain = i + 1;
        } else {
            column = s->data[i] == '\n' || s->data[i] == '\r' ? 0 : column + ((s->data[i] & 0xC0) != 0x80);
        }
    }
    bm_jsb_slice(&b, s, plain, s->len);
    return bm_jrun_step(r, s->len / 16) && bm_jval_str(out, bm_jsb_finish(&b));
}

static bool refused(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    (void)c, (void)out;
    return bm_jrun_fail(r, "this method of str has no use in a chat template and is not carried out");
}

const bm_jdef bm_jmethods_str[] = {
    {"strip", "/chars=", m_strip}, {"lstrip", "/chars=", m_lstrip}, {"rstrip", "/chars=", m_rstrip},
    {"split", "sep=,maxsplit=", m_split}, {"rsplit", "sep=,maxsplit=", m_rsplit}, {"splitlines", "keepends=", m_splitlines},
    {"startswith", "/prefix,start=,end=", m_startswith}, {"endswith", "/suffix,start=,end=", m_endswith},
    {"replace", "/old,new,count=", m_replace}, {"join", "/iterable", m_join}, {"upper", "", m_upper}, {"lower", "", m_lower},
    {"title", "", m_title}, {"capitalize", "", m_capitalize}, {"swapcase", "", m_swapcase}, {"casefold", "", m_casefold},
    {"find", "/sub,start=,end=", m_find}, {"rfind", "/sub,start=,end=", m_rfind}, {"index", "/sub,start=,end=", m_index},
    {"rindex", "/sub,start=,end=", m_rindex}, {"count", "/sub,start=,end=", m_count}, {"format", NULL, m_format},
    {"format_map", "/mapping", m_format_map}, {"isalpha", "", m_isalpha}, {"isdigit", "", m_isdigit}, {"isalnum", "", m_isalnum},
    {"isspace", "", m_isspace}, {"isdecimal", "", m_isdecimal}, {"isnumeric", "", m_isnumeric}, {"isascii", "", m_isascii},
    {"isprintable", "", m_isprintable}, {"isupper", "", m_isupper}, {"islower", "", m_islower}, {"istitle", "", m_istitle},
    {"isidentifier", "", m_isidentifier}, {"zfill", "/width", m_zfill}, {"ljust", "/width,fillchar=", m_ljust},
    {"rjust", "/width,fillchar=", m_rjust}, {"center", "/width,fillchar=", m_center},
    {"removeprefix", "/prefix", m_removeprefix}, {"removesuffix", "/suffix", m_removesuffix},
    {"partition", "/sep", m_partition}, {"rpartition", "/sep", m_rpartition}, {"expandtabs", "tabsize=", m_expandtabs},
    {"encode", NULL, refused}, {"translate", NULL, refused}, {"maketrans", NULL, refused}, {NULL, NULL, NULL},
};
