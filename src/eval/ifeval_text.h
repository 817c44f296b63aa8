/* ifeval_text.h - what instructions count: words, sentences, words in capitals, the language. Private to src/eval/ifeval*.c. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

/* Sentences by rules in the manner of Punkt (Kiss and Strunk 2006): a full stop ends one unless an abbreviation or an initial has it. */
size_t bm_ifeval_sentences(const char *s, size_t len);
/* Words all in capitals, after a Treebank tokenizer ("DON'T" is DO and N'T). */
int    bm_ifeval_capital_words(size_t *out, const char *s, size_t len, bm_error *err);
/* The language's code as langdetect writes it ("en", "zh-cn"); NULL: no letters. From scripts, telling letters and frequent words. */
const char *bm_ifeval_language(const char *s, size_t len);
/* Python's str.isupper and str.islower. */
bool   bm_ifeval_is_case(const char *s, size_t len, bool upper);
