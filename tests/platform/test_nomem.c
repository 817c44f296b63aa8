/* Each allocation of the platform's functions fails once: they say so, change nothing, and work the next time. */
#include "home_kit.h"

#include "platform/keys.h"
#include "platform/ledger.h"
#include "platform/shelf.h"

typedef struct work { bm_store *store; char secret[80]; } work;
typedef int job(work *w, bm_error *err);

/* Run a job with allocation 1, 2, 3 ... failing until one run is left alone. Every failure must be BM_NOMEM. */
static void fail_each(job *run, work *w)
{
    for (long n = 1;; n++) {
        bm_error err = { 0 };
        assert_true(n < 100000);
        bm_mem_fail_at(n);
        long before = bm_mem_count();
        int rc = run(w, &err);
        bool reached = bm_mem_count() - before >= n;
        bm_mem_fail_at(0);
        if (rc < 0 && rc != BM_NOMEM)
            fail_msg("allocation %ld: %d: %s", n, rc, err.msg);
        assert_int_equal(rc < 0 ? err.code : 0, rc);
        if (!reached) {
            assert_int_equal(rc, 0);
            return;
        }
    }
}

static int list(work *w, bm_error *err)
{
    bm_shelf_model *rows;
    size_t n;
    int rc = bm_shelf_list(w->store, &rows, &n, err);

    assert_int_equal(n, rc < 0 ? 0 : 1);
    bm_free(rows);
    return rc;
}

static int resolve(work *w, bm_error *err)
{
    bm_shelf_model m;

    return bm_shelf_resolve(w->store, NULL, &m, err);
}

static int check_key(work *w, bm_error *err)
{
    bm_key key;

    return bm_key_check(w->store, w->secret, BM_SCOPE_INFER, &key, err);
}

static int make_and_revoke(work *w, bm_error *err)
{
    char secret[80];
    bm_key key;
    int rc;

    if (bm_key_add(w->store, "brief", NULL, secret, &key, NULL) == BM_NOMEM)
        return bm_fail(err, BM_NOMEM, "not made");
    rc = bm_key_revoke(w->store, "brief", err);
    return rc;
}

static int sum_usage(work *w, bm_error *err)
{
    bm_usage_row *rows;
    size_t n;
    int rc = bm_usage(w->store, "day", 0, &rows, &n, err);

    bm_free(rows);
    return rc;
}

static int count(void *arg, const bm_scan_hit *hit)
{
    (void)hit;
    ++*(int *)arg;
    return 0;
}

static int scan(work *w, bm_error *err)
{
    int n = 0;

    (void)w;
    return bm_shelf_scan(kit_home, count, &n, err);
}

static int reopen(work *w, bm_error *err)
{
    int rc;

    bm_store_close(w->store);
    if ((rc = bm_store_open(&w->store, kit_home, err)) < 0) {
        assert_null(w->store);
        bm_mem_fail_at(0);
        w->store = kit_store();
    }
    return rc;
}

static void every_allocation_may_fail(void **state)
{
    work w = { .store = kit_store() };
    bm_shelf_model m;
    bm_key key;
    bm_ledger_row row = { .request_id = "r", .model = "m", .outcome = "ok", .started_ms = 1 };
    bm_error err;

    (void)state;
    kit_copy(TINY_MODEL, ".lmstudio/models/a/b/tiny.gguf");
    assert_int_equal(bm_shelf_add(w.store, kit_path(".lmstudio/models/a/b/tiny.gguf"), "tiny", NULL, NULL, NULL, &m, &err), 0);
    assert_int_equal(bm_key_add(w.store, "k", NULL, w.secret, &key, &err), 0);
    assert_int_equal(bm_ledger_add(w.store, &row, &err), 0);
    assert_int_equal(bm_ledger_flush(w.store, &err), 0);
    fail_each(list, &w);
    fail_each(resolve, &w);
    fail_each(check_key, &w);
    fail_each(make_and_revoke, &w);
    fail_each(sum_usage, &w);
    fail_each(scan, &w);
    fail_each(reopen, &w);
    bm_store_close(w.store);
}

static void row_that_finds_no_memory_is_refused(void **state)
{
    bm_store *store = kit_store();
    bm_ledger_row row = { .request_id = "r", .model = "m", .outcome = "ok", .started_ms = 1 };
    bm_usage_row *rows;
    size_t n;
    bm_error err;

    (void)state;
    for (int i = 1; i <= 2; i++) {
        bm_mem_fail_at(i);
        assert_int_equal(bm_ledger_add(store, &row, &err), BM_NOMEM);
        bm_mem_fail_at(0);
    }
    assert_int_equal(bm_ledger_add(store, &row, &err), 0);
    assert_int_equal(bm_ledger_flush(store, &err), 0);
    assert_int_equal(bm_usage(store, "model", 0, &rows, &n, &err), 0);
    assert_int_equal(rows[0].requests, 1);
    bm_free(rows);
    bm_store_close(store);
}

#define T(f) cmocka_unit_test_setup_teardown(f, kit_make, kit_remove)
int main(void)
{
    const struct CMUnitTest tests[] = { T(every_allocation_may_fail), T(row_that_finds_no_memory_is_refused) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
