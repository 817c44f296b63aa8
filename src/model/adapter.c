/* adapter.c - packing an adapter, and its products in a step; see adapter.h. */
#include "model/adapter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/polite.h"

enum { ALIGN = 64, LARGE = 2 << 20 };

static bm_lora_input input_of(bm_lora_site site)
{
    switch (site) {
    case BM_LORA_O: return BM_LORA_ATTN;
    case BM_LORA_GATE: case BM_LORA_UP: return BM_LORA_MLP;
    case BM_LORA_DOWN: return BM_LORA_FFN;
    default: return BM_LORA_IN;
    }
}

static int padded(int rank) { return (rank + BM_TILE_ROWS - 1) / BM_TILE_ROWS * BM_TILE_ROWS; }

/* ---- making ---- */

static int check_matrix(const bm_model *m, const bm_lora_matrix *x, bm_error *err)
{
    if (x->layer < 0 || x->layer >= m->h.n_layers || (unsigned)x->site >= BM_LORA_SITES)
        return bm_fail(err, BM_INVALID, "the adapter changes %s of layer %d; the model has layers 0 to %d", bm_lora_hf_name(x->site),
                       x->layer, m->h.n_layers - 1);
    if (x->rank < 1 || x->rank > BM_LORA_MAX_RANK)
        return bm_fail(err, BM_UNSUPPORTED, "layer %d %s: rank %d, expected 1 to %d", x->layer, bm_lora_hf_name(x->site), x->rank,
                       BM_LORA_MAX_RANK);
    if (!isfinite(x->scale))
        return bm_fail(err, BM_INVALID, "layer %d %s: the scale is not finite", x->layer, bm_lora_hf_name(x->site));
    return 0;
}

/* Where each map's rows of h stand, and which maps there are. */
static int place_maps(bm_adapter *a, const bm_lora_matrix *matrices, size_t n, bm_error *err)
{
    int rc;

    for (size_t i = 0; i < n; i++) {
        const bm_lora_matrix *x = &matrices[i];
        if ((rc = check_matrix(a->model, x, err)) < 0)
            return rc;
        bm_lora_map *map = &a->layers[x->layer].maps[x->site];
        if (map->rank)
            return bm_fail(err, BM_INVALID, "layer %d %s is changed twice", x->layer, bm_lora_hf_name(x->site));
        map->rank = x->rank;
        map->scale = x->scale;
    }
    for (int i = 0; i < a->model->h.n_layers; i++) {
        int rows[BM_LORA_INPUTS] = { 0 };
        for (int s = 0; s < BM_LORA_SITES; s++) {
            bm_lora_map *map = &a->layers[i].maps[s];
            int *at = &rows[input_of((bm_lora_site)s)];
            map->at = *at;
            *at += padded(map->rank);
            a->n_h = *at > a->n_h ? *at : a->n_h;
        }
    }
    return 0;
}

/* Describe all packs of a layer at *at; base NULL: count their bytes only. */
static int place_layer(bm_adapter *a, int layer, unsigned char *base, size_t *at, bm_error *err)
{
    bm_lora_layer *l = &a->layers[layer];
    bm_qtype type = a->model->f32 ? BM_F32 : BM_BF16;
    int64_t n_in, n_out;
    size_t len;
    int rc = 0;

    for (int input = 0; input < BM_LORA_INPUTS; input++) {
        int64_t rows = 0, cols = 0;
        for (int s = 0; s < BM_LORA_SITES; s++)
            if (l->maps[s].rank && input_of((bm_lora_site)s) == (bm_lora_input)input) {
                bm_lora_shape(a->model, layer, (bm_lora_site)s, &cols, &n_out);
                rows += padded(l->maps[s].rank);
            }
        if (rows && bm_pack_bytes(type, rows, cols, &len)) {
            if (base)
                rc = bm_packed_init(&l->a[input], type, rows, cols, base + *at, err);
            *at += (len + ALIGN - 1) & ~(size_t)(ALIGN - 1);
        }
        for (int s = 0; s < BM_LORA_SITES && rc == 0; s++)
            if (l->maps[s].rank && input_of((bm_lora_site)s) == (bm_lora_input)input) {
                bm_lora_shape(a->model, layer, (bm_lora_site)s, &n_in, &n_out);
                BM_CHECK(bm_pack_bytes(type, n_out, padded(l->maps[s].rank), &len));
                if (base)
                    rc = bm_packed_init(&l->maps[s].b, type, n_out, padded(l->maps[s].rank), base + *at, err);
                *at += (len + ALIGN - 1) & ~(size_t)(ALIGN - 1);
            }
    }
    return rc;
}

static int place_all(bm_adapter *a, unsigned char *base, size_t *len_bytes, bm_error *err)
{
    int rc = 0;

    *len_bytes = 0;
    for (int i = 0; i < a->model->h.n_layers && rc == 0; i++)
        rc = place_layer(a, i, base, len_bytes, err);
    return rc;
}

/* One row of x as the pack has it, with zeros up to n_padded; false: a value is not finite (there). */
static bool convert_row(const float *x, int64_t n, int64_t n_padded, bm_qtype type, unsigned char *out)
{
    bool finite = true;

    for (int64_t k = 0; k < n_padded; k++) {
        float v = k < n ? x[k] : 0;
        uint16_t half = bm_f32_to_bf16(v);
        if (type == BM_F32)
            memcpy(out + 4 * k, &v, 4);
        else
            memcpy(out + 2 * k, &half, 2);
        finite &= isfinite(v) && isfinite(bm_bf16_to_f32(half));
    }
    return finite;
}

/* Pack x[n_rows, n_cols] as p, whose memory begins at dst and whose columns may be more. rows: scratch for p's rows. */
static bool pack_matrix(const bm_packed *p, const float *x, int64_t n_rows, int64_t n_cols, unsigned char *dst, unsigned char *rows)
{
    size_t row_bytes = (size_t)p->n_cols * (p->type == BM_F32 ? 4 : 2);

    for (int64_t r = 0; r < n_rows; r++)
        if (!convert_row(x + r * n_cols, n_cols, p->n_cols, p->type, rows + (size_t)r * row_bytes))
            return false;
    bm_pack_tiles(p, dst, rows, NULL, 0, p->n_tiles);
    return true;
}

static int pack_one(bm_adapter *a, const bm_lora_matrix *x, bm_error *err)
{
    bm_lora_map *map = &a->layers[x->layer].maps[x->site];
    const bm_packed *stack = &a->layers[x->layer].a[input_of(x->site)];
    int64_t n_in, n_out, most;
    unsigned char *rows;
    bm_packed part;
    bool good;
    int rc;

    bm_lora_shape(a->model, x->layer, x->site, &n_in, &n_out);
    unsigned char *a_dst = (unsigned char *)(uintptr_t)stack->data + (size_t)(map->at / BM_TILE_ROWS) * stack->tile_bytes;
    if ((rc = bm_packed_init(&part, stack->type, x->rank, n_in, a_dst, err)) < 0)
        return rc;
    most = x->rank * n_in > n_out * map->b.n_cols ? x->rank * n_in : n_out * map->b.n_cols;
    if (!(rows = bm_malloc((size_t)most * sizeof(float))))
        return bm_fail(err, BM_NOMEM, "no memory to pack an adapter");
    good = pack_matrix(&part, x->a, x->rank, n_in, a_dst, rows) &&
           pack_matrix(&map->b, x->b, n_out, x->rank, (unsigned char *)(uintptr_t)map->b.data, rows);
    bm_free(rows);
    if (!good)
        return bm_fail(err, BM_FORMAT, "layer %d %s: the adapter holds a value that is not finite", x->layer, bm_lora_hf_name(x->site));
    return 0;
}

/* Sites, ranks and scales in order, then the packed bits. */
static int make_hash(bm_adapter *a, bm_error *err)
{
    bm_sha256 bits;
    bm_buf text = { 0 };
    int rc = bm_sha256_bytes(&bits, a->block, a->len_bytes, err);

    for (int i = 0; i < a->model->h.n_layers && rc == 0; i++)
        for (int s = 0; s < BM_LORA_SITES; s++)
            if (a->layers[i].maps[s].rank)
                bm_buf_printf(&text, "%d %d %d %a\n", i, s, a->layers[i].maps[s].rank, (double)a->layers[i].maps[s].scale);
    bm_buf_add(&text, bits.bytes, sizeof bits.bytes);
    if (rc == 0)
        rc = text.failed ? bm_fail(err, BM_NOMEM, "no memory for an adapter's hash") : bm_sha256_bytes(&a->hash, text.data, text.len, err);
    bm_buf_done(&text);
    return rc;
}

static int make(bm_adapter *a, const bm_lora_matrix *matrices, size_t n, bm_error *err)
{
    size_t len;
    int rc;

    if (n == 0)
        return bm_fail(err, BM_INVALID, "the adapter changes nothing: it has no matrices");
    if (!(a->layers = bm_calloc((size_t)a->model->h.n_layers, sizeof *a->layers)))
        return bm_fail(err, BM_NOMEM, "no memory for an adapter of %d layers", a->model->h.n_layers);
    if ((rc = place_maps(a, matrices, n, err)) < 0 || (rc = place_all(a, NULL, &len, err)) < 0)
        return rc;
    a->block = len >= LARGE ? bm_pages_alloc(len) : bm_alloc_aligned(len, ALIGN);
    if (!a->block)
        return bm_fail(err, BM_NOMEM, "no memory for an adapter of %zu bytes", len);
    a->len_bytes = len;
    if (len < LARGE)
        memset(a->block, 0, len);
    rc = place_all(a, a->block, &len, err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = pack_one(a, &matrices[i], err);
        bm_polite_rest();
    }
    return rc < 0 ? rc : make_hash(a, err);
}

int bm_adapter_new(bm_adapter **out, const bm_model *model, const bm_lora_matrix *matrices, size_t n, bm_error *err)
{
    bm_adapter *a = bm_zalloc(sizeof *a);
    int rc;

    *out = NULL;
    if (!a)
        return bm_fail(err, BM_NOMEM, "no memory for an adapter");
    atomic_init(&a->refs, 1);
    a->model = model;
    if ((rc = make(a, matrices, n, err)) < 0) {
        bm_adapter_free(a);
        return rc;
    }
    *out = a;
    return 0;
}

void bm_adapter_ref(bm_adapter *a) { atomic_fetch_add(&a->refs, 1); }

void bm_adapter_free(bm_adapter *a)
{
    if (!a || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    if (a->len_bytes >= LARGE)
        bm_pages_free(a->block, a->len_bytes);
    else
        bm_free(a->block);
    bm_free(a->layers);
    bm_free(a);
}

const unsigned char *bm_adapter_hash(const bm_adapter *a) { return a->hash.bytes; }

size_t bm_adapter_bytes(const bm_adapter *a) { return a->len_bytes; }

bool bm_adapter_fits(const bm_adapter *a, const bm_model *model) { return a->model == model; }

/* ---- running ---- */

/* The part of a span that lies in [t_begin, t_end); false: none. */
static bool cut(const bm_lora_span *span, int64_t t_begin, int64_t t_end, int64_t *first, int64_t *n)
{
    int64_t end = span->first + span->n < t_end ? span->first + span->n : t_end;

    *first = span->first > t_begin ? span->first : t_begin;
    *n = end - *first;
    return *n > 0;
}

void bm_lora_down(const bm_walk *w, int layer, bm_lora_input input, const bm_site *x, int64_t t_begin, int64_t t_end)
{
    int64_t stride = w->step->h_stride, t, n;

    for (int i = 0; i < w->step->n_spans; i++) {
        const bm_lora_layer *l = &w->step->spans[i].adapter->layers[layer];
        const bm_packed *a = &l->a[input];
        if (!a->n_rows || !cut(&w->step->spans[i], t_begin, t_end, &t, &n))
            continue;
        w->k->lora_a(a, x->f32 + t * a->n_cols, a->n_cols, n, w->h + t * stride, stride);
        for (int s = 0; s < BM_LORA_SITES; s++) {
            const bm_lora_map *map = &l->maps[s];
            if (map->rank && input_of((bm_lora_site)s) == input && map->scale != 1)
                for (int64_t j = 0; j < n; j++)
                    w->k->scale(w->h + (t + j) * stride + map->at, map->scale, map->b.n_cols);
        }
    }
}

void bm_lora_down_phase(const bm_walk *w, int layer, bm_lora_input input, const bm_site *x)
{
    size_t n = (size_t)w->step->n_tokens, begin, end, chunk = n < 8 * (size_t)w->worker->n ? 2 : 4;

    if (w->step->n_spans == 0)
        return;
    if (w->step->small) {
        bm_lora_down(w, layer, input, x, 0, (int64_t)n);
        return;
    }
    while (bm_worker_claim(w->worker, n, chunk, &begin, &end))
        bm_lora_down(w, layer, input, x, (int64_t)begin, (int64_t)end);
    bm_worker_barrier(w->worker);
}

void bm_lora_up(const bm_walk *w, int layer, bm_lora_site site, int64_t tile_begin, int64_t tile_end, int64_t t_begin, int64_t t_end,
                float *out, int64_t out_stride)
{
    int64_t stride = w->step->h_stride, t, n;

    for (int i = 0; i < w->step->n_spans; i++) {
        const bm_lora_map *map = &w->step->spans[i].adapter->layers[layer].maps[site];
        if (map->rank && cut(&w->step->spans[i], t_begin, t_end, &t, &n))
            w->k->lora_b(&map->b, tile_begin, tile_end, w->h + t * stride + map->at, stride, n, out + (t - t_begin) * out_stride,
                         out_stride);
    }
}
