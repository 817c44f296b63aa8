/* utf8.c - strict UTF-8. */
#include "base/utf8.h"

int bm_utf8_decode(const char *s, size_t len, uint32_t *cp)
{
    const unsigned char *p = (const unsigned char *)s;
    unsigned lo = 0x80, hi = 0xBF;      /* range of the second byte: excludes overlong forms, surrogates, > U+10FFFF */
    uint32_t c = p[0];
    size_t need;

    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    if (c >= 0xC2 && c <= 0xDF) {
        need = 1, c &= 0x1F;
    } else if (c >= 0xE0 && c <= 0xEF) {
        lo = c == 0xE0 ? 0xA0 : 0x80, hi = c == 0xED ? 0x9F : 0xBF;
        need = 2, c &= 0x0F;
    } else if (c >= 0xF0 && c <= 0xF4) {
        lo = c == 0xF0 ? 0x90 : 0x80, hi = c == 0xF4 ? 0x8F : 0xBF;
        need = 3, c &= 0x07;
    } else {
        return -1;
    }
    for (size_t i = 1; i <= need; i++) {
        if (i >= len || p[i] < lo || p[i] > hi)
            return -(int)i;
        c = c << 6 | (p[i] & 0x3F);
        lo = 0x80, hi = 0xBF;
    }
    *cp = c;
    return (int)need + 1;
}

int bm_utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

bool bm_utf8_valid(const char *s, size_t len)
{
    uint32_t cp;

    for (size_t i = 0; i < len;) {
        int n = bm_utf8_decode(s + i, len - i, &cp);
        if (n < 0)
            return false;
        i += (size_t)n;
    }
    return true;
}

size_t bm_utf8_partial_tail(const char *s, size_t len)
{
    uint32_t cp;

    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char c = (unsigned char)s[len - back];
        if ((c & 0xC0) == 0x80)
            continue;
        size_t need = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
        if (need <= back || c < 0xC2 || c > 0xF4)               /* complete, or no sequence starts so */
            return 0;
        /* Incomplete only if what is there is a valid start: the decoder then consumes all of it as one prefix. */
        return bm_utf8_decode(s + len - back, back, &cp) == -(int)back ? back : 0;
    }
    return 0;
}

void bm_utf8_sanitize(bm_buf *out, const char *s, size_t len)
{
    uint32_t cp;
    size_t good = 0;

    if (len == 0)                                               /* s may be NULL */
        s = "";
    for (size_t i = 0; i < len;) {
        int n = bm_utf8_decode(s + i, len - i, &cp);
        if (n > 0) {
            i += (size_t)n;
            continue;
        }
        bm_buf_add(out, s + good, i - good);
        bm_buf_add(out, "\xEF\xBF\xBD", 3);
        i += (size_t)-n;
        good = i;
    }
    bm_buf_add(out, s + good, len - good);
}
