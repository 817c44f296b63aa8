/* Speculation on = off, on the fake model: the same tokens, text, log-probabilities and ends, whatever is guessed. */
#include "fake_model.h"
#include <stdlib.h>

enum { N = 20, CTX = 1024 };
static int32_t prompts[N][512];

static bm_gen *submit(bm_engine *e, const bm_gen_request *r)
{
    bm_error err;
    bm_gen *gen;

    if (bm_gen_submit(&gen, e, r, &err) < 0)
        fail_msg("%s", err.msg);
    return gen;
}

/* Everything that a choice gave. */
typedef struct reply {
    answer a;
    float logprobs[512];
    char stop[16];
    uint64_t tops;               /* hash of the most likely tokens and their bits */
} reply;

static bool collect(bm_gen *gen, reply *replies)
{
    bm_event ev;

    while (bm_gen_next(gen, &ev)) {
        if (ev.kind == BM_EVENT_END)
            return true;
        if (ev.kind == BM_EVENT_PROMPT)
            continue;
        reply *r = &replies[ev.choice];
        answer *a = &r->a;
        assert_false(a->finished);
        memcpy(a->text + a->len, ev.text, ev.len);
        a->text[a->len += ev.len] = '\0';
        if (ev.kind == BM_EVENT_FINISH) {
            a->finished = true, a->finish = ev.finish;
            snprintf(r->stop, sizeof r->stop, "%s", ev.stop != NULL ? ev.stop : "");
            continue;
        }
        for (int i = 0; ev.has_logprob && i < ev.logprob.n_top; i++) {
            uint32_t bits;
            memcpy(&bits, &ev.logprob.top[i].logprob, sizeof bits);
            r->tops = fake_mix(r->tops ^ ((uint64_t)ev.logprob.top[i].token << 32 | bits));
        }
        r->logprobs[a->n] = ev.has_logprob ? ev.logprob.logprob : 0;
        a->tokens[a->n++] = ev.token;
    }
    return false;
}

static void same_reply(const reply *x, const reply *y)
{
    assert_int_equal(x->a.n, y->a.n);
    assert_memory_equal(x->a.tokens, y->a.tokens, (size_t)x->a.n * sizeof x->a.tokens[0]);
    assert_memory_equal(x->logprobs, y->logprobs, (size_t)x->a.n * sizeof x->logprobs[0]);
    assert_true(x->tops == y->tops);
    assert_string_equal(x->a.text, y->a.text);
    assert_int_equal(x->a.finish, y->a.finish);
    assert_string_equal(x->stop, y->stop);
}

/* Many kinds: greedy and sampled, penalties, bias, stop strings, log-probabilities, choices, with and without an end token. */
static bm_gen_request request_of(bm_loaded *m, int i)
{
    static const char *const stops[] = { "END", "\xE4\xB8\xAD", " the\n", "abc" };
    static const bm_logit_bias bias[] = { { 7, 2 }, { 20, -5 } };
    size_t n = (size_t)(1 + i * 37 % 300);

    for (size_t t = 0; t < n; t++)
        prompts[i][t] = 1 + (int32_t)(fake_mix((uint64_t)i * 1000003 + t % 90) % (FAKE_VOCAB - 2));
    bm_gen_request r = fake_request(m, prompts[i], n, i % 6 == 5 ? i % 4 : 20 + i * 131 % 400);
    r.n_choices = 1 + i % 3;
    r.sampling.seed = (uint64_t)i;
    r.sampling.temperature = i % 2 ? 0.7f : 0;
    r.sampling.top_k = i % 4 == 1 ? 20 : 0;
    r.sampling.repetition_penalty = i % 5 == 0 ? 1.2f : 1;
    r.sampling.frequency_penalty = i % 5 == 1 ? 0.2f : 0;
    r.sampling.presence_penalty = i % 5 == 2 ? 0.5f : 0;
    r.sampling.bias = bias, r.sampling.n_bias = i % 4 == 2 ? 2 : 0;
    r.stop = stops, r.n_stop = i % 3 == 0 ? 4 : 0;
    r.ignore_eos = i % 3 == 1;
    r.top_logprobs = i % 4 == 3 ? i % 6 : -1;
    return r;
}

static reply plain[N][3], guessed[N][3];

/* Guesses that know the answer, and are wrong somewhere, or say more than there is. */
static int oracle(const bm_seq *seq, int32_t *tokens, int k)
{
    const answer *a = &plain[seq->gen->request.sampling.seed][seq->choice].a;
    uint64_t state = fake_mix((uint64_t)seq->n_generated * 77 + seq->gen->request.sampling.seed);
    int n = k > 0 ? (int)(state >> 40) % (k + 1) : 0, wrong = (int)(state >> 20) % 12;

    for (int i = 0; i < n; i++) {
        int at = seq->n_generated + i;
        tokens[i] = i == wrong || at >= a->n ? (int32_t)(fake_mix(state ^ (uint64_t)i) % FAKE_VOCAB) : a->tokens[at];
    }
    return n;
}

/* The engine's own drafter, but all that it guesses is verified, whatever time says. */
static int drafter(const bm_seq *seq, int32_t *tokens, int k)
{
    float chance[BM_DRAFT_MAX];

    return bm_draft_propose(&seq->draft, tokens, chance, k);
}

typedef int guesser(const bm_seq *seq, int32_t *tokens, int k);
typedef struct setting { int n_groups, step_tokens, max_seqs; bool together, off; guesser *guess; int pages; } setting;

static uint64_t n_preempted;
static bm_gen_usage run_all(reply out[N][3], const setting *s)
{
    bm_gen_usage sum = { 0 };
    bm_gen *gens[N] = { 0 };
    bm_error err;
    bm_loaded *m;
    fake f;
    bm_engine *e = fake_engine(s->max_seqs, s->step_tokens, 4 << 20);

    e->options.no_speculation = s->off;
    e->guess = s->guess;
    assert_int_equal(fake_attach(&m, e, &f, "fake", s->n_groups, CTX, &err), 0);
    assert_true(s->pages == 0 || bm_kv_budget_resize(&e->budget, (uint64_t)s->pages * 256));
    f.repeats = true;
    memset(out, 0, sizeof(reply) * N * 3);
    for (int i = 0; i < N; i++) {
        bm_gen_request r = request_of(m, i);
        gens[i] = submit(e, &r);
        for (int t = i % 4; s->together && t > 0; t--)
            bm_engine_step(e);
        while (!s->together && bm_engine_step(e))
            ;
    }
    while (bm_engine_step(e))
        ;
    for (int i = 0; i < N; i++) {
        int n = 0;
        assert_true(collect(gens[i], out[i]));
        bm_gen_usage u = bm_gen_get_usage(gens[i]);
        for (int c = 0; c < 3; c++)
            n += out[i][c].a.n;
        assert_int_equal(u.completion_tokens, n);
        assert_true(u.draft_accepted <= u.draft_tokens);
        sum.completion_tokens += n, sum.draft_tokens += u.draft_tokens, sum.draft_accepted += u.draft_accepted;
        bm_gen_close(gens[i]);
    }
    bm_engine_stats stats;
    bm_engine_get_stats(e, &stats);
    assert_int_equal(stats.completion_tokens, sum.completion_tokens);
    n_preempted += stats.preemptions;
    assert_true(f.max_tokens_seen <= e->options.step_tokens);
    no_page_is_left(e);
    bm_loaded_unref(m);
    bm_engine_free(e);
    return sum;
}

static void answers_are_the_same_whatever_is_guessed(void **state)
{
    guesser *const guessers[] = { drafter, oracle, fake_guess, NULL };

    (void)state;
    for (int groups = 1; groups <= 2; groups++) {
        setting off = { groups, 512, 8, false, true, NULL, 0 };
        bm_gen_usage u = run_all(plain, &off);
        assert_int_equal(u.draft_tokens, 0);
        for (int g = 0; g < 4; g++)
            for (int i = 0; i < 5; i++) {            /* alone, together, and together with too little memory */
                setting on = { groups, i & 1 ? 512 : 96, i & 1 ? 8 : 24, i >= 2, false, guessers[g], i == 4 ? 20 * groups : 0 };
                u = run_all(guessed, &on);
                assert_true(g == 3 || u.draft_tokens > 100);
                assert_true(g >= 2 || u.draft_accepted > 50);
                for (int r = 0; r < N; r++)
                    for (int c = 0; c < 3; c++)
                        same_reply(&plain[r][c], &guessed[r][c]);
            }
    }
    assert_true(n_preempted > 0);
}

/* One request with right guesses of every length around its end. */
static void ends_inside_a_draft_are_exact(void **state)
{
    static reply want[1], got[1];
    bm_error err;
    bm_loaded *m;
    fake f;

    (void)state;
    for (int length = 1; length <= 40; length++)
        for (int stop = 0; stop <= 1; stop++) {
            const char *const stops[] = { "ND", "\xE4\xB8\xAD" };
            bm_engine *e = fake_engine(2, 512, 1 << 20);
            assert_int_equal(fake_attach(&m, e, &f, "fake", 2, CTX, &err), 0);
            f.repeats = true;
            bm_gen_request r = request_of(m, 4);
            r.n_choices = 1, r.max_tokens = stop ? 300 : length, r.sampling.seed = 0, r.sampling.temperature = 0.5f;
            r.top_logprobs = 2;
            prompts[4][0] = 1 + length;
            if (stop)
                r.stop = stops, r.n_stop = (size_t)length % 3;
            for (int on = 0; on <= 1; on++) {
                reply *out = on ? got : want;
                memset(out, 0, sizeof *out);
                e->guess = on ? oracle : NULL;
                r.no_speculation = !on;
                bm_gen *gen = submit(e, &r);
                while (bm_engine_step(e))
                    ;
                assert_true(collect(gen, out));
                bm_gen_usage u = bm_gen_get_usage(gen);
                assert_int_equal(u.completion_tokens, out->a.n);
                assert_true(on || u.draft_tokens == 0);
                bm_gen_close(gen);
                if (!on)
                    plain[0][0] = *want;
            }
            same_reply(want, got);
            no_page_is_left(e);
            bm_loaded_unref(m);
            bm_engine_free(e);
        }
}

static int spoil(const bm_seq *seq, int32_t *tokens, int k)
{
    (void)seq;
    for (int i = 0; i < k; i++)
        tokens[i] = FAKE_NAN;
    return k;
}

/* Rows behind a wrong guess are not numbers, and nobody sees it. */
static void what_a_wrong_guess_spoils_is_not_read(void **state)
{
    static answer want[1], got[1];
    bm_error err;
    bm_loaded *m;
    fake f;
    bm_engine *e = fake_engine(2, 512, 1 << 20);

    (void)state;
    assert_int_equal(fake_attach(&m, e, &f, "fake", 1, CTX, &err), 0);
    bm_gen_request r = request_of(m, 6);
    r.n_choices = 1, r.ignore_eos = true, r.n_stop = 0, r.max_tokens = 70;
    for (int on = 0; on <= 1; on++) {
        e->guess = on ? spoil : NULL;
        r.no_speculation = !on;
        bm_gen *gen = submit(e, &r);
        while (bm_engine_step(e))
            ;
        assert_true(drain(gen, on ? got : want));
        assert_int_equal(bm_gen_get_usage(gen).draft_accepted, 0);
        bm_gen_close(gen);
    }
    assert_int_equal(want->n, 70);
    assert_int_equal(want->n, got->n);
    assert_memory_equal(want->tokens, got->tokens, 70 * sizeof want->tokens[0]);
    no_page_is_left(e);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

/* Cancelled between steps that accept several tokens: what was told is counted, and every page comes back. */
static void a_cancel_in_the_middle_leaves_nothing(void **state)
{
    static reply got[3];
    bm_error err;
    bm_loaded *m;
    fake f;

    (void)state;
    setting off = { 2, 512, 8, false, true, NULL, 0 };
    run_all(plain, &off);
    for (int steps = 1; steps < 12; steps++) {
        bm_engine *e = fake_engine(8, 512, 1 << 20);
        assert_int_equal(fake_attach(&m, e, &f, "fake", 2, CTX, &err), 0);
        f.repeats = true;
        e->guess = oracle;
        bm_gen_request r = request_of(m, 8);
        bm_gen *gen = submit(e, &r);
        for (int i = 0; i < steps; i++)
            bm_engine_step(e);
        bm_gen_cancel(gen);
        bm_engine_step(e);
        memset(got, 0, sizeof got);
        assert_true(collect(gen, got));
        int n = 0;
        for (int c = 0; c < 3; c++) {
            n += got[c].a.n;
            assert_memory_equal(got[c].a.tokens, plain[8][c].a.tokens, (size_t)got[c].a.n * sizeof got[c].a.tokens[0]);
        }
        assert_int_equal(bm_gen_get_usage(gen).completion_tokens, n);
        no_page_is_left(e);
        bm_gen_close(gen);
        bm_loaded_unref(m);
        bm_engine_free(e);
    }
}

/* A copy takes few steps; with speculation off it takes one for each token. */
static void right_guesses_save_steps(void **state)
{
    static answer a[1];
    bm_error err;
    bm_loaded *m;
    fake f;
    int steps[2];
    bm_engine *e = fake_engine(2, 512, 1 << 20);

    (void)state;
    setting off = { 1, 512, 8, false, true, NULL, 0 };
    run_all(plain, &off);
    assert_int_equal(fake_attach(&m, e, &f, "fake", 1, CTX, &err), 0);
    f.repeats = true;
    e->guess = drafter;
    bm_gen_request r = request_of(m, 0);
    r.n_choices = 1, r.n_stop = 0, r.ignore_eos = true, r.max_tokens = 150;
    for (int on = 0; on <= 1; on++) {
        r.no_speculation = !on;
        f.n_forwards = 0;
        bm_gen *gen = submit(e, &r);
        while (bm_engine_step(e))
            ;
        memset(a, 0, sizeof a);
        assert_true(drain(gen, a));
        bm_gen_close(gen);
        assert_int_equal(a->n, 150);
        steps[on] = f.n_forwards;
    }
    assert_int_equal(steps[0], 150);
    assert_true(steps[1] < 150);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_the_same_whatever_is_guessed),
        cmocka_unit_test(ends_inside_a_draft_are_exact),
        cmocka_unit_test(what_a_wrong_guess_spoils_is_not_read),
        cmocka_unit_test(a_cancel_in_the_middle_leaves_nothing),
        cmocka_unit_test(right_guesses_save_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
