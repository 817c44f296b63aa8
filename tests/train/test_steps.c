/* test_steps.c - ten steps of training beside peft and torch (tests/oracle/train/gen_steps.py): losses and gradients' norms.
 * f32: to 1e-5 (fp32 against fp64, ten updates deep). Fast: quantised activations move the function itself, and this random model is
 * sharp; losses within 1 %. Real models are compared by tests/oracle/train/compare_peft.py. */
#include "model/pass_kit.h"
#include "train_kit.h"
#include "oracle/train/steps_vectors.h"

static void start_from_the_oracle(bm_trainer *trainer, const bm_model *model)
{
    size_t n, at = 0;
    int64_t n_in, n_out;
    const bm_lora_matrix *m = bm_trainer_matrices(trainer, &n);

    for (size_t i = 0; i < n; i++) {                             /* the trainer's own matrices, filled in place */
        bm_lora_shape(model, m[i].layer, m[i].site, &n_in, &n_out);
        for (int64_t j = 0; j < m[i].rank * n_in; j++)
            ((float *)(uintptr_t)m[i].a)[j] = kit_value(at++);
        for (int64_t j = 0; j < m[i].rank * n_out; j++)
            ((float *)(uintptr_t)m[i].b)[j] = kit_value(at++);
    }
}

static void check(bool f32, bool pairs, const double *losses, const double *norms, double bound)
{
    train_kit t;
    bm_train_options o = { .adapter = { .rank = STEPS_RANK, .alpha = (float)steps_alpha }, .lr = steps_lr, .epochs = STEPS_N,
                           .batch_size = KIT_ROWS, .max_length = 64, .micro_tokens = 100, .warmup = STEPS_WARMUP,
                           .weight_decay = steps_decay, .clip = steps_clip, .beta = steps_beta };
    bm_train_result result;
    bm_error err = { 0 };
    heard h = { .n = 0 };
    double worst = 0;

    train_kit_open(&t, f32, 2, pairs, 0);
    bm_trainer *trainer = train_kit_trainer(&t, &o, false);
    start_from_the_oracle(trainer, t.k.model);
    kit_check(bm_trainer_run(trainer, &(bm_train_sink){ hear, &h }, NULL, &result, &err), &err);
    assert_int_equal(result.steps, STEPS_N);
    for (int s = 0; s < STEPS_N; s++) {
        const bm_train_event *e = &h.events[s + 1];
        worst = fmax(worst, fabs(e->loss / losses[s] - 1));
        if (f32)
            worst = fmax(worst, fabs(e->grad_norm / norms[s] - 1) / 10);     /* norms shrink: ten times as sensitive */
    }
    print_message("%s %s: differs by at most %.1e\n", f32 ? "f32" : "fast", pairs ? "dpo" : "sft", worst);
    assert_true(worst <= bound);
    bm_trainer_free(trainer);
    train_kit_close(&t);
}

static void ten_steps_equal_those_of_peft(void **state) { (void)state; check(true, false, sft_losses, sft_norms, 1e-5); }
static void ten_steps_of_dpo_equal_those_of_torch(void **state) { (void)state; check(true, true, dpo_losses, dpo_norms, 1e-5); }
static void the_fast_mode_follows_them(void **state) { (void)state; check(false, false, sft_losses, sft_norms, 0.01); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_steps_equal_those_of_peft),
        cmocka_unit_test(ten_steps_of_dpo_equal_those_of_torch),
        cmocka_unit_test(the_fast_mode_follows_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
