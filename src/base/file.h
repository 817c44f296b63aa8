/* file.h - whole files: mapped read-only, read with a cap, written atomically. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

typedef struct bm_map {
    const unsigned char *data;   /* NULL for an empty file */
    size_t len_bytes;            /* as fstat said when it was mapped */
    uint64_t device, inode;
    int64_t mtime_ns;
} bm_map;

/* Map a regular file for reading. On failure *map is zero and err names path and reason. A file that shrinks later
 * raises SIGBUS on access: long-lived readers copy what they keep. */
int  bm_map_file(bm_map *map, const char *path, bm_error *err);
void bm_unmap_file(bm_map *map);                       /* a zero map is fine */

/* Read a whole file of at most max_bytes into a NUL-terminated string, the caller's to bm_free. path "-" is stdin. */
int  bm_read_file(char **out, size_t *len_bytes, const char *path, size_t max_bytes, bm_error *err);
/* Write through a temporary file beside path, fsync, rename: readers see the old bytes or the new. mode as for open(2). */
int  bm_write_file(const char *path, const void *bytes, size_t len_bytes, unsigned mode, bm_error *err);
/* mkdir -p with mode 0700. */
int  bm_make_dirs(const char *path, bm_error *err);
