// SPDX-License-Identifier: MIT
// rsseg bench: time and memory of a network on this machine.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "commands.hpp"
#include "rsseg/core/parallel.hpp"
#include "rsseg/core/random.hpp"
#include "rsseg/graph/draw.hpp"
#include "rsseg/graph/op_names.hpp"
#include "rsseg/model/cuda_model.hpp"
#include "rsseg/train/optimizer.hpp"

namespace rsseg::program {

namespace {
/// With one thread the process's CPU time, which other work on the machine disturbs less; else wall time.
double now(bool wall = false) {
  timespec t;
  clock_gettime(threads() == 1 && !wall ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

/// Peak of resident memory in bytes. Linux: of this program alone; getrusage would also tell what its parent held.
std::size_t resident_peak() {
  if (std::FILE* f = std::fopen("/proc/self/status", "r")) {
    char line[256];
    unsigned long kib = 0;
    while (std::fgets(line, sizeof line, f) && std::sscanf(line, "VmHWM: %lu", &kib) != 1) {
    }
    std::fclose(f);
    if (kib > 0) return std::size_t(kib) * 1024;
  }
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::size_t(usage.ru_maxrss) * 1024;
}

/// Seconds of every node, added up over the runs.
struct node_times {
  std::vector<double> seconds;
  double last = 0;
  void start(int nodes) { seconds.resize(std::size_t(nodes)), last = now(); }
  static void seen(void* self, int node) {
    auto* t = static_cast<node_times*>(self);
    const double at = now();
    t->seconds[std::size_t(node)] += at - t->last;
    t->last = at;
  }
};

struct node_cost {
  double seconds = 0, flops = 0, bytes = 0;
  int count = 0;
  double gflops() const { return seconds > 0 ? flops / seconds * 1e-9 : 0; }
  double gbytes() const { return seconds > 0 ? bytes / seconds * 1e-9 : 0; }
};

/// The direct sum's products, and every operand once: what a node cannot do without.
node_cost cost_of(const graph::graph& g, int id, const shape* s, double seconds) {
  node_cost c{seconds, 2.0 * double(graph::macs_of(g, id, s)), 4.0 * double(s[id].size()), 1};
  for (int k = 0; k < g.nodes[id].input_count; ++k) c.bytes += 4.0 * double(s[g.input_of(id, k)].size());
  return c;
}

/// Its own name, or that of its weights, or of what feeds it.
std::string node_name(const graph::graph& g, int id) {
  for (int at = id, steps = 0; steps < 8 && at >= 0; ++steps) {
    if (g.nodes[at].name_length > 0) return std::string(g.name_of(at));
    if (g.nodes[at].input_count > 1 && g.nodes[g.input_of(at, 1)].kind == graph::op::parameter) return std::string(g.name_of(g.input_of(at, 1)));
    at = g.nodes[at].input_count > 0 ? g.input_of(at, 0) : -1;
  }
  return "";
}

std::string node_text(const graph::graph& g, int id, const shape* s) {
  const graph::attributes& a = g.nodes[id].at;
  std::string t = graph::operator_name(g.nodes[id].kind);
  const shape x = g.nodes[id].input_count > 0 ? s[g.input_of(id, 0)] : s[id];
  if (graph::macs_of(g, id, s) > 0 && g.nodes[id].kind != graph::op::matmul && g.nodes[id].kind != graph::op::custom) {
    t += " " + std::to_string(a.kernel_h) + "x" + std::to_string(a.kernel_w);
    if (a.stride_h > 1) t += " /" + std::to_string(a.stride_h);
    if (a.dilation_h > 1) t += " rate " + std::to_string(a.dilation_h);
    if (a.groups > 1) t += " groups " + std::to_string(a.groups);
  }
  return t + " " + graph::extent_text(x) + " -> " + graph::extent_text(s[id]);
}

/// Time per kind of operator and of the longest nodes: a table, or an array of objects.
nlohmann::json profile(const cpu::engine<float>& e, const node_times& t, int runs, int most, bool json) {
  const graph::graph& g = e.graph();
  const shape* s = e.plan().extents.data();
  std::vector<node_cost> kinds(std::size_t(graph::op::custom) + 1);
  std::vector<int> order;
  double total = 0;
  for (int i = 0; i < g.nodes.size(); ++i) {
    if (t.seconds[std::size_t(i)] <= 0) continue;
    const node_cost c = cost_of(g, i, s, t.seconds[std::size_t(i)] / runs);
    node_cost& k = kinds[std::size_t(g.nodes[i].kind)];
    k.seconds += c.seconds, k.flops += c.flops, k.bytes += c.bytes, ++k.count, total += c.seconds;
    order.push_back(i);
  }
  std::vector<int> by_time;
  for (int k = 0; k < int(kinds.size()); ++k)
    if (kinds[std::size_t(k)].count > 0) by_time.push_back(k);
  std::sort(by_time.begin(), by_time.end(), [&](int a, int b) { return kinds[std::size_t(a)].seconds > kinds[std::size_t(b)].seconds; });
  std::sort(order.begin(), order.end(), [&](int a, int b) { return t.seconds[std::size_t(a)] > t.seconds[std::size_t(b)]; });
  nlohmann::json j = nlohmann::json::array();
  if (!json) std::printf("%-24s %6s %10s %7s %9s %8s\n", "operator", "nodes", "ms", "share", "GFLOP/s", "GB/s");
  for (int k : by_time) {
    const node_cost& c = kinds[std::size_t(k)];
    if (!json)
      std::printf("%-24s %6d %10.3f %6.1f%% %9.1f %8.1f\n", graph::operator_name(graph::op(k)), c.count, c.seconds * 1e3, 100 * c.seconds / total,
                  c.gflops(), c.gbytes());
  }
  if (!json) std::printf("%-10s %7s %9s %8s  node\n", "ms", "share", "GFLOP/s", "GB/s");
  for (std::size_t i = 0; i < order.size() && (json || int(i) < most); ++i) {
    const node_cost c = cost_of(g, order[i], s, t.seconds[std::size_t(order[i])] / runs);
    if (json)
      j.push_back({{"operator", graph::operator_name(g.nodes[order[i]].kind)},
                   {"node", node_text(g, order[i], s)},
                   {"name", node_name(g, order[i])},
                   {"s", c.seconds},
                   {"flops", c.flops},
                   {"bytes", c.bytes}});
    else
      std::printf("%10.3f %6.1f%% %9.1f %8.1f  %s  %s\n", c.seconds * 1e3, 100 * c.seconds / total, c.gflops(), c.gbytes(),
                  node_text(g, order[i], s).c_str(), node_name(g, order[i]).c_str());
  }
  return j;
}
}  // namespace

void add_bench(CLI::App& app, common_options& common) {
  struct options {
    std::string net, input = "1,3,512,512";
    int classes = 6, runs = 5, profile = 0;
    bool train = false, update = false;
    int recompute = 0;  // as in train_request
    device_request where;
  };
  auto o = std::make_shared<options>();
  auto* c = app.add_subcommand("bench", "time and memory of inference or of a training step");
  c->add_option("net", o->net, "network, see rsseg list")->required();
  c->add_option("--input", o->input, "N,C,H,W")->capture_default_str();
  c->add_option("--classes", o->classes, "number of classes")->capture_default_str()->check(CLI::Range(1, 255));
  c->add_option("--runs", o->runs, "timed runs, after one that is not (three on a CUDA device)")->capture_default_str()->check(CLI::Range(1, 10000));
  auto* train = c->add_flag("--train", o->train, "a training step: forward and backward");
  c->add_flag("--recompute,!--no-recompute", o->recompute, "with --train: with recomputation (default: on the CPU)")->needs(train);
  c->add_flag("--update", o->update, "with --train: and an update of the weights by SGD with momentum (a CUDA device always updates)")->needs(train);
  c->add_option("--profile", o->profile, "time per kind of operator, and of this many of the longest nodes; not on a CUDA device")
      ->check(CLI::Range(1, 100000));
  add_device_options(c, o->where);
  c->callback([o, &common] {
    const network_entry& e = network_named(o->net);
    const shape in = parse_shape(o->input);
    build_options b;
    b.classes = o->classes, b.bands = in.c;
    const auto where = device_options(o->where, !o->train);
    std::unique_ptr<cuda::basic_model> device;
    if (where) {
      device = std::make_unique<cuda::basic_model>(e.build, b, *where);
      device->weights().initialise(1);
    }
    basic_model<float> model(e.build, b);
    if (!device) model.weights().initialise(1);
    if (o->train && device)
      device->prepare_training(graph::loss_options{}, o->recompute > 0), device->set_update({});
    else if (o->train)
      model.prepare_training(graph::loss_options{}, o->recompute >= 0);
    if (device && o->profile) throw usage_error("--profile measures the CPU's operators; leave out the device");
    if (!where) model.set_bfloat16(o->where.precision == "bf16");
    cpu::engine<float>* const engine = device ? nullptr : o->train ? &model.training() : &model.inference();
    std::vector<shape> extents;
    const graph::graph g = lower_network(e.build, b);
    for (int i = 0; i < g.nodes.size(); ++i)
      if (g.nodes[i].kind == graph::op::input) extents.push_back(shape{in.n, g.nodes[i].channels, in.h, in.w});
    if (engine) engine->plan_only(extents, memory_for({}));  // too large is known before anything is filled
    std::vector<tensor<float>> inputs(extents.begin(), extents.end());
    std::vector<const tensor<float>*> pointers;
    random_stream r(1, 2);
    for (auto& x : inputs) {
      for (float& v : x) v = float(r.uniform(-1, 1));
      pointers.push_back(&x);
    }
    tensor<std::int32_t> labels(shape{in.n, 1, in.h, in.w});
    for (auto& v : labels) v = std::int32_t(r.below(std::uint32_t(o->classes)));
    std::unique_ptr<train::optimizer<float>> sgd;
    if (!device && o->train && o->update)
      sgd = std::make_unique<train::optimizer<float>>(model.weights(), train::optimizer_options{.weight_decay = 1e-4});
    node_times times;
    const auto clock = [&device] { return now(device != nullptr); };
    std::vector<double> seconds;
    const int warm = device ? 3 : 1;  // on a device the second run is captured
    for (int i = 0; i < o->runs + warm && !interrupted(); ++i) {
      if (o->profile && i >= warm) {
        times.start(engine->graph().nodes.size());
        engine->set_observer(&node_times::seen, &times);
      }
      const double start = clock();
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
      if (sgd) sgd->step(engine->gradients(), 1e-3);
      if (i >= warm) seconds.push_back(clock() - start);
    }
    if (seconds.empty()) throw CLI::RuntimeError(130);
    std::sort(seconds.begin(), seconds.end());
    graph::graph ig = g;
    graph::prune(ig, false);
    const double flops = 2.0 * double(graph::total_macs(ig, extents.data(), int(extents.size()))) * (o->train ? 3 : 1);
    const std::size_t peak = resident_peak(), arena = device ? (o->train ? device->training() : device->inference()).bytes() : engine->bytes();
    const double median = seconds[seconds.size() / 2];
    const char* const clock_name = threads() == 1 && !device ? "cpu" : "wall";
    nlohmann::json nodes;
    if (o->profile) nodes = profile(*engine, times, int(seconds.size()), o->profile, common.json);
    if (common.json) {
      nlohmann::json j = {{"net", e.name},
                          {"input", {in.n, in.c, in.h, in.w}},
                          {"train", o->train},
                          {"threads", threads()},
                          {"clock", clock_name},
                          {"median_s", median},
                          {"min_s", seconds.front()},
                          {"max_s", seconds.back()},
                          {"peak_bytes", peak},
                          {"arena_bytes", arena},
                          {"flops", flops},
                          {"runs", seconds.size()}};
      if (o->profile) j["nodes"] = nodes;
      std::printf("%s\n", j.dump().c_str());
    } else {
      std::printf("%s, %s at %s, %d threads, %s time: median %.4f s (%.4f to %.4f), %.1f GFLOP/s, arena %.1f MiB, resident peak %.1f MiB\n", e.name,
                  o->train ? "training step" : "inference", o->input.c_str(), threads(), clock_name, median, seconds.front(), seconds.back(),
                  flops / median / 1e9, double(arena) / 1048576, double(peak) / 1048576);
    }
  });
}

}  // namespace rsseg::program
