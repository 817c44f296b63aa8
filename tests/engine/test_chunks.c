/* How many tokens of prompts a step gets, as measured times say. Times are made up: nothing is measured here. */
#include "fake_model.h"

static bm_engine *e;
static bm_loaded *m;
static fake f;

/* A long prompt stands at its beginning beside n_rows rows: the chunk that it gets. */
static int32_t chunk(const bm_step_times *t, int n_rows)
{
    static int32_t prompt[4000];
    bm_error err;
    bm_gen *gen;

    for (int i = 0; i < 4000; i++)
        prompt[i] = 1 + i % 90;
    bm_gen_request r = fake_request(m, prompt, 4000, 1);
    assert_int_equal(bm_gen_submit(&gen, e, &r, &err), 0);
    pthread_mutex_lock(&e->cache_lock);
    bm_seats_serve(e);
    bm_seats_look_around(e);
    m->times = *t;
    bm_chunks_share(e, m, n_rows);
    pthread_mutex_unlock(&e->cache_lock);
    int32_t n = gen->seqs[0].grant;
    bm_gen_close(gen);
    while (bm_engine_step(e))
        ;
    return n;
}

static void alone_a_step_takes_what_a_newcomer_can_wait(void **state)
{
    bm_step_times t = { 0 };

    (void)state;
    assert_int_equal(chunk(&t, 0), 512);             /* nothing is known: all there is */
    bm_chunks_learn(&t, 0, 400, 0, 400 * 2e6);          /* 2 ms a token */
    assert_int_equal(chunk(&t, 0), 200);
    t = (bm_step_times){ 0 };
    bm_chunks_learn(&t, 0, 400, 0, 400 * 0.1e6);
    assert_int_equal(chunk(&t, 0), 512);
    t = (bm_step_times){ 0 };
    bm_chunks_learn(&t, 0, 32, 0, 32 * 1000e6);          /* a second a token: it still gets on */
    assert_int_equal(chunk(&t, 0), BM_CHUNK_MIN);
}

static void beside_decodes_a_step_is_stretched_by_less_than_two(void **state)
{
    bm_step_times t = { 0 };

    (void)state;
    bm_chunks_learn(&t, 0, 512, 0, 512 * 0.25e6);       /* 0.25 ms a token alone */
    bm_chunks_learn(&t, 8, 0, 0, 20e6);                 /* eight decode in 20 ms: 16 ms are there for the prompt */
    assert_int_equal(chunk(&t, 8), 64);
    bm_chunks_learn(&t, 8, 64, 0, 20e6 + 64 * 0.5e6);   /* beside them a token costs twice as much */
    assert_int_equal(chunk(&t, 8), 32);
    for (int i = 0; i < 50; i++)                     /* and more as the context grows */
        bm_chunks_learn(&t, 8, 32, 0, 20e6 + 32 * 1e6);
    assert_int_equal(chunk(&t, 8), 16);
    assert_int_equal(chunk(&t, 500), 12);            /* there are no more in the step */
    assert_int_equal(chunk(&t, 100), 16);
    bm_chunks_learn(&t, 8, 16, 3000, 20e6 + 16 * 10e6);      /* far from the beginning attention takes longer; here it does not */
    assert_int_equal(chunk(&t, 8), 16);
            /* of more rows nothing is known: as of the most that are */
}

static void one_slow_step_does_not_open_the_gate(void **state)
{
    bm_step_times t = { 0 };

    (void)state;
    bm_chunks_learn(&t, 0, 512, 0, 512 * 0.25e6);
    for (int i = 0; i < 10; i++)
        bm_chunks_learn(&t, 8, 0, 0, 20e6);
    bm_chunks_learn(&t, 8, 0, 0, 5000e6);               /* somebody else had the processor */
    assert_true(chunk(&t, 8) <= 72);
    bm_chunks_learn(&t, 8, 64, 0, 36e6);
    int32_t n = chunk(&t, 8);
    bm_chunks_learn(&t, 8, 64, 0, 5000e6);
    assert_true(chunk(&t, 8) >= n / 2 - 8);
}

/* Lengths of prompts that differ from the beginning, oldest first, beside n_rows decoded rows: what each gets. */
static void chunks(const bm_step_times *t, int n_rows, const int *lengths, int32_t *grants, int n)
{
    static int32_t prompt[4000];
    bm_error err;
    bm_gen *gens[8];

    for (int i = 0; i < n; i++) {
        for (int p = 0; p < lengths[i]; p++)
            prompt[p] = 1 + (p + 7 * i) % 90;
        bm_gen_request r = fake_request(m, prompt, (size_t)lengths[i], 1);
        r.no_cache = true;
        assert_int_equal(bm_gen_submit(&gens[i], e, &r, &err), 0);
    }
    pthread_mutex_lock(&e->cache_lock);
    bm_seats_serve(e);
    bm_seats_look_around(e);
    m->times = *t;
    bm_chunks_share(e, m, n_rows);
    pthread_mutex_unlock(&e->cache_lock);
    for (int i = 0; i < n; i++)
        grants[i] = gens[i]->seqs[0].grant;
    for (int i = 0; i < n; i++)
        bm_gen_close(gens[i]);
    while (bm_engine_step(e))
        ;
}

#define GRANTS(t, n_rows, ...) do { \
        const struct { int length; int32_t want; } cases[] = { __VA_ARGS__ }; \
        int n_cases = (int)(sizeof cases / sizeof cases[0]), lengths[8]; \
        int32_t grants[8]; \
        for (int i = 0; i < n_cases; i++) \
            lengths[i] = cases[i].length; \
        chunks(t, n_rows, lengths, grants, n_cases); \
        for (int i = 0; i < n_cases; i++) \
            assert_int_equal(grants[i], cases[i].want); \
    } while (0)

static void prompts_that_are_soon_over_go_together_whatever_decodes(void **state)
{
    bm_step_times t = { 0 };

    (void)state;
    bm_chunks_learn(&t, 0, 512, 0, 512 * 1e6);          /* a millisecond a token */
    bm_chunks_learn(&t, 1, 0, 0, 10e6);                 /* one decodes in 10: there is room for 8 tokens */
    GRANTS(&t, 1, { 17, 17 }, { 17, 17 }, { 17, 17 }, { 17, 17 });
    GRANTS(&t, 1, { 50, 50 }, { 50, 0 }, { 30, 30 });   /* 128 in a step, the shortest first; none is cut */
    GRANTS(&t, 1, { 4000, 4 }, { 20, 20 }, { 50, 50 }); /* nor do they feed a long one */
    GRANTS(&t, 1, { 4000, 4 }, { 2000, 4 });
    GRANTS(&t, 1, { 65, 8 });
    GRANTS(&t, 0, { 4000, 200 }, { 20, 20 }, { 50, 50 }, { 300, 130 });   /* alone: 400 in a step */
    t = (bm_step_times){ 0 };
    bm_chunks_learn(&t, 0, 512, 0, 512 * 10e6);         /* ten: 160 are the limit */
    bm_chunks_learn(&t, 1, 0, 0, 100e6);
    GRANTS(&t, 1, { 12, 12 }, { 12, 0 });
    GRANTS(&t, 1, { 17, 4 }, { 12, 12 });
}

static int open_engine(void **state)
{
    bm_error err;

    (void)state;
    e = fake_engine(4, 1024, 1 << 20);
    e->options.step_tokens = 512;
    return fake_attach(&m, e, &f, "fake", 1, 4096, &err);
}

static int close_engine(void **state)
{
    (void)state;
    bm_loaded_unref(m);
    bm_engine_free(e);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_a_step_takes_what_a_newcomer_can_wait),
        cmocka_unit_test(beside_decodes_a_step_is_stretched_by_less_than_two),
        cmocka_unit_test(prompts_that_are_soon_over_go_together_whatever_decodes),
        cmocka_unit_test(one_slow_step_does_not_open_the_gate),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
