/* trainer.c - see trainer.h: the loop, what it tells and what it keeps. */
#include "train/trainer_own.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/process.h"
#include "train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SAVE_EVERY_S = 60 };

/* ---- what it tells and keeps ---- */

static int tell(const bm_train_sink *sink, const bm_train_event *event, bm_error *err)
{
    return sink != NULL && sink->tell != NULL ? sink->tell(sink->arg, event, err) : 0;
}

static int save(bm_trainer *t, const bm_train_sink *sink, bm_error *err)
{
    bm_checkpoint c = { .step = t->step, .adam_t = t->adamw.t, .tokens = t->tokens, .best_loss = t->best_loss,
                        .n_worse = t->n_worse, .seconds = t->seconds, .settings = t->settings,
                        .n = bm_trainable_n(t->adapter), .values = bm_trainable_values(t->adapter), .m = t->adamw.m,
                        .v = t->adamw.v, .best = t->best, .history = t->history, .n_history = t->n_history, .refs = t->refs,
                        .n_refs = t->n_refs };
    int rc;

    t->saved_ns = bm_now_ns();
    if (t->checkpoint_path == NULL || t->saved_step == t->step)
        return 0;
    bm_mix_tell(t->mix, &c.place);
    if ((rc = bm_checkpoint_write(t->checkpoint_path, &c, err)) < 0)
        return rc;
    t->saved_step = t->step;
    return tell(sink, &(bm_train_event){ .what = BM_TRAIN_CHECKPOINT, .step = t->step, .n_steps = t->n_steps }, err);
}

/* ---- metrics ---- */

/* The lines of the steps that the checkpoint has, and of no later ones: what was written after it was made comes again. */
static int open_metrics(bm_trainer *t, bm_error *err)
{
    bm_buf text = { 0 };
    int rc;

    if (t->metrics_path == NULL)
        return 0;
    for (size_t i = 0; i < t->n_history; i++)
        bm_train_event_line(&text, &t->history[i]);
    rc = text.failed ? bm_fail(err, BM_NOMEM, "no memory for the metrics of %zu events", t->n_history)
                     : bm_write_file(t->metrics_path, text.data != NULL ? text.data : "", text.len, 0600, err);
    bm_buf_done(&text);
    if (rc == 0 && (t->metrics_fd = open(t->metrics_path, O_WRONLY | O_APPEND | O_CLOEXEC)) < 0)
        rc = bm_fail(err, BM_IO, "%s: cannot open: %s", t->metrics_path, strerror(errno));
    return rc;
}

static int write_metrics(bm_trainer *t, const bm_train_event *event, bm_error *err)
{
    bm_buf line = { 0 };
    int rc = 0;

    if (t->metrics_fd < 0)
        return 0;
    bm_train_event_line(&line, event);
    if (line.failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a line of metrics");
    else if (write(t->metrics_fd, line.data, line.len) != (ssize_t)line.len)
        rc = bm_fail(err, BM_IO, "%s: cannot write: %s", t->metrics_path, strerror(errno));
    bm_buf_done(&line);
    return rc;
}

static int record(bm_trainer *t, const bm_train_sink *sink, const bm_train_event *event, bm_error *err)
{
    int rc;

    if (t->n_history == t->cap_history) {
        size_t cap = t->cap_history * 2 + 64;
        bm_train_event *more = bm_realloc(t->history, cap * sizeof *more);
        if (more == NULL)
            return bm_fail(err, BM_NOMEM, "no memory for the history of %zu events", cap);
        t->history = more, t->cap_history = cap;
    }
    t->history[t->n_history++] = *event;
    if ((rc = write_metrics(t, event, err)) < 0)
        return rc;
    return tell(sink, event, err);
}

/* ---- the loop ---- */

static int next_batch(bm_trainer *t, bm_batch *batch, bm_error *err)
{
    int rc = bm_mix_next(t->mix, batch, err);

    if (rc == 0)                                                 /* the epoch is over: the next one begins */
        rc = bm_mix_next(t->mix, batch, err);
    return rc == 0 ? bm_fail(err, BM_INVALID, "there are no rows to train on") : rc;
}

static int not_finite(const bm_trainer *t, const char *what, double x, double lr, bm_error *err)
{
    bm_fail(err, BM_LIMIT, "step %lld: the %s is not finite (%g); stopped, the checkpoint of step %lld is the last good one",
            (long long)t->step + 1, what, x, (long long)(t->checkpoint_path != NULL ? t->saved_step : 0));
    return bm_hint(err, "start again with a lower lr (it was %g at this step)%s", lr,
                   t->o.clip > 0 ? " or a longer warmup" : ", or with clip 1");
}

static void fill_speed(bm_trainer *t, bm_train_event *e, double seconds, int64_t tokens)
{
    t->seconds += seconds, t->run_seconds += seconds;
    t->tokens += tokens, t->run_tokens += tokens;
    t->run_steps++;
    e->tokens = t->tokens;
    e->tokens_per_s = seconds > 0 ? (double)tokens / seconds : 0;
    e->time_left_s = t->run_seconds / (double)t->run_steps * (double)(t->n_steps - t->step);
    e->peak_memory_bytes = bm_process_peak_bytes();
}

static int one_step(bm_trainer *t, const bm_train_sink *sink, bm_error *err)
{
    bm_train_sums sums = { 0 };
    int64_t begin = bm_now_ns();
    double lr = bm_lr_at(t->o.decay, t->o.lr, t->step, t->n_warmup, t->n_steps), norm;
    bm_train_event e;
    bm_batch batch;
    int rc;

    memset(&e, 0, sizeof e);                                     /* padding too: it goes into the checkpoint */
    if ((rc = next_batch(t, &batch, err)) < 0 || (rc = bm_trainer_batch(t, &batch, true, &sums, err)) < 0)
        return rc;
    if (!isfinite(sums.loss))
        return not_finite(t, "loss", sums.loss, lr, err);
    norm = bm_grad_norm(t->team, bm_trainable_grads(t->adapter), bm_trainable_n(t->adapter));
    if (!isfinite(norm))
        return not_finite(t, "gradient", norm, lr, err);
    bm_adamw_step(&t->adamw, t->team, bm_trainable_values(t->adapter), bm_trainable_grads(t->adapter),
                  bm_clip_scale(norm, t->o.clip), lr);
    t->step++;
    e.what = BM_TRAIN_STEP;
    e.step = t->step, e.n_steps = t->n_steps;
    e.epoch = (double)batch.epoch + (double)(batch.step + 1) / (double)batch.n_steps;
    e.loss = sums.loss, e.lr = lr, e.grad_norm = norm;
    e.margin = t->dpo ? sums.margin / (double)sums.n_pairs : NAN;
    e.accuracy = t->dpo ? (double)sums.n_right / (double)sums.n_pairs : NAN;
    fill_speed(t, &e, (double)(bm_now_ns() - begin) * 1e-9, sums.tokens);
    return record(t, sink, &e, err);
}

static bool validation_is_due(const bm_trainer *t)
{
    const bm_train_event *last = t->n_history > 0 ? &t->history[t->n_history - 1] : NULL;

    return t->step > 0 && (t->step % t->o.valid_every == 0 || t->step == t->n_steps) &&
           !(last != NULL && last->what == BM_TRAIN_VALID && last->step == t->step);
}

static void remember_best(bm_trainer *t, double loss)
{
    if (loss < t->best_loss) {
        t->best_loss = loss;
        t->n_worse = 0;
        if (t->best != NULL)
            memcpy(t->best, bm_trainable_values(t->adapter), bm_trainable_n(t->adapter) * sizeof(float));
    } else {
        t->n_worse++;
    }
}

/* 0: done, or there are no rows for it; 1: stopped before it was done. */
static int validate(bm_trainer *t, const bm_train_sink *sink, const atomic_bool *stop, bm_error *err)
{
    bm_train_sums sums;
    bm_train_event e;
    int rc = bm_trainer_validate(t, stop, &sums, err);
    int64_t n = t->dpo ? sums.n_pairs : sums.targets;

    if (rc <= 0)
        return rc < 0 ? rc : 1;
    if (n == 0)
        return 0;
    memset(&e, 0, sizeof e);
    e.what = BM_TRAIN_VALID;
    e.step = t->step, e.n_steps = t->n_steps;
    e.loss = sums.loss / (double)n;
    e.margin = t->dpo ? sums.margin / (double)n : NAN;
    e.accuracy = t->dpo ? (double)sums.n_right / (double)n : NAN;
    e.tokens = sums.targets;
    remember_best(t, e.loss);
    t->saved_step = t->saved_step == t->step ? -1 : t->saved_step;       /* the checkpoint lacks this */
    return record(t, sink, &e, err);
}

static bool save_is_due(const bm_trainer *t)
{
    if (t->o.save_every > 0)
        return t->step % t->o.save_every == 0;
    return bm_now_ns() - t->saved_ns >= (int64_t)SAVE_EVERY_S * 1000000000;
}

/* Until the end, a stop or the end of patience. */
static int loop(bm_trainer *t, const bm_train_sink *sink, const atomic_bool *stop, bm_train_result *out, bm_error *err)
{
    int rc;

    for (;;) {
        if (validation_is_due(t) && (rc = validate(t, sink, stop, err)) < 0)
            return rc;
        out->early = t->o.patience > 0 && t->n_worse >= t->o.patience;
        if (t->step >= t->n_steps || out->early)
            return save(t, sink, err);
        if (stop != NULL && atomic_load(stop)) {
            out->stopped = true;
            return save(t, sink, err);
        }
        if (t->step > 0 && save_is_due(t) && (rc = save(t, sink, err)) < 0)
            return rc;
        if ((rc = one_step(t, sink, err)) < 0)
            return rc;
    }
}

static void fill_result(const bm_trainer *t, bm_train_result *out)
{
    out->steps = t->step, out->n_steps = t->n_steps, out->tokens = t->tokens;
    out->loss = out->valid_loss = NAN;
    for (size_t i = 0; i < t->n_history; i++)
        *(t->history[i].what == BM_TRAIN_STEP ? &out->loss : &out->valid_loss) = t->history[i].loss;
    if (t->best != NULL && isfinite(t->best_loss) && !out->stopped)
        out->valid_loss = t->best_loss;
    out->seconds = t->seconds;
    out->tokens_per_s = t->run_seconds > 0 ? (double)t->run_tokens / t->run_seconds : 0;
    out->peak_memory_bytes = bm_process_peak_bytes();
}

int bm_trainer_run(bm_trainer *t, const bm_train_sink *sink, const atomic_bool *stop, bm_train_result *out, bm_error *err)
{
    int rc;

    *out = (bm_train_result){ 0 };
    t->saved_ns = bm_now_ns();
    if ((rc = open_metrics(t, err)) < 0 ||
        (rc = tell(sink, &(bm_train_event){ .what = BM_TRAIN_START, .step = t->step, .n_steps = t->n_steps }, err)) < 0 ||
        (rc = loop(t, sink, stop, out, err)) < 0)
        return rc;
    if (t->best != NULL && isfinite(t->best_loss) && !out->stopped)
        memcpy(bm_trainable_values(t->adapter), t->best, bm_trainable_n(t->adapter) * sizeof(float));
    fill_result(t, out);
    return 0;
}
