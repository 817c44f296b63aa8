/* lora.h - low-rank adapters: y = W x + scale * B (A x) on any of a layer's linear maps (Hu et al. 2021, equation 3).
 * Names of the maps, shapes, and the two forms of an adapter: a list of f32 matrices (what files hold and what is trained), and
 * the packed bf16 form that runs. Rows of q and k are in the order of HF (halves rotate), as in packed weights. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "model/model.h"

typedef enum bm_lora_site { BM_LORA_Q, BM_LORA_K, BM_LORA_V, BM_LORA_O, BM_LORA_GATE, BM_LORA_UP, BM_LORA_DOWN, BM_LORA_SITES } bm_lora_site;

enum { BM_LORA_MAX_RANK = 512 };

const char *bm_lora_hf_name(bm_lora_site site);      /* "self_attn.q_proj", "mlp.gate_proj" */
const char *bm_lora_gguf_name(bm_lora_site site);    /* "attn_q", "ffn_gate" */
/* K inputs and N outputs of the map in a layer. */
void bm_lora_shape(const bm_model *model, int layer, bm_lora_site site, int64_t *n_in, int64_t *n_out);

/* One adapted map. a[R, K], b[N, R], row-major, borrowed. */
typedef struct bm_lora_matrix {
    int layer;
    bm_lora_site site;
    int rank;
    float scale;                 /* alpha / rank, or alpha / sqrt(rank) (rsLoRA) */
    const float *a, *b;
} bm_lora_matrix;

/* An adapter that runs, bm_adapter: A and B packed as bf16 (as f32 for a model with --precision f32). Read-only after making; any
 * thread. Counted by reference: requests hold the adapter that they began with. Its model must live as long.
 * Check the matrices against the model (each error names the map, the shape found and the one expected) and pack them. The
 * content hash covers sites, ranks, scales and bf16 bits: equal content, equal hash. */
int  bm_adapter_new(bm_adapter **out, const bm_model *model, const bm_lora_matrix *matrices, size_t n, bm_error *err);
void bm_adapter_ref(bm_adapter *adapter);
void bm_adapter_free(bm_adapter *adapter);           /* gives up one reference; NULL is fine */
const unsigned char *bm_adapter_hash(const bm_adapter *adapter);     /* [32] */
size_t bm_adapter_bytes(const bm_adapter *adapter);
bool bm_adapter_fits(const bm_adapter *adapter, const bm_model *model);      /* it was made for this model */
