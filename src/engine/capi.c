/* capi.c - include/baimo.h on top of the engine: one engine and one model per handle. */
#include "baimo.h"

#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "compute/cpu.h"
#include "engine/backend.h"
#include "engine/engine_internal.h"
#include "text/reasoning.h"
#include "model/adapter_file.h"

struct baimo {
    bm_engine *engine;
    bm_loaded *loaded;
    bm_backend *backend;
    int (*progress)(void *arg, uint64_t done, uint64_t total);
    void *progress_arg;
};

#define SAME(name) ((int)BAIMO_##name == (int)BM_##name)
_Static_assert(SAME(NOMEM) && SAME(IO) && SAME(FORMAT) && SAME(UNSUPPORTED) && SAME(INVALID) && SAME(NOTFOUND) && SAME(CONTEXT) &&
               SAME(CANCELED) && SAME(BUSY) && SAME(INTERNAL), "the public codes are the library's own");
#undef SAME

static int give_error(baimo_error *out, const bm_error *err, int rc)
{
    if (rc < 0 && out != NULL) {
        out->code = rc;
        snprintf(out->message, sizeof out->message, "%s", err->msg);
        snprintf(out->hint, sizeof out->hint, "%s", err->hint);
    }
    return rc;
}

const char *baimo_version(void) { return BM_VERSION; }

static bool on_progress(void *arg, uint64_t done, uint64_t total)
{
    const baimo *m = arg;

    return m->progress(m->progress_arg, done, total) == 0;
}

static int open_adapter(baimo *m, const char *path, bm_error *err)
{
    const bm_model *model = bm_loaded_model(m->loaded);
    bm_adapter_file file;
    bm_adapter *adapter;
    int rc = bm_adapter_file_read(&file, model, path, err);

    if (rc == 0 && (rc = bm_adapter_new(&adapter, model, file.matrices, file.n, err)) == 0) {
        rc = bm_backend_adapted(&m->backend, m->engine, m->loaded, adapter, err);
        bm_adapter_free(adapter);
    }
    bm_adapter_file_done(&file);
    return rc;
}

static int open_model(baimo *m, const char *path, const baimo_options *o, bm_error *err)
{
    bm_engine_options engine = { .n_threads = o->threads, .no_speculation = o->no_speculation != 0 };
    bm_load_options load = { .name = o->name, .n_ctx = o->context, .n_parallel = o->parallel, .f32 = o->exact != 0,
                             .pack_dir = o->packs, .finish_pack = true, .notice = o->notice,
                             .notice_arg = o->notice_arg };
    int rc;

    if (o->threads < 0 || o->threads > 4096 || o->context < 0 || o->parallel < 0 || o->parallel > 4096)
        return bm_fail(err, BM_INVALID, "threads, context and parallel must not be negative, threads and parallel at most 4096");
    if (o->kv_type != NULL && (rc = bm_kv_type_find(&load.kv_type, o->kv_type, err)) < 0)
        return bm_param(err, "--kv-type");
    engine.max_seqs = o->parallel > 256 ? o->parallel : 0;
    if (o->progress != NULL) {
        m->progress = o->progress, m->progress_arg = o->progress_arg;
        load.progress = on_progress, load.progress_arg = m;
    }
    if ((rc = bm_engine_new(&m->engine, &engine, err)) < 0 || (rc = bm_engine_load(&m->loaded, m->engine, path, &load, err)) < 0)
        return rc;
    if (o->adapter != NULL)
        return open_adapter(m, o->adapter, err);
    return bm_backend_local(&m->backend, m->engine, m->loaded, err);
}

int baimo_open(baimo **out, const char *path, const baimo_options *options, baimo_error *err)
{
    static const baimo_options none;
    bm_error e = { 0 };
    baimo *m = bm_zalloc(sizeof *m);
    int rc;

    *out = NULL;
    if (m == NULL)
        return give_error(err, &e, bm_fail(&e, BM_NOMEM, "no memory for the model's handle"));
    if ((rc = open_model(m, path, options != NULL ? options : &none, &e)) < 0) {
        baimo_close(m);
        return give_error(err, &e, rc);
    }
    *out = m;
    return BAIMO_OK;
}

void baimo_close(baimo *m)
{
    if (m == NULL)
        return;
    if (m->backend != NULL)
        m->backend->close(m->backend);
    bm_loaded_unref(m->loaded);
    bm_engine_free(m->engine);
    bm_free(m);
}

void baimo_get_info(const baimo *m, baimo_info *out)
{
    const bm_model_info *info = bm_loaded_info(m->loaded);

    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s", info->name);
    snprintf(out->architecture, sizeof out->architecture, "%s", info->arch);
    snprintf(out->quantization, sizeof out->quantization, "%s", info->quantization);
    snprintf(out->license, sizeof out->license, "%s", info->license);
    out->parameters = info->n_params;
    out->file_bytes = info->file_bytes;
    out->memory_bytes = info->packed_bytes;
    out->context = bm_loaded_ctx(m->loaded);
    out->context_of_model = info->n_ctx_train;
    out->vocabulary = info->n_vocab;
    out->threads = m->engine->options.n_threads;
    out->chats = bm_loaded_template(m->loaded) != NULL;
    snprintf(out->memory_plan, sizeof out->memory_plan, "%s", bm_loaded_arithmetic(m->loaded));
}

int64_t baimo_count_tokens(const baimo *m, const char *text, size_t len, baimo_error *err)
{
    bm_tokens tokens = { 0 };
    bm_error e = { 0 };
    int rc = bm_tokenizer_encode(bm_loaded_tokenizer(m->loaded), text, len, NULL, &tokens, &e);
    int64_t n = (int64_t)tokens.n;

    bm_tokens_done(&tokens);
    return rc < 0 ? give_error(err, &e, rc) : n;
}

void baimo_settings_init(baimo_settings *s)
{
    *s = (baimo_settings){ .temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05, .repetition_penalty = 1, .max_tokens = -1 };
}

static bm_gen_request make_request(const baimo_settings *s, const bm_prompt *prompt)
{
    bm_gen_request r = { .prompt = prompt->tokens.ids, .n_prompt = prompt->tokens.n, .max_tokens = s->max_tokens, .n_choices = 1,
                         .stop = s->stop, .n_stop = s->n_stop, .top_logprobs = -1 };

    r.sampling = (bm_sampling){ .temperature = (float)s->temperature, .top_k = s->top_k, .top_p = (float)s->top_p,
                                .min_p = (float)s->min_p, .repetition_penalty = (float)s->repetition_penalty,
                                .frequency_penalty = (float)s->frequency_penalty,
                                .presence_penalty = (float)s->presence_penalty, .seed = s->seed };
    return r;
}

/* Where the pieces of one answer go. */
typedef struct sink {
    baimo_callback callback;
    void *arg;
    bm_reasoning split;
    bm_buf reasoning, content;
    bool canceled, no_memory;
} sink;

static void give(sink *s, bm_buf *buf, int is_reasoning)
{
    baimo_piece piece = { buf->data, buf->len, is_reasoning };

    s->no_memory |= buf->failed;
    if (buf->len > 0 && !s->canceled && s->callback != NULL)
        s->canceled = s->callback(s->arg, &piece) != 0;
    bm_buf_clear(buf);
}

static void give_pieces(sink *s)
{
    give(s, &s->reasoning, 1);
    give(s, &s->content, 0);
}

/* Read events until END. Returns the finish. */
static bm_finish read_answer(bm_gen *gen, sink *s)
{
    bm_finish finish = BM_FINISH_ERROR;
    bm_event ev;

    for (;; bm_gen_wait(gen))
        while (bm_gen_next(gen, &ev)) {
            if (ev.kind == BM_EVENT_END)
                return finish;
            bm_reasoning_feed(&s->split, ev.text, ev.len, &s->reasoning, &s->content);
            if (ev.kind == BM_EVENT_FINISH) {
                finish = ev.finish;
                bm_reasoning_finish(&s->split, &s->reasoning, &s->content);
            }
            give_pieces(s);
            if (s->canceled || s->no_memory)
                bm_gen_cancel(gen);
        }
}

static void fill_result(baimo_result *out, const bm_gen *gen, bm_finish finish)
{
    bm_gen_usage u = bm_gen_get_usage(gen);

    *out = (baimo_result){ .prompt_tokens = u.prompt_tokens, .completion_tokens = u.completion_tokens,
                           .draft_tokens = u.draft_tokens, .draft_accepted = u.draft_accepted,
                           .first_token_s = (double)u.first_token_ns / 1e9, .prefill_s = (double)u.prefill_ns / 1e9,
                           .decode_s = (double)u.decode_ns / 1e9 };
    out->finish = finish == BM_FINISH_STOP ? BAIMO_FINISH_STOP : finish == BM_FINISH_LENGTH ? BAIMO_FINISH_LENGTH
                                                                                             : BAIMO_FINISH_CANCELED;
}

static int generate(baimo *m, const bm_prompt *prompt, const baimo_settings *settings, sink *s, baimo_result *result, bm_error *err)
{
    bm_gen_request request = make_request(settings, prompt);
    bm_gen *gen;
    int rc;

    if (settings->max_tokens < -1)
        return bm_fail(err, BM_INVALID, "max_tokens must be -1 or more");
    if ((rc = m->backend->generate(m->backend, &gen, &request, err)) < 0)
        return rc;
    bm_finish finish = read_answer(gen, s);
    if (finish == BM_FINISH_ERROR) {
        *err = *bm_gen_error(gen);
        rc = err->code < 0 ? err->code : bm_fail(err, BM_INTERNAL, "the generation failed");
    }
    if (rc == 0 && s->no_memory)
        rc = bm_fail(err, BM_NOMEM, "no memory for the text of the answer");
    if (result != NULL)
        fill_result(result, gen, finish);
    bm_gen_close(gen);
    return rc;
}

static json_t *chat_json(const baimo_message *messages, size_t n, bm_error *err)
{
    json_t *array = json_array();

    for (size_t i = 0; i < n; i++) {
        json_t *one = json_pack("{s:s, s:s}", "role", messages[i].role, "content", messages[i].content);
        if (one == NULL || json_array_append_new(array, one) != 0) {
            json_decref(array);
            bm_fail(err, BM_INVALID, "message %zu: role and content must be UTF-8", i + 1);
            return NULL;
        }
    }
    if (array == NULL)
        bm_fail(err, BM_NOMEM, "no memory for the messages");
    return array;
}

static int encode_chat(baimo *m, const baimo_message *messages, size_t n, int thinking, bm_prompt *prompt, bm_error *err)
{
    json_t *array = chat_json(messages, n, err);
    json_t *vars = thinking != 0 ? json_pack("{s:b}", "enable_thinking", thinking > 0) : NULL;
    bm_chat chat = { .messages = array, .template_vars = vars };
    int rc = array == NULL ? err->code : m->backend->encode_chat(m->backend, &chat, prompt, err);

    if (rc == BM_UNSUPPORTED)
        bm_hint(err, "continue the text instead: baimo_complete(), or baimo chat --raw");
    json_decref(array);
    json_decref(vars);
    return rc;
}

/* template_source NULL: a plain text, which has no reasoning apart. Takes the prompt. */
static int answer(baimo *m, bm_prompt *prompt, const char *template_source, const baimo_settings *settings, sink *s,
                  baimo_result *result, bm_error *err)
{
    bm_reasoning_init(&s->split, template_source, prompt->inside_reasoning);
    int rc = generate(m, prompt, settings, s, result, err);
    bm_buf_done(&s->reasoning);
    bm_buf_done(&s->content);
    bm_prompt_done(prompt);
    return rc;
}

int baimo_chat(baimo *m, const baimo_message *messages, size_t n_messages, const baimo_settings *settings, baimo_callback callback,
               void *arg, baimo_result *result, baimo_error *err)
{
    sink s = { .callback = callback, .arg = arg };
    baimo_settings defaults;
    bm_prompt prompt = { 0 };
    bm_error e = { 0 };
    int rc;

    baimo_settings_init(&defaults);
    if (settings == NULL)
        settings = &defaults;
    if ((rc = encode_chat(m, messages, n_messages, settings->thinking, &prompt, &e)) == 0)
        rc = answer(m, &prompt, bm_loaded_template_source(m->loaded), settings, &s, result, &e);
    return give_error(err, &e, rc);
}

int baimo_complete(baimo *m, const char *text, size_t len, const baimo_settings *settings, baimo_callback callback, void *arg,
                   baimo_result *result, baimo_error *err)
{
    sink s = { .callback = callback, .arg = arg };
    baimo_settings defaults;
    bm_prompt prompt = { 0 };
    bm_error e = { 0 };
    int rc;

    baimo_settings_init(&defaults);
    if ((rc = m->backend->encode_text(m->backend, text, len, &prompt, &e)) == 0)
        rc = answer(m, &prompt, NULL, settings != NULL ? settings : &defaults, &s, result, &e);
    return give_error(err, &e, rc);
}
