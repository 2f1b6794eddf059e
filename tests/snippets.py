# SPDX-License-Identifier: MIT
"""Whole programs shown in the documentation compile:  snippets.py COMPILER ROOT

A block of ```cpp that has a main() counts as a whole program; README.md must show at least one."""
import pathlib, re, subprocess, sys, tempfile

compiler, root = sys.argv[1], pathlib.Path(sys.argv[2])
failed, found = 0, {}
for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
    for code in re.findall(r"^```cpp\n(.*?)^```", page.read_text(), re.S | re.M):
        if not re.search(r"^int main\(", code, re.M):
            continue
        found[page.name] = found.get(page.name, 0) + 1
        with tempfile.NamedTemporaryFile("w", suffix=".cpp") as source:
            source.write(code)
            source.flush()
            run = subprocess.run([compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-unused-variable", f"-I{root / 'include'}", source.name],
                                 capture_output=True, text=True)
        if run.returncode:
            failed += 1
            print(f"{page.relative_to(root)}: a program does not compile:\n{run.stderr[:3000]}")
print(f"{sum(found.values())} programs in {len(found)} pages, {failed} do not compile")
sys.exit(1 if failed or "README.md" not in found else 0)
