// SPDX-License-Identifier: MIT
// Every registered network keeps what its entry promises: it is well composed for inference and training, legal sizes (even and odd)
// give scores of the input's extent (or of a quarter of it), and it can be differentiated.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "rsseg/graph/infer.hpp"
#include "rsseg/graph/training.hpp"
#include "rsseg/nets/registry.hpp"
#include "rsseg/plan/memory_plan.hpp"

using namespace rsseg;

namespace {
graph::graph lowered(const network_entry& e, bool training) {
  build_options o;
  o.classes = 5;
  o.training = training;
  builder b(o);
  e.build(b);
  CHECK_MESSAGE(!b.failed(), e.name, ": layer ", std::string(b.error_path()));
  return std::move(b.g);
}

/// Extents of all nodes for one image; the error, if the size is refused.
graph::graph_error extents(const graph::graph& g, int h, int w, std::vector<shape>& s) {
  s.assign(std::size_t(g.nodes.size()), shape{});
  for (int i = 0; i < g.nodes.size(); ++i)
    if (g.nodes[i].kind == graph::op::input) s[std::size_t(i)] = {2, g.nodes[i].channels, h, w};
  return graph::infer(g, s.data());
}

int inputs(const graph::graph& g) {
  int n = 0;
  for (const auto& node : g.nodes) n += node.kind == graph::op::input;
  return n;
}
}  // namespace

TEST_SUITE("nets") {
  TEST_CASE("every network is well composed, and its training graph has a loss and gradients") {
    for_each_network([](const network_entry& e) {
      CAPTURE(std::string(e.name));
      const graph::graph inference = lowered(e, false);
      CHECK(inference.outputs.size() >= 1);
      graph::graph g = lowered(e, true);
      bool supervised = g.penalties.size() > 0;
      for (const auto& o : g.outputs) supervised = supervised || o.loss_weight > 0;
      CHECK(supervised);
      graph::make_training_graph(g);
      CHECK(g.error.what == graph::fault::none);
      CHECK(g.loss >= 0);
      CHECK(g.gradients.size() > 0);
      for (const auto& n : inference.nodes) CHECK(n.kind != graph::op::noise);  // inference is deterministic
    });
  }

  TEST_CASE("legal sizes give scores of the input's extent") {
    for_each_network([](const network_entry& e) {
      if (!e.segmenter) return;
      CAPTURE(std::string(e.name));
      const graph::graph g = lowered(e, false);
      REQUIRE(inputs(g) == 1);
      const int step = e.size_multiple, first = e.minimum_size;
      CHECK((first - e.size_offset) % step == 0);
      for (const int k : {0, 1, 2, 5, 12}) {
        const int h = first + k * step, w = first + (k + 3) * step;
        CAPTURE(h);
        CAPTURE(w);
        std::vector<shape> s;
        const graph::graph_error error = extents(g, h, w, s);
        CHECK_MESSAGE(error.what == graph::fault::none, describe_error(g, error));
        if (error.what != graph::fault::none) continue;
        const graph::output& o = g.outputs[0];
        const shape y = s[std::size_t(o.node)];
        CHECK(y.n == 2);
        CHECK(y.c == 5);
        if (o.labels == label_rule::crop_labels) {
          CHECK(y.h < h);
        } else if (y.h != h) {  // scores at a stride: `segment` brings them to the image
          CHECK(h == 4 * y.h);
          CHECK(w == 4 * y.w);
        } else {
          CHECK(y.w == w);
        }
      }
    });
  }

  TEST_CASE("names are unique and written as the command line wants them") {
    std::vector<std::string> names;
    for_each_network([&](const network_entry& e) {
      const std::string n = e.name;
      for (char c : n) CHECK(((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'));
      for (const std::string& other : names) CHECK(other != n);
      names.push_back(n);
    });
    CHECK(names.size() > 40);
  }
}
