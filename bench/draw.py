"""Results as SVG: bars of the ratio to llama.cpp, and of the share of the physical limit. Readable on light and dark ground."""
import os
from xml.sax.saxutils import escape

from tables import MODELS

WIDTH, LEFT, RIGHT, BAR, GAP = 760, 250, 90, 16, 10
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #57606a } .t { font-size: 15px; font-weight: 600 } .v { font-weight: 600 }
.us { fill: #1f7a8c } .them { fill: #9aa4ae } .line { stroke: #8b949e; stroke-width: 1 } .target { stroke: #c2571a; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #adbac7 } .us { fill: #4bb3c9 } .them { fill: #636e7b } .target { stroke: #f0883e } }
</style>"""


def text(x, y, s, cls="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{f" class={chr(34)}{cls}{chr(34)}" if cls else ""}>{escape(s)}</text>'


def rect(x, y, w, cls):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 1):.1f}" height="{BAR}" rx="2" class="{cls}"/>'


def picture(title, about, bars, scale_max, mark=None):
    """bars: (label, [(value, class, shown)], target or None), or a heading as a string."""
    out, y = [text(12, 26, title, "t"), text(12, 46, about)], 64
    wide = WIDTH - LEFT - RIGHT
    at = lambda v: LEFT + wide * min(v, scale_max) / scale_max
    top = y
    for bar in bars:
        if isinstance(bar, str):
            y += 12
            out.append(text(12, y + 12, bar, "v"))
            y += 24
            continue
        label, values, target = bar
        out.append(text(LEFT - 10, y + BAR * len(values) / 2 + 5, label, anchor="end"))
        for i, (v, cls, shown) in enumerate(values):
            out += [rect(LEFT, y + i * BAR, at(v) - LEFT, cls), text(at(v) + 6, y + i * BAR + 13, shown, "v" if cls == "us" else "")]
        if target is not None:
            out.append(f'<line x1="{at(target):.1f}" x2="{at(target):.1f}" y1="{y - 3}" y2="{y + BAR * len(values) + 3}" class="target"/>')
        y += BAR * len(values) + GAP
    if mark is not None:
        out.append(f'<line x1="{at(mark):.1f}" x2="{at(mark):.1f}" y1="{top}" y2="{y}" class="line" stroke-dasharray="3 4"/>')
    body = "\n".join(out)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 12}" role="img" aria-label="{escape(title)}">\n{STYLE}\n'
            f"{body}\n</svg>\n")


def by_model(rows, bar_of):
    out, model = [], None
    for r in rows:
        bar = bar_of(r)
        if bar is None:
            continue
        if r["model"] != model:
            model = r["model"]
            out.append(MODELS.get(model, model))
        out.append(bar)
    return out


def ratio_bar(r):
    """Times as fast: for what should be small, the ratio turned round."""
    if not r.get("ratio"):
        return None
    up = r["better"] == "higher"
    value, target = r["ratio"] if up else 1 / r["ratio"], r.get("target")
    goal = None
    if target and target["of"] == "ratio":
        goal = target["value"] if up else 1 / target["value"]
    return r["label"], [(value, "us", f"{value:.1f} x")], goal


def limit_bar(r):
    limit = r.get("limit") or {}
    if limit.get("baimo") is None:
        return None
    values = [(limit["baimo"], "us", f"{100 * limit['baimo']:.0f} %")]
    if limit.get("peer") is not None:
        values.append((limit["peer"], "them", f"{100 * limit['peer']:.0f} %"))
    return f"{r['label'].split(',')[0]}, {limit['what']}" if "prefill" not in r["case"] else r["label"], values, None


def write_all(rows, docs):
    """docs/speed-*.svg; the names of what was written."""
    made = []
    subject = {"ratios": (("inference", "http"), "Speed against llama.cpp", "times as fast (times to first token: times as short); the mark is the target"),
               "shapes": (("shapes",), "Synthetic shapes against llama.cpp", "times as fast; the mark is the target"),
               "avx2": (("avx2",), "AVX2 alone against llama.cpp", "times as fast; the mark is the target")}
    for name, (groups, title, about) in subject.items():
        bars = by_model(sorted((r for r in rows if r["group"] in groups), key=lambda r: list(MODELS).index(r["model"])
                               if r["model"] in MODELS else 9), ratio_bar)
        if bars:
            top = max([b[1][0][0] for b in bars if not isinstance(b, str)] + [b[2] or 0 for b in bars if not isinstance(b, str)])
            made.append((f"speed-{name}.svg", picture(title, about, bars, max(top, 1.0), 1.0)))
    bars = by_model([r for r in rows if r["group"] == "inference"], limit_bar)
    if bars:
        made.append(("speed-limits.svg", picture("Share of what the machine could do", "one sequence: of the read bandwidth; prefill and "
                     "batches: of the int8 peak; grey: llama.cpp", bars, 1.0)))
    for name, svg in made:
        with open(os.path.join(docs, name), "w", encoding="utf-8") as f:
            f.write(svg)
    return [name for name, _ in made]
