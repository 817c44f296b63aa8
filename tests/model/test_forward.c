/* test_forward.c - a token's output depends on its own inputs only: equal bit for bit whatever the threads, the chunking of
 * prefill, the batch and the pages; and what a batch may not be. */
#include "model_kit.h"

enum { N = 300, V = 320 };

static const char *const models[] = { "llama", "llama-yarn", "mistral", "mistral3", "qwen2", "qwen3", "qwen3-nvfp4", "gemma2", "gemma3" };
enum { N_MODELS = sizeof models / sizeof *models };

static void make_ids(int32_t *ids, int n, uint32_t seed)
{
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)(seed >> 8) % V;
    }
}

static void check_equal(const float *a, const float *b, int n_rows, const char *model, const char *what, int how)
{
    for (int r = 0; r < n_rows; r++)
        if (memcmp(a + (int64_t)r * V, b + (int64_t)r * V, V * sizeof *a) != 0)
            fail_msg("%s: %s %d: logits of token %d differ", model, what, how, r);
}

static void run_whole(float *out, const char *name, const int32_t *ids, int n_threads, bool f32)
{
    kit k;

    kit_open(&k, name, f32, n_threads, N);
    kit_run_chunks(&k, ids, N, N, 1, out);
    kit_close(&k);
}

static void bits_do_not_depend_on_the_number_of_threads(void **state)
{
    static float one[N * V], many[N * V];
    int32_t ids[N];

    (void)state;
    make_ids(ids, N, 1);
    for (int i = 0; i < N_MODELS; i++) {
        run_whole(one, models[i], ids, 1, false);
        for (int n = 2; n <= 5; n += n == 3 ? 2 : 1) {
            run_whole(many, models[i], ids, n, false);
            check_equal(one, many, N, models[i], "threads", n);
        }
    }
}

static void bits_do_not_depend_on_the_instruction_set(void **state)
{
    enum { SHORT = 100 };
    static float ref[SHORT * V], other[SHORT * V];
    int32_t ids[SHORT];
    bm_cpu cpu;
    kit k;

    (void)state;
    bm_cpu_detect(&cpu);
    make_ids(ids, SHORT, 8);
    for (int i = 0; i < 2 * N_MODELS; i++)
        for (bm_isa isa = BM_ISA_REF; isa < BM_ISA_COUNT; isa++) {
            if (!bm_isa_usable(&cpu, isa))
                continue;
            kit_open_isa(&k, models[i / 2], i % 2, isa, 2, SHORT);
            kit_run_chunks(&k, ids, SHORT, SHORT, 1, isa == BM_ISA_REF ? ref : other);
            kit_close(&k);
            if (isa != BM_ISA_REF)
                check_equal(ref, other, SHORT, models[i / 2], bm_isa_name(isa), 0);
        }
}

static void bits_do_not_depend_on_the_chunking_of_prefill(void **state)
{
    static const int chunks[] = { 1, 3, 4, 5, 17, 64, 65, 200 };
    static float whole[N * V], cut[N * V];
    int32_t ids[N];
    kit k;

    (void)state;
    make_ids(ids, N, 2);
    for (int i = 0; i < 2 * N_MODELS; i++) {
        const char *name = models[i / 2];
        kit_open(&k, name, i % 2, 2, N);
        kit_run_chunks(&k, ids, N, N, 1, whole);
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
            kit_run_chunks(&k, ids, N, chunks[c], 1, cut);
            check_equal(whole, cut, N, name, "chunks of", chunks[c]);
        }
        kit_close(&k);
    }
}

static void bits_do_not_depend_on_the_place_of_pages(void **state)
{
    static float a[N * V], b[N * V];
    int32_t ids[N];
    kit k;

    (void)state;
    make_ids(ids, N, 3);
    kit_open(&k, "gemma3", false, 2, N);
    kit_run_chunks(&k, ids, N, 70, 1, a);
    kit_run_chunks(&k, ids, N, 70, -1, b);
    check_equal(a, b, N, "gemma3", "pages in reverse", 0);
    kit_close(&k);
}

/* Decoding past the first span of attention, whose partials are folded, against one prefill of everything. */
static void bits_do_not_depend_on_where_a_step_ends_beyond_one_span(void **state)
{
    enum { LONG = BM_ATTN_SPAN + 70, LAST = 6 };
    static float whole[LAST * V], step[LAST * V];
    static int32_t ids[LONG];
    kit k;
    kit_seq s;

    (void)state;
    make_ids(ids, LONG, 4);
    for (int i = 0; i < N_MODELS; i++) {
        kit_open(&k, models[i], false, 2, LONG);
        if (bm_model_get_info(k.model)->n_ctx_train >= LONG) {
            kit_seq_new(&s, k.model, LONG, 1);
            kit_run(&k, &s, ids, 0, LONG, LAST, whole);
            kit_run(&k, &s, ids, 0, LONG - LAST, 0, NULL);
            kit_run(&k, &s, ids, LONG - LAST, 3, 3, step);
            for (int t = 3; t < LAST; t++)
                kit_run(&k, &s, ids, LONG - LAST + t, 1, 1, step + t * V);
            check_equal(whole, step, LAST, models[i], "steps", 0);
            kit_seq_free(&s);
        }
        kit_close(&k);
    }
}

/* Five sequences of different lengths in one batch, ragged and out of order, each then a decode together. */
static void check_batch(const char *name, int n_seqs)
{
    enum { MAX = 5 };
    static const int lengths[MAX] = { 40, 1, 130, 66, 7 };
    static float alone[MAX][V], together[V];
    int32_t ids[MAX][N], last = 0;
    kit_seq s[MAX];
    bm_run runs[MAX];
    bm_error err = { 0 };
    kit k;

    kit_open(&k, name, false, 3, N);
    for (int i = 0; i < n_seqs; i++) {
        make_ids(ids[i], N, 10 + (uint32_t)i);
        kit_seq_new(&s[i], k.model, N, 1);
        kit_run(&k, &s[i], ids[i], 0, lengths[i] + 1, 1, alone[i]);
        kit_seq_free(&s[i]);
        kit_seq_new(&s[i], k.model, N, -1);
        runs[i] = (bm_run){ .tokens = ids[i], .n_tokens = lengths[i], .kv = &s[i].kv };
    }
    kit_check(bm_model_forward(k.model, k.step, k.team, runs, n_seqs, &err), &err);
    for (int i = 0; i < n_seqs; i++)
        runs[i] = (bm_run){ .tokens = ids[i] + lengths[i], .n_tokens = 1, .start = lengths[i], .kv = &s[i].kv };
    kit_check(bm_model_forward(k.model, k.step, k.team, runs, n_seqs, &err), &err);
    for (last = 0; last < n_seqs; last++) {
        kit_check(bm_model_logits(k.model, k.step, k.team, &last, 1, together, &err), &err);
        check_equal(alone[last], together, 1, name, "sequence", last);
        kit_seq_free(&s[last]);
    }
    kit_close(&k);
}

static void a_batch_of_sequences_equals_each_alone(void **state)
{
    (void)state;
    for (int i = 0; i < N_MODELS; i++) {
        check_batch(models[i], 5);
        check_batch(models[i], 3);       /* decodes as a small step */
    }
}

static void rows_of_logits_do_not_depend_on_their_block(void **state)
{
    static float block[BM_LOGIT_ROWS * V], one[V];
    int32_t ids[N], rows[BM_LOGIT_ROWS];
    kit_seq s;
    kit k;
    bm_error err = { 0 };

    (void)state;
    make_ids(ids, N, 5);
    kit_open(&k, "gemma2", false, 2, N);
    kit_seq_new(&s, k.model, N, 1);
    kit_run(&k, &s, ids, 0, N, 0, NULL);
    for (int i = 0; i < BM_LOGIT_ROWS; i++)
        rows[i] = (i * 37) % N;
    kit_check(bm_model_logits(k.model, k.step, k.team, rows, BM_LOGIT_ROWS, block, &err), &err);
    for (int i = 0; i < BM_LOGIT_ROWS; i++) {
        kit_check(bm_model_logits(k.model, k.step, k.team, &rows[i], 1, one, &err), &err);
        check_equal(block + i * V, one, 1, "gemma2", "row", i);
    }
    kit_seq_free(&s);
    kit_close(&k);
}

/* A windowed group needs no pages before its window: absent ones change nothing. */
static void pages_before_the_window_may_be_absent(void **state)
{
    static float with[V], without[V];
    int32_t ids[N];
    kit_seq s;
    kit k;

    (void)state;
    make_ids(ids, N, 6);
    kit_open(&k, "gemma2", false, 2, N);
    kit_seq_new(&s, k.model, N, 1);
    kit_run(&k, &s, ids, 0, N - 1, 0, NULL);
    kit_run(&k, &s, ids, N - 1, 1, 1, with);
    for (int g = 0; g < s.n_groups; g++)
        for (int page = 0; bm_model_get_info(k.model)->groups[g].window == 32 && page < (N - 32) / BM_PAGE_TOKENS; page++) {
            bm_free(s.pages[g][page]);
            s.pages[g][page] = NULL;
        }
    kit_run(&k, &s, ids, N - 1, 1, 1, without);
    check_equal(with, without, 1, "gemma2", "absent pages", 0);
    kit_seq_free(&s);
    kit_close(&k);
}

static void expect_refused(kit *k, bm_run run, int n_runs, const char *says)
{
    bm_error err = { 0 };
    bm_run runs[2] = { run, run };

    assert_int_equal(bm_model_forward(k->model, k->step, k->team, runs, n_runs, &err), BM_INVALID);
    if (!strstr(err.msg, says))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, says);
}

static void a_wrong_batch_is_refused(void **state)
{
    int32_t ids[N] = { 0 }, bad[2] = { 1, V }, negative = -1, row = 4;
    float out[V];
    kit_seq s;
    kit k;
    bm_error err = { 0 };

    (void)state;
    kit_open(&k, "llama-yarn", false, 2, 200);
    kit_seq_new(&s, k.model, N, 1);
    expect_refused(&k, (bm_run){ .tokens = bad, .n_tokens = 2, .kv = &s.kv }, 1, "token 320 at position 1");
    expect_refused(&k, (bm_run){ .tokens = &negative, .n_tokens = 1, .kv = &s.kv }, 1, "token -1");
    expect_refused(&k, (bm_run){ .tokens = ids, .n_tokens = 1, .start = -1, .kv = &s.kv }, 1, "context");
    expect_refused(&k, (bm_run){ .tokens = ids, .n_tokens = 1, .start = INT32_MAX, .kv = &s.kv }, 1, "context of 1024");
    expect_refused(&k, (bm_run){ .tokens = ids, .n_tokens = 0, .kv = &s.kv }, 1, "0 tokens");
    expect_refused(&k, (bm_run){ .tokens = ids, .n_tokens = 101, .kv = &s.kv }, 2, "200 tokens");
    expect_refused(&k, (bm_run){ .tokens = ids, .n_tokens = 1, .kv = &s.kv }, 0, "no runs");
    expect_refused(&k, (bm_run){ .tokens = ids, .n_tokens = 2, .n_unread = 3, .kv = &s.kv }, 1, "3 of its 2 tokens");
    expect_refused(&k, (bm_run){ .tokens = ids, .n_tokens = 2, .n_unread = -1, .kv = &s.kv }, 1, "-1 of its 2 tokens");
    void *page = s.pages[0][0];
    s.pages[0][0] = NULL;
    expect_refused(&k, (bm_run){ .tokens = ids, .n_tokens = 3, .kv = &s.kv }, 1, "page 0 of group 0");
    s.pages[0][0] = page;
    kit_run(&k, &s, ids, 0, 4, 0, NULL);
    assert_int_equal(bm_model_logits(k.model, k.step, k.team, &row, 1, out, &err), BM_INVALID);
    row = -1;
    assert_int_equal(bm_model_logits(k.model, k.step, k.team, &row, 1, out, &err), BM_INVALID);
    assert_null(bm_step_hidden(k.step, 4));
    assert_non_null(bm_step_hidden(k.step, 3));
    kit_seq_free(&s);
    kit_close(&k);
}

static void steps_do_not_allocate(void **state)
{
    static float out[V];
    int32_t ids[N];
    kit_seq s;
    kit k;

    (void)state;
    make_ids(ids, N, 7);
    kit_open(&k, "gemma3", false, 2, N);
    kit_seq_new(&s, k.model, N, 1);
    long before = bm_mem_count();
    kit_run(&k, &s, ids, 0, 100, 1, out);
    kit_run(&k, &s, ids, 100, 1, 1, out);
    assert_int_equal(bm_mem_count(), before);
    kit_seq_free(&s);
    kit_close(&k);
}

static int use_f16(void **state)
{
    (void)state;
    kit_kv_type = BM_KV_F16;
    return 0;
}

static int use_int8(void **state)
{
    (void)state;
    kit_kv_type = BM_KV_INT8;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(bits_do_not_depend_on_the_instruction_set),
        cmocka_unit_test(bits_do_not_depend_on_the_chunking_of_prefill),
        cmocka_unit_test(bits_do_not_depend_on_the_place_of_pages),
        cmocka_unit_test(bits_do_not_depend_on_where_a_step_ends_beyond_one_span),
        cmocka_unit_test(a_batch_of_sequences_equals_each_alone),
        cmocka_unit_test(rows_of_logits_do_not_depend_on_their_block),
        cmocka_unit_test(pages_before_the_window_may_be_absent),
        cmocka_unit_test(a_wrong_batch_is_refused),
        cmocka_unit_test(steps_do_not_allocate),
    };
    const struct CMUnitTest of_others[] = {
        cmocka_unit_test(bits_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(bits_do_not_depend_on_the_instruction_set),
        cmocka_unit_test(bits_do_not_depend_on_the_chunking_of_prefill),
        cmocka_unit_test(a_batch_of_sequences_equals_each_alone),
    };

    int failed = cmocka_run_group_tests_name("KV in int16", tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("KV in f16", of_others, use_f16, NULL);
    return failed + cmocka_run_group_tests_name("KV in int8", of_others, use_int8, NULL);
}
