/* backend.h - where an answer comes from: the local engine now, remote providers later, behind one interface.
 * API routes, evaluation and jobs see backends only. A backend is counted by reference by its owner (the pool). */
#pragma once
#include <jansson.h>
#include "engine/engine.h"

typedef struct bm_backend bm_backend;

/* A chat as the API gives it; the backend renders it by its own template. */
typedef struct bm_chat {
    const json_t *messages;      /* array of objects */
    const json_t *tools;         /* or NULL */
    const json_t *template_vars; /* white-listed chat_template_kwargs, or NULL */
    bool no_generation_prompt;
} bm_chat;

typedef struct bm_prompt {
    bm_tokens tokens;
    bool inside_reasoning;       /* the prompt ends inside an open reasoning tag */
} bm_prompt;

struct bm_backend {
    const char *kind;            /* "local" */
    void *impl;
    /* Fill what a request needs from a chat or a text. */
    int  (*encode_chat)(bm_backend *b, const bm_chat *chat, bm_prompt *out, bm_error *err);
    int  (*render_chat)(bm_backend *b, const bm_chat *chat, char **text, bm_error *err);       /* the caller's to bm_free */
    int  (*encode_text)(bm_backend *b, const char *text, size_t len, bm_prompt *out, bm_error *err);
    /* Start a generation; request->model is filled by the backend. */
    int  (*generate)(bm_backend *b, bm_gen **out, const bm_gen_request *request, bm_error *err);
    const bm_model_info *(*info)(bm_backend *b);
    int32_t (*ctx)(bm_backend *b);
    const bm_tokenizer *(*tokenizer)(bm_backend *b);
    const char *(*template_source)(bm_backend *b);       /* NULL: none */
    void (*close)(bm_backend *b);
};

/* The local engine as a backend; takes a reference on loaded. */
int bm_backend_local(bm_backend **out, bm_engine *engine, bm_loaded *loaded, bm_error *err);
/* The same with an adapter, made for bm_loaded_model(loaded), in every request; takes a reference on it too. */
int bm_backend_adapted(bm_backend **out, bm_engine *engine, bm_loaded *loaded, bm_adapter *adapter, bm_error *err);
/* Of a local backend, borrowed; NULL: the base alone. */
bm_adapter *bm_backend_adapter(bm_backend *backend);
/* The model behind a local backend, borrowed. */
bm_loaded *bm_backend_loaded(bm_backend *backend);
void bm_prompt_done(bm_prompt *p);
