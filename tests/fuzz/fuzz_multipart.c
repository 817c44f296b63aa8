/* Forms: any bytes in any split give the same parts, or the same refusal. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "server/multipart.h"

static int on_part(void *arg, const char *name, const char *filename, const char **why)
{
    (void)why;
    bm_buf_printf(arg, "<%s|%s>", name, filename);
    return 0;
}

static int on_data(void *arg, const char *bytes, size_t len, const char **why)
{
    (void)why;
    bm_buf_add(arg, bytes, len);
    return 0;
}

static int feed(const char *bytes, size_t len, size_t piece, bm_buf *seen)
{
    bm_multipart m = { .part = on_part, .data = on_data, .arg = seen };
    const char *why = "";
    int rc = 0;

    if (!bm_multipart_init(&m, "multipart/form-data; boundary=B"))
        abort();
    for (size_t at = 0; at < len && rc == 0; at += piece)
        rc = bm_multipart_feed(&m, bytes + at, len - at < piece ? len - at : piece, &why);
    bm_multipart_done(&m);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bm_buf whole = { 0 }, parts = { 0 };

    if (size < 1)
        return 0;
    int one = feed((const char *)data + 1, size - 1, size, &whole), other = feed((const char *)data + 1, size - 1, data[0] % 64 + 1u, &parts);
    if (one == 0 && other == 0 && (whole.len != parts.len || (whole.len > 0 && memcmp(whole.data, parts.data, whole.len) != 0)))
        abort();
    bm_buf_done(&whole);
    bm_buf_done(&parts);
    return 0;
}
