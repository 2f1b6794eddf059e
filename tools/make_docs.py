#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes docs/networks/: one page per family, figures, the table of all networks and the scatter plot.  make_docs.py [--rsseg build/rsseg]

Numbers and figures come from `rsseg describe`; the hand-written parts are docs/networks/families.toml. A network that is new in a header
appears by itself; a new family without a paragraph is an error."""
import argparse, json, math, pathlib, re, shutil, subprocess, sys, tomllib

root = pathlib.Path(__file__).resolve().parent.parent
out = root / "docs" / "networks"
options = argparse.ArgumentParser()
options.add_argument("--rsseg", default=str(root / "build" / "rsseg"))
rsseg = options.parse_args().rsseg
if not shutil.which(rsseg):
    sys.exit(f"make_docs: {rsseg}: there is no such program; build it first (ninja -C build), or name it with --rsseg")
if not shutil.which("dot"):
    sys.exit("make_docs: graphviz is missing: apt-get install graphviz")


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


def figure(name):
    """An SVG below 60 kB: from about 40 boxes down to the outermost scopes."""
    for depth in ("0", "2", "1"):
        dot = run("describe", name, "--dot", "--depth", depth, check=False)
        if dot is None:
            return None
        svg = subprocess.run(["dot", "-Tsvg"], input=dot, capture_output=True, text=True, check=True).stdout
        svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.S)
        svg = re.sub(r"<title>.*?</title>\n?", "", svg)
        if len(svg) < 60000:
            (out / f"{name}.svg").write_text(svg)
            return name
    return None


rows = []
for family, (header, head, entries) in families.items():
    if family not in texts:
        sys.exit(f"make_docs: docs/networks/families.toml has no section [{family}] for include/rsseg/nets/{header}")
    text = texts[family]
    facts = [(name, kind, json.loads(j) if (j := run("--json", "describe", name, check=False)) else None) for name, kind in entries]
    title = listed[entries[0][0]]["title"]
    page = [f"# {title}", "", "<!-- made by tools/make_docs.py from families.toml and the graph; edit those -->", "", text["idea"], "", f"Paper: {listed[entries[0][0]]['paper']}.", ""]
    drawn = figure(entries[0][0])
    if drawn:
        page += [f"![{title}, drawn from its graph]({drawn}.svg)", "", f"*`{drawn}`, drawn by `rsseg describe {drawn} --dot`.*", ""]
    page += ["## Layout", "", "```", *head, "```", "", f"The type, in include/rsseg/nets/{header}:", "", "```cpp"]
    page += [f"{kind};  // {name}: {listed[name]['note']}" for name, kind in entries]
    page += ["```", "", "## Cost", "", "At 6 classes, for the input that the table names (512 x 512 or the nearest legal size).", "",
             "| network | input | parameters | multiply-adds | memory of inference | of a training step | with recomputation |", "|---|---|---:|---:|---:|---:|---:|"]
    for name, _, f in facts:
        if f is None:
            page.append(f"| `{name}` | - | | | | | |")
            continue
        size = " x ".join(map(str, f["input"][1:]))
        cost = [f"{f['parameters']:,}", f"{f['macs'] / 1e9:,.2f} G", mib(f["inference_bytes"]), mib(f["training_bytes"]), mib(f["training_bytes_recompute"])]
        page.append(f"| `{name}` | {size} | {' | '.join(cost)} |")
        rows.append((name, title if len(entries) == 1 else listed[name]["title"], family, size, f))
    segmenter = [name for name, _ in entries if listed[name]["segmenter"]]
    page += ["", "Memory is the planned arena for batch 1, without weights.", "", *([f"Published: {text['published']}", ""] if text["published"] else []), "## Training", ""]
    if segmenter:
        page += ["The paper's recipe (optimiser, rate, decay, batch, crop) is the default of the options; `--help` lists them.", "", "```",
                 f"rsseg train --net {segmenter[0]} --data DIR --val DIR --minutes 60 --out OUT", "rsseg segment --weights OUT/weights.safetensors scene.tif -o map.tif", "```"]
    else:
        page += ["Its inputs are not one image of bands, so `rsseg train` does not drive it; train it through the library (samples/)."]
    if text["ours"]:
        page += ["", "## Ours, where the paper is silent", "", text["ours"], ""]
    notes = out / "notes" / f"{family}.md"  # further hand-written matter, if any; its title is dropped
    if notes.exists():
        page += ["## Notes", "", re.sub(r"^# .*\n+", "", notes.read_text()).replace("\n## ", "\n### ").strip(), ""]
    page += ["[All networks](README.md)", ""]
    (out / f"{family}.md").write_text("\n".join(page))
figure("unet-16")


def scatter():
    w, h, left, bottom = 900, 560, 70, 50
    xs = [math.log10(f["parameters"]) for *_, f in rows]
    ys = [math.log10(max(1, f["macs"])) for *_, f in rows]
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
    for (name, _, family, _, f), x, y in zip(rows, xs, ys):
        s.append(f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="4" fill="#2f6f9f" fill-opacity=".75"><title>{name}</title></circle>')
        box = (px(x) + 6, py(y) - 8, px(x) + 10 + 6 * len(name), py(y) + 5)
        if box[2] < w and not any(a[0] < box[2] and box[0] < a[2] and a[1] < box[3] and box[1] < a[3] for a in taken):
            s.append(f'<text x="{px(x) + 7:.0f}" y="{py(y) + 4:.0f}">{name}</text>')
            taken.append(box)
    (out / "cost.svg").write_text("\n".join(s + ["</svg>", ""]))


scatter()
index = ["# Networks", "", "<!-- made by tools/make_docs.py -->", "", "Parameters and multiply-adds at 6 classes, both axes logarithmic; hover for names that found no room. What accuracy was measured stands in",
         "[results](../results.md); papers' figures, by their own protocols, on the pages.", "", "![parameters against multiply-adds](cost.svg)", "",
         "| network | title | paper | input | parameters | multiply-adds | memory of inference | receptive field |", "|---|---|---|---|---:|---:|---:|---:|"]
for name, title, family, size, f in sorted(rows, key=lambda r: r[4]["parameters"]):
    field = "everything" if f["global"] else f"{f['receptive_field'][0]:.0f}"
    index.append(f"| [`{name}`]({family}.md) | {title} | {listed[name]['paper']} | {size} | {f['parameters'] / 1e6:.2f} M | {f['macs'] / 1e9:.2f} G | {mib(f['inference_bytes'])} | {field} |")
index += ["", "Sorted by parameters. Receptive field in pixels; \"everything\": some layer sees the whole input.", ""]
(out / "README.md").write_text("\n".join(index))
print(f"{len(families)} pages, {len(rows)} networks, {len(list(out.glob('*.svg')))} figures in docs/networks")
