/* job.h - `baimo job DIR`: the process of a job, one function per kind. Not for people: commands and servers start it. */
#pragma once
#include <stddef.h>
#include "base/buf.h"
#include "base/error.h"

int cmd_job(int argc, char **argv);

/* text is job.json's; reports on stdout, returns the exit code. */
int cli_job_tune(const char *dir, const char *text, size_t len);
int cli_job_eval(const char *dir, const char *text, size_t len);

/* A line of JSON on stdout, at once; takes the buffer. BM_IO when it cannot be written. */
int  cli_job_say(bm_buf *line, bm_error *err);
void cli_job_say_error(const bm_error *why);
/* level: "info" "warn" "error". line 0: not about a line of a file. */
void cli_job_say_message(const char *level, unsigned long long line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
