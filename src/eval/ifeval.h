/* ifeval.h - the 25 verifiable instructions of IFEval (Zhou et al. 2023, arXiv:2311.07911), as lm-eval's task checks them.
 * Own implementation; two instructions rest on libraries there: language detection (langdetect) and sentence splitting (NLTK's Punkt).
 * Here the language comes from scripts and letter statistics and sentences from rules; docs/EVAL.md has how often they agree. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

typedef struct bm_ifeval_result {
    size_t n;                            /* instructions */
    bool *strict, *loose;                /* followed, for each */
    bool all_strict, all_loose;
} bm_ifeval_result;

/* Check a response against doc's instruction_id_list, kwargs and prompt. BM_INVALID: a row with unknown or ill-formed instructions. */
int  bm_ifeval_check(bm_ifeval_result *out, const json_t *doc, const char *response, size_t len, bm_error *err);
void bm_ifeval_result_done(bm_ifeval_result *result);
/* Their names ("punctuation:no_comma"), NULL-terminated. */
const char *const *bm_ifeval_instructions(void);
