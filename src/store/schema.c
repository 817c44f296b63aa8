/* schema.c - the numbered migrations. One that has shipped never changes: a change is a new number. */
#include "store/db.h"

/* Times are milliseconds since 1970 UTC; hashes are of whole files. `parent` is the model that one was made from. */
static const char version_1[] =
    "CREATE TABLE model ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " name TEXT NOT NULL UNIQUE,"
    " path TEXT NOT NULL,"
    " sha256 TEXT NOT NULL CHECK (length(sha256) = 64),"
    " size_bytes BIGINT NOT NULL CHECK (size_bytes >= 0),"
    " mtime_ns BIGINT NOT NULL, device BIGINT NOT NULL, inode BIGINT NOT NULL,"   /* the file that was hashed */
    " arch TEXT NOT NULL, quantization TEXT NOT NULL, license TEXT NOT NULL,"
    " n_params BIGINT NOT NULL, n_ctx_train BIGINT NOT NULL,"
    " source TEXT NOT NULL,"
    " parent INTEGER REFERENCES model (id) ON DELETE SET NULL,"
    " created_ms BIGINT NOT NULL);"
    "CREATE INDEX model_sha256 ON model (sha256);"
    "CREATE INDEX model_path ON model (path);"

    "CREATE TABLE alias ("
    " name TEXT PRIMARY KEY,"
    " model_id INTEGER NOT NULL REFERENCES model (id) ON DELETE CASCADE,"
    " updated_ms BIGINT NOT NULL);"
    /* What an alias stood for, and when; model_name '' says that it went away. Names and hashes, since models can leave. */
    "CREATE TABLE alias_history ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " alias TEXT NOT NULL, model_name TEXT NOT NULL, sha256 TEXT NOT NULL, at_ms BIGINT NOT NULL);"

    "CREATE TABLE key ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " name TEXT NOT NULL, prefix TEXT NOT NULL,"
    " hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),"       /* SHA-256 of the secret */
    " scopes INTEGER NOT NULL,"
    " created_ms BIGINT NOT NULL, revoked_ms BIGINT NOT NULL DEFAULT 0, last_used_ms BIGINT NOT NULL DEFAULT 0);"
    "CREATE UNIQUE INDEX key_name ON key (name) WHERE revoked_ms = 0;"

    "CREATE TABLE ledger ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " request_id TEXT NOT NULL,"
    " key_id INTEGER NOT NULL, key_name TEXT NOT NULL, model TEXT NOT NULL, route TEXT NOT NULL,"
    " prompt_tokens BIGINT NOT NULL CHECK (prompt_tokens >= 0),"
    " cached_tokens BIGINT NOT NULL CHECK (cached_tokens >= 0),"
    " completion_tokens BIGINT NOT NULL CHECK (completion_tokens >= 0),"
    " outcome TEXT NOT NULL, reason TEXT NOT NULL,"
    " started_ms BIGINT NOT NULL, queue_ms BIGINT NOT NULL, first_token_ms BIGINT NOT NULL, total_ms BIGINT NOT NULL);"
    "CREATE INDEX ledger_started ON ledger (started_ms);"
    "CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;"
    "CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;";

const bm_migration bm_migrations[] = { { 1, version_1 } };
const int bm_n_migrations = sizeof bm_migrations / sizeof bm_migrations[0];
