/* prompt.h - from documents to requests, byte for byte as lm-eval builds them: description, few-shot examples drawn with Python's
 * random.Random(seed).sample, delimiters, generation prefix, chat template.
 *
 * The sampler's random numbers run through a task's documents in order, so requests are built from document 0 on: a resumed run
 * builds again what it skips (cheap). One thread per bm_prompts. */
#pragma once
#include "eval/docs.h"

typedef struct bm_prompt_options {
    uint64_t fewshot_seed;               /* lm-eval's default is 1234: set it */
    const char *system_instruction;      /* NULL: none */
    bool apply_chat_template, fewshot_as_multiturn;
    /* With apply_chat_template: render messages ([{"role","content"}]) with the model's template into *out (bm_free'd by the
     * caller). add_generation_prompt is false when a generation prefix stands as the last, open assistant message. */
    int (*chat)(void *arg, const json_t *messages, bool add_generation_prompt, char **out, bm_error *err);
    void *chat_arg;
    bm_data_resolve *resolve;
    void *resolve_arg;
} bm_prompt_options;

/* One request to the model. */
typedef struct bm_request_text {
    char *context;                       /* "" for ROLLING; the whole prompt for GENERATE */
    size_t len_context;
    char *continuation;                  /* what is scored: the delimiter and the choice, the target, the rolling text; NULL for GENERATE */
    size_t len_continuation;
} bm_request_text;

/* Everything of one document. requests[0..n_requests): MULTIPLE_CHOICE: one per choice in order, then, when the metrics have
 * acc_mutual_info, one per choice again with an empty context; otherwise one.
 * lm-eval moves the context's trailing whitespace to the continuation before it encodes (bm_request_split does). */
typedef struct bm_sample {
    size_t doc_id;
    json_t *doc;                         /* borrowed from the documents */
    bm_request_text *requests;
    size_t n_requests, n_choices;        /* n_choices 0 unless doc_to_choice is given */
    json_t *choices;                     /* array of strings, or NULL */
    json_t *target;                      /* doc_to_target: integer, string, list, ... */
    json_t *gold;                        /* what answers are compared with: an index (or -100 when it is out of range), a list of
                                            indices when multiple_target, for GENERATE a string or (multiple_target) a list */
    bool multiple_input, multiple_target;
    size_t n_words, n_bytes;             /* ROLLING: of the text that perplexities divide by */
} bm_sample;

typedef struct bm_prompts bm_prompts;

/* Load the task's documents and few-shot pool; check the first document through all fields, so that what is wrong with the
 * templates shows before anything is run. The task must outlive it. */
int    bm_prompts_open(bm_prompts **out, const bm_task *task, const bm_prompt_options *options, bm_error *err);
void   bm_prompts_close(bm_prompts *prompts);
size_t bm_prompts_count(const bm_prompts *prompts);              /* documents */
const bm_docs *bm_prompts_docs(const bm_prompts *prompts);
const bm_docs *bm_prompts_shots(const bm_prompts *prompts);      /* NULL when there are none */

/* Build the next document's requests: 0, or 1 after the last (sample is empty then). A negative code is this document's own
 * failure (a template that fails on it): sample->doc_id and doc are set, and the next call goes on with the next document. */
int    bm_prompts_next(bm_prompts *prompts, bm_sample *sample, bm_error *err);
void   bm_sample_done(bm_sample *sample);

/* Move the context's trailing whitespace (Python's str.rstrip) to the front of the continuation: lm-eval's _encode_pair. The number
 * of bytes that move; the tokens of context and continuation are then cut from the tokens of both together. */
size_t bm_request_trailing_space(const char *context, size_t len);
