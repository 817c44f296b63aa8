/* arch.c - the table of architectures, and the reading of their GGUF keys (ggml's docs/gguf.md; gguf-py's constants.py has
 * the names). Every number is checked here against a range, so that later code can multiply without overflow. */
#include "model/arch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"

const bm_arch_row bm_arch_table[] = {
    { .name = "llama", .act = BM_ACT_SILU, .rope_pairs = true, .qkv_bias = BM_OPTIONAL, .window_rule = BM_WINDOW_ALL },
    { .name = "mistral3", .act = BM_ACT_SILU, .rope_pairs = true, .qkv_bias = BM_OPTIONAL, .window_rule = BM_WINDOW_ALL,
      .attn_temperature = true },
    { .name = "qwen2", .act = BM_ACT_SILU, .qkv_bias = BM_REQUIRED },
    { .name = "qwen3", .act = BM_ACT_SILU, .qk_norm = BM_REQUIRED, .qkv_bias = BM_OPTIONAL },
    { .name = "gemma2", .act = BM_ACT_GELU_TANH, .post_norms = BM_REQUIRED, .embed_sqrt_d = true, .wide_scale_layers = 46,
      .window_rule = BM_WINDOW_PATTERN, .window_pattern = 2, .window_default = 4096,
      .attn_softcap = 50, .final_softcap = 30 },
    { .name = "gemma3", .act = BM_ACT_GELU_TANH, .qk_norm = BM_REQUIRED, .post_norms = BM_REQUIRED, .embed_sqrt_d = true,
      .wide_scale_layers = 62, .window_rule = BM_WINDOW_PATTERN, .window_pattern = 6, .rope_local_base = 10000 },
    { .name = NULL },
};

/* ---- reading keys: each helper returns 0, or fails with one line that names file, key, found and expected ---- */

typedef struct reader {
    const bm_gguf *gguf;
    const char *arch;
    char key[128];
    bm_error *err;
} reader;

static const bm_gguf_kv *find(reader *r, const char *key)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->arch, key);
    return bm_gguf_find(r->gguf, r->key);
}

static int bad_key(reader *r, const bm_gguf_kv *kv, const char *expected)
{
    char found[80] = "absent";

    if (kv)
        bm_gguf_describe(kv, found, sizeof found);
    return bm_fail(r->err, BM_FORMAT, "%s: key %s is %s, expected %s", bm_gguf_path(r->gguf), r->key, found, expected);
}

/* *out keeps its value when the key is absent and not required. */
static int read_int(reader *r, const char *key, bool required, int64_t min, int64_t max, int *out)
{
    const bm_gguf_kv *kv = find(r, key);
    int64_t value;
    char expected[80];

    if (!kv && !required)
        return 0;
    if (!kv || !bm_gguf_get_i64(r->gguf, r->key, &value) || value < min || value > max) {
        snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min, (long long)max);
        return bad_key(r, kv, expected);
    }
    *out = (int)value;
    return 0;
}

/* A size that may be given once or for each layer. All layers must have the same: other plans are not carried out. */
static int read_layers_int(reader *r, const char *key, bool required, int64_t max, int n_layers, int *out)
{
    const bm_gguf_kv *kv = find(r, key);
    int64_t first, value;

    if (!kv || kv->type != BM_GGUF_ARRAY)
        return read_int(r, key, required, 1, max, out);
    if (kv->n != (uint64_t)n_layers || !bm_gguf_elem_i64(kv, 0, &first) || first < 1 || first > max)
        return bad_key(r, kv, "one usable integer, or one for each layer");
    for (uint64_t i = 1; i < kv->n; i++)
        if (!bm_gguf_elem_i64(kv, i, &value) || value != first)
            return bm_fail(r->err, BM_UNSUPPORTED, "%s: key %s differs between layers, which is not carried out for architecture %s",
                           bm_gguf_path(r->gguf), r->key, r->arch);
    *out = (int)first;
    return 0;
}

static int read_float(reader *r, const char *key, bool required, double min, double max, float *out)
{
    const bm_gguf_kv *kv = find(r, key);
    float value;
    char expected[80];

    if (!kv && !required)
        return 0;
    if (!kv || !bm_gguf_get_f32(r->gguf, r->key, &value) || !(value >= min && value <= max)) {
        snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
        return bad_key(r, kv, expected);
    }
    *out = value;
    return 0;
}

/* Keys of these families whose other values are not carried out: a wrong answer is worse than none. */
static int refuse_unsupported(reader *r)
{
    int64_t n = 0;
    bool causal = true;
    const bm_gguf_kv *experts = find(r, "expert_count");

    if (experts && (!bm_gguf_get_i64(r->gguf, r->key, &n) || n != 0))
        return bm_fail(r->err, BM_UNSUPPORTED, "%s: key %s is %lld: experts are not carried out for architecture %s",
                       bm_gguf_path(r->gguf), r->key, (long long)n, r->arch);
    const bm_gguf_kv *mask = find(r, "attention.causal");
    if (mask && (!bm_gguf_get_bool(r->gguf, r->key, &causal) || !causal))
        return bm_fail(r->err, BM_UNSUPPORTED, "%s: key %s is not true: encoders are not carried out for architecture %s",
                       bm_gguf_path(r->gguf), r->key, r->arch);
    return 0;
}

/* ---- the architecture ---- */

static int find_row(const bm_arch_row **out, const bm_gguf *gguf, bm_error *err)
{
    bm_str name;
    char known[200];
    size_t len = 0;

    if (!bm_gguf_get_str(gguf, "general.architecture", &name))
        return bm_fail(err, BM_FORMAT, "%s: key general.architecture is absent, expected the name of an architecture",
                       bm_gguf_path(gguf));
    for (const bm_arch_row *row = bm_arch_table; row->name; row++) {
        if (strlen(row->name) == name.len && memcmp(row->name, name.data, name.len) == 0) {
            *out = row;
            return 0;
        }
        len += (size_t)snprintf(known + len, sizeof known - len, "%s%s", len ? ", " : "", row->name);
    }
    char found[80];
    bm_gguf_describe(bm_gguf_find(gguf, "general.architecture"), found, sizeof found);
    return bm_fail(err, BM_UNSUPPORTED, "%s: architecture %s is not known; known are %s", bm_gguf_path(gguf), found, known);
}

/* ---- sizes ---- */

static int read_sizes(reader *r, bm_hparams *h)
{
    int rc;
    const bm_gguf_tensor *embd = bm_gguf_find_tensor(r->gguf, "token_embd.weight");

    if ((rc = read_int(r, "block_count", true, 1, BM_MAX_LAYERS, &h->n_layers)) < 0 ||
        (rc = read_int(r, "embedding_length", true, 1, 1 << 20, &h->d_model)) < 0 ||
        (rc = read_layers_int(r, "feed_forward_length", true, 1 << 22, h->n_layers, &h->d_ff)) < 0 ||
        (rc = read_int(r, "context_length", true, 1, BM_MAX_CTX, &h->n_ctx)) < 0 ||
        (rc = read_layers_int(r, "attention.head_count", true, 1 << 14, h->n_layers, &h->n_heads)) < 0)
        return rc;
    h->n_kv_heads = h->n_heads;
    if ((rc = read_layers_int(r, "attention.head_count_kv", false, 1 << 14, h->n_layers, &h->n_kv_heads)) < 0)
        return rc;
    if (h->n_heads % h->n_kv_heads)
        return bm_fail(r->err, BM_FORMAT, "%s: key %s is %d, expected a divisor of the %d heads", bm_gguf_path(r->gguf),
                       r->key, h->n_kv_heads, h->n_heads);
    h->head_k = h->d_model % h->n_heads ? 0 : h->d_model / h->n_heads;
    h->head_v = h->head_k;
    if ((rc = read_int(r, "attention.key_length", h->head_k < 2 || h->head_k > BM_MAX_HEAD_DIM, 2, BM_MAX_HEAD_DIM,
                       &h->head_k)) < 0 ||
        (rc = read_int(r, "attention.value_length", h->head_v < 2 || h->head_v > BM_MAX_HEAD_DIM, 2, BM_MAX_HEAD_DIM,
                       &h->head_v)) < 0)
        return rc;
    if (h->head_k % 2 || h->head_v % 2)
        return bm_fail(r->err, BM_FORMAT, "%s: head sizes are %d (key) and %d (value), expected even ones",
                       bm_gguf_path(r->gguf), h->head_k, h->head_v);
    if (!embd || embd->n_dims != 2 || embd->dims[1] < 1 || embd->dims[1] > (1 << 24))
        return bm_fail(r->err, BM_FORMAT, "%s: tensor token_embd.weight is %s, expected [%d, vocabulary]",
                       bm_gguf_path(r->gguf), embd ? "not a matrix of a usable size" : "absent", h->d_model);
    h->n_vocab = (int)embd->dims[1];
    return 0;
}

static int read_scalars(reader *r, bm_hparams *h)
{
    int rc;
    const bm_arch_row *row = h->row;
    bool wide = row->wide_scale_layers && h->n_layers == row->wide_scale_layers;

    h->attn_scale = 1 / sqrtf(wide ? (float)h->d_model / (float)h->n_heads : (float)h->head_k);
    h->attn_softcap = row->attn_softcap;
    h->final_softcap = row->final_softcap;
    h->embed_scale = row->embed_sqrt_d ? sqrtf((float)h->d_model) : 1;
    h->residual_scale = h->logit_scale = 1;
    const char *eps = row->norm == BM_NORM_RMS ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
    if ((rc = read_float(r, eps, true, 0, 1, &h->norm_eps)) < 0 ||
        (rc = read_float(r, "attention.scale", false, 1e-6, 1e6, &h->attn_scale)) < 0 ||
        (rc = read_float(r, "attn_logit_softcapping", false, 0, 1e6, &h->attn_softcap)) < 0 ||
        (rc = read_float(r, "final_logit_softcapping", false, 0, 1e6, &h->final_softcap)) < 0 ||
        (rc = read_float(r, "embedding_scale", false, 1e-6, 1e6, &h->embed_scale)) < 0 ||
        (rc = read_float(r, "residual_scale", false, 1e-6, 1e6, &h->residual_scale)) < 0 ||
        (rc = read_float(r, "logit_scale", false, 1e-6, 1e6, &h->logit_scale)) < 0)
        return rc;
    if (row->attn_temperature) {
        h->temp_len = h->n_ctx;
        if ((rc = read_float(r, "attention.temperature_scale", false, 0, 1e3, &h->temp_scale)) < 0 ||
            (rc = read_int(r, "rope.scaling.original_context_length", false, 1, BM_MAX_CTX, &h->temp_len)) < 0)
            return rc;
    }
    return 0;
}

/* ---- RoPE ---- */

static int read_scaling_type(reader *r, bm_rope_scaling *out)
{
    static const struct { const char *name; bm_rope_scaling scaling; } names[] = {
        { "none", BM_ROPE_PLAIN }, { "linear", BM_ROPE_LINEAR }, { "yarn", BM_ROPE_YARN }, { "llama3", BM_ROPE_LLAMA3 } };
    const bm_gguf_kv *kv = find(r, "rope.scaling.type");
    bm_str name;
    char found[80];

    *out = BM_ROPE_LINEAR;       /* a factor without a type is linear, as in llama.cpp */
    if (!kv)
        return 0;
    if (!bm_gguf_get_str(r->gguf, r->key, &name))
        return bad_key(r, kv, "a name");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == name.len && memcmp(names[i].name, name.data, name.len) == 0) {
            *out = names[i].scaling;
            return 0;
        }
    bm_gguf_describe(kv, found, sizeof found);
    return bm_fail(r->err, BM_UNSUPPORTED, "%s: key %s is %s, carried out are none, linear, yarn, llama3",
                   bm_gguf_path(r->gguf), r->key, found);
}

/* The magnitude of yarn, as transformers has it: given, or 0.1 ln(factor) + 1, or the quotient of two such (mscale 1). */
static double yarn_magnitude(double factor, double given, double log_mul)
{
    double m = factor <= 1 ? 1 : 0.1 * log(factor) + 1;

    if (given > 0)
        return given;
    return log_mul > 0 && factor > 1 ? m / (0.1 * log_mul * log(factor) + 1) : m;
}

static int read_scaling(reader *r, const bm_hparams *h, bm_rope_params *p)
{
    int rc, original = h->n_ctx;
    float factor = 1, fast = 32, slow = 1, ext = 1, given = 0, mul = 0, low = 1, high = 4, attn = 1;

    if ((rc = read_scaling_type(r, &p->scaling)) < 0 ||
        (rc = read_float(r, "rope.scale_linear", false, 0, 1e6, &factor)) < 0 ||
        (rc = read_float(r, "rope.scaling.factor", false, 0, 1e6, &factor)) < 0 ||
        (rc = read_int(r, "rope.scaling.original_context_length", false, 1, BM_MAX_CTX, &original)) < 0 ||
        (rc = read_float(r, "rope.scaling.yarn_beta_fast", false, 1e-3, 1e6, &fast)) < 0 ||
        (rc = read_float(r, "rope.scaling.yarn_beta_slow", false, 1e-3, 1e6, &slow)) < 0 ||
        (rc = read_float(r, "rope.scaling.yarn_ext_factor", false, 0, 1, &ext)) < 0 ||
        (rc = read_float(r, "rope.scaling.yarn_attn_factor", false, 1e-3, 1e3, &given)) < 0 ||
        (rc = read_float(r, "rope.scaling.yarn_log_multiplier", false, 0, 1e3, &mul)) < 0 ||
        (rc = read_float(r, "rope.scaling.attn_factor", false, 1e-3, 1e3, &attn)) < 0 ||
        (rc = read_float(r, "rope.scaling.low_freq_factor", false, 1e-3, 1e6, &low)) < 0 ||
        (rc = read_float(r, "rope.scaling.high_freq_factor", false, 1e-3, 1e6, &high)) < 0)
        return rc;
    if (p->scaling == BM_ROPE_LLAMA3 && !(high > low))
        return bm_fail(r->err, BM_FORMAT, "%s: key %s is %g, expected more than the low_freq_factor %g",
                       bm_gguf_path(r->gguf), r->key, (double)high, (double)low);
    p->factor = factor > 0 ? factor : 1;                 /* llama.cpp: 0 means none */
    p->original_ctx = original;
    p->beta_fast = fast, p->beta_slow = slow, p->ext_factor = ext;
    p->low_freq = low, p->high_freq = high;
    if (p->scaling == BM_ROPE_YARN)
        p->magnitude = yarn_magnitude(p->factor, given, mul) * attn;
    return 0;
}

/* rope_freqs.weight (llama 3.1 and later): a divisor per frequency. */
static int read_divisors(reader *r, int n, float out[BM_MAX_HEAD_DIM / 2], const float **divisors)
{
    const bm_gguf_tensor *t = bm_gguf_find_tensor(r->gguf, "rope_freqs.weight");

    *divisors = NULL;
    if (!t)
        return 0;
    if (t->type != BM_F32 || t->n_dims != 1 || t->dims[0] != (uint64_t)n)
        return bm_fail(r->err, BM_FORMAT, "%s: tensor rope_freqs.weight is %s [%llu], expected F32 [%d]",
                       bm_gguf_path(r->gguf), bm_qtype_name(t->type), (unsigned long long)t->dims[0], n);
    memcpy(out, t->data, (size_t)n * sizeof *out);
    for (int i = 0; i < n; i++)
        if (!(out[i] > 1e-6f && out[i] < 1e9f))
            return bm_fail(r->err, BM_FORMAT, "%s: tensor rope_freqs.weight holds %g at %d, expected a positive number",
                           bm_gguf_path(r->gguf), (double)out[i], i);
    *divisors = out;
    return 0;
}

static int read_ropes(reader *r, bm_hparams *h)
{
    int rc, n_rot = h->head_k;
    float base = 10000, local = h->row->rope_local_base, divisors[BM_MAX_HEAD_DIM / 2];
    bm_rope_params p = { .magnitude = 1 };

    if ((rc = read_int(r, "rope.dimension_count", false, 2, h->head_k, &n_rot)) < 0)
        return rc;
    if (n_rot % 2)
        return bm_fail(r->err, BM_FORMAT, "%s: key %s is %d, expected an even number", bm_gguf_path(r->gguf), r->key, n_rot);
    if ((rc = read_float(r, "rope.freq_base", false, 1.001, 1e12, &base)) < 0 ||
        (rc = read_scaling(r, h, &p)) < 0 || (rc = read_divisors(r, n_rot / 2, divisors, &p.divisors)) < 0)
        return rc;
    p.n_rot = n_rot;
    p.base = base;
    h->n_ropes = 1;
    bm_rope_init(&h->ropes[0], &p);
    if (local > 0) {
        if ((rc = read_float(r, "rope.freq_base_swa", false, 1.001, 1e12, &local)) < 0)
            return rc;
        bm_rope_init(&h->ropes[1], &(bm_rope_params){ .n_rot = n_rot, .base = local, .magnitude = 1 });
        h->n_ropes = 2;
    }
    return 0;
}

/* ---- layers ---- */

/* attention.sliding_window_pattern is a number (each n-th layer is full) or one flag per layer (true: windowed). */
static int read_pattern(reader *r, const bm_hparams *h, int *every, const bm_gguf_kv **flags)
{
    const bm_gguf_kv *kv = find(r, "attention.sliding_window_pattern");

    *flags = NULL;
    *every = h->row->window_rule == BM_WINDOW_PATTERN ? h->row->window_pattern : 0;
    if (!kv || h->row->window_rule != BM_WINDOW_PATTERN)
        return 0;
    if (kv->type != BM_GGUF_ARRAY)
        return read_int(r, "attention.sliding_window_pattern", false, 1, BM_MAX_LAYERS, every);
    if (kv->n < (uint64_t)h->n_layers)
        return bad_key(r, kv, "a flag for each layer");
    *flags = kv;
    return 0;
}

static bool layer_is_windowed(const bm_hparams *h, int layer, int every, const bm_gguf_kv *flags)
{
    int64_t number = 0;
    bool flag = false;

    if (h->row->window_rule == BM_WINDOW_ALL)
        return true;
    if (flags && bm_gguf_elem_bool(flags, (uint64_t)layer, &flag))
        return flag;
    if (flags)
        return bm_gguf_elem_i64(flags, (uint64_t)layer, &number) && number != 0;
    return every > 0 && layer % every != every - 1;
}

static void add_to_group(bm_hparams *h, bm_layer_plan *layer)
{
    int g = 0;

    while (g < h->n_groups && h->group_window[g] != layer->window)
        g++;
    BM_CHECK(g < BM_MAX_KV_GROUPS);          /* one window per model: at most two groups */
    if (g == h->n_groups)
        h->group_window[h->n_groups++] = layer->window;
    layer->group = g;
    layer->group_layer = h->group_layers[g]++;
}

static int plan_layers(reader *r, bm_hparams *h)
{
    int rc, window = h->row->window_default, every;
    const bm_gguf_kv *flags;

    if (h->row->window_rule != BM_WINDOW_NONE &&
        (rc = read_int(r, "attention.sliding_window", false, 0, INT32_MAX, &window)) < 0)
        return rc;
    if ((rc = read_pattern(r, h, &every, &flags)) < 0)
        return rc;
    for (int i = 0; i < h->n_layers; i++) {
        bm_layer_plan *layer = &h->layers[i];
        bool windowed = window > 0 && layer_is_windowed(h, i, every, flags);

        layer->mixer = h->row->mixer;
        layer->ffn = h->row->ffn;
        layer->window = windowed && window < h->n_ctx ? window : 0;
        layer->rope = windowed && h->n_ropes > 1;
        add_to_group(h, layer);
    }
    return 0;
}

int bm_hparams_read(bm_hparams *h, const bm_gguf *gguf, bm_error *err)
{
    int rc;
    reader r = { .gguf = gguf, .err = err };

    memset(h, 0, sizeof *h);
    if ((rc = find_row(&h->row, gguf, err)) < 0)
        return rc;
    r.arch = h->row->name;
    if ((rc = refuse_unsupported(&r)) < 0 || (rc = read_sizes(&r, h)) < 0 || (rc = read_scalars(&r, h)) < 0 || (rc = read_ropes(&r, h)) < 0 ||
        (rc = plan_layers(&r, h)) < 0)
        return rc;
    return 0;
}
