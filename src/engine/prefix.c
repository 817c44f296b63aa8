/* prefix.c - the tree of cached pages. An idle parent stands behind its idle children in the list by age, since a sequence that
 * holds a child holds its parents, and lets go of children first: so the head of the list is always a leaf. */
#include "engine/prefix.h"

#include <string.h>
#include "base/mem.h"

enum { MAX_NODES = 1 << 18, ROOTS = 64, MAX_SIBLINGS = 64 };       /* siblings that part looks at, newest first */

static uint32_t hash_bytes(uint32_t seed, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t h = 0x9E3779B97F4A7C15u ^ seed, word;

    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        h = (h ^ word) * 0xBF58476D1CE4E5B9u;
        h ^= h >> 29;
    }
    return (uint32_t)(h ^ h >> 32);
}

static uint32_t hash_page(int32_t parent, const int32_t *tokens)
{
    return hash_bytes((uint32_t)parent + 1, tokens, BM_PAGE_TOKENS * sizeof *tokens);
}

/* ---- lists by age ---- */

static bm_prefix_link *link_of(bm_prefix *t, int list, int32_t i)
{
    return list == 0 ? &t->nodes[i].link : &t->nodes[i].slots[list - 1].link;
}

static void append(bm_prefix *t, int list, int32_t i)
{
    bm_prefix_link *l = link_of(t, list, i);

    *l = (bm_prefix_link){ t->idle[list].last, -1, ++*t->clock };
    if (l->before >= 0)
        link_of(t, list, l->before)->after = i;
    else
        t->idle[list].first = i;
    t->idle[list].last = i;
}

static void take_out(bm_prefix *t, int list, int32_t i)
{
    bm_prefix_link *l = link_of(t, list, i);

    if (l->before >= 0)
        link_of(t, list, l->before)->after = l->after;
    else
        t->idle[list].first = l->after;
    if (l->after >= 0)
        link_of(t, list, l->after)->before = l->before;
    else
        t->idle[list].last = l->before;
}

/* ---- life ---- */

int bm_prefix_init(bm_prefix *t, bm_kv_pool *pools, const bm_kv_group *groups, int n_groups, uint64_t *clock, bm_error *err)
{
    int32_t n = 0, n_buckets = 16;

    memset(t, 0, sizeof *t);
    t->pools = pools, t->n_groups = n_groups, t->clock = clock;
    for (int g = 0; g < n_groups; g++) {
        t->window[g] = groups[g].window;
        n = pools[g].n_pages > n ? pools[g].n_pages : n;
    }
    t->n_nodes = (n < MAX_NODES ? n : MAX_NODES) + ROOTS;
    t->n_free = t->n_nodes;
    while (n_buckets < t->n_nodes)
        n_buckets *= 2;
    t->mask = (uint32_t)n_buckets - 1;
    t->free = -1;
    for (int i = 0; i <= BM_MAX_KV_GROUPS; i++)
        t->idle[i].first = t->idle[i].last = -1;
    t->nodes = bm_calloc((size_t)t->n_nodes, sizeof *t->nodes);
    t->buckets = bm_calloc((size_t)n_buckets, sizeof *t->buckets);       /* 1 + the node */
    if (t->nodes != NULL && t->buckets != NULL)
        return 0;
    bm_prefix_done(t);
    return bm_fail(err, BM_NOMEM, "no memory for the tree of %d cached pages", n);
}

void bm_prefix_done(bm_prefix *t)
{
    if (t->nodes != NULL && t->buckets != NULL) {
        while (bm_prefix_evict(t))
            ;
        for (uint32_t i = 0; i <= t->mask; i++)
            BM_CHECK(t->buckets[i] == 0);
    }
    bm_free(t->nodes);
    bm_free(t->buckets);
    memset(t, 0, sizeof *t);
}

/* ---- looking ---- */

int32_t bm_prefix_root(const bm_prefix *t, const bm_prefix_space *space)
{
    uint32_t hash = hash_bytes(0, space, sizeof *space);

    for (int32_t i = t->buckets[hash & t->mask] - 1; i >= 0; i = t->nodes[i].chain)
        if (t->nodes[i].parent < 0 && t->nodes[i].hash == hash && memcmp(&t->nodes[i].space, space, sizeof *space) == 0)
            return i;
    return -1;
}

int32_t bm_prefix_find(const bm_prefix *t, int32_t parent, const int32_t *tokens)
{
    uint32_t hash;

    if (parent < 0)
        return -1;
    hash = hash_page(parent, tokens);
    for (int32_t i = t->buckets[hash & t->mask] - 1; i >= 0; i = t->nodes[i].chain)
        if (t->nodes[i].parent == parent && t->nodes[i].hash == hash && t->nodes[i].len == BM_PAGE_TOKENS &&
            memcmp(t->nodes[i].tokens, tokens, sizeof t->nodes[i].tokens) == 0)
            return i;
    return -1;
}

static bool has_all_pages(const bm_prefix *t, const bm_prefix_node *node)
{
    for (int g = 0; g < t->n_groups; g++)
        if (node->slots[g].page == NULL)
            return false;
    return true;
}

int32_t bm_prefix_part(const bm_prefix *t, int32_t parent, const int32_t *tokens, int32_t n, int32_t *len)
{
    int32_t best = -1, seen = 0;

    *len = 0;
    if (parent < 0)
        return -1;
    if (n > BM_PAGE_TOKENS)
        n = BM_PAGE_TOKENS;
    for (int32_t i = t->nodes[parent].child; i >= 0 && seen < MAX_SIBLINGS && *len < n; i = t->nodes[i].right, seen++) {
        int32_t k = 0, most = n < t->nodes[i].len ? n : t->nodes[i].len;
        while (k < most && t->nodes[i].tokens[k] == tokens[k])
            k++;
        if (k > *len && has_all_pages(t, &t->nodes[i]))
            best = i, *len = k;
    }
    return best;
}

bool bm_prefix_whole(const bm_prefix *t, const int32_t *path, int32_t end, int32_t part)
{
    int32_t n = end / BM_PAGE_TOKENS;

    for (int g = 0; g < t->n_groups; g++) {
        int32_t first = t->window[g] > 0 && end - t->window[g] + 1 > 0 ? (end - t->window[g] + 1) / BM_PAGE_TOKENS : 0;
        for (int32_t i = n - 1; i >= first; i--)
            if (t->nodes[path[i]].slots[g].page == NULL)
                return false;
            else if (t->window[g] == 0)
                break;                       /* without a window a page goes with its node only */
        if (part >= 0 && t->nodes[part].slots[g].page == NULL)
            return false;
    }
    return true;
}

/* ---- holding ---- */

void bm_prefix_hold(bm_prefix *t, int32_t node)
{
    if (t->nodes[node].users++ == 0)
        take_out(t, 0, node);
}

static void set_idle(bm_prefix *t, int32_t node, int g, bool idle)
{
    bm_kv_idle(&t->pools[g], idle);
    if (t->window[g] == 0)
        return;
    if (idle)
        append(t, 1 + g, node);
    else
        take_out(t, 1 + g, node);
}

void *bm_prefix_hold_page(bm_prefix *t, int32_t node, int g)
{
    bm_prefix_slot *slot = &t->nodes[node].slots[g];

    BM_CHECK(slot->page != NULL);
    if (slot->users++ == 0)
        set_idle(t, node, g, false);
    bm_kv_ref(&t->pools[g], slot->page);
    return slot->page;
}

void *bm_prefix_give_page(bm_prefix *t, int32_t node, int g, void *page)
{
    bm_prefix_slot *slot = &t->nodes[node].slots[g];

    if (slot->page == NULL) {
        bm_kv_ref(&t->pools[g], page);       /* the tree's own */
        slot->page = page;
        slot->users = 1;
    } else if (slot->page == page) {         /* a sibling that shares it came first */
        if (slot->users++ == 0)
            set_idle(t, node, g, false);
    } else {
        bm_prefix_hold_page(t, node, g);
        bm_kv_drop(&t->pools[g], page);
    }
    return slot->page;
}

void bm_prefix_release_page(bm_prefix *t, int32_t node, int g)
{
    bm_prefix_slot *slot = &t->nodes[node].slots[g];

    BM_CHECK(slot->users > 0);
    bm_kv_drop(&t->pools[g], slot->page);
    if (--slot->users == 0)
        set_idle(t, node, g, true);
}

/* ---- growing and shrinking ---- */

static int32_t new_node(bm_prefix *t, int32_t parent, uint32_t hash)
{
    int32_t i = t->free;

    if (i >= 0)
        t->free = t->nodes[i].chain;
    else
        i = t->n_fresh++;
    t->n_free--;
    bm_prefix_node *node = &t->nodes[i];
    memset(node, 0, sizeof *node);
    node->parent = parent, node->hash = hash;
    node->child = node->left = node->right = -1;
    node->chain = t->buckets[hash & t->mask] - 1;
    t->buckets[hash & t->mask] = 1 + i;
    if (parent >= 0) {
        node->right = t->nodes[parent].child;
        if (node->right >= 0)
            t->nodes[node->right].left = i;
        t->nodes[parent].child = i;
    }
    return i;
}

static void free_node(bm_prefix *t, int32_t i)
{
    bm_prefix_node *node = &t->nodes[i];
    int32_t *at = &t->buckets[node->hash & t->mask];

    BM_CHECK(node->child < 0);
    if (*at == 1 + i) {
        *at = 1 + node->chain;
    } else {
        int32_t j = *at - 1;
        while (t->nodes[j].chain != i)
            j = t->nodes[j].chain;
        t->nodes[j].chain = node->chain;
    }
    if (node->right >= 0)
        t->nodes[node->right].left = node->left;
    if (node->left >= 0)
        t->nodes[node->left].right = node->right;
    else if (node->parent >= 0)
        t->nodes[node->parent].child = node->right;
    node->chain = t->free;
    t->free = i;
    t->n_free++;
}

static void evict_slot(bm_prefix *t, int32_t i, int g)
{
    bm_prefix_slot *slot = &t->nodes[i].slots[g];

    if (slot->page == NULL)
        return;
    BM_CHECK(slot->users == 0);
    set_idle(t, i, g, false);
    bm_kv_drop(&t->pools[g], slot->page);
    slot->page = NULL;
}

static void evict_node(bm_prefix *t, int32_t i)
{
    int32_t parent = t->nodes[i].parent;

    BM_CHECK(t->nodes[i].users == 0);
    take_out(t, 0, i);
    for (int g = 0; g < t->n_groups; g++)
        evict_slot(t, i, g);
    free_node(t, i);
    if (t->nodes[parent].parent < 0 && t->nodes[parent].child < 0)
        free_node(t, parent);                /* a root without pages */
}

/* The list whose head is the oldest; of equals the windows first. -1: nothing is idle. */
static int oldest_list(const bm_prefix *t, uint64_t *stamp)
{
    int best = -1;

    *stamp = UINT64_MAX;
    for (int list = t->n_groups; list >= 0; list--) {
        int32_t i = t->idle[list].first;
        uint64_t s = i < 0 ? UINT64_MAX : list == 0 ? t->nodes[i].link.stamp : t->nodes[i].slots[list - 1].link.stamp;
        if (s < *stamp)
            best = list, *stamp = s;
    }
    return best;
}

uint64_t bm_prefix_oldest(const bm_prefix *t)
{
    uint64_t stamp;

    oldest_list(t, &stamp);
    return stamp;
}

bool bm_prefix_evict(bm_prefix *t)
{
    uint64_t stamp;
    int list = oldest_list(t, &stamp);

    if (list < 0)
        return false;
    if (list == 0)
        evict_node(t, t->idle[0].first);
    else
        evict_slot(t, t->idle[list].first, list - 1);
    t->n_evicted++;
    return true;
}

/* Room for a page and its root, where there is any; before anything is looked up, as a root goes with its last page. */
static void free_two_nodes(bm_prefix *t)
{
    while (t->n_free < 2 && t->idle[0].first >= 0)
        evict_node(t, t->idle[0].first);
}

/* A child of n tokens below parent, or below a new root of the space. */
static int32_t new_child(bm_prefix *t, int32_t parent, const bm_prefix_space *space, const int32_t *tokens, int32_t n)
{
    int32_t all[BM_PAGE_TOKENS] = { 0 }, node;

    if (parent < 0) {
        parent = new_node(t, -1, hash_bytes(0, space, sizeof *space));
        t->nodes[parent].space = *space;
        t->nodes[parent].lone = space->lone != 0;
    }
    memcpy(all, tokens, (size_t)n * sizeof *tokens);
    node = new_node(t, parent, hash_page(parent, all));
    memcpy(t->nodes[node].tokens, all, sizeof all);
    t->nodes[node].len = n;
    t->nodes[node].lone = t->nodes[parent].lone;
    return node;
}

int32_t bm_prefix_add(bm_prefix *t, int32_t parent, const bm_prefix_space *space, const int32_t *tokens)
{
    int32_t node;

    free_two_nodes(t);
    if (parent < 0)
        parent = bm_prefix_root(t, space);
    if ((node = bm_prefix_find(t, parent, tokens)) >= 0) {
        bm_prefix_hold(t, node);
        return node;
    }
    if (t->n_free < 2)
        return -1;
    node = new_child(t, parent, space, tokens, BM_PAGE_TOKENS);
    t->nodes[node].users = 1;
    return node;
}

/* Unfinished siblings that hold nothing but the beginning of this node; nobody holds them. */
static void evict_shorter(bm_prefix *t, int32_t node)
{
    int32_t seen = 0, len = t->nodes[node].len;

    for (int32_t i = t->nodes[node].right, next; i >= 0 && seen < MAX_SIBLINGS; i = next, seen++) {
        const bm_prefix_node *s = &t->nodes[i];
        next = s->right;
        if (s->users == 0 && s->len < BM_PAGE_TOKENS && s->len <= len &&
            memcmp(s->tokens, t->nodes[node].tokens, (size_t)s->len * sizeof s->tokens[0]) == 0)
            evict_node(t, i);
    }
}

bool bm_prefix_add_part(bm_prefix *t, int32_t parent, const bm_prefix_space *space, const int32_t *tokens, int32_t n,
                        void *const *pages)
{
    int32_t node, len;

    free_two_nodes(t);
    if (parent < 0)
        parent = bm_prefix_root(t, space);
    bm_prefix_part(t, parent, tokens, n, &len);
    if (len == n || t->n_free < 2)
        return false;
    node = new_child(t, parent, space, tokens, n);
    append(t, 0, node);
    for (int g = 0; g < t->n_groups; g++) {
        t->nodes[node].slots[g].page = pages[g];
        set_idle(t, node, g, true);
    }
    evict_shorter(t, node);
    return true;
}

void bm_prefix_release(bm_prefix *t, int32_t node)
{
    BM_CHECK(t->nodes[node].users > 0);
    if (--t->nodes[node].users > 0)
        return;
    append(t, 0, node);
    if (t->nodes[node].lone)
        evict_node(t, node);
}
