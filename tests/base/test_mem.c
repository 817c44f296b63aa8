/* test_mem.c - the door for allocation, checked sizes, arenas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"

static void sizes_that_overflow_are_refused(void **state)
{
    size_t n = 7;

    (void)state;
    assert_false(bm_mul_size(SIZE_MAX / 2 + 1, 2, &n));
    assert_false(bm_add_size(SIZE_MAX, 1, &n));
    assert_true(bm_mul_size(SIZE_MAX / 2, 2, &n) && n == SIZE_MAX - 1);
    assert_true(bm_add_size(SIZE_MAX - 1, 1, &n) && n == SIZE_MAX);
    assert_null(bm_calloc(SIZE_MAX / 4, 8));
    assert_null(bm_strndup("", SIZE_MAX));
}

static void nothing_is_still_a_pointer(void **state)
{
    void *p[] = { bm_malloc(0), bm_zalloc(0), bm_calloc(0, 8), bm_realloc(NULL, 0), bm_alloc_aligned(0, 64), bm_strndup(NULL, 0) };

    (void)state;
    for (size_t i = 0; i < sizeof p / sizeof p[0]; i++) {
        assert_non_null(p[i]);
        bm_free(p[i]);
    }
    bm_free(NULL);
}

static void aligned_memory_is_aligned(void **state)
{
    (void)state;
    for (size_t align = 1; align <= 4096; align *= 2) {
        void *p = bm_alloc_aligned(100, align);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % align, 0);
        memset(p, 1, 100);
        bm_free(p);
    }
}

static void the_nth_allocation_fails_once(void **state)
{
    (void)state;
    long before = bm_mem_count();
    bm_mem_fail_at(2);
    void *first = bm_malloc(1), *second = bm_malloc(1), *third = bm_malloc(1);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    assert_int_equal(bm_mem_count() - before, 3);
    bm_mem_fail_at(1);
    bm_mem_fail_at(0);
    void *fourth = bm_malloc(1);
    assert_non_null(fourth);
    bm_mem_fail_at(1);
    assert_null(bm_realloc(first, 100));                 /* and first stays valid */
    bm_free(first);
    bm_free(third);
    bm_free(fourth);
}

static void copies_hold_nuls_and_end_with_one(void **state)
{
    char *s = bm_strndup("a\0b", 3);

    (void)state;
    assert_memory_equal(s, "a\0b", 4);
    bm_free(s);
    s = bm_strdup("text");
    assert_string_equal(s, "text");
    bm_free(s);
}

static void arenas_give_zeroed_aligned_memory_apart(void **state)
{
    static const size_t sizes[] = { 0, 1, 15, 16, 17, 4000, 4096, 5000, 1 << 20, 3 << 20, 8 };
    bm_arena arena = { 0 };
    unsigned char *got[sizeof sizes / sizeof sizes[0]];
    size_t sum = 0;

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_non_null(got[i] = bm_arena_alloc(&arena, sizes[i]));
        assert_int_equal((uintptr_t)got[i] % 16, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_true(got[i][k] == 0);
        memset(got[i], (int)i + 1, sizes[i]);
        sum += (sizes[i] + 15) / 16 * 16;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            assert_true(got[i][k] == i + 1);
    assert_int_equal(arena.total_bytes, sum);
    bm_arena_done(&arena);
    assert_true(arena.head == NULL && arena.total_bytes == 0);
    bm_arena_done(&arena);
}

static void an_arena_stops_at_its_limit(void **state)
{
    bm_arena arena = { .limit_bytes = 1024 };

    (void)state;
    assert_null(bm_arena_alloc(&arena, 1025));
    assert_null(bm_arena_alloc(&arena, SIZE_MAX));
    assert_null(bm_arena_alloc(&arena, SIZE_MAX - 15));
    for (int i = 0; i < 64; i++)
        assert_non_null(bm_arena_alloc(&arena, 16));
    assert_null(bm_arena_alloc(&arena, 1));
    assert_int_equal(arena.total_bytes, 1024);
    bm_arena_done(&arena);
    assert_non_null(bm_arena_alloc(&arena, 1024));
    bm_arena_done(&arena);
}

static void an_arena_without_memory_gives_null_and_lives_on(void **state)
{
    bm_arena arena = { 0 };

    (void)state;
    bm_mem_fail_at(1);
    assert_null(bm_arena_alloc(&arena, 8));
    char *s = bm_arena_strndup(&arena, "abc", 2);
    assert_string_equal(s, "ab");
    assert_null(bm_arena_strndup(&arena, "", SIZE_MAX));
    bm_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(nothing_is_still_a_pointer),
        cmocka_unit_test(aligned_memory_is_aligned),
        cmocka_unit_test(the_nth_allocation_fails_once),
        cmocka_unit_test(copies_hold_nuls_and_end_with_one),
        cmocka_unit_test(arenas_give_zeroed_aligned_memory_apart),
        cmocka_unit_test(an_arena_stops_at_its_limit),
        cmocka_unit_test(an_arena_without_memory_gives_null_and_lives_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
