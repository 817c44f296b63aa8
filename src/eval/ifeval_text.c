/* ifeval_text.c - counting sentences and words in capitals. The language is in ifeval_language.c. */
#define _GNU_SOURCE
#include "eval/ifeval_text.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "eval/words.h"
#include "text/jinja.h"
#include "text/regex.h"

bool bm_ifeval_is_case(const char *s, size_t len, bool upper)
{
    bm_jstr text = {.data = s, .len = len, .n_chars = SIZE_MAX};

    return bm_jstr_class(&text, upper ? "isupper" : "islower");
}

/* ---- words in capitals ---- */

/* NLTK's word tokenizer, in its order. That a sentence's last full stop stays on does not matter to a word's case. */
static const char *const TREEBANK[][2] = {
    {"([\xC2\xAB\xE2\x80\x9C\xE2\x80\x98\xE2\x80\x9E]|[`]+)", " \\1 "}, {"^\"", "``"}, {"(``)", " \\1 "}, {"([ \\(\\[{<])(\"|\\'{2})", "\\1 `` "},
    {"(?i)(?<!\\w)(\\')(?!(?:re|ve|ll|m|t|s|d|n)\\b)(?=\\w)", "\\1 "}, {"([:,])([^\\d])", " \\1 \\2"}, {"([:,])$", " \\1 "},
    {"\\.{2,}", " \\g<0> "}, {"[;@#$%&]", " \\g<0> "}, {"[\\u2012-\\u2015]", " \\g<0> "}, {"[?!]", " \\g<0> "}, {"([^'])' ", "\\1 ' "},
    {"[*]", " \\g<0> "}, {"[\\]\\[\\(\\)\\{\\}\\<\\>]", " \\g<0> "}, {"--", " -- "}, {"^|$", " "},
    {"([\xC2\xBB\xE2\x80\x9D\xE2\x80\x99])", " \\1 "}, {"''", " '' "}, {"\"", " '' "}, {"\\s+", " "},
    {"([^' ])('[sS]|'[mM]|'[dD]|') ", "\\1 \\2 "}, {"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "\\1 \\2 "},
    {"(?i)\\b(can)(not)\\b", " \\1 \\2 "}, {"(?i)\\b(gim)(me)\\b", " \\1 \\2 "}, {"(?i)\\b(gon)(na)\\b", " \\1 \\2 "},
    {"(?i)\\b(got)(ta)\\b", " \\1 \\2 "}, {"(?i)\\b(lem)(me)\\b", " \\1 \\2 "}, {"(?i)\\b(wan)(na)\\s", " \\1 \\2 "}};

static size_t count_capitals(const char *s, size_t len)
{
    size_t n = 0;

    for (size_t at = 0; at < len;) {
        size_t end = at;
        while (end < len && s[end] != ' ')
            end++;
        n += end > at && bm_ifeval_is_case(s + at, end - at, true);
        at = end + 1;
    }
    return n;
}

int bm_ifeval_capital_words(size_t *out, const char *s, size_t len, bm_error *err)
{
    bm_buf a = {0}, b = {0};
    int rc = 0;

    bm_buf_add(&a, s, len);
    for (size_t i = 0; i < sizeof TREEBANK / sizeof TREEBANK[0] && rc == 0; i++) {
        bm_regex *regex;
        bm_buf_clear(&b);
        bm_buf_puts(&b, "");
        if ((rc = bm_regex_compile(&regex, TREEBANK[i][0], strlen(TREEBANK[i][0]), 0, err)) < 0)
            break;
        rc = bm_regex_sub(&b, regex, TREEBANK[i][1], strlen(TREEBANK[i][1]), a.data != NULL ? a.data : "", a.len, 0, err);
        bm_regex_free(regex);
        bm_buf swap = a;
        a = b, b = swap;
    }
    if (rc == 0)
        *out = count_capitals(a.data != NULL ? a.data : "", a.len);
    bm_buf_done(&a);
    bm_buf_done(&b);
    return rc;
}

/* ---- sentences ---- */

typedef struct word { const char *s; size_t len; } word;

static bool is_one_of(word w, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strlen(*list) == w.len && strncasecmp(*list, w.s, w.len) == 0)
            return true;
    return false;
}

/* Words that a full stop belongs to. */
static bool is_abbreviation(word w)
{
    static const char *const known[] = {
        "mr", "mrs", "ms", "dr", "prof", "rev", "gen", "col", "capt", "lt", "sgt", "maj", "sen", "rep", "gov", "st", "jr", "sr", "co", "corp", "inc",
        "ltd", "bros", "e.g", "i.e", "vs", "u.s", "u.k", "u.n", "a.m", "p.m", "d.c", "ph.d", "n.y", "j.r", "c.v", "r.i", "s.a", "u.s.s.r", "jan",
        "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "ft", "va", "cal", "calif", "fla", "ga", "conn",
        "ala", "ariz", "ill", "kan", "ky", "minn", "okla", "pa", "tenn", "wash", "wis", "mass", "mich", "tex", "adm", "messrs", "mg", "al", NULL};
    const char *dash = memrchr(w.s, '-', w.len);

    if (is_one_of(w, known))
        return true;
    return dash != NULL && is_one_of((word){dash + 1, w.len - (size_t)(dash + 1 - w.s)}, known);
}

/* Words that begin a sentence when they have a capital, even after an abbreviation. */
static bool begins_sentence(word w)
{
    static const char *const starters[] = {
        "the", "this", "that", "these", "those", "he", "she", "it", "they", "we", "i", "you", "in", "on", "at", "but", "and", "however", "if",
        "when", "while", "although", "for", "as", "there", "then", "so", "after", "before", "one", "some", "most", "many", "last", "among",
        "since", "under", "yesterday", "meanwhile", "moreover", "nevertheless", "no", "not", "a", "an", "my", "our", "their", "his", "her", NULL};

    while (w.len > 0 && strchr("\"'([{*", w.s[0]) != NULL)
        w.s++, w.len--;
    if (w.len == 0 || !isupper((unsigned char)w.s[0]))
        return false;
    while (w.len > 0 && !isalpha((unsigned char)w.s[w.len - 1]))
        w.len--;
    return is_one_of(w, starters);
}

static bool all_digits(word w)
{
    for (size_t i = 0; i < w.len; i++)
        if (!isdigit((unsigned char)w.s[i]))
            return false;
    return w.len > 0;
}

/* Does the full stop behind `before` end a sentence, when `next` follows? */
static bool full_stop_ends(word before, word next)
{
    bool initial, lower = next.len > 0 && islower((unsigned char)next.s[0]);

    while (before.len > 0 && strchr("\"'([{*<`_", before.s[0]) != NULL)
        before.s++, before.len--;
    if (before.len > 0 && before.s[before.len - 1] == '.')               /* an ellipsis */
        return begins_sentence(next);
    initial = before.len == 1 && isalpha((unsigned char)before.s[0]);
    if (initial)
        return lower ? false : begins_sentence(next);
    if (all_digits(before))
        return !lower;
    return is_abbreviation(before) ? begins_sentence(next) : before.len > 0;
}

/* The last place in a run of non-blanks where a sentence may end: before closing marks, or at the run's end when another follows. */
static size_t last_end(word run, bool more, bool *at_end)
{
    for (size_t i = run.len; i-- > 0;) {
        if (strchr(".?!", run.s[i]) == NULL || run.s[i] == '\0')
            continue;
        *at_end = i + 1 == run.len;
        if (*at_end ? more : strchr(")\";}]*:@'({[?!", run.s[i + 1]) != NULL && run.s[i + 1] != '\0')
            return i;
    }
    return SIZE_MAX;
}

static size_t blanks(const char *s, size_t len)
{
    size_t kept = len, begin = 0;

    bm_words_strip(s, &kept, &begin);
    return kept == 0 ? len : begin;
}

static size_t nonblanks(const char *s, size_t len)
{
    size_t n = 0;

    while (n < len && !((unsigned char)s[n] < 0x80 && isspace((unsigned char)s[n])))
        n++;
    return n;
}

size_t bm_ifeval_sentences(const char *s, size_t len)
{
    size_t n = 0, at = blanks(s, len);
    bool open = at < len, at_end = false;

    while (at < len) {
        word run = {s + at, nonblanks(s + at, len - at)};
        size_t next = at + run.len, skip = next < len ? blanks(s + next, len - next) : 0;
        word after = {s + next + skip, next + skip < len ? nonblanks(s + next + skip, len - next - skip) : 0};
        size_t i = last_end(run, after.len > 0, &at_end);
        open = true;
        if (i != SIZE_MAX && (run.s[i] != '.' || full_stop_ends((word){run.s, i}, at_end ? after : (word){run.s + i + 1, 0}))) {
            n++;
            open = !at_end && strspn(run.s + i + 1, "\"')]}") < run.len - i - 1;     /* more than closing marks */
        }
        at = next + skip;
    }
    return n + open;
}
