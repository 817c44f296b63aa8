/* pack_layout.h - the byte layout of packed weights, for pack.c and the kernel files only.
 *
 * A tile is 16 rows x K columns. It holds the heads (scales) of its blocks in ascending k, then, from the next multiple of 64
 * bytes, their quants in ascending k; a tile is padded to a multiple of 64 bytes. "x[16]" is one value for each of the 16 rows.
 *
 * Quants come in groups of 32 columns. Inside a group, k-group j (0..7) is columns 4j..4j+3, and its 64 bytes in the order
 * "byte 4r + i is row r, column 4j + i" are called the codes of j. Planes of a group, in this order:
 *   low 8 bits   512 bytes: the codes of j = 0..7, signed
 *   low 4 bits   256 bytes: vector v (0..3): low nibbles are the codes of j = v, high nibbles those of j = v + 4
 *   low 2 bits   128 bytes: vector v (0..1): bits 2c, 2c + 1 are the codes of j = v + 2c, c = 0..3
 *   high 1 bit    64 bytes: bit j is the next bit of the codes of j
 *   high 2 bits  128 bytes: as low 2 bits, for the two bits above
 * Heads by type (f16 and bytes as in the file), and the type's planes:
 *   Q4_0 IQ4_NL      d[16] f16                                            32   low 4
 *   Q4_1             d[16] f16, m[16] f16                                 64   low 4
 *   Q5_0             d[16] f16                                            32   low 4, high 1
 *   Q5_1             d[16] f16, m[16] f16                                 64   low 4, high 1
 *   Q8_0             d[16] f16                                            32   low 8
 *   MXFP4            e[16] u8                                             16   low 4
 *   Q2_K             d[16] f16, dmin[16] f16, s[16][16]                  320   low 2           s: scale | min << 4, per 16 columns
 *   Q3_K             d[16] f16, a[8][16], b[4][16]                       224   low 2, high 1
 *   Q4_K             d[16] f16, dmin[16] f16, a[8][16], b[4][16]         256   low 4
 *   Q5_K             as Q4_K                                             256   low 4, high 1
 *   Q6_K             d[16] f16, s[16][16] i8                             288   low 4, high 2   s: per 16 columns
 *   IQ4_XS           d[16] f16, a[4][16], b[2][16]                       128   low 4
 *   IQ1_S IQ2_XXS    d[16] f16, s[4][16]                                  96   low 2, high 1   s: nibble g % 2 of s[g / 2] for group g
 *   IQ3_XXS IQ3_S    as IQ1_S                                             96   low 4
 *   IQ1_M IQ2_XS IQ2_S  d[16] f16, s[8][16]                              160   low 2, high 1   s[g]: low nibble first 16 columns, high the rest
 *   TQ1_0 TQ2_0 Q2_0 d[16] f16                                            32   low 2
 *   Q1_0             d[16] f16                                            32   high 1
 *   NVFP4            s[4][16] ue4m3                                       64   low 4           s: per 16 columns
 * The codes of the IQ1, IQ2 and IQ3 types are their grids' values, with the sign above (IQ1: the sign of delta), not the indices: a
 * look-up in a grid of 2 to 16 KB for each eight weights would cost more than all else that a product does, while 8 or 16 levels are
 * one shuffle, so that these types too run at the speed of the others. The price is bytes: 3.2 to 3.4 bits a weight for IQ1 and IQ2
 * (1.6 to 2.6 in the file), 4.2 for IQ3 (3.1 to 3.4), 2.1 for TQ1_0 (1.7).
 * Two 6-bit numbers X, Y for each group g of 32 columns (Q4_K, Q5_K: scale, min; Q3_K: the scales of the two halves, + 32):
 *   a[g] = X & 15 | (Y & 15) << 4;  the nibble g % 2 of b[g / 2] = X >> 4 | Y >> 4 << 2.
 * One 6-bit number X for each group (IQ4_XS: scale + 32): the nibble g % 2 of a[g / 2] = X & 15; bits 2(g % 4) of b[g / 4] = X >> 4.
 * F32, F16: 16 rows beside each other per column. BF16: pairs of columns, (k, k + 1) of a row beside each other, 16 rows; an odd
 * last column alone. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "compute/pack.h"
#include "compute/quant_blocks.h"

enum { BM_GROUP = 32, BM_SUPER = 256 };

/* What a group's values are: d * level; d * level + m; d of 16 columns * level; d * whole sub-scale of 16 * level; the same less a
 * minimum. */
typedef enum bm_form { BM_FORM_D, BM_FORM_DM, BM_FORM_D16, BM_FORM_SUB, BM_FORM_SUBMIN } bm_form;

typedef struct bm_layout {
    uint16_t head_bytes;         /* per block of block_len columns */
    uint8_t low_bits, high_bits;
    uint16_t group_bytes;        /* planes of 32 columns */
    uint8_t form;                /* bm_form */
    int8_t zero;                 /* level = code - zero; codes of tables and of 8 bits: 0 */
    const int8_t *levels;        /* table of 16 for codes of up to 4 bits, or NULL */
} bm_layout;

extern const int8_t bm_levels_iq4[16], bm_levels_mxfp4[16];

/* The layout of a quantised type. */
const bm_layout *bm_layout_of(bm_qtype type);
/* Where in a tile the quants of group 0 begin. */
size_t bm_tile_quants(const bm_packed *p);

/* 32 columns of a tile, as the reference sees them. */
typedef struct bm_group {
    int8_t level[16][BM_GROUP];
    float d[16];                 /* FORM_D, FORM_DM: of the whole group, sub-scale included; FORM_D16: of the first 16 columns; FORM_SUB*: of the
                                    super-block */
    float m[16];                 /* FORM_DM: added; FORM_D16: d of the second 16 columns; FORM_SUBMIN: dmin */
    int sub[16][2], min[16][2];  /* FORM_SUB*: per 16 columns */
} bm_group;
/* Unpack rows [row_begin, row_end) of group g (columns 32g..) of the tile at `tile`. */
void bm_group_unpack(const bm_packed *p, const unsigned char *tile, int64_t g, int row_begin, int row_end, bm_group *out);
/* The values of rows [row_begin, row_end) of columns 32g.. of the tile at `tile`, of any type, float ones too: the f32 bits of the
 * GGUF rows; columns from K on are 0. Row row_begin goes to out[0]. */
void bm_group_values(const bm_packed *p, const unsigned char *tile, int64_t g, int row_begin, int row_end, float (*out)[BM_GROUP]);
