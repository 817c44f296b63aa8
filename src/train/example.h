/* example.h - what a row of data says, whatever shape it has: a chat or a text, and what of it carries the loss. Between the files
 * of train/ only. Rows are hostile: every type is checked, and messages are copied with the keys that templates may read. */
#pragma once
#include <jansson.h>
#include "train/rows.h"

/* A chat (messages) or a text. */
typedef struct bm_example_side {
    json_t *messages;            /* array of {"role", "content", ...}; NULL: a text */
    size_t from;                 /* turns of the assistant before this message carry no loss */
    json_t *text;                /* string */
    size_t loss_from;            /* bytes of text before carry no loss */
    bool no_loss;                /* `loss_after` does not occur in the text */
} bm_example_side;

typedef struct bm_example {
    json_t *tools;               /* array or NULL */
    bm_example_side side, other; /* other: the rejected one; messages and text NULL: none */
} bm_example;
void bm_example_done(bm_example *e);

/* The shape of a row as the options and its keys say; AUTO: none of the known ones. */
bm_data_shape bm_example_shape(const json_t *row, const bm_data_options *options);
/* How many examples a row holds: 1, or the number of its "instances". */
size_t bm_example_count(const json_t *row, bm_data_shape shape);
/* Example number `index` of the row. chat: pairs of strings may become chats (the model has a template). BM_INVALID says what is
 * wrong with the row; *out is to be done in every case. */
int bm_example_read(bm_example *out, const json_t *row, size_t index, bm_data_shape shape, const bm_data_options *options, bool chat,
                    bm_error *err);

/* ---- example_chat.c ---- */

/* Append the messages of `list` ({"role", "content"} or {"from", "value"}) to `messages`, checked and in OpenAI's form: calls of tools
 * have objects as arguments, contents are strings (null beside calls). */
int bm_chat_add(json_t *messages, const json_t *list, bm_error *err);
int bm_chat_add_one(json_t *messages, const json_t *message, bm_error *err);
int bm_chat_add_text(json_t *messages, const char *role, const json_t *text, bm_error *err);
/* system? (user assistant (tool+ assistant)?)+ to the end; complete: the last is the assistant's, else it is not. */
int bm_chat_check_order(const json_t *messages, bool complete, bm_error *err);
/* The row's "tools" (an array, or its JSON in a string) or "functions" in OpenAI's form; *out NULL when there are none. */
int bm_chat_tools(json_t **out, const json_t *row, bm_error *err);

/* ---- example.c, for example_preference.c ---- */

bool bm_row_has(const json_t *row, const char *key);                         /* there, and not null */
const char *bm_row_first(const json_t *row, const char *const *names, size_t n);     /* of the names that it has; or NULL */
const json_t *bm_row_chat(const json_t *row);                                /* "messages" or "conversations"; or NULL */
bool bm_row_is_chat(const json_t *v);                                        /* an array of objects */
/* A field as a string, the caller's: lists of strings are lines, numbers their digits. */
int  bm_row_text(json_t **out, const json_t *row, const char *name, bm_error *err);
/* The user's words of an Alpaca row: instruction, line feed, input (of `inner`); as text in Stanford's format. */
int  bm_row_alpaca_prompt(json_t **out, const json_t *row, const json_t *inner, bool chat, bm_error *err);
/* Add the row's "system", the row's messages. */
int  bm_side_system(json_t *messages, const json_t *row, bm_error *err);
int  bm_side_chat(bm_example_side *side, const json_t *row, bm_error *err);
/* One turn behind what the chat has, or text with `between` the two. */
int  bm_side_pair(bm_example_side *side, const json_t *prompt, const json_t *target, bool chat, const char *between, bm_error *err);

/* ---- example_preference.c ---- */

int bm_example_preference(bm_example *out, const json_t *row, const bm_data_options *o, bool chat, bm_error *err);
