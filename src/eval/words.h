/* words.h - what Python's str does to text, for filters and metrics: strip, case, counting. Text is UTF-8; bytes that are none are kept. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"

/* str.strip: where it begins; *len becomes its length, *begin (may be NULL) the bytes before it. */
const char *bm_words_strip(const char *s, size_t *len, size_t *begin);
/* str.lower or str.upper, appended. */
void bm_words_case(bm_buf *out, const char *s, size_t len, bool upper);
/* Without the characters of Unicode's categories P*; and without string.punctuation or string.digits (ASCII). */
void bm_words_drop_punctuation(bm_buf *out, const char *s, size_t len);
void bm_words_drop_ascii(bm_buf *out, const char *s, size_t len, bool punctuation, bool digits);
/* len(s): code points. */
size_t bm_words_chars(const char *s, size_t len);
