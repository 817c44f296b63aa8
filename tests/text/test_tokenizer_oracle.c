/* The vectors that tests/oracle/tokenizers/ wrote from HF tokenizers, sentencepiece and llama.cpp, against what is here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/pretok.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

#define VECTORS "tests/oracle/tokenizers/vectors/"

/* Bytes of a hex string ("-" is none) at its own place; returns how many. */
static size_t unhex(char *s)
{
    size_t n = 0;

    for (char *p = s; p[0] != 0 && p[0] != '-'; p += 2) {
        char two[3] = { p[0], p[1], 0 };
        s[n++] = (char)strtol(two, NULL, 16);
    }
    return n;
}

static char *read_vectors(const char *path)
{
    char *text;
    size_t len;
    bm_error err = { 0 };

    if (bm_read_file(&text, &len, path, 4 << 20, &err) < 0)
        fail_msg("%s", err.msg);
    return text;
}

static bm_tokenizer *open_model(const char *path)
{
    bm_tokenizer *tok = NULL;
    bm_gguf *gguf;
    bm_error err = { 0 };

    if (bm_gguf_open(&gguf, path, &err) < 0 || bm_tokenizer_from_gguf(&tok, gguf, &err) < 0)
        fail_msg("%s: %s", path, err.msg);
    bm_gguf_close(gguf);
    return tok;
}

static void check_line(const bm_tokenizer *tok, const char *text, size_t len, const char *ids)
{
    bm_tokens got = { 0 };
    size_t n = 0;
    bm_buf clean = { 0 }, back = { 0 };
    bool unknown = false;

    assert_int_equal(bm_tokenizer_encode(tok, text, len, NULL, &got, NULL), 0);
    for (const char *p = ids; *p != 0 && *p != '-'; n++) {
        char *end;
        long id = strtol(p, &end, 10);
        assert_in_range(n, 0, got.n);
        assert_int_equal(got.ids[n], id);
        unknown = unknown || (id == 0 && strncmp(bm_tokenizer_kind(tok), "spm", 3) == 0);
        p = *end == ',' ? end + 1 : end;
    }
    assert_int_equal(got.n, n);
    bm_utf8_sanitize(&clean, text, len);
    assert_int_equal(bm_tokenizer_decode(tok, got.ids, got.n, false, &back, NULL), 0);
    if (!unknown && strstr(len == 0 ? "" : clean.data, "\xE2\x96\x81") == NULL) {
        assert_int_equal(back.len, clean.len);
        if (back.len > 0)
            assert_memory_equal(back.data, clean.data, back.len);
    }
    bm_buf_done(&clean);
    bm_buf_done(&back);
    bm_tokens_done(&got);
}

static void check_model(const char *model, const char *path)
{
    bm_tokenizer *tok = open_model(model);
    char *text = read_vectors(path), *save = NULL;
    int lines = 0;

    for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save), lines++) {
        char *ids = strchr(line, ' ');
        assert_non_null(ids);
        *ids++ = 0;
        check_line(tok, line, unhex(line), ids);
    }
    assert_in_range(lines, 100, 1000);
    bm_free(text);
    bm_tokenizer_free(tok);
}

static void check_named(const char *name, const char *vectors)
{
    const char *dir = getenv("BAIMO_MODELS"), *home = getenv("HOME");
    char path[1024];

    if (dir != NULL)
        snprintf(path, sizeof path, "%s/%s", dir, name);
    else
        snprintf(path, sizeof path, "%s/.cache/baimo-models/%s", home == NULL ? "" : home, name);
    if (access(path, R_OK) != 0)
        skip();
    check_model(path, vectors);
}

static void smollm2_equals_llama_tokenize(void **state)
{
    (void)state;
    check_named("smollm2.gguf", VECTORS "smollm2.txt");
}

static void qwen_equals_llama_tokenize(void **state)
{
    (void)state;
    check_named("qwen2.5-coder.gguf", VECTORS "qwen2.5-coder.txt");
}

static void sentencepiece_with_byte_fallback_equals_the_library(void **state)
{
    (void)state;
    check_model(VECTORS "spm_bytes.gguf", VECTORS "spm_bytes.txt");
}

static void sentencepiece_with_unknowns_equals_the_library(void **state)
{
    (void)state;
    check_model(VECTORS "spm_unknown.gguf", VECTORS "spm_unknown.txt");
}

static void sentencepiece_bos_prefix_and_control_tokens(void **state)
{
    bm_tokenizer *tok = open_model(VECTORS "spm_bytes.gguf");
    bm_encode_options o = { .add_special = true, .parse_special = true };
    bm_tokens got = { 0 };
    bm_buf text = { 0 };

    (void)state;
    assert_string_equal(bm_tokenizer_kind(tok), "spm/llama");
    assert_int_equal(bm_tokenizer_encode(tok, "All<|im_end|>All", 16, &o, &got, NULL), 0);
    assert_int_equal(got.ids[0], bm_tokenizer_bos(tok));
    assert_int_equal(bm_tokenizer_decode(tok, got.ids, got.n, true, &text, NULL), 0);
    assert_string_equal(text.data, "<s>All<|im_end|> All");      /* a space goes in front of text behind a special token */
    bm_buf_clear(&text);
    assert_int_equal(bm_tokenizer_decode(tok, got.ids, got.n, false, &text, NULL), 0);
    assert_string_equal(text.data, "All All");
    bm_buf_done(&text);
    bm_tokens_done(&got);
    bm_tokenizer_free(tok);
}

typedef struct cuts { size_t at[512], n, pos; } cuts;

static int note(void *arg, const char *word, size_t len)
{
    cuts *c = arg;

    (void)word;
    c->at[c->n++] = c->pos += len;
    return 0;
}

static void pre_tokenisers_equal_their_published_expressions(void **state)
{
    char *text = read_vectors(VECTORS "pretok.txt"), *save = NULL, *bytes = NULL;
    size_t len = 0;
    int checked = 0;

    (void)state;
    for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        char *p = strchr(line, ' ');
        cuts c = { .n = 0 };
        size_t n = 0;
        assert_non_null(p);
        if (line[0] == '=') {
            bytes = p + 1;
            len = unhex(bytes);
            continue;
        }
        *p++ = 0;
        assert_non_null(bm_pretok_find(line, strlen(line)));
        assert_int_equal(bm_pretok_split(bm_pretok_find(line, strlen(line)), bytes, len, note, &c), 0);
        while (*p != 0) {
            assert_int_equal(c.at[n++], strtol(p, &p, 10));
            p += *p == ',';
        }
        assert_int_equal(c.n, n);
        checked++;
    }
    assert_in_range(checked, 400, 10000);
    bm_free(text);
}

static int stop(void *arg, const char *word, size_t len)
{
    (void)word, (void)len;
    return ++*(int *)arg == 2 ? 77 : 0;
}

static void names_are_found_and_the_walk_can_end_early(void **state)
{
    int seen = 0;

    (void)state;
    assert_int_equal(bm_pretok_split(bm_pretok_find("smollm", 6), "a b c", 5, stop, &seen), 77);
    assert_int_equal(seen, 2);
    assert_null(bm_pretok_find("gpt-3", 5));
    assert_null(bm_pretok_find("", 0));
    for (size_t i = 0; bm_pretok_at(i) != NULL; i++)
        assert_ptr_equal(bm_pretok_find(bm_pretok_at(i)->name, strlen(bm_pretok_at(i)->name)), bm_pretok_at(i));
}

static void the_table_is_of_unicode_16(void **state)
{
    int letters = 0, numbers = 0, spaces = 0, digits = 0, marks = 0, han = 0;

    (void)state;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        unsigned c = bm_unicode_class(cp);
        letters += (c & BM_U_LETTER) != 0, numbers += (c & BM_U_NUM) != 0, spaces += (c & BM_U_SPACE) != 0;
        digits += (c & BM_U_DIGIT) != 0, marks += (c & BM_U_MARK) != 0, han += (c & BM_U_HAN) != 0;
    }
    assert_int_equal(letters, 141028);
    assert_int_equal(numbers, 1911);
    assert_int_equal(spaces, 25);
    assert_int_equal(digits, 760);
    assert_int_equal(marks, 2501);
    assert_int_equal(han, 99030);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_of_unicode_16),
        cmocka_unit_test(pre_tokenisers_equal_their_published_expressions),
        cmocka_unit_test(names_are_found_and_the_walk_can_end_early),
        cmocka_unit_test(sentencepiece_with_byte_fallback_equals_the_library),
        cmocka_unit_test(sentencepiece_with_unknowns_equals_the_library),
        cmocka_unit_test(sentencepiece_bos_prefix_and_control_tokens),
        cmocka_unit_test(smollm2_equals_llama_tokenize),
        cmocka_unit_test(qwen_equals_llama_tokenize),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
