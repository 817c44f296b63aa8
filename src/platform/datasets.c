/* datasets.c - see datasets.h. */
#include "platform/datasets.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "platform/shelf.h"
#include "train/rows.h"

static int look(bm_dataset *row, const char *path, bm_error *err)
{
    struct stat st;
    char real[PATH_MAX];

    if (realpath(path, real) == NULL || stat(real, &st) < 0)
        return bm_fail(err, errno == ENOENT ? BM_NOTFOUND : BM_IO, "%s: cannot open: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return bm_fail(err, BM_INVALID, "%s: %s; expected a file of rows", path, S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    if (strlen(real) >= sizeof row->path)
        return bm_fail(err, BM_INVALID, "%s: its path is longer than %zu bytes", path, sizeof row->path - 1);
    memcpy(row->path, real, strlen(real) + 1);
    row->size_bytes = (int64_t)st.st_size;
    row->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    row->device = (int64_t)st.st_dev;
    row->inode = (int64_t)st.st_ino;
    return 0;
}

static void look_again(bm_dataset *row)
{
    struct stat st;

    row->missing = stat(row->path, &st) < 0 || !S_ISREG(st.st_mode) || (int64_t)st.st_size != row->size_bytes;
}

/* ---- names ---- */

/* A word of a user's, which must not carry control characters into a terminal. */
static int copy_word(char *out, size_t room, const char *text, const char *what, bm_error *err)
{
    text = text == NULL ? "" : text;
    if (strlen(text) >= room)
        return bm_fail(err, BM_INVALID, "the %s has %zu bytes, at most %zu", what, strlen(text), room - 1);
    for (const char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F)
            return bm_fail(err, BM_INVALID, "the %s holds a control character", what);
    memcpy(out, text, strlen(text) + 1);
    return 0;
}

/* OWNER/SET[/CONFIG]:SPLIT; hubs have sets without an owner too. */
static int read_as(bm_dataset *row, const char *as, bm_error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const char *colon = strrchr(as, ':');
    size_t len = colon == NULL ? 0 : (size_t)(colon - as);

    if (len == 0 || len >= sizeof row->hub || colon[1] == '\0' || strlen(colon + 1) >= sizeof row->split)
        goto wrong;
    if (strspn(colon + 1, letters) != strlen(colon + 1))
        goto wrong;
    for (size_t at = 0, n; at < len; at += n + 1)
        if ((n = strspn(as + at, letters)) == 0 || (as[at + n] != '/' && at + n != len) || at + n + 1 == len)
            goto wrong;
    memcpy(row->hub, as, len);
    row->hub[len] = '\0';
    memcpy(row->split, colon + 1, strlen(colon + 1) + 1);
    return 0;
wrong:
    bm_fail(err, BM_INVALID, "--as '%.100s': expected OWNER/SET[/CONFIG]:SPLIT", as);
    bm_param(err, "--as");
    return bm_hint(err, "what the task's dataset_path and dataset_name say, such as allenai/ai2_arc/ARC-Easy:test");
}

static void stem_of(char out[128], const char *path)
{
    const char *base = strrchr(path, '/'), *s = base != NULL ? base + 1 : path, *dot = strrchr(s, '.');
    size_t len = dot != NULL && dot > s ? (size_t)(dot - s) : strlen(s);
    char stem[256];

    snprintf(stem, sizeof stem, "%.*s", len > 200 ? 200 : (int)len, s);
    bm_shelf_name(stem, out);
}

static int set_names(bm_dataset *row, const char *path, const bm_dataset_options *o, bm_error *err)
{
    int rc;

    if (o->as != NULL && (rc = read_as(row, o->as, err)) < 0)
        return rc;
    if (o->name != NULL)
        rc = copy_word(row->name, sizeof row->name, o->name, "name", err);
    else if (o->as != NULL)
        rc = copy_word(row->name, sizeof row->name, o->as, "name", err);
    else
        stem_of(row->name, path), rc = 0;
    if (rc < 0 || (rc = bm_shelf_check_name(row->name, err)) < 0)
        return rc;
    if ((rc = copy_word(row->license, sizeof row->license, o->license, "licence", err)) < 0)
        return rc;
    return copy_word(row->source, sizeof row->source, o->source, "source", err);
}

/* ---- adding ---- */

static int count(bm_dataset *row, const bm_dataset_options *o, uint64_t *n_bad, bm_error *err)
{
    const bm_data_options how = { .part = o->part, .no_header = o->no_header };
    bm_data_count c;
    int rc = bm_data_count_rows(&c, row->path, &how, err);

    if (rc < 0)
        return rc;
    bm_hex(row->sha256, c.sha256.bytes, sizeof c.sha256.bytes);
    row->n_rows = (int64_t)c.n_rows;
    row->n_tokens = o->n_tokens;
    *n_bad = c.n_bad;
    snprintf(row->shape, sizeof row->shape, "%s", o->shape != NULL ? o->shape : c.shape == BM_DATA_AUTO ? "" : bm_data_shape_name(c.shape));
    return c.n_rows > 0 ? 0 : bm_fail(err, BM_INVALID, "%s: no row in it can be read", row->path);
}

/* The row that is this one already: 1 and *out. */
static int find_same(bm_store *store, const bm_dataset *want, bm_dataset *out, bm_error *err)
{
    bm_dataset *rows;
    size_t n;
    int rc = bm_datasets_list(store, &rows, &n, err);

    for (size_t i = 0; i < n && rc == 0; i++)
        if (strcmp(rows[i].name, want->name) == 0 && strcmp(rows[i].path, want->path) == 0 &&
            strcmp(rows[i].sha256, want->sha256) == 0 && strcmp(rows[i].hub, want->hub) == 0 && strcmp(rows[i].split, want->split) == 0) {
            *out = rows[i];
            rc = 1;
        }
    bm_free(rows);
    return rc;
}

int bm_dataset_add(bm_store *store, const char *path, const bm_dataset_options *options, bm_dataset *out, uint64_t *n_bad,
                   bm_error *err)
{
    bm_dataset row = { .id = 0 };
    int rc;

    if ((rc = look(&row, path, err)) < 0 || (rc = set_names(&row, path, options, err)) < 0 ||
        (rc = count(&row, options, n_bad, err)) < 0 || (rc = find_same(store, &row, out, err)) < 0)
        return rc;
    if (rc == 1)
        return 0;
    row.created_ms = bm_wall_ms();
    if ((rc = bm_datasets_insert(store, &row, err)) == 0)
        *out = row;
    return rc;
}

/* ---- finding ---- */

int bm_dataset_list(bm_store *store, bm_dataset **out, size_t *n, bm_error *err)
{
    int rc = bm_datasets_list(store, out, n, err);

    for (size_t i = 0; rc == 0 && i < *n; i++)
        look_again(&(*out)[i]);
    return rc;
}

static int not_found(const bm_dataset *rows, size_t n, const char *name, bm_error *err)
{
    const char **names = bm_calloc(n + 1, sizeof *names);
    size_t best;

    bm_fail(err, BM_NOTFOUND, "there is no data set '%.100s'", name);
    for (size_t i = 0; names != NULL && i < n; i++)
        names[i] = rows[i].name;
    if (names != NULL && bm_nearest(name, names, n, &best, 1) == 1)
        bm_hint(err, "did you mean %s? baimo data ls lists them", names[best]);
    else
        bm_hint(err, "baimo data ls lists them; baimo data add FILE registers one");
    bm_free(names);
    return BM_NOTFOUND;
}

int bm_dataset_find(bm_store *store, const char *name, bm_dataset *out, bm_error *err)
{
    bm_dataset *rows;
    size_t n, i;
    int rc = bm_dataset_list(store, &rows, &n, err);

    if (rc < 0)
        return rc;
    for (i = 0; i < n && strcmp(rows[i].name, name) != 0; i++)
        ;
    if (i < n)
        *out = rows[i];
    else
        rc = not_found(rows, n, name, err);
    bm_free(rows);
    return rc;
}

int bm_dataset_find_split(bm_store *store, const char *set, const char *config, const char *split, bm_dataset *out, bm_error *err)
{
    char hub[512];
    bm_dataset *rows;
    size_t n;
    int rc = bm_dataset_list(store, &rows, &n, err);

    snprintf(hub, sizeof hub, "%.250s%s%.250s", set, config != NULL && config[0] != '\0' ? "/" : "", config != NULL ? config : "");
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (strcmp(rows[i].hub, hub) == 0 && strcmp(rows[i].split, split) == 0) {
            *out = rows[i];
            rc = 1;
        }
    bm_free(rows);
    return rc;
}

int bm_dataset_resolve(bm_store *store, const char *what, bm_dataset *out, bm_error *err)
{
    struct stat st;
    int rc = bm_dataset_find(store, what, out, err);

    if (rc == BM_NOTFOUND && stat(what, &st) == 0) {
        *out = (bm_dataset){ .id = 0 };
        return look(out, what, err);
    }
    if (rc == BM_NOTFOUND && strchr(what, '/') != NULL)
        bm_fail(err, BM_NOTFOUND, "%s: no such file, and no data set of that name", what);
    if (rc == 0 && out->missing) {
        rc = bm_fail(err, BM_NOTFOUND, "data set %s: its file %.300s is gone or has another size now", what, out->path);
        bm_hint(err, "bring it back, or baimo data rm %s and add it again", out->name);
    }
    return rc;
}

int bm_dataset_remove(bm_store *store, const char *name, bm_error *err)
{
    bm_dataset row;
    int rc = bm_dataset_find(store, name, &row, err);

    return rc < 0 ? rc : bm_datasets_delete(store, name, err);
}
