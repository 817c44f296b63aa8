/* inspect.c - `baimo inspect FILE`: header, metadata and tensors of a GGUF file, for people or as JSON. */
#include "cli/cli.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/number.h"
#include "base/utf8.h"
#include "format/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_ELEMENTS = 8, VALUE_ROOM = 128 };

typedef struct view {
    bm_gguf *gguf;
    char sha256[65];                     /* "" when not asked for */
    uint64_t n_values, data_bytes;
    struct { size_t n; uint64_t n_values, bytes; } types[BM_QTYPE_END + 1];     /* the last: all ids that nobody has published */
} view;

typedef struct type_text { char s[24]; } type_text;

/* "Q4_K"; "type 77" where no name is known. */
static type_text type_name(uint32_t id)
{
    type_text out;
    const char *name = bm_qtype_name(id);

    if (strcmp(name, "?") == 0)
        snprintf(out.s, sizeof out.s, "type %" PRIu32, id);
    else
        snprintf(out.s, sizeof out.s, "%s", name);
    return out;
}

static uint64_t count_values(const bm_gguf_tensor *t) { return t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]; }

static int view_open(view *v, const char *path, bool with_hash, bm_error *err)
{
    bm_sha256 hash;
    int rc;

    if ((rc = bm_gguf_open_listing(&v->gguf, path, err)) < 0)
        return rc;
    if (with_hash) {
        if ((rc = bm_sha256_file(&hash, path, NULL, NULL, err)) < 0)
            return rc;
        bm_hex(v->sha256, hash.bytes, sizeof hash.bytes);
    }
    for (size_t i = 0; i < bm_gguf_n_tensors(v->gguf); i++) {
        const bm_gguf_tensor *t = bm_gguf_tensor_at(v->gguf, i);
        uint32_t id = (uint32_t)t->type < BM_QTYPE_END ? (uint32_t)t->type : BM_QTYPE_END;
        v->types[id].n++;
        v->types[id].n_values += count_values(t);
        v->types[id].bytes += t->len_bytes;
        v->n_values += count_values(t);
        v->data_bytes += t->len_bytes;
    }
    return 0;
}

/* ---- JSON ---- */

/* JSON has no bytes and no NaN: invalid UTF-8 becomes U+FFFD, what is not finite null. */
static json_t *json_text(const char *s, size_t len)
{
    bm_buf clean = { 0 };
    json_t *out;

    bm_utf8_sanitize(&clean, s, len);
    out = clean.failed ? NULL : json_stringn(clean.len ? clean.data : "", clean.len);
    bm_buf_done(&clean);
    return out;
}

static json_t *json_number_of(const bm_gguf_kv *kv, uint64_t i)
{
    char digits[32];
    int64_t whole;
    double real;

    if (bm_gguf_elem_i64(kv, i, &whole))
        return json_integer(whole);
    if (!bm_gguf_elem_f64(kv, i, &real))
        return kv->value[i] ? json_true() : json_false();
    if (!isfinite(real))
        return json_null();
    if (kv->elem_type == BM_GGUF_F32) {                  /* the short form of the float, not of the double that it is */
        bm_float_write(digits, (float)real);
        real = strtod(digits, NULL);
    }
    return json_real(real);
}

static json_t *json_elem(const bm_gguf_kv *kv, uint64_t i)
{
    bm_str s;

    return bm_gguf_elem_str(kv, i, &s) ? json_text(s.data, s.len) : json_number_of(kv, i);
}

static json_t *json_value(const bm_gguf_kv *kv, bool whole)
{
    uint64_t n = whole || kv->n < SHOWN_ELEMENTS ? kv->n : SHOWN_ELEMENTS;
    json_t *list;

    if (kv->type != BM_GGUF_ARRAY)
        return json_pack("{s:s, s:o}", "type", bm_gguf_type_name(kv->type), "value", json_elem(kv, 0));
    if ((list = json_array()) == NULL)
        return NULL;
    for (uint64_t i = 0; i < n; i++)
        json_array_append_new(list, json_elem(kv, i));
    return json_pack("{s:s, s:s, s:I, s:b, s:o}", "type", "array", "elem_type", bm_gguf_type_name(kv->elem_type),
                     "n", (json_int_t)kv->n, "abbreviated", n < kv->n, "value", list);
}

static json_t *json_tensor(const bm_gguf_tensor *t)
{
    json_t *shape = json_array();

    for (int i = 0; i < t->n_dims; i++)
        json_array_append_new(shape, json_integer((json_int_t)t->dims[i]));
    return json_pack("{s:s, s:s, s:o, s:o}", "name", t->name, "type", type_name((uint32_t)t->type).s, "shape", shape,
                     "bytes", t->len_bytes != 0 ? json_integer((json_int_t)t->len_bytes) : json_null());
}

static json_t *json_types(const view *v)
{
    json_t *list = json_array();

    for (uint32_t id = 0; id <= BM_QTYPE_END; id++)
        if (v->types[id].n != 0)
            json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I, s:b}", "type", id < BM_QTYPE_END ? bm_qtype_name(id) : "unknown",
                                                  "tensors", (json_int_t)v->types[id].n, "values", (json_int_t)v->types[id].n_values,
                                                  "bytes", (json_int_t)v->types[id].bytes, "loads", bm_qtype_traits(id) != NULL));
    return list;
}

static json_t *json_file(const view *v)
{
    json_t *metadata = json_object(), *tensors = json_array();
    const char *path = bm_gguf_path(v->gguf);

    for (size_t i = 0; i < bm_gguf_n_kvs(v->gguf); i++) {
        const bm_gguf_kv *kv = bm_gguf_kv_at(v->gguf, i);
        json_object_set_new(metadata, kv->key, json_value(kv, false));
    }
    for (size_t i = 0; i < bm_gguf_n_tensors(v->gguf); i++)
        json_array_append_new(tensors, json_tensor(bm_gguf_tensor_at(v->gguf, i)));
    return json_pack("{s:o, s:I, s:I, s:o, s:o, s:I, s:I, s:o, s:o}", "file", json_text(path, strlen(path)),
                     "version", (json_int_t)bm_gguf_version(v->gguf), "bytes", (json_int_t)bm_gguf_file_bytes(v->gguf),
                     "sha256", v->sha256[0] ? json_string(v->sha256) : json_null(), "metadata", metadata,
                     "values", (json_int_t)v->n_values, "data_bytes", (json_int_t)v->data_bytes,
                     "types", json_types(v), "tensors", tensors);
}

/* ---- text ---- */

static void print_metadata(const view *v)
{
    size_t width = 0, n;
    char value[VALUE_ROOM];

    for (size_t i = 0; i < bm_gguf_n_kvs(v->gguf); i++)
        if ((n = strlen(bm_gguf_kv_at(v->gguf, i)->key)) > width && n <= 48)
            width = n;
    printf("\nmetadata: %zu keys\n", bm_gguf_n_kvs(v->gguf));
    for (size_t i = 0; i < bm_gguf_n_kvs(v->gguf); i++) {
        const bm_gguf_kv *kv = bm_gguf_kv_at(v->gguf, i);
        bm_gguf_describe(kv, value, sizeof value);
        fputs("  ", stdout);
        cli_print_safe(kv->key);
        n = strlen(kv->key);
        printf("%*s  %-6s  %s\n", (int)(n < width ? width - n : 0), "", bm_gguf_type_name(kv->type), value);
    }
}

static void print_types(const view *v)
{
    char size[24];

    printf("\ntensors: %zu with ", bm_gguf_n_tensors(v->gguf));
    if (v->n_values < 1000000)
        printf("%" PRIu64 " values\n", v->n_values);
    else
        printf("%.1f million values\n", (double)v->n_values / 1e6);
    for (uint32_t id = 0; id <= BM_QTYPE_END; id++) {
        if (v->types[id].n == 0)
            continue;
        cli_size_text(size, v->types[id].bytes);
        printf("  %-7s %5zu tensors", id < BM_QTYPE_END ? bm_qtype_name(id) : "unknown", v->types[id].n);
        if (v->types[id].bytes != 0)
            printf("  %10s  %5.1f %%  %6.3f bits a value", size, 100.0 * (double)v->types[id].bytes / (double)v->data_bytes,
                   8.0 * (double)v->types[id].bytes / (double)v->types[id].n_values);
        puts(bm_qtype_traits(id) != NULL ? "" : "  not carried out: a model with these does not load");
    }
}

static void print_tensors(const view *v)
{
    char shape[96];

    putchar('\n');
    for (size_t i = 0; i < bm_gguf_n_tensors(v->gguf); i++) {
        const bm_gguf_tensor *t = bm_gguf_tensor_at(v->gguf, i);
        int n = 0;
        for (int d = 0; d < t->n_dims; d++)
            n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%" PRIu64, d ? " x " : "", t->dims[d]);
        printf("  %-7s %-20s ", type_name((uint32_t)t->type).s, shape);
        if (t->len_bytes != 0)
            printf("%12zu  ", t->len_bytes);
        else
            printf("%12s  ", "?");
        cli_print_safe(t->name);
        putchar('\n');
    }
}

static int print_file(const view *v, bool tensors)
{
    char size[24];

    cli_size_text(size, bm_gguf_file_bytes(v->gguf));
    fputs("file:   ", stdout);
    cli_print_safe(bm_gguf_path(v->gguf));
    printf("\nformat: GGUF version %" PRIu32 ", %s (%" PRIu64 " bytes)\n", bm_gguf_version(v->gguf), size, bm_gguf_file_bytes(v->gguf));
    if (v->sha256[0] != '\0')
        printf("sha256: %s\n", v->sha256);
    print_metadata(v);
    print_types(v);
    if (tensors)
        print_tensors(v);
    return 0;
}

/* One value, whole: a string as it is (for a pipe), an array one element a line. */
static int print_value(const bm_gguf_kv *kv)
{
    char value[VALUE_ROOM];
    bm_gguf_kv one = *kv;
    bm_buf clean = { 0 };
    bm_str s;
    bool failed = false;

    if (kv->type != BM_GGUF_ARRAY && bm_gguf_elem_str(kv, 0, &s)) {
        bm_utf8_sanitize(&clean, s.data, s.len);
        failed = clean.failed;
        if (!failed && clean.len != 0)
            fwrite(clean.data, 1, clean.len, stdout);
        putchar('\n');
        bm_buf_done(&clean);
        return failed;
    }
    one.type = kv->elem_type;
    for (uint64_t i = 0; i < kv->n; i++) {
        if (bm_gguf_elem_str(kv, i, &s)) {
            bm_buf_clear(&clean);
            bm_utf8_sanitize(&clean, s.data, s.len);
            bm_buf_putc(&clean, '\0');
            if (!(failed = clean.failed))
                cli_print_safe(clean.data);
            puts("");
            continue;
        }
        bm_gguf_describe(&one, value, sizeof value);
        puts(value);
        one.value += bm_gguf_type_bytes(kv->elem_type);
    }
    bm_buf_done(&clean);
    return failed;
}

static int show_key(const view *v, const char *key, bool json, bm_error *err)
{
    const bm_gguf_kv *kv = bm_gguf_find(v->gguf, key);

    if (kv == NULL) {
        bm_fail(err, BM_NOTFOUND, "%s: no metadata key '%.100s'", bm_gguf_path(v->gguf), key);
        bm_hint(err, "baimo inspect FILE lists the keys");
        return cli_fail(err);
    }
    return json ? cli_print_json(json_value(kv, true)) : print_value(kv);
}

int cmd_inspect(int argc, char **argv)
{
    bool tensors = false, json = false, with_hash = false;
    const char *key = NULL;
    const cli_option options[] = {
        { "tensors", NULL, CLI_FLAG, &tensors, 0, 0, NULL, "list every tensor too" },
        { "key", NULL, CLI_STR, &key, 0, 0, "NAME", "one metadata value, whole" },
        { "sha256", NULL, CLI_FLAG, &with_hash, 0, 0, NULL, "hash the file (reads all of it)" },
        { "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "one JSON object, always with the tensors; long arrays are\nabbreviated unless --key asks for one" },
        { 0 },
    };
    const cli_command command = { "inspect", "FILE [options]", "Metadata and tensors of a GGUF file.",
                                  "baimo inspect model.gguf --tensors\nbaimo inspect model.gguf --key tokenizer.chat_template", options };
    view v = { 0 };
    bm_error err = { 0 };
    int n, rc;

    if ((rc = cli_parse(&command, argc, argv, &n)) != 0)
        return rc - 1;
    if (n != 1)
        return cli_usage_error("inspect", "expected one FILE, found %d", n);
    if (view_open(&v, argv[0], with_hash, &err) < 0)
        rc = cli_fail(&err);
    else if (key != NULL)
        rc = show_key(&v, key, json, &err);
    else
        rc = json ? cli_print_json(json_file(&v)) : print_file(&v, tensors);
    bm_gguf_close(v.gguf);
    return rc;
}
