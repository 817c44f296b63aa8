/* team_crowd.h - how many workers of a team pay while other programs use the CPUs too. Private to team.c.
 *
 * A worker that waits for a CPU at the end of a phase makes all others wait. The kernel counts that time (schedstat: run delay).
 * With n workers of which one misses a share d of the time, a phase proceeds at n (1 - d); without that worker at n - 1. So one
 * worker fewer is better from n d > 1 on. Dropped workers sleep; one is tried again after a while. Who computes what never
 * changes a result. Where the kernel does not tell the delay, nothing is ever dropped. */
#pragma once
#include <stdint.h>

typedef struct bm_crowd bm_crowd;

bm_crowd *bm_crowd_new(int n_workers);               /* NULL: no memory; then do without */
void bm_crowd_free(bm_crowd *c);
void bm_crowd_join(bm_crowd *c, int id);             /* by worker id's own thread, before it works */
/* By the caller after a run of run_ns on `active` workers: how many the next run shall have, at most `most`. */
int bm_crowd_advise(bm_crowd *c, int active, int most, int64_t run_ns);
/* The decision alone, for a window in which the active workers waited delay_ns in all. */
int bm_crowd_decide(bm_crowd *c, int active, int most, int64_t delay_ns, int64_t window_ns);
