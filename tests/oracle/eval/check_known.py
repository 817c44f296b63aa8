#!/usr/bin/env python3
"""The equivalents of Python functions (src/eval/known.c) beside the functions themselves, on made-up documents, and the hashes of their files.

usage: python tests/oracle/eval/check_known.py [--n 300] [--seed 1]       (lm_eval 0.4.13; build/tests/eval/dump_render)
"""
import argparse, hashlib, importlib, importlib.util, json, logging, os, random, re, subprocess, sys

logging.disable(logging.ERROR)
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
SOURCE = open(os.path.join(ROOT, "src", "eval", "known.c"), encoding="utf-8").read()
PIECES = ["the cat", " sat , and", " [title]", " [x] ", "  ", ". ", "It's", " 's", "s '", " @-@ ", " @,@ ", " ; ", "( a )", "{ b }", "\" q \"", "' r '", "= = =",
          " \u00b0 ", " \n", "\n ", " N ", "\u00dcber", "\u4e2d\u6587", "A", "z!", " ? ", "[ c ]", "/' 7/", "\t", "_"]


def text(r, n=12):
    return "".join(r.choice(PIECES) for _ in range(r.randint(1, n)))


def document(r, name):
    word = lambda: r.choice(["Cat", "dog ran.", "\u00c9t\u00e9", "x", "\u4e2d\u56fd"]) + text(r, 3)
    if "hellaswag" in name:
        return {"activity_label": word(), "ctx_a": text(r), "ctx_b": r.choice(["", text(r), "THE dog"]), "endings": [text(r) for _ in range(4)], "label": str(r.randint(0, 3))}
    if "winogrande" in name:
        return {"sentence": text(r).replace("_", "") + "_" + text(r), "option1": word(), "option2": word(), "answer": r.choice("12")}
    if "wikitext" in name:
        return {"page": text(r, 60)}
    if "crows" in name:
        return {"sent_more": text(r), "sent_less": text(r), "bias_type": r.choice(["age", "race-color", "religion", "gender", "socioeconomic", "autre", "disability"])}
    return {"premise": " " + word() + ".", "choice1": word(), "choice2": word(), "question": r.choice(["cause", "effect"]), "label": r.randint(0, 1)}


class Rows(list):
    """As much of a datasets.Dataset as the functions use."""
    def map(self, f): return Rows({**row, **f(row)} for row in self)
    def filter(self, f): return Rows(row for row in self if f(row))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--n", type=int, default=300), p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    r, bad, hashes = random.Random(args.seed), 0, dict(re.findall(r'#define (\w+) "([0-9a-f]{64})"', SOURCE))
    names = re.findall(r'\{P "([\w.]+)", (\w+), BM_KNOWN_(\w+)', SOURCE)
    names = [x for x in names if not x[0].endswith("_")]
    names += [("xcopa.utils.doc_to_text_" + x, "XCOPA", "TEXT") for x in re.findall(r'XCOPA_TEXT\("(\w+)"', SOURCE)]
    names += [("crows_pairs.utils.filter_" + x, "CROWS", "KEEP") for x in re.findall(r'CROWS_KEEP\("(\w+)"', SOURCE)]
    for name, macro, kind in names:
        module, function = ("lm_eval.tasks." + name).rsplit(".", 1)
        spec = importlib.util.find_spec(module)
        if hashlib.sha256(open(spec.origin, "rb").read()).hexdigest() != hashes[macro]:
            print(f"{name}: the file's hash is another"); bad += 1
        if kind in ("RESULTS", "AGGREGATION"):
            continue
        f = getattr(importlib.import_module(module), function)
        docs = [document(r, name) for _ in range(args.n)]
        run = subprocess.run([os.path.join(ROOT, "build", "tests", "eval", "dump_render")], text=True, capture_output=True, check=True,
                             input="".join(json.dumps({"known": "lm_eval.tasks." + name, "doc": d}) + "\n" for d in docs))
        wrong = 0
        for doc, line in zip(docs, run.stdout.split("\n")):
            got = json.loads(line)
            if kind == "TEXT":
                ok = got.get("text") == f(doc)
            elif kind == "VALUE":
                ok = got.get("literal") == f(doc)
            elif kind == "KEEP":
                ok = got.get("literal") == (len(f(Rows([doc]))) == 1)
            else:
                ok = {**doc, **got.get("literal", {})} == f(Rows([doc]))[0]
            wrong += not ok
            if not ok and wrong == 1:
                print(name, json.dumps(doc)[:400], line[:400])
        bad += wrong > 0
        print(f"{name}: {len(docs)} documents, {wrong} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
