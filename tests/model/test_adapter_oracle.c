/* test_adapter_oracle.c - adapters that PEFT made and saved (tests/oracle/adapters/make.py) give PEFT's logits: the same bounds as for
 * models alone (test_oracle.c). Both ways of naming ranks and alphas, rsLoRA, and layers without any; and the same adapters after
 * a way through llama.cpp's GGUF layout. */
#include <unistd.h>

#include "model/adapter_file.h"
#include "model/lora.h"
#include "vectors.h"

#define DIR "tests/oracle/adapters/"

static float *run_adapted(const char *base, const char *adapter_path, const vectors *v, bool f32, const char *copy)
{
    bm_adapter_file file;
    bm_adapter *adapter;
    bm_error err = { 0 };
    float *out = malloc((size_t)v->n_rows * (size_t)v->n_vocab * sizeof *out);
    kit_seq s;
    kit k;

    kit_open(&k, base, f32, 2, v->n_tokens);
    kit_check(bm_adapter_file_read(&file, k.model, adapter_path, &err), &err);
    if (copy != NULL)
        kit_check(bm_adapter_write_gguf(copy, k.model, file.matrices, file.n, &file.about, &err), &err);
    kit_check(bm_adapter_new(&adapter, k.model, file.matrices, file.n, &err), &err);
    kit_seq_new(&s, k.model, v->n_tokens, 1);
    bm_run run = { .tokens = v->ids, .n_tokens = v->n_tokens, .kv = &s.kv, .adapter = adapter };
    kit_check(bm_model_forward(k.model, k.step, k.team, &run, 1, &err), &err);
    kit_check(bm_model_logits(k.model, k.step, k.team, v->rows, v->n_rows, out, &err), &err);
    kit_seq_free(&s);
    bm_adapter_free(adapter);
    bm_adapter_file_done(&file);
    kit_close(&k);
    return out;
}

static void check(const char *base, const char *name, bool through_gguf)
{
    char path[128], copy[64] = "/tmp/baimo-adapter-XXXXXX";
    vectors v;

    snprintf(path, sizeof path, DIR "%s", name);
    read_vectors(&v, path);
    if (through_gguf)
        close(mkstemp(copy));
    float *exact = run_adapted(base, path, &v, true, through_gguf ? copy : NULL);
    float *fast = run_adapted(base, through_gguf ? copy : path, &v, false, NULL);
    if (through_gguf) {
        free(exact);
        exact = run_adapted(base, copy, &v, true, NULL);
        unlink(copy);
    }
    double difference = relative_difference(exact, v.logits, (int64_t)v.n_rows * v.n_vocab), kl = mean_kl(fast, v.logits, &v);
    print_message("%-13s f32: %.2e of the largest logit; fast: mean KL %.2e\n", name, difference, kl);
    if (!(difference <= 1e-4))
        fail_msg("%s: f32 differs by %g of the largest logit, at most 1e-4", name, difference);
    if (!(kl <= 2e-3))
        fail_msg("%s: the fast path's mean KL is %g, at most 2e-3", name, kl);
    free(exact);
    free(fast);
    free_vectors(&v);
}

static void ranks_and_alphas_by_pattern_on_permuted_heads_equal_peft(void **state) { (void)state; check("llama", "llama", false); }
static void rslora_on_some_maps_equals_peft(void **state) { (void)state; check("qwen2", "qwen2-rslora", false); }
static void an_adapter_of_some_layers_equals_peft(void **state) { (void)state; check("gemma3", "gemma3", false); }
static void the_way_through_gguf_changes_nothing(void **state) { (void)state; check("qwen2", "qwen2-rslora", true); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_and_alphas_by_pattern_on_permuted_heads_equal_peft),
        cmocka_unit_test(rslora_on_some_maps_equals_peft),
        cmocka_unit_test(an_adapter_of_some_layers_equals_peft),
        cmocka_unit_test(the_way_through_gguf_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
