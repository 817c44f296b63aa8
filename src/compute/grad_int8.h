/* grad_int8.h - products with transposed packed weights in 8 bits, for grad_avx512.c: the fast form of f32_back.
 *
 * The rows of W are cut into blocks of 128. In a block each column of W and each token of dY is rounded to 8 bits by its own
 * largest value: w = sw[column] * (u - 128), y = sy[token] * q. The sums of u * q are whole and exact, and one fused multiply-add
 * per block brings them to dX. The roundings are noise without a bias: together 0.9 % of dX's norm for normal dY, 1.7 % for dY of
 * heavy tails (measured). bf16 pairs give 0.24 % at 0.57 of the speed; docs/SPEED.md has the figures. */
#pragma once
#include <float.h>
#include <math.h>

enum { INT8_BLOCK = 128, INT8_STEPS = INT8_BLOCK / 4 };

typedef struct int8_panel {
    _Alignas(64) float values[INT8_BLOCK * PANEL_COLS];
    uint8_t u[INT8_STEPS][PANEL_COLS][4];
    float scale[PANEL_COLS];
} int8_panel;

/* dY in 8 bits: q[block][token][128], and per block and token the scale and -128 * the sum of q. */
typedef struct int8_dy {
    int8_t *q;
    float *scale;
    int32_t *offset;
} int8_dy;

static int64_t int8_blocks(int64_t n_rows) { return (n_rows + INT8_BLOCK - 1) / INT8_BLOCK; }

static size_t int8_dy_bytes(int64_t max_tokens, int64_t n_rows)
{
    return (size_t)max_tokens * (size_t)int8_blocks(n_rows) * (INT8_BLOCK + 8);
}

static int8_dy int8_dy_of(const bm_dy *dy)
{
    size_t n = (size_t)dy->n_tokens * (size_t)int8_blocks(dy->n_rows);
    int8_t *q = dy->memory;

    return (int8_dy){ q, (float *)(void *)(q + n * INT8_BLOCK), (int32_t *)(void *)(q + n * (INT8_BLOCK + 4)) };
}

/* The larger of |x| and what was largest so far, as bits: NaN and infinity are the largest of all, so that they are not lost. */
LANES __m512i int8_largest(__m512i so_far, __m512 x)
{
    return _mm512_max_epi32(so_far, _mm512_castps_si512(_mm512_abs_ps(x)));
}

/* largest / 127; NaN where it is not finite. */
LANES __m512 int8_scale(__m512 largest)
{
    __mmask16 finite = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(FLT_MAX), _CMP_LE_OQ);

    return _mm512_mask_mul_ps(_mm512_set1_ps(NAN), finite, largest, _mm512_set1_ps(1 / 127.0f));
}

/* 127 / largest, 0 for a block of almost nothing. */
LANES __m512 int8_inverse(__m512 largest)
{
    __mmask16 some = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(1e-30f), _CMP_GE_OQ);

    return _mm512_maskz_div_ps(some, _mm512_set1_ps(127.0f), largest);
}

/* n <= 128 values of a token. */
LANES void int8_put(const float *y, int n, int8_t *q, float *scale, int32_t *offset)
{
    __m512i bits = _mm512_setzero_si512(), sum = bits;
    __m512 v[INT8_BLOCK / 16], largest, by;

    UNROLL
    for (int i = 0; i < INT8_BLOCK / 16; i++) {
        v[i] = load_upto(y + 16 * i, n - 16 * i);
        bits = int8_largest(bits, v[i]);
    }
    largest = _mm512_castsi512_ps(_mm512_set1_epi32(_mm512_reduce_max_epi32(bits)));
    by = int8_inverse(largest);
    UNROLL
    for (int i = 0; i < INT8_BLOCK / 16; i++) {
        __m512i x = _mm512_cvtps_epi32(_mm512_mul_ps(v[i], by));
        sum = _mm512_add_epi32(sum, x);
        _mm_storeu_si128((__m128i *)(void *)(q + 16 * i), _mm512_cvtsepi32_epi8(x));
    }
    *scale = _mm512_cvtss_f32(int8_scale(largest));
    *offset = (int32_t)(0u - 128u * (uint32_t)_mm512_reduce_add_epi32(sum));
}

static void int8_dy_put(bm_dy *dy, int64_t t_begin, int64_t t_end, const float *y, int64_t y_stride)
{
    int8_dy to = int8_dy_of(dy);

    for (int64_t t = t_begin; t < t_end; t++)
        for (int64_t row = 0, at = t; row < dy->n_rows; row += INT8_BLOCK, at += dy->n_tokens)
            int8_put(y + t * y_stride + row, dy->n_rows - row < INT8_BLOCK ? (int)(dy->n_rows - row) : INT8_BLOCK,
                     to.q + at * INT8_BLOCK, &to.scale[at], &to.offset[at]);
}

/* `steps` times 4 rows of values become u and scale. */
static void int8_round(int8_panel *p, int steps)
{
    const __m512i interleave = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));

    for (int c = 0; c < PANEL_COLS; c += 16) {
        __m512i bits = _mm512_setzero_si512();
        for (int n = 0; n < 4 * steps; n++)
            bits = int8_largest(bits, v_load(p->values + n * PANEL_COLS + c));
        __m512 largest = _mm512_castsi512_ps(bits), by = int8_inverse(largest);
        v_store(p->scale + c, int8_scale(largest));
        for (int s = 0; s < steps; s++) {
            const float *row = p->values + 4 * s * PANEL_COLS + c;
            __m512i x[4];
            UNROLL
            for (int i = 0; i < 4; i++)
                x[i] = _mm512_cvtps_epi32(_mm512_mul_ps(v_load(row + i * PANEL_COLS), by));
            __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(x[0], x[1]), _mm512_packs_epi32(x[2], x[3]));
            bytes = _mm512_xor_si512(_mm512_shuffle_epi8(bytes, interleave), _mm512_set1_epi8((char)0x80));
            _mm512_store_si512(p->u[s][c], bytes);
        }
    }
}

LANES __m512i int8_word(const int8_t *q)
{
    int32_t word;

    memcpy(&word, q, 4);
    return _mm512_set1_epi32(word);
}

/* The empty statement keeps the sum in its register: without it GCC 12 moves each one to another and back. */
LANES void int8_step(__m512i *acc, __m512i u, __m512i word)
{
    __m512i sum = _mm512_dpbusd_epi32(*acc, u, word);

    __asm__("" : "+v"(sum));
    *acc = sum;
}

/* `rows` (a constant) tokens from t on of one block: at is the block's first index in dy's arrays. */
LANES void int8_tokens(int rows, const int8_dy *dy, int64_t at, int64_t t, const int8_panel *p, int steps, const sums_to *to)
{
    const int8_t *q = dy->q + (at + t) * INT8_BLOCK;
    const float *scale = dy->scale + at + t;
    __m512i acc[ROWS_MAX][2];

    UNROLL
    for (int i = 0; i < rows; i++)
        acc[i][0] = acc[i][1] = _mm512_set1_epi32(dy->offset[at + t + i]);
    for (int s = 0; s < steps; s++, q += 4) {
        __m512i u0 = _mm512_load_si512(p->u[s][0]), u1 = _mm512_load_si512(p->u[s][16]);
        UNROLL
        for (int i = 0; i < rows; i++) {
            __m512i word = int8_word(q + i * INT8_BLOCK);
            int8_step(&acc[i][0], u0, word);
            int8_step(&acc[i][1], u1, word);
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++) {
        float *c = to->c + (t + i) * to->row;
        UNROLL
        for (int v = 0; v < 2; v++) {
            __m512 by = _mm512_mul_ps(_mm512_set1_ps(scale[i]), v_load(p->scale + 16 * v)), x = _mm512_cvtepi32_ps(acc[i][v]);
            int n = to->columns - 16 * v;
            if (n >= 16)
                v_store(c + 16 * v, to->add ? v_fma(x, by, v_load(c + 16 * v)) : v_mul(x, by));
            else if (n > 0)
                v_store_n(c + 16 * v, to->add ? v_fma(x, by, v_load_n(c + 16 * v, n, 0)) : v_mul(x, by), n);
        }
    }
}

#define INT8_FN(name, rows) \
    static __attribute__((noinline)) void name(const int8_dy *dy, int64_t at, int64_t t, const int8_panel *p, int steps, \
                                               const sums_to *to) \
    { int8_tokens(rows, dy, at, t, p, steps, to); }
INT8_FN(int8_full, ROWS_MAX)
INT8_FN(int8_4, 4)
INT8_FN(int8_1, 1)

static void int8_back(const bm_packed *w, const bm_dy *dy, int64_t k_begin, int64_t k_end, float *dx, int64_t dx_stride, bool add,
                      void *scratch)
{
    const int64_t block_tiles = INT8_BLOCK / BM_TILE_ROWS;
    const int8_dy y = int8_dy_of(dy);
    int8_panel *panel = scratch;

    for (int64_t k = k_begin; k < k_end; k += PANEL_COLS)
        for (int64_t tile = 0, at = 0; tile < w->n_tiles; tile += block_tiles, at += dy->n_tokens) {
            int64_t end = tile + block_tiles < w->n_tiles ? tile + block_tiles : w->n_tiles, t = 0;
            int steps = (int)(end - tile) * BM_TILE_ROWS / 4;
            sums_to to = { dx + k, dx_stride, k_end - k < PANEL_COLS ? (int)(k_end - k) : PANEL_COLS, 1.0f, add || tile > 0 };
            rows_fns[w->type](w, tile, end, k / PANEL_COLS, panel->values);
            int8_round(panel, steps);
            for (; t + ROWS_MAX <= dy->n_tokens; t += ROWS_MAX)
                int8_full(&y, at, t, panel, steps, &to);
            for (; t + 4 <= dy->n_tokens; t += 4)
                int8_4(&y, at, t, panel, steps, &to);
            for (; t < dy->n_tokens; t++)
                int8_1(&y, at, t, panel, steps, &to);
        }
}
