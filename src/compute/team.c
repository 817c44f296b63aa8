/* team.c - the thread team: one job word, one generation word for barriers, and claims by an atomic counter per phase.
 * Waiting is a bounded spin, then a futex. With more workers than CPUs (or than the quota allows) a long spin would only take
 * the core from the worker that is waited for: then it is short, and a few yields come before the sleep. With enough CPUs
 * nobody yields: beside another program a yield gives away a whole slice of time, a sleeper is woken at once.
 * The job word holds the number of the run and how many workers take part, so that one look tells both: a worker that does
 * not take part parks on another word, and cannot mistake an old run for one of its own.
 * Owners: the caller of run() writes fn and arg before the release on `job`.
 *
 * Lines: what is written at a barrier (arrived, done, the two claim counters, each worker's phase) stands apart from each other
 * and from what is only read. One counter of arrivals is enough for one socket: 64 arrivals take about 64 transfers of a line,
 * 3 to 6 us, beside phases of 50 us and more that such a machine's models have. A tree of counters by NUMA node would be next;
 * so would pages of weights placed by node, which needs claims that prefer a node: neither can be measured on two cores. */
#define _GNU_SOURCE
#include "compute/team.h"
#include "compute/cpu.h"
#include "compute/team_crowd.h"
#include "compute/team_profile.h"
#include "base/clock.h"
#include "base/mem.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINE = 64, SPIN = 2000, SPIN_CROWDED = 20, YIELDS_CROWDED = 8 };      /* 2000: about 80 us at 140 cycles a pause */
enum { RUN_SHIFT = 13, WORKERS_MASK = (1 << RUN_SHIFT) - 1 };                  /* of the job word */

typedef struct signal_word {         /* a word that changes, and how many sleep until it does */
    _Alignas(LINE) atomic_uint value;
    atomic_int sleepers;
} signal_word;

struct bm_team {
    signal_word job;                 /* run << RUN_SHIFT | its workers; changes when a run starts or the team ends */
    signal_word roster;              /* changes when a run has more workers than the one before */
    signal_word done;                /* changes when a barrier opens */
    _Alignas(LINE) atomic_uint arrived;
    struct { _Alignas(LINE) _Atomic uint64_t taken; } next[2];   /* of even and odd phases: chunks from the front, << 32 from the back */
    _Alignas(LINE) unsigned long barriers;       /* written by the last at a barrier */
    _Alignas(LINE) void (*fn)(bm_worker *, void *);              /* from here on: written between runs only */
    void *arg;
    _Atomic(bm_profile *) profile;   /* NULL: not wanted */
    atomic_bool stop;
    int n, started;
    int active, next_active, limit;  /* workers of the last run, of the next, and at most */
    unsigned phase;                  /* the first of the run: whoever sat out has lost count */
    bm_crowd *crowd;                 /* NULL: the number stays at the limit */
    pthread_t caller;                /* worker 0's thread, as the crowd knows it */
    bool has_caller;
    int spin, yields;                /* looks before sleeping */
    pthread_t *threads;
    bm_worker *workers;
};

static inline bm_profile *profile_of(bm_team *team) { return atomic_load_explicit(&team->profile, memory_order_relaxed); }

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void sleep_until_change(signal_word *word, unsigned old)
{
    while (atomic_load_explicit(&word->value, memory_order_acquire) == old) {
        atomic_fetch_add(&word->sleepers, 1);
        syscall(SYS_futex, &word->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
        atomic_fetch_sub(&word->sleepers, 1);
    }
}

/* Return when word no longer is `old`. */
static void wait_change(const bm_team *team, signal_word *word, unsigned old)
{
    for (int i = 0; i < team->spin; i++) {
        if (atomic_load_explicit(&word->value, memory_order_acquire) != old)
            return;
        relax();
    }
    for (int i = 0; i < team->yields; i++) {
        if (atomic_load_explicit(&word->value, memory_order_acquire) != old)
            return;
        sched_yield();
    }
    sleep_until_change(word, old);
}

/* The sleeper counts itself, then the kernel compares the word; here the word changes, then the count is read: with both in
 * the one total order of seq_cst no sleeper is missed. */
static void change(signal_word *word, unsigned value)
{
    atomic_store(&word->value, value);
    if (atomic_load(&word->sleepers) > 0)
        syscall(SYS_futex, &word->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static const uint64_t BACK = (uint64_t)1 << 32;

static size_t n_taken(uint64_t taken) { return (size_t)(taken % BACK + taken / BACK); }

/* One half of the workers claims from the front, the other from the back: items of a phase go by tokens or by columns, so that what a
 * worker made in one phase it mostly reads itself in the next. Where two cores do not share a cache, all claims from the front cost a
 * fifth of the speed of prefill and of batches. */
bool bm_worker_claim(bm_worker *w, size_t n_items, size_t chunk, size_t *begin, size_t *end)
{
    _Atomic uint64_t *next = &w->team->next[w->phase & 1].taken;
    bm_profile *profile = profile_of(w->team);
    bool back = 2 * w->id >= w->n;
    uint64_t taken;

    if (chunk == 0)
        chunk = 1;
    size_t n = n_items / chunk + (n_items % chunk != 0);
    if (n_taken(atomic_load_explicit(next, memory_order_relaxed)) >= n ||
        n_taken(taken = atomic_fetch_add_explicit(next, back ? BACK : 1, memory_order_relaxed)) >= n) {
        if (profile != NULL)
            bm_profile_claimed_all(profile, w->id, w->phase);
        return false;
    }
    size_t at = back ? n - 1 - (size_t)(taken / BACK) : (size_t)(taken % BACK);
    if (profile != NULL)
        bm_profile_claim(profile, w->id, w->phase, at);
    *begin = at * chunk;
    *end = n_items - *begin < chunk ? n_items : *begin + chunk;
    return true;
}

/* The last to come resets the counter of this phase, which is next used two phases on: nobody claims from it in between. */
void bm_worker_barrier(bm_worker *w)
{
    bm_team *team = w->team;
    unsigned generation = atomic_load_explicit(&team->done.value, memory_order_relaxed);
    unsigned phase = w->phase++;
    bm_profile *profile = profile_of(team);

    if (profile != NULL)
        bm_profile_arrive(profile, w->id, phase);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == (unsigned)w->n) {
        atomic_store_explicit(&team->next[phase & 1].taken, 0, memory_order_relaxed);
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        team->barriers++;
        if (profile != NULL)
            bm_profile_phase(profile, phase, w->n);
        if (w->n > 1)
            change(&team->done, generation + 1);
    } else {
        wait_change(team, &team->done, generation);
    }
    if (profile != NULL)
        bm_profile_pass(profile, w->id);
}

/* Until a run comes that this worker is part of: its job word. A worker that parks reads the roster first, the caller changes it
 * last: either the job read here is the new one already, or the roster has changed. */
static unsigned next_run(bm_team *team, int id, unsigned seen)
{
    for (;;) {
        wait_change(team, &team->job, seen);
        unsigned roster = atomic_load(&team->roster.value);
        seen = atomic_load(&team->job.value);
        if (id < (int)(seen & WORKERS_MASK) || atomic_load_explicit(&team->stop, memory_order_acquire))
            return seen;
        sleep_until_change(&team->roster, roster);
    }
}

static void *worker_main(void *arg)
{
    bm_worker *w = arg;
    bm_team *team = w->team;
    bm_profile *profile;

    if (team->crowd != NULL)
        bm_crowd_join(team->crowd, w->id);
    for (unsigned run = 0;;) {
        run = next_run(team, w->id, run);
        if (atomic_load_explicit(&team->stop, memory_order_acquire))
            return NULL;
        w->n = (int)(run & WORKERS_MASK);
        w->phase = team->phase;
        if ((profile = profile_of(team)) != NULL)
            bm_profile_enter(profile, w->id);
        team->fn(w, team->arg);
        bm_worker_barrier(w);
    }
}

static void start_run(bm_team *team, int active)
{
    unsigned run = (atomic_load_explicit(&team->job.value, memory_order_relaxed) >> RUN_SHIFT) + 1;
    bool more = active > team->active;

    team->active = active;
    change(&team->job, run << RUN_SHIFT | (unsigned)active);
    if (more)
        change(&team->roster, atomic_load_explicit(&team->roster.value, memory_order_relaxed) + 1);
}

static void meet_caller(bm_team *team)
{
    if (team->has_caller && pthread_equal(team->caller, pthread_self()))
        return;
    team->caller = pthread_self();
    team->has_caller = true;
    bm_crowd_join(team->crowd, 0);
}

void bm_team_run(bm_team *team, void (*fn)(bm_worker *w, void *arg), void *arg)
{
    bm_profile *profile = profile_of(team);
    bm_worker *w = &team->workers[0];
    int64_t begin = team->crowd != NULL ? bm_now_ns() : 0;

    team->fn = fn;
    team->arg = arg;
    team->phase = w->phase;
    if (profile != NULL)
        bm_profile_run(profile);
    if (team->n > 1)
        start_run(team, team->next_active);
    w->n = team->active;
    if (profile != NULL)
        bm_profile_enter(profile, 0);
    fn(w, arg);
    bm_worker_barrier(w);
    if (profile != NULL)
        bm_profile_run_end(profile);
    if (team->crowd != NULL) {
        meet_caller(team);
        team->next_active = bm_crowd_advise(team->crowd, team->active, team->limit, bm_now_ns() - begin);
    }
}

void bm_team_limit(bm_team *team, int n_workers)
{
    team->limit = n_workers < 1 ? 1 : n_workers < team->n ? n_workers : team->n;
    team->next_active = team->limit;
}

/* Signals are the business of the program's own threads. */
static int start_threads(bm_team *team, bm_error *err)
{
    sigset_t all, old;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 1; i < team->n && rc == 0; i++) {
        rc = pthread_create(&team->threads[i], NULL, worker_main, &team->workers[i]);
        if (rc == 0)
            team->started = i;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return bm_fail(err, BM_NOMEM, "cannot start worker thread %d of %d: %s", team->started + 1, team->n, strerror(rc));
    return 0;
}

int bm_team_new(bm_team **out, int n_threads, bm_error *err)
{
    bm_team *team = NULL;
    bm_cpu cpu;
    int rc;

    *out = NULL;
    if (n_threads < 1 || n_threads > 4096)
        return bm_fail(err, BM_INVALID, "threads: %d, must be 1 to 4096", n_threads);
    if ((team = bm_alloc_aligned(sizeof *team, LINE)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a team of %d threads", n_threads);
    memset(team, 0, sizeof *team);
    team->n = n_threads;
    bm_cpu_detect(&cpu);
    team->active = team->next_active = team->limit = n_threads;
    bool enough = n_threads <= cpu.n_logical;
    if (enough && cpu.quota_cpus > 0 && n_threads > cpu.quota_cpus)      /* more would only use the quota up sooner and then wait */
        bm_team_limit(team, (int)cpu.quota_cpus + (cpu.quota_cpus > (int)cpu.quota_cpus));
    enough = enough && (cpu.quota_cpus == 0 || team->limit <= cpu.quota_cpus);
    team->spin = enough ? SPIN : SPIN_CROWDED;
    team->yields = enough ? 0 : YIELDS_CROWDED;
    team->threads = bm_calloc((size_t)n_threads, sizeof *team->threads);
    team->workers = bm_alloc_aligned((size_t)n_threads * sizeof *team->workers, LINE);
    if (team->threads == NULL || team->workers == NULL) {
        rc = bm_fail(err, BM_NOMEM, "no memory for a team of %d threads", n_threads);
        goto out;
    }
    if (n_threads > 1 && n_threads <= cpu.n_logical && (team->crowd = bm_crowd_new(n_threads)) == NULL) {
        rc = bm_fail(err, BM_NOMEM, "no memory for a team of %d threads", n_threads);
        goto out;
    }
    for (int i = 0; i < n_threads; i++)
        team->workers[i] = (bm_worker){ .team = team, .id = i, .n = n_threads };
    if ((rc = start_threads(team, err)) < 0)
        goto out;
    *out = team, team = NULL;
out:
    bm_team_free(team);
    return rc;
}

void bm_team_free(bm_team *team)
{
    if (team == NULL)
        return;
    atomic_store_explicit(&team->stop, true, memory_order_release);
    change(&team->job, atomic_load(&team->job.value) + (1u << RUN_SHIFT));
    change(&team->roster, atomic_load(&team->roster.value) + 1);
    for (int i = 1; i <= team->started; i++)
        pthread_join(team->threads[i], NULL);
    bm_crowd_free(team->crowd);
    bm_profile_free(profile_of(team));
    bm_free(team->threads);
    bm_free(team->workers);
    bm_free(team);
}

int bm_team_size(const bm_team *team) { return team->n; }

unsigned long bm_team_barriers(const bm_team *team) { return team->barriers; }

int bm_team_profile_start(bm_team *team, bm_error *err)
{
    bm_team_profile none;

    if (profile_of(team) == NULL) {
        bm_profile *profile = bm_profile_new(team->n);
        if (profile == NULL)
            return bm_fail(err, BM_NOMEM, "no memory for the profile of %d threads", team->n);
        atomic_store_explicit(&team->profile, profile, memory_order_release);
    }
    bm_team_profile_take(team, &none);
    return 0;
}

void bm_team_profile_take(bm_team *team, bm_team_profile *out)
{
    *out = (bm_team_profile){ 0 };
    if (profile_of(team) != NULL)
        bm_profile_take(profile_of(team), out);
}
