// SPDX-License-Identifier: MIT
// Every row of the operator table through the CUDA executor, planned in an arena and in place where that is allowed, against the CPU in double
// precision: results, gradients to inputs and parameters, running statistics. Three runs: node by node, captured, replayed.
#include <doctest/doctest.h>

#include <cmath>

#include "../op_cases_fill.hpp"
#include "rsseg/cpu/interpret.hpp"
#define RSSEG_WITH_CUDA 1
#include "rsseg/cuda/backend.hpp"

using namespace rsseg;
using namespace rsseg::test;

namespace {

struct comparison {
  double worst = 0;
  int compared = 0;
};

/// Runs the case's graph on the executor and compares what lives to the end.
comparison compare_case(const op_case& c, cuda::precision precision) {
  case_graph g = make_case_graph(c, c.gradient);
  g.g.roots.push_back(g.result), g.g.roots.push_back(g.total);
  cpu::interpreter<double> reference(g.g, c.inputs);
  reference.state.seed = 5, reference.state.step = 3;
  fill_sources(c, g.g, reference);

  parameter_store<float> store(g.g);
  std::vector<shape> extents(std::size_t(g.g.nodes.size()));
  for (int id = 0; id < g.g.nodes.size(); ++id) extents[std::size_t(id)] = reference.extent(id);
  cuda::backend_options options;
  options.compute = precision, options.loss_scale = 1;
  const auto backend = cuda::open_backend(store, options);
  const auto executor = backend->make_executor(g.g);
  executor->plan_for(c.inputs);
  int input = 0;
  for (int id = 0; id < g.g.nodes.size(); ++id) {
    const graph::op kind = g.g.nodes[id].kind;
    if (kind != graph::op::input && kind != graph::op::parameter && kind != graph::op::buffer && kind != graph::op::target) continue;
    const std::vector<double> v = source_values(c, g.g, id, extents.data());
    if (kind == graph::op::target) {
      executor->set_target(id, std::vector<std::int32_t>(v.begin(), v.end()).data());
    } else {
      const std::vector<float> f(v.begin(), v.end());
      if (kind == graph::op::input)
        executor->set_input(input++, f.data());
      else
        std::copy(f.begin(), f.end(), store.data(store.find(g.g.name_of(id))));
    }
  }
  store.touch();
  comparison out;
  for (int run = 0; run < 3; ++run) {
    executor->run(5, 3);
    reference.run();
    CHECK(executor->replayed() == (run > 0));
    std::vector<int> ids{g.result, g.total};
    for (int k = 1; k < g.g.gradients.size(); k += 2) ids.push_back(g.g.gradients[k]);
    for (int id : ids) {
      if (g.g.nodes[id].type == graph::data_type::index) continue;
      CAPTURE(id);
      CAPTURE(run);
      const std::size_t n = std::size_t(executor->extent(id).size());
      std::vector<float> got(n);
      executor->read(id, got.data());
      double scale = 0, worst = 0;
      for (std::size_t i = 0; i < n; ++i) scale = std::max(scale, std::abs(reference.data(id)[i]));
      for (std::size_t i = 0; i < n; ++i) {
        const double d = std::abs(double(got[i]) - reference.data(id)[i]);
        worst = std::max(worst, d == d ? d : INFINITY);
      }
      // a sum over signed numbers may be small beside them: measured against what was summed
      if (id == g.total) scale = std::max(scale, std::sqrt(double(reference.extent(g.result).size())));
      out.worst = std::max(out.worst, scale > 0 ? worst / scale : worst), ++out.compared;
    }
    backend->fetch_weights();
    for (int id = 0; id < g.g.nodes.size(); ++id)  // running statistics
      if (g.g.nodes[id].kind == graph::op::buffer)
        for (std::int64_t i = 0; i < reference.extent(id).size(); ++i)
          CHECK(std::abs(double(store.data(store.find(g.g.name_of(id)))[i]) - reference.data(id)[i]) <
                (precision == cuda::precision::fp32 ? 2e-6 : 2e-2));
  }
  return out;
}

}  // namespace

TEST_CASE("executor: every operator case in fp32") {
  int cases = 0;
  for (const op_case& c : op_cases()) {
    const std::string name = c.name;
    CAPTURE(name);
    try {
      const comparison r = compare_case(c, cuda::precision::fp32);
      CHECK(r.worst < 2e-5);
      CHECK(r.compared >= 6);
    } catch (const std::exception& e) {
      const std::string what = name + ": " + e.what();
      FAIL_CHECK(what);
    }
    ++cases;
  }
  CHECK(cases >= 100);
}

TEST_CASE("executor: operator cases with maps in two bytes") {
  // A few roundings to 8 or 11 bits of mantissa, relative to the largest value of a result.
  for (const op_case& c : op_cases()) {
    const std::string name = c.name;
    if (name.rfind("large_", 0) == 0) continue;
    CAPTURE(name);
    for (const auto precision : {cuda::precision::bf16, cuda::precision::fp16}) {
      try {
        CHECK(compare_case(c, precision).worst < (precision == cuda::precision::bf16 ? 4e-2 : 6e-3));
      } catch (const std::exception& e) {
        const std::string what = name + ": " + e.what();
        FAIL_CHECK(what);
      }
    }
  }
}

TEST_CASE("executor: convolutions and matrix products on tensor cores in tf32") {
  int cases = 0;
  for (const op_case& c : op_cases()) {
    const std::string name = c.name;
    if (name.rfind("matmul", 0) != 0 && name.rfind("conv", 0) != 0) continue;
    CAPTURE(name);
    try {
      CHECK(compare_case(c, cuda::precision::tf32).worst < 4e-3);
    } catch (const std::exception& e) {
      const std::string what = name + ": " + e.what();
      FAIL_CHECK(what);
    }
    ++cases;
  }
  CHECK(cases >= 10);
}
