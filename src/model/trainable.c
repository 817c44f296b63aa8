/* trainable.c - the adapter that is trained: f32 masters and gradients, A drawn as peft draws it, B zero. */
#include <math.h>

#include "base/mem.h"
#include "model/pass_walk.h"

/* A number in [0, 1) with 24 random bits: the SplitMix64 finaliser (Steele et al., "Fast Splittable Pseudorandom Number
 * Generators", 2014) of a counter. */
static float random_unit(uint64_t seed, uint64_t i)
{
    uint64_t x = seed * 0xbf58476d1ce4e5b9u + (i + 1) * 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (float)(x >> 40) * 0x1p-24f;
}

/* kaiming_uniform(a = sqrt 5): uniform in +-sqrt(6 / ((1 + 5) K)) (peft, tuners/lora/layer.py, reset_lora_parameters). */
static void draw(bm_trainable *t, uint64_t seed)
{
    int64_t n_in, n_out;

    for (size_t i = 0; i < t->n_matrices; i++) {
        const bm_lora_matrix *m = &t->matrices[i];
        float *a = t->values + (m->a - t->values);
        bm_lora_shape(t->model, m->layer, m->site, &n_in, &n_out);
        float bound = 1 / sqrtf((float)n_in);
        for (int64_t j = 0; j < m->rank * n_in; j++)
            a[j] = bound * (2 * random_unit(seed, (uint64_t)(a - t->values + j)) - 1);
    }
}

/* Describes the packs, in memory from base on; NULL: only counts their bytes. */
static size_t place_packs(bm_trainable *t, unsigned char *base)
{
    bm_qtype type = t->model->f32 ? BM_F32 : BM_BF16;
    int64_t n_in, n_out;
    size_t at = 0, len;

    for (size_t i = 0; i < 2 * t->n_matrices; i++) {
        const bm_lora_matrix *m = &t->matrices[i / 2];
        bm_lora_shape(t->model, m->layer, m->site, &n_in, &n_out);
        int64_t rows = i % 2 ? n_out : t->rank, cols = i % 2 ? t->rank_padded : n_in;
        BM_CHECK(bm_pack_bytes(type, rows, cols, &len));         /* shapes of a model that is open */
        if (base)
            BM_CHECK(bm_packed_init(i % 2 ? &t->packs[i / 2].b : &t->packs[i / 2].a, type, rows, cols, base + at, NULL) == 0);
        at += (len + 63) & ~(size_t)63;
    }
    return at;
}

/* Lists the matrices; with values NULL only counts their floats. */
static size_t place(bm_trainable *t)
{
    size_t n = 0, at = 0;
    int64_t n_in, n_out;

    for (int layer = 0; layer < t->model->h.n_layers; layer++)
        for (int site = 0; site < BM_LORA_SITES; site++) {
            if (!(t->sites >> site & 1))
                continue;
            bm_lora_shape(t->model, layer, (bm_lora_site)site, &n_in, &n_out);
            size_t len_a = (size_t)t->rank * (size_t)n_in;
            if (t->values)
                t->matrices[at++] = (bm_lora_matrix){ .layer = layer, .site = (bm_lora_site)site, .rank = t->rank, .scale = t->scale,
                                                      .a = t->values + n, .b = t->values + n + len_a };
            n += len_a + (size_t)t->rank * (size_t)n_out;
        }
    return n;
}

static int check_options(bm_trainable *t, const bm_trainable_options *o, bm_error *err)
{
    float alpha;

    t->sites = o->sites ? o->sites : (1u << BM_LORA_SITES) - 1;
    t->rank = o->rank ? o->rank : BM_DEFAULT_RANK;
    alpha = o->alpha != 0 ? o->alpha : 2 * (float)t->rank;
    if (t->sites >> BM_LORA_SITES)
        return bm_fail(err, BM_INVALID, "sites 0x%x name maps that are not known", t->sites);
    if (t->rank < 1 || t->rank > BM_LORA_MAX_RANK)
        return bm_fail(err, BM_INVALID, "rank is %d, expected 1 to %d", t->rank, BM_LORA_MAX_RANK);
    if (!(alpha > 0 && alpha <= 1e6f))
        return bm_fail(err, BM_INVALID, "alpha is %g, expected more than 0", (double)alpha);
    t->rank_padded = (t->rank + BM_TILE_ROWS - 1) / BM_TILE_ROWS * BM_TILE_ROWS;
    t->n_sites = __builtin_popcount(t->sites);
    t->scale = alpha / (o->rslora ? sqrtf((float)t->rank) : (float)t->rank);
    t->n_matrices = (size_t)t->model->h.n_layers * (size_t)t->n_sites;
    return 0;
}

static int allocate(bm_trainable *t, bm_error *err)
{
    t->n = place(t);
    t->matrices = bm_calloc(t->n_matrices, sizeof *t->matrices);
    t->packs = bm_calloc(t->n_matrices, sizeof *t->packs);
    t->values = bm_calloc(t->n, sizeof *t->values);
    t->grads = bm_calloc(t->n, sizeof *t->grads);
    if (t->matrices && t->packs && t->values && t->grads) {
        place(t);
        if ((t->packed = bm_alloc_aligned(place_packs(t, NULL), 64)) != NULL) {
            place_packs(t, t->packed);
            return 0;
        }
    }
    return bm_fail(err, BM_NOMEM, "no memory for an adapter of %zu parameters (rank %d)", t->n, t->rank);
}

int bm_trainable_new(bm_trainable **out, const bm_model *model, const bm_trainable_options *options, bm_error *err)
{
    int rc;
    bm_trainable *t = bm_zalloc(sizeof *t);

    *out = NULL;
    if (!t)
        return bm_fail(err, BM_NOMEM, "no memory for the adapter's header");
    t->model = model;
    if ((rc = check_options(t, options, err)) < 0 || (rc = allocate(t, err)) < 0)
        goto out;
    draw(t, options->seed);
    *out = t, t = NULL;
out:
    bm_trainable_free(t);
    return rc;
}

void bm_trainable_free(bm_trainable *t)
{
    if (!t)
        return;
    bm_free(t->matrices);
    bm_free(t->values);
    bm_free(t->grads);
    bm_free(t->packs);
    bm_free(t->packed);
    bm_free(t);
}

size_t bm_trainable_n(const bm_trainable *t) { return t->n; }
float *bm_trainable_values(bm_trainable *t) { return t->values; }
float *bm_trainable_grads(bm_trainable *t) { return t->grads; }

const bm_lora_matrix *bm_trainable_matrices(const bm_trainable *t, size_t *n)
{
    *n = t->n_matrices;
    return t->matrices;
}
