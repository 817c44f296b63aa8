/* call.h - one completion request from its body to its ledger row.
 *
 *     PREPARING  a worker parses the body, finds the model, renders and tokenises
 *     WAITING    the model is being loaded
 *     RUNNING    prompts are in the engine; their events become chunks or a whole answer
 *     ENDING     answered, or the client left: what the engine still has of it is being cancelled
 *
 * A call outlives its exchange: it ends when no job, no load and no generation points to it any more. Loop thread, but for
 * `prepare`, which a worker runs while the loop only touches `x`. */
#pragma once
#include "base/json_out.h"
#include "platform/ledger.h"
#include "server/request.h"
#include "server/state.h"
#include "text/reasoning.h"

enum { BM_MAX_TOP_LOGPROBS = 20 };

typedef enum bm_call_state { BM_CALL_PREPARING, BM_CALL_WAITING, BM_CALL_RUNNING, BM_CALL_ENDING } bm_call_state;

/* Log-probabilities as JSON elements, comma-separated, in the order of the tokens. Chat uses `content` only. */
typedef struct bm_logprob_text { bm_buf content, tokens, values, tops, offsets; } bm_logprob_text;

/* One choice of one prompt. Streaming empties the buffers with each chunk. */
typedef struct bm_choice {
    bm_reasoning split;
    bm_buf text, reasoning;
    bm_logprob_text lp;
    size_t n_chars;              /* code points so far, for text_offset */
    bool opened, finished;
    bm_finish finish;
} bm_choice;

/* One prompt and its generation. */
typedef struct bm_slot {
    bm_prompt prompt;
    bm_gen *gen;                 /* NULL: not started, or ended */
    bm_gen_usage usage;
    bm_buf echo;                 /* completions with echo: the prompt's text */
    bm_logprob_text lp;          /* and its log-probabilities */
    size_t n_chars;
    bool ended;
} bm_slot;

struct bm_call {
    bm_holder holder;            /* first */
    bm_server *server;
    bm_call *next, **back;
    bm_exchange *x;              /* NULL: answered, or the client left */
    bm_call_state state;
    bm_job prepare, loaded;
    bool load_pending;           /* the pool will post `loaded` once */
    bool retry;                  /* it did before the worker was back */

    /* the worker's while PREPARING */
    bm_buf body;
    bm_request req;
    bool parsed;
    bm_backend *backend;
    char model[128];             /* an adapter's own name when it is one; then base is its model's */
    char base[128];
    bm_slot *slots;              /* [req.n_prompts] */
    bm_choice *choices;          /* [req.n_prompts * req.n] */
    int rc;                      /* 0 ready, 1 the model is loading, else an error */
    bm_error err;

    size_t next_slot, n_started, n_ended, n_unfinished;      /* slots, slots, slots, choices */
    bool streaming;              /* the head of a stream was sent */
    bm_choice *last;             /* its finish chunk waits for the totals */
    bm_buf out;                  /* chunks of this turn of the loop */
    char id[48];
    int64_t created_s, started_ns, started_ms, told_ns;
    bm_key key;
    bm_ledger_row row;
    bool row_written;
};

/* How the two routes look: chat.c and completions.c. */
typedef struct bm_form {
    const char *prefix, *path;   /* of ids; the route */
    /* Keep what an event brings. */
    void (*prompt)(bm_call *c, bm_slot *slot, const bm_event *event);
    void (*token)(bm_call *c, bm_choice *choice, const bm_event *event);
    /* The first chunk of a choice, one with what its buffers hold (if anything), its last one, and the whole answer. */
    void (*open_chunk)(bm_call *c, bm_choice *choice);
    void (*text_chunk)(bm_call *c, bm_choice *choice);
    void (*finish_chunk)(bm_call *c, bm_choice *choice, bool with_timings);
    void (*usage_chunk)(bm_call *c);
    void (*whole)(bm_call *c, bm_buf *out);
} bm_form;
extern const bm_form bm_chat_form, bm_completions_form;
const bm_form *bm_call_form(const bm_call *c);

/* prepare.c: runs in a worker; sets rc and err. */
void bm_call_prepare(bm_job *job);
void bm_call_model_ready(void *call);        /* from the pool's thread: posts `loaded` */

/* answer.c: what both forms share. */
void bm_answer_usage(bm_json *j, const bm_call *c);
void bm_answer_timings(bm_json *j, const bm_call *c);
void bm_answer_head(bm_json *j, const bm_call *c, const char *object);
const char *bm_answer_finish(bm_finish finish);
void bm_answer_chunk(bm_call *c, const bm_buf *json);    /* into c->out */
int  bm_choice_index(const bm_call *c, const bm_choice *choice);
bm_slot *bm_choice_slot(const bm_call *c, const bm_choice *choice);
void bm_answer_piece(const bm_call *c, int32_t token, bool first, bm_buf *out);
void bm_logprob_text_done(bm_logprob_text *t);
bm_gen_usage bm_answer_totals(const bm_call *c);
