/* example_chat.c - messages of a row, from OpenAI's and ShareGPT's words into one form, and the order of their roles. */
#include "train/example.h"

#include <string.h>

#include "base/buf.h"

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory for a row"); }

static const char *type_name(const json_t *v)
{
    static const char *const names[] = { "an object", "an array", "a string", "a number", "a number", "true", "false", "null" };

    return v == NULL ? "missing" : names[json_typeof(v)];
}

/* The words for a role, and the one that templates know. "function_call" is the assistant's, with calls in its text. */
static const char *role_of(const char *word)
{
    static const char *const words[][2] = {
        { "system", "system" }, { "developer", "system" }, { "user", "user" }, { "human", "user" }, { "prompter", "user" },
        { "assistant", "assistant" }, { "gpt", "assistant" }, { "chatgpt", "assistant" }, { "bot", "assistant" },
        { "model", "assistant" }, { "function_call", "function_call" }, { "tool", "tool" }, { "observation", "tool" },
        { "function", "tool" }, { "ipython", "tool" }
    };

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(words[i][0], word) == 0)
            return words[i][1];
    return NULL;
}

static const json_t *either(const json_t *object, const char *a, const char *b)
{
    const json_t *v = json_object_get(object, a);

    return v != NULL ? v : json_object_get(object, b);
}

/* ---- calls of tools ---- */

static int parse_string(json_t **out, const json_t *string, const char *what, bm_error *err)
{
    json_error_t where;

    *out = json_loadb(json_string_value(string), json_string_length(string), JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
    if (*out != NULL)
        return 0;
    return bm_fail(err, BM_INVALID, "%s: not JSON: column %d: %.80s", what, where.column, where.text);
}

/* {"name", "arguments"}, perhaps inside {"function"}: made into OpenAI's form. Arguments in a string are parsed: templates write them
 * as JSON, and a string would get a second pair of quotes, which no model should learn. */
static int add_call(json_t *calls, const json_t *call, bm_error *err)
{
    const json_t *function = json_object_get(call, "function"), *id = json_object_get(call, "id");
    json_t *arguments, *made, *parsed = NULL;
    int rc;

    if (!json_is_object(function))
        function = call;
    const json_t *name = json_object_get(function, "name");
    arguments = json_object_get(function, "arguments");
    if (!json_is_string(name))
        return bm_fail(err, BM_INVALID, "a call of a tool without a name");
    if (json_is_string(arguments)) {
        if ((rc = parse_string(&parsed, arguments, "the arguments of a call", err)) < 0)
            return rc;
        arguments = parsed;
    }
    if (arguments != NULL && !json_is_object(arguments)) {
        json_decref(parsed);
        return bm_fail(err, BM_INVALID, "the arguments of a call are %s, expected an object", type_name(arguments));
    }
    made = json_pack("{s:s, s:{s:O, s:o}}", "type", "function", "function", "name", name, "arguments",
                     arguments != NULL ? json_incref(arguments) : json_object());
    json_decref(parsed);
    if (made != NULL && json_is_string(id) && json_object_set(made, "id", (json_t *)(uintptr_t)id) < 0) {
        json_decref(made);
        made = NULL;
    }
    return json_array_append_new(calls, made) == 0 ? 0 : no_memory(err);
}

/* An array of calls, or one call. */
static int set_calls(json_t *message, const json_t *calls, bm_error *err)
{
    json_t *list = json_array(), *call;
    size_t i;
    int rc = list == NULL ? no_memory(err) : 0;

    if (rc == 0 && json_is_object(calls))
        rc = add_call(list, calls, err);
    else if (rc == 0 && !json_is_array(calls))
        rc = bm_fail(err, BM_INVALID, "tool_calls is %s, expected an array", type_name(calls));
    json_array_foreach((json_t *)(uintptr_t)calls, i, call)
        if (rc == 0)
            rc = add_call(list, call, err);
    if (rc == 0 && json_array_size(list) == 0) {
        json_decref(list);
        return 0;
    }
    if (rc == 0 && json_object_set(message, "tool_calls", list) < 0)
        rc = no_memory(err);
    json_decref(list);
    return rc;
}

/* ---- one message ---- */

static int join_parts(json_t **out, const json_t *parts, bm_error *err)
{
    bm_buf text = { 0 };
    json_t *part;
    size_t i;

    *out = NULL;
    json_array_foreach((json_t *)(uintptr_t)parts, i, part) {
        const json_t *s = json_is_string(part) ? part : json_object_get(part, "text");
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!json_is_string(s) || (type != NULL && strcmp(type, "text") != 0)) {
            bm_buf_done(&text);
            return bm_fail(err, BM_INVALID, "its content has a part of type '%.40s', expected text", type != NULL ? type : "?");
        }
        if (i > 0)
            bm_buf_putc(&text, '\n');
        bm_buf_add(&text, json_string_value(s), json_string_length(s));
    }
    if (!text.failed)
        *out = json_stringn(text.len > 0 ? text.data : "", text.len);
    bm_buf_done(&text);
    return *out == NULL ? no_memory(err) : 0;
}

static int set_content(json_t *made, const json_t *content, bool may_be_null, bm_error *err)
{
    json_t *text = NULL;
    int rc = 0;

    if (json_is_array(content))
        rc = join_parts(&text, content, err);
    else if (json_is_string(content))
        text = json_incref((json_t *)(uintptr_t)content);
    else if (may_be_null && (content == NULL || json_is_null(content)))
        text = json_null();
    else
        rc = bm_fail(err, BM_INVALID, "its content is %s, expected a string", type_name(content));
    return rc < 0 ? rc : json_object_set_new(made, "content", text) == 0 ? 0 : no_memory(err);
}

/* The keys that templates may read, and the weight; strings but for it. */
static int copy_keys(json_t *made, const json_t *message, bm_error *err)
{
    static const char *const keys[] = { "name", "tool_call_id", "reasoning_content", "reasoning", "thinking" };
    json_t *v;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        v = json_object_get(message, keys[i]);
        if (v == NULL || json_is_null(v))
            continue;
        if (!json_is_string(v))
            return bm_fail(err, BM_INVALID, "its %s is %s, expected a string", keys[i], type_name(v));
        if (json_object_set(made, keys[i], v) < 0)
            return no_memory(err);
    }
    v = json_object_get(message, "weight");
    if (v == NULL || json_is_null(v))
        return 0;
    if (!json_is_number(v) || (json_number_value(v) != 0 && json_number_value(v) != 1))
        return bm_fail(err, BM_INVALID, "its weight is not 0 or 1");
    return json_object_set(made, "weight", v) == 0 ? 0 : no_memory(err);
}

static int fill_message(json_t *made, const json_t *message, const char *role, bm_error *err)
{
    const json_t *content = either(message, "content", "value"), *calls = json_object_get(message, "tool_calls");
    bool is_call = strcmp(role, "function_call") == 0;
    json_t *parsed = NULL;
    int rc;

    if (content == NULL)
        content = json_object_get(message, "text");
    if (is_call)
        role = "assistant";
    if (json_object_set_new(made, "role", json_string(role)) < 0)
        return no_memory(err);
    if (is_call) {
        if (!json_is_string(content))
            return bm_fail(err, BM_INVALID, "its value is %s, expected a string", type_name(content));
        if ((rc = parse_string(&parsed, content, "the call", err)) == 0)
            rc = set_calls(made, parsed, err);
        json_decref(parsed);
        content = NULL;
    } else {
        rc = calls != NULL && !json_is_null(calls) ? set_calls(made, calls, err) : 0;
    }
    bool has_calls = json_object_get(made, "tool_calls") != NULL;
    if (rc == 0 && has_calls && strcmp(role, "assistant") != 0)
        rc = bm_fail(err, BM_INVALID, "calls tools, and only the assistant can");
    if (rc == 0 && (rc = set_content(made, content, has_calls, err)) == 0)
        rc = copy_keys(made, message, err);
    if (rc == 0 && !has_calls && json_string_length(json_object_get(made, "content")) == 0 &&
        (strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0))
        rc = bm_fail(err, BM_INVALID, "is empty");
    return rc;
}

int bm_chat_add_one(json_t *messages, const json_t *message, bm_error *err)
{
    const size_t number = json_array_size(messages) + 1;
    const json_t *word = either(message, "role", "from");
    const char *role = json_is_string(word) ? role_of(json_string_value(word)) : NULL;
    json_t *made;
    int rc;

    if (!json_is_object(message))
        return bm_fail(err, BM_INVALID, "message %zu is %s, expected an object", number, type_name(message));
    if (!json_is_string(word))
        return bm_fail(err, BM_INVALID, "message %zu: its role is %s, expected a string", number, type_name(word));
    if (role == NULL)
        return bm_fail(err, BM_INVALID, "message %zu: unknown role '%.40s'", number, json_string_value(word));
    if ((made = json_object()) == NULL)
        return no_memory(err);
    if ((rc = fill_message(made, message, role, err)) < 0) {
        json_decref(made);
        return bm_wrap(err, "message %zu (%s)", number, role);
    }
    return json_array_append_new(messages, made) == 0 ? 0 : no_memory(err);
}

int bm_chat_add(json_t *messages, const json_t *list, bm_error *err)
{
    json_t *message;
    size_t i;
    int rc;

    if (!json_is_array(list))
        return bm_fail(err, BM_INVALID, "the messages are %s, expected an array", type_name(list));
    if (json_array_size(list) == 0)
        return bm_fail(err, BM_INVALID, "empty: no messages");
    json_array_foreach((json_t *)(uintptr_t)list, i, message)
        if ((rc = bm_chat_add_one(messages, message, err)) < 0)
            return rc;
    return 0;
}

int bm_chat_add_text(json_t *messages, const char *role, const json_t *text, bm_error *err)
{
    json_t *message = json_pack("{s:s, s:O}", "role", role, "content", text);
    int rc = message == NULL ? no_memory(err) : bm_chat_add_one(messages, message, err);

    json_decref(message);
    return rc;
}

/* ---- order ---- */

static const char *role_at(const json_t *messages, size_t i)
{
    return json_string_value(json_object_get(json_array_get(messages, i), "role"));
}

static const char *expected_after(const json_t *messages, size_t i)
{
    const char *role;

    if (i == 0)
        return "user";
    role = role_at(messages, i - 1);
    if (strcmp(role, "system") == 0)
        return "user";
    if (strcmp(role, "user") == 0)
        return "assistant";
    if (strcmp(role, "tool") == 0)
        return "assistant";                                      /* or another tool's answer */
    return json_object_get(json_array_get(messages, i - 1), "tool_calls") != NULL ? "tool" : "user";
}

int bm_chat_check_order(const json_t *messages, bool complete, bm_error *err)
{
    size_t n = json_array_size(messages);

    for (size_t i = 0; i < n; i++) {
        const char *role = role_at(messages, i), *expected = expected_after(messages, i);
        if (strcmp(role, expected) == 0 || (i == 0 && strcmp(role, "system") == 0) ||
            (i > 0 && strcmp(role, "tool") == 0 && strcmp(role_at(messages, i - 1), "tool") == 0))
            continue;
        if (i == 0)
            return bm_fail(err, BM_INVALID, "roles out of order: the first message is of %s, expected %s", role, expected);
        return bm_fail(err, BM_INVALID, "roles out of order: message %zu is of %s, after %s; expected %s", i + 1, role,
                       role_at(messages, i - 1), expected);
    }
    if (n == 0)
        return bm_fail(err, BM_INVALID, "empty: no messages");
    const char *last = role_at(messages, n - 1);
    if (complete && strcmp(last, "assistant") != 0)
        return bm_fail(err, BM_INVALID, "roles out of order: the last message is of %s: there is no answer to learn", last);
    if (!complete && strcmp(last, "user") != 0 && strcmp(last, "tool") != 0)
        return bm_fail(err, BM_INVALID, "roles out of order: the prompt's last message is of %s, expected user", last);
    return 0;
}

/* ---- tools ---- */

static int add_tool(json_t *tools, json_t *tool, bm_error *err)
{
    bool wrapped = json_is_object(json_object_get(tool, "function"));
    const json_t *function = wrapped ? json_object_get(tool, "function") : tool;

    if (!json_is_object(tool) || !json_is_string(json_object_get(function, "name")))
        return bm_fail(err, BM_INVALID, "tool %zu has no name", json_array_size(tools) + 1);
    json_t *made = wrapped ? json_incref(tool) : json_pack("{s:s, s:O}", "type", "function", "function", tool);
    return json_array_append_new(tools, made) == 0 ? 0 : no_memory(err);
}

int bm_chat_tools(json_t **out, const json_t *row, bm_error *err)
{
    json_t *tools = json_incref((json_t *)(uintptr_t)either(row, "tools", "functions")), *tool, *made = NULL;
    size_t i;
    int rc = 0;

    *out = NULL;
    if (json_is_string(tools)) {
        json_t *parsed = NULL;
        if (json_string_length(tools) > 0)
            rc = parse_string(&parsed, tools, "tools", err);
        json_decref(tools);
        tools = parsed;
    }
    if (rc < 0 || tools == NULL || json_is_null(tools) || (json_is_array(tools) && json_array_size(tools) == 0))
        goto out;
    if (!json_is_array(tools)) {
        rc = bm_fail(err, BM_INVALID, "tools is %s, expected an array", type_name(tools));
        goto out;
    }
    if ((made = json_array()) == NULL)
        rc = no_memory(err);
    json_array_foreach(tools, i, tool)
        if (rc == 0)
            rc = add_tool(made, tool, err);
    if (rc == 0)
        *out = made, made = NULL;
out:
    json_decref(made);
    json_decref(tools);
    return rc;
}
