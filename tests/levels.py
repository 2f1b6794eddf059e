# SPDX-License-Identifier: MIT
"""Operators, and networks where a program is given, with one instruction set forced or without Winograd's algorithm: the same tests, the same tolerances.
usage: levels.py NAME=VALUE TEST_OPS [RSSEG_PROGRAM MANIFEST...]     exit 77 (skipped): this CPU lacks it"""
import os
import subprocess
import sys

setting, ops, program, manifests = sys.argv[1], sys.argv[2], sys.argv[3:4], sys.argv[4:]
name, value = setting.split('=')
env = dict(os.environ, **{name: value})

for command in [[ops]] + [program + ['--threads', '1', 'parity', manifest] for manifest in manifests]:
    r = subprocess.run(command, env=env, capture_output=True, text=True)
    if r.returncode != 0:
        if 'is not available on this CPU' in r.stdout + r.stderr:
            print(f'{setting} is not available on this CPU')
            sys.exit(77)
        sys.exit(f'{setting} {" ".join(command)}: exit {r.returncode}\n{r.stdout[-3000:]}{r.stderr[-1000:]}')
print(f'{setting}: {os.path.basename(ops)} and {len(manifests)} manifests')
