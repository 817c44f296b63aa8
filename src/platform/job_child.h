/* job_child.h - for jobs.c alone: the process of a job. Spawning, its limits, whether it lives, signals. One owner. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"

typedef struct bm_child {
    pid_t pid;                   /* 0: none */
    int64_t start;               /* its start time, so that a pid that was given to another process is not signalled */
    bool ours;                   /* to wait for; else adopted */
} bm_child;

typedef struct bm_child_end {
    bool known;                  /* false: adopted, so nobody told us how it ended */
    int status, signal;          /* exit status, or the signal that killed it (then status is -1) */
} bm_child_end;

typedef struct bm_child_options {
    const char *program;         /* NULL: this one */
    int64_t memory_bytes;        /* budget; 0: none */
    bool eager;                  /* ordinary priority, not idle */
} bm_child_options;

/* Start the program with "job DIR" in `dir`; events.jsonl, log.txt, alive and pid there are made when missing. */
int  bm_child_spawn(bm_child *out, const bm_child_options *options, const char *dir, bm_error *err);
/* Idle priority for all of its threads, and for those that they will start. What the system refuses is left as it is. */
void bm_child_idle(const bm_child *child);
/* 1 and *out when the child of `dir` lives, 0 when there is none. out->pid is 0 when it lives and nobody knows its pid. */
int  bm_child_find(bm_child *out, const char *dir, bm_error *err);
/* 1 and *end when it has ended, else 0. Reaps it when it is ours. */
int  bm_child_poll(bm_child *child, const char *dir, bm_child_end *end);
/* To its process group; false when it is gone. */
bool bm_child_signal(const bm_child *child, int signal);
/* No longer at idle priority: what is to end writes its checkpoint also on a machine that is busy. Where the system forbids it, nothing. */
void bm_child_hurry(const bm_child *child);
