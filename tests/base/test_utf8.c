/* test_utf8.c - decoding, encoding and replacement against Python's errors='replace'. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/utf8.h"
#pragma GCC diagnostic ignored "-Wunused-variable"
#include "oracle/base/vectors.h"

static uint64_t fnv(const void *bytes, size_t len, uint64_t h)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

static size_t from_hex(char *out, const char *hex)
{
    size_t n = 0;
    unsigned byte;

    for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        out[n++] = (char)byte;
    return n;
}

static void invalid_bytes_are_replaced_as_python_does(void **state)
{
    char in[64], expected[256];

    (void)state;
    for (size_t i = 0; i < sizeof utf8_rows / sizeof utf8_rows[0]; i++) {
        bm_buf out = { 0 };
        size_t n = from_hex(in, utf8_rows[i].in), n_expected = from_hex(expected, utf8_rows[i].out);
        bm_utf8_sanitize(&out, in, n);
        if (out.len != n_expected || memcmp(out.data, expected, n_expected) != 0)
            fail_msg("row %zu: %s", i, utf8_rows[i].in);
        assert_int_equal(bm_utf8_valid(in, n), n == n_expected && memcmp(in, expected, n) == 0);
        assert_true(bm_utf8_valid(out.data, out.len));
        bm_buf_done(&out);
    }
}

/* All sequences of up to four bytes from both sides of every boundary: 406,900 of them, as one hash. */
static void every_sequence_of_boundary_bytes_equals_python(void **state)
{
    enum { N = sizeof utf8_edges };
    uint64_t h = 0xCBF29CE484222325u;
    bm_buf out = { 0 };
    char in[4];

    (void)state;
    for (size_t len = 1, count = N; len <= 4; len++, count *= N)
        for (size_t k = 0; k < count; k++) {
            size_t rest = k;
            for (size_t at = len; at-- > 0; rest /= N)
                in[at] = (char)utf8_edges[rest % N];
            bm_buf_clear(&out);
            bm_utf8_sanitize(&out, in, len);
            h = fnv(out.data, out.len, h);
        }
    bm_buf_done(&out);
    assert_true(h == utf8_edges_hash);
}

static void every_code_point_survives_the_round_trip(void **state)
{
    char s[4];
    uint32_t back;

    (void)state;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        int n = bm_utf8_encode(cp, s), expected = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
        assert_int_equal(n, expected);
        if (cp >= 0xD800 && cp <= 0xDFFF) {
            assert_int_equal(bm_utf8_decode(s, 3, &back), -1);
            continue;
        }
        if (bm_utf8_decode(s, (size_t)n, &back) != n || back != cp)
            fail_msg("U+%04X", cp);
        for (int cut = 1; cut < n; cut++)
            assert_int_equal(bm_utf8_decode(s, (size_t)cut, &back), -cut);
    }
}

static void only_an_unfinished_sequence_is_held_back(void **state)
{
#define ROW(s, n) { s, sizeof s - 1, n }
    static const struct { const char *s; size_t len, tail; } rows[] = {
        ROW("", 0), ROW("abc", 0), ROW("\xC3", 1), ROW("a\xC3", 1), ROW("\xC3\xA9", 0), ROW("\xE4\xBD", 2), ROW("\xE4\xBD\xA0", 0),
        ROW("\xF0\x9F\x99", 3), ROW("\xF0\x9F\x99\x82", 0), ROW("\xF0", 1), ROW("\xF0\x9F", 2), ROW("\x80", 0), ROW("\x80\x80\x80", 0),
        ROW("\xFF", 0), ROW("\xF5", 0), ROW("\xC0", 0), ROW("\xC1", 0), ROW("\xE0\x80", 0), ROW("\xED\xA0", 0), ROW("\xF4\x90", 0),
        ROW("\xF0\x80", 0), ROW("\xE4\xE4", 1), ROW("\xFF\x80", 0), ROW("\xF5\x80", 0), ROW("\xE4\xBD\xA0\xE4", 1),
    };
#undef ROW
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (bm_utf8_partial_tail(rows[i].s, rows[i].len) != rows[i].tail)
            fail_msg("row %zu", i);
}

/* A stream that holds back the tail prints the same in every cutting of the same bytes. */
static void text_cut_anywhere_and_held_back_comes_out_whole(void **state)
{
    char in[64], held[80];

    (void)state;
    for (size_t i = 0; i < sizeof utf8_rows / sizeof utf8_rows[0]; i++) {
        size_t n = from_hex(in, utf8_rows[i].in);
        bm_buf whole = { 0 };
        bm_utf8_sanitize(&whole, in, n);
        for (size_t cut = 0; cut <= n; cut++) {
            bm_buf out = { 0 };
            size_t tail = bm_utf8_partial_tail(in, cut);
            bm_utf8_sanitize(&out, in, cut - tail);
            memcpy(held, in + cut - tail, n - cut + tail);
            bm_utf8_sanitize(&out, held, n - cut + tail);
            assert_int_equal(out.len, whole.len);
            assert_memory_equal(out.data, whole.data, whole.len);
            bm_buf_done(&out);
        }
        bm_buf_done(&whole);
    }
}

static void nothing_is_valid_and_stays_nothing(void **state)
{
    bm_buf out = { 0 };

    (void)state;
    assert_true(bm_utf8_valid(NULL, 0));
    bm_utf8_sanitize(&out, NULL, 0);
    assert_true(!out.failed && out.len == 0);
    bm_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invalid_bytes_are_replaced_as_python_does),
        cmocka_unit_test(every_sequence_of_boundary_bytes_equals_python),
        cmocka_unit_test(every_code_point_survives_the_round_trip),
        cmocka_unit_test(only_an_unfinished_sequence_is_held_back),
        cmocka_unit_test(text_cut_anywhere_and_held_back_comes_out_whole),
        cmocka_unit_test(nothing_is_valid_and_stays_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
