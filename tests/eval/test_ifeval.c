/* The 25 instructions, each followed and not; tests/oracle/eval/check_ifeval.py compares them with lm-eval's on thousands of answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "eval/ifeval.h"
#include "eval/ifeval_text.h"

static const struct verdict { const char *name, *kwargs, *answer; bool strict, loose; } CASES[] = {
    {"keywords:existence", "{\"keywords\": [\"Oak\", \"elm\"]}", "An oak and an ELM.", true, true},
    {"keywords:existence", "{\"keywords\": [\"oak\", \"elm\"]}", "An oak.", false, false},
    {"keywords:frequency", "{\"keyword\": \"oak\", \"frequency\": 2, \"relation\": \"at least\"}", "Oak oaken.", true, true},
    {"keywords:frequency", "{\"keyword\": \"oak\", \"frequency\": 2, \"relation\": \"less than\"}", "Oak oaken.", false, false},
    {"keywords:forbidden_words", "{\"forbidden_words\": [\"oak\"]}", "Oaken things.", true, true},
    {"keywords:forbidden_words", "{\"forbidden_words\": [\"oak\"]}", "An OAK.\nfine", false, true},
    {"keywords:letter_frequency", "{\"letter\": \"E\", \"let_frequency\": 3, \"let_relation\": \"at least\"}", "Eel e", true, true},
    {"language:response_language", "{\"language\": \"de\"}", "Das ist nicht der Hund, und die Katze ist auch nicht da.", true, true},
    {"language:response_language", "{\"language\": \"hi\"}", "This is the answer that you wanted.", false, false},
    {"language:response_language", "{\"language\": \"th\"}", "\xE0\xB8\xAA\xE0\xB8\xA7\xE0\xB8\xB1\xE0\xB8\xAA\xE0\xB8\x94\xE0\xB8\xB5", true, true},
    {"length_constraints:number_sentences", "{\"num_sentences\": 3, \"relation\": \"at least\"}", "One. Two! \"Three?\" ok", true, true},
    {"length_constraints:number_sentences", "{\"num_sentences\": 2, \"relation\": \"less than\"}", "Mr. J. Smith paid $3.50 e.g. for tea.", true, true},
    {"length_constraints:number_paragraphs", "{\"num_paragraphs\": 2}", "a\n***\nb", true, true},
    {"length_constraints:number_paragraphs", "{\"num_paragraphs\": 2}", "a *** *** b", false, false},
    {"length_constraints:number_words", "{\"num_words\": 3, \"relation\": \"less than\"}", "well-known words", false, false},
    {"length_constraints:nth_paragraph_first_word", "{\"num_paragraphs\": 2, \"nth_paragraph\": 2, \"first_word\": \"So\"}", "a\n\n\"So, b", true, true},
    {"length_constraints:nth_paragraph_first_word", "{\"num_paragraphs\": 2, \"nth_paragraph\": 2, \"first_word\": \"so\"}", "a\n\nsofa", false, false},
    {"detectable_content:number_placeholders", "{\"num_placeholders\": 2}", "[a] and []", true, true},
    {"detectable_content:postscript", "{\"postscript_marker\": \"P.S.\"}", "text\np. s. more", true, true},
    {"detectable_content:postscript", "{\"postscript_marker\": \"P.P.S\"}", "text\nP.S. more", false, false},
    {"detectable_format:number_bullet_lists", "{\"num_bullets\": 2}", "* one\n - two\n** no", true, true},
    {"detectable_format:constrained_response", "{}", "So: My answer is maybe.", true, true},
    {"detectable_format:constrained_response", "{}", "my answer is yes", false, false},
    {"detectable_format:number_highlighted_sections", "{\"num_highlights\": 2}", "*one* and **two**", true, true},
    {"detectable_format:number_highlighted_sections", "{\"num_highlights\": 1}", "* *", false, false},
    {"detectable_format:multiple_sections", "{\"section_spliter\": \"Section\", \"num_sections\": 2}", "Section 1 a Section2 b", true, true},
    {"detectable_format:json_format", "{}", "```json\n{\"a\": [1, null]}\n```", true, true},
    {"detectable_format:json_format", "{}", "Here:\n[1]", false, true},
    {"detectable_format:title", "{}", "<<A poem>>\ntext", true, true},
    {"detectable_format:title", "{}", "<< >>", false, false},
    {"combination:two_responses", "{}", "one\n******\ntwo", true, true},
    {"combination:two_responses", "{}", "one******one", false, false},
    {"combination:repeat_prompt", "{\"prompt_to_repeat\": \"Say Hi.\"}", " say hi. Hi", true, true},
    {"startend:end_checker", "{\"end_phrase\": \"Any other questions?\"}", "Done. \"any other QUESTIONS?\"", true, true},
    {"startend:end_checker", "{\"end_phrase\": \"Bye\"}", "Bye\nreally", false, true},
    {"change_case:capital_word_frequency", "{\"capital_frequency\": 3, \"capital_relation\": \"at least\"}", "DON'T stop-HERE NOW U.S.", true, true},
    {"change_case:english_capital", "{}", "THIS IS THE END OF IT.", true, true},
    {"change_case:english_capital", "{}", "THIS IS the END.", false, false},
    {"change_case:english_lowercase", "{}", "this is the end of it.", true, true},
    {"punctuation:no_comma", "{}", "One two", true, true},
    {"punctuation:no_comma", "{}", "Well, here:\nOne two", false, true},
    {"startend:quotation", "{}", " \"quoted\" ", true, true},
    {"startend:quotation", "{}", "\"", false, false},
    {"punctuation:no_comma", "{}", " \n ", false, false},
};

static void each_instruction_tells_followed_from_not(void **state)
{
    bool seen[25] = {false};

    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        const struct verdict *c = &CASES[i];
        json_t *doc = json_pack("{s:[s], s:[o]}", "instruction_id_list", c->name, "kwargs", json_loads(c->kwargs, 0, NULL));
        bm_ifeval_result r;
        bm_error err = {0};
        if (bm_ifeval_check(&r, doc, c->answer, strlen(c->answer), &err) < 0)
            fail_msg("case %zu, %s: %s", i, c->name, err.msg);
        if (r.strict[0] != c->strict || r.loose[0] != c->loose || r.all_strict != c->strict || r.all_loose != c->loose)
            fail_msg("case %zu, %s: strict %d, loose %d", i, c->name, r.strict[0], r.loose[0]);
        for (size_t k = 0; k < 25; k++)
            seen[k] |= strcmp(bm_ifeval_instructions()[k], c->name) == 0;
        bm_ifeval_result_done(&r);
        json_decref(doc);
    }
    for (size_t k = 0; k < 25; k++)
        if (!seen[k])
            fail_msg("%s has no case", bm_ifeval_instructions()[k]);
    assert_null(bm_ifeval_instructions()[25]);
}

static void ill_formed_rows_are_refused(void **state)
{
    static const char *const docs[] = {
        "{}", "{\"instruction_id_list\": [\"a\"], \"kwargs\": []}", "{\"instruction_id_list\": [\"no:such\"], \"kwargs\": [{}]}",
        "{\"instruction_id_list\": [\"keywords:existence\"], \"kwargs\": [{}]}", "{\"instruction_id_list\": [\"keywords:existence\"], \"kwargs\": [{\"keywords\": [\"(\"]}]}",
        "{\"instruction_id_list\": [\"length_constraints:number_words\"], \"kwargs\": [{\"num_words\": 3, \"relation\": \"about\"}]}",
        "{\"instruction_id_list\": [\"language:response_language\"], \"kwargs\": [null]}"};

    (void)state;
    for (size_t i = 0; i < sizeof docs / sizeof docs[0]; i++) {
        json_t *doc = json_loads(docs[i], 0, NULL);
        bm_ifeval_result r;
        bm_error err = {0};
        if (bm_ifeval_check(&r, doc, "x", 1, &err) != BM_INVALID)
            fail_msg("row %zu was checked", i);
        assert_null(r.strict);
        json_decref(doc);
    }
}

static void languages_are_told_apart(void **state)
{
    static const char *const texts[][2] = {
        {"en", "The cat is on the mat and it was not for you."}, {"fr", "Le chat est sur la table et nous ne sommes pas dans la maison."},
        {"es", "El gato no se va con los perros de la casa porque es muy grande."}, {"vi", "T\xC3\xB4i l\xC3\xA0 ng\xC6\xB0\xE1\xBB\x9Di Vi\xE1\xBB\x87t v\xC3\xA0 kh\xC3\xB4ng c\xC3\xB3 trong nh\xC3\xA0."},
        {"ru", "\u042D\u0442\u043E \u043D\u0435 \u043A\u043E\u0442"}, {"bg", "\u0422\u043E\u0432\u0430 \u0435 \u043C\u043E\u044F\u0442\u0430 \u043A\u044A\u0449\u0430 \u0438 \u0441\u044A\u043C \u0442\u0443\u043A \u0437\u0430 \u0434\u0430"},
        {"zh-cn", "\u8FD9\u662F\u4E00\u53EA\u732B"}, {"ja", "\u3053\u308C\u306F\u732B\u3067\u3059"}, {"ko", "\uACE0\uC591\uC774"}, {"kn", "\u0C87\u0CA6\u0CC1 \u0CAC\u0CC6\u0C95\u0CCD\u0C95\u0CC1"}};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *got = bm_ifeval_language(texts[i][1], strlen(texts[i][1]));
        if (got == NULL || strcmp(got, texts[i][0]) != 0)
            fail_msg("%s taken for %s", texts[i][0], got != NULL ? got : "nothing");
    }
    assert_null(bm_ifeval_language("123 !", 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_instruction_tells_followed_from_not), cmocka_unit_test(ill_formed_rows_are_refused),
                                       cmocka_unit_test(languages_are_told_apart)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
