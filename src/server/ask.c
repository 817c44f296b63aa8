/* ask.c - see ask.h. */
#include "server/ask.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/number.h"

enum { MAX_DEPTH = 64 };

static void ask_free(bm_ask *q)
{
    if (q->sink != NULL)
        q->sink->drop(q->sink);
    if (q->file > 0)
        close(q->file);
    bm_buf_done(&q->out);
    bm_buf_done(&q->body);
    bm_free(q->target);
    bm_free(q->query);
    bm_free(q);
}

static void ask_gone(bm_holder *holder) { ((bm_ask *)(void *)holder)->x = NULL; }

static bm_ask *ask_of(bm_job *job) { return (bm_ask *)(void *)((char *)job - offsetof(bm_ask, job)); }

static void ask_run(bm_job *job)
{
    bm_ask *q = ask_of(job);

    q->rc = q->fill(q);
    if (q->rc == 0 && q->out.failed)
        q->rc = bm_fail(&q->err, BM_NOMEM, "no memory for the answer");
}

static void ask_done(bm_job *job)
{
    bm_ask *q = ask_of(job);

    if (q->x != NULL) {
        q->x->holder = NULL;
        if (q->rc < 0)
            bm_exchange_error(q->x, &q->err);
        else if (q->file > 0)
            bm_exchange_file(q->x, "application/octet-stream", q->file), q->file = 0;
        else
            bm_exchange_reply(q->x, q->status == 0 ? 200 : q->status, "application/json", NULL, q->out.data, q->out.len);
    }
    ask_free(q);
}

void bm_ask_worker(bm_server *server, bm_exchange *x, int (*fill)(bm_ask *ask))
{
    bm_ask *q = bm_zalloc(sizeof *q);

    if (q == NULL || (q->target = bm_strdup(x->head.target)) == NULL ||
        (q->query = bm_strdup(x->head.query == NULL ? "" : x->head.query)) == NULL) {
        if (q != NULL)
            ask_free(q);
        bm_exchange_status(x, 503, "no memory for the request", NULL, "Retry-After: 1\r\n");
        return;
    }
    q->holder.gone = ask_gone;
    q->job = (bm_job){ .run = ask_run, .done = ask_done };
    q->server = server;
    q->x = x;
    q->fill = fill;
    q->key = x->key;
    q->local = x->local;
    q->body = x->body;
    x->body = (bm_buf){ 0 };
    q->sink = x->sink;
    x->sink = NULL;
    q->connections = bm_http_connections(server->http);
    q->in_flight = server->n_calls;
    q->draining = server->draining;
    x->holder = &q->holder;
    bm_work_submit(server->work, &q->job);
}

/* ---- what was asked ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Percent-decoded; false on a broken escape, an escaped NUL, or when it does not fit. */
static bool decode(const char *s, size_t len, char *out, size_t room, bool plus_is_blank)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (c == '%') {
            int hi = i + 2 < len ? hex_digit(s[i + 1]) : -1, lo = hi < 0 ? -1 : hex_digit(s[i + 2]);
            if (lo < 0 || hi * 16 + lo == 0)
                return false;
            c = (char)(hi * 16 + lo);
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        if (n + 1 >= room)
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

int bm_ask_rest(bm_ask *ask, size_t skip, char *out, size_t room)
{
    const char *at = ask->target + (strlen(ask->target) < skip ? strlen(ask->target) : skip);

    if (decode(at, strlen(at), out, room, false))
        return 0;
    return bm_fail(&ask->err, BM_INVALID, "the path holds a broken escape, or a name that is too long");
}

int bm_ask_segment(bm_ask *ask, int n, char *out, size_t room)
{
    const char *at = ask->target + 1;

    for (; n > 0; n--) {
        at += strcspn(at, "/");
        at += *at == '/';
    }
    if (decode(at, strcspn(at, "/"), out, room, false))
        return 0;
    return bm_fail(&ask->err, BM_INVALID, "the path holds a broken escape, or a name that is too long");
}

int bm_ask_param(bm_ask *ask, const char *name, char *out, size_t room)
{
    size_t len = strlen(name);

    out[0] = '\0';
    for (const char *at = ask->query; *at != '\0'; at += *at == '&') {
        size_t n = strcspn(at, "&");
        if (n > len && strncmp(at, name, len) == 0 && at[len] == '=' && !decode(at + len + 1, n - len - 1, out, room, true)) {
            bm_fail(&ask->err, BM_INVALID, "the parameter '%s' holds a broken escape, or is too long", name);
            return bm_param(&ask->err, name), BM_INVALID;
        }
        at += n;
    }
    return 0;
}

int bm_ask_count(bm_ask *ask, const char *name, int64_t min, int64_t max, int64_t fallback, int64_t *out)
{
    char text[32];
    int rc = bm_ask_param(ask, name, text, sizeof text);

    *out = fallback;
    if (rc < 0 || text[0] == '\0' || bm_parse_int(text, min, max, out))
        return rc;
    bm_fail(&ask->err, BM_INVALID, "%s: expected a whole number from %lld to %lld, found '%s'", name, (long long)min, (long long)max,
            text);
    return bm_param(&ask->err, name), BM_INVALID;
}

static bool too_deep(const bm_buf *body)
{
    int depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < body->len; i++) {
        char c = body->data[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '{' || c == '['))
            depth++;
        else if (!in_string && (c == '}' || c == ']'))
            depth--;
        if (depth > MAX_DEPTH)
            return true;
    }
    return false;
}

int bm_ask_json(bm_ask *ask, json_t **out)
{
    json_error_t why;

    *out = NULL;
    if (ask->body.len == 0) {
        *out = json_object();
        return *out == NULL ? bm_fail(&ask->err, BM_NOMEM, "no memory for the request") : 0;
    }
    if (too_deep(&ask->body))
        return bm_fail(&ask->err, BM_INVALID, "the body is nested deeper than %d levels", MAX_DEPTH);
    *out = json_loadb(ask->body.data, ask->body.len, JSON_REJECT_DUPLICATES, &why);
    if (*out == NULL)
        return bm_fail(&ask->err, BM_INVALID, "the body is not JSON: %.120s (byte %d)", why.text, why.position);
    if (json_is_object(*out))
        return 0;
    json_decref(*out);
    *out = NULL;
    return bm_fail(&ask->err, BM_INVALID, "the body is not a JSON object");
}
