#!/usr/bin/env python3
"""Prompts of every shipped task beside lm-eval's, on the same task file and the same data, for the first documents of each.

usage: python tests/oracle/eval/check_prompts.py DATA_DIR [--limit 50] [--only NAME] [--hashes FILE]
(lm_eval 0.4.13, datasets; build/tests/eval/dump_prompts built.) DATA_DIR: the folder that tools/eval-data.py knows. Each task runs plain,
with examples, and through a chat template in one turn and in several. 
tests/oracle/eval/prompts.txt, which tests/eval/test_prompt_oracle.c compares, comes of DATA_DIR tests/oracle/eval/rows (made-up rows in the sets'
forms) and --hashes: a line is task/examples/chat, documents, SHA-256 over context NUL continuation SOH of every request.
"""
import argparse, hashlib, importlib.util, json, os, subprocess, sys, tempfile

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
import logging
logging.disable(logging.WARNING)
import yaml
from lm_eval.tasks import TaskManager

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
spec = importlib.util.spec_from_file_location("eval_data", os.path.join(ROOT, "tools", "eval-data.py"))
eval_data = importlib.util.module_from_spec(spec)
spec.loader.exec_module(eval_data)


def chat_template(messages, add_generation_prompt=True):
    out = ""
    for i, m in enumerate(messages):
        out += f"<|{m['role']}|>{m['content']}"
        if add_generation_prompt or i + 1 < len(messages):
            out += "<|end|>"
    return out + ("<|assistant|>" if add_generation_prompt else "")


class Loader(yaml.SafeLoader):
    pass


Loader.add_constructor("!function", lambda loader, node: str(node.value))


def raw_config(path):
    """A task file with its includes, functions as their names."""
    config = yaml.load(open(path, encoding="utf-8"), Loader=Loader)
    include = config.pop("include", None)
    return {**raw_config(os.path.join(os.path.dirname(path), include)), **config} if include else config


def overlay(path, files, folder):
    """A file that includes the task and names the local data; lm-eval and baimo read this same file."""
    config = raw_config(path)
    if config["dataset_path"] == "json":
        data = {s: os.path.join(os.path.dirname(path), f) for s, f in config["dataset_kwargs"]["data_files"].items()}
        builder, kwargs = "json", {}
    else:
        name = config["dataset_path"] + (f"/{config['dataset_name']}" if config.get("dataset_name") else "")
        data = {key.split(":")[1]: file for key, file in files.items() if key.split(":")[0] == name}
        kwargs = dict(config.get("dataset_kwargs") or {})
        builder = "csv" if any(f.endswith((".csv", ".tsv")) for f in data.values()) else "json"
        if not data:
            return None
    out = os.path.join(folder, config["task"] + ".yaml")
    with open(out, "w", encoding="utf-8") as f:
        yaml.safe_dump({"include": path, "dataset_path": builder, "dataset_name": None, "dataset_kwargs": {**kwargs, "data_files": data}}, f)
    return out


def theirs(path, limit, shots, chat, seed):
    task = list(TaskManager(include_defaults=False).load(path)["tasks"].values())[0]
    if shots is not None and task.config.num_fewshot != 0:
        task.set_config("num_fewshot", shots)
    elif task.config.num_fewshot is None:
        task.set_config("num_fewshot", 0)
    task.set_fewshot_seed(seed)
    task.build_all_requests(limit=limit, apply_chat_template=chat > 0, fewshot_as_multiturn=chat == 2, chat_template=chat_template if chat else None)
    out = {}
    for inst in task.instances:
        args = inst.args
        if task.OUTPUT_TYPE == "generate_until":
            pair = [args[0], None]
        elif task.OUTPUT_TYPE == "loglikelihood_rolling":
            pair = ["", args[0]]
        else:
            pair = [args[0], args[1]]
        out.setdefault(inst.doc_id, []).append(pair)
    return [out[i] for i in sorted(out)]


def ours(path, limit, shots, chat, seed):
    program = os.path.join(ROOT, "build", "tests", "eval", "dump_prompts")
    run = subprocess.run([program, path, str(limit), str(seed), "-" if shots is None else str(shots), str(chat)], capture_output=True, text=True)
    if run.returncode != 0:
        return run.stderr.strip()
    return [json.loads(line) for line in run.stdout.split("\n") if line]


def compare(name, path, limit, hashes, seed=1234):
    bad = 0
    for shots, chat in ((None, 0), (5, 0), (2, 1), (2, 2), (0, 1)):
        if shots and "wikitext" in name:
            continue
        got = ours(path, limit, shots, chat, seed)
        try:
            want = theirs(path, limit, shots, chat, seed)
        except AssertionError as e:                      # fewer examples than wanted
            bad += not isinstance(got, str)
            print(f"{name} shots={shots} chat={chat}: refused by lm-eval ({e}), by baimo: {got if isinstance(got, str) else 'NOT'}")
            continue
        if isinstance(got, str):
            print(f"{name} shots={shots} chat={chat}: refused: {got}")
            bad += 1
            continue
        wrong = [i for i, (a, b) in enumerate(zip(want, got)) if a != b["requests"]] + ([-1] if len(want) != len(got) else [])
        if wrong:
            i = wrong[0]
            print(f"{name} shots={shots} chat={chat}: {len(wrong)} of {len(want)} differ; first {i}\n  lm-eval {json.dumps(want[i], ensure_ascii=False)[:900]}\n"
                  f"  baimo   {json.dumps(got[i].get('error') or got[i]['requests'], ensure_ascii=False)[:900]}")
        bad += len(wrong) > 0
        text = "".join(f"{context}\0{continuation or ''}\1" for requests in want for context, continuation in requests)
        hashes[f"{name}/{'-' if shots is None else shots}/{chat}"] = [len(want), hashlib.sha256(text.encode()).hexdigest()]
    return bad


def main():
    p = argparse.ArgumentParser()
    p.add_argument("data"), p.add_argument("--limit", type=int, default=50), p.add_argument("--only"), p.add_argument("--hashes")
    args = p.parse_args()
    args.data = os.path.abspath(args.data)
    scratch, hashes, bad, n = tempfile.mkdtemp(), {}, 0, 0
    files = {name: path for path, name in eval_data.found(args.data) + list(eval_data.converted(args.data, scratch))}
    for folder, _, names in sorted(os.walk(os.path.join(ROOT, "tasks"))):
        for name in sorted(n for n in names if n.endswith(".yaml")):
            path = os.path.join(folder, name)
            config = raw_config(path)
            if "group" in config or (args.only and args.only not in config["task"]):
                continue
            over = overlay(path, files, scratch)
            if over is None:
                print(f"{config['task']}: no data")
                continue
            bad += compare(config["task"], over, args.limit, hashes)
            n += 1
    if args.hashes:
        with open(args.hashes, "w") as f:
            f.writelines(f"{key} {n} {sha}\n" for key, (n, sha) in sorted(hashes.items()))
    print(f"{n} tasks, {len(hashes)} settings compared, {bad} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
