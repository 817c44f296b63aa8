#!/usr/bin/env python3
"""Our trainer against peft + torch from the same initial adapter on the same batches.

peft makes the adapter (fp32, on the weights that transformers dequantises from the GGUF) and saves it; baimo trains it further
("adapter" of job.json); dump_batches writes the very batches; torch trains on them with AdamW, clipping by norm 1 and the cosine
schedule. With --dpo the rows are preference pairs, and torch's reference is the model with the adapter off.
Prints both loss columns as they differ most, and one line of JSON; exit 1 when the means over ten steps differ by more than
--within: in fast mode a step of few tokens carries the noise of quantised activations. --precision f32 has none to speak of.

usage: compare_peft.py --program build/baimo --dump build/tests/oracle/train/dump_batches --model M.gguf --data D.jsonl [...]
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", required=True)
    p.add_argument("--dump", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--loss-after")
    p.add_argument("--dpo", action="store_true")
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--batch-size", type=int, default=2)
    p.add_argument("--max-length", type=int, default=256)
    p.add_argument("--lr", type=float, default=2e-4)
    p.add_argument("--beta", type=float, default=0.1)
    p.add_argument("--warmup", type=int, default=5)
    p.add_argument("--precision", default="fast")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--within", type=float, default=0.01)
    p.add_argument("--seed", type=int, default=3)
    return p.parse_args()


def make_peft(a, init):
    torch.manual_seed(a.seed)
    model = AutoModelForCausalLM.from_pretrained(os.path.dirname(os.path.abspath(a.model)), gguf_file=os.path.basename(a.model),
                                                 dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"))
    model.save_pretrained(init)
    return model


def run_ours(a, work, init):
    job = {"kind": "tune", "name": "oracle", "model": {"path": os.path.abspath(a.model)}, "adapter": init,
           "data": [{"path": os.path.abspath(a.data), "loss_after": a.loss_after}],
           "options": {"steps": a.steps, "batch_size": a.batch_size, "max_length": a.max_length, "lr": a.lr, "warmup": a.warmup,
                       "micro_tokens": 1024, "decay": "cosine", "clip": 1, "beta": a.beta, "seed": a.seed, "threads": a.threads,
                       "precision": a.precision, "drop_bad": True}}
    with open(os.path.join(work, "job.json"), "w") as f:
        json.dump(job, f)
    with open(os.path.join(work, "batches.jsonl"), "w") as f:
        subprocess.run([a.dump, os.path.join(work, "job.json")], stdout=f, check=True)
    done = subprocess.run([a.program, "job", work], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout.splitlines()[-1])
    with open(os.path.join(work, "metrics.jsonl")) as f:
        losses = [row["loss"] for row in map(json.loads, f) if "loss" in row]
    with open(os.path.join(work, "batches.jsonl")) as f:
        return losses, [json.loads(line)["rows"] for line in f]


def nll_of(model, row):
    ids = torch.tensor([row["tokens"]])
    mask = torch.tensor(row["target"], dtype=torch.bool)
    logits = model(input_ids=ids).logits[0]
    return F.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")[mask[1:]].sum()


def sft_step(model, rows):
    n = sum(sum(r["target"][1:]) for r in rows)
    total = 0.0
    for r in rows:
        loss = nll_of(model, r) / n
        loss.backward()
        total += loss.item()
    return total


def dpo_step(model, rows, beta, refs):
    total, n = 0.0, len(rows) // 2
    for chosen, rejected in zip(rows[::2], rows[1::2]):
        key = json.dumps(chosen["tokens"])
        if key not in refs:
            with torch.no_grad(), model.disable_adapter():
                refs[key] = (nll_of(model, chosen), nll_of(model, rejected))
        margin = beta * ((refs[key][0] - nll_of(model, chosen)) - (refs[key][1] - nll_of(model, rejected)))
        loss = -F.logsigmoid(margin) / n
        loss.backward()
        total += loss.item()
    return total


def run_torch(a, model, batches):
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=a.lr, weight_decay=0.0)
    sched = get_cosine_schedule_with_warmup(opt, a.warmup, a.steps)
    losses, refs = [], {}
    for rows in batches:
        losses.append(dpo_step(model, rows, a.beta, refs) if a.dpo else sft_step(model, rows))
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        sched.step()
        opt.zero_grad()
    return losses


def window_error(ours, theirs, n=10):
    """The curves as they are looked at: means over n steps, the largest relative difference."""
    def means(x):
        return [sum(x[i:i + n]) / n for i in range(len(x) - n + 1)]
    return max(abs(x - y) / y for x, y in zip(means(ours), means(theirs)))


def main():
    a = parse()
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as work:
        init = os.path.join(work, "init")
        model = make_peft(a, init)
        ours, batches = run_ours(a, work, init)
        theirs = run_torch(a, model, batches)
    errors = [abs(x - y) / abs(y) for x, y in zip(ours, theirs)]
    for i in sorted(range(len(errors)), key=lambda i: -errors[i])[:5]:
        print(f"step {i + 1}: ours {ours[i]:.6f}, torch {theirs[i]:.6f}: {100 * errors[i]:.3f} %", file=sys.stderr)
    print(json.dumps({"model": os.path.basename(a.model), "data": os.path.basename(a.data), "precision": a.precision, "dpo": a.dpo,
                      "steps": len(ours), "first": [ours[0], theirs[0]], "last": [ours[-1], theirs[-1]], "max_relative": max(errors),
                      "mean_relative": sum(errors) / len(errors), "max_relative_of_ten": window_error(ours, theirs),
                      "relative_of_means": abs(sum(ours) - sum(theirs)) / sum(theirs)}))
    sys.exit(1 if window_error(ours, theirs) > a.within or len(ours) != a.steps else 0)


main()
