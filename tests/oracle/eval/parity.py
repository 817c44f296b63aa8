#!/usr/bin/env python3
"""Scores of `baimo eval run` beside `lm_eval --model hf` in fp32 on the dequantised weights: the same YAML, data and token ids, document by document.

usage: python tests/oracle/eval/parity.py peer DATA_DIR MODEL.gguf WORK [--scale X] [--only TASK]     lm-eval's side (25 minutes of CPU for SmolLM2: cached)
       python tests/oracle/eval/parity.py table DATA_DIR MODEL.gguf WORK [--precision f32] [--only TASK] [--markdown] [--keep]
       python tests/oracle/eval/parity.py diff DATA_DIR MODEL.gguf WORK TASK [--precision f32]        documents with another verdict
(lm_eval 0.4.13 with torch and transformers, gguf; build/baimo.) WORK keeps the peer's folder of the model (tests/oracle/eval/peer.py) and its
samples: a task that is there is not run again; --keep does the same for our side. --scale: of the numbers of documents below. A verdict is the 0 or 1 of a document under a
metric and filter; "same" is how many of them are equal. The standard error is lm-eval's, of the peer's score.
"""
import argparse, json, math, os, shutil, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
# task: documents; MMLU's six subjects are pooled in the table
TASKS = {"arc_easy": 300, "arc_challenge": 300, "hellaswag": 250, "piqa": 300, "winogrande": 300, "lambada_openai": 200, "gsm8k": 50,
         "bbh_fewshot_date_understanding": 50}
SUBJECTS = ["abstract_algebra", "astronomy", "formal_logic", "high_school_biology", "international_law", "moral_disputes"]
TASKS.update({"mmlu_" + s: 25 for s in SUBJECTS})
LEAST = {"gsm8k": 50, **{"mmlu_" + s: 20 for s in SUBJECTS}}             # whatever --scale says


def overlays(data, work):
    """YAML files of the tasks over local data, which both read."""
    import check_prompts as c
    folder, fresh, out = os.path.join(work, "tasks"), tempfile.mkdtemp(), {}
    os.makedirs(folder, exist_ok=True)
    made = [(os.path.join(folder, kind + ".jsonl"), name) for kind, (_, _, name) in c.eval_data.CONVERT.items()]
    if not all(os.path.exists(path) for path, _ in made):
        made = list(c.eval_data.converted(data, folder))
    files = {name: path for path, name in c.eval_data.found(data) + made}
    for where, _, names in sorted(os.walk(os.path.join(c.ROOT, "tasks"))):
        for name in names:
            if name.endswith(".yaml") and name[:-5] in TASKS:
                out[name[:-5]] = os.path.join(folder, name)
                os.replace(shutil.move(c.overlay(os.path.join(where, name), files, fresh), folder + "/." + name), out[name[:-5]])
    shutil.rmtree(fresh)
    return out


def kept(work, model, task, limit):
    return os.path.join(work, "peer", model, f"{task}.{limit}.json")


def run_peer(args, limits):
    import peer
    folder = os.path.join(args.work, "hf-" + args.name)
    paths = overlays(args.data, args.work)
    peer.make(args.gguf, folder)
    import lm_eval, torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    torch.set_num_threads(args.threads)
    lm = None
    for task, limit in limits.items():
        path = kept(args.work, args.name, task, limit)
        if os.path.exists(path):
            continue
        lm = lm or HFLM(pretrained=folder, dtype="float32", batch_size=args.batch, device="cpu")
        began, cpu = time.time(), time.process_time()
        r = lm_eval.simple_evaluate(model=lm, tasks=[paths[task]], limit=limit, log_samples=True, bootstrap_iters=1000,
                                    task_manager=TaskManager(include_defaults=False))
        seconds, cpu = time.time() - began, time.process_time() - cpu
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "w", encoding="utf-8") as f:
            json.dump({"results": r["results"][task], "seconds": seconds, "cpu_seconds": cpu, "samples": [
                {"doc_id": s["doc_id"], "filter": s["filter"], "resps": s["resps"], "filtered": s["filtered_resps"],
                 "values": {m: s[m] for m in s["metrics"]}} for s in r["samples"][task]]}, f, default=str)
        os.replace(path + ".new", path)
        print(f"{args.name} {task}: {limit} documents, {seconds:.0f} s, {cpu:.0f} s of CPU", file=sys.stderr, flush=True)


def run_ours(args, limits):
    """{task: (results, lines)}; one run per number of documents."""
    paths, out = overlays(args.data, args.work), {}
    env = {**os.environ, "BAIMO_HOME": os.path.join(args.work, "home")}
    call = lambda *a: subprocess.run([args.program, *a], env=env, capture_output=True, text=True)
    call("shelf", "add", args.gguf, "--name", args.name)
    for limit in sorted(set(limits.values())):
        tasks = [t for t in limits if limits[t] == limit]
        name = f"{args.name}-{args.precision}-{limit}" + ("-" + tasks[0] if len(tasks) == 1 else "")
        extra = ["--precision", args.precision] if args.precision != "fast" else []
        p = call("eval", "show", name, "--json") if args.keep else None
        if p is None or p.returncode != 0:
            p = call("eval", "run", "--model", args.name, "--name", name, "--limit", str(limit), "--json", "--tasks",
                     ",".join(paths[t] for t in tasks), *extra)
        if p.returncode != 0:
            sys.exit(p.stderr)
        results = json.loads(p.stdout)
        for t in tasks:
            lines = call("eval", "show", name, "--samples", "--task", t).stdout
            out[t] = results["results"][t], [json.loads(line) for line in lines.split("\n") if line]
    return out


def single(values):
    return all(isinstance(v, (int, float)) for v in values)


def compare(theirs, ours):
    """{(metric, filter): (their values, our values)} of documents that both have, where the values are one number each."""
    lines, out = {x["doc_id"]: x for x in ours if "error" not in x}, {}
    for s in theirs:
        if s["doc_id"] not in lines:
            continue
        mine = lines[s["doc_id"]]["filters"][s["filter"]]["metrics"]
        for metric, value in s["values"].items():
            if single([value, mine.get(metric)]):
                out.setdefault((metric, s["filter"]), ([], [], []))          # theirs, ours, document
                for into, v in zip(out[metric, s["filter"]], (float(value), float(mine[metric]), s["doc_id"])):
                    into.append(v)
    return out


def distances(theirs, ours):
    """|difference| of log-likelihoods, request by request."""
    lines = {x["doc_id"]: x for x in ours if "error" not in x}
    pairs = [(float(r[0][0]), q["logprob"]) for s in theirs if s["doc_id"] in lines and s["filter"] == theirs[0]["filter"]
             for r, q in zip(s["resps"], lines[s["doc_id"]].get("requests", [])) if isinstance(r[0], (list, tuple))]
    return [abs(a - b) for a, b in pairs]


def error_of(values):
    n, mean = len(values), sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else 0


def rows_of(args, limits):
    ours, rows = run_ours(args, limits), {}
    for task, limit in limits.items():
        theirs = json.load(open(kept(args.work, args.name, task, limit), encoding="utf-8"))
        label = "mmlu" if task.startswith("mmlu_") else task
        for key, values in compare(theirs["samples"], ours[task][1]).items():
            if set(values[0]) <= {0.0, 1.0}:
                row = rows.setdefault((label, *key), ([], [], [], []))
                for into, v in zip(row, (*values[:2], distances(theirs["samples"], ours[task][1]))):
                    into.extend(v)
    return rows


def table(args, limits):
    rows, bad = rows_of(args, limits), 0
    sep = " | " if args.markdown else "  "
    for (task, metric, name), (theirs, ours, far, _) in rows.items():
        same, error = sum(a == b for a, b in zip(theirs, ours)), error_of(theirs)
        score = lambda v: sum(v) / len(v)
        ok = same >= 0.98 * len(theirs) and abs(score(ours) - score(theirs)) <= error
        bad += not ok
        label = metric + ("" if name == "none" else f", {name}")
        cells = [f"{task:31}", f"{label:28}", f"{len(theirs):4}", f"{score(ours):.4f}", f"{score(theirs):.4f}", f"{error:.4f}",
                 f"{100 * same / len(theirs):5.1f} %", f"{sum(far) / len(far):.4f}" if far else "", "" if ok else "MISSED"]
        print(("| " if args.markdown else "") + sep.join(cells) + (" |" if args.markdown else ""))
    return 1 if bad else 0


def diff(args, limits):
    theirs = json.load(open(kept(args.work, args.name, args.task, limits[args.task]), encoding="utf-8"))
    _, lines = run_ours(args, {args.task: limits[args.task]})[args.task]
    by_id = {s["doc_id"]: s for s in theirs["samples"]}
    for (metric, name), (a, b, ids) in compare(theirs["samples"], lines).items():
        for x, y, i in zip(a, b, ids):
            if x != y:
                line = next(z for z in lines if z["doc_id"] == i)
                mine = [round(q["logprob"], 3) for q in line.get("requests", [])] or line["responses"]
                his = [round(float(r[0][0]), 3) if isinstance(r[0], (list, tuple)) else r[0] for r in by_id[i]["resps"]]
                print(f"{metric},{name} document {i}: {y} here, {x} there; target {line['target']}\n  here  {mine}\n  there {his}")
    return 0


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("what", choices=("peer", "table", "diff")), p.add_argument("data"), p.add_argument("gguf"), p.add_argument("work")
    p.add_argument("task", nargs="?"), p.add_argument("--scale", type=float, default=1), p.add_argument("--only")
    p.add_argument("--precision", default="fast"), p.add_argument("--markdown", action="store_true"), p.add_argument("--keep", action="store_true")
    p.add_argument("--threads", type=int, default=1), p.add_argument("--batch", type=int, default=8)
    args = p.parse_args()
    args.name = os.path.basename(args.gguf).removesuffix(".gguf")
    args.data, args.work = os.path.abspath(args.data), os.path.abspath(args.work)
    args.program = os.environ.get("BAIMO_PROGRAM", os.path.join(HERE, "..", "..", "..", "build", "baimo"))
    only = args.task or args.only
    limits = {t: max(LEAST.get(t, 1), round(n * args.scale)) for t, n in TASKS.items() if not only or t.startswith(only)}
    if args.what != "peer":                              # what the peer has not done yet is left out
        limits = {t: n for t, n in limits.items() if os.path.exists(kept(args.work, args.name, t, n))}
    return {"peer": run_peer, "table": table, "diff": diff}[args.what](args, limits)


if __name__ == "__main__":
    sys.exit(main())
