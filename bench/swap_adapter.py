#!/usr/bin/env python3
"""Does a swap of an adapter delay streams? Four clients stream from the base; meanwhile two adapters are mounted in turn, `--swaps`
times, where there is memory for one of them: each is read, checked and packed anew, and the other goes.

Prints one JSON line: the gaps between the pieces of all streams, in milliseconds, in windows with a swap and without, and by how many
steps (median gap without) they are longer; `wakes` says how long a thread of this client that only sleeps was kept waiting, for
no gap can be told better than that. Target: no gap of a stream is more than one step longer than those without swaps.

    bench/swap_adapter.py --model ~/.cache/baimo-models/smollm2.gguf --adapters DIR1 DIR2
"""
import argparse
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse

import client
from beside_job import ROOT, start_server
from common import percentile


def call(url, method, path, body=None):
    u = urllib.parse.urlsplit(url)
    c = http.client.HTTPConnection(u.hostname, u.port, timeout=60)
    c.request(method, u.path + path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    text = r.read()
    if r.status != 200:
        raise SystemExit(f"{method} {path}: HTTP {r.status}: {text[:300]!r}")


def summary(gaps):
    gaps = sorted(gaps)
    return {"n": len(gaps), "p50": percentile(gaps, .5), "p99": percentile(gaps, .99), "longest": gaps[-1]}


def measure(a, url, token):
    swaps, wakes, done = [], [], threading.Event()

    def swap():
        time.sleep(a.pause)
        for i in range(a.swaps):
            begin = time.perf_counter()
            call(url, "POST", "/adapters", {"name": f"swapped{i % 2}"})
            swaps.append((begin, time.perf_counter()))
            time.sleep(a.pause)
        done.set()

    def doze():
        while not done.is_set():
            begin = time.perf_counter()
            time.sleep(.002)
            wakes.append((time.perf_counter() - begin - .002) * 1000)
    others = [threading.Thread(target=f) for f in (swap, doze)]
    [t.start() for t in others]
    # One token again and again: every step gives every stream a piece, which a token with half a character would not.
    streams = client.together([lambda i=i: client.chat(url, a.name, client.words(64, i), 1000000, stop=done, ignore_eos=True,
                                                       logit_bias={token: 100}) for i in range(a.clients)])
    [t.join() for t in others]
    during, apart = [], []
    for s in streams:
        for one, two in zip(s["times"][10:], s["times"][11:]):
            (during if any(one < end and two > begin for begin, end in swaps) else apart).append((two - one) * 1000)
    without, beside = summary(apart), summary(during)
    return {"case": "swap", "clients": a.clients, "swaps": a.swaps, "swap_ms": percentile(sorted((e - b) * 1000 for b, e in swaps), .5),
            "apart": without, "beside": beside, "wakes": summary(wakes),
            **{f"steps_{k}": (beside[k] - without[k]) / without["p50"] for k in ("p50", "p99", "longest")}}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", default=os.path.join(ROOT, "build", "baimo"))
    p.add_argument("--model", required=True, help="a GGUF")
    p.add_argument("--adapters", nargs=2, required=True, help="two adapters of it (PEFT directories or GGUF)")
    p.add_argument("--swaps", type=int, default=10)
    p.add_argument("--pause", type=float, default=.5, help="seconds between swaps")
    p.add_argument("--clients", type=int, default=4)
    p.add_argument("--memory", type=int, default=14, help="MiB of mounted adapters: room for one, not for two")
    a = p.parse_args()
    a.serve, a.name = ["--adapter-memory", str(a.memory)], "swap-base"
    scratch = tempfile.mkdtemp(prefix="baimo-swap-")
    env = {**os.environ, "BAIMO_HOME": str(pathlib.Path(scratch, "home"))}
    subprocess.run([a.program, "shelf", "add", a.model, "--name", a.name], env=env, check=True, capture_output=True)
    for i, path in enumerate(a.adapters):
        subprocess.run([a.program, "shelf", "add", path, "--base", a.name, "--name", f"swapped{i}"], env=env, check=True, capture_output=True)
    token = subprocess.run([a.program, "tokenize", a.name, " and", "--ids", "--no-special"], env=env, check=True, capture_output=True,
                           text=True).stdout.split()[0]
    server, url = start_server(a, env)
    try:
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else {n: round(x, 3) for n, x in v.items()} if isinstance(v, dict) else v
                          for k, v in measure(a, url, token).items()}))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        shutil.rmtree(scratch, ignore_errors=True)


main()
