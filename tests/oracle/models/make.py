#!/usr/bin/env python3
"""Make the oracle of the model layer: tiny random models of each class, their GGUFs and a sample of their logits.

usage: make.py CONVERTER [NAME...]      CONVERTER is llama.cpp's convert_hf_to_gguf.py, with its gguf-py beside it

For each case: a model of the transformers class with random weights that are exactly representable in the GGUF's type; the
model is saved, converted by llama.cpp's own converter, and run by transformers in fp32 with eager attention on random ids, eight
times as many as the window. Written beside this script: NAME.gguf, and NAME.vec, little-endian:
    8 bytes "BMVEC1\\0\\0", int32 n_tokens, n_vocab, n_rows, int32 ids[n_tokens], int32 rows[n_rows], f32 logits[n_rows][n_vocab]

Two things are told to the converter through its own classes, since it looks them up in files that tiny models lack:
- the name of the pre-tokeniser ("gpt-2"), which it finds by a hash of known tokenizers;
- for Mistral, the key <arch>.attention.sliding_window by its own writer: it drops the window of config.json, as llama.cpp
  ignores it. baimo applies the window of a llama file that has the key.

Versions that made the committed files are in VERSIONS."""
import json, math, pathlib, runpy, shutil, struct, sys, tempfile

import numpy as np
import torch
import transformers
from transformers import (Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM,
                          Ministral3Config, Ministral3ForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

HERE = pathlib.Path(__file__).resolve().parent
VOCAB = 320
CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
TEXT = ("the quick brown fox jumps over the lazy dog while the other animals of the forest are looking at the river and "
        "thinking about what there is to eat in the morning and whether the weather will be nice on the next day or not, "
        "since the fox has said that the rain in the north is never far from the hills where the old oak stands.")
BASE = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=4096, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=2)


def config(cls, **over):
    return cls(**{**BASE, **over})


def rope(theta=10000.0, **kind):
    return {"rope_theta": theta, **(kind or {"rope_type": "default"})}


# name: (config, class, outtype, tokens)
CASES = {
    "llama": (config(LlamaConfig, tie_word_embeddings=False), LlamaForCausalLM, "q8_0", 1280),
    "llama-linear": (config(LlamaConfig, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
                            rope_parameters=rope(rope_type="linear", factor=4.0)), LlamaForCausalLM, "q8_0", 512),
    "llama-yarn": (config(LlamaConfig, max_position_embeddings=1024, tie_word_embeddings=True, rope_parameters=rope(
        rope_type="yarn", factor=8.0, original_max_position_embeddings=128, beta_fast=32.0, beta_slow=1.0)),
        LlamaForCausalLM, "q8_0", 512),
    "llama-llama3": (config(LlamaConfig, tie_word_embeddings=True, rope_parameters=rope(
        500000.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=128)), LlamaForCausalLM, "q8_0", 512),
    "mistral": (config(MistralConfig, sliding_window=32, num_hidden_layers=3), MistralForCausalLM, "q8_0", 256),
    "mistral3": (config(Ministral3Config, head_dim=32, sliding_window=None, max_position_embeddings=1024, rope_parameters=dict(
        rope_theta=1e6, rope_type="yarn", factor=16.0, original_max_position_embeddings=64, beta_fast=32.0, beta_slow=1.0,
        mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1)), Ministral3ForCausalLM, "q8_0", 512),
    "qwen2": (config(Qwen2Config, rope_parameters=rope(1e6), tie_word_embeddings=True), Qwen2ForCausalLM, "q8_0", 256),
    "qwen3": (config(Qwen3Config, head_dim=32, num_key_value_heads=1, rope_parameters=rope(1e6)), Qwen3ForCausalLM, "f16", 256),
    "qwen3-nvfp4": (config(Qwen3Config, head_dim=32, intermediate_size=128, rope_parameters=rope(1e6), tie_word_embeddings=True),
                    Qwen3ForCausalLM, "nvfp4", 256),
    "gemma2": (config(Gemma2Config, head_dim=32, query_pre_attn_scalar=32, sliding_window=32, attn_logit_softcapping=5.0,
                      final_logit_softcapping=8.0, num_hidden_layers=3), Gemma2ForCausalLM, "q8_0", 256),
    "gemma3": (config(Gemma3TextConfig, head_dim=32, query_pre_attn_scalar=32, sliding_window=32, num_hidden_layers=7,
                      num_key_value_heads=1, intermediate_size=64, rope_parameters={
                          "full_attention": rope(1e6, rope_type="linear", factor=4.0),
                          "sliding_attention": rope(10000.0)}), Gemma3ForCausalLM, "q8_0", 256),
}


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def quantize_nvfp4(w):
    """As ModelOpt stores it: two e2m1 codes a byte, an e4m3 scale for each 16 values, and one f32 scale of all."""
    blocks = w.reshape(w.shape[0], -1, 16)
    scale2 = blocks.abs().max() / (6 * 448)
    scale = (blocks.abs().amax(-1) / 6 / scale2).to(torch.float8_e4m3fn)
    step = scale.float()[..., None] * scale2
    code = (blocks / step).nan_to_num()[..., None].sub(E2M1).abs().argmin(-1)
    packed = (code[..., 0::2] | code[..., 1::2] << 4).to(torch.uint8).reshape(w.shape[0], -1)
    return (E2M1[code] * step).reshape(w.shape), packed, scale, scale2


def save_nvfp4(model, out):
    """Replace the matrices of the layers in a saved model by what quantize_nvfp4 makes of them (again: they are its results)."""
    from safetensors.torch import load_file, save_file
    path, tensors = pathlib.Path(out) / "model.safetensors", {}
    for name, w in load_file(path).items():
        if w.ndim == 2 and ".layers." in name:
            rounded, tensors[name], tensors[name + "_scale"], tensors[name + "_scale_2"] = quantize_nvfp4(w)
            assert torch.allclose(rounded, w, rtol=1e-6, atol=0), name
            tensors[name.replace(".weight", ".input_scale")] = torch.tensor(0.02)
        else:
            tensors[name] = w
    save_file(tensors, path)
    config_path = pathlib.Path(out) / "config.json"
    config = json.loads(config_path.read_text())
    config["quantization_config"] = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    config_path.write_text(json.dumps(config))


def round_weight(name, w, outtype):
    """The nearest values that the GGUF type holds, so that conversion changes nothing."""
    if w.ndim < 2:
        return w
    if outtype == "nvfp4" and ".layers." in name:
        return quantize_nvfp4(w)[0]
    if outtype in ("f16", "nvfp4"):
        return w.half().float()
    import gguf
    t = gguf.GGMLQuantizationType.Q8_0
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(w.numpy(), t), t).copy())


def randomize(model, outtype, seed):
    """Weights that make every part matter: sharp attention, uneven norms, biases of the size of the values."""
    rng = torch.Generator().manual_seed(seed)
    done = set()
    for name, p in model.named_parameters():
        if p.data_ptr() in done:
            continue
        done.add(p.data_ptr())
        noise = torch.randn(p.shape, generator=rng)
        if "norm" in name:
            p.data += 0.3 * noise
        elif name.endswith("bias"):
            p.data = 0.4 * noise
        elif "embed" in name:
            small = "Gemma" in type(model).__name__ or model.config.tie_word_embeddings      # else a token predicts itself
            p.data = noise * (1 / math.sqrt(p.shape[1]) if small else 1)
        else:
            gain = 1.6 if "q_proj" in name or "k_proj" in name else 1.0
            p.data = noise * gain / math.sqrt(p.shape[1])
        p.data = round_weight(name, p.data, outtype).contiguous()


def make_tokenizer(out):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    assert tok.get_vocab_size() == VOCAB
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    fast.chat_template = CHATML
    fast.save_pretrained(out)


def convert(converter, source, out, outtype):
    """Run the converter in this process, with the two hints above."""
    sys.path.insert(0, str(converter.parent))
    sys.path.insert(0, str(converter.parent / "gguf-py"))
    import conversion.base as base, conversion.gemma as gemma, conversion.llama as llama
    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    gemma.Gemma2Model.set_vocab = lambda self: self._set_vocab_gpt2()
    if not hasattr(llama.LlamaModel, "without_window"):
        llama.LlamaModel.without_window = llama.LlamaModel.set_gguf_parameters

        def with_window(self):
            self.without_window()
            if self.hparams.get("sliding_window"):
                self.gguf_writer.add_sliding_window(self.hparams["sliding_window"])
        llama.LlamaModel.set_gguf_parameters = with_window
    argv, sys.argv = sys.argv, [str(converter), str(source), "--outfile", str(out), "--outtype", outtype]
    try:
        runpy.run_path(str(converter), run_name="__main__")
    except SystemExit as stop:
        assert not stop.code, f"the converter failed on {source}"
    finally:
        sys.argv = argv


def sample_rows(n, window):
    rows = {0, 1, 2, n - 1, n - 2, n // 2, n // 3, 63, 64, 65}
    rows |= {window - 1, window, window + 1, 2 * window, 7 * window} if window else {1023, 1024, 1025, 100}
    return sorted(r for r in rows if 0 <= r < n)


def write_vectors(model, path, n_tokens, seed, window):
    ids = np.random.default_rng(seed).integers(3, VOCAB, n_tokens, dtype=np.int32)
    rows = np.array(sample_rows(n_tokens, window), dtype=np.int32)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0, rows].float().numpy()
    assert np.isfinite(logits).all()
    with open(path, "wb") as f:
        f.write(b"BMVEC1\0\0" + struct.pack("<iii", n_tokens, VOCAB, len(rows)))
        f.write(ids.tobytes() + rows.tobytes() + logits.astype("<f4").tobytes())
    p = torch.softmax(torch.from_numpy(logits), -1)
    print(f"{path.name}: logits up to {abs(logits).max():.3f}, mean top probability {p.max(-1).values.mean():.3f}")


def make(name, converter):
    cfg, cls, outtype, n_tokens = CASES[name]
    seed = sum(name.encode())
    torch.manual_seed(seed)
    cfg._attn_implementation = "eager"
    model = cls(cfg).float().eval()
    randomize(model, outtype, seed)
    window = getattr(cfg, "sliding_window", None)
    with tempfile.TemporaryDirectory() as tmp:
        model.save_pretrained(tmp)
        if outtype == "nvfp4":
            save_nvfp4(model, tmp)
        make_tokenizer(tmp)
        write_vectors(model, HERE / f"{name}.vec", n_tokens, seed, window)
        convert(converter, pathlib.Path(tmp), HERE / f"{name}.gguf", "f16" if outtype == "nvfp4" else outtype)


def main():
    converter = pathlib.Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(converter.parent / "gguf-py"))
    for name in sys.argv[2:] or CASES:
        make(name, converter)
    (HERE / "VERSIONS").write_text(f"transformers {transformers.__version__}\ntorch {torch.__version__}\n")


if __name__ == "__main__":
    main()
