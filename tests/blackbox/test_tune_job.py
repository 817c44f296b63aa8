"""`baimo job DIR` of kind tune: the protocol of train/job.h, and that a job killed at any moment goes on exactly."""
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import time

import pytest
from conftest import PATIENCE, PROGRAM, SMOLLM2, Server

KILLS = int(os.environ.get("BAIMO_KILLS", "8"))         # 50 for the full proof
ROWS = [{"messages": [{"role": "user", "content": f"What follows {i}?"}, {"role": "assistant", "content": f"{i + 1} follows."}]}
        for i in range(24)]


def make_job(directory, rows=ROWS, **options):
    directory.mkdir()
    data = directory / "data.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" if isinstance(r, dict) else r + "\n" for r in rows))
    job = {"kind": "tune", "name": "numbers", "model": {"path": str(SMOLLM2), "name": "smollm2"}, "data": [{"path": str(data)}],
           "options": {"rank": 4, "batch_size": 2, "steps": 8, "lr": 1e-3, "save_every": 1, "seed": 7, "valid_share": 0.2,
                       "valid_every": 3, "targets": ["q_proj", "v_proj", "down_proj"], **options}}
    (directory / "job.json").write_text(json.dumps(job))
    return directory


def environment(home):
    return {**os.environ, "BAIMO_HOME": str(home)}


def start(directory, home):
    return subprocess.Popen([PROGRAM, "job", str(directory)], env=environment(home), stdout=subprocess.PIPE, text=True)


def finish(directory, home, code=0):
    done = subprocess.run([PROGRAM, "job", str(directory)], env=environment(home), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def outcome(directory):
    """What has to be equal: the tensors, and the losses as they are written."""
    file = (directory / "adapter" / "adapter_model.safetensors").read_bytes()
    tensors = hashlib.sha256(file[8 + int.from_bytes(file[:8], "little"):]).hexdigest()
    return tensors, re.findall(r'"step":(\d+)|"(?:valid_)?loss":([^,}]+)', (directory / "metrics.jsonl").read_text())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def whole(home, tmp_path_factory):
    directory = make_job(tmp_path_factory.mktemp("jobs") / "whole")
    return directory, finish(directory, home)


def test_events_follow_the_protocol(whole):
    directory, events = whole
    kinds = [e["event"] for e in events]
    assert kinds[0] == "start" and kinds[-1] == "done"
    assert events[0]["n_steps"] == 8 and events[0]["data"][0]["rows"] == len(ROWS) and events[0]["method"] == "sft"
    steps = [e for e in events if e["event"] == "step"]
    assert [e["step"] for e in steps] == list(range(1, 9))
    assert all(e["loss"] > 0 and e["tokens_per_s"] > 0 and e["peak_memory_bytes"] > 0 for e in steps)
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert [e["step"] for e in events if e["event"] == "valid"] == [3, 6, 8]
    result = events[-1]["result"]
    assert result["valid_loss"] == [e for e in events if e["event"] == "valid"][-1]["valid_loss"]
    assert (directory / "curve.svg").read_text().startswith("<svg")
    config = json.loads((directory / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 4 and sorted(config["target_modules"]) == ["down_proj", "q_proj", "v_proj"]
    assert len((directory / "metrics.jsonl").read_text().splitlines()) == 8 + 3


def test_killed_at_any_moment_it_goes_on_exactly(whole, home, tmp_path):
    directory = make_job(tmp_path / "killed")
    dice = random.Random(11)
    kills = 0
    while kills < KILLS:
        child = start(directory, home)
        time.sleep(dice.uniform(0.05, 1.5))             # the moment is the experiment, nothing is waited for
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            kills += 1
        child.communicate()
        if child.returncode == 0:                       # got to its end: again from the beginning
            assert outcome(directory) == outcome(whole[0])
            for name in ("checkpoint.bin", "metrics.jsonl"):
                (directory / name).unlink()
    finish(directory, home)
    assert outcome(directory) == outcome(whole[0])
    assert not [p for p in os.listdir(directory) if ".tmp." in p]


def test_sigterm_leaves_a_checkpoint_to_go_on_from(whole, home, tmp_path):
    directory = make_job(tmp_path / "stopped", save_every=100)
    child = start(directory, home)
    for line in child.stdout:
        if json.loads(line)["event"] == "step":
            child.terminate()
            break
    rest = [json.loads(line) for line in child.stdout]
    assert child.wait(PATIENCE) == 0
    assert rest[-1]["event"] == "stopped" and not (directory / "adapter").exists()
    events = finish(directory, home)
    assert events[0]["step"] == rest[-1]["step"] > 0
    assert outcome(directory) == outcome(whole[0])


def test_bad_rows_are_listed_by_line_and_stop_it_unless_dropped(home, tmp_path):
    rows = [*ROWS[:6], '{"messages": [}', {"messages": []}]
    events = finish(make_job(tmp_path / "bad", rows), home, 1)
    assert [e["line"] for e in events if e["event"] == "message" and "line" in e] == [7, 8]
    assert events[-1]["event"] == "error" and events[-1]["message"]
    events = finish(make_job(tmp_path / "dropped", rows, drop_bad=True, steps=1), home)
    assert events[-1]["event"] == "done"
    assert any("2 bad rows" in e["message"] for e in events if e["event"] == "message")


def test_a_loss_that_is_not_finite_says_what_to_change(home, tmp_path):
    directory = make_job(tmp_path / "nan", lr=1e2, warmup=-1, decay="constant", clip=-1, steps=50)
    events = finish(directory, home, 1)
    assert events[-1]["event"] == "error", events[-1]
    assert "not finite" in events[-1]["message"] and "lower lr" in events[-1]["hint"]
    assert (directory / "checkpoint.bin").exists()


def test_dry_run_says_steps_time_and_memory(home, tmp_path):
    directory = make_job(tmp_path / "dry", dry_run=True)
    events = finish(directory, home)
    estimate = events[-2]
    assert estimate["event"] == "estimate" and estimate["n_steps"] == 8
    assert estimate["seconds"] > 0 and estimate["memory_bytes"] > 100 << 20
    assert sorted(os.listdir(directory)) == ["data.jsonl", "job.json"]


@pytest.mark.parametrize("text, words", [
    ('{"kind":"paint"}', "no job of kind 'paint'"), ('{', "line 1"), ('{"kind":"tune","name":"x"}', "model.path")])
def test_a_wrong_job_is_refused_with_what_is_wrong(home, tmp_path, text, words):
    (tmp_path / "job.json").write_text(text)
    assert words in finish(tmp_path, home, 1)[-1]["message"]


def token_ids(home, text):
    done = subprocess.run([PROGRAM, "tokenize", str(SMOLLM2), "--ids", text], env=environment(home), capture_output=True, text=True,
                          timeout=PATIENCE)
    return [int(x) for x in done.stdout.split()]


def test_the_loss_of_held_back_rows_is_that_of_the_server_with_the_adapter_mounted(home, tmp_path):
    def rows(numbers):
        return [{"prompt": f"Q: What follows {i}?\nA:", "completion": f" {i + 1} follows {i}."} for i in numbers]
    directory = make_job(tmp_path / "compared", rows(range(20)), valid_share=0)
    held_back = rows(range(40, 45))
    (directory / "valid.jsonl").write_text("".join(json.dumps(r) + "\n" for r in held_back))
    job = json.loads((directory / "job.json").read_text())
    job["data"].append({"path": str(directory / "valid.jsonl"), "valid": True})
    (directory / "job.json").write_text(json.dumps(job))
    valid = [e for e in finish(directory, home) if e["event"] == "valid"][-1]

    served = environment(tmp_path / "served")
    for args in (["shelf", "add", SMOLLM2, "--name", "smollm2"],
                 ["shelf", "add", directory / "adapter", "--base", "smollm2", "--name", "numbers"]):
        subprocess.run([PROGRAM, *map(str, args)], env=served, check=True, capture_output=True, timeout=PATIENCE)
    server = Server(tmp_path / "served")
    try:
        losses = []
        for row in held_back:
            n_prompt = len(token_ids(home, row["prompt"]))
            ids = [*token_ids(home, row["prompt"] + row["completion"]), 2]        # <|im_end|>, its EOS
            answer = server.json("POST", "/v1/completions", {"model": "numbers", "prompt": ids, "echo": True, "logprobs": 0,
                                                             "max_tokens": 0})
            losses += [-x for x in answer["choices"][0]["logprobs"]["token_logprobs"][n_prompt:]]
    finally:
        server.process.terminate()
        server.process.wait(PATIENCE)
    assert len(losses) == valid["valid_tokens"]
    assert abs(sum(losses) / len(losses) - valid["valid_loss"]) <= 1e-3
