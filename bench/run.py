#!/usr/bin/env python3
"""Speed of baimo beside llama.cpp: the same files, in one run, in alternation. Prints a row per case and appends it as JSON to
--out; a case that stands there already for this commit is not measured again, so an interrupted run goes on where it was.

usage: bench/run.py [--only inference,http,...] [--rounds 5] [--quick] [--models A.gguf B.gguf] [--synth DIR] [--load load.py]
       bench/run.py --markdown results.jsonl         the tables, for docs/SPEED.md
       bench/run.py --svg results.jsonl              the drawings, into docs/
The peer is a directory with llama-bench, llama-batched-bench and llama-server: --peer DIR, or $PEERS/llama/bin (tools/peers.sh);
--peer-avx2 the same built for AVX2 alone, or $PEERS/llama-avx2/bin. Without a peer only baimo is measured.
A figure is the median over the rounds, its spread (max - min) / median; a ratio is of medians. The shares are those of the
physical limit that binds the case, as `baimo bench --machine` measured it beside: bandwidth for one sequence, else the int8 peak.
"""
import argparse
import os
import sys
import tempfile
import time

import behaviour
import draw
import inference
import serving
import tables
from common import HERE, Context, Failure, Rows

GROUPS = {"inference": inference.inference, "http": serving.http, "start": serving.start, "prefix": behaviour.prefix,
          "beside": behaviour.beside, "speculation": behaviour.speculation, "scaling": behaviour.scaling, "quota": behaviour.quota,
          "competitor": behaviour.competitor, "avx2": inference.avx2, "shapes": inference.shapes}


def options():
    home = os.path.expanduser("~/.cache")
    peers = os.environ.get("PEERS", f"{home}/baimo-peers")
    models = os.environ.get("BAIMO_MODELS", f"{home}/baimo-models")
    found = [m for m in (f"{models}/smollm2.gguf", f"{models}/qwen2.5-coder.gguf") if os.path.exists(m)]
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--program", default=os.path.join(HERE, "..", "build", "baimo"))
    a.add_argument("--only", default=",".join(GROUPS), help="groups, in the order of their running: " + " ".join(GROUPS))
    a.add_argument("--rounds", type=int, default=5, help="of short cases; long ones take fewer (default 5)")
    a.add_argument("--quick", action="store_true", help="one round of small cases: does everything work?")
    a.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    a.add_argument("--models", nargs="*", default=found)
    a.add_argument("--peer", default=f"{peers}/llama/bin")
    a.add_argument("--peer-avx2", default=f"{peers}/llama-avx2/bin")
    a.add_argument("--synth", default=os.environ.get("SYNTH"), help="directory of synthetic models for the group shapes ($SYNTH)")
    a.add_argument("--load", default=os.environ.get("LOAD"), help="a load generator in place of bench/client.py ($LOAD)")
    a.add_argument("--out", default=os.path.join(HERE, "..", "build", "bench", "results.jsonl"))
    a.add_argument("--scratch", default=os.path.join(tempfile.gettempdir(), f"baimo-bench-{os.getuid()}"))
    a.add_argument("--markdown", metavar="RESULTS", help="print the tables of these results and end")
    a.add_argument("--svg", metavar="RESULTS", help="draw these results and end")
    a.add_argument("--docs", default=os.path.join(HERE, "..", "docs"), help="where drawings go")
    return a.parse_args()


def main():
    o = options()
    if o.markdown or o.svg:
        rows = tables.newest(Rows(o.markdown or o.svg).all)
        if o.markdown:
            print(tables.markdown(rows))
        if o.svg:
            print("\n".join(draw.write_all(rows, o.docs)))
        return
    groups = o.only.split(",")
    if unknown := [g for g in groups if g not in GROUPS]:
        sys.exit(f"bench: unknown group {unknown[0]}: use {' '.join(GROUPS)}")
    if not o.models:
        sys.exit("bench: no models: run tools/get-model.sh, or name files with --models")
    ctx = Context(o)
    limits = ctx.measure_machine()
    if limits:
        print(f"{limits['cpu']}, {limits['threads']} threads, {limits['isa']}, commit {ctx.commit}: read {limits['read_gb_s']} GB/s, int8 "
              f"{limits['int8_gops']:,.0f} GOPS, bf16 {limits['bf16_gflops']:,.0f}, fp32 {limits['fp32_gflops']:,.0f} GFLOPS")
    print(f"peer: llama.cpp {ctx.peer_version(ctx.peer)}, {ctx.peer}" if ctx.peer else
          "peer: none. Build llama.cpp and name the directory of its llama-bench with --peer DIR to see both sides.")
    print(f"{'model':18} {'case':22} {'baimo':>9} {'peer':>9} {'unit':6} {'ratio':>6}  {'target':15} {'of limit':10}", flush=True)
    for g in groups:
        begin = time.time()
        try:
            GROUPS[g](ctx)
        except Failure as e:
            print(f"{g}: {e}", flush=True)
        print(f"{g}: {time.time() - begin:.0f} s", file=sys.stderr, flush=True)
    draw.write_all(tables.newest(ctx.rows.all), o.docs if not o.quick else ctx.scratch)


if __name__ == "__main__":
    main()
