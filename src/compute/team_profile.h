/* team_profile.h - what team.c tells the profile of a team. Private to these two files. Each worker writes its own slot and
 * the chunks that it claimed; the last at a barrier, before it opens, adds the phase up. */
#pragma once
#include "compute/team.h"

typedef struct bm_profile bm_profile;

bm_profile *bm_profile_new(int n_workers);           /* NULL: no memory */
void bm_profile_free(bm_profile *p);
void bm_profile_take(bm_profile *p, bm_team_profile *out);

void bm_profile_run(bm_profile *p);                  /* the caller, before the workers wake */
void bm_profile_run_end(bm_profile *p);
void bm_profile_enter(bm_profile *p, int id);        /* a worker begins fn, or goes on after a barrier */
void bm_profile_claim(bm_profile *p, int id, unsigned phase, size_t chunk);      /* it has chunk number `chunk` of the phase */
void bm_profile_claimed_all(bm_profile *p, int id, unsigned phase);              /* it found none left */
void bm_profile_arrive(bm_profile *p, int id, unsigned phase);                   /* at a barrier, before it is counted */
void bm_profile_phase(bm_profile *p, unsigned phase, int n_workers);             /* the last at a barrier, before it opens */
void bm_profile_pass(bm_profile *p, int id);                                     /* the barrier is open; not the last's */
