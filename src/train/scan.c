/* scan.c - see scan.h. */
#include "train/scan.h"

#include <string.h>

void bm_scan_move(bm_scan *s, size_t to)
{
    const char *p = s->text + s->at, *end = s->text + to;

    while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL)
        s->line++, p++;
    s->at = to;
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

bool bm_scan_blanks(bm_scan *s)
{
    for (; s->at < s->end && is_blank(s->text[s->at]); s->at++)
        s->line += s->text[s->at] == '\n';
    return s->at < s->end;
}

/* Behind the quote that closes the string whose opening quote is at `at`; end + 1: there is none. */
static size_t string_end(const bm_scan *s, size_t at)
{
    for (at++; at < s->end; at++) {
        if (s->text[at] == '\\')
            at++;
        else if (s->text[at] == '"')
            return at + 1;
    }
    return s->end + 1;
}

bool bm_scan_value(bm_scan *s)
{
    size_t at = s->at, depth = 0;

    do {
        char c = s->text[at];
        if (c == '"') {
            if ((at = string_end(s, at)) > s->end)
                break;
            continue;
        }
        if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth -= depth > 0;
        else if (depth == 0) {                                   /* a bare word or number */
            while (at < s->end && !is_blank(s->text[at]) && strchr(",]}[{\"", s->text[at]) == NULL)
                at++;
            if (at == s->at)
                at++;                                            /* a comma or a NUL where a value should be */
            break;
        }
        at++;
    } while (depth > 0 && at < s->end);
    bool whole = depth == 0 && at <= s->end;
    bm_scan_move(s, at <= s->end ? at : s->end);
    return whole;
}

static void skip_line(bm_scan *s)
{
    const char *p = memchr(s->text + s->at, '\n', s->end - s->at);

    bm_scan_move(s, p == NULL ? s->end : (size_t)(p - s->text) + 1);
}

/* A field in quotes; at stands on the opening one and behind the closing one afterwards. */
static int quoted_field(bm_scan *s, bm_buf *bytes, bm_error *err)
{
    uint64_t line = s->line;
    size_t at = s->at + 1;

    for (;;) {
        const char *q = at < s->end ? memchr(s->text + at, '"', s->end - at) : NULL;
        if (q == NULL) {
            bm_scan_move(s, s->end);
            return bm_fail(err, BM_INVALID, "the quote that opens on line %llu does not close", (unsigned long long)line);
        }
        size_t quote = (size_t)(q - s->text);
        bm_buf_add(bytes, s->text + at, quote - at);
        at = quote + 1;
        if (at == s->end || s->text[at] != '"')
            break;
        bm_buf_putc(bytes, '"');
        at++;
    }
    bm_scan_move(s, at);
    return 0;
}

static void plain_field(bm_scan *s, char separator, bm_buf *bytes)
{
    size_t at = s->at;

    while (at < s->end && s->text[at] != separator && s->text[at] != '\n')
        at++;
    size_t len = at - s->at;
    if ((at == s->end || s->text[at] == '\n') && len > 0 && s->text[at - 1] == '\r')
        len--;
    bm_buf_add(bytes, s->text + s->at, len);
    s->at = at;
}

/* What stands behind a field: 1: another one, 0: the record's end. */
static int field_end(bm_scan *s, char separator, bm_error *err)
{
    if (s->at < s->end && s->text[s->at] == '\r' && (s->at + 1 == s->end || s->text[s->at + 1] == '\n'))
        s->at++;
    if (s->at == s->end)
        return 0;
    if (s->text[s->at] == separator) {
        s->at++;
        return 1;
    }
    if (s->text[s->at] == '\n') {
        s->at++, s->line++;
        return 0;
    }
    skip_line(s);
    return bm_fail(err, BM_INVALID, "something stands between a closing quote and the next separator");
}

int bm_scan_record(bm_scan *s, char separator, bm_buf *bytes, size_t *ends, size_t max, size_t *n, bm_error *err)
{
    int rc;

    bm_buf_clear(bytes);
    *n = 0;
    if (s->at == s->end)
        return 0;
    do {
        if (*n == max) {
            skip_line(s);
            return bm_fail(err, BM_INVALID, "more than %zu columns", max);
        }
        if (s->at < s->end && s->text[s->at] == '"') {
            if ((rc = quoted_field(s, bytes, err)) < 0)
                return rc;
        } else {
            plain_field(s, separator, bytes);
        }
        ends[(*n)++] = bytes->len;
    } while ((rc = field_end(s, separator, err)) == 1);
    if (rc == 0 && bytes->failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a record of CSV");
    return rc < 0 ? rc : 1;
}
