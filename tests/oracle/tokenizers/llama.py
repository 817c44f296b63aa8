#!/usr/bin/env python3
"""A model's tokenizer against llama.cpp's: every line of corpus.py through llama-server's /tokenize (llama-tokenize loads the
model for each call, the server once; both call the same function), then all lines as one file through llama-tokenize itself.
Broken UTF-8 is given to the peer as Python's errors='replace' makes it, which is what ours must do by itself.
Characters newer than Unicode 14 are left out: llama.cpp's tables are of 15.1, those of HF tokenizers (and ours) of 16.0.
usage: llama.py MODEL.gguf [VECTORS.txt]     PEERS (default ~/.cache/baimo-peers); exit 1 on any difference.
With VECTORS, lines and their ids are written for the unit tests: hex of the line, a blank, ids with commas ("-" for none)."""
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

import corpus
import shim

BIN = os.path.join(os.environ.get("PEERS", os.path.expanduser("~/.cache/baimo-peers")), "llama/bin")


def serve(model):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = subprocess.Popen([f"{BIN}/llama-server", "-m", model, "--host", "127.0.0.1", "--port", str(port), "-c", "256", "-t", "1", "--no-warmup"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            conn = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
            conn.request("GET", "/health")
            if conn.getresponse().read() and conn.getresponse:
                conn.request("GET", "/health")
                if conn.getresponse().status == 200:
                    return server, port
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.2)
    raise RuntimeError("llama-server does not start")


class Peer:
    def __init__(self, model):
        self.server, port = serve(model)
        self.conn = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def ask(self, path, body):
        self.conn.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return json.loads(self.conn.getresponse().read())

    def encode(self, text, special=False, parse=False):
        return self.ask("/tokenize", {"content": text, "add_special": special, "parse_special": parse})["tokens"]

    def close(self):
        self.server.terminate()
        self.server.wait()


def whole_file(model, text):
    with tempfile.NamedTemporaryFile(delete=False) as f:
        f.write(text)
    out = subprocess.run([f"{BIN}/llama-tokenize", "-m", model, "--ids", "--no-bos", "--no-parse-special", "--log-disable", "--no-escape", "-f", f.name],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    os.unlink(f.name)
    return json.loads(out)


def main():
    model = sys.argv[1]
    mine, lines = shim.Tokenizer(shim.load(), model), corpus.lines(old_only=True)
    peer, bad, n_ids, spent = Peer(model), 0, 0, 0.0
    vectors = open(sys.argv[2], "w") if len(sys.argv) > 2 else None
    try:
        for i, line in enumerate(lines):
            text = line.decode(errors="replace")
            for parse in (False, True) if i % 4 == 0 and len(line) < 100000 else (False,):
                want = peer.encode(text, parse=parse)
                begin = time.monotonic()
                have = mine.encode(line, parse=parse)
                spent += time.monotonic() - begin
                n_ids += len(want)
                if have != want:
                    bad += 1
                    if bad <= 5:
                        at = next((k for k, (a, b) in enumerate(zip(have, want)) if a != b), min(len(have), len(want)))
                        print(f"line {i} parse={parse} {text[:160]!r}\n  at {at}: want {want[at:at + 12]}\n           have {have[at:at + 12]}")
            if mine.decode(mine.encode(line)) != text.encode() and (bad := bad + 1) <= 5:
                print(f"line {i} {text[:160]!r} does not decode to itself")
            if vectors and len(line) < 160 and (i < 60 or i % 150 == 0):
                vectors.write(f"{line.hex() or '-'} {','.join(map(str, mine.encode(line))) or '-'}\n")
    finally:
        peer.close()
    text = b"\n".join(line.decode(errors="replace").encode() for line in lines if len(line) < 100000)
    same = whole_file(model, text) == mine.encode(text)
    print(f"{os.path.basename(model)}: {len(lines)} lines, {n_ids} ids, {bad} differ; as one file of {len(text)} bytes through llama-tokenize: "
          f"{'equal' if same else 'NOT equal'}; {sum(map(len, lines)) / 1e6 / spent:.1f} MB/s here")
    sys.exit(bad != 0 or not same)


main()
