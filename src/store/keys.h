/* keys.h - table key: SHA-256 of secrets, never the secrets. Look-ups by hash are cached until any other connection, of this
 * process or another, has written: a revocation counts at once. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/hash.h"
#include "store/store.h"

typedef struct bm_key {
    int64_t id, created_ms, revoked_ms, last_used_ms;    /* revoked 0: valid */
    unsigned scopes;
    char name[64], prefix[16];   /* the first characters, to recognise it */
} bm_key;

/* Insert; key->id is set. BM_EXISTS when a valid key has the name. */
int bm_keys_insert(bm_store *store, bm_key *key, const bm_sha256 *hash, bm_error *err);
/* All, oldest first; *out is the caller's to bm_free (NULL when there are none). */
int bm_keys_list(bm_store *store, bm_key **out, size_t *n, bm_error *err);
/* Revoke a valid key. BM_NOTFOUND when id is none. */
int bm_keys_revoke(bm_store *store, int64_t id, int64_t now_ms, bm_error *err);
/* The valid key with this hash: 1 and *out, or 0. */
int bm_keys_find(bm_store *store, const bm_sha256 *hash, bm_key *out, bm_error *err);
int bm_keys_any(bm_store *store, bool *any, bm_error *err);
