/* fuzz_tokenizer.c - the first byte picks: a text through each pre-tokeniser and a small vocabulary, a text through a small
 * SentencePiece vocabulary (both must give the text back), a vocabulary made of the bytes, or one in a GGUF file of the bytes. */
#define _GNU_SOURCE 1      /* memfd_create */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../text/tiny_vocab.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* Everything a caller may do with a tokenizer and a text, the spans cut where `cut` says. */
static void use(const bm_tokenizer *tok, const char *text, size_t len, unsigned cut, bool gives_back)
{
    const size_t a = len == 0 ? 0 : cut % (len + 1), b = a + (len - a) / 2;
    const bm_span spans[3] = { { 0, a, -1 }, { a, b, 0 }, { b, len, -1 } };
    bm_encode_options o = { .add_special = cut & 1, .parse_special = cut & 2, .spans = cut & 4 ? spans : NULL, .n_spans = 3 };
    bm_tokens ids = { 0 };
    bm_buf back = { 0 }, clean = { 0 };

    must(bm_tokenizer_encode(tok, text, len, &o, &ids, NULL) == 0);
    for (size_t i = 0; i < ids.n; i++) {
        must(ids.ids[i] >= 0 && ids.ids[i] < bm_tokenizer_n_vocab(tok));
        bm_buf_clear(&back);
        bm_tokenizer_piece(tok, ids.ids[i], true, i == 0, &back);
        must(back.len <= bm_tokenizer_max_piece(tok));
        bm_tokenizer_is_eog(tok, ids.ids[i]);
    }
    bm_buf_clear(&back);
    must(bm_tokenizer_decode(tok, ids.ids, ids.n, true, &back, NULL) == 0);
    must(bm_utf8_valid(back.data, back.len));
    bm_utf8_sanitize(&clean, text, len);
    if (gives_back && !(cut & 1))
        must(back.len == clean.len && (clean.len == 0 || memcmp(back.data, clean.data, clean.len) == 0));
    bm_tokens_done(&ids);
    bm_buf_done(&back);
    bm_buf_done(&clean);
}

static bm_tokenizer *open_bpe(const char *pre)
{
    static const char *const merges[][2] = {
        { "Ġ", "t" }, { "h", "e" }, { "Ġt", "he" }, { "i", "n" }, { "Ġ", "Ġ" }, { "ĠĠ", "ĠĠ" }, { "1", "2" }, { "Ã", "¶" }, { "a", "a" },
        { "aa", "aa" }, { "'", "s" }, { "Ċ", "Ċ" }
    };
    tiny *t = tiny_new(pre);
    bm_tokenizer *tok;

    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++)
        tiny_merge(t, merges[i][0], merges[i][1]);
    for (const char *const *s = (const char *const[]){ "<s>", "<|im_start|>", "<|im_end|>", "aaa", NULL }; *s != NULL; s++)
        tiny_token(t, *s, 3);
    tiny_token(t, "<b>", 4);
    tiny_token(t, "<b>old", 4);
    t->spec.ids.bos = 270;
    must(bm_tokenizer_from_spec(&tok, &t->spec, NULL) == 0);
    tiny_free(t);
    return tok;
}

static bm_tokenizer *open_spm(bool fallback)
{
    static const char *const pieces[] = {
        "▁", "▁t", "he", "▁the", "▁▁", "in", "t", "h", "e", "i", "n", "s", "ö", "中", "aa", "aaaa", "a", "e▁", NULL
    };
    tiny *t = tiny_new("");
    bm_tokenizer *tok;
    char name[8];

    t->spec.model = (bm_str){ "llama", 5 };
    t->spec.n_tokens = 0, t->spec.scores = t->scores;
    tiny_token(t, "<unk>", 2);
    tiny_token(t, "<s>", 3);
    tiny_token(t, "</s>", 3);
    for (int b = 0; b < 256 && fallback; b++) {
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        tiny_token(t, name, 6);
    }
    for (const char *const *p = pieces; *p != NULL; p++) {
        int id = tiny_token(t, *p, 1);
        t->scores[id] = -(float)(id % 7);
    }
    t->spec.add_space_prefix = fallback ? 0 : 1;
    must(bm_tokenizer_from_spec(&tok, &t->spec, NULL) == 0);
    tiny_free(t);
    return tok;
}

typedef struct reader { const uint8_t *p, *end; } reader;

static bm_str take(reader *r)
{
    size_t n = r->p < r->end ? *r->p++ % 12 : 0;
    bm_str s;

    n = n > (size_t)(r->end - r->p) ? (size_t)(r->end - r->p) : n;
    s = (bm_str){ (const char *)r->p, n };
    r->p += n;
    return s;
}

/* Tokens, merges, types, scores and ids as the bytes say; most are refused, the rest must be usable. */
static void use_made(const uint8_t *bytes, size_t len)
{
    static const char *const models[] = { "gpt2", "llama", "gemma4" };
    static const char *const pres[] = { "gpt-2", "llama-bpe", "gemma4", "kimi-k2" };
    reader r = { bytes + 4, bytes + len };
    tiny *t = tiny_new(pres[bytes[1] / 3 % 4]);
    bm_tokenizer *tok = NULL;
    size_t own = bytes[2] % 40;

    t->spec.model = (bm_str){ models[bytes[1] % 3], strlen(models[bytes[1] % 3]) };
    t->spec.n_tokens = bytes[1] & 64 ? 256 : 0;
    for (size_t i = 0; i < own; i++) {
        t->types[t->spec.n_tokens] = r.p < r.end ? *r.p++ % 8 : 0;
        t->scores[t->spec.n_tokens] = r.p < r.end ? (float)*r.p++ - 100 : 0;
        t->tokens[t->spec.n_tokens++] = take(&r);
    }
    for (size_t i = bytes[3] % 32; i > 0; i--)
        t->merges[t->spec.n_merges++] = take(&r);
    t->spec.scores = bytes[1] & 128 ? NULL : t->scores;
    t->spec.ids.bos = bytes[2] % 3 == 0 ? bytes[3] - 3 : BM_VOCAB_UNSET;
    if (bm_tokenizer_from_spec(&tok, &t->spec, NULL) == 0)
        use(tok, (const char *)bytes, len, bytes[3], false);
    bm_tokenizer_free(tok);
    tiny_free(t);
}

static void use_file(const uint8_t *bytes, size_t len)
{
    int fd = memfd_create("fuzz", 0);
    char path[64];
    bm_gguf *gguf = NULL;
    bm_tokenizer *tok = NULL;

    must(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (bm_gguf_open(&gguf, path, NULL) == 0 && bm_tokenizer_from_gguf(&tok, gguf, NULL) == 0)
        use(tok, (const char *)bytes, len, (unsigned)len, false);
    bm_gguf_close(gguf);
    bm_tokenizer_free(tok);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static bm_tokenizer *bpe[128], *spm[2];

    if (len < 4)
        return 0;
    if (bytes[0] == 'G')
        use_file(bytes, len);
    else if (bytes[0] % 4 == 0)
        use_made(bytes, len);
    else if (bytes[0] % 4 == 1) {
        bool fallback = bytes[1] & 1;
        if (spm[fallback] == NULL)
            spm[fallback] = open_spm(fallback);
        use(spm[fallback], (const char *)bytes + 3, len - 3, bytes[2],
            fallback && memmem(bytes, len, "\xE2\x96\x81", 3) == NULL);
    } else {
        size_t row = bytes[1] % 128;
        const bm_pretok *pre = bm_pretok_at(row);
        if (pre == NULL || (pre->flags & BM_PRE_RAW))
            row = 0, pre = bm_pretok_at(0);
        if (bpe[row] == NULL)
            bpe[row] = open_bpe(pre->name);
        use(bpe[row], (const char *)bytes + 3, len - 3, bytes[2], true);
    }
    return 0;
}
