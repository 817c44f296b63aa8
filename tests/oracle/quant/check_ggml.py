#!/usr/bin/env python3
"""Asks ggml itself about tests/oracle/quant/vectors.h: llama-quantize converts a GGUF file of the vectors' blocks to F32, and the
values must have the vectors' hashes. It found none other in llama.cpp commit 0c1e570.  usage: check_ggml.py LLAMA-QUANTIZE VECTORS.H SCRATCH-DIR

Blocks that ggml's validation refuses are named and left out. Needs gguf 0.19.0 and numpy.
"""
import pathlib
import re
import struct
import subprocess
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUFReader

SIZES = {int(t): s for t, s in GGML_QUANT_SIZES.items()} | {42: (64, 18)}
VECTOR = re.compile(r'\{ (\d+), "(\w+)", "([0-9a-f]+)", \{[^}]*\}, 0x([0-9A-F]+)u \}')


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def write(path, vectors):
    """Each vector a matrix of 2 rows, its block in both: llama-quantize leaves vectors (one row) as they are. By hand, because
    gguf-py does not know every type."""
    u32 = lambda key, value: text(key) + struct.pack("<II", 4, value)
    kvs = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    kvs += [u32("llama." + k, v) for k, v in (("block_count", 1), ("context_length", 64), ("embedding_length", 64),
                                               ("feed_forward_length", 64), ("attention.head_count", 1))]
    kvs.append(text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5))
    infos, data = [], b""
    for i, (kind, _, block, _) in enumerate(vectors):
        infos.append(text(f"blk.0.v{i}.weight") + struct.pack("<IQQIQ", 2, SIZES[kind][0], 2, kind, len(data)))
        data += 2 * block
        data += bytes(-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(kvs)) + b"".join(kvs) + b"".join(infos)
    path.write_bytes(head + bytes(-len(head) % 32) + data)


def main():
    tool, header, scratch = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    vectors = [(int(a), b, bytes.fromhex(c), int(d, 16)) for a, b, c, d in VECTOR.findall(header.read_text())]
    vectors = [v for v in vectors if SIZES[v[0]][0] > 1]
    while True:
        write(scratch / "vectors.gguf", vectors)
        run = subprocess.run([tool, "--allow-requantize", scratch / "vectors.gguf", scratch / "f32.gguf", "F32"], capture_output=True)
        if run.returncode == 0:
            break
        assert b"validat" in run.stderr, run.stderr.decode()[-500:]
        last = re.findall(rb"blk\.0\.v(\d+)\.weight", run.stdout + run.stderr)[-1]
        print("ggml refuses", *vectors.pop(int(last))[1:2])
    tensors = {t.name: t for t in GGUFReader(scratch / "f32.gguf").tensors}
    same, other = {}, {}
    for i, (_, name, _, want) in enumerate(vectors):
        rows = np.ascontiguousarray(tensors[f"blk.0.v{i}.weight"].data).view("<f4").reshape(2, -1)
        ok = all(fnv(r.tobytes()) == want for r in rows)
        (same if ok else other).setdefault(name, []).append(i)
    for name in dict.fromkeys(v[1] for v in vectors):
        print(f"{name:8} {len(same.get(name, []))} blocks as ggml, other: {other.get(name, [])}")
    sys.exit(bool(other))


main()
