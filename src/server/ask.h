/* ask.h - a request that a worker answers from the store: the head and body are copied, `fill` runs in a worker and writes JSON,
 * the reply goes out on the loop, unless the client has left. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json_out.h"
#include "server/state.h"

typedef struct bm_ask {
    bm_holder holder;            /* first */
    bm_job job;
    bm_server *server;
    bm_exchange *x;              /* NULL: the client left */
    int (*fill)(struct bm_ask *ask);     /* in a worker: JSON into out, or a code and err */
    char *target, *query;        /* of the request; query "" when there is none */
    bm_buf body;
    bm_key key;
    bool local;                  /* came over the server's own socket */
    bm_body_sink *sink;          /* what took the body, now fill's; dropped after it when still there */
    int connections, in_flight;  /* of the server, when it was asked */
    bool draining;
    bm_buf out;
    int status;                  /* of a good answer; 0: 200 */
    int file;                    /* > 0: a descriptor whose bytes are the answer instead of out */
    int rc;
    bm_error err;
} bm_ask;

void bm_ask_worker(bm_server *server, bm_exchange *x, int (*fill)(bm_ask *ask));

/* For fill. What stands behind the first `skip` bytes of the path, decoded; the Nth segment (from 0) of the path, decoded. BM_INVALID: a
 * broken escape, or too long. */
int bm_ask_rest(bm_ask *ask, size_t skip, char *out, size_t room);
int bm_ask_segment(bm_ask *ask, int n, char *out, size_t room);
/* A parameter of the query, decoded; "" when it is not there. */
int bm_ask_param(bm_ask *ask, const char *name, char *out, size_t room);
/* A whole number among them, or fallback. */
int bm_ask_count(bm_ask *ask, const char *name, int64_t min, int64_t max, int64_t fallback, int64_t *out);
/* The body as a JSON object, the caller's to json_decref; an empty body is {}. */
int bm_ask_json(bm_ask *ask, json_t **out);
