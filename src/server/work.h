/* work.h - workers off the event loop, and the loop's mailbox. A job runs in a worker, then comes back to the loop.
 * Jobs belong to the caller and must live until done() was called. The bell is for the engine's thread: it carries nothing,
 * cannot fail and outlives every request, so a late ring is harmless. */
#pragma once
#include <event2/event.h>
#include <stdbool.h>
#include "base/error.h"

typedef struct bm_work bm_work;
typedef struct bm_job {
    void (*run)(struct bm_job *job);         /* in a worker */
    void (*done)(struct bm_job *job);        /* on the loop */
    struct bm_job *next;
} bm_job;

/* rung: on the loop, at least once after the last bm_work_ring. */
int  bm_work_new(bm_work **out, struct event_base *base, int n_threads, void (*rung)(void *arg), void *arg, bm_error *err);
void bm_work_submit(bm_work *work, bm_job *job);
void bm_work_post(bm_work *work, bm_job *job);       /* done() on the loop, from any thread, without run */
void bm_work_ring(void *work);                       /* any thread; never blocks */
/* Finish the queue, join the workers. What was posted and not delivered stays undelivered. */
void bm_work_stop(bm_work *work);
void bm_work_deliver(bm_work *work);                 /* what waits in the mailbox, at once; after stop too */
void bm_work_free(bm_work *work);
