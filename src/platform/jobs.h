/* jobs.h - long work (tuning, evaluation) as child processes of this program: a queue in the store, a directory per run, and a
 * thread that looks after those that run.
 *
 * home/jobs/ID/ holds
 *     job.json        what to do, written once by who asked (train/job.h, eval/job.h say how)
 *     events.jsonl    what the child reports, one JSON object a line; its stdout, so that it outlives this process
 *     log.txt         its stderr; emptied when it grows over 16 MiB
 *     pid             "PID STARTTIME" of the child
 *     alive           locked (flock) by the child as long as it lives, through a descriptor that it inherits
 *     lock            locked by the process that looks after it: one at a time, a server or a command in the foreground
 *     ...             what the child itself keeps: checkpoints, the adapter, samples
 *
 * A child is spawned from the program itself ("baimo job DIR"), under SCHED_IDLE unless the options say eager, with oom_score_adj
 * 1000, no core dump, a budget of memory (RLIMIT_DATA), and in a process group of its own; once asked to end, at the usual priority.
 * It never opens the database. Whoever looks after it stores its events and draws conclusions when it has ended:
 *     "done"            succeeded, once `finished` has put its result on the shelf
 *     "error"           failed, with its message
 *     after a stop      stopped (its checkpoint stays: resume)
 *     else              it was killed or crashed: tried again from its checkpoint; failed after 3 deaths without a new checkpoint
 * When the one who looks after it dies, the child goes on; the next server (or command) adopts it, or goes on from its checkpoint.
 *
 * What a child writes is not trusted: a line over 64 KiB or one that is not an object is skipped, a child that writes more than
 * 256 MiB of events is killed. Any thread may call all of these. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "base/buf.h"
#include "base/error.h"
#include "store/runs.h"
#include "store/store.h"

typedef struct bm_jobs bm_jobs;

typedef struct bm_jobs_options {
    const char *program;         /* NULL: this one */
    const char *only;            /* id of the one run to look after; NULL: all of the store's */
    int most_running;            /* at a time; 0: 1 */
    int stop_seconds;            /* from SIGTERM to SIGKILL; 0: 60 */
    int64_t events_bytes;        /* that a child may report; 0: 256 MiB */
    /* A run's child is done: put what it made on the shelf. run->result is what it said; another string may take its place (bm_free
     * the old one). From the jobs' thread; a failure fails the run. May be NULL. */
    int (*finished)(void *arg, bm_run_row *run, const char *dir, bm_error *err);
    bool eager;                  /* children keep the ordinary priority: nobody is served beside them. A server that adopts one lowers it */
    /* Whether requests are being computed: children are stopped (SIGSTOP) meanwhile. Cheap, from the jobs' thread. May be NULL. */
    bool (*busy)(void *arg);
    void (*changed)(void *arg);  /* something new is in the store; from the jobs' thread. May be NULL */
    void (*log)(void *arg, const char *line);
    void *arg;
} bm_jobs_options;

/* Start to look after the store's runs: adopts children that live, goes on with those that died. Options are copied, store
 * must outlive the jobs. */
int  bm_jobs_new(bm_jobs **out, bm_store *store, const bm_jobs_options *options, bm_error *err);
/* Children are asked to write a checkpoint and end; their runs are queued again, for the next start. NULL is fine. */
void bm_jobs_free(bm_jobs *jobs);
/* A run was queued, or asked to stop: look at once instead of within a second. NULL is fine. */
void bm_jobs_wake(bm_jobs *jobs);

/* Make a run's directory with its job.json and its row, in state queued. Of row: kind, name, model, model_sha256, adapter, data,
 * settings, seed, key_id are the caller's; id, times, version, machine are filled in. On failure nothing is left. */
int bm_job_create(bm_store *store, bm_run_row *row, const char *job_json, size_t len_bytes, bm_error *err);
/* Ask a run to stop; it does within stop_seconds. Ended already: nothing changes, and 0. BM_NOTFOUND. */
int bm_job_stop(bm_store *store, const char *id, bm_error *err);
/* Queue a stopped or failed run again: it goes on from its checkpoint. BM_EXISTS when it succeeded or has not ended. */
int bm_job_resume(bm_store *store, const char *id, bm_error *err);
/* Take an ended run out of the records, and its directory with it. BM_BUSY while it has not ended. */
int bm_job_remove(bm_store *store, const char *id, bm_error *err);
/* Run a job without a record, to its end, in a directory that is taken away after: for dry runs. tell gets each event. Non-zero from
 * tell: the child is killed, BM_CANCELED. The child's own error comes as its last event, not as a code. */
int bm_job_try(bm_store *store, const char *program, const char *job_json, size_t len_bytes,
               int (*tell)(void *arg, const json_t *event), void *arg, bm_error *err);
/* home/jobs/ID into *out, or BM_INVALID when id is no id. */
int bm_job_dir(bm_buf *out, const char *home, const char *id, bm_error *err);
/* By exact id, else the latest of that name, else the only id that begins so. kind NULL: any. *out: bm_run_row_done. */
int bm_job_find(bm_store *store, const char *kind, const char *id_or_name, bm_run_row *out, bm_error *err);
