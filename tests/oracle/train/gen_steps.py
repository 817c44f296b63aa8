#!/usr/bin/env python3
"""Ten steps of supervised training and of DPO by peft and torch on the tiny model of tests/oracle/models/llama.gguf, for
tests/train/test_steps.c. Prints steps_vectors.h.

The rows are those of tests/train/train_kit.h (each step sees all of them); A and B begin with the numbers of
tests/oracle/grad/make.py. torch.optim.AdamW, clip_grad_norm_ and transformers' cosine schedule with warm-up, in fp64.
usage: gen_steps.py > steps_vectors.h      needs torch, transformers, peft and gguf
"""
import importlib.util
import pathlib

import peft
import torch
import torch.nn.functional as F
import transformers

HERE = pathlib.Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("grad", HERE.parent / "grad" / "make.py")
grad = importlib.util.module_from_spec(spec)
spec.loader.exec_module(grad)

RANK, ALPHA, STEPS, WARMUP, LR, DECAY, CLIP, BETA, ROWS, LENGTH = 2, 3.0, 10, 2, 2e-2, 0.1, 0.3, 0.2, 24, 20


def rows(v):
    for r in range(ROWS):
        n = LENGTH - r % 5
        up = [(r * 7 + i) % v for i in range(LENGTH)]
        down = [(r * 7 + i) % v if i < 6 else (r * 7 + v - i) % v for i in range(LENGTH)]
        yield up[:n], down[:n - 1]


def make():
    model, _ = grad.base_model("llama")
    n_layers = model.config.num_hidden_layers
    model = peft.get_peft_model(model, peft.LoraConfig(r=RANK, lora_alpha=ALPHA,
                                                       target_modules=[s.split(".")[1] for s in grad.SITES])).double()
    weights = list(grad.lora_weights(model, n_layers))
    values, at = grad.draw(sum(w.numel() for w in weights)), 0
    with torch.no_grad():
        for w in weights:
            w.copy_(torch.from_numpy(values[at:at + w.numel()]).reshape(w.shape))
            at += w.numel()
    return model, weights


def nll(model, ids):
    x = torch.tensor([ids])
    return F.cross_entropy(model(x).logits[0, 5:-1].double(), x[0, 6:], reduction="sum")


def sft(model, data):
    return sum(nll(model, up) for up, _ in data) / sum(len(up) - 6 for up, _ in data)


def dpo(model, data, refs):
    if not refs:
        with torch.no_grad(), model.disable_adapter():
            refs += [(nll(model, up), nll(model, down)) for up, down in data]
    z = [BETA * ((r[0] - nll(model, up)) - (r[1] - nll(model, down))) for (up, down), r in zip(data, refs)]
    return sum(-F.logsigmoid(x) for x in z) / len(z)


def train(use_dpo):
    model, weights = make()
    data, refs, losses, norms = list(rows(grad.models.VOCAB)), [], [], []
    opt = torch.optim.AdamW(weights, lr=LR, weight_decay=DECAY)
    sched = transformers.get_cosine_schedule_with_warmup(opt, WARMUP, STEPS)
    for _ in range(STEPS):
        loss = dpo(model, data, refs) if use_dpo else sft(model, data)
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(weights, CLIP).item())
        opt.step()
        sched.step()
        opt.zero_grad()
    return losses, norms


def main():
    torch.set_num_threads(1)
    print(f"/* steps_vectors.h - made by gen_steps.py with torch {torch.__version__.split('+')[0]}, transformers "
          f"{transformers.__version__}, peft {peft.__version__}. */\n#pragma once")
    print(f"enum {{ STEPS_RANK = {RANK}, STEPS_N = {STEPS}, STEPS_WARMUP = {WARMUP} }};")
    print(f"static const double steps_alpha = {ALPHA}, steps_lr = {LR}, steps_decay = {DECAY}, steps_clip = {CLIP}, steps_beta = {BETA};")
    for name, use_dpo in (("sft", False), ("dpo", True)):
        losses, norms = train(use_dpo)
        print(f"static const double {name}_losses[] = {{ {', '.join(f'{x:.9g}' for x in losses)} }};")
        print(f"static const double {name}_norms[] = {{ {', '.join(f'{x:.9g}' for x in norms)} }};")


main()
