"""`baimo data` from outside: the check of a file, and the register of data sets."""
import csv
import hashlib
import json
import os
import pty
import shutil
import subprocess

import pytest

from test_cli import PROGRAM, TINY, baimo  # noqa: F401 (a fixture)

ROWS = [{"text": f"Q: how much is {i} and {i}?\nA: {2 * i}"} for i in range(50)]


def write(path, rows):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def test_check_reports_rows_tokens_lengths_and_bad_rows_by_line(baimo, tmp_path):
    file = write(tmp_path / "a.jsonl", ROWS[:10] + ["{", {"text": "A:" + "x" * 3000}, {"text": ""}, ROWS[3], {"text": "no answer"}])
    got = baimo.json("data", "check", file, "-m", TINY, "--loss-after", "A:", "--max-length", 256, code=1)
    assert (got["rows"], got["bad"], got["duplicates"], got["shape"]) == (11, 4, 1, "text")
    assert got["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert [b["line"] for b in got["bad_rows"]] == [11, 12, 13, 15]
    assert "not JSON" in got["bad_rows"][0]["reason"] and "at most 256" in got["bad_rows"][1]["reason"]
    assert "empty" in got["bad_rows"][2]["reason"] and "'A:'" in got["bad_rows"][3]["reason"]
    assert got["duplicate_rows"] == [{"line": 14, "of": 4}]
    lengths = got["lengths"]
    assert sum(b["rows"] for b in lengths["histogram"]) == 11
    assert 1 < lengths["min"] <= lengths["median"] <= lengths["p95"] <= lengths["max"] <= 256
    tokens = got["example"]["tokens"]
    assert got["example"]["line"] == 1
    assert "".join(t["text"] for t in tokens if not t["loss"]).endswith("A:")
    assert "".join(t["text"] for t in tokens if t["loss"]).startswith(" 0")
    baimo("data", "check", file, "-m", TINY, "--loss-after", "A:", "--max-length", 256, code=1)
    assert "line 11: not JSON" in baimo.out and "line 14 repeats line 4" in baimo.out
    assert "A:[[ 0" in baimo.out and "]]" in baimo.out


def test_check_of_a_good_file_is_done(baimo, tmp_path):
    file = write(tmp_path / "a.jsonl", ROWS)
    text = baimo("data", "check", file, "-m", TINY, "--valid-share", 0.2)
    assert "50 good, 0 bad, 0 duplicates" in text and "validation" in text and "bad rows" not in text
    first = baimo.json("data", "check", file, "-m", TINY, "--valid-share", 0.2)["valid_rows"]
    shuffled = write(tmp_path / "b.jsonl", reversed(ROWS))
    assert 0 < first < 50 and baimo.json("data", "check", shuffled, "-m", TINY, "--valid-share", 0.2)["valid_rows"] == first


def test_check_lists_twenty_and_all_on_demand(baimo, tmp_path):
    file = write(tmp_path / "a.jsonl", [ROWS[0]] + ["x"] * 30)
    baimo("data", "check", file, "-m", TINY, code=1)
    assert "line 21: " in baimo.out and "line 22: " not in baimo.out and "and 10 more (--all lists them)" in baimo.out
    baimo("data", "check", file, "-m", TINY, "--all", code=1)
    assert "line 31: " in baimo.out and "more" not in baimo.out.split("bad rows")[1]


def test_check_shows_the_row_that_is_asked_for_in_colour_on_a_terminal(baimo, tmp_path):
    file = write(tmp_path / "a.jsonl", ROWS)
    assert "how much is 6 and" in baimo("data", "check", file, "-m", TINY, "--show", 7, "--loss-after", "A:")
    assert "no good row begins on line 99" in baimo("data", "check", file, "-m", TINY, "--show", 99)
    master, slave = pty.openpty()
    subprocess.run([PROGRAM, "data", "check", str(file), "-m", str(TINY), "--loss-after", "A:"], stdout=slave, env=baimo.env, timeout=120)
    os.close(slave)
    text = os.read(master, 1 << 16).decode()
    os.close(master)
    assert "A:\x1b[1;32m 0" in text and "[[" not in text


def test_csv_is_read_as_python_writes_it(baimo, tmp_path):
    random = __import__("random").Random(7)
    field = lambda: "".join(random.choice('ab,"\n\r ;x') for _ in range(random.randint(0, 12))) + "."
    rows = [(field(), field()) for _ in range(25)]
    for terminator in ("\r\n", "\n"):
        with open(tmp_path / "a.csv", "w", newline="") as f:
            csv.writer(f, lineterminator=terminator).writerows([("question", "answer"), *rows])
        line = 2
        for question, answer in rows:
            got = baimo.json("data", "check", tmp_path / "a.csv", "-m", TINY, "--render", "text", "--show", line)
            text = "".join(t["text"] for t in got["example"]["tokens"])
            assert text.startswith(question + "\n" + answer)
            line += 1 + (question + answer).count("\n")
        assert got["rows"] == len(rows)


def test_nothing_in_a_file_can_drive_the_terminal(baimo, tmp_path):
    file = write(tmp_path / "a.jsonl", [{"text": "a\x1b[31m\x00b"}, {"messages": [{"role": "\x1b[2J"}], "text": "\x1b"}])
    assert "\x1b" not in baimo("data", "check", file, "-m", TINY)
    file = write(tmp_path / "b.jsonl", [ROWS[0], "\x1b[2J"])
    baimo("data", "check", file, "-m", TINY, code=1)
    assert "\x1b" not in baimo.out + baimo.err


def test_check_says_what_would_help(baimo, tmp_path):
    several = tmp_path / "a.json"
    several.write_text(json.dumps({"train": [["a", "b"]], "test": [["c", "d"]]}))
    baimo("data", "check", several, "-m", TINY, code=1)
    assert "--part with one of: train, test" in baimo.err
    assert "1 good" in baimo("data", "check", several, "-m", TINY, "--part", "test")
    odd = write(tmp_path / "b.jsonl", [{"frage": "a", "antwort": "b"}])
    baimo("data", "check", odd, "-m", TINY, code=1)
    assert "none of the known shapes" in baimo.err and "--prompt-field" in baimo.err
    assert "1 good" in baimo("data", "check", odd, "-m", TINY, "--prompt-field", "frage", "--target-field", "antwort")
    baimo("data", "check", tmp_path / "none.jsonl", "-m", TINY, code=1)
    assert "no such file, and no data set of that name" in baimo.err
    baimo("data", "check", odd, "-m", TINY, "--shape", "round", code=2)
    baimo("data", "check", odd, "-m", TINY, "--render", "aloud", code=2)
    baimo("data", "check", code=2)


def test_data_set_is_registered_in_place_and_forgotten(baimo, tmp_path):
    file = write(tmp_path / "train.jsonl", ROWS)
    assert baimo.json("data", "ls")["data"] == []
    added = baimo.json("data", "add", file, "--name", "sums", "--license", "MIT", "--source", "https://example.com/sums", "-m", TINY)
    assert added["rows"] == 50 and added["bad_rows"] == 0 and added["shape"] == "text" and added["tokens"] > 500
    assert added["path"] == str(file) and added["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert baimo.json("data", "add", file, "--name", "sums")["created_ms"] == added["created_ms"]       # the same again is no error
    shown = baimo.json("data", "show", "sums")
    assert (shown["license"], shown["source"], shown["missing"]) == ("MIT", "https://example.com/sums", False)
    assert "50 good" in baimo("data", "check", "sums", "-m", TINY)
    baimo("data", "show", "sum", code=1)
    assert "did you mean sums?" in baimo.err
    other = write(tmp_path / "other.jsonl", ROWS[:3])
    baimo("data", "add", other, "--name", "sums", code=1)
    assert "registered already" in baimo.err and "baimo data rm sums" in baimo.err
    assert "sums" in baimo("data", "ls") and "MIT" in baimo.out
    baimo("data", "rm", "sums")
    baimo("data", "rm", "sums", code=1)
    assert file.exists() and baimo.json("data", "ls")["data"] == []


def test_data_set_whose_file_is_gone_is_shown_and_refused(baimo, tmp_path):
    file = write(tmp_path / "train.jsonl", ROWS)
    assert baimo.json("data", "add", file)["name"] == "train"
    file.unlink()
    assert baimo.json("data", "show", "train")["missing"] is True and "MISSING" in baimo("data", "ls")
    baimo("data", "check", "train", "-m", TINY, code=1)
    assert "gone" in baimo.err and "baimo data rm train" in baimo.err


def test_evaluation_data_answer_for_one_split(baimo, tmp_path):
    file = write(tmp_path / "test.jsonl", [{"query": "a", "choices": ["b"], "gold": 0}])
    row = baimo.json("data", "add", file, "--as", "allenai/ai2_arc/ARC-Easy:test")
    assert (row["hub"], row["split"], row["name"], row["rows"]) == ("allenai/ai2_arc/ARC-Easy", "test", "allenai/ai2_arc/ARC-Easy:test", 1)
    other = write(tmp_path / "more.jsonl", [{"query": "c"}])
    baimo("data", "add", other, "--as", "allenai/ai2_arc/ARC-Easy:test", "--name", "x", code=1)
    assert "allenai/ai2_arc/ARC-Easy:test is registered already" in baimo.err
    baimo.json("data", "add", other, "--as", "allenai/ai2_arc/ARC-Easy:train")
    for wrong in ("arc", "arc:", ":test", "a//b:test", "a/b/:test", "../b:test\n", "/a:test", "a b:test"):
        baimo("data", "add", other, "--as", wrong, code=2)
        assert "OWNER/SET[/CONFIG]:SPLIT" in baimo.err


@pytest.mark.parametrize("content, says", [
    (b"", "empty"), (b"\xff\xfe[\0]\0", "UTF-16"), (b"PAR1....", "Parquet"), (b"\x1f\x8b\x08....", "gzip"), (b"[", "no row in it can be read"),
])
def test_what_holds_no_rows_is_not_registered(baimo, tmp_path, content, says):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    baimo("data", "add", file, code=1)
    assert says in baimo.err and baimo.json("data", "ls")["data"] == []
    baimo("data", "add", tmp_path, code=1)
    assert "a directory" in baimo.err


def test_names_that_could_harm_are_refused(baimo, tmp_path):
    file = write(tmp_path / "a.jsonl", ROWS)
    for name in ("../x", "a/../b", "-x", "a\x1b", "a b", ""):
        baimo("data", "add", file, "--name=" + name, code=1)
    baimo("data", "add", file, "--license", "\x1b[31m", code=1)
    shutil.copy(file, tmp_path / "strange name\x1b.jsonl")
    assert "\x1b" not in baimo.json("data", "add", tmp_path / "strange name\x1b.jsonl")["name"]
