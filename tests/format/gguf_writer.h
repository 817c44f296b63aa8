/* gguf_writer.h - writes small GGUF files field by field, so that tests can write wrong ones too. Every field goes out as
 * given; nothing is checked. Start with w_header, then metadata, then tensor infos, then w_pad and the data. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buf.h"
#include "compute/quant.h"
#include "format/gguf.h"

static inline void w_u32(bm_buf *w, uint32_t v) { bm_buf_add(w, &v, sizeof v); }
static inline void w_u64(bm_buf *w, uint64_t v) { bm_buf_add(w, &v, sizeof v); }

static inline void w_bytes(bm_buf *w, const char *s, size_t len)
{
    w_u64(w, len);
    bm_buf_add(w, s, len);
}

static inline void w_str(bm_buf *w, const char *s) { w_bytes(w, s, strlen(s)); }

static inline void w_header(bm_buf *w, uint32_t version, uint64_t n_tensors, uint64_t n_kvs)
{
    bm_buf_add(w, "GGUF", 4);
    w_u32(w, version);
    w_u64(w, n_tensors);
    w_u64(w, n_kvs);
}

static inline void w_key(bm_buf *w, const char *key, uint32_t type)
{
    w_str(w, key);
    w_u32(w, type);
}

static inline void w_kv_u32(bm_buf *w, const char *key, uint32_t v) { w_key(w, key, BM_GGUF_U32); w_u32(w, v); }
static inline void w_kv_str(bm_buf *w, const char *key, const char *v) { w_key(w, key, BM_GGUF_STRING); w_str(w, v); }

/* A scalar of any fixed size. */
static inline void w_kv_raw(bm_buf *w, const char *key, uint32_t type, const void *value, size_t len)
{
    w_key(w, key, type);
    bm_buf_add(w, value, len);
}

/* The elements follow. */
static inline void w_kv_array(bm_buf *w, const char *key, uint32_t elem_type, uint64_t n)
{
    w_key(w, key, BM_GGUF_ARRAY);
    w_u32(w, elem_type);
    w_u64(w, n);
}

static inline void w_tensor(bm_buf *w, const char *name, uint32_t n_dims, const uint64_t *dims, uint32_t type, uint64_t offset)
{
    w_str(w, name);
    w_u32(w, n_dims);
    for (uint32_t i = 0; i < n_dims && i < 4; i++)
        w_u64(w, dims[i]);
    w_u32(w, type);
    w_u64(w, offset);
}

static inline void w_pad(bm_buf *w, size_t alignment)
{
    while (w->len % alignment != 0)
        bm_buf_putc(w, '\0');
}

static inline void w_zeros(bm_buf *w, size_t n)
{
    while (n-- > 0)
        bm_buf_putc(w, '\0');
}

/* Put the bytes into a new temporary file; path has at least 64 bytes. */
static inline int w_save(const bm_buf *w, char path[64])
{
    strcpy(path, "/tmp/baimo-test-XXXXXX");
    int fd = mkstemp(path);
    size_t done = 0;

    while (fd >= 0 && done < w->len) {
        ssize_t n = write(fd, w->data + done, w->len - done);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (fd >= 0)
        close(fd);
    return fd >= 0 && done == w->len ? 0 : -1;
}
