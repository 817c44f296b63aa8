/* jinja_wrap.c - the filter wordwrap: Python's textwrap.wrap on each line, with tabs and blanks as they are. */
#include <string.h>

#include "text/jinja.h"

typedef struct wrapper { bm_jrun *run; bm_jstr *s, *sep; int64_t width; bool break_long, break_hyphens; bm_jsb out; bool any; } wrapper;

static bool is_blank(char ch) { return ch != '\0' && strchr("\t\n\v\f\r ", ch) != NULL; }

static bool is_letter(const bm_jstr *s, size_t at, size_t end)
{
    uint32_t cp;

    if (at >= end)
        return false;
    bm_j_decode(s->data + at, end - at, &cp);
    return bm_j_is_word(cp) && !(cp >= '0' && cp <= '9');
}

static size_t before(const bm_jstr *s, size_t begin, size_t at)
{
    if (at <= begin)
        return SIZE_MAX;
    for (at--; at > begin && (s->data[at] & 0xC0) == 0x80; at--)
        ;
    return at;
}

/* A word may break after the "-" at `at` between letters: "two-part", but not "-x", "a-1" or "x--y". */
static bool breaks_after(const bm_jstr *s, size_t begin, size_t at, size_t end)
{
    size_t one = before(s, begin, at), two = one == SIZE_MAX ? SIZE_MAX : before(s, begin, one);
    size_t next = at + 1 + (at + 1 < end && is_letter(s, at + 1, end) ? 1 : 0);

    if (one == SIZE_MAX || two == SIZE_MAX || !is_letter(s, one, end))
        return false;
    if (!is_letter(s, two, end) && s->data[two] != '-')
        return false;
    while (next < end && (s->data[next] & 0xC0) == 0x80)
        next++;
    return is_letter(s, at + 1, end) && (is_letter(s, next, end) || (next < end && s->data[next] == '-' && is_letter(s, next + 1, end)));
}

/* Where the piece that starts at `at` ends: a run of blanks, or a word up to a place where it may break. */
static size_t piece_end(const wrapper *w, size_t at, size_t end)
{
    size_t i = at;

    if (is_blank(w->s->data[at])) {
        while (i < end && is_blank(w->s->data[i]))
            i++;
        return i;
    }
    for (; i < end && !is_blank(w->s->data[i]); i++)
        if (w->break_hyphens && w->s->data[i] == '-' && breaks_after(w->s, at, i, end))
            return i + 1;
    return i;
}

static int64_t columns(wrapper *w, size_t begin, size_t end)
{
    bm_jstr part = {.data = w->s->data + begin, .len = end - begin, .n_chars = w->s->n_chars == w->s->len ? end - begin : SIZE_MAX};

    return (int64_t)bm_jstr_chars(&part);
}

static size_t forward(wrapper *w, size_t at, int64_t chars)
{
    while (chars-- > 0)
        for (at++; (w->s->data[at] & 0xC0) == 0x80 && at < w->s->len; at++)
            ;
    return at;
}

static void put_line(wrapper *w, size_t begin, size_t end)
{
    if (begin == end)
        return;
    if (w->any)
        bm_jsb_slice(&w->out, w->sep, 0, w->sep->len);
    bm_jsb_slice(&w->out, w->s, begin, end);
    w->any = true;
}

/* One line of the text. Pieces are laid side by side while they fit; a blank at a later line's start, and a line's last piece
 * when it is blank, are dropped. (A part of a word too long for a line counts as its last piece even when it is empty.) */
static bool wrap_line(wrapper *w, size_t begin, size_t end)
{
    bool first = true;

    while (begin < end) {
        size_t line = begin, next, last = begin, stop;
        int64_t used = 0;
        if (!bm_jrun_step(w->run, (end - begin) / 64 + 1))
            return false;
        if (!first && is_blank(w->s->data[line])) {
            line = last = piece_end(w, line, end);
            if (line >= end)
                break;
        }
        for (begin = line; begin < end; begin = next) {
            next = piece_end(w, begin, end);
            int64_t size = columns(w, begin, next);
            if (used + size > w->width)
                break;
            used += size;
            last = begin;
        }
        stop = begin;
        if (begin < end && columns(w, begin, piece_end(w, begin, end)) > w->width) {
            if (w->break_long)
                last = stop = begin = forward(w, begin, w->width - used);
            else if (begin == line)
                last = stop = begin = piece_end(w, begin, end);
        }
        put_line(w, line, last < stop && is_blank(w->s->data[last]) ? last : stop);
        first = false;
    }
    return w->run->rc == 0;
}

static bool f_wordwrap(bm_jrun *r, const bm_jcall *c, bm_jval *out)
{
    wrapper w = {.run = r, .width = 79, .break_long = c->a[1].type == BM_J_MISSING || bm_jval_true(c->a[1]),
                 .break_hyphens = c->a[3].type == BM_J_MISSING || bm_jval_true(c->a[3])};
    bm_jlist *lines;
    bm_jstr *text;

    bm_jsb_init(&w.out, r);
    if (!bm_jarg_str(r, c->self, "wordwrap() value", &text) || (c->a[0].type != BM_J_MISSING && !bm_jarg_int(r, c->a[0], "width", &w.width)))
        return false;
    if (w.width <= 0)
        return bm_jrun_fail(r, "invalid width %lld (must be > 0)", (long long)w.width);
    w.sep = bm_jstr_text(r, "\n");
    if (w.sep == NULL || (bm_jarg_given(c->a[2]) && !bm_jarg_str(r, c->a[2], "wrapstring", &w.sep)))
        return false;
    if ((lines = bm_jstr_lines(r, text, false)) == NULL)
        return false;
    for (size_t i = 0; i < lines->n; i++) {
        if (i > 0)
            bm_jsb_slice(&w.out, w.sep, 0, w.sep->len);
        w.s = lines->items[i].s;
        w.any = false;
        if (!wrap_line(&w, 0, w.s->len))
            return false;
    }
    return bm_jval_str(out, bm_jsb_finish(&w.out));
}

const bm_jdef bm_jfilters_wrap[] = {{"wordwrap", "width=,break_long_words=,wrapstring=,break_on_hyphens=", f_wordwrap}, {NULL, NULL, NULL}};
