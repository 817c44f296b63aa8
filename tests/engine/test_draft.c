/* The drafter alone: what it guesses, how sure it is, what it costs, and how rows are shared out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "engine/draft.h"

enum { ROOM = 4096 };

static uint64_t state_of_rng;
static int32_t rnd(int32_t n)
{
    state_of_rng = state_of_rng * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((state_of_rng >> 33) % (uint64_t)n);
}

static bm_arena arena;
static int32_t sequence[ROOM];        /* the sequence under test */

static void start(bm_draft *d, const int32_t *prompt, int32_t n)
{
    memcpy(sequence, prompt, (size_t)n * sizeof *sequence);
    assert_true(bm_draft_init(d, &arena, sequence, n, ROOM));
}

static void note(bm_draft *d, int32_t token)
{
    if (d->n < ROOM)
        sequence[d->n] = token;
    bm_draft_note(d);
}

static int free_arena(void **state)
{
    (void)state;
    bm_arena_done(&arena);
    memset(&arena, 0, sizeof arena);
    return 0;
}

static int guesses(const bm_draft *d, int32_t *tokens)
{
    float chance[BM_DRAFT_MAX];
    int n = bm_draft_propose(d, tokens, chance, BM_DRAFT_MAX);

    for (int i = 0; i < n; i++) {
        assert_true(chance[i] > 0 && chance[i] <= 1);
        assert_true(i == 0 || chance[i] <= chance[i - 1]);
    }
    return n;
}

/* Steps that a text takes when every guess is verified, and the tokens guessed wrong. */
static int steps_for(bm_draft *d, const int32_t *text, int n, int *wrong)
{
    int steps = 0;

    *wrong = 0;
    for (int at = 0; at < n; steps++) {
        int32_t tokens[BM_DRAFT_MAX];
        int k = guesses(d, tokens), right = 0;
        while (right < k && at + right + 1 < n && tokens[right] == text[at + right])
            right++;
        *wrong += k - right;
        for (int i = 0; i <= right; i++)
            note(d, text[at++]);
    }
    return steps;
}

static void the_longest_of_recent_matches_is_continued(void **state)
{
    static const int32_t prompt[] = { 1, 2, 3, 4, 50, 9, 2, 3, 4, 60, 8, 1, 2, 3, 4 };
    static const int32_t equal[] = { 1, 2, 3, 50, 9, 1, 2, 3, 60, 8, 7, 1, 2, 3 };
    int32_t tokens[BM_DRAFT_MAX];
    bm_draft d;

    (void)state;
    start(&d, prompt, 15);
    assert_true(guesses(&d, tokens) >= 1);
    assert_int_equal(tokens[0], 50);                 /* four tokens match there, three at the newer place */
    start(&d, equal, 14);
    assert_true(guesses(&d, tokens) >= 1);
    assert_int_equal(tokens[0], 60);                 /* of equals the newest */
}

static void without_a_match_of_two_there_is_no_guess(void **state)
{
    static const int32_t prompt[] = { 1, 2, 3, 4, 5, 9, 7, 4 };
    int32_t tokens[BM_DRAFT_MAX];
    bm_draft d, none = { 0 };

    (void)state;
    for (int32_t n = 1; n <= 8; n++) {
        start(&d, prompt, n);
        assert_int_equal(guesses(&d, tokens), 0);
    }
    note(&d, 5);
    assert_true(guesses(&d, tokens) >= 1);
    assert_int_equal(tokens[0], 9);                  /* 4 5 stood before it */
    bm_draft_note(&none);                         /* one that was never made does nothing */
    assert_int_equal(guesses(&none, tokens), 0);
}

static void a_loop_is_followed_past_the_end(void **state)
{
    static const int32_t prompt[] = { 5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 7 };
    int32_t tokens[BM_DRAFT_MAX];
    bm_draft d;

    (void)state;
    start(&d, prompt, 27);
    int n = guesses(&d, tokens);
    assert_true(n > 3);
    for (int i = 0; i < n; i++)
        assert_int_equal(tokens[i], 5 + i % 3);
}

static void a_copy_is_guessed_almost_whole(void **state)
{
    static int32_t text[500];
    bm_draft d;
    int wrong;

    (void)state;
    state_of_rng = 1;
    for (int i = 0; i < 500; i++)
        text[i] = rnd(30000);
    start(&d, text, 500);
    int steps = steps_for(&d, text, 500, &wrong);
    assert_true(steps < 60);
    assert_true(wrong <= BM_DRAFT_MAX);
}

/* A token replaced, one left out or two put in every 40: the source is found again beside the break. */
static void edits_in_a_copy_cost_few_steps(void **state)
{
    static int32_t text[800], copy[900];
    bm_draft d;
    int wrong, n = 0;

    (void)state;
    state_of_rng = 2;
    for (int i = 0; i < 800; i++)
        text[i] = rnd(30000);
    for (int i = 0; i < 800; i++) {
        if (i % 120 == 40)
            copy[n++] = 40000 + i;
        else if (i % 120 != 80)
            copy[n++] = text[i];
        if (i % 120 == 119)
            copy[n++] = 50000 + i, copy[n++] = 60000 + i;
    }
    start(&d, text, 800);
    int steps = steps_for(&d, copy, n, &wrong);
    assert_true(steps < n / 6);
}

static void chances_become_what_happens(void **state)
{
    static int32_t text[600];
    float chance[BM_DRAFT_MAX];
    int32_t tokens[BM_DRAFT_MAX];
    bm_draft d;

    (void)state;
    /* Three tokens that are followed by ever new ones: the guess is always wrong. */
    for (int i = 0; i < 600; i++)
        text[i] = i % 4 < 3 ? i % 4 : 1000 + i;
    start(&d, text, 3);
    for (int i = 3; i < 599; i++)
        note(&d, text[i]);
    int n = bm_draft_propose(&d, tokens, chance, BM_DRAFT_MAX);
    assert_true(n == 0 || chance[0] < 0.1);
    /* A copy: always right. */
    for (int i = 0; i < 600; i++)
        text[i] = i % 300;
    start(&d, text, 300);
    for (int i = 300; i < 550; i++)
        note(&d, text[i]);
    n = bm_draft_propose(&d, tokens, chance, BM_DRAFT_MAX);
    assert_int_equal(n, BM_DRAFT_MAX);
    assert_true(chance[n - 1] > 0.9);
}

/* Whatever comes, guesses are tokens of the sequence, and nothing is written outside (the sanitizers look on). */
static void any_sequence_is_taken(void **state)
{
    int32_t tokens[BM_DRAFT_MAX];
    bm_draft d;

    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        state_of_rng = seed;
        int32_t n = 1 + rnd(64), room = rnd(300), kinds = 1 + rnd(seed % 2 ? 3 : 40);
        for (int32_t i = 0; i < n; i++)
            sequence[i] = rnd(kinds);
        assert_true(bm_draft_init(&d, &arena, sequence, n, n + room));
        for (int32_t i = 0; i < room + 5; i++) {         /* five more than there is room for: left out */
            int k = guesses(&d, tokens);
            for (int j = 0; j < k; j++)
                assert_in_range(tokens[j], 0, kinds - 1);
            note(&d, k > 0 && rnd(2) ? tokens[0] : rnd(kinds));
        }
        assert_int_equal(d.n, n + room);
        free_arena(NULL);
    }
}

static void a_failed_allocation_is_told(void **state)
{
    static const int32_t prompt[] = { 1, 2, 3 };
    bm_draft d;

    (void)state;
    free_arena(NULL);
    bm_mem_fail_at(1);
    assert_false(bm_draft_init(&d, &arena, prompt, 3, 1 << 20));
    bm_mem_fail_at(0);
    bm_draft_note(&d);
    assert_null(d.tokens);
}

/* ---- cost and sharing ---- */

static void costs_are_learnt_from_steps(void **state)
{
    bm_step_cost c = { 0 };

    (void)state;
    assert_true(bm_step_cost_get(&c, 1) == 1);
    for (int n = 2; n <= 64; n++)
        assert_true(bm_step_cost_get(&c, n) > bm_step_cost_get(&c, n - 1));
    for (int i = 0; i < 300; i++) {
        int n = 1 + i % 12;
        bm_step_cost_note(&c, n, n == 1 ? 1e6 : 1e6 * (1.5 + 0.5 * n));
    }
    for (int n = 2; n <= 12; n++)
        assert_true(fabs(bm_step_cost_get(&c, n) / (1.5 + 0.5 * n) - 1) < 0.1);
    bm_step_cost_note(&c, 1, 1e12);                  /* preempted: hardly counts */
    assert_true(c.row_ns < 1.2e6);
    bm_step_cost_note(&c, 5, 0);
    assert_true(isfinite(bm_step_cost_get(&c, 5)));
    bm_step_cost odd = { 0 };                        /* more rows are cheaper: taken for noise */
    for (int i = 0; i < 100; i++)
        bm_step_cost_note(&odd, 1 + i % 20, 1e6 / (1 + i % 20));
    for (int n = 2; n <= 64; n++)
        assert_true(bm_step_cost_get(&odd, n) > bm_step_cost_get(&odd, n - 1));
}

static bm_draft_offer offer(int n, float p)
{
    bm_draft_offer o = { .n = n };
    float all = 1;

    for (int i = 0; i < n; i++)
        o.chance[i] = all *= p;
    return o;
}

static void rows_go_where_they_pay(void **state)
{
    bm_step_cost usual = { 0 };
    bm_draft_offer o[64];

    (void)state;
    o[0] = offer(15, 0.98f);
    bm_draft_share(o, 1, 63, &usual);
    assert_true(o[0].take >= 12);                    /* alone and sure: nearly all */
    o[0] = offer(15, 0.98f);
    bm_draft_share(o, 1, 4, &usual);
    assert_int_equal(o[0].take, 4);                  /* no more than there is room for */
    o[0] = offer(15, 0.03f);
    bm_draft_share(o, 1, 63, &usual);
    assert_int_equal(o[0].take, 0);                  /* alone and unlikely */
    o[0] = offer(0, 0);
    bm_draft_share(o, 1, 63, &usual);
    assert_int_equal(o[0].take, 0);
    o[0] = offer(15, 0.98f), o[1] = offer(15, 0.3f), o[2] = offer(0, 0);
    bm_draft_share(o, 3, 60, &usual);
    assert_true(o[0].take > o[1].take);
    assert_int_equal(o[2].take, 0);
    for (int i = 0; i < 64; i++)
        o[i] = offer(15, 0.98f);
    bm_draft_share(o, 64, 64, &usual);
    for (int i = 0; i < 64; i++)
        assert_int_equal(o[i].take, 0);
    int sum = 0;
    for (int i = 0; i < 40; i++)
        o[i] = offer(15, 0.6f);
    bm_draft_share(o, 40, 64, &usual);
    for (int i = 0; i < 40; i++)
        sum += o[i].take;
    assert_true(sum <= 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_longest_of_recent_matches_is_continued, free_arena),
        cmocka_unit_test_teardown(without_a_match_of_two_there_is_no_guess, free_arena),
        cmocka_unit_test_teardown(a_loop_is_followed_past_the_end, free_arena),
        cmocka_unit_test_teardown(a_copy_is_guessed_almost_whole, free_arena),
        cmocka_unit_test_teardown(edits_in_a_copy_cost_few_steps, free_arena),
        cmocka_unit_test_teardown(chances_become_what_happens, free_arena),
        cmocka_unit_test(any_sequence_is_taken),
        cmocka_unit_test_teardown(a_failed_allocation_is_told, free_arena),
        cmocka_unit_test(costs_are_learnt_from_steps),
        cmocka_unit_test(rows_go_where_they_pay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
