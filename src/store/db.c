/* db.c - statements with bound parameters and transactions over SQLite. */
#include "store/db.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int bm_db_fail(bm_db *db, bm_error *err, const char *doing)
{
    int code = sqlite3_errcode(db->handle);
    const char *path = sqlite3_db_filename(db->handle, "main"), *why = sqlite3_errmsg(db->handle);

    switch (code & 0xFF) {
    case SQLITE_NOMEM:
        return bm_fail(err, BM_NOMEM, "%s: %s: no memory", path, doing);
    case SQLITE_CONSTRAINT:
        return bm_fail(err, BM_EXISTS, "%s: %s: %s", path, doing, why);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        bm_fail(err, BM_IO, "%s: %s: another process held the database for 10 seconds", path, doing);
        return bm_hint(err, "see which one: fuser -v %s", path), BM_IO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        bm_fail(err, BM_IO, "%s: %s: %s", path, doing, why);
        return bm_hint(err, "baimo doctor checks the store; a copy from before the last upgrade may stand beside it"), BM_IO;
    default:
        return bm_fail(err, BM_IO, "%s: %s: %s", path, doing, why);
    }
}

static int bind_all(sqlite3_stmt *stmt, const char *types, va_list ap)
{
    int rc = SQLITE_OK;

    for (int i = 1; *types != '\0' && rc == SQLITE_OK; i++, types++) {
        if (*types == 'i') {
            rc = sqlite3_bind_int64(stmt, i, va_arg(ap, int64_t));
        } else if (*types == 's') {
            const char *s = va_arg(ap, const char *);
            rc = s == NULL ? sqlite3_bind_null(stmt, i) : sqlite3_bind_text(stmt, i, s, -1, SQLITE_TRANSIENT);
        } else {
            const void *bytes = va_arg(ap, const void *);
            rc = sqlite3_bind_blob(stmt, i, bytes, va_arg(ap, int), SQLITE_TRANSIENT);
        }
    }
    return rc;
}

static int open_query(bm_query *query, bm_db *db, bm_error *err, const char *sql, const char *types, va_list ap)
{
    *query = (bm_query){ .db = db };
    if (sqlite3_prepare_v2(db->handle, sql, -1, &query->stmt, NULL) != SQLITE_OK)
        return bm_db_fail(db, err, "cannot prepare");
    BM_CHECK(sqlite3_bind_parameter_count(query->stmt) == (int)strlen(types));
    if (bind_all(query->stmt, types, ap) != SQLITE_OK) {
        int rc = bm_db_fail(db, err, "cannot bind");
        bm_query_close(query);
        return rc;
    }
    return 0;
}

int bm_query_open(bm_query *query, bm_db *db, bm_error *err, const char *sql, const char *types, ...)
{
    va_list ap;

    va_start(ap, types);
    int rc = open_query(query, db, err, sql, types, ap);
    va_end(ap);
    return rc;
}

int bm_query_step(bm_query *query, bm_error *err)
{
    int rc = sqlite3_step(query->stmt);

    return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : bm_db_fail(query->db, err, "cannot run");
}

void bm_query_close(bm_query *query)
{
    sqlite3_finalize(query->stmt);
    query->stmt = NULL;
}

int64_t bm_query_int(bm_query *query, int column) { return sqlite3_column_int64(query->stmt, column); }

void bm_query_text(bm_query *query, int column, char *out, size_t room)
{
    const unsigned char *s = sqlite3_column_text(query->stmt, column);

    snprintf(out, room, "%s", s == NULL ? "" : (const char *)s);
}

int bm_query_dup(bm_query *query, int column, char **out, bm_error *err)
{
    const unsigned char *s = sqlite3_column_text(query->stmt, column);

    *out = bm_strdup(s == NULL ? "" : (const char *)s);
    return *out == NULL ? bm_fail(err, BM_NOMEM, "no memory for a row") : 0;
}

int bm_rows_grow(void **rows, size_t n, size_t size, bm_error *err)
{
    size_t len;

    if ((n & (n - 1)) != 0)
        return 0;
    if (!bm_mul_size(n == 0 ? 1 : n * 2, size, &len))
        return bm_fail(err, BM_NOMEM, "no memory for %zu rows", n);
    void *more = bm_realloc(*rows, len);
    if (more == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for %zu rows", n);
    *rows = more;
    return 0;
}

int bm_db_run(bm_db *db, bm_error *err, const char *sql, const char *types, ...)
{
    bm_query query;
    va_list ap;

    va_start(ap, types);
    int rc = open_query(&query, db, err, sql, types, ap);
    va_end(ap);
    if (rc == 0)
        while ((rc = bm_query_step(&query, err)) == 1)
            ;
    bm_query_close(&query);
    return rc;
}

int bm_db_int(bm_db *db, int64_t *out, int64_t fallback, bm_error *err, const char *sql, const char *types, ...)
{
    bm_query query;
    va_list ap;

    *out = fallback;
    va_start(ap, types);
    int rc = open_query(&query, db, err, sql, types, ap);
    va_end(ap);
    if (rc == 0 && (rc = bm_query_step(&query, err)) == 1) {
        *out = bm_query_int(&query, 0);
        rc = 0;
    }
    bm_query_close(&query);
    return rc;
}

int bm_db_begin(bm_db *db, bm_error *err)
{
    pthread_mutex_lock(&db->lock);
    int rc = bm_db_run(db, err, "BEGIN IMMEDIATE", "");
    if (rc < 0)
        pthread_mutex_unlock(&db->lock);
    return rc;
}

int bm_db_end(bm_db *db, int rc, bm_error *err)
{
    if (rc == 0)
        rc = bm_db_run(db, err, "COMMIT", "");
    if (rc < 0 && !sqlite3_get_autocommit(db->handle))
        bm_db_run(db, NULL, "ROLLBACK", "");
    pthread_mutex_unlock(&db->lock);
    return rc;
}
