/* grad_avx512.c - training's products with AVX-512: in f32, or in 8 bits with VNNI for the fast products with packed weights. */
#if defined(__x86_64__)
#include "compute/lanes_avx512.h"
#include "compute/unpack_avx512.h"
#include "compute/grad_tables.h"

#define STEP_K 1
#define ROWS_MAX 12
#define VECS 2
LANES v16 v_step(v16 acc, v16 a, v16 b) { return v_fma(a, b, acc); }
LANES v16 words_along(const float *p, int n) { return n == 16 ? v_load(p) : v_load_n(p, n, 0); }
LANES v16 words_across(const float *p0, const float *p1, int n) { return (void)p1, words_along(p0, n); }
#include "compute/grad_lanes.h"

LANES void columns_to_rows(v16 *col, float *out)
{
    v_transpose(col);
    v_transpose(col + 16);
    UNROLL
    for (int r = 0; r < 16; r++) {
        v_store(out + PANEL_COLS * r, col[r]);
        v_store(out + PANEL_COLS * r + 16, col[16 + r]);
    }
}

LANES void tile_columns(bm_qtype type, const unsigned char *head, const unsigned char *q, int i, v16 *col)
{
    const int form = form_of(type);
    const bool subs = form == BM_FORM_SUB || form == BM_FORM_SUBMIN;
    const __m512i zero = _mm512_set1_epi8((char)zero_of(type));
    __m512i code[8];
    scales512 s;

    unpack_codes(type, q, code);
    unpack_scales(type, head, i, &s);
    UNROLL
    for (int half = 0; half < 2; half++) {
        __m512 d = form == BM_FORM_D16 && half == 1 ? s.m : subs ? _mm512_mul_ps(s.d, s.sub[half]) : s.d;
        __m512 m = form == BM_FORM_SUBMIN ? _mm512_mul_ps(s.m, s.min[half]) : form == BM_FORM_DM ? s.m : _mm512_setzero_ps();
        UNROLL
        for (int j = 4 * half; j < 4 * half + 4; j++) {
            __m512i level = zero_of(type) != 0 ? _mm512_sub_epi8(code[j], zero) : code[j];
            UNROLL
            for (int b = 0; b < 4; b++) {
                __m512i x = _mm512_srai_epi32(b == 3 ? level : _mm512_slli_epi32(level, 24 - 8 * b), 24);
                __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(x));
                col[4 * j + b] = form == BM_FORM_DM ? _mm512_add_ps(v, m) : form == BM_FORM_SUBMIN ? _mm512_sub_ps(v, m) : v;
            }
        }
    }
}

LANES void tile_rows(bm_qtype type, const unsigned char *head, const unsigned char *q, int i, float *out)
{
    v16 col[PANEL_COLS];

    tile_columns(type, head, q, i, col);
    columns_to_rows(col, out);
}
#include "compute/grad_back.h"
#include "compute/grad_int8.h"

static size_t dy_bytes(int64_t max_tokens, int64_t n_rows, bool exact)
{
    return exact ? f32_dy_bytes(max_tokens, n_rows) : int8_dy_bytes(max_tokens, n_rows);
}

static void dy_put(bm_dy *dy, int64_t t_begin, int64_t t_end, const float *y, int64_t y_stride)
{
    (dy->exact ? f32_dy_put : int8_dy_put)(dy, t_begin, t_end, y, y_stride);
}

static size_t scratch_bytes(int64_t n_rows, bool exact)
{
    (void)n_rows;
    return exact ? BM_GRAD_BLOCK * PANEL_COLS * sizeof(float) : sizeof(int8_panel);
}

static void matmul_back(const bm_packed *w, const bm_dy *dy, int64_t k_begin, int64_t k_end, float *dx, int64_t dx_stride,
                        bool add, void *scratch)
{
    (dy->exact ? f32_back : int8_back)(w, dy, k_begin, k_end, dx, dx_stride, add, scratch);
}

const bm_grad_kernels bm_grad_kernels_avx512 = {
    .isa = BM_ISA_AVX512, .gemm = gemm_words, .dy_bytes = dy_bytes, .dy_put = dy_put, .scratch_bytes = scratch_bytes,
    .matmul_back = matmul_back,
};
#endif
