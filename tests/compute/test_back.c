/* test_back.c - the kernels of training that work element by element: every table gives the bits of the reference, and the
 * reference gives the gradients of the forward formulas, by central differences in doubles.
 * Tolerance: 1e-5 of the largest gradient; f32 sums of 75 terms, an exp and a division, and 1e-9 of the differences themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/mem.h"
#include "compute/kernels.h"
#include "random_blocks.h"

enum { N = 75, MAX_N = 200, N_OUT = 16 };

static const bm_kernels *ref(void) { return bm_kernels_get(BM_ISA_REF); }

/* Every kernel over x, y, z, w of n floats, into out[N_OUT][n]. */
static void run_all(const bm_kernels *k, const float *x, const float *y, const float *z, const float *w, int64_t n, float *out)
{
    uint16_t half[MAX_N];

    for (int i = 0; i < 4; i++)
        memcpy(out + i * n, i % 2 ? y : x, (size_t)n * sizeof *x);
    k->silu_back(out, out + n, z, out + 4 * n, n);
    k->gelu_tanh_back(out + 2 * n, out + 3 * n, z, out + 5 * n, n);
    k->rmsnorm_back(out + 6 * n, z, x, w, n, 1e-5f, false);
    memcpy(out + 7 * n, y, (size_t)n * sizeof *y);
    k->rmsnorm_back(out + 7 * n, z, x, NULL, n, 1e-5f, true);
    k->layernorm_back(out + 8 * n, z, x, w, n, 1e-5f, false);
    for (int i = 0; i < 2; i++) {
        memcpy(out + (9 + 2 * i) * n, x, (size_t)n * sizeof *x);
        memcpy(out + (10 + 2 * i) * n, z, (size_t)n * sizeof *z);
        k->attn_back(out + (9 + 2 * i) * n, out + (10 + 2 * i) * n, n, 0.3f, i ? 2.0f : 0, 5.0f, 0.1f);
    }
    memcpy(out + 13 * n, x, (size_t)n * sizeof *x);
    k->softmax_back(out + 13 * n, n, 4.0f, 8.0f, 0.7f);
    k->put_f16(half, x, n);
    k->get_f16(out + 14 * n, half, n);
    memset(out + 15 * n, 0, (size_t)n * sizeof *out);
    out[15 * n] = k->dot(x, y, n);
}

static void every_table_gives_the_bits_of_the_reference(void **state)
{
    bm_cpu cpu;
    rng r = { 5 };
    static float in[4 * MAX_N], want[N_OUT * MAX_N], got[N_OUT * MAX_N];

    (void)state;
    bm_cpu_detect(&cpu);
    for (int64_t n = 1; n < MAX_N; n += n < 70 ? 1 : 13) {
        for (int64_t i = 0; i < 4 * n; i++)
            in[i] = next_float(&r) * (i % 7 == 0 ? 30.0f : 3.0f);
        run_all(ref(), in, in + n, in + 2 * n, in + 3 * n, n, want);
        for (int isa = BM_ISA_REF + 1; isa < BM_ISA_COUNT; isa++) {
            if (!bm_isa_usable(&cpu, (bm_isa)isa) || !bm_kernels_get((bm_isa)isa))
                continue;
            run_all(bm_kernels_get((bm_isa)isa), in, in + n, in + 2 * n, in + 3 * n, n, got);
            if (memcmp(want, got, (size_t)n * N_OUT * sizeof *got) != 0)
                fail_msg("%s differs at n = %lld", bm_isa_name((bm_isa)isa), (long long)n);
        }
    }
}

/* ---- gradients by differences ---- */

typedef double forward_fn(const double *x, const double *y, const double *z, const double *w);

/* Each forward as the sum of its outputs times z. */
static double silu_forward(const double *x, const double *y, const double *z, const double *w)
{
    double sum = 0;

    (void)w;
    for (int i = 0; i < N; i++)
        sum += x[i] / (1 + exp(-x[i])) * y[i] * z[i];
    return sum;
}

static double gelu_forward(const double *x, const double *y, const double *z, const double *w)
{
    double sum = 0;

    (void)w;
    for (int i = 0; i < N; i++)
        sum += 0.5 * x[i] * (1 + tanh(0.79788456080286536 * (x[i] + 0.044715 * x[i] * x[i] * x[i]))) * y[i] * z[i];
    return sum;
}

static double norm_forward(const double *x, const double *z, const double *w, bool centred)
{
    double mean = 0, squares = 0, sum = 0;

    for (int i = 0; i < N && centred; i++)
        mean += x[i] / N;
    for (int i = 0; i < N; i++)
        squares += (x[i] - mean) * (x[i] - mean) / N;
    for (int i = 0; i < N; i++)
        sum += (x[i] - mean) / sqrt(squares + 1e-5) * (w ? w[i] : 1) * z[i];
    return sum;
}

static double rms_forward(const double *x, const double *y, const double *z, const double *w)
{
    (void)y;
    return norm_forward(x, z, w, false);
}

static double plain_rms_forward(const double *x, const double *y, const double *z, const double *w)
{
    (void)w;
    return norm_forward(x, z, NULL, false) + y[0] * 0;
}

static double layer_forward(const double *x, const double *y, const double *z, const double *w)
{
    (void)y;
    return norm_forward(x, z, w, true);
}

/* The gradient by argument `of` (0: x, 1: y) must be got (plus base, where it was added). */
static void check_gradient(const char *what, forward_fn *forward, int of, const float *in, const float *got, const float *base)
{
    double d[4 * N], *at = d + of * N, largest = 0, worst = 0;

    for (int i = 0; i < 4 * N; i++)
        d[i] = (double)in[i];
    for (int i = 0; i < N; i++) {
        double keep = at[i], h = 1e-5, up, down;
        at[i] = keep + h, up = forward(d, d + N, d + 2 * N, d + 3 * N);
        at[i] = keep - h, down = forward(d, d + N, d + 2 * N, d + 3 * N);
        at[i] = keep;
        largest = fmax(largest, fabs((up - down) / (2 * h)));
        worst = fmax(worst, fabs((up - down) / (2 * h) - ((double)got[i] - (base ? (double)base[i] : 0))));
    }
    if (!(worst <= 1e-5 * largest))
        fail_msg("%s: error %g of the largest %g", what, worst, largest);
}

static void gradients_are_those_of_the_forward_formulas(void **state)
{
    static float in[4 * N], out[N_OUT * N];
    rng r = { 6 };

    (void)state;
    for (int i = 0; i < 4 * N; i++)
        in[i] = 3 * next_float(&r);
    run_all(ref(), in, in + N, in + 2 * N, in + 3 * N, N, out);
    check_gradient("silu, gate", silu_forward, 0, in, out, NULL);
    check_gradient("silu, up", silu_forward, 1, in, out + N, NULL);
    check_gradient("gelu, gate", gelu_forward, 0, in, out + 2 * N, NULL);
    check_gradient("gelu, up", gelu_forward, 1, in, out + 3 * N, NULL);
    check_gradient("rmsnorm", rms_forward, 0, in, out + 6 * N, NULL);
    check_gradient("rmsnorm, plain and added", plain_rms_forward, 0, in, out + 7 * N, in + N);
    check_gradient("layernorm", layer_forward, 0, in, out + 8 * N, NULL);
}

static void assert_near(const char *what, double got, double want, double by)
{
    if (!(fabs(got - want) <= by))
        fail_msg("%s: %.9g, expected %.9g", what, got, want);
}

static void softmax_and_products_are_right_against_doubles(void **state)
{
    static float in[4 * N], out[N_OUT * N];
    rng r = { 7 };
    double dot = 0;

    (void)state;
    for (int i = 0; i < 4 * N; i++)
        in[i] = 3 * next_float(&r);
    run_all(ref(), in, in + N, in + 2 * N, in + 3 * N, N, out);
    for (int i = 0; i < N; i++) {
        double x = in[i], dp = in[2 * N + i], p = exp(0.3 * x - 5), t = tanh(0.3 * x / 2), capped = exp(2 * t - 5);
        assert_near("p", out[9 * N + i], p, 1e-6 * p);
        assert_near("ds", out[10 * N + i], p * (dp - 0.1) * 0.3, 1e-6 * p);
        assert_near("p, capped", out[11 * N + i], capped, 2e-6 * capped);
        assert_near("ds, capped", out[12 * N + i], capped * (dp - 0.1) * 0.3 * (1 - t * t), 2e-6 * capped);
        assert_near("logits", out[13 * N + i], 0.7 * (1 - x / 8 * (x / 8)) * exp(x - 4), 1e-6 * exp(x - 4));
        assert_near("half", out[14 * N + i], x, 0x1p-11 * fabs(x));
        dot += x * in[N + i];
    }
    assert_near("dot", out[15 * N], dot, 1e-5);
}

static void halves_are_clamped_to_finite_values(void **state)
{
    const float in[4] = { 1e9f, -1e9f, 65519.0f, 0 };
    uint16_t half[4];
    float out[4];

    (void)state;
    ref()->put_f16(half, in, 4);
    ref()->get_f16(out, half, 4);
    assert_true(out[0] == 65504 && out[1] == -65504 && out[2] == 65504 && out[3] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_gives_the_bits_of_the_reference),
        cmocka_unit_test(gradients_are_those_of_the_forward_formulas),
        cmocka_unit_test(softmax_and_products_are_right_against_doubles),
        cmocka_unit_test(halves_are_clamped_to_finite_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
