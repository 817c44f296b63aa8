/* quant.c - the table of traits, half-precision conversion, and the types with blocks of 1 or 32 values.
 * Layouts of a block of 32, in bytes, little-endian; byte i of the 16 holds value i in its low nibble and i + 16 in its high:
 *   Q4_0   f16 d, 16                             18      value = d * (q - 8)
 *   Q4_1   f16 d, f16 m, 16                      20      value = d * q + m
 *   Q5_0   f16 d, 32 fifth bits, 16              22      value = d * (q - 16)
 *   Q5_1   f16 d, f16 m, 32 fifth bits, 16       24      value = d * q + m
 *   Q8_0   f16 d, 32 signed                      34      value = d * q
 *   IQ4_NL f16 d, 16                             18      value = d * level[q]
 *   MXFP4  e8m0 exponent, 16                     17      value = 2^(e - 127) * e2m1[q]  (OCP Microscaling Formats 1.0) */
#include "compute/quant.h"
#include "compute/quant_blocks.h"
#include "base/mem.h"

#include <string.h>

const signed char bm_iq4_levels[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
/* e2m1 values doubled, so that they are whole; the scale is halved instead. */
static const signed char mxfp4_levels[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

static float float_of(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* A signalling NaN comes out quiet, as from the F16C instruction, so that every instruction set gives the same bits. */
float bm_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3FF;

    if (exponent == 31)
        return float_of(sign | 0x7F800000 | mantissa << 13 | (mantissa != 0 ? 0x400000 : 0));
    if (exponent != 0)
        return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
    return float_of(sign | bits_of((float)mantissa * 0x1p-24f));        /* zero or subnormal: exact in f32 */
}

uint16_t bm_f32_to_f16(float f)
{
    uint32_t bits = bits_of(f), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF, shift, kept, rest, half;

    if (magnitude > 0x7F800000)
        return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x47800000)                                        /* 65536 and more */
        return (uint16_t)(sign | 0x7C00);
    if (magnitude < 0x33000000)                                         /* below half of the smallest subnormal */
        return (uint16_t)sign;
    if (magnitude >= 0x38800000) {                                      /* 2^-14: normal; rounding may carry into infinity */
        kept = magnitude - 0x38000000;
        shift = 13;
    } else {                                                            /* subnormal: the hidden bit becomes visible */
        kept = (magnitude & 0x7FFFFF) | 0x800000;
        shift = 126 - (magnitude >> 23);
    }
    rest = kept & ((1u << shift) - 1);
    half = 1u << (shift - 1);
    kept >>= shift;
    kept += rest > half || (rest == half && (kept & 1) != 0);
    return (uint16_t)(sign | kept);
}

float bm_bf16_to_f32(uint16_t h) { return float_of((uint32_t)h << 16); }

uint16_t bm_f32_to_bf16(float f)
{
    uint32_t bits = bits_of(f);

    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)(bits >> 16 | 0x40);                           /* quiet, and never rounded to infinity */
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static uint16_t read_u16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }
static float read_f16(const unsigned char *p) { return bm_f16_to_f32(read_u16(p)); }
static uint32_t read_u32(const unsigned char *p) { return (uint32_t)read_u16(p) | (uint32_t)read_u16(p + 2) << 16; }

static void dequantize_f32(const void *blocks, float *out, size_t n) { memcpy(out, blocks, n * sizeof *out); }

static void dequantize_f16(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (size_t i = 0; i < n; i++)
        out[i] = read_f16(b + 2 * i);
}

static void dequantize_bf16(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (size_t i = 0; i < n; i++)
        out[i] = bm_bf16_to_f32(read_u16(b + 2 * i));
}

static void dequantize_q4_0(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= 32, b += 18, out += 32) {
        float d = read_f16(b);
        for (int i = 0; i < 16; i++) {
            out[i] = (float)((b[2 + i] & 15) - 8) * d;
            out[i + 16] = (float)((b[2 + i] >> 4) - 8) * d;
        }
    }
}

static void dequantize_q4_1(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= 32, b += 20, out += 32) {
        float d = read_f16(b), m = read_f16(b + 2);
        for (int i = 0; i < 16; i++) {
            out[i] = (float)(b[4 + i] & 15) * d + m;
            out[i + 16] = (float)(b[4 + i] >> 4) * d + m;
        }
    }
}

static void dequantize_q5_0(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= 32, b += 22, out += 32) {
        float d = read_f16(b);
        uint32_t fifth = read_u32(b + 2);
        for (int i = 0; i < 16; i++) {
            int low = (b[6 + i] & 15) | (int)(fifth >> i & 1) << 4, high = b[6 + i] >> 4 | (int)(fifth >> (i + 16) & 1) << 4;
            out[i] = (float)(low - 16) * d;
            out[i + 16] = (float)(high - 16) * d;
        }
    }
}

static void dequantize_q5_1(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= 32, b += 24, out += 32) {
        float d = read_f16(b), m = read_f16(b + 2);
        uint32_t fifth = read_u32(b + 4);
        for (int i = 0; i < 16; i++) {
            int low = (b[8 + i] & 15) | (int)(fifth >> i & 1) << 4, high = b[8 + i] >> 4 | (int)(fifth >> (i + 16) & 1) << 4;
            out[i] = (float)low * d + m;
            out[i + 16] = (float)high * d + m;
        }
    }
}

static void dequantize_q8_0(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= 32, b += 34, out += 32) {
        float d = read_f16(b);
        for (int i = 0; i < 32; i++)
            out[i] = (float)(signed char)b[2 + i] * d;
    }
}

static void dequantize_levels(const unsigned char *q, const signed char *levels, float d, float *out)
{
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)levels[q[i] & 15];
        out[i + 16] = d * (float)levels[q[i] >> 4];
    }
}

static void dequantize_iq4_nl(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= 32, b += 18, out += 32)
        dequantize_levels(b + 2, bm_iq4_levels, read_f16(b), out);
}

/* Half of 2^(e - 127): subnormal for e = 0 and 1. The specification calls e = 255 NaN; ggml reads on, and so do we. */
static float half_of_e8m0(unsigned e) { return float_of(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }

static void dequantize_mxfp4(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= 32, b += 17, out += 32)
        dequantize_levels(b + 1, mxfp4_levels, half_of_e8m0(b[0]), out);
}

static const bm_qtraits traits[BM_QTYPE_END] = {
    /*              name      len  bytes quantized */
    [BM_F32]    = { "F32",      1,   4, false, dequantize_f32 },
    [BM_F16]    = { "F16",      1,   2, false, dequantize_f16 },
    [BM_BF16]   = { "BF16",     1,   2, false, dequantize_bf16 },
    [BM_Q4_0]   = { "Q4_0",    32,  18, true,  dequantize_q4_0 },
    [BM_Q4_1]   = { "Q4_1",    32,  20, true,  dequantize_q4_1 },
    [BM_Q5_0]   = { "Q5_0",    32,  22, true,  dequantize_q5_0 },
    [BM_Q5_1]   = { "Q5_1",    32,  24, true,  dequantize_q5_1 },
    [BM_Q8_0]   = { "Q8_0",    32,  34, true,  dequantize_q8_0 },
    [BM_Q2_K]   = { "Q2_K",   256,  84, true,  bm_dequantize_q2_k },
    [BM_Q3_K]   = { "Q3_K",   256, 110, true,  bm_dequantize_q3_k },
    [BM_Q4_K]   = { "Q4_K",   256, 144, true,  bm_dequantize_q4_k },
    [BM_Q5_K]   = { "Q5_K",   256, 176, true,  bm_dequantize_q5_k },
    [BM_Q6_K]   = { "Q6_K",   256, 210, true,  bm_dequantize_q6_k },
    [BM_IQ4_NL] = { "IQ4_NL",  32,  18, true,  dequantize_iq4_nl },
    [BM_IQ4_XS] = { "IQ4_XS", 256, 136, true,  bm_dequantize_iq4_xs },
    [BM_MXFP4]  = { "MXFP4",   32,  17, true,  dequantize_mxfp4 },
    [BM_IQ2_XXS] = { "IQ2_XXS", 256, 66, true, bm_dequantize_iq2_xxs },
    [BM_IQ2_XS] = { "IQ2_XS", 256,  74, true,  bm_dequantize_iq2_xs },
    [BM_IQ2_S]  = { "IQ2_S",  256,  82, true,  bm_dequantize_iq2_s },
    [BM_IQ3_XXS] = { "IQ3_XXS", 256, 98, true, bm_dequantize_iq3_xxs },
    [BM_IQ3_S]  = { "IQ3_S",  256, 110, true,  bm_dequantize_iq3_s },
    [BM_IQ1_S]  = { "IQ1_S",  256,  50, true,  bm_dequantize_iq1_s },
    [BM_IQ1_M]  = { "IQ1_M",  256,  56, true,  bm_dequantize_iq1_m },
    [BM_TQ1_0]  = { "TQ1_0",  256,  54, true,  bm_dequantize_tq1_0 },
    [BM_TQ2_0]  = { "TQ2_0",  256,  66, true,  bm_dequantize_tq2_0 },
    [BM_Q1_0]   = { "Q1_0",   128,  18, true,  bm_dequantize_q1_0 },
    [BM_Q2_0]   = { "Q2_0",    64,  18, true,  bm_dequantize_q2_0 },
    [BM_NVFP4]  = { "NVFP4",   64,  36, true,  bm_dequantize_nvfp4 },
};

/* Every id that ggml.h has published, withdrawn ones too. */
static const char *const names[] = {
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K",
    "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M",
    "BF16", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4", "NVFP4",
    "Q1_0", "Q2_0",
};

const bm_qtraits *bm_qtype_traits(uint32_t id)
{
    return id < BM_QTYPE_END && traits[id].name != NULL ? &traits[id] : NULL;
}

const char *bm_qtype_name(uint32_t id) { return id < sizeof names / sizeof names[0] ? names[id] : "?"; }

bool bm_qtype_row_bytes(bm_qtype type, uint64_t n_cols, size_t *out)
{
    const bm_qtraits *t = bm_qtype_traits((uint32_t)type);

    if (t == NULL || n_cols % (uint64_t)t->block_len != 0 || n_cols / (uint64_t)t->block_len > SIZE_MAX)
        return false;
    return bm_mul_size((size_t)(n_cols / (uint64_t)t->block_len), (size_t)t->block_bytes, out);
}
