/* store.h - the database: one SQLite file (WAL), one writer connection, numbered migrations.
 * Each function of the table files (store/models.h, store/keys.h, store/ledger.h) is one transaction. Any thread: a mutex
 * guards each connection. SQL in the subset that PostgreSQL shares where it costs nothing. */
#pragma once
#include "base/error.h"

typedef struct bm_store bm_store;

/* Open or create `home`/baimo.db (home is made, mode 0700), migrate inside a transaction after a backup copy when the
 * schema is older. A database newer than this program, and a file that is not a database of ours, is refused. */
int  bm_store_open(bm_store **out, const char *home, bm_error *err);
/* Writes what the ledger still holds. NULL is fine. */
void bm_store_close(bm_store *store);
const char *bm_store_home(const bm_store *store);
/* The number of the schema, and SQLite's quick check of every page: 0, or the first thing it found. */
int  bm_store_check(bm_store *store, int *schema_version, bm_error *err);
