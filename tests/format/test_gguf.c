/* test_gguf.c - what a sound GGUF file gives: values of every type, tensors, look-ups, text, and the real model. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <cmocka.h>

#include "base/mem.h"
#include "format/gguf_writer.h"

static void write_values(bm_buf *w)
{
    static const int8_t i8 = -8;
    static const uint16_t u16 = 65535;
    static const int16_t i16 = -300;
    static const int32_t i32 = -70000;
    static const uint64_t u64 = UINT64_MAX;
    static const int64_t i64 = INT64_MIN;
    static const float f32 = 1e-6f;
    static const double f64 = 0.1;

    w_kv_raw(w, "t.u8", BM_GGUF_U8, "\xC8", 1);
    w_kv_raw(w, "t.i8", BM_GGUF_I8, &i8, 1);
    w_kv_raw(w, "t.u16", BM_GGUF_U16, &u16, 2);
    w_kv_raw(w, "t.i16", BM_GGUF_I16, &i16, 2);
    w_kv_u32(w, "t.u32", 4000000000u);
    w_kv_raw(w, "t.i32", BM_GGUF_I32, &i32, 4);
    w_kv_raw(w, "t.f32", BM_GGUF_F32, &f32, 4);
    w_kv_raw(w, "t.true", BM_GGUF_BOOL, "\1", 1);
    w_kv_str(w, "t.string", "\xE4\xBD\xA0\xE5\xA5\xBD\n");
    w_kv_raw(w, "t.u64", BM_GGUF_U64, &u64, 8);
    w_kv_raw(w, "t.i64", BM_GGUF_I64, &i64, 8);
    w_kv_raw(w, "t.f64", BM_GGUF_F64, &f64, 8);
    w_kv_array(w, "a.i32", BM_GGUF_I32, 2);
    bm_buf_add(w, &i32, 4);
    w_u32(w, 7);
    w_kv_array(w, "a.string", BM_GGUF_STRING, 4);
    w_str(w, "");
    w_str(w, "one");
    w_bytes(w, "nul\0in", 6);
    w_str(w, "\xFF");
    w_kv_array(w, "a.bool", BM_GGUF_BOOL, 3);
    bm_buf_add(w, "\0\1\1", 3);
    w_kv_array(w, "a.empty", BM_GGUF_STRING, 0);
}

enum { N_VALUES = 16 };

static bm_gguf *open_bytes(bm_buf *w)
{
    char path[64];
    bm_gguf *gguf;
    bm_error err;

    assert_int_equal(w_save(w, path), 0);
    bm_buf_done(w);
    if (bm_gguf_open(&gguf, path, &err) != 0)
        fail_msg("%s", err.msg);
    assert_string_equal(bm_gguf_path(gguf), path);
    unlink(path);
    return gguf;
}

static bm_gguf *open_values(uint32_t version)
{
    bm_buf w = { 0 };

    w_header(&w, version, 0, N_VALUES);
    write_values(&w);
    return open_bytes(&w);
}

static void both_versions_give_every_value_type(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        bm_gguf *g = open_values(version);
        int64_t i = 0;
        float f = 0;
        bool b = false;
        bm_str s;
        assert_int_equal(bm_gguf_version(g), version);
        assert_int_equal(bm_gguf_n_kvs(g), N_VALUES);
        assert_true(bm_gguf_get_i64(g, "t.u8", &i) && i == 200);
        assert_true(bm_gguf_get_i64(g, "t.i8", &i) && i == -8);
        assert_true(bm_gguf_get_i64(g, "t.u16", &i) && i == 65535);
        assert_true(bm_gguf_get_i64(g, "t.i16", &i) && i == -300);
        assert_true(bm_gguf_get_i64(g, "t.u32", &i) && i == 4000000000);
        assert_true(bm_gguf_get_i64(g, "t.i32", &i) && i == -70000);
        assert_true(bm_gguf_get_i64(g, "t.i64", &i) && i == INT64_MIN);
        assert_true(bm_gguf_get_f32(g, "t.f32", &f) && f == 1e-6f);
        assert_true(bm_gguf_get_f32(g, "t.f64", &f) && f == 0.1f);
        assert_true(bm_gguf_get_bool(g, "t.true", &b) && b);
        assert_true(bm_gguf_get_str(g, "t.string", &s) && s.len == 7 && memcmp(s.data, "\xE4\xBD\xA0\xE5\xA5\xBD\n", 7) == 0);
        bm_gguf_close(g);
    }
}

static void values_out_of_range_or_of_another_type_are_not_given(void **state)
{
    bm_gguf *g = open_values(3);
    uint32_t u = 5;
    int64_t i = 5;
    float f = 5;
    bool b = true;
    bm_str s = { "x", 1 };

    (void)state;
    assert_true(bm_gguf_get_u32(g, "t.u32", &u) && u == 4000000000u);
    u = 5;
    assert_false(bm_gguf_get_u32(g, "t.i8", &u));
    assert_false(bm_gguf_get_u32(g, "t.u64", &u));
    assert_false(bm_gguf_get_u32(g, "t.string", &u));
    assert_false(bm_gguf_get_u32(g, "t.f32", &u));
    assert_false(bm_gguf_get_u32(g, "t.true", &u));
    assert_false(bm_gguf_get_u32(g, "a.i32", &u));
    assert_false(bm_gguf_get_u32(g, "absent", &u));
    assert_false(bm_gguf_get_i64(g, "t.u64", &i));
    assert_false(bm_gguf_get_f32(g, "t.u8", &f));
    assert_false(bm_gguf_get_f32(g, "t.string", &f));
    assert_false(bm_gguf_get_bool(g, "t.u8", &b));
    assert_false(bm_gguf_get_bool(g, "a.bool", &b));
    assert_false(bm_gguf_get_str(g, "t.u8", &s));
    assert_false(bm_gguf_get_str(g, "a.string", &s));
    assert_true(u == 5 && i == 5 && f == 5 && b && s.len == 1);
    bm_gguf_close(g);
}

static void array_elements_are_read_in_bounds_only(void **state)
{
    bm_gguf *g = open_values(3);
    const bm_gguf_kv *numbers = bm_gguf_find(g, "a.i32"), *strings = bm_gguf_find(g, "a.string"), *bools = bm_gguf_find(g, "a.bool");
    int64_t i = 0;
    double d = 0;
    bm_str s;

    (void)state;
    assert_true(numbers->type == BM_GGUF_ARRAY && numbers->elem_type == BM_GGUF_I32 && numbers->n == 2);
    assert_true(bm_gguf_elem_i64(numbers, 0, &i) && i == -70000);
    assert_true(bm_gguf_elem_i64(numbers, 1, &i) && i == 7);
    assert_false(bm_gguf_elem_i64(numbers, 2, &i));
    assert_false(bm_gguf_elem_i64(numbers, UINT64_MAX, &i));
    assert_true(bm_gguf_elem_f64(numbers, 0, &d) && d == -70000);
    assert_false(bm_gguf_elem_f64(numbers, 2, &d));
    assert_false(bm_gguf_elem_str(numbers, 0, &s));
    assert_true(bm_gguf_elem_str(strings, 0, &s) && s.len == 0);
    assert_true(bm_gguf_elem_str(strings, 1, &s) && s.len == 3 && memcmp(s.data, "one", 3) == 0);
    assert_true(bm_gguf_elem_str(strings, 2, &s) && s.len == 6 && memcmp(s.data, "nul\0in", 6) == 0);
    assert_true(bm_gguf_elem_str(strings, 3, &s) && s.len == 1);
    assert_false(bm_gguf_elem_str(strings, 4, &s));
    assert_false(bm_gguf_elem_i64(strings, 0, &i));
    assert_false(bm_gguf_elem_i64(bools, 0, &i));
    assert_int_equal(bm_gguf_find(g, "a.empty")->n, 0);
    assert_false(bm_gguf_elem_str(bm_gguf_find(g, "a.empty"), 0, &s));
    bm_gguf_close(g);
}

static void values_are_described_in_one_safe_line(void **state)
{
    static const struct { const char *key, *text; } rows[] = {
        { "t.u8", "200" }, { "t.i64", "-9223372036854775808" }, { "t.u64", "18446744073709551615" }, { "t.f32", "1e-06" }, { "t.f64", "0.1" },
        { "t.true", "true" }, { "t.string", "\xE4\xBD\xA0\xE5\xA5\xBD\\n" }, { "a.i32", "[2] i32: -70000, 7" },
        { "a.string", "[4] string: \"\", \"one\", \"nul\\x00in\", \"\xEF\xBF\xBD\"" }, { "a.bool", "[3] bool: false, true, true" },
        { "a.empty", "[0] string:" },
    };
    bm_gguf *g = open_values(3);
    char text[200], small[200];

    (void)state;
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        bm_gguf_describe(bm_gguf_find(g, rows[k].key), text, sizeof text);
        assert_string_equal(text, rows[k].text);
        for (size_t room = 0; room < sizeof small; room++) {
            memset(small, 'x', sizeof small);
            bm_gguf_describe(bm_gguf_find(g, rows[k].key), small, room);
            assert_true(room == 0 ? small[0] == 'x' : strlen(small) < room);
            assert_true(small[room] == 'x');
        }
    }
    bm_gguf_close(g);
}

static void long_values_are_cut_with_a_note(void **state)
{
    bm_buf w = { 0 };
    char value[1001], text[100];

    (void)state;
    for (int i = 0; i < 1000; i++)
        value[i] = "\xE4\xBD\xA0"[i % 3];
    value[999] = value[1000] = '\0';
    w_header(&w, 3, 0, 2);
    w_kv_str(&w, "long", value);
    w_kv_array(&w, "many", BM_GGUF_U8, 100);
    w_zeros(&w, 100);
    bm_gguf *g = open_bytes(&w);
    for (size_t room = 50; room <= sizeof text; room++) {
        bm_gguf_describe(bm_gguf_find(g, "long"), text, room);
        assert_non_null(strstr(text, "... (999 bytes)"));
        assert_int_equal((strlen(text) - strlen("... (999 bytes)")) % 3, 0);
    }
    bm_gguf_describe(bm_gguf_find(g, "many"), text, sizeof text);
    assert_string_equal(text, "[100] u8: 0, 0, 0, 0, 0, 0, 0, 0, ...");
    bm_gguf_close(g);
}

static void tensors_have_their_shapes_and_bytes(void **state)
{
    static const uint64_t matrix[] = { 256, 3 }, vector[] = { 5 }, four[] = { 1, 2, 3, 4 };
    bm_buf w = { 0 };

    (void)state;
    w_header(&w, 3, 3, 1);
    w_kv_u32(&w, "general.alignment", 64);
    w_tensor(&w, "m", 2, matrix, BM_Q4_K, 64);           /* data in another order than the infos is allowed */
    w_tensor(&w, "v", 1, vector, BM_F32, 0);
    w_tensor(&w, "f", 4, four, BM_F16, 512);
    w_pad(&w, 64);
    size_t start = w.len;
    w_zeros(&w, 512 + 48);
    w.data[start + 64] = 'm', w.data[start] = 'v', w.data[start + 512] = 'f';
    bm_gguf *g = open_bytes(&w);
    const bm_gguf_tensor *m = bm_gguf_find_tensor(g, "m"), *v = bm_gguf_find_tensor(g, "v"), *f = bm_gguf_find_tensor(g, "f");
    assert_int_equal(bm_gguf_n_tensors(g), 3);
    assert_true(m == bm_gguf_tensor_at(g, 0) && v == bm_gguf_tensor_at(g, 1) && f == bm_gguf_tensor_at(g, 2));
    assert_null(bm_gguf_tensor_at(g, 3));
    assert_null(bm_gguf_kv_at(g, 1));
    assert_null(bm_gguf_find_tensor(g, "absent"));
    assert_null(bm_gguf_find_tensor(g, ""));
    assert_true(m->type == BM_Q4_K && m->n_dims == 2 && m->dims[0] == 256 && m->dims[1] == 3 && m->dims[2] == 1 && m->dims[3] == 1);
    assert_true(m->len_bytes == 3 * 144 && v->len_bytes == 20 && f->len_bytes == 48 && f->n_dims == 4 && f->dims[3] == 4);
    assert_true(m->data[0] == 'm' && v->data[0] == 'v' && f->data[0] == 'f');
    assert_int_equal((uintptr_t)m->data % 64, 0);
    bm_gguf_close(g);
}

static void a_thousand_names_are_all_found(void **state)
{
    static const uint64_t dims[] = { 1 };
    bm_buf w = { 0 };
    char name[32];

    (void)state;
    w_header(&w, 3, 1000, 1000);
    for (uint32_t i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "key.%u", i);
        w_kv_u32(&w, name, i);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "blk.%u.weight", i);
        w_tensor(&w, name, 1, dims, BM_F32, 32 * i);
    }
    w_pad(&w, 32);
    w_zeros(&w, 32000);
    bm_gguf *g = open_bytes(&w);
    for (uint32_t i = 0, v; i < 1000; i++) {
        snprintf(name, sizeof name, "key.%u", i);
        assert_true(bm_gguf_get_u32(g, name, &v) && v == i);
        snprintf(name, sizeof name, "blk.%u.weight", i);
        assert_ptr_equal(bm_gguf_find_tensor(g, name), bm_gguf_tensor_at(g, i));
    }
    assert_null(bm_gguf_find(g, "key.1000"));
    bm_gguf_close(g);
}

/* The mapping shows what others write into the file; the reader keeps the lengths that it has checked. */
static void a_file_rewritten_while_open_moves_no_bounds(void **state)
{
    bm_buf w = { 0 };
    char path[64];
    bm_gguf *g;
    bm_str s;

    (void)state;
    w_header(&w, 3, 0, 1);
    w_kv_array(&w, "a", BM_GGUF_STRING, 2);
    size_t first = w.len;
    w_str(&w, "first");
    w_str(&w, "second");
    assert_int_equal(w_save(&w, path), 0);
    bm_buf_done(&w);
    assert_int_equal(bm_gguf_open(&g, path, NULL), 0);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", 8, (off_t)first), 8);
    close(fd);
    assert_true(bm_gguf_elem_str(bm_gguf_find(g, "a"), 0, &s) && s.len == 5);
    assert_true(bm_gguf_elem_str(bm_gguf_find(g, "a"), 1, &s) && s.len == 6 && memcmp(s.data, "second", 6) == 0);
    bm_gguf_close(g);
    unlink(path);
}

static void the_real_model_opens(void **state)
{
    const char *models = getenv("BAIMO_MODELS"), *home = getenv("HOME");
    char path[1024];
    bm_gguf *g;
    bm_error err;
    bm_str s;
    uint32_t n;

    (void)state;
    snprintf(path, sizeof path, "%s%s/smollm2.gguf", models ? models : home ? home : "", models ? "" : "/.cache/baimo-models");
    if (access(path, R_OK) != 0)
        skip();
    if (bm_gguf_open(&g, path, &err) != 0)
        fail_msg("%s", err.msg);
    assert_true(bm_gguf_get_str(g, "general.architecture", &s) && s.len == 5 && memcmp(s.data, "llama", 5) == 0);
    assert_true(bm_gguf_get_u32(g, "llama.block_count", &n) && n == 30);
    const bm_gguf_kv *tokens = bm_gguf_find(g, "tokenizer.ggml.tokens");
    assert_true(tokens != NULL && tokens->n == 49152);
    assert_true(bm_gguf_elem_str(tokens, 1, &s) && s.len == 12 && memcmp(s.data, "<|im_start|>", 12) == 0);
    const bm_gguf_tensor *t = bm_gguf_find_tensor(g, "token_embd.weight");
    assert_true(t != NULL && t->dims[0] == 576 && t->dims[1] == 49152);
    bm_gguf_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_versions_give_every_value_type),
        cmocka_unit_test(values_out_of_range_or_of_another_type_are_not_given),
        cmocka_unit_test(array_elements_are_read_in_bounds_only),
        cmocka_unit_test(values_are_described_in_one_safe_line),
        cmocka_unit_test(long_values_are_cut_with_a_note),
        cmocka_unit_test(tensors_have_their_shapes_and_bytes),
        cmocka_unit_test(a_thousand_names_are_all_found),
        cmocka_unit_test(a_file_rewritten_while_open_moves_no_bounds),
        cmocka_unit_test(the_real_model_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
