#!/usr/bin/env python3
"""Speed of baimo beside llama.cpp: the same files, in one run, in alternation. Prints one JSON line per case and a table.

usage: bench/compare.py [--rounds 5] [--threads N] [--models A.gguf B.gguf] [--cases prefill512,decode,...] [--peer DIR]
The peer is a directory with llama-bench and llama-batched-bench (default $PEERS/llama/bin). Without it only baimo is measured.
A figure is the median over the rounds, its spread (max - min) / median; a ratio is of medians.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = os.path.expanduser("~")
CASES = {  # name: prompt, gen, depth, parallel, which figure
    "prefill512": (512, 0, 0, 1, "prefill"),
    "prefill4096": (4096, 0, 0, 1, "prefill"),
    "decode": (0, 64, 0, 1, "decode"),
    "decode4096": (0, 32, 4096, 1, "decode"),
    "parallel4": (128, 64, 0, 4, "decode"),
    "parallel16": (128, 64, 0, 16, "decode"),
}


def run(argv, **kw):
    p = subprocess.run(argv, capture_output=True, text=True, **kw)
    if p.returncode:
        raise RuntimeError(f"{' '.join(argv)}: exit {p.returncode}: {p.stderr.strip()[-300:]}")
    return p.stdout


def ours(program, model, case, threads, env):
    p, n, d, b, which = CASES[case]
    argv = [program, "bench", model, "--prompt", str(p), "--gen", str(n), "--depth", str(d), "--parallel", str(b),
            "--threads", str(threads), "--repeat", "1", "--json"]
    row = json.loads(run(argv, env=env).strip().splitlines()[-1])
    return row[f"{which}_tok_s"]


def peer(dir_, model, case, threads):
    p, n, d, b, which = CASES[case]
    if b > 1:
        out = run([f"{dir_}/llama-batched-bench", "-m", model, "-c", str((p + n) * b + 64), "-b", "2048", "-ub", "512", "-npp", str(p),
                   "-ntg", str(n), "-npl", str(b), "-t", str(threads), "-tb", str(threads), "--output-format", "jsonl"])
        row = json.loads([x for x in out.splitlines() if x.startswith("{")][-1])
        return row["speed_tg"]
    out = run([f"{dir_}/llama-bench", "-m", model, "-p", str(p), "-n", str(n), "-d", str(d), "-t", str(threads), "-r", "1", "-o", "jsonl"])
    rows = [json.loads(x) for x in out.splitlines() if x.startswith("{")]
    row = [r for r in rows if (r["n_gen"] > 0) == (which == "decode")][-1]
    return row["avg_ts"]


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--program", default=os.path.join(HERE, "..", "build", "baimo"))
    a.add_argument("--peer", default=os.path.join(os.environ.get("PEERS", f"{HOME}/.cache/baimo-peers"), "llama", "bin"))
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    a.add_argument("--cpu", help="BAIMO_CPU for baimo (the peer must be built to match)")
    models = os.environ.get("BAIMO_MODELS", f"{HOME}/.cache/baimo-models")
    a.add_argument("--models", nargs="*", default=[m for m in (f"{models}/smollm2.gguf", f"{models}/qwen2.5-coder.gguf") if os.path.exists(m)])
    a.add_argument("--cases", default="prefill512,decode")
    o = a.parse_args()
    env = dict(os.environ, **({"BAIMO_CPU": o.cpu} if o.cpu else {}))
    with_peer = os.path.exists(f"{o.peer}/llama-bench")
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    if not o.models:
        sys.exit("bench: no models: run tools/get-model.sh, or name files with --models")
    print(f"{'model':22} {'case':12} {'baimo':>9} {'spread':>7} {'llama.cpp':>10} {'spread':>7} {'ratio':>6}")
    for model in o.models:
        for case in o.cases.split(","):
            us, them = [], []
            for _ in range(o.rounds):
                us.append(ours(o.program, model, case, o.threads, env))
                if with_peer:
                    them.append(peer(o.peer, model, case, o.threads))
            row = {"commit": commit, "model": os.path.basename(model), "case": case, "threads": o.threads, "rounds": o.rounds,
                   "baimo": statistics.median(us), "baimo_spread": (max(us) - min(us)) / statistics.median(us)}
            if them:
                row |= {"peer": statistics.median(them), "peer_spread": (max(them) - min(them)) / statistics.median(them)}
                row["ratio"] = row["baimo"] / row["peer"]
            print(f"{row['model']:22} {case:12} {row['baimo']:9.1f} {row['baimo_spread']:7.1%} "
                  f"{row.get('peer', float('nan')):10.1f} {row.get('peer_spread', float('nan')):7.1%} {row.get('ratio', float('nan')):6.2f}", flush=True)
            print(json.dumps(row), file=sys.stderr)


main()
