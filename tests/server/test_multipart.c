/* Forms as they come: whole, in every split, and broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "server/multipart.h"

static const char type[] = "multipart/form-data; boundary=\"x-y\"";
static bm_buf seen;

static int on_part(void *arg, const char *name, const char *filename, const char **why)
{
    (void)arg;
    if (strcmp(name, "refused") == 0) {
        *why = "no";
        return 418;
    }
    bm_buf_printf(&seen, "<%s|%s>", name, filename);
    return 0;
}

static int on_data(void *arg, const char *bytes, size_t len, const char **why)
{
    (void)arg, (void)why;
    bm_buf_add(&seen, bytes, len);
    return 0;
}

/* In pieces of `first` bytes, then the rest; what was seen stays in `seen`. */
static int feed(const char *body, size_t len, size_t first, bool *complete)
{
    bm_multipart m = { .part = on_part, .data = on_data };
    const char *why = "";
    int rc;

    bm_buf_clear(&seen);
    assert_true(bm_multipart_init(&m, type));
    rc = bm_multipart_feed(&m, body, first, &why);
    if (rc == 0)
        rc = bm_multipart_feed(&m, body + first, len - first, &why);
    *complete = bm_multipart_complete(&m);
    bm_multipart_done(&m);
    return rc;
}

static const char form[] =
    "--x-y\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nfine-tune\r\n"
    "--x-y\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".jsonl\"\r\nContent-Type: application/json\r\n\r\n"
    "{\"a\": 1}\r\n--x-\r\n\r\n--x-Y\r\n--x-y--\r\n";
static const char expected[] = "<purpose|>fine-tune<file|a \"b\".jsonl>{\"a\": 1}\r\n--x-\r\n\r\n--x-Y";

static void a_form_is_the_same_in_every_split(void **state)
{
    bool complete;

    (void)state;
    for (size_t i = 0; i < sizeof form; i++) {
        assert_int_equal(feed(form, sizeof form - 1, i < sizeof form - 1 ? i : sizeof form - 1, &complete), 0);
        assert_true(complete);
        assert_string_equal(seen.data, expected);
    }
}

static void one_byte_at_a_time(void **state)
{
    bm_multipart m = { .part = on_part, .data = on_data };
    const char *why = "";

    (void)state;
    bm_buf_clear(&seen);
    assert_true(bm_multipart_init(&m, type));
    for (size_t i = 0; i < sizeof form - 1; i++)
        assert_int_equal(bm_multipart_feed(&m, form + i, 1, &why), 0);
    assert_true(bm_multipart_complete(&m));
    assert_string_equal(seen.data, expected);
    bm_multipart_done(&m);
}

static void a_form_that_ends_early_is_not_complete(void **state)
{
    bool complete;

    (void)state;
    for (size_t n = 0; n < sizeof form - 5; n++) {
        assert_int_equal(feed(form, n, n, &complete), 0);
        assert_false(complete);
    }
}

static void broken_forms_are_refused(void **state)
{
    static const char *const bad[] = {
        "--x-yz\r\n\r\n",                                                        /* not the boundary's line */
        "--x-y\r\n\r\nno head",                                                  /* no name */
        "--x-y\r\nContent-Disposition: form-data; filename=\"f\"\r\n\r\n",       /* a file without a name */
        "--x-y\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64\r\n\r\n",
    };
    char many[4096] = "", preamble[6000];
    bool complete;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(feed(bad[i], strlen(bad[i]), 3, &complete), 400);
    for (int i = 0; i < 17; i++)
        strcat(many, "--x-y\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n");
    assert_int_equal(feed(many, strlen(many), 10, &complete), 400);
    memset(preamble, 'p', sizeof preamble);
    assert_int_equal(feed(preamble, sizeof preamble, 100, &complete), 400);
    memcpy(preamble, "--x-y\r\n", 7);
    assert_int_equal(feed(preamble, sizeof preamble, 100, &complete), 400);
    assert_int_equal(feed("--x-y\r\nContent-Disposition: form-data; name=\"refused\"\r\n\r\n", 57, 20, &complete), 418);
}

static void only_forms_with_a_boundary_are_taken(void **state)
{
    static const char *const bad[] = { "", "application/json", "multipart/form-data", "multipart/form-data; boundary=",
        "multipart/form-data; boundary=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
    bm_multipart m = { .part = on_part, .data = on_data };

    (void)state;
    assert_false(bm_multipart_init(&m, NULL));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(bm_multipart_init(&m, bad[i]));
    assert_true(bm_multipart_init(&m, "multipart/form-data; charset=utf-8; boundary=abc"));
    bm_multipart_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_form_is_the_same_in_every_split),
        cmocka_unit_test(one_byte_at_a_time),
        cmocka_unit_test(a_form_that_ends_early_is_not_complete),
        cmocka_unit_test(broken_forms_are_refused),
        cmocka_unit_test(only_forms_with_a_boundary_are_taken),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);

    bm_buf_done(&seen);
    return rc;
}
