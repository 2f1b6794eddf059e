# SPDX-License-Identifier: MIT
"""Compiles every header under include/ by itself, or all of them in one file:  headers.py [--together] COMPILER INCLUDE_DIR [-D...]

Prints what fails and exits with 1. Headers of optional libraries that are not installed are passed over."""
import concurrent.futures, os, pathlib, shutil, subprocess, sys, tempfile

together = sys.argv[1] == "--together"
arguments = sys.argv[1 + together:]
compiler, root, defines = arguments[0], pathlib.Path(arguments[1]), arguments[2:]
flags = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{root}"] + defines
for package in ("gdal", "stb", "nlohmann_json", "opencv4", "eigen3"):
    found = subprocess.run(["pkg-config", "--cflags", package], capture_output=True, text=True)
    flags += [f.replace("-I", "-isystem", 1) if f.startswith("-I") else f for f in found.stdout.split()]
optional = {"RSSEG_WITH_GDAL": "gdal", "RSSEG_WITH_OPENCV": "opencv2"}
absent = [text for macro, text in optional.items() if not any(macro in d for d in defines)]
absent += [] if any("eigen3" in f for f in flags) else ["Eigen/"]
launcher = ["ccache"] if shutil.which("ccache") else []


def passed_over(header):
    text = header.read_text()
    return any(f"#include <{a}" in text for a in absent)


def compiles(group):
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as source:
        source.writelines(f'#include "{header.relative_to(root)}"\n' for header in group)
        source.flush()
        run = subprocess.run(launcher + [compiler] + flags + [source.name], capture_output=True, text=True)
    return run.returncode, run.stderr


every = sorted(root.rglob("*.hpp"))
headers = [header for header in every if not passed_over(header)]
groups = [headers] if together else [[header] for header in headers]
failed = 0
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for group, (status, errors) in zip(groups, pool.map(compiles, groups)):
        if status:
            failed += 1
            name = "all headers together do" if together else f"{group[0].relative_to(root)} does"
            print(f"{name} not compile{'' if together else ' by itself'} under {compiler}:\n{errors[:2000]}")
print(f"{compiler}: {len(groups) - failed} of {len(groups)} compile ({len(headers)} headers, {len(every) - len(headers)} passed over)")
sys.exit(1 if failed else 0)
