/* datasets.c - see datasets.h. */
#include "store/datasets.h"
#include "base/mem.h"
#include "store/db.h"

#define COLUMNS "id, name, path, sha256, size_bytes, mtime_ns, device, inode, shape, n_rows, n_tokens, license, source, hub, " \
                "split, created_ms"

static void read_row(bm_query *q, bm_dataset_row *row)
{
    *row = (bm_dataset_row){ .id = bm_query_int(q, 0),
                             .size_bytes = bm_query_int(q, 4),
                             .mtime_ns = bm_query_int(q, 5),
                             .device = bm_query_int(q, 6),
                             .inode = bm_query_int(q, 7),
                             .n_rows = bm_query_int(q, 9),
                             .n_tokens = bm_query_int(q, 10),
                             .created_ms = bm_query_int(q, 15) };
    bm_query_text(q, 1, row->name, sizeof row->name);
    bm_query_text(q, 2, row->path, sizeof row->path);
    bm_query_text(q, 3, row->sha256, sizeof row->sha256);
    bm_query_text(q, 8, row->shape, sizeof row->shape);
    bm_query_text(q, 11, row->license, sizeof row->license);
    bm_query_text(q, 12, row->source, sizeof row->source);
    bm_query_text(q, 13, row->hub, sizeof row->hub);
    bm_query_text(q, 14, row->split, sizeof row->split);
}

int bm_datasets_list(bm_store *store, bm_dataset_row **out, size_t *n, bm_error *err)
{
    bm_query query;
    void *rows = NULL;
    int rc;

    *out = NULL, *n = 0;
    pthread_mutex_lock(&store->reader.lock);
    if ((rc = bm_query_open(&query, &store->reader, err, "SELECT " COLUMNS " FROM dataset ORDER BY name", "")) == 0) {
        while ((rc = bm_query_step(&query, err)) == 1 && (rc = bm_rows_grow(&rows, *n, sizeof **out, err)) == 0)
            read_row(&query, (bm_dataset_row *)rows + (*n)++);
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    if (rc < 0)
        bm_free(rows), rows = NULL, *n = 0;
    *out = rows;
    return rc;
}

static int free_to_take(bm_db *db, const bm_dataset_row *row, bm_error *err)
{
    int64_t taken;
    int rc;

    if ((rc = bm_db_int(db, &taken, 0, err, "SELECT 1 FROM dataset WHERE name = ?", "s", row->name)) < 0)
        return rc;
    if (taken) {
        bm_fail(err, BM_EXISTS, "a data set named '%s' is registered already", row->name);
        return bm_hint(err, "baimo data rm %s, or another --name", row->name);
    }
    if ((rc = bm_db_int(db, &taken, 0, err, "SELECT 1 FROM dataset WHERE hub <> '' AND hub = ? AND split = ?", "ss", row->hub,
                        row->split)) < 0)
        return rc;
    return taken ? bm_fail(err, BM_EXISTS, "%s:%s is registered already, with another file", row->hub, row->split) : 0;
}

int bm_datasets_insert(bm_store *store, bm_dataset_row *row, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    if ((rc = free_to_take(db, row, err)) == 0)
        rc = bm_db_run(db, err,
                       "INSERT INTO dataset (name, path, sha256, size_bytes, mtime_ns, device, inode, shape, n_rows, n_tokens, "
                       "license, source, hub, split, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       "sssiiiisiissssi", row->name, row->path, row->sha256, row->size_bytes, row->mtime_ns, row->device,
                       row->inode, row->shape, row->n_rows, row->n_tokens, row->license, row->source, row->hub, row->split,
                       row->created_ms);
    if (rc == 0)
        row->id = sqlite3_last_insert_rowid(db->handle);
    return bm_db_end(db, rc, err);
}

int bm_datasets_delete(bm_store *store, const char *name, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err, "DELETE FROM dataset WHERE name = ?", "s", name);
    if (rc == 0 && sqlite3_changes(db->handle) == 0)
        rc = bm_fail(err, BM_NOTFOUND, "there is no data set '%s'", name);
    return bm_db_end(db, rc, err);
}
