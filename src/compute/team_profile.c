/* team_profile.c - where the time of a team's runs goes; see team.h for what the figures mean. */
#define _GNU_SOURCE
#include "compute/team_profile.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { MAX_CHUNKS = 1 << 14 };           /* of a phase; later ones are added to the last */
#define NO_CHUNK SIZE_MAX

typedef struct slot {                    /* one worker's */
    _Alignas(64) int64_t mark_ns;        /* thread CPU time up to which all is accounted for */
    int64_t arrived_ns;                  /* wall */
    atomic_llong wait_ns;                /* taken while a worker may still be leaving the last barrier */
    int64_t own_ns[2];                   /* of the phase, by its parity */
    size_t chunk;                        /* being worked on */
} slot;

struct bm_profile {
    bm_team_profile sum;
    int n_workers;
    int64_t run_ns;                      /* wall time at the start of the run */
    int64_t *chunk_ns[2], *free_ns;      /* [MAX_CHUNKS] by the phase's parity; [n_workers] for the simulation */
    slot *slots;
};

static int64_t thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

bm_profile *bm_profile_new(int n_workers)
{
    bm_profile *p = bm_zalloc(sizeof *p);

    if (p == NULL)
        return NULL;
    p->n_workers = n_workers;
    p->chunk_ns[0] = bm_calloc(MAX_CHUNKS, sizeof(int64_t));
    p->chunk_ns[1] = bm_calloc(MAX_CHUNKS, sizeof(int64_t));
    p->free_ns = bm_calloc((size_t)n_workers, sizeof(int64_t));
    p->slots = bm_alloc_aligned((size_t)n_workers * sizeof *p->slots, 64);
    if (p->chunk_ns[0] == NULL || p->chunk_ns[1] == NULL || p->free_ns == NULL || p->slots == NULL) {
        bm_profile_free(p);
        return NULL;
    }
    memset(p->slots, 0, (size_t)n_workers * sizeof *p->slots);
    return p;
}

void bm_profile_free(bm_profile *p)
{
    if (p == NULL)
        return;
    bm_free(p->chunk_ns[0]);
    bm_free(p->chunk_ns[1]);
    bm_free(p->free_ns);
    bm_free(p->slots);
    bm_free(p);
}

void bm_profile_take(bm_profile *p, bm_team_profile *out)
{
    for (int i = 0; i < p->n_workers; i++)
        p->sum.wait_s += (double)atomic_exchange(&p->slots[i].wait_ns, 0) * 1e-9;
    *out = p->sum;
    p->sum = (bm_team_profile){ 0 };
}

void bm_profile_run(bm_profile *p)
{
    p->run_ns = bm_now_ns();
    p->sum.runs++;
}

void bm_profile_run_end(bm_profile *p) { p->sum.run_s += (double)(bm_now_ns() - p->run_ns) * 1e-9; }

void bm_profile_enter(bm_profile *p, int id)
{
    slot *s = &p->slots[id];

    atomic_fetch_add_explicit(&s->wait_ns, bm_now_ns() - p->run_ns, memory_order_relaxed);
    s->chunk = NO_CHUNK;
    s->mark_ns = thread_ns();
}

/* What was worked since the mark belongs to the chunk in hand, or to the worker itself. */
static void account(bm_profile *p, slot *s, unsigned phase, size_t next)
{
    int64_t now = thread_ns(), ns = now - s->mark_ns;

    if (s->chunk == NO_CHUNK)
        s->own_ns[phase & 1] += ns;
    else
        p->chunk_ns[phase & 1][s->chunk] += ns > 0 ? ns : 1;
    s->mark_ns = now;
    s->chunk = next;
}

void bm_profile_claim(bm_profile *p, int id, unsigned phase, size_t chunk)
{
    account(p, &p->slots[id], phase, chunk < MAX_CHUNKS ? chunk : MAX_CHUNKS - 1);
}

void bm_profile_claimed_all(bm_profile *p, int id, unsigned phase) { account(p, &p->slots[id], phase, NO_CHUNK); }

void bm_profile_arrive(bm_profile *p, int id, unsigned phase)
{
    account(p, &p->slots[id], phase, NO_CHUNK);
    p->slots[id].arrived_ns = bm_now_ns();
}

/* Chunks in order, each to the worker that is free first. */
static int64_t makespan(bm_profile *p, const int64_t *chunks, size_t n, int n_workers)
{
    int64_t end = 0;

    memset(p->free_ns, 0, (size_t)p->n_workers * sizeof *p->free_ns);
    for (size_t i = 0; i < n; i++) {
        int first = 0;
        for (int w = 1; w < n_workers; w++)
            first = p->free_ns[w] < p->free_ns[first] ? w : first;
        p->free_ns[first] += chunks[i];
        end = p->free_ns[first] > end ? p->free_ns[first] : end;
    }
    return end;
}

void bm_profile_phase(bm_profile *p, unsigned phase, int n_workers)
{
    int64_t *chunks = p->chunk_ns[phase & 1], own = 0, claimed = 0;
    size_t n = 0;

    for (; n < MAX_CHUNKS && chunks[n] > 0; n++)
        claimed += chunks[n];
    for (int i = 0; i < p->n_workers; i++) {
        own = p->slots[i].own_ns[phase & 1] > own ? p->slots[i].own_ns[phase & 1] : own;
        p->slots[i].own_ns[phase & 1] = 0;
    }
    p->sum.barriers++;
    p->sum.own_s += (double)own * 1e-9;
    p->sum.claimed_s += (double)claimed * 1e-9;
    p->sum.ideal_s += (double)(own + makespan(p, chunks, n, n_workers)) * 1e-9;
    if (n == 1)
        p->sum.lone_s += (double)claimed * 1e-9;
    memset(chunks, 0, n * sizeof *chunks);
}

void bm_profile_pass(bm_profile *p, int id)
{
    slot *s = &p->slots[id];

    atomic_fetch_add_explicit(&s->wait_ns, bm_now_ns() - s->arrived_ns, memory_order_relaxed);
    s->mark_ns = thread_ns();
}
