// SPDX-License-Identifier: MIT
// Classification with an edge: base width 16, one scale, every side map as output.
#pragma once
#include "rsseg/nets/classification_with_an_edge.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg::parity {

struct classification_with_an_edge_case {
  static constexpr void build(builder& b) {
    const value image = b.input("image", from_data), dem = b.input("dem", 2);
    const auto m = ClassificationWithAnEdge<from_data, 1, 16>::parts(b, image, dem);
    b.output("logits", m.scores, 1);
    b.output("edges", m.edges);
    for (int i = 0; i < 5; ++i) b.output(numbered("side", i + 1), m.sides[i]);
  }
};

inline constexpr parity_case classification_with_an_edge_parity[] = {
    {"Classification with an edge", "classification-with-an-edge", &classification_with_an_edge_case::build},
};

}  // namespace rsseg::parity
