#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes docs/networks/: one page per family, figures, the table of all networks and the scatter plot.  make_docs.py [--rsseg build/rsseg]

Numbers and figures come from `rsseg describe`; the hand-written parts are docs/networks/families.toml. A network that is new in a header
appears by itself; a new family without a paragraph is an error."""
import argparse, html, json, math, pathlib, re, shutil, subprocess, sys, tomllib

root = pathlib.Path(__file__).resolve().parent.parent
out = root / "docs" / "networks"
options = argparse.ArgumentParser()
options.add_argument("--rsseg", default=str(root / "build" / "rsseg"))
rsseg = options.parse_args().rsseg
if not shutil.which(rsseg):
    sys.exit(f"make_docs: {rsseg}: there is no such program; build it first (ninja -C build), or name it with --rsseg")


def run(*args, check=True):
    r = subprocess.run([rsseg, *args], capture_output=True, text=True)
    if r.returncode and check:
        sys.exit(f"make_docs: {rsseg} {' '.join(args)}: {r.stderr.strip()}")
    return r.stdout if r.returncode == 0 else None


texts = tomllib.loads((out / "families.toml").read_text())
listed = {n["name"]: n for n in json.loads(run("--json", "list"))}
families = {}
for header in sorted((root / "include/rsseg/nets").glob("*.hpp")):
    source = header.read_text()
    found = re.search(r"network_entry (\w+)_networks\[\] = \{(.*?)\n\};", source, re.S)
    if not found:
        continue
    entries = re.findall(r'\{\s*"([a-z0-9-]+)",\s*"(?:(?!\{\s*"[a-z0-9-]+",).)*?&([\w:<>, ]+?)::build', found[2] + "\n", re.S)
    entries = [(name, kind) for name, kind in entries if name in listed]
    if not entries:
        continue
    head = [line[3:] for line in source.splitlines()[1:30] if line.startswith("// ")]
    end = next(i for i, line in enumerate(source.splitlines()) if line.startswith("#pragma once"))
    head = [line[3:] for line in source.splitlines()[1:end] if line.startswith("//")]
    families[found[1]] = (header.name, head, entries)
lost = set(listed) - {name for _, _, entries in families.values() for name, _ in entries}
if lost:
    print(f"make_docs: in no header of include/rsseg/nets: {', '.join(sorted(lost))}", file=sys.stderr)


def mib(b):
    return f"{b / 1048576:,.0f} MiB" if b else "-"


def figure(name, depth=0):
    """The figure as SVG; None for a network that takes no 512 x 512 image."""
    svg = run("describe", name, "--svg", "--depth", str(depth), check=False)
    if svg is None:
        return None
    (out / f"{name}.svg").write_text(svg)
    return name


def at_crop(name):
    """Facts at the recipe's crop, or at the nearest legal size; None where that is the size of the table anyway."""
    n = listed[name]
    side = round((n["recipe"]["crop"] - n["size_offset"]) / n["size_multiple"]) * n["size_multiple"] + n["size_offset"]
    j = run("--json", "describe", name, "--input", f"1,3,{side},{side}", check=False)
    return json.loads(j) if j else None


def recipe_line(r):
    beta = f", momentum {r['momentum']:g}" if r["optimizer"] == "sgd" else ""
    return f"{r['optimizer'].upper() if r['optimizer'] == 'sgd' else r['optimizer']}, rate {r['learning_rate']:g}{beta}, decay {r['weight_decay']:g}, {r['schedule']}, batch {r['batch']}, crop {r['crop']}"


# What training was measured: lists of {network, data, budget, miou, accuracy, ...}; written by hand or from samples/compare_networks.
measured_file = out / "measured.json"
measured = json.loads(measured_file.read_text()) if measured_file.exists() else []
rows = []
for family, (header, head, entries) in families.items():
    if family not in texts:
        sys.exit(f"make_docs: docs/networks/families.toml has no section [{family}] for include/rsseg/nets/{header}")
    text = texts[family]
    facts = [(name, kind, json.loads(j) if (j := run("--json", "describe", name, check=False)) else None) for name, kind in entries]
    title = text.get("title", listed[entries[0][0]]["title"])
    page = [f"# {title}", "", "<!-- made by tools/make_docs.py from families.toml and the graph; edit those -->", "", text["idea"], "", f"Paper: {listed[entries[0][0]]['paper']}.", ""]
    drawn = figure(text.get("figure", entries[0][0]), text.get("depth", 0))
    if drawn:
        page += [f"![{title}, drawn from its graph]({drawn}.svg)", "", f"*`{drawn}`, drawn by `rsseg describe {drawn} --svg`: a column for each resolution, data flow downward.*", ""]
    page += ["## Layout", "", "```", *head, "```", "", f"The type, in include/rsseg/nets/{header}:", "", "```cpp"]
    page += [f"{kind};  // {name}: {listed[name]['note']}" for name, kind in entries]
    page += ["```", "", "## Cost", "", "At 6 classes, for 512 x 512 (or the nearest legal size) and for the crop of the paper's recipe.", "",
             "| network | input | parameters | multiply-adds | memory of inference | of a training step | every value kept |", "|---|---|---:|---:|---:|---:|---:|"]
    for name, _, f in facts:
        if f is None:
            page.append(f"| `{name}` | - | | | | | |")
            continue
        size = " x ".join(map(str, f["input"][1:]))
        cells = lambda f: [f"{f['parameters']:,}", f"{f['macs'] / 1e9:,.2f} G", mib(f["inference_bytes"]), mib(f["training_bytes_recompute"]), mib(f["training_bytes"])]
        page.append(f"| `{name}` | {size} | {' | '.join(cells(f))} |")
        crop = at_crop(name)
        if crop and crop["input"] != f["input"]:
            page.append(f"| | {' x '.join(map(str, crop['input'][1:]))} | {' | '.join(cells(crop))} |")
        rows.append((name, title if len(entries) == 1 else listed[name]["title"], family, size, f))
    segmenter = [name for name, _ in entries if listed[name]["segmenter"]]
    page += ["", "Memory for batch 1: the planned arena and, in inference, the folded and packed weights it keeps beside the network's own.", "", *([f"Reported by the authors or the public reference, under their own protocols, not measured here: {text['published']}", ""] if text["published"] else [])]
    mine = [m for m in measured if m["network"] in dict(entries)]
    if mine:
        page += ["## Measured", "", "| network | data | budget | mIoU | accuracy |", "|---|---|---|---:|---:|"]
        page += [f"| `{m['network']}` | {m['data']} | {m['budget']} | {m['miou']:.3f} | {m['accuracy']:.3f} |" for m in mine]
        page += ["", "Commands and further figures in [results](../results.md).", ""]
    page += ["## Training", ""]
    if "train" in text:
        page += [text["train"]]
    elif segmenter:
        page += [f"The recipe is the default of the options: {recipe_line(listed[segmenter[0]]['recipe'])}. `rsseg train --help` lists what can be changed.", "", "```",
                 f"rsseg train --net {segmenter[0]} --data DIR --val DIR --minutes 60 --out OUT", "rsseg segment --weights OUT/weights.safetensors scene.tif -o map.tif", "```"]
    elif any(listed[name].get("refiner") for name, _ in entries):
        name = next(name for name, _ in entries if listed[name].get("refiner"))
        page += [f"A stage of [refinement](../refinement.md), trained on coarse maps: `rsseg train --net {name} --coarse run/weights.safetensors --data DIR --out OUT`."]
    else:
        sys.exit(f"make_docs: docs/networks/families.toml, [{family}]: no network of the family is trained by itself; add a line `train = ...` that says how")
    if text["ours"]:
        page += ["", "## Ours, where the paper is silent", "", text["ours"], ""]
    notes = out / "notes" / f"{family}.md"  # further hand-written matter, if any; its title is dropped
    if notes.exists():
        page += ["## Notes", "", re.sub(r"^# .*\n+", "", notes.read_text()).replace("\n## ", "\n### ").strip(), ""]
    page += ["[All networks](README.md)", ""]
    (out / f"{family}.md").write_text("\n".join(page))


def scatter():
    w, h, left, bottom = 900, 560, 70, 50
    shown = [r for r in rows if r[-1]["macs"] > 0]  # CRF-RNN filters and multiplies nothing: a logarithm has no place for it
    xs = [math.log10(f["parameters"]) for *_, f in shown]
    ys = [math.log10(f["macs"]) for *_, f in shown]
    x0, x1, y0, y1 = math.floor(min(xs)), math.ceil(max(xs)), math.floor(min(ys)), math.ceil(max(ys))
    px = lambda v: left + (v - x0) / (x1 - x0) * (w - left - 20)
    py = lambda v: h - bottom - (v - y0) / (y1 - y0) * (h - bottom - 20)
    unit = lambda e: f"{10 ** (e % 3)} {['', 'k', 'M', 'G', 'T'][e // 3]}".strip()
    s = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" font-family="Helvetica, sans-serif" font-size="11">', f'<rect width="{w}" height="{h}" fill="#fff"/>']
    for e in range(x0, x1 + 1):
        s += [f'<line x1="{px(e):.0f}" y1="20" x2="{px(e):.0f}" y2="{h - bottom}" stroke="#dde3ea"/>', f'<text x="{px(e):.0f}" y="{h - bottom + 16}" text-anchor="middle">{unit(e)}</text>']
    for e in range(y0, y1 + 1):
        s += [f'<line x1="{left}" y1="{py(e):.0f}" x2="{w - 20}" y2="{py(e):.0f}" stroke="#dde3ea"/>', f'<text x="{left - 6}" y="{py(e) + 4:.0f}" text-anchor="end">{unit(e)}</text>']
    s += [f'<text x="{w / 2:.0f}" y="{h - 10}" text-anchor="middle">parameters</text>', f'<text transform="translate(16 {h / 2:.0f}) rotate(-90)" text-anchor="middle">multiply-adds, one image</text>']
    taken, named = [], set()
    for (name, _, family, _, f), x, y in zip(shown, xs, ys):
        s.append(f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="4" fill="#2f6f9f" fill-opacity=".75"><title>{name}</title></circle>')
        box = (px(x) + 6, py(y) - 8, px(x) + 10 + 6 * len(name), py(y) + 5)
        if box[2] < w and not any(a[0] < box[2] and box[0] < a[2] and a[1] < box[3] and box[1] < a[3] for a in taken):
            s.append(f'<text x="{px(x) + 7:.0f}" y="{py(y) + 4:.0f}">{name}</text>')
            taken.append(box)
    (out / "cost.svg").write_text("\n".join(s + ["</svg>", ""]))


scatter()
best = {}  # the first of a network: the file begins with those that share data and budget
for m in measured:
    best.setdefault(m["network"], m)
columns = ["network", "title", "paper", "input", "parameters", "multiply-adds", "memory of inference", "memory of training", "receptive field", "mIoU measured", "on, within"]
table = []
for name, title, family, size, f in sorted(rows, key=lambda r: r[4]["parameters"]):
    field = "everything" if f["global"] else f"{f['receptive_field'][0]:.0f}"
    score = f"{best[name]['miou']:.3f}" if name in best else ""
    how = f"{best[name]['data']}; {best[name]['budget']}" if name in best else ""
    table.append([(name, name), (title, title), (listed[name]["paper"], listed[name]["paper"]), (size, size), (f"{f['parameters'] / 1e6:.2f} M", f["parameters"]),
                  (f"{f['macs'] / 1e9:.2f} G", f["macs"]), (mib(f["inference_bytes"]), f["inference_bytes"]), (mib(f["training_bytes_recompute"]), f["training_bytes_recompute"]),
                  (field, 1e9 if f["global"] else f["receptive_field"][0]), (score, best[name]["miou"] if name in best else -1), (how, how), family])
index = ["# Networks", "", "<!-- made by tools/make_docs.py -->", "", "Parameters and multiply-adds at 6 classes, both axes logarithmic (without `crf-rnn`, which multiplies nothing); hover for names that found no room. What accuracy was measured stands in",
         "[results](../results.md); papers' figures, by their own protocols, on the pages. [compare.html](compare.html) is this table with columns that sort at a click.", "",
         "![parameters against multiply-adds](cost.svg)", "", f"| {' | '.join(columns)} |", "|---|---|---|---|---:|---:|---:|---:|---:|---:|---|"]
index += [f"| [`{r[0][0]}`]({r[-1]}.md) | {' | '.join(cell[0] for cell in r[1:-1])} |" for r in table]
index += ["", "Sorted by parameters. Receptive field in pixels; \"everything\": some layer sees the whole input.", ""]
(out / "README.md").write_text("\n".join(index))

body = "\n".join("<tr>" + "".join(f'<td data-v="{html.escape(str(v))}">' + (f'<a href="{r[-1]}.md">{html.escape(t)}</a>' if i == 0 else html.escape(t)) + "</td>" for i, (t, v) in enumerate(r[:-1])) + "</tr>" for r in table)
(out / "compare.html").write_text(f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>rsseg: networks compared</title>
<style>body{{font:14px Helvetica,Arial,sans-serif;margin:2em;color:#1d2b38}}table{{border-collapse:collapse}}td,th{{padding:.3em .7em;border-bottom:1px solid #dde3ea;text-align:left}}
th{{cursor:pointer;background:#eef3f8;position:sticky;top:0}}td:nth-child(n+5):not(:last-child){{text-align:right}}th[data-d]::after{{content:" \\2191"}}th[data-d="-1"]::after{{content:" \\2193"}}img{{max-width:900px}}</style>
<h1>Networks compared</h1><p>At 6 classes. Click a heading to sort, again to reverse. mIoU is shown only where it was measured with this library (see results.md); data and budgets differ between rows.</p>
<p><input id="q" placeholder="filter, e.g. deeplab" size="30"></p>
<table><thead><tr>{"".join(f"<th>{c}</th>" for c in columns)}</tr></thead><tbody>
{body}
</tbody></table><p><img src="cost.svg" alt="parameters against multiply-adds"></p>
<script>
const rows = [...document.querySelectorAll("tbody tr")], body = document.querySelector("tbody");
document.querySelectorAll("th").forEach((head, column) => head.onclick = () => {{
  const direction = head.dataset.d === "1" ? -1 : 1;
  document.querySelectorAll("th").forEach(h => delete h.dataset.d);
  head.dataset.d = direction;
  const value = row => {{ const v = row.cells[column].dataset.v; return v !== "" && !isNaN(v) ? Number(v) : v; }};
  rows.sort((a, b) => {{ const x = value(a), y = value(b); return direction * (x < y ? -1 : x > y ? 1 : 0); }});
  body.append(...rows);
}});
document.getElementById("q").oninput = e => rows.forEach(r => r.hidden = !r.textContent.toLowerCase().includes(e.target.value.toLowerCase()));
</script></html>
""")
# Figures of networks that are no longer first in their family.
used = set(re.findall(r"\(([\w-]+\.svg)\)", "".join(p.read_text() for p in out.glob("*.md"))))
for old in out.glob("*.svg"):
    if old.name not in used:
        old.unlink()
print(f"{len(families)} pages, {len(rows)} networks, {len(list(out.glob('*.svg')))} figures in docs/networks")
