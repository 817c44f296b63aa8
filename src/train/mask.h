/* mask.h - one side of an example as tokens, and which of them carry the loss. rows.h states the rules. Between the files
 * of train/. */
#pragma once
#include "base/mem.h"
#include "train/example.h"

typedef struct bm_masker {
    const bm_tokenizer *tokenizer;
    const bm_template *tmpl;     /* NULL: chats are refused */
    char *bos, *eos;             /* their text; NULL: none */
    char *opening;               /* what the template writes in front of an answer; NULL: not known */
    size_t opening_len;
    bool knows_tools;            /* the template writes them */
} bm_masker;
int  bm_masker_init(bm_masker *m, const bm_tokenizer *tokenizer, const bm_template *tmpl, bm_error *err);
void bm_masker_done(bm_masker *m);

/* Growable, used again from row to row. Zero-initialise. */
typedef struct bm_masked {
    bm_tokens tokens;
    uint8_t *target;             /* [tokens.n] */
    size_t *ends;                /* [tokens.n]: the byte of the text behind each token */
    size_t cap;
    size_t n_targets;
    bool ends_turn;              /* the last token that carries loss ends a generation */
} bm_masked;
void bm_masked_done(bm_masked *m);

/* BM_INVALID: the row is bad (the template refuses it, or drops a part of it, or no token carries the loss). */
int bm_mask_side(const bm_masker *m, const bm_example_side *side, const json_t *tools, bm_masked *out, bm_error *err);
