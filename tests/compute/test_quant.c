/* test_quant.c - dequantisers against gguf-py's, bit for bit, and half floats against their definition. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compute/quant.h"
#include "oracle/quant/vectors.h"

enum { N_VECTORS = sizeof vectors / sizeof vectors[0], MAX_BLOCK = 256 };

static uint32_t bits_of(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

static size_t from_hex(unsigned char *out, const char *hex)
{
    size_t n = 0;
    unsigned byte;

    for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        out[n++] = (unsigned char)byte;
    return n;
}

static uint64_t fnv(const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    uint64_t h = 0xCBF29CE484222325u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

static void every_type_dequantises_to_the_oracles_bits(void **state)
{
    bool seen[BM_QTYPE_END] = { false };

    (void)state;
    for (size_t k = 0; k < N_VECTORS; k++) {
        const struct vector *v = &vectors[k];
        const bm_qtraits *t = bm_qtype_traits(v->id);
        unsigned char block[256];
        float out[MAX_BLOCK];
        assert_non_null(t);
        assert_string_equal(t->name, v->name);
        assert_int_equal(from_hex(block, v->block), t->block_bytes);
        t->dequantize(block, out, (size_t)t->block_len);
        for (int i = 0; i < 4 && i < t->block_len; i++)
            if (bits_of(out[i]) != v->first[i])
                fail_msg("%s, vector %zu, value %d: %08X, expected %08X", v->name, k, i, bits_of(out[i]), v->first[i]);
        if (fnv(out, sizeof(float) * (size_t)t->block_len) != v->hash)
            fail_msg("%s, vector %zu: other bits after the first four", v->name, k);
        seen[v->id] = true;
    }
    for (uint32_t id = 0; id < BM_QTYPE_END; id++)
        assert_int_equal(seen[id], bm_qtype_traits(id) != NULL);
}

static void many_blocks_equal_each_block_alone(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < BM_QTYPE_END; id++) {
        const bm_qtraits *t = bm_qtype_traits(id);
        if (t == NULL)
            continue;
        enum { BLOCKS = 5 };
        unsigned char bytes[BLOCKS * 256 + 1], *blocks = bytes + 1;      /* an odd address: the mapping promises none */
        float all[BLOCKS * MAX_BLOCK], one[MAX_BLOCK];
        for (int i = 0; i < BLOCKS * 256; i++)
            blocks[i] = (unsigned char)(i * 37 + (i >> 3));
        t->dequantize(blocks, all, (size_t)(BLOCKS * t->block_len));
        for (int b = 0; b < BLOCKS; b++) {
            t->dequantize(blocks + b * t->block_bytes, one, (size_t)t->block_len);
            assert_memory_equal(one, all + b * t->block_len, sizeof(float) * (size_t)t->block_len);
        }
        t->dequantize(blocks, one, 0);
    }
}

/* The definition, in double: exact. */
static double half_value(unsigned h)
{
    int exponent = h >> 10 & 31;
    double mantissa = h & 0x3FF, v = exponent == 0 ? ldexp(mantissa, -24) : ldexp(mantissa + 1024, exponent - 25);

    return h & 0x8000 ? -v : v;
}

static void every_half_converts_exactly_and_back(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float f = bm_f16_to_f32((uint16_t)h);
        if ((h & 0x7C00) == 0x7C00 && (h & 0x3FF) != 0) {
            assert_true(isnan(f));
            assert_true(isnan(bm_f16_to_f32(bm_f32_to_f16(f))));
            continue;
        }
        if ((h & 0x7FFF) == 0x7C00)
            assert_true(isinf(f) && !signbit(f) == !(h >> 15));
        else
            assert_true((double)f == half_value(h) && !signbit(f) == !(h >> 15));
        assert_int_equal(bm_f32_to_f16(f), h);
    }
}

/* Between each two neighbours: the middle goes to the even one, one float beside it to the nearer. */
static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7C00; h++) {
        double low = half_value(h), high = h == 0x7BFF ? 65536.0 : half_value(h + 1);
        float middle = (float)((low + high) / 2);
        assert_true((double)middle == (low + high) / 2);
        assert_int_equal(bm_f32_to_f16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(bm_f32_to_f16(-middle), (h & 1 ? h + 1 : h) | 0x8000);
        assert_int_equal(bm_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(bm_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(bm_f32_to_f16(1e30f), 0x7C00);
    assert_int_equal(bm_f32_to_f16(-INFINITY), 0xFC00);
    assert_int_equal(bm_f32_to_f16(0x1p-149f), 0);
    assert_int_equal(bm_f32_to_f16(-0.0f), 0x8000);
    assert_true(isnan(bm_f16_to_f32(bm_f32_to_f16(float_of(0x7F800001)))));
}

static void every_bfloat_converts_exactly_and_back(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float f = bm_bf16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(f), h << 16);
        if (isnan(f))
            assert_true(isnan(bm_bf16_to_f32(bm_f32_to_bf16(f))));
        else
            assert_int_equal(bm_f32_to_bf16(f), h);
    }
}

static void bfloats_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7F80; h++) {
        assert_int_equal(bm_f32_to_bf16(float_of(h << 16 | 0x8000)), h & 1 ? h + 1 : h);
        assert_int_equal(bm_f32_to_bf16(float_of(h << 16 | 0x7FFF)), h);
        assert_int_equal(bm_f32_to_bf16(float_of(h << 16 | 0x8001)), h + 1);
    }
    assert_true(isnan(bm_bf16_to_f32(bm_f32_to_bf16(float_of(0x7F800001)))));
    assert_true(isnan(bm_bf16_to_f32(bm_f32_to_bf16(float_of(0xFFFFFFFF)))));
}

static void every_published_type_has_its_name(void **state)
{
    static const struct { uint32_t id; const char *name; } some[] = {
        { 0, "F32" }, { 2, "Q4_0" }, { 9, "Q8_1" }, { 15, "Q8_K" }, { 16, "IQ2_XXS" }, { 19, "IQ1_S" }, { 23, "IQ4_XS" }, { 24, "I8" },
        { 28, "F64" }, { 29, "IQ1_M" }, { 30, "BF16" }, { 34, "TQ1_0" }, { 35, "TQ2_0" }, { 39, "MXFP4" }, { 40, "NVFP4" }, { 42, "Q2_0" },
        { 43, "?" }, { 4096, "?" }, { UINT32_MAX, "?" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++)
        assert_string_equal(bm_qtype_name(some[i].id), some[i].name);
    for (uint32_t id = 0; id < BM_QTYPE_END; id++)
        if (bm_qtype_traits(id) != NULL)
            assert_string_equal(bm_qtype_traits(id)->name, bm_qtype_name(id));
}

static void unknown_types_have_no_traits(void **state)
{
    static const uint32_t ids[] = { 4, 5, 9, 15, 24, 28, 31, 36, 38, 43, 1000, UINT32_MAX };

    (void)state;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        assert_null(bm_qtype_traits(ids[i]));
}

static void rows_that_do_not_fit_are_refused(void **state)
{
    size_t n = 77;

    (void)state;
    assert_true(bm_qtype_row_bytes(BM_Q4_K, 512, &n));
    assert_int_equal(n, 288);
    assert_true(bm_qtype_row_bytes(BM_F32, 3, &n));
    assert_int_equal(n, 12);
    assert_true(bm_qtype_row_bytes(BM_Q8_0, 0, &n));
    assert_int_equal(n, 0);
    assert_false(bm_qtype_row_bytes(BM_Q4_K, 511, &n));
    assert_false(bm_qtype_row_bytes(BM_Q8_0, 33, &n));
    assert_false(bm_qtype_row_bytes(BM_F32, UINT64_MAX / 2, &n));
    assert_false(bm_qtype_row_bytes(BM_Q8_0, UINT64_MAX - 31, &n));
    assert_false(bm_qtype_row_bytes((bm_qtype)4, 32, &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_dequantises_to_the_oracles_bits),
        cmocka_unit_test(many_blocks_equal_each_block_alone),
        cmocka_unit_test(every_half_converts_exactly_and_back),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(every_bfloat_converts_exactly_and_back),
        cmocka_unit_test(bfloats_round_to_nearest_even),
        cmocka_unit_test(every_published_type_has_its_name),
        cmocka_unit_test(unknown_types_have_no_traits),
        cmocka_unit_test(rows_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
