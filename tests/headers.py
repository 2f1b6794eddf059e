# SPDX-License-Identifier: MIT
"""Compiles every header under include/ by itself:  headers.py COMPILER INCLUDE_DIR [-D...]

Prints what fails and exits with 1. Headers of optional libraries that are not installed are passed over."""
import concurrent.futures, os, pathlib, shutil, subprocess, sys, tempfile

compiler, root, defines = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
flags = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{root}"] + defines
for package in ("gdal", "stb", "nlohmann_json", "opencv4", "eigen3"):
    found = subprocess.run(["pkg-config", "--cflags", package], capture_output=True, text=True)
    flags += [f.replace("-I", "-isystem", 1) if f.startswith("-I") else f for f in found.stdout.split()]
optional = {"RSSEG_WITH_GDAL": "gdal", "RSSEG_WITH_OPENCV": "opencv2"}
absent = [text for macro, text in optional.items() if not any(macro in d for d in defines)]
absent += [] if any("eigen3" in f for f in flags) else ["Eigen/"]
launcher = ["ccache"] if shutil.which("ccache") else []


def compiles(header):
    text = header.read_text()
    if any(f"#include <{a}" in text for a in absent):
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as source:
        source.write(f'#include "{header.relative_to(root)}"\n')
        source.flush()
        run = subprocess.run(launcher + [compiler] + flags + [source.name], capture_output=True, text=True)
    return run.returncode, run.stderr


headers = sorted(root.rglob("*.hpp"))
failed = skipped = 0
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for header, result in zip(headers, pool.map(compiles, headers)):
        if result is None:
            skipped += 1
        elif result[0]:
            failed += 1
            print(f"{header.relative_to(root)} does not compile by itself under {compiler}:\n{result[1][:2000]}")
print(f"{compiler}: {len(headers) - failed - skipped} headers compile, {failed} do not, {skipped} passed over")
sys.exit(1 if failed else 0)
