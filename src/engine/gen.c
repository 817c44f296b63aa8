/* gen.c - one request: checked and given all its memory at submit; its events written by the engine and read by one reader.
 * The engine writes records of a few bytes; the reader makes the text of them, with a twin of the engine's stream. */
#include <limits.h>
#include <math.h>
#include <string.h>
#include "base/clock.h"
#include "base/utf8.h"
#include "engine/engine_internal.h"

static int refuse(bm_error *err, const char *param, const char *what)
{
    bm_fail(err, BM_INVALID, "%s", what);
    return bm_param(err, param);
}

static int check_sampling(const bm_sampling *p, int n_vocab, bm_error *err)
{
    if (!(p->temperature >= 0) || !isfinite(p->temperature))
        return refuse(err, "temperature", "temperature must be a number of at least 0");
    if (p->top_k < 0)
        return refuse(err, "top_k", "top_k must be at least 0");
    if (!(p->top_p > 0 && p->top_p <= 1))
        return refuse(err, "top_p", "top_p must be above 0 and at most 1");
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return refuse(err, "min_p", "min_p must be between 0 and 1");
    if (!(p->repetition_penalty > 0) || !isfinite(p->repetition_penalty))
        return refuse(err, "repetition_penalty", "repetition_penalty must be a number above 0");
    if (!isfinite(p->frequency_penalty))
        return refuse(err, "frequency_penalty", "frequency_penalty must be a number");
    if (!isfinite(p->presence_penalty))
        return refuse(err, "presence_penalty", "presence_penalty must be a number");
    for (size_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].token < 0 || p->bias[i].token >= n_vocab) {
            bm_fail(err, BM_INVALID, "logit_bias names token %d; the vocabulary has 0 to %d", p->bias[i].token, n_vocab - 1);
            return bm_param(err, "logit_bias");
        }
        if (!isfinite(p->bias[i].bias))
            return refuse(err, "logit_bias", "logit_bias must hold numbers");
    }
    return 0;
}

static int check_tokens(const bm_gen_request *r, int n_vocab, bm_error *err)
{
    if (r->n_prompt < 1)
        return refuse(err, "prompt", "the prompt has no tokens");
    for (size_t i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || r->prompt[i] >= n_vocab) {
            bm_fail(err, BM_INVALID, "prompt token %zu is %d; the vocabulary has 0 to %d", i, r->prompt[i], n_vocab - 1);
            return bm_param(err, "prompt");
        }
    for (size_t i = 0; i < r->n_stop; i++)
        if (r->stop[i] == NULL || r->stop[i][0] == '\0' || !bm_utf8_valid(r->stop[i], strlen(r->stop[i])))
            return refuse(err, "stop", "a stop string must be UTF-8 and not empty");
    return 0;
}

/* "7,912" */
static const char *thousands(char out[32], int64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%lld", (long long)n), at = 0;

    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0 && digits[i - 1] != '-')
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

/* Log-probabilities of the prompt and no answer: nothing follows its last token, so that one is predicted and never run. */
static bool only_scored(const bm_gen_request *r)
{
    return r->max_tokens == 0 && r->prompt_logprobs && r->n_prompt > 1;
}

static int check_context(const bm_gen_request *r, bm_error *err)
{
    const bm_loaded *model = r->model;
    size_t need = r->n_prompt + (r->max_tokens != 0) - only_scored(r);
    char have[32], prompt[32];

    if (need <= (size_t)model->n_ctx)
        return 0;
    thousands(prompt, (int64_t)r->n_prompt);
    thousands(have, model->n_ctx);
    bm_fail(err, BM_CONTEXT, "prompt is %s tokens%s; model %s is loaded with context %s", prompt,
            r->n_prompt == (size_t)model->n_ctx ? ", and an answer needs one more" : "", model->name, have);
    bm_param(err, "prompt");
    size_t ctx = (need + 1023) & ~(size_t)1023;
    if (need <= (size_t)model->info.n_ctx_train)
        return bm_hint(err, "load it with more: baimo serve --model %s --ctx %zu", model->name,
                       ctx < (size_t)model->info.n_ctx_train ? ctx : (size_t)model->info.n_ctx_train);
    return bm_hint(err, "shorten the prompt: the model's own context is %s tokens", thousands(have, model->info.n_ctx_train));
}

static int check_request(const bm_engine *e, const bm_gen_request *r, bm_error *err)
{
    const bm_loaded *model = r->model;
    int rc;

    if (!model->info.is_causal)
        return bm_fail(err, BM_UNSUPPORTED, "model %s is an encoder: it does not generate", model->name);
    if (r->n_choices < 1 || r->n_choices > e->options.max_seqs) {
        bm_fail(err, BM_INVALID, "n is %d; this engine runs 1 to %d sequences at once", r->n_choices, e->options.max_seqs);
        return bm_param(err, "n");
    }
    if (r->max_tokens < -1)
        return refuse(err, "max_tokens", "max_tokens must be at least 0");
    if (r->top_logprobs < -1 || r->top_logprobs > BM_MAX_TOP)
        return refuse(err, "top_logprobs", "top_logprobs must be between 0 and 20");
    if (r->logprobs_from < 0 || (size_t)r->logprobs_from > r->n_prompt)
        return refuse(err, "logprobs_from", "log-probabilities must begin inside the prompt");
    if (r->adapter != NULL && model->model != NULL && !bm_adapter_fits(r->adapter, model->model))
        return refuse(err, "model", "the adapter was made for another model");
    if ((rc = check_sampling(&r->sampling, model->info.n_vocab, err)) < 0 ||
        (rc = check_tokens(r, model->info.n_vocab, err)) < 0)
        return rc;
    return check_context(r, err);
}

int32_t bm_kv_seq_pages(const bm_kv_group *group, int32_t n_tokens, int step_tokens, bool *windowed)
{
    int32_t pages = (n_tokens + BM_PAGE_TOKENS - 1) / BM_PAGE_TOKENS, window = pages;

    /* A chunk of step_tokens at position s needs pages from s - window + 1 on; both ends may lie inside a page. */
    if (group->window > 0 && group->window < INT32_MAX - step_tokens)
        window = (group->window + step_tokens - 2) / BM_PAGE_TOKENS + 2;
    *windowed = window < pages;
    return *windowed ? window : pages;
}

uint64_t bm_kv_seq_bytes(const bm_model_info *info, int32_t n_tokens, int step_tokens)
{
    uint64_t sum = 0;
    bool windowed;

    for (int g = 0; g < info->n_groups; g++)
        sum += (uint64_t)bm_kv_seq_pages(&info->groups[g], n_tokens, step_tokens, &windowed) * info->groups[g].page_bytes;
    return sum;
}

/* Whole prompt pages are shared by the choices; with a window they are counted once per choice, since they are dropped apart. */
int32_t bm_gen_need(const bm_gen *gen, int g, int n_live)
{
    int32_t per = gen->pages_per_choice[g], shared = (int32_t)(gen->request.n_prompt / BM_PAGE_TOKENS);

    if (n_live == 0)
        return 0;
    return gen->windowed[g] ? per * n_live : shared + (per - shared) * n_live;
}

static int plan_pages(bm_gen *gen, bm_error *err)
{
    const bm_gen_request *r = &gen->request;
    const bm_model_info *info = &gen->loaded->info;
    int32_t n_tokens = (int32_t)r->n_prompt + (r->max_tokens > 0 ? r->max_tokens - 1 : 0) - only_scored(r);
    uint64_t need = 0, have;

    for (int g = 0; g < info->n_groups; g++) {
        gen->pages_per_choice[g] = bm_kv_seq_pages(&info->groups[g], n_tokens, gen->engine->options.step_tokens, &gen->windowed[g]);
        need += (uint64_t)bm_gen_need(gen, g, r->n_choices) * info->groups[g].page_bytes;
    }
    pthread_mutex_lock(&gen->engine->budget.lock);
    have = gen->engine->budget.total_bytes;
    pthread_mutex_unlock(&gen->engine->budget.lock);
    if (need <= have)
        return 0;
    bm_fail(err, BM_LIMIT, "%d choices of up to %d tokens need %llu MiB of KV; the engine has %llu MiB", r->n_choices,
            n_tokens, (unsigned long long)(need >> 20) + 1, (unsigned long long)(have >> 20));
    bm_param(err, "max_tokens");
    return bm_hint(err, "ask for fewer choices or a smaller max_tokens");
}

static void *copy(bm_arena *arena, const void *from, size_t n, size_t size)
{
    void *to = bm_arena_alloc(arena, n * size + 1);

    if (to != NULL && n > 0)
        memcpy(to, from, n * size);
    return to;
}

static bool copy_stops(bm_gen *gen, const bm_gen_request *r)
{
    const char **strings = bm_arena_alloc(&gen->arena, (r->n_stop + 1) * sizeof *strings);
    size_t *lens = bm_arena_alloc(&gen->arena, (r->n_stop + 1) * sizeof *lens);

    if (strings == NULL || lens == NULL)
        return false;
    gen->stops = (bm_stops){ strings, lens, r->n_stop, 0 };
    for (size_t i = 0; i < r->n_stop; i++) {
        lens[i] = strlen(r->stop[i]);
        if ((strings[i] = bm_arena_strndup(&gen->arena, r->stop[i], lens[i])) == NULL)
            return false;
        if (lens[i] > gen->stops.max_len)
            gen->stops.max_len = lens[i];
    }
    gen->request.stop = strings;
    return true;
}

static bool make_counts(bm_gen *gen, bm_counts *c)
{
    const bm_gen_request *r = &gen->request;
    size_t n_vocab = (size_t)gen->loaded->info.n_vocab, most = r->n_prompt + (size_t)r->max_tokens;

    if (!bm_sampling_counts(&r->sampling))
        return true;
    c->count = bm_arena_alloc(&gen->arena, n_vocab * sizeof *c->count);
    c->distinct = bm_arena_alloc(&gen->arena, (most < n_vocab ? most : n_vocab) * sizeof *c->distinct);
    if (c->count == NULL || c->distinct == NULL)
        return false;
    if (r->sampling.repetition_penalty != 1)
        for (size_t i = 0; i < r->n_prompt; i++)
            bm_counts_prompt(c, r->prompt[i]);
    return true;
}

static int make_seqs(bm_gen *gen, bm_error *err)
{
    const bm_gen_request *r = &gen->request;
    size_t max_piece = gen->loaded->runner.max_piece;
    size_t n_pages = (r->n_prompt + (size_t)r->max_tokens) / BM_PAGE_TOKENS + 1;
    int rc;

    for (int c = 0; c < r->n_choices; c++) {
        bm_seq *seq = &gen->seqs[c];
        seq->gen = gen, seq->choice = c;
        seq->state = c == 0 ? BM_SEQ_PREFILL : BM_SEQ_WAIT;
        seq->copied = seq->source = -1;
        for (int g = 0; g < gen->loaded->info.n_groups; g++) {
            if ((seq->pages[g] = bm_arena_alloc(&gen->arena, n_pages * sizeof(void *))) == NULL)
                return bm_fail(err, BM_NOMEM, "no memory for the page tables of a request");
            seq->kv.pages[g] = seq->pages[g];
        }
        if ((seq->tokens = bm_arena_alloc(&gen->arena, (r->n_prompt + (size_t)r->max_tokens) * sizeof *seq->tokens)) == NULL)
            return bm_fail(err, BM_NOMEM, "no memory for the tokens of a request");
        memcpy(seq->tokens, r->prompt, r->n_prompt * sizeof *seq->tokens);
        seq->n_tokens = (int32_t)r->n_prompt - only_scored(r);
        if ((seq->path = bm_arena_alloc(&gen->arena, n_pages * sizeof *seq->path)) == NULL)
            return bm_fail(err, BM_NOMEM, "no memory for the page tables of a request");
        if (!make_counts(gen, &seq->counts))
            return bm_fail(err, BM_NOMEM, "no memory for the penalty counts of a request");
        if (!gen->engine->options.no_speculation && !r->no_speculation && r->max_tokens > 2 &&
            !bm_draft_init(&seq->draft, &gen->arena, seq->tokens, (int32_t)r->n_prompt, (int32_t)r->n_prompt + r->max_tokens))
            return bm_fail(err, BM_NOMEM, "no memory for the drafts of a request");
        if ((rc = bm_stream_init(&seq->reader, &gen->stops, max_piece, err)) < 0 ||
            (r->n_stop > 0 && (rc = bm_stream_init(&seq->stream, &gen->stops, max_piece, err)) < 0))
            return rc;
    }
    return 0;
}

/* Room for every event that can come: the engine never waits for a reader. */
static int make_records(bm_gen *gen, bm_error *err)
{
    const bm_gen_request *r = &gen->request;
    size_t answers = (size_t)r->n_choices * ((size_t)r->max_tokens + 1), n = answers + 1 + (r->prompt_logprobs ? r->n_prompt - (size_t)r->logprobs_from : 0);
    size_t room = 3 * (gen->loaded->runner.max_piece + 4) + gen->stops.max_len;

    gen->n_records = n;
    gen->records = bm_arena_alloc(&gen->arena, n * sizeof *gen->records);
    if (r->top_logprobs >= 0) {
        gen->n_top = r->top_logprobs < gen->loaded->info.n_vocab ? r->top_logprobs : gen->loaded->info.n_vocab;
        gen->logprobs = bm_arena_alloc(&gen->arena, n * sizeof *gen->logprobs);
        gen->tops = bm_arena_alloc(&gen->arena, (n * (size_t)gen->n_top + 1) * sizeof *gen->tops);
    }
    if (gen->records == NULL || (r->top_logprobs >= 0 && (gen->logprobs == NULL || gen->tops == NULL)) ||
        !bm_buf_reserve(&gen->piece, gen->loaded->runner.max_piece) || !bm_buf_reserve(&gen->text, room))
        return bm_fail(err, BM_NOMEM, "no memory for the events of a request of %zu tokens", r->n_prompt + (size_t)r->max_tokens);
    return 0;
}

/* Who may share cached prefixes: the same tenant and cache_space, the same content and scale of the same adapter or none. */
static int make_space(bm_gen *gen, bm_error *err)
{
    const bm_gen_request *r = &gen->request;
    unsigned char both[sizeof r->cache_space + sizeof(bm_sha256)];
    bm_sha256 salt;
    int rc;

    gen->space.tenant = r->tenant;
    memcpy(gen->space.salt, r->cache_space, sizeof gen->space.salt);
    if (r->adapter == NULL)
        return 0;
    memcpy(both, r->cache_space, sizeof r->cache_space);
    memcpy(both + sizeof r->cache_space, bm_adapter_hash(r->adapter), sizeof(bm_sha256));
    if ((rc = bm_sha256_bytes(&salt, both, sizeof both, err)) == 0)
        memcpy(gen->space.salt, salt.bytes, sizeof salt.bytes);
    return rc;
}

static int make_gen(bm_gen *gen, bm_engine *e, const bm_gen_request *request, bm_error *err)
{
    bm_gen_request *r = &gen->request;
    int32_t room;
    int rc;

    gen->engine = e, gen->loaded = request->model;
    gen->submit_ns = bm_now_ns();
    *r = *request;
    room = gen->loaded->n_ctx - (int32_t)r->n_prompt;
    room = room > 0 ? room : 0;              /* a prompt that is only scored may have one token more */
    if (r->max_tokens < 0 || r->max_tokens > room)
        r->max_tokens = room;
    if (r->prompt_logprobs && r->top_logprobs < 0)
        r->top_logprobs = 0;
    gen->n_prompt_events = r->logprobs_from;
    r->prompt = copy(&gen->arena, request->prompt, r->n_prompt, sizeof *r->prompt);
    r->sampling.bias = copy(&gen->arena, request->sampling.bias, r->sampling.n_bias, sizeof *r->sampling.bias);
    gen->seqs = bm_arena_alloc(&gen->arena, (size_t)r->n_choices * sizeof *gen->seqs);
    if (r->prompt == NULL || r->sampling.bias == NULL || gen->seqs == NULL || !copy_stops(gen, request))
        return bm_fail(err, BM_NOMEM, "no memory for a request of %zu tokens", r->n_prompt);
    gen->n_live = r->n_choices;
    if ((rc = make_space(gen, err)) < 0)
        return rc;
    if (r->no_cache || e->options.no_prefix_cache)
        gen->space.lone = (uint64_t)(uintptr_t)gen;      /* only its own choices share */
    if ((rc = plan_pages(gen, err)) < 0 || (rc = make_seqs(gen, err)) < 0)
        return rc;
    return make_records(gen, err);
}

static void gen_free(bm_gen *gen)
{
    for (int c = 0; gen->seqs != NULL && c < gen->request.n_choices; c++) {
        bm_stream_done(&gen->seqs[c].stream);
        bm_stream_done(&gen->seqs[c].reader);
    }
    bm_buf_done(&gen->piece);
    bm_buf_done(&gen->text);
    bm_arena_done(&gen->arena);
    pthread_mutex_destroy(&gen->lock);
    pthread_mutex_destroy(&gen->notify_lock);
    pthread_cond_destroy(&gen->more);
    bm_free(gen);
}

void bm_gen_unref(bm_gen *gen)
{
    bm_loaded *loaded = gen->loaded;

    bm_adapter *adapter = gen->request.adapter;

    if (atomic_fetch_sub(&gen->refs, 1) != 1)
        return;
    gen_free(gen);
    bm_adapter_free(adapter);
    bm_loaded_unref(loaded);
}

int bm_gen_submit(bm_gen **out, bm_engine *engine, const bm_gen_request *request, bm_error *err)
{
    bm_gen *gen;
    int rc;

    *out = NULL;
    if ((rc = check_request(engine, request, err)) < 0)
        return rc;
    if ((gen = bm_zalloc(sizeof *gen)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a request");
    pthread_mutex_init(&gen->lock, NULL);
    pthread_mutex_init(&gen->notify_lock, NULL);
    pthread_cond_init(&gen->more, NULL);
    atomic_init(&gen->refs, 2);              /* the caller's and the engine's */
    if ((rc = make_gen(gen, engine, request, err)) < 0) {
        gen_free(gen);
        return rc;
    }
    bm_loaded_ref(gen->loaded);
    if (request->adapter != NULL)
        bm_adapter_ref(request->adapter);
    pthread_mutex_lock(&engine->lock);
    if ((rc = bm_queue_add(engine, gen, err)) == 0)
        pthread_cond_signal(&engine->work);
    pthread_mutex_unlock(&engine->lock);
    if (rc < 0) {
        gen_free(gen);
        bm_adapter_free(request->adapter);
        bm_loaded_unref(request->model);
        return rc;
    }
    *out = gen;
    return 0;
}

bm_record *bm_gen_push(bm_gen *gen, bm_event_kind kind, int choice)
{
    BM_CHECK(gen->n_written < gen->n_records);
    bm_record *r = &gen->records[gen->n_written];
    if (gen->logprobs != NULL)
        gen->logprobs[gen->n_written] = NAN;
    *r = (bm_record){ .token = -1, .choice = (uint16_t)choice, .kind = (uint8_t)kind };
    gen->n_written++;
    gen->touched = true;
    return r;
}

void bm_gen_publish(bm_gen *gen)
{
    gen->touched = false;
    pthread_mutex_lock(&gen->lock);
    gen->public_usage = gen->usage;
    atomic_store_explicit(&gen->n_published, gen->n_written, memory_order_release);
    pthread_cond_broadcast(&gen->more);
    pthread_mutex_unlock(&gen->lock);
    if (gen->request.notify == NULL)
        return;
    pthread_mutex_lock(&gen->notify_lock);
    if (!gen->closed)
        gen->request.notify(gen->request.notify_arg);
    pthread_mutex_unlock(&gen->notify_lock);
}

/* The text that a token adds, in gen->text. A token that ends the generation adds none. */
static void token_text(bm_gen *gen, const bm_record *r)
{
    const bm_runner *runner = &gen->loaded->runner;

    if (!gen->request.ignore_eos && runner->is_eog(runner->impl, r->token))
        return;
    bm_buf_clear(&gen->piece);
    runner->piece(runner->impl, r->token, &gen->piece);
    bm_stream_feed(&gen->seqs[r->choice].reader, gen->piece.data, gen->piece.len, &gen->text);
}

static void fill_finish(bm_gen *gen, const bm_record *r, bm_event *event)
{
    event->finish = (bm_finish)r->finish;
    if (r->token >= 0)
        event->stop = gen->stops.strings[r->token];
    else
        bm_stream_finish(&gen->seqs[r->choice].reader, &gen->text);
}

int bm_gen_next(bm_gen *gen, bm_event *event)
{
    if (gen->n_read >= atomic_load_explicit(&gen->n_published, memory_order_acquire))
        return 0;
    size_t i = gen->n_read++;
    const bm_record *r = &gen->records[i];
    *event = (bm_event){ .kind = (bm_event_kind)r->kind, .choice = r->choice, .token = r->token };
    bm_buf_clear(&gen->text);
    if (r->kind == BM_EVENT_TOKEN)
        token_text(gen, r);
    else if (r->kind == BM_EVENT_FINISH)
        fill_finish(gen, r, event);
    else if (r->kind == BM_EVENT_PROMPT)
        event->index = gen->request.logprobs_from + (int32_t)i;      /* prompt records come first, one per token */
    if ((r->kind == BM_EVENT_TOKEN || r->kind == BM_EVENT_PROMPT) && gen->logprobs != NULL && !isnan(gen->logprobs[i])) {
        event->has_logprob = true;
        event->logprob = (bm_logprob){ r->token, gen->logprobs[i], gen->n_top, gen->tops + i * (size_t)gen->n_top };
    }
    event->text = gen->text.len > 0 ? gen->text.data : "";
    event->len = gen->text.len;
    return 1;
}

void bm_gen_wait(bm_gen *gen)
{
    pthread_mutex_lock(&gen->lock);
    for (;;) {
        size_t n = atomic_load_explicit(&gen->n_published, memory_order_acquire);
        if (gen->n_read < n || (n > 0 && gen->records[n - 1].kind == BM_EVENT_END))
            break;
        pthread_cond_wait(&gen->more, &gen->lock);
    }
    pthread_mutex_unlock(&gen->lock);
}

void bm_gen_cancel(bm_gen *gen) { atomic_store(&gen->canceled, true); }

void bm_gen_close(bm_gen *gen)
{
    if (gen == NULL)
        return;
    bm_gen_cancel(gen);
    pthread_mutex_lock(&gen->notify_lock);
    gen->closed = true;
    pthread_mutex_unlock(&gen->notify_lock);
    bm_gen_unref(gen);
}

const bm_error *bm_gen_error(const bm_gen *gen) { return &gen->error; }

bm_gen_usage bm_gen_get_usage(const bm_gen *gen)
{
    bm_gen *g = (bm_gen *)(uintptr_t)gen;

    pthread_mutex_lock(&g->lock);
    bm_gen_usage usage = gen->public_usage;
    pthread_mutex_unlock(&g->lock);
    return usage;
}

int bm_gen_queue_position(const bm_gen *gen)
{
    int position = 0;

    pthread_mutex_lock(&gen->engine->lock);
    if (gen->phase == BM_GEN_QUEUED)
        for (const bm_gen *g = gen->engine->queue; g != NULL; g = g->next) {
            bool before = g->request.priority > gen->request.priority ||
                          (g->request.priority == gen->request.priority && g->number <= gen->number);
            position += before;
        }
    pthread_mutex_unlock(&gen->engine->lock);
    return position;
}
