/* filter.c - the steps of filters; see filter.h and lm_eval/filters of version 0.4.13. */
#include "eval/filter.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "eval/words.h"
#include "text/regex.h"

typedef struct step_call {
    const bm_filter_step *step;
    const json_t *doc;
    bm_regex *regex;             /* of the step's regex_pattern; NULL: it has none */
    bm_error *err;
} step_call;

/* A step of one response: a new reference, NULL with err filled. */
typedef json_t *each_fn(const step_call *c, const json_t *response);
/* A step of all of them. */
typedef json_t *all_fn(const step_call *c, const json_t *responses);

typedef struct step_def {
    const char *name;
    each_fn *each;
    all_fn *all;
    const char *pattern;         /* the default of regex_pattern; NULL: takes none */
} step_def;

static json_t *no_memory(const step_call *c)
{
    bm_fail(c->err, BM_NOMEM, "no memory for a filter");
    return NULL;
}

static json_t *string_of(const step_call *c, const bm_buf *b)
{
    json_t *s = b->failed ? NULL : json_stringn(b->data ? b->data : "", b->len);

    return s ? s : no_memory(c);
}

static const char *text_of(const json_t *response) { return json_is_string(response) ? json_string_value(response) : ""; }
static size_t text_len(const json_t *response) { return json_is_string(response) ? json_string_length(response) : 0; }

static json_t *strip(const step_call *c, const json_t *response)
{
    size_t len = text_len(response), begin;
    const char *s = bm_words_strip(text_of(response), &len, &begin);
    json_t *out = json_stringn(s, len);

    return out ? out : no_memory(c);
}

static json_t *change_case(const step_call *c, const json_t *response, bool upper)
{
    bm_buf b = { 0 };
    json_t *out;

    bm_words_case(&b, text_of(response), text_len(response), upper);
    out = string_of(c, &b);
    bm_buf_done(&b);
    return out;
}

static json_t *lowercase(const step_call *c, const json_t *response) { return change_case(c, response, false); }
static json_t *uppercase(const step_call *c, const json_t *response) { return change_case(c, response, true); }

static json_t *map(const step_call *c, const json_t *response)
{
    json_t *hit = json_is_string(response) ? json_object_get(json_object_get(c->step->args, "mapping_dict"), text_of(response)) : NULL;

    if (hit == NULL)
        hit = json_object_get(c->step->args, "default_value");
    return hit != NULL ? json_deep_copy(hit) : json_null();
}

/* ---- regular expressions ---- */

static json_t *fallback(const step_call *c)
{
    json_t *f = json_object_get(c->step->args, "fallback"), *out = f ? json_deep_copy(f) : json_string("[invalid]");

    return out ? out : no_memory(c);
}

/* The group_select-th of all matches (Python's index: negative from the end); of several groups the first that is not empty. *out NULL: none. */
static int pick_match(const step_call *c, const bm_regex *regex, const char *text, size_t len, json_t **out)
{
    json_int_t at = json_integer_value(json_object_get(c->step->args, "group_select"));
    json_t *all, *match, *part;
    size_t i;
    int rc = bm_regex_findall(&all, regex, text, len, c->err);

    *out = NULL;
    if (rc < 0)
        return rc;
    size_t n = json_array_size(all);
    if (n > 0 && (at >= (json_int_t)n || at < -(json_int_t)n)) {
        json_decref(all);
        return bm_fail(c->err, BM_INVALID, "group_select is %lld, and the expression matches %zu times", (long long)at, n);
    }
    match = n > 0 ? json_array_get(all, (size_t)(at < 0 ? at + (json_int_t)n : at)) : NULL;
    if (json_is_array(match)) {
        json_t *first = NULL;
        json_array_foreach(match, i, part)
            if (first == NULL && json_string_length(part) > 0)
                first = part;
        match = first;
    }
    if (match != NULL && (*out = strip(c, match)) == NULL)
        rc = c->err ? c->err->code : BM_NOMEM;
    json_decref(all);
    return rc;
}

static json_t *regex(const step_call *c, const json_t *response)
{
    json_t *match;

    if (pick_match(c, c->regex, text_of(response), text_len(response), &match) < 0)
        return NULL;
    return match != NULL ? match : fallback(c);
}

/* Tags of a list of pairs ('word', 'tag'). */
static json_t *regex_pos(const step_call *c, const json_t *response)
{
    static const char pairs[] = "\\('([^']*)', '([^']*)'\\)";
    bm_regex *re;
    json_t *all = NULL, *tags = NULL, *pair;
    size_t i;

    if (bm_regex_compile(&re, pairs, sizeof pairs - 1, 0, c->err) < 0)
        return NULL;
    if (bm_regex_findall(&all, re, text_of(response), text_len(response), c->err) == 0 && (tags = json_array()) != NULL) {
        json_array_foreach(all, i, pair)
            json_array_append(tags, json_array_get(pair, 1));
        if (json_array_size(tags) == 0) {
            json_t *given = json_object_get(c->step->args, "fallback");
            json_decref(tags);
            tags = given != NULL && !json_is_null(given) ? json_deep_copy(given) : json_pack("[s]", "invalid");
        }
    }
    json_decref(all);
    bm_regex_free(re);
    return tags;
}

/* ---- multi_choice_regex: the letter of an answer, or of the choice whose text it names ---- */

typedef struct choice_names {
    bm_buf texts, letters;       /* alternatives: choices, longest first; A|B|C */
    char **stripped;             /* [n], as compared */
    size_t n;
} choice_names;

/* Response or choice without what is to be ignored. */
static int clean(const step_call *c, const char *s, size_t len, bm_buf *out)
{
    json_t *args = c->step->args, *list = json_object_get(args, "regexes_to_ignore"), *one;
    bm_buf now = { 0 };
    size_t i;
    int rc = 0;

    bm_buf_add(&now, s, len);
    json_array_foreach(list, i, one) {
        bm_buf next = { 0 };
        bm_regex *re;
        if ((rc = bm_regex_compile(&re, json_string_value(one), json_string_length(one), 0, c->err)) == 0) {
            rc = bm_regex_sub(&next, re, "", 0, now.data ? now.data : "", now.len, 0, c->err);
            bm_regex_free(re);
        }
        bm_buf_done(&now);
        now = next;
        if (rc < 0)
            break;
    }
    if (rc == 0) {
        bm_buf folded = { 0 };
        if (json_is_true(json_object_get(args, "ignore_case")))
            bm_words_case(&folded, now.data ? now.data : "", now.len, false);
        else
            bm_buf_add(&folded, now.data, now.len);
        if (json_is_true(json_object_get(args, "ignore_punctuation")))
            bm_words_drop_punctuation(out, folded.data ? folded.data : "", folded.len);
        else
            bm_buf_add(out, folded.data, folded.len);
        out->failed |= folded.failed || now.failed;
        bm_buf_done(&folded);
    }
    bm_buf_done(&now);
    return rc < 0 ? rc : out->failed ? bm_fail(c->err, BM_NOMEM, "no memory for a filter") : 0;
}

static void names_done(choice_names *names)
{
    for (size_t i = 0; names->stripped != NULL && i < names->n; i++)
        bm_free(names->stripped[i]);
    bm_free(names->stripped);
    bm_buf_done(&names->texts);
    bm_buf_done(&names->letters);
}

/* Alternatives by length of the escaped text in characters, longest first; equal ones in order. */
static void join_longest_first(const choice_names *names, char **escaped, bm_buf *out)
{
    bool used[26] = { false };

    for (size_t k = 0; k < names->n; k++) {
        size_t best = SIZE_MAX, longest = 0;
        for (size_t i = 0; i < names->n; i++) {
            size_t len = bm_words_chars(escaped[i], strlen(escaped[i]));
            if (!used[i] && (best == SIZE_MAX || len > longest))
                best = i, longest = len;
        }
        used[best] = true;
        if (k > 0)
            bm_buf_putc(out, '|');
        bm_buf_puts(out, escaped[best]);
    }
}

static int names_make(const step_call *c, choice_names *names)
{
    const json_t *choices = json_object_get(c->doc, "choices");
    char *escaped[26] = { NULL };
    int rc = 0;

    names->n = json_array_size(choices);
    if (names->n == 0 || names->n > 26)
        return bm_fail(c->err, BM_INVALID, "multi_choice_regex needs a list of 1 to 26 `choices` in each document, found %zu", names->n);
    if ((names->stripped = bm_calloc(names->n, sizeof *names->stripped)) == NULL)
        return bm_fail(c->err, BM_NOMEM, "no memory for a filter");
    for (size_t i = 0; i < names->n && rc == 0; i++) {
        const json_t *choice = json_array_get(choices, i);
        size_t len = text_len(choice), begin;
        const char *s = bm_words_strip(text_of(choice), &len, &begin);
        bm_buf plain = { 0 }, safe = { 0 };
        rc = clean(c, s, len, &plain);
        if (rc == 0 && (names->stripped[i] = bm_buf_take(&plain)) != NULL)
            bm_regex_escape(&safe, names->stripped[i], strlen(names->stripped[i]));
        escaped[i] = bm_buf_take(&safe);
        if (rc == 0 && (names->stripped[i] == NULL || escaped[i] == NULL))
            rc = bm_fail(c->err, BM_NOMEM, "no memory for a filter");
        bm_buf_done(&plain);
        bm_buf_done(&safe);
        bm_buf_printf(&names->letters, "%s%c", i > 0 ? "|" : "", (char)('A' + (int)i));
    }
    if (rc == 0)
        join_longest_first(names, escaped, &names->texts);
    for (size_t i = 0; i < names->n; i++)
        bm_free(escaped[i]);
    return rc;
}

static json_t *letter(size_t i)
{
    char text[] = "(A)";

    text[1] = (char)('A' + (int)i);
    return json_string(text);
}

/* The choice whose text the answer names first. */
static int match_text(const step_call *c, const choice_names *names, const json_t *response, json_t **out)
{
    bm_buf plain = { 0 };
    bm_regex *re = NULL;
    int rc;

    if ((rc = clean(c, text_of(response), text_len(response), &plain)) == 0 &&
        (rc = bm_regex_compile(&re, names->texts.data, names->texts.len, 0, c->err)) == 0 &&
        (rc = pick_match(c, re, plain.data ? plain.data : "", plain.len, out)) == 0 && *out != NULL)
        for (size_t i = names->n; i-- > 0;)      /* of equal choices Python's dict keeps the last */
            if (strcmp(names->stripped[i], json_string_value(*out)) == 0) {
                json_decref(*out);
                *out = letter(i);
                break;
            }
    bm_regex_free(re);
    bm_buf_done(&plain);
    return rc;
}

/* ": B" */
static int match_letter(const step_call *c, const choice_names *names, const json_t *response, json_t **out)
{
    bm_buf pattern = { 0 };
    bm_regex *re;
    int rc;

    bm_buf_printf(&pattern, ":[\\s]*(%s)", names->letters.data);
    if (pattern.failed)
        return bm_fail(c->err, BM_NOMEM, "no memory for a filter");
    if ((rc = bm_regex_compile(&re, pattern.data, pattern.len, 0, c->err)) == 0) {
        rc = pick_match(c, re, text_of(response), text_len(response), out);
        bm_regex_free(re);
    }
    bm_buf_done(&pattern);
    if (rc == 0 && *out != NULL) {
        const char *s = json_string_value(*out);
        if (s[0] >= 'A' && s[0] <= 'Z' && s[1] == '\0') {
            size_t i = (size_t)(s[0] - 'A');
            json_decref(*out);
            *out = letter(i);
        }
    }
    return rc;
}

static bool is_empty(const json_t *match) { return match == NULL || json_string_length(match) == 0; }

static json_t *multi_choice_regex(const step_call *c, const json_t *response)
{
    choice_names names = { 0 };
    json_t *match = NULL;
    int rc = names_make(c, &names);

    if (rc == 0)
        rc = pick_match(c, c->regex, text_of(response), text_len(response), &match);
    if (rc == 0 && is_empty(match)) {
        json_decref(match);
        rc = match_text(c, &names, response, &match);
    }
    if (rc == 0 && is_empty(match)) {
        json_decref(match);
        rc = match_letter(c, &names, response, &match);
    }
    names_done(&names);
    if (rc < 0) {
        json_decref(match);
        return NULL;
    }
    if (!is_empty(match))
        return match;
    json_decref(match);
    return fallback(c);
}

/* ---- steps of all responses ---- */

static json_t *take_first(const step_call *c, const json_t *responses)
{
    json_t *first = json_array_get(responses, 0);

    if (first == NULL)
        bm_fail(c->err, BM_INVALID, "take_first: there is no response");
    return json_incref(first);
}

static json_t *take_first_k(const step_call *c, const json_t *responses)
{
    json_int_t k = json_integer_value(json_object_get(c->step->args, "k"));
    json_t *out;

    if (k < 0 || json_array_size(responses) < (size_t)k) {
        bm_fail(c->err, BM_INVALID, "take_first_k: %lld responses are needed, there are %zu: raise `repeats`", (long long)k,
                json_array_size(responses));
        return NULL;
    }
    if ((out = json_array()) == NULL)
        return no_memory(c);
    for (json_int_t i = 0; i < k; i++)
        json_array_append(out, json_array_get(responses, (size_t)i));
    return out;
}

/* The response that occurs most often, the earliest of equals. */
static json_t *majority_vote(const step_call *c, const json_t *responses)
{
    size_t most = 0, n = json_array_size(responses);
    json_t *best = NULL, *out;

    for (size_t i = 0; i < n; i++) {
        size_t votes = 0;
        for (size_t j = 0; j < n; j++)
            votes += (size_t)json_equal(json_array_get(responses, i), json_array_get(responses, j));
        if (votes > most)
            most = votes, best = json_array_get(responses, i);
    }
    out = best != NULL ? json_pack("[O]", best) : json_array();
    return out ? out : no_memory(c);
}

static const char default_pattern[] = "#### (\\-?[0-9\\.\\,]+)";
static const step_def steps[] = {
    { "take_first", NULL, take_first, NULL },
    { "take_first_k", NULL, take_first_k, NULL },
    { "majority_vote", NULL, majority_vote, NULL },
    { "regex", regex, NULL, default_pattern },
    { "multi_choice_regex", multi_choice_regex, NULL, default_pattern },
    { "regex_pos", regex_pos, NULL, NULL },
    { "remove_whitespace", strip, NULL, NULL },
    { "lowercase", lowercase, NULL, NULL },
    { "uppercase", uppercase, NULL, NULL },
    { "map", map, NULL, NULL },
};

static const step_def *find_step(const char *name)
{
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (strcmp(steps[i].name, name) == 0)
            return &steps[i];
    return NULL;
}

static int open_step(step_call *c, const step_def *def)
{
    const json_t *pattern = json_object_get(c->step->args, "regex_pattern");
    const char *text = pattern != NULL ? json_string_value(pattern) : def->pattern;

    if (def->pattern == NULL)
        return 0;
    if (text == NULL)
        return bm_fail(c->err, BM_INVALID, "regex_pattern must be a string");
    return bm_regex_compile(&c->regex, text, strlen(text), 0, c->err);
}

static json_t *run_step(const step_call *c, const step_def *def, const json_t *responses)
{
    json_t *out, *response;
    size_t i;

    if (def->all != NULL)
        return def->all(c, responses);
    if (!json_is_array(responses))           /* after take_first */
        return def->each(c, responses);
    if ((out = json_array()) == NULL)
        return no_memory(c);
    json_array_foreach(responses, i, response)
        if (json_array_append_new(out, def->each(c, response)) < 0) {
            json_decref(out);
            return NULL;
        }
    return out;
}

int bm_filter_apply(json_t **out, const bm_filter *filter, const json_t *responses, const json_t *doc, bm_error *err)
{
    bm_error own;
    json_t *now = json_incref((json_t *)(uintptr_t)responses);

    *out = NULL;
    for (size_t i = 0; i < filter->n_steps; i++) {
        step_call c = { &filter->steps[i], doc, NULL, err ? err : &own };
        const step_def *def = find_step(c.step->function);
        json_t *next = NULL;
        c.err->code = 0;
        if (def == NULL)
            bm_fail(c.err, BM_UNSUPPORTED, "there is no such step here");
        else if (open_step(&c, def) == 0)
            next = run_step(&c, def, now);
        bm_regex_free(c.regex);
        json_decref(now);
        if (next == NULL) {
            if (c.err->code == 0)
                bm_fail(c.err, BM_NOMEM, "no memory");
            return bm_wrap(c.err, "filter %s, step %s", filter->name, filter->steps[i].function);
        }
        now = next;
    }
    *out = now;
    return 0;
}

int bm_filter_check(const bm_filter *filter, bm_error *err)
{
    for (size_t i = 0; i < filter->n_steps; i++) {
        step_call c = { &filter->steps[i], NULL, NULL, err };
        const step_def *def = find_step(c.step->function);
        int rc = def == NULL ? bm_fail(err, BM_UNSUPPORTED, "there is no such step here") : open_step(&c, def);
        bm_regex_free(c.regex);
        if (rc < 0)
            return bm_wrap(err, "filter %s, step %s", filter->name, filter->steps[i].function);
    }
    return 0;
}
