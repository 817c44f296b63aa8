/* merge.c - see merge.h. A matrix at a time: dequantised row by row, changed in f32, quantised again. */
#include "model/merge.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "compute/quantize.h"
#include "format/gguf_write.h"
#include "model/walk.h"

typedef struct merge {
    const bm_gguf *gguf;
    const bm_model *model;
    const bm_lora_matrix **of;   /* [n_tensors]: what changes a tensor; NULL: it is copied */
    bm_qtype type;
    bm_gguf_writer *out;
    const char *path;
} merge;

/* ---- which tensors ---- */

static int find_changes(merge *m, const bm_lora_matrix *matrices, size_t n, bm_error *err)
{
    char name[80];

    if (!(m->of = bm_calloc(bm_gguf_n_tensors(m->gguf), sizeof *m->of)))
        return bm_fail(err, BM_NOMEM, "%s: no memory for the list of tensors", m->path);
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "blk.%d.%s.weight", matrices[i].layer, bm_lora_gguf_name(matrices[i].site));
        const bm_gguf_tensor *t = bm_gguf_find_tensor(m->gguf, name);
        if (!t)
            return bm_fail(err, BM_FORMAT, "%s: tensor %s is absent, which the adapter changes", bm_gguf_path(m->gguf), name);
        snprintf(name, sizeof name, "blk.%d.%s.scale", matrices[i].layer, bm_lora_gguf_name(matrices[i].site));
        if (bm_gguf_find_tensor(m->gguf, name))
            return bm_fail(err, BM_UNSUPPORTED, "%s: tensor %s scales a whole matrix, which merging does not carry out",
                           bm_gguf_path(m->gguf), name);
        for (size_t k = 0; k < bm_gguf_n_tensors(m->gguf); k++)
            if (bm_gguf_tensor_at(m->gguf, k) == t)
                m->of[k] = &matrices[i];
    }
    return 0;
}

static bm_qtype type_of(const merge *m, size_t i)
{
    const bm_gguf_tensor *t = bm_gguf_tensor_at(m->gguf, i);
    size_t row;

    if (!m->of[i])
        return t->type;
    return bm_qtype_row_bytes(m->type, t->dims[0], &row) ? m->type : BM_F16;
}

/* general.file_type as in llama.h, enum llama_ftype: a hint of the commonest type. */
static uint32_t file_type(bm_qtype type)
{
    switch (type) {
    case BM_F16: return 1;
    case BM_Q4_0: return 2;
    case BM_Q4_1: return 3;
    case BM_Q8_0: return 7;
    case BM_BF16: return 32;
    default: return 0;
    }
}

static int put_header(const merge *m, bm_error *err)
{
    for (size_t i = 0; i < bm_gguf_n_kvs(m->gguf); i++) {
        const bm_gguf_kv *kv = bm_gguf_kv_at(m->gguf, i);
        if (strcmp(kv->key, "general.file_type") == 0)
            bm_gguf_put_u32(m->out, kv->key, file_type(m->type));
        else if (strcmp(kv->key, "general.alignment") != 0)      /* ours is the default */
            bm_gguf_put_kv(m->out, kv);
    }
    for (size_t i = 0; i < bm_gguf_n_tensors(m->gguf); i++) {
        const bm_gguf_tensor *t = bm_gguf_tensor_at(m->gguf, i);
        if (!bm_gguf_put_tensor(m->out, t->name, type_of(m, i), t->n_dims, t->dims))
            return bm_fail(err, BM_LIMIT, "%s: tensor %s cannot be written", m->path, t->name);
    }
    return bm_gguf_writer_begin(m->out, err);
}

/* ---- one matrix ---- */

typedef struct rows_job {
    const bm_gguf_tensor *tensor;
    const bm_lora_matrix *change;
    int head_rows, n_rot;        /* the file's rows are in another order inside each head; 0: as ours */
    bm_qtype type;
    size_t in_bytes, out_bytes;  /* of a row */
    unsigned char *out;
    float *scratch;              /* [workers][K] */
} rows_job;

/* Our row r is file row `at`. */
static void merge_row(const rows_job *job, int64_t r, int64_t at, float *row)
{
    const bm_lora_matrix *c = job->change;
    size_t k = (size_t)job->tensor->dims[0];

    bm_qtype_traits((uint32_t)job->tensor->type)->dequantize(job->tensor->data + (size_t)at * job->in_bytes, row, k);
    for (int j = 0; j < c->rank; j++) {
        float by = c->scale * c->b[r * c->rank + j];
        const float *a = c->a + (size_t)j * k;
        for (size_t i = 0; i < k; i++)
            row[i] += by * a[i];
    }
    bm_quantize_row(job->type, row, k, job->out + (size_t)at * job->out_bytes);
}

static void merge_rows(bm_worker *w, void *arg)
{
    const rows_job *job = arg;
    float *row = job->scratch + (size_t)w->id * (size_t)job->tensor->dims[0];
    size_t begin, end;

    while (bm_worker_claim(w, (size_t)job->tensor->dims[1], 16, &begin, &end))
        for (; begin < end; begin++)
            merge_row(job, (int64_t)begin, job->head_rows ? bm_rope_file_row(job->head_rows, job->n_rot, (int32_t)begin) : (int64_t)begin, row);
}

static int merge_tensor(const merge *m, size_t i, bm_team *team, bm_error *err)
{
    const bm_gguf_tensor *t = bm_gguf_tensor_at(m->gguf, i);
    const bm_lora_matrix *c = m->of[i];
    bool reordered = m->model->h.row->rope_pairs && (c->site == BM_LORA_Q || c->site == BM_LORA_K);
    rows_job job = { .tensor = t, .change = c, .type = type_of(m, i), .head_rows = reordered ? m->model->h.head_k : 0,
                     .n_rot = m->model->h.ropes[0].n_rot };
    int64_t n_in, n_out;
    size_t len = 0;
    int rc;

    bm_lora_shape(m->model, c->layer, c->site, &n_in, &n_out);
    BM_CHECK((uint64_t)n_in == t->dims[0] && (uint64_t)n_out == t->dims[1]);      /* the model was made of this file */
    if (!bm_qtype_row_bytes(t->type, t->dims[0], &job.in_bytes) || !bm_qtype_row_bytes(job.type, t->dims[0], &job.out_bytes) ||
        !bm_mul_size(job.out_bytes, (size_t)t->dims[1], &len) || !(job.out = bm_malloc(len)) ||
        !(job.scratch = bm_calloc((size_t)bm_team_size(team), (size_t)t->dims[0] * sizeof(float)))) {
        rc = bm_fail(err, BM_NOMEM, "%s: no memory for tensor %s", m->path, t->name);
    } else {
        bm_team_run(team, merge_rows, &job);
        rc = bm_gguf_writer_data(m->out, job.out, len, err);
    }
    bm_free(job.out);
    bm_free(job.scratch);
    return rc;
}

static int write_tensors(const merge *m, const bm_merge_options *o, bm_team *team, bm_error *err)
{
    size_t n = bm_gguf_n_tensors(m->gguf);
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        const bm_gguf_tensor *t = bm_gguf_tensor_at(m->gguf, i);
        rc = m->of[i] ? merge_tensor(m, i, team, err) : bm_gguf_writer_data(m->out, t->data, t->len_bytes, err);
        if (rc == 0 && o->progress && !o->progress(o->progress_arg, i + 1, n))
            rc = bm_fail(err, BM_CANCELED, "%s: merging was canceled", m->path);
    }
    return rc;
}

int bm_merge_write(const char *path, const bm_gguf *gguf, const bm_model *model, const bm_lora_matrix *matrices, size_t n,
                   const bm_merge_options *options, bm_team *team, bm_error *err)
{
    merge m = { .gguf = gguf, .model = model, .type = options->type, .path = path };
    int rc;

    if ((rc = find_changes(&m, matrices, n, err)) == 0 && (rc = bm_gguf_writer_new(&m.out, path, err)) == 0 &&
        (rc = put_header(&m, err)) == 0 && (rc = write_tensors(&m, options, team, err)) == 0)
        rc = bm_gguf_writer_commit(m.out, err);
    bm_gguf_writer_free(m.out);
    bm_free(m.of);
    return rc;
}
