/* Vectors made by tests/oracle/templates/make_vectors.py with Python's jinja2. BAIMO_TEMPLATE_CASES names another file of cases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "text/template_kit.h"

static void every_case_renders_as_jinja2_does(void **state)
{
    const char *path = getenv("BAIMO_TEMPLATE_CASES");
    json_error_t where;

    (void)state;
    json_t *cases = json_load_file(path != NULL ? path : "tests/text/template_vectors.json", JSON_ALLOW_NUL, &where);
    if (cases == NULL)
        fail_msg("%s: line %d: %s", path != NULL ? path : "template_vectors.json", where.line, where.text);
    size_t n_bad = kit_run(cases), n = json_array_size(cases);
    json_decref(cases);
    print_message("%zu cases, %zu differ\n", n, n_bad);
    assert_true(n > 0);
    assert_int_equal(n_bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_case_renders_as_jinja2_does)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
