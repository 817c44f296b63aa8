/* gguf_write.h - writing GGUF files, version 3: keys and tensor headers first, then the data in the same order, streamed.
 * Goes through a temporary file beside the path: the file appears whole with commit, or not at all. One thread. */
#pragma once
#include "format/gguf.h"

typedef struct bm_gguf_writer bm_gguf_writer;

int  bm_gguf_writer_new(bm_gguf_writer **out, const char *path, bm_error *err);
void bm_gguf_writer_free(bm_gguf_writer *w);         /* without commit: nothing is left; NULL is fine */

/* Before the first data. Failures stick until begin. */
void bm_gguf_put_str(bm_gguf_writer *w, const char *key, const char *value);
void bm_gguf_put_u32(bm_gguf_writer *w, const char *key, uint32_t value);
void bm_gguf_put_f32(bm_gguf_writer *w, const char *key, float value);
void bm_gguf_put_kv(bm_gguf_writer *w, const bm_gguf_kv *kv);        /* as another file has it */
/* dims[0] is the row length. False: no rows of this length in this type. */
bool bm_gguf_put_tensor(bm_gguf_writer *w, const char *name, bm_qtype type, int n_dims, const uint64_t *dims);

/* Writes the header. */
int  bm_gguf_writer_begin(bm_gguf_writer *w, bm_error *err);
/* The next bytes of the tensors, in their order, in pieces of any size that do not cross from one tensor to the next; what
 * aligns them is written here. */
int  bm_gguf_writer_data(bm_gguf_writer *w, const void *bytes, size_t len_bytes, bm_error *err);
/* All data is there (checked): fsync and rename. */
int  bm_gguf_writer_commit(bm_gguf_writer *w, bm_error *err);
