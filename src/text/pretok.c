/* pretok.c - the walk over the steps, and the matchers for runs, digits and fixed strings. */
#include "text/pretok.h"
#include "text/pretok_match.h"

#include <string.h>

typedef struct walk {
    const bm_pretok_shape *shape;
    const char *s;
    int (*emit)(void *arg, const char *word, size_t word_len);
    void *arg;
} walk;

/* Cut the piece [begin, end) with step number `step`, and what it gives with the steps behind it: at most six deep. */
static int walk_step(const walk *w, int step, size_t begin, size_t end)
{
    const bm_pretok_step *st = &w->shape->steps[step];
    bm_scan scan = { .s = (const unsigned char *)w->s, .end = end };
    size_t pos = begin, start = begin;
    int rc;

    if (step == BM_PRETOK_STEPS || st->match == NULL)
        return begin < end ? w->emit(w->arg, w->s + begin, end - begin) : 0;
    while (pos < end) {
        size_t to;
        scan.cut = false;
        scan.skip = 0;
        to = st->match(&scan, st->spec, pos);
        if (to > pos || scan.cut) {
            if (start < pos && (rc = walk_step(w, step + 1, start, pos)) != 0)
                return rc;
            start = pos;
        }
        if (to > pos) {
            if ((rc = walk_step(w, step + 1, pos, to)) != 0)
                return rc;
            start = pos = to;
        } else {
            pos = scan.skip > pos ? scan.skip : bm_char_at(&scan, pos).next;
        }
    }
    return start < end ? walk_step(w, step + 1, start, end) : 0;
}

int bm_pretok_split(const bm_pretok *row, const char *s, size_t len,
                    int (*emit)(void *arg, const char *word, size_t word_len), void *arg)
{
    walk w = { row->shape, s, emit, arg };

    return walk_step(&w, 0, 0, len);
}

static bool in_ranges(const uint32_t (*ranges)[2], unsigned n, uint32_t cp)
{
    unsigned lo = 0, hi = n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (cp > ranges[mid][1])
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && cp >= ranges[lo][0];
}

static size_t run_of(const bm_scan *scan, const bm_run_spec *spec, size_t pos)
{
    size_t at = pos;
    unsigned n = 0;

    while (spec->max == 0 || n < spec->max) {
        bm_char c = bm_char_at(scan, at);
        if (c.next == at)
            break;
        if ((((c.cls & spec->classes) != 0) || in_ranges(spec->ranges, spec->n_ranges, c.cp)) == spec->invert)
            break;
        at = c.next;
        n++;
    }
    return n >= spec->min ? at : pos;
}

size_t bm_match_run(bm_scan *scan, const void *spec, size_t pos)
{
    const bm_run_spec *run = spec;

    if (run->lead != BM_LEAD_NONE) {
        bm_char c = bm_char_at(scan, pos);
        if (run->lead == BM_LEAD_BLANK ? c.cp == ' ' : (c.cls & BM_U_SPACE) != 0) {
            size_t to = run_of(scan, run, c.next);
            if (to > c.next)
                return to;
        }
    }
    return run_of(scan, run, pos);
}

size_t bm_match_lines(bm_scan *scan, const void *spec, size_t pos)
{
    bool newline = scan->s[pos] == '\n';

    (void)spec;
    while (pos < scan->end && (scan->s[pos] == '\n') == newline)
        pos++;
    return pos;
}

static size_t class_end(const bm_scan *scan, unsigned classes, size_t pos, size_t *n)
{
    bm_char c;

    for (*n = 0; (c = bm_char_at(scan, pos)).cls & classes; pos = c.next)
        ++*n;
    return pos;
}

size_t bm_match_trailing(bm_scan *scan, const void *spec, size_t pos)
{
    size_t n, to = class_end(scan, BM_U_SPACE, pos, &n);

    (void)spec;
    if (to == scan->end)
        return to;
    scan->skip = to;
    return pos;
}

/* How many digits stand from pos on: counted once per run. */
static size_t digits_from(bm_scan *scan, unsigned classes, size_t pos)
{
    if (pos >= scan->digit_end)
        scan->digit_end = class_end(scan, classes, pos, &scan->digits_left);
    return scan->digits_left;
}

static size_t take_digits(bm_scan *scan, size_t pos, size_t n)
{
    scan->digits_left -= n;
    while (n-- > 0)
        pos = bm_char_at(scan, pos).next;
    return pos;
}

size_t bm_match_thirds(bm_scan *scan, const void *spec, size_t pos)
{
    size_t n;

    (void)spec;
    if (!(bm_char_at(scan, pos).cls & BM_U_NUM))
        return pos;
    n = digits_from(scan, BM_U_NUM, pos);
    return take_digits(scan, pos, n % 3 != 0 ? n % 3 : 3);
}

size_t bm_match_thirds_word(bm_scan *scan, const void *spec, size_t pos)
{
    size_t n;

    (void)spec;
    if (!(bm_char_at(scan, pos).cls & BM_U_DIGIT))
        return pos;
    n = digits_from(scan, BM_U_DIGIT, pos);
    if (bm_char_at(scan, scan->digit_end).cls & BM_U_WORD) {
        scan->skip = scan->digit_end;        /* no word boundary behind the run: none of it matches */
        return pos;
    }
    return take_digits(scan, pos, n % 3 != 0 ? n % 3 : 3);
}

size_t bm_match_third_cuts(bm_scan *scan, const void *spec, size_t pos)
{
    (void)spec;
    if (bm_char_at(scan, pos).cls & BM_U_DIGIT) {
        scan->cut = digits_from(scan, BM_U_DIGIT, pos) % 3 == 0;
        scan->digits_left--;
    }
    return pos;
}

static bool has_bytes(const bm_scan *scan, size_t pos, const char *bytes)
{
    size_t n = strlen(bytes);

    return n <= scan->end - pos && memcmp(scan->s + pos, bytes, n) == 0;
}

size_t bm_match_sentinel(bm_scan *scan, const void *spec, size_t pos)
{
    size_t at = pos + 10, digits = at;

    (void)spec;
    if (!has_bytes(scan, pos, "<sentinel:"))
        return pos;
    while (at < scan->end && scan->s[at] >= '0' && scan->s[at] <= '9')
        at++;
    return at > digits && at < scan->end && scan->s[at] == '>' ? at + 1 : pos;
}

size_t bm_match_image(bm_scan *scan, const void *spec, size_t pos)
{
    size_t at = pos + 6, letters = at;

    (void)spec;
    if (!has_bytes(scan, pos, "IMGIMG"))
        return pos;
    while (at < scan->end && at - letters < 4 && scan->s[at] >= 'A' && scan->s[at] <= 'I')
        at++;
    return at > letters && at < scan->end && scan->s[at] == 'Z' ? at + 1 : pos;
}

size_t bm_match_indent(bm_scan *scan, const void *spec, size_t pos)
{
    (void)spec;
    if (scan->s[pos] == '\t' || scan->s[pos] == '\n')
        return pos + 1;
    if (has_bytes(scan, pos, "    "))
        return pos + 4;
    return has_bytes(scan, pos, "  ") ? pos + 2 : pos;
}
