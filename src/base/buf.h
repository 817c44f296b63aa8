/* buf.h - a growable byte string. Writers never fail one by one: the first failure sticks in `failed`, later writes are
 * ignored, and the owner asks once at the end. `limit` bounds what hostile input can make it grow to. One owner. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

typedef struct bm_buf {
    char *data;          /* NUL-terminated once anything was written; NULL before */
    size_t len, cap;     /* bytes, without the NUL */
    size_t limit;        /* 0: none; else the largest len */
    bool failed;         /* no memory, or over limit */
} bm_buf;

void  bm_buf_add(bm_buf *b, const void *bytes, size_t len_bytes);
void  bm_buf_puts(bm_buf *b, const char *s);
void  bm_buf_putc(bm_buf *b, char c);
void  bm_buf_printf(bm_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool  bm_buf_reserve(bm_buf *b, size_t more_bytes);    /* room for more without a failure later; false: failed is set */
void  bm_buf_clear(bm_buf *b);                         /* len 0 and not failed; keeps the memory */
char *bm_buf_take(bm_buf *b);                          /* the string, now the caller's to bm_free; "" when empty, NULL when failed */
void  bm_buf_done(bm_buf *b);
