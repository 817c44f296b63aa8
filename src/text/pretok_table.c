/* pretok_table.c - the rows: every name of tokenizer.ggml.pre that has been published, and the shapes they use.
 * Where llama.cpp approximates the expression of a tokenizer.json for want of classes, the shape is the tokenizer.json's;
 * tests/oracle/tokenizers/pretok.py holds each shape's expressions and proves them equal to Hugging Face tokenizers. */
#include "text/pretok.h"
#include "text/pretok_match.h"

#include <string.h>

typedef const uint32_t ranges[][2];

static ranges newlines = { {'\n', '\n'}, {'\r', '\r'} };
static ranges ascii_digits = { {'0', '9'} };
static ranges math = { {'$', '$'}, {'+', '+'}, {'<', '>'}, {'^', '^'}, {'|', '|'}, {'~', '~'} };
static ranges math_grave = { {'$', '$'}, {'+', '+'}, {'<', '>'}, {'^', '^'}, {'`', '`'}, {'|', '|'}, {'~', '~'} };
static ranges ascii_punct = { {'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'} };
static ranges cjk_wide = { {0x800, 0x9FA5}, {0xAC00, 0xD7FF} };
static ranges cjk_kana = { {0x3040, 0x30FF}, {0x4E00, 0x9FA5} };
static ranges asian = {
    {0xE40, 0xEFF}, {0x1000, 0x109F}, {0x1100, 0x11FF}, {0x1780, 0x17FF}, {0x2F00, 0x2FDF}, {0x3040, 0x30FF}, {0x3400, 0x4DBF},
    {0x4E00, 0xFAFF}, {0xFF65, 0xFF9F}
};
static ranges hangul = { {0x3131, 0x318E}, {0xAC00, 0xD7A3} };
static ranges cjk_punct = {
    {0x2014, 0x2014}, {0x2018, 0x2019}, {0x201C, 0x201D}, {0x2026, 0x2026}, {0x3001, 0x303F}, {0xFE30, 0xFE4F}, {0xFF01, 0xFF01},
    {0xFF0C, 0xFF0C}, {0xFF1A, 0xFF1B}
};
static ranges bopomofo = { {0x3105, 0x312F} };
static ranges bloom_stops = {
    {'!', '!'}, {'(', ')'}, {',', ','}, {'.', '.'}, {'?', '?'}, {'|', '|'}, {0x60C, 0x60C}, {0x6D4, 0x6D4}, {0x964, 0x964},
    {0x2026, 0x2026}, {0x3001, 0x3002}, {0xFF0C, 0xFF0C}
};
static ranges deepseek_punct = {
    {'!', '/'}, {':', '~'}, {0x2018, 0x201F}, {0x3000, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E}
};
static ranges deepseek_letters = {       /* the cased letters that its tokenizer.json spells out */
    {0x41, 0x5A}, {0x61, 0x7A}, {0xB5, 0xB5}, {0xC0, 0xD6}, {0xD8, 0xF6}, {0xF8, 0x1BA}, {0x1BC, 0x1BF},
    {0x1C4, 0x293}, {0x295, 0x2AF}, {0x370, 0x373}, {0x376, 0x377}, {0x37B, 0x37D}, {0x37F, 0x37F}, {0x386, 0x386},
    {0x388, 0x38A}, {0x38C, 0x38C}, {0x38E, 0x3A1}, {0x3A3, 0x3F5}, {0x3F7, 0x481}, {0x48A, 0x52F}, {0x531, 0x556},
    {0x10A0, 0x10C5}, {0x13A0, 0x13F5}, {0x13F8, 0x13FD}, {0x1C90, 0x1CBA}, {0x1CBD, 0x1CBF}, {0x1D00, 0x1D2B},
    {0x1D6B, 0x1D77}, {0x1D79, 0x1D9A}, {0x1E00, 0x1F15}, {0x1F18, 0x1F1D}, {0x1F20, 0x1F45}, {0x1F48, 0x1F4D},
    {0x1F50, 0x1F57}, {0x1F59, 0x1F59}, {0x1F5B, 0x1F5B}, {0x1F5D, 0x1F5D}, {0x1F5F, 0x1F7D}, {0x1F80, 0x1FB4},
    {0x1FB6, 0x1FBC}, {0x1FBE, 0x1FBE}, {0x1FC2, 0x1FC4}, {0x1FC6, 0x1FCC}, {0x1FD0, 0x1FD3}, {0x1FD6, 0x1FDB},
    {0x1FE0, 0x1FEC}, {0x1FF2, 0x1FF4}, {0x1FF6, 0x1FFC}, {0x2102, 0x2102}, {0x2107, 0x2107}, {0x210A, 0x2113},
    {0x2115, 0x2115}, {0x2119, 0x211D}, {0x2124, 0x2124}, {0x2126, 0x2126}, {0x2128, 0x2128}, {0x212A, 0x212D},
    {0x212F, 0x2134}, {0x2139, 0x2139}, {0x213C, 0x213F}, {0x2145, 0x2149}, {0x214E, 0x214E}, {0x2183, 0x2184},
    {0x2C00, 0x2C7B}, {0x2C7E, 0x2CE4}, {0x2CEB, 0x2CEE}, {0x2CF2, 0x2CF3}, {0xA640, 0xA66D}, {0xA680, 0xA69B},
    {0xA722, 0xA76F}, {0xA771, 0xA787}, {0xA78B, 0xA78E}, {0xAB70, 0xABBF}, {0xFB00, 0xFB06}, {0xFB13, 0xFB17},
    {0xFF21, 0xFF3A}, {0xFF41, 0xFF5A}, {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB},
    {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2}, {0x118A0, 0x118DF}, {0x1E900, 0x1E943}
};

#define SET(r) .ranges = (r), .n_ranges = sizeof(r) / sizeof(*(r))
static const bm_run_spec
    run_newline         = { SET(newlines), .min = 1, .max = 1 },
    run_number          = { .classes = BM_U_NUM, .min = 1, .max = 1 },
    run_numbers         = { .classes = BM_U_NUM, .min = 1 },
    run_number_3        = { .classes = BM_U_NUM, .min = 1, .max = 3 },
    run_three           = { SET(ascii_digits), .min = 3, .max = 3 },
    run_math            = { .classes = BM_U_PUNCT, SET(math), .min = 1 },
    run_math_grave      = { .classes = BM_U_PUNCT, SET(math_grave), .min = 1 },
    run_punct           = { .classes = BM_U_PUNCT, SET(ascii_punct), .min = 1, .max = 1 },
    run_word            = { .classes = BM_U_SPACE, .invert = true, .min = 1 },
    run_bloom           = { .classes = BM_U_SPACE, SET(bloom_stops), .invert = true, .lead = BM_LEAD_BLANK, .min = 1 },
    run_cjk_wide        = { SET(cjk_wide), .min = 1 },
    run_cjk_kana        = { SET(cjk_kana), .min = 1 },
    run_asian           = { SET(asian), .min = 1 },
    run_hangul          = { SET(hangul), .min = 1 },
    run_cjk_punct       = { SET(cjk_punct), .min = 1 },
    run_bopomofo        = { SET(bopomofo), .min = 1 },
    run_spaced_letters  = { .classes = BM_U_LETTER, .lead = BM_LEAD_SPACE, .min = 1 },
    run_spaced_punct    = { .classes = BM_U_PUNCT, .lead = BM_LEAD_SPACE, .min = 1 },
    run_deepseek_words  = { SET(deepseek_letters), .lead = BM_LEAD_SPACE, .min = 1 },
    run_deepseek_punct  = { SET(deepseek_punct), .lead = BM_LEAD_SPACE, .min = 1 };

static const bm_words_spec
    words_gpt2     = { BM_APOS_LOWER, BM_LETTERS_BLANK, BM_NUMBERS_BLANK, BM_SYMBOLS_REST, BM_TAIL_NONE, BM_NEWLINES_NONE, 0 },
    words_llama3   = { BM_APOS_FOLD, BM_LETTERS_PREFIX, BM_NUMBERS_THREE, BM_SYMBOLS_REST, BM_TAIL_LINES, BM_NEWLINES_RUN, 0 },
    words_jais2    = { BM_APOS_FOLD, BM_LETTERS_PREFIX, BM_NUMBERS_THREE, BM_SYMBOLS_REST, BM_TAIL_LINES, BM_NEWLINES_RUN,
                       BM_SPACES_POWERS },
    words_minicpm5 = { BM_APOS_FOLD, BM_LETTERS_PREFIX, BM_NUMBERS_ALL, BM_SYMBOLS_REST, BM_TAIL_LINES, BM_NEWLINES_RUN, 0 },
    words_qwen2    = { BM_APOS_ASCII, BM_LETTERS_PREFIX, BM_NUMBERS_ONE, BM_SYMBOLS_REST, BM_TAIL_LINES, BM_NEWLINES_RUN, 0 },
    words_digit    = { BM_APOS_FOLD, BM_LETTERS_PREFIX, BM_NUMBERS_ONE, BM_SYMBOLS_REST, BM_TAIL_LINES, BM_NEWLINES_RUN, 0 },
    words_seed     = { BM_APOS_FOLD, BM_LETTERS_PREFIX, BM_NUMBERS_ONE, BM_SYMBOLS_REST, BM_TAIL_NONE, BM_NEWLINES_RUN, 0 },
    words_ufakzeka = { BM_APOS_NONE, BM_LETTERS_PREFIX, BM_NUMBERS_ONE, BM_SYMBOLS_REST, BM_TAIL_LINES, BM_NEWLINES_RUN, 0 },
    words_qwen35   = { BM_APOS_FOLD, BM_LETTERS_MARKS, BM_NUMBERS_ONE, BM_SYMBOLS_NO_MARKS, BM_TAIL_LINES, BM_NEWLINES_RUN, 0 },
    words_exaone   = { BM_APOS_FOLD, BM_LETTERS_PHRASE, BM_NUMBERS_ONE, BM_SYMBOLS_REST, BM_TAIL_SLASH, BM_NEWLINES_RUN, 0 },
    words_gpt4o    = { BM_APOS_FOLD, BM_LETTERS_CASED, BM_NUMBERS_THREE, BM_SYMBOLS_REST, BM_TAIL_SLASHES, BM_NEWLINES_RUN, 0 },
    words_youtu    = { BM_APOS_FOLD, BM_LETTERS_CASED, BM_NUMBERS_ONE, BM_SYMBOLS_REST, BM_TAIL_SLASHES, BM_NEWLINES_RUN, 0 },
    words_tekken   = { BM_APOS_NONE, BM_LETTERS_CASED, BM_NUMBERS_ONE, BM_SYMBOLS_REST, BM_TAIL_SLASHES, BM_NEWLINES_RUN, 0 },
    words_kimi     = { BM_APOS_FOLD, BM_LETTERS_HAN, BM_NUMBERS_THREE, BM_SYMBOLS_REST, BM_TAIL_LINES, BM_NEWLINES_RUN, 0 },
    words_deepseek = { BM_APOS_NONE, BM_LETTERS_PUNCT, BM_NUMBERS_NONE, BM_SYMBOLS_PUNCT, BM_TAIL_LINES, BM_NEWLINES_RUN, 0 },
    words_spark    = { BM_APOS_NONE, BM_LETTERS_PUNCT, BM_NUMBERS_NONE, BM_SYMBOLS_PUNCT, BM_TAIL_NONE, BM_NEWLINES_ONE, 0 };

#define RUN(x) { bm_match_run, &run_##x }
#define WORDS(x) { bm_match_words, &words_##x }
#define ONLY(x) { bm_match_##x, NULL }
static const bm_pretok_shape
    shape_default        = { "default", { RUN(math), WORDS(gpt2), RUN(numbers), RUN(three) } },
    shape_gpt2           = { "gpt2", { WORDS(gpt2) } },
    shape_starcoder      = { "starcoder", { RUN(number), WORDS(gpt2) } },
    shape_falcon         = { "falcon", { RUN(math_grave), WORDS(gpt2), RUN(three) } },
    shape_llama3         = { "llama3", { WORDS(llama3) } },
    shape_jais2          = { "jais2", { WORDS(jais2) } },
    shape_minicpm5       = { "minicpm5", { RUN(number_3), WORDS(minicpm5) } },
    shape_qwen2          = { "qwen2", { WORDS(qwen2) } },
    shape_digit          = { "digit", { WORDS(digit) } },
    shape_laguna         = { "laguna", { ONLY(lines), WORDS(digit) } },
    shape_seed           = { "seed-coder", { WORDS(seed) } },
    shape_ufakzeka       = { "ufakzeka", { WORDS(ufakzeka) } },
    shape_qwen35         = { "qwen35", { WORDS(qwen35) } },
    shape_exaone_moe     = { "exaone-moe", { WORDS(exaone) } },
    shape_gpt4o          = { "gpt4o", { WORDS(gpt4o) } },
    shape_tiny_aya       = { "tiny_aya", { ONLY(thirds_word), WORDS(gpt4o) } },
    shape_youtu          = { "youtu", { RUN(hangul), RUN(cjk_punct), RUN(bopomofo), RUN(cjk_kana), WORDS(youtu) } },
    shape_tekken         = { "tekken", { WORDS(tekken) } },
    shape_kimi           = { "kimi-k2", { WORDS(kimi) } },
    shape_deepseek_llm   = { "deepseek-llm", { RUN(newline), RUN(deepseek_words), RUN(deepseek_punct), ONLY(trailing),
                                               RUN(cjk_wide), RUN(numbers) } },
    shape_deepseek_coder = { "deepseek-coder", { RUN(newline), RUN(spaced_letters), RUN(spaced_punct), RUN(cjk_wide),
                                                 RUN(number) } },
    shape_deepseek3      = { "deepseek-v3", { RUN(number_3), RUN(cjk_kana), WORDS(deepseek) } },
    shape_spark          = { "spark2_5", { RUN(number_3), RUN(cjk_kana), WORDS(spark), RUN(number) } },
    shape_afmoe          = { "afmoe", { ONLY(thirds), RUN(asian), WORDS(deepseek) } },
    shape_bloom          = { "bloom", { RUN(bloom) } },
    shape_viking         = { "viking", { RUN(bloom), RUN(number) } },
    shape_chameleon      = { "chameleon", { ONLY(sentinel), ONLY(image), ONLY(indent), RUN(number), RUN(punct), WORDS(gpt2) } },
    shape_superbpe       = { "superbpe", { RUN(numbers), ONLY(third_cuts) } },
    shape_lines          = { "lines", { ONLY(lines) } },
    shape_whitespace     = { "whitespace", { RUN(word) } };

enum { MERGES = BM_PRE_IGNORE_MERGES, BOS = BM_PRE_ADD_BOS, GEMMA = BM_PRE_RAW | BM_PRE_ESCAPE };
static const bm_pretok table[] = {
    { "default", &shape_default, 0 },
    { "llama3", &shape_llama3, MERGES | BOS }, { "llama-v3", &shape_llama3, MERGES | BOS },
    { "llama-bpe", &shape_llama3, MERGES | BOS }, { "falcon3", &shape_llama3, MERGES | BOS },
    { "falcon-h1", &shape_llama3, MERGES | BOS }, { "pixtral", &shape_llama3, MERGES | BOS },
    { "midm-2.0", &shape_llama3, MERGES | BOS }, { "lfm2", &shape_llama3, MERGES | BOS },
    { "jina-v5-nano", &shape_llama3, MERGES | BOS },
    { "dbrx", &shape_llama3, 0 }, { "smaug-bpe", &shape_llama3, 0 }, { "chatglm-bpe", &shape_llama3, 0 },
    { "glm4", &shape_llama3, MERGES }, { "glm5", &shape_llama3, MERGES },
    { "jais-2", &shape_jais2, 0 }, { "minicpm5", &shape_minicpm5, MERGES },
    { "deepseek-llm", &shape_deepseek_llm, 0 }, { "deepseek-coder", &shape_deepseek_coder, 0 },
    { "deepseek-v3", &shape_deepseek3, 0 }, { "hunyuan-dense", &shape_deepseek3, 0 }, { "hy_v4", &shape_deepseek3, 0 },
    { "joyai-llm", &shape_deepseek3, 0 }, { "spark2_5", &shape_spark, 0 }, { "afmoe", &shape_afmoe, 0 },
    { "falcon", &shape_falcon, 0 }, { "chameleon", &shape_chameleon, BOS },
    { "gpt-2", &shape_gpt2, 0 }, { "phi-2", &shape_gpt2, 0 }, { "jina-es", &shape_gpt2, 0 }, { "jina-de", &shape_gpt2, 0 },
    { "jina-v1-en", &shape_gpt2, 0 }, { "jina-v2-es", &shape_gpt2, 0 }, { "jina-v2-de", &shape_gpt2, 0 },
    { "jina-v2-code", &shape_gpt2, 0 }, { "roberta-bpe", &shape_gpt2, 0 }, { "modern-bert", &shape_gpt2, 0 },
    { "gigachat", &shape_gpt2, 0 }, { "a.x-4.0", &shape_gpt2, 0 }, { "mellum", &shape_gpt2, 0 }, { "mpt", &shape_gpt2, 0 },
    { "olmo", &shape_gpt2, 0 }, { "jais", &shape_gpt2, 0 }, { "trillion", &shape_gpt2, 0 },
    { "granite-docling", &shape_gpt2, 0 }, { "exaone4", &shape_gpt2, 0 },
    { "starcoder", &shape_starcoder, 0 }, { "refact", &shape_starcoder, 0 }, { "command-r", &shape_starcoder, 0 },
    { "smollm", &shape_starcoder, 0 }, { "codeshell", &shape_starcoder, 0 }, { "exaone", &shape_starcoder, 0 },
    { "minerva-7b", &shape_starcoder, 0 }, { "mellum2", &shape_starcoder, 0 },
    { "qwen2", &shape_qwen2, 0 }, { "deepseek-r1-qwen", &shape_qwen2, 0 }, { "kormo", &shape_qwen2, 0 },
    { "f2llmv2", &shape_qwen2, 0 }, { "megrez", &shape_qwen2, 0 },
    { "stablelm2", &shape_digit, 0 }, { "hunyuan", &shape_digit, 0 }, { "solar-open", &shape_digit, 0 },
    { "grok-2", &shape_digit, 0 }, { "laguna", &shape_laguna, 0 },
    { "bailingmoe", &shape_digit, 0 }, { "bailingmoe2", &shape_digit, 0 }, { "llada-moe", &shape_digit, 0 },
    { "seed-coder", &shape_seed, 0 }, { "ufakzeka", &shape_ufakzeka, 0 }, { "qwen35", &shape_qwen35, 0 },
    { "exaone-moe", &shape_exaone_moe, 0 },
    { "gpt-4o", &shape_gpt4o, 0 }, { "llama4", &shape_gpt4o, 0 }, { "kanana2", &shape_gpt4o, 0 }, { "talkie", &shape_gpt4o, 0 },
    { "minimax-m2", &shape_gpt4o, 0 }, { "granite-embed-multi-97m", &shape_gpt4o, MERGES },
    { "tiny_aya", &shape_tiny_aya, 0 }, { "cohere2moe", &shape_tiny_aya, 0 },
    { "youtu", &shape_youtu, MERGES }, { "tekken", &shape_tekken, MERGES | BOS }, { "kimi-k2", &shape_kimi, 0 },
    { "poro-chat", &shape_bloom, 0 }, { "bloom", &shape_bloom, 0 }, { "gpt3-finnish", &shape_bloom, 0 },
    { "viking", &shape_viking, 0 }, { "superbpe", &shape_superbpe, 0 },
    { "gemma4", &shape_lines, GEMMA | BM_PRE_NEWLINES | BM_PRE_FORCE_BOS },
    { "granite-embed-multi-311m", &shape_lines, GEMMA | BM_PRE_NEWLINES | BM_PRE_FORCE_BOS },
    { "sarvam-moe", &shape_lines, GEMMA }, { "whitespace", &shape_whitespace, BM_PRE_RAW },
};

const bm_pretok *bm_pretok_at(size_t i)
{
    return i < sizeof table / sizeof *table ? &table[i] : NULL;
}

const bm_pretok *bm_pretok_find(const char *name, size_t len)
{
    const bm_pretok *row;

    for (size_t i = 0; (row = bm_pretok_at(i)) != NULL; i++)
        if (strlen(row->name) == len && memcmp(row->name, name, len) == 0)
            return row;
    return NULL;
}

const char *bm_pretok_shape_name(const bm_pretok *row)
{
    return row->shape->name;
}
