/* weights.c - binding and packing of a model's tensors; see weights.h. Names are those of gguf-py's constants.py. */
#include "model/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { BLOCK_ALIGN = 64, LARGE = 2 << 20 };         /* from LARGE on a block is a mapping of its own */

typedef struct binder {
    bm_weights *w;
    const bm_hparams *h;
    const bm_gguf *gguf;
    bool f32;
    bm_error *err;
} binder;

/* ---- one tensor ---- */

static int wrong_shape(binder *b, const bm_gguf_tensor *t, int64_t n_cols, int64_t n_rows)
{
    char expected[64];

    if (n_rows)
        snprintf(expected, sizeof expected, "%lld x %lld", (long long)n_cols, (long long)n_rows);
    else
        snprintf(expected, sizeof expected, "%lld", (long long)n_cols);
    return bm_fail(b->err, BM_FORMAT, "%s: tensor %s is %llu x %llu x %llu, expected %s", bm_gguf_path(b->gguf), t->name,
                   (unsigned long long)t->dims[0], (unsigned long long)t->dims[1],
                   (unsigned long long)t->dims[2] * t->dims[3], expected);
}

static int add_binding(binder *b, const bm_binding *item)
{
    bm_weights *w = b->w;
    size_t end, padded;

    if (w->n_bindings == w->cap_bindings) {
        size_t cap = w->cap_bindings ? 2 * w->cap_bindings : 64;
        bm_binding *grown = bm_realloc(w->bindings, cap * sizeof *grown);
        if (!grown)
            return bm_fail(b->err, BM_NOMEM, "%s: no memory for the list of tensors", bm_gguf_path(b->gguf));
        w->bindings = grown;
        w->cap_bindings = cap;
    }
    if (!bm_add_size(item->len_bytes, BLOCK_ALIGN - 1, &padded) ||
        !bm_add_size(w->packed_bytes, padded &= ~(size_t)(BLOCK_ALIGN - 1), &end))
        return bm_fail(b->err, BM_FORMAT, "%s: tensor %s is too large", bm_gguf_path(b->gguf), item->tensor->name);
    w->bindings[w->n_bindings] = *item;
    w->bindings[w->n_bindings++].offset = w->packed_bytes;
    w->packed_bytes = end;
    w->n_params += item->tensor->dims[0] * item->tensor->dims[1];
    return 0;
}

/* Find a tensor; absent is *out NULL, an error when it is required. */
static int find_tensor(binder *b, const bm_gguf_tensor **out, const char *name, bm_need need)
{
    *out = need == BM_NEVER ? NULL : bm_gguf_find_tensor(b->gguf, name);
    if (!*out && need == BM_REQUIRED)
        return bm_fail(b->err, BM_FORMAT, "%s: tensor %s is absent, which architecture %s needs", bm_gguf_path(b->gguf), name,
                       b->h->row->name);
    return 0;
}

static int bind_matrix(binder *b, bm_packed *matrix, const char *name, int64_t n_rows, int64_t n_cols, int head_rows)
{
    int rc;
    const bm_gguf_tensor *t;
    bm_binding item = { .matrix = matrix, .head_rows = head_rows, .n_rot = b->h->ropes[0].n_rot };

    if ((rc = find_tensor(b, &t, name, BM_REQUIRED)) < 0)
        return rc;
    if (t->dims[0] != (uint64_t)n_cols || t->dims[1] != (uint64_t)n_rows || t->dims[2] != 1 || t->dims[3] != 1)
        return wrong_shape(b, t, n_cols, n_rows);
    item.tensor = t;
    item.type = b->f32 ? BM_F32 : t->type;
    if (!bm_qtype_traits(item.type) || !bm_pack_bytes(item.type, n_rows, n_cols, &item.len_bytes))
        return bm_fail(b->err, BM_UNSUPPORTED, "%s: tensor %s has type %s, which is not carried out", bm_gguf_path(b->gguf),
                       name, bm_qtype_name(t->type));
    return add_binding(b, &item);
}

static int bind_vector(binder *b, const float **vector, const char *name, int64_t n, bm_need need, int head_rows)
{
    int rc;
    const bm_gguf_tensor *t;
    bm_binding item = { .vector = vector, .type = BM_F32, .head_rows = head_rows, .n_rot = b->h->ropes[0].n_rot };

    if ((rc = find_tensor(b, &t, name, need)) < 0 || !t)
        return rc;
    if (t->dims[0] != (uint64_t)n || t->dims[1] != 1 || t->dims[2] != 1 || t->dims[3] != 1)
        return wrong_shape(b, t, n, 0);
    if (!bm_qtype_traits(t->type))
        return bm_fail(b->err, BM_UNSUPPORTED, "%s: tensor %s has type %s, which is not carried out", bm_gguf_path(b->gguf),
                       name, bm_qtype_name(t->type));
    item.tensor = t;
    item.len_bytes = (size_t)n * sizeof(float);
    return add_binding(b, &item);
}

/* ---- layers ---- */

static const char *layer_name(char out[96], int layer, const char *part, const char *suffix)
{
    snprintf(out, 96, "blk.%d.%s.%s", layer, part, suffix);
    return out;
}

static int bind_linear(binder *b, bm_linear *linear, int layer, const char *part, int64_t n_rows, int64_t n_cols,
                       bm_need bias, int head_rows)
{
    int rc;
    char name[96];

    rc = bind_matrix(b, &linear->w, layer_name(name, layer, part, "weight"), n_rows, n_cols, head_rows);
    if (rc < 0 || (rc = bind_vector(b, &linear->scale, layer_name(name, layer, part, "scale"), 1, BM_OPTIONAL, 0)) < 0)
        return rc;
    return bind_vector(b, &linear->bias, layer_name(name, layer, part, "bias"), n_rows, bias, head_rows);
}

static int bind_norm(binder *b, bm_norm *norm, int layer, const char *part, int64_t n, bm_need need)
{
    int rc;
    char name[96];

    if ((rc = bind_vector(b, &norm->weight, layer_name(name, layer, part, "weight"), n, need, 0)) < 0)
        return rc;
    if (b->h->row->norm != BM_NORM_LAYER)
        return 0;
    return bind_vector(b, &norm->bias, layer_name(name, layer, part, "bias"), n, BM_OPTIONAL, 0);
}

static int bind_attention(binder *b, bm_layer_weights *l, int i)
{
    int rc;
    const bm_hparams *h = b->h;
    const bm_arch_row *row = h->row;
    int64_t d = h->d_model, q = (int64_t)h->n_heads * h->head_k, k = (int64_t)h->n_kv_heads * h->head_k;
    int64_t v = (int64_t)h->n_kv_heads * h->head_v, o = (int64_t)h->n_heads * h->head_v;
    int reorder = row->rope_pairs ? h->head_k : 0;

    if ((rc = bind_norm(b, &l->attn_norm, i, "attn_norm", d, BM_REQUIRED)) < 0 ||
        (rc = bind_linear(b, &l->q, i, "attn_q", q, d, row->qkv_bias, reorder)) < 0 ||
        (rc = bind_linear(b, &l->k, i, "attn_k", k, d, row->qkv_bias, reorder)) < 0 ||
        (rc = bind_linear(b, &l->v, i, "attn_v", v, d, row->qkv_bias, 0)) < 0 ||
        (rc = bind_linear(b, &l->o, i, "attn_output", d, o, BM_OPTIONAL, 0)) < 0 ||
        (rc = bind_norm(b, &l->q_norm, i, "attn_q_norm", h->head_k, row->qk_norm)) < 0 ||
        (rc = bind_norm(b, &l->k_norm, i, "attn_k_norm", h->head_k, row->qk_norm)) < 0 ||
        (rc = bind_norm(b, &l->attn_post_norm, i, "post_attention_norm", d, row->post_norms)) < 0)
        return rc;
    return 0;
}

static int bind_ffn(binder *b, bm_layer_weights *l, int i)
{
    int rc;
    int64_t d = b->h->d_model, f = b->h->d_ff;

    if ((rc = bind_norm(b, &l->ffn_norm, i, "ffn_norm", d, BM_REQUIRED)) < 0 ||
        (rc = bind_linear(b, &l->gate, i, "ffn_gate", f, d, BM_OPTIONAL, 0)) < 0 ||
        (rc = bind_linear(b, &l->up, i, "ffn_up", f, d, BM_OPTIONAL, 0)) < 0 ||
        (rc = bind_linear(b, &l->down, i, "ffn_down", d, f, BM_OPTIONAL, 0)) < 0 ||
        (rc = bind_norm(b, &l->ffn_post_norm, i, "post_ffw_norm", d, b->h->row->post_norms)) < 0)
        return rc;
    return 0;
}

/* A tensor that nothing reads means that the file holds a model other than the row describes. */
static int check_all_used(binder *b)
{
    /* input_scale says how to quantise activations to 4 bits; ours keep 8 and a scale per 32. */
    static const char *const derived[] = { "rope_freqs.weight", ".attn_rot_embd", "rotary_emb.inv_freq", ".input_scale" };

    for (size_t i = 0; i < bm_gguf_n_tensors(b->gguf); i++) {
        const bm_gguf_tensor *t = bm_gguf_tensor_at(b->gguf, i);
        bool used = false;

        for (size_t j = 0; j < b->w->n_bindings && !used; j++)
            used = b->w->bindings[j].tensor == t;
        for (size_t j = 0; j < sizeof derived / sizeof *derived && !used; j++)
            used = strstr(t->name, derived[j]) != NULL;
        if (!used)
            return bm_fail(b->err, BM_UNSUPPORTED, "%s: tensor %s has no place in architecture %s", bm_gguf_path(b->gguf),
                           t->name, b->h->row->name);
    }
    return 0;
}

/* What packing makes of 16 rows of 256 columns of known bytes, for each type of the list: a program that packs in another way
 * does not take our packs for its own, also where someone forgot to count BM_PACK_VERSION up. */
static int mark_layout(binder *b)
{
    bool done[BM_QTYPE_END] = { false };
    uint64_t mark = 0, x = 1;
    int rc = 0;

    for (size_t i = 0; i < b->w->n_bindings && rc == 0; i++) {
        bm_qtype type = b->w->bindings[i].type;
        size_t row_bytes, len;
        bm_packed p;
        if (done[type] || !bm_qtype_row_bytes(type, 256, &row_bytes) || !bm_pack_bytes(type, 16, 256, &len))
            continue;
        done[type] = true;
        unsigned char *rows = bm_malloc(16 * row_bytes), *packed = bm_alloc_aligned(len, BLOCK_ALIGN);
        if (!rows || !packed) {
            rc = bm_fail(b->err, BM_NOMEM, "%s: no memory for %zu bytes", bm_gguf_path(b->gguf), len);
        } else if ((rc = bm_packed_init(&p, type, 16, 256, packed, b->err)) == 0) {
            for (size_t k = 0; k < 16 * row_bytes; k++)
                rows[k] = (unsigned char)((x = x * 6364136223846793005u + 1442695040888963407u) >> 56);
            memset(packed, 0, len);
            bm_pack_tiles(&p, packed, rows, NULL, 0, 1);
            mark = bm_hash64(packed, len, mark + (uint64_t)type);
        }
        bm_free(rows);
        bm_free(packed);
    }
    b->w->plan.layout = mark;
    return rc;
}

/* The list as a pack file names it. */
static int make_plan(binder *b)
{
    bm_weights *w = b->w;

    if (!(w->plan.entries = bm_calloc(w->n_bindings, sizeof *w->plan.entries)))
        return bm_fail(b->err, BM_NOMEM, "%s: no memory for the list of tensors", bm_gguf_path(b->gguf));
    for (size_t i = 0; i < w->n_bindings; i++) {
        const bm_binding *item = &w->bindings[i];
        bm_pack_entry *e = &w->plan.entries[i];
        snprintf(e->name, sizeof e->name, "%s", item->tensor->name);
        e->type = item->type;
        e->n_rows = item->matrix ? item->tensor->dims[1] : 1;
        e->n_cols = item->tensor->dims[0];
        e->offset = item->offset;
        e->len_bytes = item->len_bytes;
        e->order = item->head_rows ? (uint64_t)item->head_rows << 32 | (uint32_t)item->n_rot : 0;
    }
    w->plan.n_entries = w->n_bindings;
    w->plan.data_bytes = w->packed_bytes;
    return mark_layout(b);
}

int bm_weights_bind(bm_weights *w, const bm_hparams *h, const bm_gguf *gguf, bool f32, bm_error *err)
{
    int rc;
    binder b = { .w = w, .h = h, .gguf = gguf, .f32 = f32, .err = err };
    bool tied = bm_gguf_find_tensor(gguf, "output.weight") == NULL;

    if (!(w->layers = bm_calloc((size_t)h->n_layers, sizeof *w->layers)))
        return bm_fail(err, BM_NOMEM, "%s: no memory for %d layers", bm_gguf_path(gguf), h->n_layers);
    if ((rc = bind_matrix(&b, &w->embd, "token_embd.weight", h->n_vocab, h->d_model, 0)) < 0)
        return rc;
    for (int i = 0; i < h->n_layers; i++)
        if ((rc = bind_attention(&b, &w->layers[i], i)) < 0 || (rc = bind_ffn(&b, &w->layers[i], i)) < 0)
            return rc;
    if ((rc = bind_vector(&b, &w->out_norm.weight, "output_norm.weight", h->d_model, BM_REQUIRED, 0)) < 0 ||
        (!tied && (rc = bind_matrix(&b, &w->head, "output.weight", h->n_vocab, h->d_model, 0)) < 0) || (rc = check_all_used(&b)) < 0)
        return rc;
    return make_plan(&b);
}

/* ---- loading ---- */

typedef struct pack_job {
    const bm_binding *item;
    unsigned char *dst;
    const int32_t *row_map;
} pack_job;

static void pack_worker(bm_worker *worker, void *arg)
{
    const pack_job *job = arg;
    const bm_packed *p = job->item->matrix;
    const bm_gguf_tensor *t = job->item->tensor;
    size_t begin, end, chunk = 1 + (size_t)(p->n_tiles / (8 * worker->n));

    while (bm_worker_claim(worker, (size_t)p->n_tiles, chunk, &begin, &end)) {
        if (p->type == t->type)
            bm_pack_tiles(p, job->dst, t->data, job->row_map, (int64_t)begin, (int64_t)end);
        else
            bm_pack_tiles_f32(p, job->dst, t->type, t->data, job->row_map, (int64_t)begin, (int64_t)end);
    }
}

/* Row r of the model is row map[r] of the file. */
static int make_row_map(int32_t **out, const bm_binding *item, int64_t n_rows)
{
    *out = NULL;
    if (!item->head_rows)
        return 0;
    if (!(*out = bm_malloc((size_t)n_rows * sizeof **out)))
        return BM_NOMEM;
    for (int32_t r = 0; r < n_rows; r++)
        (*out)[r] = bm_rope_file_row(item->head_rows, item->n_rot, r);
    return 0;
}

static int load_vector(const bm_binding *item, unsigned char *dst, const int32_t *row_map, const char *path, bm_error *err)
{
    int64_t n = (int64_t)item->tensor->dims[0];
    float *out = (float *)dst, *plain = bm_malloc((size_t)n * sizeof *plain);

    if (!plain)
        return bm_fail(err, BM_NOMEM, "%s: no memory for tensor %s", path, item->tensor->name);
    bm_qtype_traits(item->tensor->type)->dequantize(item->tensor->data, plain, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        out[i] = plain[row_map ? row_map[i] : i];
    bm_free(plain);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            return bm_fail(err, BM_FORMAT, "%s: tensor %s holds a value that is not finite", path, item->tensor->name);
    *item->vector = out;
    return 0;
}

static int load_binding(bm_weights *w, const bm_binding *item, const char *path, bm_team *team, bm_error *err)
{
    int rc;
    const bm_gguf_tensor *t = item->tensor;
    int64_t n_rows = (int64_t)(item->matrix ? t->dims[1] : t->dims[0]);
    pack_job job = { .item = item, .dst = w->block + item->offset };
    int32_t *row_map;

    if (make_row_map(&row_map, item, n_rows) < 0)
        return bm_fail(err, BM_NOMEM, "%s: no memory for the rows of tensor %s", path, t->name);
    job.row_map = row_map;
    if (item->vector) {
        rc = load_vector(item, job.dst, row_map, path, err);
    } else if ((rc = bm_packed_init(item->matrix, item->type, n_rows, (int64_t)t->dims[0], job.dst, err)) < 0) {
        bm_wrap(err, "%s: tensor %s", path, t->name);
    } else {
        bm_team_run(team, pack_worker, &job);
    }
    bm_free(row_map);
    return rc;
}

/* Point to what a pack holds. */
static int bind_mapped(const bm_binding *item, const unsigned char *data, const char *path, bm_error *err)
{
    int rc = 0;

    if (item->vector)
        *item->vector = (const float *)(data + item->offset);
    else if ((rc = bm_packed_init(item->matrix, item->type, (int64_t)item->tensor->dims[1], (int64_t)item->tensor->dims[0],
                                  data + item->offset, err)) < 0)
        bm_wrap(err, "%s: tensor %s", path, item->tensor->name);
    return rc;
}

/* 1: the weights are those of the pack file; 0: there is none that is good. */
static int load_mapped(bm_weights *w, const char *path, const bm_model_options *options, bm_error *err)
{
    int rc;

    if (!options->pack_path || options->f32 || bm_pack_open(&w->pack, options->pack_path, &w->plan, options->pack_key, NULL, NULL) < 0)
        return 0;
    for (size_t i = 0; i < w->n_bindings; i++)
        if ((rc = bind_mapped(&w->bindings[i], w->pack.data, path, err)) < 0)
            return rc;
    if (options->progress && !options->progress(options->progress_arg, w->packed_bytes, w->packed_bytes))
        return bm_fail(err, BM_CANCELED, "%s: loading was canceled", path);
    return 1;
}

static int load_packing(bm_weights *w, const char *path, const bm_model_options *options, bm_team *team, bm_error *err)
{
    int rc;

    w->block = w->packed_bytes >= LARGE ? bm_pages_alloc(w->packed_bytes) : bm_alloc_aligned(w->packed_bytes, BLOCK_ALIGN);
    if (!w->block)
        return bm_fail(err, BM_NOMEM, "%s: no memory for %zu bytes of weights", path, w->packed_bytes);
    if (w->packed_bytes < LARGE)
        memset(w->block, 0, w->packed_bytes);                  /* gaps between tensors go into the file too */
    for (size_t i = 0; i < w->n_bindings; i++) {
        const bm_binding *item = &w->bindings[i];
        if ((rc = load_binding(w, item, path, team, err)) < 0)
            return rc;
        if (options->progress && !options->progress(options->progress_arg, item->offset + item->len_bytes, w->packed_bytes))
            return bm_fail(err, BM_CANCELED, "%s: loading was canceled", path);
    }
    return 0;
}

int bm_weights_load(bm_weights *w, const bm_gguf *gguf, const bm_model_options *options, bm_team *team, bm_error *err)
{
    const char *path = bm_gguf_path(gguf);
    int rc = load_mapped(w, path, options, err);

    if (rc == 0)
        rc = load_packing(w, path, options, team, err);
    if (rc < 0)
        return rc;
    if (!w->head.data)
        w->head = w->embd;
    bm_free(w->bindings);
    w->bindings = NULL;
    w->n_bindings = w->cap_bindings = 0;
    return 0;
}

int bm_weights_write(bm_weights *w, const char *path, const bm_sha256 *key, bm_pack_go_on *go_on, void *arg, bm_error *err)
{
    int rc;

    if (w->pack.data)
        return 0;
    rc = bm_pack_verify(path, &w->plan, key, NULL, go_on, arg, err);
    if (rc == BM_CANCELED)
        return rc;
    if (rc < 0 && (rc = bm_pack_write(path, &w->plan, key, w->block, go_on, arg, err)) < 0)
        return rc;
    return w->packed_bytes >= LARGE ? bm_pack_open(&w->pack, path, &w->plan, key, w->block, err) : 0;
}

void bm_weights_done(bm_weights *w)
{
    bm_free(w->layers);
    bm_free(w->bindings);
    bm_free(w->plan.entries);
    bm_pack_close(&w->pack);
    if (w->packed_bytes >= LARGE)
        bm_pages_free(w->block, w->packed_bytes);
    else
        bm_free(w->block);
    memset(w, 0, sizeof *w);
}
