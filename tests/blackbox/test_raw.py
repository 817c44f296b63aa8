"""Raw sockets: what no client library sends, and what a browser must not be able to do."""
import json
import os
import socket
import stat
import subprocess

import pytest

from conftest import PROGRAM, events, http_bytes, read_reply

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 3, "temperature": 0, "ignore_eos": True}
PATH = "/v1/chat/completions"


def content(reply):
    status, _, body = reply
    assert status == 200, body
    return json.loads(body)["choices"][0]["message"]["content"]


def test_byte_by_byte(server):
    with server.raw() as s:
        for b in http_bytes(PATH, CHAT):
            s.send(bytes([b]))
        assert content(read_reply(s.makefile("rb"))) == server.chat("a", **CHAT)["choices"][0]["message"]["content"]


def test_pipelined_requests_are_answered_in_order(server):
    bodies = [{**CHAT, "messages": [{"role": "user", "content": c}]} for c in "abcdef"]
    expected = [content(server.request("POST", PATH, b)) for b in bodies]
    with server.raw() as s:
        s.sendall(b"".join(http_bytes(PATH, b) for b in bodies[:5]) + http_bytes("/health", method="GET") + http_bytes(PATH, bodies[5]))
        f = s.makefile("rb")
        assert [content(read_reply(f)) for _ in range(5)] == expected[:5]
        assert read_reply(f)[0] == 200
        assert content(read_reply(f)) == expected[5]


def test_a_request_pipelined_behind_a_stream_waits_for_its_end(server):
    with server.raw() as s:
        s.sendall(http_bytes(PATH, {**CHAT, "stream": True, "max_tokens": 200}) + b"G")
        s.sendall(b"ET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        f = s.makefile("rb")
        chunks, done = events(read_reply(f)[2])
        assert done and chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert read_reply(f)[0] == 200


def test_half_sent_requests_harm_no_one(server):
    whole = http_bytes(PATH, CHAT)
    expected = content(server.request("POST", PATH, CHAT))
    for n in range(1, len(whole), 7):
        with server.raw() as s:
            s.sendall(whole[:n])
    assert content(server.request("POST", PATH, CHAT)) == expected


def test_chunked_body_and_expect_continue(server):
    body = json.dumps(CHAT).encode()
    with server.raw() as s:
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
                  b"Transfer-Encoding: chunked\r\n\r\n")
        f = s.makefile("rb")
        assert f.readline().startswith(b"HTTP/1.1 100") and f.readline() == b"\r\n"
        for i in range(0, len(body), 10):
            part = body[i:i + 10]
            s.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        s.sendall(b"0\r\n\r\n")
        assert content(read_reply(f))


def test_http_1_0_streams_until_the_connection_closes(server):
    with server.raw() as s:
        body = json.dumps({**CHAT, "stream": True}).encode()
        s.sendall(b"POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                  % (len(body), body))
        data = s.makefile("rb").read()
        head, _, rest = data.partition(b"\r\n\r\n")
        assert b"chunked" not in head and events(rest)[1]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b'{"messages": "x"}', b'{"messages": [{"role": "user", "content": "\xff"}]}',
                                  b'{"model": "tiny", "model": "tiny"}', b"[" * 100000, b'{"a":' * 100, b"\x00", b'{"messages": [1]}',
                                  b'{"prompt": "\\ud800"}', b'{"prompt": "a\\u0000b"}', b'{"n": 1e400}',
                                  b'{"max_tokens": 99999999999999999999}', b"\xef\xbb\xbf{}"])
def test_bad_bodies_are_400_in_the_one_shape(server, body):
    for path in (PATH, "/v1/completions"):
        status, head, data = server.request("POST", path, body, {"Content-Type": "application/json"})
        err = json.loads(data)["error"]
        assert status == 400 and err["type"] == "invalid_request_error" and err["message"] and err["request_id"] == head["x-request-id"]


@pytest.mark.parametrize("send, status", [
    (b"hello\r\n\r\n", 400), (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400),
    (b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 505), (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
    (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 40000 + b"\r\n\r\n", 431),
])
def test_bad_heads_are_refused_in_the_one_shape(server, send, status):
    with server.raw() as s:
        s.sendall(send)
        got, head, data = read_reply(s.makefile("rb"))
        assert got == status and json.loads(data)["error"]["request_id"] == head["x-request-id"] and head["connection"] == "close"


def test_statuses_of_routes(server):
    for method, path, headers, status in [
        ("GET", "/nothing", {}, 404), ("POST", "/v1/models", {}, 405), ("GET", PATH, {}, 405), ("DELETE", "/", {}, 405),
        ("POST", PATH, {"Content-Type": "text/plain"}, 415), ("POST", PATH, {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("POST", PATH, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415), ("HEAD", "/health", {}, 200),
        ("GET", "/v1/models/%zz", {}, 400), ("GET", "/v1/models/no-such", {}, 404), ("OPTIONS", PATH, {}, 204)]:
        got, head, data = server.request(method, path, "x" if method == "POST" else None, headers)
        assert got == status, (method, path, got, data)
        if status == 405:
            assert head["allow"].startswith(("GET", "POST"))
        if status >= 400 and method != "HEAD":
            assert json.loads(data)["error"]["message"]


# ---- Host, Origin, the page, the socket ----

@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/v1/ps", "/nothing"])
def test_a_foreign_host_is_refused_everywhere(server, path):
    for host in ("evil.example", "localhost.evil.example", "169.254.169.254", f"evil.example:{server.port}"):
        assert server.request("GET", path, host=host)[0] == 403
    for host in ("localhost", f"127.0.0.1:{server.port}", "[::1]", socket.gethostname()):
        assert server.request("GET", path, host=host)[0] != 403


def test_a_foreign_page_is_refused(server):
    for origin in ("http://evil.example", "null", "http://localhost:1", f"https://localhost:{server.port}x"):
        status, head, data = server.request("POST", PATH, CHAT, {"Origin": origin})
        assert status == 403 and "access-control-allow-origin" not in head and json.loads(data)["error"]["hint"]
        assert server.request("OPTIONS", PATH, None, {"Origin": origin, "Access-Control-Request-Method": "POST"})[0] == 403
    own = f"http://localhost:{server.port}"
    status, head, _ = server.request("POST", PATH, CHAT, {"Origin": own})
    assert status == 200 and head["access-control-allow-origin"] == own and "access-control-allow-credentials" not in head


def test_another_host_can_be_allowed(start):
    s = start("--allow-host", "chat.example.org")
    assert s.request("GET", "/health", host="chat.example.org")[0] == 200
    assert s.request("GET", "/v1/models", headers={"Origin": "https://chat.example.org"}, host="chat.example.org")[0] == 200
    assert s.request("GET", "/health", host="other.example.org")[0] == 403


def test_the_page_is_self_contained_under_a_strict_policy(server):
    import base64, hashlib, re
    status, head, data = server.request("GET", "/")
    page = data.decode()
    policy = dict(p.strip().split(" ", 1) for p in head["content-security-policy"].split(";"))
    assert status == 200 and head["content-type"].startswith("text/html") and head["x-content-type-options"] == "nosniff"
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'" and policy["connect-src"] == "'self'"
    for tag in ("script", "style"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", page, re.S).group(1)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
        assert len(re.findall(f"<{tag}[ >]", page)) == 1
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page) and "unsafe" not in head["content-security-policy"]
    assert not re.search(r"\son[a-z]+=|innerHTML|\seval\(| style=", page)


def test_the_unix_socket_is_the_owners(server):
    path = server.home / "baimo.sock"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert "smollm2" in server.command("ps")


def test_other_addresses_are_refused_without_a_key(tmp_path):
    env = {**os.environ, "BAIMO_HOME": str(tmp_path / "home")}
    for host in ("0.0.0.0", "::"):
        done = subprocess.run([PROGRAM, "serve", "--host", host, "--port", "0"], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "baimo key add" in done.stderr


def test_a_port_in_use_names_the_next_step(server, tmp_path):
    env = {**os.environ, "BAIMO_HOME": str(tmp_path / "home")}
    done = subprocess.run([PROGRAM, "serve", "--port", str(server.port)], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"port {server.port}" in done.stderr and "--port" in done.stderr.split("hint:")[1]
