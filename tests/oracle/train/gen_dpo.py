#!/usr/bin/env python3
"""The DPO loss, its margin and its gradient by torch's autograd in f64, for tests/train/test_loss.c. Prints dpo_vectors.h.

usage: gen_dpo.py > dpo_vectors.h
"""
import torch
import torch.nn.functional as F

print(f"/* dpo_vectors.h - made by gen_dpo.py with torch {torch.__version__.split('+')[0]}. */\n#pragma once")
print("static const struct { double beta, policy[2], reference[2], loss, margin, slope; } dpo_vectors[] = {")
for beta, policy, reference in ((0.1, (20.0, 30.0), (20.0, 30.0)), (0.1, (18.5, 35.25), (20.0, 30.0)), (0.5, (40.0, 3.0), (10.0, 12.0)),
                                (1.0, (5000.0, 1.0), (1.0, 1.0)), (1.0, (1.0, 5000.0), (1.0, 1.0)), (0.3, (1.5, 1.25), (1.0, 2.0))):
    p = torch.tensor(policy, dtype=torch.float64, requires_grad=True)         # -log p of chosen and rejected
    r = torch.tensor(reference, dtype=torch.float64)
    margin = beta * ((r[0] - p[0]) - (r[1] - p[1]))
    loss = -F.logsigmoid(margin)
    loss.backward()
    assert abs(p.grad[0] + p.grad[1]) < 1e-12
    values = [beta, *policy, *reference, loss.item(), margin.item(), p.grad[0].item()]
    h = [float(v).hex() for v in values]
    print(f"    {{ {h[0]}, {{ {h[1]}, {h[2]} }}, {{ {h[3]}, {h[4]} }}, {h[5]}, {h[6]}, {h[7]} }},")
print("};")
