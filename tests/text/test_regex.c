/* Regular expressions give what Python's re gives (3.11), and no pattern runs for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "text/regex.h"

static void finds(const char *pattern, int flags, const char *text, const char *want)
{
    bm_error err = {0};
    bm_regex *x;
    json_t *all;

    if (bm_regex_compile(&x, pattern, strlen(pattern), flags, &err) < 0 || bm_regex_findall(&all, x, text, strlen(text), &err) < 0)
        fail_msg("%s: %s", pattern, err.msg);
    char *got = json_dumps(all, JSON_COMPACT);
    if (strcmp(got, want) != 0)
        fail_msg("%s on '%s': %s, not %s", pattern, text, got, want);
    free(got);
    json_decref(all);
    bm_regex_free(x);
}

static void substitutes(const char *pattern, const char *repl, size_t count, const char *text, const char *want)
{
    bm_error err = {0};
    bm_regex *x;
    bm_buf b = {0};

    if (bm_regex_compile(&x, pattern, strlen(pattern), 0, &err) < 0 || bm_regex_sub(&b, x, repl, strlen(repl), text, strlen(text), count, &err) < 0)
        fail_msg("%s: %s", pattern, err.msg);
    assert_string_equal(b.data, want);
    bm_buf_done(&b);
    bm_regex_free(x);
}

static void findall_is_pythons(void **state)
{
    (void)state;
    finds("#### (\\-?[0-9\\.\\,]+)", 0, "x #### 18\n#### -3", "[\"18\",\"-3\"]");
    finds("(-?[$0-9.,]{2,})|(-?[0-9]+)", 0, "a 1,200 b 7", "[[\"1,200\",\"\"],[\"\",\"7\"]]");
    finds("a*", 0, "baac", "[\"\",\"aa\",\"\",\"\"]");
    finds("\\b", 0, "a b", "[\"\",\"\",\"\",\"\"]");
    finds("x*|b", 0, "abxd", "[\"\",\"\",\"b\",\"x\",\"\",\"\"]");
    finds("(?<=the answer is )(.*)(?=.)", 0, "so the answer is 42.", "[\"42\"]");
    finds("\\w+", 0, "n\xC3\xA4" "ch 3 \xE4\xB8\xAD\xE6\x96\x87_x", "[\"n\xC3\xA4" "ch\",\"3\",\"\xE4\xB8\xAD\xE6\x96\x87_x\"]");
    finds("^a.$", BM_REGEX_MULTILINE, "ab\nac\n", "[\"ab\",\"ac\"]");
    finds("a$", 0, "a\n", "[\"a\"]");
    finds("a\\Z", 0, "a\n", "[]");
    finds("\\u4e2d.", 0, "\xE4\xB8\xAD\xE6\x96\x87", "[\"\xE4\xB8\xAD\xE6\x96\x87\"]");
    finds("a{,2}b", 0, "aaab b", "[\"aab\",\"b\"]");
    finds("[[:x]+", 0, "a[:x]", "[\"[:x\"]");
    finds("[]a]", 0, "]b", "[\"]\"]");
    finds("(?P<n>a)(?P=n)", BM_REGEX_IGNORECASE, "aA", "[\"a\"]");
    finds("a.b", BM_REGEX_DOTALL, "a\nb", "[\"a\\nb\"]");
}

static void sub_is_pythons(void **state)
{
    (void)state;
    substitutes("\\[.*?\\]", "", 0, "x [title] y [z]", "x  y ");
    substitutes("(\\w)(\\w)", "\\2\\g<1>", 0, "abcd", "badc");
    substitutes("(?P<n>a)|b", "<\\g<n>>", 0, "ab", "<a><>");
    substitutes("x*", "-", 0, "abxd", "-a-b--d-");
    substitutes("a", "\\n\\\\", 1, "aa", "\n\\a");
    substitutes("\\(\\s*([^\\)]*?)\\s*\\)", "(\\1)", 0, "( a ) (b )", "(a) (b)");
}

static void bad_patterns_and_replacements_are_refused(void **state)
{
    static const char *const bad[] = {"(", "[", "a{2,1}", "*", "(?P<n>a)(?P<n>b)", "\\"};
    bm_error err = {0};
    bm_regex *x;
    bm_buf b = {0};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(bm_regex_compile(&x, bad[i], strlen(bad[i]), 0, &err), BM_INVALID);
        assert_null(x);
    }
    assert_int_equal(bm_regex_compile(&x, "(a)", 3, 0, &err), 0);
    assert_int_equal(bm_regex_sub(&b, x, "\\2", 2, "a", 1, 0, &err), BM_INVALID);
    assert_int_equal(bm_regex_sub(&b, x, "\\g<z>", 5, "a", 1, 0, &err), BM_INVALID);
    assert_int_equal(bm_regex_sub(&b, x, "\\g<1", 4, "a", 1, 0, &err), BM_INVALID);
    assert_int_equal(bm_regex_sub(&b, x, "\\q", 2, "a", 1, 0, &err), BM_INVALID);
    bm_buf_done(&b);
    bm_regex_free(x);
}

static void a_pattern_that_explodes_is_stopped(void **state)
{
    char text[64];
    bm_error err = {0};
    bm_regex *x;

    (void)state;
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '!';
    assert_int_equal(bm_regex_compile(&x, "^(a|aa|a?)+$", 12, 0, &err), 0);
    assert_int_equal(bm_regex_search(x, text, sizeof text, NULL, &err), BM_LIMIT);
    bm_regex_free(x);
}

static void text_that_is_no_utf8_is_refused(void **state)
{
    bm_error err = {0};
    bm_regex *x;

    (void)state;
    assert_int_equal(bm_regex_compile(&x, "a", 1, 0, &err), 0);
    assert_int_equal(bm_regex_search(x, "\xFF" "a", 2, NULL, &err), BM_INVALID);
    bm_regex_free(x);
}

static void escape_is_pythons(void **state)
{
    bm_buf b = {0};

    (void)state;
    bm_regex_escape(&b, "a.b (c)-d_e/f", 13);
    assert_string_equal(b.data, "a\\.b\\ \\(c\\)\\-d_e/f");
    bm_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(findall_is_pythons), cmocka_unit_test(sub_is_pythons), cmocka_unit_test(bad_patterns_and_replacements_are_refused),
        cmocka_unit_test(a_pattern_that_explodes_is_stopped), cmocka_unit_test(text_that_is_no_utf8_is_refused), cmocka_unit_test(escape_is_pythons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
