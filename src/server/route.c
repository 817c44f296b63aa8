/* route.c - from a head to a handler: Host, Origin, key, path, method, kind of body, in this order. */
#include "server/state.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"

static const bm_route routes[] = {
    { "POST", "/v1/chat/completions", false, bm_call_chat },
    { "POST", "/v1/completions",      false, bm_call_completions },
    { "GET",  "/v1/models",           false, bm_route_models },
    { "GET",  "/v1/models/*",         false, bm_route_model },
    { "GET",  "/v1/ps",               false, bm_route_ps },
    { "GET",  "/health",              true,  bm_route_health },
    { "GET",  "/",                    true,  bm_page_send },
};

static bool path_matches(const bm_route *r, const char *path)
{
    size_t n = strlen(r->path);

    if (r->path[n - 1] == '*')
        return strncmp(path, r->path, n - 1) == 0 && path[n - 1] != '\0';
    return strcmp(path, r->path) == 0;
}

/* The route of a path, whatever its method; each path has one. */
static const bm_route *find_route(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        if (path_matches(&routes[i], path))
            return &routes[i];
    return NULL;
}

static bool method_matches(const bm_route *r, const char *method)
{
    return strcmp(r->method, method) == 0 || (strcmp(r->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
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
    bm_hint(&err, "routes: /v1/chat/completions, /v1/completions, /v1/models, /v1/ps, /health");
    return fail(x, &err);
}

/* OPTIONS: what a page of an allowed origin may do. A foreign one was refused before. */
static bool answer_options(bm_exchange *x, const bm_route *r)
{
    char extra[256];
    const char *method = r == NULL ? "GET" : r->method;

    snprintf(extra, sizeof extra, "Allow: %s, OPTIONS\r\nAccess-Control-Allow-Methods: %s\r\n"
             "Access-Control-Allow-Headers: Authorization, Content-Type\r\nAccess-Control-Max-Age: 600\r\n", method, method);
    bm_exchange_reply(x, 204, NULL, extra, "", 0);
    return true;
}

static bool wrong_method(bm_exchange *x, const bm_route *r)
{
    char message[128], extra[64];

    snprintf(message, sizeof message, "%s takes %s, not %s", r->path, r->method, x->head.method);
    snprintf(extra, sizeof extra, "Allow: %s, OPTIONS\r\n", r->method);
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

    if (!is_json(h->content_type)) {
        bm_call_rejected(s, x, "unsupported_media_type");
        snprintf(text, sizeof text, "the body is '%.60s', and this route reads application/json", h->content_type);
        bm_exchange_status(x, 415, text, "send the header 'Content-Type: application/json'", NULL);
    } else if (h->content_encoding != NULL && strcasecmp(h->content_encoding, "identity") != 0) {
        bm_call_rejected(s, x, "unsupported_media_type");
        bm_exchange_status(x, 415, "compressed bodies are not read", "leave out Content-Encoding", NULL);
    } else if (!h->has_length && !h->chunked) {
        bm_call_rejected(s, x, "length_required");
        bm_exchange_status(x, 411, "the request has no body", "send a JSON object", NULL);
    } else if (h->length > most) {
        bm_call_rejected(s, x, "too_large");
        snprintf(text, sizeof text, "the body is %llu bytes, this server reads at most %zu", (unsigned long long)h->length,
                 most);
        bm_exchange_status(x, 413, text, NULL, NULL);
    } else if (s->draining) {
        bm_call_rejected(s, x, "stopping");
        bm_exchange_status(x, 503, "the server is stopping", NULL, "Retry-After: 5\r\n");
    } else {
        return false;
    }
    return true;
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
    x->route = find_route(x->head.target);
    if (strcmp(x->head.method, "OPTIONS") == 0)
        return answer_options(x, x->route);
    bool open = x->local || (x->route != NULL && x->route->open);
    if (!open && bm_guard_key(s->guard, x->head.authorization, BM_SCOPE_INFER, &x->key, &err) < 0)
        return fail(x, &err);
    if (x->route == NULL)
        return not_found(x);
    if (!method_matches(x->route, x->head.method))
        return wrong_method(x, x->route);
    return strcmp(x->route->method, "POST") == 0 && check_body(s, x);
}

void bm_route_request(void *server, bm_exchange *x) { x->route->handle(server, x); }
