// SPDX-License-Identifier: MIT
// What tests of networks ask at compile time beside parameter_count and output_of.
#pragma once
#include "rsseg/layers/network.hpp"

namespace rsseg::test {

/// Whether Net takes inputs of these extents.
template <class Net, class... Shapes>
constexpr bool accepts(shape in, Shapes... more) {
  const shape all[] = {in, more...};
  const graph::graph g = rsseg::detail::lower<Net>(false, true);
  graph::graph_error e;
  graph::extents_for(g, all, 1 + int(sizeof...(more)), e);
  return e.what == graph::fault::none;
}

/// Whether the entry's rule takes an n x n image.
constexpr bool legal(int n, int multiple, int offset, int minimum) { return n >= minimum && (n - offset) % multiple == 0; }

}  // namespace rsseg::test
