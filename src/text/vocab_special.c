/* vocab_special.c - special tokens in a text: a trie over their bytes finds the longest at each place, a heap gives the longest
 * first, then the leftmost; what one took the others leave. The result is llama.cpp's, which walks the text once per token. */
#include "text/vocab.h"

#include <string.h>

#include "base/mem.h"

typedef struct node {
    int32_t id;                          /* the token that ends here, or -1 */
    uint32_t len;                        /* bytes from the root */
    uint32_t shorter;                    /* nearest ancestor that ends a token; 0 for none */
} node;

struct bm_special {
    const bm_vocab *vocab;               /* borrowed: the tokenizer owns both */
    node *nodes;                         /* 0 is the root */
    uint32_t n_nodes;
    uint64_t *edges;                     /* two words a slot: edge_key (0: free), child */
    size_t mask;
    bool starts[256];                    /* bytes that begin a token */
};

static uint64_t edge_key(uint32_t parent, unsigned char byte)
{
    return ((uint64_t)parent << 8 | byte) + 1;
}

static size_t edge_slot(const bm_special *sp, uint64_t key)
{
    size_t i = (size_t)(key * 0x9E3779B97F4A7C15u >> 20) & sp->mask;

    while (sp->edges[2 * i] != 0 && sp->edges[2 * i] != key)
        i = (i + 1) & sp->mask;
    return i;
}

static uint32_t child_of(const bm_special *sp, uint32_t parent, unsigned char byte)
{
    size_t i = edge_slot(sp, edge_key(parent, byte));

    return sp->edges[2 * i] == 0 ? 0 : (uint32_t)sp->edges[2 * i + 1];
}

static void add_token(bm_special *sp, int32_t id, bm_str text)
{
    uint32_t at = 0;

    sp->starts[(unsigned char)text.data[0]] = true;
    for (size_t k = 0; k < text.len; k++) {
        size_t i = edge_slot(sp, edge_key(at, (unsigned char)text.data[k]));
        if (sp->edges[2 * i] == 0) {
            sp->edges[2 * i] = edge_key(at, (unsigned char)text.data[k]);
            sp->edges[2 * i + 1] = sp->n_nodes;
            sp->nodes[sp->n_nodes++] = (node){ -1, (uint32_t)k + 1, 0 };
        }
        at = (uint32_t)sp->edges[2 * i + 1];
    }
    sp->nodes[at].id = id;
}

/* Once all tokens are in: each node of this one's path learns of the nearest token above it. */
static void link_shorter(bm_special *sp, bm_str text)
{
    uint32_t at = 0, last = 0;

    for (size_t k = 0; k < text.len; k++) {
        at = child_of(sp, at, (unsigned char)text.data[k]);
        sp->nodes[at].shorter = last;
        if (sp->nodes[at].id >= 0)
            last = at;
    }
}

int bm_special_new(bm_special **out, const bm_vocab *v, bm_error *err)
{
    bm_special *sp = bm_zalloc(sizeof *sp);
    size_t total = 1, slots = 64;

    *out = NULL;
    for (uint32_t i = 0; i < v->texts.n; i++)
        if (v->flags[i] & BM_TOKEN_SPECIAL)
            total += bm_strings_at(&v->texts, i).len;
    while (slots < total * 2)
        slots *= 2;
    if (sp != NULL) {
        sp->vocab = v;
        sp->nodes = bm_calloc(total, sizeof *sp->nodes);
        sp->edges = bm_calloc(slots, 2 * sizeof *sp->edges);
    }
    if (sp == NULL || sp->nodes == NULL || sp->edges == NULL || total >= UINT32_MAX) {
        bm_special_free(sp);
        return bm_fail(err, BM_NOMEM, "no memory for %zu bytes of special tokens", total);
    }
    sp->mask = slots - 1;
    sp->nodes[0] = (node){ -1, 0, 0 };
    sp->n_nodes = 1;
    for (uint32_t i = 0; i < v->texts.n; i++)
        if (v->flags[i] & BM_TOKEN_SPECIAL)
            add_token(sp, (int32_t)i, bm_strings_at(&v->texts, i));
    for (uint32_t i = 0; i < v->texts.n; i++)
        if (v->flags[i] & BM_TOKEN_SPECIAL)
            link_shorter(sp, bm_strings_at(&v->texts, i));
    *out = sp;
    return 0;
}

void bm_special_free(bm_special *special)
{
    if (special == NULL)
        return;
    bm_free(special->nodes);
    bm_free(special->edges);
    bm_free(special);
}

/* A token at a place of the text, in a heap: longest first, then leftmost. */
typedef struct hit { uint64_t key; uint32_t node; } hit;

typedef struct finder {
    const bm_special *sp;
    const char *text;
    size_t len;
    const bm_encode_options *options;
    size_t span;                         /* the span that holds the place asked last */
    hit *hits;
    size_t n_hits, cap_hits;
    unsigned char *taken;                /* one bit a byte */
    hit *found;                          /* key is the place */
    size_t n_found, cap_found;
} finder;

static int grow(hit **hits, size_t n, size_t *cap, bm_error *err)
{
    size_t more = *cap == 0 ? 64 : *cap * 2;
    hit *p;

    if (n < *cap)
        return 0;
    if ((p = bm_realloc(*hits, more * sizeof *p)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the special tokens of a text");
    *hits = p, *cap = more;
    return 0;
}

static uint64_t hit_key(const finder *f, uint32_t n, size_t pos)
{
    return (uint64_t)(UINT32_MAX - f->sp->nodes[n].len) << 32 | (uint32_t)pos;
}

static int push_hit(finder *f, uint32_t n, size_t pos, bm_error *err)
{
    hit h = { hit_key(f, n, pos), n };
    size_t i = f->n_hits;
    int rc = grow(&f->hits, f->n_hits, &f->cap_hits, err);

    if (rc < 0)
        return rc;
    for (f->n_hits++; i > 0 && f->hits[(i - 1) / 2].key > h.key; i = (i - 1) / 2)
        f->hits[i] = f->hits[(i - 1) / 2];
    f->hits[i] = h;
    return 0;
}

static hit pop_hit(finder *f)
{
    hit top = f->hits[0], last = f->hits[--f->n_hits];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < f->n_hits) {
        if (child + 1 < f->n_hits && f->hits[child + 1].key < f->hits[child].key)
            child++;
        if (f->hits[child].key >= last.key)
            break;
        f->hits[i] = f->hits[child];
        i = child;
    }
    f->hits[i] = last;
    return top;
}

/* The end of the trusted text that holds pos, or 0: spans of the template that touch are one. pos never goes back. */
static size_t trusted_end(finder *f, size_t pos)
{
    const bm_encode_options *o = f->options;
    size_t i, end;

    if (o->spans == NULL)
        return o->parse_special ? f->len : 0;
    while (f->span < o->n_spans && o->spans[f->span].end <= pos)
        f->span++;
    if (f->span == o->n_spans || o->spans[f->span].begin > pos || o->spans[f->span].message >= 0)
        return 0;
    end = o->spans[f->span].end;
    for (i = f->span + 1; i < o->n_spans && o->spans[i].message < 0 && o->spans[i].begin == end; i++)
        end = o->spans[i].end;
    return end;
}

static bool allowed(const finder *f, uint32_t n, size_t pos, size_t trusted)
{
    const node *at = &f->sp->nodes[n];

    return at->id >= 0
           && (!(f->sp->vocab->flags[at->id] & (BM_TOKEN_CONTROL | BM_TOKEN_UNKNOWN)) || pos + at->len <= trusted);
}

/* Put the longest allowed token of every place on the heap. `trusted` is asked only where a token begins. */
static int find_hits(finder *f, bm_error *err)
{
    size_t known_end = 0, trusted = 0;
    int rc;

    for (size_t pos = 0; pos < f->len; pos++) {
        uint32_t at = 0, best = 0;
        if (!f->sp->starts[(unsigned char)f->text[pos]])
            continue;
        if (pos >= known_end) {
            trusted = trusted_end(f, pos);
            known_end = trusted > pos ? trusted : pos + 1;
        }
        for (size_t k = pos; k < f->len && (at = child_of(f->sp, at, (unsigned char)f->text[k])) != 0; k++)
            if (allowed(f, at, pos, trusted))
                best = at;
        if (best != 0 && (rc = push_hit(f, best, pos, err)) < 0)
            return rc;
    }
    return 0;
}

static bool is_taken(const finder *f, size_t pos)
{
    return f->taken[pos / 8] >> (pos % 8) & 1;
}

/* Longest first: each hit is taken where its bytes are free, or gives way to the next shorter token of its place. */
static int choose(finder *f, bm_error *err)
{
    int rc;

    if ((f->taken = bm_zalloc(f->len / 8 + 1)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the special tokens of a text");
    while (f->n_hits > 0) {
        hit h = pop_hit(f);
        size_t pos = (uint32_t)h.key, len = f->sp->nodes[h.node].len;
        if (is_taken(f, pos))
            continue;
        if (is_taken(f, pos + len - 1)) {
            uint32_t n = f->sp->nodes[h.node].shorter;
            f->span = 0;
            while (n != 0 && !allowed(f, n, pos, trusted_end(f, pos)))
                n = f->sp->nodes[n].shorter;
            if (n != 0 && (rc = push_hit(f, n, pos, err)) < 0)
                return rc;
            continue;
        }
        for (size_t k = pos; k < pos + len; k++)
            f->taken[k / 8] |= (unsigned char)(1 << k % 8);
        if ((rc = grow(&f->found, f->n_found, &f->cap_found, err)) < 0)
            return rc;
        f->found[f->n_found++] = (hit){ pos, h.node };
    }
    return 0;
}

/* Text order: the found hits once more through the heap, now keyed by place. */
static int by_place(finder *f, bm_error *err)
{
    int rc;

    for (size_t i = 0; i < f->n_found; i++) {
        hit h = f->found[i];
        size_t k = f->n_hits;
        if ((rc = grow(&f->hits, f->n_hits, &f->cap_hits, err)) < 0)
            return rc;
        for (f->n_hits++; k > 0 && f->hits[(k - 1) / 2].key > h.key; k = (k - 1) / 2)
            f->hits[k] = f->hits[(k - 1) / 2];
        f->hits[k] = h;
    }
    for (size_t i = 0; i < f->n_found; i++)
        f->found[i] = pop_hit(f);
    return 0;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int tell_parts(const finder *f, int (*part)(void *arg, int32_t id, const char *bytes, size_t n), void *arg)
{
    size_t begin = 0;
    unsigned before = 0;
    int rc;

    for (size_t i = 0; i <= f->n_found; i++) {
        const node *n = i < f->n_found ? &f->sp->nodes[f->found[i].node] : NULL;
        size_t end = n == NULL ? f->len : (size_t)f->found[i].key, to = end;
        unsigned flags = n == NULL ? 0 : f->sp->vocab->flags[n->id];
        while ((before & BM_TOKEN_RSTRIP) && begin < to && is_blank(f->text[begin]))
            begin++;
        while ((flags & BM_TOKEN_LSTRIP) && begin < to && is_blank(f->text[to - 1]))
            to--;
        if (begin < to && (rc = part(arg, -1, f->text + begin, to - begin)) != 0)
            return rc;
        if (n != NULL && (rc = part(arg, n->id, f->text + end, n->len)) != 0)
            return rc;
        begin = n == NULL ? end : end + n->len;
        before = flags;
    }
    return 0;
}

int bm_special_split(const bm_special *special, const char *text, size_t len, const bm_encode_options *options,
                     int (*part)(void *arg, int32_t id, const char *bytes, size_t n), void *arg, bm_error *err)
{
    finder f = { .sp = special, .text = text, .len = len, .options = options };
    int rc = find_hits(&f, err);

    if (rc == 0 && f.n_hits > 0 && (rc = choose(&f, err)) == 0)
        rc = by_place(&f, err);
    if (rc == 0)
        rc = tell_parts(&f, part, arg);
    bm_free(f.hits);
    bm_free(f.found);
    bm_free(f.taken);
    return rc;
}
