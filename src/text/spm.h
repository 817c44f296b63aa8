/* spm.h - SentencePiece BPE: a text in which a space is U+2581, to ids. Read-only after new: any thread. */
#pragma once
#include <stddef.h>
#include "base/error.h"
#include "text/bpe_merge.h"
#include "text/vocab.h"

typedef struct bm_spm bm_spm;

int  bm_spm_new(bm_spm **out, const bm_vocab *v, bm_error *err);       /* v is borrowed */
void bm_spm_free(bm_spm *spm);
/* Append the ids of text[0..len), valid UTF-8 with its spaces escaped. */
int  bm_spm_encode(const bm_spm *spm, bm_merge_work *work, bm_word *words, const char *text, size_t len, bm_tokens *out,
                   bm_error *err);
