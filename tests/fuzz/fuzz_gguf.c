/* fuzz_gguf.c - open a file of these bytes, and use all that it then offers: look-ups, descriptions, first and last blocks. */
#define _GNU_SOURCE 1      /* memfd_create */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void use_value(const bm_gguf *g, const bm_gguf_kv *kv)
{
    char text[300];
    volatile char last;
    int64_t i;
    double d;
    bm_str s;

    if (bm_gguf_find(g, kv->key) != kv)
        abort();
    for (size_t room = 0; room <= sizeof text; room += 75)
        bm_gguf_describe(kv, text, room);
    for (uint64_t k = 0; k <= kv->n && k < 64; k++) {
        bm_gguf_elem_i64(kv, k, &i);
        bm_gguf_elem_f64(kv, k, &d);
        if (bm_gguf_elem_str(kv, k, &s) && s.len != 0)
            last = s.data[s.len - 1];
    }
    (void)last;
}

static void use_tensor(const bm_gguf *g, const bm_gguf_tensor *t, bool listing)
{
    const bm_qtraits *traits = bm_qtype_traits((uint32_t)t->type);
    float out[256];

    if (bm_gguf_find_tensor(g, t->name) != t)
        abort();
    if (t->len_bytes != 0) {                             /* the first and the last byte can be read */
        volatile unsigned char byte = t->data[0];
        byte = t->data[t->len_bytes - 1];
        (void)byte;
    }
    if (traits == NULL) {
        if (!listing)
            abort();
        return;
    }
    traits->dequantize(t->data, out, (size_t)traits->block_len);
    traits->dequantize(t->data + t->len_bytes - (size_t)traits->block_bytes, out, (size_t)traits->block_len);
}

/* Whether it opened. */
static bool use_file(const char *path, bool listing)
{
    bm_error err;
    bm_gguf *g;

    if ((listing ? bm_gguf_open_listing : bm_gguf_open)(&g, path, &err) < 0) {
        if (g != NULL || err.code >= 0 || err.msg[0] == '\0')
            abort();
        return false;
    }
    for (size_t i = 0; i < bm_gguf_n_kvs(g); i++)
        use_value(g, bm_gguf_kv_at(g, i));
    for (size_t i = 0; i < bm_gguf_n_tensors(g); i++)
        use_tensor(g, bm_gguf_tensor_at(g, i), listing);
    bm_gguf_close(g);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static int fd = -1;
    static char path[64];

    if (fd < 0) {
        if ((fd = memfd_create("fuzz", 0)) < 0)
            abort();
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) < 0 || pwrite(fd, bytes, len, 0) != (ssize_t)len)
        abort();
    bool loads = use_file(path, false), lists = use_file(path, true);
    if (loads && !lists)
        abort();
    return 0;
}
