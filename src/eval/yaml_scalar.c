/* yaml_scalar.c - the implicit types of YAML 1.1 as PyYAML resolves them: its regular expressions, written as scanners.
 * Timestamps stay strings: task files have no use for dates. */
#include "eval/yaml_scalar.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

static bool one_of(const char *s, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strcmp(s, *words) == 0)
            return true;
    return false;
}

static bool is_null(const char *s)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};
    return one_of(s, words);
}

static bool is_bool(const char *s, bool *out)
{
    static const char *const yes[] = {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", NULL};
    static const char *const no[] = {"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", NULL};
    *out = one_of(s, yes);
    return *out || one_of(s, no);
}

static size_t run(const char *s, const char *set) { return strspn(s, set); }

/* Digits in a base, with "_" skipped. 1 read, 0 not such a number, -1 too large. */
static int digits(const char *s, unsigned base, bool negative, int64_t *out)
{
    uint64_t x = 0, limit = (uint64_t)INT64_MAX + negative;

    for (; *s != '\0'; s++) {
        if (*s == '_')
            continue;
        unsigned d = *s <= '9' ? (unsigned)(*s - '0') : (unsigned)((*s | 32) - 'a' + 10);
        if (d >= base)
            return 0;
        if (x > (limit - d) / base)
            return -1;
        x = x * base + d;
    }
    *out = negative ? (int64_t)(0 - x) : (int64_t)x;
    return 1;
}

/* "1:30:00": each part but the first below 60. */
static int sexagesimal(const char *s, bool negative, int64_t *out)
{
    int64_t x = 0;

    for (;;) {
        char *end;
        long part = strtol(s, &end, 10);
        if (x > INT64_MAX / 61 || part > 1000000000L)
            return -1;
        x = x * 60 + part;
        if (*end == '\0')
            break;
        s = end + 1;
    }
    *out = negative ? -x : x;
    return 1;
}

static bool looks_sexagesimal(const char *s)
{
    if (*s < '1' || *s > '9')
        return false;
    s += run(s, "0123456789");                           /* "_" inside is not read here: strtol stops at it */
    if (*s != ':')
        return false;
    while (*s == ':') {
        s++;
        if (s[0] >= '0' && s[0] <= '5' && s[1] >= '0' && s[1] <= '9')
            s += 2;
        else if (s[0] >= '0' && s[0] <= '9')
            s++;
        else
            return false;
    }
    return *s == '\0';
}

static int read_int(const char *s, int64_t *out)
{
    bool negative = *s == '-';

    s += *s == '-' || *s == '+';
    if (s[0] == '0' && s[1] == 'b' && s[2] != '\0' && s[2 + run(s + 2, "01_")] == '\0')
        return digits(s + 2, 2, negative, out);
    if (s[0] == '0' && s[1] == 'x' && s[2] != '\0' && s[2 + run(s + 2, "0123456789abcdefABCDEF_")] == '\0')
        return digits(s + 2, 16, negative, out);
    if (s[0] == '0' && s[1] != '\0' && s[1 + run(s + 1, "01234567_")] == '\0')
        return digits(s + 1, 8, negative, out);
    if (strcmp(s, "0") == 0 || (*s >= '1' && *s <= '9' && s[run(s, "0123456789_")] == '\0'))
        return digits(s, 10, negative, out);
    return looks_sexagesimal(s) ? sexagesimal(s, negative, out) : 0;
}

/* Python's float(): decimal digits, "_" gone. */
static bool to_double(const char *s, double *out)
{
    char text[400];
    size_t n = 0;

    for (; *s != '\0' && n + 1 < sizeof text; s++)
        if (*s != '_')
            text[n++] = *s;
    text[n] = '\0';
    *out = strtod(text, NULL);
    return *s == '\0';
}

static bool exponent_or_end(const char *s)
{
    if (*s == '\0')
        return true;
    if ((*s != 'e' && *s != 'E') || (s[1] != '-' && s[1] != '+'))
        return false;
    return s[2] != '\0' && s[2 + run(s + 2, "0123456789")] == '\0';
}

static bool read_real(const char *all, double *out)
{
    static const char *const infs[] = {".inf", ".Inf", ".INF", NULL}, *const nans[] = {".nan", ".NaN", ".NAN", NULL};
    const char *s = all + (*all == '-' || *all == '+');

    if (one_of(s, infs)) {
        *out = *all == '-' ? -INFINITY : INFINITY;
        return true;
    }
    if (one_of(all, nans)) {
        *out = NAN;
        return true;
    }
    if (*s >= '0' && *s <= '9') {
        s += run(s, "0123456789_");
        if (*s != '.')
            return false;
        s += 1 + run(s + 1, "0123456789_");
        return exponent_or_end(s) && to_double(all, out);
    }
    if (s == all && s[0] == '.' && s[1] >= '0' && s[1] <= '9') {
        s += 1 + run(s + 1, "0123456789_");
        return exponent_or_end(s) && to_double(all, out);
    }
    return false;
}

const char *bm_yaml_scalar_resolve(bm_yaml_node *n)
{
    const char *s = n->s;
    bool b;
    int64_t i;
    double f;
    int rc;

    if (strlen(s) != n->len)
        return NULL;                                     /* a NUL inside: only a string can have it */
    if (is_null(s)) {
        n->kind = BM_YAML_NULL;
    } else if (is_bool(s, &b)) {
        n->kind = BM_YAML_BOOL;
        n->b = b;
    } else if ((rc = read_int(s, &i)) != 0) {
        if (rc < 0)
            return "an integer that does not fit into 64 bits";
        n->kind = BM_YAML_INT;
        n->i = i;
    } else if (read_real(s, &f)) {
        n->kind = BM_YAML_REAL;
        n->f = f;
    }
    return NULL;
}

const char *bm_yaml_scalar_tagged(bm_yaml_node *n, const char *tag)
{
    static const char prefix[] = "tag:yaml.org,2002:";
    static const struct { const char *name; bm_yaml_kind kind; } known[] = {
        {"null", BM_YAML_NULL}, {"bool", BM_YAML_BOOL}, {"int", BM_YAML_INT}, {"float", BM_YAML_REAL}};

    if (strncmp(tag, prefix, sizeof prefix - 1) != 0)
        return "a tag that task files do not have";
    tag += sizeof prefix - 1;
    if (strcmp(tag, "str") == 0)
        return NULL;
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
        if (strcmp(tag, known[k].name) != 0)
            continue;
        const char *why = bm_yaml_scalar_resolve(n);
        if (why == NULL && n->kind == BM_YAML_INT && known[k].kind == BM_YAML_REAL) {
            n->f = (double)n->i;
            n->kind = BM_YAML_REAL;
        }
        return why != NULL ? why : n->kind == known[k].kind ? NULL : "the value is not of its tag's type";
    }
    return "a tag that task files do not have";
}

bool bm_yaml_scalar_text(const bm_yaml_node *n, char out[40])
{
    switch (n->kind) {
    case BM_YAML_NULL:
        strcpy(out, "null");
        return true;
    case BM_YAML_BOOL:
        strcpy(out, n->b ? "true" : "false");
        return true;
    case BM_YAML_INT:
        snprintf(out, 40, "%lld", (long long)n->i);
        return true;
    case BM_YAML_REAL:
        bm_number_write(out, n->f);
        return true;
    default:
        return false;
    }
}
