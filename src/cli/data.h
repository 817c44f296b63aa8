/* data.h - how commands that read training data are told what is in it: the same options for `data check` and `tune start`. */
#pragma once
#include "cli/cli.h"
#include "platform/datasets.h"
#include "platform/shelf.h"
#include "train/rows.h"

typedef struct cli_data {
    const char *shape, *render, *part, *prompt_field, *target_field, *loss_after;
    int64_t max_length;
    double valid;
    bool split_long, drop_bad, no_header;
} cli_data;

/* Rows of an option table. */
#define CLI_DATA_OPTIONS(d) \
    { "shape", NULL, CLI_STR, &(d)->shape, 0, 0, "SHAPE", \
      "messages, alpaca, sharegpt, prompt, text, preference or tree (default: what\nthe rows look like)" }, \
    { "prompt-field", NULL, CLI_STR, &(d)->prompt_field, 0, 0, "F", "the key or column of the prompt" }, \
    { "target-field", NULL, CLI_STR, &(d)->target_field, 0, 0, "F", "that of what is to be learnt; alone: plain text" }, \
    { "loss-after", NULL, CLI_STR, &(d)->loss_after, 0, 0, "TEXT", \
      "plain text: only what stands behind the last TEXT is learnt, such as 'A:'" }, \
    { "render", NULL, CLI_STR, &(d)->render, 0, 0, "chat|text", \
      "pairs of strings as a chat, or as text one behind the other (default: chat\nwhen the model has a template, " \
      "but prompt with completion is text)" }, \
    { "part", NULL, CLI_STR, &(d)->part, 0, 0, "KEY", "which list of rows of a JSON object that holds several" }, \
    { "no-header", NULL, CLI_FLAG, &(d)->no_header, 0, 0, NULL, "CSV: the first line is a row; columns are named 1, 2, ..." }, \
    { "max-length", NULL, CLI_INT, &(d)->max_length, 2, 1 << 24, "N", "tokens of a row at most (default 1024)" }, \
    { "split-long", NULL, CLI_FLAG, &(d)->split_long, 0, 0, NULL, "longer rows become several, else they are bad rows" }, \
    { "valid-share", NULL, CLI_FLOAT, &(d)->valid, 0, 0.9, "SHARE", "of the rows, by their hash, kept for validation (default 0)" }

enum { CLI_DATA_MAX_LENGTH = 1024 };

/* The options as the reader takes them; 0, or 2 after saying what is wrong. */
int cli_data_read_options(const cli_data *d, const char *command, bm_data_options *out);

/* Tokenizer and template (NULL: it has none) of MODEL, the caller's to free. */
typedef struct cli_text_model { bm_shelf_model row; bm_tokenizer *tokenizer; bm_template *tmpl; } cli_text_model;
int  cli_text_model_open(cli_text_model *out, bm_store *store, const char *model, bm_error *err);
void cli_text_model_close(cli_text_model *m);

int cmd_data_check(int argc, char **argv);
