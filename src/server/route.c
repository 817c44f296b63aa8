/* route.c - from a head to a handler: Host, Origin, key, path, method, kind of body, in this order. */
#include "server/state.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"

static const bm_route routes[] = {
    { "POST",   "/v1/chat/completions", BM_SCOPE_INFER, bm_call_chat, NULL },
    { "POST",   "/v1/completions",      BM_SCOPE_INFER, bm_call_completions, NULL },
    { "GET",    "/v1/models",           BM_SCOPE_INFER, bm_route_models, NULL },
    { "GET",    "/v1/models/**",        BM_SCOPE_INFER, bm_route_model, NULL },
    { "POST",   "/v1/adapters",         BM_SCOPE_MODELS, bm_route_adapter_put, NULL },
    { "GET",    "/v1/adapters",         BM_SCOPE_INFER, bm_route_adapters, NULL },
    { "GET",    "/v1/adapters/**",      BM_SCOPE_INFER, bm_route_adapter, NULL },
    { "DELETE", "/v1/adapters/**",      BM_SCOPE_MODELS, bm_route_adapter_delete, NULL },
    { "GET",    "/v1/ps",               BM_SCOPE_INFER, bm_route_ps, NULL },
    { "POST",   "/v1/files",            BM_SCOPE_TUNE,  bm_route_upload, bm_files_body },
    { "GET",    "/v1/files",            BM_SCOPE_TUNE,  bm_route_files, NULL },
    { "GET",    "/v1/files/*/content",  BM_SCOPE_TUNE,  bm_route_file_content, NULL },
    { "GET",    "/v1/files/*",          BM_SCOPE_TUNE,  bm_route_file, NULL },
    { "DELETE", "/v1/files/*",          BM_SCOPE_TUNE,  bm_route_file_delete, NULL },
    { "POST",   "/v1/fine_tuning/jobs", BM_SCOPE_TUNE,  bm_route_tune_create, NULL },
    { "GET",    "/v1/fine_tuning/jobs", BM_SCOPE_TUNE,  bm_route_tune_jobs, NULL },
    { "POST",   "/v1/fine_tuning/jobs/*/cancel", BM_SCOPE_TUNE, bm_route_tune_cancel, NULL },
    { "POST",   "/v1/fine_tuning/jobs/*/pause",  BM_SCOPE_TUNE, bm_route_tune_cancel, NULL },
    { "POST",   "/v1/fine_tuning/jobs/*/resume", BM_SCOPE_TUNE, bm_route_tune_resume, NULL },
    { "GET",    "/v1/fine_tuning/jobs/*/events", BM_SCOPE_TUNE, bm_route_tune_events, NULL },
    { "GET",    "/v1/fine_tuning/jobs/*/checkpoints", BM_SCOPE_TUNE, bm_route_tune_checkpoints, NULL },
    { "GET",    "/v1/fine_tuning/jobs/*", BM_SCOPE_TUNE, bm_route_tune_job, NULL },
    { "GET",    "/health",              BM_OPEN,        bm_route_health, NULL },
    { "GET",    "/",                    BM_OPEN,        bm_page_send, NULL },
};
enum { N_ROUTES = sizeof routes / sizeof routes[0] };

static bool path_matches(const char *pattern, const char *path)
{
    for (; *pattern != '\0'; pattern++) {
        if (*pattern != '*') {
            if (*path++ != *pattern)
                return false;
        } else {
            bool rest = pattern[1] == '*';
            size_t n = rest ? strlen(path) : strcspn(path, "/");
            if (n == 0)
                return false;
            path += n;
            pattern += rest;
        }
    }
    return *path == '\0';
}

static bool method_matches(const bm_route *r, const char *method)
{
    return strcmp(r->method, method) == 0 || (strcmp(r->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* The route of a path and method; when no row has both, one of the path. */
static const bm_route *find_route(const char *path, const char *method)
{
    const bm_route *found = NULL;

    for (size_t i = 0; i < N_ROUTES; i++)
        if (path_matches(routes[i].path, path)) {
            if (method_matches(&routes[i], method))
                return &routes[i];
            found = found == NULL ? &routes[i] : found;
        }
    return found;
}

/* "GET, POST" of a path, as in Allow. */
static void methods_of(const char *path, char out[64])
{
    size_t n = 0;

    snprintf(out, 64, "GET");
    for (size_t i = 0; i < N_ROUTES && n < 64; i++)
        if (path_matches(routes[i].path, path))
            n += (size_t)snprintf(out + n, 64 - n, "%s%s", n > 0 ? ", " : "", routes[i].method);
}

static bool fail(bm_exchange *x, const bm_error *err)
{
    bm_exchange_error(x, err);
    return true;
}

static bool not_found(bm_exchange *x)
{
    bm_error err;

    bm_fail(&err, BM_NOTFOUND, "no such route: %s %.200s", x->head.method, x->head.target);
    bm_hint(&err, "routes: /v1/chat/completions, /v1/completions, /v1/models, /v1/adapters, /v1/files, /v1/fine_tuning/jobs, /v1/ps, /health");
    return fail(x, &err);
}

/* OPTIONS: what a page of an allowed origin may do. A foreign one was refused before. */
static bool answer_options(bm_exchange *x)
{
    char extra[320], methods[64];

    methods_of(x->head.target, methods);
    snprintf(extra, sizeof extra, "Allow: %s, OPTIONS\r\nAccess-Control-Allow-Methods: %s\r\n"
             "Access-Control-Allow-Headers: Authorization, Content-Type\r\nAccess-Control-Max-Age: 600\r\n", methods, methods);
    bm_exchange_reply(x, 204, NULL, extra, "", 0);
    return true;
}

static bool wrong_method(bm_exchange *x, const bm_route *r)
{
    char message[192], extra[96], methods[64];

    methods_of(x->head.target, methods);
    snprintf(message, sizeof message, "%s takes %s, not %s", r->path, methods, x->head.method);
    snprintf(extra, sizeof extra, "Allow: %s, OPTIONS\r\n", methods);
    bm_exchange_status(x, 405, message, NULL, extra);
    return true;
}

static bool is_json(const char *type)
{
    size_t n = type == NULL ? 0 : strcspn(type, "; \t");

    return type == NULL || (n == 16 && strncasecmp(type, "application/json", 16) == 0);
}

/* Forms and plain text are what a foreign page may post without being asked about it first: JSON only. */
static bool check_body(bm_server *s, bm_exchange *x)
{
    const bm_http_head *h = &x->head;
    size_t most = s->options.max_body_bytes;
    char text[128];

    if (x->route->body == NULL && !is_json(h->content_type)) {
        bm_call_rejected(s, x, "unsupported_media_type");
        snprintf(text, sizeof text, "the body is '%.60s', and this route reads application/json", h->content_type);
        bm_exchange_status(x, 415, text, "send the header 'Content-Type: application/json'", NULL);
    } else if (h->content_encoding != NULL && strcasecmp(h->content_encoding, "identity") != 0) {
        bm_call_rejected(s, x, "unsupported_media_type");
        bm_exchange_status(x, 415, "compressed bodies are not read", "leave out Content-Encoding", NULL);
    } else if (!h->has_length && !h->chunked) {
        bm_call_rejected(s, x, "length_required");
        bm_exchange_status(x, 411, "the request has no body", "send a JSON object", NULL);
    } else if (x->route->body == NULL && h->length > most) {
        bm_call_rejected(s, x, "too_large");
        snprintf(text, sizeof text, "the body is %llu bytes, this server reads at most %zu", (unsigned long long)h->length,
                 most);
        bm_exchange_status(x, 413, text, NULL, NULL);
    } else if (s->draining) {
        bm_call_rejected(s, x, "stopping");
        bm_exchange_status(x, 503, "the server is stopping", NULL, "Retry-After: 5\r\n");
    } else {
        return x->route->body != NULL && x->route->body(s, x);
    }
    return true;
}

/* Orders about one thing ("/v1/fine_tuning/jobs/ID/cancel") may come without a body. */
static bool bodiless(const bm_exchange *x)
{
    const bm_http_head *h = &x->head;

    return strchr(x->route->path, '*') != NULL && !h->chunked && h->length == 0;
}

bool bm_route_head(void *server, bm_exchange *x)
{
    bm_server *s = server;
    bm_error err;

    if (!x->local && bm_guard_host(s->guard, x->head.host, &err) < 0)
        return fail(x, &err);
    if (bm_guard_origin(s->guard, x->head.origin, x->head.host, &err) < 0)
        return fail(x, &err);
    if (x->head.origin != NULL)
        bm_exchange_allow_origin(x, x->head.origin);
    x->route = find_route(x->head.target, x->head.method);
    if (strcmp(x->head.method, "OPTIONS") == 0)
        return answer_options(x);
    unsigned scope = x->route == NULL ? BM_SCOPE_INFER : x->route->scope;
    if (!x->local && scope != BM_OPEN && bm_guard_key(s->guard, x->head.authorization, scope, &x->key, &err) < 0)
        return fail(x, &err);
    if (x->route == NULL)
        return not_found(x);
    if (!method_matches(x->route, x->head.method))
        return wrong_method(x, x->route);
    return strcmp(x->route->method, "POST") == 0 && !bodiless(x) && check_body(s, x);
}

void bm_route_request(void *server, bm_exchange *x) { x->route->handle(server, x); }
