/* spm.c - SentencePiece BPE: neighbours merge when their bytes together are a token, the best score first. What stays a single
 * character without a token becomes its bytes' tokens, or, where the vocabulary has none, one unknown token per run.
 *
 * Merging knows no words, but no merge crosses a place before a U+2581 whose bytes on both sides stand in no token; cutting
 * there gives the same ids, keeps words short and lets them be remembered. */
#include "text/spm.h"

#include <string.h>

#include "base/mem.h"

struct bm_spm {
    const bm_vocab *vocab;
    uint32_t *rank;                      /* of each token: ascending as its score descends */
    bool crosses[256];                   /* a token holds this byte and then U+2581 */
};

static const char blank[] = "\xE2\x96\x81";

/* Order of floats as unsigned integers, the greatest first; never BM_MERGE_NONE, which only a NaN would give. */
static uint32_t rank_of(float score)
{
    uint32_t bits;

    score += 0.0f;                       /* -0 is 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

/* Only what SentencePiece itself finds in text: never a control, unknown or byte token. */
static bool is_mergeable(const bm_vocab *v, int64_t id)
{
    return id >= 0 && !(v->flags[id] & (BM_TOKEN_CONTROL | BM_TOKEN_UNKNOWN | BM_TOKEN_BYTE));
}

int bm_spm_new(bm_spm **out, const bm_vocab *v, bm_error *err)
{
    bm_spm *spm = bm_zalloc(sizeof *spm);

    *out = NULL;
    if (spm == NULL || (spm->rank = bm_calloc(v->texts.n, sizeof *spm->rank)) == NULL) {
        bm_spm_free(spm);
        return bm_fail(err, BM_NOMEM, "no memory for the scores of %u tokens", v->texts.n);
    }
    spm->vocab = v;
    for (uint32_t i = 0; i < v->texts.n; i++) {
        bm_str text = bm_strings_at(&v->texts, i);
        spm->rank[i] = rank_of(v->scores[i]);
        for (size_t k = 1; k + 3 <= text.len && is_mergeable(v, i); k++)
            if (memcmp(text.data + k, blank, 3) == 0)
                spm->crosses[(unsigned char)text.data[k - 1]] = true;
    }
    *out = spm;
    return 0;
}

void bm_spm_free(bm_spm *spm)
{
    if (spm == NULL)
        return;
    bm_free(spm->rank);
    bm_free(spm);
}

static void find_pair(const void *vocab, const char *word, bm_symbol *left, const bm_symbol *right)
{
    const bm_spm *spm = vocab;
    size_t len = (size_t)left->len + right->len;
    int64_t id = len > spm->vocab->max_text ? -1 : bm_strings_find(&spm->vocab->texts, word + left->at, len);

    left->rank = is_mergeable(spm->vocab, id) ? spm->rank[id] : BM_MERGE_NONE;
    left->merged = (uint32_t)id;
}

/* The ids of one symbol. An unknown right behind an unknown adds nothing: *unknown carries that from symbol to symbol. */
static int emit(const bm_spm *spm, const char *word, const bm_symbol *s, bool *unknown, bm_tokens *out, bm_error *err)
{
    const bm_vocab *v = spm->vocab;
    bool bytes = true;
    int rc = 0;

    if (s->sym != BM_MERGE_NONE) {
        *unknown = false;
        return bm_tokens_add(out, (int32_t)s->sym, err);
    }
    for (uint32_t k = 0; k < s->len; k++)
        bytes = bytes && v->byte_ids[(unsigned char)word[s->at + k]] >= 0;
    if (bytes) {
        *unknown = false;
        for (uint32_t k = 0; k < s->len && rc == 0; k++)
            rc = bm_tokens_add(out, v->byte_ids[(unsigned char)word[s->at + k]], err);
        return rc;
    }
    if (!*unknown && v->unk >= 0)
        rc = bm_tokens_add(out, v->unk, err);
    *unknown = true;
    return rc;
}

static size_t char_len(unsigned char lead)
{
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

static int merge_word(const bm_spm *spm, bm_merge_work *work, const char *word, size_t len, bool *unknown, bm_tokens *out,
                      bm_error *err)
{
    const bm_merger merger = { find_pair, spm };
    size_t n = 0;
    int rc = bm_merge_room(work, len, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < len; n++) {
        size_t used = char_len((unsigned char)word[i]);
        int64_t id = bm_strings_find(&spm->vocab->texts, word + i, used);
        work->symbols[n] = (bm_symbol){ is_mergeable(spm->vocab, id) ? (uint32_t)id : BM_MERGE_NONE, (uint32_t)i,
                                        (uint32_t)used, BM_MERGE_NONE, 0, 0, 0 };
        i += used;
    }
    rc = bm_merge_run(work, &merger, word, n, &n, err);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = emit(spm, word, &work->symbols[i], unknown, out, err);
    return rc;
}

static int encode_word(const bm_spm *spm, bm_merge_work *work, bm_word *words, const char *word, size_t len, bool *unknown,
                       bm_tokens *out, bm_error *err)
{
    const size_t before = out->n;
    bm_word key, *slot = NULL;
    int rc = 0;

    if (words != NULL && len <= BM_WORD_BYTES) {
        slot = bm_word_slot(words, word, len, &key);
        if (bm_word_is(slot, &key)) {
            for (uint8_t i = 0; i < slot->n && rc == 0; i++)
                rc = bm_tokens_add(out, slot->ids[i], err);
            *unknown = false;
            return rc;
        }
    }
    rc = merge_word(spm, work, word, len, unknown, out, err);
    for (size_t i = before; i < out->n; i++)
        if (out->ids[i] == spm->vocab->unk)
            slot = NULL;                 /* unknown runs go on over words */
    if (rc == 0 && slot != NULL && !*unknown && out->n - before <= BM_WORD_IDS) {
        *slot = key;
        slot->n = (uint8_t)(out->n - before);
        for (uint8_t i = 0; i < slot->n; i++)
            slot->ids[i] = out->ids[before + i];
    }
    return rc;
}

int bm_spm_encode(const bm_spm *spm, bm_merge_work *work, bm_word *words, const char *text, size_t len, bm_tokens *out,
                  bm_error *err)
{
    bool unknown = false;
    size_t begin = 0;
    int rc = 0;

    for (size_t i = 1; i <= len && rc == 0; i++) {
        if (i < len && (text[i] != blank[0] || len - i < 3 || memcmp(text + i, blank, 3) != 0
                        || spm->crosses[(unsigned char)text[i - 1]]))
            continue;
        rc = encode_word(spm, work, words, text + begin, i - begin, &unknown, out, err);
        begin = i;
    }
    return rc;
}
