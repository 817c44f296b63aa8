/* gate.h - what must hold before a name moves: requirements on scores, of a candidate beside a baseline.
 *
 *     gsm8k.exact_match >= baseline - 0.01, safetybench_zh.acc >= 0.5
 *
 * A requirement is TASK.METRIC[,FILTER] OP SUM; OP is >= > <= < ==; a SUM adds and subtracts numbers, `baseline` (the same score of the
 * baseline) and NUMBER * baseline. Without a filter the task's only one that has the metric is meant. Requirements are separated by ';',
 * line ends, or a ',' that a new requirement follows; '#' begins a comment. "limit N", "num_fewshot N" and "apply_chat_template" in place
 * of one are settings of the evaluations. Pure: any thread. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

enum { BM_GATE_MOST = 64 };

typedef struct bm_requirement {
    char text[256];              /* as written */
    char task[128], metric[64], filter[64];      /* filter "": the only one */
    char op[3];
    double constant, of_baseline;        /* the SUM: constant + of_baseline * baseline */
    /* after bm_gate_judge */
    double have, need, baseline; /* NAN: not known */
    bool holds;
} bm_requirement;

typedef struct bm_gate {
    bm_requirement all[BM_GATE_MOST];
    size_t n;
    int64_t limit, num_fewshot;  /* 0; -1: the tasks' own */
    bool apply_chat_template, needs_baseline;
} bm_gate;

/* Adds to *gate what a text says; a zero gate with num_fewshot -1 is a valid start. Errors name the requirement and what was expected. */
int  bm_gate_parse(bm_gate *gate, const char *text, bm_error *err);
/* The score of a requirement in a run's results; BM_NOTFOUND names what is there. */
int  bm_gate_score(const json_t *results, const bm_requirement *r, double *out, bm_error *err);
/* Fill in have, need and holds. candidate and baseline give the results for a task (borrowed; baseline may give NULL). True: all hold. */
int  bm_gate_judge(bm_gate *gate, const json_t *(*candidate)(void *arg, const char *task), const json_t *(*baseline)(void *arg, const char *task),
                   void *arg, bool *holds, bm_error *err);
