/* quant_iq.c - the types of 1 to 3.4 bits and NVFP4: grids of values (IQ1, IQ2, IQ3), ternary (TQ1_0, TQ2_0, Q2_0), signs (Q1_0).
 * A grid holds 8 (IQ1, IQ2) or 4 (IQ3) magnitudes per index; a sign bit belongs to each value of IQ2 and IQ3, and 7 sign bits stand
 * for 8, the last of which makes their number even. Layouts in bytes, little-endian, f16 = IEEE half; "s" are scales, read as 2s + 1:
 *   IQ2_XXS  f16 d, 8 times (4 indices, u32: 4 of 7 sign bits, s in the top 4)                              66   d/8
 *   IQ2_XS   f16 d, 32 of u16 (9 bits of index, 7 sign bits), 16 nibbles s                                  74   d/8
 *   IQ2_S    f16 d, 32 low bytes of indices, 32 of 8 signs, 8 of 4 x 2 high bits, 16 nibbles s              82   d/8
 *   IQ3_XXS  f16 d, 64 indices, 8 of u32 as in IQ2_XXS                                                      98   d/4
 *   IQ3_S    f16 d, 64 low bytes of indices, 8 of 8 high bits, 32 of 8 signs, 8 nibbles s                  110   d
 *   IQ1_S    f16 d, 32 low bytes of indices, 8 of u16: 4 of 3 high bits, 3 of s, 1: delta is negative       50   d
 *   IQ1_M    32 low bytes of indices, 32 nibbles (3 high bits, 1: delta is negative), 4 of u16: 4 of 3 bits
 *            s, 4 of the f16 d                                                                              56   d
 *   TQ1_0    48 of 5 and 4 of 4 base-3 digits, f16 d                                                        54   value = d * (digit - 1)
 *   TQ2_0    64 of 2-bit, f16 d                                                                             66   value = d * (q - 1)
 *   Q1_0     f16 d, 128 bits                                                                       128:     18   value = bit ? d : -d
 *   Q2_0     f16 d, 16 of 2-bit                                                                     64:     18   value = d * (q - 1)
 *   NVFP4    4 of ue4m3 scale, 4 of 8 bytes (low nibbles before high ones) of e2m1                  64:     36
 * IQ1's values are s * (grid + delta), delta = +-1/8, here s/8 * (8 grid +- 1). Nothing read from a block leaves a table: the indices
 * have as many bits as their grid has entries. */
#include "compute/quant_blocks.h"
#include "base/mem.h"

#include <string.h>

/* IQ1: 8 grid + 1, then 8 grid - 1. IQ2, IQ3: the magnitudes, then their negatives. Codes that no block has are 0. */
const int8_t bm_levels_iq1[16] = { -7, 1, 9, 0, -9, -1, 7, 0 };
const int8_t bm_levels_iq2[16] = { 8, 25, 43, 0, -8, -25, -43, 0 };
const int8_t bm_levels_iq3xxs[16] = { 4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62 };
const int8_t bm_levels_iq3s[16] = { 1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15 };
const int8_t bm_levels_ternary[16] = { -1, 0, 1, 2 };
const int8_t bm_levels_sign[16] = { -1, 1 };
static const int8_t levels_nvfp4[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

enum { SUPER = 256 };

static uint16_t read_u16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint32_t read_u32(const unsigned char *p) { return (uint32_t)read_u16(p) | (uint32_t)read_u16(p + 2) << 16; }

static uint64_t read_u64(const unsigned char *p)
{
    uint64_t x;

    memcpy(&x, p, 8);
    return x;
}

/* Eight fields of 2 bits, or of 1 bit, or four of 4 bits, each to a byte of its own, the lowest first (little-endian, as all our
 * machines). */
static uint64_t spread2(uint64_t x)
{
    x = (x | x << 24) & 0x000000FF000000FFu;
    x = (x | x << 12) & 0x000F000F000F000Fu;
    return (x | x << 6) & 0x0303030303030303u;
}

static uint64_t spread1(uint64_t x)
{
    x = (x | x << 28) & 0x0000000F0000000Fu;
    x = (x | x << 14) & 0x0003000300030003u;
    return (x | x << 7) & 0x0101010101010101u;
}

static uint64_t spread4(uint64_t x)
{
    x = (x | x << 8) & 0x00FF00FFu;
    return (x | x << 4) & 0x0F0F0F0Fu;
}

static unsigned eighth_sign(unsigned seven) { return seven | (unsigned)__builtin_parity(seven) << 7; }

static void put8(uint8_t *code, uint64_t bytes) { memcpy(code, &bytes, 8); }

static void put_iq2(uint8_t *code, unsigned grid, unsigned signs) { put8(code, spread2(grid) | spread1(signs) << 2); }
static void put_iq1(uint8_t *code, unsigned grid, bool negative) { put8(code, spread2(grid) | (negative ? 0x0404040404040404u : 0)); }
static void put_iq3(uint8_t *code, unsigned grid, unsigned next, unsigned signs)
{
    put8(code, spread4(grid) | spread4(next) << 32 | spread1(signs) << 3);
}

static void read_iq2_xxs(const unsigned char *b, bm_raw_block *r)
{
    r->d = read_u16(b);
    for (int g = 0; g < 8; g++) {
        const unsigned char *q = b + 2 + 8 * g;
        uint32_t rest = read_u32(q + 4);
        r->x[g] = (uint8_t)(rest >> 28);
        for (int i = 0; i < 4; i++)
            put_iq2(r->code + 32 * g + 8 * i, bm_grid_iq2xxs[q[i]], eighth_sign(rest >> 7 * i & 127));
    }
}

static void read_nibbles(const unsigned char *from, int n, uint8_t *out)
{
    for (int i = 0; i < n; i++)
        out[i] = from[i / 2] >> 4 * (i & 1) & 15;
}

static void read_iq2_xs(const unsigned char *b, bm_raw_block *r)
{
    r->d = read_u16(b);
    read_nibbles(b + 66, 16, r->x);
    for (int i = 0; i < 32; i++) {
        unsigned q = read_u16(b + 2 + 2 * i);
        put_iq2(r->code + 8 * i, bm_grid_iq2xs[q & 511], eighth_sign(q >> 9));
    }
}

static void read_iq2_s(const unsigned char *b, bm_raw_block *r)
{
    r->d = read_u16(b);
    read_nibbles(b + 74, 16, r->x);
    for (int i = 0; i < 32; i++)
        put_iq2(r->code + 8 * i, bm_grid_iq2s[b[2 + i] | (b[66 + i / 4] >> 2 * (i & 3) & 3) << 8], b[34 + i]);
}

static void read_iq3_xxs(const unsigned char *b, bm_raw_block *r)
{
    r->d = read_u16(b);
    for (int g = 0; g < 8; g++) {
        const unsigned char *q = b + 2 + 8 * g;
        uint32_t rest = read_u32(b + 66 + 4 * g);
        r->x[g] = (uint8_t)(rest >> 28);
        for (int i = 0; i < 4; i++)
            put_iq3(r->code + 32 * g + 8 * i, bm_grid_iq3xxs[q[2 * i]], bm_grid_iq3xxs[q[2 * i + 1]], eighth_sign(rest >> 7 * i & 127));
    }
}

static void read_iq3_s(const unsigned char *b, bm_raw_block *r)
{
    const unsigned char *q = b + 2;

    r->d = read_u16(b);
    read_nibbles(b + 106, 8, r->x);
    for (int i = 0; i < 32; i++) {
        unsigned high = b[66 + i / 4] >> 2 * (i & 3);
        put_iq3(r->code + 8 * i, bm_grid_iq3s[q[2 * i] | (high & 1) << 8], bm_grid_iq3s[q[2 * i + 1] | (high & 2) << 7], b[74 + i]);
    }
}

static void read_iq1_s(const unsigned char *b, bm_raw_block *r)
{
    r->d = read_u16(b);
    for (int g = 0; g < 8; g++) {
        unsigned high = read_u16(b + 34 + 2 * g);
        r->x[g] = high >> 12 & 7;
        for (int i = 0; i < 4; i++)
            put_iq1(r->code + 32 * g + 8 * i, bm_grid_iq1[b[2 + 4 * g + i] | (high >> 3 * i & 7) << 8], high >> 15);
    }
}

static void read_iq1_m(const unsigned char *b, bm_raw_block *r)
{
    r->d = 0;
    for (int i = 0; i < 4; i++)
        r->d |= (uint16_t)(read_u16(b + 48 + 2 * i) >> 12 << 4 * i);
    for (int i = 0; i < 16; i++)
        r->x[i] = read_u16(b + 48 + 2 * (i / 4)) >> 3 * (i & 3) & 7;
    for (int i = 0; i < 32; i++) {
        unsigned high = b[32 + i / 2] >> 4 * (i & 1);
        put_iq1(r->code + 8 * i, bm_grid_iq1[b[i] | (high & 7) << 8], high & 8);
    }
}

/* n bytes hold `digits` rows of n values each. A byte is ceil(256/243 * number of 5 digits), so that digit k is found by a
 * multiplication with 3^k modulo 256 and one with 3. */
static uint8_t *read_digits(const unsigned char *q, int n, int digits, uint8_t *code)
{
    for (unsigned k = 0, power = 1; k < (unsigned)digits; k++, power *= 3)
        for (int i = 0; i < n; i++)
            *code++ = (uint8_t)((q[i] * power & 255) * 3 >> 8);
    return code;
}

static void read_tq1_0(const unsigned char *b, bm_raw_block *r)
{
    uint8_t *code = read_digits(b, 32, 5, r->code);

    code = read_digits(b + 32, 16, 5, code);
    read_digits(b + 48, 4, 4, code);
    r->d = read_u16(b + 52);
}

static void read_tq2_0(const unsigned char *b, bm_raw_block *r)
{
    for (int i = 0; i < SUPER; i += 8)
        put8(r->code + i, read_u64(b + 32 * (i / 128) + i % 32) >> 2 * (i / 32 % 4) & 0x0303030303030303u);
    r->d = read_u16(b + 64);
}

static void read_q1_0(const unsigned char *b, bm_raw_block *r)
{
    r->d = read_u16(b);
    for (int i = 0; i < 16; i++)
        put8(r->code + 8 * i, spread1(b[2 + i]));
}

static void read_q2_0(const unsigned char *b, bm_raw_block *r)
{
    r->d = read_u16(b);
    for (int i = 0; i < 8; i++)
        put8(r->code + 8 * i, spread2(read_u16(b + 2 + 2 * i)));
}

static void read_nvfp4(const unsigned char *b, bm_raw_block *r)
{
    r->d = 0;
    memcpy(r->x, b, 4);
    for (int i = 0; i < 64; i += 8)
        put8(r->code + i, read_u64(b + 4 + 8 * (i / 16)) >> 4 * (i / 8 & 1) & 0x0F0F0F0F0F0F0F0Fu);
}

/* The bits of both NaNs (0x7F and 0xFF) are what ggml makes of them: 0 and 240. */
float bm_half_of_ue4m3(unsigned x)
{
    uint32_t exponent = x >> 3 & 15, mantissa = x & 7, bits = (exponent + 119) << 23 | mantissa << 20;
    float f = (float)mantissa * 0x1p-10f;

    if (x == 0x7F)
        return 0;
    if (exponent != 0)
        memcpy(&f, &bits, sizeof f);
    return f;
}

static const bm_small_type types[BM_QTYPE_END] = {
    [BM_IQ2_XXS] = { read_iq2_xxs, bm_levels_iq2,     BM_SCALE_32,       0.125f },
    [BM_IQ2_XS]  = { read_iq2_xs,  bm_levels_iq2,     BM_SCALE_16,       0.125f },
    [BM_IQ2_S]   = { read_iq2_s,   bm_levels_iq2,     BM_SCALE_16,       0.125f },
    [BM_IQ3_XXS] = { read_iq3_xxs, bm_levels_iq3xxs,  BM_SCALE_32,       0.25f },
    [BM_IQ3_S]   = { read_iq3_s,   bm_levels_iq3s,    BM_SCALE_32,       1.0f },
    [BM_IQ1_S]   = { read_iq1_s,   bm_levels_iq1,     BM_SCALE_32,       0.125f },
    [BM_IQ1_M]   = { read_iq1_m,   bm_levels_iq1,     BM_SCALE_16,       0.125f },
    [BM_TQ1_0]   = { read_tq1_0,   bm_levels_ternary, BM_SCALE_NONE,     1.0f },
    [BM_TQ2_0]   = { read_tq2_0,   bm_levels_ternary, BM_SCALE_NONE,     1.0f },
    [BM_Q1_0]    = { read_q1_0,    bm_levels_sign,    BM_SCALE_NONE,     1.0f },
    [BM_Q2_0]    = { read_q2_0,    bm_levels_ternary, BM_SCALE_NONE,     1.0f },
    [BM_NVFP4]   = { read_nvfp4,   levels_nvfp4,      BM_SCALE_UE4M3_16, 1.0f },
};

const bm_small_type *bm_small_type_of(bm_qtype type) { return types[type].read != NULL ? &types[type] : NULL; }

static float scale_of(const bm_small_type *t, const bm_raw_block *r, float d, int i)
{
    switch (t->kind) {
    case BM_SCALE_32: return d * (float)(2 * r->x[i / 32] + 1) * t->factor;
    case BM_SCALE_16: return d * (float)(2 * r->x[i / 16] + 1) * t->factor;
    case BM_SCALE_UE4M3_16: return bm_half_of_ue4m3(r->x[i / 16]);
    default: return d;
    }
}

static void dequantize(bm_qtype type, const unsigned char *b, float *out, size_t n)
{
    const bm_small_type *t = &types[type];
    const bm_qtraits *traits = bm_qtype_traits(type);
    bm_raw_block r;

    for (; n != 0; n -= (size_t)traits->block_len, b += traits->block_bytes) {
        t->read(b, &r);
        float d = bm_f16_to_f32(r.d);
        for (int i = 0; i < traits->block_len; i += 16) {
            float scale = scale_of(t, &r, d, i);
            for (int k = i; k < i + 16; k++)
                *out++ = scale * (float)t->levels[r.code[k]];
        }
    }
}

void bm_dequantize_iq1_s(const void *blocks, float *out, size_t n) { dequantize(BM_IQ1_S, blocks, out, n); }
void bm_dequantize_iq1_m(const void *blocks, float *out, size_t n) { dequantize(BM_IQ1_M, blocks, out, n); }
void bm_dequantize_iq2_xxs(const void *blocks, float *out, size_t n) { dequantize(BM_IQ2_XXS, blocks, out, n); }
void bm_dequantize_iq2_xs(const void *blocks, float *out, size_t n) { dequantize(BM_IQ2_XS, blocks, out, n); }
void bm_dequantize_iq2_s(const void *blocks, float *out, size_t n) { dequantize(BM_IQ2_S, blocks, out, n); }
void bm_dequantize_iq3_xxs(const void *blocks, float *out, size_t n) { dequantize(BM_IQ3_XXS, blocks, out, n); }
void bm_dequantize_iq3_s(const void *blocks, float *out, size_t n) { dequantize(BM_IQ3_S, blocks, out, n); }
void bm_dequantize_tq1_0(const void *blocks, float *out, size_t n) { dequantize(BM_TQ1_0, blocks, out, n); }
void bm_dequantize_tq2_0(const void *blocks, float *out, size_t n) { dequantize(BM_TQ2_0, blocks, out, n); }
void bm_dequantize_q1_0(const void *blocks, float *out, size_t n) { dequantize(BM_Q1_0, blocks, out, n); }
void bm_dequantize_q2_0(const void *blocks, float *out, size_t n) { dequantize(BM_Q2_0, blocks, out, n); }
void bm_dequantize_nvfp4(const void *blocks, float *out, size_t n) { dequantize(BM_NVFP4, blocks, out, n); }
