#!/usr/bin/env python3
"""Writes src/text/unicode_table.c: the character classes that pre-tokenisers ask for, as the regular expressions of
Hugging Face tokenizers see them. That library decides which Unicode version a tokenizer means, so it is asked for every
code point; nothing is derived from a Unicode file of another version.

needs: Python 3.10+, tokenizers 0.23 (Unicode 16.0)         usage: gen_unicode.py [FILE]"""
import pathlib
import sys
import tokenizers
from tokenizers import Regex, pre_tokenizers

CLASSES = [  # bit, pattern: the order is that of the enum in src/text/unicode.h
    (0x001, r"[\p{Lu}\p{Lt}]"), (0x002, r"\p{Ll}"), (0x004, r"[\p{Lm}\p{Lo}]"), (0x008, r"\p{M}"),
    (0x010, r"\d"), (0x020, r"\p{N}"), (0x040, r"\p{P}"), (0x080, r"\p{S}"),
    (0x100, r"\s"), (0x200, r"\w"), (0x400, r"\p{Han}"),
]
LAST = 0x110000


def members(pattern):
    """The code points that match: those that a split removes. A surrogate cannot stand in a string and has no class."""
    split, found = pre_tokenizers.Split(Regex(pattern), "removed"), set()
    for base in range(0, LAST, 4096):
        points = [c for c in range(base, base + 4096) if not 0xD800 <= c < 0xE000]
        if points:
            kept = set("".join(text for text, _ in split.pre_tokenize_str("".join(map(chr, points)))))
            found.update(c for c in points if chr(c) not in kept)
    return found


def rows(values, per_line):
    return "\n".join("    " + " ".join(f"{v}," for v in values[i:i + per_line]) for i in range(0, len(values), per_line))


def main():
    flags = [0] * LAST
    for bit, pattern in CLASSES:
        for c in members(pattern):
            flags[c] |= bit
    palette = sorted(set(flags))
    index = {f: i for i, f in enumerate(palette)}
    block = 128
    blocks, first = {}, []
    for base in range(0, LAST, block):
        key = tuple(index[f] for f in flags[base:base + block])
        first.append(blocks.setdefault(key, len(blocks)))
    second = [v for key in blocks for v in key]
    letters = sum(1 for f in flags if f & 7)
    assert letters == 141028, f"{letters} letters: not Unicode 16.0 (tokenizers {tokenizers.__version__})"
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "src/text/unicode_table.c"
    out.write_text(f"""/* unicode_table.c - written by tools/gen_unicode.py; do not edit. Character classes of Unicode 16.0 as the regular
 * expressions of Hugging Face tokenizers {tokenizers.__version__} see them: {letters} letters. Two stages: block of {block}, class in it. */
#include "text/unicode.h"

const uint16_t bm_unicode_palette[{len(palette)}] = {{
{rows(palette, 16)}
}};

const uint16_t bm_unicode_first[{len(first)}] = {{
{rows(first, 24)}
}};

const uint8_t bm_unicode_second[{len(second)}] = {{
{rows(second, 32)}
}};
""")
    print(f"{len(palette)} classes, {len(blocks)} blocks, {len(second) + 2 * len(first)} bytes")


main()
