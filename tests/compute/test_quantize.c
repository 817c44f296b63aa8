/* test_quantize.c - the types that are written, byte for byte as gguf-py writes them (tests/oracle/quant/quantize.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "compute/quantize.h"
#include "oracle/quant/quantized.h"

enum { N = sizeof source / sizeof *source };

static void check(bm_qtype type, const unsigned char *expected, size_t len)
{
    unsigned char out[4 * N];
    float x[N];
    size_t row;

    memcpy(x, source, sizeof x);
    assert_true(bm_qtype_row_bytes(type, N, &row));
    assert_int_equal(row, len);
    bm_quantize_row(type, x, N, out);
    assert_memory_equal(out, expected, len);
}

static void q8_0_equals_gguf_py(void **state) { (void)state; check(BM_Q8_0, expected_q8_0, sizeof expected_q8_0); }
static void q4_0_equals_gguf_py(void **state) { (void)state; check(BM_Q4_0, expected_q4_0, sizeof expected_q4_0); }
static void q4_1_equals_gguf_py(void **state) { (void)state; check(BM_Q4_1, expected_q4_1, sizeof expected_q4_1); }

static void half_types_round_and_f32_is_itself(void **state)
{
    static const bm_qtype types[] = { BM_F32, BM_F16, BM_BF16 };
    unsigned char out[4 * N];
    float x[N], back[N];

    (void)state;
    memcpy(x, source, sizeof x);
    for (int t = 0; t < 3; t++) {
        bm_quantize_row(types[t], x, N, out);
        bm_qtype_traits((uint32_t)types[t])->dequantize(out, back, N);
        for (int i = 0; i < N; i++) {
            float want = t == 0 ? x[i] : t == 1 ? bm_f16_to_f32(bm_f32_to_f16(x[i])) : bm_bf16_to_f32(bm_f32_to_bf16(x[i]));
            assert_true(back[i] == want);
        }
    }
}

static void only_types_that_are_written_have_a_name(void **state)
{
    bm_qtype type;

    (void)state;
    assert_true(bm_quantize_type("q4_0", &type) && type == BM_Q4_0);
    assert_true(bm_quantize_type("BF16", &type) && type == BM_BF16);
    assert_false(bm_quantize_type("Q4_K", &type));
    assert_false(bm_quantize_type("", &type));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q8_0_equals_gguf_py),
        cmocka_unit_test(q4_0_equals_gguf_py),
        cmocka_unit_test(q4_1_equals_gguf_py),
        cmocka_unit_test(half_types_round_and_f32_is_itself),
        cmocka_unit_test(only_types_that_are_written_have_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
