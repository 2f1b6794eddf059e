#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a parity manifest small enough to live with the tests: thin_manifest.py IN.json ... OUT_DIR [--limit BYTES]

All fields stay; the state (names, shapes, fill ranges) stays exact. Numbers are rounded to 13 digits, gradients keep 3 samples, buffers 2.
If the file is still larger than the limit (60000), outputs keep 16 samples, then gradients and buffers are listed for every 2nd, 4th, ...
parameter: a name that is missing there is not an error for a reader. Networks with more than about 500 tensors stay above the limit,
because their state does."""
import argparse
import json
import os
import re
import sys


def rounded(x):
    if isinstance(x, float):
        return float(f"{x:.13g}")
    if isinstance(x, list):
        return [rounded(v) for v in x]
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    return x


def spread(samples, count):
    """`count` of the samples, evenly, first and last among them."""
    if len(samples) <= count:
        return samples
    return [samples[round(i * (len(samples) - 1) / (count - 1))] for i in range(count)]


def probes(m, fields, count):
    for section in (m, m.get("train"), m.get("train_weighted")):
        for field in fields:
            for probe in ((section or {}).get(field) or {}).values():
                if isinstance(probe, dict) and "samples" in probe:
                    probe["samples"] = spread(probe["samples"], count)


def every(m, fields, step):
    for section in (m.get("train"), m.get("train_weighted")):
        for field in fields:
            if section and section.get(field):
                section[field] = {k: v for i, (k, v) in enumerate(section[field].items()) if i % step == 0}


def thin(m, limit):
    state = m.get("state")  # its ranges fill the network: never rounded
    m = rounded({k: v for k, v in m.items() if k != "state"}) | ({"state": state} if state else {})
    if "notes" in m:
        m["notes"] = re.sub(r" \(see systems/[^)]*\)", "", m["notes"])
    m = {k: m[k] for k in ORDER if k in m} | {k: v for k, v in m.items() if k not in ORDER}
    text = lambda: json.dumps(m, separators=(",", ":"))
    probes(m, ["grads"], 3)
    probes(m, ["buffers_after"], 2)
    for step in range(6):
        if len(text()) <= limit:
            break
        if step == 0:
            probes(m, ["eval", "outputs"], 16)
        else:
            every(m, ["grads", "buffers_after"], 2)
    return text()


ORDER = ["format", "fill_prefix", "system", "variant", "reference", "notes", "num_classes", "parameter_count", "inputs", "state", "eval", "train",
         "train_weighted", "float32_deviation"]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("manifest", nargs="+")
parser.add_argument("directory")
parser.add_argument("--limit", type=int, default=60000)
args = parser.parse_args()
for path in args.manifest:
    with open(path) as f:
        manifest = json.load(f)
    if manifest.get("format") != 1:
        sys.exit(f"{path}: not a network manifest of format 1")
    target = os.path.join(args.directory, os.path.basename(path))
    with open(target + ".part", "w") as f:
        f.write(thin(manifest, args.limit) + "\n")
    os.replace(target + ".part", target)
    print(f"{target}: {os.path.getsize(path)} -> {os.path.getsize(target)} bytes")
