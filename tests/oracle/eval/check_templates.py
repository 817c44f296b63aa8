#!/usr/bin/env python3
"""Every template of lm-eval's task folder (doc_to_text, doc_to_target, doc_to_choice, description, gen_prefix) over made-up documents, beside
jinja2 as lm-eval sets it up; and what ast.literal_eval makes of the output.

usage: python tests/oracle/eval/check_templates.py [--rounds 6] [--seed 1]          (lm_eval 0.4.13, jinja2 3.1; build/tests/eval/dump_render)
Documents have random values of the types that a template's text suggests; those that jinja2 fails on must fail here too.
"""
import argparse, ast, glob, json, logging, os, random, subprocess, sys

logging.disable(logging.WARNING)
import jinja2.meta, jinja2.nodes as nodes, yaml
import lm_eval.tasks
from lm_eval.utils import env, apply_template

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
KEYS = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix")
TEXTS = ["", " ", "yes", "Wie geht's?", "it's \"q\"\n", " two words ", "中文 문장", "a_b.c", "A", "B", "1", "0", "12", "x; y; z", "[1, 2]", "\\n", "Ünï 🎉", "tab\t", "{}", "no."]


class Loader(yaml.CSafeLoader):
    pass


Loader.add_constructor("!function", lambda loader, node: None)


def collect(folder):
    found = {}

    def walk(key, value):
        if isinstance(value, dict):
            for k, v in value.items():
                walk(k, v)
        elif isinstance(value, list):
            for v in value:
                walk(key, v)
        elif isinstance(value, str) and key in KEYS:
            found[value] = True

    for path in sorted(glob.glob(os.path.join(folder, "**", "*yaml"), recursive=True)):
        try:
            walk("", yaml.load(open(path, "rb"), Loader=Loader))
        except Exception:
            pass
    return list(found)


def value(r, depth=0):
    kind = r.random()
    if kind < 0.5 or depth > 2:
        return r.choice(TEXTS)
    if kind < 0.65:
        return r.choice([0, 1, 2, 3, -1, 10, 2.5, 1e-7, True, False, None])
    if kind < 0.85:
        return [value(r, depth + 1) for _ in range(r.randint(0, 5))]
    return {r.choice(["text", "label", "choices", "answer", "a b"]): value(r, depth + 1) for _ in range(3)}


def shaped(r, tree, name):
    """A value that fits how the template uses the name."""
    fields, items, calls = set(), False, set()
    for n in tree.find_all((nodes.Getattr, nodes.Getitem)):
        if isinstance(n.node, nodes.Name) and n.node.name == name:
            if isinstance(n, nodes.Getattr):
                (calls if n.attr in ("strip", "split", "replace", "lstrip", "rstrip", "capitalize", "index", "join", "lower") else fields).add(n.attr)
            elif isinstance(n.arg, nodes.Const) and isinstance(n.arg.value, str):
                fields.add(n.arg.value)
            else:
                items = True
    if fields:
        return {f: r.choice([[r.choice(TEXTS) for _ in range(5)], r.choice(TEXTS), ["A", "B", "C", "D", "E"], value(r)]) for f in fields}
    if "index" in calls:
        return r.choice([["A", "B", "1", "yes"], [r.choice(TEXTS) for _ in range(5)]])
    if calls:
        return r.choice(TEXTS)
    if items:
        return r.choice([[r.choice(TEXTS) for _ in range(6)], r.choice(TEXTS) + "abcdef", [0, 1, 2, 3]])
    return value(r)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=6), p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    r, cases = random.Random(args.seed), []
    templates = collect(os.path.dirname(lm_eval.tasks.__file__))
    for template in templates:
        tree = env.parse(template)
        names = jinja2.meta.find_undeclared_variables(tree)
        for _ in range(args.rounds if names else 1):
            doc = {n: shaped(r, tree, n) for n in names if r.random() > 0.02}
            case = {"template": template, "doc": doc}
            try:
                want = apply_template(template, doc)
                case["text"] = want
                try:
                    case["literal"] = json.loads(json.dumps(ast.literal_eval(want)))
                except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                    pass
            except Exception as e:
                case["error"] = f"{type(e).__name__}: {e}"
            cases.append(case)
    run = subprocess.run([os.path.join(ROOT, "build", "tests", "eval", "dump_render")], text=True, capture_output=True, check=True,
                         input="".join(json.dumps({k: c[k] for k in ("template", "doc")}) + "\n" for c in cases))
    bad = failed = literals = 0
    for case, line in zip(cases, run.stdout.split("\n")):
        got = json.loads(line)
        failed += "error" in case
        literals += "literal" in case
        ok = ("error" in case) == ("error" in got) and case.get("text") == got.get("text") and case.get("literal") == got.get("literal")
        bad += not ok
        if not ok and bad < 12:
            print(json.dumps(case, ensure_ascii=False)[:700], "\n   baimo", json.dumps(got, ensure_ascii=False)[:300])
    print(f"{len(templates)} templates, {len(cases)} cases ({failed} fail in jinja2, {literals} are literals), {bad} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
