/* team_crowd.c - reads what the kernel says of each worker, and decides. See team_crowd.h. */
#define _GNU_SOURCE
#include "compute/team_crowd.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    WINDOW_NS = 20000000,        /* of runs, between two decisions: longer than the kernel's slices of 3 to 4 ms */
    /* Windows in a row that cost a worker: a stall is no competitor, and the kernel's balancer gets time to part two workers that
     * it has put on one CPU. */
    STRIKES = 16, STRIKES_TRIED = 4,
    HOLD_MIN = 16, HOLD_MAX = 128        /* windows until one more is tried; doubled each time that it did not pay */
};

typedef struct member {
    atomic_int file;             /* its schedstat; -1: not open */
    int64_t delay_ns;            /* as read last */
} member;

struct bm_crowd {
    int n_workers;
    int64_t window_ns;
    int strikes, good;           /* windows in a row; good: of a trial */
    int hold, wait;              /* wait: windows left until one more is tried */
    bool trying, started;
    member *members;
};

bm_crowd *bm_crowd_new(int n_workers)
{
    bm_crowd *c = bm_zalloc(sizeof *c);

    if (c == NULL || (c->members = bm_calloc((size_t)n_workers, sizeof *c->members)) == NULL) {
        bm_free(c);
        return NULL;
    }
    c->n_workers = n_workers;
    c->hold = c->wait = HOLD_MIN;
    for (int i = 0; i < n_workers; i++)
        atomic_init(&c->members[i].file, -1);
    return c;
}

void bm_crowd_free(bm_crowd *c)
{
    if (c == NULL)
        return;
    for (int i = 0; i < c->n_workers; i++)
        if (atomic_load(&c->members[i].file) >= 0)
            close(atomic_load(&c->members[i].file));
    bm_free(c->members);
    bm_free(c);
}

void bm_crowd_join(bm_crowd *c, int id)
{
    int old = atomic_exchange(&c->members[id].file, open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC));

    if (old >= 0)
        close(old);
}

/* "time on the CPU, time waiting for one, slices", in ns. */
static bool read_delay(const member *m, int64_t *out)
{
    int file = atomic_load(&m->file);
    char text[96], *end;
    ssize_t n = file >= 0 ? pread(file, text, sizeof text - 1, 0) : -1;

    if (n <= 0)
        return false;
    text[n] = '\0';
    strtoll(text, &end, 10);
    *out = strtoll(end, NULL, 10);
    return true;
}

int bm_crowd_decide(bm_crowd *c, int active, int most, int64_t delay_ns, int64_t window_ns)
{
    bool crowded = (double)delay_ns * active > (double)window_ns;

    if (crowded && active > 1 && ++c->strikes >= (c->trying ? STRIKES_TRIED : STRIKES)) {
        c->hold = c->trying && c->hold < HOLD_MAX ? 2 * c->hold : c->hold;
        c->wait = c->hold;
        c->strikes = 0;
        c->trying = false;
        return active - 1;
    }
    if (crowded)
        return active;
    c->strikes = 0;
    if (c->trying && ++c->good < STRIKES_TRIED)
        return active;
    if (c->trying)               /* it paid: the next may follow soon */
        c->wait = 1, c->hold = HOLD_MIN, c->trying = false;
    if (active >= most || --c->wait > 0)
        return active;
    c->trying = true;
    c->good = 0;
    return active + 1;
}

int bm_crowd_advise(bm_crowd *c, int active, int most, int64_t run_ns)
{
    int64_t sum = 0, now, window = c->window_ns += run_ns;
    bool started = c->started;

    if (window < WINDOW_NS)
        return active;
    for (int i = 0; i < c->n_workers; i++) {
        member *m = &c->members[i];
        if (!read_delay(m, &now))
            continue;
        if (i < active && now > m->delay_ns)
            sum += now - m->delay_ns;
        m->delay_ns = now;
    }
    c->window_ns = 0;
    c->started = true;           /* the first reading is the one to compare with */
    return started ? bm_crowd_decide(c, active, most, sum, window) : active;
}
