/* test_oracle.c - each architecture row against transformers on tiny random models (tests/oracle/models/make.py).
 * Measure: the largest |difference| of logits over the largest |logit| of the sample. The f32 path must stay within 1e-4 (fp32
 * sums in another order; measured 1e-6 to 2e-6); the fast path (int8 activations, int16 KV) is judged by the mean
 * Kullback-Leibler divergence from transformers' distribution. */
#include "vectors.h"

/* Logits of the sampled rows, all tokens in one step. */
static float *run_sample(const char *name, const vectors *v, bool f32)
{
    kit k;
    kit_seq s;
    bm_error err = { 0 };
    float *out = malloc((size_t)v->n_rows * (size_t)v->n_vocab * sizeof *out);

    kit_open(&k, name, f32, 2, v->n_tokens);
    assert_int_equal(bm_model_get_info(k.model)->n_vocab, v->n_vocab);
    kit_seq_new(&s, k.model, v->n_tokens, 1);
    bm_run run = { .tokens = v->ids, .n_tokens = v->n_tokens, .kv = &s.kv };
    kit_check(bm_model_forward(k.model, k.step, k.team, &run, 1, &err), &err);
    kit_check(bm_model_logits(k.model, k.step, k.team, v->rows, v->n_rows, out, &err), &err);
    kit_seq_free(&s);
    kit_close(&k);
    return out;
}

static void check(const char *name)
{
    vectors v;

    char path[128];

    snprintf(path, sizeof path, KIT_DIR "%s", name);
    read_vectors(&v, path);
    float *exact = run_sample(name, &v, true), *fast = run_sample(name, &v, false);
    double difference = relative_difference(exact, v.logits, (int64_t)v.n_rows * v.n_vocab), kl = mean_kl(fast, v.logits, &v);
    print_message("%-13s f32: %.2e of the largest logit; fast: mean KL %.2e\n", name, difference, kl);
    if (!(difference <= 1e-4))
        fail_msg("%s: f32 differs by %g of the largest logit, at most 1e-4", name, difference);
    if (!(kl <= 2e-3))
        fail_msg("%s: the fast path's mean KL is %g, at most 2e-3", name, kl);
    free(exact);
    free(fast);
    free_vectors(&v);
}

static void llama_equals_transformers_over_several_spans(void **state) { (void)state; check("llama"); }
static void llama_with_biases_and_linear_scaling_equals_transformers(void **state) { (void)state; check("llama-linear"); }
static void llama_with_yarn_equals_transformers(void **state) { (void)state; check("llama-yarn"); }
static void llama_with_llama3_scaling_equals_transformers(void **state) { (void)state; check("llama-llama3"); }
static void mistral_with_a_sliding_window_equals_transformers(void **state) { (void)state; check("mistral"); }
static void mistral3_with_attention_temperature_equals_transformers(void **state) { (void)state; check("mistral3"); }
static void qwen2_with_biases_equals_transformers(void **state) { (void)state; check("qwen2"); }
static void nvfp4_with_scales_of_whole_tensors_equals_transformers(void **state) { (void)state; check("qwen3-nvfp4"); }
static void qwen3_with_wide_heads_and_head_norms_equals_transformers(void **state) { (void)state; check("qwen3"); }
static void gemma2_with_soft_caps_equals_transformers(void **state) { (void)state; check("gemma2"); }
static void gemma3_with_local_and_global_rope_equals_transformers(void **state) { (void)state; check("gemma3"); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_equals_transformers_over_several_spans),
        cmocka_unit_test(llama_with_biases_and_linear_scaling_equals_transformers),
        cmocka_unit_test(llama_with_yarn_equals_transformers),
        cmocka_unit_test(llama_with_llama3_scaling_equals_transformers),
        cmocka_unit_test(mistral_with_a_sliding_window_equals_transformers),
        cmocka_unit_test(mistral3_with_attention_temperature_equals_transformers),
        cmocka_unit_test(qwen2_with_biases_equals_transformers),
        cmocka_unit_test(nvfp4_with_scales_of_whole_tensors_equals_transformers),
        cmocka_unit_test(qwen3_with_wide_heads_and_head_norms_equals_transformers),
        cmocka_unit_test(gemma2_with_soft_caps_equals_transformers),
        cmocka_unit_test(gemma3_with_local_and_global_rope_equals_transformers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
