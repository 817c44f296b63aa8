/* work.c - a queue of jobs with its threads, and an eventfd that wakes the loop. */
#include "server/work.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"

enum { MAX_THREADS = 8 };

typedef struct queue { bm_job *head, **tail; } queue;

struct bm_work {
    pthread_mutex_t lock;                    /* guards todo, mail and stopping */
    pthread_cond_t more;
    queue todo, mail;
    bool stopping;
    pthread_t threads[MAX_THREADS];
    int n_threads, fd;
    atomic_bool rung;
    struct event *wake;
    void (*on_rung)(void *arg);
    void *arg;
};

static void push(queue *q, bm_job *job)
{
    job->next = NULL;
    *q->tail = job;
    q->tail = &job->next;
}

static bm_job *pop(queue *q)
{
    bm_job *job = q->head;

    if (job != NULL && (q->head = job->next) == NULL)
        q->tail = &q->head;
    return job;
}

static void wake_loop(bm_work *w)
{
    uint64_t one = 1;
    ssize_t n;

    do
        n = write(w->fd, &one, sizeof one);          /* EAGAIN: the counter is full, so the loop will wake anyway */
    while (n < 0 && errno == EINTR);
}

static void *worker(void *arg)
{
    bm_work *w = arg;
    bm_job *job;

    pthread_mutex_lock(&w->lock);
    for (;;) {
        while ((job = pop(&w->todo)) == NULL && !w->stopping)
            pthread_cond_wait(&w->more, &w->lock);
        if (job == NULL)
            break;
        pthread_mutex_unlock(&w->lock);
        job->run(job);
        bm_work_post(w, job);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

void bm_work_deliver(bm_work *work)
{
    bm_job *job;

    for (;;) {
        pthread_mutex_lock(&work->lock);
        job = pop(&work->mail);
        pthread_mutex_unlock(&work->lock);
        if (job == NULL)
            return;
        job->done(job);
    }
}

static void woken(evutil_socket_t fd, short what, void *arg)
{
    bm_work *w = arg;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);

    (void)n, (void)what;
    bm_work_deliver(w);
    if (atomic_exchange(&w->rung, false))
        w->on_rung(w->arg);
}

/* Workers leave signals to the loop's thread. */
static int start_threads(bm_work *w, int n, bm_error *err)
{
    sigset_t all, old;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (; w->n_threads < n && rc == 0; w->n_threads += rc == 0)
        rc = pthread_create(&w->threads[w->n_threads], NULL, worker, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? 0 : bm_fail(err, BM_NOMEM, "cannot start a thread: %s", strerror(rc));
}

int bm_work_new(bm_work **out, struct event_base *base, int n_threads, void (*rung)(void *arg), void *arg, bm_error *err)
{
    bm_work *w = bm_zalloc(sizeof *w);
    int rc;

    *out = NULL;
    if (w == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the workers");
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    w->todo.tail = &w->todo.head;
    w->mail.tail = &w->mail.head;
    w->on_rung = rung;
    w->arg = arg;
    w->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    w->wake = w->fd < 0 ? NULL : event_new(base, w->fd, EV_READ | EV_PERSIST, woken, w);
    if (w->wake == NULL || event_add(w->wake, NULL) != 0)
        rc = bm_fail(err, BM_IO, "cannot make an eventfd: %s", strerror(errno));
    else
        rc = start_threads(w, n_threads > MAX_THREADS ? MAX_THREADS : n_threads, err);
    if (rc < 0) {
        bm_work_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void bm_work_submit(bm_work *work, bm_job *job)
{
    pthread_mutex_lock(&work->lock);
    push(&work->todo, job);
    pthread_cond_signal(&work->more);
    pthread_mutex_unlock(&work->lock);
}

void bm_work_post(bm_work *work, bm_job *job)
{
    pthread_mutex_lock(&work->lock);
    push(&work->mail, job);
    pthread_mutex_unlock(&work->lock);
    wake_loop(work);
}

void bm_work_ring(void *work)
{
    bm_work *w = work;

    if (!atomic_exchange(&w->rung, true))
        wake_loop(w);
}

void bm_work_stop(bm_work *work)
{
    pthread_mutex_lock(&work->lock);
    work->stopping = true;
    pthread_cond_broadcast(&work->more);
    pthread_mutex_unlock(&work->lock);
    for (; work->n_threads > 0; work->n_threads--)
        pthread_join(work->threads[work->n_threads - 1], NULL);
}

void bm_work_free(bm_work *work)
{
    if (work == NULL)
        return;
    bm_work_stop(work);
    if (work->wake != NULL)
        event_free(work->wake);
    if (work->fd >= 0)
        close(work->fd);
    pthread_cond_destroy(&work->more);
    pthread_mutex_destroy(&work->lock);
    bm_free(work);
}
