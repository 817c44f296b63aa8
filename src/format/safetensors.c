/* safetensors.c - reading and writing safetensors files; see safetensors.h. */
#include "format/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "base/utf8.h"

enum { MAX_HEADER = 16 << 20, MAX_TENSORS = 65536, MAX_NAME = 512, HEAD = 8 };

struct bm_safetensors {
    bm_map map;
    json_t *header;              /* names and dtypes are its strings */
    json_t *meta;                /* borrowed from header; NULL: none */
    bm_safetensor *tensors;
    size_t n;
};

/* ---- reading ---- */

static size_t dtype_bytes(const char *dtype, bm_qtype *type)
{
    static const struct { const char *name; size_t bytes; bm_qtype type; } dtypes[] = {
        { "F32", 4, BM_F32 }, { "F16", 2, BM_F16 }, { "BF16", 2, BM_BF16 }, { "F64", 8, BM_QTYPE_END }, { "I64", 8, BM_QTYPE_END },
        { "I32", 4, BM_QTYPE_END }, { "I16", 2, BM_QTYPE_END }, { "I8", 1, BM_QTYPE_END }, { "U8", 1, BM_QTYPE_END },
        { "U16", 2, BM_QTYPE_END }, { "U32", 4, BM_QTYPE_END }, { "U64", 8, BM_QTYPE_END }, { "BOOL", 1, BM_QTYPE_END },
        { "F8_E5M2", 1, BM_QTYPE_END }, { "F8_E4M3", 1, BM_QTYPE_END },
    };

    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtype, dtypes[i].name) == 0) {
            *type = dtypes[i].type;
            return dtypes[i].bytes;
        }
    return 0;
}

/* A whole number of JSON as a size; false for anything else. */
static bool get_size(const json_t *x, size_t *out)
{
    if (!json_is_integer(x) || json_integer_value(x) < 0)
        return false;
    *out = (size_t)json_integer_value(x);
    return true;
}

static int read_shape(bm_safetensor *t, const json_t *shape, size_t unit, bm_error *err)
{
    size_t n = unit;

    if (!json_is_array(shape) || json_array_size(shape) > BM_SAFETENSORS_DIMS)
        return bm_fail(err, BM_FORMAT, "tensor %.80s: shape must be a list of at most %d numbers", t->name, BM_SAFETENSORS_DIMS);
    t->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < BM_SAFETENSORS_DIMS; i++) {
        size_t dim = 1;
        if (i < t->n_dims && !get_size(json_array_get(shape, (size_t)i), &dim))
            return bm_fail(err, BM_FORMAT, "tensor %.80s: axis %d of its shape is no number of at least 0", t->name, i);
        if (!bm_mul_size(n, dim, &n))
            return bm_fail(err, BM_FORMAT, "tensor %.80s: its shape is too large", t->name);
        t->dims[i] = dim;
    }
    t->len_bytes = n;
    return 0;
}

static int read_tensor(bm_safetensors *f, bm_safetensor *t, const char *name, const json_t *x, size_t data_at, bm_error *err)
{
    const json_t *offsets = json_object_get(x, "data_offsets");
    const char *dtype = json_string_value(json_object_get(x, "dtype"));
    size_t begin, end, unit, room = f->map.len_bytes - data_at;
    int rc;

    t->name = name, t->dtype = dtype;
    if (!json_is_object(x) || dtype == NULL || strlen(name) > MAX_NAME)
        return bm_fail(err, BM_FORMAT, "tensor %.80s: no dtype, or its name is too long", name);
    if ((unit = dtype_bytes(dtype, &t->type)) == 0)
        return bm_fail(err, BM_UNSUPPORTED, "tensor %.80s has dtype %.20s, which is not known", name, dtype);
    if ((rc = read_shape(t, json_object_get(x, "shape"), unit, err)) < 0)
        return rc;
    if (json_array_size(offsets) != 2 || !get_size(json_array_get(offsets, 0), &begin) || !get_size(json_array_get(offsets, 1), &end))
        return bm_fail(err, BM_FORMAT, "tensor %.80s: data_offsets must be two numbers", name);
    if (begin > end || end > room)
        return bm_fail(err, BM_FORMAT, "tensor %.80s: bytes %zu to %zu of the data, which has %zu", name, begin, end, room);
    if (end - begin != t->len_bytes)
        return bm_fail(err, BM_FORMAT, "tensor %.80s: %zu bytes, expected %zu by its shape and dtype", name, end - begin, t->len_bytes);
    t->data = f->map.data + data_at + begin;
    return 0;
}

static int by_data(const void *a, const void *b)
{
    const bm_safetensor *x = a, *y = b;

    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->len_bytes > y->len_bytes) - (x->len_bytes < y->len_bytes);
}

/* As the format asks: the tensors, sorted, cover the data exactly. */
static int check_cover(const bm_safetensors *f, size_t data_at, bm_error *err)
{
    const unsigned char *at = f->map.data + data_at;

    for (size_t i = 0; i < f->n; i++) {
        if (f->tensors[i].data != at)
            return bm_fail(err, BM_FORMAT, "tensor %.80s %s", f->tensors[i].name,
                           f->tensors[i].data < at ? "overlaps another one" : "comes after bytes that belong to none");
        at += f->tensors[i].len_bytes;
    }
    if (at != f->map.data + f->map.len_bytes)
        return bm_fail(err, BM_FORMAT, "%zu bytes at the end belong to no tensor", (size_t)(f->map.data + f->map.len_bytes - at));
    return 0;
}

static int check_meta(bm_safetensors *f, bm_error *err)
{
    const char *key;
    json_t *value;

    if ((f->meta = json_object_get(f->header, "__metadata__")) == NULL)
        return 0;
    if (!json_is_object(f->meta))
        return bm_fail(err, BM_FORMAT, "__metadata__ must be an object");
    json_object_foreach(f->meta, key, value)
        if (!json_is_string(value))
            return bm_fail(err, BM_FORMAT, "__metadata__: %.60s must be a string", key);
    return 0;
}

static int read_header(bm_safetensors *f, bm_error *err)
{
    uint64_t len = 0;
    json_error_t why;
    const char *name;
    json_t *x;
    int rc;

    if (f->map.len_bytes < HEAD)
        return bm_fail(err, BM_FORMAT, "%zu bytes: too short for a safetensors file", f->map.len_bytes);
    for (int i = 0; i < HEAD; i++)
        len |= (uint64_t)f->map.data[i] << 8 * i;
    if (len > MAX_HEADER || len > f->map.len_bytes - HEAD)
        return bm_fail(err, BM_FORMAT, "a header of %llu bytes: the file has %zu, and at most %d are read", (unsigned long long)len,
                       f->map.len_bytes - HEAD, MAX_HEADER);
    f->header = json_loadb((const char *)f->map.data + HEAD, (size_t)len, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(f->header))
        return bm_fail(err, BM_FORMAT, "its header is no JSON object: %s", f->header != NULL ? "another value" : why.text);
    if ((rc = check_meta(f, err)) < 0)
        return rc;
    if (json_object_size(f->header) > MAX_TENSORS)
        return bm_fail(err, BM_LIMIT, "%zu tensors, at most %d are read", json_object_size(f->header), MAX_TENSORS);
    if ((f->tensors = bm_calloc(json_object_size(f->header) + 1, sizeof *f->tensors)) == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for its list of tensors");
    json_object_foreach(f->header, name, x)
        if (x != f->meta && (rc = read_tensor(f, &f->tensors[f->n++], name, x, HEAD + (size_t)len, err)) < 0)
            return rc;
    qsort(f->tensors, f->n, sizeof *f->tensors, by_data);
    return check_cover(f, HEAD + (size_t)len, err);
}

int bm_safetensors_open(bm_safetensors **out, const char *path, bm_error *err)
{
    bm_safetensors *f = bm_zalloc(sizeof *f);
    int rc;

    *out = NULL;
    if (f == NULL)
        return bm_fail(err, BM_NOMEM, "%s: no memory to open it", path);
    if ((rc = bm_map_file(&f->map, path, err)) == 0 && (rc = read_header(f, err)) < 0) {
        bm_wrap(err, "%s", path);
        if (rc == BM_FORMAT)
            bm_hint(err, "the file is cut short or damaged: copy or download it again");
    }
    if (rc < 0) {
        bm_safetensors_close(f);
        return rc;
    }
    *out = f;
    return 0;
}

void bm_safetensors_close(bm_safetensors *f)
{
    if (f == NULL)
        return;
    json_decref(f->header);
    bm_free(f->tensors);
    bm_unmap_file(&f->map);
    bm_free(f);
}

size_t bm_safetensors_n(const bm_safetensors *f) { return f->n; }

const bm_safetensor *bm_safetensors_at(const bm_safetensors *f, size_t i) { return i < f->n ? &f->tensors[i] : NULL; }

const char *bm_safetensors_meta(const bm_safetensors *f, const char *key) { return json_string_value(json_object_get(f->meta, key)); }

void bm_safetensor_floats(const bm_safetensor *t, float *out)
{
    size_t unit = t->type == BM_F32 ? 4 : 2, n = t->len_bytes / unit;
    uint16_t half;

    BM_CHECK(t->type != BM_QTYPE_END);
    if (t->type == BM_F32) {
        if (n > 0)
            memcpy(out, t->data, t->len_bytes);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(&half, t->data + 2 * i, 2);
        out[i] = t->type == BM_F16 ? bm_f16_to_f32(half) : bm_bf16_to_f32(half);
    }
}

/* ---- writing ---- */

/* The header, padded with blanks to a multiple of 8, behind room for its length. */
static void write_header(bm_buf *out, const bm_safetensor_out *tensors, size_t n, const bm_safetensor_meta *meta, size_t n_meta)
{
    bm_json j = { out, false };
    size_t at = 0;

    bm_buf_add(out, "\0\0\0\0\0\0\0\0", HEAD);
    bm_json_open(&j, '{');
    if (n_meta > 0) {
        bm_json_key(&j, "__metadata__");
        bm_json_open(&j, '{');
        for (size_t i = 0; i < n_meta; i++)
            bm_json_kstr(&j, meta[i].key, meta[i].value);
        bm_json_close(&j, '}');
    }
    for (size_t i = 0; i < n; i++) {
        const bm_safetensor_out *t = &tensors[i];
        size_t len = sizeof(float);
        bm_json_key(&j, t->name);
        bm_json_open(&j, '{');
        bm_json_kstr(&j, "dtype", "F32");
        bm_json_key(&j, "shape");
        bm_json_open(&j, '[');
        for (int d = 0; d < t->n_dims; d++) {
            bm_json_int(&j, (int64_t)t->dims[d]);
            len *= t->dims[d];
        }
        bm_json_close(&j, ']');
        bm_json_key(&j, "data_offsets");
        bm_json_open(&j, '[');
        bm_json_int(&j, (int64_t)at);
        bm_json_int(&j, (int64_t)(at += len));
        bm_json_close(&j, ']');
        bm_json_close(&j, '}');
    }
    bm_json_close(&j, '}');
    while (out->len % 8 != 0 && !out->failed)
        bm_buf_putc(out, ' ');
    for (int i = 0; i < HEAD && !out->failed; i++)
        out->data[i] = (char)((uint64_t)(out->len - HEAD) >> 8 * i);
}

int bm_safetensors_write(const char *path, const bm_safetensor_out *tensors, size_t n, const bm_safetensor_meta *meta, size_t n_meta,
                         bm_error *err)
{
    bm_buf out = { 0 };
    int rc;

    write_header(&out, tensors, n, meta, n_meta);
    for (size_t i = 0; i < n; i++) {
        size_t len = sizeof(float);
        for (int d = 0; d < tensors[i].n_dims; d++)
            len *= tensors[i].dims[d];
        bm_buf_add(&out, tensors[i].data, len);
    }
    rc = out.failed ? bm_fail(err, BM_NOMEM, "%s: no memory to write it", path) : bm_write_file(path, out.data, out.len, 0644, err);
    bm_buf_done(&out);
    return rc;
}
