#!/usr/bin/env python3
"""Does it learn? A model before and after tuning on the same rows, ours beside peft's, judged by exact match of greedy answers to
held-back rows. Both adapters are mounted on one baimo server, so that only the training differs. Prints one line of JSON per task.

    wikisql      --wikisql DIR: train.jsonl, valid.jsonl of {"text"}; what stands behind "A:" carries the loss and is asked for
    banking77    --banking77 FILE.csv of text,category: "Query: ...\\nIntent:" -> the category; rows are held back by a drawn order
    dpo          --dpo FILE: preference pairs; the margin of held-back pairs before (0) and after, by the trainer's own validation

usage: bench/learn.py --model M.gguf --peer-python PYTHON --wikisql DIR --banking77 FILE --dpo FILE [--rows 2000] [--eval-rows 300]
Without --peer-python only ours is trained. Holds when ours >= peft - one standard error, and peft stands 20 points above untuned.
"""
import argparse
import concurrent.futures
import csv
import hashlib
import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
import urllib.request

from common import HERE, Failure, json_lines, run

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", default=os.path.join(HERE, "..", "build", "baimo"))
    p.add_argument("--model", required=True)
    p.add_argument("--peer-python", default=os.environ.get("BAIMO_BENCH_PEER_PYTHON"))
    p.add_argument("--peer-dtype", default="bfloat16")
    p.add_argument("--wikisql")
    p.add_argument("--banking77")
    p.add_argument("--dpo")
    p.add_argument("--rows", type=int, default=2000, help="to train on")
    p.add_argument("--eval-rows", type=int, default=300)
    p.add_argument("--epochs", type=int, default=1)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--lr", type=float, default=5e-4)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--scratch", default="/tmp/baimo-learn-%d" % os.getuid())
    return p.parse_args()


def env_of(o):
    return {**os.environ, "BAIMO_HOME": os.path.join(o.scratch, "home")}


def train_ours(o, name, data, **settings):
    work = os.path.join(o.scratch, name)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    with open(os.path.join(work, "job.json"), "w") as f:
        json.dump({"kind": "tune", "name": name, "model": {"path": os.path.abspath(o.model)}, "data": [data],
                   "options": {"threads": o.threads, "epochs": o.epochs, "batch_size": o.batch, "lr": o.lr, "drop_bad": True, **settings}}, f)
    return json_lines(run([o.program, "job", work], env_of(o), timeout=4 * 3600)), os.path.join(work, "adapter")


def train_peft(o, name, rows):
    """Once for the same model, rows and settings: its adapter and figures stay in the scratch directory."""
    save = os.path.join(o.scratch, name)
    args = [o.model, rows, "--rows", str(o.rows), "--batch", str(o.batch), "--epochs", str(o.epochs), "--lr", str(o.lr), "--dtype",
            o.peer_dtype, "--threads", str(o.threads), "--save", save]
    with open(rows, "rb") as f:
        key = args + [hashlib.sha256(f.read()).hexdigest()]
    try:
        with open(save + ".json", encoding="utf-8") as f:
            kept = json.load(f)
        if kept["key"] == key:
            return kept["row"], save
    except (OSError, ValueError, KeyError):
        pass
    row = json_lines(run([o.peer_python, os.path.join(HERE, "peft_epoch.py"), *args], timeout=8 * 3600))[-1]
    with open(save + ".json", "w", encoding="utf-8") as f:
        json.dump({"key": key, "row": row}, f)
    return row, save


class Server:
    def __init__(self, o, adapters):
        self.env = {**env_of(o), "BAIMO_HOME": os.path.join(o.scratch, "served")}
        shutil.rmtree(self.env["BAIMO_HOME"], ignore_errors=True)
        run([o.program, "shelf", "add", o.model, "--name", "untuned"], self.env)
        for name, path in adapters.items():
            run([o.program, "shelf", "add", path, "--base", "untuned", "--name", name], self.env)
        self.process = subprocess.Popen([o.program, "serve", "--port", "0"], env=self.env, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL)
        for line in self.process.stdout:
            if line.split()[:1] == ["page"]:
                self.url = line.split()[1].rstrip("/")
                return
        raise Failure("the server did not start")

    def complete(self, model, prompt):
        body = {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 96, "stop": ["\n"]}
        request = urllib.request.Request(self.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with NO_PROXY.open(request, timeout=600) as answer:
            return json.load(answer)["choices"][0]["text"].strip()

    def exact(self, model, questions):
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda q: self.complete(model, q[0]), questions))
        right = sum(a == want.strip() for a, (_, want) in zip(answers, questions))
        share = right / len(questions)
        return {"exact": share, "stderr": math.sqrt(share * (1 - share) / len(questions)), "sample": answers[0]}

    def close(self):
        self.process.terminate()
        self.process.wait(60)


def wikisql_rows(o):
    def read(name):
        with open(os.path.join(o.wikisql, name), encoding="utf-8") as f:
            return [json.loads(x)["text"] for x in f if x.strip()]

    def pair(text):
        at = text.rindex("A:") + 2
        return text[:at], text[at:]
    return [pair(t) for t in read("train.jsonl")], [pair(t) for t in read("valid.jsonl")]


def banking_rows(o):
    with open(o.banking77, encoding="utf-8", newline="") as f:
        rows = [(f"Query: {r['text'].strip()}\nIntent:", " " + r["category"]) for r in csv.DictReader(f)]
    random.Random(7).shuffle(rows)
    return rows[o.eval_rows:], rows[:o.eval_rows]


def task(o, name, train, valid):
    random.Random(1).shuffle(train)
    train, valid = train[:o.rows], valid[:o.eval_rows]
    path = os.path.join(o.scratch, name + ".jsonl")
    with open(path, "w", encoding="utf-8") as f:
        for prompt, answer in train:
            f.write(json.dumps({"prompt": prompt, "completion": answer}) + "\n")
    events, ours = train_ours(o, name + "-ours", {"path": path})
    row = {"task": name, "model": os.path.basename(o.model), "rows": len(train), "eval_rows": len(valid), "epochs": o.epochs, "lr": o.lr,
           "ours_tokens": events[-1]["result"]["tokens"], "ours_seconds": events[-1]["result"]["seconds"],
           "ours_loss": events[-1]["result"]["loss"]}
    adapters = {"ours": ours}
    if o.peer_python:
        peer, adapters["peft"] = train_peft(o, name + "-peft", path)
        row.update(peft_tokens=peer["tokens"], peft_seconds=peer["seconds"], peft_loss=peer["loss"])
    server = Server(o, adapters)
    try:
        for model in ["untuned", *adapters]:
            row[model] = server.exact(model, valid)
    finally:
        server.close()
    if "peft" in row:
        row["proves_something"] = row["peft"]["exact"] - row["untuned"]["exact"] >= 0.2
        row["holds"] = row["ours"]["exact"] >= row["peft"]["exact"] - row["peft"]["stderr"]
    print(json.dumps(row), flush=True)


def dpo(o):
    events, _ = train_ours(o, "dpo-ours", {"path": os.path.abspath(o.dpo)}, valid_share=0.2, lr=min(o.lr, 5e-5), max_length=768,
                           batch_size=4)
    valid = [e for e in events if e["event"] == "valid"]
    print(json.dumps({"task": "dpo", "pairs": next(e["data"] for e in events if e["event"] == "start"), "before": {"margin": 0.0},
                      "after": {"margin": valid[-1]["valid_margin"], "accuracy": valid[-1]["valid_accuracy"]},
                      "margins": [e["valid_margin"] for e in valid], "holds": valid[-1]["valid_margin"] > 0}), flush=True)


def main():
    o = options()
    os.makedirs(o.scratch, exist_ok=True)
    began = time.time()
    try:
        if o.wikisql:
            task(o, "wikisql", *wikisql_rows(o))
        if o.banking77:
            task(o, "banking77", *banking_rows(o))
        if o.dpo:
            dpo(o)
    except Failure as e:
        sys.exit(f"learn.py: {e}")
    print(f"{time.time() - began:.0f} s", file=sys.stderr)


main()
