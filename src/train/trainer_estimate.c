/* trainer_estimate.c - what a run will take: the longest sequence for its memory, a middling step for its time. */
#include "train/trainer_own.h"
#include "base/clock.h"
#include "base/process.h"

#include <stdlib.h>

typedef struct survey {
    uint64_t n_steps, longest_step, middle_step;
    int64_t n_tokens, n_longest, off_middle;
} survey;

/* One epoch without computing. mean 0: not known yet. */
static int look(bm_mix *mix, const bm_mix_state *begin, int64_t mean, survey *s, bm_error *err)
{
    bm_batch batch;
    int rc;

    *s = (survey){ .off_middle = INT64_MAX };
    if ((rc = bm_mix_seek(mix, begin, err)) < 0)
        return rc;
    while ((rc = bm_mix_next(mix, &batch, err)) > 0) {
        for (int i = 0; i < batch.n_rows; i++)
            if (batch.rows[i].n_tokens > s->n_longest)
                s->n_longest = batch.rows[i].n_tokens, s->longest_step = batch.step;
        if (llabs(batch.n_tokens - mean) < s->off_middle)
            s->off_middle = llabs(batch.n_tokens - mean), s->middle_step = batch.step;
        s->n_tokens += batch.n_tokens;
        s->n_steps++;
    }
    return rc < 0 ? rc : s->n_steps > 0 ? 0 : bm_fail(err, BM_INVALID, "there are no rows to train on");
}

static int run_step(bm_trainer *t, const bm_mix_state *begin, uint64_t step, bool learn, double *seconds, bm_error *err)
{
    bm_mix_state at = *begin;
    bm_train_sums sums = { 0 };
    bm_batch batch;
    int rc;

    at.step = step;
    if ((rc = bm_mix_seek(t->mix, &at, err)) < 0 || (rc = bm_mix_next(t->mix, &batch, err)) < 0)
        return rc;
    int64_t began = bm_now_ns();
    if ((rc = bm_trainer_batch(t, &batch, learn, &sums, err)) < 0)
        return rc;
    if (learn) {                                                 /* the optimiser as it is, but for a step of length 0 */
        double norm = bm_grad_norm(t->team, bm_trainable_grads(t->adapter), bm_trainable_n(t->adapter));
        bm_adamw_step(&t->adamw, t->team, bm_trainable_values(t->adapter), bm_trainable_grads(t->adapter),
                      bm_clip_scale(norm, t->o.clip), 0);
    }
    *seconds = (double)(bm_now_ns() - began) * 1e-9;
    return 0;
}

static int count_valid(bm_trainer *t, int64_t *n_tokens, bm_error *err)
{
    bm_batch batch;
    int rc;

    *n_tokens = 0;
    while ((rc = bm_mix_next(t->valid, &batch, err)) > 0)
        *n_tokens += batch.n_tokens;
    return rc;
}

int bm_trainer_estimate(bm_trainer *t, bm_train_estimate *out, bm_error *err)
{
    bm_mix_state begin;
    survey s;
    double seconds, learn_s, forward_s;
    int64_t valid_tokens, mean;
    int rc;

    *out = (bm_train_estimate){ .n_steps = t->n_steps };
    bm_mix_tell(t->mix, &begin);
    begin.epoch = begin.step = 0;
    if ((rc = look(t->mix, &begin, 0, &s, err)) < 0)
        return rc;
    mean = s.n_tokens / (int64_t)s.n_steps;
    if ((rc = look(t->mix, &begin, mean, &s, err)) < 0 ||
        (rc = run_step(t, &begin, s.longest_step, true, &seconds, err)) < 0 ||
        (rc = run_step(t, &begin, s.middle_step, true, &learn_s, err)) < 0 ||
        (rc = run_step(t, &begin, s.middle_step, false, &forward_s, err)) < 0 || (rc = count_valid(t, &valid_tokens, err)) < 0)
        return rc;
    int64_t n_valid = valid_tokens > 0 ? (t->n_steps + t->o.valid_every - 1) / t->o.valid_every : 0;
    out->tokens = (int64_t)((double)s.n_tokens / (double)s.n_steps * (double)t->n_steps);
    out->tokens_per_s = (double)mean / learn_s;
    out->seconds = (double)out->tokens / out->tokens_per_s + (double)(n_valid * valid_tokens) / ((double)mean / forward_s);
    out->memory_bytes = bm_process_peak_bytes() + (t->best != NULL ? (int64_t)(t->adamw.n * sizeof(float)) : 0);
    return 0;
}
