/* fuzz_safetensors.c - open a file of these bytes, and use all that it then offers. The first byte chooses: odd, the bytes behind it are a
 * whole file; even, they are its header and data, and the length in front is made to fit, so that the JSON is reached. */
#define _GNU_SOURCE 1      /* memfd_create */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* The header ends where its outermost braces do, strings or not: wrong ones only make a file that is refused. */
static uint64_t header_len(const uint8_t *bytes, size_t len)
{
    int depth = 0;

    for (size_t i = 0; i < len; i++) {
        depth += (bytes[i] == '{') - (bytes[i] == '}');
        if (depth == 0 && bytes[i] == '}')
            return i + 1;
    }
    return len;
}

static void use(const bm_safetensors *file, size_t file_len)
{
    size_t sum = 0;

    for (size_t i = 0; i < bm_safetensors_n(file); i++) {
        const bm_safetensor *t = bm_safetensors_at(file, i);
        uint64_t n = 1;
        if (t->name == NULL || t->dtype == NULL || t->n_dims < 0 || t->n_dims > BM_SAFETENSORS_DIMS)
            abort();
        for (int d = 0; d < BM_SAFETENSORS_DIMS; d++)
            n *= t->dims[d];
        for (size_t at = 0; at < t->len_bytes; at++) {       /* every byte is inside the mapping */
            volatile unsigned char byte = t->data[at];
            (void)byte;
        }
        if (t->type != BM_QTYPE_END && n <= 1 << 16) {
            float *out = malloc((n + 1) * sizeof *out);
            if (out == NULL)
                abort();
            bm_safetensor_floats(t, out);
            free(out);
        }
        sum += t->len_bytes;
    }
    if (sum > file_len)
        abort();
    bm_safetensors_meta(file, "format");
    bm_safetensors_meta(file, "");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static int fd = -1;
    static char path[64];
    size_t front = 0;
    bm_safetensors *file;
    bm_error err;

    if (fd < 0) {
        if ((fd = memfd_create("fuzz", 0)) < 0)
            abort();
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (len == 0)
        return 0;
    if (ftruncate(fd, 0) < 0)
        abort();
    if (bytes[0] % 2 == 0) {
        uint64_t n = header_len(bytes + 1, len - 1);
        if (pwrite(fd, &n, sizeof n, 0) != sizeof n)
            abort();
        front = sizeof n;
    }
    if (pwrite(fd, bytes + 1, len - 1, (off_t)front) != (ssize_t)(len - 1))
        abort();
    if (bm_safetensors_open(&file, path, &err) < 0) {
        if (file != NULL || err.code >= 0 || err.msg[0] == '\0')
            abort();
        return 0;
    }
    use(file, front + len - 1);
    bm_safetensors_close(file);
    return 0;
}
