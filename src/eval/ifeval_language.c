/* ifeval_language.c - which language a text is in, for the 55 that langdetect knows: by script, then by letters that only some have, then
 * by how many of a language's most frequent words stand in it. */
#define _GNU_SOURCE
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "eval/ifeval_text.h"
#include "eval/words.h"
#include "text/unicode.h"

typedef enum script {
    LATIN, GREEK, CYRILLIC, HEBREW, ARABIC, DEVANAGARI, BENGALI, GURMUKHI, GUJARATI, TAMIL, TELUGU, KANNADA, MALAYALAM, THAI, HANGUL, KANA, HAN,
    N_SCRIPTS
} script;

static const struct { uint32_t first, last; script script; } RANGES[] = {
    {0x41, 0x24F, LATIN}, {0x1E00, 0x1EFF, LATIN}, {0x370, 0x3FF, GREEK}, {0x1F00, 0x1FFF, GREEK}, {0x400, 0x52F, CYRILLIC},
    {0x590, 0x5FF, HEBREW}, {0x600, 0x77F, ARABIC}, {0xFB50, 0xFDFF, ARABIC}, {0xFE70, 0xFEFF, ARABIC}, {0x900, 0x97F, DEVANAGARI},
    {0x980, 0x9FF, BENGALI}, {0xA00, 0xA7F, GURMUKHI}, {0xA80, 0xAFF, GUJARATI}, {0xB80, 0xBFF, TAMIL}, {0xC00, 0xC7F, TELUGU},
    {0xC80, 0xCFF, KANNADA}, {0xD00, 0xD7F, MALAYALAM}, {0xE00, 0xE7F, THAI}, {0x1100, 0x11FF, HANGUL}, {0xAC00, 0xD7AF, HANGUL},
    {0x3040, 0x30FF, KANA}, {0x3400, 0x9FFF, HAN}, {0x20000, 0x2FA1F, HAN}};

/* Frequent words of each language that shares its script with others, with a blank around each. */
static const struct language { script script; const char *code, *words; } LANGUAGES[] = {
    {LATIN, "en", " the of and to in is that for it with as on are this be was by you i not have from or at your can my we an will "},
    {LATIN, "de", " der die das und ist in den von zu mit sich nicht ein eine auf für dem des im es auch als wir ich sie ihr wie werden sind "},
    {LATIN, "fr", " le la les de des et est en un une du que dans pour qui pas sur au avec ce il nous vous je plus sont par cette se "},
    {LATIN, "es", " el la los las de que y en un una es por con no para se del al lo como más su pero este esta son o mi "},
    {LATIN, "pt", " o a os as de que e em um uma é por com não para se do da no na como mais seu mas ao dos das são você "},
    {LATIN, "it", " il la le di che e in un una è per con non si del della i gli al da come più sono ma nel anche questo mi ti "},
    {LATIN, "nl", " de het een en van in is dat te op met voor niet zijn aan er die als ook maar om bij dit ik wordt je naar heeft "},
    {LATIN, "sv", " och att det i som en på är av för med den till inte har ett om de jag du vi från kan så men sig "},
    {LATIN, "no", " og det i som en på er av for med den til ikke har et om de jeg du vi fra kan så men seg å være "},
    {LATIN, "da", " og det i som en på er af for med den til ikke har et om de jeg du vi fra kan så men sig at være "},
    {LATIN, "fi", " ja on ei että se hän oli ovat mutta kun niin myös olla joka tämä mitä voi sen minä kuin tai jos ole "},
    {LATIN, "et", " ja on ei et see ta oli aga kui ka mis või oma mida nii kes need selle olla seda siis ning "},
    {LATIN, "lt", " ir yra kad į su iš tai bet kaip ne jis buvo apie nuo per taip jo tik dėl už savo "},
    {LATIN, "lv", " un ir ka uz ar no tas bet kā ne viņš bija par pie arī lai vai ko tā kas "},
    {LATIN, "pl", " i w na z się nie do to jest że jak o ale co po dla od są za tak czy przez być ich "},
    {LATIN, "cs", " a v na se je že z do to s o i ale jak k za by pro jsou jako který ve při tak být "},
    {LATIN, "sk", " a v na sa je že z do to s o i ale ako k za by pre sú ktorý vo pri tak byť aj "},
    {LATIN, "sl", " in je v na se da z za so ne pa to ki kot tudi po bi ni od lahko ali pri "},
    {LATIN, "hr", " i je u na se da za su od ne a s to kao ili iz što koji bi ali nije može "},
    {LATIN, "ro", " și de în a la cu pe că nu o un este din care mai pentru sau ce se sunt dar prin lui "},
    {LATIN, "hu", " a az és hogy nem is egy van meg ez de csak mint vagy azt volt el már még ha ki "},
    {LATIN, "tr", " ve bir bu da de için ile çok ne o gibi daha olarak var ama en olan kadar mi ben sen "},
    {LATIN, "sq", " e të në dhe një për është që me i nga se ka u si më por do kjo nuk "},
    {LATIN, "so", " oo ka ku waa iyo ah in la u ay uu soo aan ama kale si waxa waxaa "},
    {LATIN, "sw", " na ya wa kwa ni za la katika kuwa hii yake cha au kama hiyo lakini sana watu wake vya "},
    {LATIN, "tl", " ang ng sa na at ay mga para ito kung hindi siya ako ko mo niya isang may nang "},
    {LATIN, "vi", " và của là có trong được cho không một các những với người để này đã từ khi tôi bạn như "},
    {LATIN, "id", " yang dan di untuk dengan ini dari pada adalah itu dalam tidak ke akan atau juga saya anda kami bisa "},
    {LATIN, "af", " die en van in is het dat nie op met vir te om sy hy ons wat 'n word kan ook as "},
    {LATIN, "ca", " el la els les de que i en un una és per amb no del al com més però aquest ha o "},
    {LATIN, "cy", " y yn a i o ar yr mae ei am wedi hyn gyda fel ac bod oedd eu nid "},
    {CYRILLIC, "ru", " и в не на что я с он как это по но из у за от так для все вы мы был бы о "},
    {CYRILLIC, "uk", " і в не на що я з він як це по але у за від так для все ви ми був та й до "},
    {CYRILLIC, "bg", " и в не на че аз с той как това по но от за да се е са ще със си до през който "},
    {CYRILLIC, "mk", " и во не на дека јас со тој како ова по но од за да се е ќе си до кој "},
    {DEVANAGARI, "hi", " है में के की का और से को यह हैं पर एक नहीं कि लिए था भी ने हो कर जो "},
    {DEVANAGARI, "mr", " आहे आणि या च्या मध्ये ते हे आहेत एक नाही की साठी होते करण्यासाठी तर ही त्या किंवा मी "},
    {DEVANAGARI, "ne", " छ को मा र हो यो छन् पनि लागि एक गर्न भएको गरेको हुन्छ थियो तर म तपाईं "},
    {ARABIC, "ar", " في من على إلى أن هذا هذه التي الذي ما لا عن مع كان هو هي أو و كل "},
    {ARABIC, "fa", " و در به از که این را با است آن برای می های یک ما شما بود من هم "},
    {ARABIC, "ur", " کے کی میں ہے اور سے کو کا یہ ہیں پر نے ایک کہ نہیں لیے بھی ہو تھا "},
};

static size_t hits(const char *words, const char *text, size_t len)
{
    size_t n = 0;

    for (size_t at = 0; at < len;) {                     /* text is folded: words with one blank before and behind each */
        const char *end = memchr(text + at + 1, ' ', len - at - 1);
        if (end == NULL)
            break;
        size_t span = (size_t)(end - (text + at)) + 1;
        n += memmem(words, strlen(words), text + at, span) != NULL;
        at += span - 1;
    }
    return n;
}

/* Lower case, and blanks for all that is no letter. */
static void fold(bm_buf *out, const char *s, size_t len)
{
    bm_buf lower = {0};
    uint32_t cp;

    bm_words_case(&lower, s, len, false);
    bm_buf_putc(out, ' ');
    for (size_t at = 0; at < lower.len;) {
        int n = bm_utf8_decode(lower.data + at, lower.len - at, &cp);
        size_t step = n > 0 ? (size_t)n : 1;
        bool keep = n > 0 && (cp == '\'' || (bm_unicode_class(cp) & (BM_U_LETTER | BM_U_MARK)) != 0);
        if (keep)
            bm_buf_add(out, lower.data + at, step);
        else if (out->len > 0 && out->data[out->len - 1] != ' ')
            bm_buf_putc(out, ' ');
        at += step;
    }
    if (out->len > 0 && out->data[out->len - 1] != ' ')
        bm_buf_putc(out, ' ');
    bm_buf_done(&lower);
}

static const char *by_words(script which, const char *fallback, const char *s, size_t len)
{
    const char *best = fallback;
    size_t most = 0;
    bm_buf text = {0};

    fold(&text, s, len);
    for (size_t i = 0; !text.failed && i < sizeof LANGUAGES / sizeof LANGUAGES[0]; i++) {
        size_t n = LANGUAGES[i].script == which ? hits(LANGUAGES[i].words, text.data, text.len) : 0;
        if (n > most)
            most = n, best = LANGUAGES[i].code;
    }
    bm_buf_done(&text);
    return best;
}

static bool has_any(const char *s, size_t len, const char *letters)
{
    for (size_t at = 0; letters[at] != '\0';) {
        uint32_t cp;
        size_t n = (size_t)bm_utf8_decode(letters + at, strlen(letters + at), &cp);
        if (memmem(s, len, letters + at, n) != NULL)
            return true;
        at += n;
    }
    return false;
}

static const char *cyrillic(const char *s, size_t len)
{
    if (has_any(s, len, "іїєґІЇЄҐ"))
        return "uk";
    if (has_any(s, len, "ѓќѕјљњџЃЌЅЈЉЊЏ"))
        return "mk";
    return has_any(s, len, "ыэёЫЭЁ") ? "ru" : by_words(CYRILLIC, "ru", s, len);
}

static const char *arabic(const char *s, size_t len)
{
    if (has_any(s, len, "ٹڈڑںےہ"))
        return "ur";
    return has_any(s, len, "پچژگیک") ? by_words(ARABIC, "fa", s, len) : by_words(ARABIC, "ar", s, len);
}

const char *bm_ifeval_language(const char *s, size_t len)
{
    static const char *const one[N_SCRIPTS] = {[GREEK] = "el", [HEBREW] = "he", [BENGALI] = "bn", [GURMUKHI] = "pa", [GUJARATI] = "gu",
        [TAMIL] = "ta", [TELUGU] = "te", [KANNADA] = "kn", [MALAYALAM] = "ml", [THAI] = "th", [HANGUL] = "ko", [KANA] = "ja"};
    size_t counts[N_SCRIPTS] = {0}, letters = 0, most = 0;
    uint32_t cp;

    for (size_t at = 0; at < len;) {
        int n = bm_utf8_decode(s + at, len - at, &cp);
        bool letter = n > 0 && (bm_unicode_class(cp) & (BM_U_LETTER | BM_U_MARK)) != 0;
        for (size_t i = 0; letter && i < sizeof RANGES / sizeof RANGES[0]; i++)
            if (cp >= RANGES[i].first && cp <= RANGES[i].last)
                counts[RANGES[i].script]++, letters++;
        at += n > 0 ? (size_t)n : 1;
    }
    if (letters == 0)
        return NULL;
    if (counts[KANA] * 10 > letters)
        return "ja";
    for (size_t i = 1; i < N_SCRIPTS; i++)
        most = counts[i] > counts[most] ? i : most;
    switch ((script)most) {
    case LATIN:
        return by_words(LATIN, "en", s, len);
    case CYRILLIC:
        return cyrillic(s, len);
    case ARABIC:
        return arabic(s, len);
    case DEVANAGARI:
        return by_words(DEVANAGARI, "hi", s, len);
    case HAN:
        return has_any(s, len, "這個們來時說為國會對還開關無與後讓過") ? "zh-tw" : "zh-cn";
    default:
        return one[most];
    }
}
