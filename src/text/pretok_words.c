/* pretok_words.c - the matcher for "words" expressions: the family of GPT-2, cl100k, o200k and their descendants. */
#include "text/pretok_match.h"

static size_t run_of(const bm_scan *scan, unsigned classes, size_t pos)
{
    bm_char c;

    while ((c = bm_char_at(scan, pos)).cls & classes)
        pos = c.next;
    return pos;
}

static bool is_newline(bm_char c)
{
    return c.cp == '\r' || c.cp == '\n';
}

/* "[^\r\n\p{L}\p{N}]" */
static bool is_prefix(bm_char c)
{
    return c.cp != UINT32_MAX && !is_newline(c) && !(c.cls & (BM_U_LETTER | BM_U_NUM));
}

static unsigned apostrophe_letter(const bm_scan *scan, int mode, size_t pos)
{
    unsigned b = pos < scan->end ? scan->s[pos] : 0;

    if (mode != BM_APOS_LOWER && b >= 'A' && b <= 'Z')
        b += 'a' - 'A';
    return b;
}

/* 's 't 're 've 'm 'll 'd at pos, or pos. Case folding in full makes the long s (U+017F) an s. */
static size_t contraction(const bm_scan *scan, int mode, size_t pos)
{
    unsigned a, b;

    if (mode == BM_APOS_NONE || pos >= scan->end || scan->s[pos] != '\'')
        return pos;
    a = apostrophe_letter(scan, mode, pos + 1);
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return pos + 2;
    if (mode == BM_APOS_FOLD && a == 0xC5 && scan->s[pos + 2] == 0xBF)
        return pos + 3;
    b = apostrophe_letter(scan, mode, pos + 2);
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return pos + 3;
    return pos;
}

static bool in_case(bm_char c, unsigned classes, bool no_han)
{
    return (c.cls & classes) && !(no_han && (c.cls & BM_U_HAN));
}

static size_t case_run(const bm_scan *scan, unsigned classes, bool no_han, size_t pos)
{
    bm_char c;

    while (in_case(c = bm_char_at(scan, pos), classes, no_han))
        pos = c.next;
    return pos;
}

enum { BOTH = BM_U_OTHER | BM_U_MARK, HIGH = BM_U_UPPER | BOTH, LOW = BM_U_LOWER | BOTH };

/* "HIGH*LOW+" without a regular expression's backtracking: what the run of HIGH cannot leave to a lower-case letter behind it,
 * it leaves to the last of its own characters that is LOW too. */
static size_t high_low(const bm_scan *scan, bool no_han, size_t pos)
{
    size_t at = pos, both_end = pos;
    bm_char c;

    for (; in_case(c = bm_char_at(scan, at), HIGH, no_han); at = c.next)
        if (c.cls & BOTH)
            both_end = c.next;
    return in_case(c, LOW, no_han) ? case_run(scan, LOW, no_han, at) : both_end;
}

/* "P?HIGH*LOW+ C? | P?HIGH+LOW* C?", P the prefix class and C the contraction. */
static size_t match_cased(const bm_scan *scan, int mode, bool no_han, size_t pos)
{
    bm_char c = bm_char_at(scan, pos);
    size_t to;

    if (is_prefix(c) && (to = high_low(scan, no_han, c.next)) > c.next)
        return contraction(scan, mode, to);
    if ((to = high_low(scan, no_han, pos)) > pos)
        return contraction(scan, mode, to);
    if (is_prefix(c) && (to = case_run(scan, HIGH, no_han, c.next)) > c.next)
        return contraction(scan, mode, to);
    if ((to = case_run(scan, HIGH, no_han, pos)) > pos)
        return contraction(scan, mode, to);
    return pos;
}

static bool is_ascii_letter(const bm_scan *scan, size_t pos)
{
    return pos < scan->end && ((scan->s[pos] | 0x20) >= 'a' && (scan->s[pos] | 0x20) <= 'z');
}

static size_t match_punct_letters(const bm_scan *scan, bm_char c, size_t pos)
{
    if (c.cp < 0x7F && (c.cls & (BM_U_PUNCT | BM_U_SYM)) && is_ascii_letter(scan, c.next)) {
        for (pos = c.next; is_ascii_letter(scan, pos);)
            pos++;
        return pos;
    }
    if (!is_newline(c) && !(c.cls & (BM_U_LETTER | BM_U_PUNCT | BM_U_SYM))
        && (bm_char_at(scan, c.next).cls & (BM_U_LETTER | BM_U_MARK)))
        pos = c.next;
    return run_of(scan, BM_U_LETTER | BM_U_MARK, pos);
}

/* Letters with their marks, and single blanks between letters: whole phrases. */
static size_t match_phrase(const bm_scan *scan, bm_char c, size_t pos)
{
    size_t at = is_prefix(c) ? c.next : pos;

    if (!(bm_char_at(scan, at).cls & BM_U_LETTER))
        return pos;
    for (;;) {
        c = bm_char_at(scan, at);
        if (c.cp == ' ')
            c = bm_char_at(scan, c.next);
        if (!(c.cls & BM_U_LETTER))
            return at;
        at = run_of(scan, BM_U_MARK, c.next);
    }
}

static size_t match_letters(const bm_scan *scan, const bm_words_spec *w, bm_char c, size_t pos)
{
    unsigned classes = w->letters == BM_LETTERS_MARKS ? BM_U_LETTER | BM_U_MARK : BM_U_LETTER;
    size_t to;

    switch (w->letters) {
    case BM_LETTERS_BLANK:
        if (c.cp != ' ')
            return run_of(scan, classes, pos);
        to = run_of(scan, classes, c.next);
        return to > c.next ? to : pos;
    case BM_LETTERS_PREFIX:
    case BM_LETTERS_MARKS:
        if (is_prefix(c) && (to = run_of(scan, classes, c.next)) > c.next)
            return to;
        return run_of(scan, classes, pos);
    case BM_LETTERS_HAN:
        if (c.cls & BM_U_HAN)
            return run_of(scan, BM_U_HAN, pos);
        return match_cased(scan, w->contraction, true, pos);
    case BM_LETTERS_CASED:
        return match_cased(scan, w->contraction, false, pos);
    case BM_LETTERS_PUNCT:
        return match_punct_letters(scan, c, pos);
    case BM_LETTERS_PHRASE:
        return match_phrase(scan, c, pos);
    }
    return pos;
}

static size_t match_numbers(const bm_scan *scan, const bm_words_spec *w, bm_char c, size_t pos)
{
    int most = w->numbers == BM_NUMBERS_ONE ? 1 : w->numbers == BM_NUMBERS_THREE ? 3 : 0;
    size_t to;

    if (w->numbers == BM_NUMBERS_NONE)
        return pos;
    if (w->numbers == BM_NUMBERS_BLANK && c.cp == ' ') {
        to = run_of(scan, BM_U_NUM, c.next);
        return to > c.next ? to : pos;
    }
    if (most == 0)
        return run_of(scan, BM_U_NUM, pos);
    for (; most > 0 && (c = bm_char_at(scan, pos)).cls & BM_U_NUM; most--)
        pos = c.next;
    return pos;
}

static bool is_symbol(const bm_words_spec *w, bm_char c)
{
    if (w->symbols == BM_SYMBOLS_PUNCT)
        return (c.cls & (BM_U_PUNCT | BM_U_SYM)) != 0;
    return c.cp != UINT32_MAX
           && !(c.cls & (BM_U_SPACE | BM_U_LETTER | BM_U_NUM | (w->symbols == BM_SYMBOLS_NO_MARKS ? BM_U_MARK : 0u)));
}

static size_t match_symbols(const bm_scan *scan, const bm_words_spec *w, bm_char c, size_t pos)
{
    size_t at = pos;

    if (c.cp == ' ')
        c = bm_char_at(scan, at = c.next);
    if (!is_symbol(w, c))
        return pos;
    for (; is_symbol(w, c); c = bm_char_at(scan, at))
        at = c.next;
    if (w->tail == BM_TAIL_NONE)
        return at;
    for (; is_newline(c) || (w->tail != BM_TAIL_LINES && c.cp == '/'); c = bm_char_at(scan, at)) {
        at = c.next;
        if (w->tail == BM_TAIL_SLASH)
            break;
    }
    return at;
}

/* Find the run of \s around pos, once for all of its characters. */
static void look_at_space(bm_scan *scan, size_t pos)
{
    bm_char c;

    if (scan->space_begin <= pos && pos < scan->space_end)
        return;
    scan->space_begin = scan->space_last = pos;
    scan->line_end = 0;
    for (; (c = bm_char_at(scan, pos)).cls & BM_U_SPACE; pos = c.next) {
        scan->space_last = pos;
        if (is_newline(c))
            scan->line_end = c.next;
    }
    scan->space_end = pos;
}

/* "\s{512}(?!\S)|\s{256}(?!\S)|...|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}" */
static size_t match_powers(const bm_scan *scan, size_t pos)
{
    size_t n = 0, at = pos, take = 512;

    while (at < scan->space_end && n < 513)
        at = bm_char_at(scan, at).next, n++;
    if (at < scan->end && n > 1 && at == scan->space_end)
        n--;                                 /* the last one stands before \S */
    while (take > n)
        take /= 2;
    for (at = pos; take > 0; take--)
        at = bm_char_at(scan, at).next;
    return at;
}

static size_t match_spaces(bm_scan *scan, const bm_words_spec *w, bm_char c, size_t pos)
{
    if (!(c.cls & BM_U_SPACE))
        return pos;
    if (w->newlines == BM_NEWLINES_ONE && is_newline(c))
        return c.next;
    look_at_space(scan, pos);
    if (w->newlines == BM_NEWLINES_RUN && scan->line_end > pos)
        return scan->line_end;
    if (w->spaces == BM_SPACES_POWERS)
        return match_powers(scan, pos);
    if (scan->space_end == scan->end || scan->space_last == pos)
        return scan->space_end;
    return scan->space_last;
}

size_t bm_match_words(bm_scan *scan, const void *spec, size_t pos)
{
    const bm_words_spec *w = spec;
    bm_char c = bm_char_at(scan, pos);
    size_t to;

    if (c.cp == '\'' && w->letters != BM_LETTERS_CASED && w->letters != BM_LETTERS_HAN
        && (to = contraction(scan, w->contraction, pos)) > pos)
        return to;
    if ((to = match_letters(scan, w, c, pos)) > pos)
        return to;
    if ((to = match_numbers(scan, w, c, pos)) > pos)
        return to;
    if ((to = match_symbols(scan, w, c, pos)) > pos)
        return to;
    return match_spaces(scan, w, c, pos);
}
