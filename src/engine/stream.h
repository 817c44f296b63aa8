/* stream.h - the text of one choice while it grows: bytes of tokens in, valid UTF-8 out, stop strings found.
 * What may still become part of a stop string, or of a UTF-8 sequence, is held back. The result does not depend on how the
 * bytes were cut: the stop string that is complete first ends the text (of those that end together, the longest).
 * Room is made by init: feeding pieces of at most max_piece bytes does not allocate. One owner. */
#pragma once
#include <stddef.h>
#include "base/buf.h"
#include "base/error.h"

typedef struct bm_stops {        /* shared by the choices of a request; read-only */
    const char *const *strings;
    const size_t *lens;          /* >= 1 each */
    size_t n, max_len;
} bm_stops;

typedef struct bm_stream {
    const bm_stops *stops;
    char partial[4];             /* bytes of an unfinished UTF-8 sequence */
    size_t n_partial;
    bm_buf raw, held;            /* held: valid UTF-8 that may start a stop string */
} bm_stream;

int  bm_stream_init(bm_stream *s, const bm_stops *stops, size_t max_piece, bm_error *err);
void bm_stream_done(bm_stream *s);
/* Append to *out (NULL: dropped) what is certain now. Returns the number of the stop string that ended the text, or -1. */
int  bm_stream_feed(bm_stream *s, const char *bytes, size_t len, bm_buf *out);
/* The end without a stop string: what was held back comes out, an unfinished sequence as U+FFFD. */
void bm_stream_finish(bm_stream *s, bm_buf *out);
