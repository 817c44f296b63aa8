/* request_head.h - the head of an HTTP/1.x request (RFC 9112): bytes in, checked fields out. Pure; strict where leniency lets
 * two readers disagree: CRLF only, no folding, one Host, one Content-Length of digits, "chunked" alone. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BM_HEAD_MAX_BYTES = 32768, BM_HEAD_MAX_FIELDS = 100, BM_TARGET_MAX_BYTES = 8192 };

typedef struct bm_http_head {
    char method[16];
    char *target;                /* "/path" without the query, percent-decoding not done; points into the bytes given */
    char *query;                 /* or NULL */
    char *host;                  /* as sent, or of an absolute target; NULL: none (HTTP/1.0 only) */
    char *origin, *authorization, *content_type, *content_encoding;      /* NULL: not sent */
    int minor;                   /* HTTP/1.minor */
    bool keep_alive, chunked, expect_continue;
    bool has_length;
    uint64_t length;
} bm_http_head;

/* Bytes of a complete head at the start of s (with its empty line), or 0 when more is needed. Lines without CR end it too:
 * the parser refuses them, which is kinder than waiting for what will not come. */
size_t bm_http_head_length(const char *s, size_t len);
/* Parse head[0..len), which ends with the empty line; the bytes are cut into strings in place.
 * Returns 0, or the HTTP status to refuse with, and *why. */
int bm_http_head_parse(bm_http_head *out, char *head, size_t len, const char **why);
/* A line "SIZE[;ext]" of a chunked body: false when it is not one. */
bool bm_http_chunk_size(const char *line, size_t len, uint64_t *out);
