/* literal.h - Python literals as values: ast.literal_eval for what templates print ("['a', 'b']", "3", "{'x': None}").
 * Strings (with prefixes, escapes and concatenation), numbers, True, False, None, lists, tuples, dicts and sets; a tuple or a set
 * comes out as an array. */
#pragma once
#include <jansson.h>
#include "base/error.h"

/* BM_INVALID: not a literal, with where; complex numbers, bytes and integers beyond 64 bits are BM_UNSUPPORTED. */
int bm_literal_parse(json_t **out, const char *text, size_t len, bm_error *err);
