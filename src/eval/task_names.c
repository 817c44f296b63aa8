/* task_names.c - the names of metrics, aggregations, filters and output types, with lm-eval's defaults. */
#include <string.h>

#include "eval/task_internal.h"

static const bm_metric_kind METRICS[] = {
    {"acc", "mean", true}, {"acc_norm", "mean", true}, {"acc_bytes", "mean", true}, {"acc_mutual_info", "mean", true},
    {"exact_match", "mean", true}, {"f1", "f1", true}, {"mcc", "matthews_corrcoef", true}, {"brier_score", "brier_score", false},
    {"perplexity", "perplexity", false}, {"word_perplexity", "weighted_perplexity", false},
    {"byte_perplexity", "weighted_perplexity", false}, {"bits_per_byte", "bits_per_byte", false}, {"likelihood", "mean", true},
    {"bypass", "bypass", true}, {NULL, NULL, false},
};

static const char *const AGGREGATIONS[] = {"mean", "nanmean", "median", "perplexity", "weighted_perplexity", "bits_per_byte", "f1",
                                           "matthews_corrcoef", "brier_score", "bypass", NULL};
static const char *const FILTERS[] = {"regex", "regex_pos", "remove_whitespace", "multi_choice_regex", "take_first", "take_first_k",
                                      "majority_vote", "lowercase", "uppercase", "map", "format_span", NULL};

static bool one_of(const char *name, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

const bm_metric_kind *bm_metric_kind_find(const char *name)
{
    for (const bm_metric_kind *m = METRICS; m->name != NULL; m++)
        if (strcmp(m->name, name) == 0)
            return m;
    return NULL;
}

bool bm_metric_known(const char *name)
{
    return bm_metric_kind_find(name) != NULL;
}

bool bm_aggregation_known(const char *name)
{
    return one_of(name, AGGREGATIONS);
}

bool bm_filter_name_known(const char *name)
{
    return one_of(name, FILTERS);
}

const char *const *bm_filter_known(void)
{
    return FILTERS;
}

const char *bm_task_output_name(bm_task_output output)
{
    static const char *const names[] = {"multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"};

    return names[output];
}
