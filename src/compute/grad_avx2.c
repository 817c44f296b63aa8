/* grad_avx2.c - training's products in f32 with AVX2 and FMA: fast and exact are the same. CPUs with AVX-VNNI use them too. */
#if defined(__x86_64__)
#include "compute/lanes_avx2.h"
#include "compute/unpack_avx2.h"
#include "compute/grad_tables.h"

#define STEP_K 1
#define ROWS_MAX 6
#define VECS 1
LANES v16 v_step(v16 acc, v16 a, v16 b) { return v_fma(a, b, acc); }
LANES v16 words_along(const float *p, int n) { return n == 16 ? v_load(p) : v_load_n(p, n, 0); }
LANES v16 words_across(const float *p0, const float *p1, int n) { return (void)p1, words_along(p0, n); }

#include "compute/grad_lanes.h"

LANES void columns_to_rows(v16 *col, float *out)
{
    v_transpose(col);
    v_transpose(col + 16);
    for (int r = 0; r < 16; r++) {
        v_store(out + PANEL_COLS * r, col[r]);
        v_store(out + PANEL_COLS * r + 16, col[16 + r]);
    }
}

/* The int16 of the first (0) or second (1) 16 columns of 8 rows. */
LANES __m256 floats_of_pair(__m256i pairs, int half)
{
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(half == 0 ? _mm256_slli_epi32(pairs, 16) : pairs, 16));
}

/* Rows 8 * part on of the 32 columns of group i of a block. */
LANES void half_tile_columns(bm_qtype type, const unsigned char *head, const unsigned char *q, int i, int part, __m256 *col)
{
    const int form = form_of(type), zero = is_table(type) ? raise_of(type) : zero_of(type);
    const bool subs = form == BM_FORM_SUB || form == BM_FORM_SUBMIN;
    __m256i code[8];
    scales256 s;

    unpack_codes(type, q, part, code);
    unpack_scales(type, head, i, part, &s);
    UNROLL
    for (int half = 0; half < 2; half++) {
        __m256 d = form == BM_FORM_D16 && half == 1 ? s.m : subs ? _mm256_mul_ps(s.d, floats_of_pair(s.sub, half)) : s.d;
        __m256 m = form == BM_FORM_DM ? s.m : _mm256_setzero_ps();
        if (form == BM_FORM_SUBMIN)
            m = _mm256_mul_ps(s.m, floats_of_pair(s.min, half));
        UNROLL
        for (int j = 4 * half; j < 4 * half + 4; j++) {
            __m256i level = zero != 0 ? _mm256_sub_epi8(code[j], _mm256_set1_epi8((char)zero)) : code[j];
            UNROLL
            for (int b = 0; b < 4; b++) {
                __m256i x = _mm256_srai_epi32(b == 3 ? level : _mm256_slli_epi32(level, 24 - 8 * b), 24);
                __m256 v = _mm256_mul_ps(d, _mm256_cvtepi32_ps(x));
                col[4 * j + b] = form == BM_FORM_DM ? _mm256_add_ps(v, m) : form == BM_FORM_SUBMIN ? _mm256_sub_ps(v, m) : v;
            }
        }
    }
}

LANES void tile_rows(bm_qtype type, const unsigned char *head, const unsigned char *q, int i, float *out)
{
    for (int part = 0; part < 2; part++) {
        __m256 col[PANEL_COLS];
        half_tile_columns(type, head, q, i, part, col);
        for (int c = 0; c < PANEL_COLS; c += 8) {
            transpose8(col + c);
            for (int r = 0; r < 8; r++)
                _mm256_storeu_ps(out + PANEL_COLS * (8 * part + r) + c, col[c + r]);
        }
    }
}
#include "compute/grad_back.h"

static size_t dy_bytes(int64_t max_tokens, int64_t n_rows, bool exact) { return (void)exact, f32_dy_bytes(max_tokens, n_rows); }
static size_t scratch_bytes(int64_t n_rows, bool exact)
{
    (void)n_rows, (void)exact;
    return BM_GRAD_BLOCK * PANEL_COLS * sizeof(float);
}

#define GRAD_TABLE(which) { .isa = which, .gemm = gemm_words, .dy_bytes = dy_bytes, .dy_put = f32_dy_put, \
                            .scratch_bytes = scratch_bytes, .matmul_back = f32_back }
const bm_grad_kernels bm_grad_kernels_avx2 = GRAD_TABLE(BM_ISA_AVX2);
const bm_grad_kernels bm_grad_kernels_avxvnni = GRAD_TABLE(BM_ISA_AVXVNNI);
#endif
