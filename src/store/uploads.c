/* uploads.c - see uploads.h. */
#include "store/uploads.h"
#include "base/mem.h"
#include "store/db.h"

#define COLUMNS "number, id, filename, purpose, size_bytes, sha256, key_id, created_ms"

static void read_row(bm_query *q, bm_upload_row *row)
{
    *row = (bm_upload_row){ .number = bm_query_int(q, 0), .size_bytes = bm_query_int(q, 4), .key_id = bm_query_int(q, 6),
                            .created_ms = bm_query_int(q, 7) };
    bm_query_text(q, 1, row->id, sizeof row->id);
    bm_query_text(q, 2, row->filename, sizeof row->filename);
    bm_query_text(q, 3, row->purpose, sizeof row->purpose);
    bm_query_text(q, 5, row->sha256, sizeof row->sha256);
}

static int no_such_file(const char *id, bm_error *err)
{
    bm_fail(err, BM_NOTFOUND, "there is no file '%.60s'", id);
    return bm_hint(err, "GET /v1/files lists them; POST /v1/files adds one"), BM_NOTFOUND;
}

int bm_uploads_insert(bm_store *store, bm_upload_row *row, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err,
                   "INSERT INTO upload (id, filename, purpose, size_bytes, sha256, key_id, created_ms) VALUES (?, ?, ?, ?, ?, "
                   "?, ?)", "sssisii", row->id, row->filename, row->purpose, row->size_bytes, row->sha256, row->key_id,
                   row->created_ms);
    if (rc == 0)
        row->number = sqlite3_last_insert_rowid(db->handle);
    return bm_db_end(db, rc, err);
}

static int find_locked(bm_store *store, const char *id, bm_upload_row *out, bm_error *err)
{
    bm_query query;
    int rc;

    if ((rc = bm_query_open(&query, &store->reader, err, "SELECT " COLUMNS " FROM upload WHERE id = ?", "s", id)) < 0)
        return rc;
    if ((rc = bm_query_step(&query, err)) == 1) {
        read_row(&query, out);
        rc = 0;
    } else if (rc == 0) {
        rc = no_such_file(id, err);
    }
    bm_query_close(&query);
    return rc;
}

int bm_uploads_find(bm_store *store, const char *id, bm_upload_row *out, bm_error *err)
{
    pthread_mutex_lock(&store->reader.lock);
    int rc = find_locked(store, id, out, err);
    pthread_mutex_unlock(&store->reader.lock);
    return rc;
}

int bm_uploads_list(bm_store *store, const bm_uploads_filter *filter, bm_upload_row **out, size_t *n, bm_error *err)
{
    bm_upload_row last = { .number = INT64_MAX };
    bm_query query;
    void *rows = NULL;
    int rc = 0;

    *out = NULL, *n = 0;
    pthread_mutex_lock(&store->reader.lock);
    if (filter->after != NULL && filter->after[0] != '\0')
        rc = find_locked(store, filter->after, &last, err);
    if (rc == 0 && (rc = bm_query_open(&query, &store->reader, err,
                                       "SELECT " COLUMNS " FROM upload WHERE number < ?1 AND (?2 = 0 OR key_id = ?2) AND "
                                       "(coalesce(?3, '') = '' OR purpose = ?3) ORDER BY number DESC LIMIT ?4", "iisi",
                                       last.number, filter->key_id, filter->purpose,
                                       filter->most == 0 ? (int64_t)-1 : (int64_t)filter->most)) == 0) {
        while ((rc = bm_query_step(&query, err)) == 1 && (rc = bm_rows_grow(&rows, *n, sizeof **out, err)) == 0)
            read_row(&query, (bm_upload_row *)rows + (*n)++);
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    if (rc < 0)
        bm_free(rows), rows = NULL, *n = 0;
    *out = rows;
    return rc;
}

int bm_uploads_delete(bm_store *store, const char *id, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err, "DELETE FROM upload WHERE id = ?", "s", id);
    if (rc == 0 && sqlite3_changes(db->handle) == 0)
        rc = no_such_file(id, err);
    return bm_db_end(db, rc, err);
}
