/* store.c - opening, migrating and closing the database.
 * Files in home: baimo.db (mode 600) with its -wal and -shm, baimo.db.lock while a migration runs, and baimo.db.vN.backup,
 * the copy from before an upgrade from schema N. */
#include "store/db.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { BUSY_MS = 10000, APPLICATION_ID = 0x62616D6F };           /* "bamo" in the file's header */

static int configure(bm_db *db, bm_error *err)
{
    sqlite3_busy_timeout(db->handle, BUSY_MS);
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    /* recursive_triggers: without it an INSERT OR REPLACE would delete a ledger row past its trigger. */
    if (sqlite3_exec(db->handle, "PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON; PRAGMA synchronous = FULL;", NULL,
                     NULL, NULL) != SQLITE_OK)
        return bm_db_fail(db, err, "cannot open");
    return 0;
}

static int open_db(bm_db *db, const char *path, bm_error *err)
{
    if (sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL) !=
        SQLITE_OK) {
        if (db->handle == NULL)
            return bm_fail(err, BM_NOMEM, "%s: no memory to open it", path);
        return bm_db_fail(db, err, "cannot open");
    }
    return configure(db, err);
}

/* The WAL switch needs a moment without readers, and SQLite does not wait for it by itself. */
static int use_wal(bm_db *db, bm_error *err)
{
    for (int i = 0;; i++) {
        int rc = sqlite3_exec(db->handle, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if (rc == SQLITE_OK)
            return 0;
        if ((rc & 0xFF) != SQLITE_BUSY || i == 500)
            return bm_db_fail(db, err, "cannot switch to WAL");
        sqlite3_sleep(20);
    }
}

/* 0 for an empty file; refuses a database that something else made. */
static int read_version(bm_db *db, int *version, bm_error *err)
{
    int64_t has_table, n_tables, v = 0, id;
    int rc;

    /* The count first: another program that makes the schema between the two reads must not look like a foreign one. */
    if ((rc = bm_db_int(db, &n_tables, 0, err, "SELECT count(*) FROM sqlite_master", "")) < 0 ||
        (rc = bm_db_int(db, &has_table, 0, err, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?", "s",
                        "schema_migration")) < 0 ||
        (rc = bm_db_int(db, &id, 0, err, "PRAGMA application_id", "")) < 0)
        return rc;
    if ((has_table == 0 && n_tables > 0) || (id != 0 && id != APPLICATION_ID))
        return bm_fail(err, BM_FORMAT, "%s: an SQLite database, but not one of baimo's",
                       sqlite3_db_filename(db->handle, "main"));
    if (has_table != 0 && (rc = bm_db_int(db, &v, 0, err, "SELECT max(version) FROM schema_migration", "")) < 0)
        return rc;
    *version = (int)v;
    return 0;
}

static int refuse_newer(const bm_store *store, int found, int ours, bm_error *err)
{
    bm_fail(err, BM_UNSUPPORTED, "%s: schema %d, made by a newer baimo; this one (" BM_VERSION ") knows up to %d", store->path,
            found, ours);
    return bm_hint(err, "use the newer program, or set BAIMO_HOME to another directory"), BM_UNSUPPORTED;
}

/* A whole, compact copy beside the database, complete before it gets its name. */
static int back_up(bm_store *store, int version, bm_error *err)
{
    bm_buf name = { 0 }, part = { 0 };
    int rc;

    bm_buf_printf(&name, "%s.v%d.backup", store->path, version);
    bm_buf_printf(&part, "%s.v%d.backup.part", store->path, version);
    if (name.failed || part.failed) {
        rc = bm_fail(err, BM_NOMEM, "%s: no memory for the backup's name", store->path);
        goto out;
    }
    unlink(part.data);
    int fd = open(part.data, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        rc = bm_fail(err, BM_IO, "%s: cannot create: %s", part.data, strerror(errno));
        goto out;
    }
    rc = bm_db_run(&store->writer, err, "VACUUM INTO ?", "s", part.data);
    if (rc == 0 && (fsync(fd) < 0 || rename(part.data, name.data) < 0))
        rc = bm_fail(err, BM_IO, "%s: cannot write the copy: %s", name.data, strerror(errno));
    close(fd);
    if (rc < 0)
        unlink(part.data);
out:
    bm_buf_done(&name);
    bm_buf_done(&part);
    return rc;
}

static int apply(bm_store *store, const bm_migration *migrations, int n, int version, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err, "CREATE TABLE IF NOT EXISTS schema_migration (version INTEGER PRIMARY KEY, program TEXT NOT NULL, "
                            "applied_ms BIGINT NOT NULL)", "");
    for (int i = 0; i < n && rc == 0; i++) {
        if (migrations[i].version <= version)
            continue;
        if (sqlite3_exec(db->handle, migrations[i].sql, NULL, NULL, NULL) != SQLITE_OK) {
            rc = bm_db_fail(db, err, "cannot migrate");
            bm_wrap(err, "schema %d", migrations[i].version);
            break;
        }
        rc = bm_db_run(db, err, "INSERT INTO schema_migration (version, program, applied_ms) VALUES (?, ?, ?)", "isi",
                       (int64_t)migrations[i].version, BM_VERSION, bm_wall_ms());
    }
    if (rc == 0 && sqlite3_exec(db->handle, "PRAGMA application_id = 1650552175", NULL, NULL, NULL) != SQLITE_OK)
        rc = bm_db_fail(db, err, "cannot mark");
    return bm_db_end(db, rc, err);
}

/* Under a lock of its own, so that two programs that start at once do not copy and migrate twice. */
static int migrate(bm_store *store, const bm_migration *migrations, int n, bm_error *err)
{
    int rc, version, ours = n > 0 ? migrations[n - 1].version : 0, fd = -1;
    bm_buf lock = { 0 };

    if ((rc = read_version(&store->writer, &version, err)) < 0 || version == ours)
        return rc;
    if (version > ours)
        return refuse_newer(store, version, ours, err);
    bm_buf_printf(&lock, "%s.lock", store->path);
    if (lock.failed || (fd = open(lock.data, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0 || flock(fd, LOCK_EX) < 0) {
        rc = bm_fail(err, BM_IO, "%s.lock: cannot lock: %s", store->path, strerror(errno));
        goto out;
    }
    if ((rc = read_version(&store->writer, &version, err)) < 0 || version == ours)
        goto out;
    if (version > ours)
        rc = refuse_newer(store, version, ours, err);
    else if (version == 0 || (rc = back_up(store, version, err)) == 0)
        rc = apply(store, migrations, n, version, err);
out:
    if (fd >= 0)
        close(fd);
    bm_buf_done(&lock);
    return rc;
}

/* SQLite would make the file readable to others; -wal and -shm take the mode of the database. */
static int make_file(bm_store *store, const char *home, bm_error *err)
{
    bm_buf path = { 0 };
    int rc, fd;

    if ((rc = bm_make_dirs(home, err)) < 0)
        return rc;
    bm_buf_printf(&path, "%s/baimo.db", home);
    store->home = bm_strdup(home);
    store->path = bm_buf_take(&path);
    if (store->home == NULL || store->path == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory for its name", home);
    if ((fd = open(store->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0)
        return bm_fail(err, BM_IO, "%s: cannot open: %s", store->path, strerror(errno));
    close(fd);
    return 0;
}

int bm_store_open_with(bm_store **out, const char *home, const bm_migration *migrations, int n, bm_error *err)
{
    bm_store *store = bm_zalloc(sizeof *store);
    int rc, version;

    *out = NULL;
    if (store == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory for the store", home);
    pthread_mutex_init(&store->writer.lock, NULL);
    pthread_mutex_init(&store->reader.lock, NULL);
    pthread_mutex_init(&store->ledger_lock, NULL);
    if ((rc = make_file(store, home, err)) < 0 || (rc = open_db(&store->writer, store->path, err)) < 0 ||
        (rc = read_version(&store->writer, &version, err)) < 0 || /* before anything is changed in a file not ours */
        (rc = use_wal(&store->writer, err)) < 0 || (rc = migrate(store, migrations, n, err)) < 0 ||
        (rc = open_db(&store->reader, store->path, err)) < 0 ||
        (rc = bm_db_run(&store->reader, err, "PRAGMA query_only = ON", "")) < 0)
        goto out;
    *out = store, store = NULL;
    rc = 0;
out:
    bm_store_close(store);
    return rc;
}

int bm_store_open(bm_store **out, const char *home, bm_error *err)
{
    return bm_store_open_with(out, home, bm_migrations, bm_n_migrations, err);
}

void bm_store_close(bm_store *store)
{
    if (store == NULL)
        return;
    bm_ledger_stop(store);
    bm_key_cache_free(store->keys);
    sqlite3_close(store->reader.handle);
    sqlite3_close(store->writer.handle);
    pthread_mutex_destroy(&store->writer.lock);
    pthread_mutex_destroy(&store->reader.lock);
    pthread_mutex_destroy(&store->ledger_lock);
    bm_free(store->home);
    bm_free(store->path);
    bm_free(store);
}

const char *bm_store_home(const bm_store *store) { return store->home; }

int bm_store_check(bm_store *store, int *schema_version, bm_error *err)
{
    bm_query query;
    char found[200];
    int rc;

    pthread_mutex_lock(&store->reader.lock);
    if ((rc = read_version(&store->reader, schema_version, err)) < 0)
        goto out;
    if ((rc = bm_query_open(&query, &store->reader, err, "PRAGMA quick_check(1)", "")) == 0) {
        if ((rc = bm_query_step(&query, err)) == 1) {
            bm_query_text(&query, 0, found, sizeof found);
            rc = strcmp(found, "ok") == 0 ? 0 : bm_fail(err, BM_IO, "%s: damaged: %s", store->path, found);
        }
        bm_query_close(&query);
    }
out:
    pthread_mutex_unlock(&store->reader.lock);
    return rc;
}
