/* The templates of evaluation tasks: what jinja2 3.1.6 gives in lm-eval's environment (StrictUndefined, the last newline kept, no trimming). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "text/template.h"

static const char DOC[] = "{\"s\": \" a b \", \"l\": [\"x\", \"it's\"], \"d\": {\"k\": 1}, \"n\": null, \"messages\": 3, \"tools\": \"t\"}";

/* The text, or NULL with why. */
static char *render(const char *source, bm_error *err)
{
    json_t *doc = json_loads(DOC, 0, NULL);
    bm_render_options o = {.vars = doc};
    bm_template *t = NULL;
    bm_rendered r = {0};
    char *text = NULL;

    if (bm_template_compile_plain(&t, source, strlen(source), err) == 0 && bm_template_render(t, &o, &r, err) == 0)
        text = r.text, r.text = NULL;
    bm_rendered_done(&r);
    bm_template_free(t);
    json_decref(doc);
    return text;
}

static void renders(const char *source, const char *want)
{
    bm_error err = {0};
    char *got = render(source, &err);

    if (got == NULL)
        fail_msg("%s: %s", source, err.msg);
    assert_string_equal(got, want);
    bm_free(got);
}

static void fails(const char *source, const char *why)
{
    bm_error err = {0};

    if (render(source, &err) != NULL)
        fail_msg("%s was rendered", source);
    if (strstr(err.msg, why) == NULL)
        fail_msg("%s: '%s' does not say '%s'", source, err.msg, why);
}

static void newlines_and_blanks_stay(void **state)
{
    (void)state;
    renders("{{s}}\n", " a b \n");
    renders("x\n  {% if true %}\n  y\n  {% endif %}\nz\n", "x\n  \n  y\n  \nz\n");
    renders("x\n  {%- if true -%}\n  y\n  {%- endif %}\n", "xy\n");
    renders("{# c #}\nx", "\nx");
    renders("{% for c in l %}{{c}}\n{% endfor %}", "x\nit's\n");
    renders("{% set q = 1 %}\n{{q}}", "\n1");
}

static void lists_print_as_python_literals(void **state)
{
    (void)state;
    renders("{{l}}", "['x', \"it's\"]");
    renders("{{[s.strip(), l[1], n, 1.5, true]}}", "['a b', \"it's\", None, 1.5, True]");
    renders("{{l.index(\"it's\")}}{{d.k}}{{d['k']}}", "111");
}

static void undefined_names_fail_whatever_is_done_with_them(void **state)
{
    (void)state;
    fails("{{missing}}", "'missing' is undefined");
    fails("{% if missing %}{% endif %}", "'missing' is undefined");
    fails("{{missing or 1}}", "'missing' is undefined");
    fails("{{not missing}}", "'missing' is undefined");
    fails("{{missing == 1}}", "'missing' is undefined");
    fails("{% for x in missing %}{% endfor %}", "'missing' is undefined");
    fails("{{missing|length}}", "'missing' is undefined");
    fails("{{'x' in missing}}", "'missing' is undefined");
    fails("{{missing ~ 'x'}}", "'missing' is undefined");
    fails("{{1 if missing else 2}}", "'missing' is undefined");
    fails("{{d.nope}}", "has no attribute 'nope'");
    fails("{{l[5]}}", "has no element 5");
    fails("{{raise_me('x')}}", "'raise_me' is undefined");
}

static void undefined_names_may_be_asked_for(void **state)
{
    (void)state;
    renders("{{missing is defined}} {{missing is undefined}} {{missing|default('d')}}", "False True d");
    renders("{{[missing]|length}}", "1");
    renders("a{{'x' if false}}b", "ab");                 /* jinja2 takes the lenient Undefined there */
    renders("{{n is none}} {{d.k is defined}}", "True True");
}

static void documents_may_have_fields_that_chats_use(void **state)
{
    (void)state;
    renders("{{messages}} {{tools}}", "3 t");
    fails("{{documents}}", "'documents' is undefined");
    fails("{{add_generation_prompt}}", "undefined");
}

static void regex_replace_is_pythons_sub_and_only_here(void **state)
{
    bm_error err = {0};
    bm_template *t;

    (void)state;
    renders("{{s|regex_replace('[ab]', '<\\\\g<0>>')}}", " <a> <b> ");
    renders("{{s|regex_replace(' ', '_', 1)}}|{{s|regex_replace(pattern='x', repl='y')}}", "_a b | a b ");
    fails("{{s|regex_replace('(', '')}}", "regular expression");
    assert_int_equal(bm_template_compile(&t, "{{s|regex_replace('a', 'b')}}", 29, &err), BM_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(newlines_and_blanks_stay), cmocka_unit_test(lists_print_as_python_literals),
        cmocka_unit_test(undefined_names_fail_whatever_is_done_with_them), cmocka_unit_test(undefined_names_may_be_asked_for),
        cmocka_unit_test(documents_may_have_fields_that_chats_use), cmocka_unit_test(regex_replace_is_pythons_sub_and_only_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
