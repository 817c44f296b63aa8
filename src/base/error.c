/* error.c - the code table and message formatting. */
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct code_row {
    const char *name;
    int code, http;
    const char *type, *slug;
} codes[] = {
#define X(name, code, http, type, slug) { #name, code, http, type, slug },
    BM_ERROR_TABLE(X)
#undef X
};

static const struct code_row *find_code(int code)
{
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].code == code)
            return &codes[i];
    return &codes[sizeof codes / sizeof codes[0] - 1];
}

const char *bm_error_name(int code) { return code == 0 ? "BM_OK" : find_code(code)->name; }
const char *bm_error_slug(int code) { return find_code(code)->slug; }
const char *bm_error_type(int code) { return find_code(code)->type; }
int bm_error_http(int code) { return code == 0 ? 200 : find_code(code)->http; }

/* A cut message must not end inside a UTF-8 sequence: JSON writers downstream are strict. */
static void trim_utf8(char *s)
{
    size_t n = strlen(s), back = 0;

    while (back < 4 && back < n && ((unsigned char)s[n - 1 - back] & 0xC0) == 0x80)
        back++;
    if (back >= n)
        return;
    unsigned char lead = (unsigned char)s[n - 1 - back];
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (need > back + 1)
        s[n - 1 - back] = '\0';
}

int bm_vfail(bm_error *err, int code, const char *fmt, va_list ap)
{
    char msg[sizeof err->msg];              /* apart, because an argument may be the old message */

    if (err != NULL) {
        vsnprintf(msg, sizeof msg, fmt, ap);
        trim_utf8(msg);
        err->code = code;
        err->hint[0] = err->param[0] = '\0';
        memcpy(err->msg, msg, sizeof msg);
    }
    return code;
}

int bm_fail(bm_error *err, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    bm_vfail(err, code, fmt, ap);
    va_end(ap);
    return code;
}

int bm_hint(bm_error *err, const char *fmt, ...)
{
    va_list ap;

    if (err == NULL)
        return 0;
    va_start(ap, fmt);
    vsnprintf(err->hint, sizeof err->hint, fmt, ap);
    va_end(ap);
    trim_utf8(err->hint);
    return err->code;
}

int bm_param(bm_error *err, const char *param)
{
    if (err == NULL)
        return 0;
    snprintf(err->param, sizeof err->param, "%s", param);
    trim_utf8(err->param);
    return err->code;
}

int bm_wrap(bm_error *err, const char *fmt, ...)
{
    char prefix[sizeof err->msg], old[sizeof err->msg];
    va_list ap;

    if (err == NULL)
        return 0;
    va_start(ap, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    memcpy(old, err->msg, sizeof old);
    int n = snprintf(err->msg, sizeof err->msg, "%s: ", prefix);
    if (n > 0 && (size_t)n < sizeof err->msg)
        snprintf(err->msg + n, sizeof err->msg - (size_t)n, "%s", old);
    trim_utf8(err->msg);
    return err->code;
}

_Noreturn void bm_check_failed(const char *expr, const char *file, int line)
{
    fprintf(stderr, "baimo: internal error at %s:%d: %s\n", file, line, expr);
    abort();
}
