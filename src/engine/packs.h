/* packs.h - packed weights kept on disk: where the pack of a model is, what is known of files, and who writes and checks packs.
 *
 * A directory of packs (mode 0700) holds SHA256-vN.pack (sha256 of the GGUF, version of the layout), `lock`, which whoever writes
 * or cleans holds (so a temporary file is a crashed writer's while one holds it), and `known`, lines of
 *     file|pack DEVICE INODE SIZE MTIME_NS SHA256
 * which say that a GGUF has this sha256, or that the checksums of this pack file were compared and are right. A line that is lost
 * or damaged costs time only. */
#pragma once
#include <stdbool.h>
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "format/gguf.h"
#include "model/model.h"

typedef struct bm_known_file { bm_file_id id; bm_sha256 sha256; } bm_known_file;

/* The pack of one GGUF. */
typedef struct bm_pack_spot {
    char *dir, *gguf_path;
    bm_file_id file;             /* the GGUF that was opened */
    bool known;                  /* its sha256 is: then key and path are set */
    bm_sha256 key;
    char *path;
} bm_pack_spot;

/* hint: what the caller knows of a file, NULL or perhaps of another one. Hashes nothing. */
int  bm_pack_spot_init(bm_pack_spot *s, const char *dir, const bm_gguf *gguf, const bm_known_file *hint, bm_error *err);
void bm_pack_spot_done(bm_pack_spot *s);
/* Into the options of bm_model_open: nothing when the sha256 is not known yet. */
void bm_pack_spot_options(const bm_pack_spot *s, bm_model_options *options);
/* After the model is open: write its pack when it is not mapped from one (the GGUF is hashed first, when need be), else compare
 * the checksums when nobody has yet. 0: done, or canceled by go_on; 1: the pack that the model is mapped from is damaged: it was
 * deleted, err says why, and the model must not be used any more; negative: the pack could not be kept, all else is well. */
int  bm_pack_spot_keep(bm_pack_spot *s, bm_model *model, bool (*go_on)(void *arg), void *arg, bm_error *err);

/* As keep, in a thread of the lowest priority. told (NULL is fine) gets its result once when it is not 0, from that thread. */
typedef struct bm_keeper bm_keeper;
int  bm_keeper_start(bm_keeper **out, bm_pack_spot *s, bm_model *model, void (*told)(void *arg, int rc, const bm_error *why), void *arg,
                     bm_error *err);       /* takes *s over, on failure too */
void bm_keeper_wait(bm_keeper *keeper);      /* until it is done; NULL is fine */
/* finish: wait until it is done. Else some seconds are enough for a pack that is being written, and a check is canceled at once. */
void bm_keeper_stop(bm_keeper *keeper, bool finish);

/* ---- the directory ---- */

/* "DIR/SHA256-vN.pack", the caller's to bm_free; NULL: no memory. */
char *bm_packs_path(const char *dir, const bm_sha256 *key);
bool bm_packs_recall(const char *dir, const char *kind, const bm_file_id *id, bm_sha256 *out);
void bm_packs_remember(const char *dir, const char *kind, const bm_file_id *id, const bm_sha256 *sha256);
/* Delete each pack for whose sha256 keep() is false, all of other versions, and what crashed writers left. Programs that run go
 * on: their mapping stays. *n and *freed_bytes (NULL is fine) are added to. A missing directory is no error. */
int  bm_packs_sweep(const char *dir, bool (*keep)(void *arg, const char hex[65]), void *arg, size_t *n, uint64_t *freed_bytes, bm_error *err);
bool bm_sha256_parse(bm_sha256 *out, const char *hex);
