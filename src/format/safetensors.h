/* safetensors.h - files of named tensors (github.com/huggingface/safetensors, "Format"), mapped and never trusted.
 *
 * Bytes: u64 length of the header, little-endian; the header, a JSON object of "name": {"dtype", "shape", "data_offsets"} and
 * perhaps "__metadata__": {string: string}; then the data, to the end of the file. open() checks the header's length, its JSON,
 * every dtype, shape and offset, that tensors neither overlap nor leave gaps, and that each has as many bytes as its shape says.
 * Owns the mapping. Read-only after open: any thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "compute/quant.h"

enum { BM_SAFETENSORS_DIMS = 8 };

typedef struct bm_safetensors bm_safetensors;

typedef struct bm_safetensor {
    const char *name, *dtype;    /* dtype as in the file: "F32" */
    bm_qtype type;               /* BM_F32, BM_F16, BM_BF16; BM_QTYPE_END for every other dtype */
    int n_dims;
    uint64_t dims[BM_SAFETENSORS_DIMS];  /* row-major: the last axis is contiguous; unused ones are 1 */
    const unsigned char *data;   /* inside the mapping, perhaps not aligned */
    size_t len_bytes;
} bm_safetensor;

int  bm_safetensors_open(bm_safetensors **out, const char *path, bm_error *err);
void bm_safetensors_close(bm_safetensors *file);                     /* NULL is fine */
size_t bm_safetensors_n(const bm_safetensors *file);
const bm_safetensor *bm_safetensors_at(const bm_safetensors *file, size_t i);    /* in the order of their data */
const char *bm_safetensors_meta(const bm_safetensors *file, const char *key);    /* NULL: absent */
/* Its values as f32; type must not be BM_QTYPE_END. out has the product of dims. */
void bm_safetensor_floats(const bm_safetensor *tensor, float *out);

/* What to write. */
typedef struct bm_safetensor_out { const char *name; int n_dims; uint64_t dims[2]; const float *data; } bm_safetensor_out;
typedef struct bm_safetensor_meta { const char *key, *value; } bm_safetensor_meta;
/* Write tensors as F32, atomically: the old file or the new one, never a part. */
int  bm_safetensors_write(const char *path, const bm_safetensor_out *tensors, size_t n, const bm_safetensor_meta *meta, size_t n_meta,
                          bm_error *err);
