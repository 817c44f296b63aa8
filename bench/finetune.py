#!/usr/bin/env python3
"""Speed and memory of fine-tuning beside transformers + peft + torch, on the same files in alternation. Prints a row per case
and appends it as JSON to --out; --markdown prints the table of results that stand there.

    speed    LoRA r=16 on all linear maps, loss on every token: SmolLM2 4 x 256, Qwen 2 x 256 (a step: forward, backward, AdamW).
             The best of four steps behind one to warm up, as the peer's script reports it; median over the rounds.
    epoch    one epoch of 512 rows with loss on the answers, wall time of the steps: ours packs without padding, the peer pads
             batches of rows of like length.

usage: bench/finetune.py --peer-python PYTHON --peft-bench SCRIPT --text FILE --rows-data FILE.jsonl [--rounds 3] [--only speed,epoch]
The peer's script is called `SCRIPT MODEL.gguf bfloat16 BATCH TOKENS THREADS` and prints "... N tok/s, M GB peak". Without
--peer-python only baimo is measured. All options can stand in BAIMO_BENCH_PEER_PYTHON, _PEFT_BENCH, _TEXT, _ROWS_DATA.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import sys
import time

from common import HERE, Failure, file_sha256, json_lines, middle, name_of, run

SHAPES = {"smollm2": (4, 1.6, 0.2), "qwen2.5-coder": (2, 1.4, 0.25)}        # batch; targets: ratio of tok/s, ratio of memory
TOKENS, EPOCH_ROWS, EPOCH_TARGET, STEPS = 256, 512, 3.0, 5


def options():
    home = os.path.expanduser("~/.cache")
    models = os.environ.get("BAIMO_MODELS", f"{home}/baimo-models")
    found = [m for m in (f"{models}/smollm2.gguf", f"{models}/qwen2.5-coder.gguf") if os.path.exists(m)]
    env = os.environ.get
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--program", default=os.path.join(HERE, "..", "build", "baimo"))
    a.add_argument("--models", nargs="*", default=found)
    a.add_argument("--peer-python", default=env("BAIMO_BENCH_PEER_PYTHON"))
    a.add_argument("--peft-bench", default=env("BAIMO_BENCH_PEFT_BENCH"))
    a.add_argument("--text", default=env("BAIMO_BENCH_TEXT"), help="a long text: rows of 256 tokens are cut from it")
    a.add_argument("--rows-data", default=env("BAIMO_BENCH_ROWS_DATA"), help='JSONL of "prompt" and "response"')
    a.add_argument("--only", default="speed,epoch")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--rows", type=int, default=EPOCH_ROWS, help="of the epoch; fewer to try it out")
    a.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    a.add_argument("--batch", type=int, default=8, help="rows of a step of our epoch (the peer: 4)")
    a.add_argument("--scratch", default="/tmp/baimo-finetune-%d" % os.getuid())
    a.add_argument("--out", default=os.path.join(HERE, "..", "build", "bench", "finetune.jsonl"))
    a.add_argument("--markdown", metavar="RESULTS")
    return a.parse_args()


def job(o, model, data, **settings):
    """One job from its beginning; its events."""
    work = os.path.join(o.scratch, "job")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    with open(os.path.join(work, "job.json"), "w") as f:
        json.dump({"kind": "tune", "name": "bench", "model": {"path": os.path.abspath(model)}, "data": [data],
                   "options": {"threads": o.threads, "drop_bad": True, **settings}}, f)
    env = {**os.environ, "BAIMO_HOME": os.path.join(o.scratch, "home")}
    began = time.time()
    events = json_lines(run([o.program, "job", work], env))
    return events, time.time() - began


def our_speed(o, model, batch):
    events, _ = job(o, model, {"path": os.path.abspath(o.text), "shape": "text"}, steps=STEPS, batch_size=batch, max_length=TOKENS,
                    split_long=True, warmup=-1)
    steps = [e for e in events if e["event"] == "step"][1:]
    return {"tokens_per_s": max(e["tokens_per_s"] for e in steps), "peak": events[-1]["result"]["peak_memory_bytes"]}


def peer_speed(o, model, batch):
    text = run([o.peer_python, o.peft_bench, model, "bfloat16", str(batch), str(TOKENS), str(o.threads)])
    found = re.search(r"([\d.]+) tok/s, ([\d.]+) GB peak", text)
    return {"tokens_per_s": float(found[1]), "peak": float(found[2]) * 1e9}


def first_rows(o):
    path = os.path.join(o.scratch, "rows.jsonl")
    os.makedirs(o.scratch, exist_ok=True)
    with open(o.rows_data, encoding="utf-8") as f, open(path, "w", encoding="utf-8") as out:
        for i, line in enumerate(f):
            if i < o.rows:
                out.write(line)
    return path


def our_epoch(o, model, rows):
    events, wall = job(o, model, {"path": rows}, epochs=1, batch_size=o.batch, max_length=1024)
    result = events[-1]["result"]
    return {"seconds": result["seconds"], "wall": wall, "tokens": result["tokens"], "peak": result["peak_memory_bytes"]}


def peer_epoch(o, model, rows):
    row = json_lines(run([o.peer_python, os.path.join(HERE, "peft_epoch.py"), model, rows, "--rows", str(o.rows), "--batch", "4",
                          "--sorted", "--threads", str(o.threads)], timeout=7200))[-1]
    return {"seconds": row["seconds"], "tokens": row["tokens"], "peak": row["peak_memory_bytes"]}


def alternate(o, ours, theirs):
    """Medians of each side; the peer's are None without one."""
    mine, peer = [], []
    for _ in range(o.rounds):
        mine.append(ours())
        if o.peer_python:
            peer.append(theirs())
    return mine, peer


def add(o, row, unit, mine, peer, higher, target):
    values, others = [m[unit] for m in mine], [p[unit] for p in peer]
    row["baimo"], row["spread"] = middle(values)
    row["peer"], row["peer_spread"] = middle(others)
    if others:
        row["ratio"] = row["baimo"] / row["peer"] if higher else row["peer"] / row["baimo"]
        row["memory_ratio"] = statistics.median(m["peak"] for m in mine) / statistics.median(p["peak"] for p in peer)
        row["peer_memory"] = statistics.median(p["peak"] for p in peer)
        row["target"], row["met"] = target, row["ratio"] >= target
    row["memory"] = statistics.median(m["peak"] for m in mine)
    with open(o.out, "a", encoding="utf-8") as f:
        f.write(json.dumps(row) + "\n")
    print(line_of(row), flush=True)


def line_of(r):
    def pair(a, b, form):
        return form(a) + " | " + (form(b) if b is not None else "-")
    ratio = f"{r['ratio']:.2f} (≥ {r['target']:g}) | {r['memory_ratio']:.2f}" if "ratio" in r else "- | -"
    return (f"| {r['model']}, {r['case']} | {pair(r['baimo'], r['peer'], lambda x: f'{x:.1f}')} {r['unit']} | "
            f"{pair(r['memory'], r.get('peer_memory'), lambda x: f'{x / 1e9:.2f}')} GB | {ratio} |")


def head():
    return "| case | baimo | peer | baimo memory | peer memory | ratio (target) | memory ratio |\n|---|---|---|---|---|---|---|"


def measure(o, model):
    name = name_of(model)
    batch, target, _ = SHAPES.get(name, (2, 1.4, 0.25))
    base = {"time": int(time.time()), "model": name, "model_sha256": file_sha256(model), "threads": o.threads, "rounds": o.rounds}
    if "speed" in o.only and o.text:
        mine, peer = alternate(o, lambda: our_speed(o, model, batch), lambda: peer_speed(o, model, batch))
        add(o, {**base, "case": f"loss on every token, {batch} x {TOKENS}", "unit": "tok/s"}, "tokens_per_s", mine, peer, True, target)
    if "epoch" in o.only and o.rows_data:
        rows = first_rows(o)
        mine, peer = alternate(o, lambda: our_epoch(o, model, rows), lambda: peer_epoch(o, model, rows))
        add(o, {**base, "case": f"epoch of {o.rows} rows, loss on the answers", "unit": "s"}, "seconds", mine, peer, False, EPOCH_TARGET)


def main():
    o = options()
    if o.markdown:
        with open(o.markdown, encoding="utf-8") as f:
            print(head(), *(line_of(json.loads(x)) for x in f), sep="\n")
        return
    if not o.text and not o.rows_data:
        sys.exit("finetune.py: needs --text FILE or --rows-data FILE.jsonl")
    os.makedirs(os.path.dirname(os.path.abspath(o.out)), exist_ok=True)
    print(head(), flush=True)
    for model in o.models:
        try:
            measure(o, model)
        except Failure as e:
            print(f"{name_of(model)}: {e}", file=sys.stderr)


main()
