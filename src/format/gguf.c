/* gguf.c - opens a GGUF file: every count, length, offset, type and name is checked here, once, before anything is used.
 * Layout, little-endian (github.com/ggml-org/ggml, docs/gguf.md):
 *   "GGUF", u32 version, u64 n_tensors, u64 n_kvs
 *   n_kvs times:     string key, u32 type, value       string = u64 length and bytes; array = u32 type, u64 n, n values
 *   n_tensors times: string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset
 *   padding to general.alignment (32), then the tensors' data, each at its offset from there
 * Keys and names are copied, because they need a closing NUL; for strings only offsets are kept. Lengths are read from the
 * mapping once: what another process writes into the file later can change bytes but never where we read.
 * Refused: version 1, big-endian files, parts of a split model, arrays of arrays. */
#include "format/gguf.h"
#include "format/sniff.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The caps. Counts are also bounded by the file's length, so that a small file cannot ask for much memory. */
enum {
    MAX_KVS = 65536,
    MAX_TENSORS = 65536,
    MAX_KEY_BYTES = 65535,                  /* as in the specification */
    MAX_NAME_BYTES = 64,                    /* as in the specification */
    MAX_STRING_BYTES = 64 << 20,
    MAX_ARRAY = 4 << 20,                    /* elements of one array */
    MAX_DIMS = 4,
    MIN_ALIGNMENT = 8, DEFAULT_ALIGNMENT = 32, MAX_ALIGNMENT = 1 << 20,
    MAX_INDEX_BYTES = 32 << 20              /* all that open() allocates: tables, names, offsets of strings */
};

enum { HEADER_BYTES = 24, MIN_KV_BYTES = 8 + 1 + 4 + 1, MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8 };

typedef struct name_table {                 /* open addressing; a slot holds an index + 1, 0 is empty */
    uint32_t *slots;
    size_t mask;
} name_table;

struct bm_gguf {
    char *path;
    bm_map map;
    bm_arena arena;
    uint32_t version;
    uint64_t hash_seed;                     /* random, so that no file can be built of colliding names */
    size_t n_kvs, n_tensors, data_start;
    bm_gguf_kv *kvs;
    bm_gguf_tensor *tensors;
    uint64_t *offsets;                      /* of each tensor's data, from data_start */
    name_table kv_table, tensor_table;
};

/* Where the parser stands. */
typedef struct cursor {
    bm_gguf *gguf;
    const unsigned char *bytes;
    size_t len, pos;
    bool listing;                           /* tensors of any type may stand in the file */
    bm_error *err;
} cursor;

static uint32_t load_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t load_u64(const unsigned char *p) { return load_u32(p) | (uint64_t)load_u32(p + 4) << 32; }

/* A name for an error line: control characters and invalid UTF-8 become '?', long ones are cut. */
typedef struct shown { char text[80]; } shown;

static shown show(const char *s, size_t len)
{
    shown out;
    size_t n = 0;
    uint32_t cp;

    for (size_t i = 0; i < len;) {
        int step = bm_utf8_decode(s + i, len - i, &cp);
        if (n + 8 > sizeof out.text) {
            memcpy(out.text + n, "...", 3);
            n += 3;
            break;
        }
        if (step < 0 || cp < 0x20 || (cp >= 0x7F && cp < 0xA0)) {
            out.text[n++] = '?';
        } else {
            memcpy(out.text + n, s + i, (size_t)step);
            n += (size_t)step;
        }
        i += (size_t)abs(step);
    }
    out.text[n] = '\0';
    return out;
}

static size_t left(const cursor *c) { return c->len - c->pos; }

static int truncated(const cursor *c, const char *what, uint64_t need)
{
    bm_fail(c->err, BM_FORMAT, "%s at byte %zu: found %zu bytes to the end of the file, expected %" PRIu64, what, c->pos, left(c), need);
    return bm_hint(c->err, "the file is cut short or damaged: copy or download it again");
}

static int read_u32(cursor *c, uint32_t *out, const char *what)
{
    if (left(c) < 4)
        return truncated(c, what, 4);
    *out = load_u32(c->bytes + c->pos);
    c->pos += 4;
    return 0;
}

static int read_u64(cursor *c, uint64_t *out, const char *what)
{
    if (left(c) < 8)
        return truncated(c, what, 8);
    *out = load_u64(c->bytes + c->pos);
    c->pos += 8;
    return 0;
}

/* Memory of the index. Both refusals are the arena's: over the cap, or none left. */
static void *take(cursor *c, size_t n, size_t size)
{
    bm_arena *arena = &c->gguf->arena;
    size_t need;
    void *p = NULL;

    if (!bm_mul_size(n, size, &need) || need > MAX_INDEX_BYTES || arena->total_bytes + need + 16 > MAX_INDEX_BYTES)
        bm_fail(c->err, BM_LIMIT, "metadata: found more than %zu bytes of names and tables, expected at most %d",
                arena->total_bytes, MAX_INDEX_BYTES);
    else if ((p = bm_arena_alloc(arena, need)) == NULL)
        bm_fail(c->err, BM_NOMEM, "metadata: no memory for %zu bytes of its index", need);
    return p;
}

static int take_failed(const cursor *c) { return c->err->code; }

/* A key or a tensor's name: not empty, valid UTF-8 without NUL, copied with a closing NUL. */
static int read_name(cursor *c, const char **out, size_t *len_out, const char *what, size_t max)
{
    uint64_t len;
    char *copy;
    int rc;

    if ((rc = read_u64(c, &len, what)) < 0)
        return rc;
    if (len == 0 || len > max)
        return bm_fail(c->err, BM_FORMAT, "%s at byte %zu: found a length of %" PRIu64 ", expected 1 to %zu", what, c->pos - 8, len, max);
    if (len > left(c))
        return truncated(c, what, len);
    const char *name = (const char *)c->bytes + c->pos;
    if (memchr(name, '\0', (size_t)len) != NULL || !bm_utf8_valid(name, (size_t)len))
        return bm_fail(c->err, BM_FORMAT, "%s at byte %zu: found \"%s\", expected UTF-8 without NUL", what, c->pos, show(name, (size_t)len).text);
    if ((copy = take(c, (size_t)len + 1, 1)) == NULL)
        return take_failed(c);
    memcpy(copy, name, (size_t)len);
    c->pos += (size_t)len;
    *out = copy;
    *len_out = (size_t)len;
    return 0;
}

static int table_init(cursor *c, name_table *table, size_t n)
{
    size_t n_slots = 16;

    while (n_slots < 2 * n)
        n_slots *= 2;
    if ((table->slots = take(c, n_slots, sizeof *table->slots)) == NULL)
        return take_failed(c);
    table->mask = n_slots - 1;
    return 0;
}

/* The slot that holds `name`, or the empty one where it belongs. names[i] stands at `first` + i * stride. */
static uint32_t *table_slot(const bm_gguf *gguf, const name_table *table, const void *first, size_t stride, const char *name)
{
    size_t at = (size_t)bm_hash64(name, strlen(name), gguf->hash_seed) & table->mask;

    for (;; at = (at + 1) & table->mask) {
        uint32_t *slot = &table->slots[at];
        if (*slot == 0)
            return slot;
        const char *const *other = (const char *const *)((const char *)first + (size_t)(*slot - 1) * stride);
        if (strcmp(*other, name) == 0)
            return slot;
    }
}

_Static_assert(offsetof(bm_gguf_kv, key) == 0 && offsetof(bm_gguf_tensor, name) == 0, "table_slot reads the name first");

static int check_bools(const cursor *c, const bm_gguf_kv *kv)
{
    for (uint64_t i = 0; i < kv->n; i++)
        if (kv->value[i] > 1)
            return bm_fail(c->err, BM_FORMAT, "key %s: found %u as a bool, expected 0 or 1", show(kv->key, strlen(kv->key)).text, kv->value[i]);
    return 0;
}

static int read_scalars(cursor *c, bm_gguf_kv *kv)
{
    size_t len;

    if (!bm_mul_size((size_t)kv->n, bm_gguf_type_bytes(kv->elem_type), &len) || len > left(c)) {
        truncated(c, "its value", len);
        return bm_wrap(c->err, "key %s", show(kv->key, strlen(kv->key)).text);
    }
    kv->value = c->bytes + c->pos;
    c->pos += len;
    return kv->elem_type == BM_GGUF_BOOL ? check_bools(c, kv) : 0;
}

/* Strings: n + 1 offsets from the first one's length field, so that string i lies between offsets[i] + 8 and offsets[i + 1]. */
static int read_strings(cursor *c, bm_gguf_kv *kv)
{
    size_t start = c->pos;
    uint32_t *offsets;
    uint64_t len = 0;
    int rc = 0;

    if (kv->n > left(c) / 8) {
        rc = truncated(c, "its strings", kv->n * 8);
        goto out;
    }
    if ((offsets = take(c, (size_t)kv->n + 1, sizeof *offsets)) == NULL)
        return take_failed(c);
    for (size_t i = 0; i < kv->n; i++) {
        if ((rc = read_u64(c, &len, "the length of a string")) < 0)
            goto out;
        if (len > MAX_STRING_BYTES) {
            rc = bm_fail(c->err, BM_FORMAT, "string %zu: found a length of %" PRIu64 ", expected at most %d", i, len, MAX_STRING_BYTES);
            goto out;
        }
        if (len > left(c)) {
            rc = truncated(c, "a string", len);
            goto out;
        }
        c->pos += (size_t)len;
        if (c->pos - start > UINT32_MAX) {
            rc = bm_fail(c->err, BM_LIMIT, "found strings of more than 4 GiB, expected less");
            goto out;
        }
        offsets[i + 1] = (uint32_t)(c->pos - start);
    }
    kv->value = c->bytes + start;
    kv->strings = offsets;
out:
    return rc < 0 ? bm_wrap(c->err, "key %s", show(kv->key, strlen(kv->key)).text) : 0;
}

static int read_type(cursor *c, const bm_gguf_kv *kv, bool inside_array, bm_gguf_type *out)
{
    uint32_t type;
    int rc;

    if ((rc = read_u32(c, &type, inside_array ? "the type of its elements" : "its type")) < 0)
        return bm_wrap(c->err, "key %s", show(kv->key, strlen(kv->key)).text);
    if (type > BM_GGUF_F64)
        return bm_fail(c->err, BM_FORMAT, "key %s: found value type %" PRIu32 ", expected 0 to %d", show(kv->key, strlen(kv->key)).text, type, BM_GGUF_F64);
    if (inside_array && type == BM_GGUF_ARRAY)
        return bm_fail(c->err, BM_UNSUPPORTED, "key %s: found an array of arrays, expected numbers, bools or strings", show(kv->key, strlen(kv->key)).text);
    *out = (bm_gguf_type)type;
    return 0;
}

static int read_kv(cursor *c, bm_gguf_kv *kv)
{
    size_t key_len;
    int rc;

    if ((rc = read_name(c, &kv->key, &key_len, "a metadata key", MAX_KEY_BYTES)) < 0 || (rc = read_type(c, kv, false, &kv->type)) < 0)
        return rc;
    kv->elem_type = kv->type;
    kv->n = 1;
    if (kv->type == BM_GGUF_ARRAY) {
        if ((rc = read_type(c, kv, true, &kv->elem_type)) < 0)
            return rc;
        if ((rc = read_u64(c, &kv->n, "the length of its array")) < 0)
            return bm_wrap(c->err, "key %s", show(kv->key, key_len).text);
        if (kv->n > MAX_ARRAY)
            return bm_fail(c->err, BM_FORMAT, "key %s: found an array of %" PRIu64 ", expected at most %d elements", show(kv->key, key_len).text, kv->n, MAX_ARRAY);
    }
    return kv->elem_type == BM_GGUF_STRING ? read_strings(c, kv) : read_scalars(c, kv);
}

static int read_kvs(cursor *c)
{
    bm_gguf *gguf = c->gguf;
    int rc;

    if ((gguf->kvs = take(c, gguf->n_kvs, sizeof *gguf->kvs)) == NULL)
        return take_failed(c);
    if ((rc = table_init(c, &gguf->kv_table, gguf->n_kvs)) < 0)
        return rc;
    for (size_t i = 0; i < gguf->n_kvs; i++) {
        bm_gguf_kv *kv = &gguf->kvs[i];
        if ((rc = read_kv(c, kv)) < 0)
            return rc;
        uint32_t *slot = table_slot(gguf, &gguf->kv_table, gguf->kvs, sizeof *kv, kv->key);
        if (*slot != 0)
            return bm_fail(c->err, BM_FORMAT, "key %s: found twice, expected once", show(kv->key, strlen(kv->key)).text);
        *slot = (uint32_t)i + 1;
    }
    return 0;
}

/* What the metadata says about the file itself: alignment, and whether this is a whole model. */
static int check_file_keys(cursor *c, size_t *alignment)
{
    const bm_gguf *gguf = c->gguf;
    const bm_gguf_kv *kv = bm_gguf_find(gguf, "general.alignment");
    uint32_t value = DEFAULT_ALIGNMENT, n_parts = 0, part = 0;

    if (kv != NULL && (kv->type != BM_GGUF_U32 || !bm_gguf_get_u32(gguf, kv->key, &value)))
        return bm_fail(c->err, BM_FORMAT, "key general.alignment: found value type %d, expected %d (u32)", kv->type, BM_GGUF_U32);
    if (value < MIN_ALIGNMENT || value > MAX_ALIGNMENT || (value & (value - 1)) != 0)
        return bm_fail(c->err, BM_FORMAT, "key general.alignment: found %" PRIu32 ", expected a power of two from %d to %d", value,
                       MIN_ALIGNMENT, MAX_ALIGNMENT);
    *alignment = value;
    if (bm_gguf_get_u32(gguf, "split.count", &n_parts) && n_parts > 1) {
        bm_gguf_get_u32(gguf, "split.no", &part);
        bm_fail(c->err, BM_UNSUPPORTED, "key split.count: found part %" PRIu64 " of a model in %" PRIu32 " files, expected a model in one file",
                (uint64_t)part + 1, n_parts);
        return bm_hint(c->err, "join the parts first: llama-gguf-split --merge FIRST-PART.gguf WHOLE.gguf");
    }
    return 0;
}

static int check_tensor_type(const cursor *c, const bm_gguf_tensor *t, uint32_t type)
{
    const bm_qtraits *traits = bm_qtype_traits(type);

    if (traits == NULL) {
        bm_fail(c->err, BM_UNSUPPORTED, "tensor %s: found type %" PRIu32 " (%s), expected one of F32 F16 BF16 Q1_0 Q2_0 Q4_0 "
                "Q4_1 Q5_0 Q5_1 Q8_0 Q2_K to Q6_K IQ1_S to IQ4_XS TQ1_0 TQ2_0 MXFP4 NVFP4", show(t->name, strlen(t->name)).text, type, bm_qtype_name(type));
        return bm_hint(c->err, "get another quantisation of this model, for example Q4_K_M");
    }
    if (t->dims[0] % (uint64_t)traits->block_len != 0)
        return bm_fail(c->err, BM_FORMAT, "tensor %s: found rows of %" PRIu64 " values, expected a multiple of %d for type %s",
                       show(t->name, strlen(t->name)).text, t->dims[0], traits->block_len, traits->name);
    return 0;
}

/* Bytes of a value of the types that models hold but products do not; 0: unknown. */
static size_t plain_bytes(uint32_t type)
{
    static const unsigned char bytes[] = { [24] = 1, [25] = 2, [26] = 4, [27] = 8, [28] = 8 };      /* I8 I16 I32 I64 F64 */

    return type < sizeof bytes ? bytes[type] : 0;
}

static bool row_bytes(uint32_t type, uint64_t n_cols, size_t *out)
{
    if (bm_qtype_traits(type) != NULL)
        return bm_qtype_row_bytes((bm_qtype)type, n_cols, out);
    return n_cols <= SIZE_MAX && bm_mul_size((size_t)n_cols, plain_bytes(type), out);
}

static int size_tensor(const cursor *c, bm_gguf_tensor *t, uint32_t type)
{
    uint64_t n_values = t->dims[0];
    size_t row = 0;
    int rc;

    if (!(c->listing && bm_qtype_traits(type) == NULL) && (rc = check_tensor_type(c, t, type)) < 0)
        return rc;
    t->type = (bm_qtype)type;
    bool fits = row_bytes(type, t->dims[0], &row);
    t->len_bytes = row;
    for (int i = 1; i < MAX_DIMS && fits; i++)
        fits = !__builtin_mul_overflow(n_values, t->dims[i], &n_values) && !__builtin_mul_overflow(t->len_bytes, t->dims[i], &t->len_bytes);
    if (!fits || n_values > INT64_MAX || t->len_bytes > INT64_MAX)
        return bm_fail(c->err, BM_FORMAT, "tensor %s: found dimensions %" PRIu64 " x %" PRIu64 " x %" PRIu64 " x %" PRIu64
                       ", expected a product below 2^63", show(t->name, strlen(t->name)).text, t->dims[0], t->dims[1], t->dims[2], t->dims[3]);
    return 0;
}

static int read_tensor(cursor *c, bm_gguf_tensor *t, uint64_t *offset)
{
    uint32_t n_dims, type;
    size_t name_len;
    int rc;

    if ((rc = read_name(c, &t->name, &name_len, "a tensor's name", MAX_NAME_BYTES)) < 0)
        return rc;
    if ((rc = read_u32(c, &n_dims, "its number of dimensions")) < 0)
        goto out;
    if (n_dims < 1 || n_dims > MAX_DIMS)
        return bm_fail(c->err, BM_FORMAT, "tensor %s: found %" PRIu32 " dimensions, expected 1 to %d", show(t->name, name_len).text, n_dims, MAX_DIMS);
    t->n_dims = (int)n_dims;
    for (uint32_t i = 0; i < MAX_DIMS; i++) {
        t->dims[i] = 1;
        if (i < n_dims && (rc = read_u64(c, &t->dims[i], "its dimensions")) < 0)
            goto out;
        if (t->dims[i] == 0)
            return bm_fail(c->err, BM_FORMAT, "tensor %s: found 0 as dimension %" PRIu32 ", expected 1 or more", show(t->name, name_len).text, i);
    }
    if ((rc = read_u32(c, &type, "its type")) < 0 || (rc = read_u64(c, offset, "its offset")) < 0)
        goto out;
    return size_tensor(c, t, type);
out:
    return bm_wrap(c->err, "tensor %s", show(t->name, name_len).text);
}

static int read_tensors(cursor *c)
{
    bm_gguf *gguf = c->gguf;
    int rc;

    if ((gguf->tensors = take(c, gguf->n_tensors, sizeof *gguf->tensors)) == NULL ||
        (gguf->offsets = take(c, gguf->n_tensors, sizeof *gguf->offsets)) == NULL)
        return take_failed(c);
    if ((rc = table_init(c, &gguf->tensor_table, gguf->n_tensors)) < 0)
        return rc;
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        bm_gguf_tensor *t = &gguf->tensors[i];
        if ((rc = read_tensor(c, t, &gguf->offsets[i])) < 0)
            return rc;
        uint32_t *slot = table_slot(gguf, &gguf->tensor_table, gguf->tensors, sizeof *t, t->name);
        if (*slot != 0)
            return bm_fail(c->err, BM_FORMAT, "tensor %s: found twice, expected once", show(t->name, strlen(t->name)).text);
        *slot = (uint32_t)i + 1;
    }
    return 0;
}

/* Each tensor's bytes: aligned, and whole inside the file. */
static int place_tensors(cursor *c, size_t alignment)
{
    bm_gguf *gguf = c->gguf;

    gguf->data_start = (c->pos + alignment - 1) & ~(alignment - 1);     /* pos <= len of a mapping, so this cannot wrap */
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        bm_gguf_tensor *t = &gguf->tensors[i];
        uint64_t offset = gguf->offsets[i], room = c->len > gguf->data_start ? c->len - gguf->data_start : 0;
        if (offset % alignment != 0)
            return bm_fail(c->err, BM_FORMAT, "tensor %s: found offset %" PRIu64 ", expected a multiple of the alignment %zu",
                           show(t->name, strlen(t->name)).text, offset, alignment);
        if (offset > room || t->len_bytes > room - offset) {
            bm_fail(c->err, BM_FORMAT, "tensor %s: found %" PRIu64 " bytes of tensor data in the file, expected %zu at offset %" PRIu64,
                    show(t->name, strlen(t->name)).text, room, t->len_bytes, offset);
            return bm_hint(c->err, "the file is cut short or damaged: copy or download it again");
        }
        t->data = c->bytes + gguf->data_start + (size_t)offset;
    }
    return 0;
}

static int by_data(const void *a, const void *b)
{
    const bm_gguf_tensor *const *x = a, *const *y = b;

    return ((*x)->data > (*y)->data) - ((*x)->data < (*y)->data);
}

static int check_overlap(cursor *c)
{
    const bm_gguf *gguf = c->gguf;
    const bm_gguf_tensor **order = bm_calloc(gguf->n_tensors, sizeof(void *));
    bool sorted = true;
    int rc = 0;

    if (order == NULL)
        return bm_fail(c->err, BM_NOMEM, "no memory to sort %zu tensors", gguf->n_tensors);
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        order[i] = &gguf->tensors[i];
        sorted = sorted && (i == 0 || order[i - 1]->data < order[i]->data);
    }
    if (!sorted)
        qsort(order, gguf->n_tensors, sizeof *order, by_data);
    for (size_t i = 1; i < gguf->n_tensors && rc == 0; i++)
        if ((size_t)(order[i]->data - order[i - 1]->data) < order[i - 1]->len_bytes)
            rc = bm_fail(c->err, BM_FORMAT, "tensor %s: found its data inside that of tensor %s, expected each apart",
                         show(order[i]->name, strlen(order[i]->name)).text, show(order[i - 1]->name, strlen(order[i - 1]->name)).text);
    bm_free(order);
    return rc;
}

static int check_version(cursor *c)
{
    uint32_t version = load_u32(c->bytes + 4);

    if ((version & 0xFFFF) == 0 && version != 0) {
        bm_fail(c->err, BM_UNSUPPORTED, "version: found %08" PRIx32 ", a big-endian GGUF file; expected a little-endian one", version);
        return bm_hint(c->err, "convert it: gguf-convert-endian FILE little");
    }
    if (version == 1) {
        bm_fail(c->err, BM_UNSUPPORTED, "version: found GGUF version 1, expected 2 or 3");
        return bm_hint(c->err, "version 1 was current for a few days of August 2023: get a newer conversion of this model");
    }
    if (version != 2 && version != 3)
        return bm_fail(c->err, BM_UNSUPPORTED, "version: found GGUF version %" PRIu32 ", expected 2 or 3", version);
    c->gguf->version = version;
    return 0;
}

static int read_header(cursor *c)
{
    uint64_t n_tensors, n_kvs;
    int rc;

    if (c->len < 4 || memcmp(c->bytes, "GGUF", 4) != 0) {
        const char *hint, *found = bm_sniff(c->bytes, c->len, &hint);
        bm_fail(c->err, BM_FORMAT, "magic: found %s, expected a GGUF file", found);
        return hint != NULL ? bm_hint(c->err, "%s", hint) : BM_FORMAT;
    }
    if (c->len < HEADER_BYTES)
        return truncated(c, "the header", HEADER_BYTES);
    if ((rc = check_version(c)) < 0)
        return rc;
    c->pos = 8;
    if ((rc = read_u64(c, &n_tensors, "the number of tensors")) < 0 || (rc = read_u64(c, &n_kvs, "the number of metadata keys")) < 0)
        return rc;
    if (n_kvs > MAX_KVS || n_kvs > left(c) / MIN_KV_BYTES)
        return bm_fail(c->err, BM_FORMAT, "header: found %" PRIu64 " metadata keys, expected at most %d, and at most %zu in a file of this size",
                       n_kvs, MAX_KVS, left(c) / MIN_KV_BYTES);
    if (n_tensors > MAX_TENSORS || n_tensors > left(c) / MIN_TENSOR_BYTES)
        return bm_fail(c->err, BM_FORMAT, "header: found %" PRIu64 " tensors, expected at most %d, and at most %zu in a file of this size",
                       n_tensors, MAX_TENSORS, left(c) / MIN_TENSOR_BYTES);
    c->gguf->n_kvs = (size_t)n_kvs;
    c->gguf->n_tensors = (size_t)n_tensors;
    return 0;
}

static int parse(bm_gguf *gguf, bool listing, bm_error *err)
{
    cursor c = { .gguf = gguf, .listing = listing, .bytes = gguf->map.data, .len = gguf->map.len_bytes, .err = err };
    size_t alignment = DEFAULT_ALIGNMENT;
    int rc;

    if ((rc = read_header(&c)) < 0 || (rc = read_kvs(&c)) < 0 || (rc = check_file_keys(&c, &alignment)) < 0 ||
        (rc = read_tensors(&c)) < 0 || (rc = place_tensors(&c, alignment)) < 0)
        return rc;
    return check_overlap(&c);
}

static int open_file(bm_gguf **out, const char *path, bool listing, bm_error *err)
{
    bm_gguf *gguf = NULL;
    bm_error own;                           /* the parser reads back the code that it wrote */
    int rc;

    *out = NULL;
    if (err == NULL)
        err = &own;
    if ((gguf = bm_zalloc(sizeof *gguf)) == NULL || (gguf->path = bm_strdup(path)) == NULL) {
        rc = bm_fail(err, BM_NOMEM, "%s: no memory to open it", path);
        goto out;
    }
    if ((rc = bm_random_bytes(&gguf->hash_seed, sizeof gguf->hash_seed, err)) < 0 || (rc = bm_map_file(&gguf->map, path, err)) < 0)
        goto out;
    if ((rc = parse(gguf, listing, err)) < 0) {
        bm_wrap(err, "%s", path);
        goto out;
    }
    *out = gguf, gguf = NULL;
out:
    bm_gguf_close(gguf);
    return rc;
}

int bm_gguf_open(bm_gguf **out, const char *path, bm_error *err) { return open_file(out, path, false, err); }
int bm_gguf_open_listing(bm_gguf **out, const char *path, bm_error *err) { return open_file(out, path, true, err); }

void bm_gguf_close(bm_gguf *gguf)
{
    if (gguf == NULL)
        return;
    bm_arena_done(&gguf->arena);
    bm_unmap_file(&gguf->map);
    bm_free(gguf->path);
    bm_free(gguf);
}

const char *bm_gguf_path(const bm_gguf *gguf) { return gguf->path; }
uint32_t bm_gguf_version(const bm_gguf *gguf) { return gguf->version; }
uint64_t bm_gguf_file_bytes(const bm_gguf *gguf) { return gguf->map.len_bytes; }
bm_file_id bm_gguf_file_id(const bm_gguf *gguf)
{
    return (bm_file_id){ gguf->map.device, gguf->map.inode, gguf->map.len_bytes, gguf->map.mtime_ns };
}

size_t bm_gguf_n_tensors(const bm_gguf *gguf) { return gguf->n_tensors; }
size_t bm_gguf_n_kvs(const bm_gguf *gguf) { return gguf->n_kvs; }
const bm_gguf_tensor *bm_gguf_tensor_at(const bm_gguf *gguf, size_t i) { return i < gguf->n_tensors ? &gguf->tensors[i] : NULL; }
const bm_gguf_kv *bm_gguf_kv_at(const bm_gguf *gguf, size_t i) { return i < gguf->n_kvs ? &gguf->kvs[i] : NULL; }

const bm_gguf_tensor *bm_gguf_find_tensor(const bm_gguf *gguf, const char *name)
{
    const uint32_t *slot = table_slot(gguf, &gguf->tensor_table, gguf->tensors, sizeof *gguf->tensors, name);

    return *slot != 0 ? &gguf->tensors[*slot - 1] : NULL;
}

const bm_gguf_kv *bm_gguf_find(const bm_gguf *gguf, const char *key)
{
    const uint32_t *slot = table_slot(gguf, &gguf->kv_table, gguf->kvs, sizeof *gguf->kvs, key);

    return *slot != 0 ? &gguf->kvs[*slot - 1] : NULL;
}
