/* jinja_case.c - case mapping and classes of characters, with utf8proc's tables (Unicode 15). One character maps to one,
 * but for sharp s; what Python maps to several otherwise (ligatures, some Greek) stays. */
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/jinja.h"

static utf8proc_category_t category(uint32_t cp) { return utf8proc_category((utf8proc_int32_t)cp); }

static bool is_upper(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_LU || (cp >= 0x2160 && cp <= 0x216F) || (cp >= 0x24B6 && cp <= 0x24CF);
}

static bool is_lower(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_LL || cp == 0xAA || cp == 0xBA || (cp >= 0x2170 && cp <= 0x217F) ||
           (cp >= 0x24D0 && cp <= 0x24E9) || (cp >= 0x2B0 && cp <= 0x2B8);
}

static bool is_title(uint32_t cp) { return category(cp) == UTF8PROC_CATEGORY_LT; }
static bool is_cased(uint32_t cp) { return is_upper(cp) || is_lower(cp) || is_title(cp); }

static bool is_alpha(uint32_t cp)
{
    utf8proc_category_t c = category(cp);

    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

static bool is_decimal(uint32_t cp) { return category(cp) == UTF8PROC_CATEGORY_ND; }

static bool is_digit(uint32_t cp)
{
    return is_decimal(cp) || cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || cp == 0x2070 || (cp >= 0x2074 && cp <= 0x2079) ||
           (cp >= 0x2080 && cp <= 0x2089) || (cp >= 0x1369 && cp <= 0x1371) || (cp >= 0x2460 && cp <= 0x2468) ||
           (cp >= 0x2474 && cp <= 0x247C) || (cp >= 0x2488 && cp <= 0x2490) || cp == 0x24EA || (cp >= 0x24F5 && cp <= 0x24FD) ||
           cp == 0x24FF || (cp >= 0x2776 && cp <= 0x277E) || (cp >= 0x2780 && cp <= 0x2788) || (cp >= 0x278A && cp <= 0x2792);
}

static bool is_numeric(uint32_t cp)
{
    utf8proc_category_t c = category(cp);

    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO || cp == 0x3007;
}

static bool is_alnum(uint32_t cp) { return is_alpha(cp) || is_decimal(cp) || is_digit(cp) || is_numeric(cp); }

bool bm_j_is_word(uint32_t cp) { return cp == '_' || is_alnum(cp); }

bool bm_j_printable(uint32_t cp)
{
    utf8proc_category_t c = category(cp);

    if (cp == ' ')
        return true;
    return !(c == UTF8PROC_CATEGORY_CN || c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CS ||
             c == UTF8PROC_CATEGORY_CO || c == UTF8PROC_CATEGORY_ZL || c == UTF8PROC_CATEGORY_ZP || c == UTF8PROC_CATEGORY_ZS);
}

typedef struct caser { char how; bool in_word, first; } caser;

/* The mapped text of one character; 'b' stands for a title-cased one. */
static size_t map_char(uint32_t cp, char how, char out[8])
{
    utf8proc_int32_t c = (utf8proc_int32_t)cp;

    if (cp == 0xDF && (how == 'u' || how == 'b' || how == 'f')) {
        memcpy(out, how == 'u' ? "SS" : how == 'b' ? "Ss" : "ss", 2);
        return 2;
    }
    c = how == 'u' ? utf8proc_toupper(c) : how == 'b' ? utf8proc_totitle(c) : utf8proc_tolower(c);
    return (size_t)bm_utf8_encode((uint32_t)c, out);
}

static char step(caser *k, uint32_t cp)
{
    bool starts = k->how == 'c' ? k->first : !k->in_word;

    k->first = false;
    k->in_word = is_cased(cp);
    if (k->how == 't' || k->how == 'c')
        return starts ? 'b' : 'l';
    if (k->how == 's')
        return is_upper(cp) ? 'l' : is_lower(cp) ? 'u' : 0;
    return k->how;
}

/* A sigma at the end of a word is written differently. */
static bool final_sigma(const bm_jstr *s, size_t at, size_t next)
{
    uint32_t before = 0, after = 0;
    size_t i = at;

    while (i > 0 && (s->data[--i] & 0xC0) == 0x80)
        ;
    if (at > 0)
        bm_j_decode(s->data + i, s->len - i, &before);
    if (next < s->len)
        bm_j_decode(s->data + next, s->len - next, &after);
    return is_cased(before) && !is_cased(after);
}

bm_jstr *bm_jstr_case(bm_jrun *r, bm_jstr *s, char how)
{
    caser k = {.how = how, .first = true};
    uint32_t cp;
    bm_jsb b;
    char out[8];

    bm_jsb_init(&b, r);
    if (!bm_jstr_flat(r, s) || !bm_jrun_step(r, s->len / 8 + 1))
        return NULL;
    for (size_t i = 0, n; i < s->len; i += n) {
        n = (size_t)bm_j_decode(s->data + i, s->len - i, &cp);
        char to = step(&k, cp);
        if (to == 0) {
            bm_jsb_slice(&b, s, i, i + n);
            continue;
        }
        if (cp == 0x3A3 && to == 'l' && final_sigma(s, i, i + n))
            cp = 0x3C2, to = 'l';
        bm_jsb_add(&b, out, map_char(cp, to, out), bm_jstr_source(s));
    }
    bm_jstr *done = bm_jsb_finish(&b);
    if (done != NULL)
        done->markup = s->markup;
    return done;
}

static bool all_of(const bm_jstr *s, bool (*is)(uint32_t), bool when_empty)
{
    uint32_t cp;

    for (size_t i = 0; i < s->len;) {
        i += (size_t)bm_j_decode(s->data + i, s->len - i, &cp);
        if (!is(cp))
            return false;
    }
    return s->len > 0 || when_empty;
}

static bool is_ascii(uint32_t cp) { return cp < 0x80; }

/* isupper and islower: some character of that case and none of another. */
static bool one_case(const bm_jstr *s, bool upper)
{
    bool any = false;
    uint32_t cp;

    for (size_t i = 0; i < s->len;) {
        i += (size_t)bm_j_decode(s->data + i, s->len - i, &cp);
        if (is_title(cp) || (upper ? is_lower(cp) : is_upper(cp)))
            return false;
        any |= upper ? is_upper(cp) : is_lower(cp);
    }
    return any;
}

static bool title_case(const bm_jstr *s)
{
    bool in_word = false, any = false;
    uint32_t cp;

    for (size_t i = 0; i < s->len;) {
        i += (size_t)bm_j_decode(s->data + i, s->len - i, &cp);
        if ((is_upper(cp) || is_title(cp)) ? in_word : is_lower(cp) ? !in_word : false)
            return false;
        in_word = is_cased(cp);
        any |= in_word;
    }
    return any;
}

static bool identifier(const bm_jstr *s)
{
    return s->len > 0 && all_of(s, bm_j_is_word, false) && !(s->data[0] >= '0' && s->data[0] <= '9');
}

bool bm_jstr_class(bm_jstr *s, const char *which)
{
    static const struct { const char *name; bool (*is)(uint32_t); bool when_empty; } simple[] = {
        {"isalpha", is_alpha, false}, {"isdigit", is_digit, false}, {"isalnum", is_alnum, false}, {"isspace", bm_j_is_space, false},
        {"isdecimal", is_decimal, false}, {"isnumeric", is_numeric, false}, {"isascii", is_ascii, true},
        {"isprintable", bm_j_printable, true},
    };

    for (size_t i = 0; i < sizeof simple / sizeof simple[0]; i++)
        if (strcmp(which, simple[i].name) == 0)
            return all_of(s, simple[i].is, simple[i].when_empty);
    if (strcmp(which, "isupper") == 0 || strcmp(which, "islower") == 0)
        return one_case(s, which[2] == 'u');
    return strcmp(which, "istitle") == 0 ? title_case(s) : identifier(s);
}
