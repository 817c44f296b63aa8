/* The database: opening, refusing, migrating, and what its tables promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/datasets.h"
#include "store/db.h"
#include "store/keys.h"
#include "store/ledger.h"
#include "store/models.h"

static char home[64];

static int make_home(void **state)
{
    (void)state;
    strcpy(home, "/tmp/bm-store-XXXXXX");
    return mkdtemp(home) == NULL;
}

static int remove_home(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", home);
    return system(command);
}

static bm_store *open_store(void)
{
    bm_store *store;
    bm_error err = { 0 };

    if (bm_store_open(&store, home, &err) < 0)
        fail_msg("%s", err.msg);
    return store;
}

/* What an operator's sqlite3 shell would do to the file. */
static int raw_sql(const char *sql, char *message, size_t room)
{
    char path[128], *why = NULL;
    sqlite3 *db;

    snprintf(path, sizeof path, "%s/baimo.db", home);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 60000);                             /* the ledger's own thread may be writing */
    int rc = sqlite3_exec(db, sql, NULL, NULL, &why);
    snprintf(message, room, "%s", why ? why : "");
    sqlite3_free(why);
    sqlite3_close(db);
    return rc;
}

static bm_model_row a_model(const char *name, char digit)
{
    bm_model_row row = { .size_bytes = 7, .n_params = 135000000, .n_ctx_train = 8192, .source = "file", .arch = "llama", .license = "MIT" };

    snprintf(row.name, sizeof row.name, "%s", name);
    snprintf(row.path, sizeof row.path, "/m/%s.gguf", name);
    memset(row.sha256, digit, 64);
    return row;
}

static bm_ledger_row a_request(const char *model, const char *outcome, int tokens)
{
    bm_ledger_row row = { .request_id = "r", .key_id = 0, .route = "/v1/chat/completions", .prompt_tokens = tokens, .cached_tokens = 1,
                          .completion_tokens = 2 * tokens, .reason = "stop", .started_ms = 1700000000000 };

    snprintf(row.model, sizeof row.model, "%s", model);
    snprintf(row.outcome, sizeof row.outcome, "%s", outcome);
    return row;
}

static void new_store_is_private_and_reopens(void **state)
{
    struct stat st;
    char path[128];
    int version;
    bm_error err;

    (void)state;
    strcat(home, "/made/here");
    bm_store_close(open_store());
    snprintf(path, sizeof path, "%s/baimo.db", home);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(home, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    bm_store *store = open_store();
    assert_string_equal(bm_store_home(store), home);
    assert_int_equal(bm_store_check(store, &version, &err), 0);
    assert_int_equal(version, bm_migrations[bm_n_migrations - 1].version);
    bm_store_close(store);
    home[strlen("/tmp/bm-store-XXXXXX")] = '\0';
}

static void newer_database_is_refused(void **state)
{
    bm_store *store;
    bm_error err;
    char why[100];

    (void)state;
    bm_store_close(open_store());
    assert_int_equal(raw_sql("INSERT INTO schema_migration VALUES (999, 'future', 0)", why, sizeof why), SQLITE_OK);
    assert_int_equal(bm_store_open(&store, home, &err), BM_UNSUPPORTED);
    assert_null(store);
    assert_non_null(strstr(err.msg, "schema 999"));
}

static void foreign_database_and_garbage_are_refused_untouched(void **state)
{
    bm_store *store;
    bm_error err;
    char path[128], why[100], text[8] = "";

    (void)state;
    assert_int_equal(raw_sql("CREATE TABLE theirs (x)", why, sizeof why), SQLITE_OK);
    assert_int_equal(bm_store_open(&store, home, &err), BM_FORMAT);
    assert_int_equal(raw_sql("DROP TABLE theirs; CREATE TABLE still_theirs (x)", why, sizeof why), SQLITE_OK);

    snprintf(path, sizeof path, "%s/baimo.db", home);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("not a database", f);
    fclose(f);
    assert_true(bm_store_open(&store, home, &err) < 0);
    assert_non_null(strstr(err.msg, "not a database"));
    f = fopen(path, "r");
    assert_int_equal(fread(text, 1, 7, f), 7);
    fclose(f);
    assert_string_equal(text, "not a d");
}

static void older_database_is_copied_then_migrated(void **state)
{
    static const bm_migration first[] = { { 1, "CREATE TABLE t (x INTEGER); INSERT INTO t VALUES (41);" } };
    static const bm_migration both[] = { { 1, "SELECT nonsense" }, { 2, "UPDATE t SET x = x + 1;" } };
    bm_store *store;
    bm_error err;
    struct stat st;
    char path[128];
    int64_t x;

    (void)state;
    assert_int_equal(bm_store_open_with(&store, home, first, 1, &err), 0);
    bm_store_close(store);
    assert_int_equal(bm_store_open_with(&store, home, both, 2, &err), 0);
    assert_int_equal(bm_db_int(&store->writer, &x, 0, &err, "SELECT x FROM t", ""), 0);
    assert_int_equal(x, 42);
    bm_store_close(store);

    snprintf(path, sizeof path, "%s/baimo.db.v1.backup", home);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    sqlite3 *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT x FROM t", -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(stmt, 0), 41);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
}

static void failed_migration_changes_nothing(void **state)
{
    static const bm_migration first[] = { { 1, "CREATE TABLE t (x INTEGER);" } };
    static const bm_migration broken[] = { { 1, "" }, { 2, "CREATE TABLE u (x); INSERT INTO nowhere VALUES (1);" } };
    bm_store *store;
    bm_error err;
    int64_t n;

    (void)state;
    assert_int_equal(bm_store_open_with(&store, home, first, 1, &err), 0);
    bm_store_close(store);
    assert_true(bm_store_open_with(&store, home, broken, 2, &err) < 0);
    assert_non_null(strstr(err.msg, "schema 2"));
    assert_int_equal(bm_store_open_with(&store, home, first, 1, &err), 0);
    assert_int_equal(bm_db_int(&store->writer, &n, -1, &err, "SELECT count(*) FROM sqlite_master WHERE name = ?", "s", "u"), 0);
    assert_int_equal(n, 0);
    bm_store_close(store);
}

static void *open_and_close(void *arg)
{
    bm_store *store = NULL;
    bm_error err;

    int rc = bm_store_open(&store, home, &err);
    bm_store_close(store);
    *(int *)arg = rc;
    return NULL;
}

static void many_openers_at_once_all_get_the_same_store(void **state)
{
    pthread_t threads[8];
    int rc[8];

    (void)state;
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, &rc[i]), 0);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(rc[i], 0);
    }
}

static void models_are_kept_by_name_whatever_the_name_holds(void **state)
{
    bm_store *store = open_store();
    bm_model_row a = a_model("b'; DROP TABLE model; --", '1'), b = a_model("a", '2'), *rows;
    size_t n;
    bm_error err;

    (void)state;
    assert_int_equal(bm_models_insert(store, &a, &err), 0);
    assert_int_equal(bm_models_insert(store, &b, &err), 0);
    assert_int_equal(bm_models_insert(store, &b, &err), BM_EXISTS);
    assert_int_equal(bm_models_list(store, &rows, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_string_equal(rows[0].name, "a");
    assert_string_equal(rows[1].name, a.name);
    assert_int_equal(rows[1].n_params, 135000000);
    assert_string_equal(rows[1].sha256, a.sha256);
    bm_free(rows);
    assert_int_equal(bm_models_delete(store, "a", &err), 0);
    assert_int_equal(bm_models_delete(store, "a", &err), BM_NOTFOUND);
    bm_store_close(store);
}

static bm_dataset_row a_dataset(const char *name, const char *hub, const char *split)
{
    bm_dataset_row row = { .size_bytes = 10, .n_rows = 3, .n_tokens = 77, .created_ms = 5 };

    snprintf(row.name, sizeof row.name, "%s", name);
    snprintf(row.hub, sizeof row.hub, "%s", hub);
    snprintf(row.split, sizeof row.split, "%s", split);
    snprintf(row.path, sizeof row.path, "/data/%s.jsonl", name);
    memset(row.sha256, 'a', 64);
    return row;
}

static void data_sets_are_kept_by_name_and_answer_for_one_split_each(void **state)
{
    bm_store *store = open_store();
    bm_dataset_row b = a_dataset("b", "", ""), a = a_dataset("a", "owner/set", "test"), c = a_dataset("c", "owner/set", "test"), *rows;
    size_t n;
    bm_error err;

    (void)state;
    assert_int_equal(bm_datasets_insert(store, &b, &err), 0);
    assert_int_equal(bm_datasets_insert(store, &b, &err), BM_EXISTS);
    assert_int_equal(bm_datasets_insert(store, &a, &err), 0);
    assert_int_equal(bm_datasets_insert(store, &c, &err), BM_EXISTS);
    assert_non_null(strstr(err.msg, "owner/set:test"));
    snprintf(c.split, sizeof c.split, "train");
    assert_int_equal(bm_datasets_insert(store, &c, &err), 0);
    assert_int_equal(bm_datasets_list(store, &rows, &n, &err), 0);
    assert_int_equal(n, 3);
    assert_string_equal(rows[0].name, "a");
    assert_string_equal(rows[0].hub, "owner/set");
    assert_int_equal(rows[1].n_tokens, 77);
    assert_string_equal(rows[2].split, "train");
    bm_free(rows);
    assert_int_equal(bm_datasets_delete(store, "a", &err), 0);
    assert_int_equal(bm_datasets_delete(store, "a", &err), BM_NOTFOUND);
    bm_store_close(store);
}

static void alias_moves_and_remembers_and_leaves_with_its_model(void **state)
{
    bm_store *store = open_store();
    bm_model_row a = a_model("a", '1'), b = a_model("b", '2');
    bm_alias_row *rows;
    int64_t n_history;
    size_t n;
    bm_error err;

    (void)state;
    assert_int_equal(bm_models_insert(store, &a, &err), 0);
    assert_int_equal(bm_models_insert(store, &b, &err), 0);
    assert_int_equal(bm_aliases_set(store, "a", "b", &err), BM_EXISTS);
    assert_int_equal(bm_aliases_set(store, "prod", "c", &err), BM_NOTFOUND);
    assert_int_equal(bm_aliases_set(store, "prod", "a", &err), 0);
    assert_int_equal(bm_aliases_set(store, "prod", "b", &err), 0);
    bm_model_row taken = a_model("prod", '3');
    assert_int_equal(bm_models_insert(store, &taken, &err), BM_EXISTS);
    assert_int_equal(bm_aliases_list(store, &rows, &n, &err), 0);
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].model, "b");
    bm_free(rows);
    assert_int_equal(bm_models_delete(store, "b", &err), 0);
    assert_int_equal(bm_aliases_list(store, &rows, &n, &err), 0);
    assert_int_equal(n, 0);
    assert_int_equal(bm_db_int(&store->writer, &n_history, 0, &err, "SELECT count(*) FROM alias_history WHERE alias = ?", "s", "prod"), 0);
    assert_int_equal(n_history, 3);
    bm_store_close(store);
}

static void ledger_rows_cannot_change_or_leave(void **state)
{
    bm_store *store = open_store();
    bm_ledger_row row = a_request("m", "ok", 5);
    bm_error err;
    char why[100];

    (void)state;
    assert_int_equal(bm_ledger_add(store, &row, &err), 0);
    assert_int_equal(bm_ledger_flush(store, &err), 0);
    assert_int_not_equal(raw_sql("UPDATE ledger SET prompt_tokens = 0", why, sizeof why), SQLITE_OK);
    assert_string_equal(why, "the ledger is append-only");
    assert_int_not_equal(raw_sql("DELETE FROM ledger", why, sizeof why), SQLITE_OK);
    assert_string_equal(why, "the ledger is append-only");
    assert_true(bm_db_run(&store->writer, &err, "INSERT OR REPLACE INTO ledger SELECT * FROM ledger", "") < 0);
    bm_store_close(store);
}

static void *add_many(void *arg)
{
    bm_ledger_row row = a_request("m", "ok", 3);

    for (int i = 0; i < 500; i++)
        if (bm_ledger_add(arg, &row, NULL) < 0)
            return arg;
    return bm_ledger_flush(arg, NULL) < 0 ? arg : NULL;
}

static void ledger_of_many_threads_adds_up(void **state)
{
    bm_store *store = open_store();
    pthread_t threads[4];
    bm_usage_row *rows;
    void *failed;
    size_t n;
    bm_error err;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, store), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(bm_ledger_sum(store, BM_USAGE_MODEL, 0, &rows, &n, &err), 0);
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].requests, 2000);
    assert_int_equal(rows[0].prompt_tokens, 6000);
    assert_int_equal(rows[0].completion_tokens, 12000);
    bm_free(rows);
    bm_store_close(store);
}

static void closing_writes_what_is_queued(void **state)
{
    bm_store *store = open_store();
    bm_ledger_row row = a_request("m", "canceled", 1);
    bm_usage_row *rows;
    size_t n;
    bm_error err;

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(bm_ledger_add(store, &row, &err), 0);
    bm_store_close(store);
    store = open_store();
    assert_int_equal(bm_ledger_sum(store, BM_USAGE_DAY, 0, &rows, &n, &err), 0);
    assert_int_equal(n, 1);
    assert_string_equal(rows[0].group, "2023-11-14");
    assert_int_equal(rows[0].canceled, 100);
    bm_free(rows);
    assert_int_equal(bm_ledger_sum(store, BM_USAGE_DAY, 1700000000001, &rows, &n, &err), 0);
    assert_int_equal(n, 0);
    bm_free(rows);
    bm_store_close(store);
}

static void flush_tells_of_a_failed_commit_and_the_rows_wait(void **state)
{
    bm_store *store = open_store();
    bm_ledger_row row = a_request("m", "ok", 1);
    bm_usage_row *rows;
    size_t n;
    bm_error err;
    char why[100];

    (void)state;
    assert_int_equal(raw_sql("CREATE TRIGGER full BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'disk full'); END", why, sizeof why),
                     SQLITE_OK);
    assert_int_equal(bm_ledger_add(store, &row, &err), 0);
    assert_true(bm_ledger_flush(store, &err) < 0);
    assert_non_null(strstr(err.msg, "disk full"));
    assert_int_equal(raw_sql("DROP TRIGGER full", why, sizeof why), SQLITE_OK);
    while (bm_ledger_flush(store, &err) < 0)                     /* a retry that began before the DROP may still fail */
        ;
    assert_int_equal(bm_ledger_sum(store, BM_USAGE_KEY, 0, &rows, &n, &err), 0);
    assert_int_equal(rows[0].requests, 1);
    bm_free(rows);
    bm_store_close(store);
}

#define T(f) cmocka_unit_test_setup_teardown(f, make_home, remove_home)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(new_store_is_private_and_reopens),
        T(newer_database_is_refused),
        T(foreign_database_and_garbage_are_refused_untouched),
        T(older_database_is_copied_then_migrated),
        T(failed_migration_changes_nothing),
        T(many_openers_at_once_all_get_the_same_store),
        T(models_are_kept_by_name_whatever_the_name_holds),
        T(data_sets_are_kept_by_name_and_answer_for_one_split_each),
        T(alias_moves_and_remembers_and_leaves_with_its_model),
        T(ledger_rows_cannot_change_or_leave),
        T(ledger_of_many_threads_adds_up),
        T(closing_writes_what_is_queued),
        T(flush_tells_of_a_failed_commit_and_the_rows_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
