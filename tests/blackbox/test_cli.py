"""The commands from outside: help, exit codes, what is said of bad input, and that nothing is half done."""
import hashlib
import json
import os
import pathlib
import pty
import shutil
import sqlite3
import stat
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("BAIMO_PROGRAM", str(ROOT / "build" / "baimo"))
TINY = ROOT / "tests" / "oracle" / "models" / "llama.gguf"
OTHER = ROOT / "tests" / "oracle" / "models" / "qwen2.gguf"
COMMANDS = ["serve", "chat", "ps", "shelf", "key", "data", "usage", "inspect", "tokenize", "render", "perplexity", "bench", "doctor", "version"]
LEAVES = ["serve", "chat", "ps", "usage", "inspect", "tokenize", "render", "perplexity", "bench", "doctor", "version", "run", "pull",
          "list", "show", "rm"] + ["shelf " + s for s in ("add", "scan", "ls", "show", "rm", "alias")] + \
         ["key " + s for s in ("add", "ls", "revoke")] + ["data " + s for s in ("check", "add", "ls", "show", "rm")]


class Baimo:
    def __init__(self, home):
        self.home = home
        self.env = {"BAIMO_HOME": str(home), "HOME": str(home.parent), "PATH": os.environ["PATH"]}

    def __call__(self, *args, code=0, stdin=b"", **env):
        done = subprocess.run([PROGRAM, *map(str, args)], input=stdin, capture_output=True, env={**self.env, **env}, timeout=120)
        self.out = done.stdout.decode("utf-8", "surrogateescape")
        self.err = done.stderr.decode("utf-8", "surrogateescape")
        assert done.returncode == code, (args, done.returncode, self.out, self.err)
        return self.out

    def json(self, *args, **kw):
        return json.loads(self(*args, "--json", **kw))

    def names(self):
        return [m["name"] for m in self.json("shelf", "ls")["models"]]


@pytest.fixture
def baimo(tmp_path):
    return Baimo(tmp_path / "home")


# ---- the program itself ----

def test_alone_it_gives_an_overview(baimo):
    text = baimo()
    for command in COMMANDS:
        assert f"\n  {command} " in text
    assert baimo("help") == text == baimo("--help")


@pytest.mark.parametrize("command", LEAVES)
def test_every_command_explains_itself_with_an_example(baimo, command):
    text = baimo(*command.split(), "--help")
    assert text.startswith("usage: baimo ")
    assert "\nexample" in text and "\n  baimo " in text
    assert "--help" in text
    assert not (baimo.home / "baimo.db").exists()


@pytest.mark.parametrize("command", LEAVES)
def test_every_command_has_json(baimo, command):
    assert "--json" in baimo(*command.split(), "--help") or command in ("serve", "chat", "run", "render")


@pytest.mark.parametrize("command", LEAVES)
def test_unknown_option_is_wrong_use(baimo, command):
    baimo(*command.split(), "--no-such-thing", code=2)
    assert baimo.err.startswith("baimo ") and "--no-such-thing" in baimo.err and "hint: " in baimo.err
    assert baimo.out == ""


@pytest.mark.parametrize("args, says", [
    (["shlef"], "did you mean 'shelf'?"), (["shelf", "ad"], "did you mean 'add'?"), (["zzzzzzzzzz"], "there is no command"),
    (["shelf", "add"], "expected one FILE"), (["key", "add"], "expected one NAME"), (["usage", "--by"], "--by needs a value"),
    (["usage", "--by", "colour"], "expected key, model, adapter or day"), (["usage", "--since", "yesterday"], "--since"),
    (["version", "x"], "takes no arguments"), (["list", "--jsn"], "did you mean --json?"), (["key", "add", "x", "--scope", "all"], "scope 'all'"),
])
def test_wrong_use_exits_2_and_says_what_is_right(baimo, args, says):
    baimo(*args, code=2)
    assert says in baimo.err


def test_groups_list_their_commands(baimo):
    assert "alias" in baimo("shelf", "--help")
    assert baimo("shelf", code=2) == baimo("help", "shelf")
    assert "NAME" in baimo("help", "key", "add")


def test_version(baimo):
    assert baimo("version").split()[0] == "baimo"
    assert baimo.json("version")["version"] == baimo("--version").split()[1]


def test_full_disk_is_a_failure(baimo):
    with open("/dev/full", "w") as full:
        done = subprocess.run([PROGRAM, "help"], stdout=full, stderr=subprocess.PIPE, env=baimo.env)
    assert done.returncode == 1 and b"cannot write the output" in done.stderr


# ---- the shelf ----

def test_model_goes_on_the_shelf_and_off_again(baimo, tmp_path):
    file = tmp_path / "My Model.gguf"
    shutil.copy(TINY, file)
    m = baimo.json("shelf", "add", file)
    assert m["name"] == "My-Model" and m["arch"] == "llama" and m["source"] == "file" and m["path"] == str(file)
    assert m["sha256"] == hashlib.sha256(TINY.read_bytes()).hexdigest() and m["size_bytes"] == TINY.stat().st_size
    assert baimo.json("pull", file) == m
    assert baimo.names() == ["My-Model"]
    assert "My-Model" in baimo("list") and m["sha256"] in baimo("show", "my-model")
    assert baimo("shelf", "add", OTHER, "--name", "o:1") and "hashing qwen2.gguf" in baimo.err
    assert baimo.names() == ["My-Model", "o:1"]
    baimo("shelf", "alias", "default", "o:1")
    assert baimo.json("shelf", "ls")["aliases"] == {"default": "o:1"}
    baimo("rm", "My-Model", "nothing-like-it", code=1)
    assert baimo.names() == ["o:1"] and file.exists()
    baimo("shelf", "rm", "default", code=1)
    assert "alias of 'o:1'" in baimo.err
    baimo("shelf", "alias", "--remove", "default")
    assert baimo.json("shelf", "ls")["aliases"] == {}


def test_nothing_of_the_home_is_open_to_others(baimo):
    baimo("shelf", "add", TINY)
    assert stat.S_IMODE(baimo.home.stat().st_mode) == 0o700
    for f in baimo.home.iterdir():
        assert stat.S_IMODE(f.stat().st_mode) == 0o600, f


def gguf(*kvs, n_tensors=0, tail=b"", version=3):
    """A GGUF header: kvs are (key, type, bytes)."""
    s = lambda b: struct.pack("<Q", len(b)) + b
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, len(kvs)) + b"".join(s(k) + struct.pack("<I", t) + v for k, t, v in kvs) + tail


def text_kv(key, value):
    return key, 8, struct.pack("<Q", len(value)) + value


BAD = {
    "empty": b"",
    "text": b"this is no model at all\n" * 100,
    "magic only": b"GGUF",
    "version 99": gguf(version=99),
    "counts": b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60),
    "string beyond the end": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 40) + b"x" * 64,
    "no architecture": gguf(),
    "unknown architecture": gguf(text_kv(b"general.architecture", b"nosucharch")),
    "architecture with escapes": gguf(text_kv(b"general.architecture", b"\x1b[2Jevil\r\n")),
    "cut in the header": TINY.read_bytes()[:1000],
    "cut in the metadata": TINY.read_bytes()[:9000],
    "cut in the tensors": TINY.read_bytes()[:-5000],
    "other pre-tokeniser": TINY.read_bytes().replace(b"gpt-2", b"gpt-9"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_file_gets_one_line_that_names_it_and_leaves_nothing(baimo, tmp_path, what):
    file = tmp_path / "bad file.gguf"
    file.write_bytes(BAD[what])
    baimo("shelf", "add", file, code=1)
    lines = baimo.err.splitlines()
    assert lines[0].startswith("baimo: ") and "bad file.gguf" in lines[0] and len(lines) <= 2
    assert all(c.isprintable() for line in lines for c in line)
    assert len(lines) == 1 or lines[1].startswith("hint: ")
    assert baimo.out == "" and baimo.names() == []


def test_every_cut_of_a_model_is_refused(baimo, tmp_path):
    whole = TINY.read_bytes()
    file = tmp_path / "cut.gguf"
    for n in list(range(0, 64, 7)) + [len(whole) * i // 12 for i in range(12)] + [len(whole) - 1]:
        file.write_bytes(whole[:n])
        baimo("shelf", "add", file, code=1)
        assert "cut.gguf" in baimo.err
    assert baimo.names() == []


@pytest.mark.parametrize("source, says", [
    ("no/such/file.gguf", "No such file"), ("/", "a directory"), ("/dev/null", "not a regular file"), ("hf:org/repo", "on this machine"),
    ("https://example.org/m.gguf", "on this machine"),
])
def test_what_is_no_file_is_refused(baimo, source, says):
    baimo("shelf", "add", source, code=1)
    assert says in baimo.err


@pytest.mark.parametrize("name", ["../x", "a b", "", "a+b", "-x", "a" * 200, "\x1b[31m", "/etc/passwd"])
def test_names_that_could_harm_are_refused(baimo, name):
    baimo("shelf", "add", TINY, f"--name={name}", code=1)
    assert "\x1b" not in baimo.err and baimo.names() == []


def test_taken_name_is_refused_with_the_way_out(baimo):
    baimo("shelf", "add", TINY, "--name", "m")
    baimo("shelf", "add", OTHER, "--name", "m", code=1)
    assert "hint: baimo shelf rm m, or another name" in baimo.err


def test_lost_file_is_shown_and_refused(baimo, tmp_path):
    file = tmp_path / "m.gguf"
    shutil.copy(TINY, file)
    baimo("shelf", "add", file)
    file.write_bytes(TINY.read_bytes()[:-1])
    assert "MISSING" in baimo("list") and "MISSING" in baimo("show", "m")
    baimo("tokenize", "m", "x", code=1)
    assert "gone or has another size" in baimo.err


# ---- scan ----

def put_ollama(home, name, tag, data, layer="application/vnd.ollama.image.model"):
    digest = hashlib.sha256(data).hexdigest()
    blobs = home / ".ollama" / "models" / "blobs"
    manifests = home / ".ollama" / "models" / "manifests" / "registry.ollama.ai" / "library" / name
    blobs.mkdir(parents=True, exist_ok=True)
    manifests.mkdir(parents=True, exist_ok=True)
    (blobs / f"sha256-{digest}").write_bytes(data)
    (manifests / tag).write_text(json.dumps({"schemaVersion": 2, "layers": [{"mediaType": layer, "digest": f"sha256:{digest}"}]}))


def test_scan_finds_what_others_have_and_adds_it_in_place(baimo, tmp_path):
    put_ollama(tmp_path, "tiny", "135m", TINY.read_bytes())
    put_ollama(tmp_path, "broken", "latest", b"GGUF nothing")
    studio = tmp_path / ".lmstudio" / "models" / "pub" / "repo"
    studio.mkdir(parents=True)
    shutil.copy(OTHER, studio / "Other-Q8_0.gguf")
    snapshot = tmp_path / ".cache" / "huggingface" / "hub" / "models--o--r" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "Linked.gguf").symlink_to(studio / "Other-Q8_0.gguf")

    found = baimo.json("shelf", "scan", "--dry-run")["added"]
    assert sorted(f["name"] for f in found) == ["Other-Q8_0", "broken:latest", "tiny:135m"] and baimo.names() == []
    result = baimo.json("shelf", "scan")
    assert {m["name"]: m["source"] for m in result["added"]} == {"tiny:135m": "ollama", "Other-Q8_0": "lmstudio"}
    assert [s["name"] for s in result["skipped"]] == ["broken:latest"]
    assert baimo.names() == ["Other-Q8_0", "tiny:135m"]
    again = baimo.json("shelf", "scan")
    assert again["added"] == [] and again["known"] == 2
    assert "2 known already" in baimo("shelf", "scan")


def test_scan_of_another_tree(baimo, tmp_path):
    put_ollama(tmp_path / "elsewhere", "tiny", "latest", TINY.read_bytes())
    assert "no GGUF files" in baimo("shelf", "scan")
    assert "added    tiny:latest" in baimo("shelf", "scan", "--root", tmp_path / "elsewhere")
    assert json.loads(baimo("show", "tiny", "--json"))["name"] == "tiny:latest"


def test_scan_gives_a_second_file_of_the_same_name_a_number(baimo, tmp_path):
    for i, model in enumerate((TINY, OTHER)):
        where = tmp_path / ".lmstudio" / "models" / "pub" / f"repo{i}"
        where.mkdir(parents=True)
        shutil.copy(model, where / "same.gguf")
    baimo("shelf", "scan")
    assert baimo.names() == ["same", "same-2"]


# ---- keys, usage ----

def test_key_is_shown_once_and_taken_back(baimo):
    secret = baimo("key", "add", "alice").strip()
    assert secret.startswith("bm-") and len(secret) == 46
    assert "alice" in baimo("key", "ls") and secret not in baimo.out
    assert secret not in baimo("key", "ls", "--json")
    assert secret.encode() not in b"".join(f.read_bytes() for f in baimo.home.iterdir())
    baimo("key", "add", "alice", code=1)
    assert "exists already" in baimo.err
    baimo("key", "revoke", "alcie", code=1)
    assert "did you mean alice" in baimo.err
    baimo("key", "revoke", "alice")
    assert baimo.json("key", "ls")["keys"] == []
    assert baimo.json("key", "ls", "--all")["keys"][0]["revoked_ms"] > 0
    both = baimo.json("key", "add", "bob", "--scope", "infer,audit")
    assert both["scope"] == "infer,audit" and both["key"].startswith(both["prefix"])


def test_usage_without_requests(baimo):
    assert "no requests yet" in baimo("usage")
    assert baimo.json("usage", "--by", "day", "--since", "7d") == {"by": "day", "usage": []}


def test_usage_adds_up_what_the_ledger_holds(baimo):
    baimo("usage")
    db = sqlite3.connect(baimo.home / "baimo.db")
    for i, (key, outcome) in enumerate([("alice", "ok"), ("alice", "canceled"), ("", "error")]):
        db.execute("INSERT INTO ledger (request_id, key_id, key_name, model, route, prompt_tokens, cached_tokens, completion_tokens, outcome,"
                   " reason, started_ms, queue_ms, first_token_ms, total_ms) VALUES (?, 0, ?, 'm', 'r', 10, 4, ?, ?, '', ?, 0, 0, 0)",
                   (str(i), key, i, outcome, 1700000000000 + i * 86400000))
    db.commit()
    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        db.execute("DELETE FROM ledger")
    rows = {r["key"]: r for r in baimo.json("usage", "--by", "key")["usage"]}
    assert rows["alice"]["requests"] == 2 and rows["alice"]["canceled"] == 1 and rows["alice"]["completion_tokens"] == 1
    assert rows[""]["errors"] == 1
    assert [r["day"] for r in baimo.json("usage", "--by", "day", "--since", "2023-11-15")["usage"]] == ["2023-11-15", "2023-11-16"]
    assert "(no key)" in baimo("usage", "--by", "key") and " all" in baimo.out


# ---- tokenize, ps, doctor ----

def test_tokenize_by_name_and_path_and_stdin(baimo):
    baimo("shelf", "add", TINY, "--name", "tiny")
    ids = baimo("tokenize", "tiny", "Hello world", "--ids").split()
    assert ids == baimo("tokenize", TINY, "--ids", stdin=b"Hello world").split()
    out = baimo.json("tokenize", "tiny", "Hello world")
    assert out["count"] == len(ids) and out["ids"] == [int(i) for i in ids] and "".join(out["pieces"]).endswith("Hello world")
    assert len(baimo("tokenize", "tiny", "Hello world").splitlines()) == len(ids)
    assert baimo("tokenize", "tiny", "Hello world", "--count").strip() == str(len(ids))
    assert "\x1b" not in baimo("tokenize", "tiny", "a\x1b[2Jb\n\x07")
    baimo("tokenize", "tiny", "--ids", stdin=b"\xff\xfe half \xe4\xb8")
    assert baimo("tokenize", "tiny", "", "--no-special", "--ids").strip() == ""
    baimo("tokenize", "tini", "x", code=1)
    assert "did you mean tiny?" in baimo.err
    baimo("tokenize", code=2)


def test_control_tokens_in_text_stay_text_unless_asked(baimo):
    plain = baimo("tokenize", TINY, "<|im_start|>", "--no-special", "--ids").split()
    parsed = baimo("tokenize", TINY, "<|im_start|>", "--no-special", "--parse-special", "--ids").split()
    assert len(plain) > 1 and len(parsed) == 1


def test_ps_without_a_server_says_so(baimo):
    baimo("ps", code=1)
    assert "no server is running here" in baimo.err and "hint: start one: baimo serve" in baimo.err


def test_doctor_gives_verdicts(baimo):
    baimo("shelf", "add", TINY, "--name", "m")
    report = baimo.json("doctor")
    checks = {c["check"]: c for c in report["checks"]}
    for name in ("cpu", "instructions", "threads", "memory", "open files", "store", "home", "disk", "shelf", "keys"):
        assert checks[name]["verdict"] in ("ok", "warn"), checks[name]
    assert report["fit"] is True and report["fail"] == 0
    text = baimo("doctor")
    assert "ok    store" in text and text.rstrip().endswith("0 failed")


def test_doctor_fails_on_a_damaged_store(baimo):
    baimo.home.mkdir()
    (baimo.home / "baimo.db").write_bytes(b"garbage" * 5000)
    baimo("doctor", code=1)
    assert "FAIL  store" in baimo.out
    assert json.loads(baimo("doctor", "--json", code=1))["fit"] is False


def test_doctor_warns_of_a_lost_model(baimo, tmp_path):
    file = tmp_path / "m.gguf"
    shutil.copy(TINY, file)
    baimo("shelf", "add", file)
    file.unlink()
    shelf = [c for c in baimo.json("doctor")["checks"] if c["check"] == "shelf"]
    assert shelf[0]["verdict"] == "warn" and "baimo shelf rm m" in shelf[0]["help"]


# ---- the store ----

def test_newer_database_is_refused_with_a_way_out(baimo):
    baimo("list")
    db = sqlite3.connect(baimo.home / "baimo.db")
    db.execute("INSERT INTO schema_migration VALUES (99, 'x', 0)")
    db.commit()
    baimo("list", code=1)
    assert "schema 99" in baimo.err and "hint: use the newer program" in baimo.err


def test_unwritable_home_is_one_line(baimo):
    baimo("list", code=1, BAIMO_HOME="/proc/nowhere")
    assert len(baimo.err.splitlines()) == 1 and "/proc/nowhere" in baimo.err


def test_many_programs_at_once_share_one_store(baimo):
    running = [subprocess.Popen([PROGRAM, "key", "add", f"k{i}"], env=baimo.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for i in range(12)]
    for p in running:
        assert p.wait(60) == 0, p.stderr.read()
    assert len(baimo.json("key", "ls")["keys"]) == 12


def test_progress_is_a_bar_on_a_terminal(baimo, tmp_path):
    file = tmp_path / "big.gguf"
    shutil.copy(TINY, file)
    master, slave = pty.openpty()
    done = subprocess.run([PROGRAM, "shelf", "add", file], env=baimo.env, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    seen = os.read(master, 65536).decode()
    os.close(master)
    assert done.returncode == 0 and "hashing big.gguf [" in seen and "100%" in seen
