#!/usr/bin/env python3
"""Vectors of torch.optim.AdamW, clip_grad_norm_ and transformers' schedules for tests/train/test_optimizer.c.

Prints optimizer_vectors.h, with the versions that made it in its first line.
usage: gen_optimizer.py > optimizer_vectors.h
"""
import torch
import transformers
from transformers import (get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup)

N, STEPS, DECAY, LR, CLIP = 12, 6, 0.1, 3e-2, 1.0


def floats(values):
    return ", ".join(float(v).hex() + "f" for v in values)


def doubles(values):
    return ", ".join(float(v).hex() for v in values)


def main():
    torch.manual_seed(7)
    start = torch.randn(N)
    grads = torch.randn(STEPS, N) * torch.tensor([0.1, 1, 0.2, 3, 0.05, 1]).unsqueeze(1)
    p = torch.nn.Parameter(start.clone())
    opt = torch.optim.AdamW([p], lr=LR, weight_decay=DECAY)
    sched = get_cosine_schedule_with_warmup(opt, 2, STEPS)
    after, norms = [], []
    for g in grads:
        p.grad = g.clone()
        norms.append(torch.nn.utils.clip_grad_norm_([p], CLIP).item())
        opt.step()
        sched.step()
        after.append(p.detach().clone())
    print(f"/* optimizer_vectors.h - made by gen_optimizer.py with torch {torch.__version__.split('+')[0]} and transformers "
          f"{transformers.__version__}. */")
    print("#pragma once")
    print(f"enum {{ VECTOR_N = {N}, VECTOR_STEPS = {STEPS}, VECTOR_WARMUP = 2, SCHEDULE_STEPS = 10, SCHEDULE_WARMUP = 3 }};")
    print(f"static const double vector_lr = {LR}, vector_decay = {DECAY}, vector_clip = {CLIP};")
    print(f"static const float vector_start[] = {{ {floats(start)} }};")
    print("static const float vector_grads[][VECTOR_N] = {")
    for g in grads:
        print(f"    {{ {floats(g)} }},")
    print("};\nstatic const float vector_after[][VECTOR_N] = {")
    for a in after:
        print(f"    {{ {floats(a)} }},")
    print("};")
    print(f"static const double vector_norms[] = {{ {doubles(norms)} }};")
    for name, make in (("cosine", get_cosine_schedule_with_warmup), ("linear", get_linear_schedule_with_warmup),
                       ("constant", lambda o, w, n: get_constant_schedule_with_warmup(o, w))):
        opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        sched = make(opt, 3, 10)
        lrs = []
        for _ in range(10):
            lrs.append(sched.get_last_lr()[0])
            opt.step()
            sched.step()
        print(f"static const double schedule_{name}[] = {{ {doubles(lrs)} }};")


main()
