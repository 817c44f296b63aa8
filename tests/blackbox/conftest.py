"""A real server for the tests: started on a free port with a home of its own, waited for by its ready line."""
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("BAIMO_PROGRAM", str(ROOT / "build" / "baimo"))
MODELS = pathlib.Path(os.environ.get("BAIMO_MODELS", str(pathlib.Path.home() / ".cache" / "baimo-models")))
SMOLLM2 = MODELS / "smollm2.gguf"
TINY = ROOT / "tests" / "oracle" / "models" / "llama.gguf"
PATIENCE = 120          # seconds until a hang counts as a failure, never waited for


class Server:
    def __init__(self, home, *args, ready=True, **env):
        self.home = pathlib.Path(home)
        self.env = {**os.environ, "BAIMO_HOME": str(home), **env}
        for name in ("BAIMO_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            self.env.pop(name, None)
        self.lines, self.url = [], None
        self.process = subprocess.Popen([PROGRAM, "serve", "--port", "0", *map(str, args)], env=self.env, stdout=subprocess.PIPE,
                                        stderr=open(self.home.parent / (self.home.name + ".stderr"), "w+"), text=True)
        self.key = None
        if ready:
            self.wait_ready()

    def wait_ready(self):
        for line in self.process.stdout:
            self.lines.append(line)
            words = line.split()
            if words and words[0] == "page":
                self.url = words[1].rstrip("/")
            if "baimo key add" in line:
                break
        assert self.url, f"exit {self.process.wait(PATIENCE)}: {self.stderr()}"
        self.port = int(self.url.rsplit(":", 1)[1])
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def stderr(self):
        return (self.home.parent / (self.home.name + ".stderr")).read_text()

    def command(self, *args):
        done = subprocess.run([PROGRAM, *map(str, args)], env=self.env, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def request(self, method, path, body=None, headers=None, host=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = dict(headers or {})
        if self.key and "Authorization" not in headers:
            headers["Authorization"] = "Bearer " + self.key
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if host is not None:
            headers["Host"] = host
        c.request(method, path, body, headers)
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, dict((k.lower(), v) for k, v in r.getheaders()), data

    def json(self, method, path, body=None, headers=None, status=200):
        got, head, data = self.request(method, path, body, headers)
        assert got == status, (got, data)
        return json.loads(data)

    def chat(self, text, status=200, **fields):
        body = {"model": "smollm2", "messages": [{"role": "user", "content": text}], "temperature": 0, **fields}
        return self.json("POST", "/v1/chat/completions", body, status=status)

    def ps(self):
        return self.json("GET", "/v1/ps")

    def wait_for(self, what):
        """Ask /v1/ps until what(ps) holds; each question is a round trip, so this does not spin."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            ps = self.ps()
            if what(ps):
                return ps
        raise AssertionError(f"never came: {ps}")

    def raw(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def stop(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def client(self, **kw):
        import openai
        return openai.OpenAI(base_url=self.url + "/v1", api_key=kw.pop("api_key", self.key or "none"), max_retries=0, timeout=PATIENCE, **kw)


def http_bytes(path, body=None, method="POST", close=False, **headers):
    """A request as bytes, for raw sockets."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"] + [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


def read_reply(stream):
    """One reply from socket.makefile('rb'): status, headers, body (chunked or whole)."""
    status = int(stream.readline().split()[1])
    head = {}
    while (line := stream.readline().strip()):
        k, v = line.decode().split(":", 1)
        head[k.lower()] = v.strip()
    if head.get("transfer-encoding") == "chunked":
        body = b""
        while (size := int(stream.readline(), 16)):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        body = stream.read(int(head.get("content-length", 0)))
    return status, head, body


def events(body):
    """The JSON of a stream's data lines, and whether it was closed by [DONE]."""
    data = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
    done = bool(data) and data[-1] == "[DONE]"
    return [json.loads(d) for d in (data[:-1] if done else data)], done


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """SmolLM2 and a model of 100,000 random parameters ("tiny"), both loaded."""
    home = tmp_path_factory.mktemp("serve") / "home"
    env = {**os.environ, "BAIMO_HOME": str(home)}
    subprocess.run([PROGRAM, "shelf", "add", str(SMOLLM2), "--name", "smollm2"], env=env, check=True, capture_output=True, timeout=PATIENCE)
    subprocess.run([PROGRAM, "shelf", "add", str(TINY), "--name", "tiny"], env=env, check=True, capture_output=True, timeout=PATIENCE)
    s = Server(home, "--model", "smollm2", "--model", "tiny", "--ctx", "4096")
    yield s
    assert s.stop() == 0, s.stderr()


@pytest.fixture
def client(server):
    return server.client()


@pytest.fixture
def start(tmp_path):
    """Start servers that end with the test."""
    with contextlib.ExitStack() as stack:
        def begin(*args, name="home", **kw):
            s = Server(tmp_path / name, *args, **kw)
            stack.callback(s.stop, signal.SIGKILL)
            return s
        yield begin
