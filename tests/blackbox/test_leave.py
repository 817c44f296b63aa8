"""Clients that leave, in the queue, in prefill and in decode; neighbours; and the ledger against the engine's own counters."""
import json
import random
import signal
import socket
import sqlite3
import threading

from conftest import SMOLLM2, TINY, events, http_bytes, read_reply

LONG = {"model": "smollm2", "prompt": [17] * 3500, "max_tokens": 400, "ignore_eos": True, "temperature": 0}


def engine(server):
    return server.ps()["engine"]


def leaves_within_a_step(server, s):
    """The sequence is gone at most two steps after its client: the one that was running, and the one that sees the flag."""
    s.close()
    before = engine(server)["steps"]
    after = server.wait_for(lambda ps: ps["engine"]["active"] == 0 and ps["engine"]["queued"] == 0)["engine"]
    assert after["steps"] - before <= 2
    assert after["kv_used_bytes"] == 0
    return after


def test_leaving_in_prefill(server):
    start = engine(server)
    s = server.raw()
    s.sendall(http_bytes("/v1/completions", LONG))
    server.wait_for(lambda ps: ps["engine"]["active"] == 1 and ps["engine"]["steps"] > start["steps"])
    end = leaves_within_a_step(server, s)
    assert end["canceled"] == start["canceled"] + 1 and end["completion_tokens"] == start["completion_tokens"]


def test_leaving_in_decode(server):
    for stream in (False, True):
        start = engine(server)
        s = server.raw()
        s.sendall(http_bytes("/v1/completions", {**LONG, "prompt": "Once", "stream": stream}))
        server.wait_for(lambda ps: ps["engine"]["completion_tokens"] > start["completion_tokens"] + 3 or ps["engine"]["steps"] > start["steps"] + 5)
        end = leaves_within_a_step(server, s)
        assert end["canceled"] == start["canceled"] + 1 and end["completion_tokens"] < start["completion_tokens"] + 400


def test_leaving_the_queue(server):
    blocker, waiting = server.raw(), server.raw()
    blocker.sendall(http_bytes("/v1/completions", {**LONG, "prompt": "a", "n": 32}))
    server.wait_for(lambda ps: ps["engine"]["active"] == 32)
    waiting.sendall(http_bytes("/v1/completions", {**LONG, "prompt": "b"}))
    server.wait_for(lambda ps: ps["engine"]["queued"] == 1)
    waiting.close()
    left = server.wait_for(lambda ps: ps["engine"]["queued"] == 0)["engine"]
    assert left["active"] == 32
    leaves_within_a_step(server, blocker)


def test_leaving_by_reset_with_bytes_pipelined_behind(server):
    s = server.raw()
    s.sendall(http_bytes("/v1/completions", LONG))
    server.wait_for(lambda ps: ps["engine"]["active"] == 1)
    s.setblocking(False)
    try:
        while True:
            s.send(b"x" * 65536)
    except BlockingIOError:
        pass
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    leaves_within_a_step(server, s)


def test_a_neighbours_stream_stays_identical(server):
    ask = {"model": "smollm2", "prompt": "The history of the printing press", "max_tokens": 60, "temperature": 0.8, "seed": 5, "stream": True}

    def texts():
        status, _, body = server.request("POST", "/v1/completions", ask)
        assert status == 200
        return [c["choices"][0]["text"] for c in events(body)[0]]

    alone, got = texts(), []
    t = threading.Thread(target=lambda: got.append(texts()))
    t.start()
    rng = random.Random(1)
    while t.is_alive():
        s = server.raw()
        s.sendall(http_bytes("/v1/completions", {**LONG, "prompt": [rng.randrange(40000) for _ in range(rng.randrange(1, 300))], "stream": True}))
        if rng.random() < 0.7:
            s.recv(100)
        s.close()
    t.join()
    assert got == [alone]


def test_the_ledger_equals_the_engine_after_100_requests_with_random_cancels(start):
    s = start("--model", TINY)
    model = s.ps()["models"][0]["name"]
    rng = random.Random(3)

    def one(seed):
        r = random.Random(seed)
        body = {"model": model, "prompt": "a b c " * r.randrange(1, 300), "max_tokens": r.randrange(0, 400), "n": r.randrange(1, 4),
                "ignore_eos": True, "stream": r.random() < 0.5}
        kind = r.randrange(4)
        if kind == 0:
            body["prompt"] = [body["prompt"], "x", [1] * 3][:2]
        with s.raw() as c:
            data = http_bytes("/v1/completions", body)
            if kind == 1:
                c.sendall(data)
                return                                               # left at once
            c.sendall(data)
            if kind == 2:
                c.recv(r.randrange(1, 5000))                         # left somewhere
                return
            assert read_reply(c.makefile("rb"))[0] == 200

    threads = []
    for i in range(100):
        threads.append(threading.Thread(target=one, args=(rng.randrange(1 << 30),)))
        threads[-1].start()
        if len(threads) % 8 == 0:
            for t in threads[-8:]:
                t.join()
    for t in threads:
        t.join()
    end = s.wait_for(lambda ps: ps["http"]["in_flight"] == 0 and ps["engine"]["active"] == 0)["engine"]
    assert s.stop(signal.SIGTERM) == 0
    db = sqlite3.connect(s.home / "baimo.db")
    n, prompt, completion = db.execute("select count(*), sum(prompt_tokens), sum(completion_tokens) from ledger").fetchone()
    outcomes = dict(db.execute("select outcome, count(*) from ledger group by outcome").fetchall())
    assert n == 100, outcomes
    assert (prompt, completion) == (end["prompt_tokens"], end["completion_tokens"])
    assert set(outcomes) <= {"ok", "canceled"} and outcomes["ok"] >= 20 and outcomes["canceled"] >= 20, outcomes


def test_rejected_requests_have_rows_too(start):
    s = start("--model", TINY)
    s.request("POST", "/v1/completions", {"prompt": "x", "temperature": 7})
    s.request("POST", "/v1/completions", b"x", {"Content-Type": "text/plain"})
    s.request("POST", "/v1/completions", {"model": "none", "prompt": "x"})
    s.request("POST", "/v1/completions", {"prompt": "x"}, host="evil.example")       # not let in: no row
    s.stop()
    rows = sqlite3.connect(s.home / "baimo.db").execute("select outcome, reason, prompt_tokens from ledger order by rowid").fetchall()
    assert sorted(rows) == [("rejected", "invalid_value", 0), ("rejected", "not_found", 0), ("rejected", "unsupported_media_type", 0)]
