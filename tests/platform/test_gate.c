/* Requirements of a gate: what they may say, and how scores are judged by them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "platform/gate.h"

static const json_t *candidate(void *arg, const char *task) { (void)task; return ((json_t **)arg)[0]; }
static const json_t *baseline(void *arg, const char *task) { (void)task; return ((json_t **)arg)[1]; }

static void a_gate_is_read(void **state)
{
    bm_gate g = { .num_fewshot = -1 };
    bm_error err;

    (void)state;
    assert_int_equal(bm_gate_parse(&g, "# what prod needs\nlimit 100\nnum_fewshot 5\ngsm8k.exact_match,strict-match >= baseline-0.01, mmlu_x.acc > 0.5;\n"
                                       "wiki.word_perplexity <= 1.05 * baseline + 2 - 1\n", &err), 0);
    assert_int_equal(g.n, 3);
    assert_int_equal(g.limit, 100);
    assert_int_equal(g.num_fewshot, 5);
    assert_true(g.needs_baseline);
    assert_string_equal(g.all[0].task, "gsm8k");
    assert_string_equal(g.all[0].metric, "exact_match");
    assert_string_equal(g.all[0].filter, "strict-match");
    assert_true(g.all[0].of_baseline == 1 && g.all[0].constant == -0.01);
    assert_true(g.all[1].of_baseline == 0 && g.all[1].constant == 0.5 && strcmp(g.all[1].op, ">") == 0);
    assert_true(g.all[2].of_baseline == 1.05 && g.all[2].constant == 1);
}

static void what_is_wrong_is_shown(void **state)
{
    static const char *const bad[] = { "acc >= 1", "a.b", "a.b =>= 1", "a.b >= ", "a.b >= baseline +", "a.b >= 2 * acc", "a.b >= 1 2", ".acc > 1", "a. > 1",
                                       "a.b >= nan", "a.b, >= 1", "limit x", "a.b >= baselines" };
    bm_error err;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bm_gate g = { 0 };
        if (bm_gate_parse(&g, bad[i], &err) != BM_INVALID)
            fail_msg("'%s' was taken", bad[i]);
        assert_non_null(strstr(err.msg, "expected"));
    }
}

static void scores_are_judged(void **state)
{
    json_t *both[2] = { json_pack("{s:{s:{s:f, s:f, s:s}}}", "results", "t", "acc,none", 0.52, "em,strict", 0.25, "acc_stderr,none", "N/A"),
                        json_pack("{s:{s:{s:f}}}", "results", "t", "acc,none", 0.50) };
    static const struct { const char *text; bool holds; } cases[] = {
        { "t.acc >= baseline", true }, { "t.acc >= baseline + 0.03", false }, { "t.acc < 0.6", true }, { "t.acc <= 0.52", true }, { "t.acc == 0.52", true },
        { "t.acc > 0.52", false }, { "t.em >= 0.2; t.acc > 0.9", false }, { "t.acc >= 1.1 * baseline - 0.04", true } };
    bm_error err;
    bool holds;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bm_gate g = { 0 };
        assert_int_equal(bm_gate_parse(&g, cases[i].text, &err), 0);
        assert_int_equal(bm_gate_judge(&g, candidate, baseline, both, &holds, &err), 0);
        if (holds != cases[i].holds)
            fail_msg("%s", cases[i].text);
    }
    bm_gate g = { 0 };
    assert_int_equal(bm_gate_parse(&g, "t.f1 > 0", &err), 0);
    assert_int_equal(bm_gate_judge(&g, candidate, baseline, both, &holds, &err), BM_NOTFOUND);
    g = (bm_gate){ 0 };
    assert_int_equal(bm_gate_parse(&g, "t.em > baseline", &err), 0);
    assert_int_equal(bm_gate_judge(&g, candidate, baseline, both, &holds, &err), BM_NOTFOUND);
    json_decref(both[0]);
    json_decref(both[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gate_is_read),
        cmocka_unit_test(what_is_wrong_is_shown),
        cmocka_unit_test(scores_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
