/* test_number.c - doubles as Python's repr writes them, floats in their fewest digits, and strict parsing. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/number.h"
#pragma GCC diagnostic ignored "-Wunused-variable"
#include "oracle/base/vectors.h"

static double double_of(uint64_t bits)
{
    double x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint64_t fnv_line(const char *s, int len, uint64_t h)
{
    for (int i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001B3u;
    return (h ^ '\n') * 0x100000001B3u;
}

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = *x += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static void doubles_are_written_as_python_does(void **state)
{
    char text[32];

    (void)state;
    for (size_t i = 0; i < sizeof number_rows / sizeof number_rows[0]; i++) {
        int n = bm_number_write(text, double_of(number_rows[i].bits));
        assert_string_equal(text, number_rows[i].text);
        assert_int_equal(n, strlen(text));
    }
    bm_number_write(text, NAN);
    assert_string_equal(text, "NaN");
    bm_number_write(text, -INFINITY);
    assert_string_equal(text, "-Infinity");
}

static void every_power_of_two_is_written_as_python_does(void **state)
{
    uint64_t h = 0xCBF29CE484222325u;
    char text[32];

    (void)state;
    for (int e = -1074; e <= 1023; e++) {
        int n = bm_number_write(text, ldexp(1, e));
        h = fnv_line(text, n, h);
    }
    assert_true(h == powers_hash);
}

static void twenty_thousand_random_doubles_are_written_as_python_does(void **state)
{
    uint64_t h = 0xCBF29CE484222325u, x = 0;
    char text[32];

    (void)state;
    for (int i = 0; i < 20000; i++) {
        int n = bm_number_write(text, double_of(splitmix(&x)));
        h = fnv_line(text, n, h);
    }
    assert_true(h == random_hash);
}

/* Significant digits of a text like "-0.00120" or "1.5e-07". */
static int n_digits(const char *s)
{
    int n = 0, zeros = 0;

    for (; *s != '\0' && *s != 'e'; s++)
        if (*s >= '0' && *s <= '9' && (n > 0 || *s != '0')) {
            zeros = *s == '0' ? zeros + 1 : 0;
            n++;
        }
    return n - zeros;
}

static void floats_have_the_fewest_digits_that_read_back(void **state)
{
    char text[32], shorter[40];
    uint64_t x = 1;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint32_t bits = (uint32_t)splitmix(&x);
        float f;
        memcpy(&f, &bits, sizeof f);
        if (!isfinite(f))
            continue;
        bm_float_write(text, f);
        assert_true(strtof(text, NULL) == f);
        int n = n_digits(text);
        if (n > 1) {
            snprintf(shorter, sizeof shorter, "%.*e", n - 2, (double)f);
            assert_true(strtof(shorter, NULL) != f);
        }
    }
    static const struct { float f; const char *text; } rows[] = {
        { 1e-6f, "1e-06" }, { 0.1f, "0.1" }, { 1e6f, "1000000.0" }, { 0, "0.0" }, { -0.0f, "-0.0" }, { FLT_MAX, "3.4028235e+38" },
        { FLT_MIN, "1.1754944e-38" }, { 0x1p-149f, "1e-45" }, { 16777216, "16777216.0" }, { 1.0f / 3, "0.33333334" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bm_float_write(text, rows[i].f);
        assert_string_equal(text, rows[i].text);
    }
}

static void only_whole_integers_in_range_are_parsed(void **state)
{
    static const char *const bad[] = { "", "-", "+1", " 1", "1 ", "1.0", "1e3", "0x10", "one", "--1", "- 1", "9223372036854775808", "-9223372036854775809", "1\n" };
    int64_t v = 77;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(bm_parse_int(bad[i], INT64_MIN, INT64_MAX, &v));
    assert_false(bm_parse_int(NULL, 0, 1, &v));
    assert_false(bm_parse_int("11", 0, 10, &v));
    assert_false(bm_parse_int("-1", 0, 10, &v));
    assert_int_equal(v, 77);
    assert_true(bm_parse_int("10", 0, 10, &v) && v == 10);
    assert_true(bm_parse_int("-9223372036854775808", INT64_MIN, INT64_MAX, &v) && v == INT64_MIN);
    assert_true(bm_parse_int("9223372036854775807", INT64_MIN, INT64_MAX, &v) && v == INT64_MAX);
}

static void only_whole_finite_decimals_in_range_are_parsed(void **state)
{
    static const char *const bad[] = { "", "-", ".", "nan", "inf", "-inf", "-nan", "infinity", "1e999", "-1e999", "0x1p3", "-0x10", "1 ", " 1", "+1", "1,5", "1e" };
    double v = 77;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (bm_parse_double(bad[i], -INFINITY, INFINITY, &v))
            fail_msg("'%s' was parsed", bad[i]);
    assert_false(bm_parse_double(NULL, 0, 1, &v));
    assert_false(bm_parse_double("2.1", 0, 2, &v));
    assert_true(v == 77);
    assert_true(bm_parse_double("-.5e1", -10, 2, &v) && v == -5);
    assert_true(bm_parse_double("2", 0, 2, &v) && v == 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_are_written_as_python_does),
        cmocka_unit_test(every_power_of_two_is_written_as_python_does),
        cmocka_unit_test(twenty_thousand_random_doubles_are_written_as_python_does),
        cmocka_unit_test(floats_have_the_fewest_digits_that_read_back),
        cmocka_unit_test(only_whole_integers_in_range_are_parsed),
        cmocka_unit_test(only_whole_finite_decimals_in_range_are_parsed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
