#!/usr/bin/env python3
"""One epoch of fine-tuning with the usual stack, at its best settings on a CPU: transformers + peft + torch in bf16, rows sorted
by length so that little is padded, loss on the answers. Rows are those of a JSONL with "prompt" and "response" (or "text" and
--loss-after). With --save the adapter is kept.

usage: peft_epoch.py MODEL.gguf DATA.jsonl [--rows 512] [--batch 4] [--dtype bfloat16] [--threads 2] [--lr 2e-4] [--save DIR]
       (run it with a python that has torch, transformers, peft and gguf). Prints one line of JSON.
"""
import argparse
import json
import os
import resource
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("data")
    p.add_argument("--rows", type=int, default=512)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--epochs", type=int, default=1)
    p.add_argument("--dtype", default="bfloat16")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--max-length", type=int, default=1024)
    p.add_argument("--loss-after")
    p.add_argument("--lr", type=float, default=2e-4)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--sorted", action="store_true", help="batches of rows of like length (their order is drawn)")
    p.add_argument("--save")
    return p.parse_args()


def split(row, loss_after):
    if "text" in row:
        at = row["text"].rindex(loss_after) + len(loss_after) if loss_after else 0
        return row["text"][:at], row["text"][at:]
    return row["prompt"], row["response"] if "response" in row else row["completion"]


def read(a, tok):
    rows = []
    with open(a.data, encoding="utf-8") as f:
        for line in f:
            if len(rows) == a.rows:
                break
            prompt, answer = split(json.loads(line), a.loss_after)
            whole = tok(prompt + answer, add_special_tokens=False)["input_ids"] + [tok.eos_token_id]
            begin = len(tok(prompt, add_special_tokens=False)["input_ids"])
            if len(whole) <= a.max_length:
                rows.append((whole, [-100] * begin + whole[begin:]))
    return rows


def batches(a, rows):
    order = torch.randperm(len(rows)).tolist()
    if a.sorted:
        order.sort(key=lambda i: len(rows[i][0]))
    out = [order[i:i + a.batch] for i in range(0, len(order), a.batch)]
    return [out[i] for i in torch.randperm(len(out)).tolist()] if a.sorted else out


def step(model, rows, pick):
    n = max(len(rows[i][0]) for i in pick)
    ids = torch.tensor([rows[i][0] + [0] * (n - len(rows[i][0])) for i in pick])
    labels = torch.tensor([rows[i][1] + [-100] * (n - len(rows[i][1])) for i in pick])
    mask = torch.tensor([[1] * len(rows[i][0]) + [0] * (n - len(rows[i][0])) for i in pick])
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    return loss.item()


def main():
    a = parse()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    where, name = os.path.dirname(os.path.abspath(a.model)), os.path.basename(a.model)
    tok = AutoTokenizer.from_pretrained(where, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=getattr(torch, a.dtype))
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"))
    rows = read(a, tok)
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=a.lr, weight_decay=0.0)
    plan = [b for _ in range(a.epochs) for b in batches(a, rows)]
    sched = get_cosine_schedule_with_warmup(opt, -(-3 * len(plan) // 100), len(plan))
    losses, began = [], time.time()
    for pick in plan:
        losses.append(step(model, rows, pick))
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        sched.step()
        opt.zero_grad()
    seconds = time.time() - began
    if a.save:
        model.save_pretrained(a.save)
    tokens = a.epochs * sum(len(r[0]) for r in rows)
    print(json.dumps({"seconds": seconds, "tokens": tokens, "tokens_per_s": tokens / seconds, "steps": len(plan), "loss": losses[-1],
                      "mean_loss": sum(losses[-50:]) / len(losses[-50:]),
                      "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


main()
