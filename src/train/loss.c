/* loss.c - see loss.h. */
#include "train/loss.h"

#include <math.h>

bm_dpo bm_dpo_of(double beta, bm_pair_nll policy, bm_pair_nll reference)
{
    double z = beta * ((reference.chosen - policy.chosen) - (reference.rejected - policy.rejected));

    /* log(1 + e^-z) and its slope, each from the side that does not overflow */
    return (bm_dpo){ .loss = z > 0 ? log1p(exp(-z)) : log1p(exp(z)) - z, .margin = z,
                     .slope = beta * (z > 0 ? exp(-z) / (1 + exp(-z)) : 1 / (1 + exp(z))) };
}

static int segment_end(const bm_train_row *row, int s) { return s + 1 < row->n_segments ? row->starts[s + 1] : row->n_tokens; }

double bm_segment_nll(const bm_train_row *row, int s, const double *nll)
{
    double sum = 0;

    for (int t = row->starts[s]; t < segment_end(row, s); t++)
        sum += row->target[t] ? nll[t] : 0;
    return sum;
}

void bm_segment_coef(const bm_train_row *row, int s, float value, float *coef)
{
    for (int t = row->starts[s]; t < segment_end(row, s); t++)
        coef[t] = value;
}
