"""The lines that every tokenizer oracle runs on: the same bytes on every machine. About 12,000 lines of 26 scripts, emoji with
joiners, control characters, code, odd white space, broken UTF-8, and a few of a megabyte."""
import random
import unicodedata

SENTENCES = [
    "All human beings are born free and equal in dignity and rights. They're endowed with reason; it's 1948's text!",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits. L'été, aujourd'hui, «déjà» à 12h30.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Straße, Größe, ÜBERMUT, 3.141.592,65 €",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Qué? ¡Sí! 1.234.567",
    "Все люди рождаются свободными и равными в своём достоинстве и правах. МОСКВА, Россия, 2024год",
    "Усі люди народжуються вільними і рівними у своїй гідності та правах. об'єкт, п'ять",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια. ΑΘΗΝΑ ᾳ ῷ",
    "כל בני אדם נולדו בני חורין ושווים בערכם ובזכויותיהם. שָׁלוֹם",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. ١٢٣٤٥٦٧ ۱۲۳، ؟",
    "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند۔",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है। १२३४",
    "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে। ৪৫৬",
    "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.", "ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులు.",
    "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ ਆਪਣੀ ਮਹਿਮਾ, ਸ਼ਾਨ ਅਤੇ ਹੱਕਾਂ ਦੇ ਪੱਖੋਂ ਬਰਾਬਰ ਹੈ।", "પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો સમાન હોય છે.",
    "എല്ലാ മനുഷ്യരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും ജനിച്ചിട്ടുള്ളവരാണ്.", "ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಜನಿಸಿದ್ದಾರೆ.",
    "සියලු මනුෂ්‍යයෝ නිදහස්ව උපත ලබා ඇත.", "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ๑๒๓",
    "ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ", "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများ ဖြစ်သည်။",
    "មនុស្សទាំងអស់ កើតមកមានសេរីភាព និងសមភាព", "ყველა ადამიანი იბადება თავისუფალი და თანასწორი. ᲗᲑᲘᲚᲘᲡᲘ",
    "Բոլոր մարդիկ ծնվում են ազատ ու հավասար։ ԵՐԵՎԱՆ", "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。２０２４年１２月３１日",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。カタカナ　ﾊﾝｶｸ々〆〇",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. ㄱㄴㄷ ㅏㅑ", "ㄅㄆㄇㄈ，『注音』符號：ˇˋˊ˙",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền.", "İstanbul'da ışık, ılık; Türkiye'nin çocukları",
    "ᎠᏂᏴᏫ ᏂᎦᏓ ᎠᏂᏍᎦᏯ ᎤᎾᏕᏅᎢ ꮳꮃꭹ", "བོད་སྐད་ཡིག འབྲུག ༡༢༣", "ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ", "ꦱꦧꦼꦤ꧀ꦲꦸꦮꦺꦴꦁ ꧑꧒", "𐐔𐐯𐑅𐐨𐑉𐐯𐐻 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛 ⅣⅧ ½¾ ①②③ ²³",
    "def f(x):\n\treturn {\"a\": [1, 22, 333, 4444, 55555], 'b': x**2}  # don't!\r\n\r\n    if x != 0x1F: pass",
    "#include <stdio.h>\nint main(void) { for (int i = 0; i < 1000000; i++) printf(\"%d\\n\", i); return 0; }",
    "https://example.org/a/b/c?x=1&y=2#frag user@example.com C:\\Users\\x $100.00 50% ~^|`@_-+=<>",
    "I'M HE'LL WE'VE YOU'RE IT'S can't DON'T they'D o'clock 'tis 'Re 'lL 'vE x'sy 'ſ it'ſ",
    "CamelCaseWord XMLHttpRequest iPhone15Pro snake_case SCREAMING_CASE ǅungla ǈubav ÀÉÎ Éa ʰʲ aʰB ªº",
    "👨‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈 🇩🇪🇯🇵🇧🇷 1️⃣ #️⃣ ❤️‍🔥 🧑‍🤝‍🧑 ☃︎ ☃️ 🫠🫱🏻‍🫲🏿 \U0001F9D1\U0001F3FF\u200d\U0001F9B0",
    "a\u0301e\u0308 \u0301 \u200b\u200c\u200d\u2060\ufeff\u00ad \u202eRTL\u202c \x00\x01\x02\x07\x08\x0b\x0c\x1b[31m\x7f\x80\x85\x9f",
    "\u00a0nbsp\u2003em\u2028line\u2029para\u3000wide \u1680ogham\u202f\u205f", "  lead\t\ttabs \n\n\n trailing   \r\n \r \n", "", " ", "\n", "\t \t",
    "<|im_start|>system\nYou are<|im_end|> <s> </s> <unk> [INST] <sentinel:42> IMGIMGABCZ <0x41> <tool_call>{}</tool_call>",
    "1 12 123 1234 12345 123456 1234567 12345678 1234567a 123_456 12.345,67 ٣٤٥٦٧٨٩ ½123 123½4 ⅷ1234", "a b c d e f é b\u0301 c  d 한 국 어",
]
RANGES = [  # first and last code point of what random words are made of
    (0x21, 0x7E), (0xA1, 0x17F), (0x180, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58A),
    (0x591, 0x5F4), (0x600, 0x6FF), (0x700, 0x77F), (0x780, 0x7BF), (0x900, 0x97F), (0x980, 0x9FE), (0xA01, 0xA76),
    (0xA81, 0xAFF), (0xB82, 0xBFA), (0xC00, 0xC7F), (0xC80, 0xCF2), (0xD00, 0xD7F), (0xD81, 0xDF4), (0xE01, 0xE5B),
    (0xE81, 0xEDF), (0xF00, 0xFDA), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137C), (0x13A0, 0x13FD),
    (0x1780, 0x17F9), (0x1800, 0x18AA), (0x1C80, 0x1CBF), (0x1D00, 0x1FFE), (0x2000, 0x206F), (0x2070, 0x218B), (0x2190, 0x23FF),
    (0x2460, 0x27BF), (0x2C00, 0x2DFF), (0x2E80, 0x2FDF), (0x3000, 0x30FF), (0x3105, 0x318E), (0x3190, 0x33FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA000, 0xA4C6), (0xA640, 0xA7CA), (0xAA60, 0xABBF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFDFF),
    (0xFE00, 0xFE6F), (0xFF01, 0xFFEE), (0x10000, 0x100FA), (0x10400, 0x104FF), (0x11000, 0x1104D), (0x12000, 0x12399),
    (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F), (0x1F000, 0x1FAFF), (0x20000, 0x2A6DF), (0x2F800, 0x2FA1D), (0xE000, 0xE0FF),
]
GLUE = [" "] * 12 + ["  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", "'", "'s", "'LL", "'re ", ", ", ". ", "! ", "-", "_", "/", "//", "(", ")",
        "\u00a0", "\u3000", "\u200d", "\u0301", "1", "12", "123", "1234", " 2024", "...", "…", "，", "。", "\x0b", "\x1c", "\x85", "\u2028", "|", "$", "`"]
BROKEN = [b"\xff", b"\xc0\xaf", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\x80", b"\xbf\xbf", b"\xe0\x80\x80", b"\xf8"]


def words(rng, assigned):
    first, last = rng.choice(RANGES[:1] * 12 + RANGES)
    out = []
    for _ in range(rng.randint(1, 9)):
        c = chr(rng.randint(first, last))
        if assigned is None or assigned(c):
            out.append(c)
    return "".join(out)


def line(rng, assigned):
    out = []
    for _ in range(rng.randint(1, 14)):
        out.append(words(rng, assigned) if rng.random() < 0.7 else rng.choice(" ".join(SENTENCES).split()))
        out.append(rng.choice(GLUE))
    return "".join(out)


def lines(old_only=False, n=12000, long=True):
    """A list of byte strings. old_only: no character that is newer than this Python's Unicode (14.0 in Python 3.11), for
    peers whose tables are older than 16.0."""
    rng = random.Random(20240229)
    assigned = (lambda c: unicodedata.category(c) not in ("Cn", "Cs")) if old_only else (lambda c: not 0xD800 <= ord(c) < 0xE000)
    out = [s.encode() for s in SENTENCES]
    out += [b"x" * i + b" " * j + b"y" for i in range(3) for j in range(9)] + [b" " * i for i in range(1, 40)] + [b"\n" * i for i in range(1, 20)]
    out += [(" " * i + e + " " * j + "z").encode() for i in range(4) for j in range(4) for e in ("\n", "\r\n", "\t", "\n\n", "\u3000")]
    out += [b"1" * i + b"abc" for i in range(1, 12)] + [b"x" + b"7" * i for i in range(1, 12)] + [b" " * i + b"q" for i in (511, 512, 513, 514, 1030)]
    while len(out) < n * 9 // 10:
        out.append(line(rng, assigned).encode())
    while len(out) < n:
        text = bytearray(line(rng, assigned).encode())
        for _ in range(rng.randint(1, 3)):
            at = rng.randint(0, len(text))
            text[at:at] = rng.choice(BROKEN)
        out.append(bytes(text))
    if long:
        letters = "".join(rng.choice("etaoinshrdlucmfwyp") for _ in range(1 << 20))
        out += [letters.encode(), b"a" * (1 << 20), b" " * (1 << 18), b"\n" * (1 << 18), b"7" * (1 << 18), ("中" * (1 << 18)).encode(),
                "".join(words(rng, assigned) for _ in range(60000)).encode(), b"=-" * (1 << 18)]
    return out
