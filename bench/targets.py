"""The targets: ratios to llama.cpp taken side by side in one run, and figures of our own. (operator, value, which figure)."""

RATIOS = {  # case: (SmolLM2-135M, Qwen2.5-Coder-0.5B)
    "prefill512": (6, 2.8), "prefill4096": (5, 2.8), "decode": (1.4, 1.25), "decode4096": (2.0, 1.5), "decode4096-int8": (2.5, 1.7),
    "parallel4": (3, 2), "parallel16": (5, 3), "parallel32": (6, 3), "http16": (5, 3),
}
SHAPES = {"prefill512": 2.0, "decode": 1.0, "parallel16": 3.0}
AVX2 = {"prefill512": 2.0, "parallel16": 2.0}
OWN = {
    "http16-first": ("<=", 0.25, "ratio"),          # time to first token
    "start-first": ("<=", 1.5, "ratio"), "start-later": ("<=", 0.1, "baimo"),
    "rss": ("<=", 1.0, "ratio"), "second-pss": ("<=", 0.1, "share"),
    "beside": ("<=", 2.0, "stretch"),
    "prefix-later": ("<=", 0.1, "share"), "prefix-once": ("<=", 1.1, "computed"),
    "speculation-rewrite": (">=", 2.0, "gain"), "speculation-random": (">=", 0.97, "gain"),
    "serial": ("<=", 0.02, "baimo"), "threads16": (">=", 1, "same"), "quota": (">=", 0.9, "share"),
}


def of(group, case, model):
    if group in ("inference", "http"):
        pair = RATIOS.get(case)
        known = 0 if "smollm2" in model.lower() else 1 if "qwen2.5-coder" in model.lower() else None
        if pair and known is not None:
            return ">=", pair[known], "ratio"
    if group == "shapes" and case in SHAPES:
        return ">=", SHAPES[case], "ratio"
    if group == "avx2" and case in AVX2:
        return ">=", AVX2[case], "ratio"
    for name, target in OWN.items():
        if case == name or case.startswith(name + ":"):
            return target
    return None
