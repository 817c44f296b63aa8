/* stats.h - what becomes of the values of all documents: a score, its standard error, and the difference of two runs.
 * Names and formulas are those of lm-evaluation-harness (api/metrics.py); sums run in the order of the documents, so that a
 * score has the same bits however the work was cut. Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* How values become one score. */
typedef enum bm_score_kind {
    BM_SCORE_MEAN, BM_SCORE_NANMEAN, BM_SCORE_MEDIAN,      /* of a; median: the upper one of an even count */
    BM_SCORE_PERPLEXITY,                               /* exp(-mean a) */
    BM_SCORE_WEIGHTED_PERPLEXITY,                      /* exp(-sum a / sum b): a log-likelihood, b words or bytes */
    BM_SCORE_BITS_PER_BYTE,                            /* -sum a / sum b / ln 2 */
    BM_SCORE_BRIER,                                    /* mean a: a is the document's sum of squares */
    BM_SCORE_F1, BM_SCORE_MCC,                           /* of classes: a gold, b predicted; f1 of class 1 */
    BM_SCORE_BYPASS, BM_SCORE_KINDS
} bm_score_kind;
/* -1: no such name. */
int bm_score_kind_find(const char *name);
const char *bm_score_kind_name(bm_score_kind how);

typedef struct bm_value { double a, b; } bm_value;

/* NAN for n 0. */
double bm_score(bm_score_kind how, const bm_value *values, size_t n);
/* The standard error: analytic for the mean (sample deviation / sqrt n), by `iterations` resamples for the bootstrapped ones
 * (median, nanmean, perplexity, f1, mcc; the same draws as Python's random.Random(i).choices in chunks of 1,000), which needs memory for n values: -1
 * when there is none. 0 and *out; NAN where there is no error to state (n < 2, or an aggregation without one). */
int bm_score_error(bm_score_kind how, const bm_value *values, size_t n, int iterations, double *out);

/* Scores and errors of subtasks as one: weighted by their documents, or each alike. */
double bm_group_mean(const double *scores, const size_t *sizes, size_t n, bool weight_by_size);
double bm_group_stderr(const double *stderrs, const size_t *sizes, size_t n, bool weight_by_size);

/* Two runs on the same documents: d = a - b per document. */
typedef struct bm_paired {
    size_t n, n_better, n_worse;         /* documents; where a is larger, smaller */
    double mean, std_error, low, high;   /* of d; the interval of 95 % (Student's t with n - 1 degrees of freedom) */
    double p;                            /* two-sided, of mean = 0; 1 when all d are 0 */
} bm_paired;
bm_paired bm_paired_compare(const double *a, const double *b, size_t n);

/* P(|T| > t) for Student's t with df degrees of freedom, and the t whose two-sided probability is p. */
double bm_student_p(double t, double df);
double bm_student_t(double p, double df);
