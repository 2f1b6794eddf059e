# SPDX-License-Identifier: MIT
"""Checks that headers include only headers of their own floor or of lower ones:  arrows.py INCLUDE_DIR

The floors are those of docs/architecture.md. Prints each arrow that points up and exits with 1."""
import pathlib, re, sys

root = pathlib.Path(sys.argv[1]) / "rsseg"
floors = [["core"], ["graph"], ["plan"], ["cpu", "cuda", "loss"], ["layers", "nets", "model"],
          ["train", "data", "io", "scene", "refine", "classical"], ["parity"]]
floor_of = {room: number for number, rooms in enumerate(floors) for room in rooms}
wrong = arrows = 0
for header in sorted(root.rglob("*.[hi][pn][pc]")):
    room = header.relative_to(root).parts[0]
    if room == "rsseg.hpp":
        continue
    if room not in floor_of:
        sys.exit(f"{header}: no floor is known for the folder '{room}': add it to tests/arrows.py and docs/architecture.md")
    for number, line in enumerate(header.read_text().splitlines(), 1):
        found = re.match(r'#include "rsseg/(\w+)/', line)
        if not found:
            continue
        arrows += 1
        if floor_of[found[1]] > floor_of[room]:
            wrong += 1
            print(f"{header.relative_to(root.parent)}:{number} points up: {line}")
print(f"{arrows} includes, {wrong} of them upward")
sys.exit(1 if wrong or not arrows else 0)
