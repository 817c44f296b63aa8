/* keys.c - see keys.h.
 * The cache is checked against `PRAGMA data_version` of the reader connection, which changes whenever another connection
 * commits; reading it costs microseconds and no disk. Guarded by reader.lock. */
#include "store/keys.h"
#include "base/mem.h"
#include "store/db.h"

#include <string.h>

enum { CACHED = 256 };

typedef struct bm_key_cache {
    int64_t data_version;
    int any;                     /* -1: not known */
    struct cached { bm_sha256 hash; bm_key key; bool used; } rows[CACHED];      /* by the hash's first byte */
} bm_key_cache;

void bm_key_cache_free(bm_key_cache *cache) { bm_free(cache); }

#define COLUMNS "id, name, prefix, scopes, created_ms, revoked_ms, last_used_ms"

static void read_key(bm_query *q, bm_key *key)
{
    *key = (bm_key){ .id = bm_query_int(q, 0), .scopes = (unsigned)bm_query_int(q, 3), .created_ms = bm_query_int(q, 4),
                     .revoked_ms = bm_query_int(q, 5), .last_used_ms = bm_query_int(q, 6) };
    bm_query_text(q, 1, key->name, sizeof key->name);
    bm_query_text(q, 2, key->prefix, sizeof key->prefix);
}

int bm_keys_insert(bm_store *store, bm_key *key, const bm_sha256 *hash, bm_error *err)
{
    bm_db *db = &store->writer;
    int64_t taken;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_int(db, &taken, 0, err, "SELECT 1 FROM key WHERE name = ? AND revoked_ms = 0", "s", key->name);
    if (rc == 0 && taken) {
        rc = bm_fail(err, BM_EXISTS, "a valid key named '%s' exists already", key->name);
        bm_hint(err, "take another name, or first: baimo key revoke %s", key->name);
    }
    if (rc == 0)
        rc = bm_db_run(db, err, "INSERT INTO key (name, prefix, hash, scopes, created_ms) VALUES (?, ?, ?, ?, ?)", "ssbii",
                       key->name, key->prefix, hash->bytes, (int)sizeof hash->bytes, (int64_t)key->scopes, key->created_ms);
    if (rc == 0)
        key->id = sqlite3_last_insert_rowid(db->handle);
    return bm_db_end(db, rc, err);
}

int bm_keys_list(bm_store *store, bm_key **out, size_t *n, bm_error *err)
{
    bm_query query;
    bm_key *keys = NULL;
    size_t cap = 0;
    int rc;

    *out = NULL, *n = 0;
    pthread_mutex_lock(&store->reader.lock);
    if ((rc = bm_query_open(&query, &store->reader, err, "SELECT " COLUMNS " FROM key ORDER BY id", "")) == 0) {
        while ((rc = bm_query_step(&query, err)) == 1) {
            if (*n == cap) {
                bm_key *more = bm_realloc(keys, (cap = cap * 2 + 16) * sizeof *keys);
                if (more == NULL) {
                    rc = bm_fail(err, BM_NOMEM, "no memory for %zu keys", cap);
                    break;
                }
                keys = more;
            }
            read_key(&query, &keys[(*n)++]);
        }
        bm_query_close(&query);
    }
    pthread_mutex_unlock(&store->reader.lock);
    if (rc < 0)
        bm_free(keys), keys = NULL, *n = 0;
    *out = keys;
    return rc;
}

int bm_keys_revoke(bm_store *store, int64_t id, int64_t now_ms, bm_error *err)
{
    bm_db *db = &store->writer;
    int rc = bm_db_begin(db, err);

    if (rc < 0)
        return rc;
    rc = bm_db_run(db, err, "UPDATE key SET revoked_ms = ? WHERE id = ? AND revoked_ms = 0", "ii", now_ms, id);
    if (rc == 0 && sqlite3_changes(db->handle) == 0)
        rc = bm_fail(err, BM_NOTFOUND, "there is no valid key number %lld", (long long)id);
    return bm_db_end(db, rc, err);
}

/* Make the cache, or empty it when something was written since. */
static int refresh(bm_store *store, bm_error *err)
{
    int64_t version;
    int rc;

    if (store->keys == NULL) {
        if ((store->keys = bm_zalloc(sizeof *store->keys)) == NULL)
            return bm_fail(err, BM_NOMEM, "no memory to check keys");
        store->keys->data_version = store->keys->any = -1;
    }
    if ((rc = bm_db_int(&store->reader, &version, 0, err, "PRAGMA data_version", "")) < 0)
        return rc;
    if (version != store->keys->data_version) {
        memset(store->keys, 0, sizeof *store->keys);
        store->keys->data_version = version;
        store->keys->any = -1;
    }
    return 0;
}

static int look_up(bm_store *store, const bm_sha256 *hash, struct cached *slot, bm_key *out, bm_error *err)
{
    bm_query query;
    int rc;

    if ((rc = bm_query_open(&query, &store->reader, err, "SELECT " COLUMNS ", hash FROM key WHERE hash = ? AND revoked_ms = 0",
                            "b", hash->bytes, (int)sizeof hash->bytes)) < 0)
        return rc;
    if ((rc = bm_query_step(&query, err)) == 1) {
        read_key(&query, out);
        if (!bm_secret_equal(hash->bytes, sqlite3_column_blob(query.stmt, 7), sizeof hash->bytes))
            rc = 0;
        else
            *slot = (struct cached){ .hash = *hash, .key = *out, .used = true };
    }
    bm_query_close(&query);
    return rc;
}

int bm_keys_find(bm_store *store, const bm_sha256 *hash, bm_key *out, bm_error *err)
{
    int rc;

    pthread_mutex_lock(&store->reader.lock);
    if ((rc = refresh(store, err)) == 0) {
        struct cached *slot = &store->keys->rows[hash->bytes[0]];
        if (slot->used && bm_secret_equal(slot->hash.bytes, hash->bytes, sizeof hash->bytes))
            *out = slot->key, rc = 1;
        else
            rc = look_up(store, hash, slot, out, err);
    }
    pthread_mutex_unlock(&store->reader.lock);
    return rc;
}

int bm_keys_any(bm_store *store, bool *any, bm_error *err)
{
    int64_t found;
    int rc;

    pthread_mutex_lock(&store->reader.lock);
    if ((rc = refresh(store, err)) == 0 && store->keys->any < 0 &&
        (rc = bm_db_int(&store->reader, &found, 0, err, "SELECT 1 FROM key WHERE revoked_ms = 0 LIMIT 1", "")) == 0)
        store->keys->any = found != 0;
    *any = rc < 0 || store->keys->any != 0;                      /* when in doubt, ask for a key */
    pthread_mutex_unlock(&store->reader.lock);
    return rc;
}
