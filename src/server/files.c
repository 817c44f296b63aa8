/* files.c - /v1/files: training data over HTTP, as OpenAI's clients send it. An upload goes to disk as it comes: the loop writes
 * pieces of at most 16 KiB into the page cache, a worker hashes the whole and makes the row.
 * A key sees its own files; one with scope admin, and who needs no key, sees all. */
#include "server/ask.h"
#include "server/multipart.h"
#include "server/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "server/tuning.h"
#include "store/uploads.h"

enum { MOST_BYTES = 512 << 20, MOST_ROWS = 10000 };

/* ---- an upload ---- */

typedef struct upload {
    bm_body_sink sink;           /* first */
    bm_multipart form;
    bm_upload_row row;
    char *path, *part_path;      /* home/files/ID, and the name that it has until it is whole */
    int fd;
    enum { NOWHERE, TO_PURPOSE, TO_FILE } to;
    bool has_file;
} upload;

static void upload_drop(bm_body_sink *sink)
{
    upload *u = (upload *)(void *)sink;

    if (u->fd >= 0)
        close(u->fd);
    if (u->part_path != NULL)
        unlink(u->part_path);
    bm_multipart_done(&u->form);
    bm_free(u->path);
    bm_free(u->part_path);
    bm_free(u);
}

/* The last part of a path, without what terminals or file systems mind. */
static void take_filename(upload *u, const char *filename)
{
    const char *slash = strrchr(filename, '/');
    bm_buf clean = { 0 };

    filename = slash == NULL ? filename : slash + 1;
    bm_utf8_sanitize(&clean, filename, strlen(filename));
    snprintf(u->row.filename, sizeof u->row.filename, "%s", clean.data == NULL || clean.len == 0 ? "file" : clean.data);
    for (char *p = u->row.filename; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F)
            *p = '_';
    bm_buf_done(&clean);
}

static int on_part(void *arg, const char *name, const char *filename, const char **why)
{
    upload *u = arg;

    u->to = strcmp(name, "purpose") == 0 ? TO_PURPOSE : strcmp(name, "file") == 0 ? TO_FILE : NOWHERE;
    if (u->to != TO_FILE)
        return 0;
    if (u->has_file) {
        *why = "the form holds two files";
        return 400;
    }
    u->has_file = true;
    take_filename(u, filename);
    return 0;
}

static int on_data(void *arg, const char *bytes, size_t len, const char **why)
{
    upload *u = arg;
    size_t have = strlen(u->row.purpose);

    if (u->to == TO_PURPOSE) {
        if (have + len >= sizeof u->row.purpose) {
            *why = "the purpose is too long";
            return 400;
        }
        memcpy(u->row.purpose + have, bytes, len);
        u->row.purpose[have + len] = '\0';
    } else if (u->to == TO_FILE) {
        for (size_t done = 0; done < len;) {
            ssize_t n = write(u->fd, bytes + done, len - done);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0) {
                *why = errno == ENOSPC ? "the disk is full" : "the file cannot be written";
                return 503;
            }
            done += (size_t)n;
        }
        u->row.size_bytes += (int64_t)len;
    }
    return 0;
}

static int upload_take(bm_body_sink *sink, const void *bytes, size_t len, const char **why)
{
    upload *u = (upload *)(void *)sink;

    return bm_multipart_feed(&u->form, bytes, len, why);
}

static int file_path(bm_buf *out, const bm_server *s, const char *id, const char *suffix, bm_error *err)
{
    size_t len = strlen(id);

    if (strncmp(id, "file-", 5) != 0 || len > 37 || len < 13 || strspn(id + 5, "0123456789abcdef") != len - 5)
        return bm_fail(err, BM_NOTFOUND, "there is no file '%.60s'", id);
    bm_buf_printf(out, "%s/files/%s%s", bm_store_home(s->options.store), id, suffix);
    return out->failed ? bm_fail(err, BM_NOMEM, "no memory for a path") : 0;
}

int bm_files_path(const bm_server *server, const char *id, bm_buf *out, bm_error *err)
{
    return file_path(out, server, id, "", err);
}

static int open_upload(bm_server *s, upload *u, bm_error *err)
{
    unsigned char random[12];
    bm_buf dir = { 0 }, path = { 0 }, part = { 0 };
    int rc = bm_random_bytes(random, sizeof random, err);

    memcpy(u->row.id, "file-", 5);
    bm_hex(u->row.id + 5, random, sizeof random);
    bm_buf_printf(&dir, "%s/files", bm_store_home(s->options.store));
    if (rc == 0 && dir.failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a path");
    if (rc == 0 && (rc = bm_make_dirs(dir.data, err)) == 0 && (rc = file_path(&path, s, u->row.id, "", err)) == 0)
        rc = file_path(&part, s, u->row.id, ".part", err);
    if (rc == 0 && ((u->path = bm_buf_take(&path)) == NULL || (u->part_path = bm_buf_take(&part)) == NULL))
        rc = bm_fail(err, BM_NOMEM, "no memory for a path");
    if (rc == 0 && (u->fd = open(u->part_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0)
        rc = bm_fail(err, BM_IO, "a file cannot be made in %s: %s", dir.data, strerror(errno));
    bm_buf_done(&part);
    bm_buf_done(&path);
    bm_buf_done(&dir);
    return rc;
}

bool bm_files_body(bm_server *server, bm_exchange *x)
{
    upload *u = bm_zalloc(sizeof *u);
    bm_error err;
    int rc = 0;

    if (u == NULL) {
        bm_exchange_status(x, 503, "no memory for the request", NULL, "Retry-After: 1\r\n");
        return true;
    }
    u->fd = -1;
    u->sink = (bm_body_sink){ upload_take, upload_drop, MOST_BYTES };
    u->form = (bm_multipart){ .part = on_part, .data = on_data, .arg = u };
    if (!bm_multipart_init(&u->form, x->head.content_type)) {
        upload_drop(&u->sink);
        bm_exchange_status(x, 415, "this route reads multipart/form-data", "send a form with the fields purpose and file", NULL);
        return true;
    }
    if (x->head.length > MOST_BYTES)
        rc = bm_fail(&err, BM_TOOLARGE, "the file is %llu bytes, this server takes at most %d", (unsigned long long)x->head.length,
                     MOST_BYTES);
    if (rc < 0 || open_upload(server, u, &err) < 0) {
        upload_drop(&u->sink);
        bm_exchange_error(x, &err);
        return true;
    }
    u->row.key_id = x->key.id;
    x->sink = &u->sink;
    return false;
}

/* ---- answers ---- */

static void write_file(bm_json *j, const bm_upload_row *f)
{
    bm_json_open(j, '{');
    bm_json_kstr(j, "id", f->id);
    bm_json_kstr(j, "object", "file");
    bm_json_kint(j, "bytes", f->size_bytes);
    bm_json_kint(j, "created_at", f->created_ms / 1000);
    bm_json_kstr(j, "filename", f->filename);
    bm_json_kstr(j, "purpose", f->purpose);
    bm_json_kstr(j, "status", "processed");
    bm_json_kstr(j, "sha256", f->sha256);
    bm_json_close(j, '}');
}

static int check_upload(const upload *u, bm_error *err)
{
    static const char *const purposes[] = { "fine-tune", "evals", "user_data" };

    if (!bm_multipart_complete(&u->form))
        return bm_fail(err, BM_INVALID, "the form ends before its closing boundary");
    if (!u->has_file) {
        bm_fail(err, BM_INVALID, "the form holds no file");
        return bm_param(err, "file"), BM_INVALID;
    }
    for (size_t i = 0; i < sizeof purposes / sizeof purposes[0]; i++)
        if (strcmp(u->row.purpose, purposes[i]) == 0)
            return 0;
    bm_fail(err, BM_INVALID, "purpose '%s': expected fine-tune, evals or user_data", u->row.purpose);
    return bm_param(err, "purpose"), BM_INVALID;
}

static int fill_upload(bm_ask *ask)
{
    upload *u = (upload *)(void *)ask->sink;
    bm_json j = { &ask->out, false };
    bm_sha256 hash;
    int rc;

    if (u == NULL)
        return bm_fail(&ask->err, BM_INVALID, "the request has no body");
    if ((rc = check_upload(u, &ask->err)) < 0)
        return rc;
    if (fsync(u->fd) < 0 || rename(u->part_path, u->path) < 0)
        return bm_fail(&ask->err, BM_IO, "the file cannot be kept: %s", strerror(errno));
    bm_sync_directory_of(u->path);
    u->row.created_ms = bm_wall_ms();
    if ((rc = bm_sha256_file(&hash, u->path, NULL, NULL, &ask->err)) == 0) {
        bm_hex(u->row.sha256, hash.bytes, sizeof hash.bytes);
        rc = bm_uploads_insert(ask->server->options.store, &u->row, &ask->err);
    }
    if (rc < 0)
        unlink(u->path);
    else
        write_file(&j, &u->row);
    return rc;
}

static int fill_files(bm_ask *ask)
{
    bm_json j = { &ask->out, false };
    bm_uploads_filter filter = { .key_id = bm_ask_sees(&ask->key) };
    char after[40], purpose[24];
    bm_upload_row *rows;
    int64_t most;
    size_t n;
    int rc;

    if ((rc = bm_ask_param(ask, "after", after, sizeof after)) < 0 ||
        (rc = bm_ask_param(ask, "purpose", purpose, sizeof purpose)) < 0 ||
        (rc = bm_ask_count(ask, "limit", 1, MOST_ROWS, MOST_ROWS, &most)) < 0)
        return rc;
    filter.after = after, filter.purpose = purpose, filter.most = (size_t)most + 1;
    if ((rc = bm_uploads_list(ask->server->options.store, &filter, &rows, &n, &ask->err)) < 0)
        return rc;
    bm_list_open(&j);
    for (size_t i = 0; i < n && i < (size_t)most; i++)
        write_file(&j, &rows[i]);
    bm_list_close(&j, n > (size_t)most);
    bm_free(rows);
    return 0;
}

/* The file of the path, when this key may see it. */
static int find_file(bm_ask *ask, bm_upload_row *row)
{
    char id[64];
    int64_t sees = bm_ask_sees(&ask->key);
    int rc = bm_ask_segment(ask, 2, id, sizeof id);

    if (rc == 0 && (rc = bm_uploads_find(ask->server->options.store, id, row, &ask->err)) == 0 && sees != 0 && row->key_id != sees)
        rc = bm_fail(&ask->err, BM_NOTFOUND, "there is no file '%s'", id);
    return rc;
}

static int fill_file(bm_ask *ask)
{
    bm_json j = { &ask->out, false };
    bm_upload_row row;
    int rc = find_file(ask, &row);

    if (rc == 0)
        write_file(&j, &row);
    return rc;
}

static int fill_content(bm_ask *ask)
{
    bm_buf path = { 0 };
    bm_upload_row row;
    int rc = find_file(ask, &row);

    if (rc == 0 && (rc = file_path(&path, ask->server, row.id, "", &ask->err)) == 0 &&
        (ask->file = open(path.data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0)
        rc = bm_fail(&ask->err, BM_IO, "the file '%s' cannot be read: %s", row.id, strerror(errno));
    bm_buf_done(&path);
    return rc;
}

static int fill_delete(bm_ask *ask)
{
    bm_json j = { &ask->out, false };
    bm_buf path = { 0 };
    bm_upload_row row;
    int rc = find_file(ask, &row);

    if (rc == 0 && (rc = file_path(&path, ask->server, row.id, "", &ask->err)) == 0 &&
        (rc = bm_uploads_delete(ask->server->options.store, row.id, &ask->err)) == 0) {
        unlink(path.data);
        bm_json_open(&j, '{');
        bm_json_kstr(&j, "id", row.id);
        bm_json_kstr(&j, "object", "file");
        bm_json_kbool(&j, "deleted", true);
        bm_json_close(&j, '}');
    }
    bm_buf_done(&path);
    return rc;
}

void bm_route_upload(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_upload); }
void bm_route_files(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_files); }
void bm_route_file(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_file); }
void bm_route_file_content(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_content); }
void bm_route_file_delete(bm_server *server, bm_exchange *x) { bm_ask_worker(server, x, fill_delete); }
