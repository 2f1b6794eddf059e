// SPDX-License-Identifier: MIT
// Values for the operator cases, the same for every precision and backend, and the graphs built around a case.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "op_cases.hpp"
#include "rsseg/core/random.hpp"

namespace rsseg::test {

/// A case's graph: forward only, or with the gradients of sum(result * fixed normal numbers) to all inputs and parameters.
struct case_graph {
  graph::graph g;
  int result = -1;  ///< the case's own result
  int total = -1;   ///< the scalar
};
inline case_graph make_case_graph(const op_case& c, bool gradients) {
  build_options o;
  o.classes = 5, o.training = c.training;
  builder b(o);
  case_graph out;
  const value y = build_case(c, b);
  const value probe = b.emit(graph::op::noise, {y.id}, y.channels, y.scale);
  const value total = graph::ops::reduce(b, graph::ops::mul(b, y, probe), 15, false);
  out.g = b.g, out.result = y.id, out.total = total.id;
  if (gradients) graph::differentiate(out.g, total.id, true);
  return out;
}

/// n distinct numbers in (low, high) in shuffled order, exact in single precision, none within 1e-3 of 0 (if n < 500).
inline std::vector<double> distinct_values(std::size_t n, double low, double high, std::uint64_t stream) {
  std::vector<std::uint32_t> order(n);
  for (std::size_t i = 0; i < n; ++i) order[i] = std::uint32_t(i);
  random_stream r(11, stream);
  for (std::size_t i = n; i > 1; --i) std::swap(order[i - 1], order[r.below(std::uint32_t(i))]);
  std::vector<double> v(n);
  const double shift = 0.37 + 0.11 * double(stream % 5);  // tensors of one extent differ, too
  for (std::size_t i = 0; i < n; ++i) v[i] = double(float(low + (high - low) * (double(order[i]) + shift) / double(n)));
  return v;
}

/// Values of source node `id`. Targets: class ids, about a fifth of them 255.
inline std::vector<double> source_values(const op_case& c, const graph::graph& g, int id, const shape* extents) {
  const std::size_t n = std::size_t(extents[id].size());
  const graph::node& node = g.nodes[id];
  const std::uint64_t stream = 100 + std::uint64_t(id);
  if (node.kind == graph::op::input) return distinct_values(n, c.low, c.high, stream);
  const std::string name(g.name_of(id));
  if (node.kind == graph::op::target) {
    int classes = extents[g.input_of(id, 0)].c;
    for (int k = 0; k < g.nodes.size(); ++k) {
      if (g.nodes[k].kind != graph::op::loss) continue;
      const auto kind = graph::loss_kind(g.nodes[k].at.mode);
      if (kind == graph::loss_kind::binary_cross_entropy || kind == graph::loss_kind::balanced_binary) classes = 2;
      if (kind == graph::loss_kind::squared_error) classes = graph::soft_one + 1;
    }
    std::vector<double> v(n);
    random_stream r(12, stream);
    for (double& t : v) t = r.uniform() < 0.2 ? 255 : double(r.below(std::uint32_t(classes)));
    return v;
  }
  if (name == "var" || name == "class_weights") return distinct_values(n, 0.3, 2, stream);
  if (name == "gamma") return distinct_values(n, 0.5, 1.5, stream);
  return distinct_values(n, -0.6, 0.6, stream);
}

/// Fills all sources of an executor with data(id), index_data(id), extent(id).
template <class Executor>
void fill_sources(const op_case& c, const graph::graph& g, Executor& run) {
  std::vector<shape> extents(std::size_t(g.nodes.size()));
  for (int id = 0; id < g.nodes.size(); ++id) extents[std::size_t(id)] = run.extent(id);
  for (int id = 0; id < g.nodes.size(); ++id) {
    const graph::op kind = g.nodes[id].kind;
    if (kind != graph::op::input && kind != graph::op::parameter && kind != graph::op::buffer && kind != graph::op::target) continue;
    const std::vector<double> v = source_values(c, g, id, extents.data());
    for (std::size_t i = 0; i < v.size(); ++i) {
      if (kind == graph::op::target)
        run.index_data(id)[i] = std::int32_t(v[i]);
      else
        run.data(id)[i] = std::remove_reference_t<decltype(*run.data(id))>(v[i]);
    }
  }
}

}  // namespace rsseg::test
