#!/usr/bin/env python3
"""A GGUF as a folder that transformers loads: weights dequantised to fp32, and a tokenizer with the GGUF's own ids.

usage: python tests/oracle/eval/peer.py MODEL.gguf DIR [TEXT_FILE ...]     (transformers, torch, gguf; build/baimo)
Does nothing when DIR is complete. Every TEXT_FILE is cut by both tokenizers: the ids must be the same.
For byte-level BPE of the pre-tokenisers "smollm" and "qwen2"; others are refused.
"""
import json, os, subprocess, sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
PROGRAM = os.environ.get("BAIMO_PROGRAM", os.path.join(ROOT, "build", "baimo"))
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
NORMAL, CONTROL, USER = 1, 3, 4


def pre_tokenizer(name):
    from tokenizers import Regex, pre_tokenizers as p
    if name == "smollm":
        return p.Sequence([p.Digits(individual_digits=True), p.ByteLevel(add_prefix_space=False)])
    if name == "qwen2":
        return p.Sequence([p.Split(Regex(QWEN2), "isolated"), p.ByteLevel(add_prefix_space=False, use_regex=False)])
    sys.exit(f"peer: no pre-tokeniser for {name}")


def make_tokenizer(path):
    import gguf
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast
    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields["tokenizer." + key].contents() if "tokenizer." + key in fields else None
    tokens, types = get("ggml.tokens"), get("ggml.token_type")
    t = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in get("ggml.merges")]))
    t.pre_tokenizer, t.decoder = pre_tokenizer(get("ggml.pre")), decoders.ByteLevel()
    t.add_tokens([AddedToken(s, special=kind == CONTROL, normalized=False) for s, kind in zip(tokens, types) if kind in (CONTROL, USER)])
    token = lambda key: tokens[get(key)] if get(key) is not None else None
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token=token("ggml.bos_token_id"), eos_token=token("ggml.eos_token_id"),
                                   pad_token=token("ggml.padding_token_id"), chat_template=get("chat_template"),
                                   clean_up_tokenization_spaces=False)


def make(path, folder):
    if os.path.exists(os.path.join(folder, "complete")):
        return
    import torch
    from transformers import AutoModelForCausalLM
    path = os.path.abspath(path)
    model = AutoModelForCausalLM.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path), dtype=torch.float32)
    config = model.config
    if hasattr(config, "quantization_config"):           # transformers saves no model that was quantised: a plain one takes the weights
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    make_tokenizer(path).save_pretrained(folder)
    open(os.path.join(folder, "complete"), "w").close()


def same_ids(path, folder, texts):
    from transformers import AutoTokenizer
    tokenizer, bad = AutoTokenizer.from_pretrained(folder), 0
    for file in texts:
        ours = subprocess.run([PROGRAM, "tokenize", path, "--ids", "--no-special", "--parse-special", "-f", file], capture_output=True, text=True,
                              check=True).stdout.split()
        theirs = tokenizer.encode(open(file, encoding="utf-8", newline="").read(), add_special_tokens=False)
        same = list(map(int, ours)) == theirs
        bad += not same
        print(f"{file}: {len(theirs)} tokens, {'the same' if same else 'DIFFERENT'}")
    return bad


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    make(sys.argv[1], sys.argv[2])
    sys.exit(1 if same_ids(sys.argv[1], sys.argv[2], sys.argv[3:]) else 0)
