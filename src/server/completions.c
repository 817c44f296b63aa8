/* completions.c - how answers of /v1/completions look: the legacy form, with its parallel arrays of log-probabilities. */
#include "server/call.h"

#include <string.h>

#include "base/utf8.h"

static void put_comma(bm_buf *list)
{
    if (list->len > 0)
        bm_buf_putc(list, ',');
}

/* A token as text; where its bytes are no whole character: "bytes:\xe4\xb8", as the OpenAI API writes it. */
static void put_token(bm_json *j, const bm_buf *piece)
{
    static const char hex[] = "0123456789abcdef";
    bm_buf text = { 0 };

    if (piece->len == 0 || bm_utf8_valid(piece->data, piece->len)) {
        bm_json_strn(j, piece->len == 0 ? "" : piece->data, piece->len);
        return;
    }
    bm_buf_puts(&text, "bytes:");
    for (size_t i = 0; i < piece->len; i++) {
        unsigned char b = (unsigned char)piece->data[i];
        bm_buf_add(&text, (char[]){ '\\', 'x', hex[b >> 4], hex[b & 15] }, 4);
    }
    bm_json_strn(j, text.data == NULL ? "" : text.data, text.len);
    bm_buf_done(&text);
}

static bool same_bytes(const bm_buf *a, const bm_buf *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* {"token": logprob, ...}, most likely first. Two tokens may have the same text: the likelier one stays, keys are unique. */
static void put_tops(bm_call *c, bm_buf *list, const bm_event *event, bool first)
{
    const bm_logprob *lp = &event->logprob;
    bm_buf pieces[BM_MAX_TOP_LOGPROBS] = { { 0 } };
    bm_json j = { list, false };
    int n = lp->n_top < c->req.top_logprobs ? lp->n_top : c->req.top_logprobs;

    if (!event->has_logprob || n <= 0) {
        bm_json_null(&j);
        return;
    }
    n = n < BM_MAX_TOP_LOGPROBS ? n : BM_MAX_TOP_LOGPROBS;
    bm_json_open(&j, '{');
    for (int i = 0; i < n; i++) {
        bool seen = false;
        bm_answer_piece(c, lp->top[i].token, first, &pieces[i]);
        for (int k = 0; k < i && !seen; k++)
            seen = same_bytes(&pieces[k], &pieces[i]);
        if (seen)
            continue;
        put_token(&j, &pieces[i]);
        bm_buf_putc(list, ':');
        j.comma = false;
        bm_json_float(&j, lp->top[i].logprob);
        j.comma = true;
    }
    bm_json_close(&j, '}');
    for (int i = 0; i < n; i++)
        bm_buf_done(&pieces[i]);
}

static void add_token(bm_call *c, bm_logprob_text *t, size_t *n_chars, int32_t token, const bm_event *event, bool first)
{
    bm_buf piece = { 0 };
    bm_json tokens = { &t->tokens, false }, values = { &t->values, false }, offsets = { &t->offsets, false };

    put_comma(&t->tokens);
    put_comma(&t->values);
    put_comma(&t->tops);
    put_comma(&t->offsets);
    bm_answer_piece(c, token, first, &piece);
    put_token(&tokens, &piece);
    if (event->has_logprob)
        bm_json_float(&values, event->logprob.logprob);
    else
        bm_json_null(&values);
    put_tops(c, &t->tops, event, first);
    bm_json_int(&offsets, (int64_t)*n_chars);
    if (!bm_tokenizer_is_control(c->backend->tokenizer(c->backend), token))
        for (size_t i = 0; i < piece.len; i++)
            *n_chars += ((unsigned char)piece.data[i] & 0xC0) != 0x80;
    bm_buf_done(&piece);
}

static void on_prompt(bm_call *c, bm_slot *slot, const bm_event *event)
{
    if (c->req.echo && c->req.top_logprobs >= 0)
        add_token(c, &slot->lp, &slot->n_chars, event->token, event, event->index == 0);
}

static void on_token(bm_call *c, bm_choice *choice, const bm_event *event)
{
    bm_buf_add(&choice->text, event->text, event->len);
    if (event->kind != BM_EVENT_TOKEN || c->req.top_logprobs < 0)
        return;
    if (choice->n_chars == 0 && c->req.echo)
        choice->n_chars = bm_choice_slot(c, choice)->n_chars;
    add_token(c, &choice->lp, &choice->n_chars, event->token, event, false);
}

static void write_list(bm_json *j, const char *key, const bm_buf *a, const bm_buf *b)
{
    bm_json_key(j, key);
    bm_json_open(j, '[');
    if (a != NULL && a->len > 0)
        bm_json_raw(j, a->data, a->len);
    if (b->len > 0)
        bm_json_raw(j, b->data, b->len);
    bm_json_close(j, ']');
}

static void write_logprobs(bm_json *j, const bm_call *c, const bm_logprob_text *prompt, const bm_logprob_text *t)
{
    bm_json_key(j, "logprobs");
    if (c->req.top_logprobs < 0) {
        bm_json_null(j);
        return;
    }
    bm_json_open(j, '{');
    write_list(j, "tokens", prompt ? &prompt->tokens : NULL, &t->tokens);
    write_list(j, "token_logprobs", prompt ? &prompt->values : NULL, &t->values);
    write_list(j, "top_logprobs", prompt ? &prompt->tops : NULL, &t->tops);
    write_list(j, "text_offset", prompt ? &prompt->offsets : NULL, &t->offsets);
    bm_json_close(j, '}');
}

/* One element of "choices": text, and before it the prompt when `echo`. */
static void write_choice(bm_json *j, bm_call *c, const bm_choice *choice, bool echo, const char *finish)
{
    const bm_slot *slot = bm_choice_slot(c, choice);
    bm_buf text = { 0 };

    if (echo)
        bm_buf_add(&text, slot->echo.data, slot->echo.len);
    bm_buf_add(&text, choice->text.data, choice->text.len);
    bm_json_open(j, '{');
    bm_json_kint(j, "index", bm_choice_index(c, choice));
    bm_json_key(j, "text");
    bm_json_strn(j, text.data == NULL ? "" : text.data, text.len);
    write_logprobs(j, c, echo ? &slot->lp : NULL, &choice->lp);
    bm_json_kstr(j, "finish_reason", finish);
    bm_json_close(j, '}');
    j->out->failed |= text.failed;
    bm_buf_done(&text);
}

static void send_chunk(bm_call *c, const bm_choice *choice, bool echo, const char *finish, bool with_timings)
{
    bm_buf buf = { 0 };
    bm_json j = { &buf, false };

    bm_answer_head(&j, c, "text_completion");
    bm_json_key(&j, "choices");
    bm_json_open(&j, '[');
    write_choice(&j, c, choice, echo, finish);
    bm_json_close(&j, ']');
    if (c->req.include_usage) {
        bm_json_key(&j, "usage");
        bm_json_null(&j);
    }
    if (with_timings)
        bm_answer_timings(&j, c);
    bm_json_close(&j, '}');
    bm_answer_chunk(c, &buf);
    bm_buf_done(&buf);
}

static void clear(bm_choice *choice)
{
    bm_buf_clear(&choice->text);
    bm_buf_clear(&choice->lp.tokens);
    bm_buf_clear(&choice->lp.values);
    bm_buf_clear(&choice->lp.tops);
    bm_buf_clear(&choice->lp.offsets);
}

/* The prompt goes out before the first token of a choice, in a chunk of its own. */
static void open_chunk(bm_call *c, bm_choice *choice)
{
    if (c->req.echo)
        send_chunk(c, choice, true, NULL, false);
}

static void text_chunk(bm_call *c, bm_choice *choice)
{
    if (choice->text.len == 0 && choice->lp.tokens.len == 0)
        return;
    send_chunk(c, choice, false, NULL, false);
    clear(choice);
}

static void finish_chunk(bm_call *c, bm_choice *choice, bool with_timings)
{
    clear(choice);
    send_chunk(c, choice, false, bm_answer_finish(choice->finish), with_timings);
}

static void usage_chunk(bm_call *c)
{
    bm_buf buf = { 0 };
    bm_json j = { &buf, false };

    bm_answer_head(&j, c, "text_completion");
    bm_json_key(&j, "choices");
    bm_json_open(&j, '[');
    bm_json_close(&j, ']');
    bm_answer_usage(&j, c);
    bm_answer_timings(&j, c);
    bm_json_close(&j, '}');
    bm_answer_chunk(c, &buf);
    bm_buf_done(&buf);
}

static void whole(bm_call *c, bm_buf *out)
{
    bm_json j = { out, false };

    bm_answer_head(&j, c, "text_completion");
    bm_json_key(&j, "choices");
    bm_json_open(&j, '[');
    for (size_t i = 0; i < c->req.n_prompts * (size_t)c->req.n; i++)
        write_choice(&j, c, &c->choices[i], c->req.echo, bm_answer_finish(c->choices[i].finish));
    bm_json_close(&j, ']');
    bm_answer_usage(&j, c);
    bm_answer_timings(&j, c);
    bm_json_close(&j, '}');
}

const bm_form bm_completions_form = {
    "cmpl-", "/v1/completions", on_prompt, on_token, open_chunk, text_chunk, finish_chunk, usage_chunk, whole,
};
