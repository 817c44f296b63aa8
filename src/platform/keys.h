/* keys.h - API keys: shown once, stored as SHA-256 of a 256-bit random secret. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "store/store.h"

enum { BM_SCOPE_INFER = 1, BM_SCOPE_MODELS = 2, BM_SCOPE_TUNE = 4, BM_SCOPE_EVAL = 8, BM_SCOPE_ADMIN = 16, BM_SCOPE_AUDIT = 32 };

typedef struct bm_key {
    int64_t id, created_ms, revoked_ms, last_used_ms;    /* revoked 0: valid */
    unsigned scopes;
    char name[64], prefix[16];   /* the first characters, to recognise it */
} bm_key;

/* Make a key: secret[80] gets "bm-..." once. scopes by names "infer,models"; NULL: infer. */
int bm_key_add(bm_store *store, const char *name, const char *scopes, char secret[80], bm_key *out, bm_error *err);
int bm_key_list(bm_store *store, bm_key **out, size_t *n, bm_error *err);
int bm_key_revoke(bm_store *store, const char *name_or_prefix, bm_error *err);
int bm_key_any(bm_store *store, bool *any, bm_error *err);       /* whether a valid key exists */
/* Check what came in Authorization: 0 and *out, or BM_AUTH / BM_FORBIDDEN (scope missing). */
int bm_key_check(bm_store *store, const char *secret, unsigned scope, bm_key *out, bm_error *err);
void bm_scopes_text(unsigned scopes, char out[64]);
