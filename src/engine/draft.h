/* draft.h - guesses of the next tokens of a sequence, looked up in its own prompt and reply (no second model), and how many of
 * them a step shall verify. A guess never changes an answer: the step computes the guessed positions beside the next one, samples
 * each as it would without guesses, and goes on behind the first that was guessed wrong. So all here may be wrong; it must be fast.
 *
 * A draft follows a *source*: an earlier place of the sequence whose last tokens equal the newest ones (at least two, the longest of
 * the recent places). Where a long match breaks off - an edit in a text that is being copied - the source goes on beside the
 * break: behind the token that was replaced, or where the new token stands nearby. Each token that comes is a free test of the
 * guess for it, drafted or not; from these come chances by length of match, so that drafting needs no trials to start or stop.
 *
 * Memory is made once from the arena; afterwards a token costs constant time and nothing is allocated. One owner at a time. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"

enum { BM_DRAFT_MAX = 15, BM_DRAFT_CLASSES = 11, BM_DRAFT_COST_ROWS = 64 };

typedef struct bm_draft {
    const int32_t *tokens;       /* borrowed: prompt and reply, as they come; NULL: this sequence does not draft */
    int32_t n, max;              /* tokens so far, prompt included */
    int32_t *newest;             /* [1 << bits]: 1 + the place after the newest two tokens with this hash; 0: none */
    int32_t *older;              /* [max + 1]: the same for the one before, by place */
    int bits;
    int32_t at, len;             /* the source: place of the token guessed next (-1: none), and how many before it match */
    bool near;                   /* the match began beside a break */
    int32_t broken, since;       /* place where the last long match broke off (-1: none), tokens since */
    float hits[BM_DRAFT_CLASSES], tests[BM_DRAFT_CLASSES];      /* decayed counts */
} bm_draft;

/* tokens: the n_prompt of a prompt, then room for a reply, max in all; must outlive d. False: no memory. */
bool bm_draft_init(bm_draft *d, bm_arena *arena, const int32_t *tokens, int32_t n_prompt, int32_t max);
/* A token was sampled and stands behind the others now. */
void bm_draft_note(bm_draft *d);
/* Up to k guesses of the tokens that follow, and the chance that each and all before it are right. Returns how many. */
int  bm_draft_propose(const bm_draft *d, int32_t *tokens, float *chance, int k);

/* What a step of T rows costs, relative to one of a single row: learnt from steps without prompts. Starts from a curve that holds
 * roughly on every machine: few rows share the reading of the weights. */
typedef struct bm_step_cost {
    double row_ns;               /* of a step of one row, smoothed; 0: not known */
    double w, t, tt, y, ty;      /* decayed sums of a straight line through the steps of more rows; y relative to row_ns */
} bm_step_cost;
void   bm_step_cost_note(bm_step_cost *cost, int n_rows, double ns);
double bm_step_cost_get(const bm_step_cost *cost, int n_rows);

/* One sequence's guesses in a step, and what it gets. */
typedef struct bm_draft_offer {
    float chance[BM_DRAFT_MAX];
    int n;                       /* guesses there are */
    int take;                    /* out */
} bm_draft_offer;
/* Share out at most `room` rows beyond one for each of n sequences, so that the product of all their speeds is largest: what one
 * gains weighs as much as what it costs the others, and a large batch drafts nothing. */
void bm_draft_share(bm_draft_offer *offers, int n, int room, const bm_step_cost *cost);
