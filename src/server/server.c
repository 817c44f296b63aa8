/* server.c - the life of the server: binding, the loop, signals, draining. */
#include "server/state.h"

#include <event2/thread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

enum { WORKERS = 2 };

void bm_server_log(bm_server *server, const char *fmt, ...)
{
    char line[640];
    va_list ap;

    if (server->options.log == NULL)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    server->options.log(server->options.log_arg, line);
}

/* While draining: once every request has its answer written, the loop ends. */
void bm_server_quiet(void *arg)
{
    bm_server *s = arg;

    if (s->draining && s->n_calls == 0 && s->http != NULL && !bm_http_busy(s->http))
        event_base_loopbreak(s->base);
}

static void client_gone(void *arg, bm_exchange *x)
{
    bm_holder *holder = x->holder;

    (void)arg;
    x->holder = NULL;
    if (holder != NULL)
        holder->gone(holder);
}

static void cancel_all(bm_server *s)
{
    if (s->canceling)
        return;
    s->canceling = true;
    bm_server_log(s, "cancelled requests: %d", s->n_calls);
    bm_calls_cancel(s);
    s->drain_until_ns = bm_now_ns() + 5000000000;    /* for writing what is left */
}

/* The first stop drains, the second cancels. */
static void stop(bm_server *s)
{
    if (s->draining) {
        cancel_all(s);
    } else {
        s->draining = true;
        s->drain_until_ns = bm_now_ns() + (int64_t)s->options.drain_seconds * 1000000000;
        if (s->n_calls > 0)
            bm_server_log(s, "stopping: requests still to finish: %d, for at most %d s; stop again to cancel them", s->n_calls,
                          s->options.drain_seconds);
        bm_http_drain(s->http);
    }
    bm_server_quiet(s);
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    stop(arg);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    bm_server *s = arg;

    (void)fd, (void)what;
    bm_http_tick(s->http);
    bm_calls_tick(s);
    if (s->draining && bm_now_ns() > s->drain_until_ns) {
        if (s->canceling)
            event_base_loopbreak(s->base);           /* a client that does not read its last bytes */
        else
            cancel_all(s);
    }
    bm_server_quiet(s);
}

static void on_bell(void *arg) { bm_calls_drain(arg); }

static int make_events(bm_server *s, bm_error *err)
{
    struct timeval second = { 1, 0 };

    if (evthread_use_pthreads() != 0 || (s->base = event_base_new()) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the event loop");
    s->tick = event_new(s->base, -1, EV_PERSIST, on_tick, s);
    s->stop = event_new(s->base, -1, EV_PERSIST, on_stop, s);
    s->sigterm = evsignal_new(s->base, SIGTERM, on_stop, s);
    s->sigint = evsignal_new(s->base, SIGINT, on_stop, s);
    if (s->tick == NULL || s->stop == NULL || s->sigterm == NULL || s->sigint == NULL || event_add(s->tick, &second) != 0)
        return bm_fail(err, BM_NOMEM, "no memory for the event loop");
    return 0;
}

static int check_host(const bm_server_options *o, bm_error *err)
{
    bool any = false;
    int rc;

    if (bm_host_is_loopback(o->host))
        return 0;
    if ((rc = bm_key_any(o->store, &any, err)) < 0)
        return rc;
    if (any)
        return 0;
    bm_fail(err, BM_FORBIDDEN, "--host %s would let others on the network in, and there is no key yet", o->host);
    return bm_hint(err, "make one first: baimo key add NAME");
}

static int listen_all(bm_server *s, bm_error *err)
{
    const bm_server_options *o = &s->options;
    bm_http_handler handler = { bm_route_head, bm_route_request, client_gone, bm_server_quiet, s };
    bm_http_limits limits = {
        .max_body_bytes = o->max_body_bytes, .max_bodies_bytes = 8 * o->max_body_bytes, .max_output_bytes = 8u << 20,
        .max_connections = 1000, .head_seconds = 30, .idle_seconds = 120, .stall_seconds = 60,
    };
    bm_error why;
    int rc;

    if ((rc = bm_http_new(&s->http, s->base, &handler, &limits, err)) < 0 ||
        (rc = bm_http_listen(s->http, o->host, &s->port, err)) < 0)
        return rc;
    if (o->socket_path != NULL && bm_http_listen_unix(s->http, o->socket_path, &why) < 0)
        bm_server_log(s, "%s: commands of this home will not reach this server by it", why.msg);
    return bm_guard_new(&s->guard, o->store, o->host, s->port, o->allow_hosts, o->n_allow_hosts, err);
}

int bm_server_new(bm_server **out, const bm_server_options *options, bm_error *err)
{
    bm_server *s = bm_zalloc(sizeof *s);
    int rc;

    *out = NULL;
    if (s == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the server");
    s->options = *options;
    bm_server_options *o = &s->options;
    o->host = o->host == NULL ? "127.0.0.1" : o->host;
    o->max_body_bytes = o->max_body_bytes == 0 ? 32u << 20 : o->max_body_bytes;
    o->drain_seconds = o->drain_seconds == 0 ? 30 : o->drain_seconds;
    o->load_wait_seconds = o->load_wait_seconds == 0 ? 300 : o->load_wait_seconds;
    s->port = o->port;
    s->started_ns = bm_now_ns();
    if ((rc = check_host(o, err)) < 0 || (rc = bm_random_bytes(s->cache_secret, sizeof s->cache_secret, err)) < 0 ||
        (rc = make_events(s, err)) < 0 || (rc = listen_all(s, err)) < 0 || (rc = bm_page_headers(s->page_headers, sizeof s->page_headers, err)) < 0 ||
        (rc = bm_work_new(&s->work, s->base, WORKERS, on_bell, s, err)) < 0) {
        bm_server_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

int bm_server_port(const bm_server *server) { return server->port; }

int bm_server_run(bm_server *server, bm_error *err)
{
    if (event_add(server->sigterm, NULL) != 0 || event_add(server->sigint, NULL) != 0)
        return bm_fail(err, BM_IO, "cannot watch for signals");
    int rc = event_base_loop(server->base, EVLOOP_NO_EXIT_ON_EMPTY);
    event_del(server->sigterm);
    event_del(server->sigint);
    bm_work_stop(server->work);
    bm_work_deliver(server->work);
    bm_calls_close(server);
    return rc < 0 ? bm_fail(err, BM_IO, "the event loop failed") : 0;
}

void bm_server_set_ready(bm_server *server)
{
    bm_engine_get_stats(server->options.engine, &server->baseline);
    atomic_store(&server->ready, true);
}

void bm_server_stop(bm_server *server) { event_active(server->stop, EV_TIMEOUT, 1); }

void bm_server_free(bm_server *server)
{
    if (server == NULL)
        return;
    bm_calls_forget(server);
    bm_http_free(server->http);
    bm_guard_free(server->guard);
    bm_work_free(server->work);
    struct event *events[] = { server->tick, server->stop, server->sigterm, server->sigint };
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        if (events[i] != NULL)
            event_free(events[i]);
    if (server->base != NULL) {
        /* A freed bufferevent lives on until its deferred callback has come round: nothing else is left to run by now. */
        event_base_loop(server->base, EVLOOP_NONBLOCK);
        event_base_free(server->base);
    }
    bm_free(server);
}
