/* quant_k.c - super-blocks of 256 values with scales of scales: Q2_K to Q6_K and IQ4_XS.
 * Layouts in bytes, little-endian, f16 = IEEE half:
 *   Q2_K    16 scales (low nibble scale, high nibble min), 64 of 2-bit, f16 d, f16 dmin                        84
 *   Q3_K    32 high bits, 64 of 2-bit, 12 of 6-bit scales, f16 d                                              110
 *   Q4_K    f16 d, f16 dmin, 12 of 6-bit scales and mins, 128 of 4-bit                                        144
 *   Q5_K    f16 d, f16 dmin, 12 of 6-bit scales and mins, 32 high bits, 128 of 4-bit                          176
 *   Q6_K    128 low nibbles, 64 of 2 high bits, 16 signed scales, f16 d                                       210
 *   IQ4_XS  f16 d, u16 high bits of scales, 4 low nibbles of scales, 128 of 4-bit indices into the levels     136 */
#include "compute/quant.h"
#include "compute/quant_blocks.h"

enum { SUPER = 256 };

static float read_f16(const unsigned char *p) { return bm_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

/* Each byte holds four values, 32 apart: 128 values take 32 bytes, read four times with a rising shift. */
void bm_dequantize_q2_k(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= SUPER, b += 84) {
        float d = read_f16(b + 80), dmin = read_f16(b + 82);
        for (int group = 0; group < 16; group++) {
            const unsigned char *q = b + 16 + 32 * (group / 8) + 16 * (group & 1);
            int shift = 2 * (group / 2 & 3);
            float scale = d * (float)(b[group] & 15), min = dmin * (float)(b[group] >> 4);
            for (int i = 0; i < 16; i++)
                *out++ = scale * (float)(q[i] >> shift & 3) - min;
        }
    }
}

/* Scale of group g: its low 4 bits in byte g % 8 (upper nibble from 8 on), its high 2 bits in byte 8 + g % 4. */
void bm_dequantize_q3_k(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= SUPER, b += 110) {
        const unsigned char *scales = b + 96;
        float d = read_f16(b + 108);
        for (int group = 0; group < 16; group++) {
            const unsigned char *q = b + 32 + 32 * (group / 8) + 16 * (group & 1), *high = b + 16 * (group & 1);
            int shift = 2 * (group / 2 & 3), bit = group / 2;
            int low = scales[group & 7] >> 4 * (group / 8) & 15, top = scales[8 + (group & 3)] >> 2 * (group / 4) & 3;
            float scale = d * (float)((low | top << 4) - 32);
            for (int i = 0; i < 16; i++)
                *out++ = scale * (float)((q[i] >> shift & 3) - (high[i] >> bit & 1 ? 0 : 4));
        }
    }
}

/* The 12 bytes hold eight 6-bit scales and eight 6-bit mins; those of the last four are split over two places. */
static void scale_and_min(const unsigned char *s, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        *min = s[j + 4] >> 4 | s[j] >> 6 << 4;
    }
}

void bm_dequantize_q4_k(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= SUPER, b += 144) {
        float d = read_f16(b), dmin = read_f16(b + 2);
        for (int group = 0; group < 8; group++) {
            const unsigned char *q = b + 16 + 32 * (group / 2);
            int shift = 4 * (group & 1), sc, mn;
            scale_and_min(b + 4, group, &sc, &mn);
            float scale = d * (float)sc, min = dmin * (float)mn;
            for (int i = 0; i < 32; i++)
                *out++ = scale * (float)(q[i] >> shift & 15) - min;
        }
    }
}

void bm_dequantize_q5_k(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= SUPER, b += 176) {
        float d = read_f16(b), dmin = read_f16(b + 2);
        const unsigned char *high = b + 16;
        for (int group = 0; group < 8; group++) {
            const unsigned char *q = b + 48 + 32 * (group / 2);
            int shift = 4 * (group & 1), sc, mn;
            scale_and_min(b + 4, group, &sc, &mn);
            float scale = d * (float)sc, min = dmin * (float)mn;
            for (int i = 0; i < 32; i++)
                *out++ = scale * (float)((q[i] >> shift & 15) + (high[i] >> group & 1) * 16) - min;
        }
    }
}

/* Each half of 128 values has 64 low bytes and 32 high bytes; quarter k of a half takes its low nibbles from bytes
 * 32 * (k % 2) on (upper nibble from k = 2 on) and bits 2k of the high bytes. */
void bm_dequantize_q6_k(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= SUPER, b += 210) {
        const signed char *scales = (const signed char *)b + 192;
        float d = read_f16(b + 208);
        for (int group = 0; group < 16; group++) {
            int half = group / 8, quarter = group / 2 & 3, from = 16 * (group & 1);
            const unsigned char *low = b + 64 * half + 32 * (quarter & 1) + from, *high = b + 128 + 32 * half + from;
            float scale = d * (float)scales[group];
            for (int i = 0; i < 16; i++) {
                int q = (low[i] >> 4 * (quarter / 2) & 15) | (high[i] >> 2 * quarter & 3) << 4;
                *out++ = scale * (float)(q - 32);
            }
        }
    }
}

void bm_dequantize_iq4_xs(const void *blocks, float *out, size_t n)
{
    const unsigned char *b = blocks;

    for (; n != 0; n -= SUPER, b += 136) {
        float d = read_f16(b);
        int tops = b[2] | b[3] << 8;
        for (int group = 0; group < 8; group++, out += 32) {
            const unsigned char *q = b + 8 + 16 * group;
            int low = b[4 + group / 2] >> 4 * (group & 1) & 15, top = tops >> 2 * group & 3;
            float scale = d * (float)((low | top << 4) - 32);
            for (int i = 0; i < 16; i++) {
                out[i] = scale * (float)bm_iq4_levels[q[i] & 15];
                out[i + 16] = scale * (float)bm_iq4_levels[q[i] >> 4];
            }
        }
    }
}
