/* Events of a stream, errors and JSON as they are written. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <jansson.h>
#include <cmocka.h>
#include "base/json_out.h"
#include "server/errors.h"
#include "server/sse.h"

static void events_end_with_an_empty_line(void **state)
{
    bm_buf out = { 0 };

    (void)state;
    bm_sse_data(&out, "{}", 2);
    bm_sse_comment(&out, "two\r\nlines");
    bm_sse_done(&out);
    assert_string_equal(out.data, "data: {}\n\n: two  lines\n\ndata: [DONE]\n\n");
    bm_buf_done(&out);
}

static void errors_have_the_one_shape(void **state)
{
    bm_buf out = { 0 };
    bm_error err;

    (void)state;
    bm_fail(&err, BM_CONTEXT, "have \"4\",\nneed 5");
    bm_hint(&err, "do that");
    bm_error_json(&out, &err, "req_1");
    assert_string_equal(out.data, "{\"error\":{\"message\":\"have \\\"4\\\",\\nneed 5\",\"type\":\"invalid_request_error\","
        "\"code\":\"context_length_exceeded\",\"param\":null,\"hint\":\"do that\",\"request_id\":\"req_1\"}}");
    bm_buf_clear(&out);
    bm_fail(&err, BM_INVALID, "near '\xff\xfe'");
    bm_param(&err, "stop");
    bm_error_json(&out, &err, "req_1");
    json_t *back = json_loadb(out.data, out.len, 0, NULL);
    assert_non_null(back);
    assert_string_equal(json_string_value(json_object_get(json_object_get(back, "error"), "param")), "stop");
    json_decref(back);
    bm_buf_done(&out);
}

static void json_reads_back(void **state)
{
    bm_buf out = { 0 };
    bm_json j = { &out, false };

    (void)state;
    bm_json_open(&j, '{');
    bm_json_kstr(&j, "a\"\\", "\x01\t\x7f\n");
    bm_json_key(&j, "list");
    bm_json_open(&j, '[');
    bm_json_float(&j, 0.1f);
    bm_json_double(&j, 0.1);
    bm_json_double(&j, NAN);
    bm_json_float(&j, -INFINITY);
    bm_json_float(&j, -1.5f);
    bm_json_int(&j, INT64_MIN);
    bm_json_null(&j);
    bm_json_strn(&j, "\xf0\x9f\x98", 3);
    bm_json_open(&j, '[');
    bm_json_close(&j, ']');
    bm_json_close(&j, ']');
    bm_json_kbool(&j, "t", true);
    bm_json_close(&j, '}');
    assert_string_equal(out.data, "{\"a\\\"\\\\\":\"\\u0001\\t\\u007f\\n\",\"list\":[0.1,0.1,null,null,-1.5,-9223372036854775808,"
                                  "null,\"\xef\xbf\xbd\",[]],\"t\":true}");
    bm_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_end_with_an_empty_line),
        cmocka_unit_test(errors_have_the_one_shape),
        cmocka_unit_test(json_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
