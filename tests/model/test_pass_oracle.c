/* test_pass_oracle.c - losses and LoRA gradients of each architecture row against peft and torch's autograd on tiny random
 * models (tests/oracle/grad/make.py): two segments in a row, loss on some tokens with uneven coefficients.
 * Measure: |difference| / |gradient| of each A and B. f32: at most 1e-4 (fp32 against fp64 sums), losses 1e-5. Fast: quantised
 * activations of 64 columns and half-float K and V move the function itself; its whole gradient must stay within 0.25, and losses
 * within 0.2 (these models are random and sharp: a real one is in test_pass_real.c). */
#include "pass_kit.h"

static void run(const char *name, const grad_vectors *v, bool f32, double *loss_error, double *worst, double *whole)
{
    pass_kit p;
    pass_kit_options o = { .f32 = f32, .n_threads = 2, .max_tokens = v->n_tokens,
                           .adapter = { .rank = v->rank, .alpha = v->alpha, .rslora = v->rslora != 0 } };
    uint8_t *target = calloc((size_t)v->n_tokens, 1);
    double *nll = calloc((size_t)v->n_tokens, sizeof *nll);
    size_t n_matrices;

    for (int t = 0; t < v->n_tokens; t++)
        target[t] = v->coef[t] != 0;
    pass_kit_open_tiny(&p, name, &o);
    assert_int_equal(bm_trainable_n(p.adapter), v->n_values);
    bm_train_row row = { .tokens = v->ids, .n_tokens = v->n_tokens, .starts = v->starts, .n_segments = v->n_segments, .target = target };
    pass_kit_run(&p, &row, v->coef, nll);

    const float *grads = bm_trainable_grads(p.adapter);
    const bm_lora_matrix *m = bm_trainable_matrices(p.adapter, &n_matrices);
    *loss_error = *worst = 0;
    for (int t = 0; t < v->n_tokens; t++)
        *loss_error = fmax(*loss_error, fabs(nll[t] - v->nll[t]));
    for (size_t i = 0; i < 2 * n_matrices; i++) {
        const float *base = bm_trainable_values(p.adapter), *from = i % 2 ? m[i / 2].b : m[i / 2].a;
        const float *to = i + 1 == 2 * n_matrices ? base + v->n_values : i % 2 ? m[i / 2 + 1].a : m[i / 2].b;
        *worst = fmax(*worst, relative_error(grads + (from - base), v->gradient + (from - base), (size_t)(to - from)));
    }
    *whole = relative_error(grads, v->gradient, (size_t)v->n_values);
    pass_kit_close(&p);
    free(target);
    free(nll);
}

static void check(const char *name)
{
    grad_vectors v;
    double loss, worst, whole, fast_loss, fast_worst, fast_whole;

    grad_vectors_read(&v, name);
    run(name, &v, true, &loss, &worst, &whole);
    run(name, &v, false, &fast_loss, &fast_worst, &fast_whole);
    print_message("%-13s f32: loss %.1e, worst matrix %.1e; fast: loss %.1e, gradient %.3f\n", name, loss, worst, fast_loss, fast_whole);
    if (!(loss <= 1e-5) || !(worst <= 1e-4))
        fail_msg("%s: f32 differs by %g in loss (at most 1e-5) and by %g in a matrix (at most 1e-4)", name, loss, worst);
    if (!(fast_loss <= 0.2) || !(fast_whole <= 0.25))
        fail_msg("%s: the fast path differs by %g in loss (at most 0.2) and %g in gradient (at most 0.25)", name, fast_loss, fast_whole);
    grad_vectors_free(&v);
}

static void llama_with_a_head_of_its_own(void **state) { (void)state; check("llama"); }
static void llama_with_biases_and_linear_scaling(void **state) { (void)state; check("llama-linear"); }
static void llama_with_yarn(void **state) { (void)state; check("llama-yarn"); }
static void llama_with_llama3_scaling(void **state) { (void)state; check("llama-llama3"); }
static void mistral_with_a_sliding_window(void **state) { (void)state; check("mistral"); }
static void mistral3_with_attention_temperature(void **state) { (void)state; check("mistral3"); }
static void qwen2_with_biases(void **state) { (void)state; check("qwen2"); }
static void qwen3_with_head_norms_and_rslora(void **state) { (void)state; check("qwen3"); }
static void nvfp4_with_scales_of_whole_tensors(void **state) { (void)state; check("qwen3-nvfp4"); }
static void gemma2_with_soft_caps_and_post_norms(void **state) { (void)state; check("gemma2"); }
static void gemma3_with_local_and_global_rope(void **state) { (void)state; check("gemma3"); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_with_a_head_of_its_own),
        cmocka_unit_test(llama_with_biases_and_linear_scaling),
        cmocka_unit_test(llama_with_yarn),
        cmocka_unit_test(llama_with_llama3_scaling),
        cmocka_unit_test(mistral_with_a_sliding_window),
        cmocka_unit_test(mistral3_with_attention_temperature),
        cmocka_unit_test(qwen2_with_biases),
        cmocka_unit_test(qwen3_with_head_norms_and_rslora),
        cmocka_unit_test(nvfp4_with_scales_of_whole_tensors),
        cmocka_unit_test(gemma2_with_soft_caps_and_post_norms),
        cmocka_unit_test(gemma3_with_local_and_global_rope),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
