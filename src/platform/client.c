/* client.c - see client.h. RFC 9112: one request, "Connection: close", a body by Content-Length, by chunks, or to the end. */
#include "platform/client.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/number.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { SILENCE_S = 10, MOST_BYTES = 16 << 20 };

static int dial(int *out, const char *path, bm_error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval silence = { .tv_sec = SILENCE_S };
    int fd;

    if (strlen(path) >= sizeof address.sun_path)
        return bm_fail(err, BM_INVALID, "%s: longer than the %zu bytes of a Unix socket's name", path,
                       sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        return bm_fail(err, BM_IO, "no socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int why = errno;
        close(fd);
        if (why == ENOENT || why == ECONNREFUSED)                /* refused: a socket that a killed server left */
            return bm_fail(err, BM_NOTFOUND, "no server is running here: nothing listens on %s", path);
        return bm_fail(err, BM_IO, "%s: cannot connect: %s", path, strerror(why));
    }
    *out = fd;
    return 0;
}

static int send_all(int fd, const char *bytes, size_t len, const char *socket_path, bm_error *err)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return bm_fail(err, BM_IO, "%s: cannot send: %s", socket_path, strerror(errno));
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

static int receive_all(int fd, bm_buf *in, const char *socket_path, bm_error *err)
{
    char piece[16384];

    for (;;) {
        ssize_t n = recv(fd, piece, sizeof piece, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return bm_fail(err, BM_IO, "%s: the server did not answer: %s", socket_path, strerror(errno));
        if (n == 0)
            return 0;
        bm_buf_add(in, piece, (size_t)n);
        if (in->failed)
            return bm_fail(err, BM_TOOLARGE, "%s: the answer is larger than %d bytes", socket_path, MOST_BYTES);
    }
}

/* The value of a header within the head, NULL when absent; cut at the end of its line by the caller. */
static const char *header(const char *head, const char *name)
{
    size_t n = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) == 0 && line[n] == ':')
            return line + n + 1 + strspn(line + n + 1, " \t");
    }
    return NULL;
}

/* Chunks joined in place: returns the length, or -1 when they are broken. */
static long join_chunks(char *body, size_t len)
{
    size_t in = 0, out = 0;

    for (;;) {
        size_t size = 0, digits = 0;
        for (; in < len && digits < 8; in++, digits++) {
            const char *hex = "0123456789abcdef", *at = memchr(hex, body[in] | 0x20, 16);
            if (at == NULL || (body[in] < 'A' && (body[in] < '0' || body[in] > '9')))
                break;
            size = size * 16 + (size_t)(at - hex);
        }
        char *end = memchr(body + in, '\n', len - in);
        if (digits == 0 || end == NULL)
            return -1;
        in = (size_t)(end - body) + 1;
        if (size == 0)
            return (long)out;
        if (size > len - in || len - in - size < 2)
            return -1;
        memmove(body + out, body + in, size);
        out += size;
        in += size + 2;
    }
}

static int parse(bm_buf *in, int *status, char **body, size_t *len_bytes, const char *socket_path, bm_error *err)
{
    char *head = in->data, *end = in->len == 0 ? NULL : strstr(head, "\r\n\r\n"), length[24];
    const char *value;
    int64_t n;

    if (end == NULL || strncmp(head, "HTTP/1.", 7) != 0 || sscanf(head + 8, " %3d", status) != 1)
        return bm_fail(err, BM_IO, "%s: the answer is not HTTP", socket_path);
    end[2] = '\0';
    char *start = end + 4;
    size_t have = in->len - (size_t)(start - head);
    if ((value = header(head, "Transfer-Encoding")) != NULL && strncasecmp(value, "chunked", 7) == 0) {
        long joined = join_chunks(start, have);
        if (joined < 0)
            return bm_fail(err, BM_IO, "%s: the answer broke off", socket_path);
        have = (size_t)joined;
    } else if ((value = header(head, "Content-Length")) != NULL) {
        snprintf(length, sizeof length, "%.*s", (int)strcspn(value, " \t\r\n"), value);
        if (!bm_parse_int(length, 0, MOST_BYTES, &n) || (size_t)n > have)
            return bm_fail(err, BM_IO, "%s: the answer broke off: %zu bytes of %s", socket_path, have, length);
        have = (size_t)n;
    }
    if ((*body = bm_strndup(start, have)) == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory for the answer", socket_path);
    *len_bytes = have;
    return 0;
}

int bm_client_get(const char *socket_path, const char *path, const char *api_key, int *status, char **body, size_t *len_bytes,
                  bm_error *err)
{
    bm_buf out = { 0 }, in = { .limit = MOST_BYTES };
    int rc, fd = -1;

    *body = NULL, *len_bytes = 0, *status = 0;
    bm_buf_printf(&out, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: application/json\r\n", path);
    if (api_key != NULL && strpbrk(api_key, "\r\n") == NULL)
        bm_buf_printf(&out, "Authorization: Bearer %s\r\n", api_key);
    bm_buf_puts(&out, "\r\n");
    if (out.failed)
        rc = bm_fail(err, BM_NOMEM, "no memory for a request");
    else if ((rc = dial(&fd, socket_path, err)) == 0 && (rc = send_all(fd, out.data, out.len, socket_path, err)) == 0 &&
             (rc = receive_all(fd, &in, socket_path, err)) == 0)
        rc = parse(&in, status, body, len_bytes, socket_path, err);
    if (fd >= 0)
        close(fd);
    bm_buf_done(&in);
    bm_buf_done(&out);
    return rc;
}
