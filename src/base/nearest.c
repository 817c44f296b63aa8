/* nearest.c - optimal string alignment distance over three rows. */
#include "base/nearest.h"

#include <string.h>

enum { LONGEST = 127 };

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;

    return m < c ? m : c;
}

int bm_edit_distance(const char *a, const char *b)
{
    size_t na = strnlen(a, LONGEST), nb = strnlen(b, LONGEST);
    int rows[3][LONGEST + 1], *before = rows[0], *above = rows[1], *row = rows[2];

    for (size_t j = 0; j <= nb; j++)
        above[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            char x = lower(a[i - 1]), y = lower(b[j - 1]);
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == lower(b[j - 2]) && y == lower(a[i - 2]) && before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
        int *spare = before;
        before = above, above = row, row = spare;
    }
    return above[nb];
}

static int contains(const char *text, const char *part)
{
    size_t n = strnlen(part, LONGEST);

    for (; n >= 2 && *text != '\0'; text++) {
        size_t i = 0;
        while (i < n && lower(text[i]) == lower(part[i]))
            i++;
        if (i == n)
            return 1;
    }
    return 0;
}

/* Lower is nearer; -1: too far. Up to a third of the longer name may differ, and at least one letter. */
static int score(const char *want, const char *name)
{
    size_t a = strnlen(want, LONGEST), b = strnlen(name, LONGEST), longer = a > b ? a : b;
    int distance = bm_edit_distance(want, name);

    if (contains(name, want) || contains(want, name))
        return distance < 1 ? 0 : 1;
    return (size_t)distance <= 1 + longer / 3 && (size_t)distance < longer ? distance : -1;
}

size_t bm_nearest(const char *want, const char *const *names, size_t n, size_t *out, size_t max)
{
    size_t found = 0;
    int scores[16];

    if (max > sizeof scores / sizeof scores[0])
        max = sizeof scores / sizeof scores[0];
    for (size_t i = 0; i < n && max > 0; i++) {
        int s = score(want, names[i]);
        if (s < 0 || (found == max && s >= scores[found - 1]))
            continue;
        size_t at = found < max ? found++ : found - 1;
        for (; at > 0 && scores[at - 1] > s; at--)
            scores[at] = scores[at - 1], out[at] = out[at - 1];
        scores[at] = s, out[at] = i;
    }
    return found;
}
