/* vectors.h - samples of logits that other programs computed (tests/oracle/models/make.py says how), and how far ours are from them. */
#pragma once
#include "model_kit.h"

typedef struct vectors {
    int32_t n_tokens, n_vocab, n_rows;
    int32_t *ids, *rows;
    float *logits;
} vectors;

static inline void read_vectors(vectors *v, const char *name)
{
    char path[256], magic[8];
    FILE *f;

    snprintf(path, sizeof path, "%s.vec", name);
    assert_non_null(f = fopen(path, "rb"));
    assert_int_equal(fread(magic, 1, 8, f), 8);
    assert_memory_equal(magic, "BMVEC1\0\0", 8);
    assert_int_equal(fread(v, sizeof(int32_t), 3, f), 3);
    v->ids = malloc((size_t)v->n_tokens * 4);
    v->rows = malloc((size_t)v->n_rows * 4);
    v->logits = malloc((size_t)v->n_rows * (size_t)v->n_vocab * 4);
    assert_int_equal(fread(v->ids, 4, (size_t)v->n_tokens, f), v->n_tokens);
    assert_int_equal(fread(v->rows, 4, (size_t)v->n_rows, f), v->n_rows);
    assert_int_equal(fread(v->logits, 4, (size_t)v->n_rows * (size_t)v->n_vocab, f), v->n_rows * v->n_vocab);
    fclose(f);
}

static inline void free_vectors(vectors *v)
{
    free(v->ids);
    free(v->rows);
    free(v->logits);
}

static inline double relative_difference(const float *a, const float *b, int64_t n)
{
    double most = 0, largest = 0;

    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i] - b[i]));
        largest = fmax(largest, fabs((double)b[i]));
        if (!isfinite(a[i]))
            return INFINITY;
    }
    return most / largest;
}

static inline double log_sum(const float *x, int n)
{
    double most = -INFINITY, sum = 0;

    for (int i = 0; i < n; i++)
        most = fmax(most, (double)x[i]);
    for (int i = 0; i < n; i++)
        sum += exp(x[i] - most);
    return most + log(sum);
}

static inline double mean_kl(const float *a, const float *b, const vectors *v)
{
    double sum = 0;

    for (int r = 0; r < v->n_rows; r++, a += v->n_vocab, b += v->n_vocab) {
        double la = log_sum(a, v->n_vocab), lb = log_sum(b, v->n_vocab);
        for (int i = 0; i < v->n_vocab; i++)
            sum += exp(b[i] - lb) * ((b[i] - lb) - (a[i] - la));
    }
    return sum / v->n_rows;
}
