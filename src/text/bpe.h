/* bpe.h - byte-level BPE: the merges of a vocabulary, and one word of text to ids. Read-only after new: any thread. */
#pragma once
#include <stddef.h>
#include "base/error.h"
#include "text/bpe_merge.h"
#include "text/vocab.h"

typedef struct bm_bpe bm_bpe;

/* Merges name tokens and strings in between; one whose result is a control token is left out. v is borrowed. */
int  bm_bpe_new(bm_bpe **out, const bm_vocab *v, const bm_str *merges, size_t n_merges, bm_error *err);
void bm_bpe_free(bm_bpe *bpe);
/* Append the ids of one word of the pre-tokeniser. `words` (BM_WORDS entries) remembers; it may be NULL. */
int  bm_bpe_word(const bm_bpe *bpe, bm_merge_work *work, bm_word *words, const char *word, size_t len, bm_tokens *out,
                 bm_error *err);
/* The token that ordinary text of these bytes would become as a whole, or -1. */
int32_t bm_bpe_find(const bm_bpe *bpe, const char *bytes, size_t len);
