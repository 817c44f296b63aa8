/* chat_page.c - the chat page, embedded in the program, under a policy that allows its own script and style, nothing else. */
#include "server/state.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"

extern const unsigned char bm_page[];
extern const unsigned long bm_page_len;

/* 'sha256-...' of what stands between <tag> and </tag>: the only script and the only style of the page. */
static int hash_element(char out[64], const char *open, const char *close, bm_error *err)
{
    const char *page = (const char *)bm_page;
    const char *from = strstr(page, open), *to = from == NULL ? NULL : strstr(from, close);
    bm_sha256 hash;
    int rc;

    out[0] = '\0';
    if (to == NULL)
        return 0;
    from += strlen(open);
    if ((rc = bm_sha256_bytes(&hash, from, (size_t)(to - from), err)) < 0)
        return rc;
    int n = snprintf(out, 64, "'sha256-");
    n += EVP_EncodeBlock((unsigned char *)out + n, hash.bytes, sizeof hash.bytes);
    snprintf(out + n, 64 - (size_t)n, "'");
    return 0;
}

int bm_page_headers(char *out, size_t size, bm_error *err)
{
    char script[64], style[64];
    int rc;

    if ((rc = hash_element(script, "<script>", "</script>", err)) < 0 ||
        (rc = hash_element(style, "<style>", "</style>", err)) < 0)
        return rc;
    snprintf(out, size, "Content-Security-Policy: default-src 'none'; script-src %s; style-src %s; connect-src 'self'; "
             "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\nX-Frame-Options: DENY\r\n"
             "Cross-Origin-Opener-Policy: same-origin\r\nCache-Control: no-cache\r\n",
             *script != '\0' ? script : "'none'", *style != '\0' ? style : "'none'");
    return 0;
}

void bm_page_send(bm_server *server, bm_exchange *x)
{
    bm_exchange_reply(x, 200, "text/html; charset=utf-8", server->page_headers, bm_page, bm_page_len);
}
