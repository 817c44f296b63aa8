/* test_mix.c - the order of training: what an epoch holds, how rows share sequences, and that a run can go on anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "train/mix.h"

#define T(name) cmocka_unit_test(name)

enum { MAX_ROWS = 3000, MAX_LENGTH = 100 };

/* Rows whose tokens name them: token i of row r is r * 1000 + i; every second token from the second on carries loss. */
typedef struct set { bm_data data; bm_data_row rows[MAX_ROWS]; } set;

static void fill(int32_t **tokens, uint8_t **target, int32_t *n, int32_t id, int32_t len)
{
    *n = len;
    *tokens = malloc((size_t)len * sizeof **tokens);
    *target = calloc((size_t)len, 1);
    for (int32_t i = 0; i < len; i++) {
        (*tokens)[i] = id * 1000 + i;
        (*target)[i] = i % 2;
    }
}

static set *new_set(size_t n, unsigned seed, double valid_share, bool pairs)
{
    set *s = calloc(1, sizeof *s);

    srand(seed);
    s->data.rows = s->rows;
    s->data.n_rows = n;
    for (size_t i = 0; i < n; i++) {
        bm_data_row *r = &s->rows[i];
        r->line = i + 1;
        r->hash = (uint64_t)seed << 32 | i;
        r->valid = (double)rand() / RAND_MAX < valid_share;
        fill(&r->tokens, &r->target, &r->n_tokens, (int32_t)i, 2 + rand() % (MAX_LENGTH - 2));
        if (pairs)
            fill(&r->other, &r->other_target, &r->n_other, (int32_t)i + 500000, 2 + rand() % (MAX_LENGTH - 2));
    }
    return s;
}

static void free_set(set *s)
{
    for (size_t i = 0; i < s->data.n_rows; i++) {
        free(s->rows[i].tokens);
        free(s->rows[i].target);
        free(s->rows[i].other);
        free(s->rows[i].other_target);
    }
    free(s);
}

static bm_mix *new_mix(set *const *sets, const double *weights, int n, const bm_mix_options *o)
{
    bm_mix_set list[4];
    bm_mix *mix;
    bm_error err;

    for (int i = 0; i < n; i++)
        list[i] = (bm_mix_set){ &sets[i]->data, weights == NULL ? 0 : weights[i] };
    assert_int_equal(bm_mix_new(&mix, list, n, o, &err), 0);
    return mix;
}

/* Every segment is its row, whole; sequences are full of segments and no longer than they may be. */
static void check_batch(const bm_batch *b, set *const *sets, const bm_mix_options *o)
{
    int64_t n_tokens = 0, n_targets = 0;

    for (int r = 0; r < b->n_rows; r++) {
        const bm_train_row *row = &b->rows[r];
        assert_true(row->n_tokens <= o->max_tokens);
        assert_int_equal(row->starts[0], 0);
        for (int s = 0; s < row->n_segments; s++) {
            const bm_mix_segment *from = &b->segments[r][s];
            const bm_data_row *d = &sets[from->set]->rows[from->row];
            int32_t end = s + 1 < row->n_segments ? row->starts[s + 1] : row->n_tokens, n = end - row->starts[s];
            assert_int_equal(n, from->rejected ? d->n_other : d->n_tokens);
            assert_memory_equal(row->tokens + row->starts[s], from->rejected ? d->other : d->tokens, (size_t)n * sizeof(int32_t));
            assert_memory_equal(row->target + row->starts[s], from->rejected ? d->other_target : d->target, (size_t)n);
            assert_int_equal(row->target[row->starts[s]], 0);
            assert_int_equal(d->valid, o->valid);
            for (int32_t i = row->starts[s]; i < end; i++)
                n_targets += row->target[i];
        }
        n_tokens += row->n_tokens;
    }
    assert_int_equal(b->n_tokens, n_tokens);
    assert_int_equal(b->n_targets, n_targets);
}

/* Run one epoch; count how often each row of each set came. Returns its steps. */
static uint64_t run_epoch(bm_mix *mix, set *const *sets, const bm_mix_options *o, int (*times)[MAX_ROWS], int *order, size_t *n_order)
{
    uint64_t steps = 0;
    bm_batch b;
    bm_error err;
    int rc;

    while ((rc = bm_mix_next(mix, &b, &err)) == 1) {
        check_batch(&b, sets, o);
        assert_int_equal(b.step, steps++);
        for (int r = 0; r < b.n_rows; r++)
            for (int s = 0; s < b.rows[r].n_segments; s++) {
                if (times != NULL && !b.segments[r][s].rejected)
                    times[b.segments[r][s].set][b.segments[r][s].row]++;
                if (order != NULL)
                    order[(*n_order)++] = (int)b.segments[r][s].row;
            }
    }
    assert_int_equal(rc, 0);
    return steps;
}

static void each_row_comes_once_in_an_epoch(void **state)
{
    static int times[1][MAX_ROWS];
    set *s = new_set(1000, 1, 0.1, false);
    uint64_t steps, n_train = 0;
    bm_error err;

    (void)state;
    for (int pack = 0; pack < 2; pack++) {
        bm_mix_options o = { .max_tokens = 256, .batch_size = 8, .pack = pack, .seed = 7 };
        bm_mix *mix = new_mix(&s, NULL, 1, &o);
        memset(times, 0, sizeof times);
        n_train = 0;
        assert_int_equal(bm_mix_steps(mix, 0, &steps, &err), 0);
        assert_int_equal(run_epoch(mix, &s, &o, times, NULL, NULL), steps);
        for (size_t i = 0; i < 1000; i++) {
            assert_int_equal(times[0][i], !s->rows[i].valid);
            n_train += !s->rows[i].valid;
        }
        if (!pack)
            assert_int_equal(steps, (n_train + 7) / 8);
        bm_mix_free(mix);
    }
    free_set(s);
}

static void batch_of_rows_is_so_many_rows_and_shares_sequences(void **state)
{
    set *s = new_set(100, 2, 0, false);
    bm_mix_options o = { .max_tokens = 1000, .batch_size = 8, .seed = 1 };
    bm_mix *mix = new_mix(&s, NULL, 1, &o);
    bm_batch b;
    bm_error err;

    (void)state;
    for (int i = 0; i < 12; i++) {
        assert_int_equal(bm_mix_next(mix, &b, &err), 1);
        assert_int_equal(b.n_examples, 8);
        assert_int_equal(b.n_rows, 1);                           /* 8 rows of less than 100 tokens */
    }
    assert_int_equal(bm_mix_next(mix, &b, &err), 1);
    assert_int_equal(b.n_examples, 4);                           /* what is left is not dropped */
    assert_int_equal(bm_mix_next(mix, &b, &err), 0);
    bm_mix_free(mix);
    free_set(s);
}

static void packed_sequences_are_nearly_full(void **state)
{
    set *s = new_set(3000, 3, 0, false);
    bm_mix_options o = { .max_tokens = 512, .batch_size = 1, .pack = true, .seed = 1 };
    bm_mix *mix = new_mix(&s, NULL, 1, &o);
    int64_t tokens = 0, sequences = 0;
    bm_batch b;
    bm_error err;

    (void)state;
    while (bm_mix_next(mix, &b, &err) == 1) {
        tokens += b.n_tokens;
        sequences += b.n_rows;
    }
    assert_true((double)tokens / (double)(sequences * 512) > 0.98);
    bm_mix_free(mix);
    free_set(s);
}

static void order_follows_seed_and_epoch_and_nothing_else(void **state)
{
    static int a[3][MAX_ROWS], b[3][MAX_ROWS];
    size_t n;
    set *s = new_set(500, 4, 0, false);
    bm_mix_options o = { .max_tokens = 100, .batch_size = 4, .seed = 11 }, other = o;
    bm_mix *mix = new_mix(&s, NULL, 1, &o), *again = new_mix(&s, NULL, 1, &o);

    (void)state;
    other.seed = 12;
    bm_mix *third = new_mix(&s, NULL, 1, &other);
    for (int e = 0; e < 3; e++) {
        n = 0;
        run_epoch(mix, &s, &o, NULL, a[e], &n);
        n = 0;
        run_epoch(again, &s, &o, NULL, b[e], &n);
        assert_int_equal(n, 500);
    }
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a[0], a[1], sizeof a[0]);
    n = 0;
    run_epoch(third, &s, &other, NULL, b[0], &n);
    assert_memory_not_equal(a[0], b[0], sizeof a[0]);
    bm_mix_free(mix);
    bm_mix_free(again);
    bm_mix_free(third);
    free_set(s);
}

static void weights_say_how_often_rows_come(void **state)
{
    static int times[3][MAX_ROWS], later[3][MAX_ROWS];
    set *sets[] = { new_set(400, 5, 0, false), new_set(300, 6, 0, false), new_set(200, 7, 0, false) };
    const double weights[] = { 0.5, 2.25, 1 };
    bm_mix_options o = { .max_tokens = 128, .batch_size = 4, .pack = true, .seed = 3 };
    bm_mix *mix = new_mix(sets, weights, 3, &o);
    int sum[3] = { 0 }, different = 0;

    (void)state;
    memset(times, 0, sizeof times);
    memset(later, 0, sizeof later);
    run_epoch(mix, sets, &o, times, NULL, NULL);
    run_epoch(mix, sets, &o, later, NULL, NULL);
    for (int s = 0; s < 3; s++)
        for (size_t i = 0; i < sets[s]->data.n_rows; i++) {
            sum[s] += times[s][i];
            assert_in_range(times[s][i], s == 1 ? 2 : s == 2 ? 1 : 0, s == 1 ? 3 : 1);
            different += s == 0 && times[s][i] != later[s][i];
        }
    assert_int_equal(sum[0], 200);
    assert_int_equal(sum[1], 675);
    assert_int_equal(sum[2], 200);
    assert_true(different > 50);                                 /* another half in the next epoch */
    bm_mix_free(mix);
    for (int s = 0; s < 3; s++)
        free_set(sets[s]);
}

static void assert_same_batch(const bm_batch *a, const bm_batch *b)
{
    assert_int_equal(a->n_rows, b->n_rows);
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->step, b->step);
    for (int r = 0; r < a->n_rows; r++) {
        assert_int_equal(a->rows[r].n_tokens, b->rows[r].n_tokens);
        assert_memory_equal(a->rows[r].tokens, b->rows[r].tokens, (size_t)a->rows[r].n_tokens * sizeof(int32_t));
        assert_memory_equal(a->rows[r].target, b->rows[r].target, (size_t)a->rows[r].n_tokens);
        assert_int_equal(a->rows[r].n_segments, b->rows[r].n_segments);
        assert_memory_equal(a->rows[r].starts, b->rows[r].starts, (size_t)a->rows[r].n_segments * sizeof(int32_t));
    }
}

static void run_that_was_killed_goes_on_with_the_same_batches(void **state)
{
    set *s = new_set(300, 8, 0.05, false);
    bm_error err;

    (void)state;
    for (int pack = 0; pack < 2; pack++) {
        bm_mix_options o = { .max_tokens = 200, .batch_size = 4, .pack = pack, .seed = 5 };
        bm_mix *whole = new_mix(&s, NULL, 1, &o);
        for (int i = 0; i < 150; i++) {                          /* over the end of an epoch */
            bm_mix_state at;
            bm_batch a, b;
            bm_mix_tell(whole, &at);
            bm_mix *resumed = new_mix(&s, NULL, 1, &o);
            assert_int_equal(bm_mix_seek(resumed, &at, &err), 0);
            int rc = bm_mix_next(whole, &a, &err);
            assert_int_equal(bm_mix_next(resumed, &b, &err), rc);
            if (rc == 1)
                assert_same_batch(&a, &b);
            bm_mix_free(resumed);
        }
        bm_mix_free(whole);
    }
    free_set(s);
}

static void checkpoint_of_other_data_is_refused(void **state)
{
    set *a = new_set(50, 9, 0, false), *b = new_set(50, 10, 0, false);
    bm_mix_options o = { .max_tokens = 100, .batch_size = 4, .seed = 5 }, more = { .max_tokens = 100, .batch_size = 8, .seed = 5 };
    bm_mix *mix = new_mix(&a, NULL, 1, &o), *other = new_mix(&b, NULL, 1, &o), *third = new_mix(&a, NULL, 1, &more);
    bm_mix_state at, far;
    bm_batch batch;
    bm_error err;

    (void)state;
    bm_mix_tell(mix, &at);
    assert_int_equal(bm_mix_seek(other, &at, &err), BM_INVALID);
    assert_int_equal(bm_mix_seek(third, &at, &err), BM_INVALID);
    far = at;
    far.step = 1000;
    assert_int_equal(bm_mix_seek(mix, &far, &err), BM_INVALID);
    assert_int_equal(bm_mix_next(mix, &batch, &err), 1);         /* unharmed */
    assert_int_equal(batch.step, 0);
    bm_mix_free(mix);
    bm_mix_free(other);
    bm_mix_free(third);
    free_set(a);
    free_set(b);
}

static void pairs_stay_together(void **state)
{
    set *s = new_set(200, 11, 0, true);
    bm_mix_options o = { .max_tokens = 2 * MAX_LENGTH, .batch_size = 4, .seed = 5 };
    bm_mix *mix = new_mix(&s, NULL, 1, &o);
    int n = 0;
    bm_batch b;
    bm_error err;

    (void)state;
    while (bm_mix_next(mix, &b, &err) == 1) {
        check_batch(&b, &s, &o);
        assert_true(b.preference);
        for (int r = 0; r < b.n_rows; r++) {
            assert_int_equal(b.rows[r].n_segments % 2, 0);
            for (int k = 0; k < b.rows[r].n_segments; k += 2, n++) {
                assert_int_equal(b.segments[r][k].row, b.segments[r][k + 1].row);
                assert_false(b.segments[r][k].rejected);
                assert_true(b.segments[r][k + 1].rejected);
            }
        }
    }
    assert_int_equal(n, 200);
    bm_mix_free(mix);
    free_set(s);
}

static void validation_rows_come_in_order_each_time(void **state)
{
    static int order[MAX_ROWS], again[MAX_ROWS];
    set *s = new_set(300, 12, 0.2, false);
    bm_mix_options o = { .max_tokens = 100, .batch_size = 1, .valid = true };
    const double weight = 3;
    bm_mix *mix = new_mix(&s, &weight, 1, &o);
    size_t n = 0, m = 0, at = 0;

    (void)state;
    run_epoch(mix, &s, &o, NULL, order, &n);
    run_epoch(mix, &s, &o, NULL, again, &m);
    assert_int_equal(n, m);
    for (size_t i = 0; i < 300; i++)
        if (s->rows[i].valid)
            assert_int_equal(order[at++], (int)i);
    assert_int_equal(at, n);
    assert_memory_equal(order, again, n * sizeof *order);
    bm_mix_free(mix);
    free_set(s);
}

static void what_cannot_be_mixed_is_refused_with_its_reason(void **state)
{
    set *plain = new_set(10, 13, 0, false), *pairs = new_set(10, 14, 0, true), *none = new_set(0, 15, 0, false);
    bm_mix_set both[] = { { &plain->data, 1 }, { &pairs->data, 1 } }, empty = { &none->data, 1 }, negative = { &plain->data, -1 };
    bm_mix_options o = { .max_tokens = 300 }, small = { .max_tokens = 20 }, valid = { .max_tokens = 300, .valid = true };
    bm_batch b;
    bm_mix *mix;
    bm_error err;

    (void)state;
    assert_int_equal(bm_mix_new(&mix, both, 2, &o, &err), BM_INVALID);
    assert_null(mix);
    assert_int_equal(bm_mix_new(&mix, both, 1, &small, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "a sequence holds 20"));
    assert_int_equal(bm_mix_new(&mix, &empty, 1, &o, &err), BM_INVALID);
    assert_int_equal(bm_mix_new(&mix, &negative, 1, &o, &err), BM_INVALID);
    assert_int_equal(bm_mix_new(&mix, &empty, 1, &valid, &err), 0);
    assert_int_equal(bm_mix_next(mix, &b, &err), 0);
    bm_mix_free(mix);
    free_set(plain);
    free_set(pairs);
    free_set(none);
}

static void every_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    set *s = new_set(40, 16, 0, false);
    bm_mix_set list = { &s->data, 1.5 };
    bm_mix_options o = { .max_tokens = 200, .batch_size = 4 };
    bool done = false;

    (void)state;
    for (long n = 1; !done; n++) {
        bm_mix *mix = NULL;
        bm_batch b;
        bm_error err;
        assert_true(n < 100);
        bm_mem_fail_at(n);
        int rc = bm_mix_new(&mix, &list, 1, &o, &err);
        if (rc == 0)
            rc = bm_mix_next(mix, &b, &err);
        done = rc == 1;
        assert_true(done || rc == BM_NOMEM);
        bm_mem_fail_at(0);
        bm_mix_free(mix);
    }
    free_set(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(each_row_comes_once_in_an_epoch),
        T(batch_of_rows_is_so_many_rows_and_shares_sequences),
        T(packed_sequences_are_nearly_full),
        T(order_follows_seed_and_epoch_and_nothing_else),
        T(weights_say_how_often_rows_come),
        T(run_that_was_killed_goes_on_with_the_same_batches),
        T(checkpoint_of_other_data_is_refused),
        T(pairs_stay_together),
        T(validation_rows_come_in_order_each_time),
        T(what_cannot_be_mixed_is_refused_with_its_reason),
        T(every_failed_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
