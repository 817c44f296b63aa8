/* docs.c - where a task's rows are and which reader takes them; JSON and text. CSV is in docs_csv.c. */
#include "eval/docs.h"

#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "eval/docs_internal.h"

enum { MAX_FILE = 1 << 30, MAX_DATA_FILES = 4096 };

int bm_docs_no_memory(bm_error *err, const char *path)
{
    return bm_fail(err, BM_NOMEM, "%s: no memory for its rows", path);
}

/* ---- JSON ---- */

static int add_row(bm_docs_reader *r, json_t *row, size_t line)
{
    if (!json_is_object(row)) {
        json_decref(row);
        return bm_fail(r->err, BM_INVALID, "%s:%zu: a row must be a JSON object", r->path, line);
    }
    return json_array_append_new(r->rows, row) != 0 ? bm_docs_no_memory(r->err, r->path) : 0;
}

static int read_lines(bm_docs_reader *r)
{
    size_t line = 1;

    for (const char *p = r->text, *end = r->text + r->len; p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t len = nl == NULL ? (size_t)(end - p) : (size_t)(nl - p);
        size_t blank = 0;
        json_error_t why;
        while (blank < len && strchr(" \t\r", p[blank]) != NULL && p[blank] != '\0')
            blank++;
        if (blank < len) {
            json_t *row = json_loadb(p, len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &why);
            if (row == NULL)
                return bm_fail(r->err, BM_INVALID, "%s:%zu: not a row of JSON: %.120s", r->path, line, why.text);
            int rc = add_row(r, row, line);
            if (rc < 0)
                return rc;
        }
        p += len + 1;
    }
    return 0;
}

/* The whole file is one value: an array of rows, or an object whose `field` is one. */
static int read_whole(bm_docs_reader *r, json_t *all)
{
    const char *field = json_string_value(json_object_get(r->kwargs, "field"));
    json_t *list = field != NULL ? json_object_get(all, field) : all;
    int rc = 0;

    if (field != NULL && list == NULL)
        return bm_fail(r->err, BM_INVALID, "%s: no key '%.60s' in it", r->path, field);
    if (!json_is_array(list)) {
        bm_fail(r->err, BM_INVALID, "%s: one JSON object, where rows are wanted", r->path);
        return bm_hint(r->err, "name the key that holds the rows: dataset_kwargs: {field: KEY}");
    }
    for (size_t i = 0; i < json_array_size(list) && rc == 0; i++)
        rc = add_row(r, json_incref(json_array_get(list, i)), i + 1);
    return rc;
}

int bm_docs_read_json(bm_docs_reader *r)
{
    size_t begin = strspn(r->text, " \t\r\n");
    bool field = json_object_get(r->kwargs, "field") != NULL;
    json_error_t why;
    json_t *all;
    int rc;

    if (r->len >= 3 && memcmp(r->text, "\xEF\xBB\xBF", 3) == 0)
        r->text += 3, r->len -= 3, begin = strspn(r->text, " \t\r\n");
    if (begin >= r->len)
        return bm_fail(r->err, BM_INVALID, "%s: no rows", r->path);
    if (r->text[begin] == '{' && !field && (rc = read_lines(r)) != BM_INVALID)
        return rc;
    if (r->text[begin] == '{' && !field && json_array_size(r->rows) > 0)         /* rows, and then a broken one */
        return BM_INVALID;
    all = json_loadb(r->text, r->len, JSON_ALLOW_NUL, &why);
    if (all == NULL)
        return bm_fail(r->err, BM_INVALID, "%s:%d: not JSON: %.120s", r->path, why.line, why.text);
    rc = read_whole(r, all);
    json_decref(all);
    return rc;
}

/* ---- text ---- */

static int add_text(bm_docs_reader *r, const char *s, size_t len)
{
    json_t *row = json_object();

    if (row == NULL || json_object_set_new(row, "text", json_stringn_nocheck(s, len)) != 0) {
        json_decref(row);
        return bm_docs_no_memory(r->err, r->path);
    }
    return json_array_append_new(r->rows, row) != 0 ? bm_docs_no_memory(r->err, r->path) : 0;
}

static int split_text(bm_docs_reader *r, const bm_buf *b, const char *by)
{
    bool paragraphs = strcmp(by, "paragraph") == 0;
    size_t step = paragraphs ? 2 : 1;
    int rc = 0;

    for (size_t at = 0; at < b->len && rc == 0;) {
        const char *hit = paragraphs ? strstr(b->data + at, "\n\n") : memchr(b->data + at, '\n', b->len - at);
        size_t end = hit == NULL ? b->len : (size_t)(hit - b->data);
        if (!paragraphs || end > at)
            rc = add_text(r, b->data + at, end - at);
        at = hit == NULL ? b->len : end + step;
    }
    return rc;
}

/* Rows {"text"}: lines (the default), paragraphs, or the file; every kind of line end counts as \n, as in Python's open(). */
int bm_docs_read_text(bm_docs_reader *r)
{
    const char *by = json_string_value(json_object_get(r->kwargs, "sample_by"));
    bm_buf b = {0};
    int rc;

    if (by != NULL && strcmp(by, "line") != 0 && strcmp(by, "paragraph") != 0 && strcmp(by, "document") != 0)
        return bm_fail(r->err, BM_INVALID, "dataset_kwargs.sample_by: '%.40s' is not line, paragraph or document", by);
    if (memchr(r->text, '\0', r->len) != NULL)
        return bm_fail(r->err, BM_INVALID, "%s: a NUL character in a text", r->path);
    bm_buf_reserve(&b, r->len + 1);
    for (size_t i = 0; i < r->len; i++) {
        if (r->text[i] == '\r')
            i += i + 1 < r->len && r->text[i + 1] == '\n', bm_buf_putc(&b, '\n');
        else
            bm_buf_putc(&b, r->text[i]);
    }
    if (b.failed)
        rc = bm_docs_no_memory(r->err, r->path);
    else if (by != NULL && strcmp(by, "document") == 0)
        rc = add_text(r, b.len > 0 ? b.data : "", b.len);
    else
        rc = split_text(r, &b, by != NULL ? by : "line");
    bm_buf_done(&b);
    return rc;
}

/* ---- files ---- */

static bool ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);

    return n >= m && strcasecmp(path + n - m, end) == 0;
}

/* By the builder's name ("json", "csv", "text"), then the ending, then the first bytes and the options given. */
static char format_of(const char *builder, const char *path, const char *text, const json_t *kwargs)
{
    static const char *const csv_options[] = {"column_names", "names", "delimiter", "sep", "header", "skiprows", "quoting"};
    const char *first = text + strspn(text, " \t\r\n\xEF\xBB\xBF");

    if (builder != NULL && strcmp(builder, "json") == 0)
        return 'j';
    if (builder != NULL && strcmp(builder, "csv") == 0)
        return 'c';
    if (builder != NULL && strcmp(builder, "text") == 0)
        return 't';
    if (ends_with(path, ".json") || ends_with(path, ".jsonl") || ends_with(path, ".ndjson"))
        return 'j';
    if (ends_with(path, ".csv") || ends_with(path, ".tsv"))
        return 'c';
    if (ends_with(path, ".txt") || ends_with(path, ".raw") || ends_with(path, ".text"))
        return 't';
    if (*first == '{' || *first == '[')
        return 'j';
    for (size_t i = 0; i < sizeof csv_options / sizeof csv_options[0]; i++)
        if (json_object_get(kwargs, csv_options[i]) != NULL)
            return 'c';
    return json_object_get(kwargs, "sample_by") != NULL || strchr(text, ',') == NULL ? 't' : 'c';
}

static int read_file(json_t *rows, const char *builder, const char *path, const json_t *kwargs, bm_error *err)
{
    bm_docs_reader r = {.path = path, .kwargs = kwargs, .rows = rows, .err = err};
    char *text = NULL;
    int rc = bm_read_file(&text, &r.len, path, MAX_FILE, err);

    if (rc < 0)
        return rc;
    r.text = text;
    if (!bm_utf8_valid(text, r.len))
        rc = bm_fail(err, BM_INVALID, "%s: not UTF-8", path);
    else {
        char format = format_of(builder, path, text, kwargs);
        rc = format == 'j' ? bm_docs_read_json(&r) : format == 't' ? bm_docs_read_text(&r)
           : bm_docs_read_csv(&r, ends_with(path, ".tsv") ? '\t' : ',');
    }
    bm_free(text);
    return rc;
}

int bm_docs_note_features(bm_docs *d, bm_error *err)
{
    json_t *first = json_array_get(d->rows, 0);

    for (size_t i = 0; i < d->n_features; i++)
        bm_free(d->features[i]);
    bm_free(d->features);
    d->features = NULL, d->n_features = 0;
    d->n = json_array_size(d->rows);
    if (d->n == 0)
        return bm_fail(err, BM_INVALID, "%s: no rows", d->path != NULL ? d->path : "samples");
    if ((d->features = bm_calloc(json_object_size(first) + 1, sizeof *d->features)) == NULL)
        return bm_docs_no_memory(err, d->path);
    for (void *it = json_object_iter(first); it != NULL; it = json_object_iter_next(first, it)) {
        if ((d->features[d->n_features] = bm_strdup(json_object_iter_key(it))) == NULL)
            return bm_docs_no_memory(err, d->path);
        d->n_features++;
    }
    return 0;
}

typedef struct paths { char *v[MAX_DATA_FILES]; size_t n; } paths;

static int read_paths(bm_docs **out, const char *builder, const paths *files, const json_t *kwargs, bm_error *err)
{
    bm_docs *d = bm_zalloc(sizeof *d);
    int rc = 0;

    *out = NULL;
    if (d == NULL || (d->rows = json_array()) == NULL || (d->path = bm_strdup(files->v[0])) == NULL)
        rc = bm_docs_no_memory(err, files->v[0]);
    for (size_t i = 0; i < files->n && rc == 0; i++)
        rc = read_file(d->rows, builder, files->v[i], kwargs, err);
    if (rc == 0 && (rc = bm_docs_unify(d->rows, d->path, err)) == 0)
        rc = bm_docs_note_features(d, err);
    if (rc < 0)
        bm_docs_free(d);
    else
        *out = d;
    return rc;
}

int bm_docs_read(bm_docs **out, const char *path, const json_t *dataset_kwargs, bm_error *err)
{
    paths *files = bm_zalloc(sizeof *files);
    int rc;

    *out = NULL;
    if (files == NULL)
        return bm_docs_no_memory(err, path);
    files->v[0] = (char *)(uintptr_t)path, files->n = 1;
    rc = read_paths(out, NULL, files, dataset_kwargs, err);
    bm_free(files);
    return rc;
}

void bm_docs_free(bm_docs *docs)
{
    if (docs == NULL)
        return;
    for (size_t i = 0; i < docs->n_features; i++)
        bm_free(docs->features[i]);
    bm_free(docs->features);
    bm_free(docs->path);
    json_decref(docs->rows);
    bm_free(docs);
}

bool bm_docs_has_feature(const bm_docs *docs, const char *name)
{
    for (size_t i = 0; i < docs->n_features; i++)
        if (strcmp(docs->features[i], name) == 0)
            return true;
    return false;
}

/* ---- a task's split ---- */

static int add_path(paths *files, const bm_task *task, const json_t *name, bm_error *err)
{
    const char *text = json_string_value(name), *slash = strrchr(task->file, '/');
    bm_buf b = {0};

    if (text == NULL || strstr(text, "://") != NULL) {
        bm_fail(err, BM_INVALID, "%s: dataset_kwargs.data_files: '%.80s' is not a local file", task->file, text != NULL ? text : "(not a string)");
        return bm_hint(err, "download it, then baimo data add FILE --as OWNER/SET:SPLIT");
    }
    if (files->n == MAX_DATA_FILES)
        return bm_fail(err, BM_LIMIT, "%s: more than %d data files", task->file, MAX_DATA_FILES);
    if (text[0] != '/' && slash != NULL)
        bm_buf_add(&b, task->file, (size_t)(slash - task->file) + 1);
    bm_buf_puts(&b, text);
    files->v[files->n] = bm_buf_take(&b);
    return files->v[files->n] == NULL ? bm_docs_no_memory(err, text) : (files->n++, 0);
}

/* data_files: a map of splits, or a file or a list, which are the split "train". 1: none for this split. */
static int find_data_files(paths *files, const bm_task *task, const char *split, bm_error *err)
{
    const json_t *all = json_object_get(task->dataset_kwargs, "data_files");
    const json_t *mine = json_is_object(all) ? json_object_get(all, split) : strcmp(split, "train") == 0 ? all : NULL;
    int rc = 0;

    if (all == NULL)
        return 1;
    if (mine == NULL)
        return bm_fail(err, BM_NOTFOUND, "%s: dataset_kwargs.data_files has no split '%.60s'", task->file, split);
    if (!json_is_array(mine))
        return add_path(files, task, mine, err);
    for (size_t i = 0; i < json_array_size(mine) && rc == 0; i++)
        rc = add_path(files, task, json_array_get(mine, i), err);
    return rc < 0 || files->n > 0 ? rc : bm_fail(err, BM_INVALID, "%s: dataset_kwargs.data_files: no files", task->file);
}

static bool is_builder(const char *name)
{
    return name != NULL && (strcmp(name, "json") == 0 || strcmp(name, "csv") == 0 || strcmp(name, "text") == 0);
}

static int resolve_one(paths *files, const bm_task *task, const char *split, bm_data_resolve *resolve, void *arg, bm_error *err)
{
    int rc;

    if (task->dataset_path == NULL || is_builder(task->dataset_path))
        return bm_fail(err, BM_INVALID, "%s: dataset_%s", task->file,
                       task->dataset_path == NULL ? "path: missing" : "kwargs.data_files: missing: a dataset_path of json, csv or text needs it");
    if (resolve == NULL) {
        bm_fail(err, BM_NOTFOUND, "%s: the data of %.80s are not here", task->name, task->dataset_path);
        return bm_hint(err, "baimo data add FILE --as %.80s%s%.40s:%.40s", task->dataset_path, task->dataset_name != NULL ? "/" : "",
                       task->dataset_name != NULL ? task->dataset_name : "", split);
    }
    if ((rc = resolve(arg, task->dataset_path, task->dataset_name, split, &files->v[0], err)) < 0)
        return rc;
    files->n = 1;
    return 0;
}

int bm_docs_load(bm_docs **out, const bm_task *task, const char *split, bm_data_resolve *resolve, void *arg, bm_error *err)
{
    paths *files = bm_zalloc(sizeof *files);
    int rc;

    *out = NULL;
    if (files == NULL)
        return bm_docs_no_memory(err, task->name);
    if ((rc = find_data_files(files, task, split, err)) > 0)
        rc = resolve_one(files, task, split, resolve, arg, err);
    if (rc == 0)
        rc = read_paths(out, is_builder(task->dataset_path) ? task->dataset_path : NULL, files, task->dataset_kwargs, err);
    for (size_t i = 0; i < files->n; i++)
        bm_free(files->v[i]);
    bm_free(files);
    return rc;
}
