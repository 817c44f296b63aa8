"""Results as markdown tables."""
from common import number

TITLES = {
    "inference": "Inference", "http": "HTTP", "start": "Start and memory", "shapes": "Synthetic shapes (Q4_0)", "avx2": "AVX2 alone, both sides",
    "prefix": "Shared prefixes", "beside": "A long prompt beside streams", "speculation": "Speculation",
    "scaling": "Threads", "quota": "Under a quota of one CPU", "competitor": "Beside another program",
}
ORDER = ["inference", "http", "start", "shapes", "avx2", "prefix", "beside", "speculation", "scaling", "quota", "competitor"]
MODELS = {"smollm2": "SmolLM2-135M Q4_1", "qwen2.5-coder": "Qwen2.5-Coder-0.5B Q4_K_M"}


def newest(rows):
    """The last result of each case of the newest commit that has it."""
    last = {}
    for r in sorted(rows, key=lambda r: r["time"]):
        last[(r["group"], r["model"], r["case"], r["threads"])] = r
    out = list(last.values())
    first = {}
    for i, r in enumerate(out):
        first.setdefault((r["group"], r["model"]), i)
    return sorted(out, key=lambda r: (ORDER.index(r["group"]) if r["group"] in ORDER else 99, first[(r["group"], r["model"])]))


def with_spread(x, spread):
    if x is None:
        return "-"
    return number(x) + (f" ({100 * spread:.0f} %)" if spread else "")


def target(row):
    t = row.get("target")
    if not t:
        return ""
    verdict = {True: "", False: " **missed**", None: ""}[row.get("met")]
    return f"{'≥' if t['op'] == '>=' else '≤'} {t['value']:g}{verdict}"


def peer_cells(r):
    limit = r.get("limit") or {}
    shares = " / ".join(f"{100 * limit[k]:.0f} %" for k in ("baimo", "peer") if limit.get(k) is not None)
    them = "failed" if r.get("peer_error") else with_spread(r.get("peer"), r.get("peer_spread"))
    ratio = f"{r['ratio']:.2f}" if r.get("ratio") is not None else "-"
    return [with_spread(r.get("baimo"), r.get("baimo_spread")), them, ratio, target(r), shares + (f" {limit['what']}" if shares else "")]


def peer_table(rows):
    out = ["| model | case | baimo | llama.cpp | ratio | target | share of the limit, ours / theirs |", "|---|---|---|---|---|---|---|"]
    model = None
    for r in rows:
        shown = MODELS.get(r["model"], r["model"]) if r["model"] != model else ""
        model = r["model"]
        out.append(f"| {shown} | {r['label']}, {r['unit']} | " + " | ".join(peer_cells(r)) + " |")
    return out


def own_table(rows):
    out = ["| model | case | baimo | target | what was seen |", "|---|---|---|---|---|"]
    model = None
    for r in rows:
        shown = MODELS.get(r["model"], r["model"]) if r["model"] != model else ""
        model = r["model"]
        said = r.get("error") or r.get("note") or ""
        figure = number(r.get("baimo")) if r["unit"] not in ("share", "yes/no") else \
            "-" if r.get("baimo") is None else f"{100 * r['baimo']:.2f} %" if r["unit"] == "share" else "yes" if r["baimo"] else "no"
        out.append(f"| {shown} | {r['label']} | {figure}{'' if r['unit'] in ('share', 'yes/no') else ' ' + r['unit']} | {target(r)} | {said} |")
    return out


def facts(rows):
    commits = sorted({r["commit"] for r in rows})
    machine = [r["machine"] for r in rows if "machine" in r]
    first = rows[0]
    lines = [f"{first.get('cpu', 'unknown CPU')}, {first['threads']} threads, commit {', '.join(commits)}."]
    if machine:
        def span(key):
            low, high = min(m[key] for m in machine), max(m[key] for m in machine)
            return number(low) if high < 1.02 * low else f"{number(low)} to {number(high)}"
        lines.append(f"`baimo bench --machine`, measured beside each case: read bandwidth {span('read_gb_s')} GB/s, int8 {span('int8_gops')} "
                     f"GOPS, bf16 {span('bf16_gflops')} GFLOPS, fp32 {span('fp32_gflops')} GFLOPS.")
    version = {r["peer_version"] for r in rows if r.get("peer_version")}
    if version:
        lines.append(f"llama.cpp: {', '.join(sorted(version))}.")
    failed = {r["peer_error"] for r in rows if r.get("peer_error")}
    if failed:
        lines.append("Failures of the peer: " + "; ".join(sorted(failed)) + ".")
    judged = [r for r in rows if r.get("met") is not None]
    lines.append(f"Targets met: {sum(r['met'] for r in judged)} of {len(judged)}. Spreads are (max - min) / median.")
    hashes = {r["model"]: r["model_sha256"][:12] for r in rows if r.get("model_sha256")}
    lines.append("Model files: " + ", ".join(f"{m} {h}" for m, h in hashes.items()) + " (sha256).")
    return lines


def markdown(rows):
    if not rows:
        return "no results"
    out = facts(rows)
    for g in ORDER:
        mine = [r for r in rows if r["group"] == g]
        if mine:
            with_peer = g in ("inference", "http", "start", "shapes", "avx2")
            out += ["", f"### {TITLES[g]}", ""] + (peer_table(mine) if with_peer else own_table(mine))
    return "\n".join(out)
