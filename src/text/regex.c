/* regex.c - Python's re on PCRE2: translation of the few things that are written differently, bounded matching, and the walk over
 * matches that findall and sub share. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>
#include <string.h>

#include "base/mem.h"

enum { MAX_PATTERN = 1 << 16, MATCH_LIMIT = 5 * 1000 * 1000, HEAP_LIMIT_KIB = 64 << 10, MAX_GROUPS = 512 };

struct bm_regex {
    pcre2_code *code;
    uint32_t n_groups;
    char *pattern;
};

/* Copy one escape of the pattern; returns the bytes of the source that it took. */
static size_t translate_escape(bm_buf *b, const char *p, size_t left)
{
    size_t digits = left > 1 && p[1] == 'u' ? 4 : left > 1 && p[1] == 'U' ? 8 : 0;

    if (left > 1 && p[1] == 'Z') {
        bm_buf_puts(b, "\\z");
        return 2;
    }
    if (digits > 0 && left >= 2 + digits) {
        bm_buf_puts(b, "\\x{");
        bm_buf_add(b, p + 2, digits);
        bm_buf_putc(b, '}');
        return 2 + digits;
    }
    bm_buf_add(b, p, left > 1 ? 2 : 1);
    return left > 1 ? 2 : 1;
}

static void translate(bm_buf *b, const char *p, size_t len)
{
    bool in_class = false;
    size_t class_at = 0;

    for (size_t i = 0; i < len;) {
        if (p[i] == '\\') {
            i += translate_escape(b, p + i, len - i);
            continue;
        }
        if (!in_class && p[i] == '[') {
            in_class = true;
            class_at = i + (i + 1 < len && p[i + 1] == '^');
        } else if (in_class && p[i] == ']' && i > class_at + 1) {
            in_class = false;
        } else if (in_class && p[i] == '[') {
            bm_buf_putc(b, '\\');                        /* no POSIX classes in Python */
        } else if (!in_class && p[i] == '{' && i + 2 < len && p[i + 1] == ',' && p[i + 2] >= '0' && p[i + 2] <= '9') {
            bm_buf_puts(b, "{0");
            i++;
            continue;
        }
        bm_buf_putc(b, p[i++]);
    }
}

static int compile_code(bm_regex *x, const char *translated, size_t len, int flags, bm_error *err)
{
    pcre2_compile_context *cc = pcre2_compile_context_create(NULL);
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    PCRE2_UCHAR text[160];
    PCRE2_SIZE at;
    int code;

    if (cc == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a regular expression");
    options |= (flags & BM_REGEX_IGNORECASE) != 0 ? PCRE2_CASELESS : 0;
    options |= (flags & BM_REGEX_MULTILINE) != 0 ? PCRE2_MULTILINE : 0;
    options |= (flags & BM_REGEX_DOTALL) != 0 ? PCRE2_DOTALL : 0;
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    x->code = pcre2_compile((PCRE2_SPTR)translated, len, options, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (x->code == NULL) {
        pcre2_get_error_message(code, text, sizeof text);
        return bm_fail(err, BM_INVALID, "regular expression '%.120s': %s, at offset %zu", x->pattern, (char *)text, (size_t)at);
    }
    pcre2_pattern_info(x->code, PCRE2_INFO_CAPTURECOUNT, &x->n_groups);
    return x->n_groups > MAX_GROUPS ? bm_fail(err, BM_LIMIT, "a regular expression has %u groups: at most %d", x->n_groups, MAX_GROUPS) : 0;
}

int bm_regex_compile(bm_regex **out, const char *pattern, size_t len, int flags, bm_error *err)
{
    bm_regex *x = bm_zalloc(sizeof *x);
    bm_buf b = {0};
    int rc;

    *out = NULL;
    if (x == NULL || (x->pattern = bm_strndup(pattern, len)) == NULL) {
        rc = bm_fail(err, BM_NOMEM, "no memory for a regular expression");
        goto out;
    }
    if (len > MAX_PATTERN) {
        rc = bm_fail(err, BM_LIMIT, "a regular expression of %zu bytes: at most %d", len, MAX_PATTERN);
        goto out;
    }
    translate(&b, pattern, len);
    if (b.failed) {
        rc = bm_fail(err, BM_NOMEM, "no memory for a regular expression");
        goto out;
    }
    if ((rc = compile_code(x, b.len > 0 ? b.data : "", b.len, flags, err)) < 0)
        goto out;
    *out = x, x = NULL;
out:
    bm_buf_done(&b);
    bm_regex_free(x);
    return rc;
}

void bm_regex_free(bm_regex *regex)
{
    if (regex == NULL)
        return;
    if (regex->code != NULL)
        pcre2_code_free(regex->code);
    bm_free(regex->pattern);
    bm_free(regex);
}

uint32_t bm_regex_groups(const bm_regex *regex)
{
    return regex->n_groups;
}

static int match_failed(const bm_regex *x, int code, bm_error *err)
{
    PCRE2_UCHAR text[160];

    if (code == PCRE2_ERROR_MATCHLIMIT || code == PCRE2_ERROR_DEPTHLIMIT || code == PCRE2_ERROR_HEAPLIMIT)
        return bm_fail(err, BM_LIMIT, "regular expression '%.120s' takes too many steps on a text", x->pattern);
    pcre2_get_error_message(code, text, sizeof text);
    return bm_fail(err, code == PCRE2_ERROR_NOMEMORY ? BM_NOMEM : BM_INVALID, "regular expression '%.120s': %s", x->pattern, (char *)text);
}

/* 1 found, 0 not, or a negative code of ours. */
static int match_at(const bm_regex *x, const char *text, size_t len, size_t at, uint32_t options, size_t *spans, uint32_t groups, bm_error *err)
{
    pcre2_match_context *mc = pcre2_match_context_create(NULL);
    pcre2_match_data *md = pcre2_match_data_create_from_pattern(x->code, NULL);
    int code = PCRE2_ERROR_NOMEMORY;

    if (mc != NULL && md != NULL) {
        pcre2_set_match_limit(mc, MATCH_LIMIT);
        pcre2_set_heap_limit(mc, HEAP_LIMIT_KIB);
        code = pcre2_match(x->code, (PCRE2_SPTR)text, len, at, options, md, mc);
    }
    if (code > 0 && spans != NULL) {
        const PCRE2_SIZE *ov = pcre2_get_ovector_pointer(md);
        for (uint32_t i = 0; i < 2 * (groups + 1); i++)
            spans[i] = i < 2 * (uint32_t)code && ov[i] != PCRE2_UNSET ? ov[i] : SIZE_MAX;
    }
    pcre2_match_data_free(md);
    pcre2_match_context_free(mc);
    return code > 0 ? 1 : code == PCRE2_ERROR_NOMATCH ? 0 : match_failed(x, code, err);
}

int bm_regex_next(const bm_regex *regex, const char *text, size_t len, bm_regex_walk *walk, size_t *spans, uint32_t max_groups, bm_error *err)
{
    size_t local[2 * (MAX_GROUPS + 1)];
    uint32_t options = (walk->must_advance ? PCRE2_NOTEMPTY_ATSTART : 0) | (walk->at > 0 || walk->must_advance ? PCRE2_NO_UTF_CHECK : 0);
    uint32_t n = max_groups < regex->n_groups ? max_groups : regex->n_groups;
    int rc;

    if (walk->done)
        return 0;
    rc = match_at(regex, text, len, walk->at, options, local, n, err);
    if (rc <= 0) {
        walk->done = true;
        return rc;
    }
    if (local[1] < local[0])                             /* \K inside a look-ahead; Python has no \K */
        local[1] = local[0];
    /* As CPython 3.7 and later: an empty match may follow a match directly, but not another one at its own place. */
    walk->must_advance = local[0] == local[1];
    walk->at = local[1];
    memcpy(spans, local, 2 * ((size_t)n + 1) * sizeof *spans);
    return 1;
}

int bm_regex_search(const bm_regex *regex, const char *text, size_t len, size_t span[2], bm_error *err)
{
    size_t local[2];

    return match_at(regex, text, len, 0, 0, span != NULL ? span : local, 0, err);
}

static json_t *group_text(const char *text, const size_t *spans, uint32_t g)
{
    return spans[2 * g] == SIZE_MAX ? json_stringn_nocheck("", 0)
                                    : json_stringn_nocheck(text + spans[2 * g], spans[2 * g + 1] - spans[2 * g]);
}

static json_t *match_value(const bm_regex *x, const char *text, const size_t *spans)
{
    json_t *tuple;

    if (x->n_groups <= 1)
        return group_text(text, spans, x->n_groups);
    if ((tuple = json_array()) == NULL)
        return NULL;
    for (uint32_t g = 1; g <= x->n_groups; g++)
        if (json_array_append_new(tuple, group_text(text, spans, g)) != 0) {
            json_decref(tuple);
            return NULL;
        }
    return tuple;
}

int bm_regex_findall(json_t **out, const bm_regex *regex, const char *text, size_t len, bm_error *err)
{
    size_t spans[2 * (MAX_GROUPS + 1)];
    bm_regex_walk walk = {0};
    json_t *all = json_array();
    int rc = all == NULL ? bm_fail(err, BM_NOMEM, "no memory for matches") : 1;

    *out = NULL;
    while (rc > 0 && (rc = bm_regex_next(regex, text, len, &walk, spans, MAX_GROUPS, err)) > 0)
        if (json_array_append_new(all, match_value(regex, text, spans)) != 0)
            rc = bm_fail(err, BM_NOMEM, "no memory for matches");
    if (rc < 0)
        json_decref(all);
    else
        *out = all;
    return rc;
}

/* ---- sub ---- */

typedef struct subst { const bm_regex *x; bm_buf *out; const char *text; const size_t *spans; bm_error *err; } subst;

static int put_group(const subst *s, uint32_t g)
{
    if (g > s->x->n_groups)
        return bm_fail(s->err, BM_INVALID, "regular expression '%.120s': the replacement names group %u", s->x->pattern, g);
    if (s->spans[2 * g] != SIZE_MAX)
        bm_buf_add(s->out, s->text + s->spans[2 * g], s->spans[2 * g + 1] - s->spans[2 * g]);
    return 0;
}

/* \g<number or name> */
static int put_named(const subst *s, const char *repl, size_t len, size_t *at)
{
    const char *begin = repl + *at + 3, *end = *at + 3 <= len ? memchr(begin, '>', len - *at - 3) : NULL;
    char name[64];
    int g;

    if (*at + 2 >= len || repl[*at + 2] != '<' || end == NULL || end == begin || (size_t)(end - begin) >= sizeof name)
        return bm_fail(s->err, BM_INVALID, "a replacement with an unfinished \\g<...>");
    memcpy(name, begin, (size_t)(end - begin));
    name[end - begin] = '\0';
    *at = (size_t)(end - repl) + 1;
    if (name[0] >= '0' && name[0] <= '9') {
        unsigned n = 0;
        for (const char *p = name; *p >= '0' && *p <= '9' && n < 10000; p++)
            n = n * 10 + (unsigned)(*p - '0');
        return put_group(s, n);
    }
    g = pcre2_substring_number_from_name(s->x->code, (PCRE2_SPTR)name);
    return g < 0 ? bm_fail(s->err, BM_INVALID, "a replacement names the unknown group '%s'", name) : put_group(s, (uint32_t)g);
}

static int put_escape(const subst *s, const char *repl, size_t len, size_t *at)
{
    static const char from[] = "ntrafvb\\", to[] = "\n\t\r\a\f\v\b\\";
    char c = *at + 1 < len ? repl[*at + 1] : '\0';
    const char *known = c != '\0' ? strchr(from, c) : NULL;

    if (c == 'g')
        return put_named(s, repl, len, at);
    if (c >= '1' && c <= '9') {
        uint32_t g = (uint32_t)(c - '0');
        *at += 2;
        if (*at < len && repl[*at] >= '0' && repl[*at] <= '9')
            g = g * 10 + (uint32_t)(repl[(*at)++] - '0');
        return put_group(s, g);
    }
    if (known != NULL)
        bm_buf_putc(s->out, to[known - from]);
    else if (c == '0')
        bm_buf_putc(s->out, '\0');
    else if ((c | 32) >= 'a' && (c | 32) <= 'z')
        return bm_fail(s->err, BM_INVALID, "a replacement with the bad escape \\%c", c);
    else
        bm_buf_add(s->out, repl + *at, c != '\0' ? 2 : 1);
    *at += c != '\0' ? 2 : 1;
    return 0;
}

static int put_replacement(const subst *s, const char *repl, size_t len)
{
    int rc = 0;

    for (size_t at = 0; at < len && rc == 0;) {
        if (repl[at] == '\\')
            rc = put_escape(s, repl, len, &at);
        else
            bm_buf_putc(s->out, repl[at++]);
    }
    return rc;
}

int bm_regex_sub(bm_buf *out, const bm_regex *regex, const char *repl, size_t len_repl, const char *text, size_t len, size_t count, bm_error *err)
{
    size_t spans[2 * (MAX_GROUPS + 1)], copied = 0, n = 0;
    subst s = {regex, out, text, spans, err};
    bm_regex_walk walk = {0};
    int rc = 0;

    while ((count == 0 || n < count) && (rc = bm_regex_next(regex, text, len, &walk, spans, MAX_GROUPS, err)) > 0) {
        bm_buf_add(out, text + copied, spans[0] - copied);
        copied = spans[1];
        n++;
        if ((rc = put_replacement(&s, repl, len_repl)) < 0)
            return rc;
    }
    if (rc < 0)
        return rc;
    bm_buf_add(out, text + copied, len - copied);
    return out->failed ? bm_fail(err, BM_NOMEM, "no memory for a replaced text") : 0;
}

void bm_regex_escape(bm_buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '\0' && strchr("()[]{}?*+-|^$\\.&~# \t\n\r\v\f", text[i]) != NULL)
            bm_buf_putc(out, '\\');
        bm_buf_putc(out, text[i]);
    }
}
