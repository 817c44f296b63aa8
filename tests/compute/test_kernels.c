/* test_kernels.c - every table that this CPU can run gives the bits of the scalar reference; the reference is right against
 * doubles. Tolerances (relative to the sum of absolute products where there is one):
 *   quantised product      against doubles over the int8 activations 1e-6: f32 sums of at most 48 blocks
 *   float product          2e-6: f32 sums of 1,536 terms
 *   exp                    2e-7: one ulp and the polynomial
 *   silu, gelu             1e-6: an exp and a division
 *   norms                  2e-6
 *   attention              4e-6 (f32); with KV in int16 or int8 5e-4 beyond q, K and V rounded: rounding 64 probabilities of a page to steps
 *                          of 1/8191 of the largest, of values up to 1, costs 64 * 0.5 / 8191 at worst, 2e-4 seen */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/mem.h"
#include "compute/kernels.h"
#include "compute/pack.h"
#include "random_blocks.h"

enum { MAX_T = 33, MAX_N = 100, MAX_K = 1536 };

typedef struct product {
    bm_packed w;
    void *rows, *data, *memory;
    bm_acts x;
    float *f32;                  /* [T][K] */
    int64_t n_tokens;
} product;

static const bm_kernels *ref(void) { return bm_kernels_get(BM_ISA_REF); }

/* The tables to compare with the reference. */
static int tables(const bm_kernels *out[BM_ISA_COUNT])
{
    bm_cpu cpu;
    int n = 0;

    bm_cpu_detect(&cpu);
    for (int i = BM_ISA_REF + 1; i < BM_ISA_COUNT; i++)
        if (bm_isa_usable(&cpu, (bm_isa)i) && bm_kernels_get((bm_isa)i) != NULL)
            out[n++] = bm_kernels_get((bm_isa)i);
    return n;
}

/* Partials of ascending spans (l = 0: none) to the attention's output, in doubles. */
static void merge_spans(float *out, int n_spans, const float *m, const float *l, const float *const *acc, int head_dim)
{
    double most = -INFINITY, total = 0, sum;

    for (int i = 0; i < n_spans; i++)
        most = fmax(most, (double)m[i]);
    for (int i = 0; i < n_spans; i++)
        total += l[i] == 0 ? 0 : (double)l[i] * exp((double)m[i] - most);
    for (int d = 0; d < head_dim; d++) {
        sum = 0;
        for (int i = 0; i < n_spans; i++)
            sum += l[i] == 0 ? 0 : (double)acc[i][d] * exp((double)m[i] - most);
        out[d] = total == 0 ? 0 : (float)(sum / total);
    }
}

static void random_acts(rng *r, float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 32) {
        int kind = next_below(r, 12);
        float by = kind == 0 ? 0 : kind == 1 ? 1e-33f : kind == 2 ? 1e-12f : kind == 3 ? 1000.0f : 1.0f;
        for (size_t j = i; j < n && j < i + 32; j++)
            x[j] = kind == 4 ? (next_u32(r) & 1 ? 1.0f : -1.0f) : by * next_float(r);
    }
}

static product make(rng *r, bm_qtype type, int64_t n, int64_t k, int64_t n_tokens, scale_kind kind, int extreme)
{
    product p = { .n_tokens = n_tokens };
    size_t row, bytes;

    assert_true(bm_qtype_row_bytes(type, (uint64_t)k, &row));
    assert_true(bm_pack_bytes(type, n, k, &bytes));
    p.rows = bm_malloc((size_t)n * row);
    p.data = bm_alloc_aligned(bytes, 64);
    random_rows(r, type, p.rows, (size_t)(n * k), kind, extreme);
    assert_int_equal(bm_packed_init(&p.w, type, n, k, p.data, NULL), 0);
    bm_pack_tiles(&p.w, p.data, p.rows, NULL, 0, p.w.n_tiles);
    p.f32 = bm_alloc_aligned((size_t)(n_tokens * k) * 4, 64);
    random_acts(r, p.f32, (size_t)(n_tokens * k));
    p.memory = bm_alloc_aligned(bm_acts_bytes(n_tokens, k), 64);
    memset(p.memory, 0x55, bm_acts_bytes(n_tokens, k));
    bm_acts_place(&p.x, p.memory, n_tokens, k);
    p.x.n_tokens = n_tokens;
    p.x.f32 = p.f32;
    p.x.f32_stride = k;
    for (int64_t t = 0; t < n_tokens; t++)
        ref()->quantize_row(&p.x, t, p.f32 + t * k);
    return p;
}

static void drop(product *p)
{
    bm_free(p->rows);
    bm_free(p->data);
    bm_free(p->f32);
    bm_free(p->memory);
}

static float *new_out(const product *p)
{
    size_t n = (size_t)(p->n_tokens * p->w.n_rows);
    float *y = bm_malloc(n * sizeof *y);

    memset(y, 0x7B, n * sizeof *y);
    return y;
}

static void whole(const bm_kernels *k, const product *p, float *y)
{
    k->matmul(&p->w, 0, p->w.n_tiles, &p->x, 0, p->n_tokens, y, p->w.n_rows);
}

static void assert_same_floats(const float *a, const float *b, size_t n, const bm_kernels *k, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0)
            fail_msg("%s %s: element %zu of %zu is %.9g, the reference has %.9g", bm_isa_name(k->isa), what, i, n, (double)b[i], (double)a[i]);
}

static int64_t column_choice(rng *r, bm_qtype type)
{
    static const int64_t by32[] = { 32, 64, 256, 576, 896, 1536, 544 }, by256[] = { 256, 512, 768, 1536 };
    int block = bm_qtype_traits((uint32_t)type)->block_len;

    if (block == 64 || block == 128)
        return 128 * (1 + next_below(r, 12)) - (block == 64 && next_below(r, 2) ? 64 : 0);
    return bm_qtype_traits((uint32_t)type)->block_len == 256 ? by256[next_below(r, 4)] : by32[next_below(r, 7)];
}

static void every_table_gives_the_bits_of_the_reference(void **state)
{
    static const int64_t ns[] = { 1, 15, 16, 17, 100 };
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 11 };

    (void)state;
    for (int i = 0; i < N_TYPES; i++)
        for (int j = 0; j < 24; j++) {
            int64_t t = j < 8 ? j + 1 : 1 + next_below(&r, MAX_T);
            product p = make(&r, all_types[i], ns[j % 5], column_choice(&r, all_types[i]), t,
                             (scale_kind)(j % 8 < 4 ? SCALES_USUAL : j % 4), j % 3 == 0);
            float *want = new_out(&p), *got = new_out(&p);
            whole(ref(), &p, want);
            for (int v = 0; v < n_tables; v++) {
                memset(got, 0x7B, (size_t)(p.n_tokens * p.w.n_rows) * sizeof *got);
                whole(k[v], &p, got);
                assert_same_floats(want, got, (size_t)(p.n_tokens * p.w.n_rows), k[v], bm_qtype_name((uint32_t)all_types[i]));
            }
            bm_free(want);
            bm_free(got);
            drop(&p);
        }
}

static void any_split_of_tiles_and_tokens_equals_the_whole(void **state)
{
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 12 };

    (void)state;
    k[n_tables++] = ref();
    for (int i = 0; i < N_TYPES; i++) {
        product p = make(&r, all_types[i], 100, 768, 21, SCALES_USUAL, 0);
        float *want = new_out(&p), *got = new_out(&p);
        for (int v = 0; v < n_tables; v++) {
            whole(k[v], &p, want);
            for (int64_t tile = 0, step; tile < p.w.n_tiles; tile += step) {
                step = 1 + next_below(&r, 3);
                step = step < p.w.n_tiles - tile ? step : p.w.n_tiles - tile;
                for (int64_t t = 0, n; t < p.n_tokens; t += n) {
                    n = 1 + next_below(&r, 9);
                    n = n < p.n_tokens - t ? n : p.n_tokens - t;
                    k[v]->matmul(&p.w, tile, tile + step, &p.x, t, t + n, got, p.w.n_rows);
                }
            }
            assert_same_floats(want, got, (size_t)(p.n_tokens * p.w.n_rows), k[v], "split");
        }
        bm_free(want);
        bm_free(got);
        drop(&p);
    }
}

static void long_batches_equal_tokens_alone(void **state)
{
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 13 };

    (void)state;
    for (int i = 0; i < N_TYPES; i++) {
        product p = make(&r, all_types[i], 33, 512, 203, SCALES_USUAL, 0);
        float *want = new_out(&p), *got = new_out(&p);
        for (int v = 0; v < n_tables; v++) {
            whole(k[v], &p, want);
            for (int64_t t = 0; t < p.n_tokens; t++)
                k[v]->matmul(&p.w, 0, p.w.n_tiles, &p.x, t, t + 1, got, p.w.n_rows);
            assert_same_floats(want, got, (size_t)(p.n_tokens * p.w.n_rows), k[v], "alone");
        }
        bm_free(want);
        bm_free(got);
        drop(&p);
    }
}

static void reference_product_is_right_against_doubles(void **state)
{
    rng r = { 14 };
    float row[MAX_K];

    (void)state;
    for (int i = 0; i < N_TYPES; i++) {
        product p = make(&r, all_types[i], 17, MAX_K, 3, SCALES_USUAL, 0);
        bool quantised = bm_qtype_traits((uint32_t)all_types[i])->quantized;
        float *y = new_out(&p);
        whole(ref(), &p, y);
        for (int64_t n = 0; n < p.w.n_rows; n++) {
            bm_packed_row(&p.w, n, row);
            for (int64_t t = 0; t < p.n_tokens; t++) {
                double sum = 0, size = 0;
                for (int64_t c = 0; c < MAX_K; c++) {
                    double x = quantised ? (double)p.x.scale[t * p.x.s_stride + c / 32] * p.x.q[t * p.x.q_stride + c]
                                         : (double)p.f32[t * MAX_K + c];
                    sum += x * (double)row[c];
                    size += fabs(x * (double)row[c]);
                }
                assert_true(fabs((double)y[t * p.w.n_rows + n] - sum) <= (quantised ? 1e-6 : 2e-6) * size + 1e-30);
            }
        }
        bm_free(y);
        drop(&p);
    }
}

/* All of a block at +-127 against the largest codes: where saturating instructions would fail. */
static void products_at_the_bounds_are_exact(void **state)
{
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 15 };

    (void)state;
    for (int i = 3; i < N_TYPES; i++)
        for (int sign = 0; sign < 3; sign++) {
            product p = make(&r, all_types[i], 32, 256, 7, SCALES_USUAL, 1);
            float *want = new_out(&p), *got = new_out(&p);
            for (int64_t t = 0; t < 7; t++) {
                for (int c = 0; c < 256; c++)
                    p.f32[256 * t + c] = sign == 0 ? 2.0f : sign == 1 ? -2.0f : c & 1 ? 2.0f : -2.0f;
                ref()->quantize_row(&p.x, t, p.f32 + 256 * t);
            }
            whole(ref(), &p, want);
            for (int v = 0; v < n_tables; v++) {
                whole(k[v], &p, got);
                assert_same_floats(want, got, 7 * 32, k[v], bm_qtype_name((uint32_t)all_types[i]));
            }
            bm_free(want);
            bm_free(got);
            drop(&p);
        }
}

static void quantised_activations_are_equal_and_no_worse_than_the_plain_grid(void **state)
{
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 16 };
    float x[1568];

    (void)state;
    for (int round = 0; round < 50; round++) {
        int64_t n = 32 * (1 + next_below(&r, 49));
        size_t bytes = bm_acts_bytes(2, n);
        void *m[2] = { bm_alloc_aligned(bytes, 64), bm_alloc_aligned(bytes, 64) };
        bm_acts a[2] = { { 0 }, { 0 } };
        random_acts(&r, x, (size_t)n);
        if (round % 10 == 0)
            x[next_below(&r, 32)] = round % 20 ? INFINITY : NAN;
        for (int i = 0; i < 2; i++) {
            memset(m[i], 0, bytes);
            bm_acts_place(&a[i], m[i], 2, n);
        }
        ref()->quantize_row(&a[0], 1, x);
        for (int v = 0; v < n_tables; v++) {
            k[v]->quantize_row(&a[1], 1, x);
            assert_memory_equal(m[0], m[1], bytes);
            k[v]->quantize_rows(&a[1], 0, 2, x, 0);
            assert_memory_equal(a[1].q, a[1].q + a[1].q_stride, (size_t)n);
            memset(m[1], 0, bytes);
            k[v]->quantize_rows(&a[1], 1, 2, x, 0);
            assert_memory_equal(m[0], m[1], bytes);
        }
        for (int64_t g = 0; g < n / 32 && round % 10 != 0; g++) {
            double plain = 0, got = 0, largest = 0, scale = a[0].scale[a[0].s_stride + g];
            for (int i = 0; i < 32; i++)
                largest = fmax(largest, fabs((double)x[g * 32 + i]));
            for (int i = 0; i < 32; i++) {
                double v = x[g * 32 + i], step = largest / 127, e = largest > 0 ? v - rint(v / step) * step : 0;
                int q = a[0].q[a[0].q_stride + g * 32 + i];
                assert_true(q >= -127 && q <= 127);
                plain += e * e;
                got += (v - q * scale) * (v - q * scale);
            }
            assert_true(got <= plain * 1.0001 + largest * largest * 1e-9 + 1e-30);
        }
        bm_free(m[0]);
        bm_free(m[1]);
    }
}

static void exp_is_within_its_bound_and_equal(void **state)
{
    enum { N = 4096 };
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    float worst = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        float x = -88.0f + 88.0f * (float)i / 200000.0f, got = ref()->sum_exp(&x, 1, 0);
        double want = exp((double)x);
        if (x < -87.3f)
            assert_true(got == 0);
        else
            worst = fmaxf(worst, (float)(fabs((double)got - want) / want));
    }
    assert_true(worst <= 2e-7f);
    const float special[] = { 0.0f, -INFINITY, INFINITY, -1000.0f, 88.7f, 89.0f, -87.3f, 1e-40f };
    assert_true(ref()->sum_exp(&special[0], 1, 0) == 1 && ref()->sum_exp(&special[1], 1, 0) == 0);
    assert_true(isinf(ref()->sum_exp(&special[2], 1, 0)) && ref()->sum_exp(&special[3], 1, 0) == 0);
    assert_true(ref()->sum_exp(&special[4], 1, 0) > 3e38f && isinf(ref()->sum_exp(&special[5], 1, 0)));
    assert_true(isnan(ref()->sum_exp(&(float){ NAN }, 1, 0)));
    for (int v = 0; v < n_tables; v++)
        for (int i = 0; i < 8; i++) {
            float a = ref()->sum_exp(&special[i], 1, 0), b = k[v]->sum_exp(&special[i], 1, 0);
            assert_same_floats(&a, &b, 1, k[v], "exp");
        }
}

/* Runs each elementwise kernel and reduction of `k` over x, y, z into out[12][n]. */
static void run_vectors(const bm_kernels *k, const float *x, const float *y, const float *z, int64_t n, float *out)
{
    for (int i = 0; i < 12; i++)
        memcpy(out + i * n, x, (size_t)n * sizeof *x);
    k->rmsnorm(out, x, y, n, 1e-5f);
    k->rmsnorm(out + n, out + n, NULL, n, 1e-6f);
    k->layernorm(out + 2 * n, x, y, z, n, 1e-5f);
    k->layernorm(out + 3 * n, x, NULL, NULL, n, 1e-5f);
    k->silu_mul(out + 4 * n, x, y, n);
    k->gelu_tanh_mul(out + 5 * n, x, y, n);
    k->add(out + 6 * n, y, n);
    k->scale(out + 7 * n, 0.3f, n);
    k->softcap(out + 8 * n, 5.0f, n);
    if (n >= 2) {
        k->rope(out + 9 * n, y, (int)(n / 2 * 2), true);
        k->rope(out + 10 * n, y, (int)(n / 2 * 2), false);
    }
    out[11 * n] = k->max(x, n) + k->sum_exp(x, n, k->max(x, n));
}

static void vector_kernels_give_the_bits_of_the_reference(void **state)
{
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 17 };

    (void)state;
    for (int64_t n = 1; n < 200; n += n < 70 ? 1 : 13) {
        float *in = bm_malloc((size_t)n * 3 * 4), *want = bm_malloc((size_t)n * 12 * 4), *got = bm_malloc((size_t)n * 12 * 4);
        for (int64_t i = 0; i < 3 * n; i++)
            in[i] = next_float(&r) * (i % 7 == 0 ? 30.0f : 3.0f);
        run_vectors(ref(), in, in + n, in + 2 * n, n, want);
        for (int v = 0; v < n_tables; v++) {
            run_vectors(k[v], in, in + n, in + 2 * n, n, got);
            assert_same_floats(want, got, (size_t)n * 12, k[v], "vector kernels");
        }
        bm_free(in);
        bm_free(want);
        bm_free(got);
    }
}

static void assert_near(double got, double want, double by) { assert_true(fabs(got - want) <= by); }

static void vector_kernels_are_right_against_doubles(void **state)
{
    enum { N = 75 };
    rng r = { 18 };
    float x[N], y[N], z[N], out[12 * N];
    double squares = 0, mean = 0, variance = 0;

    (void)state;
    for (int i = 0; i < N; i++)
        x[i] = 4 * next_float(&r), y[i] = next_float(&r), z[i] = next_float(&r);
    run_vectors(ref(), x, y, z, N, out);
    for (int i = 0; i < N; i++)
        squares += (double)x[i] * x[i] / N, mean += (double)x[i] / N;
    for (int i = 0; i < N; i++)
        variance += (x[i] - mean) * (x[i] - mean) / N;
    for (int i = 0; i < N; i++) {
        double v = x[i], u = 0.7978845608 * (v + 0.044715 * v * v * v);
        assert_near(out[i], v / sqrt(squares + 1e-5) * y[i], 2e-6);
        assert_near(out[2 * N + i], (v - mean) / sqrt(variance + 1e-5) * y[i] + z[i], 2e-6);
        assert_near(out[4 * N + i], v / (1 + exp(-v)) * y[i], 1e-6 * 4);
        assert_near(out[5 * N + i], 0.5 * v * (1 + tanh(u)) * y[i], 1e-6 * 4);
        assert_near(out[8 * N + i], 5 * tanh(v / 5), 2e-6);
    }
    for (int i = 0; i < 37; i++) {
        double c = y[2 * i], s = y[2 * i + 1];
        assert_near(out[9 * N + i], x[i] * c - x[37 + i] * s, 2e-6);
        assert_near(out[9 * N + 37 + i], x[i] * s + x[37 + i] * c, 2e-6);
        assert_near(out[10 * N + 2 * i], x[2 * i] * c - x[2 * i + 1] * s, 2e-6);
        assert_near(out[10 * N + 2 * i + 1], x[2 * i] * s + x[2 * i + 1] * c, 2e-6);
    }
}

static void rotation_spreads_keeps_products_and_undoes_itself(void **state)
{
    enum { N = 70 };                             /* two groups, and six values that stay */
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    float x[2][N], y[2][N], peak[32] = { [13] = 64 };
    double before = 0, after = 0;
    rng r = { 23 };

    (void)state;
    for (int i = 0; i < N; i++)
        x[0][i] = 4 * next_float(&r), x[1][i] = next_float(&r);
    memcpy(y, x, sizeof y);
    ref()->rotate(y[0], N);
    ref()->rotate(y[1], N);
    for (int i = 0; i < N; i++)
        before += (double)x[0][i] * x[1][i], after += (double)y[0][i] * y[1][i];
    assert_near(after, before, 1e-4);
    assert_memory_equal(y[0] + 64, x[0] + 64, 6 * sizeof(float));
    for (int v = 0; v < n_tables; v++) {
        float z[N];
        memcpy(z, x[0], sizeof z);
        k[v]->rotate(z, N);
        assert_same_floats(y[0], z, N, k[v], "rotate");
    }
    ref()->rotate(y[0], N);
    for (int i = 0; i < N; i++)
        assert_near(y[0][i], x[0][i], 4e-6);
    ref()->rotate(peak, 32);
    for (int i = 0; i < 32; i++)
        assert_near(fabs(peak[i]), 64 / sqrt(32.0), 1e-4);
}

/* ---- attention ---- */

typedef struct attention {
    bm_attn_span s;
    int n_positions;
    float *q, *k, *v, *out;      /* [rows][dk], [positions][dk], [positions][dv], [rows][dv] */
    const float *qs[BM_ATTN_ROWS];
    float *accs[BM_ATTN_ROWS], m[BM_ATTN_ROWS], l[BM_ATTN_ROWS];
    int32_t first[BM_ATTN_ROWS], last[BM_ATTN_ROWS];
    void *pages[64];
} attention;

static void fill_pages(attention *a, const bm_kernels *kern)
{
    for (int p = 0; p < a->n_positions; p++)
        kern->kv_store(a->s.type, a->pages[p / 64], a->s.v_offset, p % 64, a->k + p * a->s.head_dim_k, a->v + p * a->s.head_dim_v,
                       a->s.head_dim_k, a->s.head_dim_v);
}

/* What the page has in place of x[p * dim + d]: within half a step of its scale. */
static void take(float *x, float value, float scale)
{
    assert_near(value, *x, 0.51f * scale);
    *x = value;
}

/* k becomes what the pages of int8 or int16 hold of it, and v. */
static void read_keys(attention *a, bm_kv_type type)
{
    int dim = a->s.head_dim_k, n_groups = (dim + 31) / 32;

    for (int p = 0; p < a->n_positions; p++) {
        const int8_t *k8 = a->pages[p / 64];
        const int16_t *k16 = a->pages[p / 64];
        const uint16_t *scales8 = (const uint16_t *)(const void *)(k8 + 64 * (dim + dim % 2));
        const float *scales16 = (const float *)(const void *)(k16 + 64 * (dim + dim % 2));
        int sub = p % 64 / 16, lane = p % 16;
        for (int d = 0; d < dim; d++) {
            int at = ((sub * ((dim + 1) / 2) + d / 2) * 16 + lane) * 2 + d % 2;
            float scale = type == BM_KV_INT8 ? bm_f16_to_f32(scales8[16 * (sub * n_groups + d / 32) + lane]) : scales16[p % 64];
            take(&a->k[p * dim + d], (float)(type == BM_KV_INT8 ? k8[at] : k16[at]) * scale, scale);
        }
    }
}

static void read_values(attention *a, bm_kv_type type)
{
    int dim = a->s.head_dim_v;

    for (int p = 0; p < a->n_positions; p++) {
        const int8_t *v8 = (const int8_t *)a->pages[p / 64] + a->s.v_offset;
        const int16_t *v16 = (const int16_t *)(const void *)v8;
        const uint16_t *scales8 = (const uint16_t *)(const void *)(v8 + 64 * (dim + dim % 2));
        const float *scales16 = (const float *)(const void *)(v16 + 64 * (dim + dim % 2));
        for (int d = 0; d < dim; d++) {
            int at = (p % 64 / 2 * dim + d) * 2 + p % 2;
            float scale = type == BM_KV_INT8 ? bm_f16_to_f32(scales8[d / 32 * 64 + p % 64]) : scales16[p % 64];
            take(&a->v[p * dim + d], (float)(type == BM_KV_INT8 ? v8[at] : v16[at]) * scale, scale);
        }
    }
}

/* q becomes what attention makes of it. */
static void round_queries(attention *a)
{
    int dk = a->s.head_dim_k;
    int16_t q[256];

    for (int row = 0; row < a->s.n_rows; row++) {
        float scale = ref()->put_int16(q, a->q + row * dk, dk);
        for (int d = 0; d < dk; d++)
            a->q[row * dk + d] = (float)q[d] * scale;
    }
}

static attention *new_attention(rng *r, bm_kv_type type, int dk, int dv, int n_rows, int n_positions, int window)
{
    attention *a = bm_zalloc(sizeof *a);
    size_t k_bytes = bm_kv_side_bytes(bm_kv_type_k(type), dk);
    int n_pages = (n_positions + 63) / 64;

    a->n_positions = n_positions;
    a->q = bm_malloc((size_t)(n_rows * dk) * 4);
    a->k = bm_malloc((size_t)(n_positions * dk) * 4);
    a->v = bm_malloc((size_t)(n_positions * dv) * 4);
    a->out = bm_malloc((size_t)(n_rows * dv) * 4);
    for (int i = 0; i < n_rows * dk; i++)
        a->q[i] = next_float(r) * 4;
    for (int i = 0; i < n_positions * dk; i++)
        a->k[i] = bm_f16_to_f32(bm_f32_to_f16(next_float(r)));
    for (int i = 0; i < n_positions * dv; i++)
        a->v[i] = bm_f16_to_f32(bm_f32_to_f16(next_float(r)));
    for (int i = 0; i < n_pages; i++) {
        a->pages[i] = bm_alloc_aligned(bm_kv_page_bytes(type, 1, dk, dv), 64);
        memset(a->pages[i], 0xFF, bm_kv_page_bytes(type, 1, dk, dv));          /* NaN beyond the last position */
    }
    for (int i = 0; i < n_rows; i++) {
        a->qs[i] = a->q + i * dk;
        a->accs[i] = a->out + i * dv;
        a->last[i] = next_below(r, 5) == 0 ? next_below(r, n_positions) : n_positions - 1 - i / 3 % n_positions;
        a->first[i] = window > 0 && a->last[i] >= window ? a->last[i] - window + 1 : 0;
    }
    a->s = (bm_attn_span){ .type = type, .head_dim_k = dk, .head_dim_v = dv, .n_rows = n_rows, .q = a->qs, .first = a->first,
                           .last = a->last, .scale = 0.125f, .span_begin = 0, .span_end = n_positions,
                           .pages = (const void *const *)a->pages, .v_offset = k_bytes, .m = a->m, .l = a->l, .acc = a->accs };
    fill_pages(a, ref());
    if (type != BM_KV_F32 && type != BM_KV_F16) {
        read_keys(a, bm_kv_type_k(type));
        read_values(a, bm_kv_type_v(type));
        round_queries(a);                        /* what is left is the rounding of probabilities */
    }
    return a;
}

static void drop_attention(attention *a)
{
    for (int i = 0; i < 64; i++)
        bm_free(a->pages[i]);
    bm_free(a->q);
    bm_free(a->k);
    bm_free(a->v);
    bm_free(a->out);
    bm_free(a);
}

/* out = the row's attention in doubles. */
static void naive_attention(const attention *a, int row, double *out)
{
    double most = -INFINITY, total = 0, score[4096];
    int dk = a->s.head_dim_k, dv = a->s.head_dim_v;

    memset(out, 0, (size_t)dv * sizeof *out);
    for (int p = a->first[row]; p <= a->last[row]; p++) {
        score[p] = 0;
        for (int d = 0; d < dk; d++)
            score[p] += (double)a->q[row * dk + d] * a->k[p * dk + d];
        score[p] *= a->s.scale;
        if (a->s.softcap > 0)
            score[p] = a->s.softcap * tanh(score[p] / a->s.softcap);
        most = fmax(most, score[p]);
    }
    for (int p = a->first[row]; p <= a->last[row]; p++) {
        double e = exp(score[p] - most);
        total += e;
        for (int d = 0; d < dv; d++)
            out[d] += e * a->v[p * dv + d];
    }
    for (int d = 0; d < dv; d++)
        out[d] /= total;
}

static void attention_is_right_against_doubles(void **state)
{
    static const int dims[][2] = { { 64, 64 }, { 16, 32 }, { 128, 128 }, { 10, 6 }, { 80, 80 } };
    const double bound[BM_KV_TYPE_COUNT] = { 4e-6, 4e-6, 5e-4, 5e-4, 5e-4 };
    rng r = { 19 };
    double want[128];
    float got[128];

    (void)state;
    for (int i = 0; i < 40; i++) {
        attention *a = new_attention(&r, (bm_kv_type)(i / 5 % BM_KV_TYPE_COUNT), dims[i % 5][0], dims[i % 5][1], 1 + next_below(&r, 12),
                                     1 + next_below(&r, 300), i % 3 == 0 ? 70 : 0);
        a->s.softcap = i % 4 == 0 ? 8.0f : 0;
        ref()->attn_span(&a->s);
        for (int row = 0; row < a->s.n_rows; row++) {
            const float *acc = a->accs[row];
            naive_attention(a, row, want);
            merge_spans(got, 1, &a->m[row], &a->l[row], &acc, a->s.head_dim_v);
            for (int d = 0; d < a->s.head_dim_v; d++)
                assert_near(got[d], want[d], bound[a->s.type]);
        }
        drop_attention(a);
    }
}

static void assert_same_attention(const bm_kernels *kern, attention *a)
{
    size_t n = (size_t)(a->s.n_rows * a->s.head_dim_v);
    float m[BM_ATTN_ROWS], l[BM_ATTN_ROWS], *acc = bm_malloc(n * 4);

    ref()->attn_span(&a->s);
    memcpy(m, a->m, sizeof m);
    memcpy(l, a->l, sizeof l);
    memcpy(acc, a->out, n * 4);
    kern->attn_span(&a->s);
    assert_same_floats(m, a->m, (size_t)a->s.n_rows, kern, "attention m");
    assert_same_floats(l, a->l, (size_t)a->s.n_rows, kern, "attention l");
    assert_same_floats(acc, a->out, n, kern, "attention acc");
    bm_free(acc);
}

static void attention_gives_the_bits_of_the_reference(void **state)
{
    static const int dims[][2] = { { 64, 64 }, { 16, 32 }, { 128, 128 }, { 10, 6 }, { 80, 72 }, { 256, 256 } };
    const int n_cases = 12 * BM_KV_TYPE_COUNT;
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 20 };

    (void)state;
    for (int i = 0; i < n_cases; i++) {
        attention *a = new_attention(&r, (bm_kv_type)(i / 6 % BM_KV_TYPE_COUNT), dims[i % 6][0], dims[i % 6][1],
                                     i % 7 == 0 ? BM_ATTN_ROWS : 1 + next_below(&r, 20), 1 + next_below(&r, 400), i % 3 == 0 ? 70 : 0);
        a->s.softcap = i % 4 == 0 ? 8.0f : 0;
        for (int v = 0; v < n_tables; v++) {
            fill_pages(a, k[v]);
            assert_same_attention(k[v], a);
        }
        drop_attention(a);
    }
}

static void rows_together_equal_rows_alone(void **state)
{
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 21 };

    (void)state;
    k[n_tables++] = ref();
    for (int i = 0; i < 8; i++) {
        attention *a = new_attention(&r, (bm_kv_type)(i % BM_KV_TYPE_COUNT), 64, 64, 23, 200, i % 3 == 0 ? 50 : 0);
        float m[23], l[23], acc[23 * 64];
        for (int v = 0; v < n_tables; v++) {
            k[v]->attn_span(&a->s);
            memcpy(m, a->m, sizeof m);
            memcpy(l, a->l, sizeof l);
            memcpy(acc, a->out, sizeof acc);
            for (int row = 0; row < 23; row++) {
                bm_attn_span one = a->s;
                one.n_rows = 1;
                one.q += row, one.first += row, one.last += row, one.m += row, one.l += row, one.acc += row;
                k[v]->attn_span(&one);
            }
            assert_same_floats(m, a->m, 23, k[v], "alone m");
            assert_same_floats(l, a->l, 23, k[v], "alone l");
            assert_same_floats(acc, a->out, 23 * 64, k[v], "alone acc");
        }
        drop_attention(a);
    }
}

static void int16_attention_is_exact_at_its_bounds(void **state)
{
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 23 };
    attention *a = new_attention(&r, BM_KV_INT16, 128, 128, 7, 64, 0);

    (void)state;
    k[n_tables++] = ref();
    for (int i = 0; i < 64 * 128; i++)
        a->k[i] = i % 2 ? -3.0f : 3.0f, a->v[i] = -5.0f;
    for (int i = 0; i < 7 * 128; i++)
        a->q[i] = i % 2 ? -0.25f : 0.25f;
    for (int row = 0; row < 7; row++)
        a->last[row] = 63;
    fill_pages(a, ref());
    for (int v = 0; v < n_tables; v++) {
        k[v]->attn_span(&a->s);
        for (int row = 0; row < 7; row++) {
            assert_near(a->m[row], 12.0f, 24e-7f);
            assert_true(a->l[row] == 64.0f);
            for (int d = 0; d < 128; d++)
                assert_near(a->out[row * 128 + d] / 64, -5.0f, 5e-6f);
        }
    }
    drop_attention(a);
}

static void rows_are_rounded_to_int16_by_their_largest(void **state)
{
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 24 };

    (void)state;
    for (int i = 0; i < 2000; i++) {
        int n = 1 + next_below(&r, 80);
        float x[80], scale, most = 0;
        int16_t q[80], again[80];
        for (int d = 0; d < n; d++) {
            x[d] = ldexpf(next_float(&r), i % 60 - 30);
            most = fmaxf(most, fabsf(x[d]));
        }
        scale = ref()->put_int16(q, x, n);
        assert_true(scale == most / 4095);
        for (int d = 0; d < n; d++) {
            assert_true(abs(q[d]) <= 4095);
            assert_near((float)q[d] * scale, x[d], 0.501f * scale);
        }
        for (int v = 0; v < n_tables; v++) {
            assert_true(k[v]->put_int16(again, x, n) == scale);
            assert_memory_equal(again, q, (size_t)n * sizeof *q);
        }
    }
}

/* What a position of int8 or int16 holds that is not finite shows in the rows that see it, and in no other. */
static void what_is_not_finite_shows_where_it_is_seen(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 25 };

    (void)state;
    k[n_tables++] = ref();
    for (int i = 0; i < 18; i++) {
        static const bm_kv_type types[] = { BM_KV_INT8, BM_KV_INT16, BM_KV_INT16_8 };
        bm_kv_type type = types[i / 6];
        attention *a = new_attention(&r, type, 64, 64, 9, 200, 0);
        (i % 2 ? a->k : a->v)[150 * 64 + 7] = bad[i % 6 / 2];
        for (int row = 0; row < 9; row++)
            a->last[row] = 146 + row;
        fill_pages(a, ref());
        for (int v = 0; v < n_tables; v++) {
            k[v]->attn_span(&a->s);
            for (int row = 0; row < 9; row++)
                for (int d = 0; d < 64; d++)
                    assert_true(isnan(a->out[row * 64 + d]) == (row >= 4 && (type == BM_KV_INT16 || i % 2 || d < 32)));
        }
        drop_attention(a);
    }
}

static void queries_of_zeros_and_of_nan_are_what_they_are(void **state)
{
    const bm_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 26 };
    attention *a = new_attention(&r, BM_KV_INT16, 64, 64, 3, 100, 0);

    (void)state;
    k[n_tables++] = ref();
    memset(a->q, 0, 64 * sizeof *a->q);
    a->q[64 + 5] = NAN;
    for (int row = 0; row < 3; row++)
        a->last[row] = 99;
    for (int v = 0; v < n_tables; v++) {
        k[v]->attn_span(&a->s);
        assert_true(a->m[0] == 0 && a->l[0] == 100);
        for (int d = 0; d < 64; d++)
            assert_true(isfinite(a->out[d]) && isnan(a->out[64 + d]) && isfinite(a->out[128 + d]));
    }
    drop_attention(a);
}

static void spans_merge(bm_kv_type type, double bound)
{
    rng r = { 22 };
    double want[64];
    float got[64], accs[3][64], m[3], l[3];
    attention *a = new_attention(&r, type, 64, 64, 1, 2100, 0);
    const float *parts[3] = { accs[0], accs[1], accs[2] };

    for (int last = 0; last < 3; last++) {
        a->last[0] = last == 0 ? 2099 : last == 1 ? 1500 : 100;
        for (int i = 0; i < 3; i++) {
            float *acc = accs[i];
            bm_attn_span s = a->s;
            s.span_begin = i * BM_ATTN_SPAN;
            s.span_end = i == 2 ? 2100 : (i + 1) * BM_ATTN_SPAN;
            s.m = &m[i], s.l = &l[i], s.acc = &acc;
            ref()->attn_span(&s);
        }
        if (last == 2)
            assert_true(m[1] == -INFINITY && l[1] == 0 && m[2] == -INFINITY && l[2] == 0);
        merge_spans(got, 3, m, l, parts, 64);
        naive_attention(a, 0, want);
        for (int d = 0; d < 64; d++)
            assert_near(got[d], want[d], bound);
    }
    drop_attention(a);
}

static void spans_merge_to_the_whole_and_unseen_spans_are_empty(void **state)
{
    (void)state;
    spans_merge(BM_KV_F16, 4e-6);
    spans_merge(BM_KV_INT16, 5e-4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_gives_the_bits_of_the_reference),
        cmocka_unit_test(any_split_of_tiles_and_tokens_equals_the_whole),
        cmocka_unit_test(long_batches_equal_tokens_alone),
        cmocka_unit_test(reference_product_is_right_against_doubles),
        cmocka_unit_test(products_at_the_bounds_are_exact),
        cmocka_unit_test(quantised_activations_are_equal_and_no_worse_than_the_plain_grid),
        cmocka_unit_test(exp_is_within_its_bound_and_equal),
        cmocka_unit_test(vector_kernels_give_the_bits_of_the_reference),
        cmocka_unit_test(vector_kernels_are_right_against_doubles),
        cmocka_unit_test(rotation_spreads_keeps_products_and_undoes_itself),
        cmocka_unit_test(attention_is_right_against_doubles),
        cmocka_unit_test(attention_gives_the_bits_of_the_reference),
        cmocka_unit_test(rows_together_equal_rows_alone),
        cmocka_unit_test(int16_attention_is_exact_at_its_bounds),
        cmocka_unit_test(rows_are_rounded_to_int16_by_their_largest),
        cmocka_unit_test(what_is_not_finite_shows_where_it_is_seen),
        cmocka_unit_test(queries_of_zeros_and_of_nan_are_what_they_are),
        cmocka_unit_test(spans_merge_to_the_whole_and_unseen_spans_are_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
