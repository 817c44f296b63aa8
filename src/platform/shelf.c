/* shelf.c - names: what a model is called, and which model someone means. */
#include "platform/shelf.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/utf8.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { NAME_ROOM = sizeof ((bm_shelf_model *)0)->name };

/* ---- what a name may be ---- */

static bool ascii_alnum(uint32_t c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/* Beyond ASCII: any letter, but nothing that is invisible or turns the direction of the line. */
static bool name_letter(uint32_t c)
{
    if (c < 0x80)
        return ascii_alnum(c) || strchr("._:@/-", (int)c) != NULL;
    return c > 0xA0 && !(c >= 0x2000 && c <= 0x200F) && !(c >= 0x2028 && c <= 0x202F) && !(c >= 0x2060 && c <= 0x206F) &&
           c != 0x3000 && c != 0xFEFF && c != 0xAD && c < 0xE0000 && !(c >= 0xE000 && c <= 0xF8FF);
}

int bm_shelf_check_name(const char *name, bm_error *err)
{
    size_t len = strlen(name);

    if (len == 0 || len >= NAME_ROOM)
        return bm_fail(err, BM_INVALID, "a model's name has 1 to %d bytes, found %zu", NAME_ROOM - 1, len);
    for (size_t i = 0; i < len;) {
        uint32_t c;
        int n = bm_utf8_decode(name + i, len - i, &c);
        if (n < 0 || c == 0 || !name_letter(c)) {
            bm_fail(err, BM_INVALID, "the name '%s': byte %zu (0x%02x) cannot be in a model's name", name, i + 1,
                    (unsigned char)name[i]);
            return bm_hint(err, "letters, digits and ._:@/- can; '+' joins a model and its adapter"), BM_INVALID;
        }
        i += (size_t)n;
    }
    if (strchr("._:@/-", name[0]) != NULL || name[len - 1] == '/' || strstr(name, "..") != NULL || strstr(name, "//") != NULL)
        return bm_fail(err, BM_INVALID, "the name '%s': it begins with a letter or digit, and has no '..', '//' or closing '/'",
                       name);
    return 0;
}

void bm_shelf_name(const char *path, char out[128])
{
    const char *base = strrchr(path, '/'), *s = base != NULL ? base + 1 : path;
    size_t len = strlen(s), n = 0;

    if (len > 5 && strcasecmp(s + len - 5, ".gguf") == 0)
        len -= 5;
    for (size_t i = 0; i < len;) {
        uint32_t c;
        int k = bm_utf8_decode(s + i, len - i, &c);
        bool good = k > 0 && c != 0 && c != '/' && name_letter(c) && !(n == 0 && strchr("._:@-", s[i]) != NULL) &&
                    !(c == '.' && n > 0 && out[n - 1] == '.');
        k = abs(k);
        if (n + (size_t)k >= NAME_ROOM)
            break;
        if (good)
            memcpy(out + n, s + i, (size_t)k), n += (size_t)k;
        else if (n > 0 && out[n - 1] != '-')
            out[n++] = '-';
        i += (size_t)k;
    }
    while (n > 0 && out[n - 1] == '-')
        n--;
    out[n] = '\0';
    if (n == 0)
        strcpy(out, "model");
}

/* ---- finding ---- */

static void look_at_file(bm_shelf_model *row)
{
    struct stat st;

    row->missing = stat(row->path, &st) < 0 || !S_ISREG(st.st_mode) || (int64_t)st.st_size != row->size_bytes;
}

int bm_shelf_list(bm_store *store, bm_shelf_model **out, size_t *n, bm_error *err)
{
    int rc = bm_models_list(store, out, n, err);

    for (size_t i = 0; i < *n; i++)
        look_at_file(&(*out)[i]);
    return rc;
}

typedef struct catalog {
    bm_shelf_model *models;
    bm_alias_row *aliases;
    bm_adapter_row *adapters;
    size_t n_models, n_aliases, n_adapters;
} catalog;

static int read_catalog(catalog *c, bm_store *store, bm_error *err)
{
    *c = (catalog){ 0 };
    int rc = bm_models_list(store, &c->models, &c->n_models, err);
    if (rc == 0 && (rc = bm_aliases_list(store, &c->aliases, &c->n_aliases, err)) == 0)
        rc = bm_adapters_list(store, &c->adapters, &c->n_adapters, err);
    return rc;
}

static void catalog_done(catalog *c)
{
    bm_free(c->models);
    bm_free(c->aliases);
    bm_adapters_free(c->adapters, c->n_adapters);
}

static const bm_shelf_model *model_by_id(const catalog *c, int64_t id)
{
    for (size_t i = 0; i < c->n_models; i++)
        if (c->models[i].id == id)
            return &c->models[i];
    return NULL;
}

static const bm_shelf_model *model_by_alias(const catalog *c, const char *name)
{
    for (size_t i = 0; i < c->n_aliases; i++)
        if (strcmp(c->aliases[i].name, name) == 0)
            return model_by_id(c, c->aliases[i].model_id);
    return NULL;
}

static const bm_shelf_model *model_by_name(const catalog *c, const char *name)
{
    const bm_shelf_model *loose = NULL;
    int n_loose = 0;

    for (size_t i = 0; i < c->n_models; i++) {
        if (strcmp(c->models[i].name, name) == 0)
            return &c->models[i];
        if (strcasecmp(c->models[i].name, name) == 0)
            loose = &c->models[i], n_loose++;
    }
    return n_loose == 1 ? loose : model_by_alias(c, name);
}

static int not_found(const catalog *c, const char *name, bm_error *err)
{
    const char *names[512];
    size_t n = 0, best[3], found, at = 0;
    char text[200];

    for (size_t i = 0; i < c->n_models && n < 512; i++)
        names[n++] = c->models[i].name;
    for (size_t i = 0; i < c->n_aliases && n < 512; i++)
        names[n++] = c->aliases[i].name;
    for (size_t i = 0; i < c->n_adapters && n < 512; i++)
        names[n++] = c->adapters[i].name;
    bm_fail(err, BM_NOTFOUND, "there is no model '%.128s' on the shelf", name);
    if (n == 0)
        return bm_hint(err, "the shelf is empty: baimo shelf add FILE.gguf, or baimo shelf scan"), BM_NOTFOUND;
    if ((found = bm_nearest(name, names, n, best, 3)) == 0)
        return bm_hint(err, "baimo shelf ls names all %zu; baimo shelf add FILE.gguf adds one", c->n_models), BM_NOTFOUND;
    for (size_t i = 0; i < found && at < sizeof text; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i > 0 ? ", " : "", names[best[i]]);
    return bm_hint(err, "did you mean %s?", text), BM_NOTFOUND;
}

static const bm_adapter_row *adapter_by_name(const catalog *c, const char *name)
{
    for (size_t i = 0; i < c->n_adapters; i++)
        if (strcmp(c->adapters[i].name, name) == 0)
            return &c->adapters[i];
    for (size_t i = 0; i < c->n_aliases; i++)
        if (strcmp(c->aliases[i].name, name) == 0)
            for (size_t k = 0; k < c->n_adapters; k++)
                if (c->adapters[k].id == c->aliases[i].adapter_id)
                    return &c->adapters[k];
    return NULL;
}

static int find_in(const catalog *c, const char *name, bm_shelf_model *out, bm_error *err)
{
    const bm_shelf_model *row = model_by_name(c, name);
    char latest[NAME_ROOM + 8];

    if (row == NULL && strchr(name, ':') == NULL && strlen(name) < NAME_ROOM) {
        snprintf(latest, sizeof latest, "%s:latest", name);      /* as Ollama does */
        row = model_by_name(c, latest);
    }
    if (row == NULL && adapter_by_name(c, name) != NULL)
        return bm_fail(err, BM_NOTFOUND, "'%.128s' is an adapter of %.128s; a model is expected here", name,
                       adapter_by_name(c, name)->base_name);
    if (row == NULL)
        return not_found(c, name, err);
    *out = *row;
    look_at_file(out);
    return 0;
}

/* The alias `default`, else the only model. */
static int default_in(const catalog *c, bm_shelf_model *out, bm_error *err)
{
    const bm_shelf_model *row = model_by_alias(c, "default");

    if (row == NULL && c->n_models == 1)
        row = &c->models[0];
    if (row != NULL) {
        *out = *row;
        look_at_file(out);
        return 0;
    }
    if (c->n_models == 0) {
        bm_fail(err, BM_NOTFOUND, "no model was named, and the shelf is empty");
        return bm_hint(err, "baimo shelf add FILE.gguf, or baimo shelf scan"), BM_NOTFOUND;
    }
    bm_fail(err, BM_NOTFOUND, "no model was named, and the shelf holds %zu", c->n_models);
    return bm_hint(err, "name one (baimo shelf ls), or choose: baimo shelf alias default %s", c->models[0].name), BM_NOTFOUND;
}

/* The adapter and its base: the model of that hash, the one with the recorded name when several have it. */
static int take_adapter(const catalog *c, const bm_adapter_row *adapter, bm_shelf_target *out, bm_error *err)
{
    const bm_shelf_model *base = NULL;

    for (size_t i = 0; i < c->n_models; i++)
        if (strcmp(c->models[i].sha256, adapter->base_sha256) == 0 &&
            (base == NULL || strcmp(c->models[i].name, adapter->base_name) == 0))
            base = &c->models[i];
    if (base == NULL) {
        bm_fail(err, BM_NOTFOUND, "adapter '%s' belongs to %s (sha256 %.12s...), which is not on the shelf", adapter->name,
                adapter->base_name, adapter->base_sha256);
        return bm_hint(err, "baimo shelf add FILE.gguf, the very file that it was made for"), BM_NOTFOUND;
    }
    out->model = *base;
    look_at_file(&out->model);
    out->adapter = *adapter;
    out->adapter.settings = out->adapter.curve = NULL;
    return 0;
}

/* BASE+NAME: 1 when name is of this form and *out is filled, 0 when it is not. */
static int find_joined(const catalog *c, const char *name, bm_shelf_target *out, bm_error *err)
{
    const char *plus = strchr(name, '+');
    const bm_adapter_row *adapter;
    bm_shelf_model base;
    char left[NAME_ROOM];
    int rc;

    if (plus == NULL || (size_t)(plus - name) >= sizeof left)
        return 0;
    snprintf(left, sizeof left, "%.*s", (int)(plus - name), name);
    if ((rc = find_in(c, left, &base, err)) < 0)
        return rc;
    if ((adapter = adapter_by_name(c, plus + 1)) == NULL)
        return not_found(c, plus + 1, err);
    if ((rc = take_adapter(c, adapter, out, err)) < 0)
        return rc;
    if (strcmp(out->model.sha256, base.sha256) != 0)
        return bm_fail(err, BM_INVALID, "adapter '%s' belongs to %s (sha256 %.12s...), not to %s (%.12s...)", adapter->name,
                       adapter->base_name, adapter->base_sha256, base.name, base.sha256);
    out->model = base;
    return 1;
}

static int find_target(const catalog *c, const char *name, bm_shelf_target *out, bm_error *err)
{
    const bm_adapter_row *adapter;
    int rc = find_joined(c, name, out, err);

    if (rc != 0)
        return rc < 0 ? rc : 0;
    if ((adapter = adapter_by_name(c, name)) != NULL)
        return take_adapter(c, adapter, out, err);
    return find_in(c, name, &out->model, err);
}

int bm_shelf_find_target(bm_store *store, const char *name, bm_shelf_target *out, bm_error *err)
{
    catalog c;
    int rc = read_catalog(&c, store, err);

    memset(out, 0, sizeof *out);
    if (rc == 0) {
        if (name == NULL && adapter_by_name(&c, "default") == NULL)
            rc = default_in(&c, &out->model, err);
        else
            rc = find_target(&c, name == NULL ? "default" : name, out, err);
    }
    catalog_done(&c);
    return rc;
}

int bm_shelf_find(bm_store *store, const char *name, bm_shelf_model *out, bm_error *err)
{
    catalog c;
    int rc = read_catalog(&c, store, err);

    if (rc == 0)
        rc = find_in(&c, name, out, err);
    catalog_done(&c);
    return rc;
}

int bm_shelf_find_path(bm_store *store, const char *path, bm_shelf_model *out, bm_error *err)
{
    bm_shelf_model *rows;
    size_t n;
    int rc = bm_models_list(store, &rows, &n, err);

    for (size_t i = 0; i < n && rc == 0; i++)
        if (strcmp(rows[i].path, path) == 0) {
            *out = rows[i];
            look_at_file(out);
            rc = 1;
        }
    bm_free(rows);
    return rc;
}

/* Not through an alias: that would surprise. */
int bm_shelf_remove(bm_store *store, const char *name, bm_error *err)
{
    bm_adapter_row adapter;
    bm_shelf_model row;
    int rc = bm_adapters_find(store, name, &adapter, err);

    if (rc == 1) {
        bm_adapter_row_done(&adapter);
        return bm_adapters_delete(store, name, err);
    }
    if (rc < 0 || (rc = bm_shelf_find(store, name, &row, err)) < 0)
        return rc;
    size_t len = strlen(name);
    if (strncasecmp(row.name, name, len) != 0 || (row.name[len] != '\0' && strcmp(row.name + len, ":latest") != 0)) {
        bm_fail(err, BM_INVALID, "'%s' is an alias of '%s'", name, row.name);
        return bm_hint(err, "baimo shelf rm %s, or baimo shelf alias --remove %s", row.name, name), BM_INVALID;
    }
    return bm_models_delete(store, row.name, err);
}

int bm_shelf_alias(bm_store *store, const char *alias, const char *name, bm_error *err)
{
    bm_shelf_target target;
    int rc;

    if ((rc = bm_shelf_check_name(alias, err)) < 0 || (rc = bm_shelf_find_target(store, name, &target, err)) < 0)
        return rc;
    return bm_aliases_set(store, alias, target.adapter.id != 0 ? target.adapter.name : target.model.name, err);
}

int bm_shelf_unalias(bm_store *store, const char *alias, bm_error *err) { return bm_aliases_delete(store, alias, err); }

/* ---- MODEL of the command line ---- */

static int resolve_default(bm_store *store, bm_shelf_model *out, bm_error *err)
{
    catalog c;
    int rc = read_catalog(&c, store, err);

    if (rc == 0)
        rc = default_in(&c, out, err);
    catalog_done(&c);
    return rc;
}

static bool looks_like_path(const char *s)
{
    size_t n = strlen(s);

    return strchr(s, '/') != NULL || (n > 5 && strcasecmp(s + n - 5, ".gguf") == 0);
}

/* 1 and *out, 0 when there is no such file. */
static int resolve_path(bm_store *store, const char *path, bm_shelf_model *out, bm_error *err)
{
    struct stat st;
    char real[PATH_MAX];
    int rc = 0;

    if (stat(path, &st) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : bm_fail(err, BM_IO, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        if (!looks_like_path(path))
            return 0;
        return bm_fail(err, BM_INVALID, "%s: a directory; expected a GGUF file or a name on the shelf", path);
    }
    if (realpath(path, real) == NULL)
        return bm_fail(err, BM_IO, "%s: %s", path, strerror(errno));
    if (store != NULL && (rc = bm_shelf_find_path(store, real, out, err)) != 0)
        return rc;
    *out = (bm_shelf_model){ .size_bytes = (int64_t)st.st_size, .source = "file" };
    snprintf(out->path, sizeof out->path, "%s", real);
    bm_shelf_name(path, out->name);
    return 1;
}

int bm_shelf_check_present(const bm_shelf_model *row, bm_error *err)
{
    if (!row->missing)
        return 0;
    bm_fail(err, BM_NOTFOUND, "model '%s': its file %s is gone or has another size than the %lld bytes that were recorded",
            row->name, row->path, (long long)row->size_bytes);
    return bm_hint(err, "baimo shelf rm %s, then baimo shelf add FILE", row->name), BM_NOTFOUND;
}

int bm_shelf_resolve(bm_store *store, const char *model, bm_shelf_model *out, bm_error *err)
{
    bm_error unused;
    char hint[sizeof unused.hint];
    int rc;

    if (model == NULL || model[0] == '\0') {
        if (store == NULL)
            return bm_fail(err, BM_INVALID, "no model was named");
        rc = resolve_default(store, out, err);
        return rc < 0 ? rc : bm_shelf_check_present(out, err);
    }
    if (looks_like_path(model) && (rc = resolve_path(store, model, out, err)) != 0)
        return rc < 0 ? rc : 0;
    if (store != NULL) {
        if ((rc = bm_shelf_find(store, model, out, err)) == 0)
            return bm_shelf_check_present(out, err);
        if (rc != BM_NOTFOUND)
            return rc;
    }
    if (!looks_like_path(model) && resolve_path(store, model, out, &unused) == 1)
        return 0;
    if (store == NULL)
        return bm_fail(err, BM_NOTFOUND, "%s: no such file", model);
    if (!looks_like_path(model))
        return BM_NOTFOUND;                                      /* err names the nearest already */
    memcpy(hint, err == NULL ? "" : err->hint, err == NULL ? 1 : sizeof hint);
    bm_fail(err, BM_NOTFOUND, "%s: no such file, and no such name on the shelf", model);
    return bm_hint(err, "%s", hint), BM_NOTFOUND;
}

bool bm_shelf_known(const bm_shelf_model *row, bm_known_file *out)
{
    out->id = (bm_file_id){ (uint64_t)row->device, (uint64_t)row->inode, (uint64_t)row->size_bytes, row->mtime_ns };
    return row->id != 0 && bm_sha256_parse(&out->sha256, row->sha256);
}
