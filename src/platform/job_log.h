/* job_log.h - for jobs.c alone: what a job's process reports in events.jsonl, read line by line into the store.
 *
 * A line is a JSON object with "event":
 *     start       "step" (0, or that of the checkpoint it goes on from), "n_steps", "data": [{"path","sha256",...}]
 *     step, valid "step", "loss" and other numbers: stored as they stand, as metrics
 *     checkpoint  "step", "path"
 *     message     "level" ("info" "warn" "error"), "message"
 *     done        "result": {...}
 *     error       "message", "hint"
 *     stopped     "step"
 * Others are kept as messages. "step", "n_steps" and "tokens" of any of them say how far it is. Anything else is hostile output:
 * skipped, and told once. */
#pragma once
#include <stdbool.h>
#include "base/error.h"
#include "store/runs.h"

enum { BM_JOB_LINE_BYTES = 64 << 10 };

typedef enum bm_job_said { BM_JOB_NOTHING, BM_JOB_DONE, BM_JOB_ERROR, BM_JOB_STOPPED } bm_job_said;

typedef struct bm_job_log {
    int fd;                      /* -1: not there yet */
    int64_t most_bytes;          /* of the file */
    bool skipping, told_junk;
    bool checkpointed;           /* a checkpoint was reported since opening */
    bm_job_said said;            /* its last word */
    char *result, *error, *hint;
    bm_run_event *events;        /* read, not stored yet */
    size_t n_events;
    int64_t stored_at;           /* the row's events_at as the store has it */
} bm_job_log;

void bm_job_log_open(bm_job_log *log, const char *dir, const bm_run_row *row, int64_t most_bytes);
/* Store what is new since row->events_at, and move row along: 1 when there was something, 0 when not. BM_LIMIT when the child writes
 * more than it may. */
int  bm_job_log_read(bm_job_log *log, bm_store *store, bm_run_row *row, bm_error *err);
/* Store a message of our own. */
int  bm_job_log_add(bm_store *store, bm_run_row *row, const char *level, const char *message, bm_error *err);
void bm_job_log_done(bm_job_log *log);
