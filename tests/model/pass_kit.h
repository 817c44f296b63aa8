/* pass_kit.h - what the tests of training share: the oracle's vectors (tests/oracle/grad/make.py), adapters whose values come
 * from its formula, and a pass beside the model of model_kit.h. */
#pragma once
#include "model_kit.h"
#include "model/pass.h"

typedef struct grad_vectors {
    int32_t n_tokens, n_segments, rank, rslora, n_values;
    float alpha;
    int32_t *ids, *starts;
    float *coef;
    double *nll;
    float *gradient;
} grad_vectors;

static inline void *read_some(FILE *f, size_t n, size_t size)
{
    void *p = malloc(n * size);

    assert_int_equal(fread(p, size, n, f), n);
    return p;
}

static inline void grad_vectors_read(grad_vectors *v, const char *name)
{
    char path[256], magic[8];
    FILE *f;

    snprintf(path, sizeof path, "tests/oracle/grad/%s.grad", name);
    assert_non_null(f = fopen(path, "rb"));
    assert_int_equal(fread(magic, 1, 8, f), 8);
    assert_memory_equal(magic, "BMGRD1\0\0", 8);
    assert_int_equal(fread(v, 4, 5, f), 5);
    assert_int_equal(fread(&v->alpha, 4, 1, f), 1);
    v->ids = read_some(f, (size_t)v->n_tokens, 4);
    v->starts = read_some(f, (size_t)v->n_segments, 4);
    v->coef = read_some(f, (size_t)v->n_tokens, 4);
    v->nll = read_some(f, (size_t)v->n_tokens, 8);
    v->gradient = read_some(f, (size_t)v->n_values, 4);
    fclose(f);
}

static inline void grad_vectors_free(grad_vectors *v)
{
    free(v->ids);
    free(v->starts);
    free(v->coef);
    free(v->nll);
    free(v->gradient);
}

/* Number i of the oracle's values of A and B. */
static inline float kit_value(uint64_t i)
{
    uint64_t z = (i + 1) * 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (float)((z ^ z >> 31) >> 40) * 0x1p-25f - 0.25f;
}

typedef struct pass_kit {
    kit k;
    bm_trainable *adapter;
    bm_pass *pass;
} pass_kit;

typedef struct pass_kit_options {
    bool f32, recompute;
    int n_threads, max_tokens;
    bm_trainable_options adapter;
} pass_kit_options;

static inline void pass_kit_open(pass_kit *p, const char *path, const pass_kit_options *o)
{
    bm_error err = { 0 };
    bm_pass_options options = { .max_tokens = o->max_tokens, .n_threads = o->n_threads, .max_rank = o->adapter.rank,
                                .recompute = o->recompute };

    kit_open_path(&p->k, path, o->f32, kit_isa(), o->n_threads, 1);
    kit_check(bm_trainable_new(&p->adapter, p->k.model, &o->adapter, &err), &err);
    kit_check(bm_pass_new(&p->pass, p->k.model, &options, &err), &err);
    for (size_t i = 0; i < bm_trainable_n(p->adapter); i++)
        bm_trainable_values(p->adapter)[i] = kit_value(i);
}

static inline void pass_kit_open_tiny(pass_kit *p, const char *name, const pass_kit_options *o)
{
    char path[256];

    snprintf(path, sizeof path, KIT_DIR "%s.gguf", name);
    pass_kit_open(p, path, o);
}

static inline void pass_kit_close(pass_kit *p)
{
    bm_pass_free(p->pass);
    bm_trainable_free(p->adapter);
    kit_close(&p->k);
}

/* Forward, as fine as a step of training, and backward of a row whose targets are where coef is not 0; gradients are added up.
 * coef NULL: the forward of serving. */
static inline void pass_kit_run(pass_kit *p, const bm_train_row *row, const float *coef, double *nll)
{
    bm_error err = { 0 };

    kit_check(bm_pass_forward(p->pass, p->k.team, p->adapter, row, coef ? BM_PASS_KEEP | BM_PASS_FINE : 0, nll, &err), &err);
    if (coef)
        kit_check(bm_pass_backward(p->pass, p->k.team, p->adapter, coef, &err), &err);
}

/* |a - b| / |b| */
static inline double relative_error(const float *a, const float *b, size_t n)
{
    double d = 0, norm = 0;

    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return norm > 0 ? sqrt(d / norm) : sqrt(d);
}
