/* prefix.h - pages of KV that outlive their sequence and are found again by the tokens they hold.
 *
 * A tree per model. A node is one page of positions (BM_PAGE_TOKENS tokens), below the nodes of the tokens before it; it
 * holds one page per layer group. A leaf may be a page that its sequence left unfinished: nobody goes on in it, it
 * is copied. Roots are spaces: what must not share (tenants, adapters) has different ones. Tokens and
 * spaces are compared, never only their hashes. A sequence holds the nodes of its path and the pages that it reads; what nobody
 * holds is idle: counted as free memory, and given back least recently used first, leaves before their parents. In a group with
 * a window a page may go before its node: a hit then must end where the window before it is whole.
 *
 * Memory for all nodes is made at init. Not locked: the engine's cache lock guards it. */
#pragma once
#include "engine/kv.h"
#include "model/model.h"

typedef struct bm_prefix_space {
    uint64_t tenant;
    unsigned char salt[32];
    uint64_t lone;               /* not 0: of one request only, forgotten with it */
} bm_prefix_space;

typedef struct bm_prefix_link { int32_t before, after; uint64_t stamp; } bm_prefix_link;       /* of a list by age */

typedef struct bm_prefix_slot {  /* a node's page in one group */
    void *page;                  /* NULL: given back */
    int32_t users;               /* sequences that hold the page */
    bm_prefix_link link;         /* windowed groups: among idle pages */
} bm_prefix_slot;

typedef struct bm_prefix_node {
    int32_t parent, child, left, right;          /* -1: none. parent -1: a root */
    int32_t chain;                               /* next in the bucket; of free nodes: next free */
    uint32_t hash;
    int32_t len;                                 /* tokens; fewer than a page: an unfinished one */
    int32_t users;                               /* sequences whose path has it */
    bool lone;                                   /* of a lone space */
    bm_prefix_link link;                         /* among idle nodes */
    union { int32_t tokens[BM_PAGE_TOKENS]; bm_prefix_space space; };
    bm_prefix_slot slots[BM_MAX_KV_GROUPS];
} bm_prefix_node;

typedef struct bm_prefix {
    bm_kv_pool *pools;                           /* borrowed, [n_groups] */
    uint64_t *clock;                             /* borrowed: one order of ages over all models */
    int n_groups;
    int32_t window[BM_MAX_KV_GROUPS];
    bm_prefix_node *nodes;
    int32_t *buckets, n_nodes, n_free;
    int32_t n_fresh, free;                       /* nodes [n_fresh, n_nodes) were never used */
    uint32_t mask;
    struct { int32_t first, last; } idle[1 + BM_MAX_KV_GROUPS];      /* nodes; pages of each windowed group */
    uint64_t n_evicted;                          /* leaves and pages of windows, so far */
} bm_prefix;

int  bm_prefix_init(bm_prefix *t, bm_kv_pool *pools, const bm_kv_group *groups, int n_groups, uint64_t *clock, bm_error *err);
/* Gives all pages back: nobody may hold any. */
void bm_prefix_done(bm_prefix *t);

int32_t bm_prefix_root(const bm_prefix *t, const bm_prefix_space *space);       /* -1: nothing of it is there */
/* The whole child that holds these BM_PAGE_TOKENS tokens; -1: none. parent -1 has none. */
int32_t bm_prefix_find(const bm_prefix *t, int32_t parent, const int32_t *tokens);
/* The child with all its pages that shares the most leading tokens, of at most n; their number in *len. -1: none shares any. */
int32_t bm_prefix_part(const bm_prefix *t, int32_t parent, const int32_t *tokens, int32_t n, int32_t *len);
/* Whether positions up to `end` could be taken over: path[i] is the node of page i, and part that of a last partial page. */
bool    bm_prefix_whole(const bm_prefix *t, const int32_t *path, int32_t end, int32_t part);

/* Find or make the child (of the space's root for parent -1) and hold it. -1: no node is free; nothing is held. */
int32_t bm_prefix_add(bm_prefix *t, int32_t parent, const bm_prefix_space *space, const int32_t *tokens);
/* Keep an unfinished page of n tokens, pages[group] each, as an idle child. True: the caller's references are the tree's now.
 * False: a page with all of it is there, or no node is free. */
bool    bm_prefix_add_part(bm_prefix *t, int32_t parent, const bm_prefix_space *space, const int32_t *tokens, int32_t n,
                           void *const *pages);
void    bm_prefix_hold(bm_prefix *t, int32_t node);
void    bm_prefix_release(bm_prefix *t, int32_t node);       /* children before parents */
/* The node's page of a group, with a reference for the caller. */
void   *bm_prefix_hold_page(bm_prefix *t, int32_t node, int group);
/* The caller's page, with the same content, becomes the node's, or is dropped for the node's own: returns that, held. */
void   *bm_prefix_give_page(bm_prefix *t, int32_t node, int group, void *page);
void    bm_prefix_release_page(bm_prefix *t, int32_t node, int group);

/* Give back what is idle for longest: one page of a window, or one leaf. False: nothing is idle. */
bool     bm_prefix_evict(bm_prefix *t);
uint64_t bm_prefix_oldest(const bm_prefix *t);               /* its stamp; UINT64_MAX: nothing is idle */
