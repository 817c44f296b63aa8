/* Reasoning and content of a reply, however it is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "text/reasoning.h"

static const char think[] = "{% if x %}<think>{% endif %}</think>";

/* The whole text at once, byte by byte, and cut in two at every place: always the same. */
static void check(const char *source, bool inside, const char *text, const char *reasoning, const char *content)
{
    size_t len = strlen(text);

    for (size_t cut = 0; cut <= len + 1; cut++) {
        bm_buf thought = { 0 }, said = { 0 };
        bm_reasoning r;
        bm_reasoning_init(&r, source, inside);
        if (cut <= len) {
            bm_reasoning_feed(&r, text, cut, &thought, &said);
            bm_reasoning_feed(&r, text + cut, len - cut, &thought, &said);
        } else {
            for (size_t i = 0; i < len; i++)
                bm_reasoning_feed(&r, text + i, 1, &thought, &said);
        }
        bm_reasoning_finish(&r, &thought, &said);
        bm_buf_putc(&thought, '|');
        bm_buf_putc(&said, '|');
        assert_int_equal(thought.len, strlen(reasoning) + 1);
        assert_int_equal(said.len, strlen(content) + 1);
        assert_memory_equal(thought.data, reasoning, strlen(reasoning));
        assert_memory_equal(said.data, content, strlen(content));
        bm_buf_done(&thought);
        bm_buf_done(&said);
    }
}

static void a_block_in_front_is_reasoning(void **state)
{
    (void)state;
    check(think, false, "<think>\nLet me see.\n</think>\n\nParis.", "Let me see.", "Paris.");
    check(think, false, "\n <think>a < b</thin </think>x", "a < b</thin", "x");
    check(think, false, "<think>\n\n</think>\n\nParis", "", "Paris");
    check(think, false, "<think></think>", "", "");
    check("[/THINK]", false, "[THINK]ö\n[/THINK] é", "ö", "é");
    check("<|START_THINKING|>", false, "<|START_THINKING|>a<|END_THINKING|>b", "a", "b");
}

static void a_prompt_may_have_opened_the_block(void **state)
{
    (void)state;
    check(think, true, "\nhm </think> yes", "hm", "yes");
    check(NULL, true, "hm</think>yes", "hm", "yes");
    check(think, true, "never closed \n", "never closed \n", "");
}

static void other_text_is_content_untouched(void **state)
{
    (void)state;
    check(think, false, "  Paris <think>no</think> \n", "", "  Paris <think>no</think> \n");
    check(think, false, "<thin", "", "<thin");
    check(think, false, "<<think>a</think>", "", "<<think>a</think>");
    check(think, false, "", "", "");
    check(NULL, false, "<think>a</think>b", "", "<think>a</think>b");
    check("no tags here", false, "<think>a</think>b", "", "<think>a</think>b");
    check(think, false, "</think>a", "", "</think>a");
    check(think, false, "<think>a</think>b<think>c</think>", "a", "b<think>c</think>");
}

static void long_runs_of_blanks_keep_all_but_twelve(void **state)
{
    (void)state;
    check(think, true, "a                    </think>b", "a        ", "b");
    check(think, true, "a                    b</think>c", "a                    b", "c");
    check("<|START_THINKING|>", false, "                    <|START_THINKING|>b<|END_THINKING|>c", "b", "        c");
    check(think, false, "                    <think>b</think>c", "b", "        c");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_in_front_is_reasoning),
        cmocka_unit_test(a_prompt_may_have_opened_the_block),
        cmocka_unit_test(other_text_is_content_untouched),
        cmocka_unit_test(long_runs_of_blanks_keep_all_but_twelve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
