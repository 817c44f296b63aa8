/* tokenizer.h - text to token ids and back, for GGUF vocabularies: byte-level BPE ("gpt2") and SentencePiece BPE ("llama").
 * Equal to llama.cpp's tokenizer for the same file. Owns copies of all it needs: the GGUF may be closed afterwards.
 * Read-only after open: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"
#include "format/gguf.h"

typedef struct bm_tokenizer bm_tokenizer;

typedef struct bm_tokens {       /* a growable array of ids; zero-initialise */
    int32_t *ids;
    size_t n, cap;
} bm_tokens;
int  bm_tokens_add(bm_tokens *t, int32_t id, bm_error *err);
void bm_tokens_done(bm_tokens *t);

int  bm_tokenizer_from_gguf(bm_tokenizer **out, const bm_gguf *gguf, bm_error *err);
void bm_tokenizer_free(bm_tokenizer *tok);

/* What part of a text came from where: bytes [begin, end) from the template (message < 0) or from message number `message`.
 * Spans are ascending, do not overlap and cover the whole text. */
typedef struct bm_span { size_t begin, end; int message; } bm_span;

typedef struct bm_encode_options {
    bool add_special;            /* BOS and EOS as the vocabulary's own rules say */
    bool parse_special;          /* recognise control tokens anywhere in the text (spans == NULL) */
    const bm_span *spans;        /* control tokens are recognised only where a match lies wholly in template text */
    size_t n_spans;
} bm_encode_options;

/* Append the ids of text[0..len) to *out. Invalid UTF-8 counts as U+FFFD (Python's errors='replace').
 * Near linear in len for any input. On failure *out is as before. options NULL: all zero. */
int  bm_tokenizer_encode(const bm_tokenizer *tok, const char *text, size_t len, const bm_encode_options *options,
                         bm_tokens *out, bm_error *err);

/* Append the bytes of one token: what it adds to the text. Control tokens add nothing unless `special`. Bytes may end inside
 * a UTF-8 sequence. `first` tells that the token opens the text (SentencePiece drops the added space there). */
void bm_tokenizer_piece(const bm_tokenizer *tok, int32_t id, bool special, bool first, bm_buf *out);
/* Whole text of n ids; *out is valid UTF-8 (invalid bytes are replaced) and appended to. */
int  bm_tokenizer_decode(const bm_tokenizer *tok, const int32_t *ids, size_t n, bool special, bm_buf *out, bm_error *err);

int32_t bm_tokenizer_n_vocab(const bm_tokenizer *tok);
int32_t bm_tokenizer_bos(const bm_tokenizer *tok);          /* -1: none */
int32_t bm_tokenizer_eos(const bm_tokenizer *tok);          /* -1: none */
bool    bm_tokenizer_adds_bos(const bm_tokenizer *tok);
bool    bm_tokenizer_is_eog(const bm_tokenizer *tok, int32_t id);      /* ends a generation: eos, eot, and the known end-of-turn names */
bool    bm_tokenizer_is_control(const bm_tokenizer *tok, int32_t id);
int32_t bm_tokenizer_find(const bm_tokenizer *tok, const char *text, size_t len);  /* the token with exactly this text (control tokens too), or -1 */
size_t  bm_tokenizer_max_piece(const bm_tokenizer *tok);    /* bytes of the longest piece */
const char *bm_tokenizer_kind(const bm_tokenizer *tok);     /* "bpe/qwen2", "spm/llama", for people */
