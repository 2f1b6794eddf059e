#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What rsseg costs to compile, against budgets:  bench/compile_time.py [COMPILER] [--repeat N] [--slack F]

User seconds of the compiler (its best of N runs) and the most memory that it had resident, of
 - a translation unit that only includes rsseg/rsseg.hpp, -O0, compiled mode
 - one that trains DeepLabv3+ with a ResNet-101, -O2, with librsseg (-DRSSEG_COMPILED)
 - the same, header-only: all kernels are compiled, too
 - one more network, the largest: what lowering HRNetV2-W48 in the compiler adds to the first
User time leaves out waiting for the disk and for other programs, but a machine busy with others still makes it larger.
Exits with 1 if a budget, times the slack, is exceeded."""
import argparse, os, pathlib, subprocess, sys, tempfile

parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parse.add_argument("compiler", nargs="?", default="g++")
parse.add_argument("--repeat", type=int, default=1, metavar="N")
parse.add_argument("--slack", type=float, default=1, metavar="F", help="budgets are multiplied by this before they count as exceeded")
options = parse.parse_args()
include = pathlib.Path(__file__).resolve().parent.parent / "include"

INCLUDE_ONLY = '#include "rsseg/rsseg.hpp"\n'
TRAINS = """#include "rsseg/nets/deeplab_v3plus.hpp"
#include "rsseg/rsseg.hpp"
using namespace rsseg;
using Net = DeepLabV3Plus<6, deeplab_backbone::resnet101>;
static_assert(parameter_count<Net> > 0);
int main() {
  Model<Net> net;
  net.weights().initialise(1);
  net.prepare_training(graph::loss_options{});
  train::optimizer<float> sgd(net.weights(), {.momentum = 0.9});
  const tensor<float> image({2, 3, 64, 64});
  const tensor<std::int32_t> labels({2, 1, 64, 64});
  const double loss = net.train_step(image, labels, cpu::run_state{1, 0});
  sgd.step(net.training().gradients(), 0.01);
  return loss > 0 ? 0 : 1;
}
"""
ONE_MORE = """#include "rsseg/rsseg.hpp"
#include "rsseg/nets/hrnet.hpp"
static_assert(rsseg::parameter_count<rsseg::HRNetV2<19, 48>> > 0);
"""
# what, source, flags, budget in seconds, budget in MB (None: no budget of its own)
CASES = [
    ("rsseg.hpp alone, -O0", INCLUDE_ONLY, ["-O0", "-DRSSEG_COMPILED=1"], 1.5, None),
    ("trains DeepLabv3+ ResNet-101, -O2, compiled", TRAINS, ["-O2", "-DRSSEG_COMPILED=1"], 6, 600),
    ("trains DeepLabv3+ ResNet-101, -O2, header-only", TRAINS, ["-O2"], 25, 1200),
    ("one more network: HRNetV2-W48, -O0", ONE_MORE, ["-O0", "-DRSSEG_COMPILED=1"], 1.5, None),
]


def measure(command):
    """User seconds and peak MB of a command with its children. A process of its own, as ru_maxrss is the largest of all children."""
    code = ("import resource, subprocess, sys\n"
            "done = subprocess.run(sys.argv[1:])\n"
            "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
            "print(used.ru_utime, used.ru_maxrss * 1024 / 1e6)\n"
            "sys.exit(done.returncode)")
    done = subprocess.run([sys.executable, "-c", code] + command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"compile_time: {' '.join(command)} failed; see above")
    seconds, megabytes = done.stdout.split()[-2:]
    return float(seconds), float(megabytes)


version = subprocess.run([options.compiler, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[0]
print(f"{version}; best of {options.repeat}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
print(f"{'':48s} {'user s':>8s} {'budget':>8s} {'peak MB':>8s} {'budget':>8s}")
exceeded, first = False, 0.0
with tempfile.TemporaryDirectory() as directory:
    for what, source, flags, seconds_budget, memory_budget in CASES:
        path = pathlib.Path(directory) / "unit.cpp"
        path.write_text(source)
        command = [options.compiler, "-std=c++20", "-fopenmp", "-DNDEBUG", f"-I{include}", *flags, "-c", str(path), "-o", str(path) + ".o"]
        runs = [measure(command) for _ in range(max(1, options.repeat))]
        seconds, megabytes = min(r[0] for r in runs), max(r[1] for r in runs)
        first = seconds if source is INCLUDE_ONLY else first
        if source is ONE_MORE:
            seconds -= first
        over = seconds > options.slack * seconds_budget or (memory_budget is not None and megabytes > options.slack * memory_budget)
        exceeded |= over
        print(f"{what:48s} {seconds:8.2f} {seconds_budget:8.1f} {megabytes:8.0f} {memory_budget or '-':>8} {'exceeded' if over else ''}".rstrip(), flush=True)
sys.exit(1 if exceeded else 0)
