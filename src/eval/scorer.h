/* scorer.h - runs a task's documents through a backend and gives each one's answers, in the documents' order.
 *
 * All requests of all documents go to the engine as one stream that keeps it full: choices of a document share its context, and
 * documents their few-shot head, by the engine's prefix cache; logits are computed only where a scored token stands. The answers
 * are the same bytes however much is in flight, at any thread count and beside any load (the engine's contract).
 * Tokens are cut as lm-eval's HFLM cuts them: the continuation's are those of context and continuation together, behind the
 * context's own. Control tokens are recognised in prompts, as there. One thread per scorer; the engine's works beside. */
#pragma once
#include "engine/backend.h"
#include "eval/metrics.h"

typedef struct bm_scorer_options {
    int most_in_flight;          /* requests in the engine at once; 0: 512 */
    uint64_t first, limit;       /* documents before `first` are skipped (a resumed run); limit: document numbers below it only, 0: all */
    int max_gen_tokens;          /* of generation_kwargs without max_gen_toks; 0: 256 */
    uint64_t seed;               /* of sampled generations; a document and a repeat draw their own numbers */
    bool (*go_on)(void *arg);    /* asked before each document; false: BM_CANCELED. NULL is fine */
    void *go_on_arg;
} bm_scorer_options;

typedef struct bm_scored {
    const bm_sample *sample;
    const bm_answer *answers;    /* [sample->n_requests]; NULL with an error */
    int64_t n_tokens, n_cached;  /* of its prompts; of these, not computed again */
    const bm_error *error;       /* why it has no answers: BM_CONTEXT when it does not fit; NULL: it has */
} bm_scored;

/* sink is called once per document from `first` on, in order; negative stops with that code. A document that fails goes to the sink with
 * its error, and the others go on; only what concerns all of them (memory, the model, cancel) is returned. */
int bm_scorer_run(bm_backend *backend, const bm_task *task, bm_prompts *prompts, const bm_scorer_options *options,
                  int (*sink)(void *arg, const bm_scored *doc, bm_error *err), void *arg, bm_error *err);
