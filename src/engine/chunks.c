/* chunks.c - how many tokens of prompts a step runs, and of which: time is measured, so that a step stays short.
 * Alone, prompts get steps of STEP_NS_ALONE: a cancel and a newcomer wait for one step at most. Beside sequences that decode
 * they may stretch a step to STRETCH times what it takes without them, but always get BM_CHUNK_MIN tokens. Prompts of which little
 * is left, as the new end of a known prefix, may take SHORT_NS: streams feel each of these once, and a first token is not late
 * because of a few tokens. */
#include <string.h>
#include "engine/engine_internal.h"

/* 1.8 leaves something to the error of the estimate: clients that decode shall see at most twice the time between tokens. */
static const double STEP_NS_ALONE = 400e6, STRETCH = 1.8, SHORT_NS = 160e6;
enum { SHORT = 64, SHORTS = 128 };       /* tokens left of a prompt that is soon over; of such prompts in one step */
enum { LEARN_MIN = 32 };         /* of fewer tokens the step's fixed cost hides what one takes */

static int bucket(int64_t n, int64_t first, int n_buckets)
{
    int b = 0;

    while (b < n_buckets - 1 && first << b < n)
        b++;
    return b;
}

static int row_bucket(int n_rows) { return bucket(n_rows, 1, BM_ROW_BUCKETS); }
static int pos_bucket(int32_t pos) { return bucket(pos + 1, 128, BM_POS_BUCKETS); }

/* What a step of that many decoded rows takes; of fewer when that many never ran alone; 0: not known yet. */
static double decode_ns(const bm_step_times *t, int n_rows)
{
    for (int b = row_bucket(n_rows); b >= 0; b--)
        if (t->decode_ns[b] > 0)
            return t->decode_ns[b];
    return 0;
}

/* A token of a prompt beside decoded rows; where that is not known, as nearer to the beginning, else as anywhere. */
static double beside_ns(const bm_step_times *t, int32_t pos)
{
    int b = pos_bucket(pos), i;

    for (i = b; i >= 0; i--)
        if (t->beside_ns[i] > 0)
            return t->beside_ns[i];
    for (i = b + 1; i < BM_POS_BUCKETS; i++)
        if (t->beside_ns[i] > 0)
            return t->beside_ns[i];
    return t->prompt_ns;
}

/* Other programs make steps look slow, never fast: what is shorter counts at once, what is longer only little by little. */
static double smooth(double old, double now)
{
    if (old <= 0)
        return now;
    if (now > 2 * old)
        now = 2 * old;
    return now < old ? 0.5 * old + 0.5 * now : 0.9 * old + 0.1 * now;
}

void bm_chunks_learn(bm_step_times *t, int n_rows, int32_t n_prompt, int32_t pos, double ns)
{
    double *decode = &t->decode_ns[row_bucket(n_rows)];

    if (n_prompt == 0) {
        *decode = smooth(*decode, ns);
    } else if (n_rows == 0) {
        if (n_prompt >= LEARN_MIN)
            t->prompt_ns = smooth(t->prompt_ns, ns / n_prompt);
    } else {
        double rest = ns - t->prompt_ns * n_prompt;
        if (*decode <= 0 && t->prompt_ns > 0 && rest > ns / 4)
            *decode = rest;                  /* until such a step runs without prompts */
        if (*decode > 0 && n_prompt >= BM_CHUNK_MIN) {
            double each = ns > *decode * 1.02 ? (ns - *decode) / n_prompt : *decode * 0.02 / n_prompt;
            double *old = &t->beside_ns[pos_bucket(pos)];
            *old = *old <= 0 ? each : 0.7 * *old + 0.3 * (each < 3 * *old ? each : 3 * *old);
        }
    }
}

/* Tokens of prompts from pos on that take room_ns beside n_rows decoded rows. */
static int32_t tokens_in(const bm_step_times *t, double room_ns, int n_rows, int32_t pos, int32_t most)
{
    double each = n_rows > 0 ? beside_ns(t, pos) : t->prompt_ns;
    int32_t n = most;

    if (each > 0 && room_ns / each < n)
        n = (int32_t)(room_ns / each) / BM_CHUNK_MIN * BM_CHUNK_MIN;
    if (n < BM_CHUNK_MIN)
        n = BM_CHUNK_MIN;
    return n < most ? n : most;
}

static int32_t left(const bm_seq *seq) { return seq->n_tokens - seq->pos - seq->grant; }

static int32_t grant(bm_seq *seq, int32_t most)
{
    int32_t n = left(seq) < most ? left(seq) : most;

    seq->grant += n;
    return n;
}

/* The next sequence of the model that computes a prompt, from place (*i, *c) on; NULL: no more. */
static bm_seq *next_prefill(const bm_engine *e, const bm_loaded *model, int *i, int *c)
{
    for (; *i < e->n_active; ++*i, *c = 0)
        while (e->active[*i]->loaded == model && *c < e->active[*i]->request.n_choices) {
            bm_seq *seq = &e->active[*i]->seqs[(*c)++];
            if (seq->state == BM_SEQ_PREFILL && seq->leader == NULL)
                return seq;
        }
    return NULL;
}

static bm_seq *shortest_prefill(const bm_engine *e, const bm_loaded *model)
{
    bm_seq *shortest = NULL;
    int i = 0, c = 0;

    for (bm_seq *seq; (seq = next_prefill(e, model, &i, &c)) != NULL;)
        if (seq->grant == 0 && (shortest == NULL || left(seq) < left(shortest)))
            shortest = seq;
    return shortest;
}

/* Half of the room to the oldest prompt, so that none starves; the rest to the shortest first, so that none waits long behind
 * a large one; what then is left to the oldest again. Short ones go whole or wait, as half of one gives nobody a first token. */
void bm_chunks_share(bm_engine *e, const bm_loaded *model, int n_rows)
{
    const bm_step_times *t = &model->times;
    int32_t most = e->options.step_tokens - n_rows;
    bm_seq *oldest, *seq;
    int i = 0, c = 0;

    while ((seq = next_prefill(e, model, &i, &c)) != NULL)
        seq->grant = 0;
    i = c = 0;
    if ((oldest = next_prefill(e, model, &i, &c)) == NULL)
        return;
    int32_t budget = tokens_in(t, n_rows > 0 ? (STRETCH - 1) * decode_ns(t, n_rows) : STEP_NS_ALONE, n_rows, oldest->pos, most);
    int32_t more = n_rows > 0 ? tokens_in(t, SHORT_NS, n_rows, oldest->pos, most < SHORTS ? most : SHORTS) : 0;
    int32_t used = grant(oldest, left(oldest) <= SHORT && left(oldest) <= more ? more : (budget + 1) / 2);
    while ((seq = shortest_prefill(e, model)) != NULL) {
        int32_t n = left(seq) <= SHORT && used + left(seq) <= more ? left(seq) : budget - used;
        if (n <= 0)
            break;
        used += grant(seq, n);
    }
    if (used < budget)
        grant(oldest, budget - used);
}
