// SPDX-License-Identifier: MIT
// rsseg bench: time and memory of a network on this machine.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "commands.hpp"
#include "rsseg/core/parallel.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/model/cuda_model.hpp"

namespace rsseg::program {

void add_bench(CLI::App& app, common_options& common) {
  struct options {
    std::string net, input = "1,3,512,512";
    int classes = 6, runs = 5;
    bool train = false, recompute = false;
    device_request where;
  };
  auto o = std::make_shared<options>();
  auto* c = app.add_subcommand("bench", "time and memory of inference or of a training step");
  c->add_option("net", o->net, "network, see rsseg list")->required();
  c->add_option("--input", o->input, "N,C,H,W")->capture_default_str();
  c->add_option("--classes", o->classes, "number of classes")->capture_default_str()->check(CLI::Range(1, 255));
  c->add_option("--runs", o->runs, "timed runs, after one that is not (three on a CUDA device)")->capture_default_str()->check(CLI::Range(1, 10000));
  c->add_flag("--train", o->train, "a training step: forward, backward, no optimiser");
  c->add_flag("--recompute", o->recompute, "with recomputation");
  add_device_options(c, o->where);
  c->callback([o, &common] {
    const network_entry& e = network_named(o->net);
    const shape in = parse_shape(o->input);
    build_options b;
    b.classes = o->classes, b.bands = in.c;
    const auto where = device_options(o->where);
    std::unique_ptr<cuda::basic_model> device;
    if (where) {
      device = std::make_unique<cuda::basic_model>(e.build, b, *where);
      device->weights().initialise(1);
    }
    basic_model<float> model(e.build, b);
    if (!device) model.weights().initialise(1);
    std::vector<tensor<float>> inputs;
    std::vector<const tensor<float>*> pointers;
    const graph::graph g = lower_network(e.build, b);
    for (int i = 0; i < g.nodes.size(); ++i)
      if (g.nodes[i].kind == graph::op::input) inputs.emplace_back(shape{in.n, g.nodes[i].channels, in.h, in.w});
    random_stream r(1, 2);
    for (auto& x : inputs) {
      for (float& v : x) v = float(r.uniform(-1, 1));
      pointers.push_back(&x);
    }
    tensor<std::int32_t> labels(shape{in.n, 1, in.h, in.w});
    for (auto& v : labels) v = std::int32_t(r.below(std::uint32_t(o->classes)));
    if (o->train && device)
      device->prepare_training(graph::loss_options{}, o->recompute), device->set_update({});
    else if (o->train)
      model.prepare_training(graph::loss_options{}, o->recompute);
    std::vector<double> seconds;
    const int warm = device ? 3 : 1;  // on a device the second run is captured
    for (int i = 0; i < o->runs + warm && !interrupted(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      if (device) {
        if (o->train)
          device->step(pointers, labels, cpu::run_state{1, std::uint64_t(i)}, 1e-4);
        else
          device->run(pointers);
        device->device().synchronise();
      } else if (o->train)
        model.train_step(pointers, labels, cpu::run_state{1, std::uint64_t(i)});
      else
        model.run(pointers);
      if (i >= warm) seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    if (seconds.empty()) throw CLI::RuntimeError(130);
    std::sort(seconds.begin(), seconds.end());
    graph::graph ig = g;
    graph::prune(ig, false);
    std::vector<shape> extents;
    for (const auto& x : inputs) extents.push_back(x.extent());
    const double flops = 2.0 * double(graph::total_macs(ig, extents.data(), int(extents.size()))) * (o->train ? 3 : 1);
    struct rusage usage {};
    ::getrusage(RUSAGE_SELF, &usage);
    const std::size_t peak = std::size_t(usage.ru_maxrss) * 1024, arena = device     ? (o->train ? device->training() : device->inference()).bytes()
                                                                          : o->train ? model.training().bytes()
                                                                                     : model.inference().bytes();
    const double median = seconds[seconds.size() / 2];
    if (common.json) {
      const nlohmann::json j = {{"net", e.name},           {"input", {in.n, in.c, in.h, in.w}},
                                {"train", o->train},       {"threads", threads()},
                                {"median_s", median},      {"min_s", seconds.front()},
                                {"max_s", seconds.back()}, {"peak_bytes", peak},
                                {"arena_bytes", arena},    {"flops", flops},
                                {"runs", seconds.size()}};
      std::printf("%s\n", j.dump().c_str());
    } else {
      std::printf("%s, %s at %s, %d threads: median %.4f s (%.4f to %.4f), %.1f GFLOP/s, arena %.1f MiB, resident peak %.1f MiB\n", e.name,
                  o->train ? "training step" : "inference", o->input.c_str(), threads(), median, seconds.front(), seconds.back(),
                  flops / median / 1e9, double(arena) / 1048576, double(peak) / 1048576);
    }
  });
}

}  // namespace rsseg::program
