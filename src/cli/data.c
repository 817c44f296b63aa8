/* data.c - `baimo data add | ls | show | rm`; check is in data_check.c. */
#include "cli/data.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

int cli_data_read_options(const cli_data *d, const char *command, bm_data_options *out)
{
    *out = (bm_data_options){ .part = d->part, .prompt_field = d->prompt_field, .target_field = d->target_field,
                              .loss_after = d->loss_after, .max_length = (int)d->max_length, .split_long = d->split_long,
                              .drop_bad = d->drop_bad, .no_header = d->no_header,
                              .valid_share = d->valid };
    if (out->max_length == 0)
        out->max_length = CLI_DATA_MAX_LENGTH;
    if (d->shape != NULL && !bm_data_shape_find(d->shape, &out->shape))
        return cli_usage_error(command, "--shape: expected messages, alpaca, sharegpt, prompt, text, preference or tree, found '%.60s'",
                               d->shape);
    if (d->render != NULL && strcmp(d->render, "chat") == 0)
        out->render = BM_RENDER_CHAT;
    else if (d->render != NULL && strcmp(d->render, "text") == 0)
        out->render = BM_RENDER_TEXT;
    else if (d->render != NULL)
        return cli_usage_error(command, "--render: expected chat or text, found '%.60s'", d->render);
    return 0;
}

void cli_text_model_close(cli_text_model *m)
{
    bm_template_free(m->tmpl);
    bm_tokenizer_free(m->tokenizer);
    *m = (cli_text_model){ .tmpl = NULL };
}

int cli_text_model_open(cli_text_model *out, bm_store *store, const char *model, bm_error *err)
{
    bm_gguf *gguf = NULL;
    bm_str source;
    int rc;

    *out = (cli_text_model){ .tmpl = NULL };
    if ((rc = bm_shelf_resolve(store, model, &out->row, err)) < 0 || (rc = bm_gguf_open(&gguf, out->row.path, err)) < 0)
        return rc;
    if ((rc = bm_tokenizer_from_gguf(&out->tokenizer, gguf, err)) == 0 &&
        bm_gguf_get_str(gguf, "tokenizer.chat_template", &source) &&
        (rc = bm_template_compile(&out->tmpl, source.data, source.len, err)) < 0)
        bm_wrap(err, "its chat template");
    if (rc < 0 && strstr(err->msg, out->row.path) == NULL)
        bm_wrap(err, "%s", out->row.path);
    if (rc < 0)
        cli_text_model_close(out);
    bm_gguf_close(gguf);
    return rc;
}

/* ---- printing ---- */

static json_t *dataset_json(const bm_dataset *d)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:b, s:I}", "name", d->name, "path", d->path, "sha256",
                     d->sha256, "size_bytes", (json_int_t)d->size_bytes, "shape", d->shape, "rows", (json_int_t)d->n_rows, "tokens",
                     (json_int_t)d->n_tokens, "license", d->license, "source", d->source, "hub", d->hub, "split", d->split, "missing",
                     (int)d->missing, "created_ms", (json_int_t)d->created_ms);
}

static void print_field(const char *name, const char *value)
{
    printf("%-10s ", name);
    cli_print_safe(value[0] != '\0' ? value : "-");
    putchar('\n');
}

static void count_text(char out[24], int64_t n)
{
    snprintf(out, 24, n > 0 ? "%lld" : "-", (long long)n);
}

static void print_dataset(const bm_dataset *d)
{
    char text[400];

    print_field("name", d->name);
    print_field("file", d->path);
    if (d->missing)
        print_field("state", "MISSING: the file is gone or has another size");
    print_field("sha256", d->sha256);
    cli_size_text(text, (uint64_t)d->size_bytes);
    print_field("size", text);
    print_field("shape", d->shape);
    count_text(text, d->n_rows);
    print_field("rows", text);
    count_text(text, d->n_tokens);
    print_field("tokens", text);
    print_field("licence", d->license);
    print_field("source", d->source);
    if (d->hub[0] != '\0') {
        snprintf(text, sizeof text, "%s:%s", d->hub, d->split);
        print_field("as", text);
    }
    cli_time_text(text, d->created_ms);
    print_field("added", text);
}

/* ---- add ---- */

/* Tokens, counted with a model; bad rows are told, not counted. */
static int count_tokens(bm_store *store, const char *model, const char *path, const cli_data *data, bm_dataset_options *o, bm_error *err)
{
    cli_text_model m;
    bm_data_options options;
    bm_data rows;
    int rc;

    if (cli_data_read_options(data, "data add", &options) != 0)
        return bm_fail(err, BM_INVALID, "wrong options");
    options.max_length = 0;
    options.drop_bad = true;
    if ((rc = cli_text_model_open(&m, store, model, err)) < 0)
        return rc;
    if ((rc = bm_data_read(&rows, path, &options, m.tokenizer, m.tmpl, err)) == 0) {
        o->n_tokens = (int64_t)rows.n_tokens;
        o->shape = bm_data_shape_name(rows.shape);
    }
    bm_data_done(&rows);
    cli_text_model_close(&m);
    return rc;
}

static int print_added(const bm_dataset *d, uint64_t n_bad, bool as_json)
{
    if (as_json) {
        json_t *json = dataset_json(d);
        if (json != NULL && json_object_set_new(json, "bad_rows", json_integer((json_int_t)n_bad)) < 0)
            json_decref(json), json = NULL;
        return cli_print_json(json);
    }
    printf("added ");
    cli_print_safe(d->name);
    printf(": %lld rows%s%s, sha256 %.12s...\n", (long long)d->n_rows, d->shape[0] != '\0' ? " of shape " : "", d->shape, d->sha256);
    if (n_bad > 0)
        printf("%llu rows cannot be read and are not counted: baimo data check names them\n", (unsigned long long)n_bad);
    return 0;
}

static int data_add(int argc, char **argv)
{
    bm_dataset_options o = { .name = NULL };
    cli_data data = { .shape = NULL };
    const char *model = NULL;
    bool as_json = false;
    const cli_option options[] = {
        { "name", NULL, CLI_STR, &o.name, 0, 0, "N", "its name (default: the file's, or what --as says)" },
        { "license", NULL, CLI_STR, &o.license, 0, 0, "L", "such as Apache-2.0" },
        { "licence", NULL, CLI_STR, &o.license, 0, 0, "L", "the same" },
        { "source", NULL, CLI_STR, &o.source, 0, 0, "S", "where it comes from" },
        { "as", NULL, CLI_STR, &o.as, 0, 0, "OWNER/SET[/CONFIG]:SPLIT",
          "what evaluation tasks call it: dataset_path, dataset_name and split" },
        { "model", "-m", CLI_STR, &model, 0, 0, "MODEL", "count the tokens of this model too" },
        { "part", NULL, CLI_STR, &data.part, 0, 0, "KEY", "which list of rows of a JSON object that holds several" },
        { "no-header", NULL, CLI_FLAG, &data.no_header, 0, 0, NULL, "CSV: the first line is a row, not the columns' names" },
        { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" },
        { .name = NULL }
    };
    const cli_command self = { "data add", "FILE [--name N] [--license L] [--source S] [--as OWNER/SET:SPLIT]",
                               "Register a file of rows: JSONL, JSON, CSV or text. It stays where it is; name, sha256, rows, licence and\n"
                               "source are recorded, so that runs can say what they used.",
                               "baimo data add train.jsonl --name wikisql --license MIT --source https://example.com/wikisql\n"
                               "baimo data add test.jsonl --as allenai/ai2_arc/ARC-Easy:test", options };
    bm_store *store;
    bm_dataset row;
    uint64_t n_bad = 0;
    bm_error err = { 0 };
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self.name, "expected one FILE, found %d arguments", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    o.part = data.part;
    o.no_header = data.no_header;
    rc = model == NULL ? 0 : count_tokens(store, model, argv[0], &data, &o, &err);
    if (rc == 0)
        rc = bm_dataset_add(store, argv[0], &o, &row, &n_bad, &err);
    rc = rc < 0 ? cli_fail(&err) : print_added(&row, n_bad, as_json);
    bm_store_close(store);
    return rc;
}

/* ---- ls, show, rm ---- */

static int print_list(const bm_dataset *rows, size_t n, bool as_json)
{
    char made[24], tokens[24];
    int width = 4;

    for (size_t i = 0; i < n; i++)
        width = (int)strlen(rows[i].name) > width ? (int)strlen(rows[i].name) : width;
    if (as_json) {
        json_t *list = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, dataset_json(&rows[i]));
        return cli_print_json(json_pack("{s:o}", "data", list));
    }
    if (n == 0) {
        puts("no data sets: baimo data add FILE registers one");
        return 0;
    }
    printf("%-*s %9s %11s %-11s %-16s %s\n", width, "NAME", "ROWS", "TOKENS", "SHAPE", "ADDED", "LICENCE");
    for (size_t i = 0; i < n; i++) {
        const bm_dataset *d = &rows[i];
        cli_time_text(made, d->created_ms);
        count_text(tokens, d->n_tokens);
        printf("%-*s %9lld %11s %-11s %-16s ", width, d->name, (long long)d->n_rows, tokens, d->shape[0] != '\0' ? d->shape : "-", made);
        cli_print_safe(d->license[0] != '\0' ? d->license : "-");
        puts(d->missing ? "  MISSING" : "");
    }
    return 0;
}

static int data_ls(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "data ls", "[--json]", "List the data sets.", "baimo data ls", options };
    bm_store *store;
    bm_dataset *rows = NULL;
    size_t n_rows;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 0)
        return cli_usage_error(self.name, "takes no arguments, found '%s'", argv[0]);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    rc = bm_dataset_list(store, &rows, &n_rows, &err) < 0 ? cli_fail(&err) : print_list(rows, n_rows, as_json);
    bm_free(rows);
    bm_store_close(store);
    return rc;
}

/* show and rm: one NAME. */
static int on_one(const cli_command *self, int argc, char **argv, const bool *as_json, bool remove)
{
    bm_store *store;
    bm_dataset row;
    bm_error err;
    int n, rc;

    if ((rc = cli_parse(self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error(self->name, "expected one NAME, found %d arguments", n);
    if (cli_open_store(&store, &err) < 0)
        return cli_fail(&err);
    if ((rc = bm_dataset_find(store, argv[0], &row, &err)) == 0 && remove)
        rc = bm_dataset_remove(store, argv[0], &err);
    if (rc < 0) {
        rc = cli_fail(&err);
    } else if (*as_json) {
        rc = cli_print_json(remove ? json_pack("{s:s}", "removed", row.name) : dataset_json(&row));
    } else if (remove) {
        printf("removed ");
        cli_print_safe(row.name);
        puts("; its file stays");
    } else {
        print_dataset(&row);
    }
    bm_store_close(store);
    return rc;
}

static int data_show(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "data show", "NAME", "What is recorded of a data set.", "baimo data show wikisql", options };

    return on_one(&self, argc, argv, &as_json, false);
}

static int data_rm(int argc, char **argv)
{
    bool as_json = false;
    const cli_option options[] = { { "json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "for programs" }, { .name = NULL } };
    const cli_command self = { "data rm", "NAME", "Forget a data set. The file stays, and so do the records of runs that used it.",
                               "baimo data rm wikisql", options };

    return on_one(&self, argc, argv, &as_json, true);
}

int cmd_data(int argc, char **argv)
{
    static const cli_sub subs[] = {
        { "check", cmd_data_check, "rows, tokens, lengths, duplicates, and every bad row by its line" },
        { "add", data_add, "register a file of rows, in place" },
        { "ls", data_ls, "the data sets" },
        { "show", data_show, "what is recorded of one" },
        { "rm", data_rm, "forget one; the file stays" },
        { NULL, NULL, NULL },
    };
    return cli_dispatch("data", subs, argc, argv);
}
