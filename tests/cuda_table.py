# SPDX-License-Identifier: MIT
"""Lists the operators of graph/node.hpp that the CUDA executor has no row for:  cuda_table.py SOURCE_ROOT

Exits with 1 if there are any, or if a row's name list has another length."""
import pathlib, re, sys

root = pathlib.Path(sys.argv[1])
text = re.sub(r"//.*", "", (root / "include/rsseg/graph/node.hpp").read_text())
kinds = re.findall(r"\w+", re.search(r"enum class op : std::uint8_t \{(.*?)\};", text, re.S)[1])
table = (root / "kernels/executor/table.cuh").read_text()
rows = set(re.findall(r"case op::(\w+):", table))
# The executor writes them with underscores (names.cuh).
names = re.findall(r'"([^"]+)"', re.search(r"op_names\[\] = \{(.*?)\};", (root / "include/rsseg/graph/op_names.hpp").read_text(), re.S)[1])
names = [n.replace(" ", "_").replace("/", "_") for n in names]
missing = [k for k in kinds if k not in rows]
misnamed = [(k, n) for k, n in zip(kinds, names) if k != n]
for k in missing:
    print(f"no CUDA entry: {k}")
for k, n in misnamed:
    print(f"operator {k} is called {n} in messages")
print(f"{len(kinds)} operators, {len(missing)} without a CUDA entry")
sys.exit(1 if missing or misnamed or len(names) != len(kinds) or not kinds else 0)
