"""Servers: HTTP under load, start to ready, resident and shared memory."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import client
import targets
from common import Failure, alternate, file_sha256, json_lines, judge, middle, name_of, run

PATIENCE = 300          # seconds for a server to be ready


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A started server, ours or the peer's; ready_s is the time from its start to the first 200 of /health."""

    def __init__(self, ctx, argv, port, env, prefix=()):
        self.url = f"http://127.0.0.1:{port}/v1"
        self.log = open(os.path.join(ctx.scratch, "server.log"), "w+", encoding="utf-8", errors="replace")
        begin = time.perf_counter()
        self.process = subprocess.Popen([*prefix, *argv], env=env, stdout=self.log, stderr=self.log)
        try:
            self.wait(begin)
            self.model = self.first_model()
        except BaseException:
            self.stop()
            raise

    def wait(self, begin):
        while time.perf_counter() - begin < PATIENCE:
            if self.process.poll() is not None:
                self.log.seek(0)
                lines = self.log.read().strip().splitlines()
                raise Failure(f"server ended with {self.process.returncode} before it was ready: {lines[-1][:160] if lines else ''}")
            try:
                if client.get(self.url, "/health")[0] == 200:
                    self.ready_s = time.perf_counter() - begin
                    return
            except OSError:
                pass
            time.sleep(.002)
        raise Failure(f"server not ready after {PATIENCE} s")

    def first_model(self):
        status, body = client.get(self.url, "/v1/models", 30)
        try:
            return json.loads(body)["data"][0]["id"]
        except (ValueError, LookupError):
            return "default"

    def memory(self):
        """RSS, PSS and private bytes now."""
        out = {"rss": 0, "pss": 0, "private": 0}
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="ascii") as f:
            for line in f:
                key, *rest = line.split()
                if key in ("Rss:", "Pss:", "Private_Clean:", "Private_Dirty:"):
                    out["private" if key[0:7] == "Private" else key[:-1].lower()] += int(rest[0]) * 1024
        return out

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.stop()


def baimo(ctx, model, *args, home=None, prefix=()):
    port = free_port()
    return Server(ctx, [ctx.program, "serve", "--model", model, "--port", str(port), "--threads", str(ctx.threads), *map(str, args)], port,
                  {**ctx.env, **({"BAIMO_HOME": home} if home else {})}, prefix)


def llama(ctx, model, slots, ctx_all, *args):
    port = free_port()
    return Server(ctx, [f"{ctx.peer}/llama-server", "-m", model, "--host", "127.0.0.1", "--port", str(port), "-np", str(slots),
                        "-c", str(ctx_all), "-t", str(ctx.threads), "-tb", str(ctx.threads), *map(str, args)], port, ctx.env)


def both(ctx, ours, theirs):
    """The sides of an alternation; without a peer only ours."""
    return {"baimo": ours, **({"peer": theirs} if ctx.peer else {})}


def put(ctx, group, model, case, label, unit, better, values, errors, pick=None, **more):
    """A row from the values of an alternation; pick takes the figure out of each."""
    pick = pick or (lambda v: v)
    mine, spread = middle([pick(v) for v in values["baimo"]])
    them, peer_spread = middle([pick(v) for v in values.get("peer", [])])
    name = name_of(model)
    row = {"group": group, "model": name, "case": case, "label": label, "unit": unit, "better": better, "rounds": len(values["baimo"]),
           "baimo": mine, "baimo_spread": spread, "peer": them, "peer_spread": peer_spread, "error": errors.get("baimo"),
           "peer_error": errors.get("peer"), "peer_version": ctx.peer_version(ctx.peer), "model_sha256": file_sha256(model), **more}
    if mine is not None and them:
        row["ratio"] = mine / them
    ctx.rows.add(ctx, judge(row, targets.of(group, case, name)))


# ---- load ----

def drive(ctx, server):
    if ctx.o.load:
        argv = [sys.executable, ctx.o.load, "--url", server.url, "--model", server.model, "--clients", "16", "--requests", "36",
                "--max-tokens", "64", "--json"]
        out = json_lines(run(argv, ctx.env))[-1]
    else:
        out = client.load(server.url, server.model, 16, 36, 64)
    if out["failed"]:
        raise Failure(f"{out['failed']} of 36 requests failed")
    return out


def http(ctx):
    for model in ctx.models:
        cases = ["http16", "http16-first", "http16-first-p95"]
        if ctx.rows.have(ctx, "http", name_of(model), cases):
            continue
        ctx.measure_machine()

        def ours():
            with baimo(ctx, model, "--parallel", 16, "--ctx", 2048) as s:
                return drive(ctx, s)

        def theirs():
            with llama(ctx, model, 16, 32768) as s:
                return drive(ctx, s)
        values, errors = alternate(both(ctx, ours, theirs), ctx.rounds_of(.4))
        args = dict(values=values, errors=errors)
        put(ctx, "http", model, cases[0], "HTTP, 16 clients streaming", "tok/s", "higher", pick=lambda v: v["out_tok_s"], **args)
        put(ctx, "http", model, cases[1], "time to first token, p50", "s", "lower", pick=lambda v: v["ttft_p50"], **args)
        put(ctx, "http", model, cases[2], "time to first token, p95", "s", "lower", pick=lambda v: v["ttft_p95"], **args)


# ---- start and memory ----

def fresh_home(ctx):
    home = os.path.join(ctx.scratch, "fresh")
    shutil.rmtree(home, ignore_errors=True)
    return home


def ready_time(make):
    with make() as s:
        return s.ready_s


def first_start(ctx, model):
    return ready_time(lambda: baimo(ctx, model, home=fresh_home(ctx)))


def after_request(make):
    with make() as s:
        client.chat(s.url, s.model, "Write a short story about a traveller.", 16)
        return s.memory()


def second_process(ctx, model):
    """Memory of a second server on the same model and home, before its first request."""
    args = ("--parallel", 1, "--ctx", 2048)
    with baimo(ctx, model, *args) as first:
        client.chat(first.url, first.model, "Hello", 4)
        with baimo(ctx, model, *args) as second:
            return second.memory()


def start(ctx):
    for model in ctx.models:
        cases = ["start-first", "start-later", "rss", "second-pss"]
        if ctx.rows.have(ctx, "start", name_of(model), cases):
            continue
        n = ctx.rounds_of(.6)
        with open(model, "rb") as f:                 # both sides find the file in the page cache
            while f.read(1 << 24):
                pass
        theirs = lambda: ready_time(lambda: llama(ctx, model, 1, 2048))
        values, errors = alternate(both(ctx, lambda: first_start(ctx, model), theirs), n)
        put(ctx, "start", model, cases[0], "start to ready, first (packs)", "s", "lower", values, errors)
        try:
            ready_time(lambda: baimo(ctx, model))
        except Failure:
            pass                                     # told by the rows below
        again, errors = alternate({"baimo": lambda: ready_time(lambda: baimo(ctx, model))}, n)
        again["peer"] = values.get("peer", [])
        put(ctx, "start", model, cases[1], "start to ready, later", "s", "lower", again, errors)
        memory, errors = alternate(both(ctx, lambda: after_request(lambda: baimo(ctx, model, "--parallel", 1, "--ctx", 2048)),
                                        lambda: after_request(lambda: llama(ctx, model, 1, 2048))), 1)
        put(ctx, "start", model, cases[2], "resident memory, one slot of 2,048", "MB", "lower", memory, errors,
            pick=lambda v: v["rss"] / 1e6, detail=memory)
        second, errors = alternate({"baimo": lambda: second_process(ctx, model)}, 1)
        share = second["baimo"][0]["pss"] / os.path.getsize(model) if second["baimo"] else None
        put(ctx, "start", model, cases[3], "PSS of a second process", "MB", "lower", second, errors, pick=lambda v: v["pss"] / 1e6,
            share=share, detail=second, note=f"{share:.0%} of the file" if share is not None else None)
