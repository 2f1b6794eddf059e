# SPDX-License-Identifier: MIT
"""Operators and networks with one instruction set forced, or without Winograd's algorithm: the same tests, the same tolerances.
usage: levels.py NAME=VALUE RSSEG_PROGRAM TEST_OPS MANIFEST...     exit 77 (skipped): this CPU lacks it"""
import os
import subprocess
import sys

setting, rsseg, ops, manifests = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
name, value = setting.split('=')
env = dict(os.environ, **{name: value})


def run(*args):
    return subprocess.run(args, env=env, capture_output=True, text=True)


def check(*args):
    r = run(*args)
    if r.returncode != 0:
        sys.exit(f'{setting} {" ".join(args)}: exit {r.returncode}\n{r.stdout[-3000:]}{r.stderr[-1000:]}')


first = run(rsseg, '--threads', '1', 'parity', manifests[0])
if first.returncode != 0 and 'is not available on this CPU' in first.stderr:
    print(first.stderr.strip())
    sys.exit(77)
for manifest in manifests:
    check(rsseg, '--threads', '1', 'parity', manifest)
check(ops)
print(f'{setting}: {len(manifests)} manifests and {os.path.basename(ops)}')
