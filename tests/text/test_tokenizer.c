/* What a tokenizer does with special tokens, spans, words and pieces, on vocabularies made in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "text/tokenizer.h"
#include "tiny_vocab.h"

static bm_tokenizer *open_spec(const bm_vocab_spec *spec)
{
    bm_tokenizer *tok;
    bm_error err = { 0 };

    if (bm_tokenizer_from_spec(&tok, spec, &err) < 0)
        fail_msg("%s", err.msg);
    return tok;
}

static void check_ids(const bm_tokenizer *tok, const char *text, size_t len, const bm_encode_options *o, const int32_t *want, size_t n)
{
    bm_tokens got = { 0 };

    assert_int_equal(bm_tokenizer_encode(tok, text, len, o, &got, NULL), 0);
    assert_int_equal(got.n, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(got.ids[i], want[i]);
    bm_tokens_done(&got);
}
#define CHECK(tok, text, o, ...) do { \
        const int32_t want_[] = { __VA_ARGS__ }; \
        check_ids(tok, text, strlen(text), o, want_, sizeof want_ / sizeof *want_); \
    } while (0)

/* ids: h i -> "hi"; "Ġ" "hi"; <s> control, <|im_end|> control, <b> user-defined, <bold> user-defined. */
typedef struct chat { tiny *t; bm_tokenizer *tok; int hi, ghi, s, end, b, bold; } chat;

static chat chat_open(const char *pre)
{
    chat c = { .t = tiny_new(pre) };

    c.hi = tiny_merge(c.t, "h", "i");
    c.ghi = tiny_merge(c.t, "Ġ", "hi");
    c.s = tiny_token(c.t, "<s>", 3);
    c.end = tiny_token(c.t, "<|im_end|>", 3);
    c.b = tiny_token(c.t, "<b>", 4);
    c.bold = tiny_token(c.t, "<b>old", 4);
    c.t->spec.ids.bos = c.s;
    c.t->spec.ids.eos = c.end;
    c.tok = open_spec(&c.t->spec);
    return c;
}

static void chat_close(chat *c)
{
    bm_tokenizer_free(c->tok);
    tiny_free(c->t);
}

static void words_merge_by_rank(void **state)
{
    chat c = chat_open("gpt-2");

    (void)state;
    CHECK(c.tok, "hi hi", NULL, c.hi, c.ghi);
    CHECK(c.tok, "ih", NULL, 'i', 'h');
    CHECK(c.tok, "hi\n", NULL, c.hi, '\n');
    check_ids(c.tok, "", 0, NULL, NULL, 0);
    chat_close(&c);
}

static void control_tokens_are_text_unless_parsed(void **state)
{
    chat c = chat_open("gpt-2");
    bm_encode_options parse = { .parse_special = true };

    (void)state;
    CHECK(c.tok, "hi<s>", NULL, c.hi, '<', 's', '>');
    CHECK(c.tok, "hi<s> hi", &parse, c.hi, c.s, c.ghi);
    CHECK(c.tok, "<b>hi", NULL, c.b, c.hi);
    CHECK(c.tok, "<b>oldhi", NULL, c.bold, c.hi);
    CHECK(c.tok, "<b>ol", NULL, c.b, 'o', 'l');
    chat_close(&c);
}

static void control_tokens_count_in_template_text_only(void **state)
{
    chat c = chat_open("gpt-2");
    const char *text = "<s>hi<s> hi<b><s>";     /* template, message, template */
    bm_span spans[] = { { 0, 3, -1 }, { 3, 11, 0 }, { 11, 17, -1 } };
    bm_encode_options o = { .spans = spans, .n_spans = 3, .parse_special = true };

    (void)state;
    CHECK(c.tok, text, &o, c.s, c.hi, '<', 's', '>', c.ghi, c.b, c.s);
    spans[0].message = 1;
    CHECK(c.tok, text, &o, '<', 's', '>', c.hi, '<', 's', '>', c.ghi, c.b, c.s);
    chat_close(&c);
}

static void a_control_token_across_a_border_is_text(void **state)
{
    chat c = chat_open("gpt-2");
    bm_span message_then_template[] = { { 0, 2, 0 }, { 2, 3, -1 } };
    bm_span two_of_the_template[] = { { 0, 2, -1 }, { 2, 3, -1 } };
    bm_encode_options o = { .spans = message_then_template, .n_spans = 2 };

    (void)state;
    CHECK(c.tok, "<s>", &o, '<', 's', '>');
    o.spans = two_of_the_template;
    CHECK(c.tok, "<s>", &o, c.s);
    chat_close(&c);
}

static void words_go_on_over_borders(void **state)
{
    chat c = chat_open("gpt-2");
    bm_span spans[] = { { 0, 1, -1 }, { 1, 2, 0 }, { 2, 4, 1 }, { 4, 5, -1 } };
    bm_encode_options o = { .spans = spans, .n_spans = 4 };

    (void)state;
    CHECK(c.tok, "hi hi", &o, c.hi, c.ghi);
    chat_close(&c);
}

static void text_never_merges_into_a_control_token(void **state)
{
    tiny *t = tiny_new("tekken");
    bm_tokenizer *tok;
    int ab;

    (void)state;
    tiny_merge(t, "x", "y");
    ab = tiny_merge(t, "a", "b");
    t->types[ab] = 3;
    tok = open_spec(&t->spec);
    CHECK(tok, "ab", NULL, 'a', 'b');
    bm_tokenizer_free(tok);
    tiny_free(t);
}

static void merges_are_ignored_where_the_row_says_so(void **state)
{
    tiny *t = tiny_new("llama-bpe");
    bm_tokenizer *tok;
    int abc;

    (void)state;
    tiny_merge(t, "b", "c");
    abc = tiny_token(t, "abc", 1);
    tok = open_spec(&t->spec);
    CHECK(tok, "abc", NULL, abc);
    bm_tokenizer_free(tok);
    t->spec.pre = (bm_str){ "dbrx", 4 };
    tok = open_spec(&t->spec);
    CHECK(tok, "abc", NULL, 'a', abc - 1);
    bm_tokenizer_free(tok);
    tiny_free(t);
}

static void bos_and_eos_follow_file_and_row(void **state)
{
    chat c = chat_open("gpt-2"), l = chat_open("llama-bpe");
    bm_encode_options o = { .add_special = true };

    (void)state;
    CHECK(c.tok, "hi", &o, c.hi);
    assert_false(bm_tokenizer_adds_bos(c.tok));
    CHECK(l.tok, "hi", &o, l.s, l.hi);
    assert_true(bm_tokenizer_adds_bos(l.tok));
    bm_tokenizer_free(l.tok);
    l.t->spec.add_bos = 0, l.t->spec.add_eos = 1;
    l.tok = open_spec(&l.t->spec);
    CHECK(l.tok, "hi", &o, l.hi, l.end);
    CHECK(l.tok, "hi", NULL, l.hi);
    chat_close(&c);
    chat_close(&l);
}

static void ends_of_generation_are_known_by_id_and_name(void **state)
{
    chat c = chat_open("gpt-2");
    int eot;

    (void)state;
    assert_true(bm_tokenizer_is_eog(c.tok, c.end));
    assert_false(bm_tokenizer_is_eog(c.tok, c.s));
    assert_false(bm_tokenizer_is_eog(c.tok, -1));
    assert_false(bm_tokenizer_is_eog(c.tok, 1 << 30));
    bm_tokenizer_free(c.tok);
    eot = tiny_token(c.t, "<end_of_turn>", 1);
    c.t->spec.ids.eos = c.s;
    c.tok = open_spec(&c.t->spec);
    assert_true(bm_tokenizer_is_eog(c.tok, eot));
    assert_true(bm_tokenizer_is_control(c.tok, eot));
    assert_true(bm_tokenizer_is_eog(c.tok, c.end));
    assert_true(bm_tokenizer_is_eog(c.tok, c.s));
    chat_close(&c);
}

static void special_tokens_take_the_longest_then_the_leftmost(void **state)
{
    tiny *t = tiny_new("gpt-2");
    bm_tokenizer *tok;
    int aa, aaa, ab;

    (void)state;
    tiny_merge(t, "x", "y");
    aa = tiny_token(t, "aa", 4);
    aaa = tiny_token(t, "aaa", 4);
    ab = tiny_token(t, "abbb", 4);
    tok = open_spec(&t->spec);
    CHECK(tok, "aaaaaaaa", NULL, aaa, aaa, aa);
    CHECK(tok, "aaabbb", NULL, aa, ab);
    CHECK(tok, "aaaabbbaa", NULL, aaa, ab, aa);
    CHECK(tok, "abb aa", NULL, 'a', 'b', 'b', ' ', aa);
    bm_tokenizer_free(tok);
    tiny_free(t);
}

static void phi3_tokens_swallow_the_blanks_behind(void **state)
{
    chat c = chat_open("gpt-2");
    bm_encode_options parse = { .parse_special = true };

    (void)state;
    bm_tokenizer_free(c.tok);
    c.t->spec.name = (bm_str){ "My Phi-3 mini", 13 };
    c.tok = open_spec(&c.t->spec);
    CHECK(c.tok, "<|im_end|> \n hi", &parse, c.end, c.hi);
    CHECK(c.tok, "<s> hi", &parse, c.s, c.ghi);
    chat_close(&c);
}

static void pieces_give_bytes_and_hide_control_tokens(void **state)
{
    chat c = chat_open("gpt-2");
    bm_buf b = { 0 };
    const int32_t ids[] = { 0, 0, 0, 0xE2, 0x82, 'x' };
    int32_t mixed[6];

    (void)state;
    bm_tokenizer_piece(c.tok, c.ghi, false, true, &b);
    bm_tokenizer_piece(c.tok, 0xE2, false, false, &b);
    bm_tokenizer_piece(c.tok, c.s, false, false, &b);
    bm_tokenizer_piece(c.tok, -5, true, false, &b);
    bm_tokenizer_piece(c.tok, 1 << 30, true, false, &b);
    assert_int_equal(b.len, 4);
    assert_memory_equal(b.data, " hi\xE2", 4);
    bm_buf_clear(&b);
    bm_tokenizer_piece(c.tok, c.s, true, false, &b);
    bm_tokenizer_piece(c.tok, c.b, false, false, &b);
    assert_string_equal(b.data, "<s><b>");
    bm_buf_clear(&b);
    memcpy(mixed, ids, sizeof mixed);
    mixed[0] = c.s, mixed[1] = c.hi, mixed[2] = c.end;
    assert_int_equal(bm_tokenizer_decode(c.tok, mixed, 6, false, &b, NULL), 0);
    assert_string_equal(b.data, "hi\xEF\xBF\xBDx");
    assert_int_equal(bm_tokenizer_max_piece(c.tok), 10);
    bm_buf_done(&b);
    chat_close(&c);
}

static void tokens_are_found_by_text(void **state)
{
    chat c = chat_open("gpt-2");

    (void)state;
    assert_int_equal(bm_tokenizer_find(c.tok, "<s>", 3), c.s);
    assert_int_equal(bm_tokenizer_find(c.tok, "Ġhi", 4), c.ghi);
    assert_int_equal(bm_tokenizer_find(c.tok, " hi", 3), c.ghi);
    assert_int_equal(bm_tokenizer_find(c.tok, "\n", 1), '\n');
    assert_int_equal(bm_tokenizer_find(c.tok, "nothing", 7), -1);
    assert_int_equal(bm_tokenizer_find(c.tok, "", 0), -1);
    assert_int_equal(bm_tokenizer_bos(c.tok), c.s);
    assert_int_equal(bm_tokenizer_eos(c.tok), c.end);
    assert_int_equal(bm_tokenizer_n_vocab(c.tok), (int)c.t->spec.n_tokens);
    assert_string_equal(bm_tokenizer_kind(c.tok), "bpe/gpt-2");
    chat_close(&c);
}

static void broken_utf8_is_the_replacement_character(void **state)
{
    chat c = chat_open("gpt-2");
    const char *broken = "h\xE2\x82i\xFF";
    const int32_t want[] = { 'h', 0xEF, 0xBF, 0xBD, 'i', 0xEF, 0xBF, 0xBD };

    (void)state;
    check_ids(c.tok, broken, 5, NULL, want, 8);
    chat_close(&c);
}

/* The naive twin: the whole word again for every merge. */
static size_t naive(const tiny *t, const char *word, size_t len, int32_t *ids)
{
    bm_str parts[1500];
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        parts[n++] = (bm_str){ word + i, 1 };
    for (;;) {
        size_t best = SIZE_MAX, where = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (size_t m = 0; m < t->spec.n_merges && m < best; m++)
                if (t->merges[m].len == parts[i].len + 1 + parts[i + 1].len
                    && memcmp(t->merges[m].data, parts[i].data, parts[i].len) == 0 && t->merges[m].data[parts[i].len] == ' '
                    && memcmp(t->merges[m].data + parts[i].len + 1, parts[i + 1].data, parts[i + 1].len) == 0)
                    best = m, where = i;
        if (best == SIZE_MAX)
            break;
        parts[where].len += parts[where + 1].len;
        memmove(&parts[where + 1], &parts[where + 2], (--n - where - 1) * sizeof *parts);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < t->spec.n_tokens; k++)
            if (t->tokens[k].len == parts[i].len && memcmp(t->tokens[k].data, parts[i].data, parts[i].len) == 0)
                ids[i] = (int32_t)k;
    return n;
}

static void long_and_short_words_merge_as_the_naive_twin(void **state)
{
    tiny *t = tiny_new("gpt-2");
    bm_tokenizer *tok;
    unsigned seed = 7;
    char word[1500], a[200], b[200];

    (void)state;
    for (int i = 0; i < 120; i++) {              /* merges of random tokens made so far, over four letters */
        bm_str x = i < 8 ? t->tokens['a' + seed % 4] : t->tokens[256 + seed % (t->spec.n_tokens - 256)];
        seed = seed * 1103515245u + 12345u;
        bm_str y = (seed >> 16) % 3 || i < 8 ? t->tokens['a' + (seed >> 20) % 4] : t->tokens[256 + (seed >> 8) % (t->spec.n_tokens - 256)];
        seed = seed * 1103515245u + 12345u;
        if (x.len + y.len > 40)
            continue;
        snprintf(a, sizeof a, "%.*s", (int)x.len, x.data);
        snprintf(b, sizeof b, "%.*s", (int)y.len, y.data);
        tiny_merge(t, a, b);
    }
    tok = open_spec(&t->spec);
    for (size_t len = 1; len < sizeof word; len += len < 90 ? 1 : 97) {
        int32_t want[1500];
        for (size_t i = 0; i < len; i++, seed = seed * 1103515245u + 12345u)
            word[i] = (char)('a' + (seed >> 16) % (len % 3 + 2));
        check_ids(tok, word, len, NULL, want, naive(t, word, len, want));
    }
    bm_tokenizer_free(tok);
    tiny_free(t);
}

static void remembered_words_change_nothing(void **state)
{
    chat c = chat_open("gpt-2");
    size_t len = 0;
    char text[6000];
    bm_tokens whole = { 0 }, parts = { 0 };

    (void)state;
    while (len + 30 < sizeof text)               /* long enough for words to be remembered, in a row of equal parts */
        memcpy(text + len, " hi\nhihihi öhi averylongwordhi", 30), len += 30;
    assert_int_equal(bm_tokenizer_encode(c.tok, text, len, NULL, &whole, NULL), 0);
    for (size_t i = 0; i < len; i += 30)
        assert_int_equal(bm_tokenizer_encode(c.tok, text + i, 30, NULL, &parts, NULL), 0);
    assert_int_equal(whole.n, parts.n);
    assert_memory_equal(whole.ids, parts.ids, whole.n * sizeof *whole.ids);
    bm_tokens_done(&whole);
    bm_tokens_done(&parts);
    chat_close(&c);
}

static void raw_vocabularies_escape_blanks_and_fall_back_to_bytes(void **state)
{
    tiny *t = tiny_new("gemma4");
    bm_tokenizer *tok;
    bm_encode_options o = { .add_special = true };
    bm_buf b = { 0 };
    int bos, ab, lines, byte;
    const int32_t *ids;

    (void)state;
    t->spec.model = (bm_str){ "gemma4", 6 };
    t->spec.n_tokens = 0;
    bos = tiny_token(t, "<bos>", 3);
    for (const char *p = "abcd"; *p != 0; p++)
        tiny_token_n(t, p, 1, 1);
    tiny_token(t, "▁", 1);
    tiny_token(t, "\n", 1);
    lines = tiny_token(t, "\n\n", 1);
    byte = tiny_token(t, "<0xC3>", 6);
    tiny_token(t, "<0xB6>", 6);
    ab = tiny_merge(t, "▁", "ab");
    tiny_merge(t, "a", "b");
    t->spec.ids.bos = bos, t->spec.add_bos = 0;
    tok = open_spec(&t->spec);
    CHECK(tok, " ab\n\nö", &o, bos, ab, lines, byte, byte + 1);
    ids = (const int32_t[]){ bos, ab, lines, byte, byte + 1 };
    assert_int_equal(bm_tokenizer_decode(tok, ids, 5, false, &b, NULL), 0);
    assert_string_equal(b.data, " ab\n\nö");
    bm_buf_done(&b);
    bm_tokenizer_free(tok);
    tiny_free(t);
}

static void megabytes_of_anything_come_through(void **state)
{
    chat c = chat_open("llama-bpe");
    size_t len = 1 << 20;
    char *text = malloc(len);

    (void)state;
    for (const char *fill = "ah \n7'<."; *fill != 0; fill++) {
        bm_tokens got = { 0 };
        memset(text, *fill, len);
        text[len / 2] = 'i';
        assert_int_equal(bm_tokenizer_encode(c.tok, text, len, NULL, &got, NULL), 0);
        assert_in_range(got.n, len - 1, len);
        bm_tokens_done(&got);
    }
    free(text);
    chat_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_merge_by_rank),
        cmocka_unit_test(control_tokens_are_text_unless_parsed),
        cmocka_unit_test(control_tokens_count_in_template_text_only),
        cmocka_unit_test(a_control_token_across_a_border_is_text),
        cmocka_unit_test(words_go_on_over_borders),
        cmocka_unit_test(text_never_merges_into_a_control_token),
        cmocka_unit_test(merges_are_ignored_where_the_row_says_so),
        cmocka_unit_test(bos_and_eos_follow_file_and_row),
        cmocka_unit_test(ends_of_generation_are_known_by_id_and_name),
        cmocka_unit_test(special_tokens_take_the_longest_then_the_leftmost),
        cmocka_unit_test(phi3_tokens_swallow_the_blanks_behind),
        cmocka_unit_test(pieces_give_bytes_and_hide_control_tokens),
        cmocka_unit_test(tokens_are_found_by_text),
        cmocka_unit_test(broken_utf8_is_the_replacement_character),
        cmocka_unit_test(long_and_short_words_merge_as_the_naive_twin),
        cmocka_unit_test(remembered_words_change_nothing),
        cmocka_unit_test(raw_vocabularies_escape_blanks_and_fall_back_to_bytes),
        cmocka_unit_test(megabytes_of_anything_come_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
