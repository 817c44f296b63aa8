/* Shared prefixes, preemption and admission on a fake model whose KV proves what it was computed from. The test steps. */
#include "fake_model.h"
#include <stdlib.h>
#include "base/clock.h"

static uint64_t rng_state;
static int rnd(int n)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (int)((rng_state >> 33) % (uint64_t)n);
}

static void fill(int32_t *tokens, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        tokens[i] = 1 + (int32_t)(fake_mix(seed * 1000003 + i) % (FAKE_VOCAB - 2));
}

static bm_gen *submit(bm_engine *e, const bm_gen_request *r)
{
    bm_error err;
    bm_gen *gen;

    if (bm_gen_submit(&gen, e, r, &err) < 0)
        fail_msg("%s", err.msg);
    return gen;
}

static void run_all(bm_engine *e)
{
    while (bm_engine_step(e))
        ;
}

static bm_gen_usage finish(bm_engine *e, bm_gen *gen, answer *answers, int n)
{
    run_all(e);
    memset(answers, 0, (size_t)n * sizeof *answers);
    assert_true(drain(gen, answers));
    if (answers[0].finish == BM_FINISH_ERROR)
        fail_msg("%s", bm_gen_error(gen)->msg);
    bm_gen_usage u = bm_gen_get_usage(gen);
    bm_gen_close(gen);
    return u;
}

static bm_gen_usage run(bm_engine *e, const bm_gen_request *r, answer *answers)
{
    return finish(e, submit(e, r), answers, r->n_choices);
}

static bm_gen_usage run_cold(bm_engine *e, const bm_gen_request *r, answer *answers)
{
    bm_gen_request cold = *r;

    cold.no_cache = true;
    return run(e, &cold, answers);
}

static void same_answer(const answer *a, const answer *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, (size_t)a->n * sizeof a->tokens[0]);
    assert_string_equal(a->text, b->text);
    assert_int_equal(a->finish, b->finish);
}

static void end(bm_engine *e, bm_loaded *m)
{
    no_page_is_left(e);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

static bm_loaded *open_fake(bm_engine *e, fake *f, int n_groups)
{
    bm_error err;
    bm_loaded *m;

    if (fake_attach(&m, e, f, "fake", n_groups, 4096, &err) < 0)
        fail_msg("%s", err.msg);
    return m;
}

static answer a[32][3], b[32][3];

/* Any length against any length of what is there already; hits end inside a page, the last token is always computed. */
static void cached_equals_cold_at_every_length(void **state)
{
    static const int lengths[] = { 1, 2, 63, 64, 65, 127, 128, 129, 190, 192, 300 };
    enum { N = sizeof lengths / sizeof lengths[0] };
    int32_t prompt[400];
    fake f;

    (void)state;
    for (int groups = 1; groups <= 2; groups++)
        for (int first = 0; first < N; first++)
            for (int second = 0; second < N; second++) {
                bm_engine *e = fake_engine(4, 48, 1 << 20);
                bm_loaded *m = open_fake(e, &f, groups);
                fill(prompt, 400, 5);
                bm_gen_request r = fake_request(m, prompt, (size_t)lengths[second], 20);
                r.ignore_eos = true;
                run_cold(e, &r, b[0]);
                r.n_prompt = (size_t)lengths[first], r.max_tokens = 1;
                run(e, &r, a[0]);
                r.n_prompt = (size_t)lengths[second], r.max_tokens = 20;
                bm_gen_usage u = run(e, &r, a[0]);
                same_answer(a[0], b[0]);
                int common = lengths[first];         /* its last page too, though it is not whole */
                assert_true(groups > 1 || u.cached_tokens == (common < lengths[second] ? common : lengths[second] - 1));
                assert_true(u.cached_tokens < u.prompt_tokens);
                end(e, m);
            }
}

static void the_next_turn_of_a_conversation_computes_only_what_is_new(void **state)
{
    int32_t prompt[2000];
    size_t n = 500;
    fake f;

    (void)state;
    for (int groups = 1; groups <= 2; groups++) {
        bm_engine *e = fake_engine(4, 128, 1 << 20);
        bm_loaded *m = open_fake(e, &f, groups);
        fill(prompt, n = 500, 7);
        for (int turn = 0; turn < 4; turn++) {
            bm_gen_request r = fake_request(m, prompt, n, 100);
            r.ignore_eos = true;
            run_cold(e, &r, b[0]);
            bm_gen_usage u = run(e, &r, a[0]);
            same_answer(a[0], b[0]);
            if (turn > 0)
                assert_int_equal(u.cached_tokens, (int64_t)(n - 30 - 1));       /* the answer's pages too, but for its last token */
            memcpy(prompt + n, a[0]->tokens, (size_t)a[0]->n * sizeof prompt[0]);
            n += (size_t)a[0]->n;
            fill(prompt + n, 30, (uint64_t)turn);
            n += 30;
        }
        end(e, m);
    }
}

/* Two that share 100 tokens: the second copies the 36 of the page in the middle and writes its own behind them. */
static void a_page_shared_in_part_is_copied(void **state)
{
    int32_t one[200], two[200];
    fake f;

    (void)state;
    for (int groups = 1; groups <= 2; groups++) {
        bm_engine *e = fake_engine(4, 128, 1 << 20);
        bm_loaded *m = open_fake(e, &f, groups);
        fill(one, 200, 1);
        fill(two, 200, 2);
        memcpy(two, one, 100 * sizeof one[0]);
        bm_gen_request r1 = fake_request(m, one, 200, 30), r2 = fake_request(m, two, 200, 30);
        r1.ignore_eos = r2.ignore_eos = true;
        run_cold(e, &r1, b[0]);
        run_cold(e, &r2, b[1]);
        run(e, &r1, a[0]);
        same_answer(a[0], b[0]);
        assert_int_equal(run(e, &r2, a[1]).cached_tokens, 100);
        same_answer(a[1], b[1]);
        assert_int_equal(run(e, &r1, a[0]).cached_tokens, 199);
        same_answer(a[0], b[0]);
        assert_int_equal(run(e, &r2, a[1]).cached_tokens, 199);
        same_answer(a[1], b[1]);
        end(e, m);
    }
}

/* A runs on in the page whose beginning B takes over: B has a copy, and neither sees what the other writes behind it, whatever
 * happens to A meanwhile. */
static void the_page_that_a_neighbour_is_filling_is_copied(void **state)
{
    enum { ALONE, OWNER_CANCELED, OTHER_CANCELED, NO_ROOM, N_CASES };
    int32_t one[200], two[200];
    fake f;

    (void)state;
    fill(one, 100, 1);
    for (int groups = 1; groups <= 2; groups++)
        for (int shared = 90; shared <= 105; shared += 15)           /* of the prompt; of what was generated too */
            for (int what = 0; what < N_CASES; what++) {
                bm_engine *e = fake_engine(4, 128, 1 << 20);
                bm_loaded *m = open_fake(e, &f, groups);
                bm_gen_request r1 = fake_request(m, one, 100, 120), r2 = fake_request(m, two, (size_t)shared + 10, 120);
                r1.ignore_eos = r2.ignore_eos = true;
                run_cold(e, &r1, b[0]);
                memcpy(two, one, 100 * sizeof one[0]);
                memcpy(two + 100, b[0]->tokens, 20 * sizeof one[0]);
                fill(two + shared, 10, 2);
                run_cold(e, &r2, b[1]);
                while (bm_engine_evict(e))
                    ;
                if (what == NO_ROOM)
                    assert_true(bm_kv_budget_resize(&e->budget, (uint64_t)(groups == 1 ? 6 : 10) * 256));
                bm_gen *owner = submit(e, &r1);
                while (owner->seqs[0].n_generated < 8)
                    bm_engine_step(e);
                bm_gen *other = submit(e, &r2);
                bm_engine_step(e);
                assert_int_equal(bm_gen_get_usage(other).cached_tokens, shared);
                for (int g = 0; g < groups; g++)
                    assert_ptr_not_equal(owner->seqs[0].pages[g][1], other->seqs[0].pages[g][1]);
                if (what == OWNER_CANCELED || what == OTHER_CANCELED)
                    bm_gen_cancel(what == OWNER_CANCELED ? owner : other);
                finish(e, owner, a[0], 1);
                finish(e, other, a[1], 1);
                for (int i = 0; i < 2; i++)
                    if (what != (i == 0 ? OWNER_CANCELED : OTHER_CANCELED))
                        same_answer(a[i], b[i]);
                    else
                        assert_int_equal(a[i]->finish, BM_FINISH_CANCELED);
                bm_engine_stats stats;
                bm_engine_get_stats(e, &stats);
                assert_int_equal(stats.preemptions > 0, what == NO_ROOM);
                end(e, m);
            }
}

/* Of one beginning a longer unfinished page takes the place of the shorter ones; others stand beside it. */
static void unfinished_pages_do_not_pile_up(void **state)
{
    int32_t prompt[200];
    fake f;

    (void)state;
    for (int groups = 1; groups <= 2; groups++) {
        bm_engine *e = fake_engine(4, 128, 1 << 20);
        bm_loaded *m = open_fake(e, &f, groups);
        fill(prompt, 200, 1);
        for (int n = 70; n <= 120; n += 10) {
            bm_gen_request r = fake_request(m, prompt, (size_t)n, 0);
            assert_int_equal(run(e, &r, a[0]).cached_tokens, n == 70 ? 0 : n - 10);
            assert_int_equal(m->pools[0].n_idle, 2);
        }
        for (int n = 110; n >= 70; n -= 10) {        /* all of it is there */
            bm_gen_request r = fake_request(m, prompt, (size_t)n, 0);
            assert_int_equal(run(e, &r, a[0]).cached_tokens, n - 1);
            assert_int_equal(m->pools[0].n_idle, 2);
        }
        fill(prompt + 100, 20, 2);
        bm_gen_request r = fake_request(m, prompt, 120, 0);
        assert_int_equal(run(e, &r, a[0]).cached_tokens, 100);
        assert_int_equal(m->pools[0].n_idle, 3);
        r.n_prompt = 128;                            /* whole pages, which others may go on behind */
        assert_int_equal(run(e, &r, a[0]).cached_tokens, 120);
        r.n_prompt = 130;
        assert_int_equal(run(e, &r, a[0]).cached_tokens, 128);
        end(e, m);
    }
}

/* With a window the pages before it may be gone: a hit ends where the window is whole, and the pages that matter are kept longest. */
static void a_hit_needs_a_whole_window(void **state)
{
    int32_t prompt[1000];
    int64_t hits[3];
    fake f;

    (void)state;
    bm_engine *e = fake_engine(4, 64, 1 << 20);
    bm_loaded *m = open_fake(e, &f, 2);
    fill(prompt, 1000, 3);
    bm_gen_request r = fake_request(m, prompt, 1000, 5);
    r.ignore_eos = true;
    run_cold(e, &r, b[0]);
    run(e, &r, a[0]);
    int32_t used = m->pools[1].n_idle;
    assert_int_equal(used, 1004 / 64 + 1);   /* the last one is not whole */
    for (int i = 0; i < 8; i++)
        assert_true(bm_engine_evict(e));     /* the windows of the beginning first */
    assert_int_equal(m->pools[1].n_idle, used - 8);
    assert_int_equal(m->pools[0].n_idle, used);
    hits[0] = run(e, &r, a[0]).cached_tokens;
    same_answer(a[0], b[0]);
    r.n_prompt = 300;                        /* its window is gone */
    run_cold(e, &r, b[1]);
    hits[1] = run(e, &r, a[1]).cached_tokens;
    same_answer(a[1], b[1]);
    r.n_prompt = 700;
    run_cold(e, &r, b[1]);
    hits[2] = run(e, &r, a[1]).cached_tokens;
    same_answer(a[1], b[1]);
    assert_int_equal(hits[0], 999);
    assert_int_equal(hits[1], 0);
    assert_int_equal(hits[2], 699);
    end(e, m);
}

static void tenants_and_spaces_do_not_share(void **state)
{
    int32_t prompt[300];
    fake f;

    (void)state;
    bm_engine *e = fake_engine(4, 128, 1 << 20);
    bm_loaded *m = open_fake(e, &f, 1);
    fill(prompt, 300, 1);
    bm_gen_request r = fake_request(m, prompt, 300, 3);
    r.tenant = 1;
    assert_int_equal(run(e, &r, a[0]).cached_tokens, 0);
    r.tenant = 2;
    assert_int_equal(run(e, &r, a[0]).cached_tokens, 0);
    r.cache_space[31] = 1;
    assert_int_equal(run(e, &r, a[0]).cached_tokens, 0);
    assert_int_equal(run(e, &r, a[0]).cached_tokens, 299);
    r.no_cache = true;
    assert_int_equal(run(e, &r, a[0]).cached_tokens, 0);
    r.no_cache = false;
    r.tenant = 1, r.cache_space[31] = 0;
    assert_int_equal(run(e, &r, a[0]).cached_tokens, 299);
    /* Not even what is computed at this moment. */
    fill(prompt, 300, 2);
    bm_gen *gens[2];
    for (int i = 0; i < 2; i++) {
        r.tenant = 1 + (uint64_t)i;
        gens[i] = submit(e, &r);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(finish(e, gens[i], a[0], 1).cached_tokens, 0);
    end(e, m);
}

static void a_request_without_cache_leaves_nothing(void **state)
{
    bm_engine_options options = { .n_threads = 1, .max_seqs = 4, .kv_budget_bytes = 1 << 20, .no_prefix_cache = true };
    int32_t prompt[300];
    bm_error err;
    bm_engine *e;
    fake f;

    (void)state;
    fill(prompt, 300, 1);
    for (int off = 0; off < 2; off++) {
        options.no_prefix_cache = off;
        assert_int_equal(bm_engine_new_stepped(&e, &options, &err), 0);
        bm_loaded *m = open_fake(e, &f, 1);
        bm_gen_request r = fake_request(m, prompt, 300, 100);
        r.ignore_eos = true, r.no_cache = !off, r.n_choices = 3;
        for (int i = 0; i < 2; i++)
            assert_int_equal(run(e, &r, a[0]).cached_tokens, 0);
        assert_int_equal(e->budget.committed_bytes, 0);
        end(e, m);
    }
}

/* 16 at once: whoever came first computes what all share, once; the others compute their own ends. */
static void a_prefix_in_flight_is_computed_once(void **state)
{
    enum { N = 16, SHARED = 2000, OWN = 10 };
    static int32_t prompts[N][SHARED + OWN];
    bm_gen *gens[N];
    fake f;

    (void)state;
    for (int groups = 1; groups <= 2; groups++)
        for (int step_tokens = 64; step_tokens <= 512; step_tokens += 448) {
            bm_engine *e = fake_engine(N, step_tokens, 1 << 20);
            bm_loaded *m = open_fake(e, &f, groups);
            for (int i = 0; i < N; i++) {
                fill(prompts[i], SHARED, 1);
                fill(prompts[i] + SHARED, OWN, 100 + (uint64_t)i);
                bm_gen_request r = fake_request(m, prompts[i], SHARED + OWN, 4);
                r.ignore_eos = true;
                run_cold(e, &r, b[i]);
            }
            f.n_tokens = 0;
            for (int i = 0; i < N; i++) {
                bm_gen_request r = fake_request(m, prompts[i], SHARED + OWN, 4);
                r.ignore_eos = true, r.no_speculation = true;
                gens[i] = submit(e, &r);
            }
            run_all(e);
            assert_int_equal(f.n_tokens, SHARED + N * OWN + N * 3);
            for (int i = 0; i < N; i++) {
                assert_int_equal(finish(e, gens[i], a[i], 1).cached_tokens, i == 0 ? 0 : SHARED);
                same_answer(a[i], b[i]);
            }
            bm_engine_stats stats;
            bm_engine_get_stats(e, &stats);
            assert_int_equal(stats.cached_tokens, (N - 1) * SHARED);
            end(e, m);
        }
}

static void a_waiter_takes_over_where_a_cancelled_one_stopped(void **state)
{
    int32_t prompt[2000];
    bm_gen *gens[3];
    fake f;

    (void)state;
    for (int groups = 1; groups <= 2; groups++) {
        bm_engine *e = fake_engine(4, 64, 1 << 20);
        bm_loaded *m = open_fake(e, &f, groups);
        fill(prompt, 2000, 1);
        bm_gen_request r = fake_request(m, prompt, 2000, 5);
        r.ignore_eos = true, r.no_speculation = true;
        run_cold(e, &r, b[0]);
        for (int i = 0; i < 3; i++)
            gens[i] = submit(e, &r);
        f.n_tokens = 0;
        for (int i = 0; i < 10; i++)
            bm_engine_step(e);
        int64_t before = f.n_tokens;
        assert_int_equal(before, 640);
        bm_gen_cancel(gens[0]);
        for (int i = 0; i < 5; i++)
            bm_engine_step(e);
        bm_gen_cancel(gens[1]);
        run_all(e);
        assert_int_equal(f.n_tokens, 2000 + 4);
        assert_int_equal(finish(e, gens[2], a[0], 1).cached_tokens, 960);
        same_answer(a[0], b[0]);
        bm_gen_close(gens[0]);
        bm_gen_close(gens[1]);
        end(e, m);
    }
}

static void prompt_logprobs_read_no_cache(void **state)
{
    int32_t prompt[300];
    fake f;

    (void)state;
    bm_engine *e = fake_engine(4, 64, 1 << 20);
    bm_loaded *m = open_fake(e, &f, 1);
    fill(prompt, 300, 1);
    bm_gen_request r = fake_request(m, prompt, 300, 5);
    run(e, &r, a[0]);
    r.prompt_logprobs = true, r.top_logprobs = 2;
    bm_gen *gen = submit(e, &r);
    run_all(e);
    bm_event ev;
    for (int i = 0; i < 300; i++) {
        assert_int_equal(bm_gen_next(gen, &ev), 1);
        assert_int_equal(ev.kind, BM_EVENT_PROMPT);
        assert_int_equal(ev.index, i);
    }
    assert_int_equal(bm_gen_get_usage(gen).cached_tokens, 0);
    bm_gen_close(gen);
    r.prompt_logprobs = false;
    assert_true(run(e, &r, a[0]).cached_tokens > 0);     /* but they fill it */
    end(e, m);
}

/* What scoring asks: several continuations of one context, only their own log-probabilities. */
static void score_continuations(int context, bool patient, bool shared)
{
    enum { MOST = 200, LONG = 5, N = 4 };
    int32_t prompt[N][MOST + LONG];
    float cold[N][LONG];
    bm_gen *gens[N];
    bm_event ev;
    fake f;

    bm_engine *e = fake_engine(8, 64, 1 << 20);
    bm_loaded *m = open_fake(e, &f, 1);
    for (int i = 0; i < N; i++) {
        fill(prompt[i], (size_t)context, 1);
        fill(prompt[i] + context, LONG, 10 + (uint64_t)i);
        bm_gen_request r = fake_request(m, prompt[i], (size_t)context + LONG, 0);
        r.prompt_logprobs = r.no_cache = true;
        gens[i] = submit(e, &r);
        run_all(e);
        for (int t = 0; t < context + LONG; t++) {
            assert_int_equal(bm_gen_next(gens[i], &ev), 1);
            if (t >= context)
                cold[i][t - context] = ev.logprob.logprob;
        }
        bm_gen_close(gens[i]);
    }
    run_all(e);
    int64_t computed = -f.n_tokens, cached = 0;
    int n_heads = f.n_heads;
    for (int i = 0; i < N; i++) {
        bm_gen_request r = fake_request(m, prompt[i], (size_t)context + LONG, 0);
        r.prompt_logprobs = true, r.logprobs_from = context, r.patient = patient;
        gens[i] = submit(e, &r);
    }
    run_all(e);
    for (int i = 0; i < N; i++) {
        for (int t = 0; t < LONG; t++) {
            assert_int_equal(bm_gen_next(gens[i], &ev), 1);
            assert_int_equal(ev.kind, BM_EVENT_PROMPT);
            assert_int_equal(ev.index, context + t);
            assert_int_equal(ev.token, prompt[i][context + t]);
            assert_memory_equal(&ev.logprob.logprob, &cold[i][t], sizeof(float));
        }
        cached += bm_gen_get_usage(gens[i]).cached_tokens;
        bm_gen_close(gens[i]);
    }
    computed += f.n_tokens;
    assert_int_equal(cached, shared ? (N - 1) * (context - 1) : 0);
    assert_int_equal(computed, N * (context + LONG - 1) - cached);        /* the last token is never run */
    /* Those of one step share the head's blocks, of 16 rows here; a patient one that copied a page leaves none. */
    assert_int_equal(f.n_heads - n_heads, shared ? 1 + ((N - 1) * LONG + 15) / 16 : (N * LONG + 15) / 16);
    assert_int_equal(m->pools[0].n_idle, context / 64 + (patient ? 1 : N));
    end(e, m);
}

static void log_probabilities_of_continuations_share_their_context(void **state)
{
    (void)state;
    score_continuations(200, false, true);
    score_continuations(200, true, true);
}

static void only_patient_requests_wait_for_a_few_tokens(void **state)
{
    (void)state;
    score_continuations(10, false, false);
    score_continuations(10, true, true);
}

static void idle_pages_are_free_memory_and_the_oldest_go_first(void **state)
{
    int32_t prompt[640];
    fake f;

    (void)state;
    bm_engine *e = fake_engine(4, 64, 30 * 256);
    bm_loaded *m = open_fake(e, &f, 1);
    for (int i = 0; i < 20; i++) {           /* more than the budget holds, one after the other */
        fill(prompt, 640, (uint64_t)i);
        bm_gen_request r = fake_request(m, prompt, 640, 2);
        r.ignore_eos = true;
        run_cold(e, &r, b[0]);
        assert_int_equal(run(e, &r, a[0]).cached_tokens, 0);
        same_answer(a[0], b[0]);
        assert_int_equal(run(e, &r, a[0]).cached_tokens, 639);
    }
    bm_engine_stats stats;
    bm_engine_get_stats(e, &stats);
    assert_true(stats.evictions > 100);
    assert_int_equal(stats.kv_used_bytes, 0);
    assert_true(stats.kv_cached_bytes > 0 && stats.kv_cached_bytes <= 30 * 256);
    assert_int_equal(stats.preemptions, 0);
    for (int i = 19; i >= 18; i--) {
        fill(prompt, 640, (uint64_t)i);
        bm_gen_request r = fake_request(m, prompt, 640, 2);
        assert_int_equal(run(e, &r, a[0]).cached_tokens, 639);
    }
    end(e, m);
}

/* Prompts are small, answers long: they enter together and cannot all stay. */
static void preempted_equals_uninterrupted(void **state)
{
    enum { N = 8 };
    static const char *const stops[] = { "END", "\xE4\xB8\xAD", "'(" };
    int32_t prompts[N][100];
    bm_gen_request r[N];
    bm_gen *gens[N];
    fake f;

    (void)state;
    for (int groups = 1; groups <= 2; groups++)
        for (int cache = 0; cache < 2; cache++) {
            bm_engine *e = fake_engine(24, 64, 1 << 20);
            bm_loaded *m = open_fake(e, &f, groups);
            for (int i = 0; i < N; i++) {
                fill(prompts[i], 100, (uint64_t)i);
                r[i] = fake_request(m, prompts[i], (size_t)(1 + i * 17 % 100), 500);
                r[i].ignore_eos = i % 3 != 0;
                r[i].n_choices = 1 + i % 3;
                r[i].sampling.temperature = i % 2 ? 0.9f : 0;
                r[i].sampling.seed = (uint64_t)i;
                r[i].sampling.repetition_penalty = i % 4 == 0 ? 1.2f : 1;
                r[i].sampling.frequency_penalty = i % 4 == 1 ? 0.3f : 0;
                r[i].stop = stops, r[i].n_stop = i % 4 == 3 ? 3 : 0;
                r[i].top_logprobs = i % 2 ? 2 : -1;
                r[i].prompt_logprobs = i == 5;
                r[i].no_cache = cache == 0;
                run_cold(e, &r[i], b[i]);
            }
            while (bm_engine_evict(e))
                ;
            assert_true(bm_kv_budget_resize(&e->budget, 44 * 256));
            e->guess = groups == 1 ? fake_guess : NULL;
            for (int i = 0; i < N; i++)
                gens[i] = submit(e, &r[i]);
            for (int i = 0; i < N; i++)
                finish(e, gens[i], a[i], r[i].n_choices);
            for (int i = 0; i < N; i++)
                for (int c = 0; c < r[i].n_choices; c++)
                    same_answer(&a[i][c], &b[i][c]);
            bm_engine_stats stats;
            bm_engine_get_stats(e, &stats);
            assert_true(stats.preemptions > 0);
            end(e, m);
        }
}

static void the_youngest_of_the_lowest_priority_stands_up_and_comes_back_first(void **state)
{
    static const int priority[] = { 0, 1, 0, 1 };
    int32_t prompt[10];
    bm_gen *gens[5];
    fake f;

    (void)state;
    bm_engine *e = fake_engine(8, 64, 16 * 256);
    bm_loaded *m = open_fake(e, &f, 1);
    for (int i = 0; i < 4; i++) {
        fill(prompt, 10, (uint64_t)i);
        bm_gen_request r = fake_request(m, prompt, 10, 64 * 6);
        r.ignore_eos = true, r.no_speculation = true, r.priority = priority[i];
        gens[i] = submit(e, &r);
    }
    bool seen[4] = { 0 };
    int order[4], n = 0;
    while (bm_engine_step(e))
        for (int i = 0; i < 4; i++)
            if (gens[i]->preempted && !seen[i]) {
                seen[i] = true;
                order[n++] = i;
                if (n == 1) {                /* what comes now waits behind it */
                    fill(prompt, 10, 9);
                    bm_gen_request r = fake_request(m, prompt, 10, 5);
                    gens[4] = submit(e, &r);
                    assert_int_equal(gens[2]->phase, BM_GEN_QUEUED);
                }
            }
    assert_true(n >= 1);
    assert_int_equal(order[0], 2);
    assert_true(n < 2 || order[1] == 0);
    assert_false(gens[1]->preempted);
    for (int i = 0; i < 5; i++) {
        memset(a[0], 0, sizeof a[0]);
        assert_true(drain(gens[i], a[0]));
        assert_int_equal(a[0]->finish == BM_FINISH_LENGTH || i == 4, true);
        bm_gen_close(gens[i]);
    }
    end(e, m);
}

/* Requests over a few shared prefixes, so that everything shares with everything. */
static bm_gen_request random_request(bm_loaded *m, int32_t *prompt, int max_choices, bool short_prompts)
{
    static const char *const stops[] = { "END", "\xE4\xB8\xAD" };
    size_t shared = (size_t)rnd(short_prompts ? 70 : 300), own = 1 + (size_t)rnd(rnd(2) || short_prompts ? 5 : 150);

    fill(prompt, shared, (uint64_t)rnd(3));
    fill(prompt + shared, own, 10 + (uint64_t)rnd(4));
    bm_gen_request r = fake_request(m, prompt, shared + own, short_prompts ? 60 + rnd(200) : rnd(100));
    r.n_choices = 1 + rnd(max_choices);
    r.ignore_eos = rnd(4) > 0;
    r.sampling.temperature = rnd(2) ? 0.8f : 0;
    r.sampling.seed = (uint64_t)rnd(3);
    r.sampling.repetition_penalty = rnd(4) == 0 ? 1.3f : 1;
    r.stop = stops, r.n_stop = rnd(3) == 0 ? 2 : 0;
    r.no_cache = rnd(6) == 0;
    r.prompt_logprobs = rnd(8) == 0;
    r.logprobs_from = r.prompt_logprobs && rnd(2) ? rnd((int)r.n_prompt) : 0;
    r.no_speculation = rnd(2);
    r.tenant = (uint64_t)rnd(2), r.key = (uint64_t)rnd(2), r.priority = rnd(3) == 0;
    return r;
}

static uint64_t n_preempted, n_cached;

static void random_schedule(uint64_t seed)
{
    enum { N = 10 };
    static int32_t prompts[N][512];
    bm_gen *gens[N] = { 0 };
    bm_gen_request r[N];
    bool ended[N] = { 0 }, canceled[N] = { 0 };
    fake f[2];
    bm_loaded *m[2];
    int n = 0, left = N;

    rng_state = seed;
    int max_seqs = 2 + rnd(10);
    uint64_t budget = (uint64_t)(8 + rnd(16)) * 256;
    bm_engine *e = fake_engine(max_seqs, 32 + rnd(150), 1 << 20);
    for (int i = 0; i < 2; i++)
        m[i] = open_fake(e, &f[i], 1 + i);
    for (int i = 0; i < N; i++) {
        r[i] = random_request(m[rnd(3) == 0], prompts[i], max_seqs < 3 ? max_seqs : 3, seed % 2);
        run_cold(e, &r[i], b[i]);
    }
    assert_true(bm_kv_budget_resize(&e->budget, budget));
    e->guess = seed % 4 < 2 ? fake_guess : NULL;
    memset(a, 0, sizeof a);
    for (int turn = 0; left > 0; turn++) {
        bm_error err;
        int what = rnd(10);
        if (what < 5 && n < N) {
            if (bm_gen_submit(&gens[n], e, &r[n], &err) < 0) {
                assert_int_equal(err.code, BM_LIMIT);
                left--;
            }
            n++;
        } else if (what == 5 && n > 0 && rnd(20) == 0) {
            int i = rnd(n);
            if (gens[i] != NULL && !ended[i]) {
                canceled[i] = true;
                bm_gen_cancel(gens[i]);
            }
        } else {
            bm_engine_step(e);
        }
        for (int i = 0; i < n; i++)
            if (gens[i] != NULL && !ended[i] && (ended[i] = drain(gens[i], a[i]))) {
                left--;
                for (int c = 0; c < r[i].n_choices; c++) {
                    if (a[i][c].finish == BM_FINISH_ERROR)
                        fail_msg("seed %llu: %s", (unsigned long long)seed, bm_gen_error(gens[i])->msg);
                    if (a[i][c].finish == BM_FINISH_CANCELED) {
                        assert_true(canceled[i]);
                        assert_memory_equal(a[i][c].tokens, b[i][c].tokens, (size_t)a[i][c].n * sizeof(int32_t));
                    } else {
                        same_answer(&a[i][c], &b[i][c]);
                    }
                }
            }
        assert_true(e->budget.committed_bytes <= e->budget.total_bytes);
        assert_true(turn < 100000);
    }
    for (int i = 0; i < N; i++)
        bm_gen_close(gens[i]);
    run_all(e);
    n_preempted += e->stats.preemptions;
    n_cached += e->stats.cached_tokens;
    no_page_is_left(e);
    bm_loaded_unref(m[0]);
    bm_loaded_unref(m[1]);
    bm_engine_free(e);
}

static void after_1000_random_schedules_answers_are_right_and_pages_accounted_for(void **state)
{
    const char *only = getenv("SEED");

    (void)state;
    for (uint64_t seed = 1; seed <= 1000; seed++)
        if (only == NULL || strtoull(only, NULL, 10) == seed)
            random_schedule(seed);
    print_message("%llu preemptions, %llu tokens from the cache\n", (unsigned long long)n_preempted, (unsigned long long)n_cached);
    assert_true(only != NULL || (n_preempted > 100 && n_cached > 50000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cached_equals_cold_at_every_length),
        cmocka_unit_test(the_next_turn_of_a_conversation_computes_only_what_is_new),
        cmocka_unit_test(a_page_shared_in_part_is_copied),
        cmocka_unit_test(the_page_that_a_neighbour_is_filling_is_copied),
        cmocka_unit_test(unfinished_pages_do_not_pile_up),
        cmocka_unit_test(a_hit_needs_a_whole_window),
        cmocka_unit_test(tenants_and_spaces_do_not_share),
        cmocka_unit_test(a_request_without_cache_leaves_nothing),
        cmocka_unit_test(a_prefix_in_flight_is_computed_once),
        cmocka_unit_test(a_waiter_takes_over_where_a_cancelled_one_stopped),
        cmocka_unit_test(prompt_logprobs_read_no_cache),
        cmocka_unit_test(log_probabilities_of_continuations_share_their_context),
        cmocka_unit_test(only_patient_requests_wait_for_a_few_tokens),
        cmocka_unit_test(idle_pages_are_free_memory_and_the_oldest_go_first),
        cmocka_unit_test(preempted_equals_uninterrupted),
        cmocka_unit_test(the_youngest_of_the_lowest_priority_stands_up_and_comes_back_first),
        cmocka_unit_test(after_1000_random_schedules_answers_are_right_and_pages_accounted_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
