/* gguf_write.c - see gguf_write.h; the layout is written down in gguf.c. */
#include "format/gguf_write.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

enum { ALIGNMENT = 32, MAX_TENSORS = 65536 };

struct bm_gguf_writer {
    char *path;
    bm_buf tmp;                  /* name of the temporary file */
    int fd;                      /* -1: committed */
    bm_buf kvs, infos;
    uint64_t n_kvs, n_tensors, offset;
    size_t *len_bytes;           /* [n_tensors] */
    uint64_t at;                 /* tensor that is being written */
    size_t done;                 /* bytes of it */
};

int bm_gguf_writer_new(bm_gguf_writer **out, const char *path, bm_error *err)
{
    bm_gguf_writer *w = bm_zalloc(sizeof *w);

    *out = NULL;
    if (w == NULL || (w->path = bm_strdup(path)) == NULL || (w->len_bytes = bm_calloc(MAX_TENSORS, sizeof *w->len_bytes)) == NULL) {
        if (w != NULL)
            w->fd = -1;
        bm_gguf_writer_free(w);
        return bm_fail(err, BM_NOMEM, "%s: no memory to write it", path);
    }
    if ((w->fd = bm_create_beside(&w->tmp, path, 0644, err)) < 0) {
        int rc = w->fd;
        bm_gguf_writer_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void bm_gguf_writer_free(bm_gguf_writer *w)
{
    if (w == NULL)
        return;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->tmp.data);
    }
    bm_buf_done(&w->tmp);
    bm_buf_done(&w->kvs);
    bm_buf_done(&w->infos);
    bm_free(w->len_bytes);
    bm_free(w->path);
    bm_free(w);
}

/* ---- the header ---- */

static void put_u32(bm_buf *b, uint32_t x) { bm_buf_add(b, &x, sizeof x); }     /* the host is little-endian: gguf_value.c checks */
static void put_u64(bm_buf *b, uint64_t x) { bm_buf_add(b, &x, sizeof x); }

static void put_string(bm_buf *b, const char *s, size_t len)
{
    put_u64(b, len);
    bm_buf_add(b, s, len);
}

static void put_key(bm_gguf_writer *w, const char *key, bm_gguf_type type)
{
    put_string(&w->kvs, key, strlen(key));
    put_u32(&w->kvs, (uint32_t)type);
    w->n_kvs++;
}

void bm_gguf_put_str(bm_gguf_writer *w, const char *key, const char *value)
{
    put_key(w, key, BM_GGUF_STRING);
    put_string(&w->kvs, value, strlen(value));
}

void bm_gguf_put_u32(bm_gguf_writer *w, const char *key, uint32_t value)
{
    put_key(w, key, BM_GGUF_U32);
    put_u32(&w->kvs, value);
}

void bm_gguf_put_f32(bm_gguf_writer *w, const char *key, float value)
{
    put_key(w, key, BM_GGUF_F32);
    bm_buf_add(&w->kvs, &value, sizeof value);
}

void bm_gguf_put_kv(bm_gguf_writer *w, const bm_gguf_kv *kv)
{
    put_key(w, kv->key, kv->type);
    if (kv->type == BM_GGUF_ARRAY) {
        put_u32(&w->kvs, (uint32_t)kv->elem_type);
        put_u64(&w->kvs, kv->n);
    }
    if (kv->elem_type != BM_GGUF_STRING) {
        bm_buf_add(&w->kvs, kv->value, bm_gguf_type_bytes(kv->elem_type) * (size_t)kv->n);
        return;
    }
    for (uint64_t i = 0; i < kv->n; i++) {
        bm_str s = { "", 0 };
        bm_gguf_elem_str(kv, i, &s);
        put_string(&w->kvs, s.data, s.len);
    }
}

bool bm_gguf_put_tensor(bm_gguf_writer *w, const char *name, bm_qtype type, int n_dims, const uint64_t *dims)
{
    size_t len;

    if (w->n_tensors == MAX_TENSORS || !bm_qtype_row_bytes(type, dims[0], &len))
        return false;
    put_string(&w->infos, name, strlen(name));
    put_u32(&w->infos, (uint32_t)n_dims);
    for (int i = 0; i < n_dims; i++) {
        put_u64(&w->infos, dims[i]);
        if (i > 0 && !bm_mul_size(len, (size_t)dims[i], &len))
            return false;
    }
    put_u32(&w->infos, (uint32_t)type);
    put_u64(&w->infos, w->offset);
    w->len_bytes[w->n_tensors++] = len;
    w->offset += (len + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1);
    return true;
}

/* ---- the file ---- */

static int write_all(bm_gguf_writer *w, const void *bytes, size_t len, bm_error *err)
{
    for (const char *p = bytes; len > 0;) {
        ssize_t n = write(w->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return bm_fail(err, BM_IO, "%s: cannot write: %s", w->path, strerror(errno));
        p += n, len -= (size_t)n;
    }
    return 0;
}

int bm_gguf_writer_begin(bm_gguf_writer *w, bm_error *err)
{
    static const char zeros[ALIGNMENT];
    bm_buf head = { 0 };
    int rc;

    bm_buf_add(&head, "GGUF", 4);
    put_u32(&head, 3);
    put_u64(&head, w->n_tensors);
    put_u64(&head, w->n_kvs);
    if (w->kvs.len > 0)
        bm_buf_add(&head, w->kvs.data, w->kvs.len);
    if (w->infos.len > 0)
        bm_buf_add(&head, w->infos.data, w->infos.len);
    bm_buf_add(&head, zeros, -head.len & (ALIGNMENT - 1));
    if (head.failed || w->kvs.failed || w->infos.failed)
        rc = bm_fail(err, BM_NOMEM, "%s: no memory for its header", w->path);
    else
        rc = write_all(w, head.data, head.len, err);
    bm_buf_done(&head);
    return rc;
}

int bm_gguf_writer_data(bm_gguf_writer *w, const void *bytes, size_t len_bytes, bm_error *err)
{
    static const char zeros[ALIGNMENT];
    int rc;

    BM_CHECK(w->at < w->n_tensors && len_bytes <= w->len_bytes[w->at] - w->done);
    if ((rc = write_all(w, bytes, len_bytes, err)) < 0)
        return rc;
    if ((w->done += len_bytes) < w->len_bytes[w->at])
        return 0;
    rc = write_all(w, zeros, -w->len_bytes[w->at] & (ALIGNMENT - 1), err);
    w->at++, w->done = 0;
    return rc;
}

int bm_gguf_writer_commit(bm_gguf_writer *w, bm_error *err)
{
    BM_CHECK(w->at == w->n_tensors);
    if (fsync(w->fd) < 0 || rename(w->tmp.data, w->path) < 0)
        return bm_fail(err, BM_IO, "%s: cannot write: %s", w->path, strerror(errno));
    close(w->fd);
    w->fd = -1;
    bm_sync_directory_of(w->path);
    return 0;
}
