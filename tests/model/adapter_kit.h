/* adapter_kit.h - adapters of known values for the tests: random A and B on chosen maps. */
#pragma once
#include "model/lora.h"
#include "model_kit.h"

enum { KIT_ALL_SITES = (1 << BM_LORA_SITES) - 1 };

typedef struct kit_lora { bm_lora_matrix *matrices; size_t n; float *values; } kit_lora;

static inline float kit_noise(uint64_t *x, float most)
{
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return ((float)(int32_t)(*x >> 33) / (float)(1 << 30) - 1) * most;
}

/* B in +-size, A in +-1/sqrt(K). */
static inline void kit_lora_new(kit_lora *l, const bm_model *model, int rank, unsigned sites, float scale, float size, uint64_t seed)
{
    int n_layers = bm_model_get_info(model)->n_layers;
    size_t n = 0, at = 0;
    int64_t in, out;

    *l = (kit_lora){ .matrices = calloc((size_t)n_layers * BM_LORA_SITES, sizeof *l->matrices) };
    for (int i = 0; i < n_layers; i++)
        for (int s = 0; s < BM_LORA_SITES; s++) {
            bm_lora_shape(model, i, (bm_lora_site)s, &in, &out);
            n += sites >> s & 1 ? (size_t)(rank * (in + out)) : 0;
        }
    l->values = malloc((n + 1) * sizeof *l->values);
    for (int i = 0; i < n_layers; i++)
        for (int s = 0; s < BM_LORA_SITES; s++) {
            if (!(sites >> s & 1))
                continue;
            bm_lora_shape(model, i, (bm_lora_site)s, &in, &out);
            float *a = l->values + at, *b = a + rank * in;
            for (int64_t k = 0; k < rank * in; k++)
                a[k] = kit_noise(&seed, 1 / sqrtf((float)in));
            for (int64_t k = 0; k < rank * out; k++)
                b[k] = kit_noise(&seed, size);
            at += (size_t)(rank * (in + out));
            l->matrices[l->n++] = (bm_lora_matrix){ .layer = i, .site = (bm_lora_site)s, .rank = rank, .scale = scale, .a = a, .b = b };
        }
}

static inline void kit_lora_free(kit_lora *l)
{
    free(l->matrices);
    free(l->values);
    *l = (kit_lora){ 0 };
}

static inline bm_adapter *kit_adapter(const bm_model *model, int rank, unsigned sites, float scale, float size, uint64_t seed)
{
    bm_error err = { 0 };
    bm_adapter *adapter;
    kit_lora l;

    kit_lora_new(&l, model, rank, sites, scale, size, seed);
    kit_check(bm_adapter_new(&adapter, model, l.matrices, l.n, &err), &err);
    kit_lora_free(&l);
    return adapter;
}
