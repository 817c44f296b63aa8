/* vocab.h - between the files of the tokenizer: what a vocabulary is made of, its tokens, and the special ones in a text. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"
#include "format/gguf.h"
#include "text/pretok.h"
#include "text/tokenizer.h"

/* What a tokenizer is built from; everything is borrowed for the call. Tests fill one by hand, files through GGUF. */
typedef struct bm_vocab_spec {
    bm_str model, pre;                   /* tokenizer.ggml.model, tokenizer.ggml.pre ("" when missing) */
    bm_str name;                         /* general.name: what a few models are known by */
    const bm_str *tokens;
    size_t n_tokens;
    const float *scores;                 /* n_tokens, or NULL */
    const int32_t *types;                /* n_tokens, or NULL: all normal */
    const bm_str *merges;
    size_t n_merges;
    struct bm_vocab_ids { int64_t bos, eos, eot, eom, unk, fim_pad, fim_rep, fim_sep; } ids;  /* BM_VOCAB_UNSET: not given */
    int add_bos, add_eos, add_space_prefix;      /* -1: not given */
} bm_vocab_spec;
enum { BM_VOCAB_UNSET = -2 };            /* -1 in a file means "none" */
#define BM_VOCAB_NO_IDS { BM_VOCAB_UNSET, BM_VOCAB_UNSET, BM_VOCAB_UNSET, BM_VOCAB_UNSET, \
                          BM_VOCAB_UNSET, BM_VOCAB_UNSET, BM_VOCAB_UNSET, BM_VOCAB_UNSET }

int bm_tokenizer_from_spec(bm_tokenizer **out, const bm_vocab_spec *spec, bm_error *err);

/* Strings numbered from 0 in the order they came, found by content. Zero-initialise. */
typedef struct bm_strings {
    char *bytes;
    size_t len, cap_bytes;
    uint32_t *at;                        /* n + 1 offsets */
    uint32_t n, cap, n_slots;
    uint64_t *slots;                     /* lower half of the hash, number + 1; 0 is free */
} bm_strings;
/* Make room for n strings of len bytes in all; more may come. */
int  bm_strings_reserve(bm_strings *t, size_t n, size_t len, bm_error *err);
int64_t bm_strings_find(const bm_strings *t, const char *s, size_t len);       /* -1: absent */
/* The number of s, new when it was absent (*added). Negative: an error. */
int64_t bm_strings_add(bm_strings *t, const char *s, size_t len, bool *added, bm_error *err);
/* Have the slot of a string that will be looked up soon on its way: a table of a large vocabulary is larger than the caches. */
uint64_t bm_strings_soon(const bm_strings *t, const char *s, size_t len);       /* its hash */
/* As bm_strings_add, with the hash that soon gave. */
int64_t bm_strings_add_hashed(bm_strings *t, const char *s, size_t len, uint64_t hash, bool *added, bm_error *err);
static inline bm_str bm_strings_at(const bm_strings *t, uint32_t i)
{
    return (bm_str){ t->bytes + t->at[i], t->at[i + 1] - t->at[i] };
}
void bm_strings_done(bm_strings *t);

enum {                                   /* what is known of a token */
    BM_TOKEN_NORMAL = 1, BM_TOKEN_UNKNOWN = 2, BM_TOKEN_CONTROL = 4, BM_TOKEN_USER = 8, BM_TOKEN_UNUSED = 16, BM_TOKEN_BYTE = 32,
    BM_TOKEN_EOG = 64,                   /* ends a generation */
    BM_TOKEN_SHOWN = 128,                /* control, but part of the text of a reply */
    BM_TOKEN_LSTRIP = 256, BM_TOKEN_RSTRIP = 512,     /* swallows the white space before, behind it */
    BM_TOKEN_SPECIAL = BM_TOKEN_UNKNOWN | BM_TOKEN_CONTROL | BM_TOKEN_USER     /* found in text as it stands */
};

typedef struct bm_vocab {
    bm_strings texts;                    /* by id, as in the file */
    uint16_t *flags;                     /* BM_TOKEN_… by id */
    float *scores;                       /* by id, or NULL */
    int32_t byte_ids[256];               /* <0x00> to <0xFF>, -1 where there is none */
    char *pieces;                        /* what each token adds to a text */
    uint32_t *piece_at;                  /* n + 1 offsets */
    size_t max_text, max_piece;          /* bytes of the longest */
    int32_t bos, eos, unk;               /* -1: none */
    bool add_bos, add_eos, add_space_prefix;
    const bm_pretok *pretok;             /* NULL: SentencePiece */
} bm_vocab;
int  bm_vocab_build(bm_vocab *v, const bm_vocab_spec *spec, bm_error *err);
void bm_vocab_done(bm_vocab *v);
/* The bytes that a text in the alphabet of GPT-2 stands for, into out (room for len); -1 when it is not in that alphabet. */
long bm_vocab_bytes_of(const char *text, size_t len, char *out);
/* A string from a file for an error message: at most 60 bytes, valid UTF-8, no control characters. Returns out. */
const char *bm_vocab_quote(char out[72], bm_str s);

/* Finds the tokens that stand in a text as they are. */
typedef struct bm_special bm_special;
int  bm_special_new(bm_special **out, const bm_vocab *v, bm_error *err);
void bm_special_free(bm_special *special);
/* Tell `part` the parts of text in order: a token, or (id -1) ordinary bytes. Longest tokens win, then leftmost, as in
 * llama.cpp. User-defined tokens count everywhere; the others where they lie wholly between trusted borders. */
int  bm_special_split(const bm_special *special, const char *text, size_t len, const bm_encode_options *options,
                      int (*part)(void *arg, int32_t id, const char *bytes, size_t n), void *arg, bm_error *err);
