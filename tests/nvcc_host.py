# SPDX-License-Identifier: MIT
"""rsseg in .cu files:  nvcc_host.py NVCC INCLUDE_DIR PROGRAM.cpp [-D...]

1. nvcc's own front end takes every header (it is another compiler than g++, with other faults). 2. PROGRAM, header-only, compiled as CUDA by nvcc
with g++ as host compiler, runs and succeeds: layers, graph, training step, the CPU kernels and their instruction sets."""
import os, pathlib, subprocess, sys, tempfile

nvcc, root, program, defines = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
for package in ("gdal", "stb", "nlohmann_json", "opencv4", "eigen3"):
    found = subprocess.run(["pkg-config", "--cflags", package], capture_output=True, text=True)
    defines += [f.replace("-I", "-isystem=", 1) if f.startswith("-I") else f for f in found.stdout.split()]
needs = {"gdal": "RSSEG_WITH_GDAL", "opencv": "RSSEG_WITH_OPENCV"}
absent = [text for text, macro in needs.items() if not any(macro in d for d in defines)]
absent += [] if any("eigen3" in d for d in defines) else ["Eigen/"]
defines = [f"-isystem={d}" if last == "-isystem" else d for last, d in zip([""] + defines, defines) if d != "-isystem"]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(" ".join(command) + "\n" + "\n".join((done.stdout + done.stderr).splitlines()[:60]))
    return done.stdout


with tempfile.TemporaryDirectory() as folder:
    every, binary = os.path.join(folder, "every.cu"), os.path.join(folder, "program")
    headers = [h for h in sorted(root.rglob("*.hpp")) if not any(f"#include <{a}" in h.read_text() for a in absent)]
    pathlib.Path(every).write_text("".join(f'#include "{h.relative_to(root)}"\n' for h in headers))
    common = [nvcc, "-std=c++20", "-arch=sm_80", f"-I{root}"] + defines
    run(common + ["-DRSSEG_COMPILED=1", "-Werror=all-warnings", "-diag-suppress=186,128", "-cuda", every, "-o", os.devnull])
    print(f"{len(headers)} headers pass nvcc")
    run(common + ["-x", "cu", "-O1", "-Xcompiler=-fopenmp", program, "-o", binary])
    print(run([binary]), end="")
