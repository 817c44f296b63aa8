/* guard.h - who may ask: Host against rebinding, Origin against foreign pages, keys against strangers.
 * The lists are fixed at start; keys are looked up for each request, so a revoked one stops at once. Loop thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "platform/keys.h"

typedef struct bm_guard bm_guard;

/* bind_host: what the listener is bound to; a wildcard adds the addresses of this machine's interfaces.
 * Without loopback a key is always needed; on loopback from the moment one exists, for the life of the process. */
int  bm_guard_new(bm_guard **out, bm_store *store, const char *bind_host, int port, const char *const *allow, size_t n_allow,
                  bm_error *err);
void bm_guard_free(bm_guard *guard);
bool bm_host_is_loopback(const char *host);

int  bm_guard_host(const bm_guard *guard, const char *host, bm_error *err);
/* A page's Origin is fine when its host is allowed and its port is this server's, or the operator named the host. */
int  bm_guard_origin(const bm_guard *guard, const char *origin, const char *host, bm_error *err);
/* authorization: the header or NULL. *key is zero when none is needed. BM_AUTH, BM_FORBIDDEN. */
int  bm_guard_key(bm_guard *guard, const char *authorization, unsigned scope, bm_key *key, bm_error *err);
