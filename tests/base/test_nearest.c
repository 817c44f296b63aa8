/* Which known name a mistyped one may have meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/nearest.h"

static void distance_counts_edits_and_swaps(void **state)
{
    (void)state;
    assert_int_equal(bm_edit_distance("", ""), 0);
    assert_int_equal(bm_edit_distance("", "abc"), 3);
    assert_int_equal(bm_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(bm_edit_distance("shlef", "shelf"), 1);
    assert_int_equal(bm_edit_distance("CHAT", "chat"), 0);
}

static void nearest_are_sorted_and_the_far_ones_left_out(void **state)
{
    const char *const names[] = { "bench", "chat", "shelf", "serve", "smollm2", "smollm2:instruct" };
    size_t out[3];

    (void)state;
    assert_int_equal(bm_nearest("shlef", names, 6, out, 3), 1);
    assert_int_equal(out[0], 2);
    assert_int_equal(bm_nearest("smol", names, 6, out, 3), 2);
    assert_int_equal(out[0], 4);
    assert_int_equal(out[1], 5);
    assert_int_equal(bm_nearest("zzzzzzzz", names, 6, out, 3), 0);
    assert_int_equal(bm_nearest("", names, 6, out, 3), 0);
    assert_int_equal(bm_nearest("chat", NULL, 0, out, 3), 0);
}

static void long_names_are_cut_not_overrun(void **state)
{
    char a[400], b[400];
    const char *const names[] = { b };
    size_t out[1];

    (void)state;
    memset(a, 'a', sizeof a - 1), a[sizeof a - 1] = '\0';
    memset(b, 'b', sizeof b - 1), b[sizeof b - 1] = '\0';
    assert_int_equal(bm_edit_distance(a, b), 127);
    assert_int_equal(bm_nearest(a, names, 1, out, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distance_counts_edits_and_swaps),
        cmocka_unit_test(nearest_are_sorted_and_the_far_ones_left_out),
        cmocka_unit_test(long_names_are_cut_not_overrun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
