/* test_pack.c - the packed layout holds the bits of the GGUF rows, and no more bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/mem.h"
#include "compute/pack.h"
#include "random_blocks.h"

typedef struct matrix {
    bm_packed p;
    void *rows, *data;
    size_t row_bytes;
} matrix;

static matrix make(rng *r, bm_qtype type, int64_t n, int64_t k, scale_kind kind, const int32_t *map)
{
    matrix m;
    size_t bytes;

    assert_true(bm_qtype_row_bytes(type, (uint64_t)k, &m.row_bytes));
    assert_true(bm_pack_bytes(type, n, k, &bytes));
    m.rows = bm_malloc((size_t)n * m.row_bytes);
    m.data = bm_alloc_aligned(bytes, 64);
    random_rows(r, type, m.rows, (size_t)(n * k), kind, 0);
    assert_int_equal(bm_packed_init(&m.p, type, n, k, m.data, NULL), 0);
    bm_pack_tiles(&m.p, m.data, m.rows, map, 0, m.p.n_tiles);
    return m;
}

static void drop(matrix *m)
{
    bm_free(m->rows);
    bm_free(m->data);
}

static void unpacked_rows_have_the_bits_of_the_gguf_rows(void **state)
{
    static const int64_t ns[] = { 1, 15, 16, 17, 40 };
    rng r = { 1 };
    float want[1536], got[1536];

    (void)state;
    for (int i = 0; i < N_TYPES; i++) {
        const bm_qtraits *t = bm_qtype_traits((uint32_t)all_types[i]);
        int64_t ks[] = { t->block_len, 3 * t->block_len, 1536 };
        for (int j = 0; j < 15; j++) {
            matrix m = make(&r, all_types[i], ns[j % 5], ks[j / 5], (scale_kind)(j % 4), NULL);
            for (int64_t n = 0; n < m.p.n_rows; n++) {
                t->dequantize((char *)m.rows + (size_t)n * m.row_bytes, want, (size_t)m.p.n_cols);
                bm_packed_row(&m.p, n, got);
                assert_memory_equal(want, got, (size_t)m.p.n_cols * sizeof *want);
            }
            drop(&m);
        }
    }
}

static void row_map_permutes_rows(void **state)
{
    enum { N = 37, K = 256 };
    int32_t map[N];
    rng r = { 2 };
    float want[K], got[K];

    (void)state;
    for (int i = 0; i < N; i++)
        map[i] = (i * 5 + 3) % N;
    for (int i = 0; i < N_TYPES; i++) {
        const bm_qtraits *t = bm_qtype_traits((uint32_t)all_types[i]);
        matrix m = make(&r, all_types[i], N, K, SCALES_USUAL, map);
        for (int n = 0; n < N; n++) {
            t->dequantize((char *)m.rows + (size_t)map[n] * m.row_bytes, want, K);
            bm_packed_row(&m.p, n, got);
            assert_memory_equal(want, got, sizeof want);
        }
        drop(&m);
    }
}

static void tiles_packed_apart_equal_tiles_packed_together(void **state)
{
    rng r = { 3 };

    (void)state;
    for (int i = 0; i < N_TYPES; i++) {
        matrix m = make(&r, all_types[i], 70, 512, SCALES_USUAL, NULL);
        size_t bytes = (size_t)m.p.n_tiles * m.p.tile_bytes;
        void *apart = bm_alloc_aligned(bytes, 64);
        for (int64_t t = m.p.n_tiles - 1; t >= 0; t--)
            bm_pack_tiles(&m.p, apart, m.rows, NULL, t, t + 1);
        assert_memory_equal(apart, m.data, bytes);
        bm_free(apart);
        drop(&m);
    }
}

static void f32_pack_holds_the_dequantised_values(void **state)
{
    enum { N = 20, K = 768 };
    rng r = { 4 };
    float want[K], got[K];

    (void)state;
    for (int i = 0; i < N_TYPES; i++) {
        const bm_qtraits *t = bm_qtype_traits((uint32_t)all_types[i]);
        matrix m = make(&r, all_types[i], N, K, SCALES_USUAL, NULL);
        bm_packed p;
        size_t bytes;
        assert_true(bm_pack_bytes(BM_F32, N, K, &bytes));
        void *data = bm_alloc_aligned(bytes, 64);
        assert_int_equal(bm_packed_init(&p, BM_F32, N, K, data, NULL), 0);
        bm_pack_tiles_f32(&p, data, all_types[i], m.rows, NULL, 0, p.n_tiles);
        for (int n = 0; n < N; n++) {
            t->dequantize((char *)m.rows + (size_t)n * m.row_bytes, want, K);
            bm_packed_row(&p, n, got);
            assert_memory_equal(want, got, sizeof want);
        }
        bm_free(data);
        drop(&m);
    }
}

/* The types whose packs hold what their grids' indices stand for, and base-3 digits apart, have a bound in bits a weight. */
static double expanded_bits(bm_qtype type)
{
    switch (type) {
    case BM_IQ1_S: case BM_IQ2_XXS: return 3.2;
    case BM_IQ1_M: case BM_IQ2_XS: case BM_IQ2_S: return 3.35;
    case BM_IQ3_XXS: case BM_IQ3_S: return 4.2;
    case BM_TQ1_0: return 2.1;
    default: return 0;
    }
}

static void pack_is_at_most_one_percent_larger_than_the_rows(void **state)
{
    (void)state;
    for (int i = 0; i < N_TYPES; i++) {
        size_t row, bytes;
        double bits = expanded_bits(all_types[i]);
        if (bits > 0) {
            assert_true(bm_pack_bytes(all_types[i], 576, 1536, &bytes));
            assert_true(8 * (double)bytes <= bits * 576 * 1536);
            continue;
        }
        assert_true(bm_qtype_row_bytes(all_types[i], 1536, &row));
        assert_true(bm_pack_bytes(all_types[i], 576, 1536, &bytes));
        assert_true((double)bytes <= 1.01 * 576 * (double)row);
    }
}

static void odd_columns_of_bf16_survive(void **state)
{
    rng r = { 5 };
    float want[7], got[7];
    matrix m = make(&r, BM_BF16, 18, 7, SCALES_USUAL, NULL);

    (void)state;
    for (int n = 0; n < 18; n++) {
        bm_qtype_traits(BM_BF16)->dequantize((char *)m.rows + (size_t)n * m.row_bytes, want, 7);
        bm_packed_row(&m.p, n, got);
        assert_memory_equal(want, got, sizeof want);
    }
    drop(&m);
}

static void impossible_shapes_are_refused(void **state)
{
    bm_packed p;
    bm_error err;
    size_t bytes;

    (void)state;
    assert_int_equal(bm_packed_init(&p, BM_Q4_0, 16, 33, NULL, &err), BM_FORMAT);
    assert_non_null(strstr(err.msg, "Q4_0"));
    assert_int_equal(bm_packed_init(&p, BM_Q4_K, 16, 128, NULL, &err), BM_FORMAT);
    assert_int_equal(bm_packed_init(&p, BM_F32, 0, 32, NULL, &err), BM_FORMAT);
    assert_false(bm_pack_bytes(BM_Q4_0, 16, 0, &bytes));
    assert_false(bm_pack_bytes(BM_Q4_0, -1, 32, &bytes));
    assert_false(bm_pack_bytes((bm_qtype)5, 16, 32, &bytes));
    assert_false(bm_pack_bytes(BM_F32, INT64_MAX / 2, INT64_MAX / 2, &bytes));
    assert_false(bm_pack_bytes(BM_Q8_0, INT64_MAX, 32, &bytes));
    assert_false(bm_pack_bytes(BM_F32, 16, INT64_MAX, &bytes));
    for (int64_t k = INT64_MAX / 256 * 256; k > 256; k = k / 512 * 256)     /* the type whose pack is largest beside its rows */
        if (bm_pack_bytes(BM_IQ1_S, 16, k, &bytes))
            assert_true(bytes / 16 >= (size_t)k / 256 * 102);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unpacked_rows_have_the_bits_of_the_gguf_rows),
        cmocka_unit_test(row_map_permutes_rows),
        cmocka_unit_test(tiles_packed_apart_equal_tiles_packed_together),
        cmocka_unit_test(f32_pack_holds_the_dequantised_values),
        cmocka_unit_test(pack_is_at_most_one_percent_larger_than_the_rows),
        cmocka_unit_test(odd_columns_of_bf16_survive),
        cmocka_unit_test(impossible_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
