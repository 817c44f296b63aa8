/* adapter.h - an adapter as it runs, and its part in the walk of a step. Private to src/model.
 *
 * Maps that share an input share one product with A: their rows stand one after the other, each padded to 16, and so do the rows
 * of h = scale * (A x). Tokens of one adapter that follow each other in a step form a span; the base runs once for all of them.
 * A token's h and B h depend on its own input only, and they are added to W x + bias when that is complete. */
#pragma once
#include <stdatomic.h>
#include "base/hash.h"
#include "model/lora.h"
#include "model/walk.h"

/* Inputs: of q, k and v; of o; of gate and up; of down. */
typedef enum bm_lora_input { BM_LORA_IN, BM_LORA_ATTN, BM_LORA_MLP, BM_LORA_FFN, BM_LORA_INPUTS } bm_lora_input;

typedef struct bm_lora_map {
    bm_packed b;                 /* [N, rank padded to 16]; n_rows 0: the map is not adapted */
    int rank, at;                /* at: its first row of h */
    float scale;
} bm_lora_map;

typedef struct bm_lora_layer {
    bm_packed a[BM_LORA_INPUTS]; /* n_rows 0: nothing takes this input */
    bm_lora_map maps[BM_LORA_SITES];
} bm_lora_layer;

struct bm_adapter {
    atomic_int refs;
    const bm_model *model;       /* for whose shapes it was made */
    bm_lora_layer *layers;       /* [n_layers] */
    unsigned char *block;        /* all of A and B */
    size_t len_bytes;
    int n_h;                     /* rows of h at most */
    bm_sha256 hash;
};

/* h of tokens [t_begin, t_end) from the f32 rows of x, for the adapters that take this input. */
void bm_lora_down(const bm_walk *w, int layer, bm_lora_input input, const bm_site *x, int64_t t_begin, int64_t t_end);
/* The same for all tokens of the step, as a phase of its own with a barrier; in a small step every worker makes its own h.
 * Does nothing when no token has an adapter. */
void bm_lora_down_phase(const bm_walk *w, int layer, bm_lora_input input, const bm_site *x);
/* out += B h, addressed as bm_linear_part's. */
void bm_lora_up(const bm_walk *w, int layer, bm_lora_site site, int64_t tile_begin, int64_t tile_end, int64_t t_begin, int64_t t_end,
                float *out, int64_t out_stride);
