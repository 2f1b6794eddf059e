// SPDX-License-Identifier: MIT
// Every row of the operator table on the CPU: precisions agree, gradients agree with finite differences, bits do not depend on the number
// of threads, instruction sets agree, kernels that may run in place do, and kernels that take columns of wider tensors give the same bits.
#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "op_cases_fill.hpp"
#include "rsseg/core/parallel.hpp"
#include "rsseg/cpu/inplace.hpp"
#include "rsseg/cpu/interpret.hpp"
#include "rsseg/cpu/isa.hpp"
#include "rsseg/cpu/pitched.hpp"

using namespace rsseg;
using namespace rsseg::test;
using cpu::interpreter;

namespace {

template <class T>
std::vector<T> values_of(interpreter<T>& run, int id) {
  return {run.data(id), run.data(id) + run.extent(id).size()};
}
double largest(const auto& v) {
  double m = 0;
  for (auto x : v) m = std::max(m, std::abs(double(x)));
  return m;
}
double difference(const auto& a, const auto& b) {
  double m = 0;
  for (std::size_t i = 0; i < a.size(); ++i) m = std::max(m, std::isnan(double(a[i])) ? 1e300 : std::abs(double(a[i]) - double(b[i])));
  return m;
}
/// Real-valued nodes worth comparing: results and gradients.
std::vector<int> compared(const case_graph& c) {
  std::vector<int> ids{c.result};
  for (int i = 0; i + 1 < c.g.gradients.size(); i += 2) ids.push_back(c.g.gradients[i + 1]);
  return ids;
}
struct restore_threads {
  ~restore_threads() { set_threads(0); }
};

}  // namespace

TEST_CASE("the operator table covers the operators") {
  std::set<int> seen;
  for (const op_case& c : op_cases()) {
    const case_graph g = make_case_graph(c, c.gradient);
    CAPTURE(c.name);
    CHECK(g.g.error.what == graph::fault::none);
    for (const graph::node& n : g.g.nodes) seen.insert(int(n.kind));
  }
  for (int k = 0; k < int(graph::op::custom); ++k) {
    CAPTURE(k);
    CHECK(seen.count(k) == 1);
    const graph::op kind = graph::op(k);
    if (kind != graph::op::input && kind != graph::op::parameter && kind != graph::op::buffer && kind != graph::op::target) {
      CHECK(bool(cpu::entry_of<float>(kind).run));
      CHECK(bool(cpu::entry_of<double>(kind).run));
    }
  }
  CHECK(op_cases().size() >= 80);
}

TEST_CASE("single precision agrees with double precision") {
  for (const op_case& c : op_cases()) {
    CAPTURE(c.name);
    const case_graph g = make_case_graph(c, c.gradient);
    interpreter<float> single(g.g, c.inputs);
    interpreter<double> twice(g.g, c.inputs);
    single.state.seed = twice.state.seed = 5;
    fill_sources(c, g.g, single);
    fill_sources(c, g.g, twice);
    single.run();
    twice.run();
    for (int id : compared(g)) {
      CAPTURE(id);
      const auto a = values_of(single, id);
      const auto b = values_of(twice, id);
      CHECK(difference(a, b) <= 4e-6 * largest(b) + 1e-30);
    }
    for (int id = 0; id < g.g.nodes.size(); ++id)  // running statistics
      if (g.g.nodes[id].kind == graph::op::buffer) CHECK(difference(values_of(single, id), values_of(twice, id)) < 1e-6);
  }
}

TEST_CASE("gradients agree with finite differences") {
  for (const op_case& c : op_cases()) {
    if (!c.gradient) continue;
    CAPTURE(c.name);
    const case_graph g = make_case_graph(c, true), forward = make_case_graph(c, false);
    interpreter<double> run(g.g, c.inputs), probe(forward.g, c.inputs);
    run.state.seed = probe.state.seed = 5;
    fill_sources(c, g.g, run);
    fill_sources(c, forward.g, probe);
    run.run();
    REQUIRE(g.g.gradients.size() > 0);
    int wanted = 0;
    for (int id = 0; id < forward.g.nodes.size(); ++id) {
      const graph::op kind = forward.g.nodes[id].kind;
      wanted += kind == graph::op::parameter || kind == graph::op::input;
    }
    // inputs that only lend their extent have none
    const std::string name = c.name;
    if (name.find("like") == std::string::npos && name.find("center") == std::string::npos && name.find("offset") == std::string::npos)
      CHECK(g.g.gradients.size() == 2 * wanted);
    for (int k = 0; k + 1 < g.g.gradients.size(); k += 2) {
      const int source = g.g.gradients[k];
      CAPTURE(source);
      REQUIRE(run.extent(source) == run.extent(g.g.gradients[k + 1]));
      const std::vector<double> gradient = values_of(run, g.g.gradients[k + 1]);
      const std::size_t n = gradient.size(), step = n <= 24 ? 1 : n / 24;
      const double scale = largest(gradient);
      double worst = 0;
      for (std::size_t i = 0; i < n; i += step) {
        double& x = probe.data(source)[i];
        const double before = x, h = 1e-4;
        double f[4];
        const double at[4] = {-2, -1, 1, 2};
        for (int j = 0; j < 4; ++j) {
          x = before + at[j] * h;
          probe.run();
          f[j] = probe.data(forward.total)[0];
        }
        x = before;
        const double numeric = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h);
        worst = std::max(worst, std::abs(numeric - gradient[i]));
      }
      CHECK(worst <= 1e-7 * std::max(scale, 1e-2));
    }
  }
}

TEST_CASE("bits do not depend on the number of threads") {
  const restore_threads guard;
  const auto check = [](auto zero) {
    using T = decltype(zero);
    for (const op_case& c : op_cases()) {
      CAPTURE(c.name);
      case_graph g = make_case_graph(c, c.gradient || std::string(c.name).find("large") == 0);
      std::vector<std::vector<T>> first;
      for (int threads : {1, 2, 3}) {
        set_threads(threads);
        interpreter<T> run(g.g, c.inputs);
        fill_sources(c, g.g, run);
        run.run();
        for (int id = 0; id < g.g.nodes.size(); ++id) {
          if (g.g.nodes[id].type == graph::data_type::index) continue;
          first.push_back(values_of(run, id));
        }
      }
      const std::size_t n = first.size() / 3;
      for (std::size_t k = 0; k < n; ++k) {
        CAPTURE(k);
        if (first[k].empty()) continue;  // nodes that run for their effect
        CHECK(std::memcmp(first[k].data(), first[n + k].data(), first[k].size() * sizeof(T)) == 0);
        CHECK(std::memcmp(first[k].data(), first[2 * n + k].data(), first[k].size() * sizeof(T)) == 0);
      }
    }
  };
  check(0.0f);
  check(0.0);
}

TEST_CASE("instruction sets agree") {
  const cpu::isa best = cpu::current_isa();
  for (const op_case& c : op_cases()) {
    CAPTURE(c.name);
    const case_graph g = make_case_graph(c, c.gradient || std::string(c.name).find("large") == 0);
    std::vector<std::vector<float>> results[2];
    for (int k = 0; k < 2; ++k) {
      cpu::set_isa(k ? best : cpu::isa::portable);
      interpreter<float> run(g.g, c.inputs);
      fill_sources(c, g.g, run);
      run.run();
      for (int id : compared(g)) results[k].push_back(values_of(run, id));
    }
    for (std::size_t k = 0; k < results[0].size(); ++k) {
      CAPTURE(k);
      CHECK(difference(results[0][k], results[1][k]) <= 4e-6 * largest(results[0][k]) + 1e-30);
    }
  }
  cpu::set_isa(best);
}

TEST_CASE("kernels that may run in place do") {
  int runs = 0;
  for (const op_case& c : op_cases()) {
    CAPTURE(c.name);
    const case_graph g = make_case_graph(c, c.gradient || std::string(c.name).find("large") == 0);
    interpreter<float> run(g.g, c.inputs);
    fill_sources(c, g.g, run);
    run.run();
    std::vector<shape> extents;
    std::vector<void*> pointers;
    for (int id = 0; id < g.g.nodes.size(); ++id) extents.push_back(run.extent(id)), pointers.push_back(run.data(id));
    for (int id = 0; id < g.g.nodes.size(); ++id) {
      const graph::node& n = g.g.nodes[id];
      for (int k = 0; k < n.input_count; ++k) {
        const int in = g.g.input_of(id, k);
        if (!cpu::may_run_in_place(n.kind, k) || g.g.nodes[in].type != n.type || extents[std::size_t(in)] != extents[std::size_t(id)]) continue;
        CAPTURE(id);
        CAPTURE(k);
        const std::vector<float> expected = values_of(run, id);
        std::vector<float> shared = values_of(run, in);
        std::vector<void*> p = pointers;
        p[std::size_t(id)] = p[std::size_t(in)] = shared.data();
        const auto& entry = cpu::entry_of<float>(n.kind);
        std::vector<double> workspace(entry.workspace_bytes ? entry.workspace_bytes(g.g, id, extents.data()) / sizeof(double) + 1 : 1);
        entry.run({&g.g, id, extents.data(), p.data(), workspace.data(), nullptr, &run.state});
        CHECK(std::memcmp(shared.data(), expected.data(), expected.size() * sizeof(float)) == 0);
        ++runs;
      }
    }
  }
  CHECK(runs > 150);
}

namespace {

/// A dense tensor of c channels as columns of a wider one with NaN between, up to the last pixel's last channel.
template <class T>
struct columns {
  std::size_t c, pitch, at;
  std::vector<T> data;
  columns(const std::vector<T>& dense, int channels, int id) : c(std::size_t(channels)), pitch(c + 1 + std::size_t(id) % 3 * c), at((pitch - c) / 2) {
    data.assign((dense.size() / c - 1) * pitch + at + c, std::numeric_limits<T>::quiet_NaN());
    for (std::size_t i = 0; i < dense.size(); ++i) data[i / c * pitch + at + i % c] = dense[i];
  }
  /// Whether the columns have these bits, and NaN stands between them still.
  bool holds(const std::vector<T>& dense) const {
    std::size_t next = 0;
    for (std::size_t i = 0; i < data.size(); ++i) {
      const std::size_t column = i % pitch;
      if (column >= at && column < at + c ? std::memcmp(&data[i], &dense[next++], sizeof(T)) != 0 : !std::isnan(data[i])) return false;
    }
    return next == dense.size();
  }
};

/// Runs node `id` with the nodes marked in `wide` as columns of wider tensors; `over`: the result takes the memory of this input, or -1.
template <class T>
bool runs_on_columns(const graph::graph& g, interpreter<T>& dense, int id, const std::vector<bool>& wide, int over = -1) {
  const int n = g.nodes.size();
  std::vector<shape> extents;
  std::vector<void*> pointers;
  std::vector<int> pitches(std::size_t(n), 0);
  for (int i = 0; i < n; ++i) extents.push_back(dense.extent(i)), pointers.push_back(dense.data(i));
  const std::vector<T> expected = values_of(dense, id);
  std::map<int, columns<T>> spread;
  std::vector<T> result(expected.size() + 1, T(7));
  pointers[std::size_t(id)] = result.data();
  for (int i = 0; i < n; ++i) {
    if (!wide[std::size_t(i)]) continue;
    const std::vector<T> v = i == id ? std::vector<T>(expected.size(), std::numeric_limits<T>::quiet_NaN()) : values_of(dense, i);
    const columns<T>& to = spread.emplace(i, columns<T>(v, extents[std::size_t(i)].c, i)).first->second;
    pointers[std::size_t(i)] = const_cast<T*>(to.data.data()) + to.at;
    pitches[std::size_t(i)] = int(to.pitch);
  }
  if (over >= 0) pointers[std::size_t(id)] = pointers[std::size_t(over)], pitches[std::size_t(id)] = pitches[std::size_t(over)];
  const auto& entry = cpu::entry_of<T>(g.nodes[id].kind);
  std::vector<double> workspace(entry.workspace_bytes ? entry.workspace_bytes(g, id, extents.data()) / sizeof(double) + 1 : 1);
  std::vector<double> prepared(entry.prepared_bytes ? entry.prepared_bytes(g, id, extents.data()) / sizeof(double) + 1 : 1);
  const cpu::call<T> call{&g, id, extents.data(), pointers.data(), workspace.data(), prepared.data(), &dense.state, pitches.data()};
  if (entry.prepare) entry.prepare(call, prepared.data());
  entry.run(call);
  for (const auto& [i, to] : spread)
    if (!to.holds(i == id || i == over ? expected : values_of(dense, i))) return false;
  return over >= 0 || wide[std::size_t(id)] ||
         (g.nodes[id].type == graph::data_type::index ? std::memcmp(result.data(), dense.index_data(id), expected.size() * 4) == 0
                                                      : std::memcmp(result.data(), expected.data(), expected.size() * sizeof(T)) == 0);
}

}  // namespace

TEST_CASE("kernels that take columns of wider tensors give the same bits and leave the rest alone") {
  const cpu::isa best = cpu::current_isa();
  int results = 0, operands = 0, in_place = 0;
  const auto check = [&](auto zero) {
    using T = decltype(zero);
    for (const op_case& c : op_cases()) {
      CAPTURE(c.name);
      const case_graph g = make_case_graph(c, c.gradient || std::string(c.name).find("large") == 0);
      interpreter<T> run(g.g, c.inputs);
      fill_sources(c, g.g, run);
      run.run();
      const auto ready = [&](int node) { return g.g.nodes[node].type == graph::data_type::real && run.extent(node).size() > 0; };
      for (int id = 0; id < g.g.nodes.size(); ++id) {
        const graph::node& n = g.g.nodes[id];
        if (!cpu::entry_of<T>(n.kind).run || n.kind == graph::op::bn_update || run.extent(id).size() == 0) continue;
        CAPTURE(id);
        CAPTURE(int(n.kind));
        std::vector<bool> all(std::size_t(g.g.nodes.size()), false), one = all;
        for (int k = 0; k < n.input_count; ++k)
          if (ready(g.g.input_of(id, k)) && cpu::takes_pitch(n.kind, k)) all[std::size_t(g.g.input_of(id, k))] = true;
        for (int k = 0; k < n.input_count; ++k)  // a node that is another operand, too
          if (!cpu::takes_pitch(n.kind, k)) all[std::size_t(g.g.input_of(id, k))] = false;
        for (int k = 0; k < n.input_count; ++k) {
          const int in = g.g.input_of(id, k);
          if (!all[std::size_t(in)]) continue;
          CAPTURE(k);
          one[std::size_t(in)] = true;
          CHECK(runs_on_columns(g.g, run, id, one));
          one[std::size_t(in)] = false;
          ++operands;
          if (cpu::may_run_in_place(n.kind, k) && cpu::takes_pitch(n.kind, -1) && run.extent(in) == run.extent(id)) {
            CHECK(runs_on_columns(g.g, run, id, all, in));
            ++in_place;
          }
        }
        if (cpu::takes_pitch(n.kind, -1) && ready(id)) {
          one[std::size_t(id)] = true;
          CHECK(runs_on_columns(g.g, run, id, one));
          all[std::size_t(id)] = true;
          ++results;
        }
        CHECK(runs_on_columns(g.g, run, id, all));
      }
    }
  };
  check(0.0);
  check(0.0f);
  cpu::set_isa(cpu::isa::portable);
  check(0.0f);
  cpu::set_isa(best);
  CHECK(results > 500);
  CHECK(operands > 1000);
  CHECK(in_place > 300);
}
