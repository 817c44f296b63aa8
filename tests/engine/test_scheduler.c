/* The scheduler on a fake model that reads its KV: schedules, pages, cancels, fairness, limits. The test steps the engine. */
#include "fake_model.h"
#include <stdlib.h>
#include "base/clock.h"
#include "base/utf8.h"

static uint64_t rng_state;
static int rnd(int n)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (int)((rng_state >> 33) % (uint64_t)n);
}

static void fill_prompt(int32_t *prompt, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        prompt[i] = 1 + (int32_t)(fake_mix(seed * 1000003 + i) % (FAKE_VOCAB - 2));
}

static bm_gen *submit(bm_engine *e, const bm_gen_request *r)
{
    bm_error err;
    bm_gen *gen;

    if (bm_gen_submit(&gen, e, r, &err) < 0)
        fail_msg("%s", err.msg);
    return gen;
}

static void run_alone(bm_engine *e, const bm_gen_request *r, answer *answers)
{
    bm_gen *gen = submit(e, r);

    memset(answers, 0, (size_t)r->n_choices * sizeof *answers);
    while (bm_engine_step(e))
        ;
    assert_true(drain(gen, answers));
    bm_gen_close(gen);
}

static void same_answer(const answer *a, const answer *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, (size_t)a->n * sizeof a->tokens[0]);
    assert_string_equal(a->text, b->text);
    assert_int_equal(a->finish, b->finish);
}

/* Settings that depend on i, so that many kinds meet in one batch. */
static bm_gen_request varied_request(bm_loaded *m, int32_t *prompt, int i)
{
    static const char *const stops[] = { "END", "\xE4\xB8\xAD" };
    size_t n = (size_t)(1 + i * 37 % 300);

    fill_prompt(prompt, n, (uint64_t)i);
    bm_gen_request r = fake_request(m, prompt, n, 1 + i * 13 % 90);
    r.n_choices = 1 + i % 3;
    r.sampling.seed = (uint64_t)i;
    r.sampling.temperature = i % 2 ? 0.8f : 0;
    r.sampling.top_k = i % 4 == 1 ? 20 : 0;
    r.sampling.top_p = i % 4 == 3 ? 0.9f : 1;
    r.sampling.repetition_penalty = i % 5 == 0 ? 1.3f : 1;
    r.stop = stops;
    r.n_stop = i % 3 == 0 ? 2 : 0;
    r.ignore_eos = i % 7 == 0;
    return r;
}

static answer alone[24][3], together[24][3];

static void batched_equals_alone(void **state)
{
    static int32_t prompts[24][512];
    bm_gen *gens[24];
    bm_error err;
    bm_loaded *m;
    fake f;

    (void)state;
    for (int groups = 1; groups <= 2; groups++)
        for (int step_tokens = 48; step_tokens <= 480; step_tokens += 432) {
            bm_engine *e = fake_engine(16, step_tokens, 1 << 20);
            assert_int_equal(fake_attach(&m, e, &f, "fake", groups, 1024, &err), 0);
            for (int i = 0; i < 24; i++) {
                bm_gen_request r = varied_request(m, prompts[i], i);
                run_alone(e, &r, alone[i]);
            }
            memset(together, 0, sizeof together);
            for (int i = 0; i < 24; i++) {
                bm_gen_request r = varied_request(m, prompts[i], i);
                gens[i] = submit(e, &r);
                for (int s = i % 4; s > 0; s--)
                    bm_engine_step(e);
            }
            while (bm_engine_step(e))
                ;
            for (int i = 0; i < 24; i++) {
                assert_true(drain(gens[i], together[i]));
                bm_gen_close(gens[i]);
                for (int c = 0; c < 1 + i % 3; c++)
                    same_answer(&alone[i][c], &together[i][c]);
            }
            assert_true(f.max_tokens_seen <= e->options.step_tokens);
            no_page_is_left(e);
            bm_loaded_unref(m);
            assert_true(f.closed);
            bm_engine_free(e);
        }
}

/* One random schedule: arrivals, cancels, deadlines, closes at any moment, several models, a tight budget. */
static void random_schedule(uint64_t seed)
{
    enum { N = 12 };
    static int32_t prompt[512];
    static answer got[N][3];
    bm_gen *gens[N] = { 0 };
    bool ended[N] = { 0 };
    int n = 0, closed = 0;
    bm_loaded *models[2];
    fake fakes[2];
    bm_error err;

    rng_state = seed;
    bm_engine *e = fake_engine(1 + rnd(6), 32 + rnd(200), (uint64_t)(40 + rnd(60)) * 256);
    e->guess = seed % 3 ? fake_guess : NULL;
    for (int i = 0; i < 2; i++)
        assert_int_equal(fake_attach(&models[i], e, &fakes[i], "fake", 1 + i, 640, &err), 0);
    memset(got, 0, sizeof got);
    for (int turn = 0; closed < N; turn++) {
        int what = rnd(10);
        if (what < 3 && n < N) {
            bm_gen_request r = varied_request(models[rnd(2)], prompt, (int)(seed % 1000) + n);
            r.n_choices = 1 + rnd(e->options.max_seqs < 3 ? e->options.max_seqs : 3);
            r.max_tokens = rnd(60);
            r.deadline_ns = rnd(20) == 0 ? bm_now_ns() - 1 : 0;
            r.tenant = (uint64_t)rnd(3), r.key = (uint64_t)rnd(2), r.priority = rnd(2);
            if (bm_gen_submit(&gens[n], e, &r, &err) == 0)
                n++;
            else
                assert_int_equal(err.code, BM_LIMIT);
        } else if (what == 3 && n > 0) {
            int i = rnd(n);
            if (gens[i] != NULL)
                bm_gen_cancel(gens[i]);
        } else if (what == 4 && n > 0) {
            int i = rnd(n);
            if (gens[i] != NULL && (ended[i] || rnd(4) == 0)) {
                bm_gen_close(gens[i]);
                gens[i] = NULL;
                closed++;
            }
        } else {
            bm_engine_step(e);
        }
        for (int i = 0; i < n; i++)
            if (gens[i] != NULL && !ended[i])
                ended[i] = drain(gens[i], got[i]);
    }
    while (bm_engine_step(e))
        ;
    no_page_is_left(e);
    bm_engine_stats stats;
    bm_engine_get_stats(e, &stats);
    assert_int_equal(stats.active_seqs, 0);
    assert_int_equal(stats.queued, 0);
    for (int i = 0; i < 2; i++) {
        bm_loaded_stats s;
        bm_loaded_get_stats(models[i], &s);
        assert_int_equal(s.active + s.queued, 0);
        bm_loaded_unref(models[i]);
    }
    bm_engine_free(e);
}

static void every_page_is_accounted_for_after_1000_random_schedules(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 1000; seed++)
        random_schedule(seed);
}

static void a_cancel_leaves_within_one_step_wherever_it_is(void **state)
{
    static int32_t prompt[512];
    static answer a[4];
    bm_error err;
    bm_loaded *m;
    fake f;
    bm_engine *e = fake_engine(2, 64, 1 << 20);

    (void)state;
    assert_int_equal(fake_attach(&m, e, &f, "fake", 1, 1024, &err), 0);
    fill_prompt(prompt, 500, 1);
    bm_gen_request r = fake_request(m, prompt, 5, 400);
    r.ignore_eos = true;
    bm_gen *decoding = submit(e, &r);
    bm_engine_step(e);
    bm_engine_step(e);
    r.n_prompt = 500;
    bm_gen *prefilling = submit(e, &r);
    bm_gen *waiting = submit(e, &r);
    bm_engine_step(e);
    assert_int_equal(bm_gen_queue_position(decoding), 0);
    assert_int_equal(bm_gen_queue_position(prefilling), 0);
    assert_int_equal(bm_gen_queue_position(waiting), 1);
    assert_int_equal(prefilling->seqs[0].state, BM_SEQ_PREFILL);
    bm_gen *all[] = { waiting, prefilling, decoding };
    memset(a, 0, sizeof a);
    for (int i = 0; i < 3; i++) {
        bm_gen_cancel(all[i]);
        bm_engine_step(e);
        assert_true(drain(all[i], &a[i]));
        assert_int_equal(a[i].finish, BM_FINISH_CANCELED);
    }
    assert_int_equal(a[0].n, 0);
    assert_int_equal(a[1].n, 0);
    assert_true(a[2].n >= 3);
    assert_int_equal(bm_gen_get_usage(decoding).completion_tokens, a[2].n);
    assert_int_equal(bm_gen_get_usage(prefilling).prompt_tokens, 500);
    assert_int_equal(bm_gen_get_usage(waiting).prompt_tokens, 0);
    no_page_is_left(e);
    for (int i = 0; i < 3; i++)
        bm_gen_close(all[i]);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

static void choices_share_the_prompt_and_draw_apart(void **state)
{
    static int32_t prompt[200];
    static answer four[4], one[1];
    bm_error err;
    bm_loaded *m;
    fake f;

    (void)state;
    for (int groups = 1; groups <= 2; groups++)
        for (size_t n_prompt = 127; n_prompt <= 130; n_prompt++) {
            bm_engine *e = fake_engine(8, 512, 1 << 20);
            assert_int_equal(fake_attach(&m, e, &f, "fake", groups, 1024, &err), 0);
            fill_prompt(prompt, n_prompt, n_prompt);
            bm_gen_request r = fake_request(m, prompt, n_prompt, 100);
            r.no_speculation = true;                 /* steps are counted */
            r.sampling.temperature = 1;
            r.sampling.seed = 7;
            r.ignore_eos = true;
            r.n_choices = 4;
            run_alone(e, &r, four);
            assert_int_equal(f.n_forwards, 100);     /* the prompt once, then 99 steps of four tokens */
            r.n_choices = 1;
            run_alone(e, &r, one);
            same_answer(&four[0], &one[0]);
            for (int a = 0; a < 4; a++)
                for (int b = 0; b < a; b++)
                    assert_memory_not_equal(four[a].tokens, four[b].tokens, 100 * sizeof four[a].tokens[0]);
            no_page_is_left(e);
            bm_loaded_unref(m);
            bm_engine_free(e);
        }
}

static void a_long_prompt_does_not_hold_up_short_ones_nor_starve(void **state)
{
    static int32_t prompt[4000];
    static answer a[8];
    bm_gen *gens[8];
    bm_error err;
    bm_loaded *m;
    fake f;
    bm_engine *e = fake_engine(8, 64, 1 << 20);
    int steps = 0;

    (void)state;
    assert_int_equal(fake_attach(&m, e, &f, "fake", 1, 4096, &err), 0);
    fill_prompt(prompt, 4000, 9);
    memset(a, 0, sizeof a);
    for (int i = 0; i < 8; i++) {
        bm_gen_request r = fake_request(m, prompt, i == 0 ? 4000 : 20, 1);
        r.no_cache = true;
        gens[i] = submit(e, &r);
    }
    for (; !drain(gens[7], &a[7]); steps++)
        bm_engine_step(e);
    assert_int_equal(steps, 5);              /* seven times 20 tokens, 32 a step */
    assert_int_equal(gens[0]->seqs[0].pos, 5 * 32 + 20);
    for (; !drain(gens[0], &a[0]); steps++) {
        bm_gen_request r = fake_request(m, prompt, 1000, 1);
        r.no_cache = true;
        bm_gen *more = submit(e, &r);        /* however many come */
        bm_engine_step(e);
        bm_gen_close(more);
    }
    assert_true(steps <= 4000 / 32 + 1);
    for (int i = 0; i < 8; i++)
        bm_gen_close(gens[i]);
    while (bm_engine_step(e))
        ;
    no_page_is_left(e);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

static void windows_free_their_pages(void **state)
{
    static int32_t prompt[2000];
    bm_error err;
    bm_loaded *m;
    fake f;
    bm_engine *e = fake_engine(2, 64, 1 << 20);

    (void)state;
    assert_int_equal(fake_attach(&m, e, &f, "fake", 2, 4096, &err), 0);
    fill_prompt(prompt, 2000, 3);
    bm_gen_request r = fake_request(m, prompt, 2000, 500);
    r.ignore_eos = true;
    bm_gen *gen = submit(e, &r);
    while (bm_engine_step(e) && e->n_active > 0) {
        assert_true(m->pools[1].n_used - m->pools[1].n_idle <= (FAKE_WINDOW + 64 - 2) / BM_PAGE_TOKENS + 2);
    }
    no_page_is_left(e);
    bm_gen_close(gen);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

static void context_and_queue_limits_are_told_in_numbers(void **state)
{
    static int32_t prompt[8000];
    static answer a[1];
    bm_engine_options options = { .n_threads = 1, .max_seqs = 1, .max_queued = 2, .kv_budget_bytes = 1 << 20 };
    bm_error err;
    bm_engine *e;
    bm_loaded *m;
    bm_gen *gens[3], *more;
    fake f;

    (void)state;
    assert_int_equal(bm_engine_new_stepped(&e, &options, &err), 0);
    assert_int_equal(fake_attach(&m, e, &f, "tiny", 1, 1024, &err), 0);
    fill_prompt(prompt, 8000, 5);
    bm_gen_request r = fake_request(m, prompt, 1912, 10);
    assert_int_equal(bm_gen_submit(&more, e, &r, &err), BM_CONTEXT);
    assert_string_equal(err.msg, "prompt is 1,912 tokens; model tiny is loaded with context 1,024");
    assert_string_equal(err.hint, "load it with more: baimo serve --model tiny --ctx 2048");
    r.n_prompt = 1024;
    assert_int_equal(bm_gen_submit(&more, e, &r, &err), BM_CONTEXT);
    r.max_tokens = 0;                        /* a prompt alone may fill the context */
    run_alone(e, &r, a);
    assert_int_equal(a[0].finish, BM_FINISH_LENGTH);
    assert_int_equal(a[0].n, 0);
    r.n_prompt = 1000, r.max_tokens = -1, r.ignore_eos = true;
    run_alone(e, &r, a);                     /* cut by the end of the context */
    assert_int_equal(a[0].n, 24);
    assert_int_equal(a[0].finish, BM_FINISH_LENGTH);
    gens[0] = submit(e, &r);
    bm_engine_step(e);
    gens[1] = submit(e, &r);
    gens[2] = submit(e, &r);
    assert_int_equal(bm_gen_submit(&more, e, &r, &err), BM_BUSY);
    assert_non_null(strstr(err.msg, "2 requests wait, at most 2 may"));
    assert_true(err.hint[0] != '\0');
    for (int i = 0; i < 3; i++)
        bm_gen_close(gens[i]);
    while (bm_engine_step(e))
        ;
    no_page_is_left(e);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

static void bad_requests_are_refused_with_the_field(void **state)
{
    static const bm_logit_bias bias = { FAKE_VOCAB, 1 };
    int32_t prompt[] = { 1, FAKE_VOCAB };
    const char *empty = "", *latin1 = "\xE9";
    bm_error err;
    bm_loaded *m;
    bm_gen *gen;
    fake f;
    bm_engine *e = fake_engine(4, 64, 1 << 16);
    struct { const char *param; bm_gen_request r; } bad[16];
    int n = 0;

    (void)state;
    assert_int_equal(fake_attach(&m, e, &f, "fake", 1, 1024, &err), 0);
    bm_gen_request ok = fake_request(m, prompt, 1, 5);
#define BAD(name, field, value) (bad[n].param = name, bad[n].r = ok, bad[n].r.field = value, n++)
    BAD("prompt", n_prompt, 0);
    BAD("prompt", n_prompt, 2);
    BAD("n", n_choices, 0);
    BAD("n", n_choices, 5);
    BAD("max_tokens", max_tokens, -2);
    BAD("temperature", sampling.temperature, -1);
    BAD("temperature", sampling.temperature, NAN);
    BAD("top_p", sampling.top_p, 0);
    BAD("min_p", sampling.min_p, 2);
    BAD("top_k", sampling.top_k, -1);
    BAD("repetition_penalty", sampling.repetition_penalty, 0);
    BAD("top_logprobs", top_logprobs, 21);
    BAD("stop", stop, &empty);
    bad[n - 1].r.n_stop = 1;
    BAD("stop", stop, &latin1);
    bad[n - 1].r.n_stop = 1;
    BAD("logit_bias", sampling.bias, &bias);
    bad[n - 1].r.sampling.n_bias = 1;
    for (int i = 0; i < n; i++) {
        assert_int_equal(bm_gen_submit(&gen, e, &bad[i].r, &err), BM_INVALID);
        assert_string_equal(err.param, bad[i].param);
        assert_null(gen);
    }
    ok.max_tokens = -1, ok.n_choices = 4;
    e->budget.total_bytes = 10 * 256;
    assert_int_equal(bm_gen_submit(&gen, e, &ok, &err), BM_LIMIT);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

static void tenants_and_keys_take_turns_and_priority_goes_first(void **state)
{
    /* tenant, key, priority of what is queued; then the order in which they must run, one at a time */
    static const int queued[][3] = { { 1, 1, 0 }, { 1, 1, 0 }, { 1, 1, 0 }, { 1, 2, 0 }, { 2, 1, 0 }, { 2, 1, 0 }, { 3, 1, 5 } };
    static const int order[] = { 6, 0, 4, 3, 5, 1, 2 };
    static answer a[7];
    int32_t prompt[] = { 3 };
    bm_gen *gens[7];
    bm_error err;
    bm_loaded *m;
    fake f;
    bm_engine *e = fake_engine(1, 64, 1 << 16);

    (void)state;
    assert_int_equal(fake_attach(&m, e, &f, "fake", 1, 1024, &err), 0);
    for (int i = 0; i < 7; i++) {
        bm_gen_request r = fake_request(m, prompt, 1, 1);
        r.tenant = (uint64_t)queued[i][0], r.key = (uint64_t)queued[i][1], r.priority = queued[i][2];
        gens[i] = submit(e, &r);
    }
    memset(a, 0, sizeof a);
    for (int i = 0; i < 7; i++) {
        bm_engine_step(e);
        for (int j = 0; j < 7; j++)
            if (!a[j].finished)
                drain(gens[j], &a[j]);
        for (int j = 0; j <= i; j++)
            assert_true(a[order[j]].finished);
        for (int j = i + 1; j < 7; j++)
            assert_false(a[order[j]].finished);
    }
    for (int i = 0; i < 7; i++)
        bm_gen_close(gens[i]);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

static void models_side_by_side_are_stepped_in_turn(void **state)
{
    static answer a[3];
    int32_t prompt[] = { 3, 4, 5 };
    bm_loaded *m[3];
    bm_gen *gens[3];
    bm_error err;
    fake f[3];
    bm_engine *e = fake_engine(8, 64, 1 << 16);

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fake_attach(&m[i], e, &f[i], "fake", 1 + i % 2, 1024, &err), 0);
        bm_gen_request r = fake_request(m[i], prompt, 3, 10);
        r.ignore_eos = true;
        gens[i] = submit(e, &r);
    }
    for (int i = 0; i < 9; i++)
        bm_engine_step(e);
    for (int i = 0; i < 3; i++)
        assert_int_equal(f[i].n_forwards, 3);
    bm_loaded_unref(m[1]);                   /* unloaded while it runs: it ends its request first */
    assert_false(f[1].closed);
    while (bm_engine_step(e))
        ;
    memset(a, 0, sizeof a);
    for (int i = 0; i < 3; i++) {
        assert_true(drain(gens[i], &a[i]));
        assert_int_equal(a[i].n, 10);
        bm_gen_close(gens[i]);
    }
    assert_true(f[1].closed);
    bm_loaded_unref(m[0]);
    bm_loaded_unref(m[2]);
    bm_engine_free(e);
}

static void deadlines_end_requests(void **state)
{
    static answer a[2];
    int32_t prompt[] = { 3 };
    bm_error err;
    bm_loaded *m;
    fake f;
    bm_engine *e = fake_engine(1, 64, 1 << 16);

    (void)state;
    assert_int_equal(fake_attach(&m, e, &f, "fake", 1, 1024, &err), 0);
    bm_gen_request r = fake_request(m, prompt, 1, 100);
    r.ignore_eos = true;
    bm_gen *runs = submit(e, &r);
    bm_engine_step(e);
    runs->request.deadline_ns = 1;
    r.deadline_ns = 1;
    bm_gen *waits = submit(e, &r);
    bm_engine_step(e);
    memset(a, 0, sizeof a);
    assert_true(drain(runs, &a[0]));
    assert_true(drain(waits, &a[1]));
    assert_int_equal(a[0].finish, BM_FINISH_DEADLINE);
    assert_int_equal(a[1].finish, BM_FINISH_DEADLINE);
    assert_int_equal(a[0].n, 1);
    bm_gen_close(runs);
    bm_gen_close(waits);
    no_page_is_left(e);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

static void values_that_are_no_numbers_end_one_request_only(void **state)
{
    static answer a[2];
    int32_t good[] = { 3, 4 }, bad[] = { 3, FAKE_NAN };
    bm_error err;
    bm_loaded *m;
    fake f;
    bm_engine *e = fake_engine(4, 64, 1 << 16);

    (void)state;
    assert_int_equal(fake_attach(&m, e, &f, "fake", 1, 1024, &err), 0);
    bm_gen_request r = fake_request(m, good, 2, 5);
    r.ignore_eos = true;
    bm_gen *g = submit(e, &r);
    r.prompt = bad;
    bm_gen *b = submit(e, &r);
    while (bm_engine_step(e))
        ;
    memset(a, 0, sizeof a);
    assert_true(drain(g, &a[0]));
    assert_true(drain(b, &a[1]));
    assert_int_equal(a[0].finish, BM_FINISH_LENGTH);
    assert_int_equal(a[1].finish, BM_FINISH_ERROR);
    assert_int_equal(bm_gen_error(b)->code, BM_INTERNAL);
    assert_non_null(strstr(bm_gen_error(b)->msg, "not a number"));
    bm_gen_close(g);
    bm_gen_close(b);
    f.fail_forward = true;
    run_alone(e, &r, a);
    assert_int_equal(a[0].finish, BM_FINISH_ERROR);
    no_page_is_left(e);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

static void prompt_logprobs_come_in_order_and_sum_to_one(void **state)
{
    static int32_t prompt[200];
    bm_error err;
    bm_loaded *m;
    bm_event ev;
    fake f;

    (void)state;
    fill_prompt(prompt, 200, 11);
    for (int step_tokens = 40; step_tokens <= 400; step_tokens += 180) {
        bm_engine *e = fake_engine(2, step_tokens, 1 << 16);
        assert_int_equal(fake_attach(&m, e, &f, "fake", 1, 1024, &err), 0);
        bm_gen_request r = fake_request(m, prompt, 200, 3);
        r.top_logprobs = 20;
        r.prompt_logprobs = true;
        r.ignore_eos = true;
        bm_gen *gen = submit(e, &r);
        while (bm_engine_step(e))
            ;
        for (int i = 0; i < 203; i++) {
            assert_int_equal(bm_gen_next(gen, &ev), 1);
            assert_int_equal(ev.kind, i < 200 ? BM_EVENT_PROMPT : BM_EVENT_TOKEN);
            if (i < 200) {
                assert_int_equal(ev.index, i);
                assert_int_equal(ev.token, prompt[i]);
            }
            assert_int_equal(ev.has_logprob, i > 0);
            double sum = 0;
            for (int k = 0; k < ev.logprob.n_top; k++) {
                sum += exp((double)ev.logprob.top[k].logprob);
                assert_true(k == 0 || ev.logprob.top[k].logprob <= ev.logprob.top[k - 1].logprob);
                if (ev.logprob.top[k].token == ev.token)
                    assert_true(ev.logprob.top[k].logprob == ev.logprob.logprob);
            }
            assert_true(sum <= 1.0001);
            if (i >= 200)                    /* greedy: the most likely one */
                assert_int_equal(ev.token, ev.logprob.top[0].token);
        }
        bm_gen_close(gen);
        bm_loaded_unref(m);
        bm_engine_free(e);
    }
}

static void a_failed_allocation_in_submit_changes_nothing(void **state)
{
    static const bm_logit_bias bias[] = { { 5, 1 }, { 6, -1 } };
    static const char *const stops[] = { "END", "x" };
    static answer a[2];
    int32_t prompt[] = { 3, 4, 5, 6 };
    bm_error err;
    bm_loaded *m;
    bm_gen *gen;
    fake f;
    bm_engine *e = fake_engine(4, 64, 1 << 16);
    int rc = BM_NOMEM, tries = 0;

    (void)state;
    assert_int_equal(fake_attach(&m, e, &f, "fake", 2, 1024, &err), 0);
    bm_gen_request r = fake_request(m, prompt, 4, 600);
    r.n_choices = 2;
    r.stop = stops, r.n_stop = 2;
    r.sampling.bias = bias, r.sampling.n_bias = 2;
    r.sampling.repetition_penalty = 1.1f;
    r.top_logprobs = 5;
    for (; rc < 0; tries++) {
        bm_mem_fail_at(tries + 1);
        rc = bm_gen_submit(&gen, e, &r, &err);
        if (rc < 0) {
            assert_int_equal(rc, BM_NOMEM);
            assert_null(gen);
            assert_int_equal(atomic_load(&m->refs), 1);
        }
    }
    bm_mem_fail_at(0);
    assert_true(tries > 8);
    long before = bm_mem_count();
    while (bm_engine_step(e))
        ;
    memset(a, 0, sizeof a);
    assert_true(drain(gen, a));
    assert_int_equal(bm_mem_count(), before);        /* steps and reading do not allocate */
    bm_gen_close(gen);
    no_page_is_left(e);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

static void a_failed_allocation_at_the_start_leaves_nothing(void **state)
{
    bm_engine_options options = { .n_threads = 2, .max_seqs = 4, .kv_budget_bytes = 1 << 16 };
    bm_engine *e = NULL;
    bm_loaded *m = NULL;
    bm_error err;
    int tries;
    fake f;

    (void)state;
    for (tries = 1; e == NULL; tries++) {
        bm_mem_fail_at(tries);
        if (bm_engine_new(&e, &options, &err) < 0)
            assert_int_equal(err.code, BM_NOMEM);
    }
    assert_true(tries > 5);
    for (tries = 1; m == NULL; tries++) {
        bm_mem_fail_at(tries);
        if (fake_attach(&m, e, &f, "fake", 2, 1024, &err) < 0) {
            assert_int_equal(err.code, BM_NOMEM);
            assert_true(f.closed);           /* the runner was taken over */
            assert_null(e->budget.pools);
        }
    }
    assert_true(tries > 10);
    bm_mem_fail_at(0);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

static void handles_may_outlive_the_engine(void **state)
{
    static answer a[2];
    int32_t prompt[] = { 3 };
    bm_error err;
    bm_loaded *m;
    fake f;
    bm_engine *e = fake_engine(1, 64, 1 << 16);

    (void)state;
    assert_int_equal(fake_attach(&m, e, &f, "fake", 1, 1024, &err), 0);
    bm_gen_request r = fake_request(m, prompt, 1, 100);
    r.ignore_eos = true;
    bm_gen *runs = submit(e, &r), *waits = submit(e, &r);
    bm_engine_step(e);
    bm_loaded_unref(m);
    bm_engine_free(e);
    memset(a, 0, sizeof a);
    assert_true(drain(runs, &a[0]));
    assert_true(drain(waits, &a[1]));
    assert_int_equal(a[0].finish, BM_FINISH_CANCELED);
    assert_int_equal(a[1].finish, BM_FINISH_CANCELED);
    assert_int_equal(bm_gen_queue_position(waits), 0);
    bm_gen_close(runs);
    assert_false(f.closed);
    bm_gen_close(waits);
    assert_true(f.closed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batched_equals_alone),
        cmocka_unit_test(every_page_is_accounted_for_after_1000_random_schedules),
        cmocka_unit_test(a_cancel_leaves_within_one_step_wherever_it_is),
        cmocka_unit_test(choices_share_the_prompt_and_draw_apart),
        cmocka_unit_test(a_long_prompt_does_not_hold_up_short_ones_nor_starve),
        cmocka_unit_test(windows_free_their_pages),
        cmocka_unit_test(context_and_queue_limits_are_told_in_numbers),
        cmocka_unit_test(bad_requests_are_refused_with_the_field),
        cmocka_unit_test(tenants_and_keys_take_turns_and_priority_goes_first),
        cmocka_unit_test(models_side_by_side_are_stepped_in_turn),
        cmocka_unit_test(deadlines_end_requests),
        cmocka_unit_test(values_that_are_no_numbers_end_one_request_only),
        cmocka_unit_test(prompt_logprobs_come_in_order_and_sum_to_one),
        cmocka_unit_test(a_failed_allocation_in_submit_changes_nothing),
        cmocka_unit_test(a_failed_allocation_at_the_start_leaves_nothing),
        cmocka_unit_test(handles_may_outlive_the_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
