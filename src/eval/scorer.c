/* scorer.c - a window of documents in flight, emptied in order; see scorer.h. */
#include "eval/scorer.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { IN_FLIGHT = 512, GEN_TOKENS = 256, MAX_STOPS = 64 };

/* One generation of the engine: a request, or a window of a long text. */
typedef struct part {
    bm_gen *gen;                 /* NULL: nothing to ask */
    size_t answer;               /* which request of the document it belongs to */
} part;

typedef struct doc {
    bm_sample sample;
    bm_answer *answers;
    part *parts;
    size_t n_parts, cap_parts;
    int64_t n_tokens, n_cached;
    bm_error error;              /* code 0: none */
} doc;

typedef struct scorer {
    bm_backend *backend;
    const bm_task *task;
    const bm_scorer_options *options;
    const bm_tokenizer *tok;
    int32_t n_ctx, prefix;       /* prefix: the token before all: BOS, else EOS */
    size_t most, in_flight;      /* generations */
    doc *ring;                   /* [cap], documents [head, head + n) modulo cap */
    size_t cap, head, n;
    bool ended;                  /* no document is left to begin */
    bm_tokens whole, context;    /* scratch */
    const char *stops[MAX_STOPS];
    size_t n_stops;
} scorer;

/* ---- one request ---- */

static int encode(scorer *s, const char *text, size_t len, bool add_special, bm_tokens *out, bm_error *err)
{
    bm_encode_options o = { .add_special = add_special, .parse_special = true };

    out->n = 0;
    return bm_tokenizer_encode(s->tok, text, len, &o, out, err);
}

/* A text that begins with BOS already gets no second one. */
static bool begins_with_bos(const scorer *s, const char *text, size_t len)
{
    int32_t bos = bm_tokenizer_bos(s->tok);
    bm_buf piece = { 0 };
    bool yes;

    if (bos < 0)
        return false;
    bm_tokenizer_piece(s->tok, bos, true, true, &piece);
    yes = piece.len > 0 && piece.len <= len && memcmp(text, piece.data, piece.len) == 0;
    bm_buf_done(&piece);
    return yes;
}

static int add_part(doc *d, bm_gen *gen, size_t answer, bm_error *err)
{
    if (d->n_parts == d->cap_parts) {
        size_t cap = d->cap_parts ? 2 * d->cap_parts : 8;
        part *more = bm_realloc(d->parts, cap * sizeof *more);
        if (more == NULL) {
            bm_gen_close(gen);
            return bm_fail(err, BM_NOMEM, "no memory for the requests of a document");
        }
        d->parts = more;
        d->cap_parts = cap;
    }
    d->parts[d->n_parts++] = (part){ gen, answer };
    return 0;
}

/* While the queue is full the oldest document in flight ends first: the caller empties it and asks again. */
static int submit(scorer *s, doc *d, size_t answer, const bm_gen_request *r, bm_error *err)
{
    bm_gen *gen;
    int rc = s->backend->generate(s->backend, &gen, r, err);

    if (rc < 0)
        return rc;
    s->in_flight++;
    return add_part(d, gen, answer, err);
}

static int does_not_fit(const scorer *s, size_t need, bm_error *err)
{
    bm_fail(err, BM_CONTEXT, "needs %zu tokens; the context is %d", need, s->n_ctx);
    return bm_hint(err, "load the model with more: --ctx %zu", need);
}

/* Log-probabilities of tokens [from, n). */
static int ask_score(scorer *s, doc *d, size_t answer, const int32_t *tokens, size_t n, size_t from, bm_error *err)
{
    bm_gen_request r = { .prompt = tokens, .n_prompt = n, .n_choices = 1, .sampling = bm_sampling_default(), .top_logprobs = 1,
                         .prompt_logprobs = true, .logprobs_from = (int32_t)from, .patient = true };

    if (n > (size_t)s->n_ctx + 1)
        return does_not_fit(s, n - 1, err);
    return submit(s, d, answer, &r, err);
}

/* A continuation of a context. Without a context the prefix token stands for it; without tokens there is nothing to ask. */
static int ask_continuation(scorer *s, doc *d, size_t i, bm_error *err)
{
    const bm_request_text *q = &d->sample.requests[i];
    size_t cut = q->len_context - bm_request_trailing_space(q->context, q->len_context), from = 1;
    bm_buf both = { 0 };
    int rc;

    d->answers[i].greedy = true;
    if (q->len_context == 0) {
        if ((rc = encode(s, q->continuation, q->len_continuation, false, &s->context, err)) < 0)
            return rc;
        s->whole.n = 0;
        if (s->context.n == 0 || s->context.ids[0] != s->prefix)
            rc = bm_tokens_add(&s->whole, s->prefix, err);
        for (size_t t = 0; rc == 0 && t < s->context.n; t++)
            rc = bm_tokens_add(&s->whole, s->context.ids[t], err);
    } else {
        bool special = !begins_with_bos(s, q->context, q->len_context);
        bm_buf_add(&both, q->context, q->len_context);
        bm_buf_add(&both, q->continuation, q->len_continuation);
        rc = both.failed ? bm_fail(err, BM_NOMEM, "no memory for a prompt")
                         : encode(s, both.data ? both.data : "", both.len, special, &s->whole, err);
        if (rc == 0)
            rc = encode(s, q->context, cut, special, &s->context, err);
        from = s->context.n;
    }
    bm_buf_done(&both);
    if (rc < 0 || from >= s->whole.n)
        return rc;
    if (from == 0)
        return bm_fail(err, BM_INVALID, "the context has no tokens: there is nothing to predict its continuation from");
    return ask_score(s, d, i, s->whole.ids, s->whole.n, from, err);
}

/* A whole text in windows of the context, each token predicted once (lm-eval's get_rolling_token_windows with one token of context). */
static int ask_rolling(scorer *s, doc *d, size_t i, bm_error *err)
{
    const bm_request_text *q = &d->sample.requests[i];
    size_t most = (size_t)s->n_ctx, done = 0;
    bool special = !begins_with_bos(s, q->continuation, q->len_continuation);
    int rc = encode(s, q->continuation, q->len_continuation, special, &s->context, err);

    s->whole.n = 0;
    if (rc == 0)
        rc = bm_tokens_add(&s->whole, s->prefix, err);
    for (size_t t = 0; rc == 0 && t < s->context.n; t++)
        rc = bm_tokens_add(&s->whole, s->context.ids[t], err);
    d->answers[i].greedy = true;
    while (rc == 0 && done + 1 < s->whole.n) {           /* tokens 1 to done are predicted */
        size_t left = s->whole.n - 1 - done, take = left < most ? left : most;
        size_t end = 1 + done + take, begin = end > most + 1 ? end - most - 1 : 0;
        rc = ask_score(s, d, i, s->whole.ids + begin, end - begin, 1 + done - begin, err);
        done += take;
    }
    return rc;
}

static double number_of(const json_t *kwargs, const char *key, double otherwise)
{
    const json_t *v = json_object_get(kwargs, key);

    return json_is_number(v) ? json_number_value(v) : otherwise;
}

/* generation_kwargs as lm-eval and transformers read them: greedy unless do_sample. */
static int set_sampling(const json_t *kwargs, bm_gen_request *r, bm_error *err)
{
    const json_t *sample = json_object_get(kwargs, "do_sample");
    bool sampled = json_is_true(sample) || (sample == NULL && number_of(kwargs, "temperature", 0) > 0);

    r->sampling.temperature = sampled ? (float)number_of(kwargs, "temperature", 1) : 0;
    if (sampled) {
        r->sampling.top_p = (float)number_of(kwargs, "top_p", 1);
        r->sampling.top_k = (int32_t)number_of(kwargs, "top_k", 0);
        r->sampling.min_p = (float)number_of(kwargs, "min_p", 0);
    }
    r->sampling.repetition_penalty = (float)number_of(kwargs, "repetition_penalty", 1);
    if (!(r->sampling.temperature >= 0))
        return bm_fail(err, BM_INVALID, "generation_kwargs: temperature must be at least 0");
    return 0;
}

static int ask_generation(scorer *s, doc *d, size_t i, bm_error *err)
{
    const bm_request_text *q = &d->sample.requests[i];
    const json_t *kwargs = s->task->generation_kwargs;
    double most = number_of(kwargs, "max_gen_toks", s->options->max_gen_tokens > 0 ? s->options->max_gen_tokens : GEN_TOKENS);
    bm_gen_request r = { .n_choices = s->task->repeats, .sampling = bm_sampling_default(), .stop = s->stops, .n_stop = s->n_stops,
                         .top_logprobs = -1, .patient = true };
    int rc;

    if (!(most >= 1 && most <= 1 << 24))
        return bm_fail(err, BM_INVALID, "generation_kwargs: max_gen_toks must be between 1 and %d", 1 << 24);
    r.max_tokens = (int32_t)most;
    if ((rc = set_sampling(kwargs, &r, err)) < 0 ||
        (rc = encode(s, q->context, q->len_context, !begins_with_bos(s, q->context, q->len_context), &s->whole, err)) < 0)
        return rc;
    r.prompt = s->whole.ids;
    r.n_prompt = s->whole.n;
    r.sampling.seed = s->options->seed + d->sample.doc_id;
    if (r.n_prompt + (size_t)r.max_tokens > (size_t)s->n_ctx)
        return does_not_fit(s, r.n_prompt + (size_t)r.max_tokens, err);
    if ((d->answers[i].responses = json_array()) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the responses of a document");
    return submit(s, d, i, &r, err);
}

/* ---- answers ---- */

static int read_generation(bm_gen *gen, int n_choices, bm_answer *a, bm_error *err)
{
    bm_buf *texts = bm_calloc((size_t)n_choices, sizeof *texts);
    bm_event ev = { .kind = BM_EVENT_TOKEN };
    int rc = texts ? 0 : bm_fail(err, BM_NOMEM, "no memory for the responses of a document");

    while (texts != NULL && ev.kind != BM_EVENT_END) {
        bm_gen_wait(gen);
        while (ev.kind != BM_EVENT_END && bm_gen_next(gen, &ev) == 1)
            if (ev.kind == BM_EVENT_TOKEN || ev.kind == BM_EVENT_FINISH)
                bm_buf_add(&texts[ev.choice], ev.text, ev.len);
    }
    for (int c = 0; texts != NULL && c < n_choices; c++) {
        if (rc == 0 && (texts[c].failed || json_array_append_new(a->responses, json_stringn(texts[c].data ? texts[c].data : "", texts[c].len)) < 0))
            rc = bm_fail(err, BM_NOMEM, "no memory for the responses of a document");
        bm_buf_done(&texts[c]);
    }
    bm_free(texts);
    return rc;
}

static void read_scores(bm_gen *gen, bm_answer *a)
{
    bm_event ev = { .kind = BM_EVENT_TOKEN };

    while (ev.kind != BM_EVENT_END) {
        bm_gen_wait(gen);
        while (ev.kind != BM_EVENT_END && bm_gen_next(gen, &ev) == 1)
            if (ev.kind == BM_EVENT_PROMPT && ev.has_logprob) {
                a->logprob += (double)ev.logprob.logprob;
                a->greedy = a->greedy && ev.logprob.n_top > 0 && ev.logprob.top[0].token == ev.token;
            }
    }
}

static int read_part(const scorer *s, doc *d, part *p, bm_error *err)
{
    bm_answer *a = &d->answers[p->answer];
    int rc = 0;

    if (s->task->output == BM_TASK_GENERATE)
        rc = read_generation(p->gen, s->task->repeats, a, err);
    else
        read_scores(p->gen, a);
    if (rc == 0 && bm_gen_error(p->gen)->code < 0) {
        *err = *bm_gen_error(p->gen);
        rc = err->code;
    }
    bm_gen_usage u = bm_gen_get_usage(p->gen);
    d->n_tokens += u.prompt_tokens;
    d->n_cached += u.cached_tokens;
    return rc;
}

/* ---- documents ---- */

static void drop_parts(scorer *s, doc *d)
{
    for (size_t i = 0; i < d->n_parts; i++)
        if (d->parts[i].gen != NULL) {
            bm_gen_close(d->parts[i].gen);
            s->in_flight--;
        }
    d->n_parts = 0;
}

static void doc_done(scorer *s, doc *d)
{
    drop_parts(s, d);
    for (size_t i = 0; d->answers != NULL && i < d->sample.n_requests; i++)
        json_decref(d->answers[i].responses);
    bm_free(d->answers);
    bm_free(d->parts);
    bm_sample_done(&d->sample);
    *d = (doc){ 0 };
}

/* What is wrong with one document stays with it. */
static bool concerns_all(int rc) { return rc == BM_NOMEM || rc == BM_CANCELED || rc == BM_INTERNAL || rc == BM_BUSY; }

static int ask(scorer *s, doc *d, size_t i, bm_error *err)
{
    switch (s->task->output) {
    case BM_TASK_GENERATE: return ask_generation(s, d, i, err);
    case BM_TASK_ROLLING: return ask_rolling(s, d, i, err);
    case BM_TASK_MULTIPLE_CHOICE: case BM_TASK_LOGLIKELIHOOD: break;
    }
    return ask_continuation(s, d, i, err);
}

static int finish_head(scorer *s, int (*sink)(void *, const bm_scored *, bm_error *), void *arg, bm_error *err)
{
    doc *d = &s->ring[s->head];
    int rc = 0;

    for (size_t i = 0; i < d->n_parts && d->error.code == 0; i++)
        if (read_part(s, d, &d->parts[i], &d->error) < 0 && concerns_all(d->error.code)) {
            *err = d->error;
            return err->code;
        }
    bool ok = d->error.code == 0;
    bm_scored out = { &d->sample, ok ? d->answers : NULL, d->n_tokens, d->n_cached, ok ? NULL : &d->error };
    rc = sink(arg, &out, err);
    doc_done(s, d);
    s->head = (s->head + 1) % s->cap;
    s->n--;
    return rc;
}

/* Requests of the document just built; a full engine is emptied at its other end meanwhile. */
static int begin_requests(scorer *s, doc *d, int (*sink)(void *, const bm_scored *, bm_error *), void *arg, bm_error *err)
{
    int rc = 0;

    if ((d->answers = bm_calloc(d->sample.n_requests + 1, sizeof *d->answers)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the answers of a document");
    for (size_t i = 0; i < d->sample.n_requests; i++) {
        size_t before = d->n_parts;
        while ((rc = ask(s, d, i, err)) == BM_BUSY && s->n > 1) {
            while (d->n_parts > before) {                /* a long text begins anew */
                bm_gen_close(d->parts[--d->n_parts].gen);
                s->in_flight--;
            }
            json_decref(d->answers[i].responses);
            d->answers[i].responses = NULL;
            if ((rc = finish_head(s, sink, arg, err)) < 0)
                return rc;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int begin_doc(scorer *s, bm_prompts *prompts, int (*sink)(void *, const bm_scored *, bm_error *), void *arg, bm_error *err)
{
    doc *d = &s->ring[(s->head + s->n) % s->cap];
    bm_error own = { 0 };
    int rc = bm_prompts_next(prompts, &d->sample, &own);
    bool beyond = s->options->limit > 0 && d->sample.doc_id >= s->options->limit;

    s->ended = rc == 1 || beyond;
    if (s->ended || d->sample.doc_id < s->options->first) {
        bm_sample_done(&d->sample);
        d->sample = (bm_sample){ 0 };
        return 0;
    }
    s->n++;
    if (rc == 0)
        rc = begin_requests(s, d, sink, arg, &own);
    if (rc < 0 && concerns_all(rc)) {
        *err = own;
        return rc;
    }
    if (rc < 0) {
        drop_parts(s, d);
        d->error = own;
    }
    return 0;
}

/* generation_kwargs.until; empty strings stop nothing. */
static int collect_stops(scorer *s, bm_error *err)
{
    const json_t *until = json_object_get(s->task->generation_kwargs, "until"), *one;
    size_t i;

    json_array_foreach(until, i, one) {
        if (json_string_length(one) == 0)
            continue;
        if (s->n_stops == MAX_STOPS)
            return bm_fail(err, BM_LIMIT, "task %s: more than %d stop strings in generation_kwargs.until", s->task->name, MAX_STOPS);
        s->stops[s->n_stops++] = json_string_value(one);
    }
    return 0;
}

static int run(scorer *s, bm_prompts *prompts, int (*sink)(void *, const bm_scored *, bm_error *), void *arg, bm_error *err)
{
    int rc = 0;

    while (rc == 0 && (!s->ended || s->n > 0)) {
        if (s->options->go_on != NULL && !s->options->go_on(s->options->go_on_arg))
            return bm_fail(err, BM_CANCELED, "stopped");
        if (!s->ended && s->n < s->cap && s->in_flight < s->most)
            rc = begin_doc(s, prompts, sink, arg, err);
        else
            rc = finish_head(s, sink, arg, err);
    }
    return rc;
}

int bm_scorer_run(bm_backend *backend, const bm_task *task, bm_prompts *prompts, const bm_scorer_options *options,
                  int (*sink)(void *arg, const bm_scored *doc, bm_error *err), void *arg, bm_error *err)
{
    scorer s = { .backend = backend, .task = task, .options = options, .tok = backend->tokenizer(backend), .n_ctx = backend->ctx(backend),
                 .most = options->most_in_flight > 0 ? (size_t)options->most_in_flight : IN_FLIGHT };
    int rc;

    s.prefix = bm_tokenizer_bos(s.tok) >= 0 ? bm_tokenizer_bos(s.tok) : bm_tokenizer_eos(s.tok);
    s.cap = s.most;
    if ((s.ring = bm_calloc(s.cap, sizeof *s.ring)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for %zu documents", s.cap);
    if ((rc = collect_stops(&s, err)) == 0)
        rc = run(&s, prompts, sink, arg, err);
    for (size_t i = 0; i < s.cap; i++)
        doc_done(&s, &s.ring[i]);
    bm_free(s.ring);
    bm_tokens_done(&s.whole);
    bm_tokens_done(&s.context);
    return rc;
}
