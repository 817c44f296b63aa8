/* state.h - the server as its own files see it. The loop thread owns all of it, but for what is atomic. */
#pragma once
#include <event2/event.h>
#include <stdatomic.h>
#include "server/guard.h"
#include "server/http.h"
#include "server/server.h"
#include "server/work.h"

typedef struct bm_call bm_call;

/* First member of whoever holds an exchange. */
typedef struct bm_holder { void (*gone)(struct bm_holder *holder); } bm_holder;

typedef struct bm_route {
    const char *method, *path;           /* '*' takes a segment, '**' any rest */
    unsigned scope;                      /* that a key needs; BM_OPEN: no key at all */
    void (*handle)(bm_server *server, bm_exchange *x);
    /* A body that is no JSON goes through here while it comes: sets x->sink, or replies and returns true. NULL: JSON, kept. */
    bool (*body)(bm_server *server, bm_exchange *x);
} bm_route;
enum { BM_OPEN = 0 };

struct bm_server {
    bm_server_options options;
    int port;
    struct event_base *base;
    struct event *tick, *sigterm, *sigint, *stop;
    bm_http *http;
    bm_guard *guard;
    bm_work *work;
    bm_call *calls;                      /* completion requests in flight */
    int n_calls;
    bool draining, canceling;
    int64_t started_ns, drain_until_ns;
    atomic_bool ready;
    bm_engine_stats baseline;            /* written before ready */
    char page_headers[1024];
    unsigned char cache_secret[32];      /* of this process: tenants' prefix caches are apart by it */
};

/* route.c */
bool bm_route_head(void *server, bm_exchange *x);
void bm_route_request(void *server, bm_exchange *x);
/* models.c */
void bm_route_models(bm_server *server, bm_exchange *x);
void bm_route_model(bm_server *server, bm_exchange *x);
void bm_route_ps(bm_server *server, bm_exchange *x);
void bm_route_health(bm_server *server, bm_exchange *x);
/* files.c, tuning.c */
bool bm_files_body(bm_server *server, bm_exchange *x);
void bm_route_upload(bm_server *server, bm_exchange *x);
void bm_route_files(bm_server *server, bm_exchange *x);
void bm_route_file(bm_server *server, bm_exchange *x);
void bm_route_file_content(bm_server *server, bm_exchange *x);
void bm_route_file_delete(bm_server *server, bm_exchange *x);
void bm_route_tune_create(bm_server *server, bm_exchange *x);
void bm_route_tune_jobs(bm_server *server, bm_exchange *x);
void bm_route_tune_job(bm_server *server, bm_exchange *x);
void bm_route_tune_cancel(bm_server *server, bm_exchange *x);
void bm_route_tune_resume(bm_server *server, bm_exchange *x);
void bm_route_tune_events(bm_server *server, bm_exchange *x);
void bm_route_tune_checkpoints(bm_server *server, bm_exchange *x);
/* adapters.c */
void bm_route_adapter_put(bm_server *server, bm_exchange *x);
void bm_route_adapters(bm_server *server, bm_exchange *x);
void bm_route_adapter(bm_server *server, bm_exchange *x);
void bm_route_adapter_delete(bm_server *server, bm_exchange *x);
/* chat_page.c: the page with its security policy */
int  bm_page_headers(char *out, size_t size, bm_error *err);
void bm_page_send(bm_server *server, bm_exchange *x);
/* call.c */
void bm_call_chat(bm_server *server, bm_exchange *x);
void bm_call_completions(bm_server *server, bm_exchange *x);
void bm_calls_drain(bm_server *server);              /* the bell rang: events wait */
void bm_calls_tick(bm_server *server);
void bm_calls_cancel(bm_server *server);             /* a stop does not wait any longer */
void bm_calls_close(bm_server *server);              /* the loop has ended: give back what the rest has of engine and pool */
void bm_calls_forget(bm_server *server);             /* the pool is gone: nothing points to a call any more */
void bm_call_rejected(bm_server *server, const bm_exchange *x, const char *reason);     /* a ledger row */
/* server.c */
void bm_server_quiet(void *server);                  /* something ended: maybe all has */
void bm_server_log(bm_server *server, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
