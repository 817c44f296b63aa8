/* known.h - Python functions of lm-eval's own tasks that this program has an equivalent of. A task file names them as
 * `!function module.name`, either by the full name of the installed package (lm_eval.tasks.ifeval.utils.process_results), or
 * relative to a Python file beside it: then that file's SHA-256 must be the one that the equivalent was checked against. Most are a few lines of string handling:
 * here they are Jinja templates over the document's fields. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

typedef enum bm_known_kind {
    BM_KNOWN_TEXT,                       /* doc_to_text, doc_to_target: document -> string, the template's output */
    BM_KNOWN_VALUE,                      /* doc_to_*: document -> what the template's output is as a Python literal */
    BM_KNOWN_DOCS,                       /* process_docs: the literal is a dict whose items are set in the document */
    BM_KNOWN_KEEP,                       /* process_docs: documents for which it is True stay */
    BM_KNOWN_RESULTS,                    /* process_results: scored by the rule `results` */
    BM_KNOWN_AGGREGATION                 /* aggregation: `aggregation` */
} bm_known_kind;

/* How a document's responses become metrics when a task has process_results (the scorer carries these out):
 * IFEVAL: bm_ifeval_check (eval/ifeval.h): prompt_level_{strict,loose}_acc 0/1, inst_level_{strict,loose}_acc lists of 0/1.
 * ROLLING: word_perplexity, byte_perplexity, bits_per_byte as usual (bm_sample.n_words and n_bytes are already the function's).
 * CROWS_PAIRS: likelihood_diff |l0 - l1|, pct_stereotype l0 > l1.
 * TRUTHFULQA_MC2: acc = sum of softmax(log-likelihoods) where doc.mc2_targets.labels is 1.
 * AGIEVAL: acc 1 when the best choice is in the target (a list), acc_norm likewise by length in characters. */
typedef enum bm_results_rule {
    BM_RESULTS_NONE, BM_RESULTS_IFEVAL, BM_RESULTS_ROLLING, BM_RESULTS_CROWS_PAIRS, BM_RESULTS_TRUTHFULQA_MC2, BM_RESULTS_AGIEVAL
} bm_results_rule;

/* FLAT_MEAN: the mean over all items of all documents' lists (ifeval's agg_inst_level_acc). */
typedef enum bm_known_aggregation { BM_AGG_NONE, BM_AGG_FLAT_MEAN } bm_known_aggregation;

typedef struct bm_known {
    const char *name;                    /* "lm_eval.tasks.hellaswag.utils.process_docs" */
    const char *sha256;                  /* hex, of the Python file in lm-eval 0.4.13 */
    bm_known_kind kind;
    bm_results_rule results;
    bm_known_aggregation aggregation;
    const char *template_text;           /* the function's body as a template of the tasks' Jinja environment, or NULL */
} bm_known;

/* The equivalent of `!function spec` in a YAML file of folder dir. NULL: there is none; why (at most 200 bytes) says it. */
const bm_known *bm_known_find(const char *dir, const char *spec, char why[200]);
/* All of them, for tests and documentation. */
const bm_known *bm_known_table(size_t *n);
