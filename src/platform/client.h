/* client.h - a small blocking HTTP/1.1 client over a Unix socket: for commands that ask a running server of the same home. */
#pragma once
#include <stddef.h>
#include "base/error.h"

/* GET `path` from the server at `socket_path`. *status is the HTTP status, *body (NUL-terminated, at most 16 MB) the caller's to
 * bm_free. BM_NOTFOUND when nothing listens there. api_key may be NULL. Gives up after 10 s of silence. */
int bm_client_get(const char *socket_path, const char *path, const char *api_key, int *status, char **body, size_t *len_bytes,
                  bm_error *err);
