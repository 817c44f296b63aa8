/* API keys: made once, checked at each request, refused from the moment they are revoked. */
#define _GNU_SOURCE     /* memmem */
#include "home_kit.h"

#include "base/hash.h"
#include "platform/keys.h"
#include "platform/ledger.h"

static void made_key_is_valid_and_its_secret_is_not_stored(void **state)
{
    bm_store *store = kit_store();
    char secret[80], *bytes;
    bm_key key, found;
    size_t len;
    bm_error err;
    bool any;

    (void)state;
    assert_int_equal(bm_key_any(store, &any, &err), 0);
    assert_false(any);
    assert_int_equal(bm_key_add(store, "alice", NULL, secret, &key, &err), 0);
    assert_int_equal(strlen(secret), 46);
    assert_memory_equal(secret, "bm-", 3);
    assert_int_equal(strspn(secret + 3, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 43);
    assert_int_equal(bm_key_any(store, &any, &err), 0);
    assert_true(any);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(bm_key_check(store, secret, BM_SCOPE_INFER, &found, &err), 0);
        assert_string_equal(found.name, "alice");
        assert_int_equal(found.id, key.id);
    }
    bm_store_close(store);
    assert_int_equal(bm_read_file(&bytes, &len, kit_path("baimo.db"), 1 << 24, &err), 0);
    assert_null(memmem(bytes, len, secret + 10, 36));
    assert_non_null(memmem(bytes, len, "alice", 5));
    bm_free(bytes);
}

static void wrong_keys_are_refused(void **state)
{
    bm_store *store = kit_store();
    char secret[80], longer[5000];
    bm_key key;
    bm_error err;

    (void)state;
    assert_int_equal(bm_key_add(store, "alice", "infer", secret, &key, &err), 0);
    assert_int_equal(bm_key_check(store, NULL, BM_SCOPE_INFER, &key, &err), BM_AUTH);
    assert_int_equal(bm_key_check(store, "", BM_SCOPE_INFER, &key, &err), BM_AUTH);
    assert_int_equal(bm_key_check(store, "sk-none", BM_SCOPE_INFER, &key, &err), BM_AUTH);
    secret[45] = secret[45] == 'A' ? 'E' : 'A';
    assert_int_equal(bm_key_check(store, secret, BM_SCOPE_INFER, &key, &err), BM_AUTH);
    assert_null(strstr(err.msg, secret));
    memset(longer, 'x', sizeof longer - 1), longer[sizeof longer - 1] = '\0';
    assert_int_equal(bm_key_check(store, longer, BM_SCOPE_INFER, &key, &err), BM_AUTH);
    bm_store_close(store);
}

static void scopes_are_held_apart_and_admin_may_all(void **state)
{
    bm_store *store = kit_store();
    char infer[80], admin[80], text[64];
    bm_key key;
    bm_error err;

    (void)state;
    assert_int_equal(bm_key_add(store, "i", "infer,audit", infer, &key, &err), 0);
    bm_scopes_text(key.scopes, text);
    assert_string_equal(text, "infer,audit");
    assert_int_equal(bm_key_add(store, "a", "admin", admin, &key, &err), 0);
    assert_int_equal(bm_key_check(store, infer, BM_SCOPE_AUDIT, &key, &err), 0);
    assert_int_equal(bm_key_check(store, infer, BM_SCOPE_ADMIN, &key, &err), BM_FORBIDDEN);
    assert_non_null(strstr(err.msg, "needs admin"));
    assert_int_equal(bm_key_check(store, admin, BM_SCOPE_INFER, &key, &err), 0);
    assert_int_equal(bm_key_add(store, "x", "infer,everything", infer, &key, &err), BM_INVALID);
    assert_int_equal(bm_key_add(store, "x", "", infer, &key, &err), BM_INVALID);
    assert_int_equal(bm_key_add(store, "", NULL, infer, &key, &err), BM_INVALID);
    assert_int_equal(bm_key_add(store, "a\x1b[2J", NULL, infer, &key, &err), BM_INVALID);
    bm_store_close(store);
}

/* A second store stands for another process: its connection is its own. */
static void revocation_elsewhere_counts_at_once(void **state)
{
    bm_store *serving = kit_store(), *other_process = kit_store();
    char secret[80], again[80];
    bm_key key;
    bm_error err;
    bool any;

    (void)state;
    assert_int_equal(bm_key_any(serving, &any, &err), 0);
    assert_false(any);
    assert_int_equal(bm_key_add(other_process, "alice", NULL, secret, &key, &err), 0);
    assert_int_equal(bm_key_any(serving, &any, &err), 0);
    assert_true(any);
    assert_int_equal(bm_key_check(serving, secret, BM_SCOPE_INFER, &key, &err), 0);
    assert_int_equal(bm_key_revoke(other_process, "alice", &err), 0);
    assert_int_equal(bm_key_check(serving, secret, BM_SCOPE_INFER, &key, &err), BM_AUTH);
    assert_int_equal(bm_key_any(serving, &any, &err), 0);
    assert_false(any);
    assert_int_equal(bm_key_revoke(other_process, "alice", &err), BM_NOTFOUND);
    assert_int_equal(bm_key_add(serving, "alice", NULL, again, &key, &err), 0);
    assert_int_equal(bm_key_check(serving, again, BM_SCOPE_INFER, &key, &err), 0);
    assert_int_equal(bm_key_check(serving, secret, BM_SCOPE_INFER, &key, &err), BM_AUTH);
    bm_store_close(serving);
    bm_store_close(other_process);
}

static void name_is_taken_until_revoked_and_prefix_revokes(void **state)
{
    bm_store *store = kit_store();
    char secret[80], other[80];
    bm_key key, *keys;
    size_t n;
    bm_error err;

    (void)state;
    assert_int_equal(bm_key_add(store, "alice", NULL, secret, &key, &err), 0);
    assert_int_equal(bm_key_add(store, "alice", NULL, other, &key, &err), BM_EXISTS);
    assert_int_equal(bm_key_revoke(store, "alcie", &err), BM_NOTFOUND);
    assert_non_null(strstr(err.hint, "alice"));
    assert_int_equal(bm_key_revoke(store, "bm-", &err), BM_NOTFOUND);
    assert_int_equal(bm_key_revoke(store, secret, &err), 0);
    assert_int_equal(bm_key_list(store, &keys, &n, &err), 0);
    assert_int_equal(n, 1);
    assert_true(keys[0].revoked_ms > 0);
    bm_free(keys);
    bm_store_close(store);
}

static void a_request_marks_its_key_as_used(void **state)
{
    bm_store *store = kit_store();
    bm_ledger_row row = { .request_id = "r1", .key_name = "alice", .model = "m", .outcome = "ok", .started_ms = 1700000000000 };
    bm_usage_row *usage;
    char secret[80];
    bm_key key, *keys;
    size_t n;
    bm_error err;

    (void)state;
    assert_int_equal(bm_key_add(store, "alice", NULL, secret, &key, &err), 0);
    row.key_id = key.id;
    assert_int_equal(bm_ledger_add(store, &row, &err), 0);
    assert_int_equal(bm_ledger_flush(store, &err), 0);
    assert_int_equal(bm_key_list(store, &keys, &n, &err), 0);
    assert_int_equal(keys[0].last_used_ms, 1700000000000);
    bm_free(keys);
    assert_int_equal(bm_usage(store, "key", 0, &usage, &n, &err), 0);
    assert_int_equal(n, 1);
    assert_string_equal(usage[0].group, "alice");
    bm_free(usage);
    assert_int_equal(bm_usage(store, "colour", 0, &usage, &n, &err), BM_INVALID);
    bm_store_close(store);
}

#define T(f) cmocka_unit_test_setup_teardown(f, kit_make, kit_remove)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(made_key_is_valid_and_its_secret_is_not_stored),
        T(wrong_keys_are_refused),
        T(scopes_are_held_apart_and_admin_may_all),
        T(revocation_elsewhere_counts_at_once),
        T(name_is_taken_until_revoked_and_prefix_revokes),
        T(a_request_marks_its_key_as_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
