/* shelf_add.c - putting a file on the shelf: everything is checked and hashed before one row is written. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "format/gguf.h"
#include "model/model.h"
#include "platform/shelf.h"
#include "text/tokenizer.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What is in a file stays data: a licence text must not carry control characters into a terminal or a log. */
static void copy_clean(char *out, size_t room, const char *text)
{
    size_t n = 0;

    for (; *text != '\0' && n + 1 < room; text++)
        out[n++] = (unsigned char)*text < 0x20 || *text == 0x7F ? ' ' : *text;
    out[n] = '\0';
    while (n > 0 && ((unsigned char)out[n - 1] & 0xC0) == 0x80)              /* a cut letter goes whole */
        out[--n] = '\0';
    if (n > 0 && (unsigned char)out[n - 1] >= 0xC0)
        out[n - 1] = '\0';
}

/* Whether the engine could serve it: the architecture's tensors and shapes, and the tokenizer. */
static int check_model(bm_shelf_model *row, char general_name[128], const char *path, bm_error *err)
{
    bm_model_options options = { .kv_type = BM_KV_INT16 };
    bm_tokenizer *tok = NULL;
    bm_gguf *gguf = NULL;
    bm_model_info info;
    int rc;

    if ((rc = bm_gguf_open(&gguf, path, err)) < 0)
        return rc;
    if ((rc = bm_model_plan(&info, gguf, &options, err)) == 0 && (rc = bm_tokenizer_from_gguf(&tok, gguf, err)) == 0) {
        copy_clean(row->arch, sizeof row->arch, info.arch);
        copy_clean(row->license, sizeof row->license, info.license);
        copy_clean(row->quantization, sizeof row->quantization, info.quantization);
        copy_clean(general_name, 128, info.name);
        row->n_params = (int64_t)info.n_params;
        row->n_ctx_train = info.n_ctx_train;
    }
    if (rc < 0 && err != NULL && strstr(err->msg, path) == NULL)
        bm_wrap(err, "%s", path);
    bm_tokenizer_free(tok);
    bm_gguf_close(gguf);
    return rc;
}

static int look(bm_shelf_model *row, const char *path, bm_error *err)
{
    struct stat st;
    char real[PATH_MAX];

    if (realpath(path, real) == NULL || stat(real, &st) < 0)
        return bm_fail(err, errno == ENOENT ? BM_NOTFOUND : BM_IO, "%s: cannot open: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return bm_fail(err, BM_INVALID, "%s: %s; expected a GGUF file", path,
                       S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    if (strlen(real) >= sizeof row->path)
        return bm_fail(err, BM_INVALID, "%s: its path is longer than %zu bytes", path, sizeof row->path - 1);
    memcpy(row->path, real, strlen(real) + 1);
    row->size_bytes = (int64_t)st.st_size;
    row->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    row->device = (int64_t)st.st_dev;
    row->inode = (int64_t)st.st_ino;
    return 0;
}

static bool same_file(const bm_shelf_model *a, const bm_shelf_model *b)
{
    return strcmp(a->path, b->path) == 0 && a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns &&
           a->device == b->device && a->inode == b->inode;
}

/* A row that this file is already: unchanged since it was hashed (want->sha256 ""), or of the same bytes. 1 and *out, or 0. */
static int find_same(bm_store *store, const bm_shelf_model *want, const char *name, bm_shelf_model *out, bm_error *err)
{
    bm_shelf_model *rows;
    size_t n;
    int rc = bm_models_list(store, &rows, &n, err);

    for (size_t i = 0; i < n && rc == 0; i++) {
        if (name != NULL && strcmp(rows[i].name, name) != 0)
            continue;
        if (want->sha256[0] == '\0' ? same_file(&rows[i], want) : strcmp(rows[i].sha256, want->sha256) == 0) {
            *out = rows[i];
            rc = 1;
        }
    }
    bm_free(rows);
    return rc;
}

/* The same bytes at a place of the user's choice: the row follows when its own file is gone or was touched. */
static int follow(bm_store *store, bm_shelf_model *row, const bm_shelf_model *now, bm_error *err)
{
    bm_shelf_model old = *row, there = { 0 };
    bool gone = look(&there, row->path, NULL) < 0 || there.size_bytes != row->size_bytes;

    if (!gone && strcmp(row->path, now->path) != 0)
        return 0;
    memcpy(row->path, now->path, sizeof row->path);
    row->mtime_ns = now->mtime_ns, row->device = now->device, row->inode = now->inode;
    return same_file(&old, row) ? 0 : bm_models_move(store, row, err);
}

/* "model", "ggml-model-q4_0" and bare hashes say nothing: general.name is better then. */
static bool stem_says_nothing(const char *stem)
{
    return strncmp(stem, "ggml-model", 10) == 0 || strcmp(stem, "model") == 0 || strncmp(stem, "sha256-", 7) == 0 ||
           strspn(stem, "0123456789abcdef") >= 32;
}

static int insert_named(bm_store *store, bm_shelf_model *row, const char *name, const char *general_name, bm_error *err)
{
    char base[128];
    int rc;

    if (name != NULL) {
        memcpy(row->name, name, strlen(name) + 1);
        rc = bm_models_insert(store, row, err);
        if (rc == BM_EXISTS)
            bm_hint(err, "baimo shelf rm %.60s, or another name: --name %.60s-2", name, name);
        return rc;
    }
    bm_shelf_name(row->path, base);
    if (stem_says_nothing(base) && general_name[0] != '\0')
        bm_shelf_name(general_name, base);
    snprintf(row->name, sizeof row->name, "%s", base);
    for (int i = 2; (rc = bm_models_insert(store, row, err)) == BM_EXISTS && i < 100; i++)
        snprintf(row->name, sizeof row->name, "%.120s-%d", base, i);
    return rc;
}

int bm_shelf_add(bm_store *store, const char *path, const char *name, const char *source,
                 int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, bm_shelf_model *out, bm_error *err)
{
    bm_shelf_model row = { .created_ms = bm_wall_ms() }, after = { 0 };
    char general_name[128] = "";
    bm_sha256 hash;
    int rc;

    if ((name != NULL && (rc = bm_shelf_check_name(name, err)) < 0) || (rc = look(&row, path, err)) < 0)
        return rc;
    if ((rc = find_same(store, &row, name, out, err)) != 0)
        return rc < 0 ? rc : 0;
    if ((rc = check_model(&row, general_name, row.path, err)) < 0 ||
        (rc = bm_sha256_file(&hash, row.path, progress, arg, err)) < 0 || (rc = look(&after, row.path, err)) < 0)
        return rc;
    if (!same_file(&row, &after))
        return bm_fail(err, BM_IO, "%s: changed while it was read: %lld bytes before, %lld after", path,
                       (long long)row.size_bytes, (long long)after.size_bytes);
    bm_hex(row.sha256, hash.bytes, sizeof hash.bytes);
    snprintf(row.source, sizeof row.source, "%s", source == NULL ? "file" : source);
    if ((rc = find_same(store, &row, name, out, err)) != 0)
        return rc < 0 ? rc : follow(store, out, &row, err);
    if ((rc = insert_named(store, &row, name, general_name, err)) == 0)
        *out = row;
    return rc;
}
