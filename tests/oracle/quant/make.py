#!/usr/bin/env python3
"""Writes tests/oracle/quant/vectors.h: blocks of every type of src/compute/quant.h and what gguf-py makes of them, as f32 bits.

The oracle is gguf.quants.dequantize, which the ggml project tests against its C reference (ggml-quants.c).
Made with gguf 0.19.0 and numpy 2.4.6.  usage: make.py > vectors.h
Each type gets random blocks, one with all bits set in the values, and blocks whose f16 scales are the extremes: zero, minus
zero, the smallest subnormal, the largest subnormal, the smallest normal, the largest finite, and minus those. Scales that are
infinite or NaN are left out: numpy and C agree on "NaN" there but not on its bits.
To keep the file small it holds the first 4 outputs of a block and the 64-bit FNV-1a of all their bytes.
"""
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

# Where the f16 scales of a block stand.
SCALES = {"F32": [], "F16": [0], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
          "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "IQ1_M": [], "TQ1_0": [52], "TQ2_0": [64],
          "NVFP4": [], "Q1_0": [0], "Q2_0": [0]}
# gguf 0.19.0 has no dequantisers of these two: id, values, bytes, and the levels of ggml-quants.c.
OWN = {"Q1_0": (41, 128, 18, [-1, 1]), "Q2_0": (42, 64, 18, [-1, 0, 1, 2])}
EXTREMES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF]


def fnv(bits):
    h = 0xCBF29CE484222325
    for b in bits.astype("<u4").tobytes():
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def type_id(name):
    return OWN[name][0] if name in OWN else int(T[name])


def block_bytes(name):
    return OWN[name][2] if name in OWN else GGML_QUANT_SIZES[T[name]][1]


def values_of(name, block):
    if name not in OWN:
        return dequantize(block, T[name])
    _, n, size, levels = OWN[name]
    b = block.reshape(-1, size)
    bits, per_byte = (1, 8) if len(levels) == 2 else (2, 4)
    q = (b[:, 2:, None] >> (bits * np.arange(per_byte, dtype=np.uint8))) & (len(levels) - 1)
    return b[:, :2].copy().view("<f2").astype(np.float32) * np.array(levels, dtype=np.float32)[q.reshape(-1, n)]


def blocks(name, rng):
    size = block_bytes(name)
    raw = rng.integers(0, 256, (6 + len(EXTREMES), size), dtype=np.uint8)
    for row, block in enumerate(raw):
        for at in SCALES[name]:
            pick = int(rng.integers(0, 0x7C00)) | int(rng.integers(0, 2)) << 15
            scale = EXTREMES[row - 6] if row >= 6 else pick
            if row >= 6 and at != SCALES[name][0]:
                scale = EXTREMES[(row - 6 + 3) % len(EXTREMES)]
            block[at], block[at + 1] = scale & 255, scale >> 8
    if name == "MXFP4":
        raw[:, 0] = [0, 1, 2, 3, 126, 127, 128, 200, 253, 254, 255, 100, 150, 50]
    if name == "IQ1_M":  # its f16 stands in the top nibbles of four words
        for row, block in enumerate(raw):
            scale = EXTREMES[row - 6] if row >= 6 else int(rng.integers(0, 0x7C00))
            for i in range(4):
                block[49 + 2 * i] = block[49 + 2 * i] & 15 | (scale >> 4 * i & 15) << 4
    if name == "NVFP4":
        raw[:, 0] = [0, 1, 2, 7, 8, 9, 0x3F, 0x40, 0x77, 0x7E, 0x7F, 0x80, 0x88, 0xFF]
    if name in ("F32", "BF16"):  # no infinities, no NaN
        top = raw[:, -2:].view("<u2")
        top[(top & 0x7F80) == 0x7F80] = 0x0001
    if name == "IQ1_M":
        raw[0, :48] = 0xFF
        return raw
    raw[0, [i for i in range(size) if not any(i in (s, s + 1) for s in SCALES[name])]] = 0xFF if name not in ("F32", "BF16", "F16") else 0x3F
    return raw


def main():
    rng = np.random.default_rng(20240229)
    print("/* vectors.h - made by tests/oracle/quant/make.py (gguf 0.19.0); do not edit. */")
    print("static const struct vector { unsigned id; const char *name, *block; unsigned first[4]; unsigned long long hash; } vectors[] = {")
    for name in SCALES:
        for block in blocks(name, rng):
            with np.errstate(all="ignore"):
                out = np.ascontiguousarray(values_of(name, block), dtype=np.float32).view(np.uint32).ravel()
            assert np.isfinite(out.view(np.float32)).all() or name in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "MXFP4"), name
            if np.isnan(out.view(np.float32)).any():
                continue
            first = ", ".join(f"0x{v:X}" for v in out[:4])
            print(f'    {{ {type_id(name)}, "{name}", "{block.tobytes().hex()}", {{ {first} }}, 0x{fnv(out):X}u }},')
    print("};")


main()
