/* db.h - for the files of store/ only: the two connections, and statements with bound parameters.
 * Values never become SQL text: every statement is a literal, every value is bound. */
#pragma once
#include <pthread.h>
#include <sqlite3.h>
#include <stdint.h>
#include "store/ledger.h"
#include "store/store.h"

typedef struct bm_db {
    sqlite3 *handle;
    pthread_mutex_t lock;        /* guards handle and every statement of it */
} bm_db;

typedef struct bm_ledger_queue bm_ledger_queue;

struct bm_store {
    char *home, *path;
    bm_db writer;                /* the only connection of this process that writes */
    bm_db reader;                /* query_only; a request's look-ups do not wait for the writer's fsync */
    bm_ledger_queue *ledger;     /* made by the first row; guarded by ledger_lock */
    pthread_mutex_t ledger_lock;
    struct bm_key_cache *keys;   /* guarded by reader.lock */
};

/* A statement that runs under db->lock, which begin takes and end releases. */
typedef struct bm_query {
    bm_db *db;
    sqlite3_stmt *stmt;
} bm_query;

/* Prepare and bind: one letter of `types` for each parameter: i int64_t, s const char* (NULL is SQL NULL), b const void* and int
 * length. The caller holds db->lock. On failure query is empty. */
int  bm_query_open(bm_query *query, bm_db *db, bm_error *err, const char *sql, const char *types, ...);
/* 1: a row is there; 0: no more; negative: failed. */
int  bm_query_step(bm_query *query, bm_error *err);
void bm_query_close(bm_query *query);
int64_t bm_query_int(bm_query *query, int column);
/* Copy a text column, cut to room - 1 bytes; NULL is "". */
void bm_query_text(bm_query *query, int column, char *out, size_t room);
/* The whole column, the caller's to bm_free. */
int  bm_query_dup(bm_query *query, int column, char **out, bm_error *err);
/* Room for item n of a growing array of rows of `size` bytes, whose capacity is the next power of two. */
int  bm_rows_grow(void **rows, size_t n, size_t size, bm_error *err);
/* One statement without rows. */
int  bm_db_run(bm_db *db, bm_error *err, const char *sql, const char *types, ...);
/* The first column of the first row; fallback when there is none. */
int  bm_db_int(bm_db *db, int64_t *out, int64_t fallback, bm_error *err, const char *sql, const char *types, ...);

/* A write transaction: begin takes the lock; end commits when rc is 0, else rolls back, releases the lock, and returns rc or
 * what the commit failed with. */
int  bm_db_begin(bm_db *db, bm_error *err);
int  bm_db_end(bm_db *db, int rc, bm_error *err);
/* SQLite's last error on the handle as ours. */
int  bm_db_fail(bm_db *db, bm_error *err, const char *doing);

/* 0 when no model, adapter or alias has the name, else BM_EXISTS. Inside a transaction of db. */
int  bm_name_free(bm_db *db, const char *name, bm_error *err);
void bm_key_cache_free(struct bm_key_cache *cache);
void bm_ledger_stop(bm_store *store);

/* The numbered migrations, in order from 1. Tests open a store with tables of their own. */
typedef struct bm_migration { int version; const char *sql; } bm_migration;
extern const bm_migration bm_migrations[];
extern const int bm_n_migrations;
int bm_store_open_with(bm_store **out, const char *home, const bm_migration *migrations, int n, bm_error *err);
