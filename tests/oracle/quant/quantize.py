#!/usr/bin/env python3
"""Make quantized.h: what gguf-py (whose quantisers equal ggml's reference bit for bit) makes of 128 values, for the types that
baimo writes. The values: an LCG's, of several magnitudes, with a block of zeros and one of equal values; see tests/compute/test_quantize.c.

usage: quantize.py > quantized.h      made with gguf 0.19"""
import gguf
import numpy as np

x, state = [], 12345
for i in range(128):
    state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
    v = np.float32((state >> 8) / np.float32(1 << 23) - 1)
    x.append(v * np.float32((1, 0.01, 30, 1)[i // 32]))
x[96:112] = [np.float32(0)] * 16
x = np.array(x, dtype=np.float32)
x = np.concatenate([x, np.zeros(32, np.float32), np.full(32, 0.37, np.float32)])
print("/* quantized.h - made by quantize.py: blocks of gguf-py's quantisers. */")
print("static const uint32_t source[] = {")
for i in range(0, len(x), 8):
    print("    " + ", ".join(f"0x{b:08X}" for b in x[i:i + 8].view(np.uint32)) + ",")
print("};")
for name in ("Q8_0", "Q4_0", "Q4_1"):
    out = gguf.quants.quantize(x, getattr(gguf.GGMLQuantizationType, name)).tobytes()
    print(f"static const unsigned char expected_{name.lower()}[] = {{")
    for i in range(0, len(out), 20):
        print("    " + ", ".join(f"{b}" for b in out[i:i + 20]) + ",")
    print("};")
