/* fuzz_pack.c - is this a pack of a small plan? Header and table as these bytes, in a file of the length that the last 8 bytes
 * say (or of the right one), and the whole as a file. What is taken for one must have the bytes that the plan gives. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/pack_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static bm_pack_entry entries[] = { { "token_embd.weight", 3, 32, 64, 0, 1000, 0 }, { "blk.0.attn_q.weight", 8, 16, 32, 1024, 500, 5 } };
static const bm_pack_plan plan = { .entries = entries, .n_entries = 2, .data_bytes = 1536 };
static const bm_sha256 key = { { 1, 2, 3 } };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    size_t head_bytes, data_at, file_bytes;
    uint64_t claimed = 0;
    char path[] = "/tmp/fuzz-pack-XXXXXX";
    bm_error err;
    bm_pack pack;
    int fd;

    bm_pack_sizes(&plan, &head_bytes, &data_at, &file_bytes);
    if (len >= 8)
        memcpy(&claimed, bytes + len - 8, 8);
    if (bm_pack_check(bytes, len, claimed, &plan, &key, &err) == 0 && claimed != file_bytes)
        abort();
    if (bm_pack_check(bytes, len, file_bytes, &plan, &key, &err) == 0 && (len < head_bytes || memcmp(bytes + 16, key.bytes, 32) != 0))
        abort();
    if (len == 0 || (fd = mkstemp(path)) < 0)
        return 0;
    if (write(fd, bytes, len) == (ssize_t)len) {
        if (bm_pack_open(&pack, path, &plan, &key, NULL, &err) == 0) {
            volatile unsigned char byte = pack.data[0];
            byte = pack.data[plan.data_bytes - 1];
            (void)byte;
            if (len != file_bytes)
                abort();
            bm_pack_close(&pack);
        }
        bm_pack_verify(path, &plan, &key, NULL, NULL, NULL, &err);
    }
    close(fd);
    unlink(path);
    return 0;
}
