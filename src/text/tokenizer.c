/* tokenizer.c - the tokenizer as its callers see it: special tokens first, then the text between them through the vocabulary's
 * own kind of BPE; and ids back to bytes. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/bpe.h"
#include "text/spm.h"
#include "text/vocab.h"

struct bm_tokenizer {
    bm_vocab vocab;
    bm_special *special;
    bm_bpe *bpe;                         /* one of the two */
    bm_spm *spm;
    char kind[48];
};

enum { CACHE_FROM = 512 };               /* bytes of text from which remembering words pays for clearing the table */

int bm_tokens_add(bm_tokens *t, int32_t id, bm_error *err)
{
    if (t->n == t->cap) {
        size_t cap = t->cap == 0 ? 64 : t->cap * 2;
        int32_t *ids = bm_realloc(t->ids, cap * sizeof *ids);
        if (ids == NULL)
            return bm_fail(err, BM_NOMEM, "no memory for %zu tokens", cap);
        t->ids = ids, t->cap = cap;
    }
    t->ids[t->n++] = id;
    return 0;
}

void bm_tokens_done(bm_tokens *t)
{
    bm_free(t->ids);
    memset(t, 0, sizeof *t);
}

static bool equal(bm_str s, const char *name)
{
    return s.len == strlen(name) && memcmp(s.data, name, s.len) == 0;
}

/* The names that are known, as many as the message holds, the rest in the hint. */
static int unknown_pre(bm_str pre, bm_error *err)
{
    enum { IN_MESSAGE = 380 };
    const bm_pretok *row;
    bm_buf known = { 0 };
    char name[72];
    size_t cut;

    if (pre.len == 0) {
        bm_fail(err, BM_FORMAT, "tokenizer.ggml.pre: found none, expected the name of a pre-tokeniser");
        return bm_hint(err, "conversions from before May 2024 lack it, and a guess would cut words wrongly: get a newer one");
    }
    for (size_t i = 0; (row = bm_pretok_at(i)) != NULL; i++)
        bm_buf_printf(&known, "%s%s", i == 0 ? "" : " ", row->name);
    if (known.failed) {
        bm_buf_done(&known);
        return bm_fail(err, BM_NOMEM, "no memory for the names of pre-tokenisers");
    }
    for (cut = IN_MESSAGE; cut > 0 && known.data[cut] != ' ';)
        cut--;
    bm_fail(err, BM_UNSUPPORTED, "tokenizer.ggml.pre: found '%s', expected one of %.*s", bm_vocab_quote(name, pre), (int)cut,
            known.data);
    bm_hint(err, "also known:%.200s ... (all of them: docs/TOKENIZERS.md)", known.data + cut);
    bm_buf_done(&known);
    return BM_UNSUPPORTED;
}

static int pick_kind(bm_tokenizer *tok, const bm_vocab_spec *spec, bm_error *err)
{
    bm_str pre = spec->pre;
    char name[72];

    if (equal(spec->model, "llama")) {
        snprintf(tok->kind, sizeof tok->kind, "spm/llama");
        return 0;
    }
    if (equal(spec->model, "gemma4"))
        pre = (bm_str){ "gemma4", 6 };
    else if (!equal(spec->model, "gpt2"))
        return bm_fail(err, BM_UNSUPPORTED, "tokenizer.ggml.model: found '%s', expected gpt2 (byte-level BPE), llama (SentencePiece"
                       " BPE) or gemma4", bm_vocab_quote(name, spec->model));
    if ((tok->vocab.pretok = bm_pretok_find(pre.data, pre.len)) == NULL)
        return unknown_pre(pre, err);
    snprintf(tok->kind, sizeof tok->kind, "bpe/%s", tok->vocab.pretok->name);
    return 0;
}

int bm_tokenizer_from_spec(bm_tokenizer **out, const bm_vocab_spec *spec, bm_error *err)
{
    bm_tokenizer *tok = bm_zalloc(sizeof *tok);
    int rc;

    *out = NULL;
    if (tok == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a tokenizer");
    if ((rc = pick_kind(tok, spec, err)) < 0)
        goto out;
    if (tok->vocab.pretok != NULL && spec->n_merges == 0) {
        rc = bm_fail(err, BM_FORMAT, "tokenizer.ggml.merges: found none, expected the merges of a BPE vocabulary");
        goto out;
    }
    if ((rc = bm_vocab_build(&tok->vocab, spec, err)) < 0 || (rc = bm_special_new(&tok->special, &tok->vocab, err)) < 0)
        goto out;
    if (tok->vocab.pretok != NULL)
        rc = bm_bpe_new(&tok->bpe, &tok->vocab, spec->merges, spec->n_merges, err);
    else
        rc = bm_spm_new(&tok->spm, &tok->vocab, err);
    if (rc < 0)
        goto out;
    *out = tok, tok = NULL;
out:
    bm_tokenizer_free(tok);
    return rc;
}

void bm_tokenizer_free(bm_tokenizer *tok)
{
    if (tok == NULL)
        return;
    bm_bpe_free(tok->bpe);
    bm_spm_free(tok->spm);
    bm_special_free(tok->special);
    bm_vocab_done(&tok->vocab);
    bm_free(tok);
}

/* One call of encode. */
typedef struct encoding {
    const bm_tokenizer *tok;
    bm_merge_work work;
    bm_word *words;
    bm_buf clean, escaped;
    bool opens;                          /* nothing or a special token stands before: SentencePiece adds its space here */
    bm_tokens *out;
    bm_error *err;
} encoding;

static int encode_word(void *arg, const char *word, size_t len)
{
    encoding *e = arg;

    return bm_bpe_word(e->tok->bpe, &e->work, e->words, word, len, e->out, e->err);
}

/* "▁" for each space, and one in front where the vocabulary wants it. */
static int escape(encoding *e, bool prefix, const char *text, size_t len)
{
    static const char blank[] = "\xE2\x96\x81";
    size_t n = prefix ? 3 : 0, at = 0;
    char *to;

    for (size_t i = 0; i < len; i++)
        n += text[i] == ' ' ? 3 : 1;
    bm_buf_clear(&e->escaped);
    if (!bm_buf_reserve(&e->escaped, n))
        return bm_fail(e->err, BM_NOMEM, "no memory to tokenise %zu bytes", len);
    to = e->escaped.data;
    if (prefix)
        memcpy(to, blank, 3), at = 3;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == ' ')
            memcpy(to + at, blank, 3), at += 3;
        else
            to[at++] = text[i];
    }
    e->escaped.len = at;
    return 0;
}

static int encode_part(void *arg, int32_t id, const char *text, size_t len)
{
    encoding *e = arg;
    const bm_vocab *v = &e->tok->vocab;
    int rc;

    if (id >= 0) {
        e->opens = true;
        return bm_tokens_add(e->out, id, e->err);
    }
    if (!bm_utf8_valid(text, len)) {
        bm_buf_clear(&e->clean);
        bm_utf8_sanitize(&e->clean, text, len);
        if (e->clean.failed)
            return bm_fail(e->err, BM_NOMEM, "no memory to tokenise %zu bytes", len);
        text = e->clean.data, len = e->clean.len;
    }
    if (v->pretok == NULL || (v->pretok->flags & BM_PRE_ESCAPE)) {
        if ((rc = escape(e, v->add_space_prefix && e->opens, text, len)) < 0)
            return rc;
        text = e->escaped.data, len = e->escaped.len;
    }
    e->opens = false;
    if (v->pretok == NULL)
        return bm_spm_encode(e->tok->spm, &e->work, e->words, text, len, e->out, e->err);
    return bm_pretok_split(v->pretok, text, len, encode_word, e);
}

int bm_tokenizer_encode(const bm_tokenizer *tok, const char *text, size_t len, const bm_encode_options *options,
                        bm_tokens *out, bm_error *err)
{
    static const bm_encode_options plain = { 0 };
    const bm_encode_options *o = options == NULL ? &plain : options;
    encoding e = { .tok = tok, .opens = true, .out = out, .err = err };
    const size_t before = out->n;
    int rc = 0;

    if (len > INT32_MAX / 4)
        return bm_fail(err, BM_TOOLARGE, "a text of %zu bytes is too long to tokenise: at most %d", len, INT32_MAX / 4);
    if (len >= CACHE_FROM && (e.words = bm_calloc(BM_WORDS, sizeof *e.words)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory to tokenise %zu bytes", len);
    if (o->add_special && tok->vocab.add_bos)
        rc = bm_tokens_add(out, tok->vocab.bos, err);
    if (rc == 0 && len > 0)
        rc = bm_special_split(tok->special, text, len, o, encode_part, &e, err);
    if (rc == 0 && o->add_special && tok->vocab.add_eos)
        rc = bm_tokens_add(out, tok->vocab.eos, err);
    if (rc < 0)
        out->n = before;
    bm_merge_done(&e.work);
    bm_free(e.words);
    bm_buf_done(&e.clean);
    bm_buf_done(&e.escaped);
    return rc;
}

static bool is_silent(const bm_vocab *v, int32_t id, bool special)
{
    return id < 0 || (uint32_t)id >= v->texts.n
           || (!special && (v->flags[id] & (BM_TOKEN_CONTROL | BM_TOKEN_UNKNOWN)) && !(v->flags[id] & BM_TOKEN_SHOWN));
}

void bm_tokenizer_piece(const bm_tokenizer *tok, int32_t id, bool special, bool first, bm_buf *out)
{
    const bm_vocab *v = &tok->vocab;
    size_t at, end;

    if (is_silent(v, id, special))
        return;
    at = v->piece_at[id], end = v->piece_at[id + 1];
    if (first && v->add_space_prefix && at < end && v->pieces[at] == ' ')
        at++;
    bm_buf_add(out, v->pieces + at, end - at);
}

int bm_tokenizer_decode(const bm_tokenizer *tok, const int32_t *ids, size_t n, bool special, bm_buf *out, bm_error *err)
{
    bm_buf raw = { 0 };
    bool first = true;

    for (size_t i = 0; i < n; i++) {
        bm_tokenizer_piece(tok, ids[i], special, first, &raw);
        /* BOS in front is not where a text opens */
        first = first && (is_silent(&tok->vocab, ids[i], false) || bm_tokenizer_is_control(tok, ids[i]));
    }
    if (!raw.failed && raw.len > 0)
        bm_utf8_sanitize(out, raw.data, raw.len);
    if (raw.failed || out->failed) {
        bm_buf_done(&raw);
        return bm_fail(err, BM_NOMEM, "no memory for the text of %zu tokens", n);
    }
    bm_buf_done(&raw);
    return 0;
}

int32_t bm_tokenizer_n_vocab(const bm_tokenizer *tok) { return (int32_t)tok->vocab.texts.n; }
int32_t bm_tokenizer_bos(const bm_tokenizer *tok) { return tok->vocab.bos; }
int32_t bm_tokenizer_eos(const bm_tokenizer *tok) { return tok->vocab.eos; }
bool bm_tokenizer_adds_bos(const bm_tokenizer *tok) { return tok->vocab.add_bos; }
size_t bm_tokenizer_max_piece(const bm_tokenizer *tok) { return tok->vocab.max_piece; }
const char *bm_tokenizer_kind(const bm_tokenizer *tok) { return tok->kind; }

bool bm_tokenizer_is_eog(const bm_tokenizer *tok, int32_t id)
{
    return id >= 0 && (uint32_t)id < tok->vocab.texts.n && (tok->vocab.flags[id] & BM_TOKEN_EOG);
}

bool bm_tokenizer_is_control(const bm_tokenizer *tok, int32_t id)
{
    return id >= 0 && (uint32_t)id < tok->vocab.texts.n && (tok->vocab.flags[id] & BM_TOKEN_CONTROL);
}

int32_t bm_tokenizer_find(const bm_tokenizer *tok, const char *text, size_t len)
{
    int64_t id = bm_strings_find(&tok->vocab.texts, text, len);

    if (id < 0 && tok->bpe != NULL)
        return bm_bpe_find(tok->bpe, text, len);
    return (int32_t)id;
}
