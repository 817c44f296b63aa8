/* number.c - numbers as text. The locale is "C" for the whole program: nothing calls setlocale. */
#include "base/number.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Shortest digits: the fewest of 1 to 17 that read back equal. Fills digits without point and the decimal exponent. */
static int shortest(double x, char digits[24], int *exponent)
{
    char text[40];

    for (int precision = 0; precision <= 16; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, x);
        if (strtod(text, NULL) == x)
            break;
    }
    int n = 0;
    char *p = text;
    for (; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    *exponent = atoi(p + 1);
    digits[n] = '\0';
    return n;
}

int bm_number_write(char out[32], double x)
{
    char digits[24];
    int exponent, n = 0;

    if (isnan(x))
        return snprintf(out, 32, "NaN");
    if (isinf(x))
        return snprintf(out, 32, "%s", x < 0 ? "-Infinity" : "Infinity");
    if (signbit(x)) {
        out[n++] = '-';
        x = -x;
    }
    int len = shortest(x, digits, &exponent);
    if (x != 0 && (exponent < -4 || exponent >= 16)) {           /* Python's repr switches to an exponent here */
        out[n++] = digits[0];
        if (len > 1) {
            out[n++] = '.';
            memcpy(out + n, digits + 1, (size_t)len - 1);
            n += len - 1;
        }
        return n + snprintf(out + n, 32 - (size_t)n, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    }
    if (exponent < 0) {
        n += snprintf(out + n, 32 - (size_t)n, "0.%.*s%s", -exponent - 1, "0000", digits);
        return n;
    }
    for (int i = 0; i <= exponent || i < len; i++) {
        if (i == exponent + 1)
            out[n++] = '.';
        out[n++] = i < len ? digits[i] : '0';
    }
    if (len <= exponent + 1)
        out[n++] = '.', out[n++] = '0';
    out[n] = '\0';
    return n;
}

bool bm_parse_int(const char *s, int64_t min, int64_t max, int64_t *out)
{
    char *end;

    if (s == NULL || !(*s == '-' || (*s >= '0' && *s <= '9')))
        return false;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (errno != 0 || end == s || *end != '\0' || v < min || v > max)
        return false;
    *out = v;
    return true;
}

bool bm_parse_double(const char *s, double min, double max, double *out)
{
    char *end;

    if (s == NULL || !(*s == '-' || *s == '.' || (*s >= '0' && *s <= '9')) || strpbrk(s, "xXpP") != NULL)
        return false;
    double v = strtod(s, &end);
    if (end == s || *end != '\0' || !isfinite(v) || v < min || v > max)
        return false;
    *out = v;
    return true;
}
