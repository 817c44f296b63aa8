/* multipart.c - see multipart.h. */
#define _GNU_SOURCE             /* memmem */
#include "server/multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { PREAMBLE, AFTER_DELIMITER, HEAD, BODY, EPILOGUE };
enum { MOST_HEAD = 4096, MOST_PARTS = 16, MOST_PREAMBLE = 4096 };

/* The value of a parameter `; name=value` or `; name="value"` of a header, into out; false when it is absent or does not fit. */
static bool parameter(const char *s, size_t len, const char *name, char *out, size_t room)
{
    size_t want = strlen(name), i = 0, n = 0;

    while (i < len) {
        while (i < len && s[i] != ';')
            i++;
        for (i++; i < len && (s[i] == ' ' || s[i] == '\t'); i++)
            ;
        if (i + want >= len || strncasecmp(s + i, name, want) != 0 || s[i + want] != '=')
            continue;
        i += want + 1;
        bool quoted = i < len && s[i] == '"';
        for (i += quoted; i < len && (quoted ? s[i] != '"' : s[i] != ';' && s[i] != ' '); i++) {
            if (quoted && s[i] == '\\' && i + 1 < len)
                i++;
            if (n + 1 >= room)
                return false;
            out[n++] = s[i];
        }
        out[n] = '\0';
        return n > 0;
    }
    return false;
}

bool bm_multipart_init(bm_multipart *m, const char *content_type)
{
    char boundary[72];

    if (content_type == NULL || strncasecmp(content_type, "multipart/form-data", 19) != 0 ||
        !parameter(content_type, strlen(content_type), "boundary", boundary, 71))
        return false;
    m->delimiter_len = (size_t)snprintf(m->delimiter, sizeof m->delimiter, "\r\n--%s", boundary);
    m->state = PREAMBLE;
    m->n_parts = 0;
    m->buf = (bm_buf){ .limit = 1 << 20 };
    bm_buf_puts(&m->buf, "\r\n");                    /* the first boundary may stand at the very beginning */
    return !m->buf.failed;
}

void bm_multipart_done(bm_multipart *m) { bm_buf_done(&m->buf); }

bool bm_multipart_complete(const bm_multipart *m) { return m->state == EPILOGUE; }

static void drop(bm_multipart *m, size_t n)
{
    memmove(m->buf.data, m->buf.data + n, m->buf.len - n);
    m->buf.len -= n;
}

static int bad(const char **why, const char *what)
{
    *why = what;
    return 400;
}

/* The head of a part without its empty line. */
static int take_head(bm_multipart *m, size_t len, const char **why)
{
    char name[64] = "", filename[256] = "";
    const char *line = m->buf.data, *end = m->buf.data + len;

    while (line < end) {
        const char *stop = memmem(line, (size_t)(end - line), "\r\n", 2);
        size_t n = (size_t)((stop == NULL ? end : stop) - line);
        if (n > 20 && strncasecmp(line, "Content-Disposition:", 20) == 0) {
            if (!parameter(line, n, "name", name, sizeof name))
                return bad(why, "a part of the form has no name");
            parameter(line, n, "filename", filename, sizeof filename);
        } else if (n > 26 && strncasecmp(line, "Content-Transfer-Encoding:", 26) == 0) {
            return bad(why, "a part of the form has a Content-Transfer-Encoding, which is not read");
        }
        line += n + 2;
    }
    if (name[0] == '\0')
        return bad(why, "a part of the form has no Content-Disposition with a name");
    if (++m->n_parts > MOST_PARTS)
        return bad(why, "the form has too many parts");
    return m->part(m->arg, name, filename, why);
}

/* One step over what is in the buffer: 1 to go on, 0 when more is needed, else an HTTP status. */
static int step(bm_multipart *m, const char **why)
{
    const char *data = m->buf.data, *at;
    size_t len = m->buf.len;
    int status;

    switch (m->state) {
    case PREAMBLE:
        if ((at = memmem(data, len, m->delimiter, m->delimiter_len)) == NULL)
            return len > MOST_PREAMBLE ? bad(why, "the form does not begin with its boundary") : 0;
        drop(m, (size_t)(at - data) + m->delimiter_len);
        m->state = AFTER_DELIMITER;
        return 1;
    case AFTER_DELIMITER:
        if (len < 2)
            return 0;
        if (memcmp(data, "--", 2) != 0 && memcmp(data, "\r\n", 2) != 0)
            return bad(why, "a boundary of the form is followed by something else than a line's end");
        m->state = data[0] == '-' ? EPILOGUE : HEAD;
        drop(m, data[0] == '-' ? 2 : 0);             /* the line's end belongs to the head: it may be empty */
        return 1;
    case HEAD:
        if ((at = memmem(data, len, "\r\n\r\n", 4)) == NULL)
            return len > MOST_HEAD ? bad(why, "the head of a part of the form is too long") : 0;
        if (at - data > MOST_HEAD)
            return bad(why, "the head of a part of the form is too long");
        if ((status = take_head(m, (size_t)(at - data), why)) != 0)
            return status;
        drop(m, (size_t)(at - data) + 4);
        m->state = BODY;
        return 1;
    case BODY: {
        at = memmem(data, len, m->delimiter, m->delimiter_len);
        size_t sure = at != NULL ? (size_t)(at - data) : len < m->delimiter_len ? 0 : len - m->delimiter_len + 1;
        if (sure > 0 && (status = m->data(m->arg, data, sure, why)) != 0)
            return status;
        drop(m, sure + (at != NULL ? m->delimiter_len : 0));
        if (at != NULL)
            m->state = AFTER_DELIMITER;
        return at != NULL;
    }
    default:
        drop(m, len);
        return 0;
    }
}

int bm_multipart_feed(bm_multipart *m, const char *bytes, size_t len, const char **why)
{
    int rc = 1;

    bm_buf_add(&m->buf, bytes, len);
    if (m->buf.failed) {
        *why = "no memory for the form";
        return 503;
    }
    while (rc == 1)
        rc = step(m, why);
    return rc;
}
