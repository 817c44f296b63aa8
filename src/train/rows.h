/* rows.h - a data set as rows of tokens with the mask of the loss: what the trainer eats.
 *
 * A file (source.h) holds rows in one of the shapes below, recognised by looking at the first good row. Every bad row has its line
 * and its reason. Chats are rendered by the model's own template and tokenised as the server does it; in plain text, control tokens
 * count as they do in /v1/completions. (A template's clock stands still, so that a run can be repeated.) Knows nothing of models' weights.
 *
 * Which tokens carry the loss. Chats: the turns of the assistant. Where the template has {% generation %} blocks, what stands in
 * them and nothing else. Else a turn runs from where the text parts from the prompt that the server would make of the messages before
 * it (behind "<|im_start|>assistant\n", say; what the template writes of a tool call counts) to the first token that ends a
 * generation, that token included; where the template writes none, to the turn's last byte. A message with
 * "weight": 0 carries none. A token that straddles the border of such a range carries the loss when any byte of it stands inside,
 * as in transformers' return_assistant_tokens_mask. Text: everything, or what stands behind the last `loss_after`; prompt and target
 * as text: the target. Text ends with EOS, which carries loss, unless it ends with it already, so that the model learns to stop. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/hash.h"
#include "text/template.h"
#include "text/tokenizer.h"

typedef enum bm_data_shape {
    BM_DATA_AUTO,
    BM_DATA_MESSAGES,            /* {"messages": [{"role", "content", "tool_calls"?, "weight"?}], "tools"?} */
    BM_DATA_ALPACA,              /* {"instruction", "input"?, "output", "system"?, "history"?}, or "instances": [{"input", "output"}] */
    BM_DATA_SHAREGPT,            /* {"conversations": [{"from": "human"|"gpt"|"system"|"function_call"|"observation", "value"}],
                                    "system"?, "tools"?} */
    BM_DATA_PROMPT,              /* a pair of fields: prompt and completion (or response), question and answer, text and label, ... */
    BM_DATA_TEXT,                /* {"text"}, a string, or a whole text file (one document in windows of max_length) */
    BM_DATA_PREFERENCE,          /* "chosen" and "rejected" beside any kind of prompt, or as two chats that begin alike */
    BM_DATA_TREE                 /* OpenAssistant's trees: the best-ranked path becomes a chat */
} bm_data_shape;
const char *bm_data_shape_name(bm_data_shape shape);         /* "messages", "alpaca", ... */
bool bm_data_shape_find(const char *name, bm_data_shape *out);

/* What pairs of strings become. AUTO: "prompt" with "completion" or "response" is text as it stands, whose prompt brings its own
 * format; every other pair is a chat of one turn when the model has a template, else text (a pair: prompt, line feed, target). */
typedef enum bm_data_render { BM_RENDER_AUTO, BM_RENDER_CHAT, BM_RENDER_TEXT } bm_data_render;

typedef struct bm_data_options {
    bm_data_shape shape;
    bm_data_render render;
    const char *part;            /* of a file that is one object of several lists of rows: the list's key; NULL: the only one */
    bool no_header;              /* of CSV: columns are named "1", "2", ... */
    const char *prompt_field, *target_field;     /* names of columns or keys; NULL: the usual ones. Only a target: plain text */
    const char *loss_after;      /* plain text: what stands after the last of these carries the loss ("A:"); NULL: everything */
    int max_length;              /* tokens of a row at most; 0: no limit */
    bool split_long;             /* longer rows become several, each beginning with the last token of the one before; else they are
                                    bad rows. Never cut in silence. Pairs of preferences are never split */
    bool drop_bad;               /* go on without bad rows; else the first one is the error once all are listed */
    double valid_share;          /* of rows, by hash of the row, for validation; 0: none */
} bm_data_options;

/* One example. For preferences: `tokens` is prompt + chosen, `other` prompt + rejected, each with its mask. */
typedef struct bm_data_row {
    uint64_t line;               /* 1-based, where the row begins */
    uint64_t hash;               /* of what is trained, whatever the tokenizer: equal rows have equal ones */
    uint64_t duplicate_of;       /* the line of an equal row before it; 0: none. Duplicates stay in */
    bool valid;                  /* belongs to the validation split */
    int32_t *tokens;
    uint8_t *target;             /* 1: carries loss; the first never does */
    int32_t n_tokens;
    int32_t *other;              /* NULL: no preference row */
    uint8_t *other_target;
    int32_t n_other;
} bm_data_row;

typedef struct bm_data_bad { uint64_t line; char reason[200]; } bm_data_bad;
enum { BM_DATA_MAX_BAD = 10000 };                /* bad rows that are listed; n_bad counts all */

typedef struct bm_data {
    bm_data_shape shape;         /* as recognised */
    bm_sha256 sha256;            /* of the file */
    bm_data_row *rows;
    size_t n_rows;
    bm_data_bad *bad;            /* the first BM_DATA_MAX_BAD, by line */
    size_t n_bad;
    uint64_t n_tokens, n_target_tokens, n_duplicates;
    uint64_t n_without_end;      /* rows whose last turn ends without a token that ends a generation: nothing learns to stop there */
    uint64_t n_split;            /* rows that were split */
    struct bm_arena *memory;     /* of the rows */
} bm_data;

/* Read a whole file. tmpl NULL: rows that need a template are bad. On failure *out holds the bad rows when there are any;
 * bm_data_done in every case. Memory: about 5 bytes a token and 100 a row. */
int  bm_data_read(bm_data *out, const char *path, const bm_data_options *options, const bm_tokenizer *tokenizer,
                  const bm_template *tmpl, bm_error *err);
void bm_data_done(bm_data *data);

/* The rows of a file without a model: how many can be read, and which shape the first of a known one has (AUTO: none). */
typedef struct bm_data_count { bm_sha256 sha256; uint64_t n_rows, n_bad; bm_data_shape shape; } bm_data_count;
int  bm_data_count_rows(bm_data_count *out, const char *path, const bm_data_options *options, bm_error *err);
