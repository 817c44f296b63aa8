/* scheduler.c - one step of one model: batch, run, sample, accept. Who sits in the engine and holds which pages: seats.c, share.c.
 * A step's batch is one token of every decoding sequence with guesses of the next ones (draft.h), then chunks of prompts. How a
 * prompt is cut never changes a result (the numeric contract), so chunks are sized by time (chunks.c).
 * Nor do guesses: a position is sampled as if alone, and what lies behind the first wrong guess is forgotten - its KV is
 * written anew before anything reads it. */
#include <string.h>
#include "base/clock.h"
#include "engine/engine_internal.h"

/* Of a chunk of n tokens, those before the first whose hidden row after_prefill wants. */
static int32_t n_unread(const bm_seq *seq, int32_t n)
{
    const bm_gen *gen = seq->gen;
    int32_t first = seq->pos + n < seq->n_tokens ? n : n - 1;

    if (seq->state != BM_SEQ_PREFILL)
        return 0;
    if (gen->request.prompt_logprobs && seq->pos + 1 < (int32_t)gen->request.n_prompt) {
        int32_t wanted = gen->n_prompt_events > seq->pos + 1 ? gen->n_prompt_events - 1 - seq->pos : 0;
        first = wanted < first ? wanted : first;
    }
    return first;
}

/* As many of the tokens as there are pages for, and one at least. Returns how many. */
static int32_t add_run(bm_engine *e, int *n_runs, bm_seq *seq, const int32_t *tokens, int32_t n_tokens)
{
    n_tokens = bm_seq_take_pages(e, seq, n_tokens);
    BM_CHECK(n_tokens > 0);
    e->runs[*n_runs] = (bm_run){ .tokens = tokens, .n_tokens = n_tokens, .start = seq->pos, .kv = &seq->kv,
                                  .n_unread = n_unread(seq, n_tokens), .adapter = seq->gen->request.adapter };
    e->run_seqs[(*n_runs)++] = seq;
    return n_tokens;
}

/* Guesses of the tokens that follow seq->token, into seq->run. None beyond what the request may still sample. */
static void guess_next(bm_engine *e, bm_seq *seq, bm_draft_offer *offer)
{
    int32_t left = seq->gen->request.max_tokens - seq->n_generated - 1;
    int most = left < BM_DRAFT_MAX ? left : BM_DRAFT_MAX;

    offer->n = offer->take = 0;
    if (e->options.no_speculation || seq->gen->request.no_speculation)
        return;
    if (e->guess != NULL)
        offer->take = e->guess(seq, seq->run + 1, most);
    else
        offer->n = bm_draft_propose(&seq->draft, seq->run + 1, offer->chance, most);
}

/* Those of one adapter beside each other: its matrices are then read once. Few, or nearly in order: by insertion. */
static void sort_by_adapter(bm_seq **seqs, int32_t n)
{
    for (int32_t i = 1; i < n; i++) {
        bm_seq *seq = seqs[i];
        uintptr_t key = (uintptr_t)seq->gen->request.adapter;
        int32_t at = i;
        for (; at > 0 && (uintptr_t)seqs[at - 1]->gen->request.adapter > key; at--)
            seqs[at] = seqs[at - 1];
        seqs[at] = seq;
    }
}

/* The decoding sequences, each with as many guesses as pay. Returns the number of rows. */
static int32_t add_decodes(bm_engine *e, const bm_loaded *model, int *n_runs)
{
    bm_draft_offer offers[BM_DRAFT_COST_ROWS];
    int32_t n = 0, n_rows = 0, room;

    for (int i = 0; i < e->n_active; i++)
        for (int c = 0; e->active[i]->loaded == model && c < e->active[i]->request.n_choices; c++)
            if (e->active[i]->seqs[c].state == BM_SEQ_DECODE)
                e->run_seqs[n++] = &e->active[i]->seqs[c];
    sort_by_adapter(e->run_seqs, n);
    room = e->options.step_tokens - BM_CHUNK_MIN - n;
    bool few = n < BM_DRAFT_COST_ROWS;
    for (int32_t i = 0; few && i < n; i++)
        guess_next(e, e->run_seqs[i], &offers[i]);
    if (few && e->guess == NULL)
        bm_draft_share(offers, n, room, &model->cost);
    for (int32_t i = 0; i < n; i++) {
        bm_seq *seq = e->run_seqs[i];
        int32_t take = few ? offers[i].take : 0;
        if (take > room)
            take = 0;
        seq->run[0] = seq->token;
        take = add_run(e, n_runs, seq, seq->run, 1 + take) - 1;
        room -= take;
        seq->gen->usage.draft_tokens += take;
        n_rows += 1 + take;
    }
    return n_rows;
}

/* Decodes first, then prompts. Returns the number of runs, and the rows of each kind. */
static int build_batch(bm_engine *e, const bm_loaded *model, int32_t *n_decode, int32_t *n_prefill)
{
    int n_runs = 0;

    *n_decode = add_decodes(e, model, &n_runs);
    bm_chunks_share(e, model, *n_decode);
    *n_prefill = 0;
    for (int i = 0; i < e->n_active; i++)
        for (int c = 0; e->active[i]->loaded == model && c < e->active[i]->request.n_choices; c++) {
            bm_seq *seq = &e->active[i]->seqs[c];
            if (seq->state != BM_SEQ_PREFILL || seq->leader != NULL || seq->grant == 0)
                continue;
            int32_t n = add_run(e, &n_runs, seq, seq->tokens + seq->pos, seq->grant);
            e->new_computed += seq->gen->request.uncounted ? 0 : (uint64_t)n;
            *n_prefill += n;
        }
    bm_seqs_copy(e, e->run_seqs, n_runs);
    return n_runs;
}

typedef struct sample_job { bm_engine *engine; bm_loaded *model; int n; } sample_job;

static void sample_one(bm_sampler *s, bm_want *want, const float *logits)
{
    bm_gen *gen = want->seq->gen;
    const bm_gen_request *r = &gen->request;
    uint32_t position = (uint32_t)r->n_prompt + (uint32_t)want->seq->n_generated + (uint32_t)want->ahead;

    if (want->prompt_index >= 0)
        want->token = r->prompt[want->prompt_index];
    else
        want->token = bm_sample(s, logits, &r->sampling, &want->seq->counts,
                                bm_random_unit(r->sampling.seed, (uint32_t)want->seq->choice, position));
    if (want->token >= 0 && gen->logprobs != NULL &&
        !bm_logprob_of(s, logits, want->token, gen->n_top, &want->logprob, want->top))
        want->token = -1;
    if (want->token >= 0 && want->prompt_index < 0)
        bm_counts_generated(&want->seq->counts, want->token);
}

/* Rows of one sequence, in order, as long as what was sampled is what had been guessed. */
static void sample_run(const sample_job *job, bm_sampler *s, int first)
{
    for (int i = first;; i++) {
        bm_want *want = &job->engine->wants[i];
        sample_one(s, want, job->model->logits + i * (size_t)job->model->info.n_vocab);
        want->sampled = true;
        if (i + 1 >= job->n || want[1].ahead == 0 || want->token != want->seq->run[want[1].ahead])
            return;
    }
}

static void sample_rows(bm_worker *w, void *arg)
{
    sample_job *job = arg;
    size_t begin, end;

    if (w->id >= job->model->n_samplers)
        return;
    while (bm_worker_claim(w, (size_t)job->n, 1, &begin, &end))
        for (; begin < end; begin++)
            if (job->engine->wants[begin].ahead == 0)
                sample_run(job, &job->model->samplers[w->id], (int)begin);
}

static void record_logprob(bm_gen *gen, const bm_want *want)
{
    if (gen->logprobs == NULL)
        return;
    gen->logprobs[gen->n_written - 1] = want->logprob;
    memcpy(gen->tops + (gen->n_written - 1) * (size_t)gen->n_top, want->top, (size_t)gen->n_top * sizeof *want->top);
}

static void bad_logits(bm_engine *e, bm_gen *gen, int32_t position)
{
    if (gen->error.code == 0) {
        bm_fail(&gen->error, BM_INTERNAL, "model %s computed a value that is not a number after token %d", gen->loaded->name, position);
        bm_hint(&gen->error, "the file may be damaged: compare its sha256 with the publisher's");
    }
    bm_gen_end(e, gen, BM_FINISH_ERROR);
}

/* One sampled token becomes an event, and perhaps the end. */
static void accept_token(bm_engine *e, bm_seq *seq, const bm_want *want)
{
    bm_gen *gen = seq->gen;
    bm_loaded *model = gen->loaded;
    const bm_gen_request *r = &gen->request;
    int stop = -1;

    bm_gen_push(gen, BM_EVENT_TOKEN, seq->choice)->token = want->token;
    record_logprob(gen, want);
    if (gen->first_ns == 0) {
        gen->first_ns = bm_now_ns();
        gen->usage.prefill_ns = gen->first_ns - gen->admit_ns;
        gen->usage.first_token_ns = gen->first_ns - gen->submit_ns;
    }
    gen->usage.completion_tokens++;
    seq->n_generated++;
    seq->token = want->token;
    seq->tokens[seq->n_tokens++] = want->token;
    bm_draft_note(&seq->draft);
    if (!r->ignore_eos && model->runner.is_eog(model->runner.impl, want->token)) {
        bm_seq_end(e, seq, BM_FINISH_STOP, -1);
        return;
    }
    if (r->n_stop > 0) {
        bm_buf_clear(&model->piece);
        model->runner.piece(model->runner.impl, want->token, &model->piece);
        stop = bm_stream_feed(&seq->stream, model->piece.data, model->piece.len, NULL);
    }
    if (stop >= 0)
        bm_seq_end(e, seq, BM_FINISH_STOP, stop);
    else if (seq->n_generated >= r->max_tokens)
        bm_seq_end(e, seq, BM_FINISH_LENGTH, -1);
}

static int logits_block(bm_engine *e, bm_loaded *model, int n, bm_error *err)
{
    int32_t rows[BM_LOGIT_ROWS];
    sample_job job = { e, model, n };
    int rc;

    for (int i = 0; i < n; i++)
        rows[i] = e->wants[i].row;
    if ((rc = model->runner.logits(model->runner.impl, e->team, rows, n, model->logits, err)) < 0)
        return rc;
    if (n == 1)
        sample_run(&job, &model->samplers[0], 0);
    else
        bm_team_run(e->team, sample_rows, &job);
    for (int i = 0; i < n; i++) {
        bm_want *want = &e->wants[i];
        bm_gen *gen = want->seq->gen;
        if (gen->ended || !want->sampled || want->seq->state == BM_SEQ_DONE)
            continue;
        if (want->ahead > 0) {
            want->seq->pos++;
            gen->usage.draft_accepted++;
        }
        if (want->token < 0) {
            bad_logits(e, gen, want->seq->pos);
        } else if (want->prompt_index >= 0) {
            bm_gen_push(gen, BM_EVENT_PROMPT, 0)->token = want->token;
            gen->n_prompt_events++;
            record_logprob(gen, want);
            if (want->ends)
                bm_gen_end(e, gen, BM_FINISH_LENGTH);
        } else {
            e->new_tokens += !gen->request.uncounted;
            accept_token(e, want->seq, want);
        }
    }
    return 0;
}

/* Collects wanted rows and runs them in blocks. */
typedef struct want_list { bm_engine *engine; bm_loaded *model; int n; int rc; bm_error *err; } want_list;

static void flush_wants(want_list *list)
{
    if (list->n > 0 && list->rc == 0)
        list->rc = logits_block(list->engine, list->model, list->n, list->err);
    list->n = 0;
}

static void want_row(want_list *list, int32_t row, bm_seq *seq, int32_t prompt_index, int ahead)
{
    bm_want *want = &list->engine->wants[list->n++];

    want->row = row, want->seq = seq, want->prompt_index = prompt_index, want->ahead = ahead;
    want->token = -1, want->sampled = want->ends = false;
    if (list->n == list->engine->logit_rows)
        flush_wants(list);
}

/* All rows of a decoding sequence, in one block: each depends on the ones before. */
static void want_run(want_list *list, int32_t row, bm_seq *seq, int32_t n)
{
    if (list->n + n > list->engine->logit_rows)
        flush_wants(list);
    for (int32_t i = 0; i < n; i++)
        want_row(list, row + i, seq, -1, (int)i);
}

/* After a chunk of prompt: its log-probabilities when asked for, and at its end the first token of every choice. After standing
 * up the chunk may be of an answer too, and of one choice. */
static void after_prefill(want_list *list, bm_seq *seq, int32_t row, int32_t n)
{
    bm_gen *gen = seq->gen;
    const bm_gen_request *r = &gen->request;
    int32_t n_prompt = (int32_t)r->n_prompt, start = seq->pos - n;

    if (r->prompt_logprobs && gen->n_prompt_events == 0) {
        bm_gen_push(gen, BM_EVENT_PROMPT, 0)->token = r->prompt[0];
        gen->n_prompt_events = 1;
    }
    for (int32_t i = 0; r->prompt_logprobs && i < n && start + i + 1 < n_prompt; i++)
        if (start + i + 1 >= gen->n_prompt_events)
            want_row(list, row + i, seq, start + i + 1, 0);
    if (seq->pos < seq->n_tokens || gen->ended)
        return;
    if (r->max_tokens == 0) {
        bm_want *last = list->n > 0 ? &list->engine->wants[list->n - 1] : NULL;
        if (last != NULL && last->seq == seq)
            last->ends = true;   /* its prompt events come before its end */
        else
            bm_gen_end(list->engine, gen, BM_FINISH_LENGTH);
        return;
    }
    seq->state = BM_SEQ_DECODE;
    if (gen->forked) {
        want_row(list, row + n - 1, seq, -1, 0);
        return;
    }
    bm_gen_fork(gen);
    for (int c = 0; c < r->n_choices; c++)
        want_row(list, row + n - 1, &gen->seqs[c], -1, 0);
}

static int run_batch(bm_engine *e, bm_loaded *model, int n_runs, bm_error *err)
{
    want_list list = { e, model, 0, 0, err };
    int32_t row = 0;
    int rc;

    pthread_mutex_unlock(&e->cache_lock);
    rc = model->runner.forward(model->runner.impl, e->team, e->runs, n_runs, err);
    pthread_mutex_lock(&e->cache_lock);
    if (rc < 0)
        return rc;
    for (int i = 0; i < n_runs; i++) {
        bm_seq *seq = e->run_seqs[i];
        int32_t n = e->runs[i].n_tokens;
        if (seq->state == BM_SEQ_PREFILL) {
            seq->pos += n;
            after_prefill(&list, seq, row, n);
        } else {
            seq->pos++;              /* and one more for each guess that proves right */
            want_run(&list, row, seq, n);
        }
        row += n;
    }
    flush_wants(&list);
    for (int i = 0; i < n_runs && list.rc == 0; i++)
        if (e->run_seqs[i]->state != BM_SEQ_DONE)
            bm_seq_commit(e->run_seqs[i]);
    return list.rc;
}

/* The model with work that comes after the one stepped last. */
static bm_loaded *next_model(const bm_engine *e)
{
    bm_loaded *after = NULL, *first = NULL;

    for (int i = 0; i < e->n_active; i++) {
        bm_loaded *m = e->active[i]->loaded;
        if (m->id > e->last_model && (after == NULL || m->id < after->id))
            after = m;
        if (first == NULL || m->id < first->id)
            first = m;
    }
    return after != NULL ? after : first;
}

static void step_model(bm_engine *e, bm_loaded *model)
{
    bm_error err = { 0 };
    int32_t n_decode, n_prefill;
    int64_t begin = bm_now_ns();
    int n_runs = build_batch(e, model, &n_decode, &n_prefill);

    e->last_model = model->id;
    if (n_runs == 0)
        return;                              /* its sequences had to stand up for another model's */
    int64_t pos = 0;
    for (int i = 0; i < n_runs && n_prefill > 0; i++)
        pos += e->run_seqs[i]->state == BM_SEQ_PREFILL ? (int64_t)e->runs[i].start * e->runs[i].n_tokens / n_prefill : 0;
    if (run_batch(e, model, n_runs, &err) < 0) {
        for (int i = 0; i < e->n_active; i++)
            if (e->active[i]->loaded == model && !e->active[i]->ended) {
                e->active[i]->error = err;
                bm_gen_end(e, e->active[i], BM_FINISH_ERROR);
            }
        return;
    }
    double ns = (double)(bm_now_ns() - begin);
    if (n_prefill == 0)
        bm_step_cost_note(&model->cost, n_decode, ns);
    bm_chunks_learn(&model->times, n_decode, n_prefill, (int32_t)pos, ns);
}

bool bm_engine_step(bm_engine *e)
{
    bool any;

    pthread_mutex_lock(&e->cache_lock);
    bm_seats_leave(e, bm_now_ns());
    any = bm_seats_serve(e);
    bm_seats_look_around(e);
    bm_loaded *model = next_model(e);
    if (model != NULL) {
        bm_seats_make_room(e, model);
        step_model(e, model);
        pthread_mutex_lock(&e->lock);
        e->stats.steps++;
        pthread_mutex_unlock(&e->lock);
        bm_seats_flush(e);
    }
    pthread_mutex_unlock(&e->cache_lock);
    return any || model != NULL;
}
