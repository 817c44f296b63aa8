/* vocab.c - the tokens of a vocabulary: what they are, which of them end a generation, and the bytes each adds to a text.
 * Rules and names follow llama.cpp's llama-vocab.cpp, but for two: no id is guessed where a byte-level file gives none, and a
 * token that a file calls control stays out of reach of ordinary text, also where llama.cpp makes it user-defined to show it. */
#include "text/vocab.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

enum { MAX_TOKENS = 1 << 24, AHEAD = 8 };

static const char *const eog_names[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>",
    "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>",
    "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[", NULL
};
static const char *const fim_pad_names[] = { "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", NULL };
static const char *const fim_rep_names[] = { "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", NULL };
static const char *const fim_sep_names[] = { "<|file_sep|>", NULL };
static const char *const fim_other_names[] = {
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>", "<|prefix|>",
    "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>",
    "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>", "<|middle|>", NULL
};
static const char *const shown_names[] = { "<|channel|>", "<|message|>", "<|start|>", "<|constrain|>", NULL };

const char *bm_vocab_quote(char out[72], bm_str s)
{
    size_t n = s.len < 60 ? s.len : 60, len;
    bm_buf b = { 0 };

    bm_utf8_sanitize(&b, s.data, n);
    len = b.failed ? 0 : b.len;
    for (len = len < 68 ? len : 68; len > 0 && len < b.len && ((unsigned char)b.data[len] & 0xC0) == 0x80;)
        len--;
    for (size_t i = 0; i < len; i++)
        out[i] = (unsigned char)b.data[i] < 0x20 || b.data[i] == 0x7F ? '?' : b.data[i];
    memcpy(out + len, n < s.len ? "..." : "", n < s.len ? 4 : 1);
    bm_buf_done(&b);
    return out;
}

static int64_t find(const bm_vocab *v, const char *text)
{
    return bm_strings_find(&v->texts, text, strlen(text));
}

/* The byte of "<0xXX>", or -1. */
static int byte_of(bm_str text)
{
    static const char hex[] = "0123456789ABCDEF";
    const char *hi, *lo;

    if (text.len != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return -1;
    hi = memchr(hex, text.data[3], 16);
    lo = memchr(hex, text.data[4], 16);
    return hi != NULL && lo != NULL ? (int)((hi - hex) * 16 + (lo - hex)) : -1;
}

/* GPT-2's alphabet writes a byte as a visible character: itself where it is one, else the next one from U+0100 on. */
static int byte_of_char(uint32_t cp)
{
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF))
        return (int)cp;
    if (cp >= 0x100 && cp <= 0x120)
        return (int)cp - 0x100;
    if (cp >= 0x121 && cp <= 0x142)
        return (int)cp - 0x121 + 0x7F;
    return cp == 0x143 ? 0xAD : -1;
}

long bm_vocab_bytes_of(const char *text, size_t len, char *out)
{
    long n = 0;

    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        uint32_t cp;
        if (c >= 0x21 && c <= 0x7E) {            /* most of them */
            out[n++] = text[i++];
            continue;
        }
        int used = bm_utf8_decode(text + i, len - i, &cp), byte = used < 0 ? -1 : byte_of_char(cp);
        if (byte < 0)
            return -1;
        out[n++] = (char)byte;
        i += (size_t)used;
    }
    return n;
}

static int take_tokens(bm_vocab *v, const bm_vocab_spec *spec, bm_error *err)
{
    uint64_t soon[AHEAD] = { 0 };        /* hashes of the tokens to come */
    size_t total = 0;
    int rc;

    if (spec->n_tokens == 0 || spec->n_tokens > MAX_TOKENS)
        return bm_fail(err, BM_FORMAT, "tokenizer.ggml.tokens: found %zu tokens, expected 1 to %d", spec->n_tokens, MAX_TOKENS);
    for (size_t i = 0; i < spec->n_tokens; i++)
        if (!bm_add_size(total, spec->tokens[i].len + 24, &total))
            return bm_fail(err, BM_FORMAT, "tokenizer.ggml.tokens: the texts are too long");
    if ((rc = bm_strings_reserve(&v->texts, spec->n_tokens, total, err)) < 0)
        return rc;
    for (size_t i = 0; i < spec->n_tokens; i++) {
        char name[72], empty[24];
        bm_str text = spec->tokens[i];
        uint64_t hash = i < AHEAD ? bm_strings_soon(&v->texts, text.data, text.len) : soon[i % AHEAD];
        bool added;
        int64_t id;
        if (i + AHEAD < spec->n_tokens)
            soon[i % AHEAD] = bm_strings_soon(&v->texts, spec->tokens[i + AHEAD].data, spec->tokens[i + AHEAD].len);
        if (text.len == 0) {             /* an empty one would match everywhere: llama.cpp's name for it */
            text.data = empty;
            text.len = (size_t)snprintf(empty, sizeof empty, "[EMPTY_%zu]", i);
            hash = bm_strings_soon(&v->texts, text.data, text.len);
        }
        if ((id = bm_strings_add_hashed(&v->texts, text.data, text.len, hash, &added, err)) < 0)
            return (int)id;
        if (!added)
            return bm_fail(err, BM_FORMAT, "tokenizer.ggml.tokens[%zu]: found '%s' again (first at %lld), expected each token once", i,
                           bm_vocab_quote(name, text), (long long)id);
        v->max_text = text.len > v->max_text ? text.len : v->max_text;
    }
    return 0;
}

static int take_types(bm_vocab *v, const bm_vocab_spec *spec, bm_error *err)
{
    static const uint16_t flags_of[] = {
        BM_TOKEN_NORMAL, BM_TOKEN_UNKNOWN, BM_TOKEN_CONTROL, BM_TOKEN_USER, BM_TOKEN_UNUSED, BM_TOKEN_BYTE
    };

    if ((v->flags = bm_calloc(spec->n_tokens, sizeof *v->flags)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the types of %zu tokens", spec->n_tokens);
    memset(v->byte_ids, -1, sizeof v->byte_ids);
    for (uint32_t i = 0; i < v->texts.n; i++) {
        int32_t type = spec->types == NULL ? 1 : spec->types[i];
        int byte = byte_of(bm_strings_at(&v->texts, i));
        v->flags[i] = type >= 1 && type <= 6 ? flags_of[type - 1] : 0;
        if (v->flags[i] == BM_TOKEN_BYTE && byte < 0) {
            char name[72];
            return bm_fail(err, BM_FORMAT, "tokenizer.ggml.tokens[%u]: found '%s' as a byte token, expected <0x00> to <0xFF>", i,
                           bm_vocab_quote(name, bm_strings_at(&v->texts, i)));
        }
        if (byte >= 0 && !(v->flags[i] & (BM_TOKEN_CONTROL | BM_TOKEN_UNKNOWN)))
            v->byte_ids[byte] = (int32_t)i;
    }
    return 0;
}

static int take_scores(bm_vocab *v, const bm_vocab_spec *spec, bm_error *err)
{
    if (v->pretok != NULL)
        return 0;
    if (spec->scores == NULL)
        return bm_fail(err, BM_FORMAT, "tokenizer.ggml.scores: found none, expected %zu: a SentencePiece vocabulary needs them",
                       spec->n_tokens);
    if ((v->scores = bm_calloc(spec->n_tokens, sizeof *v->scores)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the scores of %zu tokens", spec->n_tokens);
    for (size_t i = 0; i < spec->n_tokens; i++) {
        if (isnan(spec->scores[i]))
            return bm_fail(err, BM_FORMAT, "tokenizer.ggml.scores[%zu]: found no number, expected one", i);
        v->scores[i] = spec->scores[i];
    }
    return 0;
}

static int take_id(const bm_vocab *v, const char *key, int64_t given, int32_t preset, int32_t *out, bm_error *err)
{
    if (given == BM_VOCAB_UNSET)
        *out = preset < (int64_t)v->texts.n ? preset : -1;
    else if (given == -1 || given == UINT32_MAX)
        *out = -1;
    else if (given < 0 || given >= v->texts.n)
        return bm_fail(err, BM_FORMAT, "tokenizer.ggml.%s_token_id: found %lld, expected 0 to %u", key, (long long)given,
                       v->texts.n - 1);
    else
        *out = (int32_t)given;
    return 0;
}

static void mark(bm_vocab *v, int64_t id, unsigned flags)
{
    if (id >= 0) {
        if (flags & BM_TOKEN_CONTROL)
            v->flags[id] &= (uint16_t)~(BM_TOKEN_NORMAL | BM_TOKEN_USER | BM_TOKEN_UNUSED | BM_TOKEN_UNKNOWN);
        v->flags[id] |= (uint16_t)flags;
    }
}

static int64_t first_of(const bm_vocab *v, const char *const *names)
{
    int64_t id = -1;

    for (; *names != NULL && id < 0; names++)
        id = find(v, *names);
    return id;
}

static int64_t in_eog(const bm_vocab *v, const char *text)
{
    int64_t id = find(v, text);

    return id >= 0 && (v->flags[id] & BM_TOKEN_EOG) ? id : -1;
}

/* Some families use a name of the list for something else. */
static void except_eog(bm_vocab *v)
{
    int64_t end = in_eog(v, "<|end|>"), call = in_eog(v, "<|call|>"), calls = in_eog(v, "<|calls|>"), stop = in_eog(v, "</s>");

    if (end >= 0 && (call >= 0 || calls >= 0) && (in_eog(v, "<|return|>") >= 0 || in_eog(v, "<|flush|>") >= 0)) {
        v->flags[end] &= (uint16_t)~BM_TOKEN_EOG;
        v->flags[end] |= BM_TOKEN_SHOWN;
    }
    if (stop >= 0 && (in_eog(v, "<|tool_response>") >= 0 || in_eog(v, "<|plamo:eos|>") >= 0))
        v->flags[stop] = BM_TOKEN_NORMAL;
}

/* BOS, EOS and what ends a generation: ids in the file, then names that are known. */
static int take_ids(bm_vocab *v, const bm_vocab_spec *spec, bm_error *err)
{
    const struct bm_vocab_ids *ids = &spec->ids;
    const bool spm = v->pretok == NULL;
    int32_t eot, eom, pad, rep, sep;
    int rc;

    if ((rc = take_id(v, "bos", ids->bos, spm ? 1 : -1, &v->bos, err)) < 0
        || (rc = take_id(v, "eos", ids->eos, spm ? 2 : -1, &v->eos, err)) < 0
        || (rc = take_id(v, "unknown", ids->unk, spm ? 0 : -1, &v->unk, err)) < 0
        || (rc = take_id(v, "eot", ids->eot, -1, &eot, err)) < 0 || (rc = take_id(v, "eom", ids->eom, -1, &eom, err)) < 0
        || (rc = take_id(v, "fim_pad", ids->fim_pad, -1, &pad, err)) < 0
        || (rc = take_id(v, "fim_rep", ids->fim_rep, -1, &rep, err)) < 0
        || (rc = take_id(v, "fim_sep", ids->fim_sep, -1, &sep, err)) < 0)
        return rc;
    for (const char *const *name = eog_names; *name != NULL; name++)
        mark(v, find(v, *name), BM_TOKEN_EOG | BM_TOKEN_CONTROL);
    for (const char *const *name = fim_other_names; *name != NULL; name++)
        mark(v, find(v, *name), BM_TOKEN_CONTROL);
    mark(v, pad, BM_TOKEN_EOG);
    mark(v, rep, BM_TOKEN_EOG);
    mark(v, sep, BM_TOKEN_EOG);
    mark(v, pad >= 0 ? -1 : first_of(v, fim_pad_names), BM_TOKEN_EOG | BM_TOKEN_CONTROL);
    mark(v, rep >= 0 ? -1 : first_of(v, fim_rep_names), BM_TOKEN_EOG | BM_TOKEN_CONTROL);
    mark(v, sep >= 0 ? -1 : first_of(v, fim_sep_names), BM_TOKEN_EOG | BM_TOKEN_CONTROL);
    mark(v, v->eos, BM_TOKEN_EOG);
    mark(v, eot, BM_TOKEN_EOG);
    mark(v, eom, BM_TOKEN_EOG);
    for (const char *const *name = shown_names; *name != NULL; name++)
        mark(v, find(v, *name), BM_TOKEN_SHOWN);
    except_eog(v);
    return 0;
}

static bool has(bm_str s, const char *part)
{
    size_t n = strlen(part);

    for (size_t i = 0; i + n <= s.len; i++) {
        size_t k = 0;
        while (k < n && (s.data[i + k] | (s.data[i + k] >= 'A' && s.data[i + k] <= 'Z' ? 0x20 : 0)) == part[k])
            k++;
        if (k == n)
            return true;
    }
    return false;
}

/* White space around special tokens: not in GGUF, so llama.cpp goes by the name of the model, and so must we. */
static void take_strips(bm_vocab *v, const bm_vocab_spec *spec)
{
    if (has(spec->pre, "jina-v2-de") || has(spec->pre, "jina-v2-es") || has(spec->pre, "jina-v2-code")) {
        mark(v, find(v, "<mask>"), BM_TOKEN_LSTRIP);
    } else if (has(spec->name, "phi-3") || has(spec->name, "phi3")) {
        static const char *const keep[] = { "<unk>", "<s>", "<|endoftext|>" };
        for (uint32_t i = 0; i < v->texts.n; i++)
            if (v->flags[i] & BM_TOKEN_SPECIAL)
                v->flags[i] |= BM_TOKEN_RSTRIP;
        for (size_t i = 0; i < 3; i++) {
            int64_t id = find(v, keep[i]);
            if (id >= 0)
                v->flags[id] &= (uint16_t)~BM_TOKEN_RSTRIP;
        }
    } else if (has(spec->name, "modern-bert")) {
        mark(v, find(v, "[MASK]"), BM_TOKEN_LSTRIP);
    }
}

/* The bytes of token i into out (room for its text): U+2581 is a space where the vocabulary writes it so. */
static size_t piece_of(const bm_vocab *v, uint32_t i, char *out)
{
    bm_str text = bm_strings_at(&v->texts, i);
    size_t n = 0;

    if (v->flags[i] & BM_TOKEN_SPECIAL) {
        memcpy(out, text.data, text.len);
        return text.len;
    }
    if (v->flags[i] & BM_TOKEN_BYTE) {
        out[0] = (char)byte_of(text);
        return 1;
    }
    if (!(v->flags[i] & BM_TOKEN_NORMAL))
        return 0;
    if (v->pretok != NULL && !(v->pretok->flags & BM_PRE_RAW)) {
        long len = bm_vocab_bytes_of(text.data, text.len, out);
        if (len >= 0)
            return (size_t)len;
        memcpy(out, text.data, text.len);
        return text.len;
    }
    for (size_t k = 0; k < text.len;) {
        if (text.len - k >= 3 && memcmp(text.data + k, "\xE2\x96\x81", 3) == 0)
            out[n++] = ' ', k += 3;
        else
            out[n++] = text.data[k++];
    }
    return n;
}

static int make_pieces(bm_vocab *v, bm_error *err)
{
    size_t at = 0;

    v->pieces = bm_malloc(v->texts.len);
    v->piece_at = bm_calloc((size_t)v->texts.n + 1, sizeof *v->piece_at);
    if (v->pieces == NULL || v->piece_at == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the pieces of %u tokens", v->texts.n);
    for (uint32_t i = 0; i < v->texts.n; i++) {
        size_t n = piece_of(v, i, v->pieces + at);
        v->max_piece = n > v->max_piece ? n : v->max_piece;
        v->piece_at[i + 1] = (uint32_t)(at += n);        /* no piece is longer than its text */
    }
    return 0;
}

int bm_vocab_build(bm_vocab *v, const bm_vocab_spec *spec, bm_error *err)
{
    unsigned pre = v->pretok == NULL ? 0 : v->pretok->flags;
    int rc;

    if ((rc = take_tokens(v, spec, err)) < 0 || (rc = take_types(v, spec, err)) < 0 || (rc = take_scores(v, spec, err)) < 0
        || (rc = take_ids(v, spec, err)) < 0)
        return rc;
    take_strips(v, spec);
    v->add_bos = spec->add_bos >= 0 ? spec->add_bos > 0 : v->pretok == NULL || (pre & BM_PRE_ADD_BOS);
    v->add_bos = (v->add_bos || (pre & BM_PRE_FORCE_BOS)) && v->bos >= 0;
    v->add_eos = spec->add_eos > 0 && v->eos >= 0;
    v->add_space_prefix = v->pretok == NULL && spec->add_space_prefix != 0;
    return make_pieces(v, err);
}

void bm_vocab_done(bm_vocab *v)
{
    bm_strings_done(&v->texts);
    bm_free(v->flags);
    bm_free(v->scores);
    bm_free(v->pieces);
    bm_free(v->piece_at);
    memset(v, 0, sizeof *v);
}
