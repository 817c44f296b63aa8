/* test_adapters.c - requests that name adapters: each run carries its own, neighbours share a batch, and no prefix is ever shared
 * between the base, adapters, and versions of one. */
#include "fake_model.h"

#include <stdlib.h>
#include "format/gguf.h"

static bm_model *shapes;
static const bm_adapter *seen[64];
static int n_seen, most_runs;
static fake f;

static int open_shapes(void **state)
{
    bm_gguf *gguf;
    bm_error err;
    int rc;

    (void)state;
    if (bm_gguf_open(&gguf, "tests/oracle/models/llama.gguf", &err) < 0)
        return -1;
    rc = bm_model_open_shapes(&shapes, gguf, &err);
    bm_gguf_close(gguf);
    return rc;
}

static int close_shapes(void **state) { (void)state; bm_model_close(shapes); return 0; }

/* An adapter of one matrix filled with `value`. */
static bm_adapter *adapter_of(float value, float scale)
{
    int64_t in, out;
    bm_error err;
    bm_adapter *a;

    bm_lora_shape(shapes, 0, BM_LORA_Q, &in, &out);
    float *x = malloc((size_t)(in + out) * sizeof *x);
    for (int64_t i = 0; i < in + out; i++)
        x[i] = value;
    bm_lora_matrix m = { .site = BM_LORA_Q, .rank = 1, .scale = scale, .a = x, .b = x + in };
    if (bm_adapter_new(&a, shapes, &m, 1, &err) < 0)
        fail_msg("%s", err.msg);
    free(x);
    return a;
}

static int watching_forward(void *impl, bm_team *team, const bm_run *runs, int n_runs, bm_error *err)
{
    n_seen = 0;
    for (int i = 0; i < n_runs && i < 64; i++)
        if (runs[i].start >= 70)
            seen[n_seen++] = runs[i].adapter;        /* decoding */
    most_runs = n_runs > most_runs ? n_runs : most_runs;
    return fake_forward(impl, team, runs, n_runs, err);
}

static bm_loaded *attach(bm_engine *e)
{
    bm_loaded *m;
    bm_error err;

    if (fake_attach(&m, e, &f, "m", 1, 2048, &err) < 0)
        fail_msg("%s", err.msg);
    m->runner.forward = watching_forward;
    return m;
}

/* Run one request to its end; how many of its prompt's tokens came from the cache. */
static int64_t cached(bm_engine *e, const bm_gen_request *r)
{
    static answer a;
    bm_gen *gen;
    bm_error err;

    memset(&a, 0, sizeof a);
    if (bm_gen_submit(&gen, e, r, &err) < 0)
        fail_msg("%s", err.msg);
    while (!drain(gen, &a))
        assert_true(bm_engine_step(e));
    int64_t n = bm_gen_get_usage(gen).cached_tokens;
    bm_gen_close(gen);
    return n;
}

static void prefixes_are_never_shared_across_adapters_or_their_versions(void **state)
{
    bm_engine *e = fake_engine(8, 256, 1 << 20);
    bm_loaded *m = attach(e);
    int32_t prompt[200];

    (void)state;
    for (int i = 0; i < 200; i++)
        prompt[i] = 1 + i % 90;
    bm_gen_request r = fake_request(m, prompt, 200, 2);
    bm_adapter *a = adapter_of(1, 1), *b = adapter_of(2, 1), *a_again = adapter_of(1, 1), *a_replaced = adapter_of(3, 1);
    bm_adapter *a_scaled = adapter_of(1, 0.5f);
    struct { bm_adapter *adapter; bool shared; } turns[] = {
        { NULL, false }, { NULL, true }, { a, false }, { b, false }, { a, true }, { b, true }, { NULL, true },
        { a_replaced, false }, { a_again, true }, { a_scaled, false },
    };
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
        r.adapter = turns[i].adapter;
        int64_t n = cached(e, &r);
        if ((n > 0) != turns[i].shared)
            fail_msg("turn %zu: %lld tokens from the cache", i, (long long)n);
    }
    memset(r.cache_space, 7, sizeof r.cache_space);
    r.adapter = a;
    assert_int_equal(cached(e, &r), 0);      /* another tenant */
    bm_adapter_free(a), bm_adapter_free(b), bm_adapter_free(a_again), bm_adapter_free(a_replaced), bm_adapter_free(a_scaled);
    no_page_is_left(e);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

/* Six in flight at once with the same prompt: one batch, each with its adapter, those of one beside each other. */
static void requests_with_different_adapters_share_a_batch(void **state)
{
    static answer answers[6];
    bm_engine *e = fake_engine(8, 256, 1 << 20);
    bm_loaded *m = attach(e);
    bm_adapter *adapters[3] = { NULL, adapter_of(1, 1), adapter_of(2, 1) };
    bm_gen *gens[6];
    int32_t prompt[70];
    bm_error err;
    int left = 6;

    (void)state;
    memset(answers, 0, sizeof answers);
    for (int i = 0; i < 70; i++)
        prompt[i] = 1 + i;
    for (int i = 0; i < 6; i++) {
        bm_gen_request r = fake_request(m, prompt, 70, 40);
        r.adapter = adapters[i % 3];
        r.no_speculation = r.ignore_eos = true;
        assert_int_equal(bm_gen_submit(&gens[i], e, &r, &err), 0);
    }
    bm_adapter_free(adapters[1]), bm_adapter_free(adapters[2]);       /* unmounted: the requests go on */
    most_runs = 0;
    while (left > 0) {
        assert_true(bm_engine_step(e));
        for (int i = 0; i < 6; i++)
            if (gens[i] != NULL && drain(gens[i], &answers[i])) {
                assert_int_equal(answers[i].n, 40);
                bm_gen_close(gens[i]);
                gens[i] = NULL;
                left--;
            }
        if (n_seen == 6) {
            int changes = 0;
            for (int i = 1; i < 6; i++)
                changes += seen[i] != seen[i - 1];
            assert_int_equal(changes, 2);
        }
    }
    assert_int_equal(most_runs, 6);
    no_page_is_left(e);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_are_never_shared_across_adapters_or_their_versions),
        cmocka_unit_test(requests_with_different_adapters_share_a_batch),
    };

    return cmocka_run_group_tests(tests, open_shapes, close_shapes);
}
