/* test_hash.c - SHA-256 and HMAC against published vectors, the table hash, and secrets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

static void assert_hex(const bm_sha256 *hash, const char *expected)
{
    char hex[65];

    bm_hex(hex, hash->bytes, sizeof hash->bytes);
    assert_string_equal(hex, expected);
}

/* FIPS 180-4's examples. */
static void sha256_equals_the_published_examples(void **state)
{
    bm_sha256 h;

    (void)state;
    assert_int_equal(bm_sha256_bytes(&h, "", 0, NULL), 0);
    assert_hex(&h, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(bm_sha256_bytes(&h, "abc", 3, NULL), 0);
    assert_hex(&h, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* RFC 4231, test case 2. */
static void hmac_equals_the_published_example(void **state)
{
    bm_sha256 h;

    (void)state;
    assert_int_equal(bm_hmac_sha256(&h, "Jefe", 4, "what do ya want for nothing?", 28, NULL), 0);
    assert_hex(&h, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_int_equal(bm_hmac_sha256(&h, "k", (size_t)1 << 32, "", 0, NULL), BM_INVALID);
}

static int count_calls(void *arg, uint64_t done, uint64_t total)
{
    int *calls = arg;

    assert_true(done <= total && total == 3000000);
    return ++*calls == 2 && *(calls + 1);
}

static void a_file_hashes_as_its_bytes_and_can_be_cancelled(void **state)
{
    char path[] = "/tmp/baimo-test-XXXXXX", *bytes = bm_malloc(3000000);
    bm_sha256 whole, pieces;
    bm_error err;
    int calls[2] = { 0, 0 };

    (void)state;
    close(mkstemp(path));
    for (int i = 0; i < 3000000; i++)
        bytes[i] = (char)(i * 31 + (i >> 9));
    assert_int_equal(bm_write_file(path, bytes, 3000000, 0600, &err), 0);
    assert_int_equal(bm_sha256_bytes(&whole, bytes, 3000000, &err), 0);
    bm_free(bytes);
    assert_int_equal(bm_sha256_file(&pieces, path, count_calls, calls, &err), 0);
    assert_memory_equal(&whole, &pieces, sizeof whole);
    assert_true(calls[0] >= 3);
    calls[0] = 0, calls[1] = 1;
    assert_int_equal(bm_sha256_file(&pieces, path, count_calls, calls, &err), BM_CANCELED);
    assert_int_equal(calls[0], 2);
    bm_mem_fail_at(1);
    assert_int_equal(bm_sha256_file(&pieces, path, NULL, NULL, &err), BM_NOMEM);
    unlink(path);
    assert_int_equal(bm_sha256_file(&pieces, path, NULL, NULL, &err), BM_NOTFOUND);
    assert_int_equal(bm_sha256_file(&pieces, "/tmp", NULL, NULL, &err), BM_IO);
}

static void the_table_hash_tells_neighbours_apart(void **state)
{
    enum { N = 4096 };
    static uint64_t seen[2 * N];
    unsigned char bytes[64] = { 0 };
    int n = 0;

    (void)state;
    for (size_t len = 0; len <= sizeof bytes; len++)             /* zeros of every length */
        seen[n++] = bm_hash64(bytes, len, 1);
    for (int bit = 0; bit < 512; bit++) {                        /* one bit set */
        bytes[bit / 8] = (unsigned char)(1 << bit % 8);
        seen[n++] = bm_hash64(bytes, sizeof bytes, 1);
        bytes[bit / 8] = 0;
    }
    for (uint64_t seed = 2; seed < 100; seed++)                  /* other seeds */
        seen[n++] = bm_hash64("key", 3, seed);
    for (int i = 0; i < 3000; i++) {
        char name[32];
        int len = snprintf(name, sizeof name, "blk.%d.weight", i);
        seen[n++] = bm_hash64(name, (size_t)len, 1);
    }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            assert_true(seen[i] != seen[k]);
    assert_true(bm_hash64(NULL, 0, 1) == bm_hash64("", 0, 1));
    assert_true(bm_hash64("abcdefghij", 10, 9) == bm_hash64("abcdefghij", 10, 9));
}

static void secrets_compare_and_random_bytes_differ(void **state)
{
    unsigned char a[32] = { 0 }, b[32] = { 0 };

    (void)state;
    assert_true(bm_secret_equal("same", "same", 4));
    assert_false(bm_secret_equal("same", "sane", 4));
    assert_int_equal(bm_random_bytes(a, sizeof a, NULL), 0);
    assert_int_equal(bm_random_bytes(b, sizeof b, NULL), 0);
    assert_memory_not_equal(a, b, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_equals_the_published_examples),
        cmocka_unit_test(hmac_equals_the_published_example),
        cmocka_unit_test(a_file_hashes_as_its_bytes_and_can_be_cancelled),
        cmocka_unit_test(the_table_hash_tells_neighbours_apart),
        cmocka_unit_test(secrets_compare_and_random_bytes_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
