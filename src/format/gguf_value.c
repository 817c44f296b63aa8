/* gguf_value.c - reads the values that gguf.c has checked: typed access, and text for people. Cannot fail but by absence. */
#include "format/gguf.h"
#include "base/number.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Element i of a value without strings, as an integer of up to 64 bits and a sign, or as a double. */
typedef struct number {
    enum { NOT_A_NUMBER, SIGNED, UNSIGNED, REAL } kind;
    int64_t i;
    uint64_t u;
    double d;
} number;

/* `value` is not aligned: everything goes through memcpy. The host is little-endian, as the file. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the mapped bytes are read as they stand");

#define LOAD(type, name) type name; memcpy(&name, kv->value + i * sizeof name, sizeof name)

static number load(const bm_gguf_kv *kv, uint64_t i)
{
    switch (kv->elem_type) {
    case BM_GGUF_U8:   return (number){ UNSIGNED, .u = kv->value[i] };
    case BM_GGUF_I8:   return (number){ SIGNED, .i = (int8_t)kv->value[i] };
    case BM_GGUF_U16:  { LOAD(uint16_t, v); return (number){ UNSIGNED, .u = v }; }
    case BM_GGUF_I16:  { LOAD(int16_t, v); return (number){ SIGNED, .i = v }; }
    case BM_GGUF_U32:  { LOAD(uint32_t, v); return (number){ UNSIGNED, .u = v }; }
    case BM_GGUF_I32:  { LOAD(int32_t, v); return (number){ SIGNED, .i = v }; }
    case BM_GGUF_U64:  { LOAD(uint64_t, v); return (number){ UNSIGNED, .u = v }; }
    case BM_GGUF_I64:  { LOAD(int64_t, v); return (number){ SIGNED, .i = v }; }
    case BM_GGUF_F32:  { LOAD(float, v); return (number){ REAL, .d = (double)v }; }
    case BM_GGUF_F64:  { LOAD(double, v); return (number){ REAL, .d = v }; }
    case BM_GGUF_BOOL: case BM_GGUF_STRING: case BM_GGUF_ARRAY: break;
    }
    return (number){ NOT_A_NUMBER, .u = 0 };
}

bool bm_gguf_elem_i64(const bm_gguf_kv *kv, uint64_t i, int64_t *out)
{
    if (i >= kv->n)
        return false;
    number v = load(kv, i);
    if (v.kind == SIGNED)
        *out = v.i;
    else if (v.kind == UNSIGNED && v.u <= INT64_MAX)
        *out = (int64_t)v.u;
    else
        return false;
    return true;
}

bool bm_gguf_elem_f64(const bm_gguf_kv *kv, uint64_t i, double *out)
{
    if (i >= kv->n)
        return false;
    number v = load(kv, i);
    if (v.kind == NOT_A_NUMBER)
        return false;
    *out = v.kind == REAL ? v.d : v.kind == SIGNED ? (double)v.i : (double)v.u;
    return true;
}

bool bm_gguf_elem_bool(const bm_gguf_kv *kv, uint64_t i, bool *out)
{
    if (kv->elem_type != BM_GGUF_BOOL || i >= kv->n)
        return false;
    *out = kv->value[i] != 0;
    return true;
}

bool bm_gguf_elem_str(const bm_gguf_kv *kv, uint64_t i, bm_str *out)
{
    const uint32_t *offsets = kv->strings;

    if (kv->elem_type != BM_GGUF_STRING || i >= kv->n)
        return false;
    *out = (bm_str){ (const char *)kv->value + offsets[i] + 8, offsets[i + 1] - offsets[i] - 8 };
    return true;
}

static const bm_gguf_kv *find_scalar(const bm_gguf *gguf, const char *key)
{
    const bm_gguf_kv *kv = bm_gguf_find(gguf, key);

    return kv != NULL && kv->type != BM_GGUF_ARRAY ? kv : NULL;
}

bool bm_gguf_get_i64(const bm_gguf *gguf, const char *key, int64_t *out)
{
    const bm_gguf_kv *kv = find_scalar(gguf, key);

    return kv != NULL && bm_gguf_elem_i64(kv, 0, out);
}

bool bm_gguf_get_u32(const bm_gguf *gguf, const char *key, uint32_t *out)
{
    int64_t v;

    if (!bm_gguf_get_i64(gguf, key, &v) || v < 0 || v > UINT32_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

bool bm_gguf_get_f32(const bm_gguf *gguf, const char *key, float *out)
{
    const bm_gguf_kv *kv = find_scalar(gguf, key);

    if (kv == NULL || (kv->type != BM_GGUF_F32 && kv->type != BM_GGUF_F64))
        return false;
    *out = (float)load(kv, 0).d;
    return true;
}

bool bm_gguf_get_bool(const bm_gguf *gguf, const char *key, bool *out)
{
    const bm_gguf_kv *kv = find_scalar(gguf, key);

    if (kv == NULL || kv->type != BM_GGUF_BOOL)
        return false;
    *out = kv->value[0] != 0;
    return true;
}

bool bm_gguf_get_str(const bm_gguf *gguf, const char *key, bm_str *out)
{
    const bm_gguf_kv *kv = find_scalar(gguf, key);

    return kv != NULL && bm_gguf_elem_str(kv, 0, out);
}

/* Text in a caller's fixed room. */
typedef struct text {
    char *out;
    size_t room, len;       /* len < room */
    bool full;
} text;

static void put(text *t, const char *s, size_t len)
{
    if (t->full || len >= t->room - t->len) {
        t->full = true;
        return;
    }
    memcpy(t->out + t->len, s, len);
    t->len += len;
    t->out[t->len] = '\0';
}

/* One character as a terminal may see it: control characters as \n, \t or \xNN, invalid UTF-8 as U+FFFD. Fills out and
 * *n_out with what to show and returns the bytes taken from s. */
static size_t escape_char(char out[8], size_t *n_out, const char *s, size_t len)
{
    uint32_t cp;
    int n = bm_utf8_decode(s, len, &cp), width;

    if (n < 0)
        width = snprintf(out, 8, "\xEF\xBF\xBD");
    else if (cp == '\n' || cp == '\t' || cp == '\r')
        width = snprintf(out, 8, "\\%c", cp == '\n' ? 'n' : cp == '\t' ? 't' : 'r');
    else if (cp < 0x20 || (cp >= 0x7F && cp < 0xA0))
        width = snprintf(out, 8, "\\x%02x", (unsigned)cp);
    else
        memcpy(out, s, (size_t)(width = n));
    *n_out = (size_t)width;
    return (size_t)abs(n);
}

/* A string in at most max_bytes; what does not fit is cut at a character, and the whole length noted. */
static void put_string(text *t, bm_str s, size_t max_bytes, bool quoted)
{
    enum { NOTE = 32 };
    char piece[8], note[NOTE];
    size_t width = 0, cut = 0, n;

    if (max_bytes > t->room - t->len - 1)
        max_bytes = t->room - t->len - 1;
    for (size_t i = 0; i < s.len && width <= max_bytes;) {     /* cut: the bytes of s that leave room for the note */
        if (width + NOTE <= max_bytes)
            cut = i;
        i += escape_char(piece, &n, s.data + i, s.len - i);
        width += n;
    }
    bool whole = width + (quoted ? 2 : 0) <= max_bytes;
    if (quoted)
        put(t, "\"", 1);
    for (size_t i = 0; i < (whole ? s.len : cut);) {
        i += escape_char(piece, &n, s.data + i, s.len - i);
        put(t, piece, n);
    }
    if (quoted)
        put(t, "\"", 1);
    if (!whole)
        put(t, note, (size_t)snprintf(note, sizeof note, "... (%zu bytes)", s.len));
}

static void put_elem(text *t, const bm_gguf_kv *kv, uint64_t i, size_t max_bytes, bool quoted)
{
    char digits[32];
    bm_str s;
    int n;

    if (bm_gguf_elem_str(kv, i, &s)) {
        put_string(t, s, max_bytes, quoted);
        return;
    }
    number v = load(kv, i);
    if (v.kind == NOT_A_NUMBER)
        n = snprintf(digits, sizeof digits, "%s", kv->value[i] ? "true" : "false");
    else if (v.kind == SIGNED)
        n = snprintf(digits, sizeof digits, "%" PRId64, v.i);
    else if (v.kind == UNSIGNED)
        n = snprintf(digits, sizeof digits, "%" PRIu64, v.u);
    else
        n = kv->elem_type == BM_GGUF_F32 ? bm_float_write(digits, (float)v.d) : bm_number_write(digits, v.d);
    put(t, digits, (size_t)n);
}

const char *bm_gguf_type_name(bm_gguf_type type)
{
    static const char *const names[] = { "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64" };

    return (unsigned)type < sizeof names / sizeof names[0] ? names[type] : "?";
}

size_t bm_gguf_type_bytes(bm_gguf_type type)
{
    static const unsigned char sizes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

    return (unsigned)type < sizeof sizes ? sizes[type] : 0;
}

void bm_gguf_describe(const bm_gguf_kv *kv, char *out, size_t room)
{
    enum { SHOWN = 8, SHOWN_BYTES = 64 };
    text t = { .out = out, .room = room };
    char head[64];

    if (room == 0)
        return;
    out[0] = '\0';
    if (kv->type != BM_GGUF_ARRAY) {
        put_elem(&t, kv, 0, room, false);
        return;
    }
    put(&t, head, (size_t)snprintf(head, sizeof head, "[%" PRIu64 "] %s:", kv->n, bm_gguf_type_name(kv->elem_type)));
    for (uint64_t i = 0; i < kv->n && i < SHOWN; i++) {
        put(&t, i == 0 ? " " : ", ", i == 0 ? 1 : 2);
        put_elem(&t, kv, i, SHOWN_BYTES, true);
    }
    if (kv->n > SHOWN)
        put(&t, ", ...", 5);
}
