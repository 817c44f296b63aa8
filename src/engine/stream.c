/* stream.c - UTF-8 borders and stop strings. */
#define _GNU_SOURCE
#include "engine/stream.h"

#include <string.h>
#include "base/utf8.h"

int bm_stream_init(bm_stream *s, const bm_stops *stops, size_t max_piece, bm_error *err)
{
    size_t raw = max_piece + sizeof s->partial;

    memset(s, 0, sizeof *s);
    s->stops = stops;
    /* A bad byte becomes three; a partial stop string waits before it. */
    if (!bm_buf_reserve(&s->raw, raw) || !bm_buf_reserve(&s->held, 3 * raw + stops->max_len)) {
        bm_stream_done(s);
        return bm_fail(err, BM_NOMEM, "no memory for the text of a choice");
    }
    return 0;
}

void bm_stream_done(bm_stream *s)
{
    bm_buf_done(&s->raw);
    bm_buf_done(&s->held);
}

/* The stop string that ends first in held; its start and number. */
static int find_stop(const bm_stream *s, size_t *start)
{
    size_t best_end = 0;
    int found = -1;

    for (size_t i = 0; i < s->stops->n; i++) {
        const char *at = s->held.len == 0 ? NULL : memmem(s->held.data, s->held.len, s->stops->strings[i], s->stops->lens[i]);
        if (at == NULL)
            continue;
        size_t begin = (size_t)(at - s->held.data), end = begin + s->stops->lens[i];
        if (found < 0 || end < best_end || (end == best_end && begin < *start)) {
            found = (int)i;
            best_end = end, *start = begin;
        }
    }
    return found;
}

/* Bytes at the end of held that begin a stop string. */
static size_t stop_tail(const bm_stream *s)
{
    size_t longest = s->stops->max_len > 0 ? s->stops->max_len - 1 : 0;

    for (size_t n = longest < s->held.len ? longest : s->held.len; n > 0; n--)
        for (size_t i = 0; i < s->stops->n; i++)
            if (n < s->stops->lens[i] && memcmp(s->held.data + s->held.len - n, s->stops->strings[i], n) == 0)
                return n;
    return 0;
}

static void emit(bm_stream *s, size_t n, bm_buf *out)
{
    if (n == 0)
        return;
    if (out != NULL)
        bm_buf_add(out, s->held.data, n);
    memmove(s->held.data, s->held.data + n, s->held.len - n);
    s->held.len -= n;
    s->held.data[s->held.len] = '\0';
}

int bm_stream_feed(bm_stream *s, const char *bytes, size_t len, bm_buf *out)
{
    size_t start = 0;

    bm_buf_clear(&s->raw);
    bm_buf_add(&s->raw, s->partial, s->n_partial);
    bm_buf_add(&s->raw, bytes, len);
    if (s->raw.len == 0)
        return -1;
    s->n_partial = bm_utf8_partial_tail(s->raw.data, s->raw.len);
    memcpy(s->partial, s->raw.data + s->raw.len - s->n_partial, s->n_partial);
    bm_utf8_sanitize(&s->held, s->raw.data, s->raw.len - s->n_partial);
    int stop = find_stop(s, &start);
    if (stop >= 0) {
        emit(s, start, out);
        bm_buf_clear(&s->held);
        s->n_partial = 0;
        return stop;
    }
    emit(s, s->held.len - stop_tail(s), out);
    return -1;
}

void bm_stream_finish(bm_stream *s, bm_buf *out)
{
    bm_utf8_sanitize(&s->held, s->partial, s->n_partial);
    s->n_partial = 0;
    emit(s, s->held.len, out);
}
