/* arch.h - what a model is made of: the table of architectures and the numbers a file gives for its row.
 *
 * An architecture is a row of bm_arch_table (arch.c), not a file: the row says which kinds of layer a family uses, which
 * tensors it must have and which rules its GGUF keys follow; bm_hparams holds the values after reading and checking them.
 * A layer is a mixer and a feed-forward; each kind is one file (attention.c, ffn.c) with its forward, KV need and bytes, and
 * bm_layer_plan picks the kinds layer by layer. Knows nothing of weights or of threads. Read-only after reading: any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "format/gguf.h"
#include "model/model.h"
#include "model/rope.h"

typedef enum bm_norm_kind { BM_NORM_RMS, BM_NORM_LAYER } bm_norm_kind;
typedef enum bm_mixer_kind { BM_MIXER_ATTENTION } bm_mixer_kind;
typedef enum bm_ffn_kind { BM_FFN_GATED } bm_ffn_kind;
typedef enum bm_act_kind { BM_ACT_SILU, BM_ACT_GELU_TANH } bm_act_kind;
typedef enum bm_need { BM_NEVER, BM_OPTIONAL, BM_REQUIRED } bm_need;     /* of a tensor */

/* Which layers see a window only. The window itself is the key attention.sliding_window. */
typedef enum bm_window_rule {
    BM_WINDOW_NONE,              /* the key is not read */
    BM_WINDOW_ALL,               /* every layer, when the key is there */
    BM_WINDOW_PATTERN            /* all but each window_pattern-th layer; the key attention.sliding_window_pattern overrides */
} bm_window_rule;

typedef struct bm_arch_row {
    const char *name;            /* general.architecture */
    bm_mixer_kind mixer;
    bm_ffn_kind ffn;
    bm_norm_kind norm;           /* weights are as the file has them: the families with 1 + w are stored with the 1 added */
    bm_act_kind act;
    bool rope_pairs;             /* the file rotates (2i, 2i+1): packing reorders q and k rows to halves (i, i + n_rot/2) */
    bm_need qk_norm;             /* blk.N.attn_q_norm, attn_k_norm: over each head, before RoPE */
    bm_need qkv_bias;
    bm_need post_norms;          /* blk.N.post_attention_norm, post_ffw_norm: on a layer's output, before the residual sum */
    bool embed_sqrt_d;           /* embeddings are multiplied by sqrt(D) */
    bool attn_temperature;       /* q grows with log of the position: key attention.temperature_scale */
    int wide_scale_layers;       /* with this many layers q.k is scaled by 1/sqrt(D/H), else by 1/sqrt(E); 0: never */
    bm_window_rule window_rule;
    int window_pattern;
    int32_t window_default;      /* when the key is absent; 0: then there is none */
    float rope_local_base;       /* of windowed layers, unscaled, unless rope.freq_base_swa says otherwise; 0: as the others */
    float attn_softcap, final_softcap;      /* when the keys are absent; 0: none */
} bm_arch_row;

extern const bm_arch_row bm_arch_table[];    /* ends with name NULL */

enum { BM_MAX_LAYERS = 1024, BM_MAX_HEAD_DIM = 1024, BM_MAX_CTX = 1 << 24 };

typedef struct bm_layer_plan {
    bm_mixer_kind mixer;
    bm_ffn_kind ffn;
    int32_t window;              /* 0: full */
    int group, group_layer;      /* which KV group, and which layer of it */
    int rope;                    /* index into ropes */
} bm_layer_plan;

typedef struct bm_hparams {
    const bm_arch_row *row;
    int n_layers, d_model, d_ff, n_heads, n_kv_heads, head_k, head_v, n_vocab;
    int32_t n_ctx;               /* the model's own context */
    float norm_eps;
    float attn_scale, attn_softcap, final_softcap;               /* caps 0: none */
    float embed_scale, residual_scale, logit_scale;              /* 1: none */
    float temp_scale;            /* 0: none; else q *= 1 + temp_scale * log(1 + floor(position / temp_len)) */
    int32_t temp_len;
    int n_ropes;                 /* 1, or 2 when windowed layers have their own */
    bm_rope ropes[2];
    int n_groups;
    int32_t group_window[BM_MAX_KV_GROUPS];
    int group_layers[BM_MAX_KV_GROUPS];
    bm_layer_plan layers[BM_MAX_LAYERS];
} bm_hparams;

/* Read and check the keys of an open GGUF. Errors name the file, the key, what was found and what was expected; an unknown
 * architecture is BM_UNSUPPORTED with the list of known ones. */
int bm_hparams_read(bm_hparams *h, const bm_gguf *gguf, bm_error *err);
