"""Fine-tuning from outside: the command line, the official client against a server, crashes and kills. On a model of 100k
parameters, so that a run takes a second; what is trained well is for others to prove."""
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import time

import openai
import pytest
from conftest import PATIENCE, PROGRAM, TINY, Server


@pytest.fixture
def home(tmp_path):
    run(tmp_path / "home", "shelf", "add", TINY, "--name", "tiny")
    return tmp_path / "home"


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {i} says {i * i} and more {i % 7}"}) + "\n" for i in range(60)))
    return path


def environment(home):
    return {**os.environ, "BAIMO_HOME": str(home)}


def run(home, *args, code=0):
    done = subprocess.run([PROGRAM, *map(str, args)], env=environment(home), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def tune(home, rows, name, *more, **kw):
    return run(home, "tune", "start", "--model", "tiny", "--data", rows, "--name", name, "--rank", 4, "--max-length", 64, *more, **kw)


def show(home, name):
    return json.loads(run(home, "tune", "show", name, "--json"))


def wait(what, how="it never came"):
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, how
        time.sleep(0.02)


# ---- the command line, without a server ----

def test_a_tuning_in_the_foreground_and_its_record(home, rows, tmp_path):
    lines = [json.loads(x) for x in tune(home, rows, "one", "--steps", 8, "--valid-share", 0.2, "--follow", "--json").splitlines()]
    assert [x["step"] for x in lines] == list(range(1, 9))
    assert all(x["loss"] > 0 and x["tokens_per_s"] > 0 for x in lines)

    record = show(home, "one")
    assert record["state"] == "succeeded" and record["step"] == record["n_steps"] == 8 and record["attempts"] == 1
    assert [p["loss"] for p in record["curve"] if "loss" in p] == [x["loss"] for x in lines]
    assert len(record["data"][0]["sha256"]) == 64 and record["settings"]["rank"] == 4
    adapter = pathlib.Path(record["result"]["adapter"])
    assert adapter.parent == home / "adapters" and (adapter / "adapter_model.safetensors").exists()

    text = run(home, "tune", "show", "one", "--svg", tmp_path / "curve.svg")
    assert "*" in text and "step 1 to 8" in text
    assert (tmp_path / "curve.svg").read_text().count("<polyline") == 2
    assert "one" in run(home, "tune", "ls")
    run(home, "tune", "rm", "one")
    assert adapter.exists() and not (home / "jobs" / record["id"]).exists()
    assert json.loads(run(home, "tune", "ls", "--json")) == {"runs": []}


def test_an_adapter_is_exported_for_others_and_comes_back(home, rows, tmp_path):
    tune(home, rows, "one", "--steps", 2)
    run(home, "tune", "export", "one", "--out", tmp_path / "peft")
    said = json.loads(run(home, "tune", "export", "one", "--format", "gguf", "--out", tmp_path / "one.gguf", "--json"))
    assert said["path"] == str(tmp_path / "one.gguf") and (tmp_path / "one.gguf").read_bytes()[:4] == b"GGUF"
    ours = pathlib.Path(show(home, "one")["result"]["adapter"]) / "adapter_model.safetensors"
    assert strip_metadata((tmp_path / "peft" / "adapter_model.safetensors").read_bytes()) == strip_metadata(ours.read_bytes())
    run(home, "shelf", "add", tmp_path / "one.gguf", "--base", "tiny", "--name", "back")
    assert "is there already" in run(home, "tune", "export", "one", "--out", tmp_path / "peft", code=1)
    assert "no adapter" in run(home, "tune", "export", "nix", code=1)


def test_one_line_a_step_when_it_is_no_terminal(home, rows):
    lines = tune(home, rows, "one", "--steps", 3).splitlines()
    assert [x.split()[:2] for x in lines if x.startswith("step")] == [["step", f"{i}/3"] for i in (1, 2, 3)]


def test_a_dry_run_that_is_killed_leaves_no_process(home, rows):
    jobs = home / "jobs"
    p = subprocess.Popen([PROGRAM, "tune", "start", "--model", "tiny", "--data", rows, "--dry-run"], env=environment(home),
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait(lambda: any(jobs.glob("try-*/pid")) or p.poll() is not None)
    p.kill()
    p.wait()
    for alive in jobs.glob("try-*/alive"):                               # locked as long as the job's process lives
        with open(alive) as f:
            wait(lambda: locked(f), "the job's process goes on")


def locked(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def test_a_dry_run_does_nothing(home, rows):
    said = json.loads(run(home, "tune", "start", "--model", "tiny", "--data", rows, "--steps", 5, "--max-length", 64, "--dry-run", "--json"))
    assert said["estimate"]["n_steps"] == 5 and said["estimate"]["memory_bytes"] > 0 and said["estimate"]["tokens"] > 0
    assert json.loads(run(home, "tune", "ls", "--json")) == {"runs": []}
    assert list((home / "jobs").iterdir()) == []


def test_what_is_asked_wrongly_is_said(home, rows, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"text": 5}\nnot json\n')
    assert "tune start --help" in run(home, "tune", "start", "--model", "tiny", code=2)
    assert "expected one of: cosine linear constant" in tune(home, rows, "one", "--decay", "none", code=1)
    assert "no such file" in run(home, "tune", "start", "--model", "nix.gguf", "--data", rows, "--name", "x", code=1)
    assert "'tiny' is a model's" in tune(home, rows, "tiny", code=1)
    error = tune(home, bad, "one", "--steps", 2, code=1)
    assert "line 3" in error and "--drop-bad" in error, error
    tune(home, bad, "one", "--steps", 2, "--drop-bad")
    assert "on the shelf already" in tune(home, rows, "one", code=1)


def test_interrupt_stops_at_a_checkpoint_and_resume_gives_the_same_bytes(home, rows):
    tune(home, rows, "whole", "--steps", 60)
    p = subprocess.Popen([PROGRAM, "tune", "start", "--model", "tiny", "--data", rows, "--name", "parts", "--rank", "4", "--max-length", "64",
                          "--steps", "60"], env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in p.stdout:
        if line.startswith("step"):
            p.send_signal(signal.SIGINT)
            break
    out, err = p.communicate(timeout=PATIENCE)
    if p.returncode == 1:                       # it may have been quicker than the signal
        assert "tune resume" in err
        assert show(home, "parts")["state"] == "stopped"
        run(home, "tune", "resume", "parts")
    same_result(home, "whole", "parts")


def same_result(home, a, b):
    one, other = show(home, a), show(home, b)
    assert other["state"] == "succeeded"
    assert [p.get("loss") for p in one["curve"]] == [p.get("loss") for p in other["curve"]]
    name = "adapter_model.safetensors"
    tensors = [strip_metadata((pathlib.Path(x["result"]["adapter"]) / name).read_bytes()) for x in (one, other)]
    assert tensors[0] == tensors[1]


def strip_metadata(file):
    return file[8 + int.from_bytes(file[:8], "little"):]


def test_kills_change_nothing(home, rows):
    """The child is killed by SIGKILL at random moments: it is started again from its checkpoint by itself. bench/kills.py does 50."""
    tune(home, rows, "whole", "--steps", 120, "--save-every", 5)
    p = subprocess.Popen([PROGRAM, "tune", "start", "--model", "tiny", "--data", str(rows), "--name", "killed", "--rank", "4", "--max-length",
                          "64", "--steps", "120", "--save-every", "5"], env=environment(home), stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True)
    kills, last = 0, 0
    for line in p.stdout:
        step = int(line.split()[1].split("/")[0]) if line.startswith("step") else 0
        if step > last + 20 and kills < 4:
            job = next(d for d in (home / "jobs").iterdir() if json.loads((d / "job.json").read_text())["name"] == "killed")
            try:
                os.killpg(int((job / "pid").read_text().split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                break
            kills, last = kills + 1, step
    p.wait(PATIENCE)
    assert show(home, "killed")["attempts"] >= 2
    same_result(home, "whole", "killed")


# ---- a server ----

@pytest.fixture
def server(home):
    s = Server(home, "--model", "tiny")
    yield s
    s.stop()


def upload(client, rows):
    return client.files.create(file=rows, purpose="fine-tune")


def test_the_official_client_tunes(server, rows):
    client = server.client()
    file = upload(client, rows)
    assert file.bytes == rows.stat().st_size and file.filename == "rows.jsonl"
    assert client.files.content(file.id).read() == rows.read_bytes()
    assert [f.id for f in client.files.list()] == [file.id]

    job = client.fine_tuning.jobs.create(
        model="tiny", training_file=file.id, validation_file=file.id, suffix="mine", seed=7,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 0.5,
                                                                          "rank": 4, "max_length": 64}}})
    assert job.status in ("queued", "running") and job.training_file == file.id and job.seed == 7
    assert job.method.supervised.hyperparameters.n_epochs == 2
    wait(lambda: client.fine_tuning.jobs.retrieve(job.id).status not in ("queued", "running"))
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job
    assert job.fine_tuned_model.startswith("ft:tiny:mine:") and job.trained_tokens > 0 and job.finished_at >= job.created_at

    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))         # the client turns the pages
    assert len(events) == len({e.id for e in events}) and [e.id for e in events] == sorted((e.id for e in events), key=lambda x: -int(x[8:]))
    metrics = [e for e in events if e.type == "metrics"]
    assert {e.data["step"] for e in metrics} == set(range(1, 17)) and "training loss=" in metrics[-1].message
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data[0].fine_tuning_job_id == job.id
    assert [j.id for j in client.fine_tuning.jobs.list(limit=1)] == [job.id]
    said = client.completions.create(model=job.fine_tuned_model, prompt="row 3", max_tokens=3)      # mounted, without a restart
    assert said.usage.completion_tokens == 3
    assert job.fine_tuned_model in [m.id for m in client.models.list()]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_cancel_pause_and_resume(server, rows):
    client = server.client()
    file = upload(client, rows)
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id,
                                         extra_body={"hyperparameters": {"steps": 10 ** 6, "rank": 4, "max_length": 64}})
    waiting = client.fine_tuning.jobs.create(model="tiny", training_file=file.id)
    assert client.fine_tuning.jobs.cancel(waiting.id).status == "cancelled"
    wait(lambda: client.fine_tuning.jobs.list_events(job.id).data)
    client.fine_tuning.jobs.cancel(job.id)
    wait(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "cancelled")
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    wait(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "running")
    client.fine_tuning.jobs.cancel(job.id)
    wait(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "cancelled")


def test_bad_requests_are_refused_by_field(server, rows):
    client = server.client()
    file = upload(client, rows)

    def refused(kind, param, **kw):
        with pytest.raises(kind) as e:
            client.fine_tuning.jobs.create(**{"model": "tiny", "training_file": file.id, **kw})
        assert e.value.param == param, e.value
    refused(openai.NotFoundError, "training_file", training_file="file-0123456789abcdef")
    refused(openai.NotFoundError, "training_file", training_file="../../etc/passwd")
    refused(openai.NotFoundError, "model", model="nix")
    refused(openai.NotFoundError, "model", model=str(TINY))
    refused(openai.BadRequestError, "hyperparameters.rnk", extra_body={"hyperparameters": {"rnk": 4}})
    refused(openai.BadRequestError, "hyperparameters.rank", extra_body={"hyperparameters": {"rank": 10 ** 9}})
    refused(openai.BadRequestError, "method.type", method={"type": "reinforcement"})
    refused(openai.BadRequestError, "integrations", integrations=[{"type": "wandb", "wandb": {"project": "x"}}])
    refused(openai.BadRequestError, "colour", extra_body={"colour": "blue"})
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=rows, purpose="batch")
    for body, kind in ((b"--x\r\nbroken", "multipart/form-data; boundary=x"), (b"{}", "application/json"), (b"", "multipart/form-data")):
        assert server.request("POST", "/v1/files", body, {"Content-Type": kind})[0] in (400, 411, 415)
    assert server.request("DELETE", "/v1/fine_tuning/jobs")[0] == 405
    assert [p.name for p in (server.home / "files").iterdir()] == [file.id]


def test_keys_need_the_scope_and_see_their_own(home, rows):
    keys = {n: run(home, "key", "add", n, "--scope", s).strip() for n, s in
            (("reader", "infer"), ("ann", "infer,tune"), ("bob", "tune"), ("root", "admin"))}
    s = Server(home, "--model", "tiny")
    try:
        reader, ann, bob, root = (s.client(api_key=keys[n]) for n in ("reader", "ann", "bob", "root"))
        with pytest.raises(openai.PermissionDeniedError):
            reader.files.list()
        file = upload(ann, rows)
        job = ann.fine_tuning.jobs.create(model="tiny", training_file=file.id, extra_body={"hyperparameters": {"steps": 2, "max_length": 64}})
        assert bob.files.list().data == [] and bob.fine_tuning.jobs.list().data == []
        for what in (lambda: bob.files.content(file.id), lambda: bob.fine_tuning.jobs.cancel(job.id),
                     lambda: bob.fine_tuning.jobs.create(model="tiny", training_file=file.id)):
            with pytest.raises(openai.NotFoundError):
                what()
        assert [f.id for f in root.files.list()] == [file.id] and root.fine_tuning.jobs.retrieve(job.id).id == job.id
    finally:
        s.stop()


def test_the_command_line_leaves_the_work_to_the_server(server, rows):
    said = json.loads(tune(server.home, rows, "byserver", "--steps", 5, "--json"))
    assert said["state"] == "queued"
    lines = run(server.home, "tune", "follow", "byserver", "--json").splitlines()
    assert len(lines) == 5
    assert show(server.home, "byserver")["state"] == "succeeded"


def test_a_server_that_is_killed_leaves_the_run_to_the_next(home, rows):
    s = Server(home, "--model", "tiny")
    tune(home, rows, "long", "--steps", 150, "--save-every", 20)
    wait(lambda: show(home, "long")["step"] > 0)
    s.stop(signal.SIGKILL)
    s = Server(home, "--model", "tiny")
    try:
        run(home, "tune", "follow", "long")
        assert show(home, "long")["attempts"] == 1              # the same process went on
    finally:
        s.stop()
    tune(home, rows, "straight", "--steps", 150, "--save-every", 20)
    same_result(home, "straight", "long")


def test_a_server_that_stops_goes_on_with_the_run_when_it_is_back(home, rows):
    s = Server(home, "--model", "tiny")
    tune(home, rows, "long", "--steps", 10 ** 6)
    wait(lambda: show(home, "long")["step"] > 0)
    assert s.stop() == 0
    assert show(home, "long")["state"] == "queued"
    s = Server(home, "--model", "tiny")
    try:
        wait(lambda: show(home, "long")["state"] == "running")
        run(home, "tune", "stop", "long")
        wait(lambda: show(home, "long")["state"] == "stopped")
    finally:
        s.stop()
