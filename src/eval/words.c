/* words.c - Python's str on UTF-8; see words.h. */
#include "eval/words.h"

#include <ctype.h>
#include <string.h>

#include <utf8proc.h>

#include "base/utf8.h"
#include "text/jinja.h"
#include "text/unicode.h"

const char *bm_words_strip(const char *s, size_t *len, size_t *begin)
{
    size_t left = bm_j_lstrip(s, *len);

    *len = bm_j_rstrip(s + left, *len - left);
    if (begin != NULL)
        *begin = left;
    return s + left;
}

/* Bytes of the character at s, at least one. */
static size_t step(const char *s, size_t len, uint32_t *cp)
{
    int n = bm_utf8_decode(s, len, cp);

    if (n > 0)
        return (size_t)n;
    *cp = UINT32_MAX;                        /* no character: kept as it is */
    return 1;
}

/* Lower case of 'İ' is two characters, and capital sigma at the end of a word is 'ς'; both as Python has them. */
static void put_lower(bm_buf *out, const char *s, size_t at, size_t len, uint32_t cp)
{
    char utf8[4];

    if (cp == 0x130) {
        bm_buf_puts(out, "i\xCC\x87");
    } else if (cp == 0x3A3) {
        uint32_t before = 0, after = 0;
        size_t i = at;
        do
            i -= i > 0;
        while (i > 0 && ((unsigned char)s[i] & 0xC0) == 0x80);
        if (at > 0)
            bm_utf8_decode(s + i, at - i, &before);
        if (at + 2 < len)
            bm_utf8_decode(s + at + 2, len - at - 2, &after);
        bool letter_before = before != 0 && bm_unicode_class(before) & BM_U_LETTER;
        bool letter_after = after != 0 && bm_unicode_class(after) & BM_U_LETTER;
        bm_buf_puts(out, letter_before && !letter_after ? "\xCF\x82" : "\xCF\x83");
    } else {
        bm_buf_add(out, utf8, (size_t)bm_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)cp), utf8));
    }
}

void bm_words_case(bm_buf *out, const char *s, size_t len, bool upper)
{
    uint32_t cp;
    char utf8[4];

    for (size_t at = 0, n; at < len; at += n) {
        n = step(s + at, len - at, &cp);
        if (cp == UINT32_MAX)
            bm_buf_putc(out, s[at]);
        else if (!upper)
            put_lower(out, s, at, len, cp);
        else if (cp == 0xDF)
            bm_buf_puts(out, "SS");
        else
            bm_buf_add(out, utf8, (size_t)bm_utf8_encode((uint32_t)utf8proc_toupper((utf8proc_int32_t)cp), utf8));
    }
}

void bm_words_drop_punctuation(bm_buf *out, const char *s, size_t len)
{
    uint32_t cp;

    for (size_t at = 0, n; at < len; at += n) {
        n = step(s + at, len - at, &cp);
        if (cp == UINT32_MAX || !(bm_unicode_class(cp) & BM_U_PUNCT))
            bm_buf_add(out, s + at, n);
    }
}

void bm_words_drop_ascii(bm_buf *out, const char *s, size_t len, bool punctuation, bool digits)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (!(punctuation && c < 0x80 && ispunct(c)) && !(digits && c < 0x80 && isdigit(c)))
            bm_buf_putc(out, s[i]);
    }
}

size_t bm_words_chars(const char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)s[i] & 0xC0) != 0x80;
    return n;
}
