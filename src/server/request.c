/* request.c - a completion request's body: limits, JSON, fields. */
#include "server/request.h"

#include <stdlib.h>
#include <string.h>

#include "base/number.h"

/* Before parsing: depth and number of values, so that a small body cannot become a huge tree. Strings are skipped, but for
 * the one escape that JSON allows and no string here can carry. */
static int check_shape(const char *s, size_t len, bm_error *err)
{
    size_t depth = 0, values = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (in_string) {
            if (c == '\\' && len - i >= 6 && memcmp(s + i, "\\u0000", 6) == 0)
                return bm_fail(err, BM_INVALID, "a string of the body holds \\u0000, and no text here may hold it");
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > BM_MAX_BODY_DEPTH)
                return bm_fail(err, BM_LIMIT, "the body nests deeper than %d levels", BM_MAX_BODY_DEPTH);
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
        } else if ((c == ',' || c == ':') && ++values > BM_MAX_BODY_VALUES) {
            return bm_fail(err, BM_LIMIT, "the body holds more than %d values", BM_MAX_BODY_VALUES);
        }
    }
    return 0;
}

static int parse_json(json_t **out, const char *bytes, size_t len, bm_error *err)
{
    json_error_t je;
    int rc;

    if (len == 0) {
        bm_fail(err, BM_INVALID, "the body is empty");
        return bm_hint(err, "send a JSON object: {\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}");
    }
    if ((rc = check_shape(bytes, len, err)) < 0)
        return rc;
    if ((*out = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &je)) == NULL)
        return bm_fail(err, BM_INVALID, "the body is not valid JSON: %s (line %d, column %d)", je.text, je.line, je.column);
    if (!json_is_object(*out))
        return bm_fail(err, BM_INVALID, "the body must be a JSON object");
    return 0;
}

static int fail_param(bm_error *err, const char *param, const char *text)
{
    bm_fail(err, BM_INVALID, "'%s' %s", param, text);
    return bm_param(err, param);
}

/* A field that is there and not null. */
static const json_t *field(const bm_request *r, const char *name)
{
    const json_t *v = json_object_get(r->root, name);
    return json_is_null(v) ? NULL : v;
}

static double number(const bm_request *r, const char *name, double otherwise)
{
    const json_t *v = field(r, name);
    return v == NULL ? otherwise : json_number_value(v);
}

static bool boolean(const bm_request *r, const char *name) { return json_is_true(field(r, name)); }

static int parse_stop(bm_request *r, bm_error *err)
{
    const json_t *v = field(r, "stop");

    if (v == NULL)
        return 0;
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (n > BM_MAX_STOPS) {
        bm_fail(err, BM_INVALID, "'stop' holds %zu strings, at most %d are looked for", n, BM_MAX_STOPS);
        return bm_param(err, "stop");
    }
    if ((r->stop = bm_arena_alloc(&r->arena, (n + 1) * sizeof *r->stop)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the request");
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_string(s))
            return fail_param(err, "stop", "must be a string or an array of strings");
        if (json_string_length(s) == 0 || json_string_length(s) > 1024)
            return fail_param(err, "stop", "holds a string that is empty or longer than 1,024 bytes");
        r->stop[r->n_stop++] = json_string_value(s);
    }
    return 0;
}

static int parse_bias(bm_request *r, bm_error *err)
{
    const json_t *v = field(r, "logit_bias"), *bias;
    const char *key;
    size_t n = v == NULL ? 0 : json_object_size(v);

    if (n == 0)
        return 0;
    if (n > 4096)
        return fail_param(err, "logit_bias", "names more than 4,096 tokens");
    bm_logit_bias *list = bm_arena_alloc(&r->arena, n * sizeof *list);
    if (list == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the request");
    n = 0;
    json_object_foreach((json_t *)v, key, bias) {
        int64_t token;
        double x = json_number_value(bias);
        if (!bm_parse_int(key, 0, INT32_MAX, &token))
            return fail_param(err, "logit_bias", "must map token ids, as strings, to numbers");
        if (!json_is_number(bias) || !(x >= -100 && x <= 100))
            return fail_param(err, "logit_bias", "must map each token to a number between -100 and 100");
        list[n++] = (bm_logit_bias){ (int32_t)token, (float)x };
    }
    r->sampling.bias = list;
    r->sampling.n_bias = n;
    return 0;
}

static int parse_sampling(bm_request *r, bm_error *err)
{
    bm_sampling *s = &r->sampling;
    const json_t *seed = field(r, "seed");

    s->temperature = (float)number(r, "temperature", 1);
    s->top_p = (float)number(r, "top_p", 1);
    if (s->top_p < 1e-6f)
        s->top_p = 1e-6f;                            /* 0 means: the most likely token only */
    double k = number(r, "top_k", 0);
    s->top_k = k < 0 ? 0 : (int32_t)k;               /* -1 is how some clients say off */
    s->min_p = (float)number(r, "min_p", 0);
    s->repetition_penalty = (float)number(r, "repetition_penalty", 1);
    s->frequency_penalty = (float)number(r, "frequency_penalty", 0);
    s->presence_penalty = (float)number(r, "presence_penalty", 0);
    if (seed != NULL) {
        double x = json_number_value(seed);          /* 7.0 is 7, as far as a double can tell whole numbers apart */
        if (!json_is_integer(seed) && !(x >= -9007199254740992.0 && x <= 9007199254740992.0))
            return fail_param(err, "seed", "must be a 64-bit integer");
        r->has_seed = true;
        s->seed = (uint64_t)(json_is_integer(seed) ? json_integer_value(seed) : (int64_t)x);
    }
    return parse_bias(r, err);
}

static int parse_logprobs(bm_request *r, bm_error *err)
{
    const json_t *top = field(r, "top_logprobs");

    if (r->route == BM_COMPLETIONS) {
        r->top_logprobs = (int)number(r, "logprobs", -1);
        return 0;
    }
    if (boolean(r, "logprobs"))
        r->top_logprobs = (int)number(r, "top_logprobs", 0);
    else if (top != NULL && json_number_value(top) > 0)
        return fail_param(err, "top_logprobs", "needs 'logprobs': true");
    return 0;
}

static int parse_stream(bm_request *r, bm_error *err)
{
    const json_t *options = field(r, "stream_options"), *v;
    const char *key;

    r->stream = boolean(r, "stream");
    if (options == NULL)
        return 0;
    if (!r->stream)
        return fail_param(err, "stream_options", "is only allowed with 'stream': true");
    json_object_foreach((json_t *)options, key, v) {
        bool usage = strcmp(key, "include_usage") == 0;
        if (!usage && strcmp(key, "include_obfuscation") != 0) {
            bm_fail(err, BM_INVALID, "unknown field 'stream_options.%.40s'", key);
            return bm_param(err, "stream_options");
        }
        if (!json_is_boolean(v) && !json_is_null(v))
            return fail_param(err, "stream_options", "holds true or false values only");
        if (usage)
            r->include_usage = json_is_true(v);
    }
    return 0;
}

static int parse_template_vars(bm_request *r, bm_error *err)
{
    const json_t *vars = field(r, "chat_template_kwargs"), *v;
    const char *key;

    if (vars == NULL)
        return 0;
    json_object_foreach((json_t *)vars, key, v) {
        if (strcmp(key, "enable_thinking") != 0) {
            bm_fail(err, BM_INVALID, "'chat_template_kwargs' has '%.40s', which a request may not set", key);
            bm_hint(err, "allowed: enable_thinking");
            return bm_param(err, "chat_template_kwargs");
        }
        if (!json_is_boolean(v))
            return fail_param(err, "chat_template_kwargs", "must have true or false for enable_thinking");
    }
    r->template_vars = json_incref((json_t *)vars);
    return 0;
}

static int parse_lengths(bm_request *r, bm_error *err)
{
    const json_t *a = field(r, "max_tokens"), *b = field(r, "max_completion_tokens");

    if (a != NULL && b != NULL && json_number_value(a) != json_number_value(b))
        return fail_param(err, "max_tokens", "and 'max_completion_tokens' contradict each other: send one of them");
    r->max_tokens = r->route == BM_CHAT ? -1 : 16;           /* 16 is what the OpenAI API documents for completions */
    if (a != NULL || b != NULL)
        r->max_tokens = (int32_t)json_number_value(a != NULL ? a : b);
    r->n = (int)number(r, "n", 1);
    if (number(r, "best_of", r->n) != r->n)
        return fail_param(err, "best_of", "other than 'n' is not supported: leave it out");
    return 0;
}

static int parse_ids(bm_request *r, bm_prompt_text *p, const json_t *ids, bm_error *err)
{
    size_t n = json_array_size(ids);
    int32_t *list = bm_arena_alloc(&r->arena, n * sizeof *list);

    if (list == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the prompt");
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            return fail_param(err, "prompt", "holds something that is not a token id");
        list[i] = (int32_t)json_integer_value(id);
    }
    p->ids = list;
    p->n_ids = n;
    return n > 0 ? 0 : fail_param(err, "prompt", "has an empty array of token ids");
}

static int parse_prompts(bm_request *r, bm_error *err)
{
    const json_t *v = field(r, "prompt");
    bool many = json_is_array(v) && !json_is_integer(json_array_get(v, 0));
    size_t n = many ? json_array_size(v) : 1;
    int rc;

    if (v == NULL)
        return fail_param(err, "prompt", "is missing");
    if (n == 0)
        return fail_param(err, "prompt", "is an empty array");
    if (n > BM_MAX_PROMPTS)
        return fail_param(err, "prompt", "holds more than 1,024 prompts");
    if ((r->prompts = bm_arena_alloc(&r->arena, n * sizeof *r->prompts)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the prompts");
    bool first_is_text = json_is_string(many ? json_array_get(v, 0) : v);
    for (size_t i = 0; i < n; i++) {
        const json_t *p = many ? json_array_get(v, i) : v;
        if (json_is_string(p) != first_is_text || (!json_is_string(p) && !json_is_array(p)))
            return fail_param(err, "prompt", "must be a string, strings, an array of token ids, or arrays of token ids");
        if (json_is_string(p)) {
            r->prompts[i].text = json_string_value(p);
            r->prompts[i].len = json_string_length(p);
        } else if ((rc = parse_ids(r, &r->prompts[i], p, err)) < 0) {
            return rc;
        }
    }
    r->n_prompts = n;
    return 0;
}

static int parse_fields(bm_request *r, bm_error *err)
{
    int rc;

    if ((rc = bm_fields_check(r->route, r->root, err)) < 0 || (rc = parse_lengths(r, err)) < 0 ||
        (rc = parse_sampling(r, err)) < 0 || (rc = parse_stop(r, err)) < 0 || (rc = parse_logprobs(r, err)) < 0 ||
        (rc = parse_stream(r, err)) < 0)
        return rc;
    const char *model = json_string_value(field(r, "model"));
    r->model = model != NULL && *model != '\0' ? model : NULL;
    r->echo = boolean(r, "echo");
    r->ignore_eos = boolean(r, "ignore_eos");
    r->no_cache = json_is_false(field(r, "cache_prompt"));
    if (r->route == BM_CHAT) {
        r->n_prompts = 1;
        if ((rc = parse_template_vars(r, err)) < 0)
            return rc;
        rc = bm_messages_check(&r->messages, field(r, "messages"), err);
    } else {
        rc = parse_prompts(r, err);
    }
    if (rc == 0 && r->n_prompts * (size_t)r->n > BM_MAX_CHOICES)
        return fail_param(err, "n", "times the number of prompts is more than 1,024");
    return rc;
}

int bm_request_parse(bm_request *out, unsigned route, const char *bytes, size_t len, bm_error *err)
{
    int rc;

    *out = (bm_request){ .route = route, .top_logprobs = -1 };
    if ((rc = parse_json(&out->root, bytes, len, err)) < 0 || (rc = parse_fields(out, err)) < 0)
        bm_request_done(out);
    return rc;
}

void bm_request_done(bm_request *r)
{
    json_decref(r->messages);
    json_decref(r->template_vars);
    json_decref(r->root);
    bm_arena_done(&r->arena);
    *r = (bm_request){ 0 };
}
