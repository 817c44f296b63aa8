/* data_kit.h - a small vocabulary and a file in /tmp for tests of data; rows as text with what carries the loss between [[ and ]]. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/mem.h"
#include "text/template.h"
#include "text/tiny_vocab.h"
#include "text/vocab.h"
#include "train/rows.h"

/* Bytes, "ĊĊ" (two line feeds), and ChatML's tokens; EOS is <|im_end|>. */
static inline bm_tokenizer *data_tokenizer(void)
{
    tiny *t = tiny_new("gpt-2");
    bm_tokenizer *tok = NULL;
    bm_error err = { 0 };

    tiny_merge(t, "\xC4\x8A", "\xC4\x8A");
    t->spec.ids.bos = tiny_token(t, "<|im_start|>", 3);
    t->spec.ids.eos = tiny_token(t, "<|im_end|>", 3);
    t->spec.add_bos = 0;
    if (bm_tokenizer_from_spec(&tok, &t->spec, &err) < 0)
        fprintf(stderr, "%s\n", err.msg);
    tiny_free(t);
    return tok;
}

static const char data_chatml[] =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/* With tools, as Qwen 2.5 writes them. */
static const char data_tools[] =
    "{%- if tools %}{{- '<|im_start|>system\\n' }}{% for tool in tools %}{{- tool | tojson }}{% endfor %}{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'assistant' and message.tool_calls %}{{- '<|im_start|>' + message.role }}"
    "{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}"
    "{%- for call in message.tool_calls %}{%- set call = call.function %}"
    "{{- '\\n<tool_call>\\n{\"name\": \"' }}{{- call.name }}{{- '\", \"arguments\": ' }}{{- call.arguments | tojson }}"
    "{{- '}\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}"
    "{%- elif message.role == 'tool' %}{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

static inline bm_template *data_template(const char *source)
{
    bm_template *tmpl = NULL;
    bm_error err = { 0 };

    if (source != NULL && bm_template_compile(&tmpl, source, strlen(source), &err) < 0)
        fprintf(stderr, "%s\n", err.msg);
    return tmpl;
}

/* A file with these bytes; its name ends with `ending` and stays valid until the next call. */
static inline const char *data_file(const char *ending, const char *bytes, size_t len)
{
    static char path[96];
    int fd;

    if (path[0] != '\0')
        unlink(path);
    snprintf(path, sizeof path, "/tmp/bm-data-XXXXXX%s", ending);
    fd = mkstemps(path, (int)strlen(ending));
    FILE *f = fdopen(fd, "wb");
    fwrite(bytes, 1, len, f);
    fclose(f);
    return path;
}

static inline void data_marked(const bm_tokenizer *tok, const int32_t *tokens, const uint8_t *target, int32_t n, bm_buf *out)
{
    for (int32_t t = 0; t < n; t++) {
        if (target[t] && (t == 0 || !target[t - 1]))
            bm_buf_puts(out, "[[");
        bm_tokenizer_piece(tok, tokens[t], true, t == 0, out);
        if (target[t] && (t + 1 == n || !target[t + 1]))
            bm_buf_puts(out, "]]");
    }
}

/* All rows: each marked, chosen and rejected parted by "|", ended by ";"; then the bad ones as "LINE: reason;". */
static inline char *data_text(const bm_tokenizer *tok, const bm_data *d)
{
    bm_buf out = { 0 };

    for (size_t i = 0; i < d->n_rows; i++) {
        data_marked(tok, d->rows[i].tokens, d->rows[i].target, d->rows[i].n_tokens, &out);
        if (d->rows[i].other != NULL) {
            bm_buf_putc(&out, '|');
            data_marked(tok, d->rows[i].other, d->rows[i].other_target, d->rows[i].n_other, &out);
        }
        bm_buf_putc(&out, ';');
    }
    for (size_t i = 0; i < d->n_bad && i < BM_DATA_MAX_BAD; i++)
        bm_buf_printf(&out, "%llu: %s;", (unsigned long long)d->bad[i].line, d->bad[i].reason);
    return bm_buf_take(&out);
}
