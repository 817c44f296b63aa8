#!/usr/bin/env python3
"""LoRA gradients of a real model against peft on the dequantised weights, tensor by tensor.

usage: check_peft.py MODEL.gguf TEXT [N_TOKENS]      after `make`; needs torch, transformers, peft and gguf

The text's first tokens (256) are one segment, with loss on each; A and B of rank 8 on all linear maps are random. torch runs in fp32
on the weights that transformers dequantises. The exact mode must agree to 1e-3 per tensor; what the fast mode differs by is shown."""
import os, pathlib, subprocess, sys, tempfile

import numpy as np
import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SITES = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
         "mlp.down_proj"]
RANK, ALPHA, BOUND = 8, 16.0, 1e-3


def build_dump(out):
    libs = subprocess.run(["pkg-config", "--libs", "openssl", "libutf8proc", "jansson"], capture_output=True, text=True).stdout.split()
    subprocess.run(["cc", "-O1", "-std=gnu11", f"-I{ROOT}/src", "-o", out, HERE / "dump.c", ROOT / "build/libbaimo.a", *libs,
                    "-lm", "-pthread"], check=True)


def reference(gguf, text, n_tokens):
    """ids, values, gradient per tensor, nll."""
    where = dict(gguf_file=os.path.basename(gguf))
    folder = os.path.dirname(os.path.abspath(gguf))
    ids = AutoTokenizer.from_pretrained(folder, **where)(text, return_tensors="pt").input_ids[:, :n_tokens]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **where)
    n_layers = model.config.num_hidden_layers
    model = peft.get_peft_model(model, peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=[s.split(".")[1] for s in SITES]))
    modules, weights, rng = dict(model.named_modules()), {}, torch.Generator().manual_seed(1)
    for layer in range(n_layers):
        for site in SITES:
            module = next(m for n, m in modules.items() if n.endswith(f"layers.{layer}.{site}"))
            for kind in ("lora_A", "lora_B"):
                weights[f"{layer} {site} {kind}"] = getattr(module, kind)["default"].weight
    with torch.no_grad():
        for w in weights.values():
            w.copy_((torch.rand(w.shape, generator=rng) * 2 - 1) * 0.02)
    logits = model(ids).logits[0, :-1].double()
    nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    nll.mean().backward()
    return (ids[0].numpy().astype("<i4"), {k: w.detach().numpy().ravel() for k, w in weights.items()},
            {k: w.grad.numpy().ravel() for k, w in weights.items()}, nll.detach().numpy())


def main():
    gguf, text = sys.argv[1], pathlib.Path(sys.argv[2]).read_text(encoding="utf-8")[:20000]
    n_tokens = int(sys.argv[3]) if len(sys.argv) > 3 else 256
    torch.set_num_threads(2)
    ids, values, grads, nll = reference(gguf, text, n_tokens)
    failed = False
    with tempfile.TemporaryDirectory() as tmp:
        build_dump(f"{tmp}/dump")
        ids.tofile(f"{tmp}/ids")
        np.concatenate(list(values.values())).astype("<f4").tofile(f"{tmp}/values")
        for mode in ("f32", "fast"):
            subprocess.run([f"{tmp}/dump", gguf, mode, str(RANK), str(ALPHA), f"{tmp}/ids", f"{tmp}/values", f"{tmp}/out"], check=True)
            raw = pathlib.Path(f"{tmp}/out").read_bytes()
            n, at, errors, squares, norm = sum(map(len, grads.values())), 0, {}, 0.0, 0.0
            got, losses = np.frombuffer(raw, "<f4", n), np.frombuffer(raw, "<f8", len(ids), 4 * n)[1:]
            for name, want in grads.items():
                d = got[at:at + len(want)].astype("f8") - want
                errors[name] = float(np.linalg.norm(d) / np.linalg.norm(want.astype("f8")))
                squares, norm, at = squares + float(d @ d), norm + float(want.astype("f8") @ want), at + len(want)
            worst = max(errors, key=errors.get)
            print(f"{mode}: mean loss {losses.mean():.6f}, peft's {nll.mean():.6f}; gradient differs by {(squares / norm) ** 0.5:.2e}, "
                  f"worst of {len(errors)} tensors {errors[worst]:.2e} ({worst})")
            failed |= mode == "f32" and not errors[worst] <= BOUND
    sys.exit(failed)


if __name__ == "__main__":
    main()
