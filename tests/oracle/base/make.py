#!/usr/bin/env python3
"""Writes tests/oracle/base/vectors.h: what Python makes of odd UTF-8 (errors='replace') and of doubles (repr).

Made with CPython 3.11; the standard library only.  usage: make.py > vectors.h
Whole families are kept as one hash (FNV-1a, 64 bits) of all results; test programs go through the same inputs in the same order.
"""
import itertools
import random
import struct

# Bytes on both sides of each boundary of RFC 3629's table.
EDGES = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1,
         0xF3, 0xF4, 0xF5, 0xFF]


def fnv(data, h=0xCBF29CE484222325):
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def replaced(data):
    return data.decode("utf-8", errors="replace").encode()


def hex_c(data):
    return '"' + data.hex() + '"'


def utf8_rows(rng):
    rows = [b"", b"plain", "é你好🙂".encode(), "🙂".encode()[:3], "你".encode()[:2], b"\xc0\xaf", b"\xe0\x80\x80", b"\xed\xa0\x80\xed\xb0\x80",
            b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe\xff", b"\xef\xbf\xbd", b"\xef\xbb\xbfbom",
            b"\xf0\x9f\x92", b"\xf0\x9f\x92a", b"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", b"\x80\xbf\x80", b"\xf4\x8f\xbf\xbf", b"\xef\xbf\xbf"]
    for _ in range(180):
        rows.append(bytes(rng.choice(EDGES) for _ in range(rng.randint(1, 10))))
    return rows


def splitmix(n):
    x = 0
    for _ in range(n):
        x = (x + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        yield z ^ z >> 31


def double_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def number_rows(rng):
    rows = [0.0, -0.0, 1.0, -1.0, 0.1, 0.2, 0.3, 1 / 3, 2 / 3, 100.0, 123456789.0, 1e15, 1e16, 9007199254740993.0, 9999999999999998.0, 1e17, 1e21,
            1e22, 1e23, 1e100, 1.7976931348623157e308, 2.2250738585072014e-308, 2.225073858507201e-308, 5e-324, 1e-323, 0.0001, 0.00001,
            0.00012345, 1e-7, 1.5e-10, 4.35, 0.5, 2.5, 3.14159, 2**-44, 2.0**63, 2.0**64, 8.41e21, 9.5e-5, 9.9999e-5, 123456.789e3]
    for digits in range(1, 18):
        for _ in range(8):
            rows.append(float(f"{rng.randint(10 ** (digits - 1), 10 ** digits - 1)}e{rng.randint(-25, 25)}"))
    for _ in range(120):
        x = double_of(rng.getrandbits(64))
        if x == x and abs(x) != float("inf"):
            rows.append(x)
    return rows


def text_of(x):
    return "NaN" if x != x else "Infinity" if x == float("inf") else "-Infinity" if x == -float("inf") else repr(x)


def main():
    rng = random.Random(7)
    print("/* vectors.h - made by tests/oracle/base/make.py (CPython 3.11); do not edit. */")
    print("static const struct { const char *in, *out; } utf8_rows[] = {")
    for row in utf8_rows(rng):
        print(f"    {{ {hex_c(row)}, {hex_c(replaced(row))} }},")
    print("};")
    print("static const unsigned char utf8_edges[] = { " + ", ".join(f"0x{b:02X}" for b in EDGES) + " };")
    h = fnv(b"")
    for n in (1, 2, 3, 4):
        for seq in itertools.product(EDGES, repeat=n):
            h = fnv(replaced(bytes(seq)), h)
    print(f"/* Of the results of all sequences of 1, then 2, 3 and 4 of these, the last byte changing fastest. */\nstatic const unsigned long long utf8_edges_hash = 0x{h:X}u;")
    print("static const struct { unsigned long long bits; const char *text; } number_rows[] = {")
    for x in number_rows(rng):
        print(f'    {{ 0x{struct.unpack("<Q", struct.pack("<d", x))[0]:X}u, "{text_of(x)}" }},')
    print("};")
    h = fnv(b"")
    for e in range(-1074, 1024):
        h = fnv(text_of(2.0**e).encode() + b"\n", h)
    print(f"/* Of repr(2**e) and a newline for e from -1074 to 1023. */\nstatic const unsigned long long powers_hash = 0x{h:X}u;")
    h = fnv(b"")
    for bits in splitmix(20000):
        h = fnv(text_of(double_of(bits)).encode() + b"\n", h)
    print(f"/* Of the first 20,000 outputs of splitmix64 from 0, taken as doubles. */\nstatic const unsigned long long random_hash = 0x{h:X}u;")


main()
