/* pack.c - from GGUF rows to tiles of 16 rows and back. The byte layout stands in pack_layout.h.
 * Packing only moves bits: first a block of one row becomes codes and scales as small whole numbers, then these are placed.
 * Nothing allocates; tiles are independent, so that threads may pack at once. */
#include "compute/pack.h"
#include "compute/pack_layout.h"
#include "base/mem.h"

#include <string.h>

enum { ROWS = BM_TILE_ROWS };

const int8_t bm_levels_iq4[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
/* e2m1 doubled, with the block's scale halved. */
const int8_t bm_levels_mxfp4[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

static const bm_layout layouts[BM_QTYPE_END] = {
    /*              head low high group  form           zero levels */
    [BM_Q4_0]   = {  32, 4, 0, 256, BM_FORM_D,       8, NULL },
    [BM_Q4_1]   = {  64, 4, 0, 256, BM_FORM_DM,      0, NULL },
    [BM_Q5_0]   = {  32, 4, 1, 320, BM_FORM_D,      16, NULL },
    [BM_Q5_1]   = {  64, 4, 1, 320, BM_FORM_DM,      0, NULL },
    [BM_Q8_0]   = {  32, 8, 0, 512, BM_FORM_D,       0, NULL },
    [BM_Q2_K]   = { 320, 2, 0, 128, BM_FORM_SUBMIN,  0, NULL },
    [BM_Q3_K]   = { 224, 2, 1, 192, BM_FORM_SUB,     4, NULL },
    [BM_Q4_K]   = { 256, 4, 0, 256, BM_FORM_DM,      0, NULL },
    [BM_Q5_K]   = { 256, 4, 1, 320, BM_FORM_DM,      0, NULL },
    [BM_Q6_K]   = { 288, 4, 2, 384, BM_FORM_SUB,    32, NULL },
    [BM_IQ4_NL] = {  32, 4, 0, 256, BM_FORM_D,       0, bm_levels_iq4 },
    [BM_IQ4_XS] = { 128, 4, 0, 256, BM_FORM_D,       0, bm_levels_iq4 },
    [BM_MXFP4]  = {  16, 4, 0, 256, BM_FORM_D,       0, bm_levels_mxfp4 },
    [BM_IQ1_S]  = {  96, 2, 1, 192, BM_FORM_D,       0, bm_levels_iq1 },
    [BM_IQ1_M]  = { 160, 2, 1, 192, BM_FORM_SUB,     0, bm_levels_iq1 },
    [BM_IQ2_XXS] = { 96, 2, 1, 192, BM_FORM_D,       0, bm_levels_iq2 },
    [BM_IQ2_XS] = { 160, 2, 1, 192, BM_FORM_SUB,     0, bm_levels_iq2 },
    [BM_IQ2_S]  = { 160, 2, 1, 192, BM_FORM_SUB,     0, bm_levels_iq2 },
    [BM_IQ3_XXS] = { 96, 4, 0, 256, BM_FORM_D,       0, bm_levels_iq3xxs },
    [BM_IQ3_S]  = {  96, 4, 0, 256, BM_FORM_D,       0, bm_levels_iq3s },
    [BM_TQ1_0]  = {  32, 2, 0, 128, BM_FORM_D,       1, NULL },
    [BM_TQ2_0]  = {  32, 2, 0, 128, BM_FORM_D,       1, NULL },
    [BM_Q2_0]   = {  32, 2, 0, 128, BM_FORM_D,       1, NULL },
    [BM_Q1_0]   = {  32, 0, 1,  64, BM_FORM_D,       0, bm_levels_sign },
    [BM_NVFP4]  = {  64, 4, 0, 256, BM_FORM_D16,     0, bm_levels_mxfp4 },
};

const bm_layout *bm_layout_of(bm_qtype type) { return &layouts[type]; }

static size_t round64(size_t n) { return (n + 63) & ~(size_t)63; }

static bool tile_size(bm_qtype type, int64_t n_cols, size_t *quants, size_t *bytes)
{
    const bm_qtraits *t = bm_qtype_traits((uint32_t)type);
    size_t row, all;

    if (t == NULL || n_cols <= 0 || !bm_qtype_row_bytes(type, (uint64_t)n_cols, &row) || !bm_mul_size(row, ROWS, &all) ||
        all > SIZE_MAX / 4)                                     /* a pack has at most 2.1 times the bytes of the rows */
        return false;
    *quants = t->quantized ? round64((size_t)(n_cols / t->block_len) * layouts[type].head_bytes) : 0;
    *bytes = t->quantized ? *quants + (size_t)(n_cols / BM_GROUP) * layouts[type].group_bytes : round64(all);
    return true;
}

size_t bm_tile_quants(const bm_packed *p)
{
    size_t quants, bytes;

    BM_CHECK(tile_size(p->type, p->n_cols, &quants, &bytes));
    return quants;
}

bool bm_pack_bytes(bm_qtype type, int64_t n_rows, int64_t n_cols, size_t *out)
{
    size_t quants, tile;

    if (n_rows <= 0 || n_rows > INT64_MAX - ROWS || !tile_size(type, n_cols, &quants, &tile))
        return false;
    return bm_mul_size((size_t)((n_rows + ROWS - 1) / ROWS), tile, out);
}

int bm_packed_init(bm_packed *p, bm_qtype type, int64_t n_rows, int64_t n_cols, const void *data, bm_error *err)
{
    size_t all, quants, tile;

    memset(p, 0, sizeof *p);
    if (!bm_pack_bytes(type, n_rows, n_cols, &all) || !tile_size(type, n_cols, &quants, &tile))
        return bm_fail(err, BM_FORMAT, "%s matrix of %lld x %lld cannot be packed: its columns are no multiple of the block",
                       bm_qtype_name((uint32_t)type), (long long)n_rows, (long long)n_cols);
    *p = (bm_packed){ .type = type, .n_rows = n_rows, .n_cols = n_cols, .n_tiles = (n_rows + ROWS - 1) / ROWS,
                      .tile_bytes = tile, .data = data };
    return 0;
}

static uint16_t read_u16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }

/* n bytes (a multiple of 8): out = bytes >> shift & mask, eight at a time. */
static inline void read_field(uint8_t *out, const unsigned char *bytes, int n, int shift, unsigned mask)
{
    for (int i = 0; i < n; i += 8) {
        uint64_t x;
        memcpy(&x, bytes + i, 8);
        x = x >> shift & 0x0101010101010101u * mask;
        memcpy(out + i, &x, 8);
    }
}

/* The same, or-ed in shifted left by `to`. */
static inline void add_field(uint8_t *out, const unsigned char *bytes, int n, int shift, unsigned mask, int to)
{
    for (int i = 0; i < n; i += 8) {
        uint64_t x, y;
        memcpy(&x, bytes + i, 8);
        memcpy(&y, out + i, 8);
        y |= (x >> shift & 0x0101010101010101u * mask) << to;
        memcpy(out + i, &y, 8);
    }
}

static void read_nibbles(const unsigned char *q, uint8_t *code)
{
    read_field(code, q, 16, 0, 15);
    read_field(code + 16, q, 16, 4, 15);
}

/* Bit 4 of 32 codes from 32 bits: a multiplication spreads four bits over four bytes. */
static void read_fifths(const unsigned char *bits, uint8_t *code)
{
    for (int i = 0; i < 8; i++) {
        uint32_t x, four = bits[i / 2] >> 4 * (i & 1) & 15;
        memcpy(&x, code + 4 * i, 4);
        x |= (four * 0x00204081u & 0x01010101u) << 4;
        memcpy(code + 4 * i, &x, 4);
    }
}

/* Blocks of 32. */
static void read_small(bm_qtype type, const unsigned char *b, bm_raw_block *r)
{
    r->d = type == BM_MXFP4 ? b[0] : read_u16(b);
    switch (type) {
    case BM_Q4_1: r->m = read_u16(b + 2), read_nibbles(b + 4, r->code); break;
    case BM_Q5_0: read_nibbles(b + 6, r->code), read_fifths(b + 2, r->code); break;
    case BM_Q5_1: r->m = read_u16(b + 2), read_nibbles(b + 8, r->code), read_fifths(b + 4, r->code); break;
    case BM_Q8_0: memcpy(r->code, b + 2, 32); break;
    case BM_MXFP4: read_nibbles(b + 1, r->code); break;
    default: read_nibbles(b + 2, r->code); break;            /* Q4_0, IQ4_NL */
    }
}

static void read_q2_k(const unsigned char *b, bm_raw_block *r)
{
    r->d = read_u16(b + 80), r->m = read_u16(b + 82);
    memcpy(r->x, b, 16);
    for (int g = 0; g < 8; g++)
        read_field(r->code + 32 * g, b + 16 + 32 * (g / 4), 32, 2 * (g & 3), 3);
}

static void read_q3_k(const unsigned char *b, bm_raw_block *r)
{
    const unsigned char *s = b + 96;

    r->d = read_u16(b + 108);
    for (int i = 0; i < 16; i++)
        r->x[i] = (uint8_t)((s[i & 7] >> 4 * (i / 8) & 15) | (s[8 + (i & 3)] >> 2 * (i / 4) & 3) << 4);
    for (int g = 0; g < 8; g++) {
        read_field(r->code + 32 * g, b + 32 + 32 * (g / 4), 32, 2 * (g & 3), 3);
        add_field(r->code + 32 * g, b, 32, g, 1, 2);
    }
}

static void read_q45_k(const unsigned char *b, bool fifth, bm_raw_block *r)
{
    const unsigned char *s = b + 4, *q = b + (fifth ? 48 : 16);

    r->d = read_u16(b), r->m = read_u16(b + 2);
    for (int j = 0; j < 8; j++) {
        r->x[j] = j < 4 ? s[j] & 63 : (uint8_t)((s[j + 4] & 15) | s[j - 4] >> 6 << 4);
        r->y[j] = j < 4 ? s[j + 4] & 63 : (uint8_t)(s[j + 4] >> 4 | s[j] >> 6 << 4);
        read_field(r->code + 32 * j, q + 32 * (j / 2), 32, 4 * (j & 1), 15);
        if (fifth)
            add_field(r->code + 32 * j, b + 16, 32, j, 1, 4);
    }
}

static void read_q6_k(const unsigned char *b, bm_raw_block *r)
{
    r->d = read_u16(b + 208);
    memcpy(r->x, b + 192, 16);
    for (int g = 0; g < 8; g++) {
        int half = g / 4, quarter = g & 3;
        read_field(r->code + 32 * g, b + 64 * half + 32 * (quarter & 1), 32, 4 * (quarter / 2), 15);
        add_field(r->code + 32 * g, b + 128 + 32 * half, 32, 2 * quarter, 3, 4);
    }
}

static void read_iq4_xs(const unsigned char *b, bm_raw_block *r)
{
    int tops = read_u16(b + 2);

    r->d = read_u16(b);
    for (int j = 0; j < 8; j++) {
        r->x[j] = (uint8_t)((b[4 + j / 2] >> 4 * (j & 1) & 15) | (tops >> 2 * j & 3) << 4);
        read_nibbles(b + 8 + 16 * j, r->code + 32 * j);
    }
}

/* Sets what place_head and place_codes use of the type. */
static void read_block(bm_qtype type, const unsigned char *b, bm_raw_block *r)
{
    const bm_small_type *t = bm_small_type_of(type);

    if (t != NULL) {
        t->read(b, r);
        return;
    }
    switch (type) {
    case BM_Q2_K: read_q2_k(b, r); break;
    case BM_Q3_K: read_q3_k(b, r); break;
    case BM_Q4_K: read_q45_k(b, false, r); break;
    case BM_Q5_K: read_q45_k(b, true, r); break;
    case BM_Q6_K: read_q6_k(b, r); break;
    case BM_IQ4_XS: read_iq4_xs(b, r); break;
    default: read_small(type, b, r); break;
    }
}

static void write_u16(unsigned char *p, uint16_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

/* Place two 6-bit numbers per group, see pack_layout.h. */
static void place_pairs(unsigned char *h, int row, const uint8_t *x, const uint8_t *y, int step)
{
    for (int g = 0; g < 8; g++) {
        int vx = x[step * g], vy = y[step * g];
        h[16 * g + row] = (unsigned char)((vx & 15) | (vy & 15) << 4);
        h[128 + 16 * (g / 2) + row] |= (unsigned char)((vx >> 4 | vy >> 4 << 2) << 4 * (g & 1));
    }
}

static void place_head(bm_qtype type, unsigned char *h, int row, const bm_raw_block *r)
{
    if (type == BM_MXFP4) {
        h[row] = (unsigned char)r->d;
        return;
    }
    if (type == BM_NVFP4) {
        for (int i = 0; i < 4; i++)
            h[16 * i + row] = r->x[i];
        return;
    }
    write_u16(h + 2 * row, r->d);
    switch (type) {
    case BM_Q4_1: case BM_Q5_1:
        write_u16(h + 32 + 2 * row, r->m);
        break;
    case BM_Q2_K:
        write_u16(h + 32 + 2 * row, r->m);
        for (int i = 0; i < 16; i++)
            h[64 + 16 * i + row] = r->x[i];
        break;
    case BM_Q3_K:
        place_pairs(h + 32, row, r->x, r->x + 1, 2);
        break;
    case BM_Q4_K: case BM_Q5_K:
        write_u16(h + 32 + 2 * row, r->m);
        place_pairs(h + 64, row, r->x, r->y, 1);
        break;
    case BM_Q6_K:
        for (int i = 0; i < 16; i++)
            h[32 + 16 * i + row] = r->x[i];
        break;
    case BM_IQ4_XS:
        for (int g = 0; g < 8; g++) {
            h[32 + 16 * (g / 2) + row] |= (unsigned char)((r->x[g] & 15) << 4 * (g & 1));
            h[96 + 16 * (g / 4) + row] |= (unsigned char)(r->x[g] >> 4 << 2 * (g & 3));
        }
        break;
    case BM_IQ1_S: case BM_IQ2_XXS: case BM_IQ3_XXS: case BM_IQ3_S:
        for (int i = 0; i < 4; i++)
            h[32 + 16 * i + row] = (unsigned char)(r->x[2 * i] | r->x[2 * i + 1] << 4);
        break;
    case BM_IQ1_M: case BM_IQ2_XS: case BM_IQ2_S:
        for (int i = 0; i < 8; i++)
            h[32 + 16 * i + row] = (unsigned char)(r->x[2 * i] | r->x[2 * i + 1] << 4);
        break;
    default: break;
    }
}

static inline void or_u32(unsigned char *p, uint32_t v)
{
    uint32_t x;

    memcpy(&x, p, 4);
    x |= v;
    memcpy(p, &x, 4);
}

/* Place the 32 codes of one row in the planes of a zeroed group: four codes of a k-group at a time, as the bytes of a word. */
static void place_codes(const bm_layout *l, unsigned char *q, int row, const uint8_t *code)
{
    unsigned char *at = q + 4 * row, *high = at + 64 * l->low_bits;
    uint32_t c[8], bits = 0;

    memcpy(c, code, sizeof c);
    if (l->low_bits == 8)
        for (int j = 0; j < 8; j++)
            memcpy(at + 64 * j, &c[j], 4);
    else if (l->low_bits == 4)
        for (int v = 0; v < 4; v++)
            or_u32(at + 64 * v, (c[v] & 0x0F0F0F0Fu) | (c[v + 4] & 0x0F0F0F0Fu) << 4);
    else if (l->low_bits == 2)
        for (int j = 0; j < 8; j++)
            or_u32(at + 64 * (j & 1), (c[j] & 0x03030303u) << 2 * (j >> 1));
    for (int j = 0; j < 8 && l->high_bits != 0; j++) {
        uint32_t top = c[j] >> l->low_bits;
        if (l->high_bits == 1)
            bits |= (top & 0x01010101u) << j;
        else
            or_u32(high + 64 * (j & 1), (top & 0x03030303u) << 2 * (j >> 1));
    }
    if (l->high_bits == 1)
        or_u32(high, bits);
}

static int get_code(const bm_layout *l, const unsigned char *q, int row, int k)
{
    const unsigned char *high = q + 64 * l->low_bits;
    int j = k >> 2, at = 4 * row + (k & 3), c;

    if (l->low_bits == 8)
        return (int8_t)q[64 * j + at];
    c = l->low_bits == 4 ? q[64 * (j & 3) + at] >> (j & 4) & 15 : l->low_bits == 2 ? q[64 * (j & 1) + at] >> 2 * (j >> 1) & 3 : 0;
    if (l->high_bits == 1)
        c |= (high[at] >> j & 1) << l->low_bits;
    else if (l->high_bits == 2)
        c |= (high[64 * (j & 1) + at] >> 2 * (j >> 1) & 3) << l->low_bits;
    return c;
}

static float half_at(const unsigned char *p, int i) { return bm_f16_to_f32(read_u16(p + 2 * i)); }

/* Half of 2^(e - 127), exact: subnormal for e = 0 and 1. */
static float half_of_e8m0(unsigned e)
{
    uint32_t bits = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Scales of row r, group g of a super-block (or of the only one) from the head h. */
static void unpack_scales(bm_qtype type, const unsigned char *h, int g, int r, bm_group *out)
{
    int a = 0, b = 0, x, y;

    if (type == BM_NVFP4) {
        out->d[r] = bm_half_of_ue4m3(h[32 * g + r]);
        out->m[r] = bm_half_of_ue4m3(h[32 * g + 16 + r]);
        return;
    }
    out->d[r] = type == BM_MXFP4 ? half_of_e8m0(h[r]) : half_at(h, r);
    out->m[r] = 0;
    if (type == BM_Q4_K || type == BM_Q5_K || type == BM_Q3_K) {
        const unsigned char *pairs = h + (type == BM_Q3_K ? 32 : 64);
        a = pairs[16 * g + r], b = pairs[128 + 16 * (g / 2) + r] >> 4 * (g & 1);
    }
    x = (a & 15) | (b & 3) << 4, y = a >> 4 | (b & 12) << 2;
    switch (type) {
    case BM_Q4_1: case BM_Q5_1:
        out->m[r] = half_at(h + 32, r);
        break;
    case BM_Q4_K: case BM_Q5_K:
        out->d[r] *= (float)x;
        out->m[r] = -(half_at(h + 32, r) * (float)y);
        break;
    case BM_Q3_K:
        out->sub[r][0] = x - 32, out->sub[r][1] = y - 32;
        break;
    case BM_Q2_K:
        out->m[r] = half_at(h + 32, r);
        for (int i = 0; i < 2; i++) {
            int s = h[64 + 16 * (2 * g + i) + r];
            out->sub[r][i] = s & 15, out->min[r][i] = s >> 4;
        }
        break;
    case BM_Q6_K:
        for (int i = 0; i < 2; i++)
            out->sub[r][i] = (int8_t)h[32 + 16 * (2 * g + i) + r];
        break;
    case BM_IQ4_XS:
        a = h[32 + 16 * (g / 2) + r] >> 4 * (g & 1) & 15, b = h[96 + 16 * (g / 4) + r] >> 2 * (g & 3) & 3;
        out->d[r] *= (float)((a | b << 4) - 32);
        break;
    case BM_IQ1_S: case BM_IQ2_XXS: case BM_IQ3_XXS: case BM_IQ3_S:
        a = h[32 + 16 * (g / 2) + r] >> 4 * (g & 1) & 15;
        out->d[r] *= (float)(2 * a + 1) * bm_small_type_of(type)->factor;
        break;
    case BM_IQ1_M: case BM_IQ2_XS: case BM_IQ2_S:
        a = h[32 + 16 * g + r];
        out->sub[r][0] = 2 * (a & 15) + 1, out->sub[r][1] = 2 * (a >> 4) + 1;
        out->d[r] *= bm_small_type_of(type)->factor;
        break;
    default: break;
    }
}

void bm_group_unpack(const bm_packed *p, const unsigned char *tile, int64_t g, int row_begin, int row_end, bm_group *out)
{
    const bm_layout *l = &layouts[p->type];
    int per_block = bm_qtype_traits((uint32_t)p->type)->block_len / BM_GROUP;
    const unsigned char *head = tile + (size_t)(g / per_block) * l->head_bytes;
    const unsigned char *q = tile + bm_tile_quants(p) + (size_t)g * l->group_bytes;

    for (int r = row_begin; r < row_end; r++) {
        unpack_scales(p->type, head, (int)(g % per_block), r, out);
        for (int k = 0; k < BM_GROUP; k++) {
            int c = get_code(l, q, r, k);
            out->level[r][k] = (int8_t)(l->levels != NULL ? l->levels[c] : c - l->zero);
        }
    }
}

/* Column k, row r of a float tile. */
static size_t float_at(bm_qtype type, int64_t n_cols, int64_t k, int r)
{
    if (type == BM_F32)
        return (size_t)(64 * k + 4 * r);
    if (type == BM_BF16 && (k | 1) < n_cols)
        return (size_t)(64 * (k >> 1) + 4 * r + 2 * (k & 1));
    return (size_t)(32 * k + 2 * r);
}

static void pack_row(const bm_packed *p, unsigned char *tile, int r, const unsigned char *row)
{
    const bm_qtraits *t = bm_qtype_traits((uint32_t)p->type);
    const bm_layout *l = &layouts[p->type];
    unsigned char *quants;
    bm_raw_block raw;

    if (!t->quantized) {
        for (int64_t k = 0; k < p->n_cols; k++)
            memcpy(tile + float_at(p->type, p->n_cols, k, r), row + k * t->block_bytes, (size_t)t->block_bytes);
        return;
    }
    quants = tile + bm_tile_quants(p);
    for (int64_t b = 0; b < p->n_cols / t->block_len; b++) {
        read_block(p->type, row + b * t->block_bytes, &raw);
        place_head(p->type, tile + (size_t)b * l->head_bytes, r, &raw);
        for (int g = 0; g < t->block_len / BM_GROUP; g++, quants += l->group_bytes)
            place_codes(l, quants, r, raw.code + BM_GROUP * g);
    }
}

void bm_pack_tiles(const bm_packed *p, void *dst, const void *rows, const int32_t *row_map, int64_t tile_begin, int64_t tile_end)
{
    size_t row_bytes;

    BM_CHECK(bm_qtype_row_bytes(p->type, (uint64_t)p->n_cols, &row_bytes));
    for (int64_t t = tile_begin; t < tile_end; t++) {
        unsigned char *tile = (unsigned char *)dst + (size_t)t * p->tile_bytes;
        memset(tile, 0, p->tile_bytes);
        for (int r = 0; r < ROWS && t * ROWS + r < p->n_rows; r++) {
            int64_t from = row_map != NULL ? row_map[t * ROWS + r] : t * ROWS + r;
            pack_row(p, tile, r, (const unsigned char *)rows + (size_t)from * row_bytes);
        }
    }
}

/* Nearest, ties to even; a NaN stays one. In the loop below a call for each value would be most of the time. */
static uint16_t round_bf16(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void bm_pack_floats(const bm_packed *p, void *dst, const float *rows, int64_t n_cols)
{
    BM_CHECK((p->type == BM_F32 || p->type == BM_BF16) && n_cols <= p->n_cols);
    memset(dst, 0, (size_t)p->n_tiles * p->tile_bytes);
    for (int64_t row = 0; row < p->n_rows; row++, rows += n_cols) {
        unsigned char *tile = (unsigned char *)dst + (size_t)(row / ROWS) * p->tile_bytes;
        int r = (int)(row % ROWS);
        for (int64_t k = 0; k < n_cols; k++) {
            unsigned char *at = tile + float_at(p->type, p->n_cols, k, r);
            uint16_t half = round_bf16(rows[k]);
            if (p->type == BM_F32)
                memcpy(at, &rows[k], sizeof rows[k]);
            else
                memcpy(at, &half, sizeof half);
        }
    }
}

void bm_pack_tiles_f32(const bm_packed *p, void *dst, bm_qtype from, const void *rows, const int32_t *row_map,
                       int64_t tile_begin, int64_t tile_end)
{
    const bm_qtraits *t = bm_qtype_traits((uint32_t)from);
    size_t row_bytes;

    BM_CHECK(p->type == BM_F32 && t != NULL && bm_qtype_row_bytes(from, (uint64_t)p->n_cols, &row_bytes));
    for (int64_t tile = tile_begin; tile < tile_end; tile++) {
        unsigned char *out = (unsigned char *)dst + (size_t)tile * p->tile_bytes;
        memset(out, 0, p->tile_bytes);
        for (int r = 0; r < ROWS && tile * ROWS + r < p->n_rows; r++) {
            int64_t row = row_map != NULL ? row_map[tile * ROWS + r] : tile * ROWS + r;
            const unsigned char *src = (const unsigned char *)rows + (size_t)row * row_bytes;
            for (int64_t k = 0; k < p->n_cols; k += BM_SUPER) {
                float chunk[BM_SUPER];
                int64_t n = p->n_cols - k < BM_SUPER ? p->n_cols - k : BM_SUPER;
                t->dequantize(src + (size_t)(k / t->block_len) * (size_t)t->block_bytes, chunk, (size_t)n);
                for (int64_t i = 0; i < n; i++)
                    memcpy(out + 64 * (k + i) + 4 * r, &chunk[i], 4);
            }
        }
    }
}

/* The values of row r of an unpacked group. */
static void quantized_values(const bm_group *g, bm_form form, int r, float *out)
{
    for (int k = 0; k < BM_GROUP; k++) {
        int half = k / 16;
        float v = (float)g->level[r][k];
        if (form == BM_FORM_D16)
            out[k] = (half == 0 ? g->d[r] : g->m[r]) * v;
        else if (form == BM_FORM_D || form == BM_FORM_DM)
            out[k] = form == BM_FORM_D ? g->d[r] * v : g->d[r] * v + g->m[r];
        else
            out[k] = g->d[r] * (float)g->sub[r][half] * v - (form == BM_FORM_SUBMIN ? g->m[r] * (float)g->min[r][half] : 0.0f);
    }
}

static float float_value(const bm_packed *p, const unsigned char *tile, int64_t k, int r)
{
    const unsigned char *at = tile + float_at(p->type, p->n_cols, k, r);
    float v;

    if (p->type != BM_F32)
        return p->type == BM_F16 ? bm_f16_to_f32(read_u16(at)) : bm_bf16_to_f32(read_u16(at));
    memcpy(&v, at, 4);
    return v;
}

void bm_group_values(const bm_packed *p, const unsigned char *tile, int64_t g, int row_begin, int row_end, float (*out)[BM_GROUP])
{
    bm_group unpacked;

    if (bm_qtype_traits((uint32_t)p->type)->quantized) {
        bm_group_unpack(p, tile, g, row_begin, row_end, &unpacked);
        for (int r = row_begin; r < row_end; r++)
            quantized_values(&unpacked, (bm_form)layouts[p->type].form, r, out[r - row_begin]);
        return;
    }
    for (int r = row_begin; r < row_end; r++)
        for (int k = 0; k < BM_GROUP; k++)
            out[r - row_begin][k] = BM_GROUP * g + k < p->n_cols ? float_value(p, tile, BM_GROUP * g + k, r) : 0.0f;
}

void bm_packed_row(const bm_packed *p, int64_t r, float *out)
{
    const unsigned char *tile = p->data + (size_t)(r / ROWS) * p->tile_bytes;
    int i = (int)(r % ROWS);
    float group[1][BM_GROUP];

    for (int64_t k = 0; k < p->n_cols; k += BM_GROUP) {
        int64_t n = p->n_cols - k < BM_GROUP ? p->n_cols - k : BM_GROUP;
        bm_group_values(p, tile, k / BM_GROUP, i, i + 1, group);
        memcpy(out + k, group[0], (size_t)n * sizeof *out);
    }
}
