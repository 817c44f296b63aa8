/* test_mask_oracle.c - tokens and loss masks equal to those of transformers' apply_chat_template(return_assistant_tokens_mask=True)
 * for templates with {% generation %} blocks; and on SmolLM2 itself, when it has been downloaded, a turn begins where the server's
 * prompt ends. Vectors: tests/oracle/data/make.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "format/gguf.h"
#include "oracle/data/vectors.h"
#include "train/data_kit.h"

#define T(name) cmocka_unit_test(name)

static bm_tokenizer *oracle_tokenizer(void)
{
    tiny *t = tiny_new("gpt-2");
    bm_tokenizer *tok = NULL;
    bm_error err = { 0 };

    for (size_t i = 0; i < sizeof oracle_merges / sizeof oracle_merges[0]; i++)
        tiny_merge(t, oracle_merges[i][0], oracle_merges[i][1]);
    tiny_token(t, "<|im_start|>", 3);
    t->spec.ids.eos = tiny_token(t, "<|im_end|>", 3);
    t->spec.add_bos = 0;
    assert_int_equal(bm_tokenizer_from_spec(&tok, &t->spec, &err), 0);
    tiny_free(t);
    return tok;
}

static void masks_are_those_of_transformers(void **state)
{
    bm_tokenizer *tok = oracle_tokenizer();
    const bm_data_options o = { .max_length = 0 };

    (void)state;
    for (size_t i = 0; i < sizeof oracle_cases / sizeof oracle_cases[0]; i++) {
        const oracle_case *c = &oracle_cases[i];
        bm_template *tmpl = data_template(c->tmpl);
        bm_buf row = { 0 };
        bm_data d;
        bm_error err = { 0 };
        bm_buf_printf(&row, "{\"messages\": %s}", c->messages);
        assert_int_equal(bm_data_read(&d, data_file(".jsonl", row.data, row.len), &o, tok, tmpl, &err), 0);
        assert_int_equal(d.rows[0].n_tokens, c->n);
        assert_memory_equal(d.rows[0].tokens, c->ids, (size_t)c->n * sizeof *c->ids);
        assert_memory_equal(d.rows[0].target, c->mask, (size_t)c->n);
        bm_data_done(&d);
        bm_buf_done(&row);
        bm_template_free(tmpl);
    }
    bm_tokenizer_free(tok);
}

/* The tokens of the prompt that the server makes of these messages. */
static void prompt_of(const bm_tokenizer *tok, const bm_template *tmpl, const char *messages, bm_tokens *out)
{
    json_t *json = json_loads(messages, 0, NULL);
    bm_render_options render = { .messages = json, .add_generation_prompt = true };
    bm_rendered r;
    bm_error err = { 0 };

    assert_int_equal(bm_template_render(tmpl, &render, &r, &err), 0);
    bm_encode_options encode = { .spans = r.spans, .n_spans = r.n_spans };
    assert_int_equal(bm_tokenizer_encode(tok, r.text, r.len, &encode, out, &err), 0);
    bm_rendered_done(&r);
    json_decref(json);
}

static void a_turn_begins_where_the_servers_prompt_ends(void **state)
{
    static const char *const prompts[] = {
        "[{\"role\": \"user\", \"content\": \"Hi\"}]",
        "[{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Hello!\"}, {\"role\": \"user\", \"content\": \" B\\n\"}]"
    };
    static const char row[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Hello!\"},"
        " {\"role\": \"user\", \"content\": \" B\\n\"}, {\"role\": \"assistant\", \"content\": \"C\"}]}";
    const char *dir = getenv("BAIMO_MODELS"), *home = getenv("HOME");
    const bm_data_options o = { .max_length = 0 };
    bm_tokenizer *tok = NULL;
    bm_template *tmpl = NULL;
    bm_gguf *gguf = NULL;
    bm_error err = { 0 };
    char path[512];
    bm_str source;
    bm_data d;

    (void)state;
    snprintf(path, sizeof path, "%s%s/smollm2.gguf", dir ? dir : home ? home : "", dir ? "" : "/.cache/baimo-models");
    if (access(path, R_OK) != 0)
        skip();
    assert_int_equal(bm_gguf_open(&gguf, path, &err), 0);
    assert_int_equal(bm_tokenizer_from_gguf(&tok, gguf, &err), 0);
    assert_true(bm_gguf_get_str(gguf, "tokenizer.chat_template", &source));
    assert_int_equal(bm_template_compile(&tmpl, source.data, source.len, &err), 0);
    assert_int_equal(bm_data_read(&d, data_file(".jsonl", row, strlen(row)), &o, tok, tmpl, &err), 0);
    int32_t at = 0;
    for (int i = 0; i < 2; i++) {
        bm_tokens prompt = { 0 };
        prompt_of(tok, tmpl, prompts[i], &prompt);
        while (!d.rows[0].target[at])
            at++;
        assert_int_equal(at, prompt.n);
        assert_memory_equal(d.rows[0].tokens, prompt.ids, prompt.n * sizeof *prompt.ids);
        while (d.rows[0].target[at])
            at++;
        assert_true(bm_tokenizer_is_eog(tok, d.rows[0].tokens[at - 1]));
        bm_tokens_done(&prompt);
    }
    bm_data_done(&d);
    bm_template_free(tmpl);
    bm_tokenizer_free(tok);
    bm_gguf_close(gguf);
}

static bm_tokenizer *open_tokenizer(const char *path)
{
    bm_tokenizer *tok = NULL;
    bm_gguf *gguf = NULL;
    bm_error err = { 0 };

    if (bm_gguf_open(&gguf, path, &err) < 0 || bm_tokenizer_from_gguf(&tok, gguf, &err) < 0)
        fail_msg("%s", err.msg);
    bm_gguf_close(gguf);
    return tok;
}

static void check_spm(const char *path, const char *chat, const char *text)
{
    static const char mistral[] =
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}";
    static const char rows[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"the \u4f60\u597d\"}, {\"role\": \"assistant\", \"content\": \"in the \u00e9\"},"
        " {\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"the end\"}]}";
    static const char plain[] = "{\"text\": \"the \u4f60\u597d  A: in the A: the\"}";
    const bm_data_options o = { .loss_after = "A:" };
    bm_tokenizer *tok = open_tokenizer(path);
    bm_template *tmpl = data_template(mistral);
    bm_error err = { 0 };
    bm_data d;
    char *got;

    assert_int_equal(bm_data_read(&d, data_file(".jsonl", rows, strlen(rows)), &o, tok, tmpl, &err), 0);
    got = data_text(tok, &d);
    assert_string_equal(got, chat);
    bm_free(got);
    bm_data_done(&d);
    assert_int_equal(bm_data_read(&d, data_file(".jsonl", plain, strlen(plain)), &o, tok, NULL, &err), 0);
    got = data_text(tok, &d);
    assert_string_equal(got, text);
    bm_free(got);
    bm_data_done(&d);
    bm_template_free(tmpl);
    bm_tokenizer_free(tok);
}

/* A space in front that the text does not have, bytes as tokens, characters that are unknown: the mask stays where it belongs. */
static void masks_of_sentencepiece_vocabularies_stand_where_they_belong(void **state)
{
    (void)state;
    check_spm("tests/oracle/tokenizers/vectors/spm_bytes.gguf",
              "<s> [INST] the \u4f60\u597d [/INST][[ in the \u00e9</s>]] [INST] a [/INST][[ the end</s>]];",
              "<s> the \u4f60\u597d  A: in the A:[[ the</s>]];");
    check_spm("tests/oracle/tokenizers/vectors/spm_unknown.gguf",
              "<s> [INST] the <unk> [/INST][[ in the \u00e9</s>]] [INST] a [/INST][[ the end</s>]];",
              "<s> the <unk>  A: in the A:[[ the</s>]];");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(masks_are_those_of_transformers),
        T(masks_of_sentencepiece_vocabularies_stand_where_they_belong),
        T(a_turn_begins_where_the_servers_prompt_ends),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    data_file("", "", 0);
    return failed;
}
