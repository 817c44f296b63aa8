/* sse.h - server-sent events (WHATWG HTML, section 9.2): what is written into a stream. JSON never holds a raw line feed. */
#pragma once
#include "base/buf.h"

void bm_sse_data(bm_buf *out, const char *json, size_t len);     /* data: ...\n\n */
void bm_sse_comment(bm_buf *out, const char *text);              /* : ...\n\n; line feeds become blanks */
void bm_sse_done(bm_buf *out);                                   /* data: [DONE]\n\n */
