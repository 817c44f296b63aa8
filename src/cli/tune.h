/* tune.h - what the parts of `baimo tune` share: following a run, showing it, drawing its curve. */
#pragma once
#include <stdbool.h>
#include <stdio.h>
#include "base/buf.h"
#include "platform/jobs.h"
#include "platform/tune.h"

typedef struct cli_follow {
    bool json;                   /* metrics as JSON lines on stdout instead of words */
    bool from_start;             /* print what was reported before, too */
    bool silent;                 /* no progress: only warnings, and how it ended */
} cli_follow;

/* Look after runs in this process, with whatever a finished one needs. only: an id, or NULL. */
int  cli_jobs_open(bm_jobs **out, bm_store *store, const char *only, bm_error *err);
/* Print a run's progress until it has ended: a bar on a terminal, a line per step elsewhere. jobs: this process looks after it, so
 * that SIGINT stops the run; NULL: another does, and SIGINT only leaves. Returns the exit code. */
int  cli_follow_run(bm_store *store, bm_jobs *jobs, const bm_run_row *run, const cli_follow *options);
/* Whether a server of this home runs and looks after jobs. */
bool cli_server_runs(const char *home);

void cli_duration_text(char out[24], double seconds);            /* "3.2 s" "1m20s" "2h05m" */
/* The curve as `height` lines of text, or as a whole SVG document. */
void cli_curve_text(bm_buf *out, const bm_tune_point *points, size_t n, int width, int height);
void cli_curve_svg(bm_buf *out, const bm_tune_point *points, size_t n, const char *title);

/* Steps, time and memory of a tuning; the exit code. */
int  cli_tune_dry(bm_store *store, const bm_tune_request *request, bool as_json);

int cmd_tune_show(int argc, char **argv);
int cmd_tune_export(int argc, char **argv);
