/* listen.c - sockets: the TCP listener, the Unix socket, new connections, and closing them all. */
#define _GNU_SOURCE              /* SO_PEERCRED's struct ucred */
#include "server/http_conn.h"

#include <errno.h>
#include <event2/buffer.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum { WATERMARK = 256 * 1024 };
static const unsigned listen_flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC;

/* Without this, libevent ends the process by exit(1) on its own errors; ours says where to look and leaves a core. */
static void fatal(int code)
{
    fprintf(stderr, "baimo: internal error: libevent failed with %d\n", code);
    abort();
}

/* ---- clients that leave while their request is held ---- */

static void hung_up(evutil_socket_t fd, short what, void *arg)
{
    struct epoll_event events[64];
    int n;

    (void)what, (void)arg;
    while ((n = epoll_wait(fd, events, 64, 0)) > 0)
        for (int i = 0; i < n; i++)
            bm_conn_drop(events[i].data.ptr);        /* frees this connection and no other */
}

void bm_conn_watch(bm_conn *c)
{
    struct epoll_event e = { .events = EPOLLRDHUP | EPOLLET, .data.ptr = c };

    c->watched = epoll_ctl(c->http->hangup_fd, EPOLL_CTL_ADD, bufferevent_getfd(c->bev), &e) == 0;
}

void bm_conn_unwatch(bm_conn *c)
{
    if (c->watched)
        epoll_ctl(c->http->hangup_fd, EPOLL_CTL_DEL, bufferevent_getfd(c->bev), NULL);
    c->watched = false;
}

int bm_http_new(bm_http **out, struct event_base *base, const bm_http_handler *handler, const bm_http_limits *limits,
                bm_error *err)
{
    bm_http *http = bm_zalloc(sizeof *http);

    *out = NULL;
    if (http == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the HTTP server");
    event_set_fatal_callback(fatal);
    signal(SIGPIPE, SIG_IGN);                        /* a write to a client that left is an error code */
    http->base = base;
    http->handler = *handler;
    http->limits = *limits;
    http->hangup_fd = epoll_create1(EPOLL_CLOEXEC);
    http->hangups = http->hangup_fd < 0 ? NULL : event_new(base, http->hangup_fd, EV_READ | EV_PERSIST, hung_up, http);
    if (http->hangups == NULL || event_add(http->hangups, NULL) != 0) {
        bm_http_free(http);
        return bm_fail(err, BM_IO, "cannot watch connections: %s", strerror(errno));
    }
    *out = http;
    return 0;
}

void bm_http_accepting(bm_http *http)
{
    if (!http->paused || http->draining || http->n_conns >= http->limits.max_connections)
        return;
    http->paused = false;
    if (http->tcp != NULL)
        evconnlistener_enable(http->tcp);
    if (http->local != NULL)
        evconnlistener_enable(http->local);
}

static void pause_accepting(bm_http *http)
{
    http->paused = true;
    if (http->tcp != NULL)
        evconnlistener_disable(http->tcp);
    if (http->local != NULL)
        evconnlistener_disable(http->local);
}

static bool is_owner(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

static bm_conn *new_conn(bm_http *http, int fd, bool local)
{
    struct timeval stall = { http->limits.stall_seconds, 0 };
    bm_conn *c = bm_zalloc(sizeof *c);

    if (c == NULL)
        return NULL;
    c->http = http;
    c->x = (bm_exchange){ .conn = c, .local = local };
    c->bev = bufferevent_socket_new(http->base, fd, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (c->bev == NULL) {
        close(fd);
        bm_free(c);
        return NULL;
    }
    bufferevent_setcb(c->bev, bm_conn_read, bm_conn_written, bm_conn_event, c);
    bufferevent_setwatermark(c->bev, EV_READ, 0, WATERMARK);
    bufferevent_set_timeouts(c->bev, NULL, &stall);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    c->deadline_ns = bm_now_ns() + (int64_t)http->limits.idle_seconds * 1000000000;
    c->back = &http->conns;
    c->next = http->conns;
    if (c->next != NULL)
        c->next->back = &c->next;
    http->conns = c;
    return c;
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *addr, int len, void *arg)
{
    bm_http *http = arg;
    bool local = listener == http->local;
    int on = 1;

    (void)addr, (void)len;
    if (local && !is_owner(fd)) {
        close(fd);
        return;
    }
    if (!local) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    if (new_conn(http, fd, local) == NULL)
        return;
    if (++http->n_conns >= http->limits.max_connections)
        pause_accepting(http);
}

/* Out of descriptors: stop accepting until the next tick, instead of spinning. */
static void accept_failed(struct evconnlistener *listener, void *arg)
{
    (void)listener;
    pause_accepting(arg);
}

static int bind_failed(const char *host, int port, int error, bm_error *err)
{
    bm_fail(err, error == EADDRINUSE ? BM_EXISTS : BM_IO, "cannot listen on %s port %d: %s", host, port, strerror(error));
    if (error == EADDRINUSE)
        return bm_hint(err, "another program has that port: use baimo serve --port %d, or --port 0 for any free one",
                       port == 65535 ? 8081 : port + 1);
    if (error == EACCES)
        return bm_hint(err, "ports below 1024 need root: use --port 8080");
    return bm_hint(err, "--host takes an address of this machine: 127.0.0.1, or 0.0.0.0 for all");
}

static int bind_one(const struct addrinfo *a)
{
    int on = 1, fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, 512) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

int bm_http_listen(bm_http *http, const char *host, int *port, bm_error *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list;
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    char service[16], bare[128];
    size_t n = strlen(host);

    snprintf(service, sizeof service, "%d", *port);
    snprintf(bare, sizeof bare, "%.*s", (int)(n > 1 && *host == '[' ? n - 2 : n), host + (n > 1 && *host == '['));
    int rc = getaddrinfo(bare, service, &hints, &list);
    if (rc != 0) {
        bm_fail(err, BM_INVALID, "cannot listen on '%s': %s", host, gai_strerror(rc));
        return bm_hint(err, "--host takes an address of this machine: 127.0.0.1, or 0.0.0.0 for all");
    }
    int fd = bind_one(list);
    int error = errno;
    freeaddrinfo(list);
    if (fd < 0)
        return bind_failed(host, *port, error, err);
    if (getsockname(fd, (struct sockaddr *)&bound, &len) == 0)
        *port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&bound)->sin6_port
                                                  : ((struct sockaddr_in *)(void *)&bound)->sin_port);
    http->tcp = evconnlistener_new(http->base, accepted, http, listen_flags, 0, fd);
    if (http->tcp == NULL) {
        close(fd);
        return bm_fail(err, BM_NOMEM, "no memory for the listener");
    }
    evconnlistener_set_error_cb(http->tcp, accept_failed);
    return 0;
}

static bool answers(const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes = fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof *addr) == 0;

    if (fd >= 0)
        close(fd);
    return yes;
}

int bm_http_listen_unix(bm_http *http, const char *path, bm_error *err)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof addr.sun_path)
        return bm_fail(err, BM_LIMIT, "%s: longer than the %zu bytes that a socket path may have", path,
                       sizeof addr.sun_path - 1);
    strcpy(addr.sun_path, path);
    if (answers(&addr))
        return bm_fail(err, BM_EXISTS, "%s: another server has it", path);
    unlink(path);
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0)
        return bm_fail(err, BM_IO, "%s: %s", path, strerror(errno));
    mode_t old = umask(0177);                        /* never open to others, not even for a moment */
    int bound = bind(fd, (struct sockaddr *)&addr, sizeof addr);
    int error = errno;
    umask(old);
    if (bound != 0 || listen(fd, 64) != 0) {
        close(fd);
        return bm_fail(err, BM_IO, "%s: cannot listen: %s", path, strerror(bound != 0 ? error : errno));
    }
    http->socket_path = bm_strdup(path);
    http->local = evconnlistener_new(http->base, accepted, http, listen_flags, 0, fd);
    if (http->socket_path == NULL || http->local == NULL) {
        if (http->local == NULL)
            close(fd);
        return bm_fail(err, BM_NOMEM, "no memory for the listener");
    }
    evconnlistener_set_error_cb(http->local, accept_failed);
    return 0;
}

static void stop_listening(bm_http *http)
{
    if (http->tcp != NULL)
        evconnlistener_free(http->tcp);
    if (http->local != NULL)
        evconnlistener_free(http->local);
    http->tcp = http->local = NULL;
    if (http->socket_path != NULL)
        unlink(http->socket_path);
    bm_free(http->socket_path);
    http->socket_path = NULL;
}

void bm_http_drain(bm_http *http)
{
    if (http->draining)
        return;
    http->draining = true;
    stop_listening(http);
    for (bm_conn *c = http->conns; c != NULL; c = c->next)
        if (c->state == CONN_HEAD && !c->in_head)
            c->deadline_ns = 1;                      /* closed by the tick that follows */
    bm_http_tick(http);
}

bool bm_http_busy(const bm_http *http)
{
    for (const bm_conn *c = http->conns; c != NULL; c = c->next)
        if (c->state == CONN_HELD || c->state == CONN_STREAM || evbuffer_get_length(bufferevent_get_output(c->bev)) > 0)
            return true;
    return false;
}

int bm_http_connections(const bm_http *http) { return http->n_conns; }

void bm_http_tick(bm_http *http)
{
    int64_t now_ns = bm_now_ns();

    for (bm_conn *c = http->conns, *next; c != NULL; c = next) {
        next = c->next;
        bm_conn_tick(c, now_ns);
    }
    bm_http_accepting(http);
}

void bm_http_free(bm_http *http)
{
    if (http == NULL)
        return;
    stop_listening(http);
    http->draining = true;
    while (http->conns != NULL)
        bm_conn_discard(http->conns);
    if (http->hangups != NULL)
        event_free(http->hangups);
    if (http->hangup_fd >= 0)
        close(http->hangup_fd);
    bm_free(http);
}
