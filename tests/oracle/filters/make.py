#!/usr/bin/env python3
"""What lm-eval 0.4.13's filters make of answers: vectors.json, one case a line.
usage: make.py > vectors.json      (a Python with lm_eval 0.4.13)"""
import json
import random

from lm_eval.filters import build_filter_ensemble

r = random.Random(5)
words = ["The answer is (B).", "#### 1,234.", "answer: C", " 42 ", "A", "(A) red", "it is Red", "GUILTY of romance", "\n", "", "the ANSWER is: D", ": B",
         "#### -7\n#### 8", "[('he', 'PRON'), ('ran', 'VERB')]", "ÄÖ straße", "答案是B。", "Guilty"]
docs = [{"choices": ["red", "green", "blue"]}, {"choices": ["Guilty", "Guilty of Romance", "none."]}]
pipelines = [
    [["take_first", None]],
    [["regex", {"regex_pattern": r"(-?[0-9.,]{2,})|(-?[0-9]+)", "group_select": -1}], ["take_first", None]],
    [["regex", {"regex_pattern": r"#### (\-?[0-9\.\,]+)"}], ["take_first", None]],
    [["regex", {"regex_pattern": r"answer is \(?([A-Z])", "fallback": "none"}], ["majority_vote", None], ["take_first", None]],
    [["remove_whitespace", None], ["lowercase", None], ["take_first", None]],
    [["uppercase", None], ["take_first_k", {"k": 2}]],
    [["map", {"mapping_dict": {"A": "first"}, "default_value": "other"}], ["take_first", None]],
    [["regex_pos", None], ["take_first", None]],
    [["multi_choice_regex", {"group_select": 0, "ignore_case": True, "ignore_punctuation": True, "regex_pattern": r"(\([A-Z]\))"}], ["take_first", None]],
]


class Instance:
    def __init__(self, resps, doc):
        self.resps, self.doc, self.filtered_resps = resps, doc, {}


for steps in pipelines:
    for i in range(14):
        resps = [r.choice(words) for _ in range(3)]
        doc = docs[i % 2]
        one = Instance(resps, doc)
        build_filter_ensemble("f", [(name, args) for name, args in steps]).apply([one])
        print(json.dumps({"steps": steps, "responses": resps, "doc": doc, "out": one.filtered_resps["f"]}, ensure_ascii=False))
