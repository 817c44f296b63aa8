/* adapters.c - see adapters.h. */
#include "store/adapters.h"
#include "base/clock.h"
#include "base/mem.h"
#include "store/db.h"

#include <string.h>

#define COLUMNS "id, name, path, sha256, base_name, base_sha256, size_bytes, source, run, data_sha256, version, license, " \
                "created_ms, settings, curve"

static int read_row(bm_query *q, bm_adapter_row *row, bm_error *err)
{
    int rc;

    *row = (bm_adapter_row){ .id = bm_query_int(q, 0), .size_bytes = bm_query_int(q, 6), .created_ms = bm_query_int(q, 12) };
    bm_query_text(q, 1, row->name, sizeof row->name);
    bm_query_text(q, 2, row->path, sizeof row->path);
    bm_query_text(q, 3, row->sha256, sizeof row->sha256);
    bm_query_text(q, 4, row->base_name, sizeof row->base_name);
    bm_query_text(q, 5, row->base_sha256, sizeof row->base_sha256);
    bm_query_text(q, 7, row->source, sizeof row->source);
    bm_query_text(q, 8, row->run, sizeof row->run);
    bm_query_text(q, 9, row->data_sha256, sizeof row->data_sha256);
    bm_query_text(q, 10, row->version, sizeof row->version);
    bm_query_text(q, 11, row->license, sizeof row->license);
    if ((rc = bm_query_dup(q, 13, &row->settings, err)) < 0 || (rc = bm_query_dup(q, 14, &row->curve, err)) < 0)
        bm_adapter_row_done(row);
    return rc;
}

void bm_adapter_row_done(bm_adapter_row *row)
{
    bm_free(row->settings);
    bm_free(row->curve);
    row->settings = row->curve = NULL;
}

void bm_adapters_free(bm_adapter_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bm_adapter_row_done(&rows[i]);
    bm_free(rows);
}

int bm_adapters_insert(bm_store *store, bm_adapter_row *row, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    if ((rc = bm_name_free(db, row->name, err)) == 0)
        rc = bm_db_run(db, err,
                       "INSERT INTO adapter (name, path, sha256, base_name, base_sha256, size_bytes, source, run, data_sha256, "
                       "version, license, created_ms, settings, curve) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
                       "coalesce(?, '{}'), coalesce(?, '[]'))",
                       "sssssisssssiss", row->name, row->path, row->sha256, row->base_name, row->base_sha256, row->size_bytes,
                       row->source, row->run, row->data_sha256, row->version, row->license, row->created_ms, row->settings,
                       row->curve);
    if (rc == 0)
        row->id = sqlite3_last_insert_rowid(db->handle);
    return bm_db_end(db, rc, err);
}

int bm_adapters_replace(bm_store *store, bm_adapter_row *row, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err,
                   "UPDATE adapter SET path = ?, sha256 = ?, base_name = ?, base_sha256 = ?, size_bytes = ?, source = ?, "
                   "run = ?, data_sha256 = ?, version = ?, license = ?, created_ms = ?, settings = coalesce(?, '{}'), "
                   "curve = coalesce(?, '[]') WHERE name = ?",
                   "ssssisssssisss", row->path, row->sha256, row->base_name, row->base_sha256, row->size_bytes, row->source,
                   row->run, row->data_sha256, row->version, row->license, row->created_ms, row->settings, row->curve,
                   row->name);
    if (rc == 0 && sqlite3_changes(db->handle) == 0)
        rc = bm_fail(err, BM_NOTFOUND, "there is no adapter '%s' on the shelf", row->name);
    if (rc == 0)
        rc = bm_db_int(db, &row->id, 0, err, "SELECT id FROM adapter WHERE name = ?", "s", row->name);
    return bm_db_end(db, rc, err);
}

int bm_adapters_list(bm_store *store, bm_adapter_row **out, size_t *n, bm_error *err)
{
    bm_query query;
    void *rows = NULL;
    int rc;

    *out = NULL, *n = 0;
    pthread_mutex_lock(&store->reader.lock);
    if ((rc = bm_query_open(&query, &store->reader, err, "SELECT " COLUMNS " FROM adapter ORDER BY name", "")) == 0) {
        while ((rc = bm_query_step(&query, err)) == 1 && (rc = bm_rows_grow(&rows, *n, sizeof **out, err)) == 0 &&
               (rc = read_row(&query, (bm_adapter_row *)rows + *n, err)) == 0)
            ++*n;
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    if (rc < 0)
        bm_adapters_free(rows, *n), rows = NULL, *n = 0;
    *out = rows;
    return rc;
}

int bm_adapters_find(bm_store *store, const char *name, bm_adapter_row *out, bm_error *err)
{
    bm_query query;
    int rc, read;

    *out = (bm_adapter_row){ 0 };
    pthread_mutex_lock(&store->reader.lock);
    if ((rc = bm_query_open(&query, &store->reader, err, "SELECT " COLUMNS " FROM adapter WHERE name = ?", "s", name)) == 0) {
        if ((rc = bm_query_step(&query, err)) == 1 && (read = read_row(&query, out, err)) < 0)
            rc = read;
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    return rc;
}

int bm_adapters_delete(bm_store *store, const char *name, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err,
                   "INSERT INTO alias_history (alias, model_name, sha256, at_ms) SELECT alias.name, '', '', ? FROM alias JOIN "
                   "adapter ON adapter.id = alias.adapter_id WHERE adapter.name = ?", "is", bm_wall_ms(), name);
    if (rc == 0)
        rc = bm_db_run(db, err, "DELETE FROM adapter WHERE name = ?", "s", name);
    if (rc == 0 && sqlite3_changes(db->handle) == 0)
        rc = bm_fail(err, BM_NOTFOUND, "there is no adapter '%s' on the shelf", name);
    return bm_db_end(db, rc, err);
}
