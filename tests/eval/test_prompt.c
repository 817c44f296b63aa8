/* Prompts beyond the shipped tasks: several inputs and targets, prefixes, mutual information, what answers are compared with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "eval/prompt.h"
#include "scratch.h"

#define DATA "dataset_path: json\ndataset_kwargs: {data_files: {test: d.jsonl}}\ntest_split: test\n"

static int setup(void **state) { (void)state; scratch_open(); return 0; }
static int teardown(void **state) { (void)state; scratch_close(); return 0; }

static bm_task *task;
static bm_prompts *prompts;

static int try_open(const char *yaml, const char *rows, bm_error *err)
{
    bm_prompt_options o = {.fewshot_seed = 1234};
    int rc;

    scratch_write("d.jsonl", rows);
    task = NULL, prompts = NULL;
    if ((rc = bm_task_load_file(&task, scratch_write("t.yaml", yaml), NULL, err)) < 0)
        return rc;
    return bm_prompts_open(&prompts, task, &o, err);
}

static void open_task(const char *yaml, const char *rows)
{
    bm_error err = {0};

    if (try_open(yaml, rows, &err) < 0)
        fail_msg("%s", err.msg);
}

static void close_task(void)
{
    bm_prompts_close(prompts);
    bm_task_free(task);
}

static void next(bm_sample *s)
{
    bm_error err = {0};

    if (bm_prompts_next(prompts, s, &err) != 0)
        fail_msg("%s", err.msg);
}

static void request_is(const bm_sample *s, size_t i, const char *context, const char *continuation)
{
    assert_true(i < s->n_requests);
    assert_string_equal(s->requests[i].context, context);
    if (continuation == NULL)
        assert_null(s->requests[i].continuation);
    else
        assert_string_equal(s->requests[i].continuation, continuation);
}

static void mutual_information_asks_for_each_choice_alone(void **state)
{
    bm_sample s;

    (void)state;
    open_task("task: t\n" DATA "output_type: multiple_choice\ndoc_to_text: 'Q: {{q}}'\ndoc_to_target: a\ndoc_to_choice: ['yes', 'no']\n"
              "metric_list: [{metric: acc_mutual_info}]\n", "{\"q\": \"x\", \"a\": 1}\n{\"q\": \"y\", \"a\": 5}\n");
    next(&s);
    assert_int_equal(s.n_requests, 4);
    assert_int_equal(s.n_choices, 2);
    request_is(&s, 0, "Q: x", " yes");
    request_is(&s, 3, "", " no");
    assert_int_equal(json_integer_value(s.gold), 1);
    bm_sample_done(&s);
    next(&s);
    assert_int_equal(json_integer_value(s.gold), -100);  /* no such choice */
    bm_sample_done(&s);
    close_task();
}

static void several_inputs_take_the_choices_place(void **state)
{
    bm_sample s;

    (void)state;
    open_task("task: t\n" DATA "output_type: multiple_choice\ndescription: 'D {{n}}. '\ndoc_to_text: n\ndoc_to_target: 'the {{e}}'\ndoc_to_choice: '{{[a, b]}}'\n",
              "{\"n\": 1, \"a\": \"A\", \"b\": \"it's\", \"e\": \"end\"}\n");
    next(&s);
    assert_true(s.multiple_input);
    request_is(&s, 0, "D 1. A", " the end");          
    request_is(&s, 1, "D 1. it's", " the end");
    assert_int_equal(json_integer_value(s.gold), 1);
    bm_sample_done(&s);
    close_task();
}

static void several_targets_stay_a_list(void **state)
{
    bm_sample s;

    (void)state;
    open_task("task: t\n" DATA "doc_to_text: q\ndoc_to_target: '{{a}}'\n", "{\"q\": \"x\", \"a\": [\"one\", \"it's\"]}\n");
    next(&s);
    assert_true(s.multiple_target);
    assert_string_equal(json_string_value(json_array_get(s.gold, 1)), "it's");
    request_is(&s, 0, "x", NULL);
    bm_sample_done(&s);
    close_task();
}

static void numbers_become_text_for_generation_and_choices_are_indexed(void **state)
{
    bm_sample s;

    (void)state;
    open_task("task: t\n" DATA "doc_to_text: q\ndoc_to_target: a\n", "{\"q\": \"x\", \"a\": 2.5}\n");
    next(&s);
    assert_string_equal(json_string_value(s.gold), "2.5");
    bm_sample_done(&s);
    close_task();
    open_task("task: t\n" DATA "doc_to_text: q\ndoc_to_target: a\ndoc_to_choice: {A: first, B: second}\n", "{\"q\": \"x\", \"a\": 1}\n");
    next(&s);
    assert_string_equal(json_string_value(s.gold), "second");
    bm_sample_done(&s);
    close_task();
}

static void a_prefix_begins_the_answer(void **state)
{
    bm_sample s;

    (void)state;
    open_task("task: t\n" DATA "doc_to_text: q\ndoc_to_target: a\ngen_prefix: 'Answer {{n}}:'\nnum_fewshot: 1\nfewshot_config:\n  samples: [{q: p, a: r, n: 0}]\n",
              "{\"q\": \"x\", \"a\": \"y\", \"n\": 3}\n");
    next(&s);
    request_is(&s, 0, "p Answer 0: r\n\nx Answer 3:", NULL);
    bm_sample_done(&s);
    close_task();
}

static void rolling_text_is_counted(void **state)
{
    bm_sample s;

    (void)state;
    open_task("task: t\n" DATA "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{q}}'\n", "{\"q\": \" two  w\\u00f6rds\\n\"}\n");
    next(&s);
    request_is(&s, 0, "", " two  w\xC3\xB6rds\n");
    assert_int_equal(s.n_words, 4);                      /* len(re.split(r"\s+", text)), empty ends included */
    assert_int_equal(s.n_bytes, 13);
    bm_sample_done(&s);
    close_task();
}

static void a_document_that_fails_leaves_the_others(void **state)
{
    bm_error err = {0};
    bm_sample s;

    (void)state;
    open_task("task: t\n" DATA "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_target: 0\ndoc_to_choice: '{{c[:2]}}'\n",
              "{\"q\": \"x\", \"c\": [\"a\", \"b\"]}\n{\"q\": \"y\", \"c\": null}\n{\"q\": \"z\", \"c\": [\"d\", \"e\"]}\n");
    next(&s);
    bm_sample_done(&s);
    assert_int_equal(bm_prompts_next(prompts, &s, &err), BM_INVALID);
    assert_int_equal(s.doc_id, 1);
    assert_non_null(strstr(err.msg, "document 1: "));
    assert_non_null(strstr(err.msg, "doc_to_choice"));
    bm_sample_done(&s);
    next(&s);
    assert_int_equal(s.doc_id, 2);
    bm_sample_done(&s);
    assert_int_equal(bm_prompts_next(prompts, &s, &err), 1);
    close_task();
}

static void what_cannot_work_is_told_before_anything_runs(void **state)
{
    static const struct { const char *yaml, *why; } cases[] = {
        {"task: t\n" DATA "doc_to_text: '{{nope}}'\ndoc_to_target: a\n", "t.yaml:5: doc_to_text: line 1, column 1: 'nope' is undefined"},
        {"task: t\n" DATA "doc_to_text: q\n", "doc_to_target: missing"},
        {"task: t\n" DATA "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_target: a\n", "doc_to_choice: missing"},
        {"task: t\n" DATA "output_type: multiple_choice\ndoc_to_text: q\ndoc_to_target: a\ndoc_to_choice: '{{q}}'\n", "not a Python literal"},
        {"task: t\ndataset_path: json\ndoc_to_text: q\ndoc_to_target: a\n", "test_split: neither"},
        {"task: t\ndataset_path: json\ntest_split: x\ndoc_to_text: q\ndoc_to_target: a\n", "data_files: missing"},
        {"task: t\n" DATA "doc_to_text: q\ndoc_to_target: a\nnum_fewshot: 3\n", "3 examples are wanted for a document, and the pool has 1"},
        {"task: t\n" DATA "doc_to_text: q\ndoc_to_target: a\ndataset_kwargs: {data_files: {test: 'https://x.org/d.jsonl'}}\n", "is not a local file"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bm_error err = {0};
        if (try_open(cases[i].yaml, "{\"q\": \"x\", \"a\": \"y\"}\n", &err) == 0)
            fail_msg("case %zu was opened", i);
        if (strstr(err.msg, cases[i].why) == NULL)
            fail_msg("case %zu: '%s' does not say '%s'", i, err.msg, cases[i].why);
        assert_null(prompts);
        bm_task_free(task);
    }
}

static void trailing_space_is_pythons(void **state)
{
    (void)state;
    assert_int_equal(bm_request_trailing_space("a b \n", 5), 2);
    assert_int_equal(bm_request_trailing_space("a\xE3\x80\x80", 4), 3);
    assert_int_equal(bm_request_trailing_space("  ", 2), 2);
    assert_int_equal(bm_request_trailing_space(" a", 2), 0);
    assert_int_equal(bm_request_trailing_space("", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(mutual_information_asks_for_each_choice_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(several_inputs_take_the_choices_place, setup, teardown),
        cmocka_unit_test_setup_teardown(several_targets_stay_a_list, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_become_text_for_generation_and_choices_are_indexed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_prefix_begins_the_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(rolling_text_is_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_document_that_fails_leaves_the_others, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_work_is_told_before_anything_runs, setup, teardown),
        cmocka_unit_test(trailing_space_is_pythons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
