#!/usr/bin/env python3
"""Requests beside a tuning, and a tuning beside requests, on one server.

Each round, in this order, so that neighbours' load falls on all alike:
    requests alone      4 clients stream without a pause, no job runs
    requests with job   the same while a job runs
    job alone           nobody asks
    job, half active    the 4 clients are active half of the time (--beat seconds on, as many off)
One JSON line a round, and a last one with medians: requests_kept = with / alone (tokens per second), ttft_kept likewise inverted,
job_kept = half / alone. Targets: requests_kept >= 0.90, job_kept >= 0.40.

    bench/beside_job.py --model ~/.cache/baimo-models/smollm2.gguf --rounds 3
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import client
from common import HERE, file_sha256

ROOT = os.path.dirname(HERE)


class Job:
    """A tuning that runs until it is stopped; its speed out of the events that the server stored."""

    def __init__(self, program, env, home, model, data, extra):
        self.program, self.env, self.home = program, env, home
        said = json.loads(self.baimo("tune", "start", "--model", model, "--data", data, "--name", "beside", "--steps", "1000000", "--json",
                                     *extra))
        self.id = said["id"]

    def baimo(self, *args):
        return subprocess.run([self.program, *args], env=self.env, check=True, capture_output=True, text=True).stdout

    def events(self):
        db = sqlite3.connect(f"file:{self.home}/baimo.db?mode=ro", uri=True)
        try:
            rows = db.execute("SELECT at_ms, data FROM run_event WHERE type = 'metrics' ORDER BY id").fetchall()
        finally:
            db.close()
        return [(ms / 1000, json.loads(data)) for ms, data in rows]

    def state(self):
        return json.loads(self.baimo("tune", "show", self.id, "--json"))["state"]

    def go(self):
        if self.state() == "stopped":
            self.baimo("tune", "resume", self.id)
        seen = len(self.events())
        while len(self.events()) < seen + 2:
            time.sleep(.1)

    def stop(self):
        self.baimo("tune", "stop", self.id)
        while self.state() != "stopped":
            time.sleep(.1)

    def speed(self, begin, end):
        """Tokens per second between two wall-clock times: those of each step, spread over the time since the step before."""
        total, before = 0.0, None
        for at, m in self.events():
            if before is not None and m["tokens"] > before[1]:
                share = max(0.0, min(at, end) - max(before[0], begin)) / max(at - before[0], 1e-9)
                total += share * (m["tokens"] - before[1])
            before = (at, m["tokens"])
        return total / (end - begin)


def ask(url, model, seconds, clients, max_tokens, results):
    """Clients that stream one request after the other until the time is over."""
    end = time.perf_counter() + seconds

    def work(i):
        n = 0
        while time.perf_counter() < end:
            d = client.chat(url, model, client.words(64, i * 1000 + n + int(time.time() * 1000) % 100000), max_tokens, ignore_eos=True)
            results.append(d)
            n += 1
    threads = [threading.Thread(target=work, args=(i,)) for i in range(clients)]
    begin = time.perf_counter()
    [t.start() for t in threads], [t.join() for t in threads]
    return time.perf_counter() - begin


def requests(url, model, seconds, clients, max_tokens):
    results = []
    took = ask(url, model, seconds, clients, max_tokens, results)
    return {"tok_s": sum(d["tokens"] for d in results) / took,
            "ttft_s": statistics.median(d["first"] - d["begin"] for d in results if d["first"])}


def half_active(url, model, seconds, beat, clients, max_tokens):
    begin, results = time.time(), []
    while time.time() - begin < seconds:
        took = ask(url, model, beat, clients, max_tokens, results)
        time.sleep(took)
    return begin, time.time()


def one_round(a, url, job):
    job.stop()
    alone = requests(url, a.name, a.seconds, a.clients, a.tokens)
    job.go()
    beside = requests(url, a.name, a.seconds, a.clients, a.tokens)
    begin = time.time()
    time.sleep(a.seconds)
    end = time.time()
    half = half_active(url, a.name, a.seconds * 2, a.beat, a.clients, a.tokens)
    time.sleep(2)                                # the step that was running is reported
    return {"requests_alone_tok_s": alone["tok_s"], "requests_with_job_tok_s": beside["tok_s"],
            "ttft_alone_s": alone["ttft_s"], "ttft_with_job_s": beside["ttft_s"],
            "job_alone_tok_s": job.speed(begin, end), "job_half_tok_s": job.speed(*half),
            "requests_kept": beside["tok_s"] / alone["tok_s"], "ttft_kept": alone["ttft_s"] / beside["ttft_s"],
            "job_kept": job.speed(*half) / max(job.speed(begin, end), 1e-9)}


def start_server(a, env):
    p = subprocess.Popen([a.program, "serve", "--port", "0", "--model", a.name, "--no-speculation", *a.serve], env=env,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in p.stdout:
        words = line.split()
        if words[:1] == ["page"]:
            url = words[1].rstrip("/") + "/v1"
        if "baimo key add" in line or "key add NAME" in line:
            threading.Thread(target=p.stdout.read, daemon=True).start()
            return p, url
    sys.exit("the server did not start")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", default=os.path.join(ROOT, "build", "baimo"))
    p.add_argument("--model", required=True, help="a GGUF")
    p.add_argument("--data", default=os.path.join(ROOT, "examples", "data", "identity.jsonl"))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=6, help="of each window")
    p.add_argument("--beat", type=float, default=2)
    p.add_argument("--clients", type=int, default=4)
    p.add_argument("--tokens", type=int, default=64, help="of each answer")
    p.add_argument("--serve", nargs="*", default=[], help="more options of serve, without dashes: no-job-pause")
    a = p.parse_args()
    a.serve, a.name = ["--" + x for x in a.serve], "beside-base"
    scratch = tempfile.mkdtemp(prefix="baimo-beside-")
    home = pathlib.Path(scratch, "home")
    env = {**os.environ, "BAIMO_HOME": str(home)}
    subprocess.run([a.program, "shelf", "add", a.model, "--name", a.name], env=env, check=True, capture_output=True)
    server, url = start_server(a, env)
    try:
        job = Job(a.program, env, home, a.name, a.data, ["--batch-size", "4", "--max-length", "256", "--save-every", "1000"])
        job.go()
        rows = []
        for _ in range(a.rounds):
            rows.append(one_round(a, url, job))
            print(json.dumps({k: round(v, 4) for k, v in rows[-1].items()}), flush=True)
        print(json.dumps({"case": "beside a job", "serve": a.serve, "model_sha256": file_sha256(a.model)[:12], "rounds": a.rounds,
                          **{k: round(statistics.median(r[k] for r in rows), 4) for k in rows[0]}}))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
