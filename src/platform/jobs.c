/* jobs.c - the thread that looks after runs: which to start, adopt, pause, stop, and what their end means. See jobs.h.
 *
 * Each turn: new rows of the store are looked at (once a second, or when woken), the event files of running children are read,
 * children that have ended are concluded. Signals and waits are this thread's alone. */
#include "platform/jobs.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "platform/job_child.h"
#include "platform/job_log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOK_MS = 1000,              /* at the store's rows */
    TURN_MS = 50, TURN_BUSY_MS = 10,            /* while a child runs; and when it is to make way for requests */
    SLICE_SECONDS = 20, STOP_SECONDS = 60, DEATHS = 3, LOG_BYTES = 16 << 20, EVENTS_BYTES = 256 << 20
};

/* A run that this process looks after. */
typedef struct job {
    struct job *next;
    bm_run_row run;
    char *dir;
    int lock_fd;
    bm_child child;
    bm_job_log log;
    int64_t kill_ns;             /* when SIGTERM becomes SIGKILL; 0: not asked to stop */
    int64_t busy_ns;             /* since when requests have been computed without a pause; 0: none are */
    bool paused, requeue, flooded;
} job;

typedef struct deaths { int64_t number; int count; struct deaths *next; } deaths;

struct bm_jobs {
    bm_store *store;
    bm_jobs_options options;
    char *program, *only;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;        /* guards stopping and woken */
    pthread_cond_t wake;
    bool stopping, woken;
    /* the thread's own */
    job *jobs;
    deaths *deaths;              /* of runs, without a new checkpoint */
    int64_t looked_ns;
};

static void say(bm_jobs *jobs, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(bm_jobs *jobs, const char *fmt, ...)
{
    char line[640];
    va_list ap;

    if (jobs->options.log == NULL)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    jobs->options.log(jobs->options.arg, line);
}

static void changed(bm_jobs *jobs)
{
    if (jobs->options.changed != NULL)
        jobs->options.changed(jobs->options.arg);
}

/* ---- runs that are looked after ---- */

static void job_free(job *j)
{
    bm_job_log_done(&j->log);
    bm_run_row_done(&j->run);
    if (j->lock_fd >= 0)
        close(j->lock_fd);
    bm_free(j->dir);
    bm_free(j);
}

/* Lock the run's directory for this process: 1, or 0 when another looks after it. */
static int lock_dir(job *j, bm_error *err)
{
    bm_buf path = { 0 };

    bm_buf_printf(&path, "%s/lock", j->dir);
    j->lock_fd = path.failed ? -1 : open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    bm_buf_done(&path);
    if (j->lock_fd < 0)
        return bm_fail(err, BM_IO, "%s/lock: cannot open: %s", j->dir, strerror(errno));
    return flock(j->lock_fd, LOCK_EX | LOCK_NB) == 0;
}

static int job_new(bm_jobs *jobs, job **out, const char *id, bm_error *err)
{
    job *j = bm_zalloc(sizeof *j);
    bm_buf dir = { 0 };
    int rc;

    *out = NULL;
    if (j == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a job");
    j->lock_fd = -1;
    j->log.fd = -1;
    if ((rc = bm_job_dir(&dir, bm_store_home(jobs->store), id, err)) == 0 && (j->dir = bm_buf_take(&dir)) == NULL)
        rc = bm_fail(err, BM_NOMEM, "no memory for a job");
    if (rc == 0 && (rc = lock_dir(j, err)) == 1)
        rc = bm_runs_find(jobs->store, id, &j->run, err);        /* again: it may have changed until it was locked */
    else if (rc == 0)
        rc = BM_BUSY;
    bm_buf_done(&dir);
    if (rc < 0) {
        job_free(j);
        return rc;
    }
    *out = j;
    return 0;
}

static int *deaths_of(bm_jobs *jobs, int64_t number)
{
    static int lost;             /* without memory to count, every death counts as the first */
    deaths *d;

    for (d = jobs->deaths; d != NULL; d = d->next)
        if (d->number == number)
            return &d->count;
    if ((d = bm_zalloc(sizeof *d)) == NULL)
        return lost = 0, &lost;
    *d = (deaths){ .number = number, .next = jobs->deaths };
    jobs->deaths = d;
    return &d->count;
}

static void add_job(bm_jobs *jobs, job *j)
{
    j->next = jobs->jobs;
    jobs->jobs = j;
}

/* ---- starting and adopting ---- */

static int64_t memory_budget(const bm_run_row *run)
{
    json_t *settings = json_loads(run->settings, 0, NULL);
    int64_t mib = json_integer_value(json_object_get(settings, "memory_mib"));

    json_decref(settings);
    return mib > 0 && mib < 1 << 30 ? mib << 20 : 0;
}

static void fail_start(bm_jobs *jobs, job *j, const bm_error *why)
{
    say(jobs, "%s: %s", j->run.id, why->msg);
    bm_runs_ended(jobs->store, j->run.number, "failed", NULL, why->msg, why->hint, NULL);
    changed(jobs);
    job_free(j);
}

static void start_run(bm_jobs *jobs, job *j)
{
    bm_child_options options = { .program = jobs->program, .memory_bytes = memory_budget(&j->run), .eager = jobs->options.eager };
    bm_error err;

    /* Claimed first: whoever asks it to stop from here on finds it running, not waiting. */
    if (bm_runs_claim(jobs->store, j->run.number, &err) != 1) {
        job_free(j);
        return;
    }
    if (bm_child_spawn(&j->child, &options, j->dir, &err) < 0) {
        fail_start(jobs, j, &err);
        return;
    }
    if (bm_runs_process(jobs->store, j->run.number, j->child.pid, j->child.start, &err) < 0)
        say(jobs, "%s: %s", j->run.id, err.msg);
    bm_job_log_open(&j->log, j->dir, &j->run, jobs->options.events_bytes);
    say(jobs, "%s '%s' has started%s", j->run.id, j->run.name, j->run.attempts > 0 ? " again" : "");
    add_job(jobs, j);
    changed(jobs);
}

/* The row says that it runs, and nobody looks after it. */
static void adopt_run(bm_jobs *jobs, job *j)
{
    bm_error err;
    int rc = bm_child_find(&j->child, j->dir, &err);

    if (rc < 0)
        say(jobs, "%s: %s", j->run.id, err.msg);
    bm_job_log_open(&j->log, j->dir, &j->run, jobs->options.events_bytes);
    if (rc == 1) {
        if (!jobs->options.eager)
            bm_child_idle(&j->child);
        bm_runs_process(jobs->store, j->run.number, j->child.pid, j->child.start, NULL);
        say(jobs, "%s '%s' was running already", j->run.id, j->run.name);
    }
    add_job(jobs, j);            /* when it is dead, the next turn concludes it */
}

static bool is_mine(const bm_jobs *jobs, int64_t number)
{
    for (const job *j = jobs->jobs; j != NULL; j = j->next)
        if (j->run.number == number)
            return true;
    return false;
}

static int n_running(const bm_jobs *jobs)
{
    int n = 0;

    for (const job *j = jobs->jobs; j != NULL; j = j->next)
        n++;
    return n;
}

static job *mine(bm_jobs *jobs, int64_t number)
{
    for (job *j = jobs->jobs; j != NULL; j = j->next)
        if (j->run.number == number)
            return j;
    return NULL;
}

static void ask_to_stop(bm_jobs *jobs, job *j, bool requeue)
{
    if (j->kill_ns != 0)
        return;
    j->requeue = requeue;
    j->kill_ns = bm_now_ns() + (int64_t)jobs->options.stop_seconds * 1000000000;
    bm_child_hurry(&j->child);
    bm_child_signal(&j->child, SIGTERM);
    bm_child_signal(&j->child, SIGCONT);
    j->paused = false;
}

static void look_at_run(bm_jobs *jobs, const bm_run_row *row)
{
    bool queued = strcmp(row->state, "queued") == 0, stopping = strcmp(row->state, "stopping") == 0;
    bm_error err;
    job *j;

    if (jobs->only != NULL && strcmp(jobs->only, row->id) != 0)
        return;
    if (is_mine(jobs, row->number)) {
        if (stopping)
            ask_to_stop(jobs, mine(jobs, row->number), false);
        return;
    }
    if (queued && n_running(jobs) >= jobs->options.most_running)
        return;
    int rc = job_new(jobs, &j, row->id, &err);
    if (rc < 0) {
        if (rc != BM_BUSY && queued)
            bm_runs_ended(jobs->store, row->number, "failed", NULL, err.msg, "", NULL), changed(jobs);
        return;
    }
    if (strcmp(j->run.state, "queued") == 0)
        start_run(jobs, j);
    else if (strcmp(j->run.state, "running") == 0 || strcmp(j->run.state, "stopping") == 0)
        adopt_run(jobs, j);
    else
        job_free(j);
}

static void look(bm_jobs *jobs)
{
    bm_runs_filter filter = { .state = "open", .oldest_first = true };
    bm_run_row *rows;
    bm_error err;
    size_t n;

    jobs->looked_ns = bm_now_ns();
    if (bm_runs_list(jobs->store, &filter, &rows, &n, &err) < 0) {
        say(jobs, "jobs: %s", err.msg);
        return;
    }
    for (int queued = 0; queued < 2; queued++)       /* those that run count first */
        for (size_t i = 0; i < n; i++)
            if ((strcmp(rows[i].state, "queued") == 0) == (queued == 1))
                look_at_run(jobs, &rows[i]);
    bm_runs_free(rows, n);
}

/* ---- the end of a run ---- */

static void end_run(bm_jobs *jobs, job *j, const char *state, const char *error, const char *hint)
{
    bm_error err;

    if (bm_runs_ended(jobs->store, j->run.number, state, j->log.result, error, hint, &err) < 0)
        say(jobs, "%s: %s", j->run.id, err.msg);
    say(jobs, "%s '%s': %s%s%s", j->run.id, j->run.name, strcmp(state, "queued") == 0 ? "goes on later" : state,
        error == NULL ? "" : ": ", error == NULL ? "" : error);
}

static void end_done(bm_jobs *jobs, job *j)
{
    bm_run_row *run = &j->run;
    bm_error err = { .code = 0 };
    int rc = 0;

    if (jobs->options.finished != NULL) {
        char *old = run->result;
        run->result = j->log.result;
        rc = jobs->options.finished(jobs->options.arg, run, j->dir, &err);
        j->log.result = run->result;
        run->result = old;
    }
    if (rc < 0)
        end_run(jobs, j, "failed", err.msg, err.hint);
    else
        end_run(jobs, j, "succeeded", NULL, NULL);
}

/* It died without a last word. */
static void end_dead(bm_jobs *jobs, job *j, const bm_child_end *end)
{
    int *count = deaths_of(jobs, j->run.number);
    char why[200];

    if (j->flooded)
        snprintf(why, sizeof why, "its process wrote more events than a job may, and was killed at step %lld",
                 (long long)j->run.step);
    else if (end->signal != 0)
        snprintf(why, sizeof why, "its process was killed by signal %d (%s) at step %lld", end->signal, strsignal(end->signal),
                 (long long)j->run.step);
    else if (end->known)
        snprintf(why, sizeof why, "its process ended with status %d at step %lld, without a word", end->status,
                 (long long)j->run.step);
    else
        snprintf(why, sizeof why, "its process is gone, at step %lld", (long long)j->run.step);
    *count = j->log.checkpointed ? 1 : *count + 1;
    if (!j->flooded && *count < DEATHS) {
        bm_job_log_add(jobs->store, &j->run, "warn", why, NULL);
        end_run(jobs, j, "queued", NULL, NULL);
    } else {
        bm_buf hint = { 0 };
        bm_buf_printf(&hint, "see %s/log.txt; baimo tune resume %s", j->dir, j->run.id);
        end_run(jobs, j, "failed", why, hint.failed ? "" : hint.data);
        bm_buf_done(&hint);
    }
}

static void conclude(bm_jobs *jobs, job *j, const bm_child_end *end)
{
    bm_run_row now = { 0 };
    bool stop_wanted = j->kill_ns != 0 && !j->requeue;

    if (bm_runs_find(jobs->store, j->run.id, &now, NULL) == 0 && strcmp(now.state, "stopping") == 0)
        stop_wanted = true;
    bm_run_row_done(&now);
    if (j->log.said == BM_JOB_DONE)
        end_done(jobs, j);
    else if (j->log.said == BM_JOB_ERROR)
        end_run(jobs, j, "failed", j->log.error, j->log.hint);
    else if (stop_wanted || (j->log.said == BM_JOB_STOPPED && j->kill_ns == 0))
        end_run(jobs, j, "stopped", NULL, NULL);
    else if (j->kill_ns != 0)
        end_run(jobs, j, "queued", NULL, NULL);
    else
        end_dead(jobs, j, end);
    changed(jobs);
}

/* ---- running children ---- */

static void trim_log(const job *j)
{
    bm_buf path = { 0 };
    struct stat st;

    bm_buf_printf(&path, "%s/log.txt", j->dir);
    if (!path.failed && lstat(path.data, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > LOG_BYTES && truncate(path.data, 0) < 0)
        (void)0;                                     /* it only grows */
    bm_buf_done(&path);
}

static void read_log(bm_jobs *jobs, job *j)
{
    bm_error err;
    int rc;

    if (j->log.fd < 0)
        bm_job_log_open(&j->log, j->dir, &j->run, jobs->options.events_bytes);
    rc = bm_job_log_read(&j->log, jobs->store, &j->run, &err);
    if (rc == BM_LIMIT && !j->flooded) {
        j->flooded = true;
        bm_child_signal(&j->child, SIGKILL);
    } else if (rc < 0 && rc != BM_LIMIT) {
        say(jobs, "%s: %s", j->run.id, err.msg);
    } else if (rc > 0) {
        changed(jobs);
    }
}

/* While requests are computed the child stands still; when they never end, it gets a second in twenty, at idle priority. */
static void pause_run(bm_jobs *jobs, job *j)
{
    bool busy = jobs->options.busy != NULL && j->kill_ns == 0 && jobs->options.busy(jobs->options.arg);
    int64_t now = bm_now_ns();

    j->busy_ns = !busy ? 0 : j->busy_ns == 0 ? now : j->busy_ns;
    bool pause = busy && (now - j->busy_ns) / 1000000000 % SLICE_SECONDS != SLICE_SECONDS - 1;
    if (pause != j->paused && bm_child_signal(&j->child, pause ? SIGSTOP : SIGCONT))
        j->paused = pause;
}

/* false: it has ended and was concluded. */
static bool tend(bm_jobs *jobs, job *j, bool tidy)
{
    bm_child_end end;
    bool ended = bm_child_poll(&j->child, j->dir, &end) == 1;    /* before reading: then what is read is all */

    read_log(jobs, j);
    if (ended) {
        conclude(jobs, j, &end);
        return false;
    }
    pause_run(jobs, j);
    if (tidy)
        trim_log(j);
    if (j->kill_ns != 0 && bm_now_ns() > j->kill_ns)
        bm_child_signal(&j->child, SIGKILL);
    return true;
}

static void turn(bm_jobs *jobs, bool look_now)
{
    if (look_now)
        look(jobs);
    for (job **at = &jobs->jobs, *j; (j = *at) != NULL;) {
        if (tend(jobs, j, look_now)) {
            at = &j->next;
        } else {
            *at = j->next;
            job_free(j);
            jobs->looked_ns = 0;                     /* the next in the queue may start */
        }
    }
}

static void stop_all(bm_jobs *jobs)
{
    for (job *j = jobs->jobs; j != NULL; j = j->next)
        ask_to_stop(jobs, j, true);
    while (jobs->jobs != NULL) {
        nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
        turn(jobs, false);
    }
}

/* true: woken, or it is time to look at the store. */
static bool wait_turn(bm_jobs *jobs)
{
    struct timespec until;
    int64_t ms = jobs->jobs == NULL ? LOOK_MS : jobs->options.busy != NULL ? TURN_BUSY_MS : TURN_MS;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms % 1000 * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    if (jobs->looked_ns == 0)
        return true;
    if (!jobs->woken && !jobs->stopping)
        pthread_cond_timedwait(&jobs->wake, &jobs->lock, &until);
    bool woken = jobs->woken;
    jobs->woken = false;
    return woken || bm_now_ns() - jobs->looked_ns >= (int64_t)LOOK_MS * 1000000;
}

static void *run_thread(void *arg)
{
    bm_jobs *jobs = arg;

    pthread_mutex_lock(&jobs->lock);
    while (!jobs->stopping) {
        bool look_now = wait_turn(jobs);
        if (jobs->stopping)
            break;
        pthread_mutex_unlock(&jobs->lock);
        turn(jobs, look_now);
        pthread_mutex_lock(&jobs->lock);
    }
    pthread_mutex_unlock(&jobs->lock);
    stop_all(jobs);
    return NULL;
}

/* ---- life ---- */

static int start_thread(bm_jobs *jobs, bm_error *err)
{
    pthread_condattr_t attr;
    sigset_t all, old;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&jobs->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&jobs->lock, NULL);
    sigfillset(&all);                                /* signals are for others' threads */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&jobs->thread, NULL, run_thread, jobs);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    jobs->started = rc == 0;
    return rc == 0 ? 0 : bm_fail(err, BM_NOMEM, "cannot start a thread for jobs: %s", strerror(rc));
}

static char *copy_of(const char *s, bool *failed)
{
    char *copy = s == NULL ? NULL : bm_strdup(s);

    *failed |= s != NULL && copy == NULL;
    return copy;
}

int bm_jobs_new(bm_jobs **out, bm_store *store, const bm_jobs_options *options, bm_error *err)
{
    bm_jobs *jobs = bm_zalloc(sizeof *jobs);
    bool failed = jobs == NULL;
    int rc;

    *out = NULL;
    if (!failed) {
        jobs->store = store;
        jobs->options = *options;
        jobs->program = copy_of(options->program, &failed);
        jobs->only = copy_of(options->only, &failed);
        if (jobs->options.most_running == 0)
            jobs->options.most_running = 1;
        if (jobs->options.stop_seconds == 0)
            jobs->options.stop_seconds = STOP_SECONDS;
        if (jobs->options.events_bytes == 0)
            jobs->options.events_bytes = EVENTS_BYTES;
    }
    rc = failed ? bm_fail(err, BM_NOMEM, "no memory for jobs") : start_thread(jobs, err);
    if (rc < 0) {
        bm_jobs_free(jobs);
        return rc;
    }
    *out = jobs;
    return 0;
}

void bm_jobs_free(bm_jobs *jobs)
{
    if (jobs == NULL)
        return;
    if (jobs->started) {
        pthread_mutex_lock(&jobs->lock);
        jobs->stopping = true;
        pthread_cond_signal(&jobs->wake);
        pthread_mutex_unlock(&jobs->lock);
        pthread_join(jobs->thread, NULL);
    }
    for (deaths *d = jobs->deaths, *next; d != NULL; d = next) {
        next = d->next;
        bm_free(d);
    }
    bm_free(jobs->program);
    bm_free(jobs->only);
    bm_free(jobs);
}

void bm_jobs_wake(bm_jobs *jobs)
{
    if (jobs == NULL)
        return;
    pthread_mutex_lock(&jobs->lock);
    jobs->woken = true;
    pthread_cond_signal(&jobs->wake);
    pthread_mutex_unlock(&jobs->lock);
}
