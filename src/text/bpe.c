/* bpe.c - byte-level BPE. Symbols are strings of bytes, decoded from the alphabet of GPT-2: the 256 single bytes first, then
 * tokens, then what merges make on the way. A table maps a pair of symbols to the rank of its merge and to its result. */
#include "text/bpe.h"

#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

typedef struct pair_slot { uint32_t left, right, rank, merged; } pair_slot;     /* rank BM_MERGE_NONE: free */

struct bm_bpe {
    const bm_vocab *vocab;
    bool raw;                            /* symbols are UTF-8 as it stands */
    bm_strings symbols;
    int32_t *ids;                        /* token of each of the first n_ids symbols, or -1; later ones have none */
    uint32_t n_ids, n_pairs;             /* n_pairs: slots */
    pair_slot *pairs;
    size_t longest;                      /* bytes of the longest symbol with a token */
    bool control_starts[256];            /* first bytes of the texts of control tokens */
};

static size_t pair_home(const bm_bpe *bpe, uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;

    h ^= h >> 29;
    return (size_t)((h * 0xD6E8FEB86659FD93u >> 32) * bpe->n_pairs >> 32);
}

static size_t pair_slot_of(const bm_bpe *bpe, uint32_t left, uint32_t right)
{
    size_t i = pair_home(bpe, left, right);

    while (bpe->pairs[i].rank != BM_MERGE_NONE && (bpe->pairs[i].left != left || bpe->pairs[i].right != right))
        i = i + 1 == bpe->n_pairs ? 0 : i + 1;
    return i;
}

static int32_t id_of(const bm_bpe *bpe, int64_t sym) { return sym >= 0 && sym < bpe->n_ids ? bpe->ids[sym] : -1; }

static void find_pair(const void *vocab, const char *word, bm_symbol *left, const bm_symbol *right)
{
    const bm_bpe *bpe = vocab;
    const pair_slot *slot = &bpe->pairs[pair_slot_of(bpe, left->sym, right->sym)];

    (void)word;
    left->rank = slot->rank;
    left->merged = slot->merged;
}

/* The bytes of a text in the file; -1 for one that no word can hold. */
static long decode(const bm_bpe *bpe, bm_str text, char *out)
{
    if (!bpe->raw)
        return bm_vocab_bytes_of(text.data, text.len, out);
    memcpy(out, text.data, text.len);
    return (long)text.len;
}

static int add_symbols(bm_bpe *bpe, char *scratch, bm_error *err)
{
    const bm_vocab *v = bpe->vocab;
    bool added;

    for (unsigned b = 0; b < 256; b++) {
        char c = (char)b;
        int64_t sym = bm_strings_add(&bpe->symbols, &c, 1, &added, err);
        if (sym < 0)
            return (int)sym;
    }
    for (uint32_t i = 0; i < v->texts.n; i++) {
        bm_str text = bm_strings_at(&v->texts, i);
        long len = decode(bpe, text, scratch);
        int64_t sym;
        if (v->flags[i] & (BM_TOKEN_CONTROL | BM_TOKEN_UNKNOWN))
            bpe->control_starts[(unsigned char)text.data[0]] = true;
        if (len <= 0 || (v->flags[i] & (BM_TOKEN_CONTROL | BM_TOKEN_UNKNOWN)))
            continue;
        if ((sym = bm_strings_add(&bpe->symbols, scratch, (size_t)len, &added, err)) < 0)
            return (int)sym;
        bpe->ids[sym] = (int32_t)i;
        bpe->longest = (size_t)len > bpe->longest ? (size_t)len : bpe->longest;
    }
    return 0;
}

/* A control token's text is no symbol, and no merge may make it one: ordinary text never becomes a control token. */
static bool makes_control(const bm_bpe *bpe, bm_str left, bm_str right, char *scratch)
{
    int64_t id;

    if (!bpe->control_starts[(unsigned char)left.data[0]])
        return false;
    memcpy(scratch, left.data, left.len);
    memcpy(scratch + left.len, right.data, right.len);
    id = bm_strings_find(&bpe->vocab->texts, scratch, left.len + right.len);
    return id >= 0 && (bpe->vocab->flags[id] & (BM_TOKEN_CONTROL | BM_TOKEN_UNKNOWN));
}

/* A merge on its way into the table: merges are taken in batches, so that what they look up is fetched side by side. */
typedef struct merge { char *bytes; long left, right; uint64_t left_hash, right_hash; uint32_t rank; } merge;
enum { BATCH = 16 };

/* 1: a merge of symbols; 0: one that is left out. bytes has room for it. */
static int read_merge(const bm_bpe *bpe, bm_str text, uint32_t rank, merge *m, bm_error *err)
{
    const char *blank = text.len > 1 ? memchr(text.data + 1, ' ', text.len - 1) : NULL;
    char name[72];
    bm_str left, right;

    if (blank == NULL || blank + 1 == text.data + text.len)
        return bm_fail(err, BM_FORMAT, "tokenizer.ggml.merges[%u]: found '%s', expected two parts with a space between", rank,
                       bm_vocab_quote(name, text));
    left = (bm_str){ text.data, (size_t)(blank - text.data) };
    right = (bm_str){ blank + 1, text.len - left.len - 1 };
    m->rank = rank;
    if (makes_control(bpe, left, right, m->bytes) || (m->left = decode(bpe, left, m->bytes)) < 0 ||
        (m->right = decode(bpe, right, m->bytes + m->left)) < 0)
        return 0;                        /* no text has such bytes */
    m->left_hash = bm_strings_soon(&bpe->symbols, m->bytes, (size_t)m->left);
    m->right_hash = bm_strings_soon(&bpe->symbols, m->bytes + m->left, (size_t)m->right);
    return 1;
}

/* The symbol of bytes. Files list tokens in the order of their merges: mostly it is the one after the last that was asked for. */
static int64_t next_symbol(bm_bpe *bpe, const char *bytes, size_t len, int64_t last, bm_error *err)
{
    bool added;

    if (last + 1 < bpe->symbols.n) {
        bm_str s = bm_strings_at(&bpe->symbols, (uint32_t)last + 1);
        if (s.len == len && memcmp(s.data, bytes, len) == 0)
            return last + 1;
    }
    return bm_strings_add(&bpe->symbols, bytes, len, &added, err);
}

static int add_merges(bm_bpe *bpe, const merge *batch, int n, int64_t *last, bm_error *err)
{
    int64_t part[BATCH][3];              /* left, right, both */
    bool added;

    for (int k = 0; k < n; k++) {
        const merge *m = &batch[k];
        if ((part[k][0] = bm_strings_add_hashed(&bpe->symbols, m->bytes, (size_t)m->left, m->left_hash, &added, err)) < 0)
            return (int)part[k][0];
        if ((part[k][1] = bm_strings_add_hashed(&bpe->symbols, m->bytes + m->left, (size_t)m->right, m->right_hash, &added, err)) < 0)
            return (int)part[k][1];
        if ((part[k][2] = next_symbol(bpe, m->bytes, (size_t)(m->left + m->right), *last, err)) < 0)
            return (int)part[k][2];
        *last = part[k][2];
        __builtin_prefetch(&bpe->pairs[pair_home(bpe, (uint32_t)part[k][0], (uint32_t)part[k][1])]);
    }
    for (int k = 0; k < n; k++) {
        pair_slot *slot = &bpe->pairs[pair_slot_of(bpe, (uint32_t)part[k][0], (uint32_t)part[k][1])];
        if (slot->rank == BM_MERGE_NONE)
            *slot = (pair_slot){ (uint32_t)part[k][0], (uint32_t)part[k][1], batch[k].rank, (uint32_t)part[k][2] };
    }
    return 0;
}

static int take_merges(bm_bpe *bpe, const bm_str *merges, size_t n_merges, char *scratch, size_t longest, bm_error *err)
{
    merge batch[BATCH];
    int64_t last = -1;
    int n = 0, rc = 0;

    for (size_t i = 0; i < n_merges && rc >= 0; i++) {
        batch[n].bytes = scratch + (size_t)n * longest;
        if ((rc = read_merge(bpe, merges[i], (uint32_t)i, &batch[n], err)) > 0 && ++n == BATCH) {
            rc = add_merges(bpe, batch, n, &last, err);
            n = 0;
        }
    }
    return rc < 0 ? rc : add_merges(bpe, batch, n, &last, err);
}

static int reserve(bm_bpe *bpe, const bm_str *merges, size_t n_merges, size_t *longest, bm_error *err)
{
    size_t n = 256 + (size_t)bpe->vocab->texts.n, slots = n_merges + n_merges / 3 + 16;
    int rc;

    *longest = bpe->vocab->max_text;
    for (size_t i = 0; i < n_merges; i++)
        *longest = merges[i].len > *longest ? merges[i].len : *longest;
    if (n_merges >= UINT32_MAX / 8)
        return bm_fail(err, BM_FORMAT, "tokenizer.ggml.merges: found %zu, expected fewer", n_merges);
    if ((rc = bm_strings_reserve(&bpe->symbols, n, 256 + bpe->vocab->texts.len, err)) < 0)
        return rc;
    bpe->ids = bm_malloc(n * sizeof *bpe->ids);
    bpe->pairs = bm_malloc(slots * sizeof *bpe->pairs);
    if (bpe->ids == NULL || bpe->pairs == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for %zu merges", n_merges);
    memset(bpe->ids, -1, n * sizeof *bpe->ids);
    memset(bpe->pairs, -1, slots * sizeof *bpe->pairs);
    bpe->n_ids = (uint32_t)n;
    bpe->n_pairs = (uint32_t)slots;
    return 0;
}

int bm_bpe_new(bm_bpe **out, const bm_vocab *v, const bm_str *merges, size_t n_merges, bm_error *err)
{
    bm_bpe *bpe = bm_zalloc(sizeof *bpe);
    char *scratch = NULL;
    size_t longest, room;
    int rc;

    *out = NULL;
    if (bpe == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for %zu merges", n_merges);
    bpe->vocab = v;
    bpe->raw = (v->pretok->flags & BM_PRE_RAW) != 0;
    if ((rc = reserve(bpe, merges, n_merges, &longest, err)) < 0)
        goto out;
    if (!bm_mul_size(longest + 1, BATCH, &room) || (scratch = bm_malloc(room)) == NULL) {
        rc = bm_fail(err, BM_NOMEM, "no memory for a token of %zu bytes", longest);
        goto out;
    }
    if ((rc = add_symbols(bpe, scratch, err)) < 0)
        goto out;
    if ((rc = take_merges(bpe, merges, n_merges, scratch, longest + 1, err)) == 0)
        *out = bpe, bpe = NULL;
out:
    bm_free(scratch);
    bm_bpe_free(bpe);
    return rc;
}

void bm_bpe_free(bm_bpe *bpe)
{
    if (bpe == NULL)
        return;
    bm_strings_done(&bpe->symbols);
    bm_free(bpe->ids);
    bm_free(bpe->pairs);
    bm_free(bpe);
}

int32_t bm_bpe_find(const bm_bpe *bpe, const char *bytes, size_t len)
{
    int64_t sym = len == 0 || len > bpe->longest ? -1 : bm_strings_find(&bpe->symbols, bytes, len);

    return id_of(bpe, sym);
}

/* The symbols that a word begins as: bytes, or (raw) characters, those that are no symbol as BM_MERGE_NONE. */
static size_t first_symbols(const bm_bpe *bpe, bm_symbol *s, const char *word, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; n++) {
        int64_t sym = (unsigned char)word[i];
        int used = 1;
        if (bpe->raw) {
            uint32_t cp;
            used = bm_utf8_decode(word + i, len - i, &cp);
            used = used < 0 ? -used : used;
            sym = bm_strings_find(&bpe->symbols, word + i, (size_t)used);
        }
        s[n] = (bm_symbol){ sym < 0 ? BM_MERGE_NONE : (uint32_t)sym, (uint32_t)i, (uint32_t)used, BM_MERGE_NONE, 0, 0, 0 };
        i += (size_t)used;
    }
    return n;
}

/* A symbol that is no token falls apart into the tokens of its bytes; bytes without a token vanish, as in llama.cpp. */
static int emit(const bm_bpe *bpe, const char *word, const bm_symbol *s, bm_tokens *out, bm_error *err)
{
    int32_t id = id_of(bpe, s->sym);         /* BM_MERGE_NONE is none of them */
    int rc = 0;

    if (id >= 0)
        return bm_tokens_add(out, id, err);
    for (uint32_t k = 0; k < s->len && rc == 0; k++) {
        unsigned char byte = (unsigned char)word[s->at + k];
        id = bpe->raw ? bpe->vocab->byte_ids[byte] : bpe->ids[byte];
        if (id >= 0)
            rc = bm_tokens_add(out, id, err);
    }
    return rc;
}

static int merge_word(const bm_bpe *bpe, bm_merge_work *work, const char *word, size_t len, bm_tokens *out, bm_error *err)
{
    const bm_merger merger = { find_pair, bpe };
    size_t n;
    int rc;

    if ((rc = bm_merge_room(work, len, err)) < 0)
        return rc;
    n = first_symbols(bpe, work->symbols, word, len);
    rc = bm_merge_run(work, &merger, word, n, &n, err);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = emit(bpe, word, &work->symbols[i], out, err);
    return rc;
}

static bool only_newlines(const char *word, size_t len)
{
    while (len > 0 && word[len - 1] == '\n')
        len--;
    return len == 0;
}

int bm_bpe_word(const bm_bpe *bpe, bm_merge_work *work, bm_word *words, const char *word, size_t len, bm_tokens *out, bm_error *err)
{
    const unsigned pre = bpe->vocab->pretok->flags;
    bm_word key, *slot = NULL;
    size_t before = out->n;
    int32_t whole;
    int rc = 0;

    if (words != NULL && len <= BM_WORD_BYTES) {
        slot = bm_word_slot(words, word, len, &key);
        if (bm_word_is(slot, &key)) {
            for (uint8_t i = 0; i < slot->n && rc == 0; i++)
                rc = bm_tokens_add(out, slot->ids[i], err);
            return rc;
        }
    }
    if (((pre & BM_PRE_IGNORE_MERGES) || ((pre & BM_PRE_NEWLINES) && only_newlines(word, len)))
        && (whole = bm_bpe_find(bpe, word, len)) >= 0)
        rc = bm_tokens_add(out, whole, err);
    else
        rc = merge_word(bpe, work, word, len, out, err);
    if (rc == 0 && slot != NULL && out->n - before <= BM_WORD_IDS) {
        *slot = key;
        slot->n = (uint8_t)(out->n - before);
        for (uint8_t i = 0; i < slot->n; i++)
            slot->ids[i] = out->ids[before + i];
    }
    return rc;
}
