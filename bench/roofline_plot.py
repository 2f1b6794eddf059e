#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws what bench_cudnn or bench_cuda_operators measured:  roofline_plot.py RESULT.json [PICTURE.svg]

One row per layer, pass and arithmetic: a bar for the floor of an H100, dots for our time and the rival's, on a logarithmic axis of microseconds. Rows that
were not measured show their floor only and say so."""
import html
import json
import math
import sys

source = sys.argv[1]
target = sys.argv[2] if len(sys.argv) > 2 else source.rsplit(".", 1)[0] + ".svg"
data = json.load(open(source))
rows = data["rows"]
if not rows:
    sys.exit(f"{source}: no rows")
rival = lambda r: r.get("cudnn_us", r.get("rival_us"))
times = [t for r in rows for t in (r["floor_us"], r["ours_us"], rival(r)) if t]
low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
left, width, step = 430, 620, 18
x = lambda us: left + width * (math.log10(us) - low) / max(high - low, 1)
height = 70 + step * len(rows)
out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 40}" height="{height}" font-family="sans-serif" font-size="11">',
       f'<rect width="100%" height="100%" fill="white"/><text x="10" y="20" font-size="14">{html.escape(data["device"])}, {data["date"]}, '
       f'cuDNN {data["cudnn"]}: bar floor of an H100, dot ours, ring rival; microseconds</text>']
for decade in range(low, high + 1):
    out.append(f'<path d="M{x(10 ** decade):.1f} 34V{height - 12}" stroke="#ccc"/><text x="{x(10 ** decade):.1f}" y="32" text-anchor="middle">{10 ** decade:g}</text>')
for i, r in enumerate(rows):
    y = 46 + step * i
    label = " ".join(str(r[k]) for k in ("layer", "pass", "math") if k in r)
    out.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{html.escape(label)}</text>')
    out.append(f'<rect x="{left}" y="{y - 5}" width="{x(r["floor_us"]) - left:.1f}" height="10" fill="#9ab"/>')
    if rival(r):
        out.append(f'<circle cx="{x(rival(r)):.1f}" cy="{y}" r="5" fill="none" stroke="#b40" stroke-width="2"/>')
    if r["ours_us"]:
        out.append(f'<circle cx="{x(r["ours_us"]):.1f}" cy="{y}" r="4" fill="#064"/>')
    else:
        out.append(f'<text x="{x(r["floor_us"]) + 6:.1f}" y="{y + 4}" fill="#777">not measured</text>')
out.append("</svg>")
open(target, "w").write("\n".join(out) + "\n")
print(f"{target}: {len(rows)} rows, {sum(1 for r in rows if r['ours_us'])} measured")
