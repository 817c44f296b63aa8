#!/usr/bin/env python3
"""Vectors for tests/engine/test_sampler.c, computed in float64 by numpy, independently of the C code.
usage: make_vectors.py > vectors.h      (made with Python 3.11, numpy 2.x; any numpy gives the same bytes)

Semantics, in this order: repetition penalty (of prompt and answer: divides what is positive, multiplies the rest, as transformers
and llama.cpp do), frequency and presence (of the answer only, as OpenAI documents), bias, temperature, top-k, top-p (the smallest
set with at least that mass), min-p (relative to the most likely). The draw walks the kept tokens, best first when top-k or top-p
cut, else by id, until the sum passes u. Ties: the lower id first. Cases near a border, where float32 could decide otherwise, are
left out."""
import numpy as np

def logits(n, seed):
    out, state = np.empty(n, np.float32), seed
    for i in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[i] = np.float32((state >> 33) % 20000 / 1000 - 10)
    return out

def mix(z):
    z = (z + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31

def unit(seed, choice, position):
    return (mix(mix(mix(seed) ^ choice) ^ position) >> 11) * 2.0**-53

def sample(x, c, u):
    """The token, or None when the case is too near a border."""
    x = x.astype(np.float64).copy()
    for t in set(c["prompt"]) | set(c["answer"]):
        x[t] = x[t] / c["rep"] if x[t] > 0 else x[t] * c["rep"]
    for t in set(c["answer"]):
        x[t] -= c["answer"].count(t) * c["freq"] + c["pres"]
    for t, b in c["bias"]:
        x[t] += b
    if c["temp"] == 0:
        best = np.sort(x)[::-1]
        return int(np.argmax(x)) if best[0] - best[1] > 1e-4 or best[0] == best[1] else None
    x /= c["temp"]
    n, cut = len(x), False
    order = np.lexsort((np.arange(n), -x))
    p = np.exp(x - x.max())
    keep = order
    if 0 < c["k"] < n:
        keep, cut = order[:c["k"]], True
    if c["p"] < 1:
        cut = True
        cum = np.cumsum(p[keep]) / p[keep].sum()
        if np.min(np.abs(cum - c["p"])) < 1e-4 * min(c["p"], 1):
            return None
        keep = keep[:int(np.searchsorted(cum, c["p"])) + 1]
    if c["min"] > 0:
        if np.min(np.abs(p - c["min"])) < 1e-4 * c["min"]:
            return None
        keep = np.array([i for i in keep if p[i] >= c["min"]])
    if not cut:
        keep = np.sort(keep)
    cum = np.cumsum(p[keep]) / p[keep].sum()
    at = int(np.searchsorted(cum, u, side="right"))
    if np.min(np.abs(cum[:-1] - u), initial=1) < 2e-5:
        return None
    return int(keep[min(at, len(keep) - 1)])

def cases():
    rng = np.random.default_rng(3)
    number = 0
    while number < 400:
        n = int(rng.choice([17, 64, 65, 1000, 5000]))
        pick = lambda a: a[int(rng.integers(len(a)))]
        f32 = lambda v: float(np.float32(v))
        c = dict(n=n, lseed=int(rng.integers(1, 2**31)), temp=f32(pick([0, 0.25, 0.7, 1, 1, 1.5, 4])), k=pick([0, 0, 1, 5, 40, 200]),
                 p=f32(pick([1, 1, 0.3, 0.9, 0.95, 0.999])), min=f32(pick([0, 0, 0.02, 0.3])), rep=f32(pick([1, 1, 1.1, 1.7])),
                 freq=f32(pick([0, 0, 0.5, -0.4])), pres=f32(pick([0, 0, 0.8])),
                 prompt=[int(v) for v in rng.integers(0, n, int(rng.integers(0, 12)))],
                 answer=[int(v) for v in rng.integers(0, n, int(rng.integers(0, 12))) // 3],
                 bias=[(int(rng.integers(0, n)), f32(pick([-100, 5, 12, -2])))] if rng.integers(3) == 0 else [],
                 seed=int(rng.integers(0, 2**63)), choice=int(rng.integers(0, 4)), position=int(rng.integers(0, 5000)))
        if c["rep"] == 1 and c["freq"] == 0 and c["pres"] == 0:
            c["prompt"], c["answer"] = [], []
        if c["rep"] == 1:
            c["prompt"] = []
        x = logits(n, c["lseed"])
        token = sample(x, c, unit(c["seed"], c["choice"], c["position"]))
        if token is None:
            continue
        c["token"] = token
        x = x.astype(np.float64)
        c["lp"] = float(x[token] - x.max() - np.log(np.exp(x - x.max()).sum()))
        number += 1
        yield c

print("/* Made by make_vectors.py: settings, what was counted, and the token that numpy draws. */")
print("static const struct sampling_vector {\n    int n_vocab;\n    uint64_t logits_seed;\n    float temperature;\n    int top_k;\n"
      "    float top_p, min_p, repetition, frequency, presence;\n    int n_prompt, prompt[12], n_answer, answer[12], n_bias, bias_token;\n"
      "    float bias;\n    uint64_t seed;\n    uint32_t choice, position;\n    int32_t token;\n    double logprob;\n} sampling_vectors[] = {")
for c in cases():
    arr = lambda a: "{ " + ", ".join(map(str, a or [0])) + " }"
    b = c["bias"][0] if c["bias"] else (0, 0.0)
    fl = lambda v: "%.9gf" % v if "." in "%.9g" % v or "e" in "%.9g" % v else "%.9g" % v
    print("    { %d, %du, %s, %d, %s, %s, %s, %s, %s, %d, %s, %d, %s, %d, %d, %s, %du, %d, %d, %d, %.9g }," % (
        c["n"], c["lseed"], fl(c["temp"]), c["k"], fl(c["p"]), fl(c["min"]), fl(c["rep"]), fl(c["freq"]), fl(c["pres"]),
        len(c["prompt"]), arr(c["prompt"]), len(c["answer"]), arr(c["answer"]), len(c["bias"]), b[0], fl(b[1]),
        c["seed"], c["choice"], c["position"], c["token"], c["lp"]))
print("};")
