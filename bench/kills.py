#!/usr/bin/env python3
"""A tuning whose process is killed by SIGKILL at random moments, against one that is left alone: the adapter's tensors and the loss
column must be equal, byte for byte. One JSON line; exit 1 when they differ.

    bench/kills.py --model tests/oracle/models/llama.gguf --data rows.jsonl --kills 50
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from common import HERE

ROOT = os.path.dirname(HERE)


def baimo(a, *args):
    return subprocess.run([a.program, *args], env=a.env, check=True, capture_output=True, text=True).stdout


def start(a, name):
    return ["tune", "start", "--model", "base", "--data", a.data, "--name", name, "--steps", str(a.steps), "--save-every",
            str(a.save_every), "--max-length", str(a.max_length), "--rank", str(a.rank)]


def job_dir(a, name):
    for d in (a.home / "jobs").iterdir():
        if json.loads((d / "job.json").read_text())["name"] == name:
            return d
    return None


def kill_until_done(a, name):
    """The runner starts the process again by itself; when it gives up (three deaths without a new checkpoint), it is resumed."""
    kills, last, args = 0, 0, start(a, name)
    while True:
        p = subprocess.Popen([a.program, *args], env=a.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while p.poll() is None:
            time.sleep(random.uniform(a.least, a.most))
            d = job_dir(a, name)
            if d is None or kills >= a.kills or p.poll() is not None:
                continue
            try:
                pid = int((d / "pid").read_text().split()[0])
                if pid != last:                      # each process counts once
                    os.kill(pid, signal.SIGKILL)
                    kills, last = kills + 1, pid
            except (OSError, ValueError, IndexError):
                pass
        if p.returncode == 0:
            return kills
        args = ["tune", "resume", name]


def result(a, name):
    run = json.loads(baimo(a, "tune", "show", name, "--json"))
    file = (pathlib.Path(run["result"]["adapter"]) / "adapter_model.safetensors").read_bytes()
    return run, [p.get("loss") for p in run["curve"] if "loss" in p], file[8 + int.from_bytes(file[:8], "little"):]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", default=os.path.join(ROOT, "build", "baimo"))
    p.add_argument("--model", required=True)
    p.add_argument("--data", default=os.path.join(ROOT, "examples", "data", "identity.jsonl"))
    p.add_argument("--kills", type=int, default=50)
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--save-every", type=int, default=3)
    p.add_argument("--rank", type=int, default=4)
    p.add_argument("--max-length", type=int, default=128)
    p.add_argument("--least", type=float, default=.05, help="seconds between two kills, at least")
    p.add_argument("--most", type=float, default=.6)
    a = p.parse_args()
    scratch = tempfile.mkdtemp(prefix="baimo-kills-")
    a.home = pathlib.Path(scratch, "home")
    a.env = {**os.environ, "BAIMO_HOME": str(a.home)}
    try:
        baimo(a, "shelf", "add", a.model, "--name", "base")
        baimo(a, *start(a, "whole"))
        kills = kill_until_done(a, "killed")
        _, losses, tensors = result(a, "whole")
        run, losses_killed, tensors_killed = result(a, "killed")
        row = {"case": "kills", "kills": kills, "processes": run["attempts"], "steps": a.steps, "losses_equal": losses == losses_killed,
               "tensors_equal": tensors == tensors_killed}
        print(json.dumps(row))
        return 0 if row["losses_equal"] and row["tensors_equal"] and kills >= a.kills else 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
