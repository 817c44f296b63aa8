/* Task files: defaults, errors by file, line and key, includes, groups, tags; every shipped file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "eval/known.h"
#include "eval/task.h"
#include "scratch.h"

static int setup(void **state) { (void)state; scratch_open(); return 0; }
static int teardown(void **state) { (void)state; scratch_close(); return 0; }

#define BASE "task: t\ndataset_path: json\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n"

static void defaults_are_lm_evals(void **state)
{
    bm_error err = {0};
    bm_task *t;

    (void)state;
    if (bm_task_load_file(&t, scratch_write("t.yaml", BASE), NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(t->output, BM_TASK_GENERATE);
    assert_string_equal(t->target_delimiter, " ");
    assert_string_equal(t->fewshot_delimiter, "\n\n");
    assert_int_equal(t->repeats, 1);
    assert_string_equal(t->version, "Yaml");
    assert_int_equal(t->n_metrics, 1);
    assert_string_equal(t->metrics[0].name, "exact_match");
    assert_string_equal(t->metrics[0].aggregation, "mean");
    assert_string_equal(t->filters[0].name, "none");
    assert_string_equal(t->filters[0].steps[0].function, "take_first");
    assert_string_equal(json_string_value(json_array_get(json_object_get(t->generation_kwargs, "until"), 0)), "\n\n");
    assert_int_equal(json_integer_value(json_object_get(t->generation_kwargs, "max_gen_toks")), 256);
    bm_task_free(t);
}

static void fewshot_config_inherits_and_overrides(void **state)
{
    bm_task_options five = {.num_fewshot = 5, .has_num_fewshot = true};
    bm_error err = {0};
    bm_task *t;

    (void)state;
    scratch_write("t.yaml", BASE "fewshot_split: train\ntarget_delimiter: ': '\nfewshot_config:\n  sampler: first_n\n  doc_to_text: '{{q}}?'\n");
    assert_int_equal(bm_task_load_file(&t, scratch_path("t.yaml"), &five, &err), 0);
    assert_true(t->fewshot.first_n);
    assert_string_equal(t->fewshot.split, "train");
    assert_string_equal(t->fewshot.target_delimiter, ": ");
    assert_string_equal(t->fewshot.doc_to_text.text, "{{q}}?");
    assert_string_equal(t->fewshot.doc_to_target.text, "a");
    assert_int_equal(t->num_fewshot, 5);
    bm_task_free(t);
    scratch_write("t.yaml", BASE "num_fewshot: 0\n");
    assert_int_equal(bm_task_load_file(&t, scratch_path("t.yaml"), &five, &err), 0);
    assert_int_equal(t->num_fewshot, 0);                 /* a task that says 0 keeps it, as in lm-eval */
    bm_task_free(t);
}

static void errors_name_file_line_and_key(void **state)
{
    static const struct { const char *text, *why; int code; } cases[] = {
        {BASE "colour: 3\n", "t.yaml:6: colour: no such key", BM_INVALID},
        {BASE "output_type: choice\n", "t.yaml:6: output_type: 'choice'", BM_INVALID},
        {BASE "process_docs: !function utils.f\n", "t.yaml:6: process_docs: !function utils.f", BM_UNSUPPORTED},
        {BASE "description: 3\n", "t.yaml:6: description: must be a string", BM_INVALID},
        {BASE "doc_to_choice: '{{ a'\n", "t.yaml:6: doc_to_choice: the template", BM_INVALID},
        {BASE "fewshot_config: {sampler: random}\n", "t.yaml:6: sampler: must be", BM_INVALID},
        {BASE "fewshot_config:\n  doc_to_txt: x\n", "t.yaml:7: doc_to_txt: no such key", BM_INVALID},
        {BASE "fewshot_config:\n  samples: !function u.s\n", "t.yaml:7: samples: Python functions", BM_UNSUPPORTED},
        {BASE "num_fewshot: many\n", "t.yaml:6: num_fewshot: must be an integer", BM_INVALID},
        {BASE "repeats: 0\n", "t.yaml:6: repeats: must be an integer", BM_INVALID},
        {BASE "metric_list:\n  - metric: bleurt\n", "t.yaml:7: metric_list[0].metric: not carried out here: bleurt", BM_UNSUPPORTED},
        {BASE "metric_list:\n  - aggregation: mean\n", "t.yaml:7: metric_list[0].metric: missing", BM_INVALID},
        {BASE "metric_list:\n  - {metric: acc, aggregation: mode}\n", "metric_list[0].aggregation: not carried out here: mode", BM_UNSUPPORTED},
        {BASE "metric_list:\n  - metric: exact_match\n    regexes_to_ignore: ['(']\n", "metric_list[0].regexes_to_ignore[0]: regular expression", BM_INVALID},
        {BASE "filter_list:\n  - name: x\n    filter:\n      - function: shout\n", "t.yaml:9: filter_list[0]: no such filter here: shout", BM_UNSUPPORTED},
        {BASE "filter_list:\n  - name: x\n    filter:\n      - {function: regex, regex_pattern: '['}\n", "filter_list[0].regex_pattern: regular expression", BM_INVALID},
        {BASE "custom_dataset: !function utils.load\n", "t.yaml:6: custom_dataset: Python functions are not run", BM_UNSUPPORTED},
        {BASE "unsafe_code: true\n", "t.yaml:6: unsafe_code: code that a model writes", BM_UNSUPPORTED},
        {BASE "doc_to_image: img\n", "t.yaml:6: doc_to_image: images", BM_UNSUPPORTED},
        {"class: !function task.Task\ntask: t\n", "t.yaml:1: class: a task written as a Python class", BM_UNSUPPORTED},
        {"dataset_path: x\n", "t.yaml:1: task: missing", BM_INVALID},
        {"task: [a]\n", "t.yaml:1: task: must be a string", BM_INVALID},
        {"- a\n", "t.yaml:1: a task file is a map", BM_INVALID},
        {"", "t.yaml:1: a task file is a map", BM_INVALID},
        {BASE "include: other.yaml\n", "t.yaml:6: include: no file", BM_NOTFOUND},
        {BASE "include: t.yaml\n", "t.yaml:6: include: ", BM_INVALID},
        {BASE "generation_kwargs: {until: [1]}\n", "generation_kwargs: until", BM_INVALID},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bm_error err = {0};
        bm_task *t;
        int rc = bm_task_load_file(&t, scratch_write("t.yaml", cases[i].text), NULL, &err);
        if (rc != cases[i].code || strstr(err.msg, cases[i].why) == NULL)
            fail_msg("case %zu: %s '%s', not '%s'", i, bm_error_name(rc), err.msg, cases[i].why);
        assert_null(t);
    }
}

static void includes_merge_and_errors_stay_with_their_file(void **state)
{
    bm_error err = {0};
    bm_task *t;

    (void)state;
    scratch_write("base_yaml", "dataset_path: json\ntest_split: test\nrepeats: 2\ndoc_to_text: q\ndoc_to_target: a\nmetric_list: [{metric: nope}]\n");
    scratch_write("t.yaml", "include: base_yaml\ntask: t\nrepeats: 3\nmetric_list:\n  - metric: acc\n");
    assert_int_equal(bm_task_load_file(&t, scratch_path("t.yaml"), NULL, &err), 0);
    assert_int_equal(t->repeats, 3);
    assert_int_equal(t->n_sources, 2);
    bm_task_free(t);
    scratch_write("t.yaml", "include: [base_yaml]\ntask: t\n");
    assert_int_equal(bm_task_load_file(&t, scratch_path("t.yaml"), NULL, &err), BM_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "base_yaml:6: metric_list[0].metric"));
    scratch_write("base_yaml", "include: t.yaml\n");
    assert_int_equal(bm_task_load_file(&t, scratch_path("t.yaml"), NULL, &err), BM_INVALID);
    assert_non_null(strstr(err.msg, "included twice"));
}

static size_t reported;
static void report(void *arg, const char *file, const bm_error *err)
{
    (void)arg, (void)file;
    reported += err != NULL;
}

static void groups_tags_and_overrides_resolve(void **state)
{
    const char *dirs[1], *name = "all", *tag = "easy", *pattern = "t*";
    bm_error err = {0};
    bm_task_index *index;
    bm_task_list *list;

    (void)state;
    scratch_write("a.yaml", "task: t1\ntag: easy\ndataset_path: json\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n");
    scratch_write("b.yaml", "include: a.yaml\ntask: t2\ntag: [easy, hard]\n");
    scratch_write("c.yaml", "task: t1\n");
    scratch_write("d.yaml", "key: [\n");
    scratch_write("g.yaml", "group: all\ngroup_alias: All\nnum_fewshot: 2\ntask:\n  - group: inner\n    task: [t2]\n  - {task: t1, repeats: 4}\n"
                  "  - {task: made, dataset_path: csv, test_split: x, doc_to_text: q, doc_to_target: a}\n"
                  "aggregate_metric_list:\n  - {metric: acc, weight_by_size: false, filter_list: none}\nmetadata: {version: 2}\n");
    dirs[0] = scratch_dir;
    reported = 0;
    assert_int_equal(bm_task_index_open(&index, dirs, 1, report, NULL, &err), 0);
    assert_int_equal(reported, 2);                       /* c.yaml: the name is taken; d.yaml: not YAML */
    assert_int_equal(bm_task_index_count(index), 5);
    assert_int_equal(bm_task_index_find(index, "easy")->n_members, 2);
    if (bm_task_list_load(&list, index, &name, 1, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(list->n_tasks, 3);
    assert_int_equal(list->n_groups, 2);
    assert_string_equal(list->groups[0].alias, "All");
    assert_string_equal(list->groups[0].version, "2");
    assert_true(list->groups[0].top);
    assert_false(list->groups[0].metrics[0].weight_by_size);
    assert_string_equal(list->groups[1].name, "all::inner");
    assert_true(list->groups[0].members[0].is_group);
    assert_string_equal(list->tasks[0]->name, "t2");
    assert_int_equal(list->tasks[0]->num_fewshot, 2);
    assert_int_equal(list->tasks[1]->repeats, 4);
    assert_string_equal(list->tasks[2]->name, "all::made");
    assert_string_equal(list->tasks[2]->dataset_path, "csv");
    bm_task_list_free(list);
    assert_int_equal(bm_task_list_load(&list, index, &tag, 1, NULL, &err), 0);
    assert_int_equal(list->n_tasks, 2);
    assert_int_equal(list->n_groups, 0);
    bm_task_list_free(list);
    assert_int_equal(bm_task_list_load(&list, index, &pattern, 1, NULL, &err), 0);
    assert_int_equal(list->n_tasks, 2);
    bm_task_list_free(list);
    name = "alll";
    assert_int_equal(bm_task_list_load(&list, index, &name, 1, NULL, &err), BM_NOTFOUND);
    assert_non_null(strstr(err.hint, "all"));
    bm_task_index_close(index);
}

static void groups_that_hold_themselves_end(void **state)
{
    const char *dirs[1], *name = "g";
    bm_error err = {0};
    bm_task_index *index;
    bm_task_list *list;

    (void)state;
    scratch_write("g.yaml", "group: g\ntask: [g]\n");
    dirs[0] = scratch_dir;
    assert_int_equal(bm_task_index_open(&index, dirs, 1, NULL, NULL, &err), 0);
    assert_int_equal(bm_task_list_load(&list, index, &name, 1, NULL, &err), BM_LIMIT);
    bm_task_index_close(index);
}

static void every_shipped_file_is_read(void **state)
{
    static const char *const dirs[] = {"tasks"}, *const groups[] = {"mmlu", "bbh_fewshot", "agieval_gaokao"};
    bm_error err = {0};
    bm_task_index *index;
    bm_task_list *list;
    size_t n = 0;

    (void)state;
    reported = 0;
    assert_int_equal(bm_task_index_open(&index, dirs, 1, report, NULL, &err), 0);
    assert_int_equal(reported, 0);
    for (size_t i = 0; i < bm_task_index_count(index); i++) {
        const bm_task_entry *e = bm_task_index_at(index, i);
        const char *name = e->name;
        if (bm_task_list_load(&list, index, &name, 1, NULL, &err) < 0)
            fail_msg("%s: %s", name, err.msg);
        n += e->kind == BM_ENTRY_TASK;
        bm_task_list_free(list);
    }
    assert_int_equal(n, 60);
    assert_int_equal(bm_task_list_load(&list, index, groups, 3, NULL, &err), 0);
    assert_int_equal(list->n_tasks, 30 + 8 + 4);
    bm_task_list_free(list);
    bm_task_index_close(index);
}

static void known_functions_need_their_own_file(void **state)
{
    char why[200];
    size_t n;

    (void)state;
    scratch_write("utils.py", "def process_docs(dataset):\n    return dataset\n");
    assert_null(bm_known_find(scratch_dir, "utils.process_docs", why));
    assert_non_null(strstr(why, "no equivalent"));
    assert_null(bm_known_find(scratch_dir, "../utils.process_docs", why));
    assert_null(bm_known_find(scratch_dir, "nodot", why));
    assert_non_null(bm_known_find(scratch_dir, "lm_eval.tasks.hellaswag.utils.process_docs", why));
    const bm_known *table = bm_known_table(&n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(strlen(table[i].sha256), 64);
}

static void running_out_of_memory_anywhere_is_an_error(void **state)
{
    bm_error err = {0};
    bm_task *t = NULL;
    int rc = -1;

    (void)state;
    for (long n = 1; rc != 0 && n < 20000; n++) {
        bm_mem_fail_at(n);
        rc = bm_task_load_file(&t, "tasks/mmlu/mmlu_astronomy.yaml", NULL, &err);
        assert_true(rc == 0 || rc == BM_NOMEM || rc == BM_LIMIT);
    }
    bm_mem_fail_at(0);
    assert_int_equal(rc, 0);
    bm_task_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_are_lm_evals, setup, teardown),
        cmocka_unit_test_setup_teardown(fewshot_config_inherits_and_overrides, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_name_file_line_and_key, setup, teardown),
        cmocka_unit_test_setup_teardown(includes_merge_and_errors_stay_with_their_file, setup, teardown),
        cmocka_unit_test_setup_teardown(groups_tags_and_overrides_resolve, setup, teardown),
        cmocka_unit_test_setup_teardown(groups_that_hold_themselves_end, setup, teardown),
        cmocka_unit_test(every_shipped_file_is_read),
        cmocka_unit_test_setup_teardown(known_functions_need_their_own_file, setup, teardown),
        cmocka_unit_test(running_out_of_memory_anywhere_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
