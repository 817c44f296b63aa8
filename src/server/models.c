/* models.c - what there is and how it goes: /v1/models, /v1/ps, /health. Lists come from the store, so a worker makes them. */
#include "server/ask.h"
#include "server/state.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "platform/shelf.h"

static void write_model(bm_json *j, const bm_pool_entry *e)
{
    bm_json_open(j, '{');
    bm_json_kstr(j, "id", e->name);
    bm_json_kstr(j, "object", "model");
    bm_json_kint(j, "created", e->created_s);
    bm_json_kstr(j, "owned_by", "baimo");
    if (e->parent[0] != '\0')
        bm_json_kstr(j, "parent", e->parent);
    bm_json_kbool(j, "loaded", e->loaded);
    bm_json_kint(j, "size_bytes", e->size_bytes);
    bm_json_key(j, "context_length");
    if (e->ctx > 0)
        bm_json_int(j, e->ctx);
    else
        bm_json_null(j);
    bm_json_close(j, '}');
}

static int fill_list(bm_ask *q)
{
    bm_pool_entry *list = NULL;
    size_t n = 0;
    bm_json j = { &q->out, false };
    int rc = bm_pool_list(q->server->options.pool, &list, &n, &q->err);

    if (rc < 0)
        return rc;
    bm_json_open(&j, '{');
    bm_json_kstr(&j, "object", "list");
    bm_json_key(&j, "data");
    bm_json_open(&j, '[');
    for (size_t i = 0; i < n; i++)
        write_model(&j, &list[i]);
    bm_json_close(&j, ']');
    bm_json_close(&j, '}');
    bm_free(list);
    return 0;
}

static int fill_one(bm_ask *q)
{
    bm_pool_entry *list = NULL;
    bm_shelf_target target;
    size_t n = 0;
    bm_json j = { &q->out, false };
    char rest[512];
    const char *name = rest;
    int rc = bm_ask_rest(q, strlen("/v1/models/"), rest, sizeof rest);

    if (rc < 0)
        return rc;
    rc = bm_pool_list(q->server->options.pool, &list, &n, &q->err);

    for (int pass = 0; rc == 0 && pass < 2 && q->out.len == 0; pass++) {
        for (size_t i = 0; i < n && q->out.len == 0; i++)
            if (strcmp(list[i].name, name) == 0)
                write_model(&j, &list[i]);
        /* An alias, or another spelling of the case; unknown names get the nearest ones. */
        if (q->out.len == 0 && pass == 0 && (rc = bm_shelf_find_target(q->server->options.store, rest, &target, &q->err)) == 0)
            name = target.adapter.id != 0 ? target.adapter.name : target.model.name;
    }
    bm_free(list);
    if (rc == 0 && q->out.len == 0)
        rc = bm_fail(&q->err, BM_NOTFOUND, "no model '%.100s'", rest);
    if (rc == BM_NOTFOUND && q->err.param[0] == '\0')
        bm_param(&q->err, "model");
    return rc;
}

static void write_loaded(bm_json *j, const bm_pool_entry *e)
{
    bm_json_open(j, '{');
    bm_json_kstr(j, "name", e->name);
    if (e->parent[0] != '\0')
        bm_json_kstr(j, "parent", e->parent);
    bm_json_kbool(j, "loaded", e->loaded);
    bm_json_kbool(j, "loading", e->loading);
    bm_json_kdouble(j, "progress", e->loaded ? 1 : e->progress);
    bm_json_kint(j, "size_bytes", e->size_bytes);
    bm_json_kint(j, "context", e->ctx);
    bm_json_kint(j, "kv_used_bytes", (int64_t)e->stats.kv_used_bytes);
    bm_json_kint(j, "kv_cached_bytes", (int64_t)e->stats.kv_cached_bytes);
    bm_json_kint(j, "active", e->stats.active);
    bm_json_kint(j, "queued", e->stats.queued);
    bm_json_close(j, '}');
}

static void write_engine(bm_json *j, const bm_server *s)
{
    bm_engine_stats e, none = { 0 };
    const bm_engine_stats *from = atomic_load(&s->ready) ? &s->baseline : &none;

    bm_engine_get_stats(s->options.engine, &e);
    bm_json_key(j, "engine");
    bm_json_open(j, '{');
    bm_json_kint(j, "threads", e.n_threads);
    bm_json_kint(j, "active", e.active_seqs);
    bm_json_kint(j, "queued", e.queued);
    bm_json_kint(j, "kv_budget_bytes", (int64_t)e.kv_budget_bytes);
    bm_json_kint(j, "kv_used_bytes", (int64_t)e.kv_used_bytes);
    bm_json_kint(j, "kv_cached_bytes", (int64_t)e.kv_cached_bytes);
    bm_json_kint(j, "weight_bytes", (int64_t)e.weight_bytes);
    bm_json_kint(j, "steps", (int64_t)(e.steps - from->steps));
    bm_json_kint(j, "prompt_tokens", (int64_t)(e.prompt_tokens - from->prompt_tokens));
    bm_json_kint(j, "cached_tokens", (int64_t)(e.cached_tokens - from->cached_tokens));
    bm_json_kint(j, "computed_tokens", (int64_t)(e.computed_tokens - from->computed_tokens));
    bm_json_kint(j, "completion_tokens", (int64_t)(e.completion_tokens - from->completion_tokens));
    bm_json_kint(j, "requests", (int64_t)(e.requests - from->requests));
    bm_json_kint(j, "canceled", (int64_t)(e.canceled - from->canceled));
    bm_json_kint(j, "preemptions", (int64_t)e.preemptions);
    bm_json_kint(j, "evictions", (int64_t)e.evictions);
    bm_json_close(j, '}');
}

static int fill_ps(bm_ask *q)
{
    const bm_server *s = q->server;
    bm_pool_entry *list = NULL;
    size_t n = 0;
    bm_json j = { &q->out, false };
    int rc = bm_pool_list(s->options.pool, &list, &n, &q->err);

    if (rc < 0)
        return rc;
    bm_json_open(&j, '{');
    bm_json_kstr(&j, "object", "ps");
    bm_json_kstr(&j, "version", BM_VERSION);
    bm_json_kint(&j, "pid", getpid());
    bm_json_kint(&j, "uptime_s", (bm_now_ns() - s->started_ns) / 1000000000);
    bm_json_kbool(&j, "ready", atomic_load(&s->ready));
    bm_json_kbool(&j, "draining", q->draining);
    bm_json_key(&j, "models");
    bm_json_open(&j, '[');
    for (size_t i = 0; i < n; i++)
        if (list[i].loaded || list[i].loading)
            write_loaded(&j, &list[i]);
    bm_json_close(&j, ']');
    write_engine(&j, s);
    bm_json_key(&j, "http");
    bm_json_open(&j, '{');
    bm_json_kint(&j, "connections", q->connections);
    bm_json_kint(&j, "in_flight", q->in_flight);
    bm_json_close(&j, '}');
    bm_json_close(&j, '}');
    bm_free(list);
    return 0;
}

void bm_route_models(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_list); }
void bm_route_ps(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_ps); }

void bm_route_model(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_one); }

/* Small enough for the loop, so that it answers even when all workers are busy. */
void bm_route_health(bm_server *server, bm_exchange *x)
{
    bm_buf out = { 0 };
    bm_json j = { &out, false };
    bool ready = atomic_load(&server->ready) && !server->draining;

    bm_json_open(&j, '{');
    bm_json_kstr(&j, "status", server->draining ? "stopping" : ready ? "ok" : "loading");
    if (!ready) {
        bm_json_kdouble(&j, "progress", bm_pool_progress(server->options.pool));
        bm_json_key(&j, "error");
        bm_json_open(&j, '{');
        bm_json_kstr(&j, "message", server->draining ? "the server is stopping" : "the model is being loaded");
        bm_json_kstr(&j, "type", "server_error");
        bm_json_kstr(&j, "code", server->draining ? "unavailable" : "loading");
        bm_json_kstr(&j, "param", NULL);
        bm_json_kstr(&j, "request_id", x->request_id);
        bm_json_close(&j, '}');
    }
    bm_json_close(&j, '}');
    bm_exchange_reply(x, ready ? 200 : 503, "application/json", ready ? NULL : "Retry-After: 1\r\n", out.data, out.len);
    bm_buf_done(&out);
}
