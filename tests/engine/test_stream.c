/* Text of a growing answer: UTF-8 borders and stop strings, cut anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/utf8.h"
#include "engine/stream.h"

enum { MAX_PIECE = 64 };

static const char *const STOPS[] = { "END", "\xE5\x81\x9C", "abab", "ND!", "x" };
static const size_t LENS[] = { 3, 3, 4, 3, 1 };

static bm_stops stops_of(size_t n)
{
    bm_stops s = { STOPS, LENS, n, 0 };

    for (size_t i = 0; i < n; i++)
        s.max_len = LENS[i] > s.max_len ? LENS[i] : s.max_len;
    return s;
}

/* Feed text cut where the bits of `cuts` say; returns the stop found. */
static int run(const bm_stops *stops, const char *text, size_t len, unsigned long cuts, bm_buf *out)
{
    bm_stream s;
    size_t begin = 0;
    int stop = -1;

    assert_int_equal(bm_stream_init(&s, stops, MAX_PIECE, NULL), 0);
    for (size_t i = 1; i <= len && stop < 0; i++)
        if (i == len || (cuts >> (i - 1) & 1)) {
            size_t before = out->len;
            stop = bm_stream_feed(&s, text + begin, i - begin, out);
            assert_true(out->len == before || bm_utf8_valid(out->data + before, out->len - before));
            begin = i;
        }
    if (stop < 0)
        bm_stream_finish(&s, out);
    bm_stream_done(&s);
    return stop;
}

static void every_cut_gives(const char *text, size_t n_stops, const char *want, int want_stop)
{
    size_t len = strlen(text);
    bm_stops stops = stops_of(n_stops);

    for (unsigned long cuts = 0; cuts < 1ul << (len - 1); cuts++) {
        bm_buf out = { 0 };
        int stop = run(&stops, text, len, cuts, &out);
        assert_string_equal(out.len > 0 ? out.data : "", want);
        assert_int_equal(stop, want_stop);
        bm_buf_done(&out);
    }
}

static void stop_strings_are_found_at_every_split(void **state)
{
    (void)state;
    every_cut_gives("Hello END of", 4, "Hello ", 0);
    every_cut_gives("END", 4, "", 0);
    every_cut_gives("EENDx", 4, "E", 0);
    every_cut_gives("aababab", 4, "a", 2);
    every_cut_gives("ab aba abab", 4, "ab aba ", 2);
    every_cut_gives("\xE4\xBD\xA0\xE5\x81\x9C\xE5\xA5\xBD", 4, "\xE4\xBD\xA0", 1);
    every_cut_gives("aNDEND!", 4, "aND", 0);         /* END is complete before ND! */
    every_cut_gives("END", 5, "", 0);
    every_cut_gives("aEx", 5, "aE", 4);
}

static void text_without_a_stop_is_whole(void **state)
{
    (void)state;
    every_cut_gives("EN aba ab E", 4, "EN aba ab E", -1);
    every_cut_gives("\xE4\xBD\xA0\xF0\x9F\x98\x80!", 0, "\xE4\xBD\xA0\xF0\x9F\x98\x80!", -1);
    every_cut_gives("\xE4\xBD\xA0\xE5\x81\x9B", 4, "\xE4\xBD\xA0\xE5\x81\x9B", -1);
}

static void invalid_bytes_become_replacement_characters(void **state)
{
    (void)state;
    every_cut_gives("a\xFF" "b\xE4\xBD", 0, "a\xEF\xBF\xBD" "b\xEF\xBF\xBD", -1);
    every_cut_gives("\x80\xE4\xBD" "c", 4, "\xEF\xBF\xBD\xEF\xBF\xBD" "c", -1);
}

static void only_what_may_be_a_stop_is_held_back(void **state)
{
    bm_stops stops = stops_of(4);
    bm_buf out = { 0 };
    bm_stream s;

    (void)state;
    assert_int_equal(bm_stream_init(&s, &stops, MAX_PIECE, NULL), 0);
    bm_stream_feed(&s, "well E", 6, &out);
    assert_string_equal(out.data, "well ");
    bm_stream_feed(&s, "N", 1, &out);
    assert_string_equal(out.data, "well ");
    bm_stream_feed(&s, "T", 1, &out);
    assert_string_equal(out.data, "well ENT");
    bm_stream_done(&s);
    bm_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_strings_are_found_at_every_split),
        cmocka_unit_test(text_without_a_stop_is_whole),
        cmocka_unit_test(invalid_bytes_become_replacement_characters),
        cmocka_unit_test(only_what_may_be_a_stop_is_held_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
