/* adapter_file.c - what the two layouts of adapters share: recognising one, and the list of matrices while it is read. */
#include "model/adapter_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"

/* ---- the list ---- */

int bm_adapter_list_add(bm_adapter_list *list, int layer, bm_lora_site site, bool is_b, uint64_t rows, uint64_t cols, const void *tensor,
                        bm_error *err)
{
    if (layer < 0 || layer >= list->n_layers)
        return bm_fail(err, BM_INVALID, "it changes layer %d; the base has layers 0 to %d", layer, list->n_layers - 1);
    bm_adapter_pair *pair = &list->pairs[layer * BM_LORA_SITES + (int)site];
    int64_t n_in, n_out, want = 0;
    const char *part = is_b ? "lora_B" : "lora_A";

    bm_lora_shape(list->model, layer, site, &n_in, &n_out);
    want = is_b ? n_out : n_in;
    if (is_b ? pair->b != NULL : pair->a != NULL)
        return bm_fail(err, BM_FORMAT, "%s of layer %d %s comes twice", part, layer, bm_lora_hf_name(site));
    if ((is_b ? rows : cols) != (uint64_t)want)
        return bm_fail(err, BM_INVALID, "%s of layer %d %s is [%llu, %llu], expected %s%lld%s: it was made for another base", part, layer,
                       bm_lora_hf_name(site), (unsigned long long)rows, (unsigned long long)cols, is_b ? "[" : "[rank, ", (long long)want,
                       is_b ? ", rank]" : "]");
    uint64_t rank = is_b ? cols : rows;
    if (rank < 1 || rank > BM_LORA_MAX_RANK)
        return bm_fail(err, BM_UNSUPPORTED, "layer %d %s has rank %llu, expected 1 to %d", layer, bm_lora_hf_name(site),
                       (unsigned long long)rank, BM_LORA_MAX_RANK);
    if (pair->rank != 0 && pair->rank != (int)rank)
        return bm_fail(err, BM_FORMAT, "layer %d %s: lora_A and lora_B have ranks %d and %llu", layer, bm_lora_hf_name(site), pair->rank,
                       (unsigned long long)rank);
    pair->rank = (int)rank;
    if (is_b)
        pair->b = tensor;
    else
        pair->a = tensor;
    return 0;
}

int bm_adapter_list_init(bm_adapter_list *list, const bm_model *model, bm_error *err)
{
    *list = (bm_adapter_list){ .model = model, .n_layers = bm_model_get_info(model)->n_layers };
    list->pairs = bm_calloc((size_t)list->n_layers * BM_LORA_SITES, sizeof *list->pairs);
    return list->pairs != NULL ? 0 : bm_fail(err, BM_NOMEM, "no memory for an adapter of %d layers", list->n_layers);
}

void bm_adapter_list_done(bm_adapter_list *list)
{
    bm_free(list->pairs);
    list->pairs = NULL;
}

/* Every pair is whole; memory for all values; matrices in order. */
int bm_adapter_list_finish(const bm_adapter_list *list, bm_adapter_file *out, bm_error *err)
{
    size_t n_pairs = (size_t)list->n_layers * BM_LORA_SITES, total = 0, at = 0;
    int64_t n_in, n_out;

    for (size_t i = 0; i < n_pairs; i++) {
        const bm_adapter_pair *p = &list->pairs[i];
        int layer = (int)(i / BM_LORA_SITES);
        bm_lora_site site = (bm_lora_site)(i % BM_LORA_SITES);
        if ((p->a == NULL) != (p->b == NULL))
            return bm_fail(err, BM_FORMAT, "layer %d %s has only %s", layer, bm_lora_hf_name(site), p->a ? "lora_A" : "lora_B");
        bm_lora_shape(list->model, layer, site, &n_in, &n_out);
        total += (size_t)p->rank * (size_t)(n_in + n_out);
        out->n += p->a != NULL;
    }
    if (out->n == 0)
        return bm_fail(err, BM_FORMAT, "it holds no matrix of a linear map");
    out->matrices = bm_calloc(out->n, sizeof *out->matrices);
    out->values = bm_calloc(total, sizeof *out->values);
    if (out->matrices == NULL || out->values == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for an adapter of %zu values", total);
    bm_lora_matrix *m = out->matrices;
    for (size_t i = 0; i < n_pairs; i++) {
        const bm_adapter_pair *p = &list->pairs[i];
        if (p->a == NULL)
            continue;
        *m = (bm_lora_matrix){ .layer = (int)(i / BM_LORA_SITES), .site = (bm_lora_site)(i % BM_LORA_SITES), .rank = p->rank };
        bm_lora_shape(list->model, m->layer, m->site, &n_in, &n_out);
        m->a = out->values + at;
        m->b = m->a + p->rank * n_in;
        at += (size_t)p->rank * (size_t)(n_in + n_out);
        m++;
    }
    return 0;
}

/* ---- about ---- */

void bm_adapter_about_ranks(bm_adapter_about *about, const bm_lora_matrix *matrices, size_t n)
{
    int count[BM_LORA_MAX_RANK + 1] = { 0 };

    about->rank = 0;
    for (size_t i = 0; i < n; i++)
        if (matrices[i].rank > 0 && matrices[i].rank <= BM_LORA_MAX_RANK && ++count[matrices[i].rank] > count[about->rank])
            about->rank = matrices[i].rank;
    for (size_t i = 0; i < n; i++)
        if (matrices[i].rank == about->rank) {
            about->alpha = bm_adapter_alpha(&matrices[i], about->rslora);
            return;
        }
}

void bm_adapter_about_copy(char *out, size_t room, const char *s, size_t len)
{
    len = s == NULL ? 0 : strnlen(s, len);
    if (len >= room)
        len = 0;                 /* a name or a hash that does not fit is none of ours */
    if (len > 0)
        memcpy(out, s, len);
    out[len] = '\0';
}

/* ---- by looking ---- */

static bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* The directory of a PEFT adapter that path names, itself or by one of its files; false: none. */
static bool peft_dir(const char *path, bm_buf *dir)
{
    struct stat st;
    bm_buf config = { 0 };
    bool found;

    bm_buf_puts(dir, path);
    if (has_suffix(path, "adapter_model.safetensors") || has_suffix(path, "adapter_config.json")) {
        const char *slash = strrchr(path, '/');
        bm_buf_clear(dir);
        bm_buf_add(dir, slash != NULL ? path : ".", slash == NULL || slash == path ? 1 : (size_t)(slash - path));
    }
    bm_buf_puts(&config, dir->failed ? "" : dir->data);
    bm_buf_puts(&config, "/adapter_config.json");
    found = !dir->failed && !config.failed && stat(config.data, &st) == 0;
    bm_buf_done(&config);
    return found;
}

/* A GGUF that says that it is an adapter. 1, with *out open; 0: not a GGUF of this kind. */
static int open_gguf(bm_gguf **out, const char *path, bm_error *err)
{
    char magic[4] = { 0 };
    struct stat st;
    bm_str type;
    FILE *f;
    int rc;

    *out = NULL;
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || (f = fopen(path, "rbe")) == NULL)
        return 0;
    size_t n = fread(magic, 1, sizeof magic, f);
    fclose(f);
    if (n != sizeof magic || memcmp(magic, "GGUF", 4) != 0)
        return 0;
    if ((rc = bm_gguf_open_listing(out, path, err)) < 0)
        return rc;
    if (bm_gguf_get_str(*out, "general.type", &type) && type.len == 7 && memcmp(type.data, "adapter", 7) == 0)
        return 1;
    bm_gguf_close(*out);
    *out = NULL;
    return 0;
}

int bm_adapter_file_look(const char *path, bm_adapter_about *about, bm_error *err)
{
    bm_adapter_about mine;
    bm_buf dir = { 0 };
    bm_gguf *gguf = NULL;
    int rc;

    about = about != NULL ? about : &mine;
    memset(about, 0, sizeof *about);
    if (peft_dir(path, &dir))
        rc = bm_peft_look(dir.data, about, err);
    else if ((rc = open_gguf(&gguf, path, err)) > 0)
        rc = bm_gguf_adapter_look(gguf, about, err);
    bm_gguf_close(gguf);
    bm_buf_done(&dir);
    return rc;
}

int bm_adapter_file_read(bm_adapter_file *out, const bm_model *model, const char *path, bm_error *err)
{
    bm_buf dir = { 0 };
    bm_gguf *gguf = NULL;
    int rc;

    memset(out, 0, sizeof *out);
    if (peft_dir(path, &dir)) {
        rc = bm_peft_read(out, model, dir.data, err);
    } else if ((rc = open_gguf(&gguf, path, err)) > 0) {
        rc = bm_gguf_adapter_read(out, model, gguf, err);
    } else if (rc == 0) {
        rc = bm_fail(err, BM_FORMAT, "%s: neither a directory with adapter_config.json nor a GGUF of type adapter", path);
        bm_hint(err, "an adapter is a directory as peft's save_pretrained writes it, or a file of llama.cpp's convert_lora_to_gguf.py");
    }
    if (rc == 0)
        bm_adapter_about_ranks(&out->about, out->matrices, out->n);
    else
        bm_adapter_file_done(out);
    bm_gguf_close(gguf);
    bm_buf_done(&dir);
    return rc;
}

void bm_adapter_file_done(bm_adapter_file *file)
{
    bm_free(file->matrices);
    bm_free(file->values);
    memset(file, 0, sizeof *file);
}
