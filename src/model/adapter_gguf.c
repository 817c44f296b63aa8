/* adapter_gguf.c - llama.cpp's GGUF layout of an adapter, in and out; see adapter_file.h. Keys and names are those of
 * llama.cpp's convert_lora_to_gguf.py and src/llama-adapter.cpp: A is lora_a, dims [K, R]; B is lora_b, dims [R, N]; the scale is
 * alpha / R, or 1 when alpha is 0. */
#include "model/adapter_files.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/polite.h"
#include "format/gguf_write.h"
#include "model/walk.h"

static const struct { const char *key; size_t at, room; } fields[] = {
#define FIELD(name) { "baimo." #name, offsetof(bm_adapter_about, name), sizeof ((bm_adapter_about *)0)->name }
    FIELD(base_sha256), FIELD(data_sha256), FIELD(version), FIELD(settings)
#undef FIELD
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

/* Head size where this map's rows stand in another order than ours; 0: in ours. */
static int reordered(const bm_model *m, bm_lora_site site)
{
    return m->h.row->rope_pairs && (site == BM_LORA_Q || site == BM_LORA_K) ? m->h.head_k : 0;
}

/* ---- reading ---- */

static int read_about(bm_adapter_about *about, const bm_gguf *g, bm_error *err)
{
    bm_str s = { "", 0 };

    if (!bm_gguf_get_str(g, "adapter.type", &s) || s.len != 4 || memcmp(s.data, "lora", 4) != 0)
        return bm_fail(err, BM_UNSUPPORTED, "%s: adapter.type is %.*s; only lora is carried out", bm_gguf_path(g), (int)(s.len < 40 ? s.len : 40),
                       s.data);
    if (!bm_gguf_get_f32(g, "adapter.lora.alpha", &about->alpha) || !isfinite(about->alpha) || fabsf(about->alpha) > 1e6f)
        return bm_fail(err, BM_FORMAT, "%s: key adapter.lora.alpha is absent, or not between -1e6 and 1e6", bm_gguf_path(g));
    if (bm_gguf_get_str(g, "general.base_model.0.name", &s))
        bm_adapter_about_copy(about->base_name, sizeof about->base_name, s.data, s.len);
    for (size_t i = 0; i < N_FIELDS; i++)
        if (bm_gguf_get_str(g, fields[i].key, &s))
            bm_adapter_about_copy((char *)about + fields[i].at, fields[i].room, s.data, s.len);
    return 0;
}

int bm_gguf_adapter_look(const bm_gguf *gguf, bm_adapter_about *about, bm_error *err)
{
    int rc = read_about(about, gguf, err);

    return rc < 0 ? rc : 1;
}

/* "blk.3.attn_q.weight.lora_a". */
static int parse_name(const char *name, int *layer, bm_lora_site *site, bool *is_b, bm_error *err)
{
    long n = 0;
    const char *at = name;

    if (strncmp(at, "blk.", 4) == 0 && at[4] >= '0' && at[4] <= '9') {
        for (at += 4; *at >= '0' && *at <= '9' && n < 100000; at++)
            n = 10 * n + (*at - '0');
        for (int s = 0; s < BM_LORA_SITES && *at == '.'; s++) {
            const char *part = bm_lora_gguf_name((bm_lora_site)s), *rest = at + 1 + strlen(part);
            if (strncmp(at + 1, part, strlen(part)) != 0)
                continue;
            *is_b = strcmp(rest, ".weight.lora_b") == 0;
            *site = (bm_lora_site)s, *layer = (int)n;
            if (*is_b || strcmp(rest, ".weight.lora_a") == 0)
                return 0;
        }
    }
    return bm_fail(err, BM_UNSUPPORTED, "tensor %s is no lora_a or lora_b of a layer's linear maps, and nothing else is carried out", name);
}

static int list_tensors(bm_adapter_list *list, const bm_gguf *g, bm_error *err)
{
    for (size_t i = 0; i < bm_gguf_n_tensors(g); i++) {
        const bm_gguf_tensor *t = bm_gguf_tensor_at(g, i);
        bm_lora_site site = BM_LORA_Q;
        int layer = 0, rc;
        bool is_b = false;
        if ((rc = parse_name(t->name, &layer, &site, &is_b, err)) < 0)
            return rc;
        if (!bm_qtype_traits((uint32_t)t->type))
            return bm_fail(err, BM_UNSUPPORTED, "tensor %s has type %s, which is not carried out", t->name, bm_qtype_name((uint32_t)t->type));
        if (t->dims[2] != 1 || t->dims[3] != 1)
            return bm_fail(err, BM_FORMAT, "tensor %s has more than 2 axes", t->name);
        if ((rc = bm_adapter_list_add(list, layer, site, is_b, t->dims[1], t->dims[0], t, err)) < 0)
            return rc;
    }
    return 0;
}

/* B's rows into our order. */
static int read_b(const bm_model *m, const bm_lora_matrix *x, const bm_gguf_tensor *t, float *out, bm_error *err)
{
    const bm_qtraits *traits = bm_qtype_traits((uint32_t)t->type);
    size_t n = (size_t)t->dims[0] * (size_t)t->dims[1], rank = (size_t)x->rank;
    int head = reordered(m, x->site);
    float *plain = out;

    if (head && !(plain = bm_malloc(n * sizeof *plain)))
        return bm_fail(err, BM_NOMEM, "no memory for tensor %s", t->name);
    traits->dequantize(t->data, plain, n);
    for (int32_t r = 0; head && r < (int32_t)t->dims[1]; r++)
        memcpy(out + (size_t)r * rank, plain + (size_t)bm_rope_file_row(head, m->h.ropes[0].n_rot, r) * rank, rank * sizeof *out);
    if (head)
        bm_free(plain);
    return 0;
}

static int fill(bm_adapter_file *out, const bm_adapter_list *list, bm_error *err)
{
    int rc = bm_adapter_list_finish(list, out, err);

    for (size_t i = 0; i < out->n && rc == 0; i++) {
        bm_lora_matrix *m = &out->matrices[i];
        const bm_adapter_pair *pair = &list->pairs[m->layer * BM_LORA_SITES + (int)m->site];
        const bm_gguf_tensor *a = pair->a;
        m->scale = out->about.alpha != 0 ? out->about.alpha / (float)m->rank : 1;
        bm_qtype_traits((uint32_t)a->type)->dequantize(a->data, (float *)(uintptr_t)m->a, (size_t)a->dims[0] * (size_t)a->dims[1]);
        rc = read_b(list->model, m, pair->b, (float *)(uintptr_t)m->b, err);
        bm_polite_rest();
    }
    return rc;
}

int bm_gguf_adapter_read(bm_adapter_file *out, const bm_model *model, const bm_gguf *gguf, bm_error *err)
{
    bm_adapter_list list = { 0 };
    bm_str arch;
    int rc;

    if ((rc = read_about(&out->about, gguf, err)) < 0)
        return rc;
    if (bm_gguf_get_str(gguf, "general.architecture", &arch) &&
        (arch.len != strlen(model->info.arch) || memcmp(arch.data, model->info.arch, arch.len) != 0))
        return bm_fail(err, BM_INVALID, "%s: an adapter for architecture %.*s; the base is %s", bm_gguf_path(gguf),
                       (int)(arch.len < 40 ? arch.len : 40), arch.data, model->info.arch);
    if ((rc = bm_adapter_list_init(&list, model, err)) < 0 || (rc = list_tensors(&list, gguf, err)) < 0 || (rc = fill(out, &list, err)) < 0)
        bm_wrap(err, "%s", bm_gguf_path(gguf));
    bm_adapter_list_done(&list);
    return rc;
}

/* ---- writing ---- */

static int write_matrix(bm_gguf_writer *w, const bm_model *model, const bm_lora_matrix *m, bm_error *err)
{
    int64_t n_in, n_out;
    int head = reordered(model, m->site), rc;
    float *rows = NULL;

    bm_lora_shape(model, m->layer, m->site, &n_in, &n_out);
    size_t rank = (size_t)m->rank, b_len = (size_t)n_out * rank * sizeof(float);
    if (head) {
        if (!(rows = bm_malloc(b_len)))
            return bm_fail(err, BM_NOMEM, "no memory for %zu bytes", b_len);
        for (int32_t r = 0; r < (int32_t)n_out; r++)
            memcpy(rows + (size_t)bm_rope_file_row(head, model->h.ropes[0].n_rot, r) * rank, m->b + (size_t)r * rank, rank * sizeof *rows);
    }
    rc = bm_gguf_writer_data(w, m->a, rank * (size_t)n_in * sizeof(float), err);
    if (rc == 0)
        rc = bm_gguf_writer_data(w, rows ? rows : m->b, b_len, err);
    bm_free(rows);
    return rc;
}

static int put_header(bm_gguf_writer *w, const bm_model *model, const bm_lora_matrix *matrices, size_t n, const bm_adapter_about *about,
                      float alpha, const char *path, bm_error *err)
{
    char name[80];
    int64_t n_in, n_out;

    bm_gguf_put_str(w, "general.architecture", model->info.arch);
    bm_gguf_put_str(w, "general.type", "adapter");
    bm_gguf_put_str(w, "adapter.type", "lora");
    bm_gguf_put_f32(w, "adapter.lora.alpha", alpha);
    if (about->base_name[0])
        bm_gguf_put_str(w, "general.base_model.0.name", about->base_name);
    for (size_t i = 0; i < N_FIELDS; i++)
        if (((const char *)about + fields[i].at)[0])
            bm_gguf_put_str(w, fields[i].key, (const char *)about + fields[i].at);
    for (size_t i = 0; i < n; i++) {
        const bm_lora_matrix *m = &matrices[i];
        bm_lora_shape(model, m->layer, m->site, &n_in, &n_out);
        uint64_t a[2] = { (uint64_t)n_in, (uint64_t)m->rank }, b[2] = { (uint64_t)m->rank, (uint64_t)n_out };
        snprintf(name, sizeof name, "blk.%d.%s.weight.lora_a", m->layer, bm_lora_gguf_name(m->site));
        bool good = bm_gguf_put_tensor(w, name, BM_F32, 2, a);
        snprintf(name, sizeof name, "blk.%d.%s.weight.lora_b", m->layer, bm_lora_gguf_name(m->site));
        if (!good || !bm_gguf_put_tensor(w, name, BM_F32, 2, b))
            return bm_fail(err, BM_LIMIT, "%s: too many tensors", path);
    }
    return 0;
}

/* llama.cpp divides one alpha by each rank: the same for all matrices, whatever rsLoRA made of it. */
static int common_alpha(const bm_lora_matrix *matrices, size_t n, float *alpha, const char *path, bm_error *err)
{
    *alpha = bm_adapter_alpha(&matrices[0], false);
    for (size_t i = 1; i < n; i++)
        if (fabsf(bm_adapter_alpha(&matrices[i], false) - *alpha) > 1e-5f * fabsf(*alpha))
            return bm_fail(err, BM_UNSUPPORTED, "%s: its matrices have alphas of %g and %g; this format holds one", path, (double)*alpha,
                           (double)bm_adapter_alpha(&matrices[i], false));
    return 0;
}

int bm_adapter_write_gguf(const char *path, const bm_model *model, const bm_lora_matrix *matrices, size_t n, const bm_adapter_about *about,
                          bm_error *err)
{
    static const bm_adapter_about nothing;
    bm_gguf_writer *w = NULL;
    float alpha;
    int rc;

    if (n == 0)
        return bm_fail(err, BM_INVALID, "%s: an adapter without matrices", path);
    if ((rc = common_alpha(matrices, n, &alpha, path, err)) < 0 || (rc = bm_gguf_writer_new(&w, path, err)) < 0)
        return rc;
    if ((rc = put_header(w, model, matrices, n, about ? about : &nothing, alpha, path, err)) == 0)
        rc = bm_gguf_writer_begin(w, err);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = write_matrix(w, model, &matrices[i], err);
    if (rc == 0)
        rc = bm_gguf_writer_commit(w, err);
    bm_gguf_writer_free(w);
    return rc;
}
