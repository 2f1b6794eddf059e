# SPDX-License-Identifier: MIT
"""Code that must not compile, and what the compiler must say:  compile_fail.py COMPILER INCLUDE_DIR [CASE.cpp...]

Every file of tests/compile_fail/ is compiled with -fsyntax-only. It has to fail, and the first lines of the message (as many as fit on a
screen) must hold the texts that its head asks for:  `// all: TEXT`, and `// g++: TEXT`, `// clang++: TEXT`, `// nvcc: TEXT` for one compiler."""
import concurrent.futures, os, pathlib, re, subprocess, sys

compiler, include = sys.argv[1], sys.argv[2]
folder = pathlib.Path(__file__).parent / "compile_fail"
cases = [pathlib.Path(c) for c in sys.argv[3:]] or sorted(folder.glob("*.cpp"))
first_lines = 40
base = os.path.basename(compiler)
if base.startswith("nvcc"):
    kind, flags = "nvcc", ["-std=c++20", "-x", "cu", "--expt-relaxed-constexpr", "-cuda", "-o", os.devnull]
else:
    kind, flags = ("clang++" if "clang" in base else "g++"), ["-std=c++20", "-fsyntax-only", "-fdiagnostics-color=never"]


def plain(text):
    return text.replace("\u2018", "'").replace("\u2019", "'")


def check(case):
    wanted = [w for who, w in re.findall(r"^// (all|g\+\+|clang\+\+|nvcc): (.*)$", case.read_text(), re.M) if who in ("all", kind)]
    if kind == "nvcc":  # its messages hold the line and the fault, not always the numbers
        wanted = re.findall(r"^// nvcc: (.*)$", case.read_text(), re.M)
    run = subprocess.run([compiler] + flags + ["-DRSSEG_COMPILED=1", f"-I{include}", str(case)], capture_output=True, text=True,
                         env=dict(os.environ, LC_ALL="C.UTF-8"))
    if run.returncode == 0:
        return f"{case.name}: compiles, and must not"
    message = plain(run.stderr + run.stdout)
    head = "\n".join(message.splitlines()[:first_lines])
    missing = [w for w in wanted if plain(w) not in head]
    if not wanted and kind != "nvcc":
        return f"{case.name}: says nothing of what the message must hold"
    if "error" not in head:
        return f"{case.name}: fails without an error:\n{head}"
    return f"{case.name}: not in the first {first_lines} lines: {missing}\n{head}" if missing else None


with concurrent.futures.ThreadPoolExecutor(2) as pool:
    faults = [f for f in pool.map(check, cases) if f]
for f in faults:
    print(f)
print(f"{kind}: {len(cases) - len(faults)} of {len(cases)} wrong programs are refused as they should be")
sys.exit(1 if faults or not cases else 0)
