"""The chat page in a real browser: playwright-core (from npm, into build/) on the system's Chromium. Skipped where node or Chromium is missing."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import PATIENCE, ROOT, SMOLLM2

CHROMIUM = os.environ.get("CHROMIUM") or next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
PLAYWRIGHT = "playwright-core@1.56.1"                          # the newest that runs on Debian 12's Node.js 18
NODE_DIR = pathlib.Path(os.environ.get("BAIMO_NODE", ROOT / "build" / "node"))


@pytest.fixture(scope="session")
def drive():
    if not (CHROMIUM and shutil.which("node")):
        pytest.skip("needs node and chromium")
    if not (NODE_DIR / "node_modules" / "playwright-core").exists():
        if not shutil.which("npm"):
            pytest.skip("needs playwright-core, or npm to fetch it")
        NODE_DIR.mkdir(parents=True, exist_ok=True)
        got = subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(NODE_DIR), PLAYWRIGHT], capture_output=True,
                             text=True, timeout=PATIENCE)
        if got.returncode != 0:
            pytest.skip("playwright-core cannot be fetched: " + got.stderr[-200:])

    def run(url, key=""):
        done = subprocess.run(["node", str(ROOT / "tests" / "blackbox" / "page.cjs"), url, CHROMIUM, key, os.environ.get("BAIMO_SHOTS", "")],
                              env={**os.environ, "NODE_PATH": str(NODE_DIR / "node_modules")}, capture_output=True, text=True, timeout=3 * PATIENCE)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return run


def check(seen):
    assert "Paris" in seen["answer"] and "tokens/s" in seen["stats"]
    assert seen["busy"] and "stopped" in seen["stopped"] and "<b>markup</b>" in seen["mine"]
    assert seen["chinese"] == "发送" and seen["lang"] == "zh-CN" and seen["theme"] == "dark"
    h = seen["hostile"]
    assert h["images"] == 0 and h["links"] == ["https://example.org/"] and "<img src=x" in h["text"]
    assert h["bold"] == "bold" and "<script>" in h["code"] and h["lists"] == 3 and h["cells"] == 2 and h["thought"]
    assert seen["complaints"] == [] and seen["outside"] == [] and seen["unlabelled"] == [] and seen["left"] == 0


def test_the_page_chats_stops_and_escapes(server, drive):
    check(drive(server.url))
    server.wait_for(lambda ps: ps["engine"]["active"] == 0)


def test_the_page_asks_for_a_key(start, drive, tmp_path):
    s = start("--model", SMOLLM2)
    secret = next(w for w in s.command("key", "add", "ann").split() if w.startswith("bm-"))
    s.key = secret
    check(drive(s.url, secret))
