#!/usr/bin/env python3
"""Vectors of scores, errors, comparisons and random draws, from lm_eval.api.metrics, scikit-learn, scipy and Python's random.
usage: make.py > vectors.h      (a Python with lm_eval 0.4.13, scikit-learn and scipy)"""
import os
import random
import sys

os.environ["DISABLE_MULTIPROC"] = "1"
import lm_eval
import scipy
import sklearn
from scipy import stats
from lm_eval.api import metrics

out = sys.stdout
sys.stdout = sys.stderr
r = random.Random(7)
acc = [float(r.random() < 0.4) for _ in range(40)]
ll = [-5 * r.random() for _ in range(30)]
weighted = [(-50 * r.random(), r.randrange(3, 40)) for _ in range(25)]
classes = [(r.randrange(2), r.randrange(2)) for _ in range(30)]
many = [(r.randrange(4), r.randrange(4)) for _ in range(30)]
other = [float(r.random() < 0.5) for _ in range(40)]
print("/* Written by make.py: lm_eval %s, scikit-learn %s, scipy %s, Python %s. */" %
      (lm_eval.__version__ if hasattr(lm_eval, "__version__") else "0.4.13", sklearn.__version__, scipy.__version__,
       sys.version.split()[0]), file=out)


def one(name, xs):
    print(f"static const bm_value {name}[] = {{ " + ", ".join(f"{{ {x!r}, 0 }}" for x in xs) + " };", file=out)


def two(name, xs):
    print(f"static const bm_value {name}[] = {{ " + ", ".join(f"{{ {a!r}, {b!r} }}" for a, b in xs) + " };", file=out)


one("acc", acc), one("ll", ll), two("weighted", weighted), two("classes", classes), two("many", many), one("other", other)
B = 200
rows = [("BM_SCORE_MEAN", "acc", metrics.mean, acc), ("BM_SCORE_MEDIAN", "ll", metrics.median, ll),
        ("BM_SCORE_PERPLEXITY", "ll", metrics.perplexity, ll), ("BM_SCORE_WEIGHTED_PERPLEXITY", "weighted", metrics.weighted_perplexity, weighted),
        ("BM_SCORE_BITS_PER_BYTE", "weighted", metrics.bits_per_byte, weighted), ("BM_SCORE_F1", "classes", metrics.f1_score, classes),
        ("BM_SCORE_MCC", "classes", metrics.matthews_corrcoef, classes), ("BM_SCORE_MCC", "many", metrics.matthews_corrcoef, many)]
print(f"enum {{ BOOTSTRAP = {B} }};", file=out)
print("static const struct { bm_score_kind how; const bm_value *values; size_t n; double score, error; } scores[] = {", file=out)
for how, name, fn, xs in rows:
    se = metrics.stderr_for_metric(fn, B)
    error = repr(float(se(xs))) if se else "NAN"
    print(f"    {{ {how}, {name}, {len(xs)}, {float(fn(xs))!r}, {error} }},", file=out)
print("};", file=out)
d = [a - b for a, b in zip(acc, other)]
t = stats.ttest_rel(acc, other)
low, high = t.confidence_interval(0.95)
print(f"static const double paired[] = {{ {sum(d) / len(d)!r}, {float(low)!r}, {float(high)!r}, {float(t.pvalue)!r} }};", file=out)
print("static const double student[][3] = { " + ", ".join(
    f"{{ {x!r}, {df!r}, {2 * float(stats.t.sf(x, df))!r} }}" for x in (0.1, 1.0, 2.5, 12.0) for df in (1.0, 7.0, 250.0)) + " };", file=out)
se, n = [0.01, 0.03, 0.02], [100, 50, 400]
print(f"static const double group_errors[] = {{ {float(metrics.pooled_sample_stderr(se, n))!r}, {float(metrics.unweighted_mean_stderr(se))!r} }};", file=out)
print("static const struct { uint64_t seed; double unit; uint64_t below; } draws[] = {", file=out)
for seed in (0, 1, 1234, 2 ** 40 + 5):
    q = random.Random(seed)
    u = q.random()
    print(f"    {{ {seed}u, {u!r}, {q._randbelow(1000003)}u }},", file=out)
print("};", file=out)
print("static const struct { uint64_t seed; size_t n, k, out[12]; } samples[] = {", file=out)
for seed, n, k in ((1234, 10, 5), (1234, 1000, 5), (5, 90, 12), (5, 86, 12), (1, 4, 4), (9, 100000, 12)):
    print(f"    {{ {seed}u, {n}, {k}, {{ {', '.join(map(str, random.Random(seed).sample(range(n), k)))} }} }},", file=out)
print("};", file=out)
