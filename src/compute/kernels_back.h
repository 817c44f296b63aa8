/* kernels_back.h - what training needs element by element: gradients of norms, activations and softmax, and the small forms in
 * which activations wait for them; included by kernels_lanes.h. Gradients follow from the forward formulas there. */
#pragma once

#define F16_LARGEST 65504.0f

/* Call body(i, m) for each 16 of n elements, m of them real. */
#define EACH_16(n, i, m) for (int64_t i = 0, m; m = (n) - i < 16 ? (n) - i : 16, i < (n); i += 16)

LANES v16 load_m(const float *p, int64_t m) { return m == 16 ? v_load(p) : v_load_n(p, (int)m, 0); }

LANES void store_m(float *p, v16 a, int64_t m)
{
    if (m == 16)
        v_store(p, a);
    else
        v_store_n(p, a, (int)m);
}

/* y = g * sigma(z(g)): dy/dg = sigma * (1 + g * (1 - sigma) * dz/dg). */
LANES void gated_back(float *gate, float *up, const float *dh, float *h, int64_t n, bool gelu)
{
    const v16 one = v_set(1.0f);

    EACH_16(n, i, m) {
        v16 g = load_m(gate + i, m), u = load_m(up + i, m), d = load_m(dh + i, m), z = g, dz = one;
        if (gelu) {
            v16 square = v_mul(g, g);
            z = v_mul(v_set(1.5957691216f), v_fma(v_mul(square, g), v_set(0.044715f), g));
            dz = v_mul(v_set(1.5957691216f), v_fma(square, v_set(0.134145f), one));
        }
        v16 sigma = v_gate(one, z), act = v_mul(g, sigma);
        v16 slope = v_mul(sigma, v_fma(v_mul(g, v_sub(one, sigma)), dz, one));
        store_m(h + i, v_mul(act, u), m);
        store_m(gate + i, v_mul(v_mul(d, u), slope), m);
        store_m(up + i, v_mul(d, act), m);
    }
}

static void silu_back(float *gate, float *up, const float *dh, float *h, int64_t n) { gated_back(gate, up, dh, h, n, false); }
static void gelu_tanh_back(float *gate, float *up, const float *dh, float *h, int64_t n) { gated_back(gate, up, dh, h, n, true); }

LANES v16 weighted(const float *dy, const float *weight, int64_t i, int64_t m)
{
    v16 d = load_m(dy + i, m);

    return weight != NULL ? v_mul(d, load_m(weight + i, m)) : d;
}

LANES void add_to(float *dx, v16 g, int64_t m, bool add)
{
    store_m(dx, add ? v_add(load_m(dx, m), g) : g, m);
}

/* With r = 1 / sqrt(mean(x^2) + eps) and g = w dy: dx = r g - x r^3 sum(x g) / n. */
static void rmsnorm_back(float *dx, const float *dy, const float *x, const float *weight, int64_t n, float eps, bool add_dx)
{
    float r = 1.0f / sqrtf(sum_squares(x, n, 0) / (float)n + eps);
    v16 dot = v_set(0);

    EACH_16(n, i, m)
        dot = v_fma(load_m(x + i, m), weighted(dy, weight, i, m), dot);
    v16 by = v_set(r), back = v_set(-(r * r * r * v_sum(dot) / (float)n));
    EACH_16(n, i, m)
        add_to(dx + i, v_fma(load_m(x + i, m), back, v_mul(weighted(dy, weight, i, m), by)), m, add_dx);
}

/* With c = (x - mean) r and g = w dy: dx = r (g - mean(g) - c mean(c g)). */
static void layernorm_back(float *dx, const float *dy, const float *x, const float *weight, int64_t n, float eps, bool add_dx)
{
    v16 sum = v_set(0), sum_g = v_set(0), dot = v_set(0);

    EACH_16(n, i, m)
        sum = v_add(sum, load_m(x + i, m)), sum_g = v_add(sum_g, weighted(dy, weight, i, m));
    float mean = v_sum(sum) / (float)n, r = 1.0f / sqrtf(sum_squares(x, n, mean) / (float)n + eps);
    EACH_16(n, i, m)
        dot = v_fma(v_sub(load_m(x + i, m), v_set(mean)), weighted(dy, weight, i, m), dot);
    v16 by = v_set(r), mean_g = v_set(v_sum(sum_g) / (float)n), back = v_set(-(r * r * v_sum(dot) / (float)n));
    EACH_16(n, i, m) {
        v16 g = v_fma(v_sub(load_m(x + i, m), v_set(mean)), back, v_sub(weighted(dy, weight, i, m), mean_g));
        add_to(dx + i, v_mul(g, by), m, add_dx);
    }
}

static void attn_back(float *s, float *ds, int64_t n, float by, float cap, float lse, float delta)
{
    EACH_16(n, i, m) {
        v16 x = v_mul(load_m(s + i, m), v_set(by)), slope = v_set(by);
        if (cap > 0) {
            x = v_softcap(x, cap);
            v16 t = v_div(x, v_set(cap));
            slope = v_mul(slope, v_sub(v_set(1.0f), v_mul(t, t)));
        }
        v16 p = v_exp(v_sub(x, v_set(lse)));
        store_m(s + i, p, m);
        store_m(ds + i, v_mul(v_mul(p, v_sub(load_m(ds + i, m), v_set(delta))), slope), m);
    }
}

static void softmax_back(float *x, int64_t n, float lse, float cap, float by)
{
    EACH_16(n, i, m) {
        v16 v = load_m(x + i, m), slope = v_set(by);
        if (cap > 0) {
            v16 t = v_div(v, v_set(cap));
            slope = v_mul(slope, v_sub(v_set(1.0f), v_mul(t, t)));
        }
        store_m(x + i, v_mul(v_exp(v_sub(v, v_set(lse))), slope), m);
    }
}

static float dot_product(const float *x, const float *y, int64_t n)
{
    v16 sum = v_set(0);

    EACH_16(n, i, m)
        sum = v_fma(load_m(x + i, m), load_m(y + i, m), sum);
    return v_sum(sum);
}

static void put_f16(uint16_t *out, const float *x, int64_t n)
{
    EACH_16(n, i, m) {
        uint16_t half[16];
        v16 v = v_max(v_min(load_m(x + i, m), v_set(F16_LARGEST)), v_set(-F16_LARGEST));
        v_store_f16(m == 16 ? out + i : half, v);
        if (m < 16)
            memcpy(out + i, half, (size_t)m * sizeof *out);
    }
}

static void get_f16(float *out, const uint16_t *x, int64_t n)
{
    EACH_16(n, i, m) {
        uint16_t half[16] = { 0 };
        if (m < 16)
            memcpy(half, x + i, (size_t)m * sizeof *x);
        store_m(out + i, v_load_f16(m < 16 ? half : x + i), m);
    }
}
