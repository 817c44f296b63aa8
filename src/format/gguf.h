/* gguf.h - GGUF v2 and v3 files (github.com/ggml-org/ggml, docs/gguf.md), mapped and never trusted.
 * open() checks every count, length, offset, type and dimension against caps and the file's real length before anything is
 * used; afterwards the getters cannot fail but by absence or another type. Little-endian files only.
 * Owns the mapping. Read-only after open: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/file.h"
#include "compute/quant.h"

typedef struct bm_gguf bm_gguf;

typedef enum bm_gguf_type {     /* of metadata values, as in the specification */
    BM_GGUF_U8, BM_GGUF_I8, BM_GGUF_U16, BM_GGUF_I16, BM_GGUF_U32, BM_GGUF_I32, BM_GGUF_F32, BM_GGUF_BOOL,
    BM_GGUF_STRING, BM_GGUF_ARRAY, BM_GGUF_U64, BM_GGUF_I64, BM_GGUF_F64
} bm_gguf_type;

typedef struct bm_gguf_tensor {
    const char *name;            /* NUL-terminated, no NUL inside, at most 64 bytes */
    bm_qtype type;
    int n_dims;                  /* 1 to 4 */
    uint64_t dims[4];            /* dims[0] is the row length (columns, K); unused ones are 1 */
    const unsigned char *data;   /* inside the mapping */
    size_t len_bytes;            /* 0: opened for a listing, and nobody knows how many */
} bm_gguf_tensor;

typedef struct bm_gguf_kv {
    const char *key;
    bm_gguf_type type;           /* BM_GGUF_ARRAY: then elem_type and n */
    bm_gguf_type elem_type;
    uint64_t n;                  /* elements of an array, else 1 */
    /* the rest is private to gguf.c */
    const unsigned char *value;
    const void *strings;
} bm_gguf_kv;

typedef struct bm_str { const char *data; size_t len; } bm_str;     /* not NUL-terminated; bytes as in the file */

int  bm_gguf_open(bm_gguf **out, const char *path, bm_error *err);
/* The same for those who only list: tensors of a type without traits (bm_qtype_traits) are not refused. Their type may be any number;
 * where it is a plain number type (I8 to I64, F64) their bytes are checked as all others', else only that they begin in the file. */
int  bm_gguf_open_listing(bm_gguf **out, const char *path, bm_error *err);
void bm_gguf_close(bm_gguf *gguf);

const char *bm_gguf_path(const bm_gguf *gguf);
uint32_t bm_gguf_version(const bm_gguf *gguf);
uint64_t bm_gguf_file_bytes(const bm_gguf *gguf);
bm_file_id bm_gguf_file_id(const bm_gguf *gguf);         /* of the file that is mapped */
size_t bm_gguf_n_tensors(const bm_gguf *gguf);
const bm_gguf_tensor *bm_gguf_tensor_at(const bm_gguf *gguf, size_t i);
const bm_gguf_tensor *bm_gguf_find_tensor(const bm_gguf *gguf, const char *name);       /* NULL when absent; O(1) */
size_t bm_gguf_n_kvs(const bm_gguf *gguf);
const bm_gguf_kv *bm_gguf_kv_at(const bm_gguf *gguf, size_t i);
const bm_gguf_kv *bm_gguf_find(const bm_gguf *gguf, const char *key);                   /* NULL when absent */

/* Typed reads by key: true and *out when present and of a fitting type; false when absent or of another type (*out untouched).
 * Integers of any width and sign convert when the value is in range. */
bool bm_gguf_get_u32(const bm_gguf *gguf, const char *key, uint32_t *out);
bool bm_gguf_get_i64(const bm_gguf *gguf, const char *key, int64_t *out);
bool bm_gguf_get_f32(const bm_gguf *gguf, const char *key, float *out);                 /* F32 or F64 */
bool bm_gguf_get_bool(const bm_gguf *gguf, const char *key, bool *out);
bool bm_gguf_get_str(const bm_gguf *gguf, const char *key, bm_str *out);
/* Elements of arrays; i < kv->n is checked (false beyond). */
bool bm_gguf_elem_str(const bm_gguf_kv *kv, uint64_t i, bm_str *out);
bool bm_gguf_elem_i64(const bm_gguf_kv *kv, uint64_t i, int64_t *out);
bool bm_gguf_elem_f64(const bm_gguf_kv *kv, uint64_t i, double *out);                   /* any number */
bool bm_gguf_elem_bool(const bm_gguf_kv *kv, uint64_t i, bool *out);
const char *bm_gguf_type_name(bm_gguf_type type);                                      /* "u32", "string"; "?" when unknown */
size_t bm_gguf_type_bytes(bm_gguf_type type);                                            /* of one value; 0 for strings and arrays */
/* Scalar as text for `inspect`: written to out (always NUL-terminated); arrays as "[n] type: first elements". */
void bm_gguf_describe(const bm_gguf_kv *kv, char *out, size_t room);
