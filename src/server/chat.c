/* chat.c - how answers of /v1/chat/completions look. */
#include "server/call.h"

#include <string.h>

static void begin_element(bm_buf *list)
{
    if (list->len > 0)
        bm_buf_putc(list, ',');
}

/* {"token", "logprob", "bytes"} without the closing bracket: the token's own bytes, also where they are no whole character. */
static void open_logprob(bm_json *j, const bm_call *c, int32_t token, float logprob)
{
    bm_buf piece = { 0 };

    bm_answer_piece(c, token, false, &piece);
    bm_json_open(j, '{');
    bm_json_key(j, "token");
    bm_json_strn(j, piece.data == NULL ? "" : piece.data, piece.len);
    bm_json_key(j, "logprob");
    bm_json_float(j, logprob);
    bm_json_key(j, "bytes");
    bm_json_open(j, '[');
    for (size_t i = 0; i < piece.len; i++)
        bm_json_int(j, (unsigned char)piece.data[i]);
    bm_json_close(j, ']');
    bm_buf_done(&piece);
}

static void add_logprob(bm_call *c, bm_buf *list, const bm_logprob *lp)
{
    bm_json j = { list, false };

    begin_element(list);
    open_logprob(&j, c, lp->token, lp->logprob);
    bm_json_key(&j, "top_logprobs");
    bm_json_open(&j, '[');
    for (int i = 0; i < lp->n_top && i < c->req.top_logprobs; i++) {
        open_logprob(&j, c, lp->top[i].token, lp->top[i].logprob);
        bm_json_close(&j, '}');
    }
    bm_json_close(&j, ']');
    bm_json_close(&j, '}');
}

static void on_prompt(bm_call *c, bm_slot *slot, const bm_event *event) { (void)c, (void)slot, (void)event; }

static void on_token(bm_call *c, bm_choice *choice, const bm_event *event)
{
    bm_reasoning_feed(&choice->split, event->text, event->len, &choice->reasoning, &choice->text);
    if (event->kind == BM_EVENT_FINISH)
        bm_reasoning_finish(&choice->split, &choice->reasoning, &choice->text);
    if (event->has_logprob)
        add_logprob(c, &choice->lp.content, &event->logprob);
}

static void write_logprobs(bm_json *j, const bm_call *c, const bm_choice *choice)
{
    bm_json_key(j, "logprobs");
    if (c->req.top_logprobs < 0) {
        bm_json_null(j);
        return;
    }
    bm_json_open(j, '{');
    bm_json_key(j, "content");
    bm_json_open(j, '[');
    if (choice->lp.content.len > 0)
        bm_json_raw(j, choice->lp.content.data, choice->lp.content.len);
    bm_json_close(j, ']');
    bm_json_key(j, "refusal");
    bm_json_null(j);
    bm_json_close(j, '}');
}

static void open_chunk_json(bm_json *j, bm_call *c, const bm_choice *choice)
{
    bm_answer_head(j, c, "chat.completion.chunk");
    bm_json_key(j, "choices");
    bm_json_open(j, '[');
    if (choice != NULL) {
        bm_json_open(j, '{');
        bm_json_kint(j, "index", bm_choice_index(c, choice));
        bm_json_key(j, "delta");
        bm_json_open(j, '{');
    }
}

/* The rest of a chunk after its delta. */
static void close_chunk(bm_json *j, bm_call *c, const bm_choice *choice, const char *finish, bool with_timings)
{
    bm_json_close(j, '}');
    if (c->req.top_logprobs >= 0)
        write_logprobs(j, c, choice);
    bm_json_kstr(j, "finish_reason", finish);
    bm_json_close(j, '}');
    bm_json_close(j, ']');
    if (c->req.include_usage) {
        bm_json_key(j, "usage");
        bm_json_null(j);
    }
    if (with_timings)
        bm_answer_timings(j, c);
    bm_json_close(j, '}');
    bm_answer_chunk(c, j->out);
    bm_buf_done(j->out);
}

static void open_chunk(bm_call *c, bm_choice *choice)
{
    bm_buf buf = { 0 };
    bm_json j = { &buf, false };

    open_chunk_json(&j, c, choice);
    bm_json_kstr(&j, "role", "assistant");
    bm_json_kstr(&j, "content", "");
    close_chunk(&j, c, choice, NULL, false);
}

static void text_chunk(bm_call *c, bm_choice *choice)
{
    bm_buf buf = { 0 };
    bm_json j = { &buf, false };

    if (choice->text.len == 0 && choice->reasoning.len == 0 && choice->lp.content.len == 0)
        return;
    open_chunk_json(&j, c, choice);
    if (choice->reasoning.len > 0) {
        bm_json_key(&j, "reasoning_content");
        bm_json_strn(&j, choice->reasoning.data, choice->reasoning.len);
    }
    if (choice->text.len > 0 || choice->reasoning.len == 0) {
        bm_json_key(&j, "content");
        bm_json_strn(&j, choice->text.data == NULL ? "" : choice->text.data, choice->text.len);
    }
    close_chunk(&j, c, choice, NULL, false);
    bm_buf_clear(&choice->text);
    bm_buf_clear(&choice->reasoning);
    bm_buf_clear(&choice->lp.content);
}

static void finish_chunk(bm_call *c, bm_choice *choice, bool with_timings)
{
    bm_buf buf = { 0 };
    bm_json j = { &buf, false };

    open_chunk_json(&j, c, choice);
    close_chunk(&j, c, choice, bm_answer_finish(choice->finish), with_timings);
}

static void usage_chunk(bm_call *c)
{
    bm_buf buf = { 0 };
    bm_json j = { &buf, false };

    open_chunk_json(&j, c, NULL);
    bm_json_close(&j, ']');
    bm_answer_usage(&j, c);
    bm_answer_timings(&j, c);
    bm_json_close(&j, '}');
    bm_answer_chunk(c, &buf);
    bm_buf_done(&buf);
}

static void write_choice(bm_json *j, const bm_call *c, const bm_choice *choice)
{
    bm_json_open(j, '{');
    bm_json_kint(j, "index", bm_choice_index(c, choice));
    bm_json_key(j, "message");
    bm_json_open(j, '{');
    bm_json_kstr(j, "role", "assistant");
    bm_json_key(j, "content");
    bm_json_strn(j, choice->text.data == NULL ? "" : choice->text.data, choice->text.len);
    if (choice->reasoning.len > 0) {
        bm_json_key(j, "reasoning_content");
        bm_json_strn(j, choice->reasoning.data, choice->reasoning.len);
    }
    bm_json_key(j, "refusal");
    bm_json_null(j);
    bm_json_close(j, '}');
    write_logprobs(j, c, choice);
    bm_json_kstr(j, "finish_reason", bm_answer_finish(choice->finish));
    bm_json_close(j, '}');
}

static void whole(bm_call *c, bm_buf *out)
{
    bm_json j = { out, false };

    bm_answer_head(&j, c, "chat.completion");
    bm_json_key(&j, "choices");
    bm_json_open(&j, '[');
    for (int i = 0; i < c->req.n; i++)
        write_choice(&j, c, &c->choices[i]);
    bm_json_close(&j, ']');
    bm_answer_usage(&j, c);
    bm_answer_timings(&j, c);
    bm_json_close(&j, '}');
}

const bm_form bm_chat_form = {
    "chatcmpl-", "/v1/chat/completions", on_prompt, on_token, open_chunk, text_chunk, finish_chunk, usage_chunk, whole,
};
