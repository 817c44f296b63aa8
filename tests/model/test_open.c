/* test_open.c - opening a model: what the plan says, what a damaged or foreign file gets, and what happens without memory. */
#include "model_kit.h"

#include <unistd.h>

#include "base/file.h"
#include "model/arch.h"

typedef struct file { char *bytes; size_t len; } file;

static file read_model(const char *name)
{
    char path[256];
    bm_error err;
    file f;

    snprintf(path, sizeof path, KIT_DIR "%s.gguf", name);
    kit_check(bm_read_file(&f.bytes, &f.len, path, 16 << 20, &err), &err);
    return f;
}

/* The n-th place (from 0) of a GGUF string: its length as u64, then its bytes. Returns what follows it. */
static char *after_string(file *f, const char *s)
{
    size_t len = strlen(s);

    for (size_t i = 8; i + len < f->len; i++) {
        uint64_t said;
        memcpy(&said, f->bytes + i - 8, 8);
        if (said == len && memcmp(f->bytes + i, s, len) == 0)
            return f->bytes + i + len;
    }
    fail_msg("%s is not in the file", s);
    return NULL;
}

/* A key's value stands after its type (u32); a tensor's dimensions after their number (u32). */
static void set_u32(file *f, const char *name, uint32_t value) { memcpy(after_string(f, name) + 4, &value, 4); }
static void set_f32(file *f, const char *name, float value) { memcpy(after_string(f, name) + 4, &value, 4); }
static void set_type(file *f, const char *name, uint32_t type) { memcpy(after_string(f, name), &type, 4); }
static void rename_to(file *f, const char *name, const char *to) { memcpy(after_string(f, name) - strlen(name), to, strlen(name)); }

static void swap_dims(file *f, const char *tensor)
{
    uint64_t dims[2], swapped[2];

    memcpy(dims, after_string(f, tensor) + 4, 16);
    swapped[0] = dims[1], swapped[1] = dims[0];
    memcpy(after_string(f, tensor) + 4, swapped, 16);
}

static int open_bytes(const file *f, bool load, long fail_at, bm_error *err)
{
    char path[] = "/tmp/baimo_test_open_XXXXXX";
    bm_gguf *gguf = NULL;
    bm_model *model = NULL;
    bm_team *team = NULL;
    bm_model_info info;
    bm_model_options options = { .kv_type = BM_KV_INT16, .isa = kit_isa() };
    int rc, fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, f->bytes, f->len), f->len);
    close(fd);
    kit_check(bm_team_new(&team, 2, err), err);
    if ((rc = bm_gguf_open(&gguf, path, err)) == 0) {
        bm_mem_fail_at(fail_at);
        rc = bm_model_plan(&info, gguf, &options, err);
        if (rc == 0 && load)
            rc = bm_model_open(&model, gguf, &options, team, err);
        bm_mem_fail_at(0);
        assert_true(rc == 0 || model == NULL);
    }
    bm_model_close(model);
    bm_gguf_close(gguf);
    bm_team_free(team);
    unlink(path);
    return rc;
}

/* Refused with `code`, in one line that has the file's name and each of the words. */
static void expect_refused(file *f, int code, const char *one, const char *two)
{
    bm_error err = { 0 };
    int rc = open_bytes(f, true, 0, &err);

    if (rc != code || !strstr(err.msg, "/baimo_test_open_") || !strstr(err.msg, one) || !strstr(err.msg, two) ||
        strchr(err.msg, '\n'))
        fail_msg("expected %s with \"%s\" and \"%s\", got %s: %s", bm_error_name(code), one, two, bm_error_name(rc), err.msg);
    bm_free(f->bytes);
}

static void the_plan_says_what_the_model_takes(void **state)
{
    bm_error err = { 0 };
    bm_gguf *gguf;
    bm_model_info info;
    bm_model_options options = { .kv_type = BM_KV_INT16, .isa = BM_ISA_REF };
    kit k;

    (void)state;
    kit_check(bm_gguf_open(&gguf, KIT_DIR "gemma3.gguf", &err), &err);
    kit_check(bm_model_plan(&info, gguf, &options, &err), &err);
    bm_gguf_close(gguf);
    assert_string_equal(info.arch, "gemma3");
    assert_string_equal(info.quantization, "Q8_0");
    assert_int_equal(info.n_layers, 7);
    assert_int_equal(info.head_dim, 32);
    assert_int_equal(info.n_groups, 2);
    assert_int_equal(info.groups[0].window, 32);
    assert_int_equal(info.groups[0].n_layers, 6);
    assert_int_equal(info.groups[1].window, 0);
    assert_int_equal(info.groups[1].page_bytes, 64 * (64 * 2 + 2 * 4));
    assert_in_range(info.packed_bytes, info.file_bytes / 2, info.file_bytes);
    kit_open(&k, "gemma3", false, 1, 8);
    assert_memory_equal(&info, bm_model_get_info(k.model), sizeof info);
    kit_close(&k);
    kit_open(&k, "gemma3", true, 1, 8);
    assert_int_equal(bm_model_get_info(k.model)->groups[1].page_bytes, 64 * 64 * 4);
    assert_true(bm_model_get_info(k.model)->packed_bytes > 3 * info.packed_bytes);
    kit_close(&k);
}

static void the_model_outlives_its_file(void **state)
{
    int32_t ids[5] = { 1, 2, 3, 4, 5 };
    float before[320], after[320];
    kit k;
    kit_seq s;

    (void)state;
    kit_open(&k, "qwen2", false, 2, 8);
    kit_seq_new(&s, k.model, 8, 1);
    kit_run(&k, &s, ids, 0, 5, 1, before);
    bm_gguf_close(k.gguf);
    k.gguf = NULL;
    kit_run(&k, &s, ids, 0, 5, 1, after);
    assert_memory_equal(before, after, sizeof before);
    kit_seq_free(&s);
    kit_close(&k);
}

static void every_row_is_listed(void **state)
{
    const char *const *names = bm_model_archs();
    int n = 0;

    (void)state;
    for (; names[n]; n++)
        assert_string_equal(names[n], bm_arch_table[n].name);
    assert_null(bm_arch_table[n].name);
}

static void an_unknown_architecture_is_named_with_the_known_ones(void **state)
{
    file f = read_model("llama");

    (void)state;
    rename_to(&f, "llama", "lhama");
    expect_refused(&f, BM_UNSUPPORTED, "lhama", "llama, mistral3, qwen2, qwen3, gemma2, gemma3");
}

static void a_bad_key_is_named_with_what_was_found(void **state)
{
    static const struct { const char *key; uint32_t value; const char *says; } ints[] = {
        { "llama.block_count", 0, "from 1 to" }, { "llama.block_count", 0xffffffff, "4294967295" },
        { "llama.embedding_length", 0, "expected an integer" }, { "llama.embedding_length", 65, "token_embd.weight" },
        { "llama.embedding_length", 128, "token_embd.weight" }, { "llama.attention.head_count", 0, "expected" },
        { "llama.attention.head_count", 3, "divisor" }, { "llama.attention.head_count_kv", 0, "expected" },
        { "llama.attention.head_count_kv", 3, "divisor of the 4 heads" },
        { "llama.attention.head_count_kv", 0x7fffffff, "2147483647" }, { "llama.context_length", 0, "expected" },
        { "llama.context_length", 0xffffffff, "expected" }, { "llama.feed_forward_length", 0xffffffff, "expected" },
        { "llama.feed_forward_length", 97, "ffn_gate" }, { "llama.rope.dimension_count", 15, "even" },
        { "llama.rope.dimension_count", 0, "expected" }, { "llama.rope.dimension_count", 32, "from 2 to 16" },
        { "llama.block_count", 3, "blk.2.attn_norm.weight" }, { "llama.block_count", 1, "blk.1." } };

    (void)state;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        file f = read_model("llama");
        const char *named = strstr(ints[i].says, "blk.") || strstr(ints[i].says, "ffn") || strstr(ints[i].says, "token_embd") ||
                            strstr(ints[i].says, "divisor") ? "" : ints[i].key;
        set_u32(&f, ints[i].key, ints[i].value);
        expect_refused(&f, strcmp(ints[i].says, "blk.1.") == 0 ? BM_UNSUPPORTED : BM_FORMAT, ints[i].says, named);
    }
}

/* The u32 of `key`, given n times in an array instead. What it adds to the file must be a multiple of the 32 bytes to which
 * tensors are aligned, over all calls together. */
static void spread(file *f, const char *key, uint32_t first, uint32_t others, uint64_t n)
{
    uint32_t types[2] = { BM_GGUF_ARRAY, BM_GGUF_U32 };
    size_t before = (size_t)(after_string(f, key) - f->bytes), after = before + 8, added = 8 + 4 * (size_t)n;
    char *grown = bm_malloc(f->len + added);

    assert_non_null(grown);
    memcpy(grown, f->bytes, before);
    memcpy(grown + before, types, 8);
    memcpy(grown + before + 8, &n, 8);
    for (uint64_t i = 0; i < n; i++)
        memcpy(grown + before + 16 + 4 * i, i ? &others : &first, 4);
    memcpy(grown + after + added, f->bytes + after, f->len - after);
    bm_free(f->bytes);
    f->bytes = grown;
    f->len += added;
}

static void a_size_may_be_given_for_each_layer(void **state)
{
    static const struct { const char *key; uint32_t value; } sizes[] = {
        { "llama.attention.head_count", 4 }, { "llama.attention.head_count_kv", 2 }, { "llama.feed_forward_length", 96 } };
    bm_error err = { 0 };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        size_t other = (i + 1) % 3;
        file same = read_model("llama"), differs = read_model("llama"), wrong_number = read_model("llama");

        spread(&same, sizes[i].key, sizes[i].value, sizes[i].value, 2);
        spread(&same, sizes[other].key, sizes[other].value, sizes[other].value, 2);
        kit_check(open_bytes(&same, true, 0, &err), &err);
        bm_free(same.bytes);
        spread(&differs, sizes[i].key, sizes[i].value, 2 * sizes[i].value, 2);
        spread(&differs, sizes[other].key, sizes[other].value, sizes[other].value, 2);
        expect_refused(&differs, BM_UNSUPPORTED, sizes[i].key, "differs between layers");
        spread(&wrong_number, sizes[i].key, sizes[i].value, sizes[i].value, 6);
        expect_refused(&wrong_number, BM_FORMAT, sizes[i].key, "one for each layer");
    }
}

static void a_number_that_is_no_number_is_refused(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY, -1, 0 };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        file f = read_model("llama-linear");
        set_f32(&f, "llama.rope.freq_base", bad[i]);
        expect_refused(&f, BM_FORMAT, "llama.rope.freq_base", "expected a number");
    }
    for (size_t i = 0; i < 4; i++) {
        file f = read_model("llama"), g = read_model("llama-linear"), h = read_model("gemma2"), y = read_model("llama-yarn");
        set_f32(&f, "llama.attention.layer_norm_rms_epsilon", bad[i]);
        expect_refused(&f, BM_FORMAT, "layer_norm_rms_epsilon", "expected a number from 0 to 1");
        set_f32(&g, "llama.rope.scaling.factor", bad[i]);
        expect_refused(&g, BM_FORMAT, "llama.rope.scaling.factor", "expected");
        set_f32(&h, "gemma2.attn_logit_softcapping", bad[i]);
        expect_refused(&h, BM_FORMAT, "gemma2.attn_logit_softcapping", "expected");
        set_f32(&y, "llama.rope.scaling.yarn_beta_fast", bad[i]);
        expect_refused(&y, BM_FORMAT, "yarn_beta_fast", "expected");
    }
}

static void a_key_of_another_type_is_refused(void **state)
{
    file f = read_model("llama"), g = read_model("llama-linear");

    (void)state;
    set_type(&f, "llama.block_count", BM_GGUF_F32);
    expect_refused(&f, BM_FORMAT, "llama.block_count", "expected an integer");
    rename_to(&g, "linear", "curved");
    expect_refused(&g, BM_UNSUPPORTED, "llama.rope.scaling.type", "curved");
}

static void a_missing_tensor_is_named(void **state)
{
    static const char *const names[] = { "token_embd.weight", "output_norm.weight", "blk.1.attn_q.weight",
                                         "blk.0.ffn_down.weight", "blk.0.ffn_norm.weight" };
    file g = read_model("qwen2"), h = read_model("qwen3");

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char to[64];
        file f = read_model("llama");
        snprintf(to, sizeof to, "%s", names[i]);
        to[0] = 'x';
        rename_to(&f, names[i], to);
        expect_refused(&f, BM_FORMAT, names[i], "absent");
    }
    rename_to(&g, "blk.1.attn_k.bias", "blk.1.attn_x.bias");
    expect_refused(&g, BM_FORMAT, "blk.1.attn_k.bias", "qwen2 needs");
    rename_to(&h, "blk.1.attn_k_norm.weight", "blk.1.attn_x_norm.weight");
    expect_refused(&h, BM_FORMAT, "blk.1.attn_k_norm.weight", "absent");
}

static void a_tensor_of_another_shape_is_named(void **state)
{
    static const char *const names[] = { "blk.0.attn_k.weight", "blk.1.ffn_up.weight", "output.weight" };
    file g = read_model("llama"), h = read_model("llama-llama3");
    uint64_t one = 32;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        file f = read_model("llama");
        swap_dims(&f, names[i]);
        expect_refused(&f, BM_FORMAT, names[i], "expected 64 x");
    }
    memcpy(after_string(&g, "blk.0.attn_norm.weight") + 4, &one, 8);
    expect_refused(&g, BM_FORMAT, "blk.0.attn_norm.weight is 32", "expected 64");
    one = 4;
    memcpy(after_string(&h, "rope_freqs.weight") + 4, &one, 8);
    expect_refused(&h, BM_FORMAT, "rope_freqs.weight", "expected F32 [8]");
}

/* A tensor that the row does not read would be a part of the model left out. */
static void a_tensor_without_a_place_is_refused(void **state)
{
    file f = read_model("llama-linear"), g = read_model("qwen3");

    (void)state;
    rename_to(&f, "blk.1.ffn_up.bias", "blk.1.ffn_xx.bias");
    expect_refused(&f, BM_UNSUPPORTED, "blk.1.ffn_xx.bias", "llama");
    rename_to(&g, "blk.1.attn_q_norm.weight", "blk.1.attn_q_norm.wEight");
    expect_refused(&g, BM_FORMAT, "blk.1.attn_q_norm.weight", "absent");
}

static void a_truncated_file_is_refused_at_any_length(void **state)
{
    file f = read_model("qwen3");
    size_t full = f.len;
    bm_error err;

    (void)state;
    for (f.len = full - 1; f.len > 0; f.len = f.len * 9 / 10)
        assert_true(open_bytes(&f, true, 0, &err) < 0);
    f.len = full;
    assert_int_equal(open_bytes(&f, true, 0, &err), 0);
    bm_free(f.bytes);
}

/* Any byte of the metadata may be wrong: refused or opened, never worse. */
static void damaged_metadata_does_no_harm(void **state)
{
    static const unsigned char values[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
    file f = read_model("llama-yarn");
    size_t begin = (size_t)(after_string(&f, "llama.context_length") - f.bytes);
    size_t end = (size_t)(after_string(&f, "tokenizer.ggml.model") - f.bytes);
    bm_error err;

    (void)state;
    for (size_t at = begin; at < end; at++) {
        char was = f.bytes[at];
        f.bytes[at] = (char)values[at % sizeof values];
        (void)open_bytes(&f, at % 16 == 0, 0, &err);
        f.bytes[at] = was;
    }
    bm_free(f.bytes);
}

static void each_failing_allocation_is_reported(void **state)
{
    file f = read_model("llama-llama3");
    bm_error err;
    long n = 1;
    int rc;

    (void)state;
    while ((rc = open_bytes(&f, true, n, &err)) != 0) {
        assert_int_equal(rc, BM_NOMEM);
        assert_true(n++ < 1000);
    }
    assert_true(n > 5);
    bm_free(f.bytes);
}

static void each_failing_allocation_of_a_step_is_reported(void **state)
{
    kit k;
    bm_step *step;
    bm_error err;

    (void)state;
    kit_open(&k, "llama", false, 1, 8);
    for (long n = 1; n <= 2; n++) {
        bm_mem_fail_at(n);
        assert_int_equal(bm_step_new(&step, k.model, 8, 1, &err), BM_NOMEM);
        assert_null(step);
    }
    bm_mem_fail_at(0);
    assert_int_equal(bm_step_new(&step, k.model, 0, 1, &err), BM_INVALID);
    kit_close(&k);
}

static bool stop_half_way(void *arg, uint64_t done, uint64_t total)
{
    *(uint64_t *)arg = done;
    return done < total / 2;
}

static void loading_can_be_canceled(void **state)
{
    uint64_t done = 0;
    bm_error err;
    bm_gguf *gguf;
    bm_team *team;
    bm_model *model;
    bm_model_options options = { .isa = BM_ISA_REF, .progress = stop_half_way, .progress_arg = &done };

    (void)state;
    kit_check(bm_team_new(&team, 1, &err), &err);
    kit_check(bm_gguf_open(&gguf, KIT_DIR "llama.gguf", &err), &err);
    assert_int_equal(bm_model_open(&model, gguf, &options, team, &err), BM_CANCELED);
    assert_null(model);
    assert_true(done > 0);
    bm_gguf_close(gguf);
    bm_team_free(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_says_what_the_model_takes),
        cmocka_unit_test(the_model_outlives_its_file),
        cmocka_unit_test(every_row_is_listed),
        cmocka_unit_test(an_unknown_architecture_is_named_with_the_known_ones),
        cmocka_unit_test(a_bad_key_is_named_with_what_was_found),
        cmocka_unit_test(a_size_may_be_given_for_each_layer),
        cmocka_unit_test(a_number_that_is_no_number_is_refused),
        cmocka_unit_test(a_key_of_another_type_is_refused),
        cmocka_unit_test(a_missing_tensor_is_named),
        cmocka_unit_test(a_tensor_of_another_shape_is_named),
        cmocka_unit_test(a_tensor_without_a_place_is_refused),
        cmocka_unit_test(a_truncated_file_is_refused_at_any_length),
        cmocka_unit_test(damaged_metadata_does_no_harm),
        cmocka_unit_test(each_failing_allocation_is_reported),
        cmocka_unit_test(each_failing_allocation_of_a_step_is_reported),
        cmocka_unit_test(loading_can_be_canceled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
