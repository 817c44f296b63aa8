/* test_merge.c - a base with an adapter merged gives what the adapter gives mounted; types that are written load and stay near. */
#include <unistd.h>

#include "adapter_kit.h"
#include "model/merge.h"

enum { N = 60, V = 320 };

static void run(kit *k, const bm_adapter *adapter, float *out)
{
    bm_error err = { 0 };
    int32_t ids[N], rows[N];
    kit_seq s;

    for (int32_t i = 0; i < N; i++)
        ids[i] = 3 + i * 37 % (V - 3), rows[i] = i;
    kit_seq_new(&s, k->model, N, 1);
    bm_run r = { .tokens = ids, .n_tokens = N, .kv = &s.kv, .adapter = adapter };
    kit_check(bm_model_forward(k->model, k->step, k->team, &r, 1, &err), &err);
    kit_check(bm_model_logits(k->model, k->step, k->team, rows, N, out, &err), &err);
    kit_seq_free(&s);
}

/* The largest difference over the largest logit. */
static double difference(const float *a, const float *b)
{
    double most = 0, largest = 0;

    for (int i = 0; i < N * V; i++) {
        most = fmax(most, fabs((double)a[i] - b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return most / largest;
}

static void merged_equals_mounted(void **state)
{
    static const struct { const char *base; bm_qtype type; double bound; } cases[] = {
        { "llama", BM_F32, 1e-5 }, { "qwen2", BM_F32, 1e-5 }, { "gemma3", BM_F32, 1e-5 },       /* fp32 sums in another order */
        { "llama", BM_F16, 5e-3 }, { "llama", BM_BF16, 4e-2 }, { "llama", BM_Q8_0, 5e-2 }, { "qwen2", BM_Q4_1, 0.7 }, { "llama", BM_Q4_0, 0.7 },
    };
    static float mounted[N * V], merged[N * V], base[N * V];
    char path[] = "/tmp/baimo-merged-XXXXXX";
    bm_error err = { 0 };

    (void)state;
    close(mkstemp(path));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bm_merge_options options = { .type = cases[i].type };
        bm_adapter *adapter;
        kit_lora l;
        kit k;
        kit_open(&k, cases[i].base, true, 2, N);
        kit_lora_new(&l, k.model, 5, KIT_ALL_SITES, 1.5f, 0.2f, i + 1);
        kit_check(bm_adapter_new(&adapter, k.model, l.matrices, l.n, &err), &err);
        run(&k, NULL, base);
        run(&k, adapter, mounted);
        kit_check(bm_merge_write(path, k.gguf, k.model, l.matrices, l.n, &options, k.team, &err), &err);
        bm_adapter_free(adapter);
        kit_lora_free(&l);
        kit_close(&k);
        kit_open_path(&k, path, true, kit_isa(), 2, N);
        run(&k, NULL, merged);
        const bm_gguf_tensor *t = bm_gguf_find_tensor(k.gguf, "blk.0.attn_q.weight");
        assert_int_equal(t->type, cases[i].type);
        kit_close(&k);
        double d = difference(merged, mounted), all = difference(base, mounted);
        print_message("%s as %s: %.2e of the largest logit; the adapter itself %.2e\n", cases[i].base,
                      bm_qtype_name((uint32_t)cases[i].type), d, all);
        if (!(d <= cases[i].bound))
            fail_msg("%s as %s: %g, at most %g", cases[i].base, bm_qtype_name((uint32_t)cases[i].type), d, cases[i].bound);
        if (!(all > 0.1))
            fail_msg("%s: the adapter changes too little (%g) to prove anything", cases[i].base, all);
    }
    unlink(path);
}

static bool cancel(void *arg, uint64_t done, uint64_t total)
{
    (void)arg, (void)total;
    return done < 3;
}

static void a_canceled_merge_leaves_no_file(void **state)
{
    bm_merge_options options = { .type = BM_Q8_0, .progress = cancel };
    char dir[] = "/tmp/baimo-merge-XXXXXX", path[64];
    bm_error err;
    kit_lora l;
    kit k;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.gguf", dir);
    kit_open(&k, "llama", false, 1, 4);
    kit_lora_new(&l, k.model, 2, 1, 1, 0.1f, 1);
    assert_int_equal(bm_merge_write(path, k.gguf, k.model, l.matrices, l.n, &options, k.team, &err), BM_CANCELED);
    assert_int_equal(rmdir(dir), 0);
    kit_lora_free(&l);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_equals_mounted),
        cmocka_unit_test(a_canceled_merge_leaves_no_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
