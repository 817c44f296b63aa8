/* multipart.h - multipart/form-data (RFC 7578) as it comes: bytes in, parts out, nothing kept but the end of what may be a boundary.
 * Pure; strict: CRLF, a Content-Disposition with a name, heads of at most 4 KiB, at most 16 parts. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"

typedef struct bm_multipart {
    /* A part begins; filename is "" when it has none. Then its bytes. 0 to go on, or the HTTP status to refuse with, and *why. */
    int (*part)(void *arg, const char *name, const char *filename, const char **why);
    int (*data)(void *arg, const char *bytes, size_t len, const char **why);
    void *arg;
    /* private */
    char delimiter[80];          /* CRLF, "--", the boundary */
    size_t delimiter_len;
    int state, n_parts;
    bm_buf buf;
} bm_multipart;

/* After part, data and arg are set: false when the type is not multipart/form-data with a boundary of 1 to 70 characters. */
bool bm_multipart_init(bm_multipart *m, const char *content_type);
/* 0, or the HTTP status to refuse with, and *why. */
int  bm_multipart_feed(bm_multipart *m, const char *bytes, size_t len, const char **why);
bool bm_multipart_complete(const bm_multipart *m);       /* the closing boundary was seen */
void bm_multipart_done(bm_multipart *m);
