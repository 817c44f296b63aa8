/* engine_internal.h - what the files of the engine share: engine.c (life, thread), load.c (models), gen.c (requests and their
 * events), admit.c (the queue), seats.c (who sits in the engine), share.c (pages and neighbours), scheduler.c (the step).
 * Tests drive bm_engine_step themselves on a runner of their own.
 *
 * Threads. The engine thread alone touches: active gens, their sequences, pages and unpublished records. `engine->lock` guards
 * the queue, the shares, the list of models and the counters. `engine->cache_lock` guards the prefix caches: the engine thread
 * holds it outside of forward passes; a model is loaded or freed beside it. `gen->lock` guards what a reader waits for.
 * Order: cache, engine, gen. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "base/hash.h"
#include "base/mem.h"
#include "compute/team.h"
#include "engine/draft.h"
#include "engine/engine.h"
#include "engine/kv.h"
#include "engine/prefix.h"
#include "engine/sampler.h"
#include "engine/stream.h"

/* What the scheduler needs of a model: the real one (load.c) or a test's. piece appends the bytes that a token adds. */
typedef struct bm_runner {
    void *impl;
    int  (*forward)(void *impl, bm_team *team, const bm_run *runs, int n_runs, bm_error *err);
    int  (*logits)(void *impl, bm_team *team, const int32_t *rows, int n_rows, float *logits, bm_error *err);
    void (*piece)(void *impl, int32_t id, bm_buf *out);
    bool (*is_eog)(void *impl, int32_t id);
    void (*close)(void *impl);
    size_t max_piece;            /* bytes of the longest piece */
} bm_runner;

enum { SAMPLING_WORKERS = 8 };   /* each holds 12 bytes per token of the vocabulary */

/* Smoothed nanoseconds; 0: not known yet. */
enum { BM_ROW_BUCKETS = 13, BM_POS_BUCKETS = 16 };
typedef struct bm_step_times {
    double decode_ns[BM_ROW_BUCKETS];    /* a step of up to 1, 2, 4, ... decoded rows */
    double prompt_ns;                    /* a token of a prompt, alone */
    double beside_ns[BM_POS_BUCKETS];    /* beside decoded rows, at positions below 128, 256, 512, ... */
} bm_step_times;

struct bm_loaded {
    bm_engine *engine;           /* a reference */
    uint64_t id;                 /* ascending; models are stepped in this order, in turn */
    struct bm_loaded *next;      /* engine lock */
    atomic_int refs;
    char name[128], arithmetic[256];
    bm_model_info info;
    bm_runner runner;
    int32_t n_ctx;
    bm_kv_pool pools[BM_MAX_KV_GROUPS];
    bm_prefix prefix;            /* cache lock */
    uint64_t weight_bytes;
    int n_queued, n_active;      /* requests, sequences; engine lock */
    const bm_tokenizer *tokenizer;       /* borrowed from the runner; NULL in tests */
    const bm_model *model;               /* likewise */
    const bm_template *tmpl;
    const char *template_source;
    bm_error template_error;     /* why the file's template cannot be used; code 0: it can */
    /* engine thread */
    float *logits;               /* [logit_rows][V] */
    bm_sampler samplers[SAMPLING_WORKERS];
    int n_samplers;
    bm_buf piece;
    bm_step_cost cost;           /* of steps without prompts */
    bm_step_times times;
};

/* Requests of one tenant, or of one key of it: who was admitted longest ago comes next. */
typedef struct bm_share {
    uint64_t tenant, key;
    bool is_key;
    uint64_t served;             /* number of the last admission; 0: none */
    int n_queued;
} bm_share;

typedef struct bm_record {       /* an event as the engine writes it; the reader makes the text */
    int32_t token;               /* FINISH: number of the stop string or -1 */
    uint16_t choice;
    uint8_t kind, finish;
} bm_record;

/* WAIT: for choice 0 to compute the prompt. PREFILL: tokens before the last are not computed, of the prompt or, after standing
 * up, of the answer too. */
typedef enum bm_seq_state { BM_SEQ_WAIT, BM_SEQ_PREFILL, BM_SEQ_DECODE, BM_SEQ_DONE } bm_seq_state;

typedef struct bm_seq {
    struct bm_gen *gen;
    int choice;
    bm_seq_state state;
    int32_t pos;                 /* positions whose KV is computed */
    int32_t n_generated, token;  /* token: the last sampled, its KV is not computed yet */
    int32_t *tokens;             /* [n_prompt + max_tokens]: the prompt and what was generated, n_tokens of them */
    int32_t n_tokens;
    void **pages[BM_MAX_KV_GROUPS];
    int32_t page_begin[BM_MAX_KV_GROUPS], page_end[BM_MAX_KV_GROUPS];    /* held: [begin, end); all groups end alike */
    int32_t *path, n_path;       /* nodes of the prefix cache that hold its first n_path pages, and are held */
    struct bm_seq *leader;       /* PREFILL: waits until that one has computed `common` tokens; NULL: computes itself */
    int32_t common;
    bool looked;                 /* has taken over what was there */
    int32_t copied;              /* the page that began as a copy of another's; -1: none */
    int32_t source;              /* held: the node whose pages that one is still to be copied from; -1: none */
    int32_t grant;               /* tokens of its prompt in the step being built */
    bm_seq_kv kv;
    bm_counts counts;            /* of the worker that samples its rows, during sampling */
    bm_draft draft;
    int32_t run[1 + BM_DRAFT_MAX];       /* of the step: the last token sampled, then guesses of the next */
    bm_stream stream;            /* engine thread; used only with stop strings */
    bm_stream reader;            /* the reader's twin */
} bm_seq;

typedef enum bm_gen_phase { BM_GEN_QUEUED, BM_GEN_ACTIVE, BM_GEN_DONE } bm_gen_phase;

struct bm_gen {
    /* fixed after submit */
    bm_engine *engine;
    bm_loaded *loaded;
    bm_arena arena;
    bm_gen_request request;      /* prompt, bias and stop are copies in the arena; max_tokens is cut to the context */
    bm_prefix_space space;
    bm_stops stops;
    int n_top;
    int32_t pages_per_choice[BM_MAX_KV_GROUPS];
    bool windowed[BM_MAX_KV_GROUPS];     /* pages_per_choice is bounded by the window */
    int64_t submit_ns;
    atomic_int refs;
    atomic_bool canceled;
    /* engine lock */
    struct bm_gen *next;         /* in the queue */
    uint64_t number;
    int tenant_share, key_share;
    bm_gen_phase phase;
    int n_counted;               /* sequences that the model's gauge counts */
    bm_finish leaving;           /* why it leaves the queue */
    /* engine thread */
    bm_seq *seqs;                /* [n_choices] */
    int n_live;
    int32_t n_prompt_events;     /* index of the next prompt token whose event comes */
    size_t n_written;
    bool touched, ended;
    bool seated, preempted;      /* is in active; had to leave it once */
    bool forked;                 /* its choices go apart */
    int64_t admit_ns, first_ns;
    bm_gen_usage usage;
    bm_error error;
    /* records: written by the engine thread, read below n_published */
    bm_record *records;
    float *logprobs;             /* [n_records]; NULL: not asked for */
    struct bm_top *tops;         /* [n_records][n_top] */
    size_t n_records;
    atomic_size_t n_published;
    /* lock */
    pthread_mutex_t lock;
    pthread_cond_t more;
    bm_gen_usage public_usage;
    pthread_mutex_t notify_lock; /* held while notify runs, so that close can wait for it */
    bool closed;
    /* the reader */
    size_t n_read;
    bm_buf piece, text;
};

typedef struct bm_want {         /* a row whose logits are needed */
    int32_t row;
    bm_seq *seq;
    int32_t prompt_index;        /* >= 0: the log-probability of this prompt token; -1: sample */
    int ahead;                   /* guesses before it in its run; the rows of a run follow each other */
    bool ends;                   /* its request asked for nothing behind it */
    /* result */
    bool sampled;                /* false: a guess before it was wrong */
    int32_t token;               /* -1: not a number */
    float logprob;
    struct bm_top top[BM_MAX_TOP];
} bm_want;

struct bm_engine {
    atomic_int refs;             /* bm_engine_free's, and one per loaded model */
    bm_engine_options options;
    bool auto_budget;
    const bm_kernels *kernels;
    bm_isa isa;
    bm_team *team;
    bm_kv_budget budget;
    pthread_mutex_t cache_lock;
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_t thread;
    bool threaded, stop;
    bm_loaded *models;
    uint64_t n_models, n_submitted, n_admitted;
    bm_gen *queue, **queue_end;
    bm_share *shares;
    int n_shares, cap_shares;
    bm_engine_stats stats;
    /* engine thread */
    bm_gen **active;             /* [max_seqs], in the order of admission */
    bm_gen **ranked;             /* [max_seqs], scratch */
    int n_active, n_seqs;
    bool seats_changed;          /* somebody left: those who wait look again */
    uint64_t clock;              /* ages of idle pages; cache lock */
    uint64_t new_computed, new_cached;   /* tokens of prompts, not yet in stats */
    uint64_t new_tokens;         /* sampled, not yet in stats */
    uint64_t last_model;         /* id of the one stepped last */
    bm_run *runs;                /* [max_seqs] */
    bm_seq **run_seqs;
    bm_want *wants;              /* [logit_rows] */
    int logit_rows;
    int (*guess)(const bm_seq *seq, int32_t *tokens, int k);     /* tests: drafts in place of the drafter's, all verified */
};

/* threaded false: the test steps. */
int  bm_engine_new_stepped(bm_engine **out, const bm_engine_options *options, bm_error *err);
/* One turn: leave, admit, step one model. False when there was nothing to do. */
bool bm_engine_step(bm_engine *engine);
/* Give the engine a model that is already there. Takes the runner over, on failure too. */
int  bm_engine_attach(bm_loaded **out, bm_engine *engine, const char *name, const bm_model_info *info, int32_t n_ctx,
                      const bm_runner *runner, bm_error *err);
void bm_engine_unref(bm_engine *engine);

/* Why chats cannot be rendered though the file has a template; NULL when they can. */
const bm_error *bm_loaded_template_error(const bm_loaded *loaded);

/* Bytes of KV of one sequence of n_tokens, with steps of step_tokens. */
uint64_t bm_kv_seq_bytes(const bm_model_info *info, int32_t n_tokens, int step_tokens);
int32_t bm_kv_seq_pages(const bm_kv_group *group, int32_t n_tokens, int step_tokens, bool *windowed);

/* admit.c, with the engine lock held. */
int  bm_queue_add(bm_engine *engine, bm_gen *gen, bm_error *err);
void bm_queue_remove(bm_engine *engine, bm_gen *gen);
/* The one to admit next; NULL: the queue is empty. */
bm_gen *bm_queue_pick(bm_engine *engine);
void bm_queue_admitted(bm_engine *engine, bm_gen *gen);
void bm_queue_return(bm_engine *engine, bm_gen *gen);        /* it had to stand up */
/* Pages that a gen needs with n_live choices left. */
int32_t bm_gen_need(const bm_gen *gen, int group, int n_live);

/* gen.c, engine thread. */
bm_record *bm_gen_push(bm_gen *gen, bm_event_kind kind, int choice);
void bm_gen_publish(bm_gen *gen);            /* makes pushed records visible, wakes the reader, notifies */
void bm_gen_unref(bm_gen *gen);

enum { BM_CHUNK_MIN = 4 };       /* tokens that prompts get in any step, when there are any */
/* chunks.c: engine thread. Sets the grants of the model's sequences that compute a prompt, beside n_rows decoded rows. */
void bm_chunks_share(bm_engine *engine, const bm_loaded *model, int n_rows);
/* pos: where the prompts stood. */
void bm_chunks_learn(bm_step_times *times, int n_rows, int32_t n_prompt, int32_t pos, double ns);

/* seats.c and share.c: engine thread, with the cache lock held. */
void bm_seq_end(bm_engine *engine, bm_seq *seq, bm_finish finish, int stop);
void bm_gen_end(bm_engine *engine, bm_gen *gen, bm_finish finish);
void bm_seats_leave(bm_engine *engine, int64_t now);     /* the cancelled and the late go */
bool bm_seats_serve(bm_engine *engine);                  /* those who leave the queue, then those who fit */
void bm_seats_flush(bm_engine *engine);                  /* publish what was written, let go of those that ended */
void bm_seats_look_around(bm_engine *engine);            /* newcomers take over what is there, or wait for who computes it */
void bm_seats_hand_over(bm_engine *engine, const bm_seq *seq);       /* it ends: those who wait for it take what there is */
/* The next token of every sequence of model has its page; others had to stand up for it, or it did itself. */
void bm_seats_make_room(bm_engine *engine, bm_loaded *model);
/* Pages for positions up to pos + n_tokens - 1; how many of these tokens have room (at least one after make_room). */
int32_t bm_seq_take_pages(bm_engine *engine, bm_seq *seq, int32_t n_tokens);
void bm_seq_drop_pages(bm_seq *seq, int group, int32_t end);
void bm_seqs_copy(bm_engine *engine, bm_seq **seqs, int n);      /* before they compute: the part of a page that each took over */
void bm_seq_let_go(bm_seq *seq);                         /* of all its pages: it starts again at position 0 */
void bm_seq_commit(bm_seq *seq);                         /* whole pages that are computed go to the cache */
void bm_seq_keep_part(bm_seq *seq);                      /* so does, at its end, the page that is not whole */
int32_t bm_seq_busy_pages(bm_seq *seq);                  /* that it could take over from others who run: they cost nothing */
void bm_gen_fork(bm_gen *gen);                           /* the prompt is computed: the other choices share its pages */
bool bm_kv_make_room(bm_engine *engine, bm_loaded *model);       /* reserve a page of each group; false: nothing is idle */
bool bm_engine_evict(bm_engine *engine);                 /* give back the page that is idle for longest; false: none is idle */
/* Any thread, without locks: idle pages go until at most `bytes` are committed; 0: all, and the memory of free pages too. */
void bm_engine_give_back(bm_engine *engine, uint64_t bytes);
