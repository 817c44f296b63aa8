/* Python literals as ast.literal_eval of CPython 3.11 reads them; what it refuses is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "eval/literal.h"

static void is(const char *text, const char *want)
{
    bm_error err = {0};
    json_t *v;

    if (bm_literal_parse(&v, text, strlen(text), &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    char *got = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    if (strcmp(got, want) != 0)
        fail_msg("%s: %s, not %s", text, got, want);
    free(got);
    json_decref(v);
}

static void literals_have_pythons_values(void **state)
{
    (void)state;
    is("['a', \"it's\", 'say \"x\"']", "[\"a\",\"it's\",\"say \\\"x\\\"\"]");
    is("['\\n\\t\\\\', '\\x41\\u4e2d\\U0001f389', '\\101', '\\q', r'\\n']", "[\"\\n\\t\\\\\",\"A\xE4\xB8\xAD\xF0\x9F\x8E\x89\",\"A\",\"\\\\q\",\"\\\\n\"]");
    is("'a' 'b' \"c\"", "\"abc\"");
    is("'''x\n'y\n'''", "\"x\\n'y\\n\"");
    is("[1, -2, +3, 1_000, 2.5, -1e-07, .5, True, False, None]", "[1,-2,3,1000,2.5,-9.9999999999999995e-8,0.5,true,false,null]");
    is("(1, 2)", "[1,2]");
    is("1, 2", "[1,2]");
    is("(1)", "1");
    is("(1,)", "[1]");
    is("()", "[]");
    is("{}", "{}");
    is("{'a': [1, {'b': ()}], 2: 'x', None: 0}", "{\"a\":[1,{\"b\":[]}],\"2\":\"x\",\"null\":0}");
    is("{1, 'a',}", "[1,\"a\"]");
    is("  [ 1 ,\n 2 , ]  ", "[1,2]");
    is("0", "0");
    is("'\xE4\xB8\xAD\xE6\x96\x87'", "\"\xE4\xB8\xAD\xE6\x96\x87\"");
}

static void what_is_no_literal_is_refused(void **state)
{
    static const char *const bad[] = {"", " ", "a", "['a'", "'a", "[1 2]", "01", "f('x')", "1 + 1", "{'a': }", "{[]: 1}", "True_", "--", "'\\x4'", "'a\nb'", "1)", "1), (2",
                                      "99999999999999999999", "1e999", "b'x'", "[,]", "{1: 2, 3}", "'\\ud800'", "lambda: 0"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bm_error err = {0};
        json_t *v;
        if (bm_literal_parse(&v, bad[i], strlen(bad[i]), &err) == 0)
            fail_msg("'%s' was read", bad[i]);
        assert_null(v);
    }
}

static void deep_nesting_is_refused(void **state)
{
    bm_buf b = {0};
    bm_error err = {0};
    json_t *v;

    (void)state;
    for (int i = 0; i < 100000; i++)
        bm_buf_putc(&b, '[');
    assert_int_equal(bm_literal_parse(&v, b.data, b.len, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "nested too deep"));
    bm_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(literals_have_pythons_values), cmocka_unit_test(what_is_no_literal_is_refused),
                                       cmocka_unit_test(deep_nesting_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
