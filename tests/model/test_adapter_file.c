/* test_adapter_file.c - adapters in PEFT's and llama.cpp's layouts: what is written reads back the same, and what is not carried
 * out, cut short, or made for another base is refused with words that say so. */
#include "adapter_kit.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "model/adapter_file.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/baimo-adapter-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command);
}

static const char *path_of(const char *name)
{
    static char path[4][256];
    static int n;

    n = (n + 1) % 4;
    snprintf(path[n], sizeof path[n], "%s/%s", dir, name);
    return path[n];
}

static void check_same(const bm_model *model, const kit_lora *l, const bm_adapter_file *f)
{
    int64_t in, out;

    assert_int_equal(f->n, l->n);
    for (size_t i = 0; i < l->n; i++) {
        const bm_lora_matrix *x = &l->matrices[i], *y = &f->matrices[i];
        assert_int_equal(x->layer, y->layer);
        assert_int_equal(x->site, y->site);
        assert_int_equal(x->rank, y->rank);
        assert_true(fabsf(x->scale - y->scale) < 1e-6f);
        bm_lora_shape(model, x->layer, x->site, &in, &out);
        assert_memory_equal(x->a, y->a, (size_t)(x->rank * in) * sizeof *x->a);
        assert_memory_equal(x->b, y->b, (size_t)(x->rank * out) * sizeof *x->b);
    }
}

static void what_is_written_reads_back_the_same(void **state)
{
    static const char *const models[] = { "llama", "qwen2", "gemma3" };
    static const unsigned sites[] = { KIT_ALL_SITES, 0x5 };
    bm_adapter_about about = { .base_name = "a base", .settings = "{\"lr\":0.0002}", .version = "1.2.3" }, seen;
    bm_adapter_file f;
    bm_error err;
    kit_lora l;
    kit k;

    (void)state;
    memset(about.base_sha256, 'a', 64);
    memset(about.data_sha256, 'b', 64);
    for (int i = 0; i < 12; i++) {
        bool gguf = i % 2;
        const char *path = path_of(gguf ? "a.gguf" : "peft");
        about.rslora = i % 4 == 2;
        kit_open(&k, models[i % 3], false, 1, 4);
        kit_lora_new(&l, k.model, 6, sites[i / 6], about.rslora ? 1.7f : 2.5f, 0.1f, (uint64_t)i);
        if (i == 10)
            l.n -= 1;            /* a site that not all layers adapt is named in full */
        kit_check(gguf ? bm_adapter_write_gguf(path, k.model, l.matrices, l.n, &about, &err)
                       : bm_adapter_write_peft(path, k.model, l.matrices, l.n, &about, &err), &err);
        assert_int_equal(bm_adapter_file_look(path, &seen, &err), 1);
        kit_check(bm_adapter_file_read(&f, k.model, path, &err), &err);
        check_same(k.model, &l, &f);
        for (const bm_adapter_about *a = &seen; a; a = a == &seen ? &f.about : NULL) {
            assert_string_equal(a->base_name, about.base_name);
            assert_string_equal(a->base_sha256, about.base_sha256);
            assert_string_equal(a->data_sha256, about.data_sha256);
            assert_string_equal(a->settings, about.settings);
            assert_string_equal(a->version, about.version);
        }
        assert_int_equal(f.about.rank, 6);
        bm_adapter_file_done(&f);
        kit_lora_free(&l);
        kit_close(&k);
    }
}

static void ranks_and_alphas_may_differ_in_pefts_layout_only(void **state)
{
    bm_adapter_file f;
    bm_error err;
    kit_lora l;
    kit k;

    (void)state;
    kit_open(&k, "llama", false, 1, 4);
    kit_lora_new(&l, k.model, 6, KIT_ALL_SITES, 2, 0.1f, 1);
    l.matrices[1].rank = 3, l.matrices[2].scale = 0.25f;
    kit_check(bm_adapter_write_peft(path_of("mixed"), k.model, l.matrices, l.n, NULL, &err), &err);
    kit_check(bm_adapter_file_read(&f, k.model, path_of("mixed"), &err), &err);
    check_same(k.model, &l, &f);
    bm_adapter_file_done(&f);
    assert_int_equal(bm_adapter_write_gguf(path_of("mixed.gguf"), k.model, l.matrices, l.n, NULL, &err), BM_UNSUPPORTED);
    assert_int_not_equal(access(path_of("mixed.gguf"), F_OK), 0);
    kit_lora_free(&l);
    kit_close(&k);
}

static void an_adapter_of_other_shapes_is_refused_with_both_named(void **state)
{
    bm_adapter_file f;
    bm_error err;
    kit_lora l;
    kit k, other;

    (void)state;
    kit_open(&k, "llama", false, 1, 4);
    kit_open(&other, "gemma3", false, 1, 4);
    kit_lora_new(&l, k.model, 4, KIT_ALL_SITES, 1, 0.1f, 1);
    kit_check(bm_adapter_write_peft(path_of("wrong"), k.model, l.matrices, l.n, NULL, &err), &err);
    kit_check(bm_adapter_write_gguf(path_of("wrong.gguf"), k.model, l.matrices, l.n, NULL, &err), &err);
    assert_int_equal(bm_adapter_file_read(&f, other.model, path_of("wrong"), &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "expected ["));
    assert_non_null(strstr(err.msg, "another base"));
    assert_int_equal(bm_adapter_file_read(&f, other.model, path_of("wrong.gguf"), &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "the base is gemma3"));
    kit_lora_free(&l);
    kit_close(&k);
    kit_close(&other);
}

static void write_bytes(const char *name, const void *bytes, size_t len)
{
    FILE *f = fopen(path_of(name), "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

static void what_is_not_carried_out_is_refused_in_words(void **state)
{
    static const struct { const char *config, *words; int rc; } cases[] = {
        { "{\"lora_alpha\":8,\"bias\":\"all\"}", "trained biases", BM_UNSUPPORTED },
        { "{\"lora_alpha\":8,\"use_dora\":true}", "DoRA", BM_UNSUPPORTED },
        { "{\"lora_alpha\":8,\"modules_to_save\":[\"lm_head\"]}", "modules_to_save", BM_UNSUPPORTED },
        { "{\"lora_alpha\":8,\"init_lora_weights\":\"pissa\"}", "changed the base", BM_UNSUPPORTED },
        { "{\"lora_alpha\":8,\"peft_type\":\"IA3\"}", "peft_type", BM_UNSUPPORTED },
        { "{\"lora_alpha\":8,\"alpha_pattern\":{\".*q_proj\":4}}", "regular expression", BM_UNSUPPORTED },
        { "{\"lora_alpha\":\"8\"}", "no lora_alpha", BM_FORMAT },
        { "{\"lora_alpha\":1e99}", "no lora_alpha", BM_FORMAT },
        { "[]", "no JSON object", BM_FORMAT },
        { "{\"lora_alpha\":8", "no JSON object", BM_FORMAT },
        { "{\"lora_alpha\":8,\"lora_alpha\":9}", "duplicate", BM_FORMAT },
    };
    bm_adapter_file f;
    bm_error err;
    kit_lora l;
    kit k;

    (void)state;
    kit_open(&k, "llama", false, 1, 4);
    kit_lora_new(&l, k.model, 4, KIT_ALL_SITES, 1, 0.1f, 1);
    kit_check(bm_adapter_write_peft(path_of("refused"), k.model, l.matrices, l.n, NULL, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_bytes("refused/adapter_config.json", cases[i].config, strlen(cases[i].config));
        assert_int_equal(bm_adapter_file_read(&f, k.model, path_of("refused"), &err), cases[i].rc);
        if (!strstr(err.msg, cases[i].words))
            fail_msg("%s: expected \"%s\"", err.msg, cases[i].words);
        assert_null(f.values);
    }
    kit_lora_free(&l);
    kit_close(&k);
}

/* Every truncation, and every byte of the header changed: an error or the same shapes, never a read outside. */
static void damaged_tensors_are_refused_or_harmless(void **state)
{
    static const char *const files[] = { "hurt/adapter_model.safetensors", "hurt.gguf" };
    bm_adapter_file f;
    bm_error err;
    kit_lora l;
    kit k;

    (void)state;
    kit_open(&k, "llama", false, 1, 4);
    kit_lora_new(&l, k.model, 1, 1, 1, 0.1f, 1);
    kit_check(bm_adapter_write_peft(path_of("hurt"), k.model, l.matrices, l.n, NULL, &err), &err);
    kit_check(bm_adapter_write_gguf(path_of("hurt.gguf"), k.model, l.matrices, l.n, NULL, &err), &err);
    for (int i = 0; i < 2; i++) {
        char *bytes;
        size_t len;
        kit_check(bm_read_file(&bytes, &len, path_of(files[i]), 1 << 24, &err), &err);
        for (size_t cut = 0; cut < len; cut += cut < 1500 ? 7 : 101) {
            write_bytes(files[i], bytes, cut);
            assert_true(bm_adapter_file_read(&f, k.model, path_of(i ? "hurt.gguf" : "hurt"), &err) < 0);
        }
        for (size_t at = 0; at < 900; at += 3) {
            bytes[at] ^= (char)(1 << at % 8);
            write_bytes(files[i], bytes, len);
            bm_adapter_file_read(&f, k.model, path_of(i ? "hurt.gguf" : "hurt"), &err);
            bm_adapter_file_done(&f);
            bytes[at] ^= (char)(1 << at % 8);
        }
        bm_free(bytes);
    }
    kit_lora_free(&l);
    kit_close(&k);
}

static void a_model_and_a_plain_directory_are_no_adapters(void **state)
{
    bm_error err;

    (void)state;
    assert_int_equal(bm_adapter_file_look(KIT_DIR "llama.gguf", NULL, &err), 0);
    assert_int_equal(bm_adapter_file_look(KIT_DIR, NULL, &err), 0);
    assert_int_equal(bm_adapter_file_look("no such path", NULL, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back_the_same),
        cmocka_unit_test(ranks_and_alphas_may_differ_in_pefts_layout_only),
        cmocka_unit_test(an_adapter_of_other_shapes_is_refused_with_both_named),
        cmocka_unit_test(what_is_not_carried_out_is_refused_in_words),
        cmocka_unit_test(damaged_tensors_are_refused_or_harmless),
        cmocka_unit_test(a_model_and_a_plain_directory_are_no_adapters),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
