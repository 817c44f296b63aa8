/* rows.c - a whole file as rows of tokens: the list of bad ones, duplicates, splits. See rows.h. */
#include "train/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "train/example.h"
#include "train/mask.h"
#include "train/source.h"

typedef struct reader {
    bm_data *data;
    const bm_data_options *options;
    bm_masker masker;
    bm_masked mine, other;       /* of the example that is read */
    size_t cap_rows, cap_bad;
    bool whole_text;             /* the file is one document */
} reader;

static int no_memory(bm_error *err) { return bm_fail(err, BM_NOMEM, "no memory for the rows of the data"); }

/* Room for one more item. */
static int grow(void **items, size_t *cap, size_t n, size_t size, bm_error *err)
{
    size_t more = *cap == 0 ? 256 : *cap * 2, len;

    if (n < *cap)
        return 0;
    void *p = bm_mul_size(more, size, &len) ? bm_realloc(*items, len) : NULL;
    if (p == NULL)
        return no_memory(err);
    *items = p, *cap = more;
    return 0;
}

/* ---- bad rows ---- */

static int add_bad(reader *r, uint64_t line, const char *reason, bm_error *err)
{
    bm_data *d = r->data;
    void *bad = d->bad;
    bm_data_bad *b;

    if (d->n_bad++ >= BM_DATA_MAX_BAD)
        return 0;
    if (grow(&bad, &r->cap_bad, d->n_bad - 1, sizeof *d->bad, err) < 0) {
        d->n_bad--;
        return BM_NOMEM;
    }
    d->bad = bad;
    b = &d->bad[d->n_bad - 1];
    b->line = line;
    snprintf(b->reason, sizeof b->reason, "%s", reason);
    size_t len = strlen(b->reason);
    b->reason[len - bm_utf8_partial_tail(b->reason, len)] = '\0';        /* not half a letter where it was cut */
    return 0;
}

/* ---- hashes: which split, and duplicates ---- */

static uint64_t first_bytes(const bm_sha256 *sha)
{
    uint64_t h = 0;

    for (int i = 0; i < 8; i++)
        h = h << 8 | sha->bytes[i];
    return h;
}

/* Of what is trained, in one spelling: JSON with sorted keys. SHA-256, so that a split stays the same for good. */
static int hash_example(const bm_example *e, uint64_t *out, bm_error *err)
{
    json_t *all = json_pack("[O?, [O?, O?, I, I], [O?, O?]]", e->tools, e->side.messages, e->side.text, (json_int_t)e->side.from,
                            (json_int_t)e->side.loss_from, e->other.messages, e->other.text);
    char *text = all == NULL ? NULL : json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
    bm_sha256 sha;
    int rc = text == NULL ? no_memory(err) : bm_sha256_bytes(&sha, text, strlen(text), err);

    free(text);                                                  /* jansson's */
    json_decref(all);
    if (rc == 0)
        *out = first_bytes(&sha);
    return rc;
}

/* Windows of one long text fall into the splits one by one. */
static int hash_window(const int32_t *tokens, size_t n, uint64_t *out, bm_error *err)
{
    bm_sha256 sha;
    int rc = bm_sha256_bytes(&sha, tokens, n * sizeof *tokens, err);

    if (rc == 0)
        *out = first_bytes(&sha);
    return rc;
}

static bool is_valid(uint64_t hash, double share) { return (double)(hash >> 11) * 0x1p-53 < share; }

static int by_hash_then_line(const void *pa, const void *pb)
{
    const bm_data_row *a = *(bm_data_row *const *)pa, *b = *(bm_data_row *const *)pb;

    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return a->line < b->line ? -1 : a->line > b->line;
}

static int find_duplicates(bm_data *d, bm_error *err)
{
    bm_data_row **sorted = bm_calloc(d->n_rows + 1, sizeof *sorted);
    const bm_data_row *first = NULL;
    uint64_t counted = 0;

    if (sorted == NULL)
        return no_memory(err);
    for (size_t i = 0; i < d->n_rows; i++)
        sorted[i] = &d->rows[i];
    qsort(sorted, d->n_rows, sizeof *sorted, by_hash_then_line);
    for (size_t i = 0; i < d->n_rows; i++) {
        if (first == NULL || sorted[i]->hash != first->hash) {
            first = sorted[i];
            counted = first->line;
        } else if (sorted[i]->line != first->line) {
            sorted[i]->duplicate_of = first->line;
            d->n_duplicates += sorted[i]->line != counted;       /* a row that was split counts once */
            counted = sorted[i]->line;
        }
    }
    bm_free(sorted);
    return 0;
}

/* ---- rows ---- */

static int copy_side(bm_data *d, const bm_masked *from, size_t begin, size_t end, int32_t **tokens, uint8_t **target, int32_t *n,
                     bm_error *err)
{
    size_t len = end - begin;

    *tokens = bm_arena_alloc(d->memory, len * sizeof **tokens);
    *target = bm_arena_alloc(d->memory, len);
    if (*tokens == NULL || *target == NULL)
        return no_memory(err);
    memcpy(*tokens, from->tokens.ids + begin, len * sizeof **tokens);
    memcpy(*target, from->target + begin, len);
    (*target)[0] = 0;
    *n = (int32_t)len;
    d->n_tokens += len;
    for (size_t i = 1; i < len; i++)
        d->n_target_tokens += (*target)[i];
    return 0;
}

/* Tokens [begin, end) of the example as a row, with the rejected side when there is one. */
static int add_row(reader *r, uint64_t line, uint64_t hash, size_t begin, size_t end, bool pair, bm_error *err)
{
    bm_data *d = r->data;
    void *rows = d->rows;
    bm_data_row row = { .line = line, .hash = hash };
    int rc;

    if (r->whole_text && (rc = hash_window(r->mine.tokens.ids + begin, end - begin, &row.hash, err)) < 0)
        return rc;
    row.valid = is_valid(row.hash, r->options->valid_share);
    if ((rc = copy_side(d, &r->mine, begin, end, &row.tokens, &row.target, &row.n_tokens, err)) < 0 ||
        (pair && (rc = copy_side(d, &r->other, 0, r->other.tokens.n, &row.other, &row.other_target, &row.n_other, err)) < 0) ||
        (rc = grow(&rows, &r->cap_rows, d->n_rows, sizeof row, err)) < 0)
        return rc;
    d->rows = rows;
    d->rows[d->n_rows++] = row;
    return 0;
}

static bool any_target(const bm_masked *m, size_t begin, size_t end)
{
    return memchr(m->target + begin + 1, 1, end - begin - 1) != NULL;
}

/* Windows of max_length tokens, each beginning with the last token of the one before, so that each target is predicted once.
 * A window without a target has nothing to learn. */
static int add_windows(reader *r, uint64_t line, uint64_t hash, bm_error *err)
{
    size_t n = r->mine.tokens.n, len = (size_t)r->options->max_length, end;
    int rc;

    r->data->n_split += !r->whole_text;
    for (size_t begin = 0; begin + 1 < n; begin = end - 1) {
        end = n - begin > len ? begin + len : n;
        if (any_target(&r->mine, begin, end) && (rc = add_row(r, line, hash, begin, end, false, err)) < 0)
            return rc;
    }
    return 0;
}

static int add_example(reader *r, const bm_example *e, uint64_t line, bm_error *err)
{
    bool pair = e->other.messages != NULL || e->other.text != NULL;
    size_t n, max = (size_t)r->options->max_length;
    uint64_t hash = 0;
    int rc;

    if ((rc = bm_mask_side(&r->masker, &e->side, e->tools, &r->mine, err)) < 0 ||
        (pair && (rc = bm_mask_side(&r->masker, &e->other, e->tools, &r->other, err)) < 0) || (rc = hash_example(e, &hash, err)) < 0)
        return rc;
    n = pair && r->other.tokens.n > r->mine.tokens.n ? r->other.tokens.n : r->mine.tokens.n;
    if (n > INT32_MAX / 2)
        return bm_fail(err, BM_INVALID, "too long: %zu tokens", n);
    if (max > 0 && n > max && !pair && (r->options->split_long || r->whole_text)) {
        rc = add_windows(r, line, hash, err);
    } else if (max > 0 && n > max) {
        return bm_fail(err, BM_INVALID, "too long: %zu tokens, at most %zu", n, max);
    } else {
        rc = add_row(r, line, hash, 0, r->mine.tokens.n, pair, err);
    }
    r->data->n_without_end += rc == 0 && (!r->mine.ends_turn || (pair && !r->other.ends_turn));
    return rc;
}

/* All examples of a row; what is wrong with it goes onto the list. */
static int take_row(reader *r, const json_t *row, uint64_t line, bm_error *err)
{
    const bm_data_options *o = r->options;
    bm_data *d = r->data;
    bm_example e;
    int rc = 0;

    if (d->shape == BM_DATA_AUTO && (d->shape = bm_example_shape(row, o)) == BM_DATA_AUTO)
        return add_bad(r, line, "none of the known shapes", err);
    for (size_t i = 0, n = bm_example_count(row, d->shape); i < n && rc == 0; i++) {
        if ((rc = bm_example_read(&e, row, i, d->shape, o, r->masker.tmpl != NULL, err)) == 0)
            rc = add_example(r, &e, line, err);
        bm_example_done(&e);
    }
    return rc == BM_INVALID || rc == BM_TOOLARGE ? add_bad(r, line, err->msg, err) : rc;
}

static int read_rows(reader *r, bm_source *source, bm_error *err)
{
    json_t *row;
    uint64_t line;
    int rc;

    while ((rc = bm_source_next(source, &row, &line, err)) != 0) {
        if (rc == BM_INVALID)
            rc = add_bad(r, line, err->msg, err);
        else if (rc == 1)
            rc = take_row(r, row, line, err);
        json_decref(row);
        if (rc < 0)
            return rc;
    }
    return find_duplicates(r->data, err);
}

/* ---- the whole ---- */

static int open_source(bm_source **out, const char *path, const bm_data_options *o, bm_error *err)
{
    const bm_source_options options = { .part = o->part, .no_header = o->no_header };

    return bm_source_open(out, path, &options, err);
}

static const char *hint_of(const bm_data *d)
{
    if (d->shape == BM_DATA_AUTO)
        return "name the fields: --prompt-field F --target-field G, or --target-field G alone for plain text";
    if (strncmp(d->bad[0].reason, "too long", 8) == 0)
        return "a larger --max-length, or --split-long makes several rows of one, or --drop-bad goes on without them";
    return "baimo data check FILE --model M lists all of them; --drop-bad goes on without them";
}

static int verdict(const bm_data *d, const bm_data_options *o, const char *path, bm_error *err)
{
    if (d->n_bad > 0 && (!o->drop_bad || d->n_rows == 0)) {
        bm_fail(err, BM_INVALID, "%s: line %llu: %s (%zu bad rows in all)", path, (unsigned long long)d->bad[0].line,
                d->bad[0].reason, d->n_bad);
        return bm_hint(err, "%s", hint_of(d));
    }
    return d->n_rows > 0 ? 0 : bm_fail(err, BM_INVALID, "%s: holds no rows", path);
}

int bm_data_read(bm_data *out, const char *path, const bm_data_options *options, const bm_tokenizer *tokenizer,
                 const bm_template *tmpl, bm_error *err)
{
    bm_error local = { 0 };
    reader r = { .data = out, .options = options };
    bm_source *source = NULL;
    int rc;

    *out = (bm_data){ .shape = options->shape };
    err = err == NULL ? &local : err;
    if ((out->memory = bm_zalloc(sizeof *out->memory)) == NULL)
        return no_memory(err);
    if (options->max_length == 1 || options->max_length < 0)
        return bm_fail(err, BM_INVALID, "rows of at most %d tokens: expected 2 or more", options->max_length);
    if ((rc = open_source(&source, path, options, err)) < 0 || (rc = bm_masker_init(&r.masker, tokenizer, tmpl, err)) < 0)
        goto out;
    out->sha256 = bm_source_sha256(source);
    r.whole_text = bm_source_kind_of(source) == BM_SOURCE_TEXT;
    if ((rc = read_rows(&r, source, err)) == 0)
        rc = verdict(out, options, path, err);
out:
    bm_masked_done(&r.mine);
    bm_masked_done(&r.other);
    bm_masker_done(&r.masker);
    bm_source_close(source);
    return rc;
}

void bm_data_done(bm_data *data)
{
    if (data->memory != NULL)
        bm_arena_done(data->memory);
    bm_free(data->memory);
    bm_free(data->rows);
    bm_free(data->bad);
    memset(data, 0, sizeof *data);
}

int bm_data_count_rows(bm_data_count *out, const char *path, const bm_data_options *options, bm_error *err)
{
    bm_source *source;
    uint64_t line;
    json_t *row;
    int rc;

    *out = (bm_data_count){ .n_rows = 0 };
    if ((rc = open_source(&source, path, options, err)) < 0)
        return rc;
    out->sha256 = bm_source_sha256(source);
    while ((rc = bm_source_next(source, &row, &line, err)) == 1 || rc == BM_INVALID) {
        if (rc == 1 && out->shape == BM_DATA_AUTO)
            out->shape = bm_example_shape(row, options);
        out->n_rows += rc == 1;
        out->n_bad += rc != 1;
        json_decref(row);
    }
    bm_source_close(source);
    return rc;
}
