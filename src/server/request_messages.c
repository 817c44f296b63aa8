/* request_messages.c - the messages of a chat: roles, parts, and what a template has room for. */
#include "server/request.h"

#include <stdio.h>
#include <string.h>

static int fail_at(bm_error *err, int code, size_t index, const char *key, const char *text)
{
    char param[96];

    snprintf(param, sizeof param, "messages[%zu]%s%.40s", index, *key == '\0' ? "" : ".", key);
    bm_fail(err, code, "'%s' %s", param, text);
    return bm_param(err, param);
}

/* One content part: text, or a 400 that names what it is. */
static int check_part(const json_t *part, size_t index, size_t p, bm_error *err)
{
    const char *type = json_string_value(json_object_get(part, "type")), *key;
    json_t *v;
    char where[40];

    snprintf(where, sizeof where, "content[%zu]", p);
    if (type == NULL)
        return fail_at(err, BM_INVALID, index, where, "must be an object with a 'type'");
    if (strcmp(type, "text") != 0) {
        bm_fail(err, BM_UNSUPPORTED, "a content part of type '%.40s' is not supported: this model reads text", type);
        bm_hint(err, "send parts of type 'text' only");
        char param[96];
        snprintf(param, sizeof param, "messages[%zu].content[%zu].type", index, p);
        return bm_param(err, param);
    }
    if (!json_is_string(json_object_get(part, "text")))
        return fail_at(err, BM_INVALID, index, where, "must have a string in 'text'");
    json_object_foreach((json_t *)part, key, v)
        if (strcmp(key, "type") != 0 && strcmp(key, "text") != 0 && strcmp(key, "prompt_cache_breakpoint") != 0 &&
            !json_is_null(v))
            return fail_at(err, BM_INVALID, index, where, "has a field other than 'type' and 'text'");
    return 0;
}

/* Text parts are joined by line feeds. */
static int join_parts(json_t **out, const json_t *parts, size_t index, bm_error *err)
{
    bm_buf text = { 0 };
    size_t i;
    json_t *part;
    int rc = 0;

    if (json_array_size(parts) == 0)
        return fail_at(err, BM_INVALID, index, "content", "is an empty array");
    json_array_foreach((json_t *)parts, i, part) {
        if ((rc = check_part(part, index, i, err)) < 0)
            break;
        const json_t *s = json_object_get(part, "text");
        if (i > 0)
            bm_buf_putc(&text, '\n');
        bm_buf_add(&text, json_string_value(s), json_string_length(s));
    }
    if (rc == 0 && (text.failed || (*out = json_stringn(text.data, text.len)) == NULL))
        rc = bm_fail(err, BM_NOMEM, "no memory for a message");
    bm_buf_done(&text);
    return rc;
}

static bool has(const json_t *message, const char *key)
{
    const json_t *v = json_object_get(message, key);
    return v != NULL && !json_is_null(v) && !(json_is_array(v) && json_array_size(v) == 0);
}

static int check_content(json_t **out, const json_t *message, const char *role, size_t index, bm_error *err)
{
    json_t *content = json_object_get(message, "content");

    if (json_is_array(content))
        return join_parts(out, content, index, err);
    if (json_is_string(content)) {
        *out = json_incref(content);
        return 0;
    }
    if ((content == NULL || json_is_null(content)) && strcmp(role, "assistant") == 0 && has(message, "tool_calls")) {
        *out = json_null();
        return 0;
    }
    return fail_at(err, BM_INVALID, index, "content", "must be a string or an array of text parts");
}

static bool one_of(const char *s, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(s, *list) == 0)
            return true;
    return false;
}

/* Keys of a message that are not content: strings for the template, or harmless, or refused. */
static int check_key(const char *key, const json_t *v, const char *role, size_t index, bm_error *err)
{
    static const char *const strings[] = { "role", "name", "tool_call_id", "reasoning_content", "reasoning", NULL };
    static const char *const unsupported[] = { "audio", "function_call", "refusal", NULL };

    if (strcmp(key, "content") == 0 || json_is_null(v))
        return 0;
    if (strcmp(key, "annotations") == 0)
        return 0;                                    /* what another provider said about an earlier answer */
    if (one_of(key, strings))
        return json_is_string(v) ? 0 : fail_at(err, BM_INVALID, index, key, "must be a string");
    if (strcmp(key, "tool_calls") == 0) {
        if (strcmp(role, "assistant") != 0)
            return fail_at(err, BM_INVALID, index, key, "belongs to messages of the role 'assistant'");
        return json_is_array(v) ? 0 : fail_at(err, BM_INVALID, index, key, "must be an array");
    }
    if (one_of(key, unsupported))
        return fail_at(err, BM_UNSUPPORTED, index, key, "is not supported: it would be lost");
    return fail_at(err, BM_INVALID, index, key, "is not a field of a message");
}

static int check_message(json_t **out, const json_t *message, size_t index, bm_error *err)
{
    static const char *const roles[] = { "system", "developer", "user", "assistant", "tool", NULL };
    const char *role = json_string_value(json_object_get(message, "role")), *key;
    json_t *content = NULL, *v;
    int rc;

    if (!json_is_object(message))
        return fail_at(err, BM_INVALID, index, "", "must be an object");
    if (role == NULL || !one_of(role, roles)) {
        fail_at(err, BM_INVALID, index, "role", role == NULL ? "is missing" : "is unknown");
        return bm_hint(err, "roles: system, developer, user, assistant, tool");
    }
    json_object_foreach((json_t *)message, key, v)
        if ((rc = check_key(key, v, role, index, err)) < 0)
            return rc;
    if ((rc = check_content(&content, message, role, index, err)) < 0)
        return rc;
    json_t *made = json_object();
    rc = json_object_set_new(made, "role", json_string(role));
    rc |= json_object_set_new(made, "content", content);
    json_object_foreach((json_t *)message, key, v)
        if (strcmp(key, "role") != 0 && strcmp(key, "content") != 0 && strcmp(key, "annotations") != 0 && has(message, key))
            rc |= json_object_set(made, key, v);
    if (rc != 0) {
        json_decref(made);
        return bm_fail(err, BM_NOMEM, "no memory for a message");
    }
    *out = made;
    return 0;
}

int bm_messages_check(json_t **out, const json_t *messages, bm_error *err)
{
    json_t *list, *made = NULL;
    int rc;

    if (!json_is_array(messages) || json_array_size(messages) == 0) {
        bm_fail(err, BM_INVALID, "'messages' must be an array of at least one message");
        bm_hint(err, "[{\"role\": \"user\", \"content\": \"Hello\"}]");
        return bm_param(err, "messages");
    }
    if (json_array_size(messages) > BM_MAX_MESSAGES) {
        bm_fail(err, BM_LIMIT, "'messages' holds %zu messages, at most %d are read", json_array_size(messages),
                BM_MAX_MESSAGES);
        return bm_param(err, "messages");
    }
    if ((list = json_array()) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the messages");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        if ((rc = check_message(&made, json_array_get(messages, i), i, err)) < 0 ||
            (rc = json_array_append_new(list, made) == 0 ? 0 : bm_fail(err, BM_NOMEM, "no memory for the messages")) < 0) {
            json_decref(list);
            return rc;
        }
    }
    *out = list;
    return 0;
}

/* A template that never reads a key would drop it in silence. Templates read keys as .key or ['key'], so its name occurs. */
int bm_messages_fit(const json_t *messages, const char *template_source, bm_error *err)
{
    static const char *const keys[] = { "name", "tool_calls", NULL };
    size_t i;
    json_t *m;

    if (template_source == NULL)
        return 0;
    json_array_foreach((json_t *)messages, i, m) {
        const char *role = json_string_value(json_object_get(m, "role"));
        for (const char *const *k = keys; *k != NULL; k++) {
            char dot[32], quoted[32], single[32];
            snprintf(dot, sizeof dot, ".%s", *k);
            snprintf(quoted, sizeof quoted, "[\"%s\"]", *k);
            snprintf(single, sizeof single, "['%s']", *k);
            if (has(m, *k) && strstr(template_source, dot) == NULL && strstr(template_source, quoted) == NULL &&
                strstr(template_source, single) == NULL) {
                fail_at(err, BM_UNSUPPORTED, i, *k, "has no place in this model's chat template");
                return bm_hint(err, "leave it out");
            }
        }
        if (strcmp(role, "developer") == 0 && strstr(template_source, "developer") == NULL &&
            json_object_set_new(m, "role", json_string("system")) != 0)
            return bm_fail(err, BM_NOMEM, "no memory for a message");
    }
    return 0;
}
