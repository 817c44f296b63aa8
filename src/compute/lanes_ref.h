/* lanes_ref.h - the 16-lane vector that kernels_lanes.h and what it includes are written in, as plain C: the specification of
 * lanes_avx2.h and lanes_avx512.h. Comparisons, min and max treat NaN as the SSE instructions do (the second operand wins). */
#pragma once
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "compute/quant.h"

typedef struct v16 { float f[16]; } v16;
typedef struct i16 { int32_t i[16]; } i16;
typedef struct m16 { uint16_t bits; } m16;
#define LANES static inline __attribute__((unused))      /* no registers to save: small objects compile faster */
#define UNROLL
#define EACH for (int e = 0; e < 16; e++)
enum { ATTN_ROWS_MAX = 1, ATTN_SUBTILES = 1, FLOAT_TILES = 1, FLOAT_TOKENS = 1 };

LANES v16 v_set(float x) { v16 r; EACH r.f[e] = x; return r; }
LANES v16 v_load(const float *p) { v16 r; memcpy(r.f, p, sizeof r.f); return r; }
LANES void v_store(float *p, v16 a) { memcpy(p, a.f, sizeof a.f); }
LANES v16 v_load_n(const float *p, int n, float fill) { v16 r; EACH r.f[e] = e < n ? p[e] : fill; return r; }
LANES void v_store_n(float *p, v16 a, int n) { memcpy(p, a.f, (size_t)n * sizeof *p); }
LANES v16 v_load_f16(const uint16_t *p) { v16 r; EACH r.f[e] = bm_f16_to_f32(p[e]); return r; }
LANES void v_store_f16(uint16_t *p, v16 a) { EACH p[e] = bm_f32_to_f16(a.f[e]); }
LANES v16 v_load_bf16_even(const uint16_t *p) { v16 r; EACH r.f[e] = bm_bf16_to_f32(p[2 * e]); return r; }
LANES v16 v_load_bf16_odd(const uint16_t *p) { v16 r; EACH r.f[e] = bm_bf16_to_f32(p[2 * e + 1]); return r; }
LANES v16 v_add(v16 a, v16 b) { EACH a.f[e] += b.f[e]; return a; }
LANES v16 v_sub(v16 a, v16 b) { EACH a.f[e] -= b.f[e]; return a; }
LANES v16 v_mul(v16 a, v16 b) { EACH a.f[e] *= b.f[e]; return a; }
LANES v16 v_div(v16 a, v16 b) { EACH a.f[e] /= b.f[e]; return a; }
LANES v16 v_fma(v16 a, v16 b, v16 c) { EACH c.f[e] = fmaf(a.f[e], b.f[e], c.f[e]); return c; }
LANES v16 v_min(v16 a, v16 b) { EACH b.f[e] = a.f[e] < b.f[e] ? a.f[e] : b.f[e]; return b; }
LANES v16 v_max(v16 a, v16 b) { EACH b.f[e] = a.f[e] > b.f[e] ? a.f[e] : b.f[e]; return b; }
LANES v16 v_abs(v16 a) { EACH a.f[e] = fabsf(a.f[e]); return a; }
LANES v16 v_rint(v16 a) { EACH a.f[e] = rintf(a.f[e]); return a; }
LANES m16 v_less(v16 a, v16 b) { m16 m = { 0 }; EACH m.bits |= (uint16_t)((a.f[e] < b.f[e]) << e); return m; }
LANES m16 v_is_nan(v16 a) { m16 m = { 0 }; EACH m.bits |= (uint16_t)((a.f[e] != a.f[e]) << e); return m; }
LANES v16 v_select(m16 m, v16 a, v16 b) { EACH b.f[e] = m.bits >> e & 1 ? a.f[e] : b.f[e]; return b; }
/* Lanes [from, to) of a, fill elsewhere; 0 <= from, to <= 16. */
LANES v16 v_keep(v16 a, int from, int to, v16 fill) { EACH a.f[e] = e >= from && e < to ? a.f[e] : fill.f[e]; return a; }
/* a * 2^n by adding n (whole, in lanes of floats) to the exponent field. */
LANES v16 v_scale2(v16 a, v16 n)
{
    EACH {
        uint32_t bits;
        memcpy(&bits, &a.f[e], 4);
        bits += (uint32_t)(int32_t)n.f[e] << 23;
        memcpy(&a.f[e], &bits, 4);
    }
    return a;
}
/* What does not fit, and NaN, becomes the least. */
LANES i16 v_to_int(v16 a) { i16 r; EACH r.i[e] = fabsf(a.f[e]) < 0x1p31f ? (int32_t)rintf(a.f[e]) : INT32_MIN; return r; }
LANES void i_store8(int8_t *p, i16 a) { EACH p[e] = (int8_t)a.i[e]; }                     /* |a| <= 127 */
LANES int32_t i_sum(i16 a) { int32_t s = 0; EACH s += a.i[e]; return s; }
LANES i16 i_add(i16 a, i16 b) { EACH a.i[e] = (int32_t)((uint32_t)a.i[e] + (uint32_t)b.i[e]); return a; }
LANES void i_store(int32_t *p, i16 a) { memcpy(p, a.i, sizeof a.i); }
LANES uint32_t m_bits(m16 m) { return m.bits; }
/* Lane e: the low bytes of lane e of the four (|.| <= 127, else any), a's lowest. */
LANES i16 i_bytes(i16 a, i16 b, i16 c, i16 d)
{
    EACH a.i[e] = (int32_t)((uint32_t)(uint8_t)a.i[e] | (uint32_t)(uint8_t)b.i[e] << 8 | (uint32_t)(uint8_t)c.i[e] << 16
                            | (uint32_t)(uint8_t)d.i[e] << 24);
    return a;
}
/* Lane e of w[0] to w[7], 32 bytes, to to[e]. */
LANES void i_store_lanes(int8_t *const *to, const i16 *w) { EACH for (int k = 0; k < 8; k++) memcpy(to[e] + 4 * k, &w[k].i[e], 4); }
/* Lane j of m[i] becomes lane i of m[j]. */
LANES void v_transpose(v16 *m)
{
    EACH for (int i = 0; i < e; i++) {
        float t = m[i].f[e];
        m[i].f[e] = m[e].f[i], m[e].f[i] = t;
    }
}
/* An i16 also holds 32 int16, two in a lane. */
LANES i16 i_zero(void) { i16 r = { { 0 } }; return r; }
LANES i16 i_load(const int16_t *p) { i16 r; memcpy(r.i, p, sizeof r.i); return r; }
LANES i16 i_load8(const int8_t *p)               /* 32 int8, made int16 */
{
    int16_t wide[32];
    i16 r;

    for (int e = 0; e < 32; e++)
        wide[e] = p[e];
    memcpy(r.i, wide, sizeof r.i);
    return r;
}
LANES i16 i_pair(const int16_t *p) { i16 r; EACH memcpy(&r.i[e], p, 4); return r; }      /* p[0] and p[1] in every lane */
/* sum + the products of the first and of the second int16 in each lane, modulo 2^32. */
LANES i16 i_dot(i16 sum, i16 a, i16 b)
{
    int16_t x[32], y[32];

    memcpy(x, a.i, sizeof x);
    memcpy(y, b.i, sizeof y);
    EACH sum.i[e] = (int32_t)((uint32_t)sum.i[e] + (uint32_t)(x[2 * e] * y[2 * e]) + (uint32_t)(x[2 * e + 1] * y[2 * e + 1]));
    return sum;
}
LANES v16 v_from_int(i16 a) { v16 r; EACH r.f[e] = (float)a.i[e]; return r; }
/* The low 16 bits of a's and of b's lanes: what they hold, rounded to even, when ROUND_SHIFT was added to |x| <= 32767. */
#define ROUND_SHIFT 0x1.8p23f
LANES void v_store_low(int16_t *p, v16 a, v16 b)
{
    EACH {
        uint32_t x, y;
        memcpy(&x, &a.f[e], 4);
        memcpy(&y, &b.f[e], 4);
        p[e] = (int16_t)(uint16_t)x, p[16 + e] = (int16_t)(uint16_t)y;
    }
}
/* a * 2^n for n = z - ROUND_SHIFT, by adding it to the exponent field. */
LANES v16 v_scale2_shifted(v16 a, v16 z)
{
    EACH {
        uint32_t x, y;
        memcpy(&x, &a.f[e], 4);
        memcpy(&y, &z.f[e], 4);
        x += y << 23;
        memcpy(&a.f[e], &x, 4);
    }
    return a;
}
LANES bool v_any_nan(v16 a) { return v_is_nan(a).bits != 0; }
LANES float v_sum(v16 a)
{
    for (int step = 8; step > 0; step /= 2)
        for (int e = 0; e < step; e++)
            a.f[e] += a.f[e + step];
    return a.f[0];
}
LANES float v_largest(v16 a)
{
    for (int step = 8; step > 0; step /= 2)
        for (int e = 0; e < step; e++)
            a.f[e] = a.f[e] > a.f[e + step] ? a.f[e] : a.f[e + step];
    return a.f[0];
}
/* Lane e: v_largest of in[e]. */
LANES v16 v_largests(const v16 *in) { v16 r; EACH r.f[e] = v_largest(in[e]); return r; }
LANES void v_load_pairs(const float *p, v16 *even, v16 *odd) { EACH even->f[e] = p[2 * e], odd->f[e] = p[2 * e + 1]; }
LANES void v_store_pairs(float *p, v16 even, v16 odd) { EACH p[2 * e] = even.f[e], p[2 * e + 1] = odd.f[e]; }
