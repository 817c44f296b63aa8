/* seats.c - who sits in the engine: sequences that leave, requests that enter, and who must stand up when memory is short.
 * Engine thread, with the cache lock held.
 *
 * Memory. A request enters when the pages of its prompt and a little more fit beside what those who sit there will need next;
 * pages that only the cache holds count as free. Pages are taken one by one. When none is left, the cache gives some back, then
 * the request of the lowest rank (priority, then age) stands up: it keeps what it generated, its pages stay in the cache while
 * there is room, and it enters again first of all. The highest rank never has to, so somebody always gets on. */
#include <string.h>
#include "base/clock.h"
#include "engine/engine_internal.h"

/* ---- leaving ---- */

static void free_seats(bm_engine *e, int n)
{
    e->n_seqs -= n;
    e->seats_changed = true;
}

void bm_seq_end(bm_engine *e, bm_seq *seq, bm_finish finish, int stop)
{
    bm_gen *gen = seq->gen;

    bm_record *r = bm_gen_push(gen, BM_EVENT_FINISH, seq->choice);
    r->finish = (uint8_t)finish;
    r->token = stop;
    seq->state = BM_SEQ_DONE;
    gen->n_live--;
    if (gen->seated) {
        if (finish != BM_FINISH_ERROR) {
            bm_seq_commit(seq);
            bm_seats_hand_over(e, seq);
            bm_seq_keep_part(seq);
        }
        bm_seq_let_go(seq);
        free_seats(e, 1);
    }
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
    e->stats.computed_tokens += e->new_computed;
    e->stats.cached_tokens += e->new_cached;
    pthread_mutex_unlock(&e->lock);
    e->new_tokens = e->new_computed = e->new_cached = 0;
}

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

/* Pages that a sequence will take for its known tokens and a page's worth more, which those that share must add. */
static int32_t missing_pages(const bm_seq *seq, int g)
{
    const bm_gen *gen = seq->gen;
    int32_t most = gen->pages_per_choice[g], last = (int32_t)gen->request.n_prompt + gen->request.max_tokens;
    int32_t n_tokens = seq->n_tokens + BM_PAGE_TOKENS < last ? seq->n_tokens + BM_PAGE_TOKENS : last;
    int32_t missing = (n_tokens + BM_PAGE_TOKENS - 1) / BM_PAGE_TOKENS - seq->page_end[g];

    if (gen->windowed[g] && missing > most - (seq->page_end[g] - seq->page_begin[g]))
        missing = most - (seq->page_end[g] - seq->page_begin[g]);
    return missing > 0 ? missing : 0;
}

static uint64_t missing_bytes(const bm_gen *gen)
{
    const bm_model_info *info = &gen->loaded->info;
    uint64_t sum = 0;
    bool first = true;

    for (int c = 0; c < gen->request.n_choices; c++) {
        const bm_seq *seq = &gen->seqs[c];
        for (int g = 0; g < info->n_groups && seq->state != BM_SEQ_DONE; g++) {
            int32_t n = missing_pages(seq, g), shared = (int32_t)gen->request.n_prompt / BM_PAGE_TOKENS;
            if (!first && !gen->windowed[g] && seq->state != BM_SEQ_DECODE)
                n -= shared < n ? shared : n;            /* the first choice has them */
            sum += (uint64_t)n * info->groups[g].page_bytes;
        }
        first = first && seq->state == BM_SEQ_DONE;
    }
    return sum;
}

static bool fits(bm_engine *e, bm_gen *gen)
{
    uint64_t need = missing_bytes(gen), have, busy = 0;

    if (e->n_active == 0)
        return true;                         /* it was refused at submit if it could not run alone */
    for (int c = 0, n; c < gen->request.n_choices; c++)
        if (gen->seqs[c].state == BM_SEQ_PREFILL) {
            n = bm_seq_busy_pages(&gen->seqs[c]);
            for (int g = 0; g < gen->loaded->info.n_groups; g++)
                busy += gen->windowed[g] ? 0 : (uint64_t)n * gen->loaded->info.groups[g].page_bytes;
            break;
        }
    need -= busy < need ? busy : need;
    for (int i = 0; i < e->n_active; i++)
        need += missing_bytes(e->active[i]);
    pthread_mutex_lock(&e->budget.lock);
    uint64_t held = e->budget.committed_bytes - e->budget.idle_bytes;
    have = e->budget.total_bytes > held ? e->budget.total_bytes - held : 0;
    pthread_mutex_unlock(&e->budget.lock);
    return need <= have;
}

static bool try_admit(bm_engine *e, bm_gen *gen, int64_t now)
{
    bm_loaded *model = gen->loaded;

    if (e->n_seqs + gen->n_live > e->options.max_seqs || !fits(e, gen))
        return false;
    bm_queue_admitted(e, gen);
    if (!gen->preempted) {
        gen->admit_ns = now;
        gen->usage.queue_ns = now - gen->submit_ns;
        gen->usage.prompt_tokens = (int64_t)gen->request.n_prompt;
        e->stats.prompt_tokens += gen->request.uncounted ? 0 : gen->request.n_prompt;
    }
    gen->seated = true;
    e->active[e->n_active++] = gen;
    e->n_seqs += gen->n_live;
    model->n_active += gen->n_live;
    gen->n_counted = gen->n_live;
    return true;
}

bool bm_seats_serve(bm_engine *e)
{
    int64_t now = bm_now_ns();
    bm_gen *next;
    bool any;

    pthread_mutex_lock(&e->lock);
    bm_gen *left = unlink_leavers(e, now);
    while ((next = bm_queue_pick(e)) != NULL && try_admit(e, next, now))
        ;
    e->stats.active_seqs = e->n_seqs;
    pthread_mutex_unlock(&e->lock);
    any = left != NULL;
    for (; left != NULL; left = next) {
        next = left->next;
        end_queued(e, left, left->leaving);
    }
    return any;
}

/* ---- memory ---- */

/* The page that was idle for longest, of all models, is given back. The engine's lock keeps the models there meanwhile. */
bool bm_engine_evict(bm_engine *e)
{
    bm_loaded *oldest = NULL;
    uint64_t stamp = UINT64_MAX;

    pthread_mutex_lock(&e->lock);
    for (bm_loaded *m = e->models; m != NULL; m = m->next)
        if (bm_prefix_oldest(&m->prefix) < stamp)
            oldest = m, stamp = bm_prefix_oldest(&m->prefix);
    if (oldest != NULL)
        e->stats.evictions += bm_prefix_evict(&oldest->prefix);
    pthread_mutex_unlock(&e->lock);
    return oldest != NULL;
}

void bm_engine_give_back(bm_engine *e, uint64_t bytes)
{
    pthread_mutex_lock(&e->cache_lock);
    while (bm_kv_committed(&e->budget) > bytes && bm_engine_evict(e))
        ;
    pthread_mutex_unlock(&e->cache_lock);
    if (bytes == 0)
        bm_kv_budget_trim(&e->budget);
}

bool bm_kv_make_room(bm_engine *e, bm_loaded *model)
{
    int32_t one[BM_MAX_KV_GROUPS] = { 1, 1, 1, 1 };

    while (!bm_kv_reserve(&e->budget, model->pools, one, model->info.n_groups))
        if (!bm_engine_evict(e))
            return false;
    return true;
}

/* Choices share the page where the prompt ends until they write to it; the last one keeps it. */
static bool own_last_page(bm_engine *e, bm_seq *seq)
{
    bm_loaded *model = seq->gen->loaded;
    int32_t i = seq->pos / BM_PAGE_TOKENS;

    if (seq->pos % BM_PAGE_TOKENS == 0 || !bm_kv_shared(&model->pools[0], seq->pages[0][i]))
        return true;
    if (!bm_kv_make_room(e, model))
        return false;
    for (int g = 0; g < model->info.n_groups; g++) {
        void *shared = seq->pages[g][i];
        seq->pages[g][i] = memcpy(bm_kv_take_raw(&model->pools[g]), shared, model->pools[g].page_bytes);
        bm_kv_drop(&model->pools[g], shared);
    }
    return true;
}

int32_t bm_seq_take_pages(bm_engine *e, bm_seq *seq, int32_t n_tokens)
{
    bm_loaded *model = seq->gen->loaded;
    const bm_model_info *info = &model->info;
    int32_t end = (seq->pos + n_tokens + BM_PAGE_TOKENS - 1) / BM_PAGE_TOKENS;

    for (int g = 0; g < info->n_groups; g++) {
        int32_t window = info->groups[g].window;
        if (window > 0 && seq->pos - window + 1 > 0)
            bm_seq_drop_pages(seq, g, (seq->pos - window + 1) / BM_PAGE_TOKENS);
    }
    if (!own_last_page(e, seq))
        return 0;
    while (seq->page_end[0] < end && bm_kv_make_room(e, model))
        for (int g = 0; g < info->n_groups; g++)
            seq->pages[g][seq->page_end[g]++] = bm_kv_take(&model->pools[g]);
    int32_t room = seq->page_end[0] * BM_PAGE_TOKENS - seq->pos;
    return room < n_tokens ? room : n_tokens;
}

/* ---- standing up ---- */

static bool ranks_below(const bm_gen *a, const bm_gen *b)
{
    if (a->request.priority != b->request.priority)
        return a->request.priority < b->request.priority;
    return a->number > b->number;
}

/* Its sequences start again from their tokens when it comes back; nothing that was told changes. */
static void preempt(bm_engine *e, bm_gen *gen)
{
    int i = 0;

    for (int c = 0; c < gen->request.n_choices; c++) {
        bm_seq *seq = &gen->seqs[c];
        if (seq->state != BM_SEQ_PREFILL && seq->state != BM_SEQ_DECODE)
            continue;
        bm_seq_let_go(seq);
        seq->state = BM_SEQ_PREFILL;
        seq->looked = false;
        seq->leader = NULL;
    }
    free_seats(e, gen->n_live);
    gen->seated = false;
    gen->preempted = true;
    while (e->active[i] != gen)
        i++;
    memmove(e->active + i, e->active + i + 1, (size_t)(--e->n_active - i) * sizeof e->active[0]);
    pthread_mutex_lock(&e->lock);
    gen->loaded->n_active -= gen->n_counted;
    gen->n_counted = 0;
    e->stats.preemptions++;
    e->stats.active_seqs = e->n_seqs;
    bm_queue_return(e, gen);
    pthread_mutex_unlock(&e->lock);
}

static bool has_next_page(bm_engine *e, bm_gen *gen)
{
    for (int c = 0; c < gen->request.n_choices; c++) {
        bm_seq *seq = &gen->seqs[c];
        bool computes = seq->state == BM_SEQ_DECODE || (seq->state == BM_SEQ_PREFILL && seq->leader == NULL);
        if (computes && bm_seq_take_pages(e, seq, 1) < 1)
            return false;
    }
    return true;
}

/* Those who sit, by rank, highest first; nearly in order already. */
static int rank_active(bm_engine *e)
{
    for (int i = 0; i < e->n_active; i++) {
        int j = i;
        for (; j > 0 && ranks_below(e->ranked[j - 1], e->active[i]); j--)
            e->ranked[j] = e->ranked[j - 1];
        e->ranked[j] = e->active[i];
    }
    return e->n_active;
}

void bm_seats_make_room(bm_engine *e, bm_loaded *model)
{
    int n = rank_active(e);

    for (int i = 0; i < n; i++) {
        bm_gen *gen = e->ranked[i];
        if (gen->loaded != model)
            continue;
        while (gen->seated && !gen->ended && !has_next_page(e, gen)) {
            bm_gen *low = e->ranked[--n];
            if (low != gen || e->n_active > 1) {
                preempt(e, low);
                continue;
            }
            bm_fail(&gen->error, BM_NOMEM, "the KV of this request does not fit into the engine's budget any more");
            bm_gen_end(e, gen, BM_FINISH_ERROR);
        }
    }
}
