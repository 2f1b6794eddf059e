#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every relative link of the documentation leads to a file, and every #anchor to a heading of it: links.py ROOT

Looks at README.md, CONTRIBUTING.md, CHANGELOG.md and docs/**/*.md. Web addresses are not visited. What stands in code is no link; but
a repository path that is named in code (include/rsseg/..., tests/..., tools/..., samples/..., docs/..., src/..., kernels/...) must exist, too."""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1]).resolve()
pages = [p for p in (root / "README.md", root / "CONTRIBUTING.md", root / "CHANGELOG.md") if p.exists()] + sorted((root / "docs").rglob("*.md"))
wrong, links, paths = [], 0, 0


def without_code(text):
    text = re.sub(r"^(```|~~~).*?^\1[^\n]*$", lambda m: "\n" * m[0].count("\n"), text, flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page):
    """The names that GitHub gives to headings: lower case, words joined by dashes, punctuation dropped."""
    found, seen = set(), {}
    for line in re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M).splitlines():
        m = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if not m:
            continue
        name = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", m[1]).lower()
        name = re.sub(r"[^\w\- ]", "", name).replace(" ", "-")
        again = seen.get(name, 0)
        seen[name] = again + 1
        found.add(f"{name}-{again}" if again else name)
    return found


for page in pages:
    text = page.read_text()
    for number, line in enumerate(without_code(text).splitlines(), 1):
        targets = re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", line) + re.findall(r"(?:src|href)=\"([^\"]+)\"", line)
        targets += re.findall(r"^\s*\[[^\]]+\]:\s*(\S+)", line)
        for target in targets:
            if re.match(r"[a-z]+:", target):
                continue
            links += 1
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            if not file.exists() or not file.is_relative_to(root):
                wrong.append(f"{page.relative_to(root)}:{number}: {target}: no such file")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file):
                wrong.append(f"{page.relative_to(root)}:{number}: {target}: no such heading")
    for number, line in enumerate(text.splitlines(), 1):
        for name in re.findall(r"(?<![\w/.-])((?:include/rsseg|tests|tools|samples|docs|src)/[\w./-]*[\w/])(?![\w*<])", line):
            paths += 1
            if not (root / name).exists():
                wrong.append(f"{page.relative_to(root)}:{number}: {name}: no such file")

for w in wrong:
    print(w)
print(f"{len(pages)} pages, {links} links, {paths} paths, {len(wrong)} wrong")
sys.exit(1 if wrong or not links else 0)
