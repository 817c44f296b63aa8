/* prompt_internal.h - what the files that build prompts share. Private to src/eval/prompt*.c. */
#pragma once
#include "base/buf.h"
#include "eval/fields.h"
#include "eval/prompt.h"
#include "eval/pyrandom.h"

/* One message: how it ends as plain text is no part of it in a chat. */
typedef struct bm_turn {
    const char *role;                    /* "system", "user", "assistant" */
    char *text;
    size_t len;
    const char *delimiter;               /* borrowed */
} bm_turn;
typedef struct bm_turns { bm_turn *v; size_t n, cap; } bm_turns;

struct bm_prompts {
    const bm_task *task;
    bm_prompt_options options;
    bm_docs *docs, *shots;               /* shots: few-shot pool, NULL without examples */
    bool own_shots, same_split;          /* same_split: the document itself must not be an example */
    size_t next;
    bm_pyrandom random;
    bm_field text, target, choice, description, prefix;
    bm_field fs_text, fs_target, fs_choice, fs_prefix;
    bool has_choices, multiple_input, multiple_target, mutual_info, counts_page;
};

/* prompt_turns.c */
int  bm_turns_add(bm_turns *t, const char *role, const char *text, size_t len, const char *delimiter, bm_error *err);
void bm_turns_cut(bm_turns *t, size_t n);            /* drop all after the first n */
void bm_turns_done(bm_turns *t);
/* A question and perhaps its answer. answer: NULL or empty: none; gen_prefix "" or NULL: none. */
typedef struct bm_qa {
    const json_t *question, *choices, *answer;       /* a string; an array or NULL; a string, an index or a list, or NULL */
    const json_t *gen_prefix;
    const char *target_delimiter, *fewshot_delimiter;
} bm_qa;
int  bm_turns_add_qa(bm_turns *t, const bm_qa *qa, bm_error *err);
/* "prefix delimiter suffix", the delimiter only where neither side has whitespace at the seam. */
void bm_join_delimited(bm_buf *b, const char *prefix, const char *suffix, const char *delimiter);
/* The prompt: plain text, or through the chat template. */
int  bm_turns_render(char **out, size_t *len, const bm_turns *t, const bm_prompt_options *o, bool has_prefix, bm_error *err);
bool bm_ends_with_space(const char *s);

/* prompt_shots.c: whether the pool is large enough; the n examples for doc, borrowed; out has room for n. */
int  bm_shots_check(const bm_prompts *p, bm_error *err);
int  bm_shots_draw(bm_prompts *p, const json_t *doc, size_t n, const json_t **out, bm_error *err);
