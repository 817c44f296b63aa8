/* test_error.c - messages, hints and prefixes, cut at characters; the table of codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/utf8.h"

static void fail_fills_the_message_and_clears_the_rest(void **state)
{
    bm_error err;

    (void)state;
    memset(&err, 'x', sizeof err);
    assert_int_equal(bm_fail(&err, BM_FORMAT, "%s: found %d", "file", 3), BM_FORMAT);
    assert_int_equal(err.code, BM_FORMAT);
    assert_string_equal(err.msg, "file: found 3");
    assert_string_equal(err.hint, "");
    assert_string_equal(err.param, "");
    assert_int_equal(bm_hint(&err, "try %s", "this"), BM_FORMAT);
    assert_int_equal(bm_param(&err, "max_tokens"), BM_FORMAT);
    assert_int_equal(bm_wrap(&err, "model %s", "m"), BM_FORMAT);
    assert_string_equal(err.msg, "model m: file: found 3");
    assert_string_equal(err.hint, "try this");
    assert_string_equal(err.param, "max_tokens");
}

static void a_null_error_is_fine(void **state)
{
    (void)state;
    assert_int_equal(bm_fail(NULL, BM_IO, "%s", "x"), BM_IO);
    assert_int_equal(bm_hint(NULL, "x"), 0);
    assert_int_equal(bm_param(NULL, "x"), 0);
    assert_int_equal(bm_wrap(NULL, "x"), 0);
}

static void the_old_message_may_be_an_argument(void **state)
{
    bm_error err;

    (void)state;
    bm_fail(&err, BM_IO, "inner");
    bm_fail(&err, BM_IO, "outer: %s (%s)", err.msg, err.msg);
    assert_string_equal(err.msg, "outer: inner (inner)");
}

static void long_texts_are_cut_at_a_character(void **state)
{
    char text[2001];
    bm_error err;

    (void)state;
    for (int shift = 0; shift < 4; shift++) {
        memset(text, 'a', (size_t)shift);
        for (size_t i = (size_t)shift; i < 2000; i++)
            text[i] = "\xF0\x9F\x99\x82"[(i - (size_t)shift) % 4];
        text[2000] = '\0';
        bm_fail(&err, BM_IO, "%s", text);
        assert_true(bm_utf8_valid(err.msg, strlen(err.msg)) && strlen(err.msg) > sizeof err.msg - 5);
        bm_hint(&err, "%s", text);
        assert_true(bm_utf8_valid(err.hint, strlen(err.hint)));
        bm_param(&err, text);
        assert_true(bm_utf8_valid(err.param, strlen(err.param)));
        bm_wrap(&err, "%s", text);
        assert_true(bm_utf8_valid(err.msg, strlen(err.msg)));
        bm_fail(&err, BM_IO, "end");
        bm_wrap(&err, "%.300s", text);
        assert_true(strstr(err.msg, ": end") != NULL);
    }
}

static void every_code_has_its_row(void **state)
{
    (void)state;
#define X(name, code, http, type, slug) \
    assert_string_equal(bm_error_name(name), #name); \
    assert_int_equal(bm_error_http(name), http); \
    assert_string_equal(bm_error_type(name), type); \
    assert_string_equal(bm_error_slug(name), slug); \
    assert_true(name < 0);
    BM_ERROR_TABLE(X)
#undef X
    assert_string_equal(bm_error_name(0), "BM_OK");
    assert_int_equal(bm_error_http(0), 200);
    assert_string_equal(bm_error_name(-999), "BM_INTERNAL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_fills_the_message_and_clears_the_rest),
        cmocka_unit_test(a_null_error_is_fine),
        cmocka_unit_test(the_old_message_may_be_an_argument),
        cmocka_unit_test(long_texts_are_cut_at_a_character),
        cmocka_unit_test(every_code_has_its_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
