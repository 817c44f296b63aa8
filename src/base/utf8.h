/* utf8.h - strict UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"

/* Decode the code point at s[0..len). Returns the bytes it takes (1 to 4) and sets *cp.
 * On invalid bytes returns the negative length of the maximal invalid prefix that Python's errors='replace' (and the WHATWG
 * decoder) turn into one U+FFFD. len must be >= 1. */
int bm_utf8_decode(const char *s, size_t len, uint32_t *cp);
int bm_utf8_encode(uint32_t cp, char out[4]);                    /* bytes written, 1 to 4 */
bool bm_utf8_valid(const char *s, size_t len);
/* Bytes at the end of s that start a sequence still incomplete (0 to 3): what a stream must hold back. */
size_t bm_utf8_partial_tail(const char *s, size_t len);
/* Append s with each invalid prefix replaced by U+FFFD, as Python's bytes.decode(errors='replace'). */
void bm_utf8_sanitize(bm_buf *out, const char *s, size_t len);
