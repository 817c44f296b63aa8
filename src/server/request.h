/* request.h - the body of a completion request: bytes in, a checked struct out. Pure: no I/O, no clock, no model.
 * What depends on the model (vocabulary, template) is checked by call.c. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "server/fields.h"

enum {
    BM_MAX_BODY_DEPTH = 32,          /* nested arrays and objects */
    BM_MAX_BODY_VALUES = 2000000,    /* commas and colons: what bounds the parsed tree */
    BM_MAX_MESSAGES = 10000,
    BM_MAX_PROMPTS = 1024,
    BM_MAX_STOPS = 16,
    BM_MAX_CHOICES = 1024,           /* prompts x n */
};

typedef struct bm_prompt_text {      /* text, or ids when ids is not NULL */
    const char *text;
    size_t len;
    const int32_t *ids;
    size_t n_ids;
} bm_prompt_text;

typedef struct bm_request {
    unsigned route;              /* BM_CHAT or BM_COMPLETIONS */
    json_t *root;                /* what the pointers below point into */
    bm_arena arena;
    const char *model;           /* NULL: the server's default */
    json_t *messages;            /* chat: content is a string or null in each */
    json_t *template_vars;       /* chat: white-listed, or NULL */
    bm_prompt_text *prompts;     /* completions */
    size_t n_prompts;            /* 1 for chat */
    bool stream, include_usage, echo, ignore_eos, no_cache, has_seed;
    int n;
    int32_t max_tokens;          /* -1: until the context is full */
    int top_logprobs;            /* -1: none */
    bm_sampling sampling;        /* bias in the arena */
    const char **stop;
    size_t n_stop;
} bm_request;

/* Parse and check. On failure err has message, param and hint, and *out needs no done (done is fine). */
int  bm_request_parse(bm_request *out, unsigned route, const char *bytes, size_t len, bm_error *err);
void bm_request_done(bm_request *r);

/* request_messages.c: the checked array of chat messages, text parts joined; a new reference. */
int bm_messages_check(json_t **out, const json_t *messages, bm_error *err);
/* What the template must have room for, else the request is refused: it would be dropped in silence. */
int bm_messages_fit(const json_t *messages, const char *template_source, bm_error *err);
