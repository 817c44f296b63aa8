#!/usr/bin/env python3
"""Loss masks as transformers makes them, for tests/train/test_mask_oracle.c.

usage: python make.py > vectors.h        made with transformers 5.23.0, tokenizers 0.23.3
A byte-level BPE vocabulary is built here as tests/text/tiny_vocab.h builds it: 256 bytes, then the merges, then ChatML's tokens. Each
template has {% generation %} blocks; tokens and mask are those of apply_chat_template(..., return_assistant_tokens_mask=True).
No answer ends with a letter of several tokens: transformers looks for the token of a block's last character, and finds the first of
them (the bytes of "。", say), so that the others lose their place in the mask.
"""
import json

import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

MERGES = ["\u010a \u010a", "e r", "\u0120 a", "h e", "l l", ". \u010a"]
SPECIAL = ["<|im_start|>", "<|im_end|>"]


def byte_alphabet():
    out = []
    for b in range(256):
        cp = b
        if b <= 0x20:
            cp = 0x100 + b
        elif 0x7F <= b <= 0xA0:
            cp = 0x121 + b - 0x7F
        elif b == 0xAD:
            cp = 0x143
        out.append(chr(cp))
    return out


def tokenizer():
    vocab = {c: i for i, c in enumerate(byte_alphabet())}
    merges = []
    for m in MERGES:
        a, b = m.split(" ")
        merges.append((a, b))
        vocab.setdefault(a + b, len(vocab))
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<|im_end|>", clean_up_tokenization_spaces=False)


HEAD = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
TEMPLATES = {
    "end inside": HEAD + "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
                  "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}",
    "end outside": HEAD + "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
                   "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}",
    "bare": "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}"
            "{% else %}{{ m['content'] }}{% endif %}{{ '\\n' }}{% endfor %}",
}
U = lambda text: {"role": "user", "content": text}
A = lambda text: {"role": "assistant", "content": text}
CHATS = [
    [U("Hello there"), A("Well, hello.")],
    [U("a"), A("\n\nb"), U("c"), A("d\n")],
    [U("her all.\n"), A(".\n.\n"), U("\n"), A("\n\n\n")],
    [{"role": "system", "content": "be terse"}, U("世界 é"), A("世界。ok"), U("x"), A(" a"), U("y"), A("z z z")],
]


def main():
    tok = tokenizer()
    print("/* vectors.h - made by make.py with transformers %s, tokenizers %s: do not edit. */" % (transformers.__version__, tokenizers.__version__))
    print("static const char *const oracle_merges[][2] = {")
    for m in MERGES:
        print("    { %s, %s }," % tuple(c_string(x) for x in m.split(" ")))
    print("};\n\ntypedef struct oracle_case { const char *tmpl, *messages; int n; int32_t ids[200]; uint8_t mask[200]; } oracle_case;")
    print("static const oracle_case oracle_cases[] = {")
    for source in TEMPLATES.values():
        for chat in CHATS:
            out = tok.apply_chat_template(chat, chat_template=source, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
            ids, mask = out["input_ids"], out["assistant_masks"]
            assert len(ids) == len(mask) <= 200 and any(mask)
            print("    { %s,\n      %s, %d,\n      { %s },\n      { %s } }," % (
                c_string(source), c_string(json.dumps(chat)), len(ids), ", ".join(map(str, ids)), ", ".join(map(str, mask))))
    print("};")


def c_string(s):
    out = ""
    for b in s.encode():
        out += chr(b) if 32 <= b < 127 and b not in (34, 92) else '\\"' if b == 34 else "\\\\" if b == 92 else "\\%03o" % b
    return '"' + out + '"'


if __name__ == "__main__":
    main()
