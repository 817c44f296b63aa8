/* seats.c - who sits in the engine: sequences that leave, requests that enter, and the pages that each holds. Engine thread. */
#include <string.h>
#include "base/clock.h"
#include "engine/engine_internal.h"

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
void bm_seq_end(bm_engine *e, bm_seq *seq, bm_finish finish, int stop)
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

void bm_gen_end(bm_engine *e, bm_gen *gen, bm_finish finish)
{
    for (int c = 0; c < gen->request.n_choices; c++)
        if (gen->seqs[c].state != BM_SEQ_DONE)
            bm_seq_end(e, &gen->seqs[c], finish, -1);
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
void bm_seats_flush(bm_engine *e)
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

void bm_seats_leave(bm_engine *e, int64_t now)
{
    bool any = false;
    bm_finish finish;

    for (int i = 0; i < e->n_active; i++)
        if (must_leave(e->active[i], now, &finish)) {
            bm_gen_end(e, e->active[i], finish);
            any = true;
        }
    if (any)
        bm_seats_flush(e);
}

/* ---- entering ---- */

static void end_queued(bm_engine *e, bm_gen *gen, bm_finish finish)
{
    bm_gen_end(e, gen, finish);
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
bool bm_seats_serve(bm_engine *e)
{
    int64_t now = bm_now_ns();
    bm_gen *next, *hopeless = NULL;
    bool any;

    pthread_mutex_lock(&e->lock);
    bm_gen *left = unlink_leavers(e, now);
    while ((next = bm_queue_pick(e)) != NULL && try_admit(e, next, now))
        e->stats.prompt_tokens += next->request.uncounted ? 0 : next->request.n_prompt;
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
/* ---- pages ---- */

void bm_seq_take_pages(bm_seq *seq, int32_t n_tokens)
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
void bm_gen_fork(bm_gen *gen)
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
