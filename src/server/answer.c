/* answer.c - what chat and completion answers share: ids, usage, timings, finish reasons. */
#include "server/call.h"

#include "server/sse.h"

/* Counts add up over prompts; times are those of the slowest, for they run side by side. */
bm_gen_usage bm_answer_totals(const bm_call *c)
{
    bm_gen_usage sum = { 0 };

    for (size_t i = 0; c->slots != NULL && i < c->req.n_prompts; i++) {
        const bm_gen_usage *u = &c->slots[i].usage;
        sum.prompt_tokens += u->prompt_tokens;
        sum.cached_tokens += u->cached_tokens;
        sum.completion_tokens += u->completion_tokens;
        sum.draft_tokens += u->draft_tokens;
        sum.draft_accepted += u->draft_accepted;
        sum.queue_ns = u->queue_ns > sum.queue_ns ? u->queue_ns : sum.queue_ns;
        sum.prefill_ns = u->prefill_ns > sum.prefill_ns ? u->prefill_ns : sum.prefill_ns;
        sum.decode_ns = u->decode_ns > sum.decode_ns ? u->decode_ns : sum.decode_ns;
        sum.first_token_ns = u->first_token_ns > sum.first_token_ns ? u->first_token_ns : sum.first_token_ns;
    }
    return sum;
}

void bm_answer_usage(bm_json *j, const bm_call *c)
{
    bm_gen_usage u = bm_answer_totals(c);

    bm_json_key(j, "usage");
    bm_json_open(j, '{');
    bm_json_kint(j, "prompt_tokens", u.prompt_tokens);
    bm_json_kint(j, "completion_tokens", u.completion_tokens);
    bm_json_kint(j, "total_tokens", u.prompt_tokens + u.completion_tokens);
    bm_json_key(j, "prompt_tokens_details");
    bm_json_open(j, '{');
    bm_json_kint(j, "cached_tokens", u.cached_tokens);
    bm_json_close(j, '}');
    bm_json_close(j, '}');
}

static double rounded(double x) { return (double)(int64_t)(x * 1000 + 0.5) / 1000; }
static double per_second(int64_t n, int64_t ns) { return ns > 0 ? rounded((double)n * 1e9 / (double)ns) : 0; }

void bm_answer_timings(bm_json *j, const bm_call *c)
{
    bm_gen_usage u = bm_answer_totals(c);
    int64_t computed = u.prompt_tokens - u.cached_tokens;

    bm_json_key(j, "timings");
    bm_json_open(j, '{');
    bm_json_kint(j, "prompt_n", computed);
    bm_json_kdouble(j, "prompt_ms", rounded((double)u.prefill_ns / 1e6));
    bm_json_kdouble(j, "prompt_per_second", per_second(computed, u.prefill_ns));
    bm_json_kint(j, "predicted_n", u.completion_tokens);
    bm_json_kdouble(j, "predicted_ms", rounded((double)u.decode_ns / 1e6));
    bm_json_kdouble(j, "predicted_per_second", per_second(u.completion_tokens, u.decode_ns));
    bm_json_kint(j, "cached_n", u.cached_tokens);
    if (u.draft_tokens > 0) {
        bm_json_kint(j, "draft_n", u.draft_tokens);
        bm_json_kint(j, "draft_n_accepted", u.draft_accepted);
    }
    bm_json_kdouble(j, "queue_ms", rounded((double)u.queue_ns / 1e6));
    bm_json_close(j, '}');
}

void bm_answer_head(bm_json *j, const bm_call *c, const char *object)
{
    bm_json_open(j, '{');
    bm_json_kstr(j, "id", c->id);
    bm_json_kstr(j, "object", object);
    bm_json_kint(j, "created", c->created_s);
    bm_json_kstr(j, "model", c->model);
}

const char *bm_answer_finish(bm_finish finish) { return finish == BM_FINISH_LENGTH ? "length" : "stop"; }

void bm_answer_chunk(bm_call *c, const bm_buf *json)
{
    c->out.failed |= json->failed;
    bm_sse_data(&c->out, json->data == NULL ? "" : json->data, json->len);
}

int bm_choice_index(const bm_call *c, const bm_choice *choice) { return (int)(choice - c->choices); }

bm_slot *bm_choice_slot(const bm_call *c, const bm_choice *choice) { return &c->slots[bm_choice_index(c, choice) / c->req.n]; }

void bm_answer_piece(const bm_call *c, int32_t token, bool first, bm_buf *out)
{
    bm_tokenizer_piece(c->backend->tokenizer(c->backend), token, true, first, out);
}

void bm_logprob_text_done(bm_logprob_text *t)
{
    bm_buf_done(&t->content);
    bm_buf_done(&t->tokens);
    bm_buf_done(&t->values);
    bm_buf_done(&t->tops);
    bm_buf_done(&t->offsets);
}
