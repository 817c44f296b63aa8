"""baimo eval from outside: runs and their records, resumed after kills, compared, gated; aliases that move and a server that follows."""
import json
import os
import random
import shutil
import subprocess
import threading
import time

import pytest

from conftest import PATIENCE, PROGRAM, ROOT, TINY

KILLS = int(os.environ.get("BAIMO_KILLS", "3"))         # 20 for the full proof
ADAPTER = ROOT / "tests" / "oracle" / "adapters" / "llama"
TASK = """task: colours
dataset_path: json
dataset_kwargs:
  data_files:
    test: colours.jsonl
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_target: gold
doc_to_choice: choices
metric_list:
  - metric: acc
  - metric: acc_norm
metadata:
  version: 1.0
"""
TALK = """task: talk
dataset_path: json
dataset_kwargs:
  data_files:
    test: colours.jsonl
output_type: generate_until
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "{{choices[gold]}}"
generation_kwargs:
  until: ["."]
  max_gen_toks: 8
metric_list:
  - metric: exact_match
    ignore_case: true
metadata:
  version: 1.0
"""


@pytest.fixture
def bank(tmp_path):
    """A home with the tiny model and an adapter of it, and a bank of two tasks over forty rows."""
    rows = [{"question": f"the colour of the {thing} number {i} is", "choices": ["red", "green and blue", "yellow"], "gold": i % 3}
            for i, thing in enumerate(["fox", "dog", "river", "forest"] * 10)]
    (tmp_path / "colours.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "colours.yaml").write_text(TASK)
    (tmp_path / "talk.yaml").write_text(TALK)
    call(tmp_path, "shelf", "add", TINY, "--name", "tiny")
    call(tmp_path, "shelf", "add", ADAPTER, "--base", "tiny", "--name", "tuned")
    return tmp_path


def environment(bank):
    return {**os.environ, "BAIMO_HOME": str(bank / "home")}


def call(bank, *args, code=0):
    p = subprocess.run([PROGRAM, *map(str, args)], env=environment(bank), capture_output=True, text=True, timeout=PATIENCE, cwd=bank)
    assert p.returncode == code, (args, p.stdout, p.stderr)
    return p


def evaluate(bank, model, name, *args, code=0):
    p = call(bank, "eval", "run", "--model", model, "--tasks", "colours.yaml,talk.yaml", "--name", name, "--json", *args, code=code)
    return json.loads(p.stdout)


def samples(bank, name):
    run = [r for r in json.loads(call(bank, "eval", "ls", "--json").stdout)["runs"] if r["name"] == name][0]
    folder = bank / "home" / "jobs" / run["id"]
    return {f.name: f.read_bytes() for f in sorted(folder.glob("samples_*.jsonl"))}, folder


def without_times(results):
    return {k: v for k, v in results.items() if k != "run"}


def test_a_run_is_a_record(bank):
    r = evaluate(bank, "tiny", "first")
    assert r["results"]["colours"]["sample_len"] == 40 and 0 <= r["results"]["colours"]["acc,none"] <= 1
    assert r["n-samples"]["talk"] == {"original": 40, "effective": 40} and r["failed"] == 0
    assert len(r["inputs"]["model_sha256"]) == 64 and len(r["inputs"]["tasks"]["colours"]["data_sha256"]) == 64
    lines = [json.loads(x) for x in call(bank, "eval", "show", "first", "--samples", "--task", "colours").stdout.splitlines()]
    assert [x["doc_id"] for x in lines] == list(range(40))
    hits = [x["filters"]["none"]["metrics"]["acc"] for x in lines]
    best = [max(range(3), key=lambda c: x["requests"][c]["logprob"]) for x in lines]
    assert hits == [float(b == x["target"]) for b, x in zip(best, lines)]
    assert abs(sum(hits) / 40 - r["results"]["colours"]["acc,none"]) < 1e-12
    table = call(bank, "eval", "show", "first").stdout
    assert "|colours" in table and "|acc_norm" in table and "±" in table
    assert call(bank, "eval", "export", "first", "--format", "csv").stdout.startswith("task,version,filter")
    page = call(bank, "eval", "export", "first", "--format", "html").stdout
    assert page.startswith("<!doctype html>") and "colours" in page and "http" not in page.split("<body>")[1]


def test_the_same_bytes_at_any_thread_count_and_beside_load(bank, start):
    whole = without_times(evaluate(bank, "tiny", "one", "--threads", "1"))
    before, _ = samples(bank, "one")
    assert without_times(evaluate(bank, "tiny", "three", "--threads", "3")) == whole
    assert samples(bank, "three")[0] == before
    s = start("--model", "tiny", "--ctx", "1024", "--no-job-pause")
    done = threading.Event()

    def ask():
        while not done.is_set():
            s.json("POST", "/v1/completions", {"model": "tiny", "prompt": "the quick brown fox", "max_tokens": 64, "ignore_eos": True})

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for c in clients:
        c.start()
    try:
        beside = evaluate(bank, "tiny", "beside", "--threads", "2")
    finally:
        done.set()
        for c in clients:
            c.join()
    assert without_times(beside) == whole and samples(bank, "beside")[0] == before


def kill_when(bank, folder, moment):
    """Kill the job as soon as it has recorded that many documents; whether it was still running."""
    p = subprocess.Popen([PROGRAM, "job", str(folder)], env=environment(bank), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + PATIENCE
    while p.poll() is None and time.monotonic() < end and sum(f.read_bytes().count(b"\n") for f in folder.glob("samples_*.jsonl")) < moment:
        pass
    running = p.poll() is None
    p.kill()
    p.wait()
    return running


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(bank):
    """One run that is killed again and again, at moments drawn between nothing and all of its documents."""
    whole = evaluate(bank, "tiny", "whole")
    before, folder = samples(bank, "whole")
    again = bank / "again"
    again.mkdir()
    shutil.copy(folder / "job.json", again)
    moments = sorted(random.Random(KILLS).choices(range(80), k=KILLS - 1)) + [79]
    killed = sum(kill_when(bank, again, m) for m in moments)
    subprocess.run([PROGRAM, "job", str(again)], env=environment(bank), check=True, capture_output=True, timeout=PATIENCE)
    print(f"{killed} of {KILLS} kills met the running job, at documents {moments}")
    assert killed >= KILLS // 2                  # one that is quicker than its killer is no proof
    assert {f.name: f.read_bytes() for f in sorted(again.glob("samples_*.jsonl"))} == before
    assert without_times(json.loads((again / "results.json").read_text())) == without_times(whole)


def test_what_fails_is_a_row_and_the_others_are_scored(bank):
    rows = (bank / "colours.jsonl").read_text().splitlines()
    long = json.loads(rows[5])
    long["question"] = "the river " * 3000
    rows[5] = json.dumps(long)
    (bank / "colours.jsonl").write_text("\n".join(rows) + "\n")
    r = evaluate(bank, "tiny", "long", "--ctx", "512", code=1)
    assert r["failed"] == 2 and r["results"]["colours"]["sample_len"] == 39
    failed = [json.loads(x) for x in call(bank, "eval", "show", "long", "--failed").stdout.splitlines()]
    assert {x["doc_id"] for x in failed} == {5} and all(x["error"]["code"] == "context_length_exceeded" for x in failed)


@pytest.mark.parametrize("text, says", [
    ("task: x\noutput_type: nothing\n", "bad.yaml:2"),
    ("task: x\ndataset_path: json\ndoc_to_text: !function utils.f\n", "bad.yaml:3"),
    ("task: [x\n", "bad.yaml"),
])
def test_a_bad_task_is_named_before_anything_is_loaded(bank, text, says):
    (bank / "bad.yaml").write_text(text)
    p = call(bank, "eval", "run", "--model", "tiny", "--tasks", "bad.yaml", code=1)
    assert says in p.stderr
    assert json.loads(call(bank, "eval", "ls", "--json").stdout)["runs"] == []


def test_missing_data_come_with_the_command_that_helps(bank):
    p = call(bank, "eval", "run", "--model", "tiny", "--tasks", "hellaswag", code=1)
    assert "baimo data add FILE --as" in p.stderr


def test_runs_are_compared_document_by_document(bank):
    evaluate(bank, "tiny", "base")
    evaluate(bank, "tuned", "better")
    c = json.loads(call(bank, "eval", "compare", "better", "base", "--json", "--samples").stdout)
    acc = next(d for d in c["differences"] if d["task"] == "colours" and d["metric"] == "acc")
    assert acc["documents"] == 40 and abs(acc["a"] - acc["b"] - acc["difference"]) < 1e-12
    assert len(acc["samples"]) == acc["changed"] == acc["a_better"] + acc["b_better"]
    same = json.loads(call(bank, "eval", "compare", "base", "base", "--json").stdout)
    assert all(d["difference"] == 0 and d["changed"] == 0 and d["p"] == 1 for d in same["differences"])


def test_a_name_moves_only_when_the_gate_holds_and_goes_back(bank, start):
    folder = ("--include-path", bank)
    call(bank, "promote", "tiny", "--to", "prod")
    s = start("--model", "tiny", "--ctx", "1024")

    def answer():
        body = {"model": "prod", "prompt": "the quick brown fox", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
        return s.json("POST", "/v1/completions", body)["choices"][0]["text"]

    def named(model):
        body = {"model": model, "prompt": "the quick brown fox", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
        return s.json("POST", "/v1/completions", body)["choices"][0]["text"]

    assert answer() == named("tiny") != named("tuned")
    refused = call(bank, "promote", "tuned", "--to", "prod", "--require", "colours.acc >= baseline + 2", *folder, code=1)
    assert "FAILS" in refused.stdout and "stays where it is" in refused.stderr
    assert answer() == named("tiny")
    moved = json.loads(call(bank, "promote", "tuned", "--to", "prod", "--require", "colours.acc >= baseline - 1, colours.acc_norm >= 0", "--json",
                            *folder).stdout)
    assert moved["evidence"]["holds"] and len(moved["evidence"]["runs"]) == 2
    assert answer() == named("tuned")
    call(bank, "rollback", "prod")
    assert answer() == named("tiny")
    history = json.loads(call(bank, "rollback", "prod", "--history", "--json").stdout)["moves"]
    assert [m["target"] for m in history] == ["tiny", "tuned", "tiny"]
    assert history[0]["evidence"] == {"rollback_from": "tuned"} and history[1]["evidence"]["holds"]
    p = call(bank, "promote", "tuned", "--to", "prod", "--require", "colours.acc > baseline +", code=1)
    assert "expected a number" in p.stderr


def test_the_loop_from_tuning_to_rollback(bank, start):
    """Tune, evaluate base and adapter, gate, move the name, answer through it, refuse what is worse, go back: all in the records."""
    rows = [json.loads(line) for line in (bank / "colours.jsonl").read_text().splitlines()]
    (bank / "colours.jsonl").write_text("".join(json.dumps({**r, "gold": 2}) + "\n" for r in rows))
    folder = ("--include-path", bank)
    s = start("--model", "tiny", "--ctx", "1024")
    call(bank, "promote", "tiny", "--to", "prod")
    for name, colour in (("good", "yellow"), ("bad", "red")):
        (bank / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": r["question"], "completion": f" {colour}"}) + "\n" for r in rows))
        call(bank, "tune", "start", "--model", "tiny", "--data", bank / f"{name}.jsonl", "--name", name, "--steps", 40, "--lr", "2e-2", "--rank", 8,
             "--follow")

    def answer(model):
        body = {"model": model, "prompt": rows[0]["question"], "max_tokens": 8, "temperature": 0}
        return s.json("POST", "/v1/completions", body)["choices"][0]["text"]

    assert "yellow" in answer("good") and "yellow" not in answer("prod") == answer("tiny")
    gate = ("--require", "colours.acc > baseline + 0.1", *folder)
    moved = json.loads(call(bank, "promote", "good", "--to", "prod", "--json", *gate).stdout)
    assert moved["evidence"]["holds"] and answer("prod") == answer("good")
    refused = json.loads(call(bank, "promote", "bad", "--to", "prod", "--json", *gate, code=1).stdout)
    assert not refused["holds"] and refused["baseline"] == "good" and refused["requirements"][0]["have"] < refused["requirements"][0]["baseline"]
    assert answer("prod") == answer("good")
    call(bank, "rollback", "prod")
    assert answer("prod") == answer("tiny")

    tunings = {r["name"]: r for r in json.loads(call(bank, "tune", "ls", "--json").stdout)["runs"]}
    assert {name: r["state"] for name, r in tunings.items()} == {"good": "succeeded", "bad": "succeeded"}
    evals = {r["id"]: r for r in json.loads(call(bank, "eval", "ls", "--json").stdout)["runs"]}
    adapters = {r["name"]: r["sha256"] for r in json.loads(call(bank, "shelf", "ls", "--json").stdout)["adapters"]}
    assert [evals[i]["adapter"] for i in moved["evidence"]["runs"]] == ["good", ""]
    assert len(evals) == 3 and {r["adapter"] for r in evals.values()} == {"", "good", "bad"}         # the baseline's scores were there
    moves = json.loads(call(bank, "rollback", "prod", "--history", "--json").stdout)["moves"]
    assert [m["target"] for m in moves] == ["tiny", "good", "tiny"] and moves[1]["sha256"] == adapters["good"]
    assert moves[1]["evidence"]["runs"] == moved["evidence"]["runs"] and moves[0]["evidence"] == {"rollback_from": "good"}


def test_only_a_run_of_the_same_task_data_and_settings_is_evidence(bank):
    def runs():
        return [r["id"] for r in json.loads(call(bank, "eval", "ls", "--json").stdout)["runs"]]

    def gate(*more):
        said = call(bank, "eval", "gate", "--candidate", "tiny", "--require", "colours.acc >= 0" + "".join("; " + m for m in more), "--json",
                    "--include-path", bank)
        return json.loads(said.stdout)["runs"]

    evaluate(bank, "tiny", "short", "--limit", "7")
    evaluate(bank, "tiny", "shots", "--num-fewshot", "2")
    first = gate()
    assert len(runs()) == 3 and first[0] == runs()[0]
    assert gate() == first and len(runs()) == 3
    assert gate("limit 7") != first and len(runs()) == 3                 # that of the name "short"
    assert gate("apply_chat_template") != first and len(runs()) == 4
    with open(bank / "colours.jsonl", "a") as f:
        f.write(json.dumps({"question": "the colour of the sky is", "choices": ["blue", "red"], "gold": 0}) + "\n")
    assert gate() != first and len(runs()) == 5
    (bank / "colours.yaml").write_text(TASK.replace("{{question}}", "Q: {{question}}"))
    assert gate() != first and len(runs()) == 6


def test_what_lm_eval_asks_of_completions_gives_the_same_log_likelihoods(bank, start):
    """The requests of `lm_eval --model local-completions` 0.4.13, recorded: token ids one by one, in batches, and text; and how it reads the replies."""
    evaluate(bank, "tiny", "own")
    lines = [json.loads(x) for x in call(bank, "eval", "show", "own", "--samples", "--task", "colours").stdout.splitlines()][:8]
    s = start("--model", "tiny", "--ctx", "1024")

    def ids(text):
        return [int(i) for i in call(bank, "tokenize", "tiny", text, "--ids").stdout.split()]

    def read(choice, skip):
        values = choice["logprobs"]["token_logprobs"][skip:-1]           # the last token is the generated one
        tops = choice["logprobs"]["top_logprobs"][skip:-1]
        return sum(values), all(v == max(top.values()) for v, top in zip(values, tops))

    def ask(prompt):
        body = {"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
        r = s.json("POST", "/v1/completions", body, headers={"Authorization": "Bearer "})
        return sorted(r["choices"], key=lambda c: c["index"])

    want = [(q["logprob"], q["greedy"]) for line in lines for q in line["requests"]]
    texts = [line["context"] + q["continuation"] for line in lines for q in line["requests"]]
    skips = [len(ids(line["context"])) for line in lines for _ in line["requests"]]
    tokens = [ids(t) for t in texts]
    replies = {"one by one": [ask([t])[0] for t in tokens], "texts": [ask(t)[0] for t in texts],
               "batches": [c for i in range(0, len(tokens), 8) for c in ask(tokens[i:i + 8])]}
    for how, choices in replies.items():
        got = [read(c, n) for c, n in zip(choices, skips)]
        assert [g for _, g in got] == [g for _, g in want], how
        assert max(abs(a - b) for (a, _), (b, _) in zip(got, want)) < 1e-5, how
    body = {"model": "tiny", "prompt": [tokens[0]], "max_tokens": 8, "temperature": 0, "stop": [".", "</s>"], "seed": 1234}
    assert s.json("POST", "/v1/completions", body)["choices"][0]["index"] == 0


def test_f32_is_near_what_is_served_and_a_run_of_its_own(bank):
    served, exact = evaluate(bank, "tiny", "served"), evaluate(bank, "tiny", "exact", "--precision", "f32")
    assert served["inputs"]["precision"] == "fast" and exact["inputs"]["precision"] == "f32"
    values = [[q["logprob"] for x in map(json.loads, samples(bank, name)[0]["samples_colours.jsonl"].splitlines()) for q in x["requests"]]
              for name in ("served", "exact")]
    far = [abs(a - b) for a, b in zip(*values)]
    assert 0 < max(far) < 1
    assert "fast or f32" in call(bank, "eval", "run", "--model", "tiny", "--tasks", "colours.yaml", "--precision", "bf16", code=2).stderr
