/* model.c - opening, planning and describing a model. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "model/walk.h"

/* ---- info ---- */

/* What fits of a string, whole characters only; '?' for what is no UTF-8. */
static void copy_str(char *out, size_t room, const bm_gguf *gguf, const char *key)
{
    bm_str s = { 0 };
    size_t n = 0;

    if (!bm_gguf_get_str(gguf, key, &s))
        return;
    while (s.len > 0) {
        uint32_t cp;
        int len = bm_utf8_decode(s.data, s.len, &cp);
        size_t taken = (size_t)(len < 0 ? -len : len), wanted = len < 0 ? 1 : taken;
        if (n + wanted >= room)
            break;
        memcpy(out + n, len < 0 ? "?" : s.data, wanted);
        n += wanted;
        s.data += taken, s.len -= taken;
    }
    out[n] = '\0';
}

/* The type that most bytes of the file's tensors have. */
static void find_quantization(char *out, size_t room, const bm_gguf *gguf)
{
    uint64_t bytes[BM_QTYPE_END] = { 0 };
    int best = 0;

    for (size_t i = 0; i < bm_gguf_n_tensors(gguf); i++) {
        const bm_gguf_tensor *t = bm_gguf_tensor_at(gguf, i);
        if ((unsigned)t->type < BM_QTYPE_END && t->n_dims > 1)
            bytes[t->type] += t->len_bytes;
    }
    for (int i = 1; i < BM_QTYPE_END; i++)
        best = bytes[i] > bytes[best] ? i : best;
    snprintf(out, room, "%s", bm_qtype_name((uint32_t)best));
}

static void fill_info(bm_model_info *info, const bm_model *m, const bm_gguf *gguf)
{
    const bm_hparams *h = &m->h;

    memset(info, 0, sizeof *info);
    snprintf(info->arch, sizeof info->arch, "%s", h->row->name);
    copy_str(info->name, sizeof info->name, gguf, "general.name");
    copy_str(info->size_label, sizeof info->size_label, gguf, "general.size_label");
    copy_str(info->license, sizeof info->license, gguf, "general.license");
    find_quantization(info->quantization, sizeof info->quantization, gguf);
    info->n_layers = h->n_layers, info->d_model = h->d_model, info->d_ff = h->d_ff;
    info->n_heads = h->n_heads, info->n_kv_heads = h->n_kv_heads, info->head_dim = h->head_k;
    info->n_vocab = h->n_vocab, info->n_ctx_train = h->n_ctx;
    info->n_params = m->w.n_params;
    info->file_bytes = bm_gguf_file_bytes(gguf);
    info->packed_bytes = m->w.packed_bytes;
    info->n_groups = h->n_groups;
    for (int g = 0; g < h->n_groups; g++)
        info->groups[g] = (bm_kv_group){ .n_layers = h->group_layers[g], .window = h->group_window[g],
                                         .page_bytes = (size_t)h->group_layers[g] * m->kv_layer_bytes };
    info->is_causal = true;
}

/* ---- which activations the matrices want ---- */

static void add_need(struct bm_act_need *need, bool f32, const bm_gguf *gguf, const char *format, int layer)
{
    char name[96];
    const bm_gguf_tensor *t;

    snprintf(name, sizeof name, format, layer);
    if (!(t = bm_gguf_find_tensor(gguf, name)))
        return;
    if (f32 || !bm_qtype_traits(t->type)->quantized)
        need->f32 = true;
    else
        need->q = true;
}

static void find_needs(bm_model *m, const bm_gguf *gguf)
{
    static const char *const in[] = { "blk.%d.attn_q.weight", "blk.%d.attn_k.weight", "blk.%d.attn_v.weight",
                                      "blk.%d.ffn_gate.weight", "blk.%d.ffn_up.weight" };
    bool tied = !bm_gguf_find_tensor(gguf, "output.weight");

    for (int i = 0; i < m->h.n_layers; i++) {
        for (size_t j = 0; j < sizeof in / sizeof *in; j++)
            add_need(&m->need_in, m->f32, gguf, in[j], i);
        add_need(&m->need_attn, m->f32, gguf, "blk.%d.attn_output.weight", i);
        add_need(&m->need_ffn, m->f32, gguf, "blk.%d.ffn_down.weight", i);
    }
    add_need(&m->need_head, m->f32, gguf, tied ? "token_embd.weight" : "output.weight", 0);
}

/* ---- opening ---- */

/* Everything but the weights: keys, shapes, bytes. */
static int prepare(bm_model *m, const bm_gguf *gguf, const bm_model_options *options, bm_error *err)
{
    int rc;

    m->f32 = options->f32;
    m->kv_type = options->f32 ? BM_KV_F32 : options->kv_type;
    if ((unsigned)m->kv_type >= BM_KV_TYPE_COUNT)
        return bm_fail(err, BM_INVALID, "KV type %d is not known", (int)m->kv_type);
    if (!(m->kernels = bm_kernels_get(options->isa)))
        return bm_fail(err, BM_UNSUPPORTED, "instruction set %s is not built in", bm_isa_name(options->isa));
    if ((rc = bm_hparams_read(&m->h, gguf, err)) < 0 || (rc = bm_weights_bind(&m->w, &m->h, gguf, m->f32, err)) < 0)
        return rc;
    /* A bias makes a few dimensions of all keys so large that 8 bits leave little to tell one key from another. Mean KL divergence of
     * Qwen2.5-Coder-0.5B from f32 with V in int8 and K in int16, in int8: 0.0007, 0.0048 (both in int16: 0.0006). */
    if (m->kv_type == BM_KV_INT8 && bm_gguf_find_tensor(gguf, "blk.0.attn_k.bias") != NULL)
        m->kv_type = BM_KV_INT16_8;
    m->kv_head_bytes = bm_kv_page_bytes(m->kv_type, 1, m->h.head_k, m->h.head_v);
    m->kv_layer_bytes = bm_kv_page_bytes(m->kv_type, m->h.n_kv_heads, m->h.head_k, m->h.head_v);
    m->kv_v_offset = bm_kv_side_bytes(bm_kv_type_k(m->kv_type), m->h.head_k);
    find_needs(m, gguf);
    fill_info(&m->info, m, gguf);
    return 0;
}

int bm_model_open(bm_model **out, const bm_gguf *gguf, const bm_model_options *options, bm_team *team, bm_error *err)
{
    int rc;
    bm_model *m = bm_zalloc(sizeof *m);

    *out = NULL;
    if (!m)
        return bm_fail(err, BM_NOMEM, "%s: no memory for the model's header", bm_gguf_path(gguf));
    if ((rc = prepare(m, gguf, options, err)) < 0 || (rc = bm_weights_load(&m->w, gguf, options, team, err)) < 0)
        goto out;
    *out = m, m = NULL;
out:
    bm_model_close(m);
    return rc;
}

int bm_model_plan(bm_model_info *out, const bm_gguf *gguf, const bm_model_options *options, bm_error *err)
{
    int rc;
    bm_model *m = bm_zalloc(sizeof *m);

    memset(out, 0, sizeof *out);
    if (!m)
        return bm_fail(err, BM_NOMEM, "%s: no memory for the model's header", bm_gguf_path(gguf));
    if ((rc = prepare(m, gguf, options, err)) == 0)
        *out = m->info;
    bm_model_close(m);
    return rc;
}

int bm_model_open_shapes(bm_model **out, const bm_gguf *gguf, bm_error *err)
{
    bm_model_options options = { .kv_type = BM_KV_INT16 };
    bm_model *m = bm_zalloc(sizeof *m);
    int rc;

    *out = NULL;
    if (!m)
        return bm_fail(err, BM_NOMEM, "%s: no memory for the model's header", bm_gguf_path(gguf));
    if ((rc = prepare(m, gguf, &options, err)) < 0) {
        bm_model_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

/* ---- packs ---- */

bool bm_model_mapped(const bm_model *m, bm_file_id *id)
{
    if (m->w.pack.data && id)
        *id = m->w.pack.id;
    return m->w.pack.data != NULL;
}

int bm_model_write_pack(bm_model *m, const char *path, const bm_sha256 *key, bool (*go_on)(void *arg), void *arg, bm_error *err)
{
    if (m->f32)
        return bm_fail(err, BM_INVALID, "weights in f32 are not kept on disk");
    return bm_weights_write(&m->w, path, key, go_on, arg, err);
}

int bm_model_verify_pack(const bm_model *m, const char *path, const bm_sha256 *key, bm_file_id *id, bool (*go_on)(void *arg), void *arg,
                         bm_error *err)
{
    return bm_pack_verify(path, &m->w.plan, key, id, go_on, arg, err);
}

int bm_pack_verify_for(const bm_gguf *gguf, const char *path, const bm_sha256 *key, bm_file_id *id, bool (*go_on)(void *arg), void *arg,
                       bm_error *err)
{
    bm_model_options options = { .kv_type = BM_KV_INT16 };
    bm_model *m = bm_zalloc(sizeof *m);
    int rc;

    if (!m)
        return bm_fail(err, BM_NOMEM, "%s: no memory for the model's header", bm_gguf_path(gguf));
    if ((rc = prepare(m, gguf, &options, err)) == 0)
        rc = bm_pack_verify(path, &m->w.plan, key, id, go_on, arg, err);
    bm_model_close(m);
    return rc;
}

void bm_model_close(bm_model *m)
{
    if (!m)
        return;
    bm_weights_done(&m->w);
    bm_free(m);
}

const bm_model_info *bm_model_get_info(const bm_model *m)
{
    return &m->info;
}

static const char *arch_names[64];
static pthread_once_t arch_names_once = PTHREAD_ONCE_INIT;

static void fill_arch_names(void)
{
    for (size_t i = 0; bm_arch_table[i].name && i + 1 < sizeof arch_names / sizeof *arch_names; i++)
        arch_names[i] = bm_arch_table[i].name;
}

const char *const *bm_model_archs(void)
{
    pthread_once(&arch_names_once, fill_arch_names);
    return arch_names;
}
