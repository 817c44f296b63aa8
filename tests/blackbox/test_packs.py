"""Packed weights on disk: written once, mapped by later starts and other processes, made anew when damaged."""
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import time

import pytest
from conftest import MODELS, PATIENCE, PROGRAM, SMOLLM2, TINY

QUESTION = ["--temperature", "0", "--max-tokens", "12", "--raw", "--json"]


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def run(home, *args, code=0, env=None, **kw):
    done = subprocess.run([PROGRAM, *map(str, args)], env={**os.environ, "BAIMO_HOME": str(home), **(env or {})}, capture_output=True,
                          text=True, timeout=PATIENCE, **kw)
    assert done.returncode == code, done.stderr
    return done


def ask(home, model, *more, **kw):
    """The answer, and what was said on stderr."""
    done = run(home, "chat", model, "The sea", *QUESTION, *more, **kw)
    return json.loads(done.stdout)["content"], done.stderr


def packs(home):
    return sorted((home / "packs").glob("*.pack"))


def files(home):
    return sorted(p.name for p in (home / "packs").iterdir()) if (home / "packs").exists() else []


def rollup(pid):
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {w[0][:-1]: int(w[1]) * 1024 for w in map(str.split, lines)}


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        byte = f.read(1)[0]
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte ^ 4]))


def test_answers_are_the_same_bytes_with_and_without_packs(home):
    plain, _ = ask(home, SMOLLM2, "--no-pack")
    assert not (home / "packs").exists()
    by_environment, _ = ask(home, SMOLLM2, env={"BAIMO_NO_PACK": "1"})
    assert not (home / "packs").exists()
    first, said = ask(home, SMOLLM2)
    assert len(packs(home)) == 1 and not said
    second, said = ask(home, SMOLLM2)
    assert plain == by_environment == first == second and not said
    assert oct(os.stat(home / "packs").st_mode & 0o777) == "0o700"
    assert os.stat(packs(home)[0]).st_size < 1.03 * os.stat(SMOLLM2).st_size


@pytest.mark.parametrize("how", ["shorter", "longer", "empty", "header", "table", "data"])
def test_a_damaged_pack_is_made_anew(home, how):
    good, _ = ask(home, TINY)
    pack = packs(home)[0]
    before = pack.read_bytes()
    if how == "shorter":
        os.truncate(pack, len(before) - 1)
    elif how == "longer":
        os.truncate(pack, len(before) + 4096)
    elif how == "empty":
        os.truncate(pack, 0)
    else:
        flip(pack, {"header": 20, "table": 300, "data": -100}[how])
    if how == "data":                                    # found by the checksums, while or after the first answer is written
        subprocess.run([PROGRAM, "chat", TINY, "The sea", *QUESTION], env={**os.environ, "BAIMO_HOME": str(home)},
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
        assert not packs(home)
    again, _ = ask(home, TINY)
    assert again == good
    assert packs(home)[0].read_bytes() == before


def test_damage_is_found_while_serving_and_the_model_is_loaded_anew(home, start):
    s = start("--model", TINY)
    s.wait_for(lambda ps: len(packs(home)) == 1)
    name = s.ps()["models"][0]["name"]
    body = {"model": name, "prompt": "The sea", "max_tokens": 8, "temperature": 0}
    good = s.json("POST", "/v1/completions", body)["choices"][0]["text"]
    s.stop()
    flip(packs(home)[0], -100)
    s = start("--model", TINY)
    s.wait_for(lambda ps: "its packed weights were damaged" in s.stderr())
    assert s.json("POST", "/v1/completions", body)["choices"][0]["text"] == good
    s.wait_for(lambda ps: len(packs(home)) == 1)


def test_a_second_process_shares_the_weights(home, start):
    ask(home, SMOLLM2)
    a = start("--model", SMOLLM2, "--ctx", "2048", "--parallel", "1")
    b = subprocess.Popen([PROGRAM, "serve", "--port", "0", "--model", str(SMOLLM2), "--ctx", "2048", "--parallel", "1"],
                         env={**os.environ, "BAIMO_HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        for line in b.stdout:
            if "baimo key add" in line:
                break
        assert rollup(b.pid)["Pss"] < 0.2 * os.stat(SMOLLM2).st_size        # measured: under a tenth
        body = {"model": "smollm2", "prompt": "The sea", "max_tokens": 4}
        a.json("POST", "/v1/completions", body)
        assert rollup(a.process.pid)["Anonymous"] < 0.5 * os.stat(SMOLLM2).st_size                    # the weights are the file's pages
    finally:
        b.kill()
        b.wait()


def test_two_first_starts_at_once_leave_one_good_pack(home):
    env = {**os.environ, "BAIMO_HOME": str(home)}
    both = [subprocess.Popen([PROGRAM, "chat", str(SMOLLM2), "The sea", *QUESTION], env=env, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) for _ in range(2)]
    out = [p.communicate(timeout=PATIENCE) for p in both]
    assert all(p.returncode == 0 for p in both), out
    assert files(home) == sorted([packs(home)[0].name, "known", "lock"])
    again, said = ask(home, SMOLLM2)
    assert not said and all(json.loads(o)["content"] == again for o, _ in out)


def size_of(path):
    """0 when it is gone: whoever writes it may rename it at any moment."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_killed_while_writing_leaves_no_bad_pack(home):
    env = {**os.environ, "BAIMO_HOME": str(home)}
    for i in range(6):
        p = subprocess.Popen([PROGRAM, "chat", str(SMOLLM2), "The sea", *QUESTION], env=env, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while p.poll() is None and time.monotonic() < end:
            if any(".tmp." in n and size_of(home / "packs" / n) > i * (8 << 20) for n in files(home)):
                break
        p.send_signal(signal.SIGKILL)
        p.wait()
        if packs(home):
            packs(home)[0].unlink()
    good, _ = ask(home, SMOLLM2, "--no-pack")
    again, said = ask(home, SMOLLM2)
    assert again == good and not said
    assert files(home) == sorted([packs(home)[0].name, "known", "lock"])     # what was left behind is gone
    mapped, said = ask(home, SMOLLM2)
    assert mapped == good and not said


def test_a_full_disk_means_memory_and_one_notice(home):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    good, _ = ask(home, SMOLLM2, "--no-pack")
    answer, said = ask(home, SMOLLM2, preexec_fn=limit)
    assert answer == good
    assert said.count("memory only") == 1 and len(said.splitlines()) == 1, said
    assert not packs(home) and not any(".tmp." in n for n in files(home))
    (home / "packs").rename(home / "away")
    (home / "packs").write_text("no directory")
    answer, said = ask(home, SMOLLM2)
    assert answer == good and said.count("memory only") == 1


def test_the_shelf_shows_verifies_and_removes_packs(home, tmp_path):
    model = tmp_path / "tiny.gguf"
    shutil.copy(TINY, model)
    run(home, "shelf", "add", model, "--name", "tiny")
    show = json.loads(run(home, "shelf", "show", "tiny", "--json").stdout)
    assert show["pack_bytes"] == 0
    assert "not on disk" in run(home, "shelf", "verify", "tiny").stdout
    ask(home, "tiny")
    show = json.loads(run(home, "shelf", "show", "tiny", "--json").stdout)
    assert show["pack_bytes"] == packs(home)[0].stat().st_size
    assert json.loads(run(home, "shelf", "verify", "tiny", "--json").stdout)["pack"] == "ok"
    flip(packs(home)[0], -1)
    done = run(home, "shelf", "verify", "tiny", code=1)
    assert "checksum" in done.stderr and not packs(home)
    ask(home, "tiny")
    run(home, "shelf", "rm", "tiny")
    assert not packs(home)
    ask(home, model)                                                         # named by path: gc takes it
    assert len(packs(home)) == 1
    assert "1 packs removed" in run(home, "shelf", "gc").stdout
    assert not packs(home)
    run(home, "shelf", "add", model, "--name", "tiny")
    flip(model, -1)
    os.utime(model)
    assert "sha256" in run(home, "shelf", "verify", "tiny", code=1).stderr


def test_bench_and_perplexity_use_the_pack(home, tmp_path):
    run(home, "bench", TINY, "-p", "8", "-n", "4", "-r", "1", "--no-pack")
    assert not packs(home)
    run(home, "bench", TINY, "-p", "8", "-n", "4", "-r", "1")
    assert len(packs(home)) == 1
    text = tmp_path / "text"
    text.write_text("the sea and the sky " * 200)
    a = json.loads(run(home, "perplexity", TINY, text, "-c", "64", "--json").stdout)
    b = json.loads(run(home, "perplexity", TINY, text, "-c", "64", "--json", "--no-pack").stdout)
    assert a == b
    flip(packs(home)[0], -1)
    done = run(home, "perplexity", TINY, text, "-c", "64", "--json")
    assert json.loads(done.stdout) == a and "damaged" in done.stderr         # known before anything is computed
