/* rope.c - frequencies and cosines of rotary embeddings; see rope.h. */
#include "model/rope.h"

#include <math.h>

static const double two_pi = 6.28318530717958647692;

/* The dimension whose wavelength turns `turns` times within the original context (YaRN, equation 17 solved for d). */
static double yarn_dim(const bm_rope_params *p, double turns)
{
    return p->n_rot * log(p->original_ctx / (turns * two_pi)) / (2 * log(p->base));
}

static double yarn_freq(const bm_rope_params *p, int i, double freq)
{
    double low = fmax(0, floor(yarn_dim(p, p->beta_fast)));
    double high = fmin(p->n_rot - 1, ceil(yarn_dim(p, p->beta_slow)));
    double ramp = (i - low) / fmax(0.001, high - low);
    double extrapolate = (1 - fmin(1, fmax(0, ramp))) * p->ext_factor;

    return freq / p->factor * (1 - extrapolate) + freq * extrapolate;
}

/* Long wavelengths are interpolated, short ones kept, those between are blended (Llama 3.1's reference code). */
static double llama3_freq(const bm_rope_params *p, double freq)
{
    double turns = p->original_ctx * freq / two_pi;
    double blend = (turns - p->low_freq) / (p->high_freq - p->low_freq);

    if (turns > p->high_freq)
        return freq;
    if (turns < p->low_freq)
        return freq / p->factor;
    return (1 - blend) * freq / p->factor + blend * freq;
}

void bm_rope_init(bm_rope *rope, const bm_rope_params *p)
{
    rope->n_rot = p->n_rot;
    rope->magnitude = (float)p->magnitude;
    for (int i = 0; i < p->n_rot / 2; i++) {
        double freq = pow(p->base, -2.0 * i / p->n_rot);

        if (p->divisors)
            freq /= p->divisors[i];
        switch (p->scaling) {
        case BM_ROPE_PLAIN:  break;
        case BM_ROPE_LINEAR: freq /= p->factor; break;
        case BM_ROPE_YARN:   freq = yarn_freq(p, i, freq); break;
        case BM_ROPE_LLAMA3: freq = llama3_freq(p, freq); break;
        }
        rope->freq[i] = freq;
    }
}

void bm_rope_fill(const bm_rope *rope, int32_t position, float *cos_sin)
{
    for (int i = 0; i < rope->n_rot / 2; i++) {
        double angle = position * rope->freq[i];

        cos_sin[2 * i] = (float)cos(angle) * rope->magnitude;
        cos_sin[2 * i + 1] = (float)sin(angle) * rope->magnitude;
    }
}

int32_t bm_rope_file_row(int head_rows, int n_rot, int32_t r)
{
    int32_t half = n_rot / 2, in_head = r % head_rows, from = in_head;

    if (in_head < half)
        from = 2 * in_head;
    else if (in_head < 2 * half)
        from = 2 * (in_head - half) + 1;
    return r - in_head + from;
}
