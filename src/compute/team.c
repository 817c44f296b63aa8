/* team.c - the thread team: one job word, one generation word for barriers, and claims by an atomic counter per phase.
 * Waiting is a bounded spin, then a few yields, then a futex: with more workers than CPUs a long spin would only take the
 * core from the worker that is waited for. Owners: the caller of run() writes fn and arg before the release on `job`. */
#define _GNU_SOURCE
#include "compute/team.h"
#include "compute/cpu.h"
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

enum { LINE = 64, YIELDS = 8 };

typedef struct signal_word {         /* a word that changes, and how many sleep until it does */
    _Alignas(LINE) atomic_uint value;
    atomic_int sleepers;
} signal_word;

struct bm_team {
    signal_word job;                 /* changes when a run starts or the team ends */
    signal_word done;                /* changes when a barrier opens */
    _Alignas(LINE) atomic_uint arrived;
    _Alignas(LINE) atomic_size_t next[2];        /* claim counters of even and odd phases */
    _Alignas(LINE) atomic_ulong barriers;
    void (*fn)(bm_worker *, void *);
    void *arg;
    atomic_bool stop;
    int n, started;
    int spin;                        /* looks before yielding */
    pthread_t *threads;
    bm_worker *workers;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Return when word no longer is `old`. */
static void wait_change(signal_word *word, unsigned old, int spin)
{
    for (int i = 0; i < spin; i++) {
        if (atomic_load_explicit(&word->value, memory_order_acquire) != old)
            return;
        relax();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (atomic_load_explicit(&word->value, memory_order_acquire) != old)
            return;
        sched_yield();
    }
    while (atomic_load_explicit(&word->value, memory_order_acquire) == old) {
        atomic_fetch_add(&word->sleepers, 1);
        syscall(SYS_futex, &word->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
        atomic_fetch_sub(&word->sleepers, 1);
    }
}

/* The sleeper counts itself, then the kernel compares the word; here the word changes, then the count is read: with both in
 * the one total order of seq_cst no sleeper is missed. */
static void change(signal_word *word)
{
    atomic_fetch_add(&word->value, 1);
    if (atomic_load(&word->sleepers) > 0)
        syscall(SYS_futex, &word->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

bool bm_worker_claim(bm_worker *w, size_t n_items, size_t chunk, size_t *begin, size_t *end)
{
    atomic_size_t *next = &w->team->next[w->phase & 1];
    size_t at;

    if (chunk == 0)
        chunk = 1;
    if (atomic_load_explicit(next, memory_order_relaxed) >= n_items)
        return false;
    at = atomic_fetch_add_explicit(next, chunk, memory_order_relaxed);
    if (at >= n_items)
        return false;
    *begin = at;
    *end = n_items - at < chunk ? n_items : at + chunk;
    return true;
}

/* The last to come resets the counter of this phase, which is next used two phases on: nobody claims from it in between. */
void bm_worker_barrier(bm_worker *w)
{
    bm_team *team = w->team;
    unsigned generation = atomic_load_explicit(&team->done.value, memory_order_relaxed);
    unsigned phase = w->phase++;

    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == (unsigned)team->n) {
        atomic_store_explicit(&team->next[phase & 1], 0, memory_order_relaxed);
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_fetch_add_explicit(&team->barriers, 1, memory_order_relaxed);
        if (team->n > 1)
            change(&team->done);
        return;
    }
    wait_change(&team->done, generation, team->spin);
}

static void *worker_main(void *arg)
{
    bm_worker *w = arg;
    bm_team *team = w->team;

    for (unsigned seen = 0;; seen++) {
        wait_change(&team->job, seen, team->spin);
        if (atomic_load_explicit(&team->stop, memory_order_acquire))
            return NULL;
        team->fn(w, team->arg);
        bm_worker_barrier(w);
    }
}

void bm_team_run(bm_team *team, void (*fn)(bm_worker *w, void *arg), void *arg)
{
    team->fn = fn;
    team->arg = arg;
    if (team->n > 1)
        change(&team->job);
    fn(&team->workers[0], arg);
    bm_worker_barrier(&team->workers[0]);
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
    team->spin = n_threads <= cpu.n_logical ? 2000 : 20;         /* about 80 us on a core with a 140-cycle pause */
    team->threads = bm_calloc((size_t)n_threads, sizeof *team->threads);
    team->workers = bm_calloc((size_t)n_threads, sizeof *team->workers);
    if (team->threads == NULL || team->workers == NULL) {
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
    change(&team->job);
    for (int i = 1; i <= team->started; i++)
        pthread_join(team->threads[i], NULL);
    bm_free(team->threads);
    bm_free(team->workers);
    bm_free(team);
}

int bm_team_size(const bm_team *team) { return team->n; }

unsigned long bm_team_barriers(const bm_team *team) { return atomic_load(&((bm_team *)team)->barriers); }
