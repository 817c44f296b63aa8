/* test_safetensors.c - what is written reads back; every header that lies about its tensors is refused, and says why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "format/safetensors.h"

static char path[] = "/tmp/baimo-safetensors-XXXXXX";

static int make_path(void **state) { (void)state; return close(mkstemp(path)); }
static int remove_path(void **state) { (void)state; return unlink(path); }

/* A file of this header, which says `claim` of its own length (0: the truth), and n bytes of data. */
static void write_file(const char *header, uint64_t claim, size_t n)
{
    uint64_t len = claim ? claim : strlen(header);
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    fwrite(&len, 1, 8, f);
    fwrite(header, 1, strlen(header), f);
    for (size_t i = 0; i < n; i++)
        fputc((int)i, f);
    fclose(f);
}

static void expect(const char *header, uint64_t claim, size_t n, int rc, const char *words)
{
    bm_safetensors *file;
    bm_error err = { 0 };

    write_file(header, claim, n);
    assert_int_equal(bm_safetensors_open(&file, path, &err), rc);
    if (rc < 0) {
        assert_null(file);
        if (strstr(err.msg, words) == NULL)
            fail_msg("%s: expected \"%s\"", err.msg, words);
    }
    bm_safetensors_close(file);
}

static void what_is_written_reads_back(void **state)
{
    static const float x[6] = { 1, -2.5f, 3, 0, 1e-30f, 7 };
    bm_safetensor_out out[] = { { "a", 2, { 2, 3 }, x }, { "b\"q", 1, { 4, 0 }, x } };
    bm_safetensor_meta meta[] = { { "format", "pt" }, { "x", "a \"quoted\" text" } };
    bm_safetensors *file;
    bm_error err;
    float back[6];

    (void)state;
    assert_int_equal(bm_safetensors_write(path, out, 2, meta, 2, &err), 0);
    assert_int_equal(bm_safetensors_open(&file, path, &err), 0);
    assert_int_equal(bm_safetensors_n(file), 2);
    const bm_safetensor *t = bm_safetensors_at(file, 0);
    assert_string_equal(t->name, "a");
    assert_true(t->type == BM_F32 && t->n_dims == 2 && t->dims[0] == 2 && t->dims[1] == 3 && t->dims[2] == 1);
    bm_safetensor_floats(t, back);
    assert_memory_equal(back, x, sizeof x);
    assert_string_equal(bm_safetensors_at(file, 1)->name, "b\"q");
    assert_null(bm_safetensors_at(file, 2));
    assert_string_equal(bm_safetensors_meta(file, "x"), "a \"quoted\" text");
    assert_null(bm_safetensors_meta(file, "y"));
    bm_safetensors_close(file);
}

static void halves_become_floats(void **state)
{
    bm_safetensors *file;
    bm_error err;
    float x[2];

    (void)state;
    write_file("{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[4,8]}} ", 0, 8);
    assert_int_equal(bm_safetensors_open(&file, path, &err), 0);
    bm_safetensor_floats(bm_safetensors_at(file, 0), x);
    assert_true(x[0] == bm_f16_to_f32(0x0100) && x[1] == bm_f16_to_f32(0x0302));
    bm_safetensor_floats(bm_safetensors_at(file, 1), x);
    assert_true(x[0] == bm_bf16_to_f32(0x0504) && x[1] == bm_bf16_to_f32(0x0706));
    bm_safetensors_close(file);
}

#define ONE(shape, offsets) "{\"a\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(first, second) "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" first "}," \
                           "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" second "}}"

static void headers_that_lie_are_refused(void **state)
{
    (void)state;
    expect(ONE("[2]", "[0,8]"), 0, 8, 0, "");
    expect("{}", 0, 0, 0, "");
    expect(ONE("[2]", "[0,8]"), 0, 7, BM_FORMAT, "which has 7");
    expect(ONE("[2]", "[0,8]"), 0, 9, BM_FORMAT, "belong to no tensor");
    expect(ONE("[2]", "[0,8]"), UINT64_MAX, 8, BM_FORMAT, "a header of");
    expect(ONE("[2]", "[0,8]"), 200, 8, BM_FORMAT, "a header of");
    expect(ONE("[2]", "[0,8]"), 20, 8, BM_FORMAT, "no JSON object");
    expect(ONE("[3]", "[0,8]"), 0, 8, BM_FORMAT, "expected 12");
    expect(ONE("[4611686018427387904,4]", "[0,8]"), 0, 8, BM_FORMAT, "too large");
    expect(ONE("[4294967296,4294967296]", "[0,8]"), 0, 8, BM_FORMAT, "too large");
    expect(ONE("[-2]", "[0,8]"), 0, 8, BM_FORMAT, "no number of at least 0");
    expect(ONE("[2.0]", "[0,8]"), 0, 8, BM_FORMAT, "no number of at least 0");
    expect(ONE("[1,1,1,1,1,1,1,1,2]", "[0,8]"), 0, 8, BM_FORMAT, "at most 8");
    expect(ONE("[2]", "[8,0]"), 0, 8, BM_FORMAT, "bytes 8 to 0");
    expect(ONE("[2]", "[-8,0]"), 0, 8, BM_FORMAT, "two numbers");
    expect(ONE("[2]", "[0]"), 0, 8, BM_FORMAT, "two numbers");
    expect(ONE("[2]", "[0,9223372036854775807]"), 0, 8, BM_FORMAT, "which has 8");
    expect(TWO("[0,4]", "[4,8]"), 0, 8, 0, "");
    expect(TWO("[0,4]", "[2,6]"), 0, 6, BM_FORMAT, "overlaps");
    expect(TWO("[0,4]", "[0,4]"), 0, 4, BM_FORMAT, "overlaps");
    expect(TWO("[0,4]", "[5,9]"), 0, 9, BM_FORMAT, "belong to none");
    expect("{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 8, BM_UNSUPPORTED, "F33");
    expect("{\"a\":3}", 0, 8, BM_FORMAT, "no dtype");
    expect("{\"a\":{},\"a\":{}}", 0, 8, BM_FORMAT, "duplicate");
    expect("[]", 0, 0, BM_FORMAT, "another value");
    expect("{\"__metadata__\":[]}", 0, 0, BM_FORMAT, "must be an object");
    expect("{\"__metadata__\":{\"x\":1}}", 0, 0, BM_FORMAT, "must be a string");
}

static void a_header_of_brackets_is_refused(void **state)
{
    enum { DEEP = 1 << 20 };
    char *text = malloc(DEEP + 1);

    (void)state;
    memset(text, '[', DEEP);
    text[DEEP] = '\0';
    expect(text, 0, 0, BM_FORMAT, "no JSON object");
    free(text);
}

static void no_memory_is_an_error(void **state)
{
    bm_safetensors *file = NULL;
    bm_error err;
    int rc = BM_NOMEM;

    (void)state;
    write_file(ONE("[2]", "[0,8]"), 0, 8);
    for (long n = 1; rc < 0; n++) {
        bm_mem_fail_at(n);
        rc = bm_safetensors_open(&file, path, &err);
        assert_true(rc == 0 || rc == BM_NOMEM);
    }
    bm_mem_fail_at(0);
    bm_safetensors_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(halves_become_floats),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(a_header_of_brackets_is_refused),
        cmocka_unit_test(no_memory_is_an_error),
    };

    return cmocka_run_group_tests(tests, make_path, remove_path);
}
