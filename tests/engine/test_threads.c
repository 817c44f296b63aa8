/* The engine with its own thread: many submitters, readers, cancels and closes at once, on fake models. Made for TSan. */
#include "fake_model.h"
#include <stdlib.h>

enum { N_THREADS = 4, N_REQUESTS = 60 };

typedef struct client {
    bm_engine *engine;
    bm_loaded *models[2];
    int id;
    int64_t completion_tokens, prompt_tokens;
    int n_done, n_busy;
} client;

/* Told by the engine; the condition is the test's own, as a server's wake-up would be. */
typedef struct bell { pthread_mutex_t lock; pthread_cond_t rang; int rings; } bell;

static void ring(void *arg)
{
    bell *b = arg;

    pthread_mutex_lock(&b->lock);
    b->rings++;
    pthread_cond_signal(&b->rang);
    pthread_mutex_unlock(&b->lock);
}

static void wait_ring(bell *b, int *seen)
{
    pthread_mutex_lock(&b->lock);
    while (b->rings == *seen)
        pthread_cond_wait(&b->rang, &b->lock);
    *seen = b->rings;
    pthread_mutex_unlock(&b->lock);
}

static bool read_some(bm_gen *gen, int *tokens)
{
    bm_event ev;

    while (bm_gen_next(gen, &ev)) {
        if (ev.kind == BM_EVENT_END)
            return true;
        *tokens += ev.kind == BM_EVENT_TOKEN;
    }
    return false;
}

static void one_request(client *c, int i)
{
    static const char *const stop[] = { "END" };
    int32_t prompt[130];
    bell b = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };
    int tokens = 0, seen = 0;
    bm_error err;
    bm_gen *gen;

    for (int t = 0; t < 130; t++)
        prompt[t] = 1 + (t * 7 + i * 13 + c->id) % 90;
    bm_gen_request r = fake_request(c->models[i % 2], prompt, (size_t)(1 + i * 31 % 130), 20);
    r.n_choices = 1 + i % 2;
    r.sampling.temperature = 1;
    r.stop = stop, r.n_stop = 1;
    r.tenant = (uint64_t)c->id;
    bool by_bell = i % 3 == 0;
    if (by_bell)
        r.notify = ring, r.notify_arg = &b;
    if (bm_gen_submit(&gen, c->engine, &r, &err) < 0) {
        c->n_busy += err.code == BM_BUSY;
        return;
    }
    if (i % 5 == 1)
        bm_gen_cancel(gen);
    if (i % 7 == 2) {                        /* a client that leaves without reading */
        bm_gen_close(gen);
        return;
    }
    while (!read_some(gen, &tokens)) {
        if (by_bell)
            wait_ring(&b, &seen);
        else
            bm_gen_wait(gen);
    }
    bm_gen_usage u = bm_gen_get_usage(gen);
    if (u.completion_tokens == tokens)
        c->n_done++;
    c->completion_tokens += u.completion_tokens;
    c->prompt_tokens += u.prompt_tokens;
    bm_gen_close(gen);
}

static void *client_main(void *arg)
{
    client *c = arg;

    for (int i = 0; i < N_REQUESTS; i++) {
        bm_engine_stats stats;
        bm_loaded_stats loaded;
        one_request(c, i);
        bm_engine_get_stats(c->engine, &stats);
        bm_loaded_get_stats(c->models[0], &loaded);
    }
    return NULL;
}

static void many_threads_share_an_engine(void **state)
{
    bm_engine_options options = { .n_threads = 2, .max_seqs = 6, .max_queued = 3, .kv_budget_bytes = 40 * 256 };
    static client clients[N_THREADS];
    pthread_t threads[N_THREADS];
    bm_loaded *models[2];
    fake fakes[2];
    bm_error err;
    bm_engine *e;
    int n_left = 0, n_seen = 0;

    (void)state;
    assert_int_equal(bm_engine_new(&e, &options, &err), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(fake_attach(&models[i], e, &fakes[i], "fake", 1 + i, 256, &err), 0);
    for (int i = 0; i < N_THREADS; i++) {
        clients[i] = (client){ .engine = e, .models = { models[0], models[1] }, .id = i };
        assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        for (int j = 0; j < N_REQUESTS; j++)
            n_left += j % 7 == 2;
        n_seen += clients[i].n_done + clients[i].n_busy;
    }
    assert_true(n_seen <= N_THREADS * N_REQUESTS && n_seen >= N_THREADS * N_REQUESTS - n_left);
    bm_loaded_unref(models[0]);
    bm_loaded_unref(models[1]);
    bm_engine_free(e);
    assert_true(fakes[0].closed && fakes[1].closed);
}

static void after_end_the_counters_equal_the_usage(void **state)
{
    bm_engine_options options = { .n_threads = 2, .max_seqs = 4, .kv_budget_bytes = 1 << 20 };
    int64_t prompt_tokens = 0, completion_tokens = 0;
    bm_loaded *m;
    bm_engine_stats stats;
    bm_error err;
    bm_engine *e;
    fake f;

    (void)state;
    assert_int_equal(bm_engine_new(&e, &options, &err), 0);
    assert_int_equal(fake_attach(&m, e, &f, "fake", 2, 256, &err), 0);
    for (int i = 0; i < 100; i++) {
        int32_t prompt[] = { 1 + i % 90, 2, 3 };
        int tokens = 0, cancel_at = i % 3 == 0 ? i % 11 : -1;
        bm_gen_request r = fake_request(m, prompt, 3, 30);
        bm_gen *gen;
        r.n_choices = 1 + i % 3;
        r.ignore_eos = true;
        assert_int_equal(bm_gen_submit(&gen, e, &r, &err), 0);
        while (!read_some(gen, &tokens)) {
            if (cancel_at >= 0 && tokens >= cancel_at)
                bm_gen_cancel(gen);
            bm_gen_wait(gen);
        }
        bm_gen_usage u = bm_gen_get_usage(gen);
        assert_int_equal(u.completion_tokens, tokens);
        prompt_tokens += u.prompt_tokens, completion_tokens += u.completion_tokens;
        bm_engine_get_stats(e, &stats);      /* whoever has seen END sees it counted */
        assert_int_equal(stats.prompt_tokens, prompt_tokens);
        assert_int_equal(stats.completion_tokens, completion_tokens);
        assert_int_equal(stats.active_seqs, 0);
        assert_int_equal(stats.kv_used_bytes, 0);
        bm_gen_close(gen);
    }
    assert_int_equal(stats.requests, 100);
    bm_loaded_unref(m);
    bm_engine_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads_share_an_engine),
        cmocka_unit_test(after_end_the_counters_equal_the_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
