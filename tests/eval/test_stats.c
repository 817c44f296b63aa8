/* Scores, errors and draws equal lm-eval's, scipy's and Python's. */
#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include "eval/pyrandom.h"
#include "eval/stats.h"
#include "oracle/stats/vectors.h"

#define N(a) (sizeof(a) / sizeof *(a))

static void close_to(double a, double b, double bound)
{
    if (isnan(a) != isnan(b) || fabs(a - b) > bound * fmax(1, fabs(b)))
        fail_msg("%.17g is not %.17g", a, b);
}

static void scores_and_errors_equal_lm_evals(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(scores); i++) {
        double error;
        close_to(bm_score(scores[i].how, scores[i].values, scores[i].n), scores[i].score, 1e-14);
        assert_int_equal(bm_score_error(scores[i].how, scores[i].values, scores[i].n, BOOTSTRAP, &error), 0);
        close_to(error, scores[i].error, 1e-12);
    }
}

static void no_error_is_stated_for_one_value_or_without_iterations(void **state)
{
    double error;

    (void)state;
    assert_int_equal(bm_score_error(BM_SCORE_MEAN, acc, 1, 1000, &error), 0);
    assert_true(isnan(error));
    assert_int_equal(bm_score_error(BM_SCORE_MEAN, acc, N(acc), 0, &error), 0);
    assert_true(isnan(error));
    assert_true(isnan(bm_score(BM_SCORE_MEAN, acc, 0)));
}

static void groups_pool_the_errors_of_their_tasks(void **state)
{
    const double se[] = { 0.01, 0.03, 0.02 }, score[] = { 0.5, 0.25, 0.75 };
    const size_t n[] = { 100, 50, 400 };

    (void)state;
    close_to(bm_group_stderr(se, n, 3, true), group_errors[0], 1e-14);
    close_to(bm_group_stderr(se, n, 3, false), group_errors[1], 1e-14);
    close_to(bm_group_mean(score, n, 3, true), (50 + 12.5 + 300) / 550, 1e-14);
    close_to(bm_group_mean(score, n, 3, false), 0.5, 1e-14);
}

static void paired_comparison_equals_scipys_t_test(void **state)
{
    double a[N(acc)], b[N(acc)];

    (void)state;
    for (size_t i = 0; i < N(acc); i++)
        a[i] = acc[i].a, b[i] = other[i].a;
    bm_paired p = bm_paired_compare(a, b, N(acc));
    close_to(p.mean, paired[0], 1e-14);
    close_to(p.low, paired[1], 1e-10);
    close_to(p.high, paired[2], 1e-10);
    close_to(p.p, paired[3], 1e-10);
    p = bm_paired_compare(a, a, N(acc));
    assert_true(p.p == 1 && p.mean == 0 && p.n_better == 0 && p.n_worse == 0);
    for (size_t i = 0; i < N(student); i++)
        close_to(bm_student_p(student[i][0], student[i][1]), student[i][2], 1e-11);
}

static void draws_equal_pythons(void **state)
{
    bm_pyrandom r;
    size_t out[12];

    (void)state;
    for (size_t i = 0; i < N(draws); i++) {
        bm_pyrandom_seed(&r, draws[i].seed);
        assert_true(bm_pyrandom_unit(&r) == draws[i].unit);
        assert_int_equal(bm_pyrandom_below(&r, 1000003), draws[i].below);
    }
    for (size_t i = 0; i < N(samples); i++) {
        bm_pyrandom_seed(&r, samples[i].seed);
        assert_int_equal(bm_pyrandom_sample(&r, samples[i].n, samples[i].k, out), 0);
        assert_memory_equal(out, samples[i].out, samples[i].k * sizeof *out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_and_errors_equal_lm_evals),
        cmocka_unit_test(no_error_is_stated_for_one_value_or_without_iterations),
        cmocka_unit_test(groups_pool_the_errors_of_their_tasks),
        cmocka_unit_test(paired_comparison_equals_scipys_t_test),
        cmocka_unit_test(draws_equal_pythons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
