"""The life of a server: loading, stopping, options from all three places."""
import json
import os
import signal
import socket
import subprocess

import pytest

from conftest import PATIENCE, PROGRAM, SMOLLM2, TINY, events, http_bytes, read_reply

LONG = {"prompt": "a", "max_tokens": 3000, "n": 8, "ignore_eos": True, "stream": True}


def test_what_is_printed_when_ready(server):
    text = "".join(server.lines)
    assert "is ready" in text and server.url + "/\n" in text
    assert f"curl {server.url}/v1/chat/completions" in text and f"export OPENAI_BASE_URL={server.url}/v1" in text and "export OPENAI_API_KEY=" in text
    assert "tokens/s" in text and "context 4,096" in text.replace("4096", "4,096")
    assert "baimo shelf add FILE.gguf" in text and "baimo key add NAME" in text


def test_the_printed_curl_line_works(server):
    line = next(l.strip() for l in server.lines if l.strip().startswith("curl "))
    done = subprocess.run(["bash", "-c", line.replace("curl ", "curl -sS --noproxy '*' ", 1)], capture_output=True, text=True, timeout=PATIENCE)
    assert "Paris" in json.loads(done.stdout)["choices"][0]["message"]["content"], done


def test_sigterm_finishes_what_runs_and_refuses_what_comes(start):
    s = start("--model", TINY, "--drain-seconds", "3600")       # slow machines and sanitizers: the default limit would cut in
    running, idle = s.raw(), s.raw()
    running.sendall(http_bytes("/v1/completions", LONG))
    f = running.makefile("rb")
    f.peek(1)
    s.process.send_signal(signal.SIGTERM)
    status, _, body = read_reply(f)
    chunks, done = events(body)
    assert status == 200 and done and [c["choices"][0]["finish_reason"] for c in chunks if c["choices"][0]["finish_reason"]] == ["length"] * 8
    assert idle.recv(1) == b""
    running.close()
    assert s.process.wait(PATIENCE) == 0
    assert not (s.home / "baimo.sock").exists()


def test_a_second_signal_cancels(start):
    s = start("--model", SMOLLM2, "--ctx", "8192")
    streaming, whole = s.raw(), s.raw()
    streaming.sendall(http_bytes("/v1/completions", {**LONG, "n": 4}))
    whole.sendall(http_bytes("/v1/completions", {**LONG, "n": 1, "stream": False}))
    streaming.makefile("rb").peek(1)
    s.wait_for(lambda ps: ps["engine"]["active"] == 5)
    s.process.send_signal(signal.SIGTERM)
    streaming.recv(100)
    s.process.send_signal(signal.SIGINT)
    assert read_reply(whole.makefile("rb"))[0] == 503
    assert b"the server is stopping" in streaming.makefile("rb").read()
    assert s.process.wait(PATIENCE) == 0


def test_drain_seconds_is_a_limit(start):
    s = start("--model", SMOLLM2, "--drain-seconds", "1", "--ctx", "8192")
    c = s.raw()
    c.sendall(http_bytes("/v1/completions", {**LONG, "max_tokens": 8000, "n": 4}))
    c.makefile("rb").peek(1)
    assert s.stop() == 0
    assert b"the server is stopping" in c.makefile("rb").read()


def test_a_shelf_model_loads_at_its_first_request(start, tmp_path):
    env = {**os.environ, "BAIMO_HOME": str(tmp_path / "home")}
    subprocess.run([PROGRAM, "shelf", "add", str(TINY), "--name", "tiny"], env=env, check=True, capture_output=True)
    s = start()
    assert s.ps()["models"] == [] and s.json("GET", "/v1/models")["data"][0]["id"] == "tiny"
    r = s.json("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1})
    assert r["model"] == "tiny" and s.ps()["models"][0]["loaded"]


def test_an_empty_shelf_says_how_to_fill_it(start):
    s = start()
    assert "baimo shelf add" in "".join(s.lines)
    err = s.json("POST", "/v1/completions", {"prompt": "a"}, status=404)["error"]
    assert "shelf add" in err["hint"] + err["message"]
    assert s.json("GET", "/v1/models")["data"] == []


def test_health_while_loading_and_after(start):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    s = start("--model", SMOLLM2, "--port", port, ready=False)
    s.port, seen = port, []
    while not seen or seen[-1][0] != 200:                            # each answer on the way says how far it is
        try:
            status, head, data = s.request("GET", "/health")
        except ConnectionRefusedError:
            assert s.process.poll() is None and not seen
            continue
        seen.append((status, json.loads(data)))
        if status == 503:
            assert seen[-1][1]["status"] == "loading" and 0 <= seen[-1][1]["progress"] <= 1 and "retry-after" in head
    assert seen[-1] == (200, {"status": "ok"})


def test_a_request_waits_for_its_model(start):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    s = start("--model", SMOLLM2, "--port", port, ready=False)
    s.port = port
    while True:
        try:
            answer = s.json("POST", "/v1/completions", {"prompt": "a", "max_tokens": 2})
            break
        except ConnectionRefusedError:
            assert s.process.poll() is None
    assert answer["usage"]["completion_tokens"] == 2


def test_a_model_that_cannot_be_loaded_ends_the_start(tmp_path):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(TINY.read_bytes()[:50000])
    for args, says in ((["--model", str(bad)], "bad.gguf"), (["--model", "no-such-model"], "no-such-model")):
        done = subprocess.run([PROGRAM, "serve", "--port", "0", *args], env={**os.environ, "BAIMO_HOME": str(tmp_path / "home")},
                              capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 1 and says in done.stderr and done.stderr.count("hint:") <= 1


def test_flags_win_over_environment_over_file(start, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "baimo.conf").write_text(f"# mine\nctx = 512\nmodel = {TINY}\nparallel = 2\n")
    s = start()
    assert s.ps()["models"][0]["context"] == 512
    s.stop()
    s = start(BAIMO_CTX="768")
    assert s.ps()["models"][0]["context"] == 768
    s.stop()
    s = start("--ctx", "1024", BAIMO_CTX="768")
    assert s.ps()["models"][0]["context"] == 1024


def test_two_servers_of_one_home(start):
    a = start("--model", TINY)
    b = start("--model", TINY)
    assert "baimo.sock" in b.stderr() or "another server" in b.stderr()
    assert a.json("GET", "/health") and b.json("GET", "/health")
    b.stop()
    assert "context" in json.dumps(a.ps()) and (a.home / "baimo.sock").exists()
