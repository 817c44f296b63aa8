/* runs.h - tables run and run_event: every tuning and every evaluation, from the moment it was asked for. A run's row says what
 * went in by hash, which settings, seed, version and machine, and what came out; its events are what its process reported.
 *
 *     queued -> running -> succeeded | failed | queued (its process ended; it goes on from its checkpoint)
 *     queued, running -> stopping -> stopped -> queued (resume) */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "store/store.h"

typedef struct bm_run_row {
    int64_t number;              /* rises with each run */
    char id[40];                 /* "ftjob-...", "eval-..." */
    char kind[8];                /* "tune" "eval" */
    char name[128];              /* of the adapter to be, or of the evaluation */
    char state[16];
    char model[128], model_sha256[65];
    char adapter[128], adapter_sha256[65];       /* what it starts from or evaluates, or "" */
    char version[32], machine[160];
    int64_t seed, key_id, created_ms, started_ms, finished_ms;
    int64_t step, n_steps, tokens;
    int64_t pid, pid_start;      /* of its process while there is one; start time in ticks since boot (proc(5), field 22) */
    int64_t attempts, events_at; /* processes started; bytes of its event file that are stored */
    char *data, *settings, *result;      /* JSON: array of {"path","sha256","file"}, object, object or "" */
    char *error, *hint;          /* "" when there is none */
} bm_run_row;
void bm_run_row_done(bm_run_row *row);           /* frees the strings; a zero row is fine */
void bm_runs_free(bm_run_row *rows, size_t n);

/* Insert in state queued; row->number is set. Strings that are NULL become empty JSON or "". */
int bm_runs_insert(bm_store *store, bm_run_row *row, bm_error *err);
/* By exact id: *out is the caller's to give to bm_run_row_done. BM_NOTFOUND. */
int bm_runs_find(bm_store *store, const char *id, bm_run_row *out, bm_error *err);

typedef struct bm_runs_filter {
    const char *kind;            /* NULL: any */
    const char *state;           /* NULL: any; "open": all that have not ended: queued, running, stopping */
    const char *name;            /* NULL: any */
    const char *after;           /* id: only what is further down the list */
    int64_t key_id;              /* only runs of this key; 0: all */
    size_t most;                 /* 0: all */
    bool oldest_first;           /* else the latest first */
} bm_runs_filter;
/* *out is the caller's to give to bm_runs_free. BM_NOTFOUND when `after` is no run. */
int bm_runs_list(bm_store *store, const bm_runs_filter *filter, bm_run_row **out, size_t *n, bm_error *err);

/* Change the state when it is `from` ("queued,running": any of these): 1, or 0 when it was another. */
int bm_runs_change(bm_store *store, int64_t number, const char *from, const char *to, bm_error *err);
/* Take a waiting run to work on it: state running, one more attempt. 1, or 0 when it does not wait any more. */
int bm_runs_claim(bm_store *store, int64_t number, bm_error *err);
/* Its process, as the record shows it. */
int bm_runs_process(bm_store *store, int64_t number, int64_t pid, int64_t pid_start, bm_error *err);
/* What was learned of the inputs: data hashes (JSON as in the row), the adapter's hash. NULL leaves as it is. */
int bm_runs_inputs(bm_store *store, int64_t number, const char *data, const char *adapter_sha256, bm_error *err);
/* The end: state is succeeded, failed, stopped, or queued (to go on later). NULL strings are "". */
int bm_runs_ended(bm_store *store, int64_t number, const char *state, const char *result, const char *error, const char *hint,
                  bm_error *err);
/* The row and its events. BM_NOTFOUND; BM_BUSY while it is queued or running. */
int bm_runs_delete(bm_store *store, const char *id, bm_error *err);

typedef struct bm_run_event {
    int64_t id, at_ms, step;
    char level[8];               /* "info" "warn" "error" */
    char type[16];               /* "message" "metrics" "checkpoint" */
    char *message, *data;        /* data: a JSON object or "" */
} bm_run_event;
void bm_run_event_done(bm_run_event *event);
void bm_run_events_free(bm_run_event *events, size_t n);

/* Store events and how far the run is, in one transaction. Of row: number, step, n_steps, tokens, events_at. */
int bm_run_events_add(bm_store *store, const bm_run_row *row, const bm_run_event *events, size_t n, bm_error *err);

/* The run went back to a checkpoint: its metrics and checkpoints after that step are of a path not taken. */
int bm_run_events_cut(bm_store *store, int64_t run, int64_t step, bm_error *err);

typedef struct bm_run_events_filter {
    int64_t run;                 /* number */
    const char *type;            /* NULL: any */
    int64_t after;               /* event id: only what is further down the list; 0: from its head */
    size_t most;                 /* 0: all */
    bool oldest_first;
} bm_run_events_filter;
/* *out is the caller's to give to bm_run_events_free. */
int bm_run_events_list(bm_store *store, const bm_run_events_filter *filter, bm_run_event **out, size_t *n, bm_error *err);
