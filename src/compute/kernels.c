/* kernels.c - the choice of a table, and the memory layouts that all tables share. */
#include "compute/kernels.h"

#include <string.h>

#include "compute/kernels_tables.h"

const bm_kernels *bm_kernels_get(bm_isa isa)
{
    switch (isa) {
    case BM_ISA_REF: return &bm_kernels_ref;
#if defined(__x86_64__)
    case BM_ISA_AVX2: return &bm_kernels_avx2;
    case BM_ISA_AVXVNNI: return &bm_kernels_avxvnni;
    case BM_ISA_AVX512: return &bm_kernels_avx512;
    case BM_ISA_AVX512BF16: return &bm_kernels_avx512bf16;
#endif
    default: return NULL;
    }
}

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Per token: q, then scale, scaled_sum, offset32 (4 bytes each), sum16 (2 x 2) and offset16 (2 x 4) per block of 32. */
size_t bm_acts_bytes(int64_t max_tokens, int64_t n_cols)
{
    size_t blocks = (size_t)round_up((n_cols + BM_ACT_BLOCK - 1) / BM_ACT_BLOCK, 16);

    return (size_t)max_tokens * ((size_t)round_up(n_cols, 64) + blocks * 24);
}

void bm_acts_place(bm_acts *a, void *memory, int64_t max_tokens, int64_t n_cols)
{
    unsigned char *p = memory;
    size_t blocks;

    a->n_cols = n_cols;
    a->q_stride = round_up(n_cols, 64);
    a->s_stride = round_up((n_cols + BM_ACT_BLOCK - 1) / BM_ACT_BLOCK, 16);
    blocks = (size_t)max_tokens * (size_t)a->s_stride;
    a->q = (int8_t *)p, p += (size_t)max_tokens * (size_t)a->q_stride;
    a->scale = (float *)(void *)p, p += 4 * blocks;
    a->scaled_sum = (float *)(void *)p, p += 4 * blocks;
    a->offset32 = (int32_t *)(void *)p, p += 4 * blocks;
    a->sum16 = (int16_t *)(void *)p, p += 4 * blocks;
    a->offset16 = (int32_t *)(void *)p;
}

bm_kv_type bm_kv_type_k(bm_kv_type type) { return type == BM_KV_INT16_8 ? BM_KV_INT16 : type; }
bm_kv_type bm_kv_type_v(bm_kv_type type) { return type == BM_KV_INT16_8 ? BM_KV_INT8 : type; }

size_t bm_kv_side_bytes(bm_kv_type type, int head_dim)
{
    size_t n = (size_t)head_dim, groups = (n + BM_KV_GROUP - 1) / BM_KV_GROUP;

    switch (type) {
    case BM_KV_F32: return BM_PAGE_TOKENS * 4 * n;
    case BM_KV_F16: return BM_PAGE_TOKENS * 2 * n;
    case BM_KV_INT8: return BM_PAGE_TOKENS * (n + n % 2 + 2 * groups);
    default: return BM_PAGE_TOKENS * (2 * (n + n % 2) + 4);
    }
}

size_t bm_kv_page_bytes(bm_kv_type type, int n_kv_heads, int head_dim_k, int head_dim_v)
{
    return (size_t)n_kv_heads * (bm_kv_side_bytes(bm_kv_type_k(type), head_dim_k) + bm_kv_side_bytes(bm_kv_type_v(type), head_dim_v));
}

void bm_kv_place_k16(void *head_k, int slot, const int16_t *k, float scale, int head_dim)
{
    size_t n_pairs = ((size_t)head_dim + 1) / 2, at = (size_t)slot;
    int16_t *to = head_k;

    ((float *)(void *)(to + 2 * BM_PAGE_TOKENS * n_pairs))[at] = scale;
    to += 2 * (at / 16 * n_pairs * 16 + at % 16);
    for (int d = 0; d < head_dim; d++)
        to[32 * (d / 2) + d % 2] = k[d];
    if (head_dim % 2 != 0)
        to[32 * (head_dim / 2) + 1] = 0;
}

void bm_kv_place_v16(void *head_v, int slot, const int16_t *v, float scale, int head_dim)
{
    size_t n_pairs = ((size_t)head_dim + 1) / 2, at = (size_t)slot;
    int16_t *to = head_v;

    ((float *)(void *)(to + 2 * BM_PAGE_TOKENS * n_pairs))[at] = scale;
    to += 2 * (at / 2 * (size_t)head_dim) + at % 2;
    for (int d = 0; d < head_dim; d++)           /* one by one: the other of the pair may be another thread's */
        to[2 * d] = v[d];
}

int bm_kv_type_find(bm_kv_type *out, const char *name, bm_error *err)
{
    if (strcmp(name, "int16") == 0)
        *out = BM_KV_INT16;
    else if (strcmp(name, "f16") == 0)
        *out = BM_KV_F16;
    else if (strcmp(name, "int8") == 0)
        *out = BM_KV_INT8;
    else
        return bm_fail(err, BM_INVALID, "'%.40s' is no type of KV: use int16, int8 or f16", name);
    return 0;
}
