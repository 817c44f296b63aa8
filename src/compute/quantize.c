/* quantize.c - see quantize.h. */
#include "compute/quantize.h"

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"

enum { BLOCK = 32 };

static const bm_qtype written[] = { BM_F32, BM_F16, BM_BF16, BM_Q8_0, BM_Q4_0, BM_Q4_1 };

bool bm_quantize_type(const char *name, bm_qtype *out)
{
    for (size_t i = 0; i < sizeof written / sizeof *written; i++)
        if (strcasecmp(name, bm_qtype_name(written[i])) == 0) {
            *out = written[i];
            return true;
        }
    return false;
}

static unsigned char *put_half(unsigned char *out, float x)
{
    uint16_t h = bm_f32_to_f16(x);

    out[0] = (unsigned char)h, out[1] = (unsigned char)(h >> 8);
    return out + 2;
}

static int clamp15(float x) { return x > 15 ? 15 : x < 0 ? 0 : (int)x; }

/* Codes i and i + 16 share a byte. */
static unsigned char *put_nibbles(unsigned char *out, const float *x, float by, float add, float minus)
{
    for (int i = 0; i < BLOCK / 2; i++)
        *out++ = (unsigned char)(clamp15((x[i] - minus) * by + add) | clamp15((x[i + BLOCK / 2] - minus) * by + add) << 4);
    return out;
}

static unsigned char *q8_0(const float *x, unsigned char *out)
{
    float most = 0;

    for (int i = 0; i < BLOCK; i++)
        most = fmaxf(most, fabsf(x[i]));
    float d = most / 127, by = d != 0 ? 1 / d : 0;
    out = put_half(out, d);
    for (int i = 0; i < BLOCK; i++)
        *out++ = (unsigned char)(int8_t)roundf(x[i] * by);
    return out;
}

static unsigned char *q4_0(const float *x, unsigned char *out)
{
    float most = 0, signed_most = 0;

    for (int i = 0; i < BLOCK; i++)
        if (most < fabsf(x[i]))
            most = fabsf(x[i]), signed_most = x[i];
    float d = signed_most / -8, by = d != 0 ? 1 / d : 0;
    return put_nibbles(put_half(out, d), x, by, 8.5f, 0);
}

static unsigned char *q4_1(const float *x, unsigned char *out)
{
    float low = x[0], high = x[0];

    for (int i = 1; i < BLOCK; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float d = (high - low) / 15, by = d != 0 ? 1 / d : 0;
    return put_nibbles(put_half(put_half(out, d), low), x, by, 0.5f, low);
}

void bm_quantize_row(bm_qtype type, const float *x, size_t n, void *out)
{
    unsigned char *at = out;

    if (type == BM_F32) {
        memcpy(out, x, n * sizeof *x);
    } else if (type == BM_F16 || type == BM_BF16) {
        for (size_t i = 0; i < n; i++) {
            uint16_t h = type == BM_F16 ? bm_f32_to_f16(x[i]) : bm_f32_to_bf16(x[i]);
            memcpy(at + 2 * i, &h, 2);
        }
    } else {
        BM_CHECK(n % BLOCK == 0 && (type == BM_Q8_0 || type == BM_Q4_0 || type == BM_Q4_1));
        for (size_t i = 0; i < n; i += BLOCK)
            at = type == BM_Q8_0 ? q8_0(x + i, at) : type == BM_Q4_0 ? q4_0(x + i, at) : q4_1(x + i, at);
    }
}
