/* Host, Origin and keys, against a real store in a directory of its own. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "server/guard.h"

static char home[] = "/tmp/baimo-guard-XXXXXX";
static bm_store *store;
static bm_guard *guard;
static bm_error err;
static const char *const allow[] = { "Chat.Example.org", "[2001:db8::7]" };

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(home) == NULL || bm_store_open(&store, home, &err) < 0)
        return -1;
    return bm_guard_new(&guard, store, "127.0.0.1", 8080, allow, 2, &err);
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    bm_guard_free(guard);
    bm_store_close(store);
    snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command);
}

static void names_of_this_machine_pass(void **state)
{
    static const char *const good[] = { "localhost", "LocalHost:8080", "localhost.", "127.0.0.1", "127.0.0.1:9", "[::1]", "[::1]:8080",
        "chat.example.org", "CHAT.example.org:443", "[2001:db8::7]:1" };
    char machine[256] = "";

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (bm_guard_host(guard, good[i], &err) != 0)
            fail_msg("%s: %s", good[i], err.msg);
    gethostname(machine, sizeof machine - 1);
    assert_int_equal(bm_guard_host(guard, machine, &err), 0);
}

static void other_names_are_forbidden(void **state)
{
    static const char *const bad[] = { "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.2", "", ":8080",
        "localhost:x", "localhost:99999", "[::1", "[::1]x", "::1", "u@localhost", "localhost,evil", "example.org", "0.0.0.0", "2130706433" };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (bm_guard_host(guard, bad[i], &err) != BM_FORBIDDEN)
            fail_msg("%s passed", bad[i]);
    assert_int_equal(bm_guard_host(guard, NULL, &err), BM_FORBIDDEN);
    assert_non_null(strstr(err.hint, "--allow-host"));
}

static void foreign_pages_are_forbidden(void **state)
{
    static const char *const good[] = { "http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080", "https://chat.example.org",
        "http://chat.example.org:3000" };
    static const char *const bad[] = { "null", "http://evil.example", "http://localhost:3000", "http://localhost", "https://localhost",
        "http://localhost:8080.evil.example", "http://evil.example:8080", "file://", "chrome-extension://abc", "http://", "", "localhost:8080" };

    (void)state;
    assert_int_equal(bm_guard_origin(guard, NULL, "localhost:8080", &err), 0);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (bm_guard_origin(guard, good[i], "localhost:8080", &err) != 0)
            fail_msg("%s: %s", good[i], err.msg);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (bm_guard_origin(guard, bad[i], "localhost:8080", &err) != BM_FORBIDDEN)
            fail_msg("%s passed", bad[i]);
    /* Forwarded from another port of this machine: the page's port is the one in Host. */
    assert_int_equal(bm_guard_origin(guard, "http://localhost:3000", "localhost:3000", &err), 0);
}

static void loopback_is_recognised(void **state)
{
    (void)state;
    assert_true(bm_host_is_loopback("127.0.0.1") && bm_host_is_loopback("127.9.9.9") && bm_host_is_loopback("::1") &&
                bm_host_is_loopback("[::1]") && bm_host_is_loopback("localhost"));
    assert_false(bm_host_is_loopback("0.0.0.0") || bm_host_is_loopback("::") || bm_host_is_loopback("192.168.1.1") ||
                 bm_host_is_loopback("127.evil.example") || bm_host_is_loopback("") || bm_host_is_loopback("2130706433"));
}

static int ask(const char *scheme, const char *secret, unsigned scope, bm_key *key)
{
    char header[160];

    snprintf(header, sizeof header, "%s%s", scheme, secret);
    return bm_guard_key(guard, header, scope, key, &err);
}

static void a_key_is_needed_once_one_exists_and_ever_after(void **state)
{
    char secret[80], wrong[96];
    bm_key key;

    (void)state;
    assert_int_equal(bm_guard_key(guard, NULL, BM_SCOPE_INFER, &key, &err), 0);
    assert_int_equal(key.id, 0);
    assert_int_equal(bm_key_add(store, "ann", NULL, secret, &key, &err), 0);
    assert_int_equal(bm_guard_key(guard, NULL, BM_SCOPE_INFER, &key, &err), BM_AUTH);
    assert_int_equal(ask("Bearer ", secret, BM_SCOPE_INFER, &key), 0);
    assert_string_equal(key.name, "ann");
    assert_int_equal(ask("bearer   ", secret, BM_SCOPE_INFER, &key), 0);
    assert_int_equal(ask("Bearer", secret, BM_SCOPE_INFER, &key), BM_AUTH);
    assert_int_equal(ask("Basic ", secret, BM_SCOPE_INFER, &key), BM_AUTH);
    assert_int_equal(ask("Bearer ", "", BM_SCOPE_INFER, &key), BM_AUTH);
    snprintf(wrong, sizeof wrong, "%sx", secret);
    assert_int_equal(ask("Bearer ", wrong, BM_SCOPE_INFER, &key), BM_AUTH);
    assert_int_equal(bm_key_revoke(store, "ann", &err), 0);
    assert_int_equal(ask("Bearer ", secret, BM_SCOPE_INFER, &key), BM_AUTH);
    assert_int_equal(bm_guard_key(guard, NULL, BM_SCOPE_INFER, &key, &err), BM_AUTH);
}

static void scopes_are_kept_apart(void **state)
{
    char secret[80];
    bm_key key;

    (void)state;
    assert_int_equal(bm_key_add(store, "auditor", "audit", secret, &key, &err), 0);
    assert_int_equal(ask("Bearer ", secret, BM_SCOPE_INFER, &key), BM_FORBIDDEN);
    assert_int_equal(ask("Bearer ", secret, BM_SCOPE_AUDIT, &key), 0);
}

static void beyond_loopback_a_key_is_always_needed(void **state)
{
    static const char *const odd[] = { "bad name:x" };
    bm_guard *open;
    bm_key key;

    (void)state;
    assert_int_equal(bm_guard_new(&open, store, "0.0.0.0", 80, NULL, 0, &err), 0);
    assert_int_equal(bm_guard_key(open, NULL, BM_SCOPE_INFER, &key, &err), BM_AUTH);
    assert_int_equal(bm_guard_host(open, "0.0.0.0", &err), BM_FORBIDDEN);
    bm_guard_free(open);
    assert_int_equal(bm_guard_new(&open, store, "127.0.0.1", 80, odd, 1, &err), BM_INVALID);
    assert_null(open);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_this_machine_pass),
        cmocka_unit_test(other_names_are_forbidden),
        cmocka_unit_test(foreign_pages_are_forbidden),
        cmocka_unit_test(loopback_is_recognised),
        cmocka_unit_test(a_key_is_needed_once_one_exists_and_ever_after),
        cmocka_unit_test(scopes_are_kept_apart),
        cmocka_unit_test(beyond_loopback_a_key_is_always_needed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
