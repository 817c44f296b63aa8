/* test_trainer.c - the loop: it learns, repeats itself bit for bit, goes on exactly, and stops where it should. */
#include "train_kit.h"

#include <fcntl.h>

#include "base/file.h"

typedef struct outcome {
    bm_train_result result;
    float *values;
    size_t n;
    heard heard;
} outcome;

static outcome run(train_kit *t, const bm_train_options *o, bool kept)
{
    bm_trainer *trainer = train_kit_trainer(t, o, kept);
    outcome out = { .n = 0 };
    bm_error err = { 0 };

    kit_check(bm_trainer_run(trainer, &(bm_train_sink){ hear, &out.heard }, NULL, &out.result, &err), &err);
    out.values = train_kit_values(trainer, t->k.model, &out.n);
    bm_trainer_free(trainer);
    return out;
}

static int losses_of(const heard *h, bm_train_said what, double *out)
{
    int n = 0;

    for (int i = 0; i < h->n; i++)
        if (h->events[i].what == what)
            out[n++] = h->events[i].loss;
    return n;
}

static void assert_same(const outcome *a, const outcome *b)
{
    double la[KIT_EVENTS], lb[KIT_EVENTS];
    int na = losses_of(&a->heard, BM_TRAIN_STEP, la), nb = losses_of(&b->heard, BM_TRAIN_STEP, lb);

    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->values, b->values, a->n * sizeof(float));
    assert_int_equal(na, nb);
    assert_memory_equal(la, lb, (size_t)na * sizeof *la);
}

static void the_loss_falls(void **state)
{
    train_kit t;
    bm_train_options o = train_kit_options();
    double losses[KIT_EVENTS];

    (void)state;
    o.epochs = 6;
    for (int f32 = 0; f32 < 2; f32++) {
        train_kit_open(&t, f32, 2, false, 4);
        outcome a = run(&t, &o, false);
        int n = losses_of(&a.heard, BM_TRAIN_STEP, losses);
        assert_int_equal(n, 6 * 5);
        if (!(losses[n - 1] < losses[0] - 0.5))
            fail_msg("%s: from %g to %g", f32 ? "f32" : "fast", losses[0], losses[n - 1]);
        n = losses_of(&a.heard, BM_TRAIN_VALID, losses);
        assert_int_equal(n, 8);
        assert_true(a.result.valid_loss == losses[n - 1] && a.result.steps == 30 && a.result.tokens > 0);
        free(a.values);
        train_kit_close(&t);
    }
}

static void bits_do_not_depend_on_threads(void **state)
{
    outcome a[2];
    bm_train_options o = train_kit_options();

    (void)state;
    for (int pairs = 0; pairs < 2; pairs++) {
        for (int k = 0; k < 2; k++) {
            train_kit t;
            train_kit_open(&t, false, k == 0 ? 1 : 3, pairs, 4);
            a[k] = run(&t, &o, false);
            train_kit_close(&t);
        }
        assert_same(&a[0], &a[1]);
        free(a[0].values);
        free(a[1].values);
    }
}

/* However the rows of a step are cut into sequences, its loss is the mean over all its targets. */
static void accumulation_gives_the_loss_of_the_whole_batch(void **state)
{
    train_kit t;
    bm_train_options o = train_kit_options();
    double la[KIT_EVENTS], lb[KIT_EVENTS];

    (void)state;
    train_kit_open(&t, true, 2, false, 0);
    o.micro_tokens = 1024;
    outcome a = run(&t, &o, false);
    o.micro_tokens = 20;
    outcome b = run(&t, &o, false);
    int n = losses_of(&a.heard, BM_TRAIN_STEP, la);
    assert_int_equal(losses_of(&b.heard, BM_TRAIN_STEP, lb), n);
    for (int i = 0; i < n; i++)
        if (fabs(la[i] - lb[i]) > 1e-4 * la[i])
            fail_msg("step %d: %.9g whole, %.9g in pieces", i, la[i], lb[i]);
    free(a.values);
    free(b.values);
    train_kit_close(&t);
}

static char *read_losses(const train_kit *t)
{
    char path[128], *text, *out = calloc(1, 1 << 16);
    bm_error err;

    train_kit_path(t, "metrics.jsonl", path);
    assert_int_equal(bm_read_file(&text, NULL, path, 1 << 20, &err), 0);
    for (char *at = text; (at = strstr(at, "loss\":")) != NULL; at++)
        strncat(out, at, strcspn(at, ",}"));
    bm_free(text);
    return out;
}

/* Dies (the sink fails) at every event in turn, and goes on: checkpoints, validations and early epochs all fall between. */
static void a_run_that_died_anywhere_goes_on_exactly(void **state)
{
    bm_train_options o = train_kit_options();
    bm_error err;

    (void)state;
    o.patience = 50;
    for (int pairs = 0; pairs < 2; pairs++) {
        train_kit t;
        train_kit_open(&t, false, 2, pairs, 4);
        outcome whole = run(&t, &o, true);
        char *losses = read_losses(&t);
        for (int at = 2; at < whole.heard.n; at += 4) {
            bm_trainer *trainer;
            outcome dead = { .heard = { .fail_at = at } };
            train_kit_clear(&t);
            trainer = train_kit_trainer(&t, &o, true);
            assert_int_equal(bm_trainer_run(trainer, &(bm_train_sink){ hear, &dead.heard }, NULL, &dead.result, &err), BM_IO);
            bm_trainer_free(trainer);
            outcome rest = run(&t, &o, true);
            char *again = read_losses(&t);
            assert_memory_equal(rest.values, whole.values, whole.n * sizeof(float));
            assert_string_equal(again, losses);
            assert_true(rest.result.loss == whole.result.loss && rest.result.valid_loss == whole.result.valid_loss);
            free(again);
            free(rest.values);
        }
        free(losses);
        free(whole.values);
        train_kit_close(&t);
    }
}

static int stop_at_third(void *arg, const bm_train_event *event, bm_error *err)
{
    (void)err;
    if (event->what == BM_TRAIN_STEP && event->step == 3)
        atomic_store((atomic_bool *)arg, true);
    return 0;
}

static void a_stop_leaves_a_checkpoint_of_that_step(void **state)
{
    train_kit t;
    bm_train_options o = train_kit_options();
    bm_train_result result;
    atomic_bool stop = false;
    bm_error err = { 0 };

    (void)state;
    o.save_every = 100;
    train_kit_open(&t, false, 1, false, 0);
    outcome whole = run(&t, &o, true);
    train_kit_clear(&t);
    bm_trainer *trainer = train_kit_trainer(&t, &o, true);
    kit_check(bm_trainer_run(trainer, &(bm_train_sink){ stop_at_third, &stop }, &stop, &result, &err), &err);
    assert_true(result.stopped && result.steps == 3);
    bm_trainer_free(trainer);
    outcome rest = run(&t, &o, true);
    assert_int_equal(rest.heard.events[0].step, 3);
    assert_memory_equal(rest.values, whole.values, whole.n * sizeof(float));
    free(rest.values);
    free(whole.values);
    train_kit_close(&t);
}

static void a_loss_that_is_not_finite_stops_at_the_last_good_checkpoint(void **state)
{
    train_kit t;
    bm_train_options o = train_kit_options();
    bm_train_result result;
    bm_error err = { 0 };
    heard h = { .n = 0 };

    (void)state;
    o.lr = 1e30, o.decay = BM_DECAY_CONSTANT, o.warmup = -1, o.save_every = 1;
    train_kit_open(&t, true, 1, false, 0);
    bm_trainer *trainer = train_kit_trainer(&t, &o, true);
    assert_int_equal(bm_trainer_run(trainer, &(bm_train_sink){ hear, &h }, NULL, &result, &err), BM_LIMIT);
    assert_non_null(strstr(err.msg, "not finite"));
    assert_non_null(strstr(err.msg, "checkpoint of step 1"));
    assert_non_null(strstr(err.hint, "lower lr"));
    bm_trainer_free(trainer);
    train_kit_close(&t);
}

static void a_checkpoint_of_other_settings_is_refused(void **state)
{
    train_kit t;
    bm_train_options o = train_kit_options();
    bm_trainer *trainer;
    bm_error err = { 0 };

    (void)state;
    train_kit_open(&t, false, 1, false, 0);
    free(run(&t, &o, true).values);
    o.lr = 2e-2;
    assert_int_equal(bm_trainer_new(&trainer, t.k.model, t.k.team, &t.set, 1, &o, t.dir, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "lr=0.01"));
    assert_non_null(strstr(err.msg, "lr=0.02"));
    o = train_kit_options();
    t.rows[3].hash++;
    assert_int_equal(bm_trainer_new(&trainer, t.k.model, t.k.team, &t.set, 1, &o, t.dir, &err), BM_INVALID);
    train_kit_close(&t);
}

/* A learning rate so high that the loss only rises: patience ends, and the adapter is the best one, not the last. */
static void early_stopping_gives_the_best_adapter(void **state)
{
    train_kit t;
    bm_train_options o = train_kit_options();
    double valid[KIT_EVENTS], best = INFINITY;

    (void)state;
    o.lr = 1, o.decay = BM_DECAY_CONSTANT, o.epochs = 40, o.valid_every = 1, o.patience = 3;
    train_kit_open(&t, false, 1, false, 4);
    outcome a = run(&t, &o, false);
    int n = losses_of(&a.heard, BM_TRAIN_VALID, valid);
    for (int i = 0; i < n; i++)
        best = valid[i] < best ? valid[i] : best;
    assert_true(a.result.early && a.result.steps < a.result.n_steps);
    assert_true(a.result.valid_loss == best && valid[n - 1] > best);
    free(a.values);
    train_kit_close(&t);
}

static void dpo_starts_at_log_2_and_raises_the_margin(void **state)
{
    train_kit t;
    bm_train_options o = train_kit_options();

    (void)state;
    o.epochs = 6, o.warmup = -1;
    train_kit_open(&t, false, 2, true, 4);
    outcome a = run(&t, &o, false);
    const bm_train_event *first = &a.heard.events[1], *last = NULL;
    for (int i = 0; i < a.heard.n; i++)
        if (a.heard.events[i].what == BM_TRAIN_STEP)
            last = &a.heard.events[i];
    assert_true(fabs(first->loss - log(2)) < 1e-12 && first->margin == 0);       /* B is zero: the policy is the reference */
    assert_non_null(last);
    assert_true(last->margin > 1 && last->accuracy == 1 && last->loss < 0.2);
    free(a.values);
    train_kit_close(&t);
}

static void a_method_that_does_not_fit_the_rows_is_refused(void **state)
{
    train_kit t;
    bm_train_options o = train_kit_options();
    bm_trainer *trainer;
    bm_error err;

    (void)state;
    o.method = BM_TRAIN_DPO;
    train_kit_open(&t, false, 1, false, 0);
    assert_int_equal(bm_trainer_new(&trainer, t.k.model, t.k.team, &t.set, 1, &o, NULL, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "no preferences"));
    train_kit_close(&t);
}

static void too_little_memory_is_refused_with_the_arithmetic(void **state)
{
    train_kit t;
    bm_train_options o = train_kit_options();
    bm_trainer *trainer;
    bm_error err;

    (void)state;
    o.memory_bytes = 1 << 16;
    train_kit_open(&t, false, 1, false, 0);
    assert_int_equal(bm_trainer_new(&trainer, t.k.model, t.k.team, &t.set, 1, &o, NULL, &err), BM_NOMEM);
    assert_non_null(strstr(err.msg, "needs"));
    train_kit_close(&t);
}

static void an_estimate_knows_steps_and_tokens(void **state)
{
    train_kit t;
    bm_train_options o = train_kit_options();
    bm_train_estimate e;
    bm_error err = { 0 };

    (void)state;
    train_kit_open(&t, false, 2, false, 4);
    bm_trainer *trainer = train_kit_trainer(&t, &o, false);
    kit_check(bm_trainer_estimate(trainer, &e, &err), &err);
    bm_trainer_free(trainer);
    outcome a = run(&t, &o, false);
    assert_int_equal(e.n_steps, a.result.steps);
    assert_int_equal(e.tokens, a.result.tokens);
    assert_true(e.seconds > 0 && e.tokens_per_s > 0 && e.memory_bytes > 0);
    free(a.values);
    train_kit_close(&t);
}

/* Whichever allocation fails, making and running a trainer fail cleanly or not at all. */
static void no_memory_is_an_error_wherever_it_happens(void **state)
{
    train_kit t;
    bm_train_options o = train_kit_options();
    bm_error err = { 0 };
    bool done = false;

    (void)state;
    o.steps = 2, o.patience = 2, o.save_every = 1;
    train_kit_open(&t, false, 1, true, 4);
    for (long n = 1; !done; n += n < 60 ? 1 : 7) {
        bm_train_result result;
        bm_trainer *trainer;
        train_kit_clear(&t);
        bm_mem_fail_at(n);
        int rc = bm_trainer_new(&trainer, t.k.model, t.k.team, &t.set, 1, &o, t.dir, &err);
        if (rc == 0)
            rc = bm_trainer_run(trainer, NULL, NULL, &result, &err);
        bm_mem_fail_at(0);
        if (rc != 0 && rc != BM_NOMEM)
            fail_msg("allocation %ld: %s", n, err.msg);
        bm_trainer_free(trainer);
        done = rc == 0 && n > 200;
    }
    train_kit_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_loss_falls),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(accumulation_gives_the_loss_of_the_whole_batch),
        cmocka_unit_test(a_run_that_died_anywhere_goes_on_exactly),
        cmocka_unit_test(a_stop_leaves_a_checkpoint_of_that_step),
        cmocka_unit_test(a_loss_that_is_not_finite_stops_at_the_last_good_checkpoint),
        cmocka_unit_test(a_checkpoint_of_other_settings_is_refused),
        cmocka_unit_test(early_stopping_gives_the_best_adapter),
        cmocka_unit_test(dpo_starts_at_log_2_and_raises_the_margin),
        cmocka_unit_test(a_method_that_does_not_fit_the_rows_is_refused),
        cmocka_unit_test(too_little_memory_is_refused_with_the_arithmetic),
        cmocka_unit_test(an_estimate_knows_steps_and_tokens),
        cmocka_unit_test(no_memory_is_an_error_wherever_it_happens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
