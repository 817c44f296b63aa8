/* nearest.h - which known names a mistyped one may have meant: for commands, options and models. */
#pragma once
#include <stddef.h>

/* Edits (insert, delete, replace, swap of neighbours) from a to b, ASCII case ignored. Names are cut after 127 bytes. */
int bm_edit_distance(const char *a, const char *b);
/* Indices of the at most max names nearest to `want`, best first, into out; returns how many are near enough to be worth
 * naming. A name that contains `want`, or is contained in it, counts as near. */
size_t bm_nearest(const char *want, const char *const *names, size_t n, size_t *out, size_t max);
