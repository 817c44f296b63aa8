/* metrics.h - one document's score: from what the model answered to the values of the task's metrics, as lm-eval's process_results gives them.
 * Values are JSON, so that a record of a run holds all that its scores come from: a number; [a, b] where the score needs two
 * (log-likelihood and words, gold and predicted class); a list where a document has several. Pure: any thread. */
#pragma once
#include "eval/prompt.h"
#include "eval/stats.h"

/* What the model answered to one request. */
typedef struct bm_answer {
    double logprob;              /* sum over the continuation's tokens, natural log */
    bool greedy;                 /* each of them is the most likely one */
    json_t *responses;           /* GENERATE: array of strings, one per repeat; else NULL */
} bm_answer;

/* *out: object of metric name -> value, for one filter. filtered: what the filter gave (GENERATE), borrowed; NULL otherwise. */
int bm_metrics_of(json_t **out, const bm_task *task, const bm_sample *sample, const bm_answer *answers, const json_t *filtered,
                  bm_error *err);

/* The score of a metric over all documents: values[i] as above (NULL: that document has none). *error: its standard error, NAN when
 * there is none to state; *n: the values counted. BM_INVALID: an aggregation that is not known here. */
int bm_metrics_total(const bm_metric *metric, json_t *const *values, size_t n_values, int bootstrap_iterations, double *score,
                     double *error, size_t *n, bm_error *err);
