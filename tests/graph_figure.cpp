// SPDX-License-Identifier: MIT
// Drawings: every box once, resolutions in columns, and no network that cannot be drawn.
#include <doctest/doctest.h>

#include <cmath>

#include "rsseg/graph/figure.hpp"
#include "rsseg/model/model.hpp"
#include "rsseg/nets/registry.hpp"

using namespace rsseg;

namespace {
graph::list<shape> extents(const graph::graph& g, int side) {
  std::vector<shape> in;
  for (int i = 0; i < g.nodes.size(); ++i)
    if (g.nodes[i].kind == graph::op::input) in.push_back({1, g.nodes[i].channels, side, side});
  graph::graph_error e;
  graph::list<shape> s = graph::extents_for(g, in.data(), int(in.size()), e);
  REQUIRE(e.what == graph::fault::none);
  return s;
}
std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++n;
  return n;
}
}  // namespace

TEST_CASE("figure: a U-Net has a column for each of its five resolutions and the skips go around nothing") {
  build_options o;
  o.classes = 6;
  graph::graph g = lower_network(&UNet<from_data, 16>::build, o);
  const auto s = extents(g, 64);
  const graph::block_graph b = graph::blocks_of(g, s.begin(), 1);
  const graph::detail::figure_layout f = graph::detail::lay_out(b, s[0]);
  CHECK(f.slots == std::vector<int>{1, 1, 1, 1, 1});
  for (const auto& [from, to] : b.edges) CHECK(f.row[std::size_t(from)] < f.row[std::size_t(to)]);
  const std::string svg = graph::to_svg(g, s.begin(), "A <title> & more", 1);
  CHECK(count(svg, "<g>") == b.blocks.size());
  CHECK(count(svg, "marker-end") == b.edges.size());
  CHECK(count(svg, "A &lt;title&gt; &amp; more") == 1);
  for (const char* heading : {">full size<", ">1/2<", ">1/4<", ">1/8<", ">1/16<"}) CHECK(count(svg, heading) == 1);
}

TEST_CASE("figure: operators outside of any scope have a name; a custom operator has its own") {
  build_options o;
  o.classes = 3;
  for (auto build : {&ParseNet<from_data>::build, &PointRend<from_data>::build}) {
    graph::graph g = lower_network(build, o);
    const auto s = extents(g, 96);
    for (const graph::block& b : graph::blocks_of(g, s.begin(), 1).blocks) CHECK_FALSE(b.name.empty());
  }
}
