/* keys.h - API keys: shown once, stored as SHA-256 of a 256-bit random secret. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "store/keys.h"
#include "store/store.h"

enum {
    BM_SCOPE_INFER = 1,
    BM_SCOPE_MODELS = 2,
    BM_SCOPE_TUNE = 4,
    BM_SCOPE_EVAL = 8,
    BM_SCOPE_ADMIN = 16,
    BM_SCOPE_AUDIT = 32
};

/* Make a key: secret[80] gets "bm-" and 43 characters of base64url, once. scopes by names "infer,models"; NULL: infer. */
int bm_key_add(bm_store *store, const char *name, const char *scopes, char secret[80], bm_key *out, bm_error *err);
/* All, revoked ones too, oldest first; *out is the caller's to bm_free. */
int bm_key_list(bm_store *store, bm_key **out, size_t *n, bm_error *err);
/* By exact name, else by the first characters of the secret when only one valid key has them. Counts at once, in every process. */
int bm_key_revoke(bm_store *store, const char *name_or_prefix, bm_error *err);
/* Whether a valid key exists; cheap enough for each request. On failure *any is true. */
int bm_key_any(bm_store *store, bool *any, bm_error *err);
/* Check what came in Authorization (the secret alone, without "Bearer "): 0 and *out, or BM_AUTH / BM_FORBIDDEN (scope missing;
 * an admin key may do all). NULL counts as a missing key. Cheap enough for each request. */
int bm_key_check(bm_store *store, const char *secret, unsigned scope, bm_key *out, bm_error *err);
void bm_scopes_text(unsigned scopes, char out[64]);
