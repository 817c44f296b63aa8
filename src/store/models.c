/* models.c - see models.h. */
#include "store/models.h"
#include "base/clock.h"
#include "base/mem.h"
#include "store/db.h"

#include <string.h>

#define COLUMNS "id, name, path, sha256, size_bytes, mtime_ns, device, inode, arch, quantization, license, n_params, " \
                "n_ctx_train, source, coalesce(parent, 0), created_ms"

static void read_row(bm_query *q, bm_model_row *row)
{
    *row = (bm_model_row){ .id = bm_query_int(q, 0),
                           .size_bytes = bm_query_int(q, 4),
                           .mtime_ns = bm_query_int(q, 5),
                           .device = bm_query_int(q, 6),
                           .inode = bm_query_int(q, 7),
                           .n_params = bm_query_int(q, 11),
                           .n_ctx_train = bm_query_int(q, 12),
                           .parent = bm_query_int(q, 14),
                           .created_ms = bm_query_int(q, 15) };
    bm_query_text(q, 1, row->name, sizeof row->name);
    bm_query_text(q, 2, row->path, sizeof row->path);
    bm_query_text(q, 3, row->sha256, sizeof row->sha256);
    bm_query_text(q, 8, row->arch, sizeof row->arch);
    bm_query_text(q, 9, row->quantization, sizeof row->quantization);
    bm_query_text(q, 10, row->license, sizeof row->license);
    bm_query_text(q, 13, row->source, sizeof row->source);
}

/* Room for item n of a growing array, whose capacity is the next power of two. */
static int grow(void **items, size_t n, size_t size, bm_error *err)
{
    size_t len;

    if ((n & (n - 1)) != 0)
        return 0;
    if (!bm_mul_size(n == 0 ? 1 : n * 2, size, &len))
        return bm_fail(err, BM_NOMEM, "no memory for %zu rows", n);
    void *more = bm_realloc(*items, len);
    if (more == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for %zu rows", n);
    *items = more;
    return 0;
}

int bm_models_list(bm_store *store, bm_model_row **out, size_t *n, bm_error *err)
{
    bm_query query;
    void *rows = NULL;
    int rc;

    *out = NULL, *n = 0;
    pthread_mutex_lock(&store->reader.lock);
    if ((rc = bm_query_open(&query, &store->reader, err, "SELECT " COLUMNS " FROM model ORDER BY name", "")) == 0) {
        while ((rc = bm_query_step(&query, err)) == 1 && (rc = grow(&rows, *n, sizeof **out, err)) == 0)
            read_row(&query, (bm_model_row *)rows + (*n)++);
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    if (rc < 0)
        bm_free(rows), rows = NULL, *n = 0;
    *out = rows;
    return rc;
}

static int name_free(bm_db *db, const char *name, bm_error *err)
{
    int64_t taken;
    int rc;

    if ((rc = bm_db_int(db, &taken, 0, err, "SELECT 1 FROM model WHERE name = ?", "s", name)) < 0)
        return rc;
    if (taken)
        return bm_fail(err, BM_EXISTS, "a model named '%s' is on the shelf already", name);
    if ((rc = bm_db_int(db, &taken, 0, err, "SELECT 1 FROM alias WHERE name = ?", "s", name)) < 0)
        return rc;
    return taken ? bm_fail(err, BM_EXISTS, "'%s' is an alias already", name) : 0;
}

int bm_models_insert(bm_store *store, bm_model_row *row, bm_error *err)
{
    bm_db *db = &store->writer;
    int64_t parent = row->parent;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    if ((rc = name_free(db, row->name, err)) == 0)
        rc = bm_db_run(
            db, err,
            "INSERT INTO model (name, path, sha256, size_bytes, mtime_ns, device, inode, arch, quantization, license, "
            "n_params, n_ctx_train, source, parent, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
            "nullif(?, 0), ?)",
            "sssiiiisssiisii", row->name, row->path, row->sha256, row->size_bytes, row->mtime_ns, row->device, row->inode,
            row->arch, row->quantization, row->license, row->n_params, row->n_ctx_train, row->source, parent, row->created_ms);
    if (rc == 0)
        row->id = sqlite3_last_insert_rowid(db->handle);
    return bm_db_end(db, rc, err);
}

int bm_models_move(bm_store *store, const bm_model_row *row, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err, "UPDATE model SET path = ?, mtime_ns = ?, device = ?, inode = ? WHERE id = ?", "siiii", row->path,
                   row->mtime_ns, row->device, row->inode, row->id);
    return bm_db_end(db, rc, err);
}

int bm_models_delete(bm_store *store, const char *name, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(
        db, err,
        "INSERT INTO alias_history (alias, model_name, sha256, at_ms) SELECT alias.name, '', '', ? FROM alias JOIN model "
        "ON model.id = alias.model_id WHERE model.name = ?",
        "is", bm_wall_ms(), name);
    if (rc == 0)
        rc = bm_db_run(db, err, "DELETE FROM model WHERE name = ?", "s", name);
    if (rc == 0 && sqlite3_changes(db->handle) == 0)
        rc = bm_fail(err, BM_NOTFOUND, "there is no model '%s' on the shelf", name);
    return bm_db_end(db, rc, err);
}

int bm_aliases_list(bm_store *store, bm_alias_row **out, size_t *n, bm_error *err)
{
    bm_query query;
    void *rows = NULL;
    int rc;

    *out = NULL, *n = 0;
    pthread_mutex_lock(&store->reader.lock);
    if ((rc = bm_query_open(&query, &store->reader, err,
                            "SELECT alias.name, model.name, model.id, alias.updated_ms FROM alias JOIN model ON model.id = "
                            "alias.model_id ORDER BY alias.name", "")) == 0) {
        while ((rc = bm_query_step(&query, err)) == 1 && (rc = grow(&rows, *n, sizeof **out, err)) == 0) {
            bm_alias_row *row = (bm_alias_row *)rows + (*n)++;
            *row = (bm_alias_row){ .model_id = bm_query_int(&query, 2), .updated_ms = bm_query_int(&query, 3) };
            bm_query_text(&query, 0, row->name, sizeof row->name);
            bm_query_text(&query, 1, row->model, sizeof row->model);
        }
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    if (rc < 0)
        bm_free(rows), rows = NULL, *n = 0;
    *out = rows;
    return rc;
}

static int set_alias(bm_db *db, const char *alias, const char *model, bm_error *err)
{
    int64_t id, taken, now = bm_wall_ms();
    int rc;

    if ((rc = bm_db_int(db, &taken, 0, err, "SELECT 1 FROM model WHERE name = ?", "s", alias)) < 0 ||
        (rc = bm_db_int(db, &id, 0, err, "SELECT id FROM model WHERE name = ?", "s", model)) < 0)
        return rc;
    if (taken)
        return bm_fail(err, BM_EXISTS, "a model named '%s' is on the shelf: an alias needs another name", alias);
    if (id == 0)
        return bm_fail(err, BM_NOTFOUND, "there is no model '%s' on the shelf", model);
    if ((rc = bm_db_run(db, err,
                        "INSERT INTO alias (name, model_id, updated_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                        "model_id = excluded.model_id, updated_ms = excluded.updated_ms", "sii", alias, id, now)) < 0)
        return rc;
    return bm_db_run(db, err,
                     "INSERT INTO alias_history (alias, model_name, sha256, at_ms) SELECT ?, name, sha256, ? FROM model "
                     "WHERE id = ?",
                     "sii", alias, now, id);
}

int bm_aliases_set(bm_store *store, const char *alias, const char *model, bm_error *err)
{
    int rc = bm_db_begin(&store->writer, err);

    return rc < 0 ? rc : bm_db_end(&store->writer, set_alias(&store->writer, alias, model, err), err);
}

int bm_aliases_delete(bm_store *store, const char *alias, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err, "DELETE FROM alias WHERE name = ?", "s", alias);
    if (rc == 0 && sqlite3_changes(db->handle) == 0)
        rc = bm_fail(err, BM_NOTFOUND, "there is no alias '%s'", alias);
    if (rc == 0)
        rc = bm_db_run(db, err, "INSERT INTO alias_history (alias, model_name, sha256, at_ms) VALUES (?, '', '', ?)", "si",
                       alias, bm_wall_ms());
    return bm_db_end(db, rc, err);
}
