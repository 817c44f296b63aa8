/* lora.c - the linear maps that adapters change: their names in both worlds and their shapes. */
#include "model/lora.h"

#include "model/walk.h"

/* hf: module of a layer in transformers; gguf: tensor of a block in gguf-py's constants.py. */
static const struct { const char *hf, *gguf; } names[BM_LORA_SITES] = {
    [BM_LORA_Q] = { "self_attn.q_proj", "attn_q" },
    [BM_LORA_K] = { "self_attn.k_proj", "attn_k" },
    [BM_LORA_V] = { "self_attn.v_proj", "attn_v" },
    [BM_LORA_O] = { "self_attn.o_proj", "attn_output" },
    [BM_LORA_GATE] = { "mlp.gate_proj", "ffn_gate" },
    [BM_LORA_UP] = { "mlp.up_proj", "ffn_up" },
    [BM_LORA_DOWN] = { "mlp.down_proj", "ffn_down" },
};

const char *bm_lora_hf_name(bm_lora_site site)
{
    return (unsigned)site < BM_LORA_SITES ? names[site].hf : "?";
}

const char *bm_lora_gguf_name(bm_lora_site site)
{
    return (unsigned)site < BM_LORA_SITES ? names[site].gguf : "?";
}

void bm_lora_shape(const bm_model *model, int layer, bm_lora_site site, int64_t *n_in, int64_t *n_out)
{
    const bm_hparams *h = &model->h;
    int64_t o = (int64_t)h->n_heads * h->head_v;

    (void)layer;                 /* all layers of a model are alike */
    *n_in = site == BM_LORA_O ? o : site == BM_LORA_DOWN ? h->d_ff : h->d_model;
    switch (site) {
    case BM_LORA_Q: *n_out = (int64_t)h->n_heads * h->head_k; break;
    case BM_LORA_K: *n_out = (int64_t)h->n_kv_heads * h->head_k; break;
    case BM_LORA_V: *n_out = (int64_t)h->n_kv_heads * h->head_v; break;
    case BM_LORA_GATE: case BM_LORA_UP: *n_out = h->d_ff; break;
    default: *n_out = h->d_model; break;
    }
}
