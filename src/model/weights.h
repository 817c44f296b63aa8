/* weights.h - from the tensors of a GGUF to packed weights in one block of memory.
 *
 * bm_weights_bind walks what the architecture needs, checks each tensor's presence and shape, and writes a list of bindings:
 * which tensor goes where in the block, how, and which pointer shall point to it. That list is the plan; bm_weights_load
 * carries it out. Private to src/model. */
#pragma once
#include "compute/pack.h"
#include "compute/team.h"
#include "format/pack_file.h"
#include "model/arch.h"

typedef struct bm_linear {       /* y = scale * (W x) + bias */
    bm_packed w;
    const float *scale;          /* [1] or NULL: the whole tensor's scale, which comes with NVFP4 */
    const float *bias;           /* [N] or NULL */
} bm_linear;

typedef struct bm_norm { const float *weight, *bias; } bm_norm;     /* weight NULL: the model has no such norm */

typedef struct bm_layer_weights {
    bm_norm attn_norm, attn_post_norm, q_norm, k_norm;
    bm_linear q, k, v, o;
    bm_norm ffn_norm, ffn_post_norm;
    bm_linear gate, up, down;
} bm_layer_weights;

typedef struct bm_binding {
    const bm_gguf_tensor *tensor;
    bm_packed *matrix;           /* a matrix to fill in, or */
    const float **vector;        /* a vector to point to */
    bm_qtype type;               /* as packed */
    size_t offset, len_bytes;    /* in the block */
    int head_rows, n_rot;        /* rows are reordered inside each head of head_rows; 0: as in the file */
} bm_binding;

typedef struct bm_weights {
    bm_packed embd, head;        /* head is embd when the file has no output.weight */
    bm_norm out_norm;
    bm_layer_weights *layers;    /* [n_layers] */
    bm_binding *bindings;        /* needed until loaded */
    size_t n_bindings, cap_bindings;
    bm_pack_plan plan;           /* the bindings as a pack file names them; kept */
    unsigned char *block;        /* packed_bytes, 64-byte aligned, packed here; NULL when mapped from a pack from the start */
    size_t packed_bytes;
    bm_pack pack;                /* data not NULL: the weights are those of a file */
    uint64_t n_params;
} bm_weights;

/* f32: every matrix is packed as F32. *w is zero or from a failed bind; done() in either case. */
int  bm_weights_bind(bm_weights *w, const bm_hparams *h, const bm_gguf *gguf, bool f32, bm_error *err);
/* From options->pack_path when that is the pack of these bindings, else the team packs. The GGUF is not needed afterwards. */
int  bm_weights_load(bm_weights *w, const bm_gguf *gguf, const bm_model_options *options, bm_team *team, bm_error *err);
/* Write what was packed here as a pack file, or take the good one that is there already, and go on from the file: readers of
 * the weights may be at work. Does nothing for mapped weights. */
int  bm_weights_write(bm_weights *w, const char *path, const bm_sha256 *key, bm_pack_go_on *go_on, void *arg, bm_error *err);
void bm_weights_done(bm_weights *w);
