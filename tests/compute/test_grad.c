/* test_grad.c - every table of training's kernels that this CPU can run, the scalar one too, against sums in doubles, and the same
 * bits however the work is cut. Bounds of a value, relative to the sum of the absolute products:
 *   exact (f32)    4e-6: sums of 256 f32 products, and the sums of the blocks
 *   fast gemm      8e-3: both factors rounded to bf16, 2^-9 each, the worst of all
 *   fast packed    with mw and my the largest |w| of a column and |y| of a token in a block of 128 rows, every product may be wrong by
 *                  |y| mw / 253 + |w| my / 253 + mw my / 253^2: half a step of 8 bits each; and 3.5 % of the norm of all values,
 *                  where dY has tails of 20 times the usual (2 % expected) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/mem.h"
#include "compute/grad.h"
#include "compute/pack.h"
#include "random_blocks.h"

static const double bound[2] = { 8e-3, 4e-6 };           /* [exact] */

static int tables(const bm_grad_kernels *out[BM_ISA_COUNT])
{
    bm_cpu cpu;
    int n = 0;

    bm_cpu_detect(&cpu);
    for (int i = BM_ISA_REF; i < BM_ISA_COUNT; i++)
        if (bm_isa_usable(&cpu, (bm_isa)i) && bm_grad_kernels_get((bm_isa)i) != NULL)
            out[n++] = bm_grad_kernels_get((bm_isa)i);
    return n;
}

static float *random_floats(rng *r, size_t n)
{
    float *x = bm_malloc((n + 1) * sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = next_below(r, 30) == 0 ? 20 * next_float(r) : next_float(r);
    return x;
}

/* One transposed product: dy[T, N] and a pack of W[N, K]. */
typedef struct back {
    bm_packed w;
    void *rows, *data;
    float *y, *dx, *values;      /* [T][N], [T][K + 1], [N][K] */
    int64_t n_tokens, y_stride, dx_stride;
} back;

static back make(rng *r, bm_qtype type, int64_t n, int64_t k, int64_t n_tokens)
{
    back b = { .n_tokens = n_tokens, .y_stride = n + 3, .dx_stride = k + 1 };
    size_t row, bytes;

    assert_true(bm_qtype_row_bytes(type, (uint64_t)k, &row));
    assert_true(bm_pack_bytes(type, n, k, &bytes));
    b.rows = bm_malloc((size_t)n * row);
    b.data = bm_alloc_aligned(bytes, 64);
    random_rows(r, type, b.rows, (size_t)(n * k), SCALES_USUAL, 0);
    assert_int_equal(bm_packed_init(&b.w, type, n, k, b.data, NULL), 0);
    bm_pack_tiles(&b.w, b.data, b.rows, NULL, 0, b.w.n_tiles);
    b.y = random_floats(r, (size_t)(n_tokens * b.y_stride));
    b.dx = random_floats(r, (size_t)(n_tokens * b.dx_stride));
    b.values = bm_malloc((size_t)(n * k) * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        bm_packed_row(&b.w, i, b.values + i * k);
    return b;
}

static void drop(back *b)
{
    bm_free(b->rows);
    bm_free(b->data);
    bm_free(b->y);
    bm_free(b->dx);
    bm_free(b->values);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* dx of all columns, in parts of `step` columns; tokens of dy are put `puts` at a time. */
static float *run(const bm_grad_kernels *k, const back *b, bool exact, bool add, int64_t step, int64_t puts)
{
    size_t n = (size_t)(b->n_tokens * b->dx_stride);
    float *dx = bm_malloc(n * sizeof *dx);
    bm_dy dy = { .n_tokens = b->n_tokens, .n_rows = b->w.n_rows, .exact = exact };
    void *scratch = bm_alloc_aligned(k->scratch_bytes(b->w.n_rows, exact), 64);

    memcpy(dx, b->dx, n * sizeof *dx);
    dy.memory = bm_alloc_aligned(k->dy_bytes(b->n_tokens, b->w.n_rows, exact), 64);
    memset(dy.memory, 0xFF, k->dy_bytes(b->n_tokens, b->w.n_rows, exact));
    for (int64_t t = 0; t < b->n_tokens; t += puts)
        k->dy_put(&dy, t, least(t + puts, b->n_tokens), b->y, b->y_stride);
    for (int64_t c = 0; c < b->w.n_cols; c += step)
        k->matmul_back(&b->w, &dy, c, least(c + step, b->w.n_cols), dx, b->dx_stride, add, scratch);
    bm_free(dy.memory);
    bm_free(scratch);
    return dx;
}

typedef struct wanted { double sum, bound; } wanted;

/* One value of dX in doubles. */
static wanted want_of(const back *b, int64_t t, int64_t c, bool exact, bool add)
{
    wanted v = { add ? (double)b->dx[t * b->dx_stride + c] : 0, 1e-30 };
    double scale = fabs(v.sum);

    for (int64_t block = 0; block < b->w.n_rows; block += 128) {
        int64_t end = least(block + 128, b->w.n_rows);
        double mw = 0, my = 0, sum_w = 0, sum_y = 0;
        for (int64_t n = block; n < end; n++) {
            double y = (double)b->y[t * b->y_stride + n], w = (double)b->values[n * b->w.n_cols + c];
            mw = fmax(mw, fabs(w)), my = fmax(my, fabs(y));
            sum_w += fabs(w), sum_y += fabs(y);
            v.sum += w * y;
            scale += fabs(w * y);
        }
        v.bound += exact ? 0 : sum_y * mw / 253 + sum_w * my / 253 + (double)(end - block) * mw * my / (253 * 253);
    }
    v.bound += bound[1] * scale;
    return v;
}

static void check(const bm_grad_kernels *k, const back *b, bool exact, bool add)
{
    float *dx = run(k, b, exact, add, 1 << 20, 1 << 20);
    double error = 0, norm = 0;

    for (int64_t t = 0; t < b->n_tokens; t++) {
        for (int64_t c = 0; c < b->w.n_cols; c++) {
            wanted want = want_of(b, t, c, exact, add);
            double got = dx[t * b->dx_stride + c], off = got - want.sum;
            if (!(fabs(off) <= want.bound))
                fail_msg("%s %s N %lld K %lld T %lld exact %d add %d: token %lld column %lld is %.9g, should be %.9g, bound %.3g",
                         bm_isa_name(k->isa), bm_qtype_name((uint32_t)b->w.type), (long long)b->w.n_rows, (long long)b->w.n_cols,
                         (long long)b->n_tokens, exact, add, (long long)t, (long long)c, got, want.sum, want.bound);
            error += off * off;
            norm += want.sum * want.sum;
        }
        assert_true(dx[t * b->dx_stride + b->w.n_cols] == b->dx[t * b->dx_stride + b->w.n_cols]);    /* beside the row */
    }
    if (sqrt(error) > 0.035 * sqrt(norm))
        fail_msg("%s %s N %lld: error %.3g of the norm %.3g", bm_isa_name(k->isa), bm_qtype_name((uint32_t)b->w.type),
                 (long long)b->w.n_rows, sqrt(error), sqrt(norm));
    bm_free(dx);
}

static int64_t columns_of(bm_qtype type, int choice)
{
    int block = bm_qtype_traits((uint32_t)type)->block_len;

    return block > 1 ? block * (block >= 128 ? 1 + choice % 2 : 1 + choice % 5) : (int64_t[]){ 1, 31, 96, 77, 64 }[choice % 5];
}

static void products_with_transposed_packs_are_right(void **state)
{
    static const int64_t ns[] = { 1, 15, 48, 100, 600 }, ts[] = { 1, 3, 13, 29, 2 };
    const bm_grad_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 21 };

    (void)state;
    for (int i = 0; i < N_TYPES; i++)
        for (int j = 0; j < 5; j++) {
            back b = make(&r, all_types[i], ns[j], columns_of(all_types[i], i + j), ts[j]);
            for (int v = 0; v < n_tables; v++)
                for (int exact = 0; exact < 2; exact++)
                    check(k[v], &b, exact, (i + j + v) % 2);
            drop(&b);
        }
}

static void assert_same_bits(const float *a, const float *b, size_t n, const bm_grad_kernels *k, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0)
            fail_msg("%s %s: element %zu of %zu is %.9g whole and %.9g cut", bm_isa_name(k->isa), what, i, n, (double)a[i], (double)b[i]);
}

static void any_cut_of_columns_and_tokens_gives_the_same_bits(void **state)
{
    static const bm_qtype types[] = { BM_Q4_1, BM_Q6_K, BM_F32, BM_BF16 };
    const bm_grad_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 22 };

    (void)state;
    for (int i = 0; i < 4; i++) {
        back b = make(&r, types[i], 555, 512, 97);
        size_t n = (size_t)(b.n_tokens * b.dx_stride);
        for (int v = 0; v < n_tables; v++)
            for (int exact = 0; exact < 2; exact++) {
                float *whole = run(k[v], &b, exact, true, 512, 97), *cut = run(k[v], &b, exact, true, 96, 5), *one;
                back part = b;
                assert_same_bits(whole, cut, n, k[v], "columns");
                part.n_tokens = 1;
                part.y += 41 * b.y_stride;
                part.dx += 41 * b.dx_stride;
                one = run(k[v], &part, exact, true, 512, 1);
                assert_same_bits(whole + 41 * b.dx_stride, one, (size_t)b.dx_stride, k[v], "a token alone");
                bm_free(whole);
                bm_free(cut);
                bm_free(one);
            }
        drop(&b);
    }
}

static void what_is_not_finite_stays_so(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    const bm_grad_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 25 };

    (void)state;
    for (int i = 0; i < 3; i++) {
        back b = make(&r, BM_Q8_0, 300, 64, 14);
        b.y[5 * b.y_stride + 97 * i] = bad[i];
        for (int v = 0; v < n_tables; v++)
            for (int exact = 0; exact < 2; exact++) {
                float *dx = run(k[v], &b, exact, false, 64, 14);
                for (int64_t t = 0; t < b.n_tokens; t++)
                    for (int64_t c = 0; c < b.w.n_cols; c++)
                        if ((bool)isfinite(dx[t * b.dx_stride + c]) != (t != 5))
                            fail_msg("%s exact %d: %g in token 5 gives %g in token %lld", bm_isa_name(k[v]->isa), exact, (double)bad[i],
                                     (double)dx[t * b.dx_stride + c], (long long)t);
                bm_free(dx);
            }
        drop(&b);
    }
}

/* A product of two random matrices whose rows or columns lie together. */
typedef struct form { bool a_transposed, b_transposed; } form;

static bm_gemm gemm_make(rng *r, int64_t m, int64_t n, int64_t k, form f, bool add, bool exact)
{
    bm_gemm g = { .m = m, .n = n, .k = k, .c_row = n + 2, .alpha = 0.5f + next_float(r) / 4, .add = add, .exact = exact };

    g.a_row = f.a_transposed ? 1 : k + 1, g.a_col = f.a_transposed ? m + 1 : 1;
    g.b_row = f.b_transposed ? 1 : n + 1, g.b_col = f.b_transposed ? k + 1 : 1;
    g.a = random_floats(r, (size_t)((m + 1) * (k + 1)));
    g.b = random_floats(r, (size_t)((n + 1) * (k + 1)));
    return g;
}

static void gemm_check(const bm_grad_kernels *kernels, bm_gemm g, const float *before)
{
    size_t size = (size_t)(g.m * g.c_row);

    g.c = bm_malloc(size * sizeof *g.c);
    memcpy(g.c, before, size * sizeof *g.c);
    kernels->gemm(&g);
    for (int64_t m = 0; m < g.m; m++)
        for (int64_t n = 0; n < g.c_row; n++) {
            double old = before[m * g.c_row + n], want = g.add || n >= g.n ? old : 0, scale = fabs(want) + 1e-30;
            for (int64_t k = 0; k < g.k && n < g.n; k++) {
                double p = (double)g.alpha * (double)g.a[m * g.a_row + k * g.a_col] * (double)g.b[k * g.b_row + n * g.b_col];
                want += p;
                scale += fabs(p);
            }
            if (!(fabs((double)g.c[m * g.c_row + n] - want) <= bound[g.exact] * scale))
                fail_msg("%s gemm %lld x %lld x %lld exact %d: [%lld][%lld] is %.9g, should be %.9g", bm_isa_name(kernels->isa),
                         (long long)g.m, (long long)g.n, (long long)g.k, g.exact, (long long)m, (long long)n,
                         (double)g.c[m * g.c_row + n], want);
        }
    bm_free(g.c);
}

static void products_of_floats_are_right_in_all_forms(void **state)
{
    static const int64_t shapes[][3] = { { 1, 1, 1 }, { 3, 16, 97 }, { 16, 100, 33 }, { 97, 8, 300 }, { 29, 64, 513 }, { 64, 47, 2 },
                                         { 130, 33, 64 } };
    const bm_grad_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 23 };

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int j = 0; j < 16; j++) {
            bm_gemm g = gemm_make(&r, shapes[i][0], shapes[i][1], shapes[i][2], (form){ j & 1, j & 2 }, j & 4, j & 8);
            float *before = random_floats(&r, (size_t)(g.m * g.c_row));
            for (int v = 0; v < n_tables; v++)
                gemm_check(k[v], g, before);
            bm_free((void *)(uintptr_t)g.a);
            bm_free((void *)(uintptr_t)g.b);
            bm_free(before);
        }
}

/* g in parts of at most m_step x n_step values, into c. */
static void gemm_cut(const bm_grad_kernels *k, const bm_gemm *g, int64_t m_step, int64_t n_step, float *c)
{
    for (int64_t m = 0; m < g->m; m += m_step)
        for (int64_t n = 0; n < g->n; n += n_step) {
            bm_gemm part = *g;
            part.m = least(m_step, g->m - m), part.n = least(n_step, g->n - n);
            part.a += m * g->a_row, part.b += n * g->b_col;
            part.c = c + m * g->c_row + n;
            k->gemm(&part);
        }
}

static void any_cut_of_a_product_of_floats_gives_the_same_bits(void **state)
{
    const bm_grad_kernels *k[BM_ISA_COUNT];
    int n_tables = tables(k);
    rng r = { 24 };

    (void)state;
    for (int j = 0; j < 8; j++) {
        bm_gemm g = gemm_make(&r, 61, 83, 700, (form){ j & 1, j & 2 }, true, j & 4);
        size_t n = (size_t)(g.m * g.c_row);
        float *before = random_floats(&r, n), *whole = bm_malloc(n * sizeof *whole), *cut = bm_malloc(n * sizeof *cut);
        for (int v = 0; v < n_tables; v++)
            for (int s = 1; s < 62; s += 12) {
                memcpy(whole, before, n * sizeof *whole);
                memcpy(cut, before, n * sizeof *cut);
                gemm_cut(k[v], &g, g.m, g.n, whole);
                gemm_cut(k[v], &g, s, 70 - s, cut);
                assert_same_bits(whole, cut, n, k[v], "gemm");
            }
        bm_free((void *)(uintptr_t)g.a);
        bm_free((void *)(uintptr_t)g.b);
        bm_free(before);
        bm_free(whole);
        bm_free(cut);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_with_transposed_packs_are_right),
        cmocka_unit_test(any_cut_of_columns_and_tokens_gives_the_same_bits),
        cmocka_unit_test(what_is_not_finite_stays_so),
        cmocka_unit_test(products_of_floats_are_right_in_all_forms),
        cmocka_unit_test(any_cut_of_a_product_of_floats_gives_the_same_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
