#!/usr/bin/env python3
"""Resolved configurations beside lm-eval's, for task files drawn at random from its folder; and what every file of the folder comes to.

usage: python tests/oracle/eval/check_config.py [--n 200] [--seed 1] [--folder DIR] [--counts]      (lm_eval 0.4.13; build/tests/eval/dump_tasks)
--counts prints the table of docs/EVAL.md. A function is compared by its name: lm-eval prints its source.
"""
import argparse, collections, json, logging, os, random, re, subprocess, sys

logging.disable(logging.WARNING)
import lm_eval.tasks
from lm_eval.config.task import TaskConfig
from lm_eval.tasks._yaml_loader import load_yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def dump(folder):
    files = sorted(os.path.join(d, f) for d, _, names in os.walk(folder) for f in names if f.endswith(".yaml") and "__pycache__" not in d)
    run = subprocess.run([os.path.join(ROOT, "build", "tests", "eval", "dump_tasks"), folder], input="\n".join(files) + "\n",
                         capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.split("\n") if line]


def theirs(path):
    config = load_yaml(path, resolve_func=False)
    metadata = config.get("metadata", {})
    config["metadata"] = metadata if isinstance(metadata, dict) else {"_metadata": metadata}
    for key in ("tag", "group", "task_list"):
        config.pop(key, None)
    return json.loads(json.dumps(TaskConfig(**config).to_dict()))


def plain(value):
    """Functions by their last name, numbers as JSON has them."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, str) and value.startswith("!function "):
        return "function:" + value.rsplit(".", 1)[1]
    if isinstance(value, str) and re.fullmatch(r"/\S+\.\w+", value) and "/lm_eval/tasks/" in value:
        return "function:" + value.rsplit(".", 1)[1]
    return value


def reason(line):
    text = re.sub(r"^.*?\.yaml:\d+: ", "", line["error"])
    text = re.sub(r"!function \S+|'[^']*'|\(file [^)]*\)|\[\d+\]", "", text)
    for pattern, name in (("Python functions are not run|Python class", "needs a Python function or class without an equivalent here"),
                          ("not carried out here|hf_evaluate", "a metric or aggregation that is not carried out here"), ("images|sounds", "needs images or sounds"),
                          ("code that a model", "runs code that a model writes"), ("neither a task", "neither a task nor a group")):
        if re.search(pattern, text):
            return name
    return "wrong in itself (lm-eval fails on it too, or on its members)"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--n", type=int, default=200), p.add_argument("--seed", type=int, default=1), p.add_argument("--counts", action="store_true")
    p.add_argument("--folder", default=os.path.dirname(lm_eval.tasks.__file__))
    args = p.parse_args()
    lines = dump(args.folder)
    kinds = collections.Counter(line["kind"] for line in lines)
    print(f"{len(lines)} files: {kinds['task']} tasks and {kinds['group']} groups are read, {kinds['refused']} are refused by file, line and key")
    if args.counts:
        why = collections.Counter(reason(line) for line in lines if line["kind"] == "refused")
        for name, n in why.most_common():
            print(f"| {name} | {n} |")
        return 0
    tasks = [line for line in lines if line["kind"] == "task"]
    drawn = random.Random(args.seed).sample(tasks, min(args.n, len(tasks)))
    bad = 0
    for line in drawn:
        want, got = plain(theirs(line["file"])), plain(line["config"])
        if want != got:
            bad += 1
            keys = [k for k in {**want, **got} if want.get(k) != got.get(k)]
            print(f"{line['file']}: {keys}\n  lm-eval {json.dumps({k: want.get(k) for k in keys})[:600]}\n  baimo   {json.dumps({k: got.get(k) for k in keys})[:600]}")
    print(f"{len(drawn)} configurations compared, {bad} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
