/* packs.h - packed weights on disk, as commands use them. */
#pragma once
#include <stdbool.h>
#include "engine/packs.h"
#include "platform/shelf.h"

#define CLI_NO_PACK_HELP "keep packed weights in memory only, not in packs/ of the\nhome directory"

/* HOME/packs, the caller's to bm_free; NULL when no_pack, when BAIMO_NO_PACK says so, and when there is no home: in memory only. */
char *cli_pack_dir(bool no_pack);
/* bm_model_open on the pack of the file; a missing one is written and a new one is checked before this returns. What went wrong
 * with packs is said on stderr; only the model itself can fail. known (NULL is fine): what the shelf says of the file. */
int  cli_model_open(bm_model **out, const bm_gguf *gguf, const bm_model_options *options, const bm_known_file *known, bool no_pack,
                    bm_team *team, bm_error *err);
/* Bytes of the pack of a model, 0: none. */
uint64_t cli_pack_bytes(const char *sha256_hex);
/* Delete the pack of a model that left the shelf, unless another row has the same file. */
int  cli_packs_drop(bm_store *store, const char *sha256_hex, bm_error *err);
int  cmd_shelf_gc(int argc, char **argv);
int  cmd_shelf_verify(int argc, char **argv);
