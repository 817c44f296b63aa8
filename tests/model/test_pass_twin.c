/* test_pass_twin.c - gradients of each architecture row against finite differences in doubles of the naive twin's loss
 * (pass_twin.h): for A and for B of each kind of map, along a random direction over all layers.
 * Tolerances: loss 1e-6, f32 against doubles; differences 2e-5 of |gradient| |direction|, f32 sums and the h^2 of the differences. */
#include "pass_kit.h"
#include "pass_twin.h"

enum { N = 44, SECOND = 4 };     /* a segment of 4 tokens, then one that is longer than the window of 32 */

/* A direction: random in A (or B) of one site in every layer, 0 elsewhere. */
static void draw_direction(double *v, size_t n, const bm_trainable *adapter, int site, bool of_b)
{
    size_t n_matrices;
    const bm_lora_matrix *m = bm_trainable_matrices(adapter, &n_matrices);
    const float *base = m[0].a;

    memset(v, 0, n * sizeof *v);
    for (size_t i = 0; i < n_matrices; i++) {
        const float *next = i + 1 < n_matrices ? m[i + 1].a : base + n;
        size_t from = (size_t)((of_b ? m[i].b : m[i].a) - base), to = (size_t)((of_b ? next : m[i].b) - base);
        for (size_t j = from; j < to && (int)m[i].site == site; j++)
            v[j] = (double)kit_value(j + 1000000);
    }
}

static double dot(const float *g, const double *v, size_t n, double *scale)
{
    double sum = 0, gg = 0, vv = 0;

    for (size_t i = 0; i < n; i++)
        if (v[i] != 0)
            sum += (double)g[i] * v[i], gg += (double)g[i] * (double)g[i], vv += v[i] * v[i];
    *scale = sqrt(gg * vv);
    return sum;
}

static double loss_at(const pass_kit *p, const bm_train_row *row, const float *coef, const double *v, double h, double *theta)
{
    size_t n = bm_trainable_n(p->adapter);

    for (size_t i = 0; i < n; i++)
        theta[i] = (double)bm_trainable_values(p->adapter)[i] + h * v[i];
    return twin_loss(p->k.model, p->adapter, theta, row, coef);
}

static void check(const char *name)
{
    static const int32_t starts[2] = { 0, SECOND };
    pass_kit p;
    pass_kit_options o = { .f32 = true, .n_threads = 2, .max_tokens = N, .adapter = { .rank = 2, .alpha = 3 } };
    int32_t ids[N];
    uint8_t target[N];
    float coef[N];
    double nll[N], loss = 0, worst = 0, scale, h = 1e-4;

    for (int t = 0; t < N; t++) {
        ids[t] = 3 + (t * 89 + t * t % 17) % 300;
        target[t] = t != 0 && t != SECOND && t % 4 != 3;
        coef[t] = target[t] ? 0.3f + 0.1f * (float)(t % 3) : 0;
    }
    bm_train_row row = { .tokens = ids, .n_tokens = N, .starts = starts, .n_segments = 2, .target = target };
    pass_kit_open_tiny(&p, name, &o);
    size_t n = bm_trainable_n(p.adapter);
    double *v = calloc(n, sizeof *v), *theta = calloc(n, sizeof *theta);
    pass_kit_run(&p, &row, coef, nll);
    for (int t = 0; t < N; t++)
        loss += (double)coef[t] * nll[t];
    double want = loss_at(&p, &row, coef, v, 0, theta);
    if (!(fabs(loss - want) <= 1e-6 * want))
        fail_msg("%s: loss %.9g, the twin's %.9g", name, loss, want);
    for (int i = 0; i < 2 * BM_LORA_SITES; i++) {
        draw_direction(v, n, p.adapter, i / 2, i % 2);
        double slope = (loss_at(&p, &row, coef, v, h, theta) - loss_at(&p, &row, coef, v, -h, theta)) / (2 * h);
        double error = fabs(slope - dot(bm_trainable_grads(p.adapter), v, n, &scale)) / scale;
        worst = fmax(worst, error);
        if (!(error <= 2e-5))
            fail_msg("%s: %s of %s: slope %.9g, error %g of |gradient| |direction|", name, i % 2 ? "B" : "A",
                     bm_lora_hf_name((bm_lora_site)(i / 2)), slope, error);
    }
    print_message("%-13s loss differs by %.1e, worst slope by %.1e\n", name, fabs(loss - want) / want, worst);
    free(v);
    free(theta);
    pass_kit_close(&p);
}

static void llama(void **state) { (void)state; check("llama"); }
static void llama_with_biases(void **state) { (void)state; check("llama-linear"); }
static void mistral_with_a_window(void **state) { (void)state; check("mistral"); }
static void mistral3_with_temperature(void **state) { (void)state; check("mistral3"); }
static void qwen2(void **state) { (void)state; check("qwen2"); }
static void qwen3_with_head_norms_and_tensor_scales(void **state) { (void)state; check("qwen3-nvfp4"); }
static void gemma2_with_caps(void **state) { (void)state; check("gemma2"); }
static void gemma3_with_two_ropes(void **state) { (void)state; check("gemma3"); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama),
        cmocka_unit_test(llama_with_biases),
        cmocka_unit_test(mistral_with_a_window),
        cmocka_unit_test(mistral3_with_temperature),
        cmocka_unit_test(qwen2),
        cmocka_unit_test(qwen3_with_head_norms_and_tensor_scales),
        cmocka_unit_test(gemma2_with_caps),
        cmocka_unit_test(gemma3_with_two_ropes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
