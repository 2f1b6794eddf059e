// SPDX-License-Identifier: MIT
// gradcheck<Net>(): compares a network's gradients with central differences in double, for networks, layers and operators of one's own.
//   CHECK(gradcheck<MyNet>({2, 3, 17, 16}).worst < 1e-6);
#pragma once
#include <cmath>
#include <string>

#include "rsseg/model/model.hpp"

namespace rsseg {

struct gradcheck_options {
  std::uint64_t seed = 1;
  double step = 1e-5;    ///< of the central difference
  int per_tensor = 6;    ///< elements checked of each parameter, spread evenly
  int classes = 4;       ///< for networks with from_data
  bool training = true;  ///< batch statistics; false: frozen statistics
};

struct gradcheck_result {
  double worst = 0;   ///< max |analytic - numeric| / (|analytic| + |numeric| + 1e-3 * largest gradient of the tensor)
  std::string where;  ///< parameter and element of the worst
  int checked = 0;
};

/// For a build function, with one extent per input (or one for all).
inline gradcheck_result gradcheck(build_function build, std::span<const shape> extents, const gradcheck_options& o = {}) {
  build_options b;
  b.classes = o.classes, b.bands = extents[0].c, b.freeze_norm = !o.training;
  basic_model<double> model(build, b);
  model.weights().initialise(o.seed);
  random_stream r(o.seed, 77);
  // Constants would hide errors: every parameter and running mean is moved a little, running variances stay positive.
  for (const stored_tensor& t : model.weights().entries())
    for (std::size_t i = 0; i < t.size; ++i) {
      double& v = model.weights().values()[t.offset + i];
      v = t.trained || v == 0 ? v + r.uniform(-0.1, 0.1) : v * r.uniform(0.5, 1.5);
    }
  const graph::graph g = lower_network(build, b);
  std::vector<tensor<double>> inputs;
  std::vector<const tensor<double>*> pointers;
  std::size_t k = 0;
  for (int i = 0; i < g.nodes.size(); ++i)
    if (g.nodes[i].kind == graph::op::input) {
      shape s = extents[std::min(k++, extents.size() - 1)];
      s.c = g.nodes[i].channels;
      inputs.emplace_back(s);
      for (double& v : inputs.back()) v = r.uniform(-1, 1);
    }
  for (const auto& x : inputs) pointers.push_back(&x);
  int classes = 1;  // a network may fix fewer than the options say
  for (const auto& out : g.outputs) classes = std::max(classes, std::min(o.classes, g.nodes[out.node].channels));
  tensor<std::int32_t> labels(shape{extents[0].n, 1, extents[0].h, extents[0].w});
  for (auto& v : labels) v = std::int32_t(r.below(std::uint32_t(classes)));
  model.prepare_training(graph::loss_options{});
  const std::vector<double> start = model.weights().values();
  const auto loss_at = [&] {
    const double loss = model.train_step(pointers, labels, cpu::run_state{o.seed, 3});
    return loss;
  };
  loss_at();
  const std::vector<double> analytic = model.training().gradients();
  gradcheck_result result;
  for (const stored_tensor& t : model.weights().entries()) {
    if (!t.trained) continue;
    double largest = 0;
    for (std::size_t i = 0; i < t.size; ++i) largest = std::max(largest, std::abs(analytic[t.offset + i]));
    const std::size_t count = std::min<std::size_t>(t.size, std::size_t(o.per_tensor));
    for (std::size_t c = 0; c < count; ++c) {
      const std::size_t i = t.offset + c * (t.size - 1) / std::max<std::size_t>(1, count - 1);
      double two[2];
      for (int sign = 0; sign < 2; ++sign) {
        model.weights().values() = start;
        model.weights().values()[i] += sign ? o.step : -o.step;
        model.weights().touch();
        two[sign] = loss_at();
      }
      const double numeric = (two[1] - two[0]) / (2 * o.step);
      const double err = std::abs(analytic[i] - numeric) / (std::abs(analytic[i]) + std::abs(numeric) + 1e-3 * largest + 1e-7);
      ++result.checked;
      if (!(err <= result.worst)) result.worst = err, result.where = t.name + "[" + std::to_string(i - t.offset) + "]";
    }
  }
  return result;
}

/// For a network type.
template <NetworkType Net>
gradcheck_result gradcheck(shape extent, gradcheck_options o = {}) {
  static_assert(well_composed<Net>());
  return gradcheck(&Net::build, std::span<const shape>(&extent, 1), o);
}

}  // namespace rsseg
