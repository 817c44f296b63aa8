/* known.c - the table of equivalents, and the look-up by name and hash. tests/oracle/eval/ compares each with its Python original. */
#include "eval/known.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

#define P "lm_eval.tasks."
#define HELLASWAG "07d23b60b28f2a4f658dcf8440623a63fe6644854ce9b846a114dde980dc1214"
#define IFEVAL "1ab8f14808c826f93f2364883487ed63cf4267980bf4761fda8053899c013632"
#define WIKITEXT "a44020374b172159bf5be80a64d2c4194c9d5c77284f696ac666361338c8da7d"
#define CROWS "5b1e3c31880a82a9fe9072e14edb15ffe143d08939de5d17fea17c2dc2fe0c16"
#define TRUTHFULQA "d3c827d1e2cd442a1e4738b527a18effd48cbb2aed478c12a652311b5ea4dbc8"
#define WINOGRANDE "e55327629264a98f1d383fda24645b6779afb53fa0bce2150042b9416b1ae006"
#define XCOPA "191d31bbbfc66be7b66cbc410053e13631201a3700df749f23c653fb7834dd43"
#define AGIEVAL "d54929f3cfcae8ee7f1f0171414cb81ec19b4243ea6474d8155956beb18327d3"
#define COPA "0be98a907db647a518c42c916a61385b64f394cf9d0171b5cb86b7a036282de7"

#define LOWER_FIRST(x) x "[0].lower() + " x "[1:]"
#define XCOPA_TEXT(language, cause, effect) \
    {P "xcopa.utils.doc_to_text_" language, XCOPA, BM_KNOWN_TEXT, 0, 0, \
     "{{premise.strip()[:-1] ~ ' ' ~ {'cause': '" cause "', 'effect': '" effect "'}[question]}}"}
#define CROWS_KEEP(name, start) \
    {P "crows_pairs.utils.filter_" name, CROWS, BM_KNOWN_KEEP, 0, 0, "{{bias_type.startswith('" start "')}}"}

static const bm_known TABLE[] = {
    {P "agieval.utils.process_results_mcqa", AGIEVAL, BM_KNOWN_RESULTS, BM_RESULTS_AGIEVAL, 0, NULL},
    {P "crows_pairs.utils.doc_to_choice", CROWS, BM_KNOWN_VALUE, 0, 0, "{{[sent_more, sent_less]}}"},
    {P "crows_pairs.utils.process_results", CROWS, BM_KNOWN_RESULTS, BM_RESULTS_CROWS_PAIRS, 0, NULL},
    CROWS_KEEP("race_color", "race-color"), CROWS_KEEP("socio", "socioeconomic"), CROWS_KEEP("gender", "gender"),
    CROWS_KEEP("age", "age"), CROWS_KEEP("religion", "religion"), CROWS_KEEP("disability", "disability"),
    CROWS_KEEP("orientation", "sexual-orientation"), CROWS_KEEP("nationality", "nationality"),
    CROWS_KEEP("appearance", "physical-appearance"), CROWS_KEEP("autre", "autre"),
    {P "hellaswag.utils.process_docs", HELLASWAG, BM_KNOWN_DOCS, 0, 0,
     "{% macro clean(text) %}{{(text.strip().replace(' [title]', '. ')|regex_replace('\\\\[.*?\\\\]', '')).replace('  ', ' ')}}{% endmacro %}"
     "{% set ns = namespace(choices=[]) %}{% for e in endings %}{% set ns.choices = ns.choices + [clean(e)] %}{% endfor %}"
     "{{ {'query': clean(activity_label + ': ' + ctx_a + ' ' + ctx_b.capitalize()), 'choices': ns.choices, 'gold': label|int} }}"},
    {P "ifeval.utils.agg_inst_level_acc", IFEVAL, BM_KNOWN_AGGREGATION, 0, BM_AGG_FLAT_MEAN, NULL},
    {P "ifeval.utils.process_results", IFEVAL, BM_KNOWN_RESULTS, BM_RESULTS_IFEVAL, 0, NULL},
    {P "super_glue.copa.utils.doc_to_text", COPA, BM_KNOWN_TEXT, 0, 0,
     "{{premise.strip()[:-1] ~ ' ' ~ {'cause': 'because', 'effect': 'therefore'}[question]}}"},
    {P "super_glue.copa.utils.doc_to_target", COPA, BM_KNOWN_TEXT, 0, 0,
     "{{' ' + (" LOWER_FIRST("choice1") " if label == 0 else " LOWER_FIRST("choice2") ")}}"},
    {P "super_glue.copa.utils.doc_to_choice", COPA, BM_KNOWN_VALUE, 0, 0,
     "{{[' ' + " LOWER_FIRST("choice1") ", ' ' + " LOWER_FIRST("choice2") "]}}"},
    {P "truthfulqa.utils.process_results_mc2", TRUTHFULQA, BM_KNOWN_RESULTS, BM_RESULTS_TRUTHFULQA_MC2, 0, NULL},
    {P "wikitext.preprocess_wikitext.process_results", WIKITEXT, BM_KNOWN_RESULTS, BM_RESULTS_ROLLING, 0, NULL},
    {P "wikitext.preprocess_wikitext.wikitext_detokenizer", WIKITEXT, BM_KNOWN_TEXT, 0, 0,
     "{% set s = page.replace(\"s '\", \"s'\")|regex_replace(\"/' [0-9]/\", \"/'[0-9]/\") %}"
     "{% set s = s.replace(' @-@ ', '-').replace(' @,@ ', ',').replace(' @.@ ', '.') %}"
     "{% set s = s.replace(' : ', ': ').replace(' ; ', '; ').replace(' . ', '. ').replace(' ! ', '! ').replace(' ? ', '? ').replace(' , ', ', ') %}"
     "{% set s = s|regex_replace('\\\\(\\\\s*([^\\\\)]*?)\\\\s*\\\\)', '(\\\\1)')|regex_replace('\\\\[\\\\s*([^\\\\]]*?)\\\\s*\\\\]', '[\\\\1]') %}"
     "{% set s = s|regex_replace('{\\\\s*([^}]*?)\\\\s*}', '{\\\\1}')|regex_replace('\"\\\\s*([^\"]*?)\\\\s*\"', '\"\\\\1\"') %}"
     "{% set s = s|regex_replace(\"'\\\\s*([^']*?)\\\\s*'\", \"'\\\\1'\") %}"
     "{% set s = s.replace('= = = =', '====').replace('= = =', '===').replace('= =', '==').replace(' \xC2\xB0 ', '\xC2\xB0') %}"
     "{{s.replace(' \\n', '\\n').replace('\\n ', '\\n').replace(' N ', ' 1 ').replace(\" 's\", \"'s\")}}"},
    {P "winogrande.preprocess_winogrande.doc_to_text", WINOGRANDE, BM_KNOWN_VALUE, 0, 0, "{{ {'1': 0, '2': 1}[answer] }}"},
    {P "winogrande.preprocess_winogrande.doc_to_target", WINOGRANDE, BM_KNOWN_TEXT, 0, 0,
     "{{sentence[sentence.index('_') + 1:].strip()}}"},
    {P "winogrande.preprocess_winogrande.doc_to_choice", WINOGRANDE, BM_KNOWN_VALUE, 0, 0,
     "{% set begin = sentence[:sentence.index('_')] %}{{[begin + option1, begin + option2]}}"},
    {P "xcopa.utils.doc_to_choice", XCOPA, BM_KNOWN_VALUE, 0, 0, "{{[" LOWER_FIRST("choice1") ", " LOWER_FIRST("choice2") "]}}"},
    XCOPA_TEXT("et", "sest", "seet\xC3\xB5ttu"), XCOPA_TEXT("ht", "poukisa", "donk sa"), XCOPA_TEXT("it", "perch\xC3\xA9", "quindi"),
    XCOPA_TEXT("id", "karena", "maka"), XCOPA_TEXT("qu", "imataq", "chaymi"), XCOPA_TEXT("sw", "kwa sababu", "kwa hiyo"),
    XCOPA_TEXT("zh", "\u56E0\u4E3A", "\u6240\u4EE5"), XCOPA_TEXT("ta", "\u0B95\u0BBE\u0BB0\u0BA3\u0BAE\u0BBE\u0B95", "\u0B8E\u0BA9\u0BB5\u0BC7"),
    XCOPA_TEXT("th", "\u0E40\u0E1E\u0E23\u0E32\u0E30", "\u0E14\u0E31\u0E07\u0E19\u0E31\u0E49\u0E19"),
    XCOPA_TEXT("tr", "\u00E7\u00FCnk\u00FC", "bu y\u00FCzden"), XCOPA_TEXT("vi", "b\u1EDFi v\u00EC", "v\u00EC v\u1EADy"),
};

const bm_known *bm_known_table(size_t *n)
{
    *n = sizeof TABLE / sizeof TABLE[0];
    return TABLE;
}

static const bm_known *by_name(const char *name)
{
    for (size_t i = 0; i < sizeof TABLE / sizeof TABLE[0]; i++)
        if (strcmp(TABLE[i].name, name) == 0)
            return &TABLE[i];
    return NULL;
}

static int hash_file(const char *path, char hex[65])
{
    bm_sha256 sum;
    char *text = NULL;
    size_t len;
    int rc = bm_read_file(&text, &len, path, 4 << 20, NULL);

    if (rc == 0 && (rc = bm_sha256_bytes(&sum, text, len, NULL)) == 0)
        bm_hex(hex, sum.bytes, sizeof sum.bytes);
    bm_free(text);
    return rc;
}

static const bm_known *by_hash(const char *hex, const char *function)
{
    for (size_t i = 0; i < sizeof TABLE / sizeof TABLE[0]; i++) {
        const char *dot = strrchr(TABLE[i].name, '.');
        if (strcmp(TABLE[i].sha256, hex) == 0 && strcmp(dot + 1, function) == 0)
            return &TABLE[i];
    }
    return NULL;
}

const bm_known *bm_known_find(const char *dir, const char *spec, char why[200])
{
    const char *dot = strrchr(spec, '.');
    const bm_known *known = NULL;
    bm_buf path = {0};
    char hex[65];

    snprintf(why, 200, "Python functions are not run");
    if (dot == NULL || strstr(spec, "..") != NULL || strchr(spec, '/') != NULL)
        return NULL;
    bm_buf_printf(&path, "%s/%.*s", dir, (int)(dot - spec), spec);
    for (size_t i = strlen(dir) + 1; i < path.len; i++)
        if (path.data[i] == '.')
            path.data[i] = '/';
    bm_buf_puts(&path, ".py");
    if (path.failed)
        snprintf(why, 200, "no memory");
    else if (hash_file(path.data, hex) < 0)
        known = by_name(spec);                           /* no such file beside the task: an installed module's name */
    else if ((known = by_hash(hex, dot + 1)) == NULL)
        snprintf(why, 200, "Python functions are not run, and this one (file %.12s...) has no equivalent here", hex);
    bm_buf_done(&path);
    return known;
}
