/* YAML as PyYAML's SafeLoader reads it, and files that mean harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "eval/yaml.h"

static int parse(bm_arena *arena, const bm_yaml_node **out, const char *text, bm_error *err)
{
    memset(err, 0, sizeof *err);
    return bm_yaml_parse(arena, out, text, strlen(text), "t.yaml", err);
}

static void is_json(const char *text, const char *want)
{
    bm_arena arena = {0};
    const bm_yaml_node *node;
    bm_error err = {0};
    json_t *v = NULL;

    if (parse(&arena, &node, text, &err) < 0 || bm_yaml_to_json(&v, node, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    char *got = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    if (strcmp(got, want) != 0)
        fail_msg("%s: %s, not %s", text, got, want);
    free(got);
    json_decref(v);
    bm_arena_done(&arena);
}

static void refused(const char *text, const char *why)
{
    bm_arena arena = {0};
    const bm_yaml_node *node;
    bm_error err;

    if (parse(&arena, &node, text, &err) == 0)
        fail_msg("was read: %.60s", text);
    if (strstr(err.msg, why) == NULL)
        fail_msg("'%s' does not say '%s'", err.msg, why);
    bm_arena_done(&arena);
}

/* What yaml.load(text, Loader=yaml.SafeLoader) of PyYAML 6 gives. */
static void scalars_have_pyyamls_types(void **state)
{
    (void)state;
    is_json("[yes, No, on, OFF, true, False, y, n]", "[true,false,true,false,true,false,\"y\",\"n\"]");
    is_json("[~, null, Null, NULL, '', nULL]", "[null,null,null,null,\"\",\"nULL\"]");
    is_json("[0, -1, +7, 1_000, 0x1F, 0b101, 017, 08, 1:30, 0o17]", "[0,-1,7,1000,31,5,15,\"08\",90,\"0o17\"]");
    is_json("[1.0, .5, 1., 1e3, 1.0e+3, 1.5e-7, -2.5, 6.02e23]", "[1.0,0.5,1.0,\"1e3\",1000.0,1.4999999999999999e-7,-2.5,\"6.02e23\"]");
    is_json("['1', \"no\", !!str 12, !!float 3, !!int '4']", "[\"1\",\"no\",\"12\",3.0,4]");
    is_json("a: |\n  x\n  y\nb: >-\n  x\n  y\n", "{\"a\":\"x\\ny\\n\",\"b\":\"x y\"}");
    is_json("a:\nb: 2\na: 3\n", "{\"a\":3,\"b\":2}");
    is_json("{1: a, true: b, ~: c}", "{\"1\":\"a\",\"true\":\"b\",\"null\":\"c\"}");
}

static void aliases_and_merges_are_followed(void **state)
{
    (void)state;
    is_json("a: &x {p: 1, q: 2}\nb: *x\nc:\n  <<: *x\n  q: 3\n", "{\"a\":{\"p\":1,\"q\":2},\"b\":{\"p\":1,\"q\":2},\"c\":{\"p\":1,\"q\":3}}");
    is_json("a: &x {p: 1}\nb: &y {p: 2, r: 5}\nc: {<<: [*x, *y]}\n", "{\"a\":{\"p\":1},\"b\":{\"p\":2,\"r\":5},\"c\":{\"p\":1,\"r\":5}}");
    refused("a: *nothing\n", "t.yaml:1: ");
    refused("<<: 3\n", "merge key");
}

static void functions_are_kept_with_their_line(void **state)
{
    bm_arena arena = {0};
    const bm_yaml_node *node;
    bm_error err;
    json_t *v;

    (void)state;
    assert_int_equal(parse(&arena, &node, "a: 1\nb:\n  - !function utils.f\n", &err), 0);
    const bm_yaml_node *f = bm_yaml_get(node, "b")->value->items[0];
    assert_int_equal(f->kind, BM_YAML_FUNCTION);
    assert_string_equal(f->s, "utils.f");
    assert_int_equal(f->line, 3);
    assert_int_equal(bm_yaml_to_json(&v, node, &err), BM_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "t.yaml:3: "));
    bm_arena_done(&arena);
}

static void errors_name_file_and_line(void **state)
{
    (void)state;
    refused("a: 1\nb: [1, 2\nc: 3\n", "t.yaml:3: ");
    refused("a: 1\n\tb: 2\n", "t.yaml:2: ");
    refused("a: !!python/object:os.system x\n", "t.yaml:1: a tag");
    refused("a: 1\n--- \nb: 2\n", "t.yaml:2: a second document");
    refused("a: 99999999999999999999\n", "t.yaml:1: an integer");
    refused("? [1, 2]\n: 3\n", "a key must be a plain value");
}

static void bombs_are_refused(void **state)
{
    bm_buf b = {0};

    (void)state;
    bm_buf_puts(&b, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 20; i++)
        bm_buf_printf(&b, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    refused(b.data, "expand to more than");
    bm_buf_clear(&b);
    for (int i = 0; i < 5000; i++)
        bm_buf_putc(&b, '[');
    refused(b.data, "nested deeper than 48");
    bm_buf_clear(&b);
    for (int i = 0; i < 3000; i++)
        bm_buf_printf(&b, "k%d: &n%d x\n", i, i);
    refused(b.data, "more than 2000 anchors");
    bm_buf_clear(&b);
    for (int i = 0; i < 210000; i++)
        bm_buf_puts(&b, "- 1\n");
    refused(b.data, "more than 200000 values");
    refused("a: &x [1, *x]\n", "inside its own anchor");
    bm_buf_done(&b);
}

static void every_beginning_of_a_task_file_does_no_harm(void **state)
{
    char *text;
    size_t len;
    bm_error err = {0};

    (void)state;
    assert_int_equal(bm_read_file(&text, &len, "tasks/gsm8k/gsm8k.yaml", 1 << 20, &err), 0);
    for (size_t n = 0; n <= len; n++) {
        bm_arena arena = {0};
        const bm_yaml_node *node = NULL;
        int rc = bm_yaml_parse(&arena, &node, text, n, "t.yaml", &err);
        assert_true(rc == 0 ? node != NULL : rc == BM_INVALID);
        bm_arena_done(&arena);
    }
    bm_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_have_pyyamls_types), cmocka_unit_test(aliases_and_merges_are_followed),
        cmocka_unit_test(functions_are_kept_with_their_line), cmocka_unit_test(errors_name_file_and_line), cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(every_beginning_of_a_task_file_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
