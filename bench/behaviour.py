"""How it behaves: a long prompt beside streams, shared prefixes, speculation, threads, a quota of one CPU."""
import json
import os
import statistics
import subprocess
import sys
import threading
import time

import client
import serving
import targets
from common import HERE, Failure, alternate, file_sha256, judge, name_of, percentile, run

STREAMS = 8


def row_of(ctx, group, model, case, label, unit, better, **more):
    row = {"group": group, "model": name_of(model), "case": case, "label": label, "unit": unit, "better": better, "rounds": 1,
           "model_sha256": file_sha256(model), **more}
    ctx.rows.add(ctx, judge(row, targets.of(group, case, name_of(model))))


# ---- a long prompt beside streams ----

def wait_until(true, seconds, what):
    end = time.perf_counter() + seconds
    while not true():
        if time.perf_counter() > end:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(.01)


def gaps(times, begin, end):
    return [b - a for stream in times for a, b in zip(stream, stream[1:]) if begin < b <= end]


def inter_token(times, begin, end, least, what):
    """Median over the streams of each one's mean time between tokens: a token that is read late, or with others in one piece,
    moves no time. What comes from fewer tokens of a stream than `least` is told and not a figure."""
    inside = [[t for t in stream if begin < t <= end] for stream in times]
    if min(map(len, inside)) < least:
        raise Failure(f"{what}: only {min(map(len, inside))} tokens of a stream in {end - begin:.1f} s: too few for a figure")
    return statistics.median((stream[-1] - stream[0]) / (len(stream) - 1) for stream in inside)


def beside_once(ctx, server, n_prompt, least):
    """Inter-token times of eight streams before and while another prompt is computed, from at least so many tokens of each."""
    times, stop = [[] for _ in range(STREAMS)], threading.Event()
    calls = [lambda i=i: client.chat(server.url, server.model, f"Count aloud and tell a story about {i + 3} travellers.", 1500,
                                     seen=times[i].append, stop=stop, ignore_eos=True) for i in range(STREAMS)]
    failed = []

    def streams():
        try:
            client.together(calls)
        except Failure as e:
            failed.append(e)
    thread = threading.Thread(target=streams)
    thread.start()
    try:
        wait_until(lambda: failed or min(map(len, times)) >= 12, 120, "streams")
        begin = max(t[7] for t in times) if not failed else 0
        wait_until(lambda: failed or min(map(len, times)) >= 80, 120, "streams")
        middle = time.perf_counter()
        long = client.chat(server.url, server.model, client.words(n_prompt, 1), 1)
        end = long["first"] or time.perf_counter()
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]
    before, during = gaps(times, begin, middle), gaps(times, middle, end)
    out = {"prompt": long["prompt"], "seconds": end - middle, "tokens_during": len(during),
           "before_ms": 1e3 * inter_token(times, begin, middle, 32, "before the prompt"),
           "during_ms": 1e3 * inter_token(times, middle, end, least, "while the prompt was computed"),
           "before_p95_ms": 1e3 * percentile(before, .95), "during_p95_ms": 1e3 * percentile(during, .95)}
    out["stretch"] = out["during_ms"] / out["before_ms"]
    return out


def beside(ctx):
    n = 1000 if ctx.quick else 3900
    for model in ctx.models:
        if ctx.rows.have(ctx, "beside", name_of(model), ["beside"]):
            continue

        def ours():
            with serving.baimo(ctx, model, "--parallel", STREAMS + 1, "--ctx", 8192) as s:
                return beside_once(ctx, s, n, 64)

        def theirs():
            with serving.llama(ctx, model, STREAMS + 1, (STREAMS + 1) * 8192) as s:
                return beside_once(ctx, s, n, 2)      # it lets them wait for whole batches of the prompt
        values, errors = alternate(serving.both(ctx, ours, theirs), 1)
        us, them = (values.get(k, [None])[0] if values.get(k) else None for k in ("baimo", "peer"))
        note = None
        if us:
            note = (f"{us['before_ms']:.1f} to {us['during_ms']:.1f} ms (p95 {us['during_p95_ms']:.0f}, {us['tokens_during']} tokens) while "
                    f"{us['prompt']} tokens took {us['seconds']:.1f} s" + (f"; peer {them['before_ms']:.0f} to {them['during_ms']:.0f} (p95 "
                    f"{them['during_p95_ms']:.0f}), {them['seconds']:.1f} s" if them else ""))
        row_of(ctx, "beside", model, "beside", "inter-token time of 8 streams beside a prompt of 4,000", "times", "lower",
               baimo=us and us["stretch"], peer=them and them["stretch"], stretch=us and us["stretch"], note=note,
               error=errors.get("baimo"), peer_error=errors.get("peer"), detail={"baimo": us, "peer": them})


# ---- shared prefixes ----

def prefix_once(server, n_prefix, seed):
    """Sixteen requests on one prefix: fifteen after the first's first token, then sixteen at once on another prefix."""
    def ask(i, system):
        return client.chat(server.url, server.model, f"Question {i}: what is {i} and {i + 7}?", 8, system=system)
    system = client.words(n_prefix, seed)
    first = ask(0, system)
    later = client.together([lambda i=i: ask(i, system) for i in range(1, 16)])
    system = client.words(n_prefix, seed + 1)
    begin = time.perf_counter()
    at_once = client.together([lambda i=i: ask(i, system) for i in range(16)])
    ttft = [r["first"] - r["begin"] for r in later if r["first"]]
    once = [r["first"] - begin for r in at_once if r["first"]]
    if not first["first"] or len(ttft) < 15 or len(once) < 16:
        raise Failure("an empty reply")
    alone = first["first"] - first["begin"]
    return {"prompt": first["prompt"], "first_s": alone, "later_p50_s": statistics.median(ttft), "later_max_s": max(ttft),
            "later_cached": [r["cached"] for r in later], "share": statistics.median(ttft) / alone, "max_share": max(ttft) / alone,
            "at_once_p50_s": statistics.median(once), "at_once_max_s": max(once), "at_once_cached": [r["cached"] for r in at_once],
            # prompt tokens computed, in prefixes: 1 plus the sixteen different ends when the prefix is computed once
            "computed": (sum(r["prompt"] - r["cached"] for r in at_once) - 15 * (at_once[0]["prompt"] - n_prefix)) / n_prefix}


def prefix_tokens_alone(server, n_prefix, seed):
    """After the words are known as a prefix: one more ask to see how many tokens the prefix has that can be shared."""
    one = client.chat(server.url, server.model, "Hello", 1, system=client.words(n_prefix, seed))
    two = client.chat(server.url, server.model, "Good day", 1, system=client.words(n_prefix, seed))
    return one["prompt"], two["cached"]


def prefix(ctx):
    n = 600 if ctx.quick else 2000
    for model in ctx.models:
        if ctx.rows.have(ctx, "prefix", name_of(model), ["prefix-later", "prefix-once"]):
            continue

        def ours():
            with serving.baimo(ctx, model, "--parallel", 16, "--ctx", 4096) as s:
                return prefix_once(s, n, 1)

        def theirs():
            with serving.llama(ctx, model, 16, 16 * 4096) as s:
                return prefix_once(s, n, 1)
        values, errors = alternate(serving.both(ctx, ours, theirs), 1)
        us, them = (values[k][0] if values.get(k) else None for k in ("baimo", "peer"))
        common = {"error": errors.get("baimo"), "peer_error": errors.get("peer"), "detail": {"baimo": us, "peer": them}}
        note = us and (f"first {us['first_s']:.2f} s, later p50 {us['later_p50_s']:.3f} s, longest {us['later_max_s']:.3f} s, cached "
                       f"{min(us['later_cached'])} of {us['prompt']}")
        if us and them:
            note += f"; peer first {them['first_s']:.2f} s, later p50 {them['later_p50_s']:.2f} s"
        row_of(ctx, "prefix", model, "prefix-later", "time to first token on a known prefix, share of the first's", "share", "lower",
               baimo=us and us["share"], peer=them and them["share"], share=us and us["share"], note=note, **common)
        note = us and (f"all within {us['at_once_max_s']:.2f} s, p50 {us['at_once_p50_s']:.2f} s"
                       + (f"; peer {them['at_once_max_s']:.2f} s, p50 {them['at_once_p50_s']:.2f} s" if them else ""))
        row_of(ctx, "prefix", model, "prefix-once", "16 at once: the prefix is computed so often", "times", "lower",
               baimo=us and us["computed"], peer=them and them["computed"], computed=us and us["computed"], note=note, **common)


# ---- speculation ----

def speculation(ctx):
    labels = {"speculation-rewrite": "speculation: a text copied with two words changed", "speculation-story": "speculation: free text",
              "speculation-random": "speculation: noise"}
    for model in ctx.models:
        if ctx.rows.have(ctx, "speculation", name_of(model), labels):
            continue
        out, error = "", None
        try:
            out = run([sys.executable, os.path.join(HERE, "speculation.py"), "--program", ctx.program, "--models", model, "--threads",
                       str(ctx.threads), "--rounds", str(ctx.rounds_of(.6))], ctx.env)
        except Failure as e:
            error = str(e)
        rows = {r["case"]: r for r in (json.loads(x) for x in out.splitlines() if x.startswith("{"))}
        for case, label in labels.items():
            r = rows.get(case)
            note = r and (f"{r['off_tok_s']} to {r['on_tok_s']} tok/s, {r['accepted']} of {r['drafted']} guesses right, "
                          + ("the same bytes" if r["same"] else "OTHER BYTES"))
            row_of(ctx, "speculation", model, case, label, "times", "higher", baimo=r and r["ratio"], gain=r and r["ratio"],
                   error=None if r else error or "no result", note=note, detail=r)


# ---- threads ----

def scaling(ctx):
    for model in ctx.models:
        name = name_of(model)
        if not ctx.rows.have(ctx, "scaling", name, ["threads16"]):
            args = ["--prompt", 96, "--gen", 12, "--parallel", 6]
            hashes = {}
            for t in (1, ctx.threads, 16):
                try:
                    hashes[t] = ctx.bench(model, [*args, "--threads", str(t)])["tokens_hash"]
                except Failure as e:
                    hashes[t] = str(e)
            same = len(set(hashes.values())) == 1
            row_of(ctx, "scaling", model, "threads16", "the same tokens on 1, 2 and 16 threads", "yes/no", "higher", baimo=int(same),
                   same=int(same), note=", ".join(f"{k}: {v}" for k, v in hashes.items()))
        if ctx.rows.have(ctx, "scaling", name, ["serial:decode1"]):
            continue
        try:
            out = run([ctx.program, "bench", model, "--scaling", "--json", "--threads", str(ctx.threads)], ctx.env)
        except Failure as e:
            row_of(ctx, "scaling", model, "serial:decode1", "serial share of a step", "share", "lower", error=str(e))
            continue
        rows = [json.loads(x) for x in out.splitlines() if x.startswith("{")]
        for r in rows:
            if r["threads"] != ctx.threads:
                continue
            many = next((x for x in rows if x["case"] == r["case"] and x["threads"] == 16), r)
            note = (f"{r['barriers_per_layer']:.1f} barriers a layer, {r['barriers_per_step']:.0f} a step of {r['step_ms']:.2f} ms; waiting "
                    f"{r['wait_share']:.1%}; by the balance of its chunks {many['speedup']:.1f} times as fast on {many['threads']} threads")
            row_of(ctx, "scaling", model, f"serial:{r['case']}", f"serial share of a step, {r['label']}", "share", "lower",
                   baimo=r["serial_share"], note=note, detail={"own": r, "many": many})


# ---- a quota of one CPU ----

class Group:
    """A cgroup with a quota of one CPU; v1 or v2, whichever holds the cpu controller."""

    def __init__(self):
        name = f"baimo-bench-{os.getpid()}"
        for base, quota, text in (("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "100000"), ("/sys/fs/cgroup/cpu,cpuacct", "cpu.cfs_quota_us",
                                  "100000"), ("/sys/fs/cgroup", "cpu.max", "100000 100000")):
            self.path = os.path.join(base, name)
            try:
                os.mkdir(self.path)
            except OSError:
                continue
            try:
                with open(os.path.join(self.path, quota), "w", encoding="ascii") as f:
                    f.write(text)
                return
            except OSError:
                os.rmdir(self.path)
        raise Failure("no cgroup may be made here: not root, or no cpu controller")

    def prefix(self):
        """A command that enters the group and then becomes what follows."""
        return ["/bin/sh", "-c", f'echo $$ > {self.path}/cgroup.procs; exec "$@"', "sh"]

    def close(self):
        try:
            os.rmdir(self.path)
        except OSError:
            pass


def quota(ctx):
    try:
        group = Group()
    except Failure as e:
        print(f"quota: skipped: {e}", flush=True)
        return
    try:
        for model in ctx.models:
            for what, args in (("prefill", ["--prompt", 256 if ctx.quick else 512, "--gen", 0]),
                               ("decode", ["--prompt", 0, "--gen", 16 if ctx.quick else 64])):
                if ctx.rows.have(ctx, "quota", name_of(model), [f"quota:{what}", f"quota-2:{what}"]):
                    continue
                sides = {"one": lambda: ctx.bench(model, [*args, "--threads", "1"])[f"{what}_tok_s"],
                         "default": lambda: ctx.bench(model, [*args, "--threads", "0"], prefix=group.prefix())[f"{what}_tok_s"],
                         "two": lambda: ctx.bench(model, [*args, "--threads", "2"], prefix=group.prefix())[f"{what}_tok_s"]}
                values, errors = alternate(sides, ctx.rounds_of(.6))
                one = statistics.median(values["one"]) if values["one"] else None
                for side, case, label in (("default", f"quota:{what}", f"quota of one CPU, default threads, {what}"),
                                          ("two", f"quota-2:{what}", f"quota of one CPU, --threads 2, {what}")):
                    have = statistics.median(values[side]) if values[side] and one else None
                    row_of(ctx, "quota", model, case, label, "tok/s", "higher", baimo=have, share=have and have / one,
                           error=errors.get(side) or errors.get("one"), detail=values,
                           note=have and f"{have / one:.0%} of one thread without the quota")
    finally:
        group.close()


# ---- beside another program ----

def competitor(ctx):
    """Speed with every thread while another program keeps one CPU busy; the fair share of two threads is three quarters."""
    cpus = sorted(os.sched_getaffinity(0))
    for model in ctx.models:
        for what, args in (("prefill", ["--prompt", 256 if ctx.quick else 512, "--gen", 0]),
                           ("decode", ["--prompt", 0, "--gen", 16 if ctx.quick else 64])):
            if ctx.rows.have(ctx, "competitor", name_of(model), [f"competitor:{what}"]):
                continue

            def busy():
                loop = subprocess.Popen(["taskset", "-c", str(cpus[0]), sys.executable, "-c", "while True: pass"])
                try:
                    return ctx.bench(model, args)[f"{what}_tok_s"]
                finally:
                    loop.kill()
                    loop.wait()
            values, errors = alternate({"alone": lambda: ctx.bench(model, args)[f"{what}_tok_s"], "busy": busy}, ctx.rounds_of(.6))
            pair = [statistics.median(values[k]) if values[k] else None for k in ("alone", "busy")]
            share = pair[1] / pair[0] if all(pair) else None
            row_of(ctx, "competitor", model, f"competitor:{what}", f"one CPU kept busy by another program, {what}", "tok/s", "higher",
                   baimo=pair[1], share=share, error=errors.get("busy"), detail=values, note=share and f"{share:.0%} of the speed alone")
