/* file.c - whole files. */
#include "base/file.h"
#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bm_file_id bm_file_id_of(const struct stat *st)
{
    return (bm_file_id){ .device = (uint64_t)st->st_dev, .inode = (uint64_t)st->st_ino, .size_bytes = (uint64_t)st->st_size,
                         .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec };
}

bool bm_file_id_equal(const bm_file_id *a, const bm_file_id *b)
{
    return a->device == b->device && a->inode == b->inode && a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns;
}

int bm_map_file(bm_map *map, const char *path, bm_error *err)
{
    struct stat st;
    int rc = 0, fd;

    *map = (bm_map){ 0 };
    if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0)           /* a FIFO must not hang us */
        return bm_fail(err, errno == ENOENT ? BM_NOTFOUND : BM_IO, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &st) < 0) {
        rc = bm_fail(err, BM_IO, "%s: cannot stat: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = bm_fail(err, BM_INVALID, "%s: not a regular file", path);
        goto out;
    }
    map->device = (uint64_t)st.st_dev;
    map->inode = (uint64_t)st.st_ino;
    map->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    map->len_bytes = (size_t)st.st_size;
    if (map->len_bytes == 0)
        goto out;
    void *p = mmap(NULL, map->len_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        rc = bm_fail(err, BM_IO, "%s: cannot map %zu bytes: %s", path, map->len_bytes, strerror(errno));
        *map = (bm_map){ 0 };
        goto out;
    }
    map->data = p;
out:
    close(fd);
    return rc;
}

void bm_unmap_file(bm_map *map)
{
    if (map->data != NULL)
        munmap((void *)(uintptr_t)map->data, map->len_bytes);
    *map = (bm_map){ 0 };
}

static int read_all(int fd, bm_buf *buf, const char *path, bm_error *err)
{
    for (;;) {
        if (!bm_buf_reserve(buf, 65536)) {
            buf->failed = false;
            if (!bm_buf_reserve(buf, buf->limit - buf->len))
                return bm_fail(err, BM_NOMEM, "%s: no memory to read it", path);
        }
        size_t room = buf->cap - buf->len - 1;
        ssize_t n = read(fd, buf->data + buf->len, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return bm_fail(err, BM_IO, "%s: cannot read: %s", path, strerror(errno));
        if (n == 0)
            return 0;
        buf->len += (size_t)n;
        if (buf->len >= buf->limit)
            return bm_fail(err, BM_TOOLARGE, "%s: larger than the %zu bytes allowed here", path, buf->limit - 1);
    }
}

int bm_read_file(char **out, size_t *len_bytes, const char *path, size_t max_bytes, bm_error *err)
{
    bm_buf buf = { .limit = max_bytes < SIZE_MAX / 2 ? max_bytes + 1 : SIZE_MAX / 2 };
    bool from_stdin = strcmp(path, "-") == 0;
    int rc, fd;

    *out = NULL;
    if ((fd = from_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return bm_fail(err, errno == ENOENT ? BM_NOTFOUND : BM_IO, "%s: cannot open: %s", path, strerror(errno));
    if ((rc = read_all(fd, &buf, path, err)) < 0)
        goto out;
    if (len_bytes != NULL)
        *len_bytes = buf.len;
    if ((*out = bm_buf_take(&buf)) == NULL)
        rc = bm_fail(err, BM_NOMEM, "%s: no memory to read it", path);
out:
    bm_buf_done(&buf);
    if (!from_stdin)
        close(fd);
    return rc;
}

int bm_write_all(int fd, const void *bytes, size_t len_bytes)
{
    const char *p = bytes;

    while (len_bytes > 0) {
        ssize_t n = write(fd, p, len_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len_bytes -= (size_t)n;
    }
    return 0;
}

int bm_create_beside(bm_buf *name, const char *path, unsigned mode, bm_error *err)
{
    static atomic_uint n_made;
    int fd;

    for (int tries = 0;; tries++) {
        bm_buf_clear(name);
        bm_buf_printf(name, "%s.tmp.%ld.%u", path, (long)getpid(), atomic_fetch_add(&n_made, 1));
        if (name->failed)
            return bm_fail(err, BM_NOMEM, "%s: no memory for its name", path);
        if ((fd = open(name->data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)) >= 0)
            return fd;
        if (errno != EEXIST || tries == 100)             /* EEXIST: left by an earlier process that had our number */
            return bm_fail(err, BM_IO, "%s: cannot create: %s", name->data, strerror(errno));
    }
}

void bm_sync_directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash == NULL ? bm_strdup(".") : bm_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    int fd = dir == NULL ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    bm_free(dir);
}

int bm_write_file(const char *path, const void *bytes, size_t len_bytes, unsigned mode, bm_error *err)
{
    bm_buf tmp = { 0 };
    int rc = 0, fd;

    if ((fd = bm_create_beside(&tmp, path, mode, err)) < 0) {
        rc = fd;
        goto out;
    }
    if (bm_write_all(fd, bytes, len_bytes) < 0 || fsync(fd) < 0 || rename(tmp.data, path) < 0) {
        rc = bm_fail(err, BM_IO, "%s: cannot write: %s", path, strerror(errno));
        unlink(tmp.data);
    }
    close(fd);
    if (rc == 0)
        bm_sync_directory_of(path);
out:
    bm_buf_done(&tmp);
    return rc;
}

int bm_make_dirs(const char *path, bm_error *err)
{
    char *p = bm_strdup(path);
    struct stat st;
    int rc = 0;

    if (p == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory for its name", path);
    for (char *s = p + (p[0] == '/');; s++) {
        if (*s != '/' && *s != '\0')
            continue;
        char was = *s;
        *s = '\0';
        if (p[0] != '\0' && mkdir(p, 0700) < 0 && errno != EEXIST) {
            rc = bm_fail(err, BM_IO, "%s: cannot make the directory: %s", p, strerror(errno));
            break;
        }
        if ((*s = was) == '\0')
            break;
    }
    bm_free(p);
    if (rc == 0 && (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)))
        rc = bm_fail(err, BM_IO, "%s: cannot make the directory: %s", path, path[0] ? "a file has its name" : "its name is empty");
    return rc;
}
