/* request_head.c - request line and header fields. */
#define _GNU_SOURCE              /* memmem */
#include "server/request_head.h"

#include <string.h>
#include <strings.h>

size_t bm_http_head_length(const char *s, size_t len)
{
    const char *end = len < 4 ? NULL : memmem(s, len, "\r\n\r\n", 4);
    size_t n = end == NULL ? 0 : (size_t)(end - s) + 4;
    const char *bare = memmem(s, n > 0 ? n : len, "\n\n", 2);

    return bare == NULL ? n : (size_t)(bare - s) + 2;
}

static bool is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(const char *s)
{
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++)
        if (!is_token_char((unsigned char)*s))
            return false;
    return true;
}

/* Whether a comma-separated list has a word, in any case. */
static bool list_has(const char *list, const char *word)
{
    size_t n = strlen(word);

    while (*list != '\0') {
        list += strspn(list, " \t,");
        size_t len = strcspn(list, ",");
        size_t bare = len;
        while (bare > 0 && (list[bare - 1] == ' ' || list[bare - 1] == '\t'))
            bare--;
        if (bare == n && strncasecmp(list, word, n) == 0)
            return true;
        list += len;
    }
    return false;
}

static int refuse(const char **why, int status, const char *text)
{
    *why = text;
    return status;
}

static bool parse_length(const char *s, uint64_t *out)
{
    uint64_t v = 0;

    if (*s == '\0' || strlen(s) > 18)
        return false;
    for (; *s != '\0'; s++) {
        if (*s < '0' || *s > '9')
            return false;
        v = v * 10 + (uint64_t)(*s - '0');
    }
    *out = v;
    return true;
}

/* "http://host/path" is what proxies send; its host replaces the Host field. */
static int parse_target(bm_http_head *h, char *target, const char **why)
{
    if (strlen(target) > BM_TARGET_MAX_BYTES)
        return refuse(why, 414, "the request target is too long");
    for (const char *p = target; *p != '\0'; p++)
        if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f)
            return refuse(why, 400, "the request target holds a character that must be percent-encoded");
    if (strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0) {
        char *host = strstr(target, "//") + 2, *path = strchr(host, '/');
        if (path == NULL || path == host)
            return refuse(why, 400, "the request target has no path");
        /* The bytes move one to the left over a '/', which makes room for the NUL between host and path. */
        memmove(host - 1, host, (size_t)(path - host));
        path[-1] = '\0';
        h->host = host - 1;
        target = path;
    }
    if (*target != '/' && !(strcmp(target, "*") == 0 && strcmp(h->method, "OPTIONS") == 0))
        return refuse(why, 400, "the request target must be a path");
    h->target = target;
    if ((h->query = strchr(target, '?')) != NULL)
        *h->query++ = '\0';
    return 0;
}

static int parse_request_line(bm_http_head *h, char *line, const char **why)
{
    char *target = strchr(line, ' '), *version = target == NULL ? NULL : strchr(target + 1, ' ');

    if (version == NULL)
        return refuse(why, 400, "the request line is not METHOD TARGET VERSION");
    *target++ = '\0';
    *version++ = '\0';
    if (!is_token(line) || strlen(line) >= sizeof h->method)
        return refuse(why, 400, "the method is not a word");
    strcpy(h->method, line);
    if (strncmp(version, "HTTP/", 5) != 0)
        return refuse(why, 400, "the request line does not end with a version of HTTP");
    if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
        return refuse(why, 505, "this server speaks HTTP/1.1 and HTTP/1.0");
    h->minor = version[7] - '0';
    h->keep_alive = h->minor == 1;
    return parse_target(h, target, why);
}

static int take_once(char **slot, char *value, const char **why)
{
    if (*slot != NULL)
        return refuse(why, 400, "a header field that may come once came twice");
    *slot = value;
    return 0;
}

static int parse_transfer(bm_http_head *h, const char *value, const char **why)
{
    if (h->chunked || strcasecmp(value, "chunked") != 0)
        return refuse(why, 501, "the only Transfer-Encoding understood is chunked");
    h->chunked = true;
    return 0;
}

static int take_field(bm_http_head *h, const char *name, char *value, char **host, const char **why)
{
    if (strcasecmp(name, "host") == 0)
        return take_once(host, value, why);
    if (strcasecmp(name, "origin") == 0)
        return take_once(&h->origin, value, why);
    if (strcasecmp(name, "authorization") == 0)
        return take_once(&h->authorization, value, why);
    if (strcasecmp(name, "content-type") == 0)
        return take_once(&h->content_type, value, why);
    if (strcasecmp(name, "content-encoding") == 0)
        return take_once(&h->content_encoding, value, why);
    if (strcasecmp(name, "transfer-encoding") == 0)
        return parse_transfer(h, value, why);
    if (strcasecmp(name, "content-length") == 0) {
        if (h->has_length || !parse_length(value, &h->length))
            return refuse(why, 400, "Content-Length must come once and be a number");
        h->has_length = true;
    } else if (strcasecmp(name, "connection") == 0) {
        if (list_has(value, "close"))
            h->keep_alive = false;
    } else if (strcasecmp(name, "expect") == 0) {
        if (strcasecmp(value, "100-continue") != 0)
            return refuse(why, 417, "the only expectation understood is 100-continue");
        h->expect_continue = h->minor == 1;
    }
    return 0;
}

static int parse_field(bm_http_head *h, char *line, char **host, const char **why)
{
    char *colon = strchr(line, ':');

    if (colon == NULL)
        return refuse(why, 400, "a header field has no colon");
    *colon = '\0';
    if (!is_token(line))
        return refuse(why, 400, "the name of a header field is not a word");
    char *value = colon + 1 + strspn(colon + 1, " \t"), *end = value + strlen(value);
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = '\0';
    for (const char *p = value; *p != '\0'; p++)
        if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
            return refuse(why, 400, "a header field holds a control character");
    return take_field(h, line, value, host, why);
}

int bm_http_head_parse(bm_http_head *out, char *head, size_t len, const char **why)
{
    char *host = NULL, *line = head, *end;
    int status, n = 0;

    *out = (bm_http_head){ 0 };
    if (len >= 2 && memcmp(head + len - 2, "\n\n", 2) == 0)
        return refuse(why, 400, "the lines of the head must end with CR LF");
    if (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0 || memchr(head, '\0', len) != NULL)
        return refuse(why, 400, "the head holds a NUL or has no end");
    head[len - 2] = '\0';                                       /* ends with CRLF NUL from here on */
    for (; (end = strstr(line, "\r\n")) != NULL; line = end + 2, n++) {
        *end = '\0';
        if (n > BM_HEAD_MAX_FIELDS)
            return refuse(why, 431, "there are more than 100 header fields");
        if ((status = n == 0 ? parse_request_line(out, line, why) : parse_field(out, line, &host, why)) != 0)
            return status;
    }
    if (out->host == NULL)
        out->host = host;
    if (host == NULL && out->minor == 1)
        return refuse(why, 400, "the Host field is missing");
    if (out->chunked && (out->has_length || out->minor == 0))
        return refuse(why, 400, "Transfer-Encoding and Content-Length exclude each other");
    return 0;
}

bool bm_http_chunk_size(const char *line, size_t len, uint64_t *out)
{
    uint64_t v = 0;
    size_t i = 0;

    for (; i < len && i < 15; i++) {
        unsigned char c = (unsigned char)line[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0)
            break;
        v = v * 16 + (uint64_t)digit;
    }
    *out = v;
    return i > 0 && i < 15 && (i == len || line[i] == ';' || line[i] == ' ' || line[i] == '\t');
}
