/* test_team.c - every item is claimed once, barriers order the phases, and any number of threads is fine on any number of CPUs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "compute/team.h"
#include "compute/team_crowd.h"

enum { ITEMS = 1000, PHASES = 5 };

typedef struct job {
    int counts[PHASES][ITEMS];   /* written by the claimer only; read after the barrier */
    int wrong[64];
} job;

static void count_items(bm_worker *w, void *arg)
{
    job *j = arg;
    size_t begin, end;

    for (int phase = 0; phase < PHASES; phase++) {
        while (bm_worker_claim(w, ITEMS, (size_t)(1 + 7 * phase), &begin, &end))
            for (size_t i = begin; i < end; i++)
                j->counts[phase][i]++;
        bm_worker_barrier(w);
        for (int i = 0; i < ITEMS; i++)
            j->wrong[w->id] += j->counts[phase][i] != 1;
    }
}

static void check_team(int n)
{
    bm_team *team;
    bm_error err;

    assert_int_equal(bm_team_new(&team, n, &err), 0);
    assert_int_equal(bm_team_size(team), n);
    for (int run = 0; run < 20; run++) {
        job *j = bm_zalloc(sizeof *j);
        bm_team_run(team, count_items, j);
        for (int i = 0; i < n; i++)
            assert_int_equal(j->wrong[i], 0);
        bm_free(j);
    }
    assert_int_equal(bm_team_barriers(team), 20 * (PHASES + 1));
    bm_team_free(team);
}

static void each_item_is_claimed_once_by_1_thread(void **state) { (void)state; check_team(1); }
static void each_item_is_claimed_once_by_2_threads(void **state) { (void)state; check_team(2); }
static void each_item_is_claimed_once_by_16_threads(void **state) { (void)state; check_team(16); }

static void add_one(bm_worker *w, void *arg) { ((int *)arg)[w->id]++; }

static void count_and_check_n(bm_worker *w, void *arg)
{
    ((job *)arg)->wrong[w->id] += w->id >= w->n;
    count_items(w, arg);
}

static void workers_sit_out_and_come_back(void **state)
{
    bm_team *team;

    (void)state;
    assert_int_equal(bm_team_new(&team, 6, NULL), 0);
    for (int run = 0; run < 300; run++) {
        job *j = bm_zalloc(sizeof *j);
        int limit = 1 + run * 7 % 6, n[6] = { 0 };
        bm_team_limit(team, run % 5 == 0 ? run - 3 : limit);     /* below 1 and above 6 mean 1 and 6 */
        bm_team_run(team, count_and_check_n, j);
        for (int i = 0; i < 6; i++)
            assert_int_equal(j->wrong[i], 0);
        for (int i = 0; i < ITEMS; i++)
            assert_int_equal(j->counts[PHASES - 1][i], 1);
        bm_team_limit(team, limit);
        bm_team_run(team, add_one, n);
        for (int i = 0; i < 6; i++)
            assert_int_equal(n[i], i < limit);
        bm_free(j);
    }
    bm_team_limit(team, 2);
    bm_team_run(team, add_one, (int[6]){ 0 });
    bm_team_free(team);          /* with workers that sit out */
}

static void delayed_team_shrinks_and_grows_again(void **state)
{
    bm_crowd *c = bm_crowd_new(8);
    int n = 8, tries = 0;

    (void)state;
    assert_non_null(c);
    for (int i = 0; i < 15; i++)                                     /* a stall may be chance */
        assert_int_equal(bm_crowd_decide(c, 8, 8, 200, 1000), 8);
    assert_int_equal(bm_crowd_decide(c, 8, 8, 100, 1000), 8);        /* 8 x 10 % */
    for (int i = 0; i < 15; i++)
        assert_int_equal(bm_crowd_decide(c, 8, 8, 200, 1000), 8);
    assert_int_equal(bm_crowd_decide(c, 8, 8, 200, 1000), 7);
    n = 7;
    for (int i = 0; i < 300; i++) {                                  /* the eighth does not pay: it is tried ever less often */
        int next = bm_crowd_decide(c, n, 8, n == 8 ? 200 : 0, 1000);
        tries += n == 7 && next == 8;
        n = next;
    }
    assert_in_range(tries, 3, 6);
    for (int i = 0; i < 200; i++)
        n = bm_crowd_decide(c, n, 8, 0, 1000);
    assert_int_equal(n, 8);
    for (int i = 0; i < 200; i++)
        n = bm_crowd_decide(c, n, 8, 8000, 1000);
    assert_int_equal(n, 1);                                          /* never none */
    bm_crowd_free(c);
}

static void profile_counts_runs_barriers_and_work(void **state)
{
    bm_team_profile p;
    bm_team *team;

    (void)state;
    assert_int_equal(bm_team_new(&team, 4, NULL), 0);
    bm_team_profile_take(team, &p);
    assert_int_equal(p.runs, 0);
    for (int run = 0; run < 10; run++) {
        job *j = bm_zalloc(sizeof *j);
        if (run == 5)
            assert_int_equal(bm_team_profile_start(team, NULL), 0);
        bm_team_run(team, count_items, j);
        for (int i = 0; i < 4; i++)
            assert_int_equal(j->wrong[i], 0);
        bm_free(j);
    }
    bm_team_profile_take(team, &p);
    assert_int_equal(p.runs, 5);
    assert_int_equal(p.barriers, 5 * (PHASES + 1));
    assert_true(p.claimed_s > 0 && p.run_s > 0 && p.wait_s >= 0 && p.lone_s >= 0 && p.own_s >= 0);
    assert_true(p.ideal_s * 4 >= p.claimed_s * 0.999 && p.ideal_s <= (p.claimed_s + p.own_s) * 1.001);
    bm_team_profile_take(team, &p);
    assert_int_equal(p.barriers, 0);
    bm_team_free(team);
}

static void many_short_runs_return(void **state)
{
    int n[3] = { 0 };
    bm_team *team;

    (void)state;
    assert_int_equal(bm_team_new(&team, 3, NULL), 0);
    for (int i = 0; i < 5000; i++)
        bm_team_run(team, add_one, n);
    for (int i = 0; i < 3; i++)
        assert_int_equal(n[i], 5000);
    bm_team_free(team);
}

static void team_may_end_unused(void **state)
{
    bm_team *team;

    (void)state;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(bm_team_new(&team, 4, NULL), 0);
        bm_team_free(team);
    }
    bm_team_free(NULL);
}

static void unfit_numbers_of_threads_are_refused(void **state)
{
    bm_team *team;
    bm_error err;

    (void)state;
    assert_int_equal(bm_team_new(&team, 0, &err), BM_INVALID);
    assert_null(team);
    assert_int_equal(bm_team_new(&team, 1 << 20, &err), BM_INVALID);
}

static void failing_allocations_leave_nothing_behind(void **state)
{
    bm_team *team;
    bm_error err;

    (void)state;
    for (long i = 1; i <= 3; i++) {
        bm_mem_fail_at(i);
        assert_int_equal(bm_team_new(&team, 2, &err), BM_NOMEM);
        assert_null(team);
        bm_mem_fail_at(0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_item_is_claimed_once_by_1_thread),
        cmocka_unit_test(each_item_is_claimed_once_by_2_threads),
        cmocka_unit_test(each_item_is_claimed_once_by_16_threads),
        cmocka_unit_test(workers_sit_out_and_come_back),
        cmocka_unit_test(delayed_team_shrinks_and_grows_again),
        cmocka_unit_test(profile_counts_runs_barriers_and_work),
        cmocka_unit_test(many_short_runs_return),
        cmocka_unit_test(team_may_end_unused),
        cmocka_unit_test(unfit_numbers_of_threads_are_refused),
        cmocka_unit_test(failing_allocations_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
