/* Documents: the types that HF datasets give, and rows that are broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "eval/docs.h"
#include "scratch.h"

static int setup(void **state) { (void)state; scratch_open(); return 0; }
static int teardown(void **state) { (void)state; scratch_close(); return 0; }

static void reads_options(const char *name, const char *text, const char *options, const char *want)
{
    json_t *kwargs = options != NULL ? json_loads(options, 0, NULL) : NULL;
    bm_error err = {0};
    bm_docs *d;

    if (bm_docs_read(&d, scratch_write(name, text), kwargs, &err) < 0)
        fail_msg("%s: %s", name, err.msg);
    char *got = json_dumps(d->rows, JSON_COMPACT);
    if (strcmp(got, want) != 0)
        fail_msg("%s\nnot %s", got, want);
    free(got);
    bm_docs_free(d);
    json_decref(kwargs);
}

static void reads(const char *name, const char *text, const char *want) { reads_options(name, text, NULL, want); }

static void refuses(const char *name, const char *text, const char *options, const char *why)
{
    json_t *kwargs = options != NULL ? json_loads(options, 0, NULL) : NULL;
    bm_error err = {0};
    bm_docs *d;

    if (bm_docs_read(&d, scratch_write(name, text), kwargs, &err) == 0)
        fail_msg("%s was read", name);
    assert_null(d);
    if (strstr(err.msg, why) == NULL)
        fail_msg("'%s' does not say '%s'", err.msg, why);
    json_decref(kwargs);
}

/* As datasets.load_dataset("json") gives them: one schema for all rows. */
static void json_rows_have_one_schema(void **state)
{
    (void)state;
    reads("a.jsonl", "{\"b\": 1, \"a\": \"x\"}\n\n{\"a\": \"y\", \"c\": [1, 2.5]}\n",
          "[{\"b\":1,\"a\":\"x\",\"c\":null},{\"b\":null,\"a\":\"y\",\"c\":[1.0,2.5]}]");
    reads("a.jsonl", "{\"k\": {\"x\": 1}, \"n\": 1}\n{\"k\": {\"y\": null}, \"n\": 2.0}\n",
          "[{\"k\":{\"x\":1,\"y\":null},\"n\":1.0},{\"k\":{\"x\":null,\"y\":null},\"n\":2.0}]");
    reads("a.jsonl", "{\"l\": [{}, {\"n\": 3}]}\n", "[{\"l\":[{\"n\":null},{\"n\":3}]}]");
    reads("a.json", " [{\"a\": true}, {\"a\": null}]", "[{\"a\":true},{\"a\":null}]");
    reads_options("a.json", "{\"v\": 1, \"rows\": [{\"a\": 1}]}", "{\"field\": \"rows\"}", "[{\"a\":1}]");
    reads("nameless", "{\"a\": \"\xE4\xB8\xAD\"}", "[{\"a\":\"\xE4\xB8\xAD\"}]");
}

/* As pandas.read_csv types columns for datasets.load_dataset("csv"). */
static void csv_columns_have_types(void **state)
{
    (void)state;
    reads("a.csv", "i,f,s,b\n1,2,x,True\n-3,0.5,\"y, \"\"z\"\"\",false\n",
          "[{\"i\":1,\"f\":2.0,\"s\":\"x\",\"b\":true},{\"i\":-3,\"f\":0.5,\"s\":\"y, \\\"z\\\"\",\"b\":false}]");
    reads("a.csv", ",a\n0,None\n1,x\n", "[{\"Unnamed: 0\":0,\"a\":null},{\"Unnamed: 0\":1,\"a\":\"x\"}]");
    reads("a.csv", "a,b\r\n1,\r\n2,3\r\n", "[{\"a\":1,\"b\":null},{\"a\":2,\"b\":3.0}]");
    reads_options("a.csv", "q,NA\n\"two\nlines\",x\n", "{\"column_names\": [\"p\", \"r\"], \"keep_default_na\": false}",
                  "[{\"p\":\"q\",\"r\":\"NA\"},{\"p\":\"two\\nlines\",\"r\":\"x\"}]");
    reads_options("a.tsv", "\"a\t1\nb\t1,000\n", "{\"column_names\": [\"q\", \"n\"], \"quoting\": 3}",
                  "[{\"q\":\"\\\"a\",\"n\":\"1\"},{\"q\":\"b\",\"n\":\"1,000\"}]");
    reads_options("a.csv", "A;B\n1;2\n", "{\"column_names\": [\"x\", \"y\"], \"skiprows\": 1, \"delimiter\": \";\"}", "[{\"x\":1,\"y\":2}]");
    reads("a.csv", "a,b\n1\n", "[{\"a\":1,\"b\":null}]");
}

static void text_is_lines_paragraphs_or_the_file(void **state)
{
    (void)state;
    reads("a.txt", "one\r\n\ntwo", "[{\"text\":\"one\"},{\"text\":\"\"},{\"text\":\"two\"}]");
    reads_options("a.txt", "one\ntwo\n\n\n\nthree\n", "{\"sample_by\": \"paragraph\"}", "[{\"text\":\"one\\ntwo\"},{\"text\":\"three\\n\"}]");
    reads_options("a.txt", "one\ntwo\n", "{\"sample_by\": \"document\"}", "[{\"text\":\"one\\ntwo\\n\"}]");
}

static void broken_rows_are_named_by_their_line(void **state)
{
    (void)state;
    refuses("a.jsonl", "{\"a\": 1}\n{\"a\": }\n", NULL, "a.jsonl:2: not a row of JSON");
    refuses("a.jsonl", "{\"a\": 1}\n[2]\n", NULL, "a.jsonl:2: a row must be a JSON object");
    refuses("a.json", "{\"a\": 1,\n\"b\": [}\n", NULL, "a.json:2: not JSON");
    refuses("a.json", "{\n\"a\": {\"b\": 1}\n}", NULL, "one JSON object, where rows are wanted");
    refuses("a.json", "{\"a\": []}", "{\"field\": \"b\"}", "no key 'b'");
    refuses("a.json", "[]", NULL, "no rows");
    refuses("a.jsonl", "", NULL, "no rows");
    refuses("a.csv", "a,b\n1,2\n3,4,5\n", NULL, "a.csv:3: 3 fields, where there are 2 columns");
    refuses("a.csv", "a\n", NULL, "no rows");
    refuses("a.txt", "\xFF\xFE", NULL, "not UTF-8");
    refuses("a.csv", "a\n1\n", "{\"delimiter\": \"ab\"}", "one character");
}

static void too_many_keys_are_refused(void **state)
{
    FILE *f = fopen(scratch_path("a.jsonl"), "w");
    bm_error err = {0};
    bm_docs *d;

    (void)state;
    for (int i = 0; i < 5000; i++)
        fprintf(f, "{\"targets\": {\"answer %d\": 1}}\n", i);
    fclose(f);
    assert_int_equal(bm_docs_read(&d, scratch_path("a.jsonl"), NULL, &err), BM_LIMIT);
    assert_non_null(strstr(err.msg, "4096 different keys"));
}

static void data_that_are_not_here_say_the_command(void **state)
{
    bm_error err = {0};
    bm_task *t;
    bm_docs *d;

    (void)state;
    assert_int_equal(bm_task_load_file(&t, "tasks/arc/arc_easy.yaml", NULL, &err), 0);
    assert_int_equal(bm_docs_load(&d, t, "test", NULL, NULL, &err), BM_NOTFOUND);
    assert_string_equal(err.hint, "baimo data add FILE --as allenai/ai2_arc/ARC-Easy:test");
    bm_task_free(t);
    assert_int_equal(bm_task_load_file(&t, "tasks/copa/copa.yaml", NULL, &err), 0);
    assert_int_equal(bm_docs_load(&d, t, "validation", NULL, NULL, &err), 0);
    assert_int_equal(d->n, 100);
    assert_true(bm_docs_has_feature(d, "choices"));
    bm_docs_free(d);
    assert_int_equal(bm_docs_load(&d, t, "test", NULL, NULL, &err), BM_NOTFOUND);
    bm_task_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(json_rows_have_one_schema, setup, teardown),
        cmocka_unit_test_setup_teardown(csv_columns_have_types, setup, teardown),
        cmocka_unit_test_setup_teardown(text_is_lines_paragraphs_or_the_file, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_rows_are_named_by_their_line, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_keys_are_refused, setup, teardown),
        cmocka_unit_test(data_that_are_not_here_say_the_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
