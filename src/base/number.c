/* number.c - numbers as text. The locale is "C" for the whole program: nothing calls setlocale. */
#include "base/number.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reads_back(const char *text, double x, bool single)
{
    return single ? strtof(text, NULL) == (float)x : strtod(text, NULL) == x;
}

/* Add one to the last digit of "d.ddde-xx". */
static void step_up(char *text)
{
    for (char *p = strchr(text, 'e') - 1; p >= text; p--) {
        if (*p == '.')
            continue;
        if (*p != '9') {
            ++*p;
            return;
        }
        *p = '0';
    }
}

/* Shortest digits: the fewest that read back equal, as a double (up to 17) or as a float (up to 9). What fewer than 16 (7)
 * digits can say, 15 (6) digits say with zeros at the end, so only 15, 16 and 17 are tried; subnormals hold fewer digits
 * and are tried one by one. Below a power of two the next number is only half as far as above it, so there the digits that are
 * not the nearest, but one higher, may read back too. Fills digits, without the point, and the decimal exponent. */
static int shortest(double x, bool single, char digits[24], int *exponent)
{
    bool normal = x >= (single ? 0x1p-126 : 0x1p-1022);
    int sure = single ? 6 : 15, most = single ? 9 : 17;
    bool power_of_two = frexp(x, exponent) == 0.5;
    char text[40];

    for (int n_digits = normal ? sure : 1; n_digits <= most; n_digits++) {
        snprintf(text, sizeof text, "%.*e", n_digits - 1, x);
        if (reads_back(text, x, single))
            break;
        if (power_of_two && (step_up(text), reads_back(text, x, single)))
            break;
    }
    int n = 0;
    char *p = text;
    for (; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    *exponent = atoi(p + 1);
    digits[n] = '\0';
    return n;
}

static int write_shortest(char out[32], double x, bool single)
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
    int len = shortest(x, single, digits, &exponent);
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

int bm_number_write(char out[32], double x) { return write_shortest(out, x, false); }
int bm_float_write(char out[32], float x) { return write_shortest(out, (double)x, true); }

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
