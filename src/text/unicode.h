/* unicode.h - character classes of one pinned Unicode version: 16.0, the one that Hugging Face tokenizers uses, so that
 * tokens do not depend on the distribution. The table is written by tools/gen_unicode.py. Read-only: any thread. */
#pragma once
#include <stdint.h>

enum {
    BM_U_UPPER = 0x001,      /* \p{Lu} \p{Lt} */
    BM_U_LOWER = 0x002,      /* \p{Ll} */
    BM_U_OTHER = 0x004,      /* \p{Lm} \p{Lo} */
    BM_U_MARK  = 0x008,      /* \p{M} */
    BM_U_DIGIT = 0x010,      /* \d, \p{Nd} */
    BM_U_NUM   = 0x020,      /* \p{N} */
    BM_U_PUNCT = 0x040,      /* \p{P} */
    BM_U_SYM   = 0x080,      /* \p{S} */
    BM_U_SPACE = 0x100,      /* \s */
    BM_U_WORD  = 0x200,      /* \w */
    BM_U_HAN   = 0x400,      /* \p{Han} */
    BM_U_LETTER = BM_U_UPPER | BM_U_LOWER | BM_U_OTHER      /* \p{L} */
};

extern const uint16_t bm_unicode_palette[];
extern const uint16_t bm_unicode_first[];
extern const uint8_t bm_unicode_second[];

/* The classes of a code point below 0x110000; surrogates and unassigned ones have none. */
static inline unsigned bm_unicode_class(uint32_t cp)
{
    return bm_unicode_palette[bm_unicode_second[(unsigned)bm_unicode_first[cp >> 7] << 7 | (cp & 127)]];
}
