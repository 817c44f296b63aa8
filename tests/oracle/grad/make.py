#!/usr/bin/env python3
"""Make the oracle of training: losses and LoRA gradients of the tiny models of tests/oracle/models by peft and torch's autograd.

usage: make.py [NAME...]      needs torch, transformers, peft and gguf; VERSIONS has those that made the committed files

Each model is drawn again as tests/oracle/models/make.py drew it (its logits must be those of NAME.vec), gets LoRA on all linear
maps, and runs two segments one after the other in double precision where transformers lets it. Values of A and B come from a
formula that tests/model/test_pass_oracle.c repeats (draw below). Written beside this script: NAME.grad, little-endian:
    8 bytes "BMGRD1\\0\\0", int32 n_tokens, n_segments, rank, rslora, n_values, f32 alpha,
    int32 ids[n_tokens], int32 starts[n_segments], f32 coef[n_tokens] (0: no target), f64 nll[n_tokens], f32 gradient[n_values]
The gradient is that of sum coef * nll; values are A, B of each map, layer by layer, in the order of SITES."""
import importlib.util, pathlib, struct, sys

import numpy as np
import peft
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent / "models"
SITES = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
         "mlp.down_proj"]
RANK, ALPHA, STARTS, N_TOKENS = 2, 3.0, [0, 71], 110

spec = importlib.util.spec_from_file_location("models", MODELS / "make.py")
models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)


def draw(n):
    """n numbers in [-0.25, 0.25): the SplitMix64 finaliser of a counter, 24 bits of it."""
    z = (np.arange(n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return ((z ^ z >> np.uint64(31)) >> np.uint64(40)).astype(np.float64) * 2.0 ** -25 - 0.25


def base_model(name):
    cfg, cls, outtype, n_tokens = models.CASES[name]
    seed = sum(name.encode())
    torch.manual_seed(seed)
    cfg._attn_implementation = "eager"
    model = cls(cfg).float().eval()
    models.randomize(model, outtype, seed)
    raw = (MODELS / f"{name}.vec").read_bytes()
    n, v, n_rows = struct.unpack_from("<iii", raw, 8)
    ids, rows = np.frombuffer(raw, "<i4", n, 20), np.frombuffer(raw, "<i4", n_rows, 20 + 4 * n)
    want = np.frombuffer(raw, "<f4", n_rows * v, 20 + 4 * (n + n_rows)).reshape(n_rows, v)
    with torch.no_grad():
        got = model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0, rows].float().numpy()
    assert abs(got - want).max() <= 1e-4 * abs(want).max(), f"{name}: not the model of {name}.vec"
    return model, n_tokens


def lora_weights(model, n_layers):
    """A and B of each map in order."""
    modules = dict(model.named_modules())
    for layer in range(n_layers):
        for site in SITES:
            module = next(m for n, m in modules.items() if n.endswith(f"layers.{layer}.{site}"))
            yield module.lora_A["default"].weight
            yield module.lora_B["default"].weight


def make(name):
    model, _ = base_model(name)
    rslora = name == "qwen3"
    n_layers = model.config.num_hidden_layers
    model = peft.get_peft_model(model, peft.LoraConfig(r=RANK, lora_alpha=ALPHA, use_rslora=rslora,
                                                       target_modules=[s.split(".")[1] for s in SITES])).double()
    weights = list(lora_weights(model, n_layers))
    values, at = draw(sum(w.numel() for w in weights)), 0
    with torch.no_grad():
        for w in weights:
            w.copy_(torch.from_numpy(values[at:at + w.numel()]).reshape(w.shape))
            at += w.numel()
    rng = np.random.default_rng(sum(name.encode()))
    ids = rng.integers(3, models.VOCAB, N_TOKENS, dtype=np.int32)
    coef = np.where(rng.random(N_TOKENS) < 0.6, rng.uniform(0.1, 1, N_TOKENS), 0).astype(np.float32)
    coef[STARTS] = 0
    nll = np.zeros(N_TOKENS)
    for start, end in zip(STARTS, STARTS[1:] + [N_TOKENS]):
        part = torch.from_numpy(ids[start:end].astype(np.int64))
        logits = model(part[None]).logits[0, :-1].double()
        loss = torch.nn.functional.cross_entropy(logits, part[1:], reduction="none")
        (loss * torch.from_numpy(coef[start + 1:end].astype(np.float64))).sum().backward()
        nll[start + 1:end] = loss.detach().numpy()
    nll[coef == 0] = 0
    grad = np.concatenate([w.grad.float().numpy().ravel() for w in weights])
    assert np.isfinite(grad).all() and len(grad) == len(values)
    with open(HERE / f"{name}.grad", "wb") as f:
        f.write(b"BMGRD1\0\0" + struct.pack("<iiiiif", N_TOKENS, len(STARTS), RANK, int(rslora), len(values), ALPHA))
        f.write(ids.tobytes() + np.array(STARTS, "<i4").tobytes() + coef.tobytes() + nll.tobytes() + grad.astype("<f4").tobytes())
    print(f"{name}: mean loss {nll[coef > 0].mean():.4f}, gradient {np.linalg.norm(grad):.4f} of {len(grad)} values")


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:] or models.CASES:
        make(name)
    (HERE / "VERSIONS").write_text(f"peft {peft.__version__}\ntransformers {transformers.__version__}\ntorch {torch.__version__}\n")


if __name__ == "__main__":
    main()
