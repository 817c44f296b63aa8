/* http.h - connections: HTTP/1.1 over libevent's bufferevents. Owns sockets, framing, timeouts and limits; knows no route.
 *
 * A connection reads one request at a time. While its request is held by the handler, reading goes on (up to a watermark), so
 * that a client that leaves is seen at once; what it pipelines waits in the input buffer until the reply is out. For a client
 * whose pipelined bytes fill the watermark, the hang-up itself is watched for (EPOLLRDHUP).
 * Loop thread only. */
#pragma once
#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"
#include "platform/keys.h"
#include "server/request_head.h"

typedef struct bm_http bm_http;
typedef struct bm_conn bm_conn;

/* Where the bytes of a body go as they come, instead of into memory: the first member of its owner's struct. */
typedef struct bm_body_sink {
    /* 0, or the HTTP status to refuse the request with, and *why. */
    int (*take)(struct bm_body_sink *sink, const void *bytes, size_t len, const char **why);
    void (*drop)(struct bm_body_sink *sink);     /* the request does not come to its handler: forget what was taken */
    uint64_t max_bytes;
} bm_body_sink;

/* A request and the way to answer it; valid from `head` until the reply has ended or `gone` was called. */
typedef struct bm_exchange {
    bm_conn *conn;
    bm_http_head head;
    char request_id[40];         /* "req_" and 24 digits */
    bm_buf body;
    bm_body_sink *sink;          /* set by `head`: takes the body. The handler of the request takes it over and sets NULL */
    bool local;                  /* came over the Unix socket, from this user */
    /* The handler's own; zero at first. */
    const struct bm_route *route;
    bm_key key;                  /* who asks; zero: no key was needed */
    struct bm_holder *holder;    /* who is to be told when the client leaves */
} bm_exchange;

typedef struct bm_http_handler {
    /* The head is there, the body is not read yet: return true after replying to refuse it. */
    bool (*head)(void *arg, bm_exchange *x);
    /* All is there: reply now, or hold the exchange and reply later. */
    void (*request)(void *arg, bm_exchange *x);
    /* The client left a held exchange: it is dead after this call. */
    void (*gone)(void *arg, bm_exchange *x);
    /* A reply has ended, or a connection has: for who waits until all is quiet. */
    void (*quiet)(void *arg);
    void *arg;
} bm_http_handler;

typedef struct bm_http_limits {
    size_t max_body_bytes;       /* of one request that is kept in memory */
    size_t max_bodies_bytes;     /* of all together */
    size_t max_output_bytes;     /* waiting for a slow reader */
    int max_connections;
    int head_seconds, idle_seconds, stall_seconds;
} bm_http_limits;

int  bm_http_new(bm_http **out, struct event_base *base, const bm_http_handler *handler, const bm_http_limits *limits,
                 bm_error *err);
/* Bind and listen; *port gets the port that was bound. */
int  bm_http_listen(bm_http *http, const char *host, int *port, bm_error *err);
/* A socket of mode 600 at path; a dead one in its place is replaced. BM_EXISTS: a living server has it. */
int  bm_http_listen_unix(bm_http *http, const char *path, bm_error *err);
/* No new connections, idle ones are closed, the rest close after their reply. */
void bm_http_drain(bm_http *http);
int  bm_http_connections(const bm_http *http);
bool bm_http_busy(const bm_http *http);              /* a request is held, or a reply not yet written out */
void bm_http_tick(bm_http *http);                    /* once a second: timeouts */
void bm_http_free(bm_http *http);                    /* closes every connection without telling the handler */

/* Let the page of this Origin, already checked, read the reply. */
void bm_exchange_allow_origin(bm_exchange *x, const char *origin);
/* A whole reply. extra: further header lines, each with CRLF, or NULL. */
void bm_exchange_reply(bm_exchange *x, int status, const char *type, const char *extra, const void *body, size_t len);
/* A whole reply out of an open file, which is closed with it. */
void bm_exchange_file(bm_exchange *x, const char *type, int fd);
void bm_exchange_error(bm_exchange *x, const bm_error *err);
void bm_exchange_status(bm_exchange *x, int status, const char *message, const char *hint, const char *extra);
/* A reply in pieces. send: false when the reader is too slow; the connection is closed then and the exchange is dead. */
void bm_exchange_stream(bm_exchange *x, const char *type, const char *extra);
bool bm_exchange_send(bm_exchange *x, const void *bytes, size_t len);
void bm_exchange_end(bm_exchange *x);
