"""Prefill, decode and batches against llama-bench and llama-batched-bench: real models, synthetic shapes, AVX2 alone."""
import glob
import os

import targets
from common import Failure, alternate, file_sha256, json_lines, judge, middle, name_of, run

# name: (label, prompt, gen, depth, sequences, timed part, share of the rounds)
CASES = {
    "prefill512": ("prefill, 512 tokens", 512, 0, 0, 1, "prefill", 1),
    "decode": ("decode, one sequence", 0, 64, 0, 1, "decode", 1),
    "parallel4": ("decode, 4 sequences", 128, 64, 0, 4, "decode", .6),
    "parallel16": ("decode, 16 sequences", 128, 64, 0, 16, "decode", .6),
    "parallel32": ("decode, 32 sequences", 128, 64, 0, 32, "decode", .4),
    "prefill4096": ("prefill, 4,096 tokens", 4096, 0, 0, 1, "prefill", .4),
    "decode4096": ("decode at 4,096, 16-bit KV", 0, 32, 4096, 1, "decode", .4),
}
INT8 = ("decode4096-int8", "decode at 4,096, int8 KV (peer: f16)")
QUICK = {4096: 1024, 512: 256, 128: 64, 64: 16, 32: 8}


def shape_of(ctx, case, small=False):
    label, p, n, d, b, part, share = CASES[case]
    if ctx.quick:
        p, n, d = (QUICK.get(x, x) for x in (p, n, d))
    elif small and b > 1:
        p, n = p // 2, n // 2
    return p, n, d, b, part, share


def ours(ctx, model, shape, env, extra, last):
    p, n, d, b, part, _ = shape
    row = ctx.bench(model, ["--prompt", p, "--gen", n, "--depth", d, "--parallel", b, *extra], env)
    last.update(row)
    return row[f"{part}_tok_s"]


def peer(ctx, directory, model, shape):
    p, n, d, b, part, _ = shape
    t = str(ctx.threads)
    if b > 1:
        out = run([f"{directory}/llama-batched-bench", "-m", model, "-c", str((p + n) * b + 64), "-b", "2048", "-ub", "512", "-npp", str(p),
                   "-ntg", str(n), "-npl", str(b), "-t", t, "-tb", t, "--output-format", "jsonl"], ctx.env)
        rows = json_lines(out)
        if not rows:
            raise Failure("llama-batched-bench: no result")
        return rows[-1]["speed_tg"]
    warm = ["--no-warmup"] if p + d >= 4096 else []      # the same work once more would only cost time
    rows = json_lines(run([f"{directory}/llama-bench", "-m", model, "-p", str(p), "-n", str(n), "-d", str(d), "-t", t, "-r", "1",
                           "-o", "jsonl", *warm], ctx.env))
    rows = [r for r in rows if (r["n_gen"] > 0) == (part == "decode")]
    if not rows:
        raise Failure("llama-bench: no result")
    return rows[-1]["avg_ts"]


def limit_of(ctx, shape, facts, tok_s, kv_bytes):
    """The share of what binds the case: bandwidth for one sequence, the int8 peak for prefill and batches."""
    p, n, d, b, part, _ = shape
    if not ctx.limits or not facts or tok_s is None:
        return None, None
    if part == "decode" and b == 1:
        per_token = facts["step_bytes"] + kv_bytes * (d + p + n / 2)
        return "bandwidth", per_token * tok_s / 1e9 / ctx.limits["read_gb_s"]
    ops = facts["token_ops"] + (facts["head_ops"] if part == "decode" else 0)
    return "int8 peak", ops * tok_s / 1e9 / ctx.limits["int8_gops"]


def measure(ctx, group, model, case, directory, env=None, small=False, rounds=None):
    label, shape = CASES[case][0], shape_of(ctx, case, small)
    with_int8 = case == "decode4096" and group == "inference"
    name = name_of(model)
    if ctx.rows.have(ctx, group, name, [case] + [INT8[0]] * with_int8):
        return
    ctx.measure_machine()
    facts, facts8 = {}, {}
    sides = {"baimo": lambda: ours(ctx, model, shape, env, [], facts)}
    if with_int8:
        sides["int8"] = lambda: ours(ctx, model, shape, env, ["--kv-type", "int8"], facts8)
    if directory:
        sides["peer"] = lambda: peer(ctx, directory, model, shape)
    n_rounds = rounds or ctx.rounds_of(shape[5])
    values, errors = alternate(sides, n_rounds)
    for side, key, text in (("baimo", case, label), ("int8", *INT8)):
        if side not in sides:
            continue
        mine, spread = middle(values[side])
        them, peer_spread = middle(values.get("peer", []))
        seen = facts if side == "baimo" else facts8
        kv = seen.get("kv_token_bytes", 0)
        what, share = limit_of(ctx, shape, seen, mine, kv)
        row = {"group": group, "model": name, "case": key, "label": text, "unit": "tok/s", "better": "higher", "rounds": n_rounds,
               "baimo": mine, "baimo_spread": spread, "peer": them, "peer_spread": peer_spread, "error": errors.get(side),
               "peer_error": errors.get("peer"), "peer_version": ctx.peer_version(directory), "model_sha256": file_sha256(model),
               "isa": seen.get("isa"), "values": values[side], "peer_values": values.get("peer")}
        if what:
            row["limit"] = {"what": what, "baimo": share,
                            "peer": limit_of(ctx, shape, facts, them, facts.get("kv_token_bytes", 0))[1]}
        if mine and them:
            row["ratio"] = mine / them
        ctx.rows.add(ctx, judge(row, targets.of(group, key, name)))


def inference(ctx):
    for model in ctx.models:
        for case in CASES:
            measure(ctx, "inference", model, case, ctx.peer)


def shapes(ctx):
    """Synthetic models of 1.5, 3 and 7 billion parameters; the larger ones in one round, batches at half the length."""
    files = sorted(glob.glob(os.path.join(ctx.o.synth, "*.gguf"))) if ctx.o.synth else []
    if not files:
        print("shapes: no files: make some with synth_gguf.py and name their directory with --synth", flush=True)
    for model in files:
        large = os.path.getsize(model) > 1.5e9
        for case in targets.SHAPES:
            measure(ctx, "shapes", model, case, ctx.peer, small=large, rounds=1 if large else ctx.rounds_of(.4))


def avx2(ctx):
    """Both sides without AVX-512: ours by BAIMO_CPU, the peer by its build."""
    for model in ctx.models:
        for case in targets.AVX2:
            measure(ctx, "avx2", model, case, ctx.peer_avx2, {"BAIMO_CPU": "avx2"}, rounds=ctx.rounds_of(.4))
