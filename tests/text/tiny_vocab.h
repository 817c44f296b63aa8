/* tiny_vocab.h - a byte-level vocabulary made in memory: the 256 bytes, tokens for the given merges, then special tokens. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/utf8.h"
#include "text/vocab.h"

enum { TINY_MAX = 2048 };

typedef struct tiny {
    bm_vocab_spec spec;
    bm_str tokens[TINY_MAX], merges[TINY_MAX];
    int32_t types[TINY_MAX];
    float scores[TINY_MAX];
    char *texts;                         /* everything the strings point to */
    size_t at;
} tiny;

static inline bm_str tiny_text(tiny *t, const char *s, size_t len)
{
    bm_str out = { t->texts + t->at, len };

    memcpy(t->texts + t->at, s, len);
    t->at += len;
    return out;
}

static inline int tiny_token_n(tiny *t, const char *s, size_t len, int32_t type)
{
    t->tokens[t->spec.n_tokens] = tiny_text(t, s, len);
    t->types[t->spec.n_tokens] = type;
    return (int)t->spec.n_tokens++;
}

static inline int tiny_token(tiny *t, const char *s, int32_t type) { return tiny_token_n(t, s, strlen(s), type); }

/* The character of GPT-2's alphabet for a byte. */
static inline size_t tiny_char(unsigned b, char out[4])
{
    uint32_t cp = b;

    if (b <= 0x20)
        cp = 0x100 + b;
    else if (b >= 0x7F && b <= 0xA0)
        cp = 0x121 + b - 0x7F;
    else if (b == 0xAD)
        cp = 0x143;
    return (size_t)bm_utf8_encode(cp, out);
}

static inline bm_vocab_spec tiny_spec(const char *model, const char *pre)
{
    bm_vocab_spec spec = { .model = { model, strlen(model) }, .pre = { pre, strlen(pre) }, .ids = BM_VOCAB_NO_IDS,
                           .add_bos = -1, .add_eos = -1, .add_space_prefix = -1 };
    return spec;
}

/* Types as in GGUF: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
static inline tiny *tiny_new(const char *pre)
{
    tiny *t = calloc(1, sizeof *t);

    t->texts = malloc(1 << 20);
    t->spec = tiny_spec("gpt2", pre);
    t->spec.tokens = t->tokens, t->spec.merges = t->merges, t->spec.types = t->types;
    for (unsigned b = 0; b < 256; b++) {
        char c[4];
        tiny_token_n(t, c, tiny_char(b, c), 1);
    }
    return t;
}

/* "a b": a merge and the token that it makes; returns the token. A space in a part is "Ġ". */
static inline int tiny_merge(tiny *t, const char *left, const char *right)
{
    char both[256];
    int n = snprintf(both, sizeof both, "%s %s", left, right);

    t->merges[t->spec.n_merges++] = tiny_text(t, both, (size_t)n);
    n = snprintf(both, sizeof both, "%s%s", left, right);
    for (size_t i = 0; i < t->spec.n_tokens; i++)
        if (t->tokens[i].len == (size_t)n && memcmp(t->tokens[i].data, both, (size_t)n) == 0)
            return (int)i;
    return tiny_token_n(t, both, (size_t)n, 1);
}

static inline void tiny_free(tiny *t)
{
    free(t->texts);
    free(t);
}
