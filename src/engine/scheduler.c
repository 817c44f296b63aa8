/* scheduler.c - one turn of the engine: who leaves, who enters, and one step of one model.
 * A step's batch is one token of every decoding sequence, then chunks of prompts. How a prompt is
 * cut never changes a result (the numeric contract), so chunks are sized by time: a step stays short for those who decode. */
#include <string.h>
#include "base/clock.h"
#include "engine/engine_internal.h"

/* A step shall take about this long: a cancel and a newcomer wait for one step at most, a decoding client sees the longer. */
static const double STEP_NS_ALONE = 400e6, STEP_NS_BESIDE_DECODE = 120e6;
enum { CHUNK_MIN = 32 };

/* ---- leaving ---- */

static void drop_pages(bm_seq *seq, int g, int32_t end, bm_kv_room room)
{
    bm_gen *gen = seq->gen;
    bm_kv_pool *pool = &gen->loaded->pools[g];

    for (; seq->page_begin[g] < end; seq->page_begin[g]++) {
        void **page = &seq->pages[g][seq->page_begin[g]];
        if (bm_kv_drop(pool, *page, room)) {
            gen->held[g]--;
            gen->reserved[g] += room == BM_KV_KEEP_ROOM;
        }
        *page = NULL;
    }
}

/* A choice ends: its pages and what only it had reserved go back. */
static void end_seq(bm_engine *e, bm_seq *seq, bm_finish finish, int stop)
{
    bm_gen *gen = seq->gen;

    bm_record *r = bm_gen_push(gen, BM_EVENT_FINISH, seq->choice);
    r->finish = (uint8_t)finish;
    r->token = stop;
    bool was_active = gen->admit_ns != 0;
    seq->state = BM_SEQ_DONE;
    gen->n_live--;
    for (int g = 0; g < gen->loaded->info.n_groups; g++) {
        drop_pages(seq, g, seq->page_end[g], BM_KV_GIVE_BACK);
        int32_t keep = bm_gen_need(gen, g, gen->n_live) - gen->held[g];
        if (keep < 0)
            keep = 0;
        if (gen->reserved[g] > keep) {
            bm_kv_release(&gen->loaded->pools[g], gen->reserved[g] - keep);
            gen->reserved[g] = keep;
        }
    }
    if (was_active)
        e->n_seqs--;
    if (gen->n_live > 0)
        return;
    int64_t now = bm_now_ns();
    if (gen->admit_ns == 0)
        gen->usage.queue_ns = now - gen->submit_ns;
    else if (gen->first_ns == 0)
        gen->usage.prefill_ns = now - gen->admit_ns;
    else
        gen->usage.decode_ns = now - gen->first_ns;
    bm_gen_push(gen, BM_EVENT_END, 0);
    gen->ended = true;
}

static void end_gen(bm_engine *e, bm_gen *gen, bm_finish finish)
{
    for (int c = 0; c < gen->request.n_choices; c++)
        if (gen->seqs[c].state != BM_SEQ_DONE)
            end_seq(e, &gen->seqs[c], finish, -1);
}

static bool must_leave(const bm_gen *gen, int64_t now, bm_finish *finish)
{
    if (atomic_load(&gen->canceled))
        *finish = BM_FINISH_CANCELED;
    else if (gen->request.deadline_ns != 0 && now >= gen->request.deadline_ns)
        *finish = BM_FINISH_DEADLINE;
    else
        return false;
    return true;
}

/* Counters and gauges, before anybody can read the END that goes with them. */
static void count_active(bm_engine *e)
{
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < e->n_active; i++) {
        bm_gen *gen = e->active[i];
        gen->loaded->n_active -= gen->n_counted - gen->n_live;
        gen->n_counted = gen->n_live;
        if (gen->ended) {
            gen->phase = BM_GEN_DONE;
            e->stats.canceled += gen->records[gen->n_written - 2].finish == BM_FINISH_CANCELED;
        }
    }
    e->stats.active_seqs = e->n_seqs;
    e->stats.completion_tokens += e->new_tokens;
    pthread_mutex_unlock(&e->lock);
    e->new_tokens = 0;
}

/* Publish what was written, then let go of the gens that ended. */
static void flush_active(bm_engine *e)
{
    int kept = 0;

    count_active(e);
    for (int i = 0; i < e->n_active; i++) {
        bm_gen *gen = e->active[i];
        if (gen->touched)
            bm_gen_publish(gen);
        if (gen->ended)
            bm_gen_unref(gen);
        else
            e->active[kept++] = gen;
    }
    e->n_active = kept;
}

static void leave_active(bm_engine *e, int64_t now)
{
    bool any = false;
    bm_finish finish;

    for (int i = 0; i < e->n_active; i++)
        if (must_leave(e->active[i], now, &finish)) {
            end_gen(e, e->active[i], finish);
            any = true;
        }
    if (any)
        flush_active(e);
}

/* ---- entering ---- */

static void end_queued(bm_engine *e, bm_gen *gen, bm_finish finish)
{
    end_gen(e, gen, finish);
    bm_gen_publish(gen);
    bm_gen_unref(gen);
}

/* Unlink those of the queue that must leave; linked by next. Engine lock held. */
static bm_gen *unlink_leavers(bm_engine *e, int64_t now)
{
    bm_gen *left = NULL, **end = &left;

    for (bm_gen *g = e->queue, *next; g != NULL; g = next) {
        next = g->next;
        if (!must_leave(g, now, &g->leaving))
            continue;
        bm_queue_remove(e, g);
        g->phase = BM_GEN_DONE;
        e->stats.canceled += g->leaving == BM_FINISH_CANCELED;
        *end = g;
        end = &g->next;
    }
    return left;
}

static bool try_admit(bm_engine *e, bm_gen *gen, int64_t now)
{
    bm_loaded *model = gen->loaded;
    int32_t need[BM_MAX_KV_GROUPS];
    int n_choices = gen->request.n_choices;

    if (e->n_seqs + n_choices > e->options.max_seqs)
        return false;
    for (int g = 0; g < model->info.n_groups; g++)
        need[g] = bm_gen_need(gen, g, n_choices);
    if (!bm_kv_reserve(&e->budget, model->pools, need, model->info.n_groups))
        return false;
    memcpy(gen->reserved, need, sizeof need);
    bm_queue_admitted(e, gen);
    gen->admit_ns = now;
    gen->usage.queue_ns = now - gen->submit_ns;
    gen->usage.prompt_tokens = (int64_t)gen->request.n_prompt;
    e->active[e->n_active++] = gen;
    e->n_seqs += n_choices;
    model->n_active += n_choices;
    gen->n_counted = n_choices;
    return true;
}

/* Those who leave the queue, then those who fit; a request that cannot even run alone ends with an error. */
static bool serve_queue(bm_engine *e)
{
    int64_t now = bm_now_ns();
    bm_gen *next, *hopeless = NULL;
    bool any;

    pthread_mutex_lock(&e->lock);
    bm_gen *left = unlink_leavers(e, now);
    while ((next = bm_queue_pick(e)) != NULL && try_admit(e, next, now))
        e->stats.prompt_tokens += next->request.n_prompt;
    if (next != NULL && e->n_active == 0) {
        hopeless = next;
        bm_queue_remove(e, hopeless);
        hopeless->phase = BM_GEN_DONE;
    }
    e->stats.active_seqs = e->n_seqs;
    pthread_mutex_unlock(&e->lock);
    any = left != NULL || hopeless != NULL;
    for (; left != NULL; left = next) {
        next = left->next;
        end_queued(e, left, left->leaving);
    }
    if (hopeless != NULL) {
        bm_fail(&hopeless->error, BM_NOMEM, "the KV of this request does not fit into the engine's budget any more");
        end_queued(e, hopeless, BM_FINISH_ERROR);
    }
    return any;
}

/* ---- one step of one model ---- */

static void take_pages(bm_seq *seq, int32_t n_tokens)
{
    bm_gen *gen = seq->gen;
    const bm_model_info *info = &gen->loaded->info;

    for (int g = 0; g < info->n_groups; g++) {
        int32_t window = info->groups[g].window, end = (seq->pos + n_tokens + BM_PAGE_TOKENS - 1) / BM_PAGE_TOKENS;
        if (window > 0 && seq->pos - window + 1 > 0)
            drop_pages(seq, g, (seq->pos - window + 1) / BM_PAGE_TOKENS, BM_KV_KEEP_ROOM);
        for (; seq->page_end[g] < end; seq->page_end[g]++) {
            BM_CHECK(gen->reserved[g] > 0);
            seq->pages[g][seq->page_end[g]] = bm_kv_take(&gen->loaded->pools[g]);
            gen->reserved[g]--;
            gen->held[g]++;
        }
    }
}

/* The prompt is computed: the other choices share its whole pages and get a copy of the last, partial one. */
static void fork_choices(bm_gen *gen)
{
    bm_seq *first = &gen->seqs[0];

    for (int c = 1; c < gen->request.n_choices; c++) {
        bm_seq *seq = &gen->seqs[c];
        seq->pos = first->pos;
        seq->state = BM_SEQ_DECODE;
        for (int g = 0; g < gen->loaded->info.n_groups; g++) {
            bm_kv_pool *pool = &gen->loaded->pools[g];
            int32_t whole = first->pos / BM_PAGE_TOKENS;
            seq->page_begin[g] = first->page_begin[g];
            seq->page_end[g] = first->page_end[g];
            for (int32_t p = seq->page_begin[g]; p < seq->page_end[g]; p++) {
                seq->pages[g][p] = first->pages[g][p];
                if (p < whole || gen->request.max_tokens <= 1) {     /* with one token nobody writes to it */
                    bm_kv_ref(pool, seq->pages[g][p]);
                    continue;
                }
                BM_CHECK(gen->reserved[g] > 0);
                seq->pages[g][p] = bm_kv_take(pool);
                memcpy(seq->pages[g][p], first->pages[g][p], pool->page_bytes);
                gen->reserved[g]--;
                gen->held[g]++;
            }
        }
    }
}

static int32_t prefill_budget(const bm_engine *e, const bm_loaded *model, int n_decodes)
{
    int32_t budget = e->options.step_tokens - n_decodes;
    double target = n_decodes > 0 ? STEP_NS_BESIDE_DECODE : STEP_NS_ALONE;

    if (model->prefill_ns_per_token > 0 && target / model->prefill_ns_per_token < budget) {
        int32_t timed = (int32_t)(target / model->prefill_ns_per_token) / CHUNK_MIN * CHUNK_MIN;
        budget = timed > CHUNK_MIN ? timed : CHUNK_MIN;
    }
    return budget < e->options.step_tokens - n_decodes ? budget : e->options.step_tokens - n_decodes;
}

static void add_run(bm_engine *e, int *n_runs, bm_seq *seq, const int32_t *tokens, int32_t n_tokens)
{
    take_pages(seq, n_tokens);
    e->runs[*n_runs] = (bm_run){ .tokens = tokens, .n_tokens = n_tokens, .start = seq->pos, .kv = &seq->kv };
    e->run_seqs[(*n_runs)++] = seq;
}

static bool prefills(const bm_gen *gen, const bm_loaded *model)
{
    return gen->loaded == model && gen->seqs[0].state == BM_SEQ_PREFILL;
}

static int32_t prompt_left(const bm_gen *gen) { return (int32_t)gen->request.n_prompt - gen->seqs[0].pos - gen->grant; }

static int32_t grant(bm_gen *gen, int32_t most)
{
    int32_t n = prompt_left(gen) < most ? prompt_left(gen) : most;

    gen->grant += n;
    return n;
}

/* Half of the room to the oldest prompt, so that none starves; the rest to the shortest first, so that none waits long behind
 * a large one; what then is left to the oldest again. */
static void share_prefill(bm_engine *e, const bm_loaded *model, int32_t budget)
{
    bm_gen *oldest = NULL;

    for (int i = 0; i < e->n_active; i++) {
        e->active[i]->grant = 0;
        if (oldest == NULL && prefills(e->active[i], model))
            oldest = e->active[i];
    }
    if (oldest == NULL)
        return;
    budget -= grant(oldest, (budget + 1) / 2);
    while (budget > 0) {
        bm_gen *shortest = NULL;
        for (int i = 0; i < e->n_active; i++) {
            bm_gen *gen = e->active[i];
            if (gen != oldest && gen->grant == 0 && prefills(gen, model) &&
                (shortest == NULL || prompt_left(gen) < prompt_left(shortest)))
                shortest = gen;
        }
        if (shortest == NULL)
            break;
        budget -= grant(shortest, budget);
    }
    grant(oldest, budget);
}

/* Decodes first, then prompts. Returns the number of runs, and the tokens of prompts among them. */
static int build_batch(bm_engine *e, const bm_loaded *model, int32_t *n_prefill)
{
    int n_runs = 0;

    for (int i = 0; i < e->n_active; i++)
        for (int c = 0; e->active[i]->loaded == model && c < e->active[i]->request.n_choices; c++)
            if (e->active[i]->seqs[c].state == BM_SEQ_DECODE)
                add_run(e, &n_runs, &e->active[i]->seqs[c], &e->active[i]->seqs[c].token, 1);
    share_prefill(e, model, prefill_budget(e, model, n_runs));
    *n_prefill = 0;
    for (int i = 0; i < e->n_active; i++) {
        bm_gen *gen = e->active[i];
        if (gen->grant == 0)
            continue;
        add_run(e, &n_runs, &gen->seqs[0], gen->request.prompt + gen->seqs[0].pos, gen->grant);
        *n_prefill += gen->grant;
    }
    return n_runs;
}

typedef struct sample_job { bm_engine *engine; bm_loaded *model; int n; } sample_job;

static void sample_one(bm_sampler *s, bm_want *want, const float *logits)
{
    bm_gen *gen = want->seq->gen;
    const bm_gen_request *r = &gen->request;
    uint32_t position = (uint32_t)r->n_prompt + (uint32_t)want->seq->n_generated;

    if (want->prompt_index >= 0)
        want->token = r->prompt[want->prompt_index];
    else
        want->token = bm_sample(s, logits, &r->sampling, &want->seq->counts,
                                bm_random_unit(r->sampling.seed, (uint32_t)want->seq->choice, position));
    if (want->token >= 0 && gen->logprobs != NULL &&
        !bm_logprob_of(s, logits, want->token, gen->n_top, &want->logprob, want->top))
        want->token = -1;
}

static void sample_rows(bm_worker *w, void *arg)
{
    sample_job *job = arg;
    size_t begin, end;

    if (w->id >= job->model->n_samplers)
        return;
    while (bm_worker_claim(w, (size_t)job->n, 1, &begin, &end))
        for (; begin < end; begin++)
            sample_one(&job->model->samplers[w->id], &job->engine->wants[begin],
                       job->model->logits + begin * (size_t)job->model->info.n_vocab);
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
    end_gen(e, gen, BM_FINISH_ERROR);
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
    bm_counts_generated(&seq->counts, want->token);
    if (!r->ignore_eos && model->runner.is_eog(model->runner.impl, want->token)) {
        end_seq(e, seq, BM_FINISH_STOP, -1);
        return;
    }
    if (r->n_stop > 0) {
        bm_buf_clear(&model->piece);
        model->runner.piece(model->runner.impl, want->token, &model->piece);
        stop = bm_stream_feed(&seq->stream, model->piece.data, model->piece.len, NULL);
    }
    if (stop >= 0)
        end_seq(e, seq, BM_FINISH_STOP, stop);
    else if (seq->n_generated >= r->max_tokens)
        end_seq(e, seq, BM_FINISH_LENGTH, -1);
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
        sample_one(&model->samplers[0], &e->wants[0], model->logits);
    else
        bm_team_run(e->team, sample_rows, &job);
    for (int i = 0; i < n; i++) {
        bm_want *want = &e->wants[i];
        bm_gen *gen = want->seq->gen;
        if (gen->ended)
            continue;
        if (want->token < 0) {
            bad_logits(e, gen, want->seq->pos);
        } else if (want->prompt_index >= 0) {
            bm_gen_push(gen, BM_EVENT_PROMPT, 0)->token = want->token;
            record_logprob(gen, want);
        } else {
            e->new_tokens++;
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

static void want_row(want_list *list, int32_t row, bm_seq *seq, int32_t prompt_index)
{
    bm_want *want = &list->engine->wants[list->n++];

    want->row = row, want->seq = seq, want->prompt_index = prompt_index;
    want->token = -1;
    if (list->n == list->engine->logit_rows)
        flush_wants(list);
}

/* After a chunk of prompt: its log-probabilities when asked for, and at its end the first token of every choice. */
static void after_prefill(want_list *list, bm_seq *seq, int32_t row, int32_t n)
{
    bm_gen *gen = seq->gen;
    const bm_gen_request *r = &gen->request;
    int32_t n_prompt = (int32_t)r->n_prompt, start = seq->pos - n;

    if (r->prompt_logprobs && start == 0)
        bm_gen_push(gen, BM_EVENT_PROMPT, 0)->token = r->prompt[0];
    for (int32_t i = 0; r->prompt_logprobs && i < n && start + i + 1 < n_prompt; i++)
        want_row(list, row + i, seq, start + i + 1);
    if (seq->pos < n_prompt || gen->ended)
        return;
    if (r->max_tokens == 0) {
        flush_wants(list);       /* its prompt events come before its end */
        if (!gen->ended)
            end_gen(list->engine, gen, BM_FINISH_LENGTH);
        return;
    }
    seq->state = BM_SEQ_DECODE;
    fork_choices(gen);
    for (int c = 0; c < r->n_choices; c++)
        want_row(list, row + n - 1, &gen->seqs[c], -1);
}

static int run_batch(bm_engine *e, bm_loaded *model, int n_runs, bm_error *err)
{
    want_list list = { e, model, 0, 0, err };
    int32_t row = 0;
    int rc;

    if ((rc = model->runner.forward(model->runner.impl, e->team, e->runs, n_runs, err)) < 0)
        return rc;
    for (int i = 0; i < n_runs; i++) {
        bm_seq *seq = e->run_seqs[i];
        int32_t n = e->runs[i].n_tokens;
        seq->pos += n;
        if (seq->state == BM_SEQ_PREFILL)
            after_prefill(&list, seq, row, n);
        else
            want_row(&list, row, seq, -1);
        row += n;
    }
    flush_wants(&list);
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
    int32_t n_prefill;
    int64_t begin = bm_now_ns();
    int n_runs = build_batch(e, model, &n_prefill);

    BM_CHECK(n_runs > 0);
    if (run_batch(e, model, n_runs, &err) < 0)
        for (int i = 0; i < e->n_active; i++)
            if (e->active[i]->loaded == model && !e->active[i]->ended) {
                e->active[i]->error = err;
                end_gen(e, e->active[i], BM_FINISH_ERROR);
            }
    if (n_prefill >= CHUNK_MIN) {
        double ns = (double)(bm_now_ns() - begin) / n_prefill;
        model->prefill_ns_per_token = model->prefill_ns_per_token > 0 ? 0.7 * model->prefill_ns_per_token + 0.3 * ns : ns;
    }
    e->last_model = model->id;
}

bool bm_engine_step(bm_engine *e)
{
    leave_active(e, bm_now_ns());
    bool any = serve_queue(e);
    bm_loaded *model = next_model(e);
    if (model == NULL)
        return any;
    step_model(e, model);
    pthread_mutex_lock(&e->lock);
    e->stats.steps++;
    pthread_mutex_unlock(&e->lock);
    flush_active(e);
    return true;
}
