/* test_metrics.c - events as JSON lines, and the picture of a loss curve. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "train/metrics.h"

static const bm_train_event history[] = {
    { .what = BM_TRAIN_STEP, .step = 1, .n_steps = 2, .loss = 2.5, .lr = 1e-3, .margin = NAN, .accuracy = NAN, .tokens = 7 },
    { .what = BM_TRAIN_VALID, .step = 1, .n_steps = 2, .loss = 2.25, .margin = 0.5, .accuracy = 1, .tokens = 9 },
    { .what = BM_TRAIN_STEP, .step = 2, .n_steps = 2, .loss = 1.5, .margin = NAN, .accuracy = NAN },
    { .what = BM_TRAIN_CHECKPOINT, .step = 2, .n_steps = 2 },
};

static void lines_are_json_and_leave_out_what_is_not_known(void **state)
{
    bm_buf text = { 0 };

    (void)state;
    for (size_t i = 0; i < 4; i++)
        bm_train_event_line(&text, &history[i]);
    char *second = strchr(text.data, '\n') + 1;
    json_t *a = json_loadb(text.data, (size_t)(second - text.data), 0, NULL), *b = json_loads(second, JSON_DISABLE_EOF_CHECK, NULL);
    assert_true(json_number_value(json_object_get(a, "loss")) == 2.5 && json_integer_value(json_object_get(a, "tokens")) == 7);
    assert_null(json_object_get(a, "margin"));
    assert_true(json_number_value(json_object_get(b, "valid_loss")) == 2.25);
    assert_true(json_number_value(json_object_get(b, "valid_margin")) == 0.5);
    json_decref(a);
    json_decref(b);
    assert_null(strstr(text.data, "checkpoint"));
    bm_buf_done(&text);
}

static void the_curve_is_well_formed_and_escapes_its_title(void **state)
{
    bm_buf svg = { 0 };

    (void)state;
    bm_train_curve_svg(&svg, "<script>&", history, 4);
    assert_false(svg.failed);
    assert_null(strstr(svg.data, "<script>"));
    assert_null(strstr(svg.data, "nan"));
    assert_non_null(strstr(svg.data, "<circle"));
    assert_string_equal(svg.data + svg.len - 7, "</svg>\n");
    bm_buf_clear(&svg);
    bm_train_curve_svg(&svg, "nothing yet", history, 0);
    assert_null(strstr(svg.data, "nan"));
    assert_null(strstr(svg.data, "inf"));
    bm_buf_done(&svg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_json_and_leave_out_what_is_not_known),
        cmocka_unit_test(the_curve_is_well_formed_and_escapes_its_title),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
