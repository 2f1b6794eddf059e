#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds every CUDA kernel to its budget of registers, spills, stack and static shared memory.

ptxas_budget.py [--update] NVCC ARCH BUDGET.json FILE.cu [nvcc options...]

Compiles FILE.cu for sm_ARCH to a cubin with -Xptxas -v and compares what ptxas reports with BUDGET.json:
  {"sm_80": {"conv_mma_kernel<...>": {"registers": 128, "spill": 0, "stack": 0}}}
A kernel over its budget, or one that has none, fails. --update writes the measured numbers (registers rounded up to
a multiple of 8) instead. Exit 77 (skipped) if nvcc does not know the architecture."""
import json
import os
import re
import subprocess
import sys
import tempfile


def compile_report(nvcc, arch, source, options):
    """What ptxas says of each kernel: {mangled name: {registers, spill, stack}}."""
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-std=c++20", "-O3", "-cubin", f"-gencode=arch=compute_{arch},code=sm_{arch}", "-Xptxas", "-v",
                   source, "-o", os.path.join(folder, "kernel.cubin")] + options
        done = subprocess.run(command, capture_output=True, text=True)
    log = done.stdout + done.stderr
    if done.returncode != 0:
        if "Unsupported gpu architecture" in log:
            print(f"skipped: {nvcc} does not know sm_{arch}")
            sys.exit(77)
        sys.exit(log)
    kernels, current = {}, None
    for line in log.splitlines():
        if "serialized" in line:  # ptxas could not keep wgmma instructions in flight
            sys.exit(line)
    for line in log.splitlines():
        if found := re.search(r"Compiling entry function '(\S+)'", line):
            current = kernels.setdefault(found[1], {})
        elif current is not None and (found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)):
            current.update(stack=int(found[1]), spill=int(found[2]) + int(found[3]))
        elif current is not None and (found := re.search(r"Used (\d+) registers", line)):
            current["registers"] = int(found[1])
    return kernels


def short_names(nvcc, mangled):
    """Readable names: without namespaces, result type and parameters."""
    filt = os.path.join(os.path.dirname(nvcc), "cu++filt")
    plain = subprocess.run([filt if os.path.exists(filt) else "c++filt"], input="\n".join(mangled), capture_output=True, text=True).stdout.splitlines()
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
    arguments = sys.argv[1:]
    update = "--update" in arguments
    arguments = [a for a in arguments if a != "--update"]
    nvcc, arch, budget_file, source = arguments[:4]
    budgets = json.load(open(budget_file)) if os.path.exists(budget_file) else {}
    budget = budgets.setdefault(f"sm_{arch}", {})
    report = compile_report(nvcc, arch, source, arguments[4:])
    names = short_names(nvcc, list(report))
    failed = 0
    for raw, used in sorted(report.items(), key=lambda item: names[item[0]]):
        name = names[raw]
        if update:
            budget[name] = {"registers": (used["registers"] + 7) // 8 * 8, "spill": used["spill"], "stack": used["stack"]}
        allowed = budget.get(name)
        over = allowed is None or any(used[k] > allowed[k] for k in ("registers", "spill", "stack"))
        failed += over
        note = "  NO BUDGET: run with --update and look at the numbers" if allowed is None else f"  OVER BUDGET {allowed}" if over else ""
        print(f'{used["registers"]:4d} registers {used["spill"]:5d} spilled {used["stack"]:5d} stack  {name}{note}')
    if update:
        with open(budget_file, "w") as out:
            json.dump(budgets, out, indent=1, sort_keys=True)
            out.write("\n")
    print(f"sm_{arch}: {len(report) - failed} kernels within budget, {failed} not")
    sys.exit(1 if failed or not report else 0)


if __name__ == "__main__":
    main()
