/* Filters give what lm-eval's give; vectors.json is made by tests/oracle/filters/make.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "eval/filter.h"

static void check_case(const json_t *c, int line)
{
    json_t *steps = json_object_get(c, "steps"), *out;
    bm_filter_step list[4] = { 0 };
    bm_filter f = { .name = (char *)"f", .steps = list, .n_steps = json_array_size(steps) };
    bm_error err;

    for (size_t i = 0; i < f.n_steps; i++) {
        json_t *step = json_array_get(steps, i);
        list[i] = (bm_filter_step){ (char *)(uintptr_t)json_string_value(json_array_get(step, 0)), json_array_get(step, 1) };
    }
    assert_int_equal(bm_filter_check(&f, &err), 0);
    if (bm_filter_apply(&out, &f, json_object_get(c, "responses"), json_object_get(c, "doc"), &err) < 0)
        fail_msg("line %d: %s", line, err.msg);
    if (!json_equal(out, json_object_get(c, "out"))) {
        char *got = json_dumps(out, JSON_ENCODE_ANY), *want = json_dumps(json_object_get(c, "out"), JSON_ENCODE_ANY);
        fail_msg("line %d: %s, lm-eval has %s", line, got, want);
    }
    json_decref(out);
}

static void filters_equal_lm_evals(void **state)
{
    bm_error err;
    char *text;
    size_t len;
    int n = 0;

    (void)state;
    if (bm_read_file(&text, &len, "tests/oracle/filters/vectors.json", 1 << 20, &err) < 0)
        fail_msg("%s", err.msg);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        json_t *c = json_loads(line, 0, NULL);
        assert_non_null(c);
        check_case(c, ++n);
        json_decref(c);
    }
    assert_int_equal(n, 126);
    bm_free(text);
}

static void a_step_that_cannot_be_carried_out_is_named(void **state)
{
    bm_filter_step step = { (char *)"regex", json_pack("{s:s}", "regex_pattern", "(") };
    bm_filter f = { .name = (char *)"strict", .steps = &step, .n_steps = 1 };
    json_t *responses = json_pack("[s]", "x"), *out;
    bm_error err;

    (void)state;
    assert_int_equal(bm_filter_check(&f, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "filter strict, step regex"));
    json_decref(step.args);
    step = (bm_filter_step){ (char *)"no_such_step", NULL };
    assert_int_equal(bm_filter_apply(&out, &f, responses, NULL, &err), BM_UNSUPPORTED);
    assert_null(out);
    step = (bm_filter_step){ (char *)"take_first_k", json_pack("{s:i}", "k", 5) };
    assert_int_equal(bm_filter_apply(&out, &f, responses, NULL, &err), BM_INVALID);
    json_decref(step.args);
    json_decref(responses);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_equal_lm_evals),
        cmocka_unit_test(a_step_that_cannot_be_carried_out_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
