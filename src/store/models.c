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

int bm_models_list(bm_store *store, bm_model_row **out, size_t *n, bm_error *err)
{
    bm_query query;
    void *rows = NULL;
    int rc;

    *out = NULL, *n = 0;
    pthread_mutex_lock(&store->reader.lock);
    if ((rc = bm_query_open(&query, &store->reader, err, "SELECT " COLUMNS " FROM model ORDER BY name", "")) == 0) {
        while ((rc = bm_query_step(&query, err)) == 1 && (rc = bm_rows_grow(&rows, *n, sizeof **out, err)) == 0)
            read_row(&query, (bm_model_row *)rows + (*n)++);
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    if (rc < 0)
        bm_free(rows), rows = NULL, *n = 0;
    *out = rows;
    return rc;
}

/* Models, adapters and aliases share one space of names: each is a model that a request can name. */
int bm_name_free(bm_db *db, const char *name, bm_error *err)
{
    int64_t taken;
    int rc;

    if ((rc = bm_db_int(db, &taken, 0, err,
                        "SELECT 1 FROM model WHERE name = ? UNION ALL SELECT 2 FROM adapter WHERE name = ? UNION ALL "
                        "SELECT 3 FROM alias WHERE name = ?", "sss", name, name, name)) < 0)
        return rc;
    return taken == 0 ? 0
         : taken == 1 ? bm_fail(err, BM_EXISTS, "a model named '%s' is on the shelf already", name)
         : taken == 2 ? bm_fail(err, BM_EXISTS, "an adapter named '%s' is on the shelf already", name)
                      : bm_fail(err, BM_EXISTS, "'%s' is an alias already", name);
}

int bm_models_insert(bm_store *store, bm_model_row *row, bm_error *err)
{
    bm_db *db = &store->writer;
    int64_t parent = row->parent;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    if ((rc = bm_name_free(db, row->name, err)) == 0)
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
                            "SELECT alias.name, coalesce(model.name, adapter.name), coalesce(alias.model_id, 0), "
                            "coalesce(alias.adapter_id, 0), alias.updated_ms FROM alias LEFT JOIN model ON model.id = "
                            "alias.model_id LEFT JOIN adapter ON adapter.id = alias.adapter_id ORDER BY alias.name", "")) == 0) {
        while ((rc = bm_query_step(&query, err)) == 1 && (rc = bm_rows_grow(&rows, *n, sizeof **out, err)) == 0) {
            bm_alias_row *row = (bm_alias_row *)rows + (*n)++;
            *row = (bm_alias_row){ .model_id = bm_query_int(&query, 2), .adapter_id = bm_query_int(&query, 3),
                                   .updated_ms = bm_query_int(&query, 4) };
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

static int set_alias(bm_db *db, const char *alias, const char *target, const char *evidence, bm_error *err)
{
    int64_t model, adapter, taken, now = bm_wall_ms();
    int rc;

    if ((rc = bm_db_int(db, &taken, 0, err, "SELECT 1 FROM model WHERE name = ? UNION ALL SELECT 2 FROM adapter WHERE name = ?",
                        "ss", alias, alias)) < 0 ||
        (rc = bm_db_int(db, &model, 0, err, "SELECT id FROM model WHERE name = ?", "s", target)) < 0 ||
        (rc = bm_db_int(db, &adapter, 0, err, "SELECT id FROM adapter WHERE name = ?", "s", target)) < 0)
        return rc;
    if (taken)
        return bm_fail(err, BM_EXISTS, "%s named '%s' is on the shelf: an alias needs another name",
                       taken == 1 ? "a model" : "an adapter", alias);
    if (model == 0 && adapter == 0)
        return bm_fail(err, BM_NOTFOUND, "there is no model '%s' on the shelf", target);
    if ((rc = bm_db_run(db, err,
                        "INSERT INTO alias (name, model_id, adapter_id, updated_ms) VALUES (?, nullif(?, 0), nullif(?, 0), ?) "
                        "ON CONFLICT (name) DO UPDATE SET model_id = excluded.model_id, adapter_id = excluded.adapter_id, "
                        "updated_ms = excluded.updated_ms", "siii", alias, model, adapter, now)) < 0)
        return rc;
    return bm_db_run(db, err,
                     "INSERT INTO alias_history (alias, model_name, sha256, at_ms, evidence) SELECT ?, name, sha256, ?, ? FROM "
                     "(SELECT name, sha256 FROM model WHERE id = ? UNION ALL SELECT name, sha256 FROM adapter WHERE id = ?)",
                     "sisii", alias, now, evidence, model, adapter);
}

int bm_aliases_move(bm_store *store, const char *alias, const char *target, const char *evidence, bm_error *err)
{
    int rc = bm_db_begin(&store->writer, err);

    return rc < 0 ? rc : bm_db_end(&store->writer, set_alias(&store->writer, alias, target, evidence, err), err);
}

int bm_aliases_set(bm_store *store, const char *alias, const char *target, bm_error *err)
{
    return bm_aliases_move(store, alias, target, "", err);
}

int bm_aliases_history(bm_store *store, const char *alias, bm_alias_move **out, size_t *n, bm_error *err)
{
    bm_query query;
    void *rows = NULL;
    int rc;

    *out = NULL, *n = 0;
    pthread_mutex_lock(&store->reader.lock);
    if ((rc = bm_query_open(&query, &store->reader, err,
                            "SELECT id, alias, model_name, sha256, at_ms, evidence FROM alias_history WHERE alias = ? "
                            "ORDER BY id DESC", "s", alias)) == 0) {
        while ((rc = bm_query_step(&query, err)) == 1 && (rc = bm_rows_grow(&rows, *n, sizeof **out, err)) == 0) {
            bm_alias_move *row = (bm_alias_move *)rows + (*n)++;
            *row = (bm_alias_move){ .id = bm_query_int(&query, 0), .at_ms = bm_query_int(&query, 4) };
            bm_query_text(&query, 1, row->alias, sizeof row->alias);
            bm_query_text(&query, 2, row->target, sizeof row->target);
            bm_query_text(&query, 3, row->sha256, sizeof row->sha256);
            bm_query_text(&query, 5, row->evidence, sizeof row->evidence);
        }
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    if (rc < 0)
        bm_free(rows), rows = NULL, *n = 0;
    *out = rows;
    return rc;
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
