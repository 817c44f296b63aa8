#!/usr/bin/env python3
"""Data sets for the shipped evaluation tasks (tasks/): three that need another form, and all of a folder registered at once.

usage: tools/eval-data.py piqa DIR              valid.jsonl and valid-labels.lst to rows with a label, on standard output
       tools/eval-data.py hellaswag FILE        the six-line text form (context, label, four endings) to rows
       tools/eval-data.py wikitext FILE         wiki.test.raw to one row an article
       tools/eval-data.py list DIR              which files of DIR answer which task's data: FILE<tab>OWNER/SET[/CONFIG]:SPLIT
       tools/eval-data.py add DIR [PROGRAM]     register them all: `PROGRAM data add FILE --as ...` (default build/baimo); the three
                                                converted ones are written to $BAIMO_HOME/eval-data (default ~/.local/share/baimo)
"""
import json, os, re, subprocess, sys


def piqa(folder):
    labels = open(os.path.join(folder, "valid-labels.lst"), encoding="utf-8").read().split()
    rows = [json.loads(line) for line in open(os.path.join(folder, "valid.jsonl"), encoding="utf-8") if line.strip()]
    if len(rows) != len(labels):
        sys.exit(f"eval-data: {len(rows)} rows and {len(labels)} labels")
    return [{**{k: row[k] for k in ("goal", "sol1", "sol2")}, "label": int(label)} for row, label in zip(rows, labels)]


def hellaswag(path):
    lines = open(path, encoding="utf-8").read().split("\n")
    while lines and lines[-1] == "":
        lines.pop()
    if len(lines) % 6:
        sys.exit(f"eval-data: {len(lines)} lines are not sixes")
    return [{"query": lines[i], "choices": lines[i + 2:i + 6], "gold": int(lines[i + 1])} for i in range(0, len(lines), 6)]


def wikitext(path):
    """An article begins at a heading of one level (" = Title = ") that blank lines surround."""
    pages, lines = [[]], open(path, encoding="utf-8").read().split("\n")
    for i, line in enumerate(lines):
        blank_before = i == 0 or lines[i - 1].strip() == ""
        if re.fullmatch(r" = [^=].*[^=] = ", line) and blank_before and i + 1 < len(lines) and lines[i + 1].strip() == "":
            pages.append([])
        pages[-1].append(line)
    return [{"page": "\n".join(page)} for page in pages if "".join(page).strip()]


CONVERT = {"piqa": (piqa, "piqa", "baber/piqa:validation"),
           "hellaswag": (hellaswag, "hellaswag/hellaswag_val_q0.txt", "Rowan/hellaswag:validation"),
           "wikitext": (wikitext, "wikitext2/wiki.test.raw", "EleutherAI/wikitext_document_level/wikitext-2-raw-v1:test")}
FILES = [("arc_easy/test.jsonl", "allenai/ai2_arc/ARC-Easy:test"), ("arc_challenge/test.jsonl", "allenai/ai2_arc/ARC-Challenge:test"),
         ("winogrande/winogrande.jsonl", "allenai/winogrande/winogrande_xl:validation"),
         ("openbookqa/openbook_qa.jsonl", "allenai/openbookqa/main:test"),
         ("commonsense_qa/commonsense_qa.jsonl", "tau/commonsense_qa:validation"),
         ("lambada/lambada_openai.jsonl", "EleutherAI/lambada_openai/default:test"),
         ("truthfulqa/TruthfulQA.csv", "truthfulqa/truthful_qa/multiple_choice:validation"),
         ("gsm8k/test_part1.jsonl", "openai/gsm8k/main:test"), ("gsm8k/train.jsonl", "openai/gsm8k/main:train"),
         ("mgsm/mgsm_en.tsv", "juletxara/mgsm/en:test"), ("mgsm/mgsm_zh.tsv", "juletxara/mgsm/zh:test"),
         ("ifeval/input_data.jsonl", "google/IFEval:train"), ("xcopa_zh/val.zh.jsonl", "cambridgeltl/xcopa/zh:validation"),
         ("safetybench_zh/safetybench_zh.jsonl", "thu-coai/SafetyBench/zh:test"),
         ("crows_pairs/crows_pairs_anonymized.csv", "jannalu/crows_pairs_multilingual/english:test")]
FILES += [(f"agieval_gaokao/gaokao-{s}.jsonl", f"hails/agieval-gaokao-{s}:test") for s in ("biology", "geography", "history", "mathqa")]


def found(folder):
    """(file, name) of all that is there; folders of many files by their listing."""
    files = list(FILES)
    for sub, split in (("mmlu/test", "test"), ("mmlu/dev", "dev")):
        base = os.path.join(folder, sub)
        for name in sorted(os.listdir(base)) if os.path.isdir(base) else []:
            if name.endswith(f"_{split}.csv"):
                files.append((f"{sub}/{name}", f"cais/mmlu/{name[:-len(split) - 5]}:{split}"))
    base = os.path.join(folder, "bbh")
    for name in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        if name.endswith(".json"):
            files.append((f"bbh/{name}", f"lukaemon/bbh/{name[:-5]}:test"))
    return [(os.path.join(folder, f), name) for f, name in files if os.path.exists(os.path.join(folder, f))]


def converted(folder, out):
    os.makedirs(out, exist_ok=True)
    for kind, (make, source, name) in CONVERT.items():
        path = os.path.join(folder, source)
        ready = os.path.join(folder, f"{kind}.jsonl")
        if os.path.exists(ready):                        # converted before
            yield ready, name
        if os.path.exists(ready) or not os.path.exists(path):
            continue
        target = os.path.join(out, f"{kind}.jsonl")
        with open(target, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in make(path))
        yield target, name


def add(folder, program):
    home = os.environ.get("BAIMO_HOME") or os.path.expanduser("~/.local/share/baimo")
    failed = 0
    for path, name in found(folder) + list(converted(folder, os.path.join(home, "eval-data"))):
        extra = ["--part", "examples"] if "/bbh/" in name else ["--no-header"] if "/mmlu/" in name else []
        failed += subprocess.run([program, "data", "add", path, "--as", name, *extra]).returncode != 0
    return 1 if failed else 0


def main(argv):
    if len(argv) >= 3 and argv[1] in CONVERT:
        for row in CONVERT[argv[1]][0](argv[2]):
            print(json.dumps(row, ensure_ascii=False))
        return 0
    if len(argv) == 3 and argv[1] == "list":
        ready = [(os.path.join(argv[2], f"{kind}.jsonl"), name) for kind, (_, _, name) in CONVERT.items()]
        for path, name in found(argv[2]) + [(path, name) for path, name in ready if os.path.exists(path)]:
            print(f"{path}\t{name}")
        return 0
    if len(argv) in (3, 4) and argv[1] == "add":
        return add(argv[2], argv[3] if len(argv) == 4 else "build/baimo")
    print(__doc__.strip(), file=sys.stderr)
    return 0 if argv[1:] in (["--help"], ["-h"]) else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
