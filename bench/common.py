"""What all groups of the bench share: running programs, medians, the machine's limits, and the rows of results."""
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ENOUGH = 900            # seconds after which a measured program counts as hanging


class Failure(Exception):
    """A measured program failed: told in its row, and the run goes on."""


def run(argv, env=None, timeout=ENOUGH, **kw):
    try:
        p = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=timeout, **kw)
    except subprocess.TimeoutExpired:
        raise Failure(f"{os.path.basename(argv[0])}: no end after {timeout} s") from None
    except OSError as e:
        raise Failure(f"{os.path.basename(argv[0])}: {e.strerror}") from None
    if p.returncode < 0:
        raise Failure(f"{os.path.basename(argv[0])} crashed with signal {-p.returncode}")
    if p.returncode:
        last = (p.stderr.strip() or p.stdout.strip() or "no message").splitlines()
        told = [x for x in last if x.startswith(("baimo", "error"))] or last
        raise Failure(f"{os.path.basename(argv[0])}: exit {p.returncode}: {told[0][:200]}")
    return p.stdout


def json_lines(text):
    return [json.loads(x) for x in text.splitlines() if x.startswith("{")]


def middle(values):
    """Median and spread, (max - min) / median; None for no values."""
    if not values:
        return None, None
    m = statistics.median(values)
    return m, (max(values) - min(values)) / m if m else 0.0


def percentile(xs, p):
    xs = sorted(xs)
    return xs[min(len(xs) - 1, int(p * len(xs)))] if xs else float("nan")


def file_sha256(path, cache={}):
    if path not in cache:
        h = hashlib.sha256()
        with open(path, "rb") as f:
            while piece := f.read(1 << 22):
                h.update(piece)
        cache[path] = h.hexdigest()
    return cache[path]


class Context:
    """The settings of a run, and the machine as it was measured last."""

    def __init__(self, o):
        self.o = o
        self.program = os.path.abspath(o.program)
        self.threads, self.rounds, self.quick = o.threads, o.rounds, o.quick
        self.peer = self.find_peer(o.peer)
        self.peer_avx2 = self.find_peer(o.peer_avx2)
        self.models = o.models
        self.commit = self.head()
        self.scratch = o.scratch
        os.makedirs(self.scratch, exist_ok=True)
        self.home = os.path.join(self.scratch, "home")
        self.env = {k: v for k, v in os.environ.items() if not k.upper().endswith("_PROXY") and k != "BAIMO_CPU"}
        self.env["BAIMO_HOME"] = self.home
        self.versions = {}
        self.limits = None
        self.rows = Rows(o.out)

    @staticmethod
    def find_peer(directory):
        return directory if directory and os.path.exists(os.path.join(directory, "llama-bench")) else None

    @staticmethod
    def head():
        def git(*args):
            return subprocess.run(["git", "-C", HERE, *args], capture_output=True, text=True).stdout.strip()
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "../src", "../include", "../Makefile")
        return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")

    def peer_version(self, directory):
        if directory and directory not in self.versions:
            p = subprocess.run([os.path.join(directory, "llama-server"), "--version"], capture_output=True, text=True)
            lines = [x for x in (p.stderr + p.stdout).splitlines() if x.startswith("version")]
            self.versions[directory] = lines[0].split(":", 1)[1].strip() if lines else "unknown"
        return self.versions.get(directory)

    def rounds_of(self, share=1.0):
        """Rounds of a case: long cases get a share of them."""
        return 1 if self.quick else max(1, round(self.rounds * share))

    def measure_machine(self):
        """The four limits now: neighbours on the same host change them from minute to minute."""
        try:
            self.limits = json_lines(run([self.program, "bench", "--machine", "--threads", str(self.threads), "--json"], self.env))[-1]
        except Failure as e:
            say(f"bench --machine: {e}")
        return self.limits

    def bench(self, model, args, env=None, prefix=()):
        """One run of `baimo bench --json`."""
        argv = [*prefix, self.program, "bench", model, "--repeat", "1", "--json", *map(str, args)]
        if "--threads" not in args:
            argv += ["--threads", str(self.threads)]
        return json_lines(run(argv, {**self.env, **(env or {})}))[-1]


class Rows:
    """Results, one JSON object a line; those of an earlier run of the same commit need not be measured again."""

    def __init__(self, path):
        self.path, self.all = path, []
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                self.all = [json.loads(x) for x in f if x.strip()]

    @staticmethod
    def key(row):
        return tuple(row.get(k) for k in ("commit", "group", "model", "case", "threads", "quick"))

    def have(self, ctx, group, model, cases):
        done = {self.key(r) for r in self.all if "error" not in r}
        return all((ctx.commit, group, model, c, ctx.threads, ctx.quick) in done for c in cases)

    def add(self, ctx, row):
        row = {k: v for k, v in row.items() if v is not None}
        row = {"commit": ctx.commit, "time": int(time.time()), "threads": ctx.threads, "quick": ctx.quick, **row}
        if ctx.limits:
            row.setdefault("cpu", ctx.limits["cpu"])
            row.setdefault("isa", ctx.limits["isa"])
            row["machine"] = {k: v for k, v in ctx.limits.items() if k.endswith(("_s", "gops", "gflops"))}
        self.all = [r for r in self.all if self.key(r) != self.key(row)] + [row]
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")
        print_row(row)


def name_of(model):
    return os.path.basename(model).removesuffix(".gguf")


def number(x):
    if x is None:
        return "-"
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.3g}"


def target_text(row):
    t = row.get("target")
    if not t:
        return ""
    met = row.get("met")
    return f"{'≥' if t['op'] == '>=' else '≤'} {t['value']:g} {'met' if met else 'MISSED' if met is not None else '?'}"


def print_row(row):
    limit = row.get("limit") or {}
    shares = " / ".join(f"{limit[k]:.0%}" for k in ("baimo", "peer") if limit.get(k) is not None)
    ratio = f"{row['ratio']:.2f}" if row.get("ratio") is not None else "-"
    note = row.get("error") or row.get("peer_error") or row.get("note") or ""
    print(f"{row.get('model', ''):18.18} {row['case']:22.22} {number(row.get('baimo')):>9} {number(row.get('peer')):>9} "
          f"{row.get('unit', ''):6.6} {ratio:>6}  {target_text(row):15} {shares:10} {note}", flush=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


def judge(row, target):
    """target: (op, value, what): the ratio to the peer, or a figure of our own."""
    if not target:
        return row
    op, value, of = target
    have = row.get(of)
    row["target"] = {"op": op, "value": value, "of": of}
    if have is not None:
        row["met"] = bool(have >= value if op == ">=" else have <= value)
    return row


def alternate(sides, rounds):
    """sides: {name: callable}. Every round calls each once, in turn. Returns {name: [values]}, {name: message}."""
    values, errors = {k: [] for k in sides}, {}
    for _ in range(rounds):
        for name, call in sides.items():
            if name in errors:
                continue
            try:
                values[name].append(call())
            except Failure as e:
                errors[name] = str(e)
    return values, errors
