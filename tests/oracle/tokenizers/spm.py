#!/usr/bin/env python3
"""SentencePiece BPE against the sentencepiece library (0.2.3): models are trained here (byte fallback on and off, with and without
the space in front), written to GGUF field by field as llama.cpp's convert_hf_to_gguf.py does, and every line of corpus.py
is encoded and decoded by both.
usage: spm.py [DIRECTORY]      With DIRECTORY, the GGUFs and vectors for the unit tests are written there. Exit 1 on a difference."""
import os
import sys
import tempfile

import gguf
import sentencepiece

import corpus
import shim

MODELS = {  # name: what differs from the settings of Llama's own tokenizer
    "spm_bytes": dict(byte_fallback=True, add_dummy_prefix=True, vocab_size=900),
    "spm_unknown": dict(byte_fallback=False, add_dummy_prefix=True, vocab_size=700),
    "spm_bare": dict(byte_fallback=True, add_dummy_prefix=False, vocab_size=800),
}


def train(path, settings):
    text = [s.replace("\n", " ").replace("\0", "") for s in corpus.SENTENCES]
    text = [t for t in text if t] + text[:8] * 40 + [w for t in text[:8] for w in t.split()] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_prefix=path, model_type="bpe",
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, split_digits=True,
        character_coverage=0.98, control_symbols=["<|im_start|>", "<|im_end|>"], minloglevel=2, **settings)
    return sentencepiece.SentencePieceProcessor(model_file=path + ".model")


def convert(peer, path, settings):
    tokens, scores, types = [], [], []
    for i in range(peer.vocab_size()):
        kind = gguf.TokenType.NORMAL
        if peer.IsUnknown(i):
            kind = gguf.TokenType.UNKNOWN
        elif peer.IsControl(i):
            kind = gguf.TokenType.CONTROL
        elif peer.IsUnused(i):
            kind = gguf.TokenType.UNUSED
        elif peer.IsByte(i):
            kind = gguf.TokenType.BYTE
        tokens.append(peer.IdToPiece(i).encode())
        scores.append(peer.GetScore(i))
        types.append(kind)
    out = gguf.GGUFWriter(path, "llama")
    out.add_tokenizer_model("llama")
    out.add_tokenizer_pre("default")
    out.add_token_list(tokens)
    out.add_token_scores(scores)
    out.add_token_types(types)
    out.add_bos_token_id(peer.bos_id())
    out.add_eos_token_id(peer.eos_id())
    out.add_unk_token_id(peer.unk_id())
    out.add_add_space_prefix(settings["add_dummy_prefix"])
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.close()


def check(lib, name, settings, directory, lines):
    path = os.path.join(directory, name)
    peer = train(os.path.join(tempfile.mkdtemp(), name), settings)
    convert(peer, path + ".gguf", settings)
    mine, bad, n_ids = shim.Tokenizer(lib, path + ".gguf"), 0, 0
    with open(path + ".txt", "w") as vectors:
        for i, line in enumerate(lines):
            text = line.decode(errors="replace")
            if "\0" in text:                 # the library ends its text there
                continue
            want, have = peer.encode(text), mine.encode(line)
            n_ids += len(want)
            if have != want:
                bad += 1
                if bad <= 5:
                    at = next((k for k, (a, b) in enumerate(zip(have, want)) if a != b), min(len(have), len(want)))
                    print(f"{name} line {i} {text[:160]!r}\n  at {at}: want {want[at:at + 12]} {[peer.IdToPiece(t) for t in want[at:at + 12]]}\n"
                          f"           have {have[at:at + 12]}")
            if 0 not in want and mine.decode(have).decode() != text.replace("\u2581", " ") and (bad := bad + 1) <= 5:
                print(f"{name} line {i} {text[:160]!r} does not decode to itself: {mine.decode(have)[:160]!r}")
            if len(line) < 130 and (i < 56 or i % 100 == 0):
                vectors.write(f"{line.hex() or '-'} {','.join(map(str, have)) or '-'}\n")
    print(f"{name}: {len(lines)} lines, {n_ids} ids, {bad} differ")
    return bad


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
    lib, lines = shim.load(), corpus.lines()
    sys.exit(sum(check(lib, name, settings, directory, lines) for name, settings in MODELS.items()) != 0)


main()
