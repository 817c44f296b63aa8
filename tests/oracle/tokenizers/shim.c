/* shim.c - what the oracle scripts call through ctypes. Built by them into a temporary shared library, never installed. */
#include "base/error.h"
#include "base/mem.h"
#include "text/pretok.h"
#include "text/tokenizer.h"

#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT const char *shim_pretok_name(size_t i);
EXPORT const char *shim_pretok_shape(size_t i);
EXPORT long shim_split(const char *name, const char *s, size_t len, uint64_t *ends);
EXPORT void *shim_open(const char *path, char *message);
EXPORT void shim_close(void *tok);
EXPORT long shim_encode(void *tok, const char *s, size_t len, int special, int parse, int32_t **ids);
EXPORT long shim_decode(void *tok, const int32_t *ids, size_t n, int special, char **text);
EXPORT void shim_free(void *p);

const char *shim_pretok_name(size_t i)
{
    const bm_pretok *row = bm_pretok_at(i);
    return row == NULL ? NULL : row->name;
}

const char *shim_pretok_shape(size_t i)
{
    return bm_pretok_shape_name(bm_pretok_at(i));
}

typedef struct ends { uint64_t *at, pos; long n; } ends;

static int note(void *arg, const char *word, size_t len)
{
    ends *e = arg;
    (void)word;
    e->at[e->n++] = e->pos += len;
    return 0;
}

long shim_split(const char *name, const char *s, size_t len, uint64_t *at)
{
    const bm_pretok *row = bm_pretok_find(name, strlen(name));
    ends e = { at, 0, 0 };
    return row != NULL && bm_pretok_split(row, s, len, note, &e) == 0 ? e.n : -1;
}

void *shim_open(const char *path, char *message)
{
    bm_gguf *gguf = NULL;
    bm_tokenizer *tok = NULL;
    bm_error err = { 0 };

    if (bm_gguf_open(&gguf, path, &err) < 0 || bm_tokenizer_from_gguf(&tok, gguf, &err) < 0)
        strcpy(message, err.msg);
    bm_gguf_close(gguf);
    return tok;
}

void shim_close(void *tok)
{
    bm_tokenizer_free(tok);
}

long shim_encode(void *tok, const char *s, size_t len, int special, int parse, int32_t **ids)
{
    bm_encode_options o = { .add_special = special, .parse_special = parse };
    bm_tokens out = { 0 };

    if (bm_tokenizer_encode(tok, s, len, &o, &out, NULL) < 0)
        return -1;
    *ids = out.ids;
    return (long)out.n;
}

long shim_decode(void *tok, const int32_t *ids, size_t n, int special, char **text)
{
    bm_buf out = { 0 };
    size_t len;

    if (bm_tokenizer_decode(tok, ids, n, special, &out, NULL) < 0)
        return -1;
    len = out.len;
    *text = bm_buf_take(&out);
    return (long)len;
}

void shim_free(void *p)
{
    bm_free(p);
}
