/* pack_file.h - packed weights on disk: written once, mapped read-only and shared by every process that runs the model.
 *
 * A reader never learns a shape, an offset or a length from the file: it makes the header that its plan (made from the GGUF's
 * own headers) would give, and takes a file only when it has these very bytes and this very length. The checksums are the only
 * fields that are read. They are compared by bm_pack_verify, through read(2) and not through a mapping, so that checking a pack
 * makes no page of it resident in the process that serves it.
 *
 * Bytes, little-endian, format version 1:
 *      0   8  "baimopk\n"
 *      8   4  format version            12   4  layout version (BM_PACK_VERSION)
 *     16  32  sha256 of the GGUF        48   8  length of the file
 *     56   8  offset of the data        64   8  length of the data
 *     72   4  number of entries         76   4  128, the length of an entry
 *     80   8  mark of the layout        88  32  zero
 *    120   8  checksum of all that is before, and of the entries
 *    128      entries of 128 bytes:
 *              0  64  name, padded with zeros        64   4  type        68   4  zero
 *             72   8  rows       80   8  columns     88   8  offset in the data     96   8  length
 *            104   8  order of rows (0: as in the file)   112   8  checksum of the bytes     120   8  zero
 *  then, at the next multiple of 4 KiB (2 MiB when the data has that many, so that huge pages can map it), the data. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

typedef struct bm_pack_entry {
    char name[65];
    uint32_t type;
    uint64_t n_rows, n_cols, offset, len_bytes, order;
} bm_pack_entry;

typedef struct bm_pack_plan {
    bm_pack_entry *entries;      /* ascending offsets, none overlaps the next */
    size_t n_entries, data_bytes;
    uint64_t layout;             /* a hash of what packing makes of known bytes: another layout makes another */
} bm_pack_plan;

typedef struct bm_pack {
    const unsigned char *data;   /* plan->data_bytes; at least page-aligned */
    void *base;                  /* what to unmap; NULL when it was mapped over memory of the caller's */
    size_t base_bytes;
    bm_file_id id;
} bm_pack;

/* Told now and then while a file is written or checked; false cancels (BM_CANCELED). NULL is fine. */
typedef bool bm_pack_go_on(void *arg);

/* Map the pack at path when it is the one of this plan and this key. BM_NOTFOUND: none there; BM_FORMAT: what differs.
 * over (NULL: anywhere): page-aligned memory of data_bytes of the caller's own mapping, which the file takes the place of in
 * one step; whoever reads it meanwhile sees old bytes or new ones. */
int  bm_pack_open(bm_pack *out, const char *path, const bm_pack_plan *plan, const bm_sha256 *key, void *over, bm_error *err);
void bm_pack_close(bm_pack *pack);
/* Write through a temporary file beside path ("PATH.tmp.…"), fsync, rename. No partial file is left, whatever fails. */
int  bm_pack_write(const char *path, const bm_pack_plan *plan, const bm_sha256 *key, const unsigned char *data,
                   bm_pack_go_on *go_on, void *arg, bm_error *err);
/* As open, without mapping; and every entry's bytes have their checksum. *id (may be NULL) is the file that was read. */
int  bm_pack_verify(const char *path, const bm_pack_plan *plan, const bm_sha256 *key, bm_file_id *id, bm_pack_go_on *go_on,
                    void *arg, bm_error *err);

/* Whether head[0..len) begins a pack of this plan and key, in a file of file_bytes. For tests. */
int  bm_pack_check(const unsigned char *head, size_t len, uint64_t file_bytes, const bm_pack_plan *plan, const bm_sha256 *key,
                   bm_error *err);
/* Length of header and entries, offset of the data, length of the file; false on overflow. */
bool bm_pack_sizes(const bm_pack_plan *plan, size_t *head_bytes, size_t *data_at, size_t *file_bytes);
