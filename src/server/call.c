/* call.c - a completion request in flight: its states, its events, its end. */
#include "server/call.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "server/errors.h"
#include "server/sse.h"

enum { WINDOW = 32 };            /* prompts of one request in the engine at once */
static const int64_t first_word_ns = 2000000000, next_word_ns = 5000000000;     /* a stream that waits this long says why */

const bm_form *bm_call_form(const bm_call *c) { return c->req.route == BM_CHAT ? &bm_chat_form : &bm_completions_form; }

/* ---- the ledger ---- */

static void outcome(bm_call *c, const char *what, const char *reason)
{
    if (c->row.outcome[0] != '\0')
        return;                                      /* the first reason is the one that counts */
    snprintf(c->row.outcome, sizeof c->row.outcome, "%s", what);
    snprintf(c->row.reason, sizeof c->row.reason, "%s", reason);
}

static void start_row(bm_ledger_row *row, const bm_exchange *x, const char *path)
{
    *row = (bm_ledger_row){ .key_id = x->key.id, .started_ms = bm_wall_ms() };
    snprintf(row->request_id, sizeof row->request_id, "%s", x->request_id);
    snprintf(row->key_name, sizeof row->key_name, "%s", x->key.name);
    snprintf(row->route, sizeof row->route, "%s", path);
}

static void write_row(bm_call *c)
{
    bm_gen_usage u = bm_answer_totals(c);

    snprintf(c->row.model, sizeof c->row.model, "%s", c->base[0] != '\0' ? c->base : c->model);
    snprintf(c->row.adapter, sizeof c->row.adapter, "%s", c->base[0] != '\0' ? c->model : "");
    c->row.prompt_tokens = u.prompt_tokens;
    c->row.cached_tokens = u.cached_tokens;
    c->row.completion_tokens = u.completion_tokens;
    c->row.queue_ms = u.queue_ns / 1000000;
    c->row.first_token_ms = u.first_token_ns / 1000000;
    c->row.total_ms = (bm_now_ns() - c->started_ns) / 1000000;
    bm_ledger_add(c->server->options.store, &c->row, NULL);
}

void bm_call_rejected(bm_server *server, const bm_exchange *x, const char *reason)
{
    bm_ledger_row row;

    start_row(&row, x, x->route->path);
    snprintf(row.outcome, sizeof row.outcome, "rejected");
    snprintf(row.reason, sizeof row.reason, "%s", reason);
    bm_ledger_add(server->options.store, &row, NULL);
}

/* ---- the end ---- */

static void free_call(bm_call *c)
{
    size_t n_choices = c->choices == NULL ? 0 : c->req.n_prompts * (size_t)c->req.n;

    for (size_t i = 0; c->slots != NULL && i < c->req.n_prompts; i++) {
        bm_gen_close(c->slots[i].gen);
        bm_prompt_done(&c->slots[i].prompt);
        bm_buf_done(&c->slots[i].echo);
        bm_logprob_text_done(&c->slots[i].lp);
    }
    for (size_t i = 0; i < n_choices; i++) {
        bm_buf_done(&c->choices[i].text);
        bm_buf_done(&c->choices[i].reasoning);
        bm_logprob_text_done(&c->choices[i].lp);
    }
    bm_free(c->slots);
    bm_free(c->choices);
    bm_request_done(&c->req);
    bm_buf_done(&c->body);
    bm_buf_done(&c->out);
    *c->back = c->next;
    if (c->next != NULL)
        c->next->back = c->back;
    c->server->n_calls--;
    bm_free(c);
}

/* Free the call once nothing outside points to it. */
static void end_call(bm_call *c)
{
    bm_server *server = c->server;

    c->state = BM_CALL_ENDING;
    if (c->load_pending && bm_pool_forget(server->options.pool, bm_call_model_ready, c))
        c->load_pending = false;
    if (c->load_pending || c->n_started > c->n_ended)
        return;
    if (c->x != NULL)
        c->x->holder = NULL;
    write_row(c);
    if (c->backend != NULL)
        bm_pool_put(server->options.pool, c->backend);
    free_call(c);
    bm_server_quiet(server);
}

/* Nothing more goes to the client; what the engine has of this call leaves it within a step. */
static void abandon(bm_call *c)
{
    if (c->x != NULL)
        c->x->holder = NULL;
    c->x = NULL;
    if (c->state == BM_CALL_PREPARING)               /* the rest is the worker's for now; nothing runs yet */
        return;
    c->next_slot = c->req.n_prompts;
    for (size_t i = 0; c->slots != NULL && i < c->req.n_prompts; i++)
        if (c->slots[i].gen != NULL)
            bm_gen_cancel(c->slots[i].gen);
}

static void client_gone(bm_holder *holder)
{
    bm_call *c = (bm_call *)(void *)holder;
    bool preparing = c->state == BM_CALL_PREPARING;

    c->x = NULL;                                     /* dead already: not to be touched */
    abandon(c);
    outcome(c, "canceled", "client_left");
    if (!preparing)                                  /* else the worker still has it */
        end_call(c);
}

/* Answer with an error: as a reply, or inside a stream that has begun. */
static void answer_error(bm_call *c, const bm_error *err, int status)
{
    bm_buf json = { 0 };
    bm_exchange *x = c->x;

    if (x == NULL)
        return;
    c->x = NULL;
    x->holder = NULL;
    if (!c->streaming) {
        if (status != 0)
            bm_exchange_status(x, status, err->msg, err->hint, "Retry-After: 5\r\n");
        else
            bm_exchange_error(x, err);
        return;
    }
    if (status != 0)
        bm_status_json(&json, status, err->msg, err->hint, x->request_id);
    else
        bm_error_json(&json, err, x->request_id);
    bm_sse_data(&c->out, json.data == NULL ? "{}" : json.data, json.len);
    bm_buf_done(&json);
    if (bm_exchange_send(x, c->out.data, c->out.len))
        bm_exchange_end(x);
}

static void fail_call(bm_call *c, const bm_error *err)
{
    bool rejected = c->n_started == 0 && bm_error_http(err->code) < 500;

    outcome(c, rejected ? "rejected" : "error", bm_error_slug(err->code));
    answer_error(c, err, 0);
    abandon(c);
    end_call(c);
}

static void stop_call(bm_call *c, const char *message, const char *reason)
{
    bm_error err;

    bm_fail(&err, BM_LOADING, "%s", message);
    outcome(c, "canceled", reason);
    answer_error(c, &err, 503);
    abandon(c);
    if (c->state != BM_CALL_PREPARING)
        end_call(c);
}

/* ---- answers ---- */

static void begin_stream(bm_call *c)
{
    if (c->streaming || c->x == NULL)
        return;
    c->streaming = true;
    bm_exchange_stream(c->x, "text/event-stream; charset=utf-8", "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
}

/* Write the chunks of this turn. A reader who is too slow for them is treated as one who left. */
static void flush(bm_call *c)
{
    if (c->out.len == 0 || c->x == NULL || !c->req.stream)
        return;
    begin_stream(c);
    bm_exchange *x = c->x;
    if (c->out.failed || !bm_exchange_send(x, c->out.data, c->out.len)) {
        c->x = NULL;
        outcome(c, "canceled", "slow_reader");
        abandon(c);
    }
    bm_buf_clear(&c->out);
}

static void complete(bm_call *c)
{
    const bm_form *form = bm_call_form(c);
    bm_buf whole = { 0 };
    bm_exchange *x = c->x;

    if (x != NULL) {
        outcome(c, "ok", bm_answer_finish(c->choices[0].finish));
        if (c->req.stream) {
            if (c->last != NULL)
                form->finish_chunk(c, c->last, true);
            if (c->req.include_usage)
                form->usage_chunk(c);
            bm_sse_done(&c->out);
            flush(c);
            if ((x = c->x) != NULL) {
                c->x = NULL;
                x->holder = NULL;
                bm_exchange_end(x);
            }
        } else {
            form->whole(c, &whole);
            c->x = NULL;
            x->holder = NULL;
            if (whole.failed)
                bm_exchange_status(x, 503, "no memory for the answer", NULL, NULL);
            else
                bm_exchange_reply(x, 200, "application/json", NULL, whole.data, whole.len);
            bm_buf_done(&whole);
        }
    }
    end_call(c);
}

/* ---- events ---- */

static void on_finish(bm_call *c, bm_choice *choice, const bm_event *event)
{
    const bm_form *form = bm_call_form(c);

    choice->finished = true;
    choice->finish = event->finish;
    c->n_unfinished--;
    if (!c->req.stream)
        return;
    form->text_chunk(c, choice);
    if (c->n_unfinished == 0)
        c->last = choice;                            /* with the totals, in complete() */
    else
        form->finish_chunk(c, choice, false);
}

static void on_event(bm_call *c, bm_slot *slot, const bm_event *event)
{
    const bm_form *form = bm_call_form(c);

    if (c->x == NULL)
        return;
    if (event->kind == BM_EVENT_PROMPT) {
        form->prompt(c, slot, event);
        return;
    }
    bm_choice *choice = &c->choices[(slot - c->slots) * c->req.n + event->choice];
    if (!choice->opened && c->req.stream)
        form->open_chunk(c, choice);
    choice->opened = true;
    form->token(c, choice, event);
    if (event->kind == BM_EVENT_FINISH)
        on_finish(c, choice, event);
    else if (c->req.stream)
        form->text_chunk(c, choice);
}

/* A generation that the engine ended for its own reasons. */
static void on_broken(bm_call *c, const bm_gen *gen, bm_finish finish)
{
    if (c->x == NULL)
        return;
    if (finish == BM_FINISH_ERROR) {
        const bm_error *err = bm_gen_error(gen);
        outcome(c, "error", bm_error_slug(err->code));
        bm_server_log(c->server, "%s: %s", c->row.request_id, err->msg);
        answer_error(c, err, 0);
    } else {
        bm_error err;
        bm_fail(&err, BM_LOADING, "the server stopped this request");
        outcome(c, "canceled", finish == BM_FINISH_DEADLINE ? "deadline" : "stopped");
        answer_error(c, &err, 503);
    }
    abandon(c);
}

static void drain_slot(bm_call *c, bm_slot *slot)
{
    bm_event event;

    while (slot->gen != NULL && bm_gen_next(slot->gen, &event) == 1) {
        if (event.kind == BM_EVENT_END) {
            slot->usage = bm_gen_get_usage(slot->gen);
            bm_gen_close(slot->gen);
            slot->gen = NULL;
            c->n_ended++;
        } else if (event.kind == BM_EVENT_FINISH && event.finish != BM_FINISH_STOP && event.finish != BM_FINISH_LENGTH) {
            on_broken(c, slot->gen, event.finish);
        } else {
            on_event(c, slot, &event);
        }
    }
}

/* The tenant's salt: users without keys are one tenant, each key is one. */
static int salt_of(const bm_call *c, unsigned char out[32], bm_error *err)
{
    const bm_server *s = c->server;
    bm_sha256 salt;
    int rc = bm_hmac_sha256(&salt, s->cache_secret, sizeof s->cache_secret, &c->key.id, sizeof c->key.id, err);

    if (rc == 0)
        memcpy(out, salt.bytes, sizeof salt.bytes);
    return rc;
}

static int start_slot(bm_call *c, bm_slot *slot, bm_error *err)
{
    const bm_request *r = &c->req;
    bm_gen_request g = {
        .prompt = slot->prompt.tokens.ids, .n_prompt = slot->prompt.tokens.n, .max_tokens = r->max_tokens, .n_choices = r->n,
        .sampling = r->sampling, .stop = r->stop, .n_stop = r->n_stop, .ignore_eos = r->ignore_eos,
        .no_cache = r->no_cache,
        .top_logprobs = r->top_logprobs, .prompt_logprobs = r->echo && r->top_logprobs >= 0,
        .tenant = (uint64_t)c->key.id, .key = (uint64_t)c->key.id, .notify = bm_work_ring, .notify_arg = c->server->work,
    };
    const char *source = r->route == BM_CHAT ? c->backend->template_source(c->backend) : NULL;

    for (int i = 0; i < r->n; i++)
        bm_reasoning_init(&c->choices[(slot - c->slots) * r->n + i].split, source, slot->prompt.inside_reasoning);
    int rc = salt_of(c, g.cache_space, err);
    if (rc == 0)
        rc = c->backend->generate(c->backend, &slot->gen, &g, err);
    if (rc < 0)
        return rc;
    bm_tokens_done(&slot->prompt.tokens);
    slot->prompt.tokens = (bm_tokens){ 0 };
    c->n_started++;
    c->next_slot++;
    return 0;
}

/* Give the engine more prompts; a full queue only matters when none of ours is in it. False: the call failed and is gone. */
static bool start_slots(bm_call *c)
{
    bm_error err;

    while (c->next_slot < c->req.n_prompts && c->n_started - c->n_ended < WINDOW) {
        int rc = start_slot(c, &c->slots[c->next_slot], &err);
        if (rc == BM_BUSY && c->n_started > c->n_ended)
            return true;
        if (rc < 0) {
            if (rc == BM_CONTEXT)
                bm_param(&err, c->req.route == BM_CHAT ? "messages" : "prompt");
            fail_call(c, &err);
            return false;
        }
    }
    return true;
}

static void drain(bm_call *c)
{
    if (c->state != BM_CALL_RUNNING && c->state != BM_CALL_ENDING)
        return;
    for (size_t i = 0; i < c->next_slot && i < c->req.n_prompts && c->slots != NULL; i++)
        if (c->slots[i].gen != NULL)
            drain_slot(c, &c->slots[i]);
    flush(c);
    if (c->state == BM_CALL_ENDING || c->x == NULL) {
        end_call(c);
        return;
    }
    if (start_slots(c) && c->n_ended == c->req.n_prompts)
        complete(c);
}

void bm_calls_drain(bm_server *server)
{
    for (bm_call *c = server->calls, *next; c != NULL; c = next) {
        next = c->next;
        drain(c);
    }
}

/* ---- the beginning ---- */

/* The worker is back. */
static void prepared(bm_job *job)
{
    bm_call *c = (bm_call *)(void *)((char *)job - offsetof(bm_call, prepare));

    if (c->rc == 1 && !c->retry)
        c->load_pending = true;
    if (c->x == NULL) {
        end_call(c);
    } else if (c->rc < 0) {
        c->state = BM_CALL_WAITING;
        fail_call(c, &c->err);
    } else if (c->rc == 1 && c->retry) {
        c->retry = false;
        bm_work_submit(c->server->work, &c->prepare);
    } else if (c->rc == 1) {
        c->state = BM_CALL_WAITING;
    } else {
        c->state = BM_CALL_RUNNING;
        c->n_unfinished = c->req.n_prompts * (size_t)c->req.n;
        start_slots(c);
    }
}

/* The model is there, or could not be loaded: the worker asks again and finds out. */
static void model_loaded(bm_job *job)
{
    bm_call *c = (bm_call *)(void *)((char *)job - offsetof(bm_call, loaded));

    if (c->state == BM_CALL_PREPARING) {             /* faster than the worker that asked */
        c->retry = true;
        return;
    }
    c->load_pending = false;
    if (c->state == BM_CALL_ENDING) {
        end_call(c);
        return;
    }
    c->state = BM_CALL_PREPARING;
    bm_work_submit(c->server->work, &c->prepare);
}

static void start(bm_server *server, bm_exchange *x, unsigned route)
{
    bm_call *c = bm_zalloc(sizeof *c);

    if (c == NULL) {
        bm_exchange_status(x, 503, "no memory for the request", NULL, "Retry-After: 1\r\n");
        return;
    }
    c->holder.gone = client_gone;
    c->server = server;
    c->x = x;
    x->holder = &c->holder;
    c->key = x->key;
    c->req.route = route;
    c->body = x->body;
    x->body = (bm_buf){ 0 };
    c->prepare = (bm_job){ .run = bm_call_prepare, .done = prepared };
    c->loaded = (bm_job){ .done = model_loaded };
    c->started_ns = c->told_ns = bm_now_ns();
    c->created_s = bm_wall_ms() / 1000;
    snprintf(c->id, sizeof c->id, "%s%s", bm_call_form(c)->prefix, x->request_id + 4);
    start_row(&c->row, x, bm_call_form(c)->path);
    c->back = &server->calls;
    c->next = server->calls;
    if (c->next != NULL)
        c->next->back = &c->next;
    server->calls = c;
    server->n_calls++;
    bm_work_submit(server->work, &c->prepare);
}

void bm_call_chat(bm_server *server, bm_exchange *x) { start(server, x, BM_CHAT); }
void bm_call_completions(bm_server *server, bm_exchange *x) { start(server, x, BM_COMPLETIONS); }

/* ---- once a second ---- */

static double load_progress(const bm_call *c)
{
    bm_pool_entry *list = NULL;
    size_t n = 0;
    double progress = 0;

    if (bm_pool_list(c->server->options.pool, &list, &n, NULL) < 0)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (list[i].loading && (strcmp(list[i].name, c->model) == 0 || progress == 0))
            progress = list[i].progress;
    bm_free(list);
    return progress;
}

/* A stream that waits is told why, as a comment that clients skip; it also keeps proxies from giving up. */
static void tell(bm_call *c, int64_t now_ns)
{
    char text[96];
    int place = c->state == BM_CALL_RUNNING && c->slots[0].gen != NULL ? bm_gen_queue_position(c->slots[0].gen) : 0;

    if (!c->req.stream || now_ns - c->told_ns < (c->streaming ? next_word_ns : first_word_ns))
        return;
    c->told_ns = now_ns;
    if (c->state == BM_CALL_WAITING)
        snprintf(text, sizeof text, "loading the model: %.0f %%", load_progress(c) * 100);
    else if (place > 0)
        snprintf(text, sizeof text, "queued at place %d", place);
    else
        snprintf(text, sizeof text, "working");
    bm_sse_comment(&c->out, text);
    flush(c);
}

static void tick(bm_call *c, int64_t now_ns)
{
    bm_error err;

    if (c->x == NULL || c->state == BM_CALL_PREPARING)
        return;
    if (c->state == BM_CALL_WAITING && now_ns - c->started_ns > (int64_t)c->server->options.load_wait_seconds * 1000000000) {
        bm_fail(&err, BM_LOADING, "the model is still being loaded: %.0f %% after %d s", load_progress(c) * 100,
                c->server->options.load_wait_seconds);
        bm_hint(&err, "ask again later; GET /v1/ps shows the progress");
        fail_call(c, &err);
        return;
    }
    tell(c, now_ns);
    if (c->x == NULL)
        end_call(c);
}

void bm_calls_tick(bm_server *server)
{
    int64_t now_ns = bm_now_ns();

    for (bm_call *c = server->calls, *next; c != NULL; c = next) {
        next = c->next;
        tick(c, now_ns);
    }
}

void bm_calls_cancel(bm_server *server)
{
    for (bm_call *c = server->calls, *next; c != NULL; c = next) {
        next = c->next;
        if (c->x != NULL)
            stop_call(c, "the server is stopping", "shutdown");
    }
}

void bm_calls_close(bm_server *server)
{
    for (bm_call *c = server->calls; c != NULL; c = c->next) {
        c->x = NULL;
        for (size_t i = 0; c->slots != NULL && i < c->req.n_prompts; i++) {
            bm_gen_close(c->slots[i].gen);
            c->slots[i].gen = NULL;
        }
        if (c->backend != NULL)
            bm_pool_put(server->options.pool, c->backend);
        c->backend = NULL;
    }
}

void bm_calls_forget(bm_server *server)
{
    while (server->calls != NULL)
        free_call(server->calls);
}
