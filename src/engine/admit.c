/* admit.c - who comes next: the queue of requests. Higher priority first; then those that had to stand up; then the tenant, and
 * of it the key, that was served longest ago; then the oldest. The one picked waits until it fits and nobody overtakes it, so
 * that large requests do not starve. Everything here is called with the engine's lock held. */
#include <string.h>
#include "engine/engine_internal.h"

enum { KEEP_SHARES = 64 };

/* The share's index; a new one takes the place of the idle one that was served longest ago when there are many. -1: no memory. */
static int find_share(bm_engine *e, uint64_t tenant, uint64_t key, bool is_key)
{
    int idle = -1;

    for (int i = 0; i < e->n_shares; i++) {
        bm_share *s = &e->shares[i];
        if (s->tenant == tenant && s->is_key == is_key && (!is_key || s->key == key))
            return i;
        if (s->n_queued == 0 && (idle < 0 || s->served < e->shares[idle].served))
            idle = i;
    }
    if (e->n_shares < KEEP_SHARES || idle < 0) {
        if (e->n_shares == e->cap_shares) {
            int cap = e->cap_shares == 0 ? 16 : e->cap_shares * 2;
            bm_share *more = bm_realloc(e->shares, (size_t)cap * sizeof *more);
            if (more == NULL)
                return -1;
            e->shares = more, e->cap_shares = cap;
        }
        idle = e->n_shares++;
    }
    e->shares[idle] = (bm_share){ .tenant = tenant, .key = key, .is_key = is_key };
    return idle;
}

int bm_queue_add(bm_engine *e, bm_gen *gen, bm_error *err)
{
    const bm_gen_request *r = &gen->request;

    if (e->stop)
        return bm_fail(err, BM_CANCELED, "the engine is stopping");
    if (gen->loaded->n_queued >= e->options.max_queued) {
        bm_fail(err, BM_BUSY, "the queue of model %s is full: %d requests wait, at most %d may", gen->loaded->name,
                gen->loaded->n_queued, e->options.max_queued);
        return bm_hint(err, "%d sequences are running; send the request again when some have ended", e->stats.active_seqs);
    }
    gen->tenant_share = find_share(e, r->tenant, 0, false);
    if (gen->tenant_share >= 0)
        e->shares[gen->tenant_share].n_queued++;     /* before the next look-up, which may reuse idle ones */
    gen->key_share = gen->tenant_share < 0 ? -1 : find_share(e, r->tenant, r->key, true);
    if (gen->key_share < 0) {
        if (gen->tenant_share >= 0)
            e->shares[gen->tenant_share].n_queued--;
        return bm_fail(err, BM_NOMEM, "no memory for the queue");
    }
    e->shares[gen->key_share].n_queued++;
    gen->number = ++e->n_submitted;
    gen->phase = BM_GEN_QUEUED;
    *e->queue_end = gen;
    e->queue_end = &gen->next;
    gen->loaded->n_queued++;
    e->stats.queued++;
    e->stats.requests += !gen->request.uncounted;
    return 0;
}

void bm_queue_remove(bm_engine *e, bm_gen *gen)
{
    for (bm_gen **at = &e->queue; *at != NULL; at = &(*at)->next)
        if (*at == gen) {
            *at = gen->next;
            if (e->queue_end == &gen->next)
                e->queue_end = at;
            break;
        }
    gen->next = NULL;
    gen->loaded->n_queued--;
    e->stats.queued--;
    e->shares[gen->tenant_share].n_queued--;
    e->shares[gen->key_share].n_queued--;
}

/* Its shares may have been given away meanwhile; without memory for new ones the first serves: the order is then less fair. */
void bm_queue_return(bm_engine *e, bm_gen *gen)
{
    int tenant = find_share(e, gen->request.tenant, 0, false), key;

    gen->tenant_share = tenant >= 0 ? tenant : 0;
    e->shares[gen->tenant_share].n_queued++;
    key = find_share(e, gen->request.tenant, gen->request.key, true);
    gen->key_share = key >= 0 ? key : 0;
    e->shares[gen->key_share].n_queued++;
    gen->phase = BM_GEN_QUEUED;
    gen->next = e->queue;
    e->queue = gen;
    if (gen->next == NULL)
        e->queue_end = &gen->next;
    gen->loaded->n_queued++;
    e->stats.queued++;
}

static bool comes_before(const bm_engine *e, const bm_gen *a, const bm_gen *b)
{
    uint64_t a_tenant = e->shares[a->tenant_share].served, b_tenant = e->shares[b->tenant_share].served;
    uint64_t a_key = e->shares[a->key_share].served, b_key = e->shares[b->key_share].served;

    if (a->request.priority != b->request.priority)
        return a->request.priority > b->request.priority;
    if (a->preempted != b->preempted)
        return a->preempted;
    if (a->preempted)
        return a->number < b->number;
    if (a_tenant != b_tenant)
        return a_tenant < b_tenant;
    return a_key != b_key ? a_key < b_key : a->number < b->number;
}

bm_gen *bm_queue_pick(bm_engine *e)
{
    bm_gen *best = e->queue;

    for (bm_gen *g = e->queue; g != NULL; g = g->next)
        if (comes_before(e, g, best))
            best = g;
    return best;
}

void bm_queue_admitted(bm_engine *e, bm_gen *gen)
{
    bm_queue_remove(e, gen);
    gen->phase = BM_GEN_ACTIVE;
    if (gen->preempted)
        return;                              /* it had its turn */
    e->n_admitted++;
    e->shares[gen->tenant_share].served = e->n_admitted;
    e->shares[gen->key_share].served = e->n_admitted;
}
