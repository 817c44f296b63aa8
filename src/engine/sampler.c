/* sampler.c - penalties, bias, temperature, top-k, top-p, min-p, and the draw. */
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"

enum { BLOCK = 64, DRAW_BLOCK = 1024 };

int bm_sampler_init(bm_sampler *s, const bm_kernels *kernels, int n_vocab, bm_error *err)
{
    size_t n = (size_t)n_vocab;

    memset(s, 0, sizeof *s);
    s->sum_exp = kernels->sum_exp;
    s->n_vocab = n_vocab;
    s->block_max = bm_calloc((n + BLOCK - 1) / BLOCK, sizeof *s->block_max);
    s->work = bm_alloc_aligned(n * sizeof *s->work, 64);
    s->candidates = bm_calloc(n, sizeof *s->candidates);
    if (s->block_max == NULL || s->work == NULL || s->candidates == NULL) {
        bm_sampler_done(s);
        return bm_fail(err, BM_NOMEM, "no memory to sample from %d tokens", n_vocab);
    }
    return 0;
}

void bm_sampler_done(bm_sampler *s)
{
    bm_free(s->block_max);
    bm_free(s->work);
    bm_free(s->candidates);
    memset(s, 0, sizeof *s);
}

bm_sampling bm_sampling_default(void)
{
    return (bm_sampling){ .temperature = 1, .top_p = 1, .repetition_penalty = 1 };
}

bool bm_sampling_counts(const bm_sampling *p)
{
    return p->repetition_penalty != 1 || p->frequency_penalty != 0 || p->presence_penalty != 0;
}

void bm_counts_prompt(bm_counts *c, int32_t token)
{
    if (c->count == NULL)
        return;
    if (c->count[token] == 0)
        c->distinct[c->n++] = token;
    c->count[token] |= BM_COUNT_PROMPT;
}

void bm_counts_generated(bm_counts *c, int32_t token)
{
    if (c->count == NULL)
        return;
    if (c->count[token] == 0)
        c->distinct[c->n++] = token;
    c->count[token]++;
}

static uint64_t mix64(uint64_t z)
{
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

double bm_random_unit(uint64_t seed, uint32_t choice, uint32_t position)
{
    return (double)(mix64(mix64(mix64(seed) ^ choice) ^ position) >> 11) * 0x1p-53;
}

/* Maximum of 64 values and whether one is a NaN. The constant trip count lets the compiler use vectors. */
static float block_scan(const float *x, int n, bool *nan)
{
    float lane[16];
    int bad[16] = { 0 }, any = 0, i = 0;

    for (int j = 0; j < 16; j++)
        lane[j] = -INFINITY;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) {
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
            bad[j] |= x[i + j] != x[i + j];
        }
    for (; i < n; i++) {
        lane[0] = x[i] > lane[0] ? x[i] : lane[0];
        bad[0] |= x[i] != x[i];
    }
    for (int j = 1; j < 16; j++)
        lane[0] = lane[j] > lane[0] ? lane[j] : lane[0];
    for (int j = 0; j < 16; j++)
        any |= bad[j];
    *nan |= any != 0;
    return lane[0];
}

/* Fill block_max; the id of the largest value (the lowest on ties), or -1 for a NaN or an infinite maximum. */
static int32_t scan(bm_sampler *s, const float *x)
{
    bool nan = false;
    int best = 0, n_blocks = (s->n_vocab + BLOCK - 1) / BLOCK;

    for (int b = 0; b < n_blocks; b++) {
        int n = s->n_vocab - b * BLOCK;
        s->block_max[b] = block_scan(x + b * BLOCK, n < BLOCK ? n : BLOCK, &nan);
        if (s->block_max[b] > s->block_max[best])
            best = b;
    }
    if (nan || !isfinite(s->block_max[best]))
        return -1;
    for (int32_t i = best * BLOCK;; i++)
        if (x[i] == s->block_max[best])
            return i;
}

static bool better(bm_candidate a, bm_candidate b) { return a.x > b.x || (a.x == b.x && a.id < b.id); }

/* heap[0] is the worst of the n kept. */
static void sift_down(bm_candidate *heap, int n, int i)
{
    bm_candidate v = heap[i];

    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && better(heap[child], heap[child + 1]))
            child++;
        if (!better(v, heap[child]))
            break;
        heap[i] = heap[child];
    }
    heap[i] = v;
}

/* The k best of x into candidates, best first. block_max must be of x. */
static void select_top(bm_sampler *s, const float *x, int k)
{
    bm_candidate *heap = s->candidates;
    int i;

    for (i = 0; i < k; i++)
        heap[i] = (bm_candidate){ x[i], i };
    for (int j = k / 2 - 1; j >= 0; j--)
        sift_down(heap, k, j);
    while (i < s->n_vocab) {
        int end = (i / BLOCK + 1) * BLOCK;
        if (end > s->n_vocab)
            end = s->n_vocab;
        if (s->block_max[i / BLOCK] > heap[0].x)     /* an equal value has a higher id: it cannot enter */
            for (int j = i; j < end; j++)
                if (x[j] > heap[0].x) {
                    heap[0] = (bm_candidate){ x[j], j };
                    sift_down(heap, k, 0);
                }
        i = end;
    }
    for (int n = k - 1; n > 0; n--) {                /* the worst goes last */
        bm_candidate worst = heap[0];
        heap[0] = heap[n];
        heap[n] = worst;
        sift_down(heap, n, 0);
    }
}

static void apply_penalties(float *x, const bm_sampling *p, const bm_counts *counts)
{
    if (counts != NULL && counts->count != NULL)
        for (int32_t i = 0; i < counts->n; i++) {
            int32_t t = counts->distinct[i];
            uint32_t generated = counts->count[t] & (BM_COUNT_PROMPT - 1);
            x[t] = x[t] > 0 ? x[t] / p->repetition_penalty : x[t] * p->repetition_penalty;
            if (generated > 0)
                x[t] -= (float)generated * p->frequency_penalty + p->presence_penalty;
        }
    for (size_t i = 0; i < p->n_bias; i++)
        x[p->bias[i].token] += p->bias[i].bias;
}

/* work = (x - max) / temperature, so that no temperature overflows; block_max follows by the same monotone step. */
static void apply_temperature(bm_sampler *s, const float *x, float max, float temperature)
{
    float lane[16];
    int i = 0;

    for (; i + 16 <= s->n_vocab; i += 16) {          /* as in block_scan: constant counts, nothing that may alias */
        for (int j = 0; j < 16; j++)
            lane[j] = (x[i + j] - max) / temperature;
        memcpy(s->work + i, lane, sizeof lane);
    }
    for (; i < s->n_vocab; i++)
        s->work[i] = (x[i] - max) / temperature;
    for (int b = 0; b * BLOCK < s->n_vocab; b++)
        s->block_max[b] = (s->block_max[b] - max) / temperature;
}

static double weight(float x, float max) { return exp((double)x - (double)max); }

/* Draw from candidates[0..n) in their order. */
static int32_t draw_candidates(const bm_sampler *s, int n, float max, double u)
{
    double total = 0, sum = 0;

    for (int i = 0; i < n; i++)
        total += weight(s->candidates[i].x, max);
    for (int i = 0; i < n; i++) {
        sum += weight(s->candidates[i].x, max);
        if (sum > u * total)
            return s->candidates[i].id;
    }
    return s->candidates[0].id;
}

/* Draw from the whole row in the order of ids: sums of blocks first, then inside one block. */
static int32_t draw_all(const bm_sampler *s, const float *x, int32_t argmax, double u)
{
    double total = 0, sum = 0;
    float max = x[argmax];
    int n = s->n_vocab, b;

    for (b = 0; b < n; b += DRAW_BLOCK)
        total += (double)s->sum_exp(x + b, n - b < DRAW_BLOCK ? n - b : DRAW_BLOCK, max);
    for (b = 0; b < n; b += DRAW_BLOCK) {
        double block = (double)s->sum_exp(x + b, n - b < DRAW_BLOCK ? n - b : DRAW_BLOCK, max);
        if (sum + block > u * total)
            break;
        sum += block;
    }
    if (b >= n)
        return argmax;
    int32_t last = -1;
    for (int i = b; i < n && i < b + DRAW_BLOCK; i++) {
        double w = weight(x[i], max);
        if (w <= 0)
            continue;
        last = i;
        if ((sum += w) > u * total)
            return i;
    }
    return last >= 0 ? last : argmax;        /* the two sums differ in the last bits */
}

/* Select enough of the row for top-p: candidates best first; returns how many are the smallest set with mass >= top_p. */
static int select_mass(bm_sampler *s, const float *x, int limit, float max, float top_p)
{
    double total = 0, sum;
    int n = s->n_vocab, k = limit < n ? limit : 128;

    if (limit >= n)
        for (int b = 0; b < n; b += DRAW_BLOCK)
            total += (double)s->sum_exp(x + b, n - b < DRAW_BLOCK ? n - b : DRAW_BLOCK, max);
    for (;; k *= 32) {
        if (k > limit)
            k = limit;
        select_top(s, x, k);
        if (limit < n)
            for (int i = 0; i < k; i++)
                total += weight(s->candidates[i].x, max);
        sum = 0;
        for (int i = 0; i < k; i++)
            if ((sum += weight(s->candidates[i].x, max)) >= (double)top_p * total)
                return i + 1;
        if (k == limit)
            return k;
    }
}

/* All ids with x >= floor, in ascending order. */
static int select_above(bm_sampler *s, const float *x, float floor)
{
    int n = 0;

    for (int b = 0; b * BLOCK < s->n_vocab; b++) {
        if (s->block_max[b] < floor)
            continue;
        for (int i = b * BLOCK; i < s->n_vocab && i < (b + 1) * BLOCK; i++)
            if (x[i] >= floor)
                s->candidates[n++] = (bm_candidate){ x[i], i };
    }
    return n;
}

int32_t bm_sample(bm_sampler *s, const float *logits, const bm_sampling *p, const bm_counts *counts, double u)
{
    const float *x = logits;
    bool edits = p->n_bias > 0 || (counts != NULL && counts->count != NULL);
    int n, k = p->top_k > 0 && p->top_k < s->n_vocab ? p->top_k : s->n_vocab;
    int32_t argmax = scan(s, x);

    if (argmax < 0 || (p->temperature == 0 && !edits) || (k == 1 && !edits))
        return argmax;
    if (edits) {
        memcpy(s->work, logits, (size_t)s->n_vocab * sizeof *s->work);
        apply_penalties(s->work, p, counts);
        x = s->work;
        if ((argmax = scan(s, x)) < 0 || p->temperature == 0 || k == 1)
            return argmax;
    }
    if (p->temperature != 1) {
        apply_temperature(s, x, x[argmax], p->temperature);
        x = s->work;
    }
    float max = x[argmax], floor = p->min_p > 0 ? max + logf(p->min_p) : -INFINITY;
    if (k == s->n_vocab && p->top_p >= 1) {
        if (p->min_p <= 0)
            return draw_all(s, x, argmax, u);
        return draw_candidates(s, select_above(s, x, floor), max, u);
    }
    if (p->top_p < 1)
        n = select_mass(s, x, k, max, p->top_p);
    else
        select_top(s, x, n = k);
    while (n > 1 && s->candidates[n - 1].x < floor)
        n--;
    return draw_candidates(s, n, max, u);
}

bool bm_logprob_of(bm_sampler *s, const float *logits, int32_t token, int n_top, float *logprob, struct bm_top *top)
{
    int32_t argmax = scan(s, logits);

    if (argmax < 0)
        return false;
    float max = logits[argmax], log_sum = logf(s->sum_exp(logits, s->n_vocab, max));
    *logprob = (logits[token] - max) - log_sum;
    if (n_top > s->n_vocab)
        n_top = s->n_vocab;
    if (n_top > 0)
        select_top(s, logits, n_top);
    for (int i = 0; i < n_top; i++)
        top[i] = (struct bm_top){ s->candidates[i].id, (s->candidates[i].x - max) - log_sum };
    return true;
}
