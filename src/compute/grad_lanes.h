/* grad_lanes.h - products of float matrices written once over 16 lanes of 32-bit words, compiled by grad_avx*.c after its lanes_*.h.
 *
 * A word holds STEP_K consecutive values of the reduced index: one f32, or a pair of bf16. The right side becomes a panel of words
 * [steps][32 columns], made once per block of BM_GRAD_BLOCK (16 or 32 KB: it stays near), which is walked for 12, 4 or 1 rows of
 * the left side at a time, whose words are broadcast. grad_back.h makes its panels from packed weights. The including file gives:
 *   STEP_K, ROWS_MAX, VECS            values of a word; rows and vectors of 16 columns whose sums fit the registers
 *   v_step(acc, a, b)                 acc + a word's product
 *   words_along(p, n)                 16 words of n <= 16 * STEP_K values that lie together, the rest 0
 *   words_across(p0, p1, n)           words of n <= 16 columns of row p0 (and of p1, NULL: zeros, where STEP_K is 2) */
#pragma once
#include <string.h>
#include "compute/grad.h"

enum { PANEL_COLS = 32, BLOCK_STEPS = BM_GRAD_BLOCK / STEP_K, LEFT_WORDS = 12288, LEFT_ROWS = LEFT_WORDS / BLOCK_STEPS };

/* The left side: the word of row m and step s is at[m * row + s * step]. */
typedef struct left_words {
    const float *at;
    int64_t row, step;
} left_words;

/* Where sums go: c[m * row + n] = (add ? c : 0) + alpha * sum. */
typedef struct sums_to {
    float *c;
    int64_t row;
    int columns;                 /* of the panel, at most 32 */
    float alpha;
    bool add;
} sums_to;

LANES v16 load_upto(const float *p, int n) { return n >= 16 ? v_load(p) : v_load_n(p, n > 0 ? n : 0, 0); }

LANES void put_sum(float *c, v16 sum, int n, float alpha, bool add)
{
    v16 by = v_set(alpha);

    if (n <= 0)
        return;
    sum = add ? v_fma(sum, by, load_upto(c, n)) : v_mul(sum, by);
    if (n >= 16)
        v_store(c, sum);
    else
        v_store_n(c, sum, n);
}

/* `rows` rows (a constant) of the left side times `vecs` vectors (a constant) of the panel from column `from`. */
LANES void product_block(int rows, int vecs, left_words a, const float *panel, int from, int64_t steps, const sums_to *to, int64_t m)
{
    const float *left = a.at + m * a.row;
    const int64_t row = a.row, step = a.step;
    v16 acc[ROWS_MAX][VECS];

    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int v = 0; v < vecs; v++)
            acc[i][v] = v_set(0);
    panel += from;
    for (int64_t s = 0; s < steps; s++, panel += PANEL_COLS, left += step) {
        v16 b[VECS];
        UNROLL
        for (int v = 0; v < vecs; v++)
            b[v] = v_load(panel + 16 * v);
        UNROLL
        for (int i = 0; i < rows; i++) {
            v16 word = v_set(left[i * row]);
            UNROLL
            for (int v = 0; v < vecs; v++)
                acc[i][v] = v_step(acc[i][v], word, b[v]);
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int v = 0; v < vecs; v++)
            put_sum(to->c + (m + i) * to->row + from + 16 * v, acc[i][v], to->columns - from - 16 * v, to->alpha, to->add);
}

#define PRODUCT_FN(name, rows, vecs) \
    static __attribute__((noinline)) void name(left_words a, const float *panel, int from, int64_t steps, const sums_to *to, int64_t m) \
    { product_block(rows, vecs, a, panel, from, steps, to, m); }
PRODUCT_FN(product_full, ROWS_MAX, VECS)
PRODUCT_FN(product_4, 4, VECS)
PRODUCT_FN(product_1, 1, VECS)
#if VECS > 1
PRODUCT_FN(product_full_narrow, ROWS_MAX, 1)
PRODUCT_FN(product_4_narrow, 4, 1)
PRODUCT_FN(product_1_narrow, 1, 1)
#endif

/* All rows of the left side times a panel. */
static void product(left_words a, int64_t n_rows, const float *panel, int64_t steps, const sums_to *to)
{
    for (int from = 0; from < to->columns; from += 16 * VECS) {
        int64_t m = 0;
#if VECS > 1
        if (to->columns - from <= 16) {
            for (; m + ROWS_MAX <= n_rows; m += ROWS_MAX)
                product_full_narrow(a, panel, from, steps, to, m);
            for (; m + 4 <= n_rows; m += 4)
                product_4_narrow(a, panel, from, steps, to, m);
            for (; m < n_rows; m++)
                product_1_narrow(a, panel, from, steps, to, m);
            return;
        }
#endif
        for (; m + ROWS_MAX <= n_rows; m += ROWS_MAX)
            product_full(a, panel, from, steps, to, m);
        for (; m + 4 <= n_rows; m += 4)
            product_4(a, panel, from, steps, to, m);
        for (; m < n_rows; m++)
            product_1(a, panel, from, steps, to, m);
    }
}

static int64_t steps_of(int64_t n) { return (n + STEP_K - 1) / STEP_K; }

/* Words [s][width] of `n` columns, padded to a multiple of 16 (at most width) with zeros: a value of k and column is at
 * p[k * k_stride + column]. */
static void words_of_rows(float *out, int64_t width, const float *p, int64_t k_stride, int64_t n_k, int64_t n)
{
    for (int64_t k = 0; k < n_k; k += STEP_K, out += width) {
        const float *p0 = p + k * k_stride, *p1 = k + 1 < n_k ? p0 + k_stride : NULL;
        for (int64_t c = 0; c < n; c += 16)
            v_store(out + c, words_across(p0 + c, p1 != NULL ? p1 + c : NULL, n - c < 16 ? (int)(n - c) : 16));
    }
}

/* Words of at most 16 columns, each of whose values lie together: column c at p + c * c_stride; out[s][PANEL_COLS]. */
static void words_of_columns(float *out, const float *p, int64_t c_stride, int64_t n_k, int n)
{
    for (int64_t k = 0; k < n_k; k += 16 * STEP_K, out += 16 * PANEL_COLS) {
        int64_t left = n_k - k, steps = steps_of(left) < 16 ? steps_of(left) : 16;
        v16 words[16];
        for (int c = 0; c < 16; c++)
            words[c] = c < n ? words_along(p + c * c_stride + k, left < 16 * STEP_K ? (int)left : 16 * STEP_K) : v_set(0);
        v_transpose(words);
        for (int64_t s = 0; s < steps; s++)
            v_store(out + s * PANEL_COLS, words[s]);
    }
}

/* The panel of columns [n, n + columns) of B, k from k_begin. */
static void gemm_panel(float *panel, const bm_gemm *g, int64_t k_begin, int64_t n_k, int64_t n, int columns)
{
    const float *b = g->b + k_begin * g->b_row + n * g->b_col;

    if (g->b_col == 1) {
        words_of_rows(panel, PANEL_COLS, b, g->b_row, n_k, columns);
        return;
    }
    for (int c = 0; c < columns; c += 16)
        words_of_columns(panel + c, b + c * g->b_col, g->b_col, n_k, columns - c < 16 ? columns - c : 16);
}

/* Rows [m, m + n_rows) of A as words, k from k_begin, in `memory` where they are not so already. */
static left_words gemm_left(float *memory, const bm_gemm *g, int64_t m, int64_t n_rows, int64_t k_begin, int64_t n_k)
{
    const float *a = g->a + m * g->a_row + k_begin * g->a_col;

    if (g->a_col == 1 && STEP_K == 1)
        return (left_words){ a, g->a_row, 1 };
    if (g->a_row == 1) {
        words_of_rows(memory, LEFT_ROWS, a, g->a_col, n_k, n_rows);
        return (left_words){ memory, 1, LEFT_ROWS };
    }
    for (int64_t i = 0; i < n_rows; i++)
        for (int64_t k = 0; k < n_k; k += 16 * STEP_K)
            v_store(memory + i * BLOCK_STEPS + k / STEP_K,
                    words_along(a + i * g->a_row + k, n_k - k < 16 * STEP_K ? (int)(n_k - k) : 16 * STEP_K));
    return (left_words){ memory, BLOCK_STEPS, 1 };
}

static void gemm_words(const bm_gemm *g)
{
    _Alignas(64) float memory[LEFT_WORDS], panel[BLOCK_STEPS * PANEL_COLS];
    int64_t k = 0;

    do {
        int64_t n_k = g->k - k < BM_GRAD_BLOCK ? g->k - k : BM_GRAD_BLOCK;
        for (int64_t m = 0; m < g->m; m += LEFT_ROWS) {
            int64_t n_rows = g->m - m < LEFT_ROWS ? g->m - m : LEFT_ROWS;
            left_words a = gemm_left(memory, g, m, n_rows, k, n_k);
            for (int64_t n = 0; n < g->n; n += PANEL_COLS) {
                int columns = g->n - n < PANEL_COLS ? (int)(g->n - n) : PANEL_COLS;
                sums_to to = { g->c + m * g->c_row + n, g->c_row, columns, g->alpha, g->add || k > 0 };
                gemm_panel(panel, g, k, n_k, n, columns);
                product(a, n_rows, panel, steps_of(n_k), &to);
            }
        }
        k += BM_GRAD_BLOCK;
    } while (k < g->k);
}
