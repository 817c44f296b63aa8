/* progress.h - long work on stderr: a bar on a terminal, one line per step elsewhere. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct cli_progress {
    const char *what;            /* "hashing smollm2.gguf" */
    bool quiet;                  /* set it to print nothing */
    bool terminal, drawn;
    uint64_t total;
    int64_t started_ns, drawn_ns;
} cli_progress;

void cli_progress_start(cli_progress *p, const char *what);
/* The shapes that hashing (0: go on) and loading (true: go on) call; arg is the cli_progress. */
int  cli_progress_hash(void *arg, uint64_t done, uint64_t total);
bool cli_progress_load(void *arg, uint64_t done, uint64_t total);
/* Take the bar away, or print the step's line when there was work. */
void cli_progress_done(cli_progress *p);
