/* test_buf.c - growth, limits, and the failure that sticks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"

static void writers_append_and_close_with_a_nul(void **state)
{
    bm_buf b = { 0 };

    (void)state;
    bm_buf_puts(&b, "a");
    bm_buf_putc(&b, '\0');
    bm_buf_add(&b, "bc", 2);
    bm_buf_printf(&b, "%d-%s", 42, "x");
    assert_int_equal(b.len, 8);
    assert_memory_equal(b.data, "a\0bc42-x", 9);
    bm_buf_clear(&b);
    assert_true(b.len == 0 && b.data[0] == '\0' && b.cap != 0);
    bm_buf_done(&b);
    assert_null(b.data);
}

static void growth_keeps_every_byte(void **state)
{
    bm_buf b = { 0 };

    (void)state;
    for (int i = 0; i < 100000; i++)
        bm_buf_putc(&b, (char)(i * 7));
    assert_int_equal(b.len, 100000);
    for (int i = 0; i < 100000; i++)
        assert_true(b.data[i] == (char)(i * 7));
    for (int len = 0; len < 300; len += 13) {            /* printf at every distance from the end of the room */
        size_t before = b.len;
        bm_buf_printf(&b, "%*d", len, 1);
        assert_int_equal(b.len, before + (size_t)(len > 0 ? len : 1));
        assert_int_equal(b.data[b.len], 0);
    }
    bm_buf_done(&b);
}

static void the_limit_holds_and_its_failure_sticks(void **state)
{
    bm_buf b = { .limit = 5 };

    (void)state;
    bm_buf_puts(&b, "12345");
    assert_false(b.failed);
    bm_buf_putc(&b, '6');
    assert_true(b.failed);
    assert_string_equal(b.data, "12345");
    bm_buf_clear(&b);
    bm_buf_printf(&b, "%s", "1234");
    assert_false(b.failed);
    bm_buf_printf(&b, "%s", "56");
    assert_true(b.failed);
    bm_buf_putc(&b, 'x');
    assert_int_equal(b.len, 4);
    assert_null(bm_buf_take(&b));
    assert_true(b.limit == 5 && b.data == NULL && !b.failed);
}

static void a_failed_allocation_sticks(void **state)
{
    bm_buf b = { 0 };

    (void)state;
    bm_buf_puts(&b, "kept");
    bm_mem_fail_at(1);
    assert_false(bm_buf_reserve(&b, 1000));
    assert_true(b.failed);
    bm_buf_puts(&b, "lost");
    assert_string_equal(b.data, "kept");
    bm_buf_done(&b);
    assert_false(bm_buf_reserve(&b, SIZE_MAX));
    bm_buf_done(&b);
}

static void take_gives_the_string_away(void **state)
{
    bm_buf b = { 0 };
    char *s;

    (void)state;
    assert_non_null(s = bm_buf_take(&b));
    assert_string_equal(s, "");
    bm_free(s);
    bm_buf_puts(&b, "mine");
    assert_non_null(s = bm_buf_take(&b));
    assert_string_equal(s, "mine");
    assert_true(b.data == NULL && b.len == 0);
    bm_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writers_append_and_close_with_a_nul),
        cmocka_unit_test(growth_keeps_every_byte),
        cmocka_unit_test(the_limit_holds_and_its_failure_sticks),
        cmocka_unit_test(a_failed_allocation_sticks),
        cmocka_unit_test(take_gives_the_string_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
