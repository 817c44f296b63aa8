/* source.c - a data file, opened and walked row by row. See source.h. */
#include "train/source.h"

#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "train/scan.h"

static const size_t max_file = (size_t)4 << 30;
enum { LOOK_BYTES = 4096 };

struct bm_source {
    bm_source_kind kind;
    char *bytes;
    bm_sha256 sha256;
    bm_scan scan;                /* what is still to be read */
    bool array, done;            /* JSON: inside brackets, whose rows commas part; nothing more will come */
    bool after_row;              /* JSON array: a comma or the end is next */
    char separator;              /* CSV */
    bm_buf names, fields;        /* CSV: the columns' names one behind the other; a record */
    size_t n_columns, *name_ends, *field_ends;
};

const char *bm_source_kind_name(bm_source_kind kind)
{
    static const char *const names[] = { "JSONL", "JSON", "CSV", "text" };

    return names[kind];
}

bm_source_kind bm_source_kind_of(const bm_source *source) { return source->kind; }
bm_sha256 bm_source_sha256(const bm_source *source) { return source->sha256; }

void bm_source_close(bm_source *s)
{
    if (s == NULL)
        return;
    bm_free(s->bytes);
    bm_buf_done(&s->names);
    bm_buf_done(&s->fields);
    bm_free(s->name_ends);
    bm_free(s->field_ends);
    bm_free(s);
}

/* ---- what kind of file ---- */

static bool ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);

    return n > m && strcasecmp(path + n - m, end) == 0;
}

/* Text is UTF-8 without NULs as far as one looks; a mark of another encoding gets its name. */
static int check_text(bm_source *s, const char *path, bm_error *err)
{
    const char *text = s->scan.text;
    size_t n = s->scan.end < LOOK_BYTES ? s->scan.end : LOOK_BYTES;

    if (n >= 2 && (memcmp(text, "\xFF\xFE", 2) == 0 || memcmp(text, "\xFE\xFF", 2) == 0)) {
        bm_fail(err, BM_INVALID, "%s: UTF-16, expected UTF-8", path);
        return bm_hint(err, "iconv -f UTF-16 -t UTF-8 FILE > FILE.utf8");
    }
    if (s->scan.end == 0)
        return bm_fail(err, BM_INVALID, "%s: the file is empty", path);
    if (n >= 2 && memcmp(text, "\x1F\x8B", 2) == 0)
        return bm_fail(err, BM_INVALID, "%s: a gzip file, expected text: gunzip it first", path);
    if (n >= 4 && memcmp(text, "PAR1", 4) == 0)
        return bm_fail(err, BM_INVALID, "%s: a Parquet file, expected JSONL, JSON, CSV or text", path);
    return 0;
}

static int whole_text(bm_source *s, const char *path, bm_error *err)
{
    s->kind = BM_SOURCE_TEXT;
    if (memchr(s->scan.text, '\0', s->scan.end) != NULL)
        return bm_fail(err, BM_INVALID, "%s: holds a NUL byte: not a text", path);
    return bm_utf8_valid(s->scan.text, s->scan.end) ? 0 : bm_fail(err, BM_INVALID, "%s: not UTF-8", path);
}

/* Whether a line is a value of its own: the first one ends where its line does, or the next line begins another object. */
static bool looks_like_lines(const bm_source *s)
{
    bm_scan scan = s->scan;
    uint64_t line;

    bm_scan_blanks(&scan);
    line = scan.line;
    if (bm_scan_value(&scan) && scan.line == line)
        return true;
    scan = s->scan;
    bm_scan_blanks(&scan);
    const char *next = memchr(scan.text + scan.at, '\n', scan.end - scan.at);
    return next != NULL && next + 1 < scan.text + scan.end && next[1] == '{';
}

/* Members of an object that are lists of rows. */
typedef struct lists { bm_scan found; size_t n; bool matched, is_row; bm_buf names; } lists;

static bool is_row_key(const char *key, size_t len)
{
    static const char *const keys[] = { "messages", "conversations", "instances", "chosen", "prompt", "instruction", "text",
                                        "paragraphs", "question", "input" };

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strlen(keys[i]) == len && memcmp(keys[i], key, len) == 0)
            return true;
    return false;
}

/* One member of the object at s; false: no more, or not an object's text. */
static bool next_member(bm_scan *s, lists *l, const char *part)
{
    const char *key;
    size_t len;

    if (!bm_scan_blanks(s) || (s->text[s->at] == ',' && (s->at++, !bm_scan_blanks(s))) || s->text[s->at] != '"')
        return false;
    key = s->text + s->at + 1;
    if (!bm_scan_value(s))
        return false;
    len = (size_t)(s->text + s->at - 1 - key);
    if (!bm_scan_blanks(s) || s->text[s->at] != ':' || (s->at++, !bm_scan_blanks(s)))
        return false;
    bm_scan value = *s;
    if (!bm_scan_value(s))
        return false;
    l->is_row |= is_row_key(key, len);
    if (value.text[value.at] != '[')
        return true;
    bool matches = part != NULL && strlen(part) == len && memcmp(part, key, len) == 0;
    if (matches || !l->matched) {
        l->found = value;
        l->found.at++;
        l->found.end = s->at - 1;
    }
    l->matched |= matches;
    bm_buf_printf(&l->names, "%s%.*s", l->n++ > 0 ? ", " : "", len > 40 ? 40 : (int)len, key);
    return true;
}

static int pick_list(bm_source *s, const char *path, const char *part, bm_error *err)
{
    bm_scan scan = s->scan;
    lists l = { .n = 0, .names = { .limit = 200 } };
    int rc = 0;

    bm_scan_blanks(&scan);
    scan.at++;
    while (next_member(&scan, &l, part))
        ;
    if (part == NULL && (l.is_row || l.n == 0)) {
        s->array = false;                                        /* the object is a row itself */
    } else if (part != NULL ? l.matched : l.n == 1) {
        s->scan = l.found;
        s->array = true;
    } else if (l.n == 0) {
        rc = bm_fail(err, BM_INVALID, "%s: has no list of rows named '%.60s'", path, part);
    } else {
        rc = part != NULL ? bm_fail(err, BM_INVALID, "%s: has no list of rows named '%.60s'", path, part)
                          : bm_fail(err, BM_INVALID, "%s: an object of %zu lists of rows: which one?", path, l.n);
        bm_hint(err, "--part with one of: %s", l.names.failed ? "its keys" : l.names.data);
    }
    bm_buf_done(&l.names);
    return rc;
}

static int open_json(bm_source *s, const char *path, const char *part, bm_error *err)
{
    bm_scan scan = s->scan;

    s->kind = BM_SOURCE_JSON;
    bm_scan_blanks(&scan);
    if (scan.text[scan.at] == '[') {
        s->array = true;
        scan.at++;
        s->scan = scan;
        return 0;
    }
    bm_scan rest = scan;
    bool one = bm_scan_value(&rest) && !bm_scan_blanks(&rest);
    if (one || part != NULL)
        return pick_list(s, path, part, err);
    if (looks_like_lines(s))
        s->kind = BM_SOURCE_JSONL;
    return 0;
}

/* ---- CSV ---- */

static int bad_header(const char *path, bm_error *err)
{
    bm_hint(err, "the first line of a CSV file names its columns; --no-header when it is a row");
    return bm_wrap(err, "%s: line 1", path);
}

/* The names that the columns get: those of the first record, or their numbers. */
static int name_columns(bm_source *s, bool no_header, bm_error *err)
{
    bm_buf names = { 0 };
    json_t *seen = json_object();
    size_t begin = 0;
    int rc = seen == NULL ? bm_fail(err, BM_NOMEM, "no memory for the columns") : 0;

    for (size_t i = 0; i < s->n_columns && rc == 0; begin = s->field_ends[i++]) {
        size_t len = s->field_ends[i] - begin, at = names.len;
        const char *name = s->fields.len > 0 ? s->fields.data + begin : "";
        if (no_header || len == 0)
            bm_buf_printf(&names, "%zu", i + 1);
        else
            bm_buf_add(&names, name, len);
        s->name_ends[i] = names.len;
        if (names.failed)
            rc = bm_fail(err, BM_NOMEM, "no memory for the columns");
        else if (!bm_utf8_valid(names.data + at, names.len - at) || memchr(names.data + at, '\0', names.len - at) != NULL)
            rc = bm_fail(err, BM_INVALID, "the name of column %zu is not UTF-8", i + 1);
        else if (json_object_getn(seen, names.data + at, names.len - at) != NULL)
            rc = bm_fail(err, BM_INVALID, "column %zu has the name of another one", i + 1);
        else if (json_object_setn_new(seen, names.data + at, names.len - at, json_true()) < 0)
            rc = bm_fail(err, BM_NOMEM, "no memory for the columns");
    }
    json_decref(seen);
    s->names = names;
    return rc;
}

static int open_csv(bm_source *s, const char *path, bool no_header, bm_error *err)
{
    bm_scan first = s->scan;
    int rc;

    s->kind = BM_SOURCE_CSV;
    s->separator = ends_with(path, ".tsv") ? '\t' : ',';
    s->name_ends = bm_calloc(BM_SOURCE_MAX_COLUMNS, sizeof *s->name_ends);
    s->field_ends = bm_calloc(BM_SOURCE_MAX_COLUMNS, sizeof *s->field_ends);
    if (s->name_ends == NULL || s->field_ends == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory for the columns", path);
    if ((rc = bm_scan_record(&s->scan, s->separator, &s->fields, s->field_ends, BM_SOURCE_MAX_COLUMNS, &s->n_columns, err)) < 0 ||
        (rc = name_columns(s, no_header, err)) < 0)
        return bad_header(path, err);
    if (no_header)
        s->scan = first;
    return 0;
}

static int next_csv(bm_source *s, json_t **row, uint64_t *line, bm_error *err)
{
    size_t n, begin = 0, name = 0;
    int rc;

    do {
        *line = s->scan.line;
        if ((rc = bm_scan_record(&s->scan, s->separator, &s->fields, s->field_ends, BM_SOURCE_MAX_COLUMNS, &n, err)) != 1)
            return rc;
    } while (n == 1 && s->fields.len == 0);                      /* a blank line */
    if (n != s->n_columns)
        return bm_fail(err, BM_INVALID, "%zu columns, expected %zu as the first line has", n, s->n_columns);
    if (s->fields.len > BM_SOURCE_MAX_ROW)
        return bm_fail(err, BM_INVALID, "a row of %zu bytes, at most %d are read", s->fields.len, (int)BM_SOURCE_MAX_ROW);
    if ((*row = json_object()) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a row");
    for (size_t i = 0; i < n; begin = s->field_ends[i], name = s->name_ends[i], i++) {
        const char *bytes = s->fields.len > 0 ? s->fields.data : "";
        json_t *v = json_stringn(bytes + begin, s->field_ends[i] - begin);
        if (v != NULL && json_object_setn_new(*row, s->names.data + name, s->name_ends[i] - name, v) == 0)
            continue;
        json_decref(*row);
        *row = NULL;
        if (bm_utf8_valid(bytes + begin, s->field_ends[i] - begin))
            return bm_fail(err, BM_NOMEM, "no memory for a row");
        return bm_fail(err, BM_INVALID, "column %zu is not UTF-8", i + 1);
    }
    return 1;
}

/* ---- JSON ---- */

static int parse(const bm_source *s, size_t begin, size_t end, json_t **row, bm_error *err)
{
    json_error_t where;

    if (end - begin > BM_SOURCE_MAX_ROW)
        return bm_fail(err, BM_INVALID, "a row of %zu bytes, at most %d are read", end - begin, (int)BM_SOURCE_MAX_ROW);
    *row = json_loadb(s->scan.text + begin, end - begin, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &where);
    if (*row != NULL)
        return 1;
    if (json_error_code(&where) == json_error_out_of_memory)
        return bm_fail(err, BM_NOMEM, "no memory for a row");
    if (where.line > 1)
        return bm_fail(err, BM_INVALID, "not JSON: its line %d, column %d: %s", where.line, where.column, where.text);
    return bm_fail(err, BM_INVALID, "not JSON: column %d: %s", where.column, where.text);
}

static int next_line(bm_source *s, json_t **row, uint64_t *line, bm_error *err)
{
    if (!bm_scan_blanks(&s->scan))
        return 0;
    size_t begin = s->scan.at;
    const char *end = memchr(s->scan.text + begin, '\n', s->scan.end - begin);

    *line = s->scan.line;
    bm_scan_move(&s->scan, end == NULL ? s->scan.end : (size_t)(end - s->scan.text));
    return parse(s, begin, s->scan.at, row, err);
}

/* In an array: past the comma. 1: a row is next; 0: the array is over. */
static int next_comma(bm_source *s, uint64_t *line, bm_error *err)
{
    bm_scan *scan = &s->scan;
    bool more = bm_scan_blanks(scan), comma = more && scan->text[scan->at] == ',', after = s->after_row;

    *line = scan->line;
    s->after_row = false;
    if (!more || scan->text[scan->at] == ']') {
        s->done = true;
        if (!more)                                               /* the list of a `part` ends before its bracket */
            return scan->text[scan->end] == ']' ? 0 : bm_fail(err, BM_INVALID, "the file ends inside the array");
        scan->at++;
        return bm_scan_blanks(scan) ? bm_fail(err, BM_INVALID, "something stands behind the array") : 0;
    }
    if (comma)
        scan->at++;
    if (comma != after)
        return bm_fail(err, BM_INVALID, comma ? "a comma without a row before it" : "expected a comma between two rows");
    if (comma)
        return bm_scan_blanks(scan) && scan->text[scan->at] != ']' ? 1 : bm_fail(err, BM_INVALID, "a comma without a row behind it");
    return 1;
}

static int next_value(bm_source *s, json_t **row, uint64_t *line, bm_error *err)
{
    int rc = s->array ? next_comma(s, line, err) : bm_scan_blanks(&s->scan);

    if (rc != 1)
        return rc;
    size_t begin = s->scan.at;

    *line = s->scan.line;
    s->after_row = true;
    if (!bm_scan_value(&s->scan)) {
        s->done = true;
        return bm_fail(err, BM_INVALID, "not JSON: the value that begins here does not end");
    }
    return parse(s, begin, s->scan.at, row, err);
}

/* ---- */

int bm_source_next(bm_source *s, json_t **row, uint64_t *line, bm_error *err)
{
    *row = NULL;
    if (s->done)
        return 0;
    switch (s->kind) {
    case BM_SOURCE_CSV:
        return next_csv(s, row, line, err);
    case BM_SOURCE_JSONL:
        return next_line(s, row, line, err);
    case BM_SOURCE_JSON:
        return next_value(s, row, line, err);
    default:
        s->done = true;
        *line = 1;
        *row = json_stringn(s->scan.text + s->scan.at, s->scan.end - s->scan.at);
        return *row == NULL ? bm_fail(err, BM_NOMEM, "no memory for the text") : 1;
    }
}

static int open_kind(bm_source *s, const char *path, const bm_source_options *o, bm_error *err)
{
    const char *part = o->part;
    bm_scan scan = s->scan;
    bool json = !ends_with(path, ".txt") && bm_scan_blanks(&scan) && (scan.text[scan.at] == '{' || scan.text[scan.at] == '[');

    if (part != NULL && !(json && scan.text[scan.at] == '{'))
        return bm_fail(err, BM_INVALID, "%s: no JSON object with lists of rows: it has no part '%.60s'", path, part);
    if (ends_with(path, ".csv") || ends_with(path, ".tsv"))
        return open_csv(s, path, o->no_header, err);
    if (part == NULL && (ends_with(path, ".jsonl") || ends_with(path, ".ndjson"))) {
        s->kind = BM_SOURCE_JSONL;
        return 0;
    }
    return json ? open_json(s, path, part, err) : whole_text(s, path, err);
}

int bm_source_open(bm_source **out, const char *path, const bm_source_options *options, bm_error *err)
{
    bm_source *s = bm_zalloc(sizeof *s);
    size_t len;
    int rc;

    *out = NULL;
    if (s == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory to read it", path);
    if ((rc = bm_read_file(&s->bytes, &len, path, max_file, err)) < 0 || (rc = bm_sha256_bytes(&s->sha256, s->bytes, len, err)) < 0)
        goto out;
    s->scan = (bm_scan){ .text = s->bytes, .end = len, .line = 1 };
    if (len >= 3 && memcmp(s->bytes, "\xEF\xBB\xBF", 3) == 0)
        s->scan.at = 3;                                          /* a byte order mark */
    if ((rc = check_text(s, path, err)) == 0)
        rc = open_kind(s, path, options, err);
    if (rc < 0)
        goto out;
    *out = s, s = NULL;
    rc = 0;
out:
    bm_source_close(s);
    return rc;
}
