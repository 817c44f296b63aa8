/* Heads of HTTP requests: what is read, and everything two readers could understand differently refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "server/request_head.h"

static char *bytes;
static bm_http_head head;
static const char *why;

static int parse_n(const char *s, size_t len)
{
    free(bytes);
    bytes = malloc(len);             /* exactly, so that a sanitizer sees a read past the end */
    memcpy(bytes, s, len);
    why = "";
    return bm_http_head_parse(&head, bytes, len, &why);
}

static int parse(const char *s) { return parse_n(s, strlen(s)); }

static void a_plain_request_is_read(void **state)
{
    (void)state;
    assert_int_equal(parse("POST /v1/x?a=b HTTP/1.1\r\nhOsT:  localhost:8080 \r\nContent-Length: 12\r\nAuthorization: Bearer x y\r\n"
                           "Origin: http://localhost\r\nContent-Type: application/json; charset=utf-8\r\nExpect: 100-Continue\r\n\r\n"), 0);
    assert_string_equal(head.method, "POST");
    assert_string_equal(head.target, "/v1/x");
    assert_string_equal(head.query, "a=b");
    assert_string_equal(head.host, "localhost:8080");
    assert_string_equal(head.authorization, "Bearer x y");
    assert_string_equal(head.origin, "http://localhost");
    assert_string_equal(head.content_type, "application/json; charset=utf-8");
    assert_true(head.has_length && head.length == 12 && head.keep_alive && head.expect_continue && !head.chunked);
}

static void versions_and_connection_decide_who_stays(void **state)
{
    (void)state;
    assert_int_equal(parse("GET / HTTP/1.0\r\n\r\n"), 0);
    assert_false(head.keep_alive);
    assert_null(head.host);
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Close\r\n\r\n"), 0);
    assert_false(head.keep_alive);
    assert_int_equal(parse("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
    assert_int_equal(parse("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), 505);
}

static void an_absolute_target_brings_its_host(void **state)
{
    (void)state;
    assert_int_equal(parse("GET http://evil.example:80/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"), 0);
    assert_string_equal(head.host, "evil.example:80");
    assert_string_equal(head.target, "/v1/models");
    assert_int_equal(parse("GET http://x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(parse("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    assert_int_equal(parse("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(parse("GET x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}

static void ambiguous_heads_are_refused(void **state)
{
    static const struct { int status; const char *head; } bad[] = {
        { 400, "GET / HTTP/1.1\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x10\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" },
        { 400, "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" },
        { 501, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" },
        { 501, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" },
        { 417, "GET / HTTP/1.1\r\nHost: a\r\nExpect: cake\r\n\r\n" },
        { 400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n" },
        { 400, "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n" },
        { 400, "GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n" },
        { 400, "GET /\r\nHost: a\r\n\r\n" },
        { 400, "\r\n\r\n" },
        { 400, "AVERYLONGMETHODNAME / HTTP/1.1\r\nHost: a\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nAuthorization: y\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int status = parse(bad[i].head);
        if (status != bad[i].status)
            fail_msg("%zu: %d, expected %d", i, status, bad[i].status);
        assert_string_not_equal(why, "");
    }
    assert_int_equal(parse_n("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 29), 400);
}

static void the_number_of_fields_is_limited(void **state)
{
    char text[4096] = "GET / HTTP/1.1\r\nHost: a\r\n";

    (void)state;
    for (int i = 0; i < 99; i++)
        strcat(text, "X: y\r\n");
    size_t n = strlen(text);
    strcat(text, "\r\n");
    assert_int_equal(parse(text), 0);
    strcpy(text + n, "X: y\r\n\r\n");
    assert_int_equal(parse(text), 431);
}

static void a_head_is_complete_with_its_empty_line(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";

    (void)state;
    for (size_t n = 0; n < sizeof text - 1; n++)
        assert_int_equal(bm_http_head_length(text, n), n < 27 ? 0 : 27);
}

static void a_head_of_bare_line_feeds_is_refused_at_once(void **state)
{
    static const char text[] = "GET / HTTP/1.1\nHost: a\n\nrest";

    (void)state;
    for (size_t n = 0; n < sizeof text - 1; n++)
        assert_int_equal(bm_http_head_length(text, n), n < 24 ? 0 : 24);
    assert_int_equal(bm_http_head_length("A\r\n\r\n\n\n", 7), 5);
    assert_int_equal(parse("GET / HTTP/1.1\nHost: a\n\n"), 400);
}

static void chunk_sizes_are_strict(void **state)
{
    uint64_t v;

    (void)state;
    assert_true(bm_http_chunk_size("1aF", 3, &v) && v == 0x1af);
    assert_true(bm_http_chunk_size("5;x=y", 5, &v) && v == 5);
    assert_true(bm_http_chunk_size("0", 1, &v) && v == 0);
    assert_false(bm_http_chunk_size("", 0, &v) || bm_http_chunk_size("-1", 2, &v) || bm_http_chunk_size("0x5", 3, &v) ||
                 bm_http_chunk_size(";", 1, &v) || bm_http_chunk_size("fffffffffffffffff", 17, &v) || bm_http_chunk_size(" 5", 2, &v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_request_is_read),
        cmocka_unit_test(versions_and_connection_decide_who_stays),
        cmocka_unit_test(an_absolute_target_brings_its_host),
        cmocka_unit_test(ambiguous_heads_are_refused),
        cmocka_unit_test(the_number_of_fields_is_limited),
        cmocka_unit_test(a_head_is_complete_with_its_empty_line),
        cmocka_unit_test(a_head_of_bare_line_feeds_is_refused_at_once),
        cmocka_unit_test(chunk_sizes_are_strict),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(bytes);
    return failed;
}
