/* Vocabularies that are wrong: one line that names the field, what was found and what was expected; and no memory at any point. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "format/gguf_writer.h"
#include "text/tokenizer.h"
#include "tiny_vocab.h"

static void refused(const bm_vocab_spec *spec, int code, const char *field, const char *found)
{
    bm_tokenizer *tok = (bm_tokenizer *)1;
    bm_error err = { 0 };

    assert_int_equal(bm_tokenizer_from_spec(&tok, spec, &err), code);
    assert_null(tok);
    if (strstr(err.msg, field) == NULL || strstr(err.msg, found) == NULL || strchr(err.msg, '\n') != NULL)
        fail_msg("'%s' does not tell of '%s' and '%s'", err.msg, field, found);
}

static void unknown_kinds_are_named(void **state)
{
    tiny *t = tiny_new("gpt-5");
    bm_tokenizer *tok;
    bm_error err = { 0 };

    (void)state;
    tiny_merge(t, "a", "b");
    refused(&t->spec, BM_UNSUPPORTED, "tokenizer.ggml.pre", "'gpt-5'");
    assert_int_equal(bm_tokenizer_from_spec(&tok, &t->spec, &err), BM_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "llama-bpe"));
    assert_non_null(strstr(err.hint, "qwen2"));
    t->spec.pre = (bm_str){ "", 0 };
    refused(&t->spec, BM_FORMAT, "tokenizer.ggml.pre", "found none");
    t->spec.pre = (bm_str){ "a\n\xFF\0b", 5 };
    refused(&t->spec, BM_UNSUPPORTED, "tokenizer.ggml.pre", "a?");
    for (const char *const *m = (const char *const[]){ "t5", "bert", "rwkv", "plamo2", "none", "", NULL }; *m != NULL; m++) {
        t->spec.model = (bm_str){ *m, strlen(*m) };
        refused(&t->spec, BM_UNSUPPORTED, "tokenizer.ggml.model", *m);
    }
    tiny_free(t);
}

static void wrong_tokens_are_named(void **state)
{
    tiny *t = tiny_new("gpt-2");
    bm_tokenizer *tok;
    int empty;

    (void)state;
    tiny_merge(t, "a", "b");
    tiny_token(t, "ab", 1);
    refused(&t->spec, BM_FORMAT, "tokenizer.ggml.tokens[257]", "'ab' again");
    t->tokens[257] = (bm_str){ "<0x-1>", 6 };
    t->types[257] = 6;
    refused(&t->spec, BM_FORMAT, "tokenizer.ggml.tokens[257]", "'<0x-1>'");
    t->types[257] = 1 << 30;
    t->tokens[257] = (bm_str){ "\xFF\xFE", 2 };
    empty = tiny_token(t, "", 3);
    assert_int_equal(bm_tokenizer_from_spec(&tok, &t->spec, NULL), 0);
    assert_int_equal(bm_tokenizer_find(tok, "[EMPTY_258]", 11), empty);
    bm_tokenizer_free(tok);
    t->spec.n_tokens = 0;
    refused(&t->spec, BM_FORMAT, "tokenizer.ggml.tokens", "0 tokens");
    t->spec.n_tokens = (size_t)1 << 40;
    refused(&t->spec, BM_FORMAT, "tokenizer.ggml.tokens", "1099511627776");
    tiny_free(t);
}

static void wrong_merges_are_named(void **state)
{
    static const char *const bad[] = { "ab", "a", "", " ", "ab ", " b" };
    tiny *t = tiny_new("gpt-2");
    bm_tokenizer *tok;

    (void)state;
    refused(&t->spec, BM_FORMAT, "tokenizer.ggml.merges", "found none");
    tiny_merge(t, "a", "b");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        t->merges[1] = (bm_str){ bad[i], strlen(bad[i]) };
        t->spec.n_merges = 2;
        refused(&t->spec, BM_FORMAT, "tokenizer.ggml.merges[1]", bad[i]);
    }
    t->merges[1] = (bm_str){ "a b", 3 };         /* twice, unknown parts, no bytes: the first one counts, the others never match */
    t->merges[2] = (bm_str){ "\xFF \xFE", 3 };
    t->merges[3] = (bm_str){ "xyz abc", 7 };
    t->spec.n_merges = 4;
    assert_int_equal(bm_tokenizer_from_spec(&tok, &t->spec, NULL), 0);
    bm_tokenizer_free(tok);
    tiny_free(t);
}

static void wrong_ids_and_scores_are_named(void **state)
{
    tiny *t = tiny_new("gpt-2");
    bm_tokenizer *tok;

    (void)state;
    tiny_merge(t, "a", "b");
    t->spec.ids.eos = 257;
    refused(&t->spec, BM_FORMAT, "tokenizer.ggml.eos_token_id", "257");
    t->spec.ids.eos = -1, t->spec.ids.bos = UINT32_MAX;
    assert_int_equal(bm_tokenizer_from_spec(&tok, &t->spec, NULL), 0);
    assert_int_equal(bm_tokenizer_eos(tok), -1);
    assert_int_equal(bm_tokenizer_bos(tok), -1);
    bm_tokenizer_free(tok);
    t->spec.model = (bm_str){ "llama", 5 };
    refused(&t->spec, BM_FORMAT, "tokenizer.ggml.scores", "found none");
    t->spec.scores = t->scores;
    t->scores[3] = NAN;
    refused(&t->spec, BM_FORMAT, "tokenizer.ggml.scores[3]", "no number");
    t->scores[3] = -INFINITY, t->scores[4] = INFINITY;
    assert_int_equal(bm_tokenizer_from_spec(&tok, &t->spec, NULL), 0);
    bm_tokenizer_free(tok);
    tiny_free(t);
}

static void spans_and_ids_out_of_range_do_no_harm(void **state)
{
    tiny *t = tiny_new("gpt-2");
    bm_tokenizer *tok;
    const bm_span spans[] = { { 5, 2, -1 }, { 0, 1000000, -1 }, { 900, 1000, 3 } };
    bm_encode_options o = { .spans = spans, .n_spans = 3 };
    const int32_t ids[] = { -1, INT32_MIN, INT32_MAX, 256 };
    bm_tokens got = { 0 };
    bm_buf text = { 0 };
    bm_error err = { 0 };

    (void)state;
    tiny_merge(t, "a", "b");
    tiny_token(t, "<s>", 3);
    assert_int_equal(bm_tokenizer_from_spec(&tok, &t->spec, NULL), 0);
    assert_int_equal(bm_tokenizer_encode(tok, "x<s>y<s>", 8, &o, &got, NULL), 0);
    o.n_spans = 0;
    assert_int_equal(bm_tokenizer_encode(tok, "x<s>y<s>", 8, &o, &got, NULL), 0);
    assert_int_equal(bm_tokenizer_decode(tok, ids, 4, true, &text, NULL), 0);
    assert_string_equal(text.data, "ab");
    assert_int_equal(bm_tokenizer_encode(tok, "x", (size_t)1 << 40, NULL, &got, &err), BM_TOOLARGE);
    bm_tokens_done(&got);
    bm_buf_done(&text);
    bm_tokenizer_free(tok);
    tiny_free(t);
}

/* Fail the 1st, 2nd, 3rd … allocation until one run needs no more: each failure is BM_NOMEM and leaves nothing behind. */
static void memory_may_end_at_any_point(void **state)
{
    tiny *t = tiny_new("gpt-2");
    bm_tokenizer *tok = NULL;
    char text[3000];
    bm_tokens got = { 0 };
    int rc = BM_NOMEM;

    (void)state;
    tiny_merge(t, "a", "b");
    tiny_token(t, "<s>", 4);
    for (long n = 1; rc != 0; n++) {
        bm_error err = { 0 };
        bm_mem_fail_at(n);
        rc = bm_tokenizer_from_spec(&tok, &t->spec, &err);
        bm_mem_fail_at(0);
        assert_true(rc == 0 || (rc == BM_NOMEM && tok == NULL));
    }
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "ab<s>\xFF"[i % 6];
    memset(text + 1000, 'a', 1000);
    rc = BM_NOMEM;
    bm_tokens_add(&got, 42, NULL);
    for (long n = 1; rc != 0; n++) {
        bm_error err = { 0 };
        bm_mem_fail_at(n);
        rc = bm_tokenizer_encode(tok, text, sizeof text, NULL, &got, &err);
        bm_mem_fail_at(0);
        assert_true(rc == 0 || (rc == BM_NOMEM && got.n == 1));
    }
    assert_true(got.n > 1000 && got.ids[0] == 42);
    bm_tokens_done(&got);
    bm_tokenizer_free(tok);
    tiny_free(t);
}

/* A GGUF whose metadata is what `fill` writes (n_kvs entries), through the loader. */
static int load(void (*fill)(bm_buf *w), uint64_t n_kvs, bm_error *err)
{
    bm_buf w = { 0 };
    bm_gguf *gguf;
    bm_tokenizer *tok = NULL;
    char path[64];
    int rc;

    w_header(&w, 3, 0, n_kvs);
    fill(&w);
    assert_int_equal(w_save(&w, path), 0);
    rc = bm_gguf_open(&gguf, path, err);
    unlink(path);
    if (rc == 0)
        rc = bm_tokenizer_from_gguf(&tok, gguf, err);
    bm_gguf_close(gguf);
    bm_tokenizer_free(tok);
    bm_buf_done(&w);
    return rc;
}

static void w_texts(bm_buf *w, const char *key, const char *const *strings)
{
    uint64_t n = 0;

    while (strings[n] != NULL)
        n++;
    w_kv_array(w, key, BM_GGUF_STRING, n);
    for (uint64_t i = 0; i < n; i++)
        w_str(w, strings[i]);
}

static void w_words(bm_buf *w, const char *key, uint32_t type, uint64_t n)
{
    w_kv_array(w, key, type, n);
    w_zeros(w, n * 4);
}

static const char *const three[] = { "<unk>", "a", "b", NULL };

static void no_model(bm_buf *w) { w_kv_str(w, "general.architecture", "llama"); }
static void no_tokens(bm_buf *w) { w_kv_str(w, "tokenizer.ggml.model", "llama"); }
static void tokens_are_one(bm_buf *w) { no_tokens(w), w_kv_str(w, "tokenizer.ggml.tokens", "a"); }
static void tokens_are_floats(bm_buf *w) { no_tokens(w), w_words(w, "tokenizer.ggml.tokens", BM_GGUF_F32, 3); }
static void three_tokens(bm_buf *w) { no_tokens(w), w_texts(w, "tokenizer.ggml.tokens", three); }
static void short_scores(bm_buf *w) { three_tokens(w), w_words(w, "tokenizer.ggml.scores", BM_GGUF_F32, 2); }
static void scores_of_strings(bm_buf *w) { three_tokens(w), w_texts(w, "tokenizer.ggml.scores", three); }
static void short_types(bm_buf *w) { three_tokens(w), w_words(w, "tokenizer.ggml.token_type", BM_GGUF_I32, 1); }
static void types_of_floats(bm_buf *w) { three_tokens(w), w_words(w, "tokenizer.ggml.token_type", BM_GGUF_F32, 3); }
static void id_of_text(bm_buf *w) { three_tokens(w), w_kv_str(w, "tokenizer.ggml.bos_token_id", "1"); }
static void flag_of_text(bm_buf *w) { three_tokens(w), w_kv_str(w, "tokenizer.ggml.add_bos_token", "1"); }
static void all_right(bm_buf *w) { three_tokens(w), w_words(w, "tokenizer.ggml.scores", BM_GGUF_F32, 3); }

static void wrong_fields_of_a_file_are_named(void **state)
{
    static const struct { void (*fill)(bm_buf *w); uint64_t n_kvs; const char *field, *expected; } cases[] = {
        { no_model, 1, "tokenizer.ggml.model", "expected gpt2 or llama" }, { no_tokens, 1, "tokenizer.ggml.tokens", "expected an array" },
        { tokens_are_one, 2, "tokenizer.ggml.tokens", "expected an array" },
        { tokens_are_floats, 2, "tokenizer.ggml.tokens", "expected strings" },
        { short_scores, 3, "tokenizer.ggml.scores", "found 2 values, expected 3" },
        { scores_of_strings, 3, "tokenizer.ggml.scores", "expected numbers" },
        { short_types, 3, "tokenizer.ggml.token_type", "found 1 values, expected 3" },
        { types_of_floats, 3, "tokenizer.ggml.token_type", "expected integers" },
        { id_of_text, 3, "tokenizer.ggml.bos_token_id", "expected an integer" },
        { flag_of_text, 3, "tokenizer.ggml.add_bos_token", "expected a bool" },
    };
    bm_error err = { 0 };

    (void)state;
    assert_int_equal(load(all_right, 3, &err), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(load(cases[i].fill, cases[i].n_kvs, &err), BM_FORMAT);
        if (strstr(err.msg, cases[i].field) == NULL || strstr(err.msg, cases[i].expected) == NULL)
            fail_msg("'%s' does not tell of '%s'", err.msg, cases[i].field);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_kinds_are_named),
        cmocka_unit_test(wrong_tokens_are_named),
        cmocka_unit_test(wrong_merges_are_named),
        cmocka_unit_test(wrong_ids_and_scores_are_named),
        cmocka_unit_test(spans_and_ids_out_of_range_do_no_harm),
        cmocka_unit_test(memory_may_end_at_any_point),
        cmocka_unit_test(wrong_fields_of_a_file_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
