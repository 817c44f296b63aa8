/* pretok.h - pre-tokenisers: how a BPE vocabulary wants text cut into words before merging, by the name in
 * tokenizer.ggml.pre. Hand-written matchers, one per shape of regular expression, over the classes of unicode.h; a row of
 * one table says which shapes a name runs one after the other and how its vocabulary differs otherwise.
 * Each step sees each piece of the step before as a text of its own, as a Split (isolated) of Hugging Face tokenizers does.
 * Read-only: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"

enum {
    BM_PRE_IGNORE_MERGES = 1,    /* a word that is a token is that token, whatever the merges say */
    BM_PRE_ADD_BOS = 2,          /* BOS by default */
    BM_PRE_RAW = 4,              /* tokens are UTF-8, not bytes in the alphabet of GPT-2; other bytes are <0xXX> */
    BM_PRE_ESCAPE = 8,           /* a space is U+2581 */
    BM_PRE_NEWLINES = 16,        /* a word of newlines that is a token is that token */
    BM_PRE_FORCE_BOS = 32        /* BOS even where the file says no */
};

typedef struct bm_pretok {
    const char *name;            /* as in tokenizer.ggml.pre */
    const struct bm_pretok_shape *shape;
    unsigned flags;
} bm_pretok;

const bm_pretok *bm_pretok_find(const char *name, size_t len);      /* NULL when nobody published such a name */
const bm_pretok *bm_pretok_at(size_t i);                            /* rows in order; NULL past the last */
const char *bm_pretok_shape_name(const bm_pretok *row);             /* equal for rows that cut alike */

/* Tell `emit` the words of s[0..len), which must be valid UTF-8, in order; they cover it. A return other than 0 ends the
 * walk and is handed back. Linear in len for any text. */
int bm_pretok_split(const bm_pretok *row, const char *s, size_t len,
                    int (*emit)(void *arg, const char *word, size_t word_len), void *arg);
