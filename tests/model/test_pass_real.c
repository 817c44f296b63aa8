/* test_pass_real.c - a training pass of SmolLM2-135M-Instruct itself, when it has been downloaded (as test_real.c): losses are those
 * of serving, the fast gradient points where the exact one does, and bits do not depend on the team. */
#include "pass_kit.h"

#include <unistd.h>

/* "Fine-tuning changes a model a little, so that it does a task well. ..." and so on; ids of the model's tokenizer. */
static const int32_t text[] = {
    28073, 29, 86, 37970, 2971, 253, 1743, 253, 1696, 28, 588, 338, 357, 1072, 253, 3856, 876, 30, 378, 1743, 2433, 429, 3841,
};
enum { N = 280, N_TEXT = sizeof text / sizeof *text };

static bool open_smollm2(pass_kit *p, bool f32, int n_threads)
{
    pass_kit_options o = { .f32 = f32, .n_threads = n_threads, .max_tokens = N, .adapter = { .rank = 4, .alpha = 2 } };
    char path[512];
    const char *dir = getenv("BAIMO_MODELS"), *home = getenv("HOME");

    snprintf(path, sizeof path, "%s%s/smollm2.gguf", dir ? dir : home ? home : "", dir ? "" : "/.cache/baimo-models");
    if (access(path, R_OK) != 0)
        return false;
    pass_kit_open(p, path, &o);
    for (size_t i = 0; i < bm_trainable_n(p->adapter); i++)
        bm_trainable_values(p->adapter)[i] *= 0.2f;
    return true;
}

typedef struct sample { int32_t ids[N], start; uint8_t target[N]; float coef[N]; double nll[N]; bm_train_row row; } sample;

static void sample_init(sample *s, int n_tokens)
{
    *s = (sample){ .start = 0 };
    for (int t = 0; t < n_tokens; t++) {
        s->ids[t] = text[(t + t / N_TEXT) % N_TEXT];
        s->target[t] = t > 0;
        s->coef[t] = 1.0f / (float)n_tokens;
    }
    s->row = (bm_train_row){ .tokens = s->ids, .n_tokens = n_tokens, .starts = &s->start, .n_segments = 1, .target = s->target };
}

/* The largest difference of nll from what serving computes, with or without the adapter mounted. */
static double compare_with_serving(pass_kit *p, const sample *s, bool mounted)
{
    kit_seq seq;
    bm_error err = { 0 };
    bm_adapter *adapter = NULL;
    size_t n_matrices, v = (size_t)bm_model_get_info(p->k.model)->n_vocab;
    const bm_lora_matrix *matrices = bm_trainable_matrices(p->adapter, &n_matrices);
    float *logits = malloc(v * sizeof *logits);
    double worst = 0;
    bm_step *step;

    kit_check(bm_step_new(&step, p->k.model, N, 2, &err), &err);
    kit_seq_new(&seq, p->k.model, N, 1);
    if (mounted)
        kit_check(bm_adapter_new(&adapter, p->k.model, matrices, n_matrices, &err), &err);
    bm_run run = { .tokens = s->ids, .n_tokens = s->row.n_tokens, .kv = &seq.kv, .adapter = adapter };
    kit_check(bm_model_forward(p->k.model, step, p->k.team, &run, 1, &err), &err);
    for (int32_t t = 1; t < s->row.n_tokens; t++) {
        double sum = 0, most = -INFINITY;
        kit_check(bm_model_logits(p->k.model, step, p->k.team, &(int32_t){ t - 1 }, 1, logits, &err), &err);
        for (size_t i = 0; i < v; i++)
            most = fmax(most, (double)logits[i]);
        for (size_t i = 0; i < v; i++)
            sum += exp((double)logits[i] - most);
        worst = fmax(worst, fabs(s->nll[t] - (most + log(sum) - (double)logits[s->ids[t]])));
    }
    bm_adapter_free(adapter);
    kit_seq_free(&seq);
    bm_step_free(step);
    free(logits);
    return worst;
}

static void losses_are_those_of_serving(void **state)
{
    static sample s;
    pass_kit p;
    bm_error err = { 0 };
    double worst[2];

    (void)state;
    if (!open_smollm2(&p, false, 2)) {
        skip();
        return;
    }
    sample_init(&s, N);          /* more targets than a block of logits holds */
    for (int mounted = 0; mounted < 2; mounted++) {
        kit_check(bm_pass_forward(p.pass, p.k.team, mounted ? p.adapter : NULL, &s.row, 0, s.nll, &err), &err);
        worst[mounted] = compare_with_serving(&p, &s, mounted);
    }
    print_message("against serving: base %.1e, with an adapter %.1e\n", worst[0], worst[1]);
    assert_true(worst[0] <= 1e-4 && worst[1] <= 1e-4);
    pass_kit_close(&p);
}

static float *gradient(const sample *s, bool f32, int n_threads, size_t *n)
{
    static double nll[N];
    pass_kit p;

    assert_true(open_smollm2(&p, f32, n_threads));
    pass_kit_run(&p, &s->row, s->coef, nll);
    *n = bm_trainable_n(p.adapter);
    float *out = malloc(*n * sizeof *out);
    memcpy(out, bm_trainable_grads(p.adapter), *n * sizeof *out);
    pass_kit_close(&p);
    return out;
}

/* Gradients in 8 bits make most of the difference, inputs of gate and up in 8 bits the rest. */
static void the_fast_gradient_is_near_the_exact_one(void **state)
{
    static sample s;
    pass_kit p;
    size_t n;

    (void)state;
    if (!open_smollm2(&p, false, 1)) {
        skip();
        return;
    }
    pass_kit_close(&p);
    sample_init(&s, 60);
    float *exact = gradient(&s, true, 2, &n), *fast = gradient(&s, false, 2, &n), *alone = gradient(&s, false, 3, &n);
    double error = relative_error(fast, exact, n);
    print_message("the fast gradient differs by %.3f\n", error);
    assert_true(error <= 0.08);
    assert_memory_equal(fast, alone, n * sizeof *fast);
    free(exact);
    free(fast);
    free(alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_are_those_of_serving),
        cmocka_unit_test(the_fast_gradient_is_near_the_exact_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
