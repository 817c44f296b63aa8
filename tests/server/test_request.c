/* Bodies of completion requests: what is read, what is refused, and that the table of fields is what decides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "server/request.h"

static bm_error err;
static bm_request req;

static int parse(unsigned route, const char *body)
{
    bm_request_done(&req);
    return bm_request_parse(&req, route, body, strlen(body), &err);
}

static int chat_with(const char *fields)
{
    char body[4096];

    snprintf(body, sizeof body, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]%s%s}", *fields ? "," : "", fields);
    return parse(BM_CHAT, body);
}

static int text_with(const char *fields)
{
    char body[4096];

    snprintf(body, sizeof body, "{\"model\":\"m\",\"prompt\":\"hi\"%s%s}", *fields ? "," : "", fields);
    return parse(BM_COMPLETIONS, body);
}

static int with_field(const bm_field *f, const char *value, int len)
{
    char field[256];

    snprintf(field, sizeof field, "\"%s\":%.*s", f->name, len, value);
    return f->routes & BM_CHAT ? chat_with(field) : text_with(field);
}

static void assert_refused(int rc, const char *param)
{
    if (rc >= 0)
        fail_msg("accepted, expected a refusal of %s", param);
    if (strcmp(err.param, param) != 0)
        fail_msg("param '%s', expected '%s': %s", err.param, param, err.msg);
}

static void defaults_are_those_of_the_api(void **state)
{
    (void)state;
    assert_int_equal(chat_with(""), 0);
    assert_int_equal(req.n, 1);
    assert_int_equal(req.max_tokens, -1);
    assert_int_equal(req.top_logprobs, -1);
    assert_true(req.sampling.temperature == 1 && req.sampling.top_p == 1 && req.sampling.repetition_penalty == 1);
    assert_false(req.stream || req.has_seed || req.echo);
    assert_int_equal(text_with(""), 0);
    assert_int_equal(req.max_tokens, 16);
    assert_string_equal(req.prompts[0].text, "hi");
}

static void every_used_field_arrives(void **state)
{
    (void)state;
    assert_int_equal(chat_with("\"stream\":true,\"stream_options\":{\"include_usage\":true},\"n\":3,\"max_completion_tokens\":7,"
        "\"temperature\":0.5,\"top_p\":0.25,\"top_k\":40,\"min_p\":0.125,\"repetition_penalty\":1.5,\"frequency_penalty\":-1,"
        "\"presence_penalty\":2,\"logit_bias\":{\"5\":-100,\"9\":2.5},\"seed\":-4,\"stop\":[\"a\",\"bb\"],\"logprobs\":true,"
        "\"top_logprobs\":20,\"ignore_eos\":true,\"chat_template_kwargs\":{\"enable_thinking\":false}"), 0);
    assert_true(req.stream && req.include_usage && req.has_seed && req.ignore_eos);
    assert_int_equal(req.n, 3);
    assert_int_equal(req.max_tokens, 7);
    assert_true(req.sampling.temperature == 0.5f && req.sampling.top_p == 0.25f && req.sampling.min_p == 0.125f);
    assert_int_equal(req.sampling.top_k, 40);
    assert_true(req.sampling.repetition_penalty == 1.5f && req.sampling.frequency_penalty == -1 && req.sampling.presence_penalty == 2);
    assert_int_equal(req.sampling.n_bias, 2);
    assert_int_equal(req.sampling.bias[1].token, 9);
    assert_true(req.sampling.seed == (uint64_t)-4);
    assert_int_equal(req.n_stop, 2);
    assert_string_equal(req.stop[1], "bb");
    assert_int_equal(req.top_logprobs, 20);
    assert_true(json_is_false(json_object_get(req.template_vars, "enable_thinking")));
    assert_int_equal(text_with("\"stop\":\"x\",\"logprobs\":0,\"echo\":true,\"max_tokens\":0,\"best_of\":2,\"n\":2"), 0);
    assert_int_equal(req.n_stop, 1);
    assert_int_equal(req.top_logprobs, 0);
    assert_int_equal(req.max_tokens, 0);
    assert_true(req.echo);
}

static void whole_numbers_may_be_written_as_floats(void **state)
{
    (void)state;
    assert_int_equal(chat_with("\"seed\":7.0,\"n\":2.0,\"max_tokens\":3e0"), 0);
    assert_true(req.has_seed && req.sampling.seed == 7);
    assert_int_equal(req.n, 2);
    assert_int_equal(req.max_tokens, 3);
}

static void null_is_absence(void **state)
{
    (void)state;
    for (size_t i = 0; i < bm_n_fields; i++) {
        const char *name = bm_fields[i].name;
        if (strcmp(name, "messages") != 0 && strcmp(name, "prompt") != 0 && strcmp(name, "model") != 0 && with_field(&bm_fields[i], "null", 4) != 0)
            fail_msg("%s: %s", name, err.msg);
    }
}

static void fields_that_are_not_carried_out_are_refused_by_name(void **state)
{
    static const char *const samples[] = { "[{\"a\":1}]", "{\"type\":\"json_object\"}", "\"high\"", "true" };
    size_t n_refused = 0;

    (void)state;
    for (size_t i = 0; i < bm_n_fields; i++)
        for (size_t k = 0; k < 4 && bm_fields[i].treatment == BM_FIELD_REFUSED; k++, n_refused++) {
            int rc = with_field(&bm_fields[i], samples[k], (int)strlen(samples[k]));
            assert_refused(rc, bm_fields[i].name);
            assert_int_equal(rc, BM_UNSUPPORTED);
            assert_string_not_equal(err.hint, "");
        }
    assert_true(n_refused > 40);
}

static void neutral_values_of_refused_fields_pass(void **state)
{
    (void)state;
    for (size_t i = 0; i < bm_n_fields; i++)
        for (const char *p = bm_fields[i].neutral; p != NULL && *p != '\0';) {
            size_t len = strcspn(p, "\n");
            if (with_field(&bm_fields[i], p, (int)len) != 0)
                fail_msg("%s: %s", bm_fields[i].name, err.msg);
            p += len + (p[len] == '\n');
        }
}

static void unknown_fields_are_refused_with_the_nearest_name(void **state)
{
    (void)state;
    assert_refused(chat_with("\"temprature\":1"), "temprature");
    assert_non_null(strstr(err.hint, "temperature"));
    assert_refused(chat_with("\"prompt\":\"x\""), "prompt");
    assert_refused(text_with("\"messages\":[]"), "messages");
    assert_refused(chat_with("\"zzzzzzzzzzzz\":null"), "zzzzzzzzzzzz");
}

static void values_out_of_range_are_refused(void **state)
{
    static const char *const bad[][2] = {
        { "temperature", "-0.1" }, { "temperature", "2.1" }, { "temperature", "\"1\"" }, { "temperature", "true" },
        { "top_p", "1.1" }, { "top_p", "-1" }, { "top_k", "-2" }, { "top_k", "2147483648" }, { "top_k", "1.5" }, { "min_p", "2" },
        { "n", "0" }, { "n", "33" }, { "n", "-1" }, { "n", "1e300" }, { "max_tokens", "-1" }, { "max_tokens", "2147483648" },
        { "max_tokens", "0" }, { "max_tokens", "9223372036854775807" }, { "frequency_penalty", "-2.5" }, { "presence_penalty", "3" },
        { "repetition_penalty", "0" }, { "top_logprobs", "21" }, { "seed", "1.5" }, { "seed", "\"7\"" }, { "stream", "1" },
        { "stop", "7" }, { "stop", "[\"a\", 3]" }, { "stop", "[\"\"]" }, { "logit_bias", "{\"x\":1}" }, { "logit_bias", "{\"-1\":1}" },
        { "logit_bias", "{\"3\":101}" }, { "logit_bias", "{\"3\":\"1\"}" }, { "logit_bias", "{\"99999999999\":1}" }, { "logit_bias", "[]" },
        { "stream_options", "{\"include_usage\":true}" }, { "chat_template_kwargs", "{\"chat_template\":\"x\"}" },
        { "chat_template_kwargs", "{\"enable_thinking\":\"no\"}" }, { "user", "5" }, { "metadata", "\"x\"" },
    };
    char field[128];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(field, sizeof field, "\"%s\":%s", bad[i][0], bad[i][1]);
        assert_refused(chat_with(field), bad[i][0]);
    }
    assert_refused(chat_with("\"top_logprobs\":2"), "top_logprobs");
    assert_refused(chat_with("\"max_tokens\":2,\"max_completion_tokens\":3"), "max_tokens");
    assert_refused(chat_with("\"stream\":true,\"stream_options\":{\"x\":true}"), "stream_options");
    assert_refused(text_with("\"best_of\":2"), "best_of");
    assert_refused(chat_with("\"seed\":1e17"), "seed");
    assert_refused(text_with("\"logprobs\":true"), "logprobs");
    assert_true(text_with("\"seed\":9223372036854775808") < 0);
}

static void prompts_come_in_four_forms(void **state)
{
    static const char *const bad[] = { "null", "[]", "[[]]", "[1,\"a\"]", "[\"a\",1]", "[[1],\"a\"]", "[[1],[\"a\"]]", "[-1]",
        "[2147483648]", "[1.5]", "[null]", "7", "{}", "[true]", "[[[1]]]" };

    (void)state;
    assert_int_equal(parse(BM_COMPLETIONS, "{\"prompt\":[\"a\",\"bc\"]}"), 0);
    assert_int_equal(req.n_prompts, 2);
    assert_int_equal(req.prompts[1].len, 2);
    assert_null(req.model);
    assert_int_equal(parse(BM_COMPLETIONS, "{\"prompt\":[1,2,3]}"), 0);
    assert_int_equal(req.n_prompts, 1);
    assert_int_equal(req.prompts[0].n_ids, 3);
    assert_int_equal(req.prompts[0].ids[2], 3);
    assert_int_equal(parse(BM_COMPLETIONS, "{\"prompt\":[[1,2],[3]]}"), 0);
    assert_int_equal(req.n_prompts, 2);
    assert_int_equal(req.prompts[1].ids[0], 3);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"prompt\":%s}", bad[i]);
        assert_refused(parse(BM_COMPLETIONS, body), "prompt");
    }
    assert_refused(parse(BM_COMPLETIONS, "{}"), "prompt");
}

static void text_parts_are_joined(void **state)
{
    (void)state;
    assert_int_equal(parse(BM_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                                    "{\"type\":\"text\",\"text\":\"b\"}]}]}"), 0);
    assert_string_equal(json_string_value(json_object_get(json_array_get(req.messages, 0), "content")), "a\nb");
}

static void bad_messages_are_named(void **state)
{
    static const char *const bad[][2] = {
        { "null", "messages" }, { "[]", "messages" }, { "\"x\"", "messages" }, { "[1]", "messages[0]" },
        { "[{\"content\":\"x\"}]", "messages[0].role" }, { "[{\"role\":\"robot\",\"content\":\"x\"}]", "messages[0].role" },
        { "[{\"role\":\"user\"}]", "messages[0].content" }, { "[{\"role\":\"user\",\"content\":null}]", "messages[0].content" },
        { "[{\"role\":\"user\",\"content\":5}]", "messages[0].content" }, { "[{\"role\":\"user\",\"content\":[]}]", "messages[0].content" },
        { "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}]", "messages[0].content[0].type" },
        { "[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "messages[0].content[0]" },
        { "[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"user\",\"content\":\"x\",\"colour\":1}]", "messages[1].colour" },
        { "[{\"role\":\"assistant\",\"content\":\"x\",\"audio\":{\"id\":\"1\"}}]", "messages[0].audio" },
        { "[{\"role\":\"assistant\",\"content\":\"x\",\"function_call\":{\"name\":\"f\"}}]", "messages[0].function_call" },
        { "[{\"role\":\"user\",\"content\":\"x\",\"tool_calls\":[{}]}]", "messages[0].tool_calls" },
        { "[{\"role\":\"user\",\"content\":\"x\",\"name\":7}]", "messages[0].name" },
    };
    char body[512];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(body, sizeof body, "{\"messages\":%s}", bad[i][0]);
        assert_refused(parse(BM_CHAT, body), bad[i][1]);
    }
    assert_int_equal(parse(BM_CHAT, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\",\"refusal\":null,\"annotations\":[],"
                                    "\"audio\":null,\"function_call\":null,\"tool_calls\":null}]}"), 0);
}

static const char *role_of_first(void) { return json_string_value(json_object_get(json_array_get(req.messages, 0), "role")); }

static void what_the_template_has_no_room_for_is_refused(void **state)
{
    (void)state;
    assert_int_equal(parse(BM_CHAT, "{\"messages\":[{\"role\":\"developer\",\"content\":\"x\",\"name\":\"Bob\"}]}"), 0);
    assert_true(bm_messages_fit(req.messages, "{{ messages }}", &err) < 0);
    assert_string_equal(err.param, "messages[0].name");
    assert_int_equal(bm_messages_fit(req.messages, "{{ message.name }} {{ developer }}", &err), 0);
    assert_string_equal(role_of_first(), "developer");
    assert_int_equal(bm_messages_fit(req.messages, "{{ message['name'] }}", &err), 0);
    assert_string_equal(role_of_first(), "system");
}

static void broken_json_is_an_error_of_the_caller(void **state)
{
    static const char *const bad[] = { "", "{", "[]", "null", "{\"a\":1,\"a\":2}", "{\"prompt\":\"\xff\"}", "{\"prompt\":\"\\ud800\"}",
        "{\"prompt\":\"\\u0000\"}", "{} x", "{\"prompt\":1e999}", "{\"prompt\":01}", "{'prompt':1}", "\xef\xbb\xbf{}", "{\"a\":NaN}" };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(parse(BM_COMPLETIONS, bad[i]), BM_INVALID);
}

static void depth_and_count_are_limited_before_parsing(void **state)
{
    size_t n = 6000000;
    char *body = malloc(n);

    (void)state;
    memset(body, '[', n);
    bm_request_done(&req);
    assert_int_equal(bm_request_parse(&req, BM_CHAT, body, n, &err), BM_LIMIT);
    for (size_t i = 1; i < n; i++)
        body[i] = i & 1 ? '1' : ',';
    assert_int_equal(bm_request_parse(&req, BM_CHAT, body, n, &err), BM_LIMIT);
    memset(body, '[', n);                                        /* inside a string nothing nests */
    memcpy(body, "{\"prompt\":\"", 11);
    memcpy(body + n - 2, "\"}", 2);
    assert_int_equal(bm_request_parse(&req, BM_COMPLETIONS, body, n, &err), 0);
    free(body);
}

static void a_request_of_too_many_choices_is_refused(void **state)
{
    char *body = malloc(8192);
    size_t n = (size_t)sprintf(body, "{\"n\":32,\"prompt\":[");

    (void)state;
    for (int i = 0; i < 100; i++)
        n += (size_t)sprintf(body + n, "%s\"x\"", i > 0 ? "," : "");
    sprintf(body + n, "]}");
    assert_refused(parse(BM_COMPLETIONS, body), "n");
    free(body);
}

static void failing_allocations_fail_cleanly(void **state)
{
    static const char body[] = "{\"prompt\":[[1,2],[3]],\"stop\":[\"a\"],\"logit_bias\":{\"3\":1}}";

    (void)state;
    for (long k = 1; k < 12; k++) {
        bm_request_done(&req);
        bm_mem_fail_at(k);
        int rc = bm_request_parse(&req, BM_COMPLETIONS, body, sizeof body - 1, &err);
        bm_mem_fail_at(0);
        assert_true(rc == 0 || rc == BM_NOMEM);
    }
    bm_request_done(&req);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_api),
        cmocka_unit_test(every_used_field_arrives),
        cmocka_unit_test(whole_numbers_may_be_written_as_floats),
        cmocka_unit_test(null_is_absence),
        cmocka_unit_test(fields_that_are_not_carried_out_are_refused_by_name),
        cmocka_unit_test(neutral_values_of_refused_fields_pass),
        cmocka_unit_test(unknown_fields_are_refused_with_the_nearest_name),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(prompts_come_in_four_forms),
        cmocka_unit_test(text_parts_are_joined),
        cmocka_unit_test(bad_messages_are_named),
        cmocka_unit_test(what_the_template_has_no_room_for_is_refused),
        cmocka_unit_test(broken_json_is_an_error_of_the_caller),
        cmocka_unit_test(depth_and_count_are_limited_before_parsing),
        cmocka_unit_test(a_request_of_too_many_choices_is_refused),
        cmocka_unit_test(failing_allocations_fail_cleanly),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    bm_request_done(&req);
    return failed;
}
