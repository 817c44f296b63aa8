/* test_rows.c - every shape of rows as text with the loss marked, every kind of bad row, duplicates, splits, and hostile files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "train/data_kit.h"

#define T(name) cmocka_unit_test(name)
#define U(text) "<|im_start|>user\n" text "<|im_end|>\n"
#define S(text) "<|im_start|>system\n" text "<|im_end|>\n"
#define A(text) "<|im_start|>assistant\n[[" text "<|im_end|>]]\n"
#define OLD(text) "<|im_start|>assistant\n" text "<|im_end|>\n"

#define OK_ROW "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}\n"
#define OK_TEXT U("u") A("a") ";"

static bm_tokenizer *tok;

static void read_with(bm_data *d, const char *source, const char *ending, const char *bytes, size_t len, const bm_data_options *o, int want)
{
    bm_template *tmpl = data_template(source);
    bm_error err = { 0 };

    int rc = bm_data_read(d, data_file(ending, bytes, len), o, tok, tmpl, &err);
    if (rc != want)
        fprintf(stderr, "%s\n", err.msg);
    assert_int_equal(rc, want);
    bm_template_free(tmpl);
}

static void check(const char *source, const char *ending, const char *text, const bm_data_options *options, const char *expected)
{
    bm_data_options o = options != NULL ? *options : (bm_data_options){ .shape = BM_DATA_AUTO };
    bm_data d;

    o.drop_bad = true;
    bm_template *tmpl = data_template(source);
    bm_error err = { 0 };
    int rc = bm_data_read(&d, data_file(ending, text, strlen(text)), &o, tok, tmpl, &err);
    char *got = data_text(tok, &d);
    assert_string_equal(got, expected);
    assert_int_equal(rc, d.n_rows > 0 ? 0 : BM_INVALID);
    bm_free(got);
    bm_data_done(&d);
    bm_template_free(tmpl);
}

/* ---- shapes ---- */

static void messages_carry_the_loss_on_the_turns_of_the_assistant(void **state)
{
    (void)state;
    check(data_chatml, ".jsonl",
          "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Yo\"},"
          " {\"role\": \"user\", \"content\": \"B\"}, {\"role\": \"assistant\", \"content\": \"C\"}]}\n"
          "\n"
          "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"},"
          " {\"type\": \"text\", \"text\": \"b\"}]}, {\"role\": \"assistant\", \"content\": \"c\"}]}",
          NULL, U("Hi") A("Yo") U("B") A("C") ";" S("s") U("a\nb") A("c") ";");
}

static void weight_0_takes_a_turn_out(void **state)
{
    (void)state;
    check(data_chatml, ".jsonl",
          "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Yo\", \"weight\": 0},"
          " {\"role\": \"user\", \"content\": \"B\"}, {\"role\": \"assistant\", \"content\": \"C\", \"weight\": 1}]}",
          NULL, U("Hi") OLD("Yo") U("B") A("C") ";");
}

static void what_looks_like_a_control_token_in_a_message_stays_text(void **state)
{
    bm_data d;
    const bm_data_options o = { .max_length = 0 };
    const char row[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"a<|im_end|>b\"}]}";

    (void)state;
    read_with(&d, data_chatml, ".jsonl", row, strlen(row), &o, 0);
    int n = 0;
    for (int32_t t = 0; t < d.rows[0].n_tokens; t++)
        n += bm_tokenizer_is_eog(tok, d.rows[0].tokens[t]);
    assert_int_equal(n, 2);
    char *text = data_text(tok, &d);
    assert_string_equal(text, U("x") A("a<|im_end|>b") ";");
    bm_free(text);
    bm_data_done(&d);
}

#define CALL "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>"

static void calls_of_tools_carry_the_loss_with_what_the_template_writes_around_them(void **state)
{
    static const char openai[] =
        "{\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}], \"messages\": [{\"role\": \"user\", \"content\": \"u\"},"
        " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"1\", \"type\": \"function\", \"function\":"
        " {\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\"}}]}, {\"role\": \"tool\", \"tool_call_id\": \"1\", \"content\": \"7\"},"
        " {\"role\": \"assistant\", \"content\": \"ok\"}]}";
    static const char sharegpt[] =
        "[{\"conversations\": [{\"from\": \"human\", \"value\": \"u\"}, {\"from\": \"function_call\", \"value\":"
        " \"{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": {\\\"x\\\": 1}}\"}, {\"from\": \"observation\", \"value\": \"7\"},"
        " {\"from\": \"gpt\", \"value\": \"ok\"}], \"tools\": \"[{\\\"name\\\": \\\"f\\\"}]\"}]";
    static const char expected[] =
        S("{\"type\": \"function\", \"function\": {\"name\": \"f\"}}") U("u") A(CALL) U("<tool_response>\n7\n</tool_response>") A("ok") ";";

    (void)state;
    check(data_tools, ".jsonl", openai, NULL, expected);
    check(data_tools, ".json", sharegpt, NULL, expected);
}

static void sharegpt_and_alpaca_become_chats(void **state)
{
    (void)state;
    check(data_chatml, ".json",
          "[{\"system\": \"s\", \"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", \"value\": \"b\"}]}]", NULL,
          S("s") U("a") A("b") ";");
    check(data_chatml, ".json",
          "[{\"instruction\": \"i\", \"input\": \"n\", \"output\": \"o\"}, {\"instruction\": \"i\", \"input\": \"\", \"output\": \"o\"},\n"
          " {\"instruction\": \"i\", \"output\": \"o\", \"system\": \"s\", \"history\": [[\"q\", \"a\"]]}]",
          NULL, U("i\nn") A("o") ";" U("i") A("o") ";" S("s") U("q") A("a") U("i") A("o") ";");
    check(data_chatml, ".jsonl", "{\"instruction\": \"i\", \"instances\": [{\"input\": \"1\", \"output\": \"a\"}, {\"input\": \"2\", \"output\": \"b\"}]}",
          NULL, U("i\n1") A("a") ";" U("i\n2") A("b") ";");
}

static void alpaca_without_a_template_is_stanfords_text(void **state)
{
    (void)state;
    check(NULL, ".jsonl", "{\"instruction\": \"i\", \"input\": \"n\", \"output\": \"o\"}", NULL,
          "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that "
          "appropriately completes the request.\n\n### Instruction:\ni\n\n### Input:\nn\n\n### Response:\n[[o<|im_end|>]];");
}

static void prompt_and_completion_are_text_as_it_stands(void **state)
{
    const bm_data_options chat = { .render = BM_RENDER_CHAT };

    (void)state;
    check(data_chatml, ".jsonl", "{\"prompt\": \"p: \", \"completion\": \"c\"}\n{\"prompt\": \"p\", \"completion\": \"d\", \"x\": null}", NULL,
          "p: [[c<|im_end|>]];p[[d<|im_end|>]];");
    check(data_chatml, ".jsonl", "{\"prompt\": \"p\", \"response\": \"c\"}", &chat, U("p") A("c") ";");
    check(data_chatml, ".jsonl",
          "{\"prompt\": [{\"role\": \"user\", \"content\": \"1\"}, {\"role\": \"assistant\", \"content\": \"2\"},"
          " {\"role\": \"user\", \"content\": \"3\"}], \"completion\": [{\"role\": \"assistant\", \"content\": \"4\"}]}",
          NULL, U("1") OLD("2") U("3") A("4") ";");
}

static void other_pairs_are_chats_when_there_is_a_template(void **state)
{
    const bm_data_options fields = { .prompt_field = "a", .target_field = "b" }, text = { .render = BM_RENDER_TEXT };
    const bm_data_options numbers = { .no_header = true, .prompt_field = "1", .target_field = "2" };

    (void)state;
    check(data_chatml, ".jsonl", "{\"question\": \"q\", \"answer\": \"a\"}", NULL, U("q") A("a") ";");
    check(NULL, ".jsonl", "{\"question\": \"q\", \"answer\": \"a\"}", NULL, "q\n[[a<|im_end|>]];");
    check(data_chatml, ".jsonl", "{\"question\": \"q\", \"answer\": 12}", &text, "q\n[[12<|im_end|>]];");
    check(data_chatml, ".jsonl", "{\"a\": [\"l\", \"m\"], \"b\": \"t\", \"text\": \"no\"}", &fields, U("l\nm") A("t") ";");
    check(data_chatml, ".json", "[[\"hi\", \"greeting\"]]", NULL, U("hi") A("greeting") ";");
    check(data_chatml, ".csv", "text,category\n\"a, \"\"b\"\"\n\",x\r\nc,y\n", NULL, U("a, \"b\"\n") A("x") ";" U("c") A("y") ";");
    check(data_chatml, ".csv", "a,b\nc,d\n", &numbers, U("a") A("b") ";" U("c") A("d") ";");
    check(data_chatml, ".csv", ",question,answer\n0,a,b\n", NULL, U("a") A("b") ";");
    check(data_chatml, ".tsv", "text\tlabel\na,b\tc\n", NULL, U("a,b") A("c") ";");
}

static void text_learns_everything_or_what_stands_behind_a_mark(void **state)
{
    const bm_data_options after = { .loss_after = "A:" }, field = { .target_field = "body" };

    (void)state;
    check(NULL, ".jsonl", "{\"text\": \"Q: x\\nA: y\"}", NULL, "Q[[: x\nA: y<|im_end|>]];");
    check(data_chatml, ".jsonl", "{\"text\": \"Q: x A: w\\nA: y\"}\n{\"text\": \"Q\"}", &after,
          "Q: x A: w\nA:[[ y<|im_end|>]];2: no token carries the loss: 'A:' is not in its text;");
    check(NULL, ".jsonl", "{\"body\": \"ab\", \"text\": \"no\"}", &field, "a[[b<|im_end|>]];");
    check(NULL, ".json", "[\"ab\", {\"text\": \"cd\"}]", NULL, "a[[b<|im_end|>]];c[[d<|im_end|>]];");
    check(NULL, ".jsonl", "{\"text\": \"ab<|im_end|>\"}", NULL, "a[[b<|im_end|>]];");      /* its own end counts, as in /v1/completions */
    check(NULL, ".json", "[{\"title\": \"t\", \"paragraphs\": [\"a\", \"b\"]}]", NULL, "a[[\nb<|im_end|>]];");
}

static void preferences_are_pairs_with_the_loss_on_the_answers(void **state)
{
    static const char expected[] = U("p") A("good") "|" U("p") A("bad") ";";

    (void)state;
    check(data_chatml, ".json",
          "[{\"conversations\": [{\"from\": \"human\", \"value\": \"p\"}], \"chosen\": {\"from\": \"gpt\", \"value\": \"good\"},"
          " \"rejected\": {\"from\": \"gpt\", \"value\": \"bad\"}}]", NULL, expected);
    check(data_chatml, ".jsonl", "{\"prompt\": \"p\", \"chosen\": \"good\", \"rejected\": \"bad\"}", NULL, expected);
    check(data_chatml, ".jsonl", "{\"instruction\": \"p\", \"input\": \"\", \"output\": \"good\", \"chosen\": \"good\", \"rejected\": \"bad\"}",
          NULL, expected);
    check(data_chatml, ".jsonl",
          "{\"prompt\": [{\"role\": \"user\", \"content\": \"p\"}], \"chosen\": [{\"role\": \"assistant\", \"content\": \"good\"}],"
          " \"rejected\": [{\"role\": \"assistant\", \"content\": \"bad\"}]}", NULL, expected);
    check(data_chatml, ".jsonl",
          "{\"chosen\": [{\"role\": \"user\", \"content\": \"p\"}, {\"role\": \"assistant\", \"content\": \"good\"}],"
          " \"rejected\": [{\"role\": \"user\", \"content\": \"p\"}, {\"role\": \"assistant\", \"content\": \"bad\"}]}", NULL, expected);
    check(data_chatml, ".json",
          "[{\"conversations\": [{\"from\": \"human\", \"value\": \"1\"}, {\"from\": \"gpt\", \"value\": \"2\"}, {\"from\": \"human\", \"value\":"
          " \"3\"}], \"chosen\": {\"from\": \"gpt\", \"value\": \"4\"}, \"rejected\": {\"from\": \"gpt\", \"value\": \"5\"}}]",
          NULL, U("1") OLD("2") U("3") A("4") "|" U("1") OLD("2") U("3") A("5") ";");
    check(NULL, ".jsonl", "{\"prompt\": \"p \", \"chosen\": \"good\", \"rejected\": \"bad\"}", NULL,
          "p [[good<|im_end|>]]|p [[bad<|im_end|>]];");
}

static void tree_is_its_best_ranked_path(void **state)
{
    (void)state;
    check(data_chatml, ".jsonl",
          "{\"prompt\": {\"text\": \"q\", \"role\": \"prompter\", \"replies\": ["
          "{\"text\": \"worse\", \"role\": \"assistant\", \"rank\": 1, \"replies\": []},"
          "{\"text\": \"gone\", \"role\": \"assistant\", \"rank\": -1, \"deleted\": true, \"replies\": []},"
          "{\"text\": \"best\", \"role\": \"assistant\", \"rank\": 0, \"replies\": [{\"text\": \"more?\", \"role\": \"prompter\", \"replies\": []}]}]}}",
          NULL, U("q") A("best") ";");
}

static void list_in_an_object_is_found_by_its_key(void **state)
{
    static const char text[] = "{\"train\": [[\"a\", \"x\"]], \"n\": 3, \"test\": [\n[\"b\", \"y\"]]}";
    const bm_data_options test = { .part = "test" }, none = { .part = "valid" };
    bm_data_options nothing = { .max_length = 0 };
    bm_template *tmpl = data_template(data_chatml);
    bm_error err = { 0 };
    bm_data d;

    (void)state;
    check(data_chatml, ".json", text, &test, U("b") A("y") ";");
    check(data_chatml, ".json", "{\"canary\": \"x\", \"examples\": [{\"input\": \"a\", \"target\": \"b\"}]}", NULL, U("a") A("b") ";");
    assert_int_equal(bm_data_read(&d, data_file(".json", text, strlen(text)), &nothing, tok, tmpl, &err), BM_INVALID);
    assert_non_null(strstr(err.hint, "train, test"));
    bm_data_done(&d);
    assert_int_equal(bm_data_read(&d, data_file(".json", text, strlen(text)), &none, tok, tmpl, &err), BM_INVALID);
    bm_data_done(&d);
    bm_template_free(tmpl);
}

/* ---- borders of the mask ---- */

static void token_across_the_border_carries_the_loss(void **state)
{
    bm_data d;
    const bm_data_options o = { .max_length = 0 };
    const char row[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"\\n\\n!\"}]}";

    (void)state;
    read_with(&d, data_chatml, ".jsonl", row, strlen(row), &o, 0);
    char *text = data_text(tok, &d);                             /* the header's line feed and the answer's are one token */
    assert_string_equal(text, U("x") "<|im_start|>assistant[[\n\n\n!<|im_end|>]]\n;");
    bm_free(text);
    bm_data_done(&d);
}

static void a_turn_begins_where_it_parts_from_the_prompt(void **state)
{
    static const char thinking[] =
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + ('<think></think>' if m.role == 'assistant' else '') + m.content + '<|im_end|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}";
    static const char unlike[] =
        "{% for m in messages %}{{ m.role + ': ' + m.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'Your turn!' }}{% endif %}";

    (void)state;
    check(thinking, ".jsonl", OK_ROW, NULL, U("u") "<|im_start|>assistant\n<think>[[</think>a<|im_end|>]]\n;");
    check(unlike, ".jsonl", OK_ROW, NULL, "user: u<|im_end|>assistant: [[a<|im_end|>]];");
}

static void a_turn_ends_where_the_model_would_stop(void **state)
{
    /* as gpt-oss: the name of the called tool once more beside its answer */
    static const char again[] =
        "{% for m in messages %}{% if m.tool_calls %}{{ 'A:to=' + m.tool_calls[0].function.name + '<|im_end|>' }}"
        "{% elif m.role == 'tool' %}{{ 'T:' + messages[loop.index0 - 1].tool_calls[0].function.name + '=' + m.content + '<|im_end|>' }}"
        "{% else %}{{ m.role + ':' + m.content + '<|im_end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'A:' }}{% endif %}";

    (void)state;
    check(again, ".jsonl",
          "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}, {\"role\": \"assistant\", \"tool_calls\": [{\"name\": \"f\"}]},"
          " {\"role\": \"tool\", \"content\": \"7\"}, {\"role\": \"assistant\", \"content\": \"ok\"}]}",
          NULL, "user:u<|im_end|>A:[[to=f<|im_end|>]]T:f=7<|im_end|>assistant:[[ok<|im_end|>]];");
}

static void generation_blocks_have_the_last_word(void **state)
{
    static const char inside[] =
        "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n"
        "{% else %}U:{{ m.content }}\n{% endif %}{% endfor %}";
    static const char outside[] =
        "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>\n"
        "{% else %}U:{{ m.content }}\n{% endif %}{% endfor %}";
    static const char row[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}, {\"role\": \"assistant\", \"content\": \"a\", \"weight\": 0},"
        " {\"role\": \"user\", \"content\": \"v\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}";

    (void)state;
    check(inside, ".jsonl", row, NULL, "U:u\nA:a<|im_end|>U:v\nA:[[b<|im_end|>]];");
    check(outside, ".jsonl", row, NULL, "U:u\nA:a<|im_end|>\nU:v\nA:[[b]]<|im_end|>\n;");
}

static void clock_of_templates_stands_still(void **state)
{
    (void)state;
    check("{{ strftime_now('%Y-%m-%d') }}: {% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}", ".jsonl", OK_ROW, NULL,
          "2024-07-26: u<|im_end|>[[a<|im_end|>]];");
}

static void template_that_writes_no_end_is_counted(void **state)
{
    static const char bare[] = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
    static const char row[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}";
    const bm_data_options o = { .max_length = 0 };
    bm_data d;

    (void)state;
    read_with(&d, bare, ".jsonl", row, strlen(row), &o, 0);
    assert_int_equal(d.n_without_end, 1);
    char *text = data_text(tok, &d);
    assert_string_equal(text, "user: u\nassistant: [[a]]\n;");
    bm_free(text);
    bm_data_done(&d);
}

/* ---- bad rows ---- */

static void every_bad_row_has_its_line_and_reason(void **state)
{
    static const char *const cases[][2] = {
        { "{\"messages\": [}", "2: not JSON: column 15: unexpected token near '}'" },
        { "not json", "2: not JSON: column 3: invalid token near 'not'" },
        { "{\"messages\": [], \"messages\": []}", "2: not JSON: column 27: duplicate object key near '\"messages\"'" },
        { "7", "2: the row is no object" },
        { "{\"x\": 1}", "2: has no 'messages' or 'conversations'" },
        { "{\"messages\": {}}", "2: has no 'messages' or 'conversations'" },
        { "{\"messages\": []}", "2: empty: no messages" },
        { "{\"messages\": [1]}", "2: message 1 is a number, expected an object" },
        { "{\"messages\": [{\"content\": \"x\"}]}", "2: message 1: its role is missing, expected a string" },
        { "{\"messages\": [{\"role\": \"alien\", \"content\": \"x\"}]}", "2: message 1: unknown role 'alien'" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": 3}]}", "2: message 1 (user): its content is a number, expected a string" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": \"\"}]}", "2: message 1 (user): is empty" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}",
          "2: message 1 (user): its content has a part of type 'image_url', expected text" },
        { "{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}]}",
          "2: roles out of order: the first message is of assistant, expected user" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
          "2: roles out of order: the last message is of user: there is no answer to learn" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"user\", \"content\": \"x\"}]}",
          "2: roles out of order: message 2 is of user, after user; expected assistant" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"x\"},"
          " {\"role\": \"tool\", \"content\": \"x\"}]}", "2: roles out of order: message 3 is of tool, after assistant; expected user" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"tool_calls\": [{\"name\": \"f\"}]},"
          " {\"role\": \"user\", \"content\": \"x\"}]}", "2: roles out of order: message 3 is of user, after assistant; expected tool" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": null}]}",
          "2: message 2 (assistant): its content is null, expected a string" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"tool_calls\": [{\"name\": \"f\", \"arguments\":"
          " \"{\"}]}]}", "2: message 2 (assistant): the arguments of a call: not JSON: column 1: string or '}' expected near end of file" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"x\", \"weight\": 0.5}]}",
          "2: message 2 (assistant): its weight is not 0 or 1" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"x\", \"weight\": 0}]}",
          "2: no token carries the loss" },
        { "{\"tools\": 5, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"x\"}]}",
          "2: tools is a number, expected an array" },
        { "{\"tools\": [{\"name\": \"f\"}], \"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"x\"}]}",
          "2: has tools, and the model's chat template does not write them" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"x\", \"tool_calls\":"
          " {\"name\": 4}}]}", "2: message 2 (assistant): a call of a tool without a name" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[2000], expected[2000];
        snprintf(text, sizeof text, OK_ROW "%s\n" OK_ROW, cases[i][0]);
        snprintf(expected, sizeof expected, OK_TEXT OK_TEXT "%s;", cases[i][1]);
        check(data_chatml, ".jsonl", text, NULL, expected);
    }
}

static void template_that_drops_a_message_makes_the_row_bad(void **state)
{
    static const char blind[] = "{% for m in messages %}{% if m.role != 'tool' %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endif %}{% endfor %}";

    (void)state;
    check(blind, ".jsonl",
          "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"y\", \"tool_calls\": [{\"name\": \"f\"}]},"
          " {\"role\": \"tool\", \"content\": \"z\"}, {\"role\": \"assistant\", \"content\": \"w\"}]}",
          NULL, "1: message 3 (tool): the model's chat template writes nothing of it;");
    check("{{ raise_exception('no') }}", ".jsonl", OK_ROW, NULL, "1: the model's chat template: no;");
    check(NULL, ".jsonl", OK_ROW, NULL, "1: a chat, and the model has no chat template;");
}

static void bad_rows_of_other_shapes_have_reasons_too(void **state)
{
    (void)state;
    check(data_chatml, ".jsonl", "{\"prompt\": \"p\", \"completion\": \"c\"}\n{\"prompt\": \"p\", \"completion\": \" \"}\n{\"prompt\": {}, \"completion\": \"c\"}\n{}",
          NULL, "p[[c<|im_end|>]];2: empty: nothing to learn in its target;3: 'prompt' is an object, expected a string;"
                "4: has no pair of fields such as prompt and completion;");
    check(data_chatml, ".jsonl", "{\"instruction\": \"i\", \"output\": \"o\"}\n{\"instruction\": \"\", \"output\": \"o\"}\n{\"instruction\": \"i\"}\n"
          "{\"instruction\": \"i\", \"instances\": []}", NULL,
          U("i") A("o") ";2: empty: no instruction;3: has no 'output';4: empty: no instances;");
    check(data_chatml, ".jsonl", "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"a\"}\n"
          "{\"prompt\": \"p\", \"chosen\": \"a\"}\n{\"chosen\": \"a\", \"rejected\": \"b\"}", NULL,
          U("p") A("a") "|" U("p") A("b") ";2: 'chosen' and 'rejected' are equal;3: has no 'rejected';4: has no prompt;");
    check(data_chatml, ".csv", "question,answer\na,b\nc\nd,e,f\n\n\"g\"x,h\ni,j\n\"k,l", NULL,
          U("a") A("b") ";" U("i") A("j") ";3: 1 columns, expected 2 as the first line has;4: 3 columns, expected 2 as the first line has;"
          "6: something stands between a closing quote and the next separator;8: the quote that opens on line 8 does not close;");
    check(data_chatml, ".json", "[{\"question\": \"a\", \"answer\": \"b\"},\n{\"question\": },\n{\"question\": \"c\", \"answer\": \"d\"}\n"
          "{\"question\": \"e\", \"answer\": \"f\"},\n]x", NULL,
          U("a") A("b") ";" U("c") A("d") ";" U("e") A("f") ";2: not JSON: column 14: unexpected token near '}';"
          "4: expected a comma between two rows;4: a comma without a row behind it;5: something stands behind the array;");
}

static void long_rows_are_refused_or_split_as_asked(void **state)
{
    const bm_data_options refuse = { .max_length = 4 }, split = { .max_length = 4, .split_long = true };

    (void)state;
    check(NULL, ".jsonl", "{\"text\": \"abcdefg\"}\n{\"text\": \"abc\"}", &refuse, "a[[bc<|im_end|>]];1: too long: 8 tokens, at most 4;");
    check(NULL, ".jsonl", "{\"text\": \"abcdefg\"}\n{\"text\": \"abc\"}", &split,
          "a[[bcd]];d[[efg]];g[[<|im_end|>]];a[[bc<|im_end|>]];");
}

static void each_target_is_learnt_once_when_rows_are_split(void **state)
{
    char text[400];
    bm_data whole, parts;
    bm_data_options o = { .max_length = 0 };

    (void)state;
    snprintf(text, sizeof text, "{\"question\": \"%0100d\", \"answer\": \"%0150d\"}", 1, 2);
    read_with(&whole, data_chatml, ".jsonl", text, strlen(text), &o, 0);
    for (int max = 2; max < 300; max += 7) {
        o = (bm_data_options){ .max_length = max, .split_long = true };
        read_with(&parts, data_chatml, ".jsonl", text, strlen(text), &o, 0);
        assert_int_equal(parts.n_target_tokens, whole.n_target_tokens);
        assert_int_equal(parts.n_split, max < whole.rows[0].n_tokens);
        bm_data_done(&parts);
    }
    bm_data_done(&whole);
}

static void text_file_is_one_document_in_windows(void **state)
{
    const bm_data_options o = { .max_length = 5 };

    (void)state;
    check(NULL, ".txt", "ab\ncd\nef", &o, "a[[b\ncd]];d[[\nef<|im_end|>]];");
    check(NULL, ".txt", "{\"text\": 1}", NULL, "{[[\"text\": 1}<|im_end|>]];");      /* the name says that it is no JSON */
}

static void nothing_is_read_with_bad_rows_until_told_to_drop_them(void **state)
{
    static const char text[] = OK_ROW "{}\n" OK_ROW "[]\n";
    const bm_data_options strict = { .max_length = 0 }, drop = { .drop_bad = true }, brief = { .max_length = 5 };
    bm_template *tmpl = data_template(data_chatml);
    bm_error err = { 0 };
    bm_data d;

    (void)state;
    assert_int_equal(bm_data_read(&d, data_file(".jsonl", text, strlen(text)), &strict, tok, tmpl, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "line 2: has no 'messages'"));
    assert_non_null(strstr(err.msg, "2 bad rows"));
    assert_non_null(strstr(err.hint, "data check"));
    assert_int_equal(d.n_bad, 2);
    bm_data_done(&d);
    assert_int_equal(bm_data_read(&d, data_file(".jsonl", text, strlen(OK_ROW)), &brief, tok, tmpl, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "tokens, at most 5"));
    assert_non_null(strstr(err.hint, "--split-long"));
    bm_data_done(&d);
    assert_int_equal(bm_data_read(&d, data_file(".jsonl", text, strlen(text)), &drop, tok, tmpl, &err), 0);
    assert_int_equal(d.n_rows, 2);
    assert_int_equal(d.n_bad, 2);
    bm_data_done(&d);
    bm_template_free(tmpl);
}

/* ---- duplicates and splits ---- */

static void duplicates_are_found_whatever_else_a_row_says(void **state)
{
    static const char text[] =
        "{\"text\": \"ab\", \"id\": 1}\n{\"text\": \"cd\"}\n{\"id\": 2, \"text\": \"ab\"}\n{\"text\": \"ab\"}\n{\"text\": \"\\u0063d\"}\n";
    const bm_data_options o = { .max_length = 0 };
    bm_data d;

    (void)state;
    read_with(&d, NULL, ".jsonl", text, strlen(text), &o, 0);
    assert_int_equal(d.n_duplicates, 3);
    assert_int_equal(d.rows[0].duplicate_of, 0);
    assert_int_equal(d.rows[2].duplicate_of, 1);
    assert_int_equal(d.rows[3].duplicate_of, 1);
    assert_int_equal(d.rows[4].duplicate_of, 2);
    bm_data_done(&d);
}

static void split_goes_by_the_rows_hash_not_by_its_place(void **state)
{
    enum { N = 500 };
    static char forward[N * 40], backward[N * 40];
    const bm_data_options o = { .valid_share = 0.2 };
    size_t n = 0, m = 0, valid = 0;
    bm_data a, b;

    (void)state;
    for (int i = 0; i < N; i++) {
        n += (size_t)sprintf(forward + n, "{\"text\": \"row %d\"}\n", i);
        m += (size_t)sprintf(backward + m, "{ \"text\":\"row %d\", \"n\": %d}\n", N - 1 - i, i);
    }
    read_with(&a, NULL, ".jsonl", forward, n, &o, 0);
    read_with(&b, data_chatml, ".jsonl", backward, m, &o, 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(a.rows[i].valid, b.rows[N - 1 - i].valid);
        assert_true(a.rows[i].hash == b.rows[N - 1 - i].hash);
        valid += a.rows[i].valid;
    }
    assert_in_range(valid, N / 5 - 40, N / 5 + 40);
    bm_data_done(&a);
    bm_data_done(&b);
}

static void hash_stays_what_it_was(void **state)
{
    static const char text[] = "{\"text\": \"ab\"}\n";
    const bm_data_options o = { .max_length = 0 };
    bm_data d;

    (void)state;
    read_with(&d, NULL, ".jsonl", text, strlen(text), &o, 0);
    /* the first 8 bytes of SHA-256 of [null,[null,"ab",0,0],[null,null]] */
    assert_true(d.rows[0].hash == 0xc51b160f7c7f924d);
    bm_data_done(&d);
}

/* ---- hostile files ---- */

static void refused(const char *ending, const char *bytes, size_t len, const char *says)
{
    const bm_data_options o = { .drop_bad = true };
    bm_template *tmpl = data_template(data_chatml);
    bm_error err = { 0 };
    bm_data d;

    assert_int_equal(bm_data_read(&d, data_file(ending, bytes, len), &o, tok, tmpl, &err), BM_INVALID);
    if (strstr(err.msg, says) == NULL)
        fprintf(stderr, "%s\n", err.msg);
    assert_non_null(strstr(err.msg, says));
    bm_data_done(&d);
    bm_template_free(tmpl);
}

static void what_is_no_text_is_refused(void **state)
{
    (void)state;
    refused(".jsonl", "", 0, "the file is empty");
    refused(".jsonl", "\n\n  \n", 5, "holds no rows");
    refused(".txt", "a\0b", 3, "NUL");
    refused(".txt", "a\xFF" "b", 3, "not UTF-8");
    refused(".json", "\xFF\xFE[\0]\0", 6, "UTF-16");
    refused(".gz", "\x1F\x8B\x08\x00", 4, "gzip");
    refused(".parquet", "PAR1\x15\x04", 6, "Parquet");
    refused(".csv", "a,b,a\n1,2,3\n", 12, "column 3 has the name of another one");
    refused(".csv", "a,\xFF\n1,2\n", 9, "the name of column 2 is not UTF-8");
    refused(".csv", "\"a,b\n", 5, "does not close");
    refused(".jsonl", "{\"a\": 1}\n", 9, "none of the known shapes");
    refused(".json", "[", 1, "the file ends inside the array");
    refused(".json", "[]", 2, "holds no rows");
    refused(".json", "{\"messages\": [", 14, "does not end");
}

static void bytes_that_are_no_utf8_or_nul_make_a_row_bad(void **state)
{
    static const char jsonl[] = "{\"text\": \"ok\"}\n{\"text\": \"\xC3\x28\"}\n{\"text\": \"a\0b\"}\n{\"text\": \"\\ud800\"}\n{\"text\": \"a\\u0000b\"}\n";
    static const char csv[] = "question,answer\nok,\xFF\nok,ok\n";
    const bm_data_options o = { .drop_bad = true };
    bm_data d;

    (void)state;
    read_with(&d, NULL, ".jsonl", jsonl, sizeof jsonl - 1, &o, 0);
    assert_int_equal(d.n_rows, 2);                               /* an escaped NUL is a character like others */
    assert_int_equal(d.rows[1].line, 5);
    assert_int_equal(d.n_bad, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(d.bad[i].line, i + 2);
    bm_data_done(&d);
    read_with(&d, data_chatml, ".csv", csv, sizeof csv - 1, &o, 0);
    assert_int_equal(d.n_rows, 1);
    assert_string_equal(d.bad[0].reason, "column 2 is not UTF-8");
    bm_data_done(&d);
}

static void deep_json_makes_a_row_bad(void **state)
{
    enum { DEPTH = 100000 };
    bm_buf text = { 0 };
    const bm_data_options o = { .drop_bad = true };
    bm_data d;

    (void)state;
    bm_buf_puts(&text, OK_ROW "{\"messages\": ");
    for (int i = 0; i < DEPTH; i++)
        bm_buf_putc(&text, '[');
    bm_buf_puts(&text, "\n{\"tools\": [{\"name\": \"f\", \"x\": ");
    for (int i = 0; i < 2000; i++)
        bm_buf_putc(&text, '[');
    for (int i = 0; i < 2000; i++)
        bm_buf_putc(&text, ']');
    bm_buf_puts(&text, "}], \"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"y\"}]}\n");
    read_with(&d, data_tools, ".jsonl", text.data, text.len, &o, 0);
    assert_int_equal(d.n_rows, 1);
    assert_int_equal(d.n_bad, 2);
    assert_non_null(strstr(d.bad[0].reason, "maximum parsing depth"));
    bm_buf_done(&text);
    bm_data_done(&d);
}

static void huge_row_makes_a_row_bad(void **state)
{
    size_t n = (16 << 20) + 100;
    char *text = malloc(n + 100);
    const bm_data_options o = { .drop_bad = true };
    bm_data d;

    (void)state;
    size_t head = (size_t)sprintf(text, OK_ROW "{\"messages\": \"");
    memset(text + head, 'x', n - head);
    size_t len = n + (size_t)sprintf(text + n, "\"}\n" OK_ROW);
    read_with(&d, data_chatml, ".jsonl", text, len, &o, 0);
    assert_int_equal(d.n_rows, 2);
    assert_int_equal(d.n_bad, 1);
    assert_non_null(strstr(d.bad[0].reason, "at most 16777216 are read"));
    free(text);
    bm_data_done(&d);
}

static void list_of_bad_rows_is_bounded(void **state)
{
    size_t n = 0;
    char *text = malloc(2 * 30000 + 200);
    const bm_data_options o = { .drop_bad = true };
    bm_data d;

    (void)state;
    n += (size_t)sprintf(text, OK_ROW);
    for (int i = 0; i < 30000; i++)
        n += (size_t)sprintf(text + n, "x\n");
    read_with(&d, data_chatml, ".jsonl", text, n, &o, 0);
    assert_int_equal(d.n_bad, 30000);
    assert_int_equal(d.bad[BM_DATA_MAX_BAD - 1].line, BM_DATA_MAX_BAD + 1);
    free(text);
    bm_data_done(&d);
}

static void reason_is_cut_between_letters(void **state)
{
    bm_buf text = { 0 };
    const bm_data_options o = { .drop_bad = true };
    bm_data d;

    (void)state;
    for (int pad = 0; pad < 3; pad++) {
        bm_buf_puts(&text, "{\"messages\": [{\"role\": \"user\", \"content\": \"x\", \"weight\": ");
        bm_buf_printf(&text, "\"%.*s", pad, "aaa");
        for (int i = 0; i < 100; i++)
            bm_buf_puts(&text, "\xE4\xB8\xAD");
        bm_buf_puts(&text, "\n");
    }
    bm_buf_puts(&text, OK_ROW);
    read_with(&d, data_chatml, ".jsonl", text.data, text.len, &o, 0);
    assert_int_equal(d.n_bad, 3);
    for (int i = 0; i < 3; i++)
        assert_true(bm_utf8_valid(d.bad[i].reason, strlen(d.bad[i].reason)));
    bm_buf_done(&text);
    bm_data_done(&d);
}

static void every_cut_of_a_file_is_survived(void **state)
{
    static const char json[] =
        "[{\"conversations\": [{\"from\": \"human\", \"value\": \"u\"}, {\"from\": \"gpt\", \"value\": \"a\\n\"}], \"tools\": \"[]\"},\n {\"conversations\":"
        " [{\"from\": \"human\", \"value\": \"v\"}, {\"from\": \"gpt\", \"value\": \"b\"}]}]";
    static const char csv[] = "question,answer\r\n\"a\"\"b\",c\r\n\"d\ne\",f\r\n";
    const bm_data_options o = { .drop_bad = true };
    bm_template *tmpl = data_template(data_tools);
    bm_data d;

    (void)state;
    for (size_t n = 0; n < sizeof json; n++) {
        bm_data_read(&d, data_file(".json", json, n), &o, tok, tmpl, NULL);
        assert_true(d.n_rows <= 2);
        bm_data_done(&d);
    }
    for (size_t n = 0; n < sizeof csv; n++) {
        bm_data_read(&d, data_file(".csv", csv, n), &o, tok, tmpl, NULL);
        assert_true(d.n_rows <= 2);
        bm_data_done(&d);
    }
    bm_template_free(tmpl);
}

static void every_failed_allocation_is_reported_and_leaks_nothing(void **state)
{
    static const char text[] = OK_ROW "{\"x\": 1}\n" OK_ROW;
    const bm_data_options o = { .drop_bad = true };
    bm_template *tmpl = data_template(data_chatml);
    const char *path = data_file(".jsonl", text, strlen(text));
    bool done = false;

    (void)state;
    for (long n = 1; !done; n++) {
        bm_error err = { 0 };
        bm_data d;
        assert_true(n < 5000);
        bm_mem_fail_at(n);
        int rc = bm_data_read(&d, path, &o, tok, tmpl, &err);
        bm_mem_fail_at(0);
        done = rc == 0 && d.n_rows == 2 && d.n_bad == 1;
        assert_true(done || rc == BM_NOMEM);
        bm_data_done(&d);
    }
    bm_template_free(tmpl);
}

static void rows_are_counted_without_a_model(void **state)
{
    static const char text[] = "{\"query\": \"a\", \"choices\": [1]}\n{\n{\"query\": \"b\", \"choices\": [2]}\n";
    static const char csv[] = "a,b\nc,d\n";
    bm_data_options o = { .max_length = 0 };
    bm_data_count c;
    bm_error err = { 0 };

    (void)state;
    assert_int_equal(bm_data_count_rows(&c, data_file(".jsonl", text, strlen(text)), &o, &err), 0);
    assert_int_equal(c.n_rows, 2);
    assert_int_equal(c.n_bad, 1);
    assert_int_equal(c.shape, BM_DATA_AUTO);
    assert_int_equal(bm_data_count_rows(&c, data_file(".jsonl", OK_ROW, strlen(OK_ROW)), &o, &err), 0);
    assert_int_equal(c.shape, BM_DATA_MESSAGES);
    assert_int_equal(bm_data_count_rows(&c, data_file(".csv", csv, strlen(csv)), &o, &err), 0);
    assert_int_equal(c.n_rows, 1);
    o.no_header = true;
    assert_int_equal(bm_data_count_rows(&c, data_file(".csv", csv, strlen(csv)), &o, &err), 0);
    assert_int_equal(c.n_rows, 2);
    assert_int_equal(bm_data_count_rows(&c, "/nowhere/at.all", &o, &err), BM_NOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(messages_carry_the_loss_on_the_turns_of_the_assistant),
        T(weight_0_takes_a_turn_out),
        T(what_looks_like_a_control_token_in_a_message_stays_text),
        T(calls_of_tools_carry_the_loss_with_what_the_template_writes_around_them),
        T(sharegpt_and_alpaca_become_chats),
        T(alpaca_without_a_template_is_stanfords_text),
        T(prompt_and_completion_are_text_as_it_stands),
        T(other_pairs_are_chats_when_there_is_a_template),
        T(text_learns_everything_or_what_stands_behind_a_mark),
        T(preferences_are_pairs_with_the_loss_on_the_answers),
        T(tree_is_its_best_ranked_path),
        T(list_in_an_object_is_found_by_its_key),
        T(token_across_the_border_carries_the_loss),
        T(a_turn_begins_where_it_parts_from_the_prompt),
        T(a_turn_ends_where_the_model_would_stop),
        T(generation_blocks_have_the_last_word),
        T(clock_of_templates_stands_still),
        T(template_that_writes_no_end_is_counted),
        T(every_bad_row_has_its_line_and_reason),
        T(template_that_drops_a_message_makes_the_row_bad),
        T(bad_rows_of_other_shapes_have_reasons_too),
        T(long_rows_are_refused_or_split_as_asked),
        T(each_target_is_learnt_once_when_rows_are_split),
        T(text_file_is_one_document_in_windows),
        T(nothing_is_read_with_bad_rows_until_told_to_drop_them),
        T(duplicates_are_found_whatever_else_a_row_says),
        T(split_goes_by_the_rows_hash_not_by_its_place),
        T(hash_stays_what_it_was),
        T(what_is_no_text_is_refused),
        T(bytes_that_are_no_utf8_or_nul_make_a_row_bad),
        T(deep_json_makes_a_row_bad),
        T(huge_row_makes_a_row_bad),
        T(list_of_bad_rows_is_bounded),
        T(reason_is_cut_between_letters),
        T(every_cut_of_a_file_is_survived),
        T(every_failed_allocation_is_reported_and_leaks_nothing),
        T(rows_are_counted_without_a_model),
    };

    tok = data_tokenizer();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    bm_tokenizer_free(tok);
    data_file("", "", 0);
    return failed;
}
