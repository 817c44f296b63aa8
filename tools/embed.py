#!/usr/bin/env python3
"""Write a file as a C array: embed.py NAME FILE. NAME[] and NAME_len are what src/server declares."""
import sys

name, path = sys.argv[1:3]
data = open(path, "rb").read()
print(f"extern const unsigned char {name}[];\nextern const unsigned long {name}_len;")
print(f"const unsigned long {name}_len = {len(data)};\nconst unsigned char {name}[] = {{")
for i in range(0, len(data), 16):
    print(",".join(str(b) for b in data[i:i + 16]) + ",")
print("0};")
