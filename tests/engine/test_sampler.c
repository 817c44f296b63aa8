/* Sampling against numpy's vectors (tests/oracle/sampling), and what no vector can show. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "compute/cpu.h"
#include "engine/sampler.h"
#include "oracle/sampling/vectors.h"

enum { MAX_VOCAB = 160000 };
static float logits[MAX_VOCAB];

static void make_sampler(bm_sampler *s, int n_vocab)
{
    bm_error err;

    if (bm_sampler_init(s, bm_kernels_get(BM_ISA_REF), n_vocab, &err) < 0)
        fail_msg("%s", err.msg);
}

static void fill_logits(int n, uint64_t state)
{
    for (int i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        logits[i] = (float)((double)((state >> 33) % 20000) / 1000 - 10);
    }
}

static void tokens_and_logprobs_equal_numpy(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sampling_vectors / sizeof sampling_vectors[0]; i++) {
        const struct sampling_vector *v = &sampling_vectors[i];
        bm_logit_bias bias = { v->bias_token, v->bias };
        bm_sampling p = { v->temperature, v->top_k, v->top_p, v->min_p, v->repetition, v->frequency, v->presence, v->seed,
                          &bias, (size_t)v->n_bias };
        bm_counts counts = { 0 };
        bm_sampler s;
        float logprob;

        make_sampler(&s, v->n_vocab);
        fill_logits(v->n_vocab, v->logits_seed);
        if (bm_sampling_counts(&p)) {
            counts.count = bm_calloc((size_t)v->n_vocab, sizeof *counts.count);
            counts.distinct = bm_calloc((size_t)v->n_vocab, sizeof *counts.distinct);
        }
        for (int j = 0; j < v->n_prompt; j++)
            bm_counts_prompt(&counts, v->prompt[j]);
        for (int j = 0; j < v->n_answer; j++)
            bm_counts_generated(&counts, v->answer[j]);
        int32_t token = bm_sample(&s, logits, &p, &counts, bm_random_unit(v->seed, v->choice, v->position));
        if (token != v->token)
            fail_msg("vector %zu: token %d, numpy has %d", i, token, v->token);
        assert_true(bm_logprob_of(&s, logits, token, 0, &logprob, NULL));
        if (fabs((double)logprob - v->logprob) > 2e-5)       /* f32 sums of up to 5,000 terms, 1 ulp of 10 is 1e-6 */
            fail_msg("vector %zu: logprob %g, numpy has %g", i, (double)logprob, v->logprob);
        bm_free(counts.count);
        bm_free(counts.distinct);
        bm_sampler_done(&s);
    }
}

static void ties_go_to_the_lower_id(void **state)
{
    bm_sampling p = bm_sampling_default();
    struct bm_top top[20];
    bm_sampler s;
    float logprob;

    (void)state;
    make_sampler(&s, 1000);
    for (int i = 0; i < 1000; i++)
        logits[i] = (float)(i % 7 == 3);
    p.temperature = 0;
    assert_int_equal(bm_sample(&s, logits, &p, NULL, 0.5), 3);
    p.temperature = 1, p.top_k = 5;
    for (int i = 0; i < 5; i++)              /* equal weights: the draw walks 3, 10, 17, 24, 31 */
        assert_int_equal(bm_sample(&s, logits, &p, NULL, (i + 0.5) / 5), 3 + 7 * i);
    assert_true(bm_logprob_of(&s, logits, 900, 20, &logprob, top));
    for (int i = 0; i < 20; i++)
        assert_int_equal(top[i].token, 3 + 7 * i);
    bm_sampler_done(&s);
}

static void values_that_are_no_numbers_are_seen_anywhere(void **state)
{
    bm_sampling p = bm_sampling_default();
    bm_sampler s;
    float logprob;

    (void)state;
    make_sampler(&s, 1003);
    for (int at = 0; at < 1003; at += 17) {
        fill_logits(1003, 5);
        logits[at] = NAN;
        for (p.temperature = 0; p.temperature <= 1; p.temperature++)
            assert_int_equal(bm_sample(&s, logits, &p, NULL, 0.5), -1);
        assert_false(bm_logprob_of(&s, logits, 1, 0, &logprob, NULL));
        logits[at] = INFINITY;
        assert_int_equal(bm_sample(&s, logits, &p, NULL, 0.5), -1);
        logits[at] = -INFINITY;              /* that one is only impossible */
        assert_true(bm_sample(&s, logits, &p, NULL, 0.5) >= 0);
    }
    for (int i = 0; i < 1003; i++)
        logits[i] = -INFINITY;
    assert_int_equal(bm_sample(&s, logits, &p, NULL, 0.5), -1);
    bm_sampler_done(&s);
}

static void draws_follow_the_probabilities(void **state)
{
    enum { V = 1500, N = 30000 };
    static int seen[V];
    bm_sampling p = bm_sampling_default();
    bm_sampler s;
    double total = 0, chi = 0;
    int cells = 0;

    (void)state;
    make_sampler(&s, V);
    for (int i = 0; i < V; i++)
        total += exp((double)(logits[i] = (float)(i % 50) / 10));
    for (int cut = 0; cut < 2; cut++) {
        memset(seen, 0, sizeof seen);
        chi = 0, cells = 0;
        p.min_p = cut ? 0.001f : 0;          /* keeps everything, by another path */
        for (uint32_t i = 0; i < N; i++)
            seen[bm_sample(&s, logits, &p, NULL, bm_random_unit(42, (uint32_t)cut, i))]++;
        for (int i = 0; i < V; i++) {
            double want = exp((double)logits[i]) / total * N;
            chi += (seen[i] - want) * (seen[i] - want) / want;
            cells++;
        }
        /* Chi-square of 1,499 degrees: mean 1,499, deviation 55; the numbers are fixed, so this never flickers. */
        assert_true(chi > 1499 - 250 && chi < 1499 + 250);
    }
    bm_sampler_done(&s);
}

static void extreme_settings_stay_sane(void **state)
{
    bm_sampling p = bm_sampling_default();
    bm_sampler s;

    (void)state;
    make_sampler(&s, MAX_VOCAB);
    fill_logits(MAX_VOCAB, 9);
    logits[77777] = 60;
    p.temperature = 1e-30f;
    assert_int_equal(bm_sample(&s, logits, &p, NULL, 0.999999), 77777);
    p.temperature = 1e30f, p.top_p = 0.5f;   /* flat: half of the vocabulary is kept */
    int32_t first = bm_sample(&s, logits, &p, NULL, 0), last = bm_sample(&s, logits, &p, NULL, 0.9999999999);
    assert_int_equal(first, 77777);
    assert_true(last >= 0 && last < MAX_VOCAB);
    p.top_p = 1;
    assert_int_equal(bm_sample(&s, logits, &p, NULL, 0), 0);
    assert_int_equal(bm_sample(&s, logits, &p, NULL, 0.9999999999999), MAX_VOCAB - 1);
    p.top_k = 1;
    assert_int_equal(bm_sample(&s, logits, &p, NULL, 0.7), 77777);
    bm_sampler_done(&s);
}

static void random_numbers_are_a_function_of_seed_choice_and_position(void **state)
{
    double sum = 0;

    (void)state;
    for (uint32_t i = 0; i < 10000; i++) {
        double u = bm_random_unit(i % 10, i / 10 % 10, i / 100);
        assert_true(u >= 0 && u < 1);
        assert_true(u == bm_random_unit(i % 10, i / 10 % 10, i / 100));
        sum += u;
    }
    assert_true(fabs(sum / 10000 - 0.5) < 0.02);
    assert_true(bm_random_unit(1, 0, 0) != bm_random_unit(0, 1, 0));
    assert_true(bm_random_unit(0, 1, 0) != bm_random_unit(0, 0, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_and_logprobs_equal_numpy),
        cmocka_unit_test(ties_go_to_the_lower_id),
        cmocka_unit_test(values_that_are_no_numbers_are_seen_anywhere),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(extreme_settings_stay_sane),
        cmocka_unit_test(random_numbers_are_a_function_of_seed_choice_and_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
