/* trainer_step.c - the losses of a batch and their gradients, sequence by sequence. */
#include "train/trainer_own.h"

#include <math.h>

static bm_pair_nll *ref_of(bm_trainer *t, const bm_mix_segment *segment)
{
    return &t->refs[t->refs_begin[segment->set] + segment->row];
}

/* The reference of each pair is the base alone: one more forward, the first time that the pair is seen. */
static int fill_refs(bm_trainer *t, const bm_train_row *row, const bm_mix_segment *segments, unsigned flags, bm_error *err)
{
    bool known = true;
    int rc;

    for (int s = 0; s + 1 < row->n_segments; s += 2)
        known = known && !isnan(ref_of(t, &segments[s])->chosen);
    if (known)
        return 0;
    if ((rc = bm_pass_forward(t->pass, t->team, NULL, row, flags, t->nll, err)) < 0)
        return rc;
    for (int s = 0; s + 1 < row->n_segments; s += 2)
        if (isnan(ref_of(t, &segments[s])->chosen))
            *ref_of(t, &segments[s]) = (bm_pair_nll){ bm_segment_nll(row, s, t->nll), bm_segment_nll(row, s + 1, t->nll) };
    return 0;
}

/* weight: what a pair counts in the mean. */
static void sum_pairs(bm_trainer *t, const bm_train_row *row, const bm_mix_segment *segments, double weight, bm_train_sums *sums)
{
    for (int s = 0; s + 1 < row->n_segments; s += 2) {
        bm_pair_nll policy = { bm_segment_nll(row, s, t->nll), bm_segment_nll(row, s + 1, t->nll) };
        bm_dpo d = bm_dpo_of(t->o.beta, policy, *ref_of(t, &segments[s]));
        sums->loss += weight * d.loss;
        sums->margin += d.margin;
        sums->n_right += d.margin > 0;
        sums->n_pairs++;
        bm_segment_coef(row, s, (float)(weight * d.slope), t->coef);
        bm_segment_coef(row, s + 1, (float)(-weight * d.slope), t->coef);
    }
}

static void sum_targets(bm_trainer *t, const bm_train_row *row, double weight, bm_train_sums *sums)
{
    double sum = 0;

    for (int s = 0; s < row->n_segments; s++) {
        sum += bm_segment_nll(row, s, t->nll);
        bm_segment_coef(row, s, (float)weight, t->coef);
    }
    sums->loss += weight * sum;
}

int bm_trainer_batch(bm_trainer *t, const bm_batch *batch, bool learn, bm_train_sums *sums, bm_error *err)
{
    int64_t n = t->dpo ? batch->n_examples : batch->n_targets;
    double weight = learn ? n > 0 ? 1 / (double)n : 0 : 1;
    /* What is held back is judged as it will be served. The loss of a pair is a small difference of large numbers. */
    unsigned fine = !learn ? 0 : t->dpo ? BM_PASS_FINE | BM_PASS_FINEST : BM_PASS_FINE;
    int rc;

    for (int i = 0; i < batch->n_rows; i++) {
        const bm_train_row *row = &batch->rows[i];
        if (t->dpo && (rc = fill_refs(t, row, batch->segments[i], fine, err)) < 0)
            return rc;
        if ((rc = bm_pass_forward(t->pass, t->team, t->adapter, row, learn ? fine | BM_PASS_KEEP : fine, t->nll, err)) < 0)
            return rc;
        if (t->dpo)
            sum_pairs(t, row, batch->segments[i], weight, sums);
        else
            sum_targets(t, row, weight, sums);
        if (learn && (rc = bm_pass_backward(t->pass, t->team, t->adapter, t->coef, err)) < 0)
            return rc;
    }
    sums->tokens += batch->n_tokens;
    sums->targets += batch->n_targets;
    return 0;
}

int bm_trainer_validate(bm_trainer *t, const atomic_bool *stop, bm_train_sums *sums, bm_error *err)
{
    bm_batch batch;
    int rc = 0;
    bool stopped = false;

    *sums = (bm_train_sums){ 0 };
    while ((rc = bm_mix_next(t->valid, &batch, err)) > 0) {
        stopped = stopped || (stop != NULL && atomic_load(stop));
        if (!stopped && (rc = bm_trainer_batch(t, &batch, false, sums, err)) < 0)
            break;
    }
    return rc < 0 ? rc : !stopped;
}
