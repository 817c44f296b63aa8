/* sse.c - server-sent events. */
#include "server/sse.h"

void bm_sse_data(bm_buf *out, const char *json, size_t len)
{
    bm_buf_puts(out, "data: ");
    bm_buf_add(out, json, len);
    bm_buf_puts(out, "\n\n");
}

void bm_sse_comment(bm_buf *out, const char *text)
{
    bm_buf_puts(out, ": ");
    for (; *text != '\0'; text++)
        bm_buf_putc(out, *text == '\n' || *text == '\r' ? ' ' : *text);
    bm_buf_puts(out, "\n\n");
}

void bm_sse_done(bm_buf *out) { bm_buf_puts(out, "data: [DONE]\n\n"); }
