/* grad.h - the kernels that only training needs: products with transposed packed weights, and products of float matrices.
 *
 * One table per instruction set, the scalar one is the specification. The reduced index is cut into blocks of BM_GRAD_BLOCK from
 * 0; each block's products are summed in ascending order from 0, and the sums of the blocks are added to the result in ascending
 * order. Where a call is not exact, a table may round both factors, floats to bf16, and W and dY to 8 bits per block of 128 rows (W by
 * column, dY by token); tests/compute/test_grad.c has the bounds. In all cases a value depends on its own row and column only:
 * never on how the work is cut or on the threads. Training is deterministic per instruction set, not across them.
 * All functions are pure computations on the caller's memory: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "compute/cpu.h"
#include "compute/pack.h"

enum { BM_GRAD_BLOCK = 256 };

/* C[m, n] = (add ? C : 0) + alpha * sum_k A(m, k) B(k, n) for m in [0, M), n in [0, N), k in [0, K).
 * A(m, k) = a[m * a_row + k * a_col], one of a_row, a_col is 1; likewise B(k, n) = b[k * b_row + n * b_col]. C does not alias. */
typedef struct bm_gemm {
    int64_t m, n, k;
    const float *a, *b;
    int64_t a_row, a_col, b_row, b_col;
    float *c;
    int64_t c_row;
    float alpha;
    bool add;
    bool exact;                  /* f32 products; else a table may round A and B to bf16 first */
} bm_gemm;

/* dY[T, N] as bm_grad_kernels.matmul_back reads it: prepared once, used for all columns. Memory is the caller's. */
typedef struct bm_dy {
    int64_t n_tokens, n_rows;    /* T, N */
    void *memory;                /* bm_grad_kernels.dy_bytes, 64-byte aligned */
    bool exact;
} bm_dy;

typedef struct bm_grad_kernels {
    bm_isa isa;
    void (*gemm)(const bm_gemm *g);
    /* Bytes of a bm_dy of up to so many tokens and rows; exact: f32 throughout. */
    size_t (*dy_bytes)(int64_t max_tokens, int64_t n_rows, bool exact);
    /* Rows [t_begin, t_end) of dy from f32 rows y + t * y_stride. Different ranges may be prepared at once. */
    void (*dy_put)(bm_dy *dy, int64_t t_begin, int64_t t_end, const float *y, int64_t y_stride);
    /* dX[t][k] = (add ? dX : 0) + sum_n dY[t][n] W[n][k] for all tokens and for k in [k_begin, k_end), multiples of 32 (k_end
     * may be K). W is dequantised from its pack on the fly; scratch of scratch_bytes is this worker's own. */
    size_t (*scratch_bytes)(int64_t n_rows, bool exact);
    void (*matmul_back)(const bm_packed *w, const bm_dy *dy, int64_t k_begin, int64_t k_end, float *dx, int64_t dx_stride,
                        bool add, void *scratch);
} bm_grad_kernels;

/* NULL when the instruction set was not built for this architecture. */
const bm_grad_kernels *bm_grad_kernels_get(bm_isa isa);
