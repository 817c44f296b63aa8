/* team.h - one team of threads that runs one function at a time on all of them (SPMD), with barriers and claimed work.
 * The caller of run() is worker 0. Workers spin for a bounded time between runs, then sleep. One caller at a time. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

typedef struct bm_team bm_team;
typedef struct bm_worker {       /* a line of its own: phase is written at every barrier */
    _Alignas(64) bm_team *team;
    int id, n;                   /* 0..n-1; n: workers of this run, at most the team's size */
    unsigned phase;              /* private to team.c */
} bm_worker;

int  bm_team_new(bm_team **out, int n_threads, bm_error *err);     /* n_threads >= 1; starts n-1 threads */
void bm_team_free(bm_team *team);                                  /* NULL is fine; joins */
int  bm_team_size(const bm_team *team);
/* Run fn(worker, arg) on every worker, or on fewer while other programs need the CPUs (team_crowd.h), worker 0 always among
 * them; returns when all have returned. */
void bm_team_run(bm_team *team, void (*fn)(bm_worker *w, void *arg), void *arg);

/* From the next run on at most so many workers, at least one; the others sleep. Results never depend on it. */
void bm_team_limit(bm_team *team, int n_workers);

/* Inside fn. A phase is the work between two barriers; all workers pass the same phases in the same order. */
/* Claim the next chunk of this phase's items [0, n_items): false when none is left. Claims are dynamic: results must not
 * depend on who computes what. One half of the workers claims from the front on, the other from the back; fewer than 2^32 chunks. */
bool bm_worker_claim(bm_worker *w, size_t n_items, size_t chunk, size_t *begin, size_t *end);
/* End the phase: returns when all workers have come here. What they wrote before is visible after. */
void bm_worker_barrier(bm_worker *w);
/* Counters for `bench --scaling`: barriers passed since the start. */
unsigned long bm_team_barriers(const bm_team *team);

/* Where the time of runs goes, for `bench --scaling` alone: it reads clocks at every claim and barrier, which costs a few percent
 * of a decode step. Times of work are CPU times of the thread, so that other load and a lack of CPUs do not count. */
typedef struct bm_team_profile {
    unsigned long runs, barriers;
    double run_s;                /* wall time inside bm_team_run */
    double wait_s;               /* wall time at barriers and before the start, of all workers together */
    double claimed_s;            /* work in claimed chunks, of all workers together */
    double own_s;                /* per phase the longest of the work outside chunks: what every worker does for itself */
    double lone_s;               /* phases of a single chunk: the others have nothing to do */
    double ideal_s;              /* if every worker had a CPU of its own: own work, then the chunks in order to whoever is free */
} bm_team_profile;
/* Between runs. take: what was gathered since; it goes on from zero. */
int  bm_team_profile_start(bm_team *team, bm_error *err);
void bm_team_profile_take(bm_team *team, bm_team_profile *out);
