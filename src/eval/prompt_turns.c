/* prompt_turns.c - messages: how a question, an answer and their delimiters become text or a chat (lm-eval's api/utils.py and
 * ConfigurableTask.build_qa_turn). */
#include <string.h>

#include "base/mem.h"
#include "eval/prompt_internal.h"
#include "eval/words.h"

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory for a prompt"); }

int bm_turns_add(bm_turns *t, const char *role, const char *text, size_t len, const char *delimiter, bm_error *err)
{
    if (t->n == t->cap) {
        size_t cap = t->cap == 0 ? 16 : t->cap * 2;
        bm_turn *grown = bm_realloc(t->v, cap * sizeof *grown);
        if (grown == NULL)
            return no_memory(err);
        t->v = grown, t->cap = cap;
    }
    t->v[t->n] = (bm_turn){role, bm_strndup(text, len), len, delimiter};
    return t->v[t->n].text == NULL ? no_memory(err) : (t->n++, 0);
}

void bm_turns_cut(bm_turns *t, size_t n)
{
    while (t->n > n)
        bm_free(t->v[--t->n].text);
}

void bm_turns_done(bm_turns *t)
{
    bm_turns_cut(t, 0);
    bm_free(t->v);
    *t = (bm_turns){0};
}

static bool starts_with_space(const char *s)
{
    size_t len = strlen(s), begin = 0, all = len;

    bm_words_strip(s, &len, &begin);
    return all > 0 && (len == 0 || begin > 0);
}

bool bm_ends_with_space(const char *s)
{
    return bm_request_trailing_space(s, strlen(s)) > 0;
}

size_t bm_request_trailing_space(const char *context, size_t len)
{
    size_t kept = len, begin = 0;

    bm_words_strip(context, &kept, &begin);
    return kept == 0 ? len : len - begin - kept;
}

void bm_join_delimited(bm_buf *b, const char *prefix, const char *suffix, const char *delimiter)
{
    bm_buf_puts(b, prefix);
    if (*prefix != '\0' && *suffix != '\0' && !bm_ends_with_space(prefix) && !starts_with_space(suffix))
        bm_buf_puts(b, delimiter);
    bm_buf_puts(b, suffix);
}

/* ---- question and answer ---- */

static int answer_text(const bm_qa *qa, const json_t **out, bm_error *err)
{
    const json_t *a = qa->answer;

    if (qa->choices != NULL && (json_is_integer(a) || json_is_boolean(a))) {
        json_int_t i = json_is_integer(a) ? json_integer_value(a) : json_is_true(a), n = (json_int_t)json_array_size(qa->choices);
        if (i < -n || i >= n)
            return bm_fail(err, BM_INVALID, "an example's answer is number %lld of %lld choices", (long long)i, (long long)n);
        *out = json_array_get(qa->choices, (size_t)(i < 0 ? i + n : i));
    } else {
        *out = json_is_array(a) ? json_array_get(a, 0) : a;
    }
    return json_is_string(*out) ? 0 : bm_fail(err, BM_INVALID, "an example's answer is not a string");
}

static int add_answer(bm_turns *t, const bm_qa *qa, const char *prefix, bm_error *err)
{
    const json_t *answer = NULL;
    bm_buf b = {0};
    int rc = answer_text(qa, &answer, err);

    if (rc < 0)
        return rc;
    bm_join_delimited(&b, prefix, json_string_value(answer), " ");
    rc = b.failed ? no_memory(err) : bm_turns_add(t, "assistant", b.len > 0 ? b.data : "", b.len, qa->fewshot_delimiter, err);
    bm_buf_done(&b);
    return rc;
}

int bm_turns_add_qa(bm_turns *t, const bm_qa *qa, bm_error *err)
{
    const char *prefix = json_is_string(qa->gen_prefix) ? json_string_value(qa->gen_prefix) : "", *q = json_string_value(qa->question);
    bool has_answer = qa->answer != NULL && !json_is_null(qa->answer) && !(json_is_string(qa->answer) && json_string_length(qa->answer) == 0);
    bool delimit = *prefix == '\0' ? has_answer : q != NULL && *q != '\0' && !bm_ends_with_space(q) && !starts_with_space(prefix);
    int rc;

    if (q == NULL)
        return bm_fail(err, BM_INVALID, "doc_to_text gives an index, where a text is wanted");
    if ((rc = bm_turns_add(t, "user", q, json_string_length(qa->question), delimit ? qa->target_delimiter : "", err)) < 0)
        return rc;
    if (has_answer)
        return add_answer(t, qa, prefix, err);
    return *prefix != '\0' ? bm_turns_add(t, "assistant", prefix, strlen(prefix), "", err) : 0;
}

/* ---- as text, as a chat ---- */

static void add_plain(bm_buf *b, const bm_turns *t, size_t from, size_t to, bool cut_last)
{
    for (size_t i = from; i < to; i++) {
        bm_buf_add(b, t->v[i].text, t->v[i].len);
        if (!cut_last || i + 1 < to)
            bm_buf_puts(b, t->v[i].delimiter);
    }
}

static int add_message(json_t *list, const char *role, const char *text, size_t len, bm_error *err)
{
    json_t *m = json_pack("{s:s, s:o}", "role", role, "content", json_stringn(text, len));

    return json_array_append_new(list, m) != 0 ? no_memory(err) : 0;
}

/* All turns but the system's and an open assistant's as one user message. */
static int single_turn(json_t *list, const bm_turns *t, bm_error *err)
{
    size_t from = t->n > 0 && strcmp(t->v[0].role, "system") == 0, to = t->n;
    bool open = to > from && strcmp(t->v[to - 1].role, "assistant") == 0;
    bm_buf b = {0};
    int rc = from == 1 ? add_message(list, "system", t->v[0].text, t->v[0].len, err) : 0;

    add_plain(&b, t, from, to - open, true);
    if (rc == 0)
        rc = b.failed ? no_memory(err) : add_message(list, "user", b.len > 0 ? b.data : "", b.len, err);
    bm_buf_done(&b);
    return rc == 0 && open ? add_message(list, "assistant", t->v[to - 1].text, t->v[to - 1].len, err) : rc;
}

static int render_chat(char **out, size_t *len, const bm_turns *t, const bm_prompt_options *o, bool has_prefix, bm_error *err)
{
    json_t *list = json_array();
    int rc = list == NULL ? no_memory(err) : 0;

    if (!o->fewshot_as_multiturn && rc == 0)
        rc = single_turn(list, t, err);
    for (size_t i = 0; o->fewshot_as_multiturn && i < t->n && rc == 0; i++)
        rc = add_message(list, t->v[i].role, t->v[i].text, t->v[i].len, err);
    if (rc == 0 && (rc = o->chat(o->chat_arg, list, !has_prefix, out, err)) == 0)
        *len = strlen(*out);
    json_decref(list);
    return rc;
}

int bm_turns_render(char **out, size_t *len, const bm_turns *t, const bm_prompt_options *o, bool has_prefix, bm_error *err)
{
    bm_buf b = {0};

    *out = NULL;
    if (o->apply_chat_template)
        return render_chat(out, len, t, o, has_prefix, err);
    add_plain(&b, t, 0, t->n, false);
    *len = b.len;
    return (*out = bm_buf_take(&b)) == NULL ? no_memory(err) : 0;
}
