/* number.h - numbers as text: shortest digits that read back as the same double, and strict parsing. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Write x as Python's repr() and json.dumps do ("0.1", "1e-07", "1.0", "1e+16", "NaN", "Infinity"). Returns the length; out has 32 bytes. */
int bm_number_write(char out[32], double x);
/* The same for a float: the fewest digits that read back as the same float (1e-06, not 9.999999974752427e-07). */
int bm_float_write(char out[32], float x);
/* Whole string to integer in [min, max]: false on anything else (no blanks, no sign but a leading '-', base 10). */
bool bm_parse_int(const char *s, int64_t min, int64_t max, int64_t *out);
bool bm_parse_double(const char *s, double min, double max, double *out);   /* finite */
