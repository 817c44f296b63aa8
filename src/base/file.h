/* file.h - whole files: mapped read-only, read with a cap, written atomically. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

/* What tells a file's contents from another's without reading them: the same id, the same bytes, unless someone cheats. */
typedef struct bm_file_id {
    uint64_t device, inode, size_bytes;
    int64_t mtime_ns;
} bm_file_id;
struct stat;
bm_file_id bm_file_id_of(const struct stat *st);
bool bm_file_id_equal(const bm_file_id *a, const bm_file_id *b);

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
/* All of the bytes to an open file, however many calls it takes: 0, or -1 with errno. */
int  bm_write_all(int fd, const void *bytes, size_t len_bytes);
/* Write through a temporary file beside path, fsync, rename: readers see the old bytes or the new. mode as for open(2). */
int  bm_write_file(const char *path, const void *bytes, size_t len_bytes, unsigned mode, bm_error *err);
/* mkdir -p with mode 0700. */
int  bm_make_dirs(const char *path, bm_error *err);
/* A new empty file beside path, open for writing, under a name ("PATH.tmp.PID.N", into *name) that no other thread or process
 * has: the caller's to rename or unlink. The descriptor, or a negative code. */
int  bm_create_beside(bm_buf *name, const char *path, unsigned mode, bm_error *err);
/* Make a rename last through a power cut. Not all file systems can, and the file is whole either way: no error. */
void bm_sync_directory_of(const char *path);
