/* tokenize.c - `baimo tokenize MODEL [TEXT]`: what the model's tokenizer makes of a text. */
#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "format/gguf.h"
#include "platform/shelf.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>

enum { MOST_TEXT = 1 << 30 };

typedef struct settings { bool ids, as_json, no_special, parse_special, count; const char *file; } settings;

static int open_tokenizer(bm_tokenizer **tok, const char *model, bm_error *err)
{
    bm_shelf_model row;
    bm_store *store = NULL;
    bm_gguf *gguf = NULL;
    int rc;

    *tok = NULL;
    if ((rc = cli_open_store(&store, err)) == 0 && (rc = bm_shelf_resolve(store, model, &row, err)) == 0 &&
        (rc = bm_gguf_open(&gguf, row.path, err)) == 0)
        rc = bm_tokenizer_from_gguf(tok, gguf, err);
    if (gguf != NULL && rc < 0 && strstr(err->msg, row.path) == NULL)
        bm_wrap(err, "%s", row.path);
    bm_gguf_close(gguf);
    bm_store_close(store);
    return rc;
}

/* A token's bytes as JSON text; half a letter becomes U+FFFD. */
static json_t *piece_json(const bm_tokenizer *tok, int32_t id, bool first)
{
    bm_buf piece = { 0 }, clean = { 0 };

    bm_tokenizer_piece(tok, id, true, first, &piece);
    bm_utf8_sanitize(&clean, piece.data ? piece.data : "", piece.len);
    json_t *json = clean.failed ? NULL : json_stringn(clean.data ? clean.data : "", clean.len);
    bm_buf_done(&piece);
    bm_buf_done(&clean);
    return json;
}

static int print_json(const bm_tokenizer *tok, const bm_tokens *tokens)
{
    json_t *ids = json_array(), *pieces = json_array();

    for (size_t i = 0; i < tokens->n; i++) {
        json_array_append_new(ids, json_integer(tokens->ids[i]));
        json_array_append_new(pieces, piece_json(tok, tokens->ids[i], i == 0));
    }
    return cli_print_json(json_pack("{s:I, s:o, s:o}", "count", (json_int_t)tokens->n, "ids", ids, "pieces", pieces));
}

/* Bytes as they are where they are letters; the rest visible, so that half a letter and a line feed can be told. */
static void print_piece(const bm_tokenizer *tok, int32_t id, bool first, bm_buf *piece)
{
    bm_buf_clear(piece);
    bm_tokenizer_piece(tok, id, true, first, piece);
    putchar('\'');
    for (size_t i = 0; i < piece->len;) {
        size_t n = strnlen(piece->data + i, piece->len - i);
        if (n == 0) {
            fputs("\\x00", stdout);
            i++;
            continue;
        }
        cli_print_safe(piece->data + i);
        i += n;
    }
    putchar('\'');
}

static int print_tokens(const bm_tokenizer *tok, const bm_tokens *tokens, const settings *s)
{
    bm_buf piece = { 0 };

    if (s->as_json)
        return print_json(tok, tokens);
    if (s->count) {
        printf("%zu\n", tokens->n);
        return 0;
    }
    if (s->ids) {
        for (size_t i = 0; i < tokens->n; i++)
            printf("%s%d", i > 0 ? " " : "", tokens->ids[i]);
        putchar('\n');
        return 0;
    }
    for (size_t i = 0; i < tokens->n; i++) {
        printf("%8d  ", tokens->ids[i]);
        print_piece(tok, tokens->ids[i], i == 0, &piece);
        putchar('\n');
    }
    bm_buf_done(&piece);
    return 0;
}

static int tokenize(const char *model, const char *text, const settings *s)
{
    const bm_encode_options options = { .add_special = !s->no_special, .parse_special = s->parse_special };
    bm_tokens tokens = { 0 };
    bm_tokenizer *tok = NULL;
    char *read = NULL;
    bm_error err;
    size_t len = text != NULL ? strlen(text) : 0;
    int rc;

    if ((rc = open_tokenizer(&tok, model, &err)) < 0)
        goto out;
    if (text == NULL) {
        if ((rc = bm_read_file(&read, &len, s->file != NULL ? s->file : "-", MOST_TEXT, &err)) < 0)
            goto out;
        text = read;
    }
    rc = bm_tokenizer_encode(tok, text, len, &options, &tokens, &err);
out:
    rc = rc < 0 ? cli_fail(&err) : print_tokens(tok, &tokens, s);
    bm_tokens_done(&tokens);
    bm_tokenizer_free(tok);
    bm_free(read);
    return rc;
}

int cmd_tokenize(int argc, char **argv)
{
    settings s = { .file = NULL };
    const cli_option options[] = { { "ids", NULL, CLI_FLAG, &s.ids, 0, 0, NULL, "the ids on one line, nothing else" },
                                   { "count", NULL, CLI_FLAG, &s.count, 0, 0, NULL, "how many there are, nothing else" },
                                   { "file", "-f", CLI_STR, &s.file, 0, 0, "FILE", "the text is in this file" },
                                   { "no-special", NULL, CLI_FLAG, &s.no_special, 0, 0, NULL,
                                     "add no tokens at the beginning and end" },
                                   { "parse-special", NULL, CLI_FLAG, &s.parse_special, 0, 0, NULL,
                                     "recognise control tokens such as <|im_end|> in the text" },
                                   { "json", NULL, CLI_FLAG, &s.as_json, 0, 0, NULL, "for programs: count, ids, pieces" },
                                   { .name = NULL } };
    const cli_command self = {
        "tokenize", "MODEL [TEXT]",
        "Text to token ids: an id and its piece on each line. MODEL is a name on the shelf or a GGUF file.\n"
        "Without TEXT it is read from the standard input.",
        "baimo tokenize smollm2 \"Hello world\"\nbaimo tokenize smollm2 --ids < book.txt", options
    };
    int n, rc;

    if ((rc = cli_parse(&self, argc, argv, &n)) != 0)
        return rc - 1;
    if (n < 1 || n > 2)
        return cli_usage_error(self.name, "expected MODEL and at most one TEXT, found %d arguments", n);
    if (n == 2 && s.file != NULL)
        return cli_usage_error(self.name, "TEXT and --file: give one of them");
    return tokenize(argv[0], n == 2 ? argv[1] : NULL, &s);
}
