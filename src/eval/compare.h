/* compare.h - two runs side by side on the documents that both have: paired differences and the samples that changed. */
#pragma once
#include "base/buf.h"
#include "base/error.h"
#include "eval/stats.h"

typedef struct bm_changed { long doc_id; double a, b; } bm_changed;

typedef struct bm_compared {     /* one metric under one filter */
    char metric[64], filter[64];
    double mean_a, mean_b;
    bm_paired paired;            /* of a - b */
    bm_changed *changed;         /* documents whose value differs */
    size_t n_changed;
} bm_compared;

typedef struct bm_comparison {
    bm_compared *metrics;
    size_t n_metrics, n_documents, n_unlike;     /* n_unlike: documents whose content or number differs, left out */
} bm_comparison;

/* Compare two samples files (eval/tally.h) of one task. Metrics whose values are no single number are left out. */
int  bm_compare_samples(bm_comparison *out, const char *path_a, const char *path_b, bm_error *err);
void bm_comparison_done(bm_comparison *c);
