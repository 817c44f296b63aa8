/* engine.h - many sequences over loaded models: one engine thread with one thread team steps them all.
 *
 * Owns the models it loads, all KV pages (one byte budget) and the queue. Callers submit requests from any thread and read
 * their events; the engine never waits for a reader, since the room for a request's events is made at admission.
 * Each step: cancelled sequences leave, queued ones are admitted when their prompts' pages fit, then one batch is built from all
 * decoding sequences and chunks of prefill up to a budget of tokens, is run, and is sampled. Pages are taken as they are needed;
 * when none is left the prefix cache gives some back, then the youngest of the lowest priority waits in the queue for its turn to
 * go on. Pages stay in the prefix cache for who begins with the same tokens. None of this changes an answer. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "model/lora.h"
#include "text/template.h"
#include "text/tokenizer.h"

typedef struct bm_engine bm_engine;
typedef struct bm_loaded bm_loaded;      /* a model in the engine, counted by reference */
typedef struct bm_gen bm_gen;            /* one request, its sequences and their events */

typedef struct bm_engine_options {
    int n_threads;               /* 0: bm_cpu.n_threads_default */
    int max_seqs;                /* decoding at once, all models; 0: 256 */
    int max_queued;              /* requests waiting per model; 0: 64. More: BM_BUSY */
    int step_tokens;             /* tokens a step may run, decodes first; 0: 512 */
    uint64_t kv_budget_bytes;    /* 0: half of the available memory */
    bool no_speculation;         /* never guess tokens ahead (draft.h); answers are the same bytes either way */
    bool no_prefix_cache;        /* requests share nothing and leave nothing */
} bm_engine_options;

int  bm_engine_new(bm_engine **out, const bm_engine_options *options, bm_error *err);
/* Cancels what runs, joins the engine thread, closes the models. */
void bm_engine_free(bm_engine *engine);

typedef struct bm_load_options {
    const char *name;            /* for messages and events */
    int32_t n_ctx;               /* 0: the largest that fits, at most the model's own */
    int n_parallel;              /* sequences that shall fit with full context; 0: 1 */
    bool f32;                    /* --precision f32 */
    bm_kv_type kv_type;          /* of K and V in the cache; 0: int16. Not with f32 */
    bool (*progress)(void *arg, uint64_t done, uint64_t total);
    void *progress_arg;
    /* Keep the packed weights in files of this directory (made when missing), and map them from there: see packs.h. The pack is
     * written, or checked, by a thread of low priority after the load. NULL, or f32: in memory only. */
    const char *pack_dir;
    const struct bm_known_file *known;   /* the sha256 of a file; it is used when it is of the one that is loaded. NULL is fine */
    bool finish_pack;            /* closing the model waits until the pack is written; else at most 5 s */
    void (*notice)(void *arg, const char *line);     /* from that thread: why there is no pack, or that it was damaged */
    void *notice_arg;
} bm_load_options;
/* Load a GGUF: opens, plans memory (refuses with the arithmetic before loading), packs. Runs in the calling thread; other
 * models go on being stepped. The template is compiled when the file has one. */
int  bm_engine_load(bm_loaded **out, bm_engine *engine, const char *path, const bm_load_options *options, bm_error *err);
void bm_loaded_ref(bm_loaded *loaded);
void bm_loaded_unref(bm_loaded *loaded);     /* the last reference unloads once no request uses it */

const bm_model_info *bm_loaded_info(const bm_loaded *loaded);
const bm_model *bm_loaded_model(const bm_loaded *loaded);            /* to make adapters for */
const bm_tokenizer *bm_loaded_tokenizer(const bm_loaded *loaded);
const bm_template *bm_loaded_template(const bm_loaded *loaded);      /* NULL: the file has none */
const char *bm_loaded_template_source(const bm_loaded *loaded);      /* NULL: none */
/* The pack that it was mapped from is damaged: its requests fail, and it should be loaded again. */
bool bm_loaded_damaged(const bm_loaded *loaded);
/* Wait until its pack is written or checked. */
void bm_loaded_kept(bm_loaded *loaded);
/* Mapped from a pack on disk since it was loaded. */
bool bm_loaded_mapped(const bm_loaded *loaded);
const char *bm_loaded_name(const bm_loaded *loaded);
int32_t bm_loaded_ctx(const bm_loaded *loaded);
/* "context 8,192: 192 MiB of KV each (24 KiB a token x 8,192), 4 fit in 1.1 GiB" */
const char *bm_loaded_arithmetic(const bm_loaded *loaded);

typedef struct bm_logit_bias { int32_t token; float bias; } bm_logit_bias;

/* Zero is not the default everywhere: start from bm_sampling_default(). Order: penalties, bias, temperature, top-k, top-p, min-p. */
typedef struct bm_sampling {
    float temperature;           /* 0: greedy */
    int32_t top_k;               /* 0: off */
    float top_p, min_p;          /* 1 and 0: off */
    float repetition_penalty;    /* 1: off; counts prompt and generated */
    float frequency_penalty, presence_penalty;   /* 0: off; count generated */
    uint64_t seed;               /* random numbers are a function of (seed, choice, position) */
    const bm_logit_bias *bias;
    size_t n_bias;
} bm_sampling;
bm_sampling bm_sampling_default(void);       /* temperature 1, top_p 1, ..., seed 0 */

typedef struct bm_gen_request {
    bm_loaded *model;
    const int32_t *prompt;       /* copied */
    size_t n_prompt;             /* >= 1 */
    int32_t max_tokens;          /* -1: until the context is full; 0: prompt only (echo, log-probabilities) */
    int n_choices;               /* >= 1; choice c draws with (seed, c, position) */
    bm_sampling sampling;
    const char *const *stop;     /* stop strings: the text before the first one is kept, it is not */
    size_t n_stop;
    bool ignore_eos;             /* bench */
    bool no_speculation;         /* as in bm_engine_options, for this request */
    bool uncounted;              /* not in bm_engine_stats: a measurement of our own */
    int top_logprobs;            /* -1: no log-probabilities; 0: of the token; k: also of the k most likely, at most 20 */
    bool prompt_logprobs;        /* the same for prompt tokens (choice 0 only), the first has none */
    int32_t logprobs_from;       /* of prompt tokens from this index on: what stands before may come from the prefix cache; 0: all */
    uint64_t tenant, key;        /* for fair share; tenants never share cached prefixes; 0: local */
    unsigned char cache_space[32];       /* who else may share them: the same bytes (a salt of the tenant, an adapter's content) */
    bm_adapter *adapter;         /* made for the model by bm_adapter_new; the request holds a reference. NULL: the base alone.
                                    Its content and scale keep its prefixes apart from all others, whatever cache_space says */
    bool no_cache;               /* takes nothing from the prefix cache and leaves nothing in it */
    bool patient;                /* one of many whose sum counts: it waits a step for a neighbour that computes a few tokens it needs too */
    int priority;                /* higher first; 0 */
    int64_t deadline_ns;         /* bm_now_ns() clock; 0: none. Past it: finish reason "deadline" */
    /* Called from the engine thread after events were added, and once at the end. Must not block or call the engine. */
    void (*notify)(void *arg);
    void *notify_arg;
} bm_gen_request;

/* Prompt longer than the context: BM_CONTEXT with have and need. Queue full: BM_BUSY. */
int  bm_gen_submit(bm_gen **out, bm_engine *engine, const bm_gen_request *request, bm_error *err);

typedef struct bm_logprob {
    int32_t token;
    float logprob;               /* of the raw logits, natural log */
    int n_top;
    const struct bm_top { int32_t token; float logprob; } *top;      /* most likely first */
} bm_logprob;

typedef enum bm_event_kind { BM_EVENT_PROMPT, BM_EVENT_TOKEN, BM_EVENT_FINISH, BM_EVENT_END } bm_event_kind;
typedef enum bm_finish { BM_FINISH_STOP, BM_FINISH_LENGTH, BM_FINISH_CANCELED, BM_FINISH_DEADLINE, BM_FINISH_ERROR } bm_finish;

typedef struct bm_event {
    bm_event_kind kind;
    int choice;
    /* PROMPT: log-probability of prompt token `index`, in order, when asked for.
     * TOKEN: one sampled token; text is what becomes certain with it: valid UTF-8, may be empty, stop strings held back. */
    int32_t index;
    int32_t token;
    const char *text;            /* valid until the next bm_gen_next on this gen */
    size_t len;
    bool has_logprob;
    bm_logprob logprob;
    /* FINISH of a choice: text holds what was still held back. */
    bm_finish finish;
    const char *stop;            /* the stop string that ended it, or NULL */
} bm_event;

/* Next event: 1 and *event filled; 0 when there is none yet; END comes once, last, with the totals ready. One reader. */
int  bm_gen_next(bm_gen *gen, bm_event *event);
/* Block until bm_gen_next has something. */
void bm_gen_wait(bm_gen *gen);
/* Leaves the engine within one step, wherever it is; the remaining events are FINISH (canceled) and END. Any thread. */
void bm_gen_cancel(bm_gen *gen);
/* Cancels when still running, and frees once the engine is done with it. */
void bm_gen_close(bm_gen *gen);
const bm_error *bm_gen_error(const bm_gen *gen);         /* for BM_FINISH_ERROR */

/* The engine's own counts: the only source of usage. Exact at END; a snapshot before. */
typedef struct bm_gen_usage {
    int64_t prompt_tokens, cached_tokens, completion_tokens;     /* cached: of the prompt; completion over all choices */
    int64_t draft_tokens, draft_accepted;        /* guessed ahead and verified; of these, right */
    int64_t queue_ns, prefill_ns, decode_ns, first_token_ns;     /* first_token: from submit */
} bm_gen_usage;
bm_gen_usage bm_gen_get_usage(const bm_gen *gen);
int bm_gen_queue_position(const bm_gen *gen);            /* 0: running or done */

typedef struct bm_engine_stats {
    int n_threads;
    int active_seqs, queued;
    uint64_t kv_budget_bytes, kv_used_bytes, weight_bytes;
    uint64_t kv_cached_bytes;    /* held by the prefix cache only: free when needed, not in kv_used */
    uint64_t cached_tokens, computed_tokens;     /* of prompts: taken over, run (again after a preemption too) */
    uint64_t evictions, preemptions;
    uint64_t steps, prompt_tokens, completion_tokens, requests, canceled;       /* since the start */
} bm_engine_stats;
void bm_engine_get_stats(bm_engine *engine, bm_engine_stats *out);
typedef struct bm_loaded_stats { int active, queued; uint64_t kv_used_bytes, kv_cached_bytes; } bm_loaded_stats;
void bm_loaded_get_stats(bm_loaded *loaded, bm_loaded_stats *out);
