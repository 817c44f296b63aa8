#!/usr/bin/env python3
"""Every row of the pre-tokeniser table against Hugging Face tokenizers 0.23 running the published regular expressions.
Expressions are those of each family's tokenizer.json, as llama.cpp's llama-vocab.cpp quotes them (its own where it quotes none).
usage: pretok.py [--vectors FILE] [SHAPE...]     Prints one line a shape; exit 1 on any difference.
With FILE, some lines and where the peer cuts them are written for the unit tests: "= hex of the line", then "name ends"."""
import sys

from tokenizers import Regex, pre_tokenizers

import corpus
import shim

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
FOLD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
ASCII = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = r"[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|" + REST
HIGH, LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = r"[^\r\n\p{L}\p{N}]?" + HIGH + "*" + LOW + r"+%s|[^\r\n\p{L}\p{N}]?" + HIGH + "+" + LOW + r"*%s|%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + REST
PUNCT = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"
NOT_HAN = r"&&[^\p{Han}]]"
KIMI_HIGH, KIMI_LOW = HIGH[:-1] + NOT_HAN, LOW[:-1] + NOT_HAN
DEEPSEEK_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d"
    "\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134"
    "\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b"
    "\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943")
POWERS = "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"|\s{1,2}(?!\S)|\s{1}"
SHAPES = {
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "gpt2": [GPT2],
    "starcoder": [r"\p{N}", GPT2],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "llama3": [FOLD + "|" + LLAMA3 % r"\p{N}{1,3}"],
    "jais2": [FOLD + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|" + POWERS],
    "minicpm5": [r"\p{N}{1,3}", FOLD + "|" + LLAMA3 % r"\p{N}+"],
    "qwen2": [ASCII + "|" + LLAMA3 % r"\p{N}"],          # llama-tokenize decides here: it does not fold the long s
    "digit": [FOLD + "|" + LLAMA3 % r"\p{N}"],
    "laguna": [r"[^\n]+|[\n]+", FOLD + "|" + LLAMA3 % r"\p{N}"],
    "seed-coder": [FOLD + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}" + "\r\n" + r"]+|\s*[" + "\r\n" + r"]+|\s+(?!\S)|\s+"],
    "ufakzeka": [LLAMA3 % r"\p{N}"],
    "qwen35": [FOLD + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + REST],
    "exaone-moe": [FOLD + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"],
    "gpt4o": [CASED % (FOLD + "?", FOLD + "?", r"\p{N}{1,3}")],
    "tiny_aya": [r"\d{1,3}(?=(?:\d{3})*\b)", CASED % (FOLD + "?", FOLD + "?", r"\p{N}{1,3}")],
    "youtu": ["[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" + KANA, CASED % (FOLD + "?", FOLD + "?", r"\p{N}")],
    "tekken": [CASED % ("", "", r"\p{N}")],
    "kimi-k2": [r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?" + KIMI_HIGH + "*" + KIMI_LOW + "+" + FOLD + r"?|[^\r\n\p{L}\p{N}]?" + KIMI_HIGH + "+" + KIMI_LOW
                + "*" + FOLD + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + REST],
    "deepseek-llm": ["[\r\n]", r"\s?[" + DEEPSEEK_LETTERS + "]+", r"\s?[!-/:-~！-／：-～‘-‟" + "\u3000-\u3002]+", r"\s+$",
                     "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}+"],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", KANA, PUNCT + r" ?[\p{P}\p{S}]+[\r\n]*|" + REST],
    "spark2_5": [r"\p{N}{1,3}", KANA, PUNCT + r" ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+", r"\p{N}"],
    "afmoe": [r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
              "[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff"
              "\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+", PUNCT + r" ?[\p{P}\p{S}]+[\r\n]*|" + REST],
    "bloom": [BLOOM],
    "viking": [BLOOM, r"\p{N}"],
    "chameleon": ["<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", r"\p{N}", r"[\p{P}!-/:-@\[-`{-~]", GPT2],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
    "lines": [r"[^\n]+|[\n]+"],
    "whitespace": [r"\S+"],
}
# Bailing's own expression has possessive quantifiers and one newline at a time: the same words.
ALSO = {"digit": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"]}


def peer_of(expressions):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(e), "isolated") for e in expressions])


def ends_of(peer, text):
    ends, pos = [], 0
    for piece, _ in peer.pre_tokenize_str(text):
        pos += len(piece.encode())
        ends.append(pos)
    return ends


def write_vectors(path, rows, texts):
    with open(path, "w") as out:
        for text in [t for i, t in enumerate(texts) if len(t.encode()) < 130 and (i < 50 and i % 4 == 1 or i > 300 and i % 2000 == 0 or i < 60 and "ſ" in t)]:
            out.write(f"= {text.encode().hex()}\n")
            for shape, names in rows.items():
                out.write(f"{names[-1]} {','.join(map(str, ends_of(peer_of(SHAPES[shape]), text)))}\n")


def check(lib, name, expressions, texts):
    peer, bad = peer_of(expressions), 0
    for text in texts:
        want = ends_of(peer, text)
        have = shim.split(lib, name, text.encode())
        if have != want:
            bad += 1
            if bad <= 3:
                print(f"  {name}: {text[:200]!r}\n    want {[p for p, _ in peer.pre_tokenize_str(text)][:40]}\n    have {have[:40]}")
    return bad


def main():
    lib = shim.load()
    texts = [line.decode(errors="replace") for line in corpus.lines(long=False)]
    texts += ["x" * 100000, " " * 3000, "7" * 30001, "ab1" * 20000, "\n" * 2000]
    rows, worst, only = {}, 0, sys.argv[1:]
    vectors = only[1] if only[:1] == ["--vectors"] else None
    only = only[2:] if vectors else only
    for name, shape in shim.pretok_rows(lib):
        rows.setdefault(shape, []).append(name)
    assert set(rows) == set(SHAPES), set(rows) ^ set(SHAPES)
    for shape, names in rows.items():
        if not only or shape in only:
            bad = check(lib, names[0], SHAPES[shape], texts)
            if shape in ALSO:
                bad += check(lib, names[0], ALSO[shape], texts)
            worst += bad
            print(f"{shape}: {len(texts)} lines, {bad} differ ({len(names)} names)", flush=True)
    if vectors:
        write_vectors(vectors, rows, texts)
    print(f"{len(rows)} shapes, {sum(map(len, rows.values()))} names, {worst} differences")
    sys.exit(worst != 0)


main()
