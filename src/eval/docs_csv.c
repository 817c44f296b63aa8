/* docs_csv.c - CSV and TSV as pandas.read_csv reads them for HF datasets: quoting, which words are missing values, and the type of a
 * column from all its values (integers, reals, booleans, else strings). Options: delimiter/sep, column_names/names, header, skiprows,
 * quoting (0 minimal, 3 none), quotechar, keep_default_na, na_values. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "eval/docs_internal.h"

enum { MAX_COLUMNS = 4096 };

typedef struct cell { const char *s; size_t len; bool missing; } cell;     /* missing: no such field in the row */

typedef struct csv {
    bm_docs_reader *r;
    const char *p, *end;
    size_t line;
    char delimiter, quote;               /* quote '\0': none */
    bool default_na;
    const json_t *na_values;
    bm_arena arena;
    cell *cells;                         /* n_rows * n_columns */
    size_t n_rows, cap_rows, n_columns;
    const char **names;
    cell row[MAX_COLUMNS];
    size_t n_row;
} csv;

static int bad(csv *c, const char *what) { return bm_fail(c->r->err, BM_INVALID, "%s:%zu: %s", c->r->path, c->line, what); }

/* ---- fields ---- */

static bool at_end_of_field(const csv *c) { return c->p >= c->end || *c->p == c->delimiter || *c->p == '\n' || *c->p == '\r'; }

static void quoted(csv *c, bm_buf *b)
{
    for (c->p++; c->p < c->end; c->p++) {
        if (*c->p == c->quote) {
            if (c->p + 1 < c->end && c->p[1] == c->quote)
                c->p++;
            else
                break;
        }
        c->line += *c->p == '\n';
        bm_buf_putc(b, *c->p);
    }
    c->p += c->p < c->end;
}

/* A quote only counts at the field's start; what follows its end is part of the field. */
static int read_field(csv *c, cell *out)
{
    bm_buf b = {0};

    if (c->p < c->end && c->quote != '\0' && *c->p == c->quote)
        quoted(c, &b);
    while (!at_end_of_field(c))
        bm_buf_putc(&b, *c->p++);
    out->missing = false;
    out->len = b.len;
    out->s = b.failed ? NULL : bm_arena_strndup(&c->arena, b.len > 0 ? b.data : "", b.len);
    bm_buf_done(&b);
    return out->s == NULL ? bm_docs_no_memory(c->r->err, c->r->path) : 0;
}

static void end_line(csv *c)
{
    if (c->p < c->end && *c->p == '\r')
        c->p++;
    if (c->p < c->end && *c->p == '\n')
        c->p++;
    c->line++;
}

/* The next row that is not blank: 1, or 0 at the end. */
static int read_row(csv *c)
{
    int rc;

    while (c->p < c->end && (*c->p == '\n' || *c->p == '\r'))
        end_line(c);
    if (c->p >= c->end)
        return 0;
    for (c->n_row = 0;; c->p++) {
        if (c->n_row == MAX_COLUMNS)
            return bad(c, "more than 4096 fields");
        if ((rc = read_field(c, &c->row[c->n_row++])) < 0)
            return rc;
        if (c->p >= c->end || *c->p != c->delimiter)
            break;
    }
    return 1;
}

/* ---- options ---- */

static int read_options(csv *c, char delimiter)
{
    const json_t *k = c->r->kwargs, *sep = json_object_get(k, "delimiter"), *quoting = json_object_get(k, "quoting");
    const json_t *quote = json_object_get(k, "quotechar"), *na = json_object_get(k, "keep_default_na");

    if (sep == NULL || json_is_null(sep))
        sep = json_object_get(k, "sep");
    if (sep != NULL && json_string_length(sep) != 1)
        return bm_fail(c->r->err, BM_UNSUPPORTED, "dataset_kwargs.delimiter: one character is wanted");
    if (quoting != NULL && json_integer_value(quoting) != 0 && json_integer_value(quoting) != 3)
        return bm_fail(c->r->err, BM_UNSUPPORTED, "dataset_kwargs.quoting: 0 (minimal) and 3 (none) are read");
    c->delimiter = sep != NULL ? json_string_value(sep)[0] : delimiter;
    c->quote = json_integer_value(quoting) == 3 ? '\0' : json_string_length(quote) == 1 ? json_string_value(quote)[0] : '"';
    c->default_na = na == NULL || !json_is_false(na);
    c->na_values = json_object_get(k, "na_values");
    for (json_int_t skip = json_integer_value(json_object_get(k, "skiprows")); skip > 0 && c->p < c->end; skip--) {
        while (c->p < c->end && *c->p != '\n')
            c->p++;
        end_line(c);
    }
    return 0;
}

static int name_column(csv *c, size_t i, const char *s, size_t len)
{
    char unnamed[32];

    if (len == 0)
        len = (size_t)snprintf(unnamed, sizeof unnamed, "Unnamed: %zu", i), s = unnamed;
    return (c->names[i] = bm_arena_strndup(&c->arena, s, len)) == NULL ? bm_docs_no_memory(c->r->err, c->r->path) : 0;
}

static int read_header(csv *c)
{
    const json_t *names = json_object_get(c->r->kwargs, "column_names"), *header = json_object_get(c->r->kwargs, "header");
    int rc;

    if (names == NULL || json_is_null(names))
        names = json_object_get(c->r->kwargs, "names");
    if ((c->names = bm_arena_alloc(&c->arena, MAX_COLUMNS * sizeof *c->names)) == NULL)
        return bm_docs_no_memory(c->r->err, c->r->path);
    if (names == NULL || json_is_integer(header)) {
        if ((rc = read_row(c)) <= 0)
            return rc < 0 ? rc : bad(c, "no header");
        c->n_columns = c->n_row;
    }
    if (json_is_array(names))
        c->n_columns = json_array_size(names) < MAX_COLUMNS ? json_array_size(names) : 0;
    for (size_t i = 0; i < c->n_columns; i++) {
        const json_t *name = json_array_get(names, i);
        if (names != NULL && !json_is_string(name))
            return bm_fail(c->r->err, BM_INVALID, "dataset_kwargs.column_names: must be a list of strings");
        if ((rc = name != NULL ? name_column(c, i, json_string_value(name), json_string_length(name))
                               : name_column(c, i, c->row[i].s, c->row[i].len)) < 0)
            return rc;
    }
    return c->n_columns == 0 ? bad(c, "no columns") : 0;
}

static int keep_row(csv *c)
{
    if (c->n_row > c->n_columns)
        return bm_fail(c->r->err, BM_INVALID, "%s:%zu: %zu fields, where there are %zu columns", c->r->path, c->line, c->n_row, c->n_columns);
    if (c->n_rows == c->cap_rows) {
        size_t cap = c->cap_rows == 0 ? 256 : c->cap_rows * 2, len;
        cell *grown = bm_mul_size(cap, c->n_columns * sizeof *grown, &len) ? bm_realloc(c->cells, len) : NULL;
        if (grown == NULL)
            return bm_docs_no_memory(c->r->err, c->r->path);
        c->cells = grown, c->cap_rows = cap;
    }
    for (size_t i = 0; i < c->n_columns; i++)
        c->cells[c->n_rows * c->n_columns + i] = i < c->n_row ? c->row[i] : (cell){.s = "", .missing = true};
    c->n_rows++;
    return 0;
}

/* ---- types ---- */

static bool is_na(const csv *c, const cell *f)
{
    static const char *const words[] = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
                                        "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"};

    if (f->missing)
        return true;
    for (size_t i = 0; c->default_na && i < sizeof words / sizeof words[0]; i++)
        if (strlen(words[i]) == f->len && memcmp(words[i], f->s, f->len) == 0)
            return true;
    for (size_t i = 0; i < json_array_size(c->na_values); i++) {
        const json_t *w = json_array_get(c->na_values, i);
        if (json_is_string(w) && json_string_length(w) == f->len && memcmp(json_string_value(w), f->s, f->len) == 0)
            return true;
    }
    return false;
}

static bool is_bool(const cell *f)
{
    static const char *const words[] = {"True", "TRUE", "true", "False", "FALSE", "false"};

    for (size_t i = 0; i < 6; i++)
        if (strcmp(words[i], f->s) == 0)
            return true;
    return false;
}

static bool is_int(const cell *f, long long *out)
{
    const char *s = f->s + strspn(f->s, " \t");
    size_t sign = *s == '-' || *s == '+', digits = strspn(s + sign, "0123456789");

    if (digits == 0 || s[sign + digits + strspn(s + sign + digits, " \t")] != '\0')
        return false;
    errno = 0;
    *out = strtoll(s, NULL, 10);
    return errno == 0;
}

static bool is_real(const cell *f, double *out)
{
    const char *s = f->s + strspn(f->s, " \t");
    char *end;

    if (s[strspn(s, "+-")] == '\0' || strpbrk(s, "xXpP(") != NULL)
        return false;
    *out = strtod(s, &end);
    return end != s && end[strspn(end, " \t")] == '\0' && !isnan(*out);
}

/* 'i' integers, 'f' reals, 'b' booleans, 's' strings */
static char column_type(const csv *c, size_t col)
{
    bool ints = true, reals = true, bools = true, any = false, na = false;
    long long i;
    double f;

    for (size_t row = 0; row < c->n_rows && (ints || reals || bools); row++) {
        const cell *v = &c->cells[row * c->n_columns + col];
        if (is_na(c, v)) {
            na = true;
            continue;
        }
        any = true;
        bools = bools && is_bool(v);
        ints = ints && is_int(v, &i);
        reals = reals && is_real(v, &f);
    }
    if (!any)
        return 'f';
    return bools ? 'b' : ints && !na ? 'i' : ints || reals ? 'f' : 's';
}

static json_t *value_of(const csv *c, const cell *v, char type)
{
    long long i;
    double f;

    if (is_na(c, v))
        return json_null();
    if (type == 'i')
        return is_int(v, &i) ? json_integer(i) : NULL;
    if (type == 'f')
        return !is_real(v, &f) ? NULL : isinf(f) ? json_null() : json_real(f);
    if (type == 'b')
        return json_boolean((v->s[0] | 32) == 't');
    return json_stringn_nocheck(v->s, v->len);
}

static int make_rows(csv *c)
{
    char *types = bm_malloc(c->n_columns + 1);
    int rc = types == NULL ? bm_docs_no_memory(c->r->err, c->r->path) : 0;

    for (size_t col = 0; rc == 0 && col < c->n_columns; col++)
        types[col] = column_type(c, col);
    for (size_t row = 0; rc == 0 && row < c->n_rows; row++) {
        json_t *object = json_object();
        if (object == NULL || json_array_append_new(c->r->rows, object) != 0)
            rc = bm_docs_no_memory(c->r->err, c->r->path);
        for (size_t col = 0; rc == 0 && col < c->n_columns; col++)
            if (json_object_set_new_nocheck(object, c->names[col], value_of(c, &c->cells[row * c->n_columns + col], types[col])) != 0)
                rc = bm_docs_no_memory(c->r->err, c->r->path);
    }
    bm_free(types);
    return rc;
}

int bm_docs_read_csv(bm_docs_reader *r, char delimiter)
{
    csv *c = bm_zalloc(sizeof *c);
    int rc;

    if (c == NULL)
        return bm_docs_no_memory(r->err, r->path);
    c->r = r, c->p = r->text, c->end = r->text + r->len, c->line = 1;
    c->arena.limit_bytes = (size_t)3 << 30;
    if (r->len >= 3 && memcmp(r->text, "\xEF\xBB\xBF", 3) == 0)
        c->p += 3;
    if (memchr(r->text, '\0', r->len) != NULL)
        rc = bad(c, "a NUL character in the file");
    else if ((rc = read_options(c, delimiter)) == 0)
        rc = read_header(c);
    while (rc == 0 && (rc = read_row(c)) > 0)
        rc = keep_row(c);
    if (rc == 0)
        rc = make_rows(c);
    bm_arena_done(&c->arena);
    bm_free(c->cells);
    bm_free(c);
    return rc;
}
