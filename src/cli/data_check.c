/* data_check.c - `baimo data check`: what a file of rows would train, before anything is trained. */
#include "cli/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"

enum { LISTED = 20, BEFORE_TARGET = 150, SHOWN = 500, N_BINS = 32, BAR = 40 };

typedef struct settings {
    cli_data data;
    const char *model;
    int64_t show;                /* line; 0: the first good row */
    bool all, as_json;
} settings;

/* ---- lengths ---- */

/* Powers of two: bin i holds lengths of 2^i to 2^(i+1) - 1. */
typedef struct lengths {
    int32_t *sorted;             /* of each row, or of both answers of a pair each */
    size_t n;
    uint64_t bins[N_BINS];
    int first, last;             /* bins in use */
} lengths;

static int compare_int(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    return x < y ? -1 : x > y;
}

static bool measure(lengths *l, const bm_data *d)
{
    *l = (lengths){ .first = N_BINS };
    if ((l->sorted = bm_calloc(2 * d->n_rows + 1, sizeof *l->sorted)) == NULL)
        return false;
    for (size_t i = 0; i < d->n_rows; i++) {
        l->sorted[l->n++] = d->rows[i].n_tokens;
        if (d->rows[i].other != NULL)
            l->sorted[l->n++] = d->rows[i].n_other;
    }
    qsort(l->sorted, l->n, sizeof *l->sorted, compare_int);
    for (size_t i = 0; i < l->n; i++) {
        int b = 31 - __builtin_clz((unsigned)l->sorted[i] | 1);
        l->bins[b]++;
        l->first = b < l->first ? b : l->first;
        l->last = b > l->last ? b : l->last;
    }
    return true;
}

static int32_t quantile(const lengths *l, double q) { return l->n == 0 ? 0 : l->sorted[(size_t)(q * (double)(l->n - 1))]; }

static void print_histogram(const lengths *l)
{
    uint64_t most = 1;

    for (int b = l->first; b <= l->last; b++)
        most = l->bins[b] > most ? l->bins[b] : most;
    printf("\n%15s %9s\n", "tokens", "rows");
    for (int b = l->first; b <= l->last; b++) {
        int width = (int)((l->bins[b] * BAR + most - 1) / most);
        printf("%6lu - %6lu %9llu  %.*s\n", 1ul << b, (2ul << b) - 1, (unsigned long long)l->bins[b], width,
               "########################################");
    }
}

static json_t *lengths_json(const lengths *l)
{
    json_t *bins = json_array();

    for (int b = l->first; b <= l->last && l->n > 0; b++)
        json_array_append_new(bins, json_pack("{s:I, s:I, s:I}", "from", (json_int_t)1 << b, "to", ((json_int_t)2 << b) - 1, "rows",
                                              (json_int_t)l->bins[b]));
    return json_pack("{s:i, s:i, s:i, s:i, s:o}", "min", quantile(l, 0), "median", quantile(l, 0.5), "p95", quantile(l, 0.95), "max",
                     quantile(l, 1), "histogram", bins);
}

/* ---- one row, with what carries the loss ---- */

typedef struct shown { const int32_t *tokens; const uint8_t *target; int32_t n; } shown;

/* Text with line ends and tabs as they are, every other control character visible. */
static void print_text(const char *text, size_t len)
{
    char *line, *rest, *copy = bm_strndup(text, len);

    for (rest = copy; copy != NULL && (line = strsep(&rest, "\n")) != NULL;) {
        cli_print_safe(line);
        if (rest != NULL)
            putchar('\n');
    }
    bm_free(copy);
}

/* Tokens [from, to), which all carry the loss or all do not. */
static void print_run(const bm_tokenizer *tok, const shown *s, int32_t from, int32_t to)
{
    bool loss = s->target[from] != 0, colour = isatty(STDOUT_FILENO);
    bm_buf raw = { 0 }, text = { 0 };

    for (int32_t t = from; t < to; t++)
        bm_tokenizer_piece(tok, s->tokens[t], true, t == 0, &raw);
    bm_utf8_sanitize(&text, raw.len > 0 ? raw.data : "", raw.len);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '\0')
            text.data[i] = ' ';
    if (loss)
        fputs(colour ? "\033[1;32m" : "[[", stdout);
    print_text(text.len > 0 ? text.data : "", text.len);
    if (loss)
        fputs(colour ? "\033[0m" : "]]", stdout);
    bm_buf_done(&raw);
    bm_buf_done(&text);
}

/* A long row is shown around where its loss begins, and what is left out is counted. */
static void print_row(const bm_tokenizer *tok, const shown *s, const char *what, uint64_t line)
{
    int32_t first = 0, begin, end, n_loss = 0;

    for (int32_t t = s->n - 1; t >= 0; t--)
        if (s->target[t])
            first = t, n_loss++;
    begin = first > BEFORE_TARGET && s->n > SHOWN ? first - BEFORE_TARGET : 0;
    end = s->n - begin > SHOWN ? begin + SHOWN : s->n;
    printf("\nline %llu%s: %d tokens, the loss is on %d, %s:\n", (unsigned long long)line, what, s->n, n_loss,
           isatty(STDOUT_FILENO) ? "in green" : "between [[ and ]]");
    if (begin > 0)
        printf("(... %d tokens ...)", begin);
    for (int32_t t = begin, next; t < end; t = next) {
        for (next = t + 1; next < end && (s->target[next] != 0) == (s->target[t] != 0); next++)
            ;
        print_run(tok, s, t, next);
    }
    if (end < s->n)
        printf("(... %d tokens ...)", s->n - end);
    putchar('\n');
}

static json_t *row_json(const bm_tokenizer *tok, const shown *s)
{
    json_t *list = json_array();

    for (int32_t t = 0; t < s->n; t++) {
        bm_buf raw = { 0 }, text = { 0 };
        bm_tokenizer_piece(tok, s->tokens[t], true, t == 0, &raw);
        bm_utf8_sanitize(&text, raw.len > 0 ? raw.data : "", raw.len);
        json_array_append_new(list, json_pack("{s:i, s:s%, s:b}", "id", s->tokens[t], "text", text.len > 0 ? text.data : "", text.len,
                                              "loss", (int)s->target[t]));
        bm_buf_done(&raw);
        bm_buf_done(&text);
    }
    return list;
}

static const bm_data_row *row_to_show(const bm_data *d, int64_t line)
{
    for (size_t i = 0; i < d->n_rows; i++)
        if (line == 0 || d->rows[i].line == (uint64_t)line)
            return &d->rows[i];
    return NULL;
}

static shown chosen_of(const bm_data_row *r) { return (shown){ r->tokens, r->target, r->n_tokens }; }
static shown rejected_of(const bm_data_row *r) { return (shown){ r->other, r->other_target, r->n_other }; }

/* ---- the report ---- */

static uint64_t n_valid(const bm_data *d)
{
    uint64_t n = 0;

    for (size_t i = 0; i < d->n_rows; i++)
        n += d->rows[i].valid;
    return n;
}

static json_t *report_json(const bm_data *d, const lengths *l, const settings *s, const char *path, const bm_tokenizer *tok)
{
    json_t *bad = json_array(), *duplicates = json_array(), *example = json_null();
    const bm_data_row *row = row_to_show(d, s->show);
    char sha256[65];

    bm_hex(sha256, d->sha256.bytes, sizeof d->sha256.bytes);
    for (size_t i = 0; i < d->n_bad && i < BM_DATA_MAX_BAD; i++)
        json_array_append_new(bad, json_pack("{s:I, s:s}", "line", (json_int_t)d->bad[i].line, "reason", d->bad[i].reason));
    for (size_t i = 0; i < d->n_rows; i++)
        if (d->rows[i].duplicate_of != 0 && (i == 0 || d->rows[i].line != d->rows[i - 1].line))
            json_array_append_new(duplicates, json_pack("{s:I, s:I}", "line", (json_int_t)d->rows[i].line, "of",
                                                        (json_int_t)d->rows[i].duplicate_of));
    if (row != NULL) {
        const shown chosen = chosen_of(row), rejected = rejected_of(row);
        json_decref(example);
        example = json_pack("{s:I, s:o, s:o}", "line", (json_int_t)row->line, "tokens", row_json(tok, &chosen), "rejected",
                            row->other != NULL ? row_json(tok, &rejected) : json_null());
    }
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "file", path, "sha256", sha256,
                     "shape", bm_data_shape_name(d->shape), "rows", (json_int_t)d->n_rows, "tokens", (json_int_t)d->n_tokens,
                     "target_tokens", (json_int_t)d->n_target_tokens, "bad", (json_int_t)d->n_bad, "duplicates",
                     (json_int_t)d->n_duplicates, "valid_rows", (json_int_t)n_valid(d), "without_end", (json_int_t)d->n_without_end,
                     "split_rows", (json_int_t)d->n_split, "lengths", lengths_json(l), "bad_rows", bad, "duplicate_rows", duplicates,
                     "example", example);
}

static void print_bad(const bm_data *d, const settings *s)
{
    size_t listed = d->n_bad < BM_DATA_MAX_BAD ? d->n_bad : BM_DATA_MAX_BAD, n = s->all || listed < LISTED ? listed : LISTED;

    if (d->n_bad > 0)
        puts("\nbad rows");
    for (size_t i = 0; i < n; i++) {
        printf("  line %llu: ", (unsigned long long)d->bad[i].line);
        cli_print_safe(d->bad[i].reason);
        putchar('\n');
    }
    if (n < d->n_bad)
        printf("  and %zu more%s\n", d->n_bad - n, s->all ? "" : " (--all lists them)");
}

static void print_duplicates(const bm_data *d, const settings *s)
{
    uint64_t shown_rows = 0;

    if (d->n_duplicates > 0)
        puts("\nduplicates");
    for (size_t i = 0; i < d->n_rows && (s->all || shown_rows < LISTED); i++)
        if (d->rows[i].duplicate_of != 0 && (i == 0 || d->rows[i].line != d->rows[i - 1].line)) {
            printf("  line %llu repeats line %llu\n", (unsigned long long)d->rows[i].line, (unsigned long long)d->rows[i].duplicate_of);
            shown_rows++;
        }
    if (shown_rows < d->n_duplicates)
        printf("  and %llu more (--all lists them)\n", (unsigned long long)(d->n_duplicates - shown_rows));
}

static void print_summary(const bm_data *d, const lengths *l, const settings *s, const char *path)
{
    printf("file        ");
    cli_print_safe(path);
    printf("\nshape       %s\n", bm_data_shape_name(d->shape));
    printf("rows        %zu good, %zu bad, %llu %s\n", d->n_rows, d->n_bad, (unsigned long long)d->n_duplicates,
           d->n_duplicates == 1 ? "duplicate" : "duplicates");
    printf("tokens      %llu, the loss is on %llu (%.0f %%)\n", (unsigned long long)d->n_tokens, (unsigned long long)d->n_target_tokens,
           d->n_tokens == 0 ? 0.0 : 100.0 * (double)d->n_target_tokens / (double)d->n_tokens);
    if (l->n > 0)
        printf("length      %d to %d, half of them up to %d, 95 %% up to %d\n", quantile(l, 0), quantile(l, 1), quantile(l, 0.5),
               quantile(l, 0.95));
    if (s->data.valid > 0)
        printf("validation  %llu rows\n", (unsigned long long)n_valid(d));
    if (d->n_split > 0)
        printf("split       %llu rows were longer and became several\n", (unsigned long long)d->n_split);
    if (d->n_without_end > 0)
        printf("no end      %llu rows end without a token that ends an answer: the model would not learn to stop\n",
               (unsigned long long)d->n_without_end);
}

static int print_report(const bm_data *d, const settings *s, const char *path, const bm_tokenizer *tok)
{
    const bm_data_row *row = row_to_show(d, s->show);
    lengths l;
    int rc = d->n_bad > 0;

    if (!measure(&l, d)) {
        fputs("baimo: no memory for the lengths\n", stderr);
        return 1;
    }
    if (s->as_json) {
        rc |= cli_print_json(report_json(d, &l, s, path, tok));
    } else {
        print_summary(d, &l, s, path);
        if (l.n > 0)
            print_histogram(&l);
        print_bad(d, s);
        print_duplicates(d, s);
        if (row != NULL) {
            const shown chosen = chosen_of(row), rejected = rejected_of(row);
            print_row(tok, &chosen, row->other != NULL ? ", chosen" : "", row->line);
            if (row->other != NULL)
                print_row(tok, &rejected, ", rejected", row->line);
        } else if (s->show != 0) {
            printf("\nno good row begins on line %lld\n", (long long)s->show);
        }
    }
    bm_free(l.sorted);
    return rc;
}

static int check(const char *what, const settings *s, bm_data_options *o)
{
    bm_store *store = NULL;
    cli_text_model m = { .tmpl = NULL };
    bm_data data = { .rows = NULL };
    bm_dataset file;
    bm_error err = { 0 };
    int rc;

    o->drop_bad = true;
    if ((rc = cli_open_store(&store, &err)) < 0 || (rc = bm_dataset_resolve(store, what, &file, &err)) < 0 ||
        (rc = cli_text_model_open(&m, store, s->model, &err)) < 0)
        goto out;
    rc = bm_data_read(&data, file.path, o, m.tokenizer, m.tmpl, &err);
out:
    if (rc == 0 || (rc == BM_INVALID && data.n_bad > 0 && data.shape != BM_DATA_AUTO))
        rc = print_report(&data, s, file.path, m.tokenizer);
    else
        rc = cli_fail(&err);
    bm_data_done(&data);
    cli_text_model_close(&m);
    bm_store_close(store);
    return rc;
}

int cmd_data_check(int argc, char **argv)
{
    settings s = { .model = NULL };
    const cli_option options[] = {
        { "model", "-m", CLI_STR, &s.model, 0, 0, "MODEL", "whose tokenizer and template count (default: the only one on the shelf)" },
        CLI_DATA_OPTIONS(&s.data),
        { "show", NULL, CLI_INT, &s.show, 1, 9e15, "LINE", "show the row that begins here (default: the first good one)" },
        { "all", "-a", CLI_FLAG, &s.all, 0, 0, NULL, "list all bad rows and duplicates, not the first 20" },
        { "json", NULL, CLI_FLAG, &s.as_json, 0, 0, NULL, "for programs" },
        { .name = NULL }
    };
    const cli_command self = { "data check", "FILE|NAME --model MODEL",
                               "What a file of rows would train: rows, tokens, lengths, duplicates, bad rows by line and reason, and one\n"
                               "row with the tokens that carry the loss. Exit 1 when there are bad rows.",
                               "baimo data check train.jsonl --model smollm2 --loss-after 'A:'\n"
                               "baimo data check train.csv --model smollm2 --prompt-field text --target-field category", options };
    bm_data_options o;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one FILE, found %d arguments", n);
    if ((rc = cli_data_read_options(&s.data, self.name, &o)) != 0)
        return rc;
    return check(argv[0], &s, &o);
}
