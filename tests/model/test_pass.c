/* test_pass.c - a training pass gives the same bits for any team and with recomputed layers; segments of a row do not see each
 * other; its losses are those that serving gives; what it refuses. On tiny models of tests/oracle/models. */
#include "pass_kit.h"

enum { N = 150, VOCAB = 320 };

typedef struct sample {
    int32_t ids[1200], starts[3];
    uint8_t target[1200];
    float coef[1200];
    bm_train_row row;
} sample;

static void sample_init(sample *s, int n_tokens, int n_segments)
{
    *s = (sample){ .starts = { 0, 41, 109 } };
    for (int t = 0; t < n_tokens; t++) {
        s->ids[t] = 3 + (t * 97 + t * t % 31) % (VOCAB - 3);
        s->target[t] = t % 3 != 1;
        s->coef[t] = 0.2f + 0.1f * (float)(t % 5);
    }
    for (int i = 0; i < n_segments; i++)
        s->target[s->starts[i]] = 0;
    s->row = (bm_train_row){ .tokens = s->ids, .n_tokens = n_tokens, .starts = s->starts, .n_segments = n_segments, .target = s->target };
}

/* Gradients (to free) and losses of one row. */
static float *gradients(const char *name, const sample *s, bool f32, bool recompute, int n_threads, double *nll)
{
    pass_kit p;
    pass_kit_options o = { .f32 = f32, .recompute = recompute, .n_threads = n_threads, .max_tokens = s->row.n_tokens,
                           .adapter = { .rank = 3, .alpha = 4 } };

    pass_kit_open_tiny(&p, name, &o);
    size_t n = bm_trainable_n(p.adapter);
    pass_kit_run(&p, &s->row, s->coef, nll);
    float *out = malloc(n * sizeof *out);
    memcpy(out, bm_trainable_grads(p.adapter), n * sizeof *out);
    pass_kit_close(&p);
    return out;
}

static size_t n_values(const char *name, int rank)
{
    pass_kit p;
    pass_kit_options o = { .n_threads = 1, .max_tokens = 1, .adapter = { .rank = rank } };

    pass_kit_open_tiny(&p, name, &o);
    size_t n = bm_trainable_n(p.adapter);
    pass_kit_close(&p);
    return n;
}

static void check_same_bits(const char *name, bool f32)
{
    static const struct { int n_threads; bool recompute; } ways[] = { { 1, false }, { 2, false }, { 3, true }, { 5, false }, { 1, true } };
    size_t n = n_values(name, 3);
    double first_nll[N], nll[N];
    sample s;

    sample_init(&s, N, 3);
    float *first = gradients(name, &s, f32, false, 2, first_nll);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        float *got = gradients(name, &s, f32, ways[w].recompute, ways[w].n_threads, nll);
        if (memcmp(first, got, n * sizeof *got) != 0 || memcmp(first_nll, nll, sizeof nll) != 0)
            fail_msg("%s: %d threads%s give other bits", name, ways[w].n_threads, ways[w].recompute ? ", recomputing," : "");
        free(got);
    }
    free(first);
}

static void any_team_and_recomputing_give_the_same_bits(void **state)
{
    (void)state;
    check_same_bits("llama", false);
    check_same_bits("gemma3", false);
    check_same_bits("gemma2", true);
    check_same_bits("qwen3-nvfp4", false);
}

/* One row of three segments, against three rows whose gradients add up. */
static void check_segments(const char *name, bool f32)
{
    pass_kit p;
    pass_kit_options o = { .f32 = f32, .n_threads = 2, .max_tokens = N, .adapter = { .rank = 3, .alpha = 4 } };
    double nll[N], alone[N], worst = 0;
    sample s;

    sample_init(&s, N, 3);
    float *together = gradients(name, &s, f32, false, 2, nll);
    pass_kit_open_tiny(&p, name, &o);
    for (int i = 0; i < 3; i++) {
        int32_t from = s.starts[i], to = i < 2 ? s.starts[i + 1] : N, zero = 0;
        bm_train_row row = { .tokens = s.ids + from, .n_tokens = to - from, .starts = &zero, .n_segments = 1, .target = s.target + from };
        pass_kit_run(&p, &row, s.coef + from, alone + from);
    }
    for (int t = 0; t < N; t++)
        worst = fmax(worst, fabs(nll[t] - alone[t]));
    double error = relative_error(together, bm_trainable_grads(p.adapter), bm_trainable_n(p.adapter));
    print_message("%s: packed against alone: loss %.1e, gradient %.1e\n", name, worst, error);
    assert_true(worst == 0 && error <= 2e-6);    /* losses are the same bits; gradients add up in another order */
    pass_kit_close(&p);
    free(together);
}

static void segments_of_a_row_equal_rows_of_their_own(void **state)
{
    (void)state;
    check_segments("llama", true);
    check_segments("mistral", true);
    check_segments("gemma3", true);
    check_segments("mistral3", true);
    check_segments("qwen2", false);
}

/* -log p of each target by the forward pass of serving, the adapter mounted. */
static void serve(const char *name, bool f32, const sample *s, const bm_lora_matrix *matrices, size_t n_matrices, double *nll)
{
    kit k;
    kit_seq seq;
    bm_error err = { 0 };
    bm_adapter *adapter = NULL;
    int n = s->row.n_tokens;
    float *logits = malloc((size_t)n * VOCAB * sizeof *logits);

    kit_open(&k, name, f32, 2, n);
    kit_seq_new(&seq, k.model, n, 1);
    if (matrices)
        kit_check(bm_adapter_new(&adapter, k.model, matrices, n_matrices, &err), &err);
    bm_run run = { .tokens = s->ids, .n_tokens = n, .kv = &seq.kv, .adapter = adapter };
    kit_check(bm_model_forward(k.model, k.step, k.team, &run, 1, &err), &err);
    for (int t = 0; t < n; t++)
        kit_check(bm_model_logits(k.model, k.step, k.team, &(int32_t){ t }, 1, logits + (int64_t)t * VOCAB, &err), &err);
    for (int t = 1; t < n; t++) {
        const float *x = logits + (int64_t)(t - 1) * VOCAB;
        double sum = 0;
        for (int i = 0; i < VOCAB; i++)
            sum += exp((double)x[i]);
        nll[t] = s->target[t] ? log(sum) - (double)x[s->ids[t]] : 0;
    }
    nll[0] = 0;
    bm_adapter_free(adapter);
    kit_seq_free(&seq);
    kit_close(&k);
    free(logits);
}

/* The arithmetic is the same to the last bit but for the log of the sum, which is taken in doubles here. */
static void check_serving(const char *name, bool f32, int n_tokens)
{
    static const sample empty;
    static double nll[1200], served[1200], worst[2];
    sample s = empty;
    bm_error err = { 0 };
    pass_kit p;
    pass_kit_options o = { .f32 = f32, .n_threads = 2, .max_tokens = n_tokens, .adapter = { .rank = 4, .alpha = 4 } };
    size_t n_matrices;

    sample_init(&s, n_tokens, 1);
    pass_kit_open_tiny(&p, name, &o);
    const bm_lora_matrix *matrices = bm_trainable_matrices(p.adapter, &n_matrices);
    for (int with = 0; with < 2; with++) {
        kit_check(bm_pass_forward(p.pass, p.k.team, with ? p.adapter : NULL, &s.row, 0, nll, &err), &err);
        serve(name, f32, &s, with ? matrices : NULL, n_matrices, served);
        worst[with] = 0;
        for (int t = 0; t < n_tokens; t++)
            worst[with] = fmax(worst[with], fabs(nll[t] - served[t]));
    }
    print_message("%-12s %4d tokens: losses against serving: alone %.1e, with an adapter %.1e\n", name, n_tokens, worst[0], worst[1]);
    assert_true(worst[0] <= 2e-5 && worst[1] <= 2e-5);
    pass_kit_close(&p);
}

static void losses_are_those_of_serving(void **state)
{
    (void)state;
    check_serving("llama", true, 1200);    /* more than one span */
    check_serving("llama", false, 1200);
    check_serving("mistral", false, 200);
    check_serving("qwen3", true, 200);
    check_serving("gemma2", false, 200);
    check_serving("gemma3", true, 200);
}

static void base_losses(const char *name, const sample *s, bool f32, int n_threads, unsigned flags, double *nll)
{
    pass_kit p;
    bm_error err = { 0 };
    pass_kit_options o = { .f32 = f32, .n_threads = n_threads, .max_tokens = s->row.n_tokens, .adapter = { .rank = 1 } };

    pass_kit_open_tiny(&p, name, &o);
    kit_check(bm_pass_forward(p.pass, p.k.team, NULL, &s->row, flags, nll, &err), &err);
    pass_kit_close(&p);
}

/* What is left of the distance is the cache's rounding. No team changes a bit. */
static void a_fine_pass_is_near_f32(void **state)
{
    static const char *const names[] = { "llama", "qwen2", "gemma2", "gemma3", "mistral3", "qwen3-nvfp4" };
    double exact[N], fast[N], fine[N], other[N];
    sample s;

    (void)state;
    sample_init(&s, N, 3);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        double of_fast = 0, of_fine = 0;
        base_losses(names[i], &s, true, 2, 0, exact);
        base_losses(names[i], &s, false, 2, 0, fast);
        base_losses(names[i], &s, false, 2, BM_PASS_FINE | BM_PASS_FINEST, fine);
        for (int n_threads = 1; n_threads <= 5; n_threads += 2) {
            base_losses(names[i], &s, false, n_threads, BM_PASS_FINE | BM_PASS_FINEST, other);
            assert_memory_equal(fine, other, sizeof fine);
        }
        for (int t = 0; t < N; t++) {
            of_fast += (fast[t] - exact[t]) * (fast[t] - exact[t]);
            of_fine += (fine[t] - exact[t]) * (fine[t] - exact[t]);
        }
        print_message("%-12s losses off f32: served %.1e, fine %.1e\n", names[i], sqrt(of_fast / N), sqrt(of_fine / N));
        assert_true(of_fast > 0 && sqrt(of_fine) <= 0.1 * sqrt(of_fast));
    }
}

static void gradients_add_up_and_no_target_adds_none(void **state)
{
    pass_kit p;
    pass_kit_options o = { .f32 = true, .n_threads = 2, .max_tokens = N, .adapter = { .rank = 3 } };
    double nll[N];
    sample s;

    (void)state;
    sample_init(&s, N, 3);
    pass_kit_open_tiny(&p, "qwen2", &o);
    size_t n = bm_trainable_n(p.adapter);
    float *once = malloc(n * sizeof *once), *grads = bm_trainable_grads(p.adapter);
    pass_kit_run(&p, &s.row, s.coef, nll);
    memcpy(once, grads, n * sizeof *once);
    memset(s.target, 0, sizeof s.target);
    pass_kit_run(&p, &s.row, s.coef, nll);
    assert_memory_equal(once, grads, n * sizeof *once);
    for (int t = 0; t < N; t++)
        assert_true(nll[t] == 0);
    sample_init(&s, N, 3);
    pass_kit_run(&p, &s.row, s.coef, nll);
    for (size_t i = 0; i < n; i++)
        once[i] *= 2;
    assert_true(relative_error(grads, once, n) < 1e-6);
    free(once);
    pass_kit_close(&p);
}

/* Maps without an adapter stay as they are, and a short row in a long pass leaves nothing of the one before. */
static void some_sites_alone_and_short_rows_after_long_ones(void **state)
{
    pass_kit p;
    pass_kit_options o = { .n_threads = 2, .max_tokens = N, .adapter = { .rank = 2, .sites = 1u << BM_LORA_V | 1u << BM_LORA_DOWN } };
    double nll[N], again[N];
    sample s, small;

    (void)state;
    sample_init(&s, N, 3);
    sample_init(&small, 20, 1);
    pass_kit_open_tiny(&p, "gemma2", &o);
    size_t n = bm_trainable_n(p.adapter), n_matrices;
    float *grads = bm_trainable_grads(p.adapter), *first = malloc(n * sizeof *first);
    const bm_lora_matrix *m = bm_trainable_matrices(p.adapter, &n_matrices);
    assert_int_equal(n_matrices, 2 * bm_model_get_info(p.k.model)->n_layers);
    assert_true(m[0].site == BM_LORA_V && m[1].site == BM_LORA_DOWN && m[0].scale == 2);
    pass_kit_run(&p, &small.row, small.coef, nll);
    memcpy(first, grads, n * sizeof *first);
    pass_kit_run(&p, &s.row, s.coef, again);
    memset(grads, 0, n * sizeof *grads);
    pass_kit_run(&p, &small.row, small.coef, again);
    assert_memory_equal(first, grads, n * sizeof *first);
    assert_memory_equal(nll, again, 20 * sizeof *nll);
    for (size_t i = 0; i < n; i++)
        assert_true(isfinite(first[i]));
    free(first);
    pass_kit_close(&p);
}

static void a_new_adapter_changes_nothing_and_depends_on_its_seed(void **state)
{
    pass_kit p;
    pass_kit_options o = { .n_threads = 1, .max_tokens = N };
    bm_trainable *same, *other;
    bm_error err = { 0 };
    double nll[N], base[N];
    size_t n_matrices;
    sample s;

    (void)state;
    sample_init(&s, N, 1);
    pass_kit_open_tiny(&p, "llama", &o);
    kit_check(bm_trainable_new(&same, p.k.model, &(bm_trainable_options){ .seed = 7 }, &err), &err);
    kit_check(bm_trainable_new(&other, p.k.model, &(bm_trainable_options){ .seed = 8 }, &err), &err);
    kit_check(bm_pass_forward(p.pass, p.k.team, same, &s.row, 0, nll, &err), &err);
    kit_check(bm_pass_forward(p.pass, p.k.team, NULL, &s.row, 0, base, &err), &err);
    assert_memory_equal(nll, base, sizeof nll);
    const bm_lora_matrix *m = bm_trainable_matrices(same, &n_matrices), *m2 = bm_trainable_matrices(other, &n_matrices);
    double sum = 0, squares = 0, n = 16 * 64, bound = 1 / sqrt(64);
    for (int i = 0; i < (int)n; i++) {
        assert_true(fabs((double)m[0].a[i]) <= bound);
        sum += (double)m[0].a[i] / n, squares += (double)m[0].a[i] * (double)m[0].a[i] / n;
    }
    assert_true(fabs(sum) < 0.1 * bound && fabs(squares / (bound * bound / 3) - 1) < 0.1);
    assert_true(m[0].rank == 16 && m[0].scale == 2 && memcmp(m[0].a, m2[0].a, (size_t)n * sizeof(float)) != 0);
    bm_trainable_free(same);
    bm_trainable_free(other);
    pass_kit_close(&p);
}

static void expect(int rc, int code, const bm_error *err, const char *part)
{
    assert_int_equal(rc, code);
    if (!strstr(err->msg, part))
        fail_msg("\"%s\" does not say \"%s\"", err->msg, part);
}

static void what_is_wrong_is_refused_by_name(void **state)
{
    pass_kit p;
    pass_kit_options o = { .n_threads = 1, .max_tokens = N, .adapter = { .rank = 2 } };
    bm_error err = { 0 };
    bm_trainable *t = NULL;
    bm_pass *pass = NULL;
    double nll[1200];
    sample s;

    (void)state;
    pass_kit_open_tiny(&p, "llama-yarn", &o);
    bm_pass *q = p.pass;
    sample_init(&s, N, 3);
    expect(bm_pass_backward(q, p.k.team, p.adapter, s.coef, &err), BM_INVALID, &err, "needs a forward");
    s.ids[9] = VOCAB;
    expect(bm_pass_forward(q, p.k.team, p.adapter, &s.row, BM_PASS_KEEP, nll, &err), BM_INVALID, &err, "token 320 at place 9");
    expect(bm_pass_backward(q, p.k.team, p.adapter, s.coef, &err), BM_INVALID, &err, "needs a forward");
    sample_init(&s, N, 3);
    s.starts[2] = s.starts[1];
    expect(bm_pass_forward(q, p.k.team, p.adapter, &s.row, BM_PASS_KEEP, nll, &err), BM_INVALID, &err, "segment 1");
    s.starts[2] = N + 5;
    expect(bm_pass_forward(q, p.k.team, p.adapter, &s.row, BM_PASS_KEEP, nll, &err), BM_INVALID, &err, "segment 1");
    s.starts[0] = 1;
    expect(bm_pass_forward(q, p.k.team, p.adapter, &s.row, BM_PASS_KEEP, nll, &err), BM_INVALID, &err, "the first from token 1");
    sample_init(&s, N + 1, 1);
    expect(bm_pass_forward(q, p.k.team, p.adapter, &s.row, BM_PASS_KEEP, nll, &err), BM_INVALID, &err, "expected 1 to 150");
    sample_init(&s, N, 1);
    kit_check(bm_pass_forward(q, p.k.team, NULL, &s.row, BM_PASS_KEEP, nll, &err), &err);
    expect(bm_pass_backward(q, p.k.team, p.adapter, s.coef, &err), BM_INVALID, &err, "same adapter");
    kit_check(bm_trainable_new(&t, p.k.model, &(bm_trainable_options){ .rank = 3 }, &err), &err);
    expect(bm_pass_forward(q, p.k.team, t, &s.row, BM_PASS_KEEP, nll, &err), BM_INVALID, &err, "rank of 3");
    bm_trainable_free(t);
    expect(bm_trainable_new(&t, p.k.model, &(bm_trainable_options){ .sites = 1u << BM_LORA_SITES }, &err), BM_INVALID, &err, "sites");
    expect(bm_trainable_new(&t, p.k.model, &(bm_trainable_options){ .rank = -1 }, &err), BM_INVALID, &err, "rank is -1");
    expect(bm_trainable_new(&t, p.k.model, &(bm_trainable_options){ .alpha = NAN }, &err), BM_INVALID, &err, "alpha");
    expect(bm_pass_new(&pass, p.k.model, &(bm_pass_options){ .max_tokens = 0, .n_threads = 1 }, &err), BM_INVALID, &err, "0 tokens");
    assert_null(pass);
    pass_kit_close(&p);
}

static void segments_longer_than_the_context_and_memory_that_ends_are_refused(void **state)
{
    pass_kit p;
    pass_kit_options o = { .n_threads = 1, .max_tokens = 1200, .adapter = { .rank = 2 } };
    bm_error err = { 0 };
    bm_trainable *t = NULL;
    bm_pass *pass = NULL;
    double nll[1200];
    sample s;
    long n;

    (void)state;
    pass_kit_open_tiny(&p, "llama-yarn", &o);            /* a context of 1024 */
    sample_init(&s, 1200, 1);
    expect(bm_pass_forward(p.pass, p.k.team, NULL, &s.row, 0, nll, &err), BM_CONTEXT, &err, "1200 tokens");
    for (n = 1; n < 10; n++) {
        bm_mem_fail_at(n);
        if (bm_trainable_new(&t, p.k.model, &(bm_trainable_options){ 0 }, &err) == 0)
            break;
        assert_true(err.code == BM_NOMEM && !t);
    }
    bm_mem_fail_at(0);
    assert_true(n > 4 && n < 10);
    bm_trainable_free(t);
    for (n = 1; n < 10; n++) {
        bm_mem_fail_at(n);
        if (bm_pass_new(&pass, p.k.model, &(bm_pass_options){ .max_tokens = 64, .n_threads = 1 }, &err) == 0)
            break;
        assert_true(err.code == BM_NOMEM && !pass && err.hint[0]);
    }
    bm_mem_fail_at(0);
    assert_true(n == 3);
    bm_pass_free(pass);
    pass_kit_close(&p);
}

static int use_f16(void **state)
{
    (void)state;
    kit_kv_type = BM_KV_F16;
    return 0;
}

int main(void)
{
    const struct CMUnitTest of_f16[] = {
        cmocka_unit_test(any_team_and_recomputing_give_the_same_bits),
        cmocka_unit_test(losses_are_those_of_serving),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_team_and_recomputing_give_the_same_bits),
        cmocka_unit_test(segments_of_a_row_equal_rows_of_their_own),
        cmocka_unit_test(losses_are_those_of_serving),
        cmocka_unit_test(a_fine_pass_is_near_f32),
        cmocka_unit_test(gradients_add_up_and_no_target_adds_none),
        cmocka_unit_test(some_sites_alone_and_short_rows_after_long_ones),
        cmocka_unit_test(a_new_adapter_changes_nothing_and_depends_on_its_seed),
        cmocka_unit_test(what_is_wrong_is_refused_by_name),
        cmocka_unit_test(segments_longer_than_the_context_and_memory_that_ends_are_refused),
    };

    int failed = cmocka_run_group_tests_name("KV in int16", tests, NULL, NULL);
    return failed + cmocka_run_group_tests_name("KV in f16", of_f16, use_f16, NULL);
}
