/* bench_adapters.c - `bench --adapters N`: the sequences take N adapters of rank 16 on all linear maps in turn, neighbours the same
 * one, as the scheduler orders them. Each repeat runs the base alone too, so that a busy machine slows both. */
#include "cli/bench.h"
#include "base/mem.h"

#include <math.h>

enum { RANK = 16 };

static float noise(uint64_t *state, float most)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ((float)(*state >> 40) / (float)(1 << 23) - 1) * most;
}

/* Small random values: what they are does not matter to speed. */
static int make_adapter(bm_adapter **out, const bm_model *model, uint64_t seed, bm_error *err)
{
    size_t n_maps = (size_t)bm_model_get_info(model)->n_layers * BM_LORA_SITES, most = 0;
    bm_lora_matrix *matrices = bm_calloc(n_maps, sizeof *matrices);
    int64_t in, out_rows;
    float *values;
    int rc;

    *out = NULL;
    for (int s = 0; s < BM_LORA_SITES; s++) {
        bm_lora_shape(model, 0, (bm_lora_site)s, &in, &out_rows);
        most = most > (size_t)(in + out_rows) * RANK ? most : (size_t)(in + out_rows) * RANK;
    }
    if ((values = bm_calloc(most, sizeof *values)) == NULL || matrices == NULL) {
        bm_free(values);
        bm_free(matrices);
        return bm_fail(err, BM_NOMEM, "no memory for an adapter");
    }
    for (size_t i = 0; i < most; i++)
        values[i] = noise(&seed, 0.01f);
    for (size_t i = 0; i < n_maps; i++) {
        bm_lora_matrix *m = &matrices[i];
        *m = (bm_lora_matrix){ .layer = (int)(i / BM_LORA_SITES), .site = (bm_lora_site)(i % BM_LORA_SITES), .rank = RANK, .scale = 2 };
        bm_lora_shape(model, m->layer, m->site, &in, &out_rows);
        m->a = values, m->b = values + in * RANK;
    }
    rc = bm_adapter_new(out, model, matrices, n_maps, err);
    bm_free(values);
    bm_free(matrices);
    return rc;
}

int bench_adapters_make(bench *b, bm_error *err)
{
    int rc = 0;

    if ((b->adapters = bm_calloc((size_t)b->o->adapters + 1, sizeof(bm_adapter *))) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for adapters");
    for (int64_t i = 0; i < b->o->adapters && rc == 0; i++)
        rc = make_adapter(&b->adapters[i], b->model, (uint64_t)i + 1, err);
    return rc;
}

void bench_adapters_mount(bench *b, bool mount)
{
    for (int64_t i = 0; i < b->o->parallel; i++)
        b->lanes[i].adapter = mount ? b->adapters[i * b->o->adapters / b->o->parallel] : NULL;
}

void bench_adapters_free(bench *b)
{
    for (int64_t i = 0; b->adapters != NULL && i < b->o->adapters; i++)
        bm_adapter_free(b->adapters[i]);
    bm_free(b->adapters);
}
