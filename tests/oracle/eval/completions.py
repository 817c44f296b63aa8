#!/usr/bin/env python3
"""`lm_eval --model local-completions`, unmodified, against `baimo serve`, beside `baimo eval run` on the same model: the same numbers?

usage: python tests/oracle/eval/completions.py DATA_DIR MODEL.gguf WORK [--limit N] [--only TASK] [--modes 'ids; texts']
(lm_eval[api] 0.4.13 with transformers, gguf; build/baimo.) Requests go as token ids and as texts, one by one and several at once. Per document:
log-likelihoods must agree to the digits of the JSON (floats: 1e-5 of a sum), greediness, generated texts and values of metrics exactly.
WORK as for parity.py: the tokenizer is that of peer.py.
"""
import argparse, glob, json, os, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import parity, peer

TASKS = {"arc_easy": 1, "lambada_openai": 1, "mmlu_astronomy": 1, "gsm8k": 0.2, "bbh_fewshot_date_understanding": 0.5}        # of --limit
MODES = {"ids": "", "ids, 4 at once": ",num_concurrent=4", "texts": ",tokenized_requests=False",
         "texts, 4 at once": ",tokenized_requests=False,num_concurrent=4"}


def serve(args, env):
    p = subprocess.Popen([args.program, "serve", "--port", "0", "--model", args.name, "--ctx", str(args.ctx)], env=env, stdout=subprocess.PIPE, text=True)
    for line in p.stdout:
        words = line.split()
        if words and words[0] == "page":
            return p, words[1].rstrip("/")
    sys.exit("completions: the server did not start")


def theirs(args, url, limits, paths, mode, out):
    """{task: its samples}; one lm_eval for each number of documents."""
    model = f"model={args.name},base_url={url}/v1/completions,tokenizer={args.work}/hf-{args.name},max_length={args.ctx}{MODES[mode]}"
    for limit in sorted(set(limits.values())):
        run = subprocess.run([sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args", model, "--tasks",
                              ",".join(paths[t] for t in limits if limits[t] == limit), "--limit", str(limit), "--log_samples", "--output_path", out],
                             capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(run.stderr[-3000:])
    return {t: [json.loads(line) for f in glob.glob(f"{out}/**/samples_{t}_*.jsonl", recursive=True) for line in open(f, encoding="utf-8")] for t in limits}


def answers(sample):
    """What the model answered, of lm_eval's sample: [(log-likelihood, greedy)] or texts."""
    return [(float(r[0][0]), r[0][1] in (True, "True")) if isinstance(r[0], (list, tuple)) else r[0] for r in sample["resps"]]


def compare(samples, lines):
    """(documents, worst difference of a log-likelihood, what differs)"""
    worst, bad, seen = 0.0, [], set()
    for s in samples:
        line = lines[s["doc_id"]]
        seen.add(s["doc_id"])
        if "responses" in line:
            if answers(s) != line["responses"]:
                bad.append((s["doc_id"], answers(s), line["responses"]))
        else:
            for (a, greedy), q in zip(answers(s), line["requests"]):
                worst = max(worst, abs(a - q["logprob"]) / max(1, abs(a)))
                if greedy != q["greedy"]:
                    bad.append((s["doc_id"], "greedy", greedy))
        for metric, value in line["filters"][s["filter"]]["metrics"].items():
            if isinstance(value, float) and isinstance(s.get(metric), (int, float)) and abs(float(s[metric]) - value) > 1e-5 * max(1, abs(value)):
                bad.append((s["doc_id"], metric, s[metric], value))
    return len(seen), worst, bad


def ours(args, env, limits, paths):
    """{task: {document: its line}}; the server that runs does the work."""
    out = {}
    for t, limit in limits.items():
        name = f"api-{t}-{limit}"
        subprocess.run([args.program, "eval", "run", "--model", args.name, "--tasks", paths[t], "--limit", str(limit), "--name", name, "--ctx", str(args.ctx),
                        "--bootstrap", "-1"], env=env, check=True, capture_output=True)
        shown = subprocess.run([args.program, "eval", "show", name, "--samples"], env=env, check=True, capture_output=True, text=True).stdout
        out[t] = {x["doc_id"]: x for x in map(json.loads, shown.splitlines())}
    return out


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("data"), p.add_argument("gguf"), p.add_argument("work")
    p.add_argument("--limit", type=int, default=20), p.add_argument("--only"), p.add_argument("--ctx", type=int, default=4096)
    p.add_argument("--modes", type=lambda v: v.split("; "), default=list(MODES))
    args = p.parse_args()
    args.name = os.path.basename(args.gguf).removesuffix(".gguf")
    args.data, args.work = os.path.abspath(args.data), os.path.abspath(args.work)
    args.program = peer.PROGRAM
    env = {**os.environ, "BAIMO_HOME": os.path.join(args.work, "api-home")}
    peer.make(args.gguf, os.path.join(args.work, "hf-" + args.name))
    paths, failed = parity.overlays(args.data, args.work), 0
    limits = {t: max(1, round(share * args.limit)) for t, share in TASKS.items() if not args.only or t == args.only}
    subprocess.run([args.program, "shelf", "add", args.gguf, "--name", args.name], env=env, capture_output=True)
    mine = ours(args, env, limits, paths)
    server, url = serve(args, env)
    try:
        for i, mode in enumerate(args.modes):
            for t, samples in theirs(args, url, limits, paths, mode, os.path.join(args.work, "api", str(os.getpid()), str(i))).items():
                n, worst, bad = compare(samples, mine[t])
                wrong = bad or n != limits[t] or worst > 1e-5
                failed += bool(wrong)
                print(f"{t:31} {mode:18} {n:4} documents, log-likelihoods within {worst:.1e}: {'DIFFERENT ' + str(bad[:3])[:700] if wrong else 'the same'}",
                      flush=True)
    finally:
        server.terminate()
        server.wait()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
