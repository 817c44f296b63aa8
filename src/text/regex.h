/* regex.h - users' regular expressions (task filters, metric options, |regex_replace) with the meaning of Python's re, on PCRE2.
 * What Python writes differently is translated (\Z, {,n}, \uXXXX); \d \w \s and case are Unicode's. Text must be valid UTF-8. A match may
 * take a bounded number of steps, so that no pattern on no text can hang the program: BM_LIMIT. Offsets are bytes.
 * A compiled expression is read-only: any thread may use it. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

typedef struct bm_regex bm_regex;
enum { BM_REGEX_IGNORECASE = 1, BM_REGEX_MULTILINE = 2, BM_REGEX_DOTALL = 4 };

/* Compile pattern[0..len). Errors: BM_INVALID "regular expression 'P': what, at offset N". */
int  bm_regex_compile(bm_regex **out, const char *pattern, size_t len, int flags, bm_error *err);
void bm_regex_free(bm_regex *regex);
uint32_t bm_regex_groups(const bm_regex *regex);                 /* capture groups */

/* Walk the matches as Python's finditer does: start from {0}; 1: a match (spans[2*g], spans[2*g+1] of group g, SIZE_MAX when it
 * took no part; at most max_groups + 1 of them are written), 0: no more, negative: failed. */
typedef struct bm_regex_walk { size_t at; bool must_advance, done; } bm_regex_walk;
int  bm_regex_next(const bm_regex *regex, const char *text, size_t len, bm_regex_walk *walk, size_t *spans, uint32_t max_groups,
                   bm_error *err);
/* re.search: 1 found, 0 not. span may be NULL. */
int  bm_regex_search(const bm_regex *regex, const char *text, size_t len, size_t span[2], bm_error *err);
/* re.findall: an array of strings, or of arrays of strings when there are two groups or more. */
int  bm_regex_findall(json_t **out, const bm_regex *regex, const char *text, size_t len, bm_error *err);
/* re.sub with a template (\1, \g<1>, \g<name>, \n, ...); count 0: all. */
int  bm_regex_sub(bm_buf *out, const bm_regex *regex, const char *repl, size_t len_repl, const char *text, size_t len, size_t count,
                  bm_error *err);
/* re.escape, appended. */
void bm_regex_escape(bm_buf *out, const char *text, size_t len);
