/* rows.h - a data set as rows of tokens with the mask of the loss: what the trainer eats.
 *
 * A source is a file in one of the known shapes (rows_*.c), recognised by looking. Every bad row has its line and its reason.
 * Rendering and tokenising are those that serve; the mask comes from the template's spans. Knows nothing of models' weights. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/hash.h"
#include "text/template.h"
#include "text/tokenizer.h"

typedef enum bm_data_shape {
    BM_DATA_AUTO, BM_DATA_MESSAGES, BM_DATA_ALPACA, BM_DATA_SHAREGPT, BM_DATA_PROMPT, BM_DATA_TEXT, BM_DATA_PREFERENCE
} bm_data_shape;
const char *bm_data_shape_name(bm_data_shape shape);         /* "messages", "alpaca", ... */

typedef struct bm_data_options {
    bm_data_shape shape;
    const char *prompt_field, *target_field;     /* names of columns or keys; NULL: the usual ones */
    const char *loss_after;      /* plain text: what stands after the last of these carries the loss ("A:"); NULL: everything */
    int max_length;              /* tokens of a row at most */
    bool split_long;             /* longer rows become several; else they are bad rows. Never cut in silence */
    bool drop_bad;               /* go on without bad rows; else the first one is the error once all are listed */
    double valid_share;          /* of rows, by hash of the row, for validation; 0: none */
} bm_data_options;

/* One example. For preferences: `tokens` is prompt + chosen, `other` prompt + rejected, each with its mask. */
typedef struct bm_data_row {
    uint64_t line;               /* 1-based */
    bool valid;                  /* belongs to the validation split */
    int32_t *tokens;
    uint8_t *target;             /* 1: carries loss */
    int32_t n_tokens;
    int32_t *other;              /* NULL: no preference row */
    uint8_t *other_target;
    int32_t n_other;
} bm_data_row;

typedef struct bm_data_bad { uint64_t line; char reason[200]; } bm_data_bad;

typedef struct bm_data {
    bm_data_shape shape;         /* as recognised */
    bm_sha256 sha256;            /* of the file */
    bm_data_row *rows;
    size_t n_rows;
    bm_data_bad *bad;
    size_t n_bad;
    uint64_t n_tokens, n_target_tokens, n_duplicates;
} bm_data;

/* Read a whole file. tmpl NULL: rows of messages are refused. On failure *out holds the bad rows when there are any. */
int  bm_data_read(bm_data *out, const char *path, const bm_data_options *options, const bm_tokenizer *tokenizer,
                  const bm_template *tmpl, bm_error *err);
void bm_data_done(bm_data *data);
