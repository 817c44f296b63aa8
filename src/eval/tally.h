/* tally.h - the record of a run's documents and the scores that come out of it.
 *
 * samples file: one JSON object a line, documents in order, the same bytes for the same task, data, model and settings:
 *   {"doc_id", "doc_hash" (sha256 of the document as JSON), "target", "context", "requests": [{"continuation","logprob","greedy"}, ...],
 *    "responses": [...], "n_tokens", "filters": {NAME: {"filtered", "metrics": {NAME: value}}}}
 * "context" is that of all requests; one that differs has its own. What failed: {"doc_id","doc_hash","error":{"code","message"}}.
 * Scores are made from these lines alone, so that a resumed run, and one that is only read, give the same ones.
 * One owner. */
#pragma once
#include "base/hash.h"
#include "eval/scorer.h"

/* Append the line (with its '\n') of a document: filters and metrics are applied here. What fails in them makes a line with an error. */
int bm_sample_line(bm_buf *out, const bm_task *task, const bm_scored *doc, bm_error *err);

typedef struct bm_tally bm_tally;
int  bm_tally_new(bm_tally **out, const bm_task *task, bm_error *err);       /* the task must outlive it */
void bm_tally_free(bm_tally *tally);
/* Take in a line. BM_FORMAT: it is none, or its doc_id is not the next one: nothing was taken in. */
int  bm_tally_add(bm_tally *tally, const char *line, size_t len, bm_error *err);
size_t bm_tally_count(const bm_tally *tally);                                /* lines */
size_t bm_tally_failed(const bm_tally *tally);                               /* of these, with an error */
/* The task's entry of results: {"name","alias","sample_len","acc,none","acc_stderr,none",...}; errors that cannot be stated: "N/A". */
int  bm_tally_results(json_t **out, const bm_tally *tally, int bootstrap_iterations, bm_error *err);

/* The results of a whole run as lm-eval writes them: results, groups, group_subtasks, configs, versions, n-shot, higher_is_better,
 * n-samples. tallies[i] is that of list->tasks[i]; n_documents[i] what the task has in all. */
int  bm_results_make(json_t **out, const bm_task_list *list, bm_tally *const *tallies, const size_t *n_documents,
                     int bootstrap_iterations, bm_error *err);
/* lm-eval's table: Tasks|Version|Filter|n-shot|Metric| |Value| |Stderr, then that of groups when there are any. */
int  bm_results_table(bm_buf *out, const json_t *results, bm_error *err);
