/* pack.h - the packed layout of weight matrices: one layout for all instruction sets.
 *
 * A matrix W[N, K] (N rows of outputs, K columns) is cut into tiles of 16 rows; rows are padded to 16 with zeros. A tile holds
 * the heads of its blocks (the scales of the 16 rows, same bits as in the file, structure of arrays), in ascending k, and then,
 * 64-byte aligned, their quants with 4 consecutive k of one row together and the 16 rows beside each other (64 bytes = one
 * k-group of 4 columns at 8 bits; narrower types hold the same order in bit planes). F32 F16 BF16: 16 rows beside each other
 * per column, or per pair of columns. So a pack has the bytes of the GGUF rows (padded to 64 bytes per tile), and dequantising it
 * gives the same f32 bits. The byte layout per type is written down in pack_layout.h. No byte of a pack is ever an index. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "compute/quant.h"

enum { BM_TILE_ROWS = 16, BM_PACK_VERSION = 1 };

typedef struct bm_packed {
    bm_qtype type;
    int64_t n_rows, n_cols;      /* N, K: as in the model, not padded */
    int64_t n_tiles;             /* ceil(N / 16) */
    size_t tile_bytes;           /* of 16 rows x K */
    const unsigned char *data;   /* 64-byte aligned, n_tiles * tile_bytes; borrowed */
} bm_packed;

/* Bytes of the pack of W[n_rows, n_cols]; false when n_cols is no multiple of the type's block, or on overflow. */
bool bm_pack_bytes(bm_qtype type, int64_t n_rows, int64_t n_cols, size_t *out);
/* Describe a pack at `data` (64-byte aligned). Checks what bm_pack_bytes checks. */
int  bm_packed_init(bm_packed *p, bm_qtype type, int64_t n_rows, int64_t n_cols, const void *data, bm_error *err);
/* Pack tiles [tile_begin, tile_end) of `rows` (GGUF rows, row-major, bm_qtype_row_bytes each) into dst (the whole matrix's
 * memory). row_map[N] (NULL: identity) says which source row becomes row r: undoes the permutation of llama-family q and k.
 * Tiles may be packed by several threads at once. */
void bm_pack_tiles(const bm_packed *p, void *dst, const void *rows, const int32_t *row_map, int64_t tile_begin, int64_t tile_end);
/* The same with every value dequantised to f32 first (p->type == BM_F32): the --precision f32 path. */
void bm_pack_tiles_f32(const bm_packed *p, void *dst, bm_qtype from, const void *rows, const int32_t *row_map,
                       int64_t tile_begin, int64_t tile_end);
/* Pack all of rows[N][n_cols] as F32 or BF16, whose pack may have more columns: they are 0. For adapters, whose values change. */
void bm_pack_floats(const bm_packed *p, void *dst, const float *rows, int64_t n_cols);
/* Dequantise row r (0 <= r < N) to out[K]: embeddings, tests. The same bits as the GGUF row. */
void bm_packed_row(const bm_packed *p, int64_t r, float *out);
