#!/usr/bin/env python3
"""What guessing ahead gives: the same request with and without it, in alternation. One JSON line per model and case.

usage: bench/speculation.py [--rounds 3] [--threads N] [--models A.gguf B.gguf] [--cases rewrite,story,random]
rewrite: a text of about 400 tokens is copied with two words changed, greedily; the target is at least twice the speed.
story: free text, sampled at temperature 0.8. random: noise goes on as noise; the target is a loss of at most 3 %.
A figure is the median over the rounds of (tokens - 1) / time after the first token; `same` says that all answers had the same bytes.
"""
import argparse
import json
import os
import random
import statistics
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
HOME = os.path.expanduser("~")

TASK = ('Rewrite the following text. Change every "lighthouse" to "windmill" and every "keeper" to "miller". '
        "Change nothing else; keep every other word, and write the whole text.\n\n")
TEXT = """The old lighthouse stood at the end of a narrow road, two miles from the village of Carrow. It had been built in 1843 \
by a company of masons who came from the north with their own tools and their own songs. For more than a century the lighthouse \
gave its light to the fishing boats, and for most of that time a single family lived in the small house beside it.

The first keeper was a man called Thomas Hale. He kept a diary in which he wrote down the weather, the ships that passed, and \
the price of oil. On some days he wrote nothing but a single word: fog. His daughter Margaret became the second keeper in 1871, \
which was unusual at the time, and she stayed for thirty-four years. People in the village still tell how she rowed out alone in \
the storm of 1889 to bring four sailors home.

In 1920 the council decided that the lighthouse needed repairs. The roof was leaking, the stairs were worn, and the great lamp \
had a crack in its glass. The work took two summers. New windows came by cart from the railway station, and a carpenter from \
Carrow made a new door out of oak. The keeper at that time, a quiet man who liked to read, asked for shelves, and so the round \
room on the second floor became a library with three hundred books.

Electric light came in 1938. It made the work easier, but the keeper still had to climb the hundred and twelve steps every \
evening to see that all was well. During the war the lamp was dark for five years. When it was lit again in the spring of 1945, \
the whole village walked up the road to watch, and some of the older people wept.

Today the lighthouse is a museum. Visitors can see the diary of Thomas Hale, the boat that Margaret rowed, and the library with \
its three hundred books. On the first Sunday of every month the lamp is lit for one hour after sunset. The last keeper, who is \
now eighty-one years old, still lives in the village, and if you ask him kindly he will tell you the names of all the ships \
that ever passed.
"""


def noise(n=300):
    rng = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join("".join(rng.choice(letters) for _ in range(rng.randint(2, 8))) for _ in range(n))


CASES = {  # prompt, arguments
    "rewrite": (lambda: TASK + TEXT, ["--temperature", "0", "--max-tokens", "600"]),
    "story": (lambda: "Tell a long story about a town by the sea.", ["--temperature", "0.8", "--max-tokens", "256"]),
    "random": (noise, ["--raw", "--temperature", "1.3", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--max-tokens", "256"]),
}


def answer(program, model, case, threads, on):
    prompt, args = CASES[case]
    argv = [program, "chat", model, "", "--json", "--seed", "1", "--ctx", "2048", "--threads", str(threads), *args]
    p = subprocess.run(argv if on else argv + ["--no-speculation"], input=prompt(), capture_output=True, text=True, timeout=900)
    if p.returncode:
        raise RuntimeError(f"{' '.join(argv)}: exit {p.returncode}: {p.stderr.strip()[-300:]}")
    return json.loads(p.stdout.strip().splitlines()[-1])


def measure(program, model, case, threads, rounds):
    speeds, texts, last = {True: [], False: []}, set(), None
    for i in range(rounds):
        for on in (True, False) if i % 2 else (False, True):
            a = answer(program, model, case, threads, on)
            texts.add((a["content"], a["reasoning"], a["completion_tokens"]))
            speeds[on].append((a["completion_tokens"] - 1) / a["decode_s"])
            last = a if on else last
    on, off = statistics.median(speeds[True]), statistics.median(speeds[False])
    return {"case": f"speculation-{case}", "model": os.path.basename(model), "threads": threads, "rounds": rounds,
            "prompt_tokens": last["prompt_tokens"], "tokens": last["completion_tokens"], "drafted": last["draft_tokens"],
            "accepted": last["draft_accepted"], "on_tok_s": round(on, 1), "off_tok_s": round(off, 1), "ratio": round(on / off, 3),
            "on_spread": round((max(speeds[True]) - min(speeds[True])) / on, 3),
            "off_spread": round((max(speeds[False]) - min(speeds[False])) / off, 3), "same": len(texts) == 1}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--program", default=os.path.join(HERE, "..", "build", "baimo"))
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    models = os.environ.get("BAIMO_MODELS", f"{HOME}/.cache/baimo-models")
    a.add_argument("--models", nargs="+", default=[f"{models}/smollm2.gguf", f"{models}/qwen2.5-coder.gguf"])
    a.add_argument("--cases", default=",".join(CASES))
    o = a.parse_args()
    same = True
    for model in o.models:
        for case in o.cases.split(","):
            row = measure(o.program, model, case, o.threads, o.rounds)
            same = same and row["same"]
            print(json.dumps(row), flush=True)
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
