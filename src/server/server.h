/* server.h - the HTTP server: listeners, routes, and the requests in flight. One event-loop thread does all I/O; a small pool
 * of workers parses, renders and tokenises; the engine's thread only rings a bell.
 *
 * GET /v1/ps, also over BAIMO_HOME/baimo.sock for the command line:
 *   {"object":"ps","version","pid","uptime_s","ready":true,"draining":false,
 *    "models":[{"name","loaded","loading","progress","size_bytes","context","kv_used_bytes","kv_cached_bytes",
 *               "active","queued"}],
 *    "engine":{"threads","active","queued","kv_budget_bytes","kv_used_bytes","kv_cached_bytes","weight_bytes",
 *              "steps","prompt_tokens","cached_tokens","computed_tokens","completion_tokens","requests","canceled",
 *              "preemptions","evictions"},
 *    "http":{"connections","in_flight"}}
 * kv_cached_bytes: held by the prefix cache only, given back when needed. Of prompt_tokens, cached_tokens were taken from it or
 * from a request beside; computed_tokens were run. The engine's totals count from the end of the start-up measurement.
 *
 * OpenAI's routes of fine-tuning (scope tune; a key sees its own files and jobs, one with scope admin all):
 *   POST /v1/files (multipart: purpose, file; at most 512 MiB, straight to disk), GET /v1/files[?after,limit,purpose],
 *   GET and DELETE /v1/files/ID, GET /v1/files/ID/content
 *   POST /v1/fine_tuning/jobs, GET /v1/fine_tuning/jobs[?after,limit], GET .../ID, POST .../ID/cancel, /pause, /resume,
 *   GET .../ID/events[?after,limit], GET .../ID/checkpoints
 * Beyond OpenAI's fields: hyperparameters takes every setting of platform/tune.c; a job has "step" and "n_steps", a file "sha256". */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "platform/jobs.h"
#include "platform/pool.h"
#include "store/store.h"

typedef struct bm_server bm_server;

typedef struct bm_server_options {
    const char *host;                    /* NULL: 127.0.0.1 */
    int port;                            /* 0: any free one */
    const char *const *allow_hosts;      /* further names in Host and Origin */
    size_t n_allow_hosts;
    const char *socket_path;             /* NULL: no Unix socket */
    size_t max_body_bytes;               /* 0: 32 MiB */
    int drain_seconds;                   /* how long a stop waits for running requests; 0: 30 */
    int load_wait_seconds;               /* how long a request waits for its model to load; 0: 300 */
    bm_store *store;
    bm_pool *pool;
    bm_engine *engine;
    bm_jobs *jobs;                       /* woken when a route queues or stops one; NULL: nobody works on them here */
    void (*log)(void *arg, const char *line);
    void *log_arg;
} bm_server_options;

/* Binds, so that a port in use fails before anything is loaded. Everything in options must outlive the server. A host other
 * than loopback is refused while no key exists. */
int  bm_server_new(bm_server **out, const bm_server_options *options, bm_error *err);
int  bm_server_port(const bm_server *server);
/* Serve until stopped; SIGTERM and SIGINT drain, a second one cancels. Returns once every request is answered or cancelled. */
int  bm_server_run(bm_server *server, bm_error *err);
/* From any thread: /health says 200 from now on, and the engine's totals count from here. */
void bm_server_set_ready(bm_server *server);
/* From any thread: like SIGTERM. */
void bm_server_stop(bm_server *server);
/* After run and after the pool is gone (its callbacks point here), before the engine is. */
void bm_server_free(bm_server *server);
