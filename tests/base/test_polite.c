/* A polite thread asks whether the others are busy again and again while it works; another thread never does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "base/polite.h"

static int n_asked;

static bool ask(void *arg)
{
    assert_ptr_equal(arg, &n_asked);
    n_asked++;
    return n_asked == 2;         /* rests once */
}

static void *work(void *arg)
{
    for (int i = 0; i < 1000; i++)
        bm_polite_rest();
    return arg;
}

static void work_is_cut_into_bursts_while_it_is_polite(void **state)
{
    pthread_t other;

    (void)state;
    work(NULL);
    bm_polite_begin(ask, &n_asked);
    while (n_asked < 4)
        work(NULL);
    int before = n_asked;
    assert_int_equal(pthread_create(&other, NULL, work, NULL), 0);
    pthread_join(other, NULL);
    assert_int_equal(n_asked, before);
    bm_polite_begin(NULL, NULL);
    work(NULL);
    assert_int_equal(n_asked, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(work_is_cut_into_bursts_while_it_is_polite) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
