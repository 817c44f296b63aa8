/* Pools of pages: reservations, references, zeroing, one budget for several pools. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "engine/kv.h"

enum { SMALL = 4096, LARGE = 12288 };

static bool all_zero(const void *p, size_t n)
{
    const unsigned char *b = p;

    for (size_t i = 0; i < n; i++)
        if (b[i] != 0)
            return false;
    return true;
}

static void reservations_are_all_or_nothing(void **state)
{
    bm_kv_budget budget;
    bm_kv_pool pools[2];
    int32_t fits[] = { 4, 2 }, more[] = { 1, 1 };

    (void)state;
    assert_int_equal(bm_kv_budget_init(&budget, 4 * SMALL + 2 * LARGE, NULL), 0);
    assert_int_equal(bm_kv_pool_init(&pools[0], &budget, SMALL, NULL), 0);
    assert_int_equal(bm_kv_pool_init(&pools[1], &budget, LARGE, NULL), 0);
    assert_true(bm_kv_reserve(&budget, pools, fits, 2));
    assert_false(bm_kv_reserve(&budget, pools, more, 2));
    assert_int_equal(budget.committed_bytes, budget.total_bytes);
    assert_false(bm_kv_budget_resize(&budget, budget.total_bytes - 1));
    bm_kv_release(&pools[0], 4);
    bm_kv_release(&pools[1], 2);
    assert_int_equal(budget.committed_bytes, 0);
    assert_true(bm_kv_budget_resize(&budget, SMALL));
    assert_false(bm_kv_reserve(&budget, pools, fits, 2));
    bm_kv_pool_done(&pools[0]);
    bm_kv_pool_done(&pools[1]);
    bm_kv_budget_done(&budget);
}

static void a_taken_page_is_zero_aligned_and_counted_by_reference(void **state)
{
    bm_kv_budget budget;
    bm_kv_pool pool;
    int32_t n = 3;

    (void)state;
    assert_int_equal(bm_kv_budget_init(&budget, 3 * SMALL, NULL), 0);
    assert_int_equal(bm_kv_pool_init(&pool, &budget, SMALL, NULL), 0);
    assert_true(bm_kv_reserve(&budget, &pool, &n, 1));
    for (int round = 0; round < 5; round++) {
        void *page = bm_kv_take(&pool);
        assert_true(((uintptr_t)page & 63) == 0 && all_zero(page, SMALL));
        memset(page, 0xA5, SMALL);
        bm_kv_ref(&pool, page);
        assert_true(bm_kv_shared(&pool, page));
        assert_false(bm_kv_drop(&pool, page));
        assert_false(bm_kv_shared(&pool, page));
        assert_int_equal(pool.n_used, 1);
        assert_true(bm_kv_drop(&pool, page));
        assert_int_equal(pool.n_reserved, 2);
        n = 1;
        assert_true(bm_kv_reserve(&budget, &pool, &n, 1));
    }
    void *page = bm_kv_take(&pool);
    bm_kv_drop(&pool, page);
    assert_int_equal(pool.n_reserved, 2);
    assert_int_equal(budget.committed_bytes, 2 * SMALL);
    bm_kv_release(&pool, 2);
    bm_kv_pool_done(&pool);
    bm_kv_budget_done(&budget);
}

/* Pages that one pool touched and freed give their memory to another pool; they come back zeroed. */
static void free_pages_give_way_to_another_pool(void **state)
{
    enum { ODD = 5120 };                     /* not a multiple of the system's page */
    bm_kv_budget budget;
    bm_kv_pool a, b;
    void *pages[6], *other;
    int32_t six = 6, one = 1;

    (void)state;
    assert_int_equal(bm_kv_budget_init(&budget, 6 * ODD, NULL), 0);
    assert_int_equal(bm_kv_pool_init(&a, &budget, ODD, NULL), 0);
    assert_int_equal(bm_kv_pool_init(&b, &budget, 4 * ODD, NULL), 0);
    assert_true(bm_kv_reserve(&budget, &a, &six, 1));
    for (int i = 0; i < 6; i++)
        memset(pages[i] = bm_kv_take(&a), 0xA5, ODD);
    for (int i = 0; i < 6; i++)
        bm_kv_drop(&a, pages[i]);
    assert_int_equal(budget.resident_bytes, 6 * ODD);
    assert_true(bm_kv_reserve(&budget, &b, &one, 1));
    other = bm_kv_take(&b);
    assert_int_equal(a.n_clean, 4);
    assert_int_equal(budget.resident_bytes, budget.total_bytes);
    bm_kv_drop(&b, other);
    assert_true(bm_kv_reserve(&budget, &a, &six, 1));
    for (int i = 0; i < 6; i++) {
        pages[i] = bm_kv_take(&a);
        assert_true(all_zero(pages[i], ODD));
    }
    assert_true(budget.resident_bytes <= budget.total_bytes);
    for (int i = 0; i < 6; i++)
        bm_kv_drop(&a, pages[i]);
    bm_kv_pool_done(&a);
    bm_kv_pool_done(&b);
    assert_int_equal(budget.resident_bytes, 0);
    bm_kv_budget_done(&budget);
}

static void a_pool_that_cannot_be_made_leaves_nothing(void **state)
{
    bm_kv_budget budget;
    bm_kv_pool pool;
    bm_error err;

    (void)state;
    assert_int_equal(bm_kv_budget_init(&budget, 10 * SMALL, NULL), 0);
    for (int n = 1; n <= 3; n++) {
        bm_mem_fail_at(n);
        assert_int_equal(bm_kv_pool_init(&pool, &budget, SMALL, &err), BM_NOMEM);
        assert_null(budget.pools);
    }
    bm_mem_fail_at(0);
    assert_int_equal(bm_kv_pool_init(&pool, &budget, 11 * SMALL, &err), BM_NOMEM);
    bm_kv_budget_done(&budget);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reservations_are_all_or_nothing),
        cmocka_unit_test(a_taken_page_is_zero_aligned_and_counted_by_reference),
        cmocka_unit_test(free_pages_give_way_to_another_pool),
        cmocka_unit_test(a_pool_that_cannot_be_made_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
