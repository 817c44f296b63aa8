/* http_conn.h - the connection itself, shared by http.c (requests and replies) and listen.c (sockets). */
#pragma once
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdint.h>
#include "server/http.h"

typedef enum conn_state {
    CONN_HEAD,           /* waiting for, or inside, a head */
    CONN_BODY, CONN_CHUNK_SIZE, CONN_CHUNK_DATA, CONN_TRAILER,
    CONN_HELD,           /* the handler has the exchange, nothing is written yet */
    CONN_STREAM,         /* the handler is writing a reply in pieces */
    CONN_CLOSING,        /* the last reply is being written, then the rest of the input is read and forgotten */
} conn_state;

struct bm_conn {
    bm_http *http;
    bm_conn *next, **back;
    struct bufferevent *bev;
    conn_state state;
    bm_exchange x;
    char *head_bytes;            /* what x.head points into */
    uint64_t want;               /* bytes of the body, or chunk, still to come */
    size_t body_charged;
    uint64_t body_sunk;          /* bytes that a sink was or will be given */
    int64_t deadline_ns;         /* 0: none */
    int64_t body_limit_ns;       /* when the whole body must be there */
    int n_trailers;
    const char *cors;            /* a header line for an allowed page of another origin, or NULL */
    char cors_text[512];
    bool in_head;                /* the first byte of a head has come */
    bool body_read;              /* nothing of this request is left in the input */
    bool chunked_reply, lingering, running;
    bool watched;                /* by http->hangups */
    bool at_end;                 /* the client closed its sending side while the last reply was being written */
};

struct bm_http {
    struct event_base *base;
    bm_http_handler handler;
    bm_http_limits limits;
    struct evconnlistener *tcp, *local;
    /* An epoll inside the loop's: held connections, edge-triggered, for nothing but the end. libevent's own EV_CLOSED misses a
     * reset (it reports it as readable and writable, and spins when neither is wanted). */
    int hangup_fd;
    struct event *hangups;
    bm_conn *conns;
    int n_conns;
    size_t bodies_bytes;
    bool draining, paused;
    char *socket_path;           /* to unlink, when it is ours */
};

void bm_conn_read(struct bufferevent *bev, void *arg);
void bm_conn_written(struct bufferevent *bev, void *arg);
void bm_conn_event(struct bufferevent *bev, short what, void *arg);
void bm_conn_drop(bm_conn *c);               /* the client left, or must: whoever holds its exchange is told */
void bm_conn_tick(bm_conn *c, int64_t now_ns);
void bm_conn_linger(bm_conn *c);
void bm_conn_discard(bm_conn *c);            /* close and free, telling nobody who holds its exchange */
void bm_conn_watch(bm_conn *c);
void bm_conn_unwatch(bm_conn *c);
void bm_http_accepting(bm_http *http);       /* listen again when there is room */
