/* error.h - result codes and the message that goes with them.
 * Every function that can fail returns 0 or a negative code from the table below and fills a bm_error that its caller owns.
 * Nothing in the library prints; the message is one line without the program's name and without a final stop. */
#pragma once
#include <stdarg.h>
#include <stddef.h>

/* X(name, code, HTTP status, OpenAI error type, OpenAI error code): the only table of codes. */
#define BM_ERROR_TABLE(X) \
    X(BM_NOMEM,       -1, 503, "server_error",          "out_of_memory") \
    X(BM_IO,          -2, 500, "server_error",          "io_error") \
    X(BM_FORMAT,      -3, 500, "server_error",          "bad_model_file")      /* a file's bytes are wrong */ \
    X(BM_UNSUPPORTED, -4, 400, "invalid_request_error", "unsupported")         /* well formed, not carried out here */ \
    X(BM_INVALID,     -5, 400, "invalid_request_error", "invalid_value")       /* the caller's argument or request */ \
    X(BM_NOTFOUND,    -6, 404, "invalid_request_error", "not_found") \
    X(BM_EXISTS,      -7, 409, "invalid_request_error", "exists") \
    X(BM_CONTEXT,     -8, 400, "invalid_request_error", "context_length_exceeded") \
    X(BM_CANCELED,    -9, 499, "server_error",          "canceled") \
    X(BM_BUSY,       -10, 429, "rate_limit_error",      "queue_full") \
    X(BM_LOADING,    -11, 503, "server_error",          "loading") \
    X(BM_AUTH,       -12, 401, "authentication_error",  "invalid_api_key") \
    X(BM_FORBIDDEN,  -13, 403, "permission_error",      "forbidden") \
    X(BM_TOOLARGE,   -14, 413, "invalid_request_error", "too_large") \
    X(BM_LIMIT,      -15, 400, "invalid_request_error", "limit_exceeded")      /* a budget of steps, bytes or depth */ \
    X(BM_INTERNAL,   -16, 500, "server_error",          "internal")

enum {
#define X(name, code, http, type, slug) name = code,
    BM_ERROR_TABLE(X)
#undef X
    BM_OK = 0
};

typedef struct bm_error {
    int code;            /* as returned */
    char msg[480];       /* what failed: why; always valid UTF-8 when the inputs were */
    char hint[240];      /* the command or change that helps; "" when there is none */
    char param[64];      /* the request field at fault; "" when not a request */
} bm_error;

/* Fill *err (NULL is fine) and return code, so that a failing path is one line. Clears hint and param. */
int bm_fail(bm_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int bm_vfail(bm_error *err, int code, const char *fmt, va_list ap);
/* Add what helps, or the request field at fault, to an error already filled. Both return err->code (0 when err is NULL). */
int bm_hint(bm_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int bm_param(bm_error *err, const char *param);
/* Put "prefix: " in front of the message, for a caller that knows the file or the model. Returns err->code. */
int bm_wrap(bm_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *bm_error_name(int code);          /* "BM_NOMEM" */
const char *bm_error_slug(int code);          /* OpenAI "code" */
const char *bm_error_type(int code);          /* OpenAI "type" */
int bm_error_http(int code);                  /* HTTP status */

/* A broken invariant of ours: file, line and expression on stderr, then abort. No byte from outside may reach one. */
#define BM_CHECK(expr) ((expr) ? (void)0 : bm_check_failed(#expr, __FILE__, __LINE__))
_Noreturn void bm_check_failed(const char *expr, const char *file, int line);
