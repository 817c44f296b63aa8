/* test_adapter.c - adapters in the forward pass: each token gets its own adapter's change and nobody else's, bit for bit the
 * same alone, in any batch, in any cut, on any threads and instruction set; and what an adapter may not be. */
#include "adapter_kit.h"

#include <stdatomic.h>

enum { N = 100, V = 320 };

static const char *const models[] = { "llama", "qwen2", "gemma3" };
enum { N_MODELS = sizeof models / sizeof *models };

static void make_ids(int32_t *ids, int n, uint32_t seed)
{
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)(seed >> 8) % V;
    }
}

/* All of ids in chunks, with an adapter. */
static void run(kit *k, const bm_adapter *adapter, const int32_t *ids, int n, int chunk, float *out)
{
    bm_error err = { 0 };
    kit_seq s;

    kit_seq_new(&s, k->model, n, 1);
    for (int at = 0; at < n; at += chunk) {
        int len = n - at < chunk ? n - at : chunk;
        bm_run r = { .tokens = ids + at, .n_tokens = len, .start = at, .kv = &s.kv, .adapter = adapter };
        kit_check(bm_model_forward(k->model, k->step, k->team, &r, 1, &err), &err);
        for (int32_t i = 0; i < len; i++)
            kit_check(bm_model_logits(k->model, k->step, k->team, &i, 1, out + (int64_t)(at + i) * V, &err), &err);
    }
    kit_seq_free(&s);
}

static void check_equal(const float *a, const float *b, int n_rows, const char *model, const char *what, int how)
{
    for (int r = 0; r < n_rows; r++)
        if (memcmp(a + (int64_t)r * V, b + (int64_t)r * V, V * sizeof *a) != 0)
            fail_msg("%s: %s %d: logits of token %d differ", model, what, how, r);
}

static void bits_do_not_depend_on_chunks_threads_or_instruction_set(void **state)
{
    static const int chunks[] = { N, 1, 3, 5, 33, 70 };
    static float first[N * V], other[N * V];
    int32_t ids[N];
    bm_cpu cpu;
    kit k;

    (void)state;
    bm_cpu_detect(&cpu);
    make_ids(ids, N, 1);
    for (int i = 0; i < 2 * N_MODELS; i++)
        for (int isa = BM_ISA_REF, way = 0; isa < BM_ISA_COUNT; isa++) {
            if (!bm_isa_usable(&cpu, (bm_isa)isa))
                continue;
            for (int threads = 1; threads <= 3; threads++, way++) {
                kit_open_isa(&k, models[i / 2], i % 2, (bm_isa)isa, threads, N);
                bm_adapter *a = kit_adapter(k.model, 5, KIT_ALL_SITES, 1.7f, 0.1f, 7);
                run(&k, a, ids, N, way == 0 ? N : chunks[way % 6], way == 0 ? first : other);
                if (way > 0)
                    check_equal(first, other, N, models[i / 2], bm_isa_name((bm_isa)isa), threads);
                bm_adapter_free(a);
                kit_close(&k);
            }
        }
}

/* Six sequences, of which two have adapter A, two B and two none, in one batch of prompts and then of single tokens. */
static void batched_with_other_adapters_equals_alone(void **state)
{
    enum { SEQS = 6, LEN = 40, PROMPT = 25 };
    static float alone[SEQS][LEN * V], row[V];
    int32_t ids[SEQS][LEN];
    bm_error err = { 0 };
    kit k;

    (void)state;
    for (int i = 0; i < 2 * N_MODELS; i++) {
        kit_open(&k, models[i / 2], i % 2, 2, SEQS * PROMPT);
        bm_adapter *a[3] = { NULL, kit_adapter(k.model, 4, KIT_ALL_SITES, 2, 0.1f, 3), kit_adapter(k.model, 20, 0x45, 0.5f, 0.1f, 4) };
        kit_seq s[SEQS];
        for (int q = 0; q < SEQS; q++) {
            make_ids(ids[q], LEN, (uint32_t)(50 + q));
            run(&k, a[q % 3], ids[q], LEN, LEN, alone[q]);
            kit_seq_new(&s[q], k.model, LEN, 1);
        }
        for (int at = 0; at < LEN; at += at == 0 ? PROMPT : 1) {
            bm_run runs[SEQS];
            int n = at == 0 ? PROMPT : 1;
            for (int q = 0; q < SEQS; q++)
                runs[q] = (bm_run){ .tokens = ids[q] + at, .n_tokens = n, .start = at, .kv = &s[q].kv, .adapter = a[q % 3] };
            kit_check(bm_model_forward(k.model, k.step, k.team, runs, SEQS, &err), &err);
            for (int32_t r = 0; r < SEQS * n; r++) {
                kit_check(bm_model_logits(k.model, k.step, k.team, &r, 1, row, &err), &err);
                check_equal(alone[r / n] + (int64_t)(at + r % n) * V, row, 1, models[i / 2], "sequence", r / n);
            }
        }
        for (int q = 0; q < SEQS; q++)
            kit_seq_free(&s[q]);
        bm_adapter_free(a[1]);
        bm_adapter_free(a[2]);
        kit_close(&k);
    }
}

/* Prompts of which none, some, all but one or all rows are read, with and without adapters: what is read, and what follows. */
static void unread_rows_are_refused_and_change_no_other(void **state)
{
    enum { SEQS = 6, PROMPT = 25, LEN = PROMPT + 1 };
    static const int unread[SEQS] = { PROMPT, PROMPT - 1, 0, 7, PROMPT, PROMPT - 1 };
    static float alone[SEQS][LEN * V], row[V];
    int32_t ids[SEQS][LEN];
    bm_error err = { 0 };
    kit k;

    (void)state;
    for (int i = 0; i < 4 * N_MODELS; i++) {
        bool all = i % 4 > 1;            /* nobody reads anything */
        kit_open(&k, models[i / 4], i % 2, 3, SEQS * PROMPT);
        bm_adapter *a[3] = { NULL, kit_adapter(k.model, 4, KIT_ALL_SITES, 2, 0.1f, 3), kit_adapter(k.model, 20, 0x45, 0.5f, 0.1f, 4) };
        kit_seq s[SEQS];
        bm_run runs[SEQS];
        for (int q = 0; q < SEQS; q++) {
            make_ids(ids[q], LEN, (uint32_t)(50 + q));
            run(&k, a[q % 3], ids[q], LEN, LEN, alone[q]);
            kit_seq_new(&s[q], k.model, LEN, 1);
            runs[q] = (bm_run){ .tokens = ids[q], .n_tokens = PROMPT, .n_unread = all ? PROMPT : unread[q], .kv = &s[q].kv,
                                .adapter = a[q % 3] };
        }
        kit_check(bm_model_forward(k.model, k.step, k.team, runs, SEQS, &err), &err);
        for (int32_t r = 0; r < SEQS * PROMPT; r++)
            if (r % PROMPT < runs[r / PROMPT].n_unread) {
                assert_null(bm_step_hidden(k.step, r));
                assert_int_equal(bm_model_logits(k.model, k.step, k.team, &r, 1, row, &err), BM_INVALID);
            } else {
                kit_check(bm_model_logits(k.model, k.step, k.team, &r, 1, row, &err), &err);
                check_equal(alone[r / PROMPT] + (int64_t)(r % PROMPT) * V, row, 1, models[i / 4], "sequence", r / PROMPT);
            }
        for (int q = 0; q < SEQS; q++)
            runs[q] = (bm_run){ .tokens = ids[q] + PROMPT, .n_tokens = 1, .start = PROMPT, .kv = &s[q].kv, .adapter = a[q % 3] };
        kit_check(bm_model_forward(k.model, k.step, k.team, runs, SEQS, &err), &err);
        for (int32_t q = 0; q < SEQS; q++) {
            kit_check(bm_model_logits(k.model, k.step, k.team, &q, 1, row, &err), &err);
            check_equal(alone[q] + (int64_t)PROMPT * V, row, 1, models[i / 4], "after", q);
            kit_seq_free(&s[q]);
        }
        bm_adapter_free(a[1]);
        bm_adapter_free(a[2]);
        kit_close(&k);
    }
}

static void an_adapter_of_zeros_changes_nothing_and_others_do(void **state)
{
    static float base[N * V], with[N * V];
    int32_t ids[N];
    kit k;

    (void)state;
    make_ids(ids, N, 2);
    for (int i = 0; i < 2 * N_MODELS; i++) {
        kit_open(&k, models[i / 2], i % 2, 2, N);
        run(&k, NULL, ids, N, N, base);
        bm_adapter *zero = kit_adapter(k.model, 8, KIT_ALL_SITES, 2, 0, 5);
        run(&k, zero, ids, N, N, with);
        check_equal(base, with, N, models[i / 2], "zeros", 0);
        for (int site = 0; site < BM_LORA_SITES; site++) {
            bm_adapter *one = kit_adapter(k.model, 8, 1u << site, 2, 0.1f, 5);
            run(&k, one, ids, N, N, with);
            if (memcmp(base + (N - 1) * V, with + (N - 1) * V, V * sizeof *base) == 0)
                fail_msg("%s: an adapter of %s changes nothing", models[i / 2], bm_lora_hf_name((bm_lora_site)site));
            bm_adapter_free(one);
        }
        bm_adapter_free(zero);
        run(&k, NULL, ids, N, N, with);
        check_equal(base, with, N, models[i / 2], "the base after adapters", 0);
        kit_close(&k);
    }
}

static void the_hash_is_of_the_content(void **state)
{
    kit k;

    (void)state;
    kit_open(&k, "llama", false, 1, 4);
    bm_adapter *a = kit_adapter(k.model, 8, KIT_ALL_SITES, 2, 0.1f, 5), *same = kit_adapter(k.model, 8, KIT_ALL_SITES, 2, 0.1f, 5);
    bm_adapter *others[] = { kit_adapter(k.model, 8, KIT_ALL_SITES, 2, 0.1f, 6), kit_adapter(k.model, 8, KIT_ALL_SITES, 2.5f, 0.1f, 5),
                             kit_adapter(k.model, 8, 3, 2, 0.1f, 5), kit_adapter(k.model, 7, KIT_ALL_SITES, 2, 0.1f, 5) };
    assert_memory_equal(bm_adapter_hash(a), bm_adapter_hash(same), 32);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_memory_not_equal(bm_adapter_hash(a), bm_adapter_hash(others[i]), 32);
        bm_adapter_free(others[i]);
    }
    bm_adapter_free(a);
    bm_adapter_free(same);
    kit_close(&k);
}

static int refused(const bm_model *model, const bm_lora_matrix *m, size_t n, bm_error *err)
{
    bm_adapter *a = (bm_adapter *)err;
    int rc = bm_adapter_new(&a, model, m, n, err);

    assert_null(a);
    return rc;
}

static void what_does_not_fit_is_refused(void **state)
{
    bm_error err;
    kit_lora l;
    kit k;

    (void)state;
    kit_open(&k, "llama", false, 1, 4);
    kit_lora_new(&l, k.model, 4, KIT_ALL_SITES, 1, 0.1f, 1);
    assert_int_equal(refused(k.model, l.matrices, 0, &err), BM_INVALID);
    bm_lora_matrix m[2] = { l.matrices[0], l.matrices[0] };
    assert_int_equal(refused(k.model, m, 2, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "layer 0 self_attn.q_proj is changed twice"));
    m[0].layer = 99;
    assert_int_equal(refused(k.model, m, 1, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "layer 99"));
    m[0] = m[1], m[0].rank = BM_LORA_MAX_RANK + 1;
    assert_int_equal(refused(k.model, m, 1, &err), BM_UNSUPPORTED);
    m[0] = m[1], m[0].scale = NAN;
    assert_int_equal(refused(k.model, m, 1, &err), BM_INVALID);
    l.values[3] = INFINITY;
    assert_int_equal(refused(k.model, l.matrices, l.n, &err), BM_FORMAT);
    assert_non_null(strstr(err.msg, "not finite"));
    kit_lora_free(&l);
    kit_close(&k);
}

static void an_adapter_of_another_model_is_refused_in_a_step(void **state)
{
    bm_error err = { 0 };
    int32_t id = 1;
    kit k, other;
    kit_seq s;

    (void)state;
    kit_open(&k, "llama", false, 1, 4);
    kit_open(&other, "qwen2", false, 1, 4);
    bm_adapter *a = kit_adapter(other.model, 4, KIT_ALL_SITES, 1, 0.1f, 1);
    kit_seq_new(&s, k.model, 1, 1);
    bm_run r = { .tokens = &id, .n_tokens = 1, .kv = &s.kv, .adapter = a };
    assert_int_equal(bm_model_forward(k.model, k.step, k.team, &r, 1, &err), BM_INVALID);
    bm_adapter_free(a);
    kit_seq_free(&s);
    kit_close(&k);
    kit_close(&other);
}

/* Every allocation of bm_adapter_new fails once. */
static void no_memory_is_an_error_not_a_leak(void **state)
{
    bm_error err;
    bm_adapter *a;
    kit_lora l;
    kit k;
    int rc = BM_NOMEM;

    (void)state;
    kit_open(&k, "llama", false, 1, 4);
    kit_lora_new(&l, k.model, 4, KIT_ALL_SITES, 1, 0.1f, 1);
    for (long n = 1; rc < 0; n++) {
        bm_mem_fail_at(n);
        rc = bm_adapter_new(&a, k.model, l.matrices, l.n, &err);
        if (rc < 0) {
            assert_int_equal(rc, BM_NOMEM);
            assert_null(a);
        }
    }
    bm_mem_fail_at(0);
    bm_adapter_free(a);
    kit_lora_free(&l);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_chunks_threads_or_instruction_set),
        cmocka_unit_test(batched_with_other_adapters_equals_alone),
        cmocka_unit_test(unread_rows_are_refused_and_change_no_other),
        cmocka_unit_test(an_adapter_of_zeros_changes_nothing_and_others_do),
        cmocka_unit_test(the_hash_is_of_the_content),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(an_adapter_of_another_model_is_refused_in_a_step),
        cmocka_unit_test(no_memory_is_an_error_not_a_leak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
