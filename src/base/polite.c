/* polite.c - see polite.h. */
#include "base/polite.h"

#include <stddef.h>
#include <time.h>

#include "base/clock.h"

enum { BURST_NS = 1000000, REST_NS = 6000000 };

static _Thread_local struct { bool (*busy)(void *arg); void *arg; int64_t begin_ns; } polite;

void bm_polite_begin(bool (*busy)(void *arg), void *arg)
{
    polite.busy = busy;
    polite.arg = arg;
    polite.begin_ns = bm_now_ns();
}

void bm_polite_rest(void)
{
    if (polite.busy == NULL || bm_now_ns() - polite.begin_ns < BURST_NS)
        return;
    if (polite.busy(polite.arg))
        nanosleep(&(struct timespec){ .tv_nsec = REST_NS }, NULL);
    polite.begin_ns = bm_now_ns();
}
