/* prepare.c - what a worker does for a call: body to struct, name to model, messages to tokens. */
#include "server/call.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"

static int alloc_slots(bm_call *c)
{
    const bm_request *r = &c->req;

    c->slots = bm_calloc(r->n_prompts, sizeof *c->slots);
    c->choices = bm_calloc(r->n_prompts * (size_t)r->n, sizeof *c->choices);
    if (c->slots == NULL || c->choices == NULL)
        return bm_fail(&c->err, BM_NOMEM, "no memory for the request's %zu prompts", r->n_prompts);
    return 0;
}

static int parse(bm_call *c)
{
    bm_request *r = &c->req;
    int rc;

    rc = bm_request_parse(r, r->route, c->body.data == NULL ? "" : c->body.data, c->body.len, &c->err);
    bm_buf_done(&c->body);
    if (rc < 0)
        return rc;
    c->parsed = true;
    if (!r->has_seed && (rc = bm_random_bytes(&r->sampling.seed, sizeof r->sampling.seed, &c->err)) < 0)
        return rc;
    return alloc_slots(c);
}

void bm_call_model_ready(void *arg)
{
    bm_call *c = arg;

    bm_work_post(c->server->work, &c->loaded);
}

static int find_model(bm_call *c)
{
    int rc = bm_pool_get(c->server->options.pool, c->req.model, &c->backend, c->model, bm_call_model_ready, c, &c->err);

    if (rc == 0 && bm_backend_adapter(c->backend) != NULL)
        snprintf(c->base, sizeof c->base, "%s", bm_loaded_name(bm_backend_loaded(c->backend)));
    if (rc == BM_NOTFOUND && c->err.param[0] == '\0')
        bm_param(&c->err, "model");
    return rc;
}

static int check_bias(bm_call *c)
{
    const bm_sampling *s = &c->req.sampling;
    int32_t n_vocab = bm_tokenizer_n_vocab(c->backend->tokenizer(c->backend));

    for (size_t i = 0; i < s->n_bias; i++)
        if (s->bias[i].token >= n_vocab) {
            bm_fail(&c->err, BM_INVALID, "'logit_bias' names token %d, and the vocabulary of %s has %d", s->bias[i].token,
                    c->model, n_vocab);
            return bm_param(&c->err, "logit_bias");
        }
    return 0;
}

static int take_ids(bm_call *c, bm_slot *slot, const bm_prompt_text *p)
{
    int32_t n_vocab = bm_tokenizer_n_vocab(c->backend->tokenizer(c->backend));

    slot->prompt.tokens.ids = bm_calloc(p->n_ids, sizeof(int32_t));
    if (slot->prompt.tokens.ids == NULL)
        return bm_fail(&c->err, BM_NOMEM, "no memory for a prompt of %zu tokens", p->n_ids);
    slot->prompt.tokens.n = slot->prompt.tokens.cap = p->n_ids;
    memcpy(slot->prompt.tokens.ids, p->ids, p->n_ids * sizeof *p->ids);
    for (size_t i = 0; i < p->n_ids; i++)
        if (p->ids[i] >= n_vocab) {
            bm_fail(&c->err, BM_INVALID, "'prompt' holds token %d, and the vocabulary of %s has %d", p->ids[i], c->model,
                    n_vocab);
            return bm_param(&c->err, "prompt");
        }
    return 0;
}

static int echo_prompt(bm_call *c, bm_slot *slot, const bm_prompt_text *p)
{
    if (!c->req.echo)
        return 0;
    if (p->ids == NULL) {
        bm_buf_add(&slot->echo, p->text, p->len);
        return slot->echo.failed ? bm_fail(&c->err, BM_NOMEM, "no memory for the echo") : 0;
    }
    return bm_tokenizer_decode(c->backend->tokenizer(c->backend), p->ids, p->n_ids, true, &slot->echo, &c->err);
}

/* A text of so many bytes has at least so many tokens: what can never fit is refused before a worker spends seconds on it. */
static int check_bytes(bm_call *c, size_t len_bytes)
{
    size_t piece = bm_tokenizer_max_piece(c->backend->tokenizer(c->backend));
    size_t least = piece > 0 ? len_bytes / piece : 0;
    int32_t ctx = c->backend->ctx(c->backend);

    if (least <= (size_t)ctx)
        return 0;
    bm_fail(&c->err, BM_CONTEXT, "the prompt of %zu bytes has more than %zu tokens; model %s is loaded with context %d",
            len_bytes, least, c->model, ctx);
    bm_hint(&c->err, "send less, or serve the model with a larger --ctx, if it has one");
    return bm_param(&c->err, c->req.route == BM_CHAT ? "messages" : "prompt");
}

static int encode_prompt(bm_call *c, bm_slot *slot, const bm_prompt_text *p)
{
    int rc = p->ids != NULL ? 0 : check_bytes(c, p->len);

    if (rc == 0)
        rc = p->ids != NULL ? take_ids(c, slot, p)
                            : c->backend->encode_text(c->backend, p->text, p->len, &slot->prompt, &c->err);

    if (rc == 0 && slot->prompt.tokens.n == 0) {
        bm_fail(&c->err, BM_INVALID, "'prompt' has no tokens");
        bm_param(&c->err, "prompt");
        return bm_hint(&c->err, "send at least one character, or a token id");
    }
    return rc < 0 ? rc : echo_prompt(c, slot, p);
}

/* "enable_thinking": true means something only to a template that reads it. */
static int check_vars(bm_call *c, const char *source)
{
    if (!json_is_true(json_object_get(c->req.template_vars, "enable_thinking")) ||
        (source != NULL && strstr(source, "enable_thinking") != NULL))
        return 0;
    bm_fail(&c->err, BM_UNSUPPORTED, "'enable_thinking' has no place in the chat template of %s", c->model);
    bm_hint(&c->err, "leave it out");
    return bm_param(&c->err, "chat_template_kwargs");
}

static int encode_chat(bm_call *c)
{
    const bm_request *r = &c->req;
    bm_chat chat = { .messages = r->messages, .template_vars = r->template_vars };
    const char *source = c->backend->template_source(c->backend);
    size_t i, len_bytes = 0;
    json_t *m;
    int rc;

    json_array_foreach(r->messages, i, m)
        len_bytes += json_string_length(json_object_get(m, "content"));
    if ((rc = check_bytes(c, len_bytes)) < 0 || (rc = bm_messages_fit(r->messages, source, &c->err)) < 0 ||
        (rc = check_vars(c, source)) < 0)
        return rc;
    return c->backend->encode_chat(c->backend, &chat, &c->slots[0].prompt, &c->err);
}

static int encode(bm_call *c)
{
    const bm_request *r = &c->req;
    int rc = check_bias(c);

    if (rc < 0)
        return rc;
    if (r->route == BM_CHAT)
        rc = encode_chat(c);
    for (size_t i = 0; i < r->n_prompts && rc == 0 && r->route == BM_COMPLETIONS; i++)
        rc = encode_prompt(c, &c->slots[i], &r->prompts[i]);
    if (rc == BM_INVALID && c->err.param[0] == '\0')
        bm_param(&c->err, r->route == BM_CHAT ? "messages" : "prompt");
    return rc;
}

void bm_call_prepare(bm_job *job)
{
    bm_call *c = (bm_call *)(void *)((char *)job - offsetof(bm_call, prepare));

    c->rc = c->parsed ? 0 : parse(c);
    if (c->rc == 0)
        c->rc = find_model(c);
    if (c->rc == 0)
        c->rc = encode(c);
}
