/* http.c - connections: reading requests, writing replies, leaving clients, time limits. */
#include "server/http.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "server/errors.h"
#include "server/http_conn.h"

enum { LINGER_SECONDS = 3, BODY_SECONDS = 600, MAX_PIPELINE = 64 };

static void run(bm_conn *c);
static void set_deadline(bm_conn *c, int seconds) { c->deadline_ns = bm_now_ns() + (int64_t)seconds * 1000000000; }

static void forget_body(bm_conn *c)
{
    c->http->bodies_bytes -= c->body_charged;
    c->body_charged = c->body_sunk = 0;
    bm_buf_done(&c->x.body);
    if (c->x.sink != NULL)
        c->x.sink->drop(c->x.sink);
    c->x.sink = NULL;
}

void bm_conn_discard(bm_conn *c)
{
    bm_http *http = c->http;

    forget_body(c);
    bm_free(c->head_bytes);
    bm_conn_unwatch(c);
    bufferevent_free(c->bev);
    *c->back = c->next;
    if (c->next != NULL)
        c->next->back = c->back;
    http->n_conns--;
    bm_free(c);
    bm_http_accepting(http);
    http->handler.quiet(http->handler.arg);
}

/* The client left, or must: whoever holds the exchange is told, then all is freed. */
void bm_conn_drop(bm_conn *c)
{
    if (c->state == CONN_HELD || c->state == CONN_STREAM) {
        c->state = CONN_CLOSING;
        c->http->handler.gone(c->http->handler.arg, &c->x);
    }
    bm_conn_discard(c);
}

/* Ready for the next request on the same connection. */
static void next_request(bm_conn *c)
{
    forget_body(c);
    bm_free(c->head_bytes);
    c->head_bytes = NULL;
    c->x = (bm_exchange){ .conn = c, .local = c->x.local };
    c->state = CONN_HEAD;
    c->in_head = false;
    set_deadline(c, c->http->limits.idle_seconds);
}

/* The reply is in the output buffer: go on, or close once it is written. */
static void finish_reply(bm_conn *c)
{
    bm_conn_unwatch(c);
    if (c->x.head.keep_alive && !c->http->draining && c->body_read) {
        next_request(c);
        if (!c->running)
            run(c);
    } else {
        /* Half-close after the last byte, then read and forget what the client still sends: a close with unread input would
         * reset the connection and could take the reply with it. */
        c->state = CONN_CLOSING;
        set_deadline(c, c->http->limits.stall_seconds);
        if (evbuffer_get_length(bufferevent_get_output(c->bev)) == 0)
            bm_conn_linger(c);
    }
    c->http->handler.quiet(c->http->handler.arg);
}

void bm_exchange_allow_origin(bm_exchange *x, const char *origin)
{
    bm_conn *c = x->conn;

    int n = snprintf(c->cors_text, sizeof c->cors_text, "Access-Control-Allow-Origin: %s\r\nVary: Origin\r\n", origin);
    c->cors = n > 0 && (size_t)n < sizeof c->cors_text ? c->cors_text : NULL;
}

void bm_conn_linger(bm_conn *c)
{
    if (c->lingering)
        return;
    c->lingering = true;
    shutdown(bufferevent_getfd(c->bev), SHUT_WR);
    set_deadline(c, LINGER_SECONDS);
    evbuffer_drain(bufferevent_get_input(c->bev), evbuffer_get_length(bufferevent_get_input(c->bev)));
}

/* ---- replies ---- */

static void write_head(bm_exchange *x, int status, const char *type, const char *extra, const char *length)
{
    bm_conn *c = x->conn;
    char date[48];
    time_t now = time(NULL);
    struct tm tm;
    struct evbuffer *out = bufferevent_get_output(c->bev);
    bool keep = x->head.keep_alive && !c->http->draining && c->body_read;

    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, bm_status_phrase(status), date);
    if (type != NULL)
        evbuffer_add_printf(out, "Content-Type: %s\r\n", type);
    evbuffer_add_printf(out, "%sx-request-id: %s\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
                        "%s%s%s\r\n",
                        length, x->request_id, c->cors == NULL ? "" : c->cors, extra == NULL ? "" : extra,
                        keep ? "" : "Connection: close\r\n");
}

void bm_exchange_reply(bm_exchange *x, int status, const char *type, const char *extra, const void *body, size_t len)
{
    bm_conn *c = x->conn;
    char length[48];

    snprintf(length, sizeof length, "Content-Length: %zu\r\n", len);
    write_head(x, status, type, extra, status == 204 ? "" : length);
    if (strcmp(x->head.method, "HEAD") != 0)
        bufferevent_write(c->bev, body, len);
    finish_reply(c);
}

void bm_exchange_file(bm_exchange *x, const char *type, int fd)
{
    bm_conn *c = x->conn;
    char length[48];
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        bm_exchange_status(x, 500, "the file cannot be read", NULL, NULL);
        return;
    }
    snprintf(length, sizeof length, "Content-Length: %lld\r\n", (long long)st.st_size);
    write_head(x, 200, type, NULL, length);
    if (strcmp(x->head.method, "HEAD") == 0 || st.st_size == 0 ||
        evbuffer_add_file(bufferevent_get_output(c->bev), fd, 0, st.st_size) < 0)
        close(fd);                                   /* without its bytes the client sees a short reply */
    finish_reply(c);
}

static const char json_type[] = "application/json";

void bm_exchange_error(bm_exchange *x, const bm_error *err)
{
    bm_buf body = { 0 };
    int status = bm_error_http(err->code);
    const char *extra = err->code == BM_AUTH ? "WWW-Authenticate: Bearer\r\n"
                      : status == 429 ? "Retry-After: 1\r\n" : status == 503 ? "Retry-After: 2\r\n" : NULL;

    bm_error_json(&body, err, x->request_id);
    bm_exchange_reply(x, status, json_type, extra, body.data, body.len);
    bm_buf_done(&body);
}

void bm_exchange_status(bm_exchange *x, int status, const char *message, const char *hint, const char *extra)
{
    bm_buf body = { 0 };

    bm_status_json(&body, status, message, hint, x->request_id);
    bm_exchange_reply(x, status, json_type, extra, body.data, body.len);
    bm_buf_done(&body);
}

void bm_exchange_stream(bm_exchange *x, const char *type, const char *extra)
{
    bm_conn *c = x->conn;

    c->chunked_reply = x->head.minor == 1;
    if (!c->chunked_reply)
        x->head.keep_alive = false;                  /* HTTP/1.0: the end of the connection ends the reply */
    write_head(x, 200, type, extra, c->chunked_reply ? "Transfer-Encoding: chunked\r\n" : "");
    c->state = CONN_STREAM;
}

bool bm_exchange_send(bm_exchange *x, const void *bytes, size_t len)
{
    bm_conn *c = x->conn;
    struct evbuffer *out = bufferevent_get_output(c->bev);

    if (len == 0)
        return true;
    if (evbuffer_get_length(out) > c->http->limits.max_output_bytes) {
        c->state = CONN_CLOSING;
        bm_conn_discard(c);
        return false;
    }
    if (c->chunked_reply)
        evbuffer_add_printf(out, "%zx\r\n", len);
    evbuffer_add(out, bytes, len);
    if (c->chunked_reply)
        evbuffer_add(out, "\r\n", 2);
    return true;
}

void bm_exchange_end(bm_exchange *x)
{
    bm_conn *c = x->conn;

    if (c->chunked_reply)
        evbuffer_add(bufferevent_get_output(c->bev), "0\r\n\r\n", 5);
    finish_reply(c);
}

/* ---- requests ---- */

static void name_request(bm_exchange *x)
{
    unsigned char random[12];

    if (bm_random_bytes(random, sizeof random, NULL) < 0)
        memset(random, 0, sizeof random);
    memcpy(x->request_id, "req_", 4);
    bm_hex(x->request_id + 4, random, sizeof random);
}

static void refuse(bm_conn *c, int status, const char *why)
{
    c->body_read = false;
    c->x.head.keep_alive = false;
    bm_exchange_status(&c->x, status, why, NULL, NULL);
}

/* The body's bytes count against the sum of all bodies before they are kept. */
static bool charge_body(bm_conn *c, uint64_t len)
{
    uint64_t most = c->x.sink != NULL ? c->x.sink->max_bytes : c->http->limits.max_body_bytes;
    char why[128];

    if (len > most - (c->x.sink != NULL ? c->body_sunk : c->x.body.len)) {
        snprintf(why, sizeof why, "the body is larger than the %llu bytes that this server reads", (unsigned long long)most);
        refuse(c, 413, why);
        return false;
    }
    if (c->x.sink != NULL) {
        c->body_sunk += len;
        return true;
    }
    if (c->http->bodies_bytes + len > c->http->limits.max_bodies_bytes) {
        refuse(c, 503, "too many large requests are being read at once");
        return false;
    }
    c->http->bodies_bytes += len;
    c->body_charged += len;
    return true;
}

static void hold(bm_conn *c)
{
    c->body_read = true;
    c->state = CONN_HELD;
    c->deadline_ns = 0;
    bm_conn_watch(c);
    c->http->handler.request(c->http->handler.arg, &c->x);
}

static bool read_head(bm_conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    size_t len = evbuffer_get_length(in), head_len;
    const char *why = "";
    int status;

    /* RFC 9112, 2.2: empty lines before a request are skipped. */
    while (len >= 2 && !c->in_head && memcmp(evbuffer_pullup(in, 2), "\r\n", 2) == 0) {
        evbuffer_drain(in, 2);
        len -= 2;
    }
    if (len == 0)
        return false;
    if (!c->in_head) {
        c->in_head = true;
        c->body_read = false;
        name_request(&c->x);
        set_deadline(c, c->http->limits.head_seconds);
    }
    size_t seen = len < BM_HEAD_MAX_BYTES ? len : BM_HEAD_MAX_BYTES;
    head_len = bm_http_head_length((const char *)evbuffer_pullup(in, (ev_ssize_t)seen), seen);
    if (head_len == 0) {
        if (len >= BM_HEAD_MAX_BYTES)
            refuse(c, 431, "the head is larger than 32 KiB");
        return false;
    }
    if ((c->head_bytes = bm_malloc(head_len)) == NULL) {
        refuse(c, 503, "no memory for the request");
        return false;
    }
    evbuffer_remove(in, c->head_bytes, head_len);
    if ((status = bm_http_head_parse(&c->x.head, c->head_bytes, head_len, &why)) != 0) {
        refuse(c, status, why);
        return false;
    }
    bool no_body = !c->x.head.chunked && c->x.head.length == 0;
    c->body_read = no_body;
    c->cors = NULL;
    if (c->http->handler.head(c->http->handler.arg, &c->x))
        return c->state == CONN_HEAD;
    if (no_body) {
        hold(c);
        return c->state == CONN_HEAD;
    }
    if (!c->x.head.chunked && !charge_body(c, c->x.head.length))
        return false;
    if (c->x.head.expect_continue)
        evbuffer_add_printf(bufferevent_get_output(c->bev), "HTTP/1.1 100 Continue\r\n\r\n");
    c->want = c->x.head.length;
    c->state = c->x.head.chunked ? CONN_CHUNK_SIZE : CONN_BODY;
    set_deadline(c, BODY_SECONDS);
    c->body_limit_ns = c->deadline_ns;
    set_deadline(c, c->http->limits.stall_seconds);
    return true;
}

/* false: refused. */
static bool take_bytes(bm_conn *c, const void *bytes, size_t len)
{
    const char *why = "the body was refused";
    int status;

    if (c->x.sink == NULL)
        bm_buf_add(&c->x.body, bytes, len);
    else if ((status = c->x.sink->take(c->x.sink, bytes, len, &why)) != 0) {
        refuse(c, status, why);
        return false;
    }
    return true;
}

/* Move up to c->want bytes of input into the body; true once all are there. */
static bool read_wanted(bm_conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);

    while (c->want > 0 && evbuffer_get_length(in) > 0) {
        size_t n = evbuffer_get_contiguous_space(in);
        n = n == 0 ? 1 : n < c->want ? n : (size_t)c->want;
        if (!take_bytes(c, evbuffer_pullup(in, (ev_ssize_t)n), n))
            return false;
        evbuffer_drain(in, n);
        c->want -= n;
        set_deadline(c, c->http->limits.stall_seconds);
        if (c->deadline_ns > c->body_limit_ns)
            c->deadline_ns = c->body_limit_ns;
    }
    if (c->x.body.failed) {
        refuse(c, 503, "no memory for the body");
        return false;
    }
    return c->want == 0;
}

static bool read_body(bm_conn *c)
{
    if (!read_wanted(c))
        return false;
    hold(c);
    return c->state == CONN_HEAD;
}

/* A line of a chunked body, without its CRLF, at most 256 bytes; NULL: not there yet, or refused. */
static char *read_line(bm_conn *c, size_t *len)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    char *line = evbuffer_readln(in, len, EVBUFFER_EOL_CRLF_STRICT);

    if (line == NULL && evbuffer_get_length(in) > 256)
        refuse(c, 400, "a line of the chunked body is too long");
    return line;
}

static bool read_chunk_size(bm_conn *c)
{
    size_t len;
    uint64_t size;
    char *line = read_line(c, &len);

    if (line == NULL)
        return false;
    bool good = bm_http_chunk_size(line, len, &size);
    free(line);
    if (!good) {
        refuse(c, 400, "a chunk of the body does not start with its size");
        return false;
    }
    c->want = size;
    c->state = size == 0 ? CONN_TRAILER : CONN_CHUNK_DATA;
    return size == 0 || charge_body(c, size);
}

static bool read_chunk_data(bm_conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);

    if (!read_wanted(c) || evbuffer_get_length(in) < 2)
        return false;
    if (memcmp(evbuffer_pullup(in, 2), "\r\n", 2) != 0) {
        refuse(c, 400, "a chunk of the body is longer than its size");
        return false;
    }
    evbuffer_drain(in, 2);
    c->state = CONN_CHUNK_SIZE;
    return true;
}

static bool read_trailer(bm_conn *c)
{
    size_t len;
    char *line = read_line(c, &len);

    if (line == NULL)
        return false;
    free(line);
    if (len != 0) {
        if (++c->n_trailers > 16)
            refuse(c, 431, "the chunked body has too many trailers");
        return c->state == CONN_TRAILER;
    }
    c->n_trailers = 0;
    hold(c);
    return c->state == CONN_HEAD;
}

static bool step(bm_conn *c)
{
    switch (c->state) {
    case CONN_HEAD:       return read_head(c);
    case CONN_BODY:       return read_body(c);
    case CONN_CHUNK_SIZE: return read_chunk_size(c);
    case CONN_CHUNK_DATA: return read_chunk_data(c);
    case CONN_TRAILER:    return read_trailer(c);
    case CONN_CLOSING:
        if (c->lingering)
            evbuffer_drain(bufferevent_get_input(c->bev), evbuffer_get_length(bufferevent_get_input(c->bev)));
        return false;
    case CONN_HELD: case CONN_STREAM: break;         /* what is pipelined waits */
    }
    return false;
}

/* Read as far as the input goes. Replies that end while it runs go on in this loop, not by recursion. A client that
 * pipelines many requests must not keep the others waiting: the rest is read in a later turn of the loop. */
static void run(bm_conn *c)
{
    int requests = 0;

    c->running = true;
    while (step(c))
        if (c->state == CONN_HEAD && ++requests > MAX_PIPELINE) {
            bufferevent_trigger(c->bev, EV_READ, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
            break;
        }
    c->running = false;
}

void bm_conn_read(struct bufferevent *bev, void *arg)
{
    (void)bev;
    run(arg);
}

/* The output is written. libevent also calls this when writing is first enabled, and late, when there is more again. */
void bm_conn_written(struct bufferevent *bev, void *arg)
{
    bm_conn *c = arg;

    if (c->state != CONN_CLOSING || evbuffer_get_length(bufferevent_get_output(bev)) > 0)
        return;
    if (c->at_end)
        bm_conn_drop(c);
    else
        bm_conn_linger(c);
}

void bm_conn_event(struct bufferevent *bev, short what, void *arg)
{
    bm_conn *c = arg;

    /* End of input while the last reply is still being written: the client may only have closed its sending side. */
    if ((what & BEV_EVENT_EOF) && !c->lingering && evbuffer_get_length(bufferevent_get_output(bev)) > 0 &&
        (c->state == CONN_CLOSING || (c->state == CONN_HEAD && !c->in_head))) {
        c->state = CONN_CLOSING;
        c->at_end = true;
        set_deadline(c, c->http->limits.stall_seconds);
        return;
    }
    bm_conn_drop(c);
}

/* One connection's clocks: a head that never ends, a body that stalls, an idle connection, a client that does not close. */
void bm_conn_tick(bm_conn *c, int64_t now_ns)
{
    if (c->deadline_ns == 0 || now_ns < c->deadline_ns)
        return;
    if (c->state == CONN_HEAD && !c->in_head) {
        bm_conn_drop(c);
    } else if (c->state == CONN_CLOSING || c->state == CONN_HELD || c->state == CONN_STREAM) {
        bm_conn_drop(c);
    } else {
        refuse(c, 408, "the request did not arrive in time");
    }
}
