/* loss.h - what is minimised, from the negative log-likelihoods of tokens: its value, and the weight of each token's in its gradient.
 *
 * Supervised: the mean over the target tokens of a whole step. DPO (Rafailov et al. 2023, equation 7), per pair:
 *     z = beta ((log p(c) - log p_ref(c)) - (log p(r) - log p_ref(r)))        loss = -log sigmoid(z)
 * averaged over the pairs of a step; z is the margin that is reported (rewards/margins of trl). Plain functions: any thread. */
#pragma once
#include <stdbool.h>
#include "model/pass.h"

/* Sums of -log p over the targets of the two answers. */
typedef struct bm_pair_nll { double chosen, rejected; } bm_pair_nll;

typedef struct bm_dpo {
    double loss, margin;
    double slope;                /* d loss / d nll of a chosen token; of a rejected one the opposite */
} bm_dpo;
bm_dpo bm_dpo_of(double beta, bm_pair_nll policy, bm_pair_nll reference);

/* Sum of nll over the targets of segment s. */
double bm_segment_nll(const bm_train_row *row, int s, const double *nll);
/* coef[t] = value for the tokens of segment s. */
void bm_segment_coef(const bm_train_row *row, int s, float value, float *coef);
