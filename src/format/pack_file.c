/* pack_file.c - see pack_file.h. */
#define _GNU_SOURCE             /* fallocate */
#include "format/pack_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "compute/pack.h"

enum { FORMAT_VERSION = 1, HEADER = 128, ENTRY = 128, NAME = 64, HEAD_SUM = 120, ENTRY_SUM = 112, SMALL_PAGE = 4096, HUGE_PAGE = 2 << 20,
       PIECE = 1 << 20, WRITE_PIECE = 4 << 20 };
static const char magic[8] = { 'b', 'a', 'i', 'm', 'o', 'p', 'k', '\n' };

/* ---- the header ---- */

static void put_u32(unsigned char *p, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(x >> 8 * i);
}

static void put_u64(unsigned char *p, uint64_t x)
{
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)(x >> 8 * i);
}

static uint64_t get_u64(const unsigned char *p)
{
    uint64_t x = 0;

    for (int i = 0; i < 8; i++)
        x |= (uint64_t)p[i] << 8 * i;
    return x;
}

bool bm_pack_sizes(const bm_pack_plan *plan, size_t *head_bytes, size_t *data_at, size_t *file_bytes)
{
    size_t align = plan->data_bytes >= HUGE_PAGE ? HUGE_PAGE : SMALL_PAGE;

    if (plan->n_entries > UINT32_MAX || !bm_mul_size(plan->n_entries, ENTRY, head_bytes) ||
        !bm_add_size(*head_bytes, HEADER, head_bytes) || !bm_add_size(*head_bytes, align - 1, data_at))
        return false;
    *data_at &= ~(align - 1);
    return bm_add_size(*data_at, plan->data_bytes, file_bytes) && *file_bytes <= INT64_MAX;
}

/* Header and entries as this plan gives them; the checksums of the entries come from sums, 8 bytes each, `step` apart. */
static unsigned char *make_head(const bm_pack_plan *plan, const bm_sha256 *key, const unsigned char *sums, size_t step)
{
    size_t head_bytes, data_at, file_bytes;
    unsigned char *head;

    if (!bm_pack_sizes(plan, &head_bytes, &data_at, &file_bytes) || (head = bm_zalloc(head_bytes)) == NULL)
        return NULL;
    memcpy(head, magic, sizeof magic);
    put_u32(head + 8, FORMAT_VERSION);
    put_u32(head + 12, BM_PACK_VERSION);
    memcpy(head + 16, key->bytes, sizeof key->bytes);
    put_u64(head + 48, file_bytes);
    put_u64(head + 56, data_at);
    put_u64(head + 64, plan->data_bytes);
    put_u32(head + 72, (uint32_t)plan->n_entries);
    put_u32(head + 76, ENTRY);
    put_u64(head + 80, plan->layout);
    for (size_t i = 0; i < plan->n_entries; i++) {
        const bm_pack_entry *e = &plan->entries[i];
        unsigned char *p = head + HEADER + i * ENTRY;
        memcpy(p, e->name, strnlen(e->name, NAME));
        put_u32(p + 64, e->type);
        put_u64(p + 72, e->n_rows);
        put_u64(p + 80, e->n_cols);
        put_u64(p + 88, e->offset);
        put_u64(p + 96, e->len_bytes);
        put_u64(p + 104, e->order);
        memcpy(p + ENTRY_SUM, sums + i * step, 8);
    }
    put_u64(head + HEAD_SUM, bm_hash64(head + HEADER, head_bytes - HEADER, bm_hash64(head, HEAD_SUM, 0)));
    return head;
}

/* What the first byte that differs belongs to: for the one line that says why a pack is made anew. */
static int differs(const unsigned char *have, const unsigned char *want, size_t len, bm_error *err)
{
    static const struct { size_t end; const char *what; } fields[] = {
        { 8, "magic" }, { 12, "format version" }, { 16, "layout version" }, { 48, "sha256 of the model" }, { 56, "length" },
        { 64, "offset of the data" }, { 72, "length of the data" }, { 80, "number of entries" }, { 88, "mark of the layout" },
        { HEAD_SUM, "reserved bytes" },
    };
    size_t at = 0;

    while (at < len && (have[at] == want[at] || (at >= HEAD_SUM && at < HEADER)))
        at++;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (at < fields[i].end)
            return bm_fail(err, BM_FORMAT, "the %s is not the one expected", fields[i].what);
    if (at >= len)
        return bm_fail(err, BM_FORMAT, "the checksum of the table is wrong");
    return bm_fail(err, BM_FORMAT, "entry %zu of the table is not that of the model", (at - HEADER) / ENTRY);
}

int bm_pack_check(const unsigned char *head, size_t len, uint64_t file_bytes, const bm_pack_plan *plan, const bm_sha256 *key,
                  bm_error *err)
{
    size_t head_bytes, data_at, expected;
    unsigned char *want;
    int rc = 0;

    if (!bm_pack_sizes(plan, &head_bytes, &data_at, &expected))
        return bm_fail(err, BM_LIMIT, "a plan of %zu entries and %zu bytes is too large", plan->n_entries, plan->data_bytes);
    if (file_bytes != expected || len < head_bytes)
        return bm_fail(err, BM_FORMAT, "%llu bytes, expected %zu", (unsigned long long)file_bytes, expected);
    if ((want = make_head(plan, key, head + HEADER + ENTRY_SUM, ENTRY)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a table of %zu bytes", head_bytes);
    if (memcmp(head, want, head_bytes) != 0)
        rc = differs(head, want, head_bytes, err);
    bm_free(want);
    return rc;
}

/* ---- reading ---- */

static int read_at(int fd, void *out, size_t len, uint64_t at, bm_error *err)
{
    for (unsigned char *p = out; len > 0;) {
        ssize_t n = pread(fd, p, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return bm_fail(err, n < 0 ? BM_IO : BM_FORMAT, "cannot read: %s", n < 0 ? strerror(errno) : "it ends too early");
        p += n, at += (uint64_t)n, len -= (size_t)n;
    }
    return 0;
}

/* Open and check the header. *head is the caller's to bm_free. */
static int open_checked(int *out, unsigned char **head, bm_file_id *id, const char *path, const bm_pack_plan *plan, const bm_sha256 *key,
                        bm_error *err)
{
    size_t head_bytes, data_at, expected;
    struct stat st;
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

    *out = -1, *head = NULL;
    if (fd < 0)
        return bm_fail(err, errno == ENOENT || errno == ENOTDIR ? BM_NOTFOUND : BM_IO, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &st) < 0)
        rc = bm_fail(err, BM_IO, "cannot stat: %s", strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = bm_fail(err, BM_FORMAT, "not a regular file");
    else if (!bm_pack_sizes(plan, &head_bytes, &data_at, &expected))
        rc = bm_fail(err, BM_LIMIT, "the plan is too large");
    else if ((uint64_t)st.st_size != expected)
        rc = bm_fail(err, BM_FORMAT, "%lld bytes, expected %zu", (long long)st.st_size, expected);
    else if ((*head = bm_malloc(head_bytes)) == NULL)
        rc = bm_fail(err, BM_NOMEM, "no memory for a table of %zu bytes", head_bytes);
    else if ((rc = read_at(fd, *head, head_bytes, 0, err)) == 0)
        rc = bm_pack_check(*head, head_bytes, (uint64_t)st.st_size, plan, key, err);
    if (rc < 0) {
        bm_wrap(err, "%s", path);
        bm_free(*head);
        *head = NULL;
        close(fd);
        return rc;
    }
    *id = bm_file_id_of(&st);
    *out = fd;
    return 0;
}

/* Anywhere, at a multiple of 2 MiB when the data is that long: reserve more than is needed, map inside, give the rest back. */
static void *map_aligned(bm_pack *pack, int fd, size_t data_at, size_t len)
{
    size_t room = len >= HUGE_PAGE ? len + HUGE_PAGE : len;
    unsigned char *all = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *at;

    if (all == MAP_FAILED)
        return MAP_FAILED;
    at = len >= HUGE_PAGE ? (unsigned char *)(((uintptr_t)all + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1)) : all;
    pack->base = all;
    pack->base_bytes = room;
    return mmap(at, len, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)data_at);
}

int bm_pack_open(bm_pack *out, const char *path, const bm_pack_plan *plan, const bm_sha256 *key, void *over, bm_error *err)
{
    size_t head_bytes, data_at, file_bytes;
    unsigned char *head;
    void *data;
    int rc, fd;

    *out = (bm_pack){ 0 };
    if ((rc = open_checked(&fd, &head, &out->id, path, plan, key, err)) < 0)
        return rc;
    bm_free(head);
    bm_pack_sizes(plan, &head_bytes, &data_at, &file_bytes);
    if (over == NULL)
        data = map_aligned(out, fd, data_at, plan->data_bytes);
    else if ((data = mmap(NULL, plan->data_bytes, PROT_READ, MAP_SHARED, fd, (off_t)data_at)) != MAP_FAILED) {
        munmap(data, plan->data_bytes);                  /* it can be mapped: now where others are reading */
        data = mmap(over, plan->data_bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)data_at);
    }
    if (data == MAP_FAILED)
        rc = bm_fail(err, BM_IO, "%s: cannot map %zu bytes: %s", path, plan->data_bytes, strerror(errno));
    close(fd);
    if (rc < 0) {
        bm_pack_close(out);
        return rc;
    }
    out->data = data;
    if (plan->data_bytes >= HUGE_PAGE)
        madvise(data, plan->data_bytes, MADV_HUGEPAGE);  /* read ahead in huge folios where the file system can */
    return 0;
}

void bm_pack_close(bm_pack *pack)
{
    if (pack->base != NULL)
        munmap(pack->base, pack->base_bytes);
    *pack = (bm_pack){ 0 };
}

/* ---- checksums ---- */

static bool wanted(bm_pack_go_on *go_on, void *arg) { return go_on == NULL || go_on(arg); }

static int verify_entry(int fd, const bm_pack_entry *e, size_t data_at, uint64_t sum, unsigned char *piece, bm_error *err)
{
    uint64_t h = 0;
    size_t n;
    int rc;

    for (size_t done = 0; done < e->len_bytes; done += n) {
        n = e->len_bytes - done < PIECE ? e->len_bytes - done : PIECE;
        if ((rc = read_at(fd, piece, n, data_at + e->offset + done, err)) < 0)
            return rc;
        h = bm_hash64(piece, n, h);
    }
    return h == sum ? 0 : bm_fail(err, BM_FORMAT, "the checksum of tensor %s is wrong", e->name);
}

int bm_pack_verify(const char *path, const bm_pack_plan *plan, const bm_sha256 *key, bm_file_id *id, bm_pack_go_on *go_on, void *arg,
                   bm_error *err)
{
    size_t head_bytes, data_at, file_bytes;
    unsigned char *head, *piece = NULL;
    bm_file_id found;
    int rc, fd;

    if ((rc = open_checked(&fd, &head, &found, path, plan, key, err)) < 0)
        return rc;
    bm_pack_sizes(plan, &head_bytes, &data_at, &file_bytes);
    if ((piece = bm_malloc(PIECE)) == NULL)
        rc = bm_fail(err, BM_NOMEM, "%s: no memory to check it", path);
    for (size_t i = 0; i < plan->n_entries && rc == 0; i++) {
        rc = wanted(go_on, arg) ? verify_entry(fd, &plan->entries[i], data_at, get_u64(head + HEADER + i * ENTRY + ENTRY_SUM), piece, err)
                                : bm_fail(err, BM_CANCELED, "checking was canceled");
        if (rc < 0)
            bm_wrap(err, "%s", path);
    }
    if (id != NULL)
        *id = found;
    bm_free(piece);
    bm_free(head);
    close(fd);
    return rc;
}

/* ---- writing ---- */

static int write_at(int fd, const unsigned char *p, size_t len, size_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        p += n, at += (size_t)n, len -= (size_t)n;
    }
    return 0;
}

/* Header with the checksums of data. NULL: no memory, or canceled (*canceled). */
static unsigned char *sum_up(const bm_pack_plan *plan, const bm_sha256 *key, const unsigned char *data, bm_pack_go_on *go_on, void *arg,
                             bool *canceled)
{
    unsigned char *sums = bm_calloc(plan->n_entries + 1, 8), *head = NULL;

    *canceled = false;
    for (size_t i = 0; sums != NULL && i < plan->n_entries && !*canceled; i++) {
        const bm_pack_entry *e = &plan->entries[i];
        uint64_t h = 0;
        for (size_t done = 0, n; done < e->len_bytes; done += n) {
            n = e->len_bytes - done < PIECE ? e->len_bytes - done : PIECE;
            h = bm_hash64(data + e->offset + done, n, h);
        }
        put_u64(sums + 8 * i, h);
        *canceled = !wanted(go_on, arg);
    }
    if (sums != NULL && !*canceled)
        head = make_head(plan, key, sums, 8);
    bm_free(sums);
    return head;
}

/* The room is taken first, where the file system can, so that a disk too full is met before anything is written. */
static int write_data(int fd, const bm_pack_plan *plan, const unsigned char *head, const unsigned char *data, bm_pack_go_on *go_on,
                      void *arg, const char *path, bm_error *err)
{
    size_t head_bytes, data_at, file_bytes;

    bm_pack_sizes(plan, &head_bytes, &data_at, &file_bytes);
    if (plan->data_bytes > 0 && fallocate(fd, 0, (off_t)data_at, (off_t)plan->data_bytes) < 0 && errno != EOPNOTSUPP && errno != ENOSYS)
        return bm_fail(err, BM_IO, "%s: cannot take %zu bytes: %s", path, plan->data_bytes, strerror(errno));
    for (size_t done = 0, n; done < plan->data_bytes; done += n) {
        n = plan->data_bytes - done < WRITE_PIECE ? plan->data_bytes - done : WRITE_PIECE;
        if (write_at(fd, data + done, n, data_at + done) < 0)
            return bm_fail(err, BM_IO, "%s: cannot write: %s", path, strerror(errno));
        if (!wanted(go_on, arg))
            return bm_fail(err, BM_CANCELED, "%s: writing was canceled", path);
    }
    if (write_at(fd, head, head_bytes, 0) < 0 || fsync(fd) < 0)
        return bm_fail(err, BM_IO, "%s: cannot write: %s", path, strerror(errno));
    return 0;
}

int bm_pack_write(const char *path, const bm_pack_plan *plan, const bm_sha256 *key, const unsigned char *data, bm_pack_go_on *go_on,
                  void *arg, bm_error *err)
{
    unsigned char *head;
    bm_buf tmp = { 0 };
    bool canceled;
    int rc, fd;

    if ((head = sum_up(plan, key, data, go_on, arg, &canceled)) == NULL)
        return canceled ? bm_fail(err, BM_CANCELED, "%s: writing was canceled", path)
                        : bm_fail(err, BM_NOMEM, "%s: no memory for its table", path);
    if ((rc = fd = bm_create_beside(&tmp, path, 0600, err)) < 0)
        goto out;
    rc = write_data(fd, plan, head, data, go_on, arg, path, err);
    if (rc == 0 && rename(tmp.data, path) < 0)
        rc = bm_fail(err, BM_IO, "%s: cannot rename: %s", path, strerror(errno));
    if (rc < 0)
        unlink(tmp.data);
    close(fd);
    if (rc == 0)
        bm_sync_directory_of(path);
out:
    bm_buf_done(&tmp);
    bm_free(head);
    return rc;
}
