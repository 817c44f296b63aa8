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
/* At most `most` rows, latest first, older than the one whose id is `after` ("": from the latest). BM_NOTFOUND when there is no
 * such file. *out is the caller's to bm_free. */
int bm_uploads_list(bm_store *store, const char *after, size_t most, bm_upload_row **out, size_t *n, bm_error *err);
/* BM_NOTFOUND. */
int bm_uploads_find(bm_store *store, const char *id, bm_upload_row *out, bm_error *err);
int bm_uploads_delete(bm_store *store, const char *id, bm_error *err);
