"""Adapters on a running server: put on the shelf, mounted, named by requests, replaced and taken away while streams run."""
import http.client
import json
import shutil
import socket
import subprocess
import threading

import pytest

from conftest import PATIENCE, PROGRAM, ROOT, TINY, events

ADAPTER = ROOT / "tests" / "oracle" / "adapters" / "llama"
PROMPT = "the quick brown fox jumps over the lazy dog while the other animals of the forest are looking at the river and thinking " * 3


def version(tmp_path, name, alpha):
    """The adapter with another alpha: other content under any name."""
    path = tmp_path / name
    shutil.copytree(ADAPTER, path)
    config = json.loads((path / "adapter_config.json").read_text())
    config["lora_alpha"] = alpha
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


@pytest.fixture
def tiny(start, tmp_path):
    home = tmp_path / "home"
    env = {**__import__("os").environ, "BAIMO_HOME": str(home)}
    subprocess.run([PROGRAM, "shelf", "add", str(TINY), "--name", "tiny"], env=env, check=True, capture_output=True, timeout=PATIENCE)
    return start("--model", "tiny", "--ctx", "4096")


def complete(s, model, status=200, **fields):
    body = {"model": model, "prompt": PROMPT, "max_tokens": 24, "temperature": 0, "ignore_eos": True, **fields}
    return s.json("POST", "/v1/completions", body, status=status)


def text(s, model, **fields):
    return complete(s, model, **fields)["choices"][0]["text"]


def cached(s, model):
    return complete(s, model)["usage"]["prompt_tokens_details"]["cached_tokens"]


class Local(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


def local(s, method, path, body=None):
    c = Local(s.home / "baimo.sock")
    c.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
    r = c.getresponse()
    return r.status, json.loads(r.read())


def test_an_adapter_is_a_model_of_its_own(tiny, tmp_path):
    s = tiny
    base = text(s, "tiny")
    row = json.loads(s.command("shelf", "add", ADAPTER, "--base", "tiny", "--name", "fox", "--json"))
    assert row["parent"] == "tiny" and row["kind"] == "adapter" and row["settings"]["rank"] == 4
    adapted = text(s, "fox")
    assert adapted != base and text(s, "tiny") == base
    assert text(s, "tiny+fox") == adapted and complete(s, "tiny+fox")["model"] == "fox"
    s.command("shelf", "alias", "best", "fox")
    assert text(s, "best") == adapted
    listed = {m["id"]: m for m in s.json("GET", "/v1/models")["data"]}
    assert listed["fox"]["parent"] == "tiny" and listed["fox"]["loaded"] and "parent" not in listed["tiny"]
    assert s.json("GET", "/v1/models/best")["id"] == "fox"
    shown = json.loads(s.command("shelf", "ls", "--json"))
    assert [a["name"] for a in shown["adapters"]] == ["fox"] and shown["aliases"] == {"best": "fox"}
    assert json.loads(s.command("shelf", "show", "fox", "--json"))["sha256"] == row["sha256"]
    used = {r["adapter"]: r["requests"] for r in json.loads(s.command("usage", "--by", "adapter", "--json"))["usage"]}
    assert used == {"": 2, "fox": 4}
    assert {r["model"] for r in json.loads(s.command("usage", "--json"))["usage"]} == {"tiny"}
    s.command("shelf", "rm", "fox")
    assert complete(s, "fox", status=404)["error"]["code"] == "not_found"
    assert complete(s, "tiny+fox", status=404)["error"]["param"] == "model"


def test_no_prefix_is_shared_across_adapters_or_versions_of_one(tiny, tmp_path):
    s = tiny
    a, b, a2 = version(tmp_path, "a", 10), version(tmp_path, "b", 40), version(tmp_path, "a2", 25)
    s.command("shelf", "add", a, "--base", "tiny", "--name", "A")
    s.command("shelf", "add", b, "--base", "tiny", "--name", "B")
    alone = {m: text(s, m, cache_prompt=False) for m in ("tiny", "A", "B")}
    assert len(set(alone.values())) == 3
    for model in ("tiny", "A", "B"):
        assert cached(s, model) == 0
        assert cached(s, model) > 0
        assert text(s, model) == alone[model]
    s.command("shelf", "add", a2, "--base", "tiny", "--name", "A")
    replaced = text(s, "A", cache_prompt=False)
    assert replaced not in alone.values()
    assert cached(s, "A") == 0 and text(s, "A") == replaced
    s.command("shelf", "add", a, "--base", "tiny", "--name", "A")
    assert cached(s, "A") > 0 and text(s, "A") == alone["A"]      # the same content again


def test_adapters_come_and_go_while_streams_run(tiny, tmp_path):
    s = tiny
    a, b = version(tmp_path, "a", 10), version(tmp_path, "b", 40)
    s.command("shelf", "add", a, "--base", "tiny", "--name", "A")
    many = 2500
    alone = {m: text(s, m, max_tokens=many) for m in ("tiny", "A")}
    first, got, lock = threading.Semaphore(0), {}, threading.Lock()

    def stream(i, model):
        body = json.dumps({"model": model, "prompt": PROMPT, "max_tokens": many, "temperature": 0, "ignore_eos": True, "stream": True})
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=PATIENCE)
        c.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        r = c.getresponse()
        data = r.readline()
        first.release()
        data += r.read()
        with lock:
            got[i] = "".join(e["choices"][0]["text"] for e in events(data)[0] if e["choices"])

    models = ["tiny", "A", "tiny", "A"]
    threads = [threading.Thread(target=stream, args=(i, m)) for i, m in enumerate(models)]
    for t in threads:
        t.start()
    for _ in threads:
        assert first.acquire(timeout=PATIENCE)
    status, reply = local(s, "POST", "/v1/adapters", {"name": "B", "path": str(b), "base": "tiny"})
    assert status == 200 and reply["mounted"] and reply["parent"] == "tiny"
    other = text(s, "B")
    s.command("shelf", "add", b, "--base", "tiny", "--name", "A")            # another version under the name that streams use
    assert text(s, "A") == other
    assert local(s, "DELETE", "/v1/adapters/A")[0] == 200
    assert complete(s, "A", status=404)
    for t in threads:
        t.join(PATIENCE)
    assert [got[i] == alone[m] for i, m in enumerate(models)] == [True] * 4
    assert local(s, "GET", "/v1/adapters")[1]["data"][0]["id"] == "B"
    assert local(s, "GET", "/v1/adapters/A")[0] == 404


def test_paths_are_read_for_the_operator_only(tiny, tmp_path):
    s = tiny
    body = {"name": "x", "path": str(ADAPTER), "base": "tiny"}
    assert s.json("POST", "/v1/adapters", body, status=403)["error"]["param"] == "path"
    secrets = [w for w in s.command("key", "add", "m2", "--scope", "models,infer").split() if w.startswith("bm-")]
    admin = [w for w in s.command("key", "add", "boss", "--scope", "admin").split() if w.startswith("bm-")]
    s.key = secrets[0]
    assert s.json("POST", "/v1/adapters", body, status=403)["error"]["param"] == "path"
    s.key = admin[0]
    assert s.json("POST", "/v1/adapters", body)["mounted"]
    s.key = secrets[0]
    assert s.json("POST", "/v1/adapters", {"name": "x"})["mounted"]          # of the shelf: scope models is enough
    assert s.json("POST", "/v1/adapters", {"name": "y"}, status=404)


def test_what_does_not_fit_is_refused_with_both_named(tiny, tmp_path):
    s = tiny
    s.command("shelf", "add", ROOT / "tests" / "oracle" / "models" / "gemma3.gguf", "--name", "other")
    status, reply = local(s, "POST", "/v1/adapters", {"name": "x", "path": str(ADAPTER), "base": "other"})
    assert status == 400 and "expected [" in reply["error"]["message"] and "another base" in reply["error"]["message"]
    status, reply = local(s, "POST", "/v1/adapters", {"name": "x", "path": str(ADAPTER)})
    assert status == 400 and "--base" in reply["error"]["hint"]
    assert local(s, "POST", "/v1/adapters", {"name": "x", "path": str(tmp_path / "none"), "base": "tiny"})[0] == 404
    assert local(s, "POST", "/v1/adapters", {"name": "tiny", "path": str(ADAPTER), "base": "tiny"})[0] == 409
    here = version(tmp_path, "here", 10)
    s.command("shelf", "add", here, "--base", "tiny", "--name", "gone")
    with open(here / "adapter_model.safetensors", "r+b") as f:
        f.seek(-1, 2)
        f.write(b"\x11")
    assert "changed since" in complete(s, "gone", status=400)["error"]["message"]
