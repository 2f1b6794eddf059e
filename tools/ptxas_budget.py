#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds every CUDA kernel to its budget of registers, spills, stack and static shared memory, on every architecture.

  ptxas_budget.py compile LOG NVCC [arguments...]   runs nvcc with -Xptxas -v and keeps in LOG what ptxas says
  ptxas_budget.py check BUDGET.json LOG...          fails if a kernel is over its budget; a new one has the default's
  ptxas_budget.py update BUDGET.json LOG...         writes what was measured instead, registers rounded up to a multiple of 8

BUDGET.json: {"default": [168, 0, 0, 0], "sm_80": {"conv_mma_kernel<...>": [registers, bytes spilled, bytes of stack, bytes of static shared memory]}}.
Dynamic shared memory is known only when a kernel is launched: tests/emulation/shared_budget.hpp has its limits."""
import json
import os
import re
import subprocess
import sys

COLUMNS = ("registers", "spilled", "stack", "shared")


def compile_with_log(log, command):
    done = subprocess.run(command[:1] + ["-Xptxas", "-v"] + command[1:], capture_output=True, text=True)
    text = done.stdout + done.stderr
    rest = [line for line in text.splitlines() if not line.startswith("ptxas info") and "bytes stack frame" not in line and line.strip()]
    if rest:
        print("\n".join(rest), file=sys.stderr)
    if done.returncode == 0:
        with open(log, "w") as out:
            out.write(text)
    return done.returncode


def report(log):
    """{(architecture, mangled name): [registers, spilled, stack, shared]}"""
    kernels, current = {}, None
    for line in open(log):
        if "serialized" in line:  # ptxas could not keep wgmma instructions in flight
            sys.exit(line)
        if found := re.search(r"Compiling entry function '(\S+)' for '(\S+)'", line):
            current = kernels.setdefault((found[2], found[1]), [0, 0, 0, 0])
        elif current is not None and (found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)):
            current[1:3] = int(found[2]) + int(found[3]), int(found[1])
        elif current is not None and (found := re.search(r"Used (\d+) registers", line)):
            current[0] = int(found[1])
            static = re.search(r"(\d+) bytes smem", line)
            current[3] = int(static[1]) if static else 0
    return kernels


def short_names(mangled):
    """Readable names: without namespaces, result type and parameters."""
    filters = ["/usr/local/cuda/bin/cu++filt", "cu++filt", "c++filt"]
    for program in filters:
        try:
            plain = subprocess.run([program], input="\n".join(mangled), capture_output=True, text=True).stdout.splitlines()
            break
        except FileNotFoundError:
            continue
    names = {}
    for raw, text in zip(mangled, plain):
        text = re.sub(r"rsseg::|cuda::|device::|\(anonymous namespace\)::|<unnamed>::", "", text)
        text = re.sub(r"^(static )?void ", "", text)
        depth, end = 0, len(text)
        for i, c in enumerate(text):  # the parameter list begins at the first parenthesis outside of angle brackets
            depth += (c == "<") - (c == ">")
            if c == "(" and depth == 0:
                end = i
                break
        names[raw] = text[:end]
    return names


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in ("compile", "check", "update"):
        sys.exit(__doc__)
    what, first, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
    if what == "compile":
        sys.exit(compile_with_log(first, rest))
    budgets = json.load(open(first)) if os.path.exists(first) else {"default": [168, 0, 0, 0]}
    kernels = {}
    for log in rest:
        kernels.update(report(log))
    names = short_names(sorted({raw for _, raw in kernels}))
    failed = 0
    for (arch, raw), used in sorted(kernels.items(), key=lambda item: (item[0][0], names[item[0][1]])):
        budget, name = budgets.setdefault(arch, {}), names[raw]
        if what == "update":
            budget[name] = [(used[0] + 7) // 8 * 8] + used[1:]
        allowed = budget.get(name)
        own = "" if allowed else " of kernels without one of their own: look at it, then tools/ptxas_budget.py update"
        allowed = allowed or budgets["default"]
        if over := {c: f"{u} of {a}" for c, u, a in zip(COLUMNS, used, allowed) if u > a}:
            print(f"{arch} {name}: over the budget{own}: {over}")
        else:
            continue
        failed += 1
    if what == "update":
        with open(first, "w") as out:
            parts = [f'"default": {json.dumps(budgets["default"])}']
            parts += ["%s: {\n%s\n}" % (json.dumps(a), ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(b.items())))
                      for a, b in sorted(budgets.items()) if a != "default"]
            out.write("{\n" + ",\n".join(parts) + "\n}\n")
    archs = sorted({arch for arch, _ in kernels})
    spilling = sum(1 for u in kernels.values() if u[1] > 0)
    most = max((u[0] for u in kernels.values()), default=0)
    print(f"{len(kernels) - failed} kernels within budget, {failed} not ({', '.join(archs)}; at most {most} registers; {spilling} spill)")
    sys.exit(1 if failed or not kernels else 0)


if __name__ == "__main__":
    main()
