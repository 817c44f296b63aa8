/* shelf_adapter.c - putting an adapter on the shelf: it is read and checked against its base before one row is written. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "model/adapter_file.h"
#include "platform/shelf.h"

int bm_shelf_hash_adapter(const char *path, char hex[65], int64_t *size_bytes, bm_error *err)
{
    bm_buf file = { 0 };
    bm_sha256 hash;
    struct stat st;
    int rc;

    bm_buf_puts(&file, path);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        bm_buf_puts(&file, "/adapter_model.safetensors");
    if (file.failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a path");
    else if ((rc = bm_sha256_file(&hash, file.data, NULL, NULL, err)) == 0) {
        bm_hex(hex, hash.bytes, sizeof hash.bytes);
        *size_bytes = stat(file.data, &st) == 0 ? (int64_t)st.st_size : 0;
    }
    bm_buf_done(&file);
    return rc;
}

/* The base by name, or by the hash that the adapter names. */
static int find_base(bm_store *store, const char *base, const bm_adapter_about *about, bm_shelf_model *out, bm_error *err)
{
    bm_shelf_model *rows;
    size_t n;
    int rc;

    if (base != NULL) {
        if ((rc = bm_shelf_find(store, base, out, err)) < 0)
            return rc;
        if (about->base_sha256[0] != '\0' && strcmp(about->base_sha256, out->sha256) != 0) {
            bm_fail(err, BM_INVALID, "the adapter was made for a base with sha256 %.16s...; %s has %.16s...", about->base_sha256, out->name,
                    out->sha256);
            return bm_hint(err, "name the very file that it was trained on: baimo shelf ls"), BM_INVALID;
        }
        return 0;
    }
    if ((rc = bm_shelf_list(store, &rows, &n, err)) < 0)
        return rc;
    bool found = false;
    for (size_t i = 0; i < n && !found; i++)
        if (about->base_sha256[0] != '\0' && strcmp(rows[i].sha256, about->base_sha256) == 0)
            *out = rows[i], found = true;
    bm_free(rows);
    if (found)
        return 0;
    if (about->base_sha256[0] != '\0')
        bm_fail(err, BM_NOTFOUND, "the adapter's base, with sha256 %.16s..., is not on the shelf", about->base_sha256);
    else
        bm_fail(err, BM_INVALID, "the adapter does not say by hash which file it was made for (its maker calls it '%.100s')", about->base_name);
    bm_param(err, "base");
    return bm_hint(err, "name its base: baimo shelf add PATH --base NAME"), err != NULL ? err->code : BM_INVALID;
}

/* Its matrices fit the base, and make an adapter. */
static int check_matrices(const char *path, const bm_shelf_model *base, bm_adapter_about *about, bm_error *err)
{
    bm_adapter_file file = { 0 };
    bm_adapter *adapter = NULL;
    bm_model *shapes = NULL;
    bm_gguf *gguf = NULL;
    int rc;

    if ((rc = bm_gguf_open(&gguf, base->path, err)) == 0 && (rc = bm_model_open_shapes(&shapes, gguf, err)) == 0 &&
        (rc = bm_adapter_file_read(&file, shapes, path, err)) == 0 &&
        (rc = bm_adapter_new(&adapter, shapes, file.matrices, file.n, err)) == 0)
        *about = file.about;
    bm_adapter_free(adapter);
    bm_adapter_file_done(&file);
    bm_model_close(shapes);
    bm_gguf_close(gguf);
    return rc;
}

static void fill_row(bm_adapter_row *row, const bm_adapter_about *about, const bm_shelf_model *base)
{
    snprintf(row->base_name, sizeof row->base_name, "%s", base->name);
    snprintf(row->base_sha256, sizeof row->base_sha256, "%s", base->sha256);
    if (row->data_sha256[0] == '\0' && strlen(about->data_sha256) == 64)
        snprintf(row->data_sha256, sizeof row->data_sha256, "%s", about->data_sha256);
    if (row->version[0] == '\0')
        snprintf(row->version, sizeof row->version, "%.31s", about->version);
    row->created_ms = bm_wall_ms();
}

/* What the file says of its training, or at least its rank. */
static char *settings_of(const bm_adapter_about *about)
{
    char text[160];

    if (about->settings[0] == '{')
        return bm_strdup(about->settings);
    snprintf(text, sizeof text, "{\"rank\":%d,\"alpha\":%g,\"rslora\":%s}", about->rank, (double)about->alpha, about->rslora ? "true" : "false");
    return bm_strdup(text);
}

/* Insert; or new content for the adapter of this name, when it is one of the same base. */
static int record(bm_store *store, bm_adapter_row *row, bm_error *err)
{
    bm_adapter_row old;
    int rc = bm_adapters_find(store, row->name, &old, err);

    if (rc < 0)
        return rc;
    bool same_base = rc == 1 && strcmp(old.base_sha256, row->base_sha256) == 0;
    if (rc == 1)
        bm_adapter_row_done(&old);
    if (rc == 0)
        return bm_adapters_insert(store, row, err);
    if (same_base)
        return bm_adapters_replace(store, row, err);
    bm_fail(err, BM_EXISTS, "an adapter named '%s' is on the shelf, of another base", row->name);
    return bm_hint(err, "baimo shelf rm %.60s, or another name: --name %.60s-2", row->name, row->name), BM_EXISTS;
}

int bm_shelf_add_adapter(bm_store *store, const char *path, const char *base_name, const char *name, bm_adapter_row *row, bm_error *err)
{
    bm_adapter_about about;
    bm_shelf_model base;
    char real[PATH_MAX], *settings = NULL;
    int rc;

    if (realpath(path, real) == NULL)
        return bm_fail(err, BM_NOTFOUND, "%s: no such file or directory", path);
    if ((name != NULL && (rc = bm_shelf_check_name(name, err)) < 0) || (rc = bm_adapter_file_look(real, &about, err)) < 0)
        return rc;
    if (rc == 0)
        return bm_fail(err, BM_FORMAT, "%s: neither a directory with adapter_config.json nor a GGUF of type adapter", path);
    if (name != NULL)
        snprintf(row->name, sizeof row->name, "%s", name);
    else
        bm_shelf_name(real, row->name);
    snprintf(row->path, sizeof row->path, "%s", real);
    if (row->source[0] == '\0') {
        struct stat st;
        snprintf(row->source, sizeof row->source, "%s", stat(real, &st) == 0 && S_ISDIR(st.st_mode) ? "peft" : "gguf");
    }
    if ((rc = find_base(store, base_name, &about, &base, err)) < 0 || (rc = check_matrices(real, &base, &about, err)) < 0 ||
        (rc = bm_shelf_hash_adapter(real, row->sha256, &row->size_bytes, err)) < 0)
        return rc;
    fill_row(row, &about, &base);
    if (row->settings == NULL && (settings = settings_of(&about)) == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory for its settings", path);
    row->settings = settings != NULL ? settings : row->settings;
    rc = record(store, row, err);
    if (settings != NULL)
        row->settings = NULL;
    bm_free(settings);
    return rc;
}
