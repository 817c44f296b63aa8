/* mounts.h - adapters that are mounted on loaded models: what the pool keeps of them. Owned by the pool, whose lock guards the list
 * and refs; making one reads and packs, and is done without the lock. */
#pragma once
#include "engine/backend.h"
#include "store/adapters.h"

typedef struct bm_mount {
    struct bm_mount *next;
    bm_adapter_row row;          /* settings and curve NULL */
    bm_loaded *loaded;           /* what it is mounted on; the backend holds a reference */
    bm_backend *backend;
    int refs;
    bool stale;                  /* the name means something else now; freed when the last reference is back */
} bm_mount;

/* Read the adapter of this row, compare its file with row->sha256, pack it for the loaded model. */
int  bm_mount_new(bm_mount **out, bm_engine *engine, bm_loaded *loaded, const bm_adapter_row *row, bm_error *err);
void bm_mount_free(bm_mount *mount);                 /* NULL is fine; running requests keep what they use */
/* The one of this very row on this model; NULL: none. */
bm_mount *bm_mount_find(bm_mount *list, const bm_adapter_row *row, const bm_loaded *loaded);
