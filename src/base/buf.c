/* buf.c - a growable byte string. */
#include "base/buf.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool bm_buf_reserve(bm_buf *b, size_t more_bytes)
{
    size_t need, room;

    if (b->failed)
        return false;
    if (!bm_add_size(b->len, more_bytes, &need) || !bm_add_size(need, 1, &room) || (b->limit != 0 && need > b->limit))
        return !(b->failed = true);
    if (room <= b->cap)
        return true;
    size_t cap = b->cap < 64 ? 64 : b->cap + b->cap / 2;
    if (cap < room)
        cap = room;
    char *data = bm_realloc(b->data, cap);
    if (data == NULL)
        return !(b->failed = true);
    b->data = data;
    b->cap = cap;
    return true;
}

void bm_buf_add(bm_buf *b, const void *bytes, size_t len_bytes)
{
    if (!bm_buf_reserve(b, len_bytes))
        return;
    if (len_bytes != 0)
        memcpy(b->data + b->len, bytes, len_bytes);
    b->len += len_bytes;
    b->data[b->len] = '\0';
}

void bm_buf_puts(bm_buf *b, const char *s) { bm_buf_add(b, s, strlen(s)); }
void bm_buf_putc(bm_buf *b, char c) { bm_buf_add(b, &c, 1); }

void bm_buf_printf(bm_buf *b, const char *fmt, ...)
{
    va_list ap, again;

    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && bm_buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    } else {
        b->failed = true;
    }
    va_end(again);
}

void bm_buf_clear(bm_buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data != NULL)
        b->data[0] = '\0';
}

char *bm_buf_take(bm_buf *b)
{
    char *s = NULL;

    if (!b->failed && bm_buf_reserve(b, 0)) {
        b->data[b->len] = '\0';
        s = b->data;
        b->data = NULL;
    }
    bm_buf_done(b);
    return s;
}

void bm_buf_done(bm_buf *b)
{
    bm_free(b->data);
    *b = (bm_buf){ .limit = b->limit };
}
