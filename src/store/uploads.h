/* uploads.h - table upload: files that came over HTTP. The bytes stand at home/files/ID; only these rows name them. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "store/store.h"

typedef struct bm_upload_row {
    int64_t number, size_bytes, key_id, created_ms;      /* number: rises with each upload */
    char id[40], filename[256], purpose[24], sha256[65];
} bm_upload_row;

int bm_uploads_insert(bm_store *store, bm_upload_row *row, bm_error *err);
typedef struct bm_uploads_filter {
    const char *after;           /* id: only what is further down the list; NULL or "": from its head */
    const char *purpose;         /* NULL or "": any */
    int64_t key_id;              /* only files of this key; 0: all */
    size_t most;                 /* 0: all */
} bm_uploads_filter;
/* Latest first; *out is the caller's to bm_free. BM_NOTFOUND when `after` is no file. */
int bm_uploads_list(bm_store *store, const bm_uploads_filter *filter, bm_upload_row **out, size_t *n, bm_error *err);
/* BM_NOTFOUND. */
int bm_uploads_find(bm_store *store, const char *id, bm_upload_row *out, bm_error *err);
int bm_uploads_delete(bm_store *store, const char *id, bm_error *err);
