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

/* Jobs and what comes out of them. Names and hashes stand in the rows, since models, files and adapters can leave while the
 * record of what was done with them stays. JSON columns hold what only people and clients read. */
static const char version_2[] =
    "CREATE TABLE adapter ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " name TEXT NOT NULL UNIQUE,"
    " path TEXT NOT NULL,"                                        /* a directory in PEFT's layout */
    " sha256 TEXT NOT NULL CHECK (length(sha256) = 64),"          /* of its content, whatever the format it came in */
    " base_name TEXT NOT NULL,"
    " base_sha256 TEXT NOT NULL CHECK (length(base_sha256) = 64),"
    " size_bytes BIGINT NOT NULL CHECK (size_bytes >= 0),"
    " source TEXT NOT NULL,"                                      /* 'tune' 'peft' 'gguf' */
    " run TEXT NOT NULL,"                                         /* id of the run that made it, or '' */
    " data_sha256 TEXT NOT NULL,"                                 /* of its training data, or '' */
    " settings TEXT NOT NULL,"                                    /* JSON object: rank, alpha, targets, ... */
    " curve TEXT NOT NULL,"                                       /* JSON array of {step, loss, valid_loss} */
    " version TEXT NOT NULL, license TEXT NOT NULL,"
    " created_ms BIGINT NOT NULL);"

    /* An alias stands for a model or for an adapter. */
    "CREATE TABLE alias_2 ("
    " name TEXT PRIMARY KEY,"
    " model_id INTEGER REFERENCES model (id) ON DELETE CASCADE,"
    " adapter_id INTEGER REFERENCES adapter (id) ON DELETE CASCADE,"
    " updated_ms BIGINT NOT NULL,"
    " CHECK ((model_id IS NULL) <> (adapter_id IS NULL)));"
    "INSERT INTO alias_2 (name, model_id, updated_ms) SELECT name, model_id, updated_ms FROM alias;"
    "DROP TABLE alias;"
    "ALTER TABLE alias_2 RENAME TO alias;"
    /* Why it moved: the id of a run and the gate that held, as JSON, or ''. */
    "ALTER TABLE alias_history ADD COLUMN evidence TEXT NOT NULL DEFAULT '';"

    "CREATE TABLE run ("
    " number INTEGER PRIMARY KEY AUTOINCREMENT,"
    " id TEXT NOT NULL UNIQUE,"                                   /* 'ftjob-...', 'eval-...' */
    " kind TEXT NOT NULL CHECK (kind IN ('tune', 'eval')),"
    " name TEXT NOT NULL,"                                        /* of the adapter to be, or of the evaluation */
    " state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'stopping', 'stopped', 'succeeded', 'failed')),"
    " model TEXT NOT NULL, model_sha256 TEXT NOT NULL,"
    " adapter TEXT NOT NULL, adapter_sha256 TEXT NOT NULL,"       /* what it started from or evaluates, or '' */
    " data TEXT NOT NULL,"                                        /* JSON array of {path, sha256, file} */
    " settings TEXT NOT NULL, seed BIGINT NOT NULL, version TEXT NOT NULL, machine TEXT NOT NULL,"
    " result TEXT NOT NULL, error TEXT NOT NULL, hint TEXT NOT NULL,"
    " step BIGINT NOT NULL DEFAULT 0, n_steps BIGINT NOT NULL DEFAULT 0, tokens BIGINT NOT NULL DEFAULT 0,"
    " pid BIGINT NOT NULL DEFAULT 0, pid_start BIGINT NOT NULL DEFAULT 0,"        /* with the start time a pid names one process */
    " attempts BIGINT NOT NULL DEFAULT 0, events_at BIGINT NOT NULL DEFAULT 0,"   /* bytes of its event file that are stored */
    " key_id BIGINT NOT NULL,"
    " created_ms BIGINT NOT NULL, started_ms BIGINT NOT NULL DEFAULT 0, finished_ms BIGINT NOT NULL DEFAULT 0);"
    "CREATE INDEX run_state ON run (state);"

    "CREATE TABLE run_event ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " run INTEGER NOT NULL REFERENCES run (number) ON DELETE CASCADE,"
    " at_ms BIGINT NOT NULL,"
    " level TEXT NOT NULL,"                                       /* 'info' 'warn' 'error' */
    " type TEXT NOT NULL,"                                        /* 'message', 'metrics' with JSON in data, or 'checkpoint' */
    " step BIGINT NOT NULL,"
    " message TEXT NOT NULL, data TEXT NOT NULL);"
    "CREATE INDEX run_event_run ON run_event (run, id);"

    /* Files that came over HTTP; the bytes are at home/files/ID. */
    "CREATE TABLE upload ("
    " number INTEGER PRIMARY KEY AUTOINCREMENT,"
    " id TEXT NOT NULL UNIQUE,"
    " filename TEXT NOT NULL, purpose TEXT NOT NULL,"
    " size_bytes BIGINT NOT NULL CHECK (size_bytes >= 0),"
    " sha256 TEXT NOT NULL CHECK (length(sha256) = 64),"
    " key_id BIGINT NOT NULL, created_ms BIGINT NOT NULL);";

static const char version_3[] =
    "CREATE TABLE dataset ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " name TEXT NOT NULL UNIQUE,"
    " path TEXT NOT NULL,"
    " sha256 TEXT NOT NULL CHECK (length(sha256) = 64),"
    " size_bytes BIGINT NOT NULL CHECK (size_bytes >= 0),"
    " mtime_ns BIGINT NOT NULL, device BIGINT NOT NULL, inode BIGINT NOT NULL,"
    " shape TEXT NOT NULL,"                                       /* of its rows, or '' */
    " n_rows BIGINT NOT NULL CHECK (n_rows >= 0),"
    " n_tokens BIGINT NOT NULL CHECK (n_tokens >= 0),"            /* 0: not counted */
    " license TEXT NOT NULL, source TEXT NOT NULL,"
    " hub TEXT NOT NULL, split TEXT NOT NULL,"                    /* what evaluation tasks call it: OWNER/SET[/CONFIG] and split, or '' */
    " created_ms BIGINT NOT NULL);"
    "CREATE UNIQUE INDEX dataset_hub ON dataset (hub, split) WHERE hub <> '';"
    "CREATE INDEX dataset_sha256 ON dataset (sha256);";

/* A row's model is the base then. */
static const char version_4[] = "ALTER TABLE ledger ADD COLUMN adapter TEXT NOT NULL DEFAULT '';";

const bm_migration bm_migrations[] = { { 1, version_1 }, { 2, version_2 }, { 3, version_3 }, { 4, version_4 } };
const int bm_n_migrations = sizeof bm_migrations / sizeof bm_migrations[0];
