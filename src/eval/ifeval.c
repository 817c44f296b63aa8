/* ifeval.c - the 25 instructions, and a row's verdict: strict on the answer as it is, loose on eight forms of it (without its first or
 * last line, without asterisks). */
#define _GNU_SOURCE
#include "eval/ifeval.h"

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "eval/ifeval_text.h"
#include "eval/words.h"
#include "text/regex.h"

typedef struct view { const char *s; size_t len; } view;
typedef struct check {
    const json_t *kw;
    view text;
    bm_error *err;
} check;
typedef int check_fn(check *c, bool *out);

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory to check an instruction"); }

/* ---- arguments ---- */

static int arg_int(check *c, const char *name, double *out)
{
    const json_t *v = json_object_get(c->kw, name);

    if (!json_is_number(v) || json_number_value(v) <= 0)
        return bm_fail(c->err, BM_INVALID, "kwargs.%s: a positive number is wanted", name);
    *out = json_number_value(v);
    return 0;
}

static int arg_str(check *c, const char *name, view *out)
{
    const json_t *v = json_object_get(c->kw, name);

    if (!json_is_string(v) || json_string_length(v) == 0)
        return bm_fail(c->err, BM_INVALID, "kwargs.%s: a string is wanted", name);
    *out = (view){json_string_value(v), json_string_length(v)};
    return 0;
}

/* n against the number `limit` by the word `relation`: "less than" or "at least". */
static int compare(check *c, double n, const char *limit, const char *relation, bool *out)
{
    double want;
    view word;
    int rc;

    if ((rc = arg_int(c, limit, &want)) < 0 || (rc = arg_str(c, relation, &word)) < 0)
        return rc;
    if (strcmp(word.s, "less than") != 0 && strcmp(word.s, "at least") != 0)
        return bm_fail(c->err, BM_INVALID, "kwargs.%s: '%.40s' is not less than or at least", relation, word.s);
    *out = word.s[0] == 'l' ? n < want : n >= want;
    return 0;
}

/* ---- text ---- */

static view strip(view v)
{
    size_t len = v.len;

    v.s = bm_words_strip(v.s, &len, NULL);
    v.len = len;
    return v;
}

static bool blank(view v) { return strip(v).len == 0; }

static view strip_chars(view v, const char *set)
{
    while (v.len > 0 && strchr(set, v.s[0]) != NULL && v.s[0] != '\0')
        v.s++, v.len--;
    while (v.len > 0 && strchr(set, v.s[v.len - 1]) != NULL && v.s[v.len - 1] != '\0')
        v.len--;
    return v;
}

static bool contains(view v, const char *what) { return memmem(v.s, v.len, what, strlen(what)) != NULL; }

static int lower(bm_buf *b, view v, bm_error *err)
{
    bm_words_case(b, v.s, v.len, false);
    if (b->failed)
        return no_memory(err);
    return b->data == NULL ? (bm_buf_puts(b, ""), 0) : 0;
}

static view of(const bm_buf *b) { return (view){b->data != NULL ? b->data : "", b->len}; }

/* Walk the matches of a pattern: fn sees what stands before each match, and the match; returning false stops. */
typedef bool match_fn(void *arg, view before, view match);
static int each_match(check *c, const char *pattern, size_t len, int flags, view text, match_fn *fn, void *arg, view *rest)
{
    bm_regex_walk walk = {0};
    size_t span[2], from = 0;
    bm_regex *regex;
    int rc = bm_regex_compile(&regex, pattern, len, flags, c->err);

    if (rc < 0)
        return rc;
    while ((rc = bm_regex_next(regex, text.s, text.len, &walk, span, 0, c->err)) > 0) {
        if (!fn(arg, (view){text.s + from, span[0] - from}, (view){text.s + span[0], span[1] - span[0]}))
            break;
        from = span[1];
    }
    if (rest != NULL)
        *rest = (view){text.s + from, text.len - from};
    bm_regex_free(regex);
    return rc < 0 ? rc : 0;
}

static bool count_one(void *arg, view before, view match)
{
    (void)before, (void)match;
    ++*(size_t *)arg;
    return true;
}

static int count(check *c, const char *pattern, int flags, size_t *n)
{
    *n = 0;
    return each_match(c, pattern, strlen(pattern), flags, c->text, count_one, n, NULL);
}

/* ---- keywords ---- */

static int search_word(check *c, view word, bool whole, bool *found)
{
    bm_buf b = {0};
    size_t n = 0;
    int rc;

    if (whole)
        bm_buf_puts(&b, "\\b");
    bm_buf_add(&b, word.s, word.len);
    if (whole)
        bm_buf_puts(&b, "\\b");
    rc = b.failed ? no_memory(c->err) : each_match(c, of(&b).s, b.len, BM_REGEX_IGNORECASE, c->text, count_one, &n, NULL);
    bm_buf_done(&b);
    *found = n > 0;
    return rc;
}

static int each_word(check *c, const char *name, bool whole, bool want, bool *out)
{
    const json_t *list = json_object_get(c->kw, name);
    int rc = 0;

    if (!json_is_array(list) || json_array_size(list) == 0)
        return bm_fail(c->err, BM_INVALID, "kwargs.%s: a list of words is wanted", name);
    *out = true;
    for (size_t i = 0; i < json_array_size(list) && rc == 0 && *out; i++) {
        const json_t *v = json_array_get(list, i);
        bool found = false;
        if (!json_is_string(v))
            return bm_fail(c->err, BM_INVALID, "kwargs.%s: a list of words is wanted", name);
        rc = search_word(c, (view){json_string_value(v), json_string_length(v)}, whole, &found);
        *out = found == want;
    }
    return rc;
}

static int existence(check *c, bool *out) { return each_word(c, "keywords", false, true, out); }
static int forbidden_words(check *c, bool *out) { return each_word(c, "forbidden_words", true, false, out); }

static int frequency(check *c, bool *out)
{
    view word;
    size_t n = 0;
    int rc;

    if ((rc = arg_str(c, "keyword", &word)) < 0)
        return rc;
    word = strip(word);
    if ((rc = each_match(c, word.s, word.len, BM_REGEX_IGNORECASE, c->text, count_one, &n, NULL)) < 0)
        return rc;
    return compare(c, (double)n, "frequency", "relation", out);
}

static int letter_frequency(check *c, bool *out)
{
    bm_buf text = {0}, letter = {0};
    size_t n = 0;
    view l;
    int rc;

    if ((rc = arg_str(c, "letter", &l)) == 0 && (rc = lower(&text, c->text, c->err)) == 0 && (rc = lower(&letter, strip(l), c->err)) == 0)
        for (view at = of(&text); letter.len > 0 && at.len >= letter.len; at.s++, at.len--)
            n += memcmp(at.s, letter.data, letter.len) == 0;
    bm_buf_done(&text);
    bm_buf_done(&letter);
    return rc < 0 ? rc : compare(c, (double)n, "let_frequency", "let_relation", out);
}

/* ---- lengths ---- */

static int response_language(check *c, bool *out)
{
    const char *code = bm_ifeval_language(c->text.s, c->text.len);
    view want;
    int rc = arg_str(c, "language", &want);

    *out = code == NULL || (rc == 0 && strcmp(code, want.s) == 0);
    return rc;
}

static int number_sentences(check *c, bool *out)
{
    return compare(c, (double)bm_ifeval_sentences(c->text.s, c->text.len), "num_sentences", "relation", out);
}

static int number_words(check *c, bool *out)
{
    size_t n;
    int rc = count(c, "\\w+", 0, &n);

    return rc < 0 ? rc : compare(c, (double)n, "num_words", "relation", out);
}

typedef struct pieces { size_t n, at; bool empty_inside, last_empty; } pieces;

static bool add_piece(void *arg, view before, view match)
{
    pieces *p = arg;

    (void)match;
    if (!blank(before))
        p->n++;
    else if (p->at > 0)
        p->empty_inside = true;
    p->at++;
    return true;
}

/* "***" divides; only the first and the last part may be empty. */
static int number_paragraphs(check *c, bool *out)
{
    static const char divider[] = "\\s?\\*\\*\\*\\s?";
    pieces p = {0};
    double want;
    view rest;
    int rc;

    if ((rc = arg_int(c, "num_paragraphs", &want)) < 0 ||
        (rc = each_match(c, divider, sizeof divider - 1, 0, c->text, add_piece, &p, &rest)) < 0)
        return rc;
    *out = !p.empty_inside && (double)(p.n + !blank(rest)) == want;
    return 0;
}

static size_t first_word(bm_buf *b, view paragraph)
{
    view word = strip(paragraph), part = {word.s, 0};
    size_t n = 0, begin;

    while (n < word.len) {                               /* to the first whitespace of any kind */
        size_t len = 1;
        while (n + len < word.len && ((unsigned char)word.s[n + len] & 0xC0) == 0x80)
            len++;
        size_t kept = len;
        bm_words_strip(word.s + n, &kept, &begin);
        if (kept == 0)
            break;
        n += len;
    }
    part.len = n;
    while (part.len > 0 && part.s[0] == '\'')
        part.s++, part.len--;
    while (part.len > 0 && part.s[0] == '"')
        part.s++, part.len--;
    size_t end = 0;
    while (end < part.len && (strchr(".,?!'\"", part.s[end]) == NULL || part.s[end] == '\0'))
        end++;
    bm_words_case(b, part.s, end, false);
    return end;
}

static int nth_paragraph_first_word(check *c, bool *out)
{
    double want, nth;
    view word, text = c->text, mine = {0};
    bm_buf got = {0}, wanted = {0};
    size_t n = 0, at = 0;
    int rc;

    if ((rc = arg_int(c, "num_paragraphs", &want)) < 0 || (rc = arg_int(c, "nth_paragraph", &nth)) < 0 || (rc = arg_str(c, "first_word", &word)) < 0)
        return rc;
    for (bool last = false; !last; at++) {
        const char *hit = memmem(text.s, text.len, "\n\n", 2);
        view paragraph = {text.s, hit != NULL ? (size_t)(hit - text.s) : text.len};
        last = hit == NULL;
        n += !blank(paragraph);
        if ((double)(at + 1) == nth)
            mine = paragraph;
        if (hit != NULL)
            text.len -= (size_t)(hit + 2 - text.s), text.s = hit + 2;
    }
    *out = false;
    if (nth <= (double)n && !blank(mine) && (rc = lower(&wanted, word, c->err)) == 0) {
        first_word(&got, mine);
        *out = (double)n == want && got.len == wanted.len && (got.len == 0 || memcmp(got.data, wanted.data, got.len) == 0);
    }
    bm_buf_done(&got);
    bm_buf_done(&wanted);
    return rc;
}

/* ---- content and format ---- */

static int at_least(check *c, size_t n, const char *name, bool *out)
{
    double want;
    int rc = arg_int(c, name, &want);

    *out = rc == 0 && (double)n >= want;
    return rc;
}

static int number_placeholders(check *c, bool *out)
{
    size_t n;
    int rc = count(c, "\\[.*?\\]", 0, &n);

    return rc < 0 ? rc : at_least(c, n, "num_placeholders", out);
}

static int postscript(check *c, bool *out)
{
    bm_buf text = {0}, pattern = {0};
    size_t n = 0;
    view marker;
    int rc = arg_str(c, "postscript_marker", &marker);

    if (rc < 0)
        return rc;
    marker = strip(marker);
    if (marker.len == 5 && memcmp(marker.s, "P.P.S", 5) == 0)
        bm_buf_puts(&pattern, "\\s*p\\.\\s?p\\.\\s?s.*$");
    else if (marker.len == 4 && memcmp(marker.s, "P.S.", 4) == 0)
        bm_buf_puts(&pattern, "\\s*p\\.\\s?s\\..*$");
    else {
        bm_buf_puts(&pattern, "\\s*");
        bm_words_case(&pattern, marker.s, marker.len, false);
        bm_buf_puts(&pattern, ".*$");
    }
    rc = pattern.failed ? no_memory(c->err) : lower(&text, c->text, c->err);
    if (rc == 0)
        rc = each_match(c, pattern.data, pattern.len, BM_REGEX_MULTILINE, of(&text), count_one, &n, NULL);
    bm_buf_done(&text);
    bm_buf_done(&pattern);
    *out = n > 0;
    return rc;
}

static int number_bullet_lists(check *c, bool *out)
{
    size_t stars, dashes;
    double want;
    int rc;

    if ((rc = arg_int(c, "num_bullets", &want)) < 0 || (rc = count(c, "^\\s*\\*[^\\*].*$", BM_REGEX_MULTILINE, &stars)) < 0 ||
        (rc = count(c, "^\\s*-.*$", BM_REGEX_MULTILINE, &dashes)) < 0)
        return rc;
    *out = (double)(stars + dashes) == want;
    return 0;
}

static int constrained_response(check *c, bool *out)
{
    *out = contains(c->text, "My answer is yes.") || contains(c->text, "My answer is no.") || contains(c->text, "My answer is maybe.");
    return 0;
}

static bool add_highlight(void *arg, view before, view match)
{
    (void)before;
    *(size_t *)arg += !blank(strip_chars(match, "*"));
    return true;
}

static bool add_double_highlight(void *arg, view before, view match)
{
    (void)before;
    *(size_t *)arg += !blank((view){match.s + 2, match.len - 4});
    return true;
}

static int number_highlighted_sections(check *c, bool *out)
{
    static const char one[] = "\\*[^\\n\\*]*\\*", two[] = "\\*\\*[^\\n\\*]*\\*\\*";
    size_t n = 0;
    int rc;

    if ((rc = each_match(c, one, sizeof one - 1, 0, c->text, add_highlight, &n, NULL)) < 0 ||
        (rc = each_match(c, two, sizeof two - 1, 0, c->text, add_double_highlight, &n, NULL)) < 0)
        return rc;
    return at_least(c, n, "num_highlights", out);
}

static int multiple_sections(check *c, bool *out)
{
    bm_buf pattern = {0};
    size_t n = 0;
    view splitter;
    int rc = arg_str(c, "section_spliter", &splitter);

    if (rc < 0)
        return rc;
    splitter = strip(splitter);
    bm_buf_puts(&pattern, "\\s?");
    bm_buf_add(&pattern, splitter.s, splitter.len);
    bm_buf_puts(&pattern, "\\s?\\d+\\s?");
    rc = pattern.failed ? no_memory(c->err) : each_match(c, pattern.data, pattern.len, 0, c->text, count_one, &n, NULL);
    bm_buf_done(&pattern);
    return rc < 0 ? rc : at_least(c, n, "num_sections", out);
}

static bool drop_prefix(view *v, const char *prefix)
{
    size_t len = strlen(prefix);

    if (v->len < len || memcmp(v->s, prefix, len) != 0)
        return false;
    v->s += len, v->len -= len;
    return true;
}

static int json_format(check *c, bool *out)
{
    static const char *const fences[] = {"```json", "```Json", "```JSON", "```"};
    view v = strip(c->text);
    json_t *parsed;

    for (size_t i = 0; i < sizeof fences / sizeof fences[0]; i++)
        drop_prefix(&v, fences[i]);
    if (v.len >= 3 && memcmp(v.s + v.len - 3, "```", 3) == 0)
        v.len -= 3;
    v = strip(v);
    parsed = json_loadb(v.s, v.len, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    *out = parsed != NULL;
    json_decref(parsed);
    return 0;
}

static bool find_title(void *arg, view before, view match)
{
    (void)before;
    while (match.len > 0 && match.s[0] == '<')
        match.s++, match.len--;
    while (match.len > 0 && match.s[match.len - 1] == '>')
        match.len--;
    *(bool *)arg |= !blank(match);
    return true;
}

static int title(check *c, bool *out)
{
    static const char pattern[] = "<<[^\\n]+>>";

    *out = false;
    return each_match(c, pattern, sizeof pattern - 1, 0, c->text, find_title, out, NULL);
}

/* ---- combinations, beginnings and ends, case, punctuation ---- */

static int two_responses(check *c, bool *out)
{
    view rest = c->text, kept[2] = {{0}, {0}};
    size_t n = 0;

    *out = false;
    for (size_t i = 0;; i++) {
        const char *hit = memmem(rest.s, rest.len, "******", 6);
        view part = {rest.s, hit != NULL ? (size_t)(hit - rest.s) : rest.len};
        if (blank(part) && i > 0 && hit != NULL)
            return 0;
        if (!blank(part) && n++ < 2)
            kept[n - 1] = strip(part);
        if (hit == NULL)
            break;
        rest.len -= (size_t)(hit + 6 - rest.s), rest.s = hit + 6;
    }
    *out = n == 2 && (kept[0].len != kept[1].len || memcmp(kept[0].s, kept[1].s, kept[0].len) != 0);
    return 0;
}

static int folded_affix(check *c, view text, view affix, bool at_end, bool *out)
{
    bm_buf a = {0}, b = {0};
    int rc;

    *out = false;
    if ((rc = lower(&a, text, c->err)) == 0 && (rc = lower(&b, strip(affix), c->err)) == 0)
        *out = a.len >= b.len && memcmp(a.data + (at_end ? a.len - b.len : 0), b.data, b.len) == 0;
    bm_buf_done(&a);
    bm_buf_done(&b);
    return rc;
}

static int repeat_prompt(check *c, bool *out)
{
    view prompt;
    int rc = arg_str(c, "prompt_to_repeat", &prompt);

    return rc < 0 ? rc : folded_affix(c, strip(c->text), prompt, false, out);
}

static int end_checker(check *c, bool *out)
{
    view phrase;
    int rc = arg_str(c, "end_phrase", &phrase);

    return rc < 0 ? rc : folded_affix(c, strip_chars(strip(c->text), "\""), phrase, true, out);
}

static int capital_word_frequency(check *c, bool *out)
{
    size_t n;
    int rc = bm_ifeval_capital_words(&n, c->text.s, c->text.len, c->err);

    return rc < 0 ? rc : compare(c, (double)n, "capital_frequency", "capital_relation", out);
}

static int english_case(check *c, bool upper, bool *out)
{
    const char *code = bm_ifeval_language(c->text.s, c->text.len);

    *out = bm_ifeval_is_case(c->text.s, c->text.len, upper) && code != NULL && strcmp(code, "en") == 0;
    return 0;
}

static int english_capital(check *c, bool *out) { return english_case(c, true, out); }
static int english_lowercase(check *c, bool *out) { return english_case(c, false, out); }
static int no_comma(check *c, bool *out) { *out = !contains(c->text, ","); return 0; }

static int quotation(check *c, bool *out)
{
    view v = strip(c->text);

    *out = v.len > 1 && v.s[0] == '"' && v.s[v.len - 1] == '"';
    return 0;
}

/* ---- the table and the verdict ---- */

/* X(name, check) */
#define INSTRUCTION_TABLE(X) \
    X("keywords:existence", existence) X("keywords:frequency", frequency) X("keywords:forbidden_words", forbidden_words) \
    X("keywords:letter_frequency", letter_frequency) X("language:response_language", response_language) \
    X("length_constraints:number_sentences", number_sentences) X("length_constraints:number_paragraphs", number_paragraphs) \
    X("length_constraints:number_words", number_words) \
    X("length_constraints:nth_paragraph_first_word", nth_paragraph_first_word) \
    X("detectable_content:number_placeholders", number_placeholders) X("detectable_content:postscript", postscript) \
    X("detectable_format:number_bullet_lists", number_bullet_lists) \
    X("detectable_format:constrained_response", constrained_response) \
    X("detectable_format:number_highlighted_sections", number_highlighted_sections) \
    X("detectable_format:multiple_sections", multiple_sections) X("detectable_format:json_format", json_format) \
    X("detectable_format:title", title) X("combination:two_responses", two_responses) \
    X("combination:repeat_prompt", repeat_prompt) X("startend:end_checker", end_checker) \
    X("change_case:capital_word_frequency", capital_word_frequency) X("change_case:english_capital", english_capital) \
    X("change_case:english_lowercase", english_lowercase) X("punctuation:no_comma", no_comma) \
    X("startend:quotation", quotation)
#define X(name, fn) name,
static const char *const NAMES[] = {INSTRUCTION_TABLE(X) NULL};
#undef X
#define X(name, fn) fn,
static check_fn *const CHECKS[] = {INSTRUCTION_TABLE(X)};
#undef X
enum { N_INSTRUCTIONS = sizeof CHECKS / sizeof CHECKS[0], N_FORMS = 8 };

const char *const *bm_ifeval_instructions(void)
{
    return NAMES;
}

/* The answer, without its first line, its last, both; then the same four without asterisks (own memory in bufs). */
static int make_forms(view forms[N_FORMS], bm_buf bufs[4], view text, bm_error *err)
{
    const char *first = memchr(text.s, '\n', text.len), *last = memrchr(text.s, '\n', text.len);
    view none = {"", 0};

    forms[0] = text;
    forms[1] = first == NULL ? none : strip((view){first + 1, text.len - (size_t)(first + 1 - text.s)});
    forms[2] = last == NULL ? none : strip((view){text.s, (size_t)(last - text.s)});
    forms[3] = first == NULL || first == last ? none : strip((view){first + 1, (size_t)(last - first) - 1});
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < forms[i].len; k++)
            if (forms[i].s[k] != '*')
                bm_buf_putc(&bufs[i], forms[i].s[k]);
        if (bufs[i].failed)
            return no_memory(err);
        forms[4 + i] = of(&bufs[i]);
    }
    return 0;
}

static check_fn *find(const json_t *name)
{
    for (size_t i = 0; json_is_string(name) && i < N_INSTRUCTIONS; i++)
        if (strcmp(NAMES[i], json_string_value(name)) == 0)
            return CHECKS[i];
    return NULL;
}

static int check_one(bm_ifeval_result *r, size_t i, const json_t *name, const json_t *kw, const view forms[N_FORMS], bm_error *err)
{
    check_fn *fn = find(name);
    int rc = 0;

    if (fn == NULL)
        return bm_fail(err, BM_INVALID, "instruction_id_list: no such instruction '%.60s'", json_is_string(name) ? json_string_value(name) : "?");
    for (size_t k = 0; k < N_FORMS && rc == 0 && !r->loose[i]; k++) {
        check c = {kw, forms[k], err};
        bool good = false;
        if (!blank(forms[k]) && (rc = fn(&c, &good)) < 0)
            return bm_wrap(err, "%.60s", json_string_value(name));
        r->loose[i] = good;
        r->strict[i] |= k == 0 && good;
    }
    return rc;
}

int bm_ifeval_check(bm_ifeval_result *out, const json_t *doc, const char *response, size_t len, bm_error *err)
{
    const json_t *names = json_object_get(doc, "instruction_id_list"), *kwargs = json_object_get(doc, "kwargs");
    view forms[N_FORMS];
    bm_buf bufs[4] = {{0}};
    int rc;

    memset(out, 0, sizeof *out);
    if (!json_is_array(names) || !json_is_array(kwargs) || json_array_size(names) != json_array_size(kwargs))
        return bm_fail(err, BM_INVALID, "instruction_id_list and kwargs must be lists of one length");
    out->n = json_array_size(names);
    out->strict = bm_calloc(out->n + 1, sizeof *out->strict);
    out->loose = bm_calloc(out->n + 1, sizeof *out->loose);
    rc = out->strict == NULL || out->loose == NULL ? no_memory(err) : make_forms(forms, bufs, (view){response, len}, err);
    out->all_strict = out->all_loose = true;
    for (size_t i = 0; i < out->n && rc == 0; i++) {
        rc = check_one(out, i, json_array_get(names, i), json_array_get(kwargs, i), forms, err);
        out->all_strict &= out->strict[i], out->all_loose &= out->loose[i];
    }
    for (size_t i = 0; i < 4; i++)
        bm_buf_done(&bufs[i]);
    if (rc < 0)
        bm_ifeval_result_done(out);
    return rc;
}

void bm_ifeval_result_done(bm_ifeval_result *result)
{
    bm_free(result->strict);
    bm_free(result->loose);
    memset(result, 0, sizeof *result);
}
