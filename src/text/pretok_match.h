/* pretok_match.h - between the files of the pre-tokenisers: what a step is, and the matchers. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "text/unicode.h"

/* One piece under one step. A matcher returns the end of its match at `pos`, or `pos` for none; then it may set `skip`, up to
 * where no match can begin either. The memo keeps a run from being counted again at each of its characters. */
typedef struct bm_scan {
    const unsigned char *s;
    size_t end;                                          /* of the piece */
    size_t skip;
    bool cut;                                            /* out: no match, but a new word begins here */
    size_t space_begin, space_end, space_last, line_end; /* a run of \s, its last character, end of its last newline */
    size_t digit_end, digits_left;                       /* a run of digits, and how many from the position asked last */
} bm_scan;

typedef size_t bm_matcher(bm_scan *scan, const void *spec, size_t pos);
typedef struct bm_pretok_step { bm_matcher *match; const void *spec; } bm_pretok_step;
enum { BM_PRETOK_STEPS = 6 };
typedef struct bm_pretok_shape {
    const char *name;
    bm_pretok_step steps[BM_PRETOK_STEPS];               /* until match is NULL */
} bm_pretok_shape;

/* A character of the piece; class 0, cp out of range and next == pos at its end. */
typedef struct bm_char { uint32_t cp; unsigned cls; size_t next; } bm_char;

static inline bm_char bm_char_at(const bm_scan *scan, size_t pos)
{
    const unsigned char *p = scan->s + pos;
    bm_char c = { UINT32_MAX, 0, pos };

    if (pos >= scan->end)
        return c;
    if (p[0] < 0x80)
        c.cp = p[0], c.next = pos + 1;
    else if (p[0] < 0xE0)
        c.cp = (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu), c.next = pos + 2;
    else if (p[0] < 0xF0)
        c.cp = (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu), c.next = pos + 3;
    else
        c.cp = (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu), c.next = pos + 4;
    c.cls = bm_unicode_class(c.cp);
    return c;
}

/* `lead`? then `min` to `max` characters of (or, inverted, out of) classes and ranges. */
typedef struct bm_run_spec {
    unsigned classes;
    const uint32_t (*ranges)[2];                         /* ascending */
    unsigned n_ranges;
    bool invert;
    enum { BM_LEAD_NONE, BM_LEAD_BLANK, BM_LEAD_SPACE } lead;    /* an optional ' ', an optional \s */
    unsigned min, max;                                   /* max 0: no limit */
} bm_run_spec;
bm_matcher bm_match_run;

/* The alternatives of a "words" expression, tried in this order: contraction, letters, numbers, symbols, newlines, spaces. */
typedef struct bm_words_spec {
    enum { BM_APOS_NONE, BM_APOS_LOWER, BM_APOS_ASCII, BM_APOS_FOLD } contraction;   /* 's 't 're 've 'm 'll 'd; also 'S; also 'ſ */
    enum {
        BM_LETTERS_BLANK,        /* " ?\p{L}+" */
        BM_LETTERS_PREFIX,       /* "[^\r\n\p{L}\p{N}]?\p{L}+" */
        BM_LETTERS_MARKS,        /* "[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+" */
        BM_LETTERS_CASED,        /* as in o200k: upper then lower, the contraction (if any) behind */
        BM_LETTERS_HAN,          /* runs of \p{Han}, then as CASED without them */
        BM_LETTERS_PUNCT,        /* "[!-/:-@[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+" */
        BM_LETTERS_PHRASE        /* "[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+" */
    } letters;
    enum { BM_NUMBERS_NONE, BM_NUMBERS_BLANK, BM_NUMBERS_ONE, BM_NUMBERS_THREE, BM_NUMBERS_ALL } numbers;
    enum {
        BM_SYMBOLS_REST,         /* " ?[^\s\p{L}\p{N}]+" */
        BM_SYMBOLS_NO_MARKS,     /* " ?[^\s\p{L}\p{M}\p{N}]+" */
        BM_SYMBOLS_PUNCT         /* " ?[\p{P}\p{S}]+" */
    } symbols;
    enum { BM_TAIL_NONE, BM_TAIL_LINES, BM_TAIL_SLASHES, BM_TAIL_SLASH } tail;  /* "[\r\n]*", "[\r\n/]*", "[\r\n/]?" behind symbols */
    enum { BM_NEWLINES_NONE, BM_NEWLINES_RUN, BM_NEWLINES_ONE } newlines;       /* "\s*[\r\n]+", "[\r\n]" */
    enum { BM_SPACES_PLAIN, BM_SPACES_POWERS } spaces;                          /* "\s+(?!\S)|\s+", halving from 512 */
} bm_words_spec;
bm_matcher bm_match_words;

/* Without a spec. */
bm_matcher bm_match_lines;          /* "[^\n]+|[\n]+" */
bm_matcher bm_match_trailing;       /* "\s+$" */
bm_matcher bm_match_thirds;         /* "\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))" */
bm_matcher bm_match_thirds_word;    /* "\d{1,3}(?=(?:\d{3})*\b)" */
bm_matcher bm_match_third_cuts;     /* "(?=(\d{3})+(?!\d))" */
bm_matcher bm_match_sentinel;       /* "<sentinel:[0-9]+>" */
bm_matcher bm_match_image;          /* "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z" */
bm_matcher bm_match_indent;         /* "([\t\n]|    |  )" */
