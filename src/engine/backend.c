/* backend.c - the local engine as a backend: chats are rendered by the file's own template, and control tokens are recognised
 * in what the template wrote, never in what a user did. */
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "engine/backend.h"
#include "engine/engine_internal.h"
#include "text/reasoning.h"

typedef struct local {
    bm_engine *engine;
    bm_loaded *loaded;
    bm_adapter *adapter;         /* NULL: none */
    char *bos, *eos;             /* their text; NULL: none */
} local;

void bm_prompt_done(bm_prompt *p)
{
    bm_tokens_done(&p->tokens);
    p->inside_reasoning = false;
}

static int no_template(const local *l, bm_error *err)
{
    const bm_error *why = bm_loaded_template_error(l->loaded);

    if (why != NULL)
        bm_fail(err, BM_UNSUPPORTED, "model %s: its chat template cannot be used: %s", bm_loaded_name(l->loaded), why->msg);
    else
        bm_fail(err, BM_UNSUPPORTED, "model %s has no chat template: it is a base model, it continues text",
                bm_loaded_name(l->loaded));
    bm_param(err, "messages");
    return bm_hint(err, "send the text itself as \"prompt\" to /v1/completions");
}

/* Whether the prompt ends inside the template's own opening tag, as thinking templates leave it. */
static bool ends_in_reasoning(const local *l, const bm_rendered *r)
{
    bm_reasoning tags;
    size_t end = r->len, open;

    bm_reasoning_init(&tags, bm_loaded_template_source(l->loaded), false);
    if (tags.open == NULL)
        return false;
    while (end > 0 && strchr(" \t\r\n", r->text[end - 1]) != NULL)
        end--;
    open = strlen(tags.open);
    if (end < open || memcmp(r->text + end - open, tags.open, open) != 0)
        return false;
    for (size_t i = 0; i < r->n_spans; i++)
        if (r->spans[i].begin < end && r->spans[i].end > end - open && r->spans[i].message >= 0)
            return false;
    return true;
}

static bool starts_with(const char *text, size_t len, const char *prefix)
{
    return prefix != NULL && *prefix != '\0' && strlen(prefix) <= len && memcmp(text, prefix, strlen(prefix)) == 0;
}

/* BOS where the vocabulary wants one and the text does not bring it. Nothing is added at the end: it is a prompt. */
static int add_bos(const local *l, const char *text, size_t len, bm_prompt *out, bm_error *err)
{
    const bm_tokenizer *tok = bm_loaded_tokenizer(l->loaded);

    if (!bm_tokenizer_adds_bos(tok) || bm_tokenizer_bos(tok) < 0 || starts_with(text, len, l->bos))
        return 0;
    return bm_tokens_add(&out->tokens, bm_tokenizer_bos(tok), err);
}

static int render(const local *l, const bm_chat *chat, bm_rendered *out, bm_error *err)
{
    const bm_template *tmpl = bm_loaded_template(l->loaded);
    int rc;

    if (tmpl == NULL)
        return no_template(l, err);
    bm_render_options options = { .messages = chat->messages, .tools = chat->tools, .vars = chat->template_vars,
                                  .bos_token = l->bos, .eos_token = l->eos,
                                  .add_generation_prompt = !chat->no_generation_prompt };
    if ((rc = bm_template_render(tmpl, &options, out, err)) < 0) {
        bm_wrap(err, "the chat template of model %s", bm_loaded_name(l->loaded));
        return bm_param(err, "messages");
    }
    return 0;
}

static int render_chat(bm_backend *b, const bm_chat *chat, char **text, bm_error *err)
{
    bm_rendered rendered = { 0 };
    int rc = render(b->impl, chat, &rendered, err);

    *text = rc == 0 ? bm_strndup(rendered.text, rendered.len) : NULL;
    bm_rendered_done(&rendered);
    return rc < 0 || *text != NULL ? rc : bm_fail(err, BM_NOMEM, "no memory for a chat");
}

static int encode_chat(bm_backend *b, const bm_chat *chat, bm_prompt *out, bm_error *err)
{
    const local *l = b->impl;
    bm_rendered rendered = { 0 };
    int rc;

    *out = (bm_prompt){ 0 };
    if ((rc = render(l, chat, &rendered, err)) < 0)
        return rc;
    bm_encode_options encode = { .spans = rendered.spans, .n_spans = rendered.n_spans };
    if ((rc = add_bos(l, rendered.text, rendered.len, out, err)) == 0)
        rc = bm_tokenizer_encode(bm_loaded_tokenizer(l->loaded), rendered.text, rendered.len, &encode, &out->tokens, err);
    if (rc == 0)
        out->inside_reasoning = ends_in_reasoning(l, &rendered);
    else
        bm_prompt_done(out);
    bm_rendered_done(&rendered);
    return rc;
}

/* A plain prompt is the whole prompt, written by the application: control tokens in it count. */
static int encode_text(bm_backend *b, const char *text, size_t len, bm_prompt *out, bm_error *err)
{
    const local *l = b->impl;
    bm_encode_options encode = { .parse_special = true };
    int rc;

    *out = (bm_prompt){ 0 };
    if ((rc = add_bos(l, text, len, out, err)) == 0)
        rc = bm_tokenizer_encode(bm_loaded_tokenizer(l->loaded), text, len, &encode, &out->tokens, err);
    if (rc < 0)
        bm_prompt_done(out);
    return rc;
}

static int generate(bm_backend *b, bm_gen **out, const bm_gen_request *request, bm_error *err)
{
    const local *l = b->impl;
    bm_gen_request mine = *request;

    mine.model = l->loaded;
    mine.adapter = l->adapter;
    return bm_gen_submit(out, l->engine, &mine, err);
}

static const bm_model_info *info(bm_backend *b) { return bm_loaded_info(((local *)b->impl)->loaded); }
static int32_t ctx(bm_backend *b) { return bm_loaded_ctx(((local *)b->impl)->loaded); }
static const bm_tokenizer *tokenizer(bm_backend *b) { return bm_loaded_tokenizer(((local *)b->impl)->loaded); }
static const char *template_source(bm_backend *b) { return bm_loaded_template_source(((local *)b->impl)->loaded); }

static void close_local(bm_backend *b)
{
    local *l;

    if (b == NULL)
        return;
    l = b->impl;
    bm_adapter_free(l->adapter);
    bm_loaded_unref(l->loaded);
    bm_free(l->bos);
    bm_free(l->eos);
    bm_free(l);
    bm_free(b);
}

bm_adapter *bm_backend_adapter(bm_backend *b) { return ((local *)b->impl)->adapter; }

bm_loaded *bm_backend_loaded(bm_backend *b) { return ((local *)b->impl)->loaded; }

static char *token_text(const bm_tokenizer *tok, int32_t id)
{
    bm_buf buf = { 0 };

    if (id >= 0)
        bm_tokenizer_piece(tok, id, true, false, &buf);
    return buf.len > 0 ? bm_buf_take(&buf) : (bm_buf_done(&buf), NULL);
}

int bm_backend_adapted(bm_backend **out, bm_engine *engine, bm_loaded *loaded, bm_adapter *adapter, bm_error *err)
{
    int rc = bm_backend_local(out, engine, loaded, err);

    if (rc == 0) {
        bm_adapter_ref(adapter);
        ((local *)(*out)->impl)->adapter = adapter;
    }
    return rc;
}

int bm_backend_local(bm_backend **out, bm_engine *engine, bm_loaded *loaded, bm_error *err)
{
    bm_backend *b = bm_zalloc(sizeof *b);
    local *l = bm_zalloc(sizeof *l);
    const bm_tokenizer *tok = bm_loaded_tokenizer(loaded);

    *out = NULL;
    if (b == NULL || l == NULL) {
        bm_free(b);
        bm_free(l);
        return bm_fail(err, BM_NOMEM, "no memory for the backend of model %s", bm_loaded_name(loaded));
    }
    l->engine = engine;
    l->loaded = loaded;
    bm_loaded_ref(loaded);
    if (tok != NULL) {
        l->bos = token_text(tok, bm_tokenizer_bos(tok));
        l->eos = token_text(tok, bm_tokenizer_eos(tok));
    }
    *b = (bm_backend){ "local", l, encode_chat, render_chat, encode_text, generate, info, ctx, tokenizer, template_source, close_local };
    *out = b;
    return 0;
}
