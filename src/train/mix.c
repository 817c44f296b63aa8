/* mix.c - the plan of an epoch: which rows, in which order, in which sequences, in which steps. See mix.h.
 *
 * Random numbers come from splitmix64 (Steele, Lea, Flood 2014), started from seed, epoch and what they are for; the order from
 * Fisher and Yates, with bounded numbers that are not biased (Lemire 2019). Rows are packed first fit into at most OPEN_BINS
 * sequences, the fullest of which is closed when another is needed: full to some per mille on real lengths, in one pass, and still
 * in random company. */
#include "train/mix.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

enum { OPEN_BINS = 64 };
static const double max_weight = 1000;

typedef struct item { int32_t set; uint32_t bin; size_t row; } item;

/* Items in order of their sequence: those of sequence b are items[bins[b]..bins[b + 1]), its steps' sequences likewise. */
typedef struct plan {
    item *items;
    size_t n_items, *bins, n_bins, *steps, n_steps;
} plan;

struct bm_mix {
    bm_mix_set *sets;
    int n_sets;
    bm_mix_options options;
    bool preference;
    bm_mix_state state;
    plan plan;                   /* of state.epoch, when planned */
    bool planned;
    /* The step that was given out last. */
    int32_t *tokens, *starts;
    uint8_t *target;
    bm_mix_segment *segments;
    bm_train_row *rows;
    const bm_mix_segment **row_segments;
    size_t cap_tokens, cap_segments, cap_rows;
};

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory for the order of training"); }

/* ---- random numbers ---- */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static uint64_t random_start(uint64_t seed, uint64_t epoch, uint64_t purpose)
{
    uint64_t a = seed, b;

    b = next_random(&a) ^ epoch;
    a = next_random(&b) ^ purpose;
    return next_random(&a);
}

/* In [0, n). */
static uint64_t below(uint64_t *state, uint64_t n)
{
    for (;;) {
        __uint128_t p = (__uint128_t)next_random(state) * n;
        if ((uint64_t)p >= (0 - n) % n)
            return (uint64_t)(p >> 64);
    }
}

static void shuffle(item *items, size_t n, uint64_t state)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)below(&state, i);
        item t = items[i - 1];
        items[i - 1] = items[j];
        items[j] = t;
    }
}

/* ---- which rows ---- */

static double weight_of(const bm_mix_set *set) { return set->weight == 0 ? 1 : set->weight; }

static size_t n_usable(const bm_mix *mix, const bm_data *d)
{
    size_t n = 0;

    for (size_t i = 0; i < d->n_rows; i++)
        n += d->rows[i].valid == mix->options.valid;
    return n;
}

static size_t wanted(const bm_mix *mix, int s, size_t usable)
{
    return mix->options.valid ? usable : (size_t)llround(weight_of(&mix->sets[s]) * (double)usable);
}

static void add_rows(const bm_mix *mix, int s, item *to)
{
    const bm_data *d = mix->sets[s].data;

    for (size_t i = 0; i < d->n_rows; i++)
        if (d->rows[i].valid == mix->options.valid)
            *to++ = (item){ .set = s, .row = i };
}

/* The rows of an epoch: of each set as many whole rounds as its weight has, then a random part of one more. */
static int choose(const bm_mix *mix, uint64_t epoch, plan *p, bm_error *err)
{
    size_t n = 0, bytes, longest = 0;

    for (int s = 0; s < mix->n_sets; s++) {
        size_t usable = n_usable(mix, mix->sets[s].data);
        longest = usable > longest ? usable : longest;
        n += wanted(mix, s, usable);
    }
    p->items = bm_mul_size(n + longest + 1, sizeof *p->items, &bytes) ? bm_malloc(bytes) : NULL;
    if (p->items == NULL)
        return no_memory(err);
    for (int s = 0; s < mix->n_sets; s++) {
        size_t usable = n_usable(mix, mix->sets[s].data), left = wanted(mix, s, usable);
        for (; left > 0; left -= left < usable ? left : usable) {
            item *round = p->items + p->n_items;
            add_rows(mix, s, round);
            if (left < usable)
                shuffle(round, usable, random_start(mix->options.seed, epoch, 1 + (uint64_t)s));
            p->n_items += left < usable ? left : usable;
        }
    }
    if (!mix->options.valid)
        shuffle(p->items, p->n_items, random_start(mix->options.seed, epoch, 0));
    return 0;
}

/* ---- which sequences ---- */

static const bm_data_row *row_of(const bm_mix *mix, const item *it) { return &mix->sets[it->set].data->rows[it->row]; }
static int64_t length_of(const bm_data_row *row) { return (int64_t)row->n_tokens + row->n_other; }

typedef struct open_bin { uint32_t id; int64_t used; } open_bin;

static size_t fullest(const open_bin *open, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        best = open[i].used > open[best].used ? i : best;
    return best;
}

/* Give each item its sequence; new ones are numbered on from *n_bins. */
static void assign(const bm_mix *mix, item *items, size_t n, size_t *n_bins)
{
    open_bin open[OPEN_BINS];
    size_t n_open = 0;

    for (size_t i = 0; i < n; i++) {
        int64_t len = length_of(row_of(mix, &items[i]));
        size_t b = 0;
        while (b < n_open && open[b].used + len > mix->options.max_tokens)
            b++;
        if (b == n_open && n_open == OPEN_BINS) {
            size_t closed = fullest(open, n_open--);
            memmove(open + closed, open + closed + 1, (n_open - closed) * sizeof *open);
            b = n_open;
        }
        if (b == n_open)
            open[n_open++] = (open_bin){ .id = (uint32_t)(*n_bins)++ };
        open[b].used += len;
        items[i].bin = open[b].id;
    }
}

/* Bring items into the order of their sequences, keeping their order within one: a counting sort, which also fills `bins`. */
static int sort_by_bin(plan *p, bm_error *err)
{
    item *sorted = bm_malloc((p->n_items + 1) * sizeof *sorted);
    size_t *at = bm_calloc(p->n_bins + 2, sizeof *at);

    p->bins = bm_calloc(p->n_bins + 1, sizeof *p->bins);
    if (sorted == NULL || at == NULL || p->bins == NULL) {
        bm_free(sorted);
        bm_free(at);
        return no_memory(err);
    }
    for (size_t i = 0; i < p->n_items; i++)
        p->bins[p->items[i].bin + 1]++;
    for (size_t b = 0; b < p->n_bins; b++)
        at[b + 1] = p->bins[b + 1] += p->bins[b];
    for (size_t i = 0; i < p->n_items; i++)
        sorted[at[p->items[i].bin]++] = p->items[i];
    bm_free(p->items);
    bm_free(at);
    p->items = sorted;
    return 0;
}

/* Steps of `batch` sequences, or of `batch` rows. */
static int cut_steps(const bm_mix *mix, plan *p, bm_error *err)
{
    size_t batch = (size_t)mix->options.batch_size, n_units;

    if (mix->options.pack)
        assign(mix, p->items, p->n_items, &p->n_bins);
    n_units = mix->options.pack ? p->n_bins : p->n_items;
    p->n_steps = n_units / batch + (n_units % batch != 0);
    if ((p->steps = bm_calloc(p->n_steps + 1, sizeof *p->steps)) == NULL)
        return no_memory(err);
    for (size_t s = 0; s < p->n_steps; s++) {
        size_t begin = s * batch, n = n_units - begin < batch ? n_units - begin : batch;
        if (!mix->options.pack)
            assign(mix, p->items + begin, n, &p->n_bins);
        p->steps[s + 1] = mix->options.pack ? begin + n : p->n_bins;
    }
    return sort_by_bin(p, err);
}

static void plan_done(plan *p)
{
    bm_free(p->items);
    bm_free(p->bins);
    bm_free(p->steps);
    memset(p, 0, sizeof *p);
}

static int make_plan(const bm_mix *mix, uint64_t epoch, plan *p, bm_error *err)
{
    int rc;

    memset(p, 0, sizeof *p);
    if ((rc = choose(mix, epoch, p, err)) < 0 || (rc = cut_steps(mix, p, err)) < 0)
        plan_done(p);
    return rc;
}

static int ensure_plan(bm_mix *mix, bm_error *err)
{
    int rc;

    if (mix->planned)
        return 0;
    plan_done(&mix->plan);
    if ((rc = make_plan(mix, mix->state.epoch, &mix->plan, err)) == 0)
        mix->planned = true;
    return rc;
}

/* ---- opening ---- */

static int check_sets(bm_mix *mix, bm_error *err)
{
    size_t n = 0;

    for (int s = 0; s < mix->n_sets; s++) {
        const bm_data *d = mix->sets[s].data;
        double weight = weight_of(&mix->sets[s]);
        if (!(weight > 0 && weight <= max_weight))
            return bm_fail(err, BM_INVALID, "a data set with weight %g: expected more than 0 and at most %g", weight, max_weight);
        for (size_t i = 0; i < d->n_rows; i++) {
            const bm_data_row *row = &d->rows[i];
            if (n == 0 && i == 0)
                mix->preference = row->other != NULL;
            if ((row->other != NULL) != mix->preference)
                return bm_fail(err, BM_INVALID, "pairs of preferences and rows without are mixed: they are trained apart");
            if (length_of(row) > mix->options.max_tokens) {
                bm_fail(err, BM_INVALID, "line %llu: %lld tokens%s, and a sequence holds %d", (unsigned long long)row->line,
                        (long long)length_of(row), row->other != NULL ? " in both answers" : "", mix->options.max_tokens);
                return bm_hint(err, "longer sequences, or a smaller --max-length for rows");
            }
        }
        n += d->n_rows;
    }
    return 0;
}

static uint64_t fingerprint(const bm_mix *mix)
{
    const bm_mix_options *o = &mix->options;
    uint64_t numbers[] = { (uint64_t)o->max_tokens, (uint64_t)o->batch_size, o->pack, o->valid, o->seed };
    uint64_t h = bm_hash64(numbers, sizeof numbers, 0);

    for (int s = 0; s < mix->n_sets; s++) {
        const bm_data *d = mix->sets[s].data;
        double weight = weight_of(&mix->sets[s]);
        h = bm_hash64(&weight, sizeof weight, h);
        for (size_t i = 0; i < d->n_rows; i++) {
            uint64_t row[] = { d->rows[i].hash, (uint64_t)d->rows[i].n_tokens, (uint64_t)d->rows[i].n_other, d->rows[i].valid };
            h = bm_hash64(row, sizeof row, h);
        }
    }
    return h;
}

int bm_mix_new(bm_mix **out, const bm_mix_set *sets, int n_sets, const bm_mix_options *options, bm_error *err)
{
    bm_mix *mix = bm_zalloc(sizeof *mix);
    int rc;

    *out = NULL;
    if (mix == NULL || (mix->sets = bm_calloc((size_t)n_sets + 1, sizeof *sets)) == NULL) {
        rc = no_memory(err);
        goto out;
    }
    memcpy(mix->sets, sets, (size_t)n_sets * sizeof *sets);
    mix->n_sets = n_sets;
    mix->options = *options;
    mix->options.batch_size = options->batch_size == 0 ? 1 : options->batch_size;
    if (mix->options.batch_size < 0 || options->max_tokens < 2) {
        rc = bm_fail(err, BM_INVALID, "a batch of %d rows in sequences of %d tokens", options->batch_size, options->max_tokens);
        goto out;
    }
    if ((rc = check_sets(mix, err)) < 0)
        goto out;
    mix->state.fingerprint = fingerprint(mix);
    if ((rc = ensure_plan(mix, err)) < 0)
        goto out;
    if (mix->plan.n_items == 0 && !options->valid) {
        rc = bm_fail(err, BM_INVALID, "no row to train on");
        goto out;
    }
    *out = mix, mix = NULL;
out:
    bm_mix_free(mix);
    return rc;
}

void bm_mix_free(bm_mix *mix)
{
    if (mix == NULL)
        return;
    plan_done(&mix->plan);
    bm_free(mix->sets);
    bm_free(mix->tokens);
    bm_free(mix->starts);
    bm_free(mix->target);
    bm_free(mix->segments);
    bm_free(mix->rows);
    bm_free(mix->row_segments);
    bm_free(mix);
}

/* ---- the next step ---- */

/* What was in it is not needed any more. */
static void *larger(void *old, size_t n, size_t size)
{
    bm_free(old);
    return bm_calloc(n + 1, size);
}

/* Room for the sequences [from, to) of the plan. */
static int make_room(bm_mix *mix, size_t from, size_t to, bm_error *err)
{
    const plan *p = &mix->plan;
    size_t tokens = 0, segments = (p->bins[to] - p->bins[from]) * (mix->preference ? 2 : 1), rows = to - from;

    for (size_t i = p->bins[from]; i < p->bins[to]; i++)
        tokens += (size_t)length_of(row_of(mix, &p->items[i]));
    if (tokens > mix->cap_tokens) {
        mix->tokens = larger(mix->tokens, tokens, sizeof *mix->tokens);
        mix->target = larger(mix->target, tokens, sizeof *mix->target);
        mix->cap_tokens = mix->tokens != NULL && mix->target != NULL ? tokens : 0;
    }
    if (segments > mix->cap_segments) {
        mix->starts = larger(mix->starts, segments, sizeof *mix->starts);
        mix->segments = larger(mix->segments, segments, sizeof *mix->segments);
        mix->cap_segments = mix->starts != NULL && mix->segments != NULL ? segments : 0;
    }
    if (rows > mix->cap_rows) {
        mix->rows = larger(mix->rows, rows, sizeof *mix->rows);
        mix->row_segments = larger(mix->row_segments, rows, sizeof *mix->row_segments);
        mix->cap_rows = mix->rows != NULL && mix->row_segments != NULL ? rows : 0;
    }
    return mix->cap_tokens >= tokens && mix->cap_segments >= segments && mix->cap_rows >= rows ? 0 : no_memory(err);
}

/* Append one segment to the sequence that is being filled; its arrays end where the next begin. */
static void add_segment(const int32_t *tokens, const uint8_t *target, int32_t n, bm_train_row *row, int32_t *to_tokens,
                        uint8_t *to_target, int32_t *starts, int64_t *n_targets)
{
    int32_t at = row->n_tokens;

    starts[row->n_segments++] = at;
    memcpy(to_tokens + at, tokens, (size_t)n * sizeof *tokens);
    memcpy(to_target + at, target, (size_t)n);
    to_target[at] = 0;
    row->n_tokens += n;
    for (int32_t i = 1; i < n; i++)
        *n_targets += target[i] != 0;
}

static void fill_row(bm_mix *mix, size_t bin, size_t r, size_t at_token, size_t at_segment, bm_batch *out)
{
    const plan *p = &mix->plan;
    int32_t *tokens = mix->tokens + at_token, *starts = mix->starts + at_segment;
    uint8_t *target = mix->target + at_token;
    bm_mix_segment *segments = mix->segments + at_segment;
    bm_train_row *row = &mix->rows[r];

    *row = (bm_train_row){ .tokens = tokens, .starts = starts, .target = target };
    for (size_t i = p->bins[bin]; i < p->bins[bin + 1]; i++) {
        const bm_data_row *d = row_of(mix, &p->items[i]);
        segments[row->n_segments] = (bm_mix_segment){ .set = p->items[i].set, .row = p->items[i].row };
        add_segment(d->tokens, d->target, d->n_tokens, row, tokens, target, starts, &out->n_targets);
        if (d->other != NULL) {
            segments[row->n_segments] = (bm_mix_segment){ .set = p->items[i].set, .row = p->items[i].row, .rejected = true };
            add_segment(d->other, d->other_target, d->n_other, row, tokens, target, starts, &out->n_targets);
        }
        out->n_examples++;
    }
    mix->row_segments[r] = segments;
    out->n_tokens += row->n_tokens;
}

int bm_mix_next(bm_mix *mix, bm_batch *out, bm_error *err)
{
    const plan *p = &mix->plan;
    size_t at_token = 0, at_segment = 0;
    int rc;

    *out = (bm_batch){ .preference = mix->preference };
    if ((rc = ensure_plan(mix, err)) < 0)
        return rc;
    if (mix->state.step >= p->n_steps) {
        mix->state.epoch++;
        mix->state.step = 0;
        mix->planned = false;
        return 0;
    }
    size_t from = p->steps[mix->state.step], to = p->steps[mix->state.step + 1];
    if ((rc = make_room(mix, from, to, err)) < 0)
        return rc;
    for (size_t b = from; b < to; b++) {
        fill_row(mix, b, b - from, at_token, at_segment, out);
        at_token += (size_t)mix->rows[b - from].n_tokens;
        at_segment += (size_t)mix->rows[b - from].n_segments;
    }
    out->rows = mix->rows;
    out->n_rows = (int)(to - from);
    out->segments = mix->row_segments;
    out->epoch = mix->state.epoch;
    out->step = mix->state.step++;
    out->n_steps = p->n_steps;
    return 1;
}

int bm_mix_steps(bm_mix *mix, uint64_t epoch, uint64_t *n_steps, bm_error *err)
{
    plan p;
    int rc;

    if (mix->planned && epoch == mix->state.epoch) {
        *n_steps = mix->plan.n_steps;
        return 0;
    }
    if ((rc = make_plan(mix, epoch, &p, err)) < 0)
        return rc;
    *n_steps = p.n_steps;
    plan_done(&p);
    return 0;
}

void bm_mix_tell(const bm_mix *mix, bm_mix_state *out) { *out = mix->state; }

int bm_mix_seek(bm_mix *mix, const bm_mix_state *state, bm_error *err)
{
    bm_mix_state before = mix->state;
    int rc;

    if (state->fingerprint != mix->state.fingerprint)
        return bm_fail(err, BM_INVALID, "the checkpoint was made with other data, or with other settings of it");
    mix->planned = mix->planned && state->epoch == mix->state.epoch;
    mix->state = *state;
    if ((rc = ensure_plan(mix, err)) == 0 && state->step > mix->plan.n_steps)
        rc = bm_fail(err, BM_INVALID, "the checkpoint stands at step %llu of an epoch of %zu", (unsigned long long)state->step,
                     mix->plan.n_steps);
    if (rc < 0) {
        mix->planned = mix->planned && state->epoch == before.epoch;
        mix->state = before;
    }
    return rc;
}
