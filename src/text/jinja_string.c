/* jinja_string.c - strings that know where their bytes came from: flat pieces, ropes, slices, builders. */
#define _GNU_SOURCE      /* memmem */
#include <string.h>

#include "base/utf8.h"
#include "text/jinja.h"

int bm_j_decode(const char *s, size_t len, uint32_t *cp)
{
    int n = bm_utf8_decode(s, len, cp);

    if (n > 0)
        return n;
    *cp = 0xFFFD;
    return -n;
}

bool bm_j_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t bm_j_lstrip(const char *s, size_t len)
{
    size_t i = 0;
    uint32_t cp;

    while (i < len) {
        int n = bm_j_decode(s + i, len - i, &cp);
        if (!bm_j_is_space(cp))
            break;
        i += (size_t)n;
    }
    return i;
}

size_t bm_j_rstrip(const char *s, size_t len)
{
    uint32_t cp;

    while (len > 0) {
        size_t at = len - 1;
        while (at > 0 && len - at < 4 && (s[at] & 0xC0) == 0x80)
            at--;
        if (bm_j_decode(s + at, len - at, &cp) != (int)(len - at) || !bm_j_is_space(cp))
            break;
        len = at;
    }
    return len;
}

static bm_jstr *new_str(bm_jrun *r, const char *data, size_t len, int src)
{
    bm_jstr *s = bm_jrun_alloc(r, 1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->data = data;
    s->len = len;
    s->src = src;
    s->n_chars = len == 0 ? 0 : SIZE_MAX;
    return s;
}

bm_jstr *bm_jstr_borrow(bm_jrun *r, const char *data, size_t len, int src) { return new_str(r, data, len, src); }
bm_jstr *bm_jstr_text(bm_jrun *r, const char *text) { return new_str(r, text, strlen(text), BM_SPAN_TEMPLATE); }

bm_jstr *bm_jstr_copy(bm_jrun *r, const char *data, size_t len, int src)
{
    char *copy = bm_jrun_alloc(r, len + 1, 1);

    if (copy == NULL)
        return NULL;
    memcpy(copy, data, len);
    return new_str(r, copy, len, src);
}

bm_jstr *bm_jstr_cat(bm_jrun *r, bm_jstr *a, bm_jstr *b)
{
    bm_jstr *s;
    size_t len;

    if (a->len == 0 && !a->markup)
        return b;
    if (b->len == 0)
        return a;
    if (!bm_add_size(a->len, b->len, &len)) {
        bm_jrun_fail_code(r, BM_LIMIT, "a string grows too long");
        return NULL;
    }
    if ((s = new_str(r, NULL, len, BM_SPAN_TEMPLATE)) == NULL)
        return NULL;
    s->left = a;
    s->right = b;
    return s;
}

/* The leaves of a rope from left to right. A loop that appends makes ropes deep on the left, one that prepends on the right:
 * a stack in the arena holds what is still to come. */
typedef struct leaves { bm_jrun *run; const bm_jstr **stack; size_t n, cap; } leaves;

static bool push_leaf(leaves *l, const bm_jstr *s)
{
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 16 : l->cap * 2;
        const bm_jstr **grown = bm_jrun_alloc(l->run, cap, sizeof *grown);
        if (grown == NULL)
            return false;
        if (l->n > 0)
            memcpy(grown, l->stack, l->n * sizeof *grown);
        l->stack = grown, l->cap = cap;
    }
    l->stack[l->n++] = s;
    return true;
}

/* The next leaf, NULL at the end or on failure (then the run has failed). */
static const bm_jstr *next_leaf(leaves *l)
{
    if (l->n == 0)
        return NULL;
    const bm_jstr *s = l->stack[--l->n];
    while (s->data == NULL) {
        if (!push_leaf(l, s->right))
            return NULL;
        s = s->left;
    }
    return s;
}

static void add_rope(bm_jsb *b, const bm_jstr *s)
{
    leaves l = {.run = b->run};

    if (!push_leaf(&l, s))
        return;
    while ((s = next_leaf(&l)) != NULL) {
        size_t begin = 0;
        if (s->n_pieces == 0)
            bm_jsb_add(b, s->data, s->len, s->src);
        for (size_t i = 0; i < s->n_pieces; i++) {
            bm_jsb_add(b, s->data + begin, s->pieces[i].end - begin, s->pieces[i].src);
            begin = s->pieces[i].end;
        }
    }
}

bool bm_jstr_flat(bm_jrun *r, bm_jstr *s)
{
    bm_jsb b;

    if (s->data != NULL)
        return r->rc == 0;
    bm_jsb_init(&b, r);
    if (!bm_jrun_step(r, s->len / 64 + 1))
        return false;
    if ((b.data = bm_jrun_alloc(r, s->len + 1, 1)) == NULL)
        return false;
    b.cap = s->len;
    add_rope(&b, s);
    if (r->rc != 0)
        return false;
    bm_jstr *flat = bm_jsb_finish(&b);
    if (flat == NULL)
        return false;
    flat->markup = s->markup;
    *s = *flat;
    return true;
}

size_t bm_jstr_chars(bm_jstr *s)
{
    uint32_t cp;

    if (s->n_chars != SIZE_MAX)
        return s->n_chars;
    size_t n = 0;
    for (size_t i = 0; i < s->len; n++)
        i += (unsigned char)s->data[i] < 0x80 ? 1 : (size_t)bm_j_decode(s->data + i, s->len - i, &cp);
    s->n_chars = n;
    return n;
}

size_t bm_jstr_offset(bm_jstr *s, size_t n)
{
    uint32_t cp;
    size_t i = 0;

    if (n >= bm_jstr_chars(s))
        return s->len;
    if (s->n_chars == s->len)
        return n;
    while (n-- > 0)
        i += (unsigned char)s->data[i] < 0x80 ? 1 : (size_t)bm_j_decode(s->data + i, s->len - i, &cp);
    return i;
}

static size_t first_piece(const bm_jstr *s, size_t begin)
{
    size_t lo = 0, hi = s->n_pieces;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (s->pieces[mid].end > begin)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

bm_jstr *bm_jstr_slice(bm_jrun *r, bm_jstr *s, size_t begin, size_t end)
{
    if (begin >= end)
        begin = end = 0;
    if (begin == 0 && end == s->len)
        return s;
    bm_jstr *part = new_str(r, s->data + begin, end - begin, s->src);
    if (part == NULL)
        return NULL;
    part->markup = s->markup;
    if (s->n_chars == s->len)
        part->n_chars = part->len;
    if (s->n_pieces == 0 || begin == end)
        return part;
    size_t first = first_piece(s, begin), last = first_piece(s, end - 1);
    part->src = s->pieces[first].src;
    if (first == last)
        return part;
    bm_jpiece *pieces = bm_jrun_alloc(r, last - first + 1, sizeof *pieces);
    if (pieces == NULL)
        return NULL;
    for (size_t i = first; i <= last; i++) {
        pieces[i - first].src = s->pieces[i].src;
        pieces[i - first].end = (s->pieces[i].end < end ? s->pieces[i].end : end) - begin;
    }
    part->pieces = pieces;
    part->n_pieces = last - first + 1;
    return part;
}

bm_jstr *bm_jstr_plain(bm_jrun *r, bm_jstr *s)
{
    bm_jstr *plain;

    if (s == NULL || !s->markup)
        return s;
    if ((plain = bm_jrun_alloc(r, 1, sizeof *plain)) == NULL)
        return NULL;
    *plain = *s;
    plain->markup = false;
    return plain;
}

int bm_jstr_source(const bm_jstr *s)
{
    for (size_t i = 0; i < s->n_pieces; i++)
        if (s->pieces[i].src != BM_SPAN_TEMPLATE)
            return s->pieces[i].src;
    return s->n_pieces == 0 ? s->src : BM_SPAN_TEMPLATE;
}

bool bm_jstr_is(const bm_jstr *s, const char *text)
{
    size_t len = strlen(text);

    return s->len == len && memcmp(s->data, text, len) == 0;
}

size_t bm_jstr_find(const bm_jstr *s, size_t from, const bm_jstr *what)
{
    if (from > s->len || what->len > s->len - from)
        return SIZE_MAX;
    if (what->len == 0)
        return from;
    const char *p = memmem(s->data + from, s->len - from, what->data, what->len);
    return p == NULL ? SIZE_MAX : (size_t)(p - s->data);
}

void bm_jsb_init(bm_jsb *b, bm_jrun *r) { *b = (bm_jsb){.run = r}; }

static bool room_for(bm_jsb *b, size_t more)
{
    size_t need, cap;

    if (b->run->rc != 0)
        return false;
    if (!bm_add_size(b->len, more, &need) || (b->limit != 0 && need > b->limit))
        return bm_jrun_fail_code(b->run, BM_LIMIT, "the template makes more than %zu bytes", b->limit);
    if (need <= b->cap)
        return true;
    cap = b->cap < 64 ? 128 : b->cap * 2;
    if (cap < need)
        cap = need;
    char *grown = bm_jrun_alloc(b->run, cap + 1, 1);
    if (grown == NULL)
        return false;
    if (b->len > 0)
        memcpy(grown, b->data, b->len);
    b->data = grown, b->cap = cap;
    return true;
}

static bool extend_pieces(bm_jsb *b, size_t len, int src)
{
    if (b->n_pieces > 0 && b->pieces[b->n_pieces - 1].src == src) {
        b->pieces[b->n_pieces - 1].end += len;
        return true;
    }
    if (b->n_pieces == b->cap_pieces) {
        size_t cap = b->cap_pieces == 0 ? 4 : b->cap_pieces * 2;
        bm_jpiece *grown = bm_jrun_alloc(b->run, cap, sizeof *grown);
        if (grown == NULL)
            return false;
        if (b->n_pieces > 0)
            memcpy(grown, b->pieces, b->n_pieces * sizeof *grown);
        b->pieces = grown, b->cap_pieces = cap;
    }
    b->pieces[b->n_pieces++] = (bm_jpiece){.end = b->len + len, .src = src};
    return true;
}

void bm_jsb_add(bm_jsb *b, const void *bytes, size_t len, int src)
{
    if (len == 0 || !room_for(b, len) || !extend_pieces(b, len, src))
        return;
    memcpy(b->data + b->len, bytes, len);
    b->len += len;
}

void bm_jsb_puts(bm_jsb *b, const char *text) { bm_jsb_add(b, text, strlen(text), BM_SPAN_TEMPLATE); }

void bm_jsb_fill(bm_jsb *b, const char *unit, size_t len, size_t times, int src)
{
    size_t all;

    if (!bm_mul_size(len, times, &all))
        all = SIZE_MAX / 2;
    if (all == 0 || !bm_jrun_step(b->run, all / 64 + 1) || !room_for(b, all) || !extend_pieces(b, all, src))
        return;
    for (size_t i = 0; i < all; i += len)
        memcpy(b->data + b->len + i, unit, len);
    b->len += all;
}

void bm_jsb_str(bm_jsb *b, bm_jstr *s)
{
    if (bm_jrun_step(b->run, s->len / 64 + 1))
        add_rope(b, s);
}

void bm_jsb_slice(bm_jsb *b, bm_jstr *s, size_t begin, size_t end)
{
    if (begin >= end)
        return;
    if (s->n_pieces == 0) {
        bm_jsb_add(b, s->data + begin, end - begin, s->src);
        return;
    }
    for (size_t i = first_piece(s, begin); begin < end; i++) {
        size_t stop = s->pieces[i].end < end ? s->pieces[i].end : end;
        bm_jsb_add(b, s->data + begin, stop - begin, s->pieces[i].src);
        begin = stop;
    }
}

bm_jstr *bm_jsb_finish(bm_jsb *b)
{
    if (b->run->rc != 0)
        return NULL;
    bm_jstr *s = new_str(b->run, b->data == NULL ? "" : b->data, b->len, BM_SPAN_TEMPLATE);
    if (s == NULL || b->n_pieces == 0)
        return s;
    s->src = b->pieces[0].src;
    if (b->n_pieces > 1)
        s->pieces = b->pieces, s->n_pieces = b->n_pieces;
    return s;
}

bm_jstr *bm_jsb_cut(bm_jsb *b, size_t begin)
{
    bm_jsb part;

    bm_jsb_init(&part, b->run);
    bm_jstr whole = {.data = b->data, .len = b->len, .pieces = b->pieces, .n_pieces = b->n_pieces};
    if (begin < b->len)
        bm_jsb_slice(&part, &whole, begin, b->len);
    b->len = begin;
    while (b->n_pieces > 0 && (b->n_pieces > 1 ? b->pieces[b->n_pieces - 2].end : 0) >= begin)
        b->n_pieces--;
    if (b->n_pieces > 0)
        b->pieces[b->n_pieces - 1].end = begin;
    return bm_jsb_finish(&part);
}

bool bm_jstr_escape(bm_jrun *r, bm_jstr *s, bm_jstr **out)
{
    bm_jsb b;
    size_t from = 0;

    bm_jsb_init(&b, r);
    if (!bm_jstr_flat(r, s) || !bm_jrun_step(r, s->len / 16 + 1))
        return false;
    for (size_t i = 0; i < s->len; i++) {
        const char *entity = s->data[i] == '&' ? "&amp;" : s->data[i] == '<' ? "&lt;" : s->data[i] == '>' ? "&gt;"
                           : s->data[i] == '"' ? "&#34;" : s->data[i] == '\'' ? "&#39;" : NULL;
        if (entity == NULL)
            continue;
        bm_jsb_slice(&b, s, from, i);
        bm_jsb_add(&b, entity, strlen(entity), bm_jstr_source(s));
        from = i + 1;
    }
    bm_jsb_slice(&b, s, from, s->len);
    if ((*out = bm_jsb_finish(&b)) == NULL)
        return false;
    (*out)->markup = true;
    return true;
}
