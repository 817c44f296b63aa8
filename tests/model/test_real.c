/* test_real.c - SmolLM2-135M-Instruct (Q4_1) itself, when it has been downloaded: it answers, and the numeric contract holds at
 * real sizes. Without the file in $BAIMO_MODELS (default $HOME/.cache/baimo-models) the tests are skipped. */
#include "model_kit.h"

#include <unistd.h>

/* "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n" */
static const int32_t question[] = { 1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198 };
static const int32_t answer[] = { 504, 3575, 282, 4649, 314, 7042, 30, 2 };      /* "The capital of France is Paris.<|im_end|>" */
enum { N_QUESTION = sizeof question / sizeof *question, N_ANSWER = sizeof answer / sizeof *answer, N_MAX = 160 };

static bool open_smollm2(kit *k, bool f32, bm_isa isa, int n_threads)
{
    char path[512];
    const char *dir = getenv("BAIMO_MODELS"), *home = getenv("HOME");

    snprintf(path, sizeof path, "%s%s/smollm2.gguf", dir ? dir : home ? home : "", dir ? "" : "/.cache/baimo-models");
    if (access(path, R_OK) != 0)
        return false;
    kit_open_path(k, path, f32, isa, n_threads, N_MAX);
    return true;
}

static int32_t best(const float *logits, int n)
{
    int32_t at = 0;

    for (int32_t i = 1; i < n; i++)
        at = logits[i] > logits[at] ? i : at;
    return at;
}

static void check_answer(bool f32)
{
    int32_t ids[N_QUESTION + N_ANSWER];
    kit k;
    kit_seq s;

    if (!open_smollm2(&k, f32, kit_isa(), 2)) {
        skip();
        return;
    }
    int v = bm_model_get_info(k.model)->n_vocab;
    float *logits = malloc((size_t)v * sizeof *logits);
    kit_seq_new(&s, k.model, N_MAX, 1);
    memcpy(ids, question, sizeof question);
    kit_run(&k, &s, ids, 0, N_QUESTION, 1, logits);
    for (int i = 0; i < N_ANSWER; i++) {
        ids[N_QUESTION + i] = best(logits, v);
        assert_int_equal(ids[N_QUESTION + i], answer[i]);
        kit_run(&k, &s, ids, N_QUESTION + i, 1, 1, logits);
    }
    free(logits);
    kit_seq_free(&s);
    kit_close(&k);
}

static void the_capital_of_france_is_paris(void **state) { (void)state; check_answer(false); }
static void the_capital_of_france_is_paris_in_f32_too(void **state) { (void)state; check_answer(true); }

/* Logits of the last tokens of the same ids, in other cuts, on other threads and instruction sets. */
static void bits_do_not_depend_on_how_the_work_is_cut(void **state)
{
    enum { LAST = 40 };
    static const struct { int n_threads, chunk; bool avx2; } ways[] = { { 2, N_MAX, false }, { 1, 64, false }, { 3, 33, true } };
    int32_t ids[N_MAX];
    float *first = NULL, *logits[2];
    bm_cpu cpu;
    kit k;
    kit_seq s;

    (void)state;
    bm_cpu_detect(&cpu);
    for (int i = 0; i < N_MAX; i++)
        ids[i] = 100 + i * 301 % 40000;
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        bm_isa isa = ways[w].avx2 && bm_isa_usable(&cpu, BM_ISA_AVX2) ? BM_ISA_AVX2 : kit_isa();
        if (!open_smollm2(&k, false, isa, ways[w].n_threads)) {
            skip();
            return;
        }
        size_t v = (size_t)bm_model_get_info(k.model)->n_vocab;
        logits[w > 0] = malloc(LAST * v * sizeof(float));
        kit_seq_new(&s, k.model, N_MAX, 1);
        for (int at = 0; at < N_MAX - LAST; at += ways[w].chunk)
            kit_run(&k, &s, ids, at, N_MAX - LAST - at < ways[w].chunk ? N_MAX - LAST - at : ways[w].chunk, 0, NULL);
        kit_run(&k, &s, ids, N_MAX - LAST, LAST, LAST, logits[w > 0]);
        if (w == 0)
            first = logits[0];
        else if (memcmp(first, logits[1], LAST * v * sizeof(float)) != 0)
            fail_msg("way %zu gives other bits", w);
        if (w > 0)
            free(logits[1]);
        kit_seq_free(&s);
        kit_close(&k);
    }
    free(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_capital_of_france_is_paris),
        cmocka_unit_test(the_capital_of_france_is_paris_in_f32_too),
        cmocka_unit_test(bits_do_not_depend_on_how_the_work_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
