/* draft.c - looking up what may come next, and weighing what it costs to verify it. */
#include "engine/draft.h"

#include <math.h>
#include <string.h>

enum {
    GRAM = 2,                    /* tokens of the index; a shorter match is right too seldom to pay */
    SHORT = 3,                   /* a match of so few gives way to one beside a break */
    MAX_PLACES = 8,              /* of the newest places with the same tokens, so many are compared */
    LONG = 8,                    /* a match of so many is a copy: its break is worth going round */
    CERTAIN = 32,                /* matches are measured up to here */
    NEAR_TOKENS = 16,            /* for so many tokens after a break, and so far from it, the source is looked for nearby */
    MEMORY = 32                  /* tests that a chance remembers */
};
static const float CHANCE_TOO_SMALL = 0.05f;

/* Chances to begin with, as if seen in PRIOR_TESTS tests: beside a break with 0, 1, 2, 4 tokens matched since; else 2, 3, 4, 5,
 * 7, 11 and 20 tokens matched. */
static const float PRIOR[BM_DRAFT_CLASSES] = { 0.4f, 0.45f, 0.7f, 0.85f, 0.25f, 0.35f, 0.45f, 0.55f, 0.7f, 0.85f,
                                                 0.92f };
static const float PRIOR_TESTS = 3;

static int class_of(bool near, int32_t len)
{
    if (near && len < LONG)
        return len >= 4 ? 3 : len >= 2 ? 2 : len;
    return len >= 20 ? 10 : len >= 11 ? 9 : len >= 7 ? 8 : len >= 5 ? 7 : len >= 4 ? 6 : len >= 3 ? 5 : 4;
}

/* The slot of the GRAM tokens before `end`. */
static uint32_t slot_of(const bm_draft *d, int32_t end)
{
    uint64_t h = 0;

    for (int32_t i = end - GRAM; i < end; i++)
        h = (h ^ (uint32_t)d->tokens[i]) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> (64 - d->bits));
}

static void put_in_index(bm_draft *d)
{
    if (d->n < GRAM)
        return;
    int32_t *slot = &d->newest[slot_of(d, d->n)];
    d->older[d->n] = *slot;
    *slot = d->n + 1;
}

/* How many tokens before `place` equal those at the end. */
static int32_t match_length(const bm_draft *d, int32_t place)
{
    int32_t len = 0;

    while (len < CERTAIN && len < place && d->tokens[place - 1 - len] == d->tokens[d->n - 1 - len])
        len++;
    return len;
}

/* The longest match of the recent places, the newest of equals. 0: none of GRAM tokens. The end is not in the index yet. */
static int32_t look_up(const bm_draft *d, int32_t *place)
{
    int32_t best = 0;

    if (d->n < GRAM)
        return 0;
    int32_t next = d->newest[slot_of(d, d->n)];
    for (int i = 0; i < MAX_PLACES && next > 0 && best < CERTAIN; i++, next = d->older[next - 1]) {
        int32_t len = match_length(d, next - 1);
        if (len > best)
            best = len, *place = next - 1;
    }
    return best >= GRAM ? best : 0;
}

/* Beside a break: where the newest token stands nearby, else one place on for each token since. */
static void follow_near(bm_draft *d)
{
    int32_t token = d->tokens[d->n - 1], end = d->broken + d->since + NEAR_TOKENS;

    d->near = true;
    for (int32_t p = d->broken; p < end && p < d->n - 1; p++)
        if (d->tokens[p] == token) {
            d->at = p + 1, d->len = 1;
            return;
        }
    d->at = d->broken + d->since, d->len = 0;
    if (d->at >= d->n)
        d->at = -1;
}

/* The guess was wrong, or there was none: find another source. */
static void find_source(bm_draft *d)
{
    int32_t place = -1, len;

    if (d->at >= 0 && d->len >= LONG)
        d->broken = d->at, d->since = 0;
    if (d->broken >= 0 && ++d->since > NEAR_TOKENS)
        d->broken = -1;
    len = look_up(d, &place);
    d->at = len > 0 ? place : -1, d->len = len, d->near = false;
    if (d->broken >= 0 && len <= SHORT)
        follow_near(d);
}

static void keep_source(bm_draft *d)
{
    int32_t place = -1, len;

    d->at++, d->len++;
    if (d->broken >= 0 && (d->len >= LONG || ++d->since > NEAR_TOKENS))
        d->broken = -1;
    if (d->len < LONG && (len = look_up(d, &place)) > d->len)
        d->at = place, d->len = len, d->near = false;
}

static void score(bm_draft *d, int class, bool hit)
{
    const float keep = 1 - 1.0f / MEMORY;

    d->hits[class] = d->hits[class] * keep + hit;
    d->tests[class] = d->tests[class] * keep + 1;
}

bool bm_draft_init(bm_draft *d, bm_arena *arena, const int32_t *tokens, int32_t n_prompt, int32_t max)
{
    *d = (bm_draft){ .max = max, .at = -1, .broken = -1, .bits = 6 };
    while (d->bits < 20 && (1 << d->bits) < d->max)
        d->bits++;
    d->newest = bm_arena_alloc(arena, sizeof *d->newest << d->bits);
    d->older = bm_arena_alloc(arena, ((size_t)d->max + 1) * sizeof *d->older);
    if (d->newest == NULL || d->older == NULL)
        return false;
    d->tokens = tokens;
    for (int i = 0; i < BM_DRAFT_CLASSES; i++)
        d->hits[i] = PRIOR[i] * PRIOR_TESTS, d->tests[i] = PRIOR_TESTS;
    while (d->n < n_prompt) {
        d->n++;
        if (d->n < n_prompt)
            put_in_index(d);
    }
    find_source(d);
    put_in_index(d);
    return true;
}

void bm_draft_note(bm_draft *d)
{
    if (d->tokens == NULL || d->n >= d->max)
        return;
    bool hit = d->at >= 0 && d->tokens[d->at] == d->tokens[d->n];
    if (d->at >= 0)
        score(d, class_of(d->near, d->len), hit);
    d->n++;
    if (hit)
        keep_source(d);
    else
        find_source(d);
    put_in_index(d);
}

int bm_draft_propose(const bm_draft *d, int32_t *tokens, float *chance, int k)
{
    float all = 1;
    int n = 0;

    if (d->tokens == NULL || d->at < 0)
        return 0;
    for (; n < k; n++) {
        int class = class_of(d->near, d->len + n);
        all *= d->hits[class] / d->tests[class];
        if (all < CHANCE_TOO_SMALL)
            break;
        chance[n] = all;
        /* A source that reaches the end goes on in the guesses themselves: a loop. */
        tokens[n] = d->at + n < d->n ? d->tokens[d->at + n] : tokens[d->at + n - d->n];
    }
    return n;
}

/* ---- what it costs ---- */

static double usual_cost(int n_rows) { return n_rows <= 1 ? 1 : 1.05 + 0.08 * (n_rows - 2); }

static void add_point(bm_step_cost *c, double weight, double t, double y)
{
    c->w += weight, c->t += weight * t, c->tt += weight * t * t, c->y += weight * y, c->ty += weight * t * y;
}

void bm_step_cost_note(bm_step_cost *c, int n_rows, double ns)
{
    const double keep = 1 - 1.0 / MEMORY;
    double row_ns = ns / bm_step_cost_get(c, n_rows);

    if (n_rows > BM_DRAFT_COST_ROWS || !(ns > 0))
        return;
    if (c->row_ns <= 0)
        c->row_ns = row_ns;
    if (row_ns > 2 * c->row_ns)              /* somebody else had the processor */
        row_ns = 2 * c->row_ns, ns = row_ns * bm_step_cost_get(c, n_rows);
    if (n_rows == 1) {
        c->row_ns += (ns - c->row_ns) / 8;
        return;
    }
    c->w *= keep, c->t *= keep, c->tt *= keep, c->y *= keep, c->ty *= keep;
    add_point(c, 1, n_rows, ns / c->row_ns);
}

double bm_step_cost_get(const bm_step_cost *cost, int n_rows)
{
    bm_step_cost c = *cost;

    if (n_rows <= 1)
        return 1;
    for (int t = 2; t <= 16; t += 7)         /* the usual curve counts like one step */
        add_point(&c, 0.3, t, usual_cost(t));
    double slope = (c.w * c.ty - c.t * c.y) / (c.w * c.tt - c.t * c.t), mean_t = c.t / c.w, mean_y = c.y / c.w;
    if (!(slope > 0.01))
        slope = 0.01;
    double y = mean_y + slope * (n_rows - mean_t), least = 1 + 0.01 * (n_rows - 1);
    return y > least ? y : least;
}

void bm_draft_share(bm_draft_offer *offers, int n, int room, const bm_step_cost *cost)
{
    double expect[BM_DRAFT_COST_ROWS], value = 0, best = 0.02;        /* what gains less is not worth the risk */
    int order[BM_DRAFT_COST_ROWS], n_given = 0, n_best = 0;

    for (int i = 0; i < n; i++)
        offers[i].take = 0;
    if (n >= BM_DRAFT_COST_ROWS)
        return;
    if (room > BM_DRAFT_COST_ROWS - n)
        room = BM_DRAFT_COST_ROWS - n;
    for (int i = 0; i < n; i++)
        expect[i] = 1;
    while (n_given < room) {
        int who = -1;
        double gain = 0;
        for (int i = 0; i < n; i++) {
            const bm_draft_offer *o = &offers[i];
            if (o->take < o->n && o->chance[o->take] / expect[i] > gain)
                who = i, gain = o->chance[o->take] / expect[i];
        }
        if (who < 0)
            break;
        value += log1p(gain) - n * log(bm_step_cost_get(cost, n + n_given + 1) / bm_step_cost_get(cost, n + n_given));
        expect[who] += offers[who].chance[offers[who].take++];
        order[n_given++] = who;
        if (value > best)
            best = value, n_best = n_given;
    }
    for (int i = n_best; i < n_given; i++)
        offers[order[i]].take--;
}
