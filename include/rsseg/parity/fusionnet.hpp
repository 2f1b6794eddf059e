// SPDX-License-Identifier: MIT
// FusionNet for comparison with its reconstruction: base width 16, the fused edge logit is the last channel of `logits`, so that one
// cross entropy reaches both networks; the regulariser is an output.
#pragma once
#include "rsseg/nets/fusionnet.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg::parity {

struct fusionnet_case {
  static constexpr void build(builder& b) {
    const auto m = FusionNet<from_data, 16>::parts(b, b.input("x", from_data), b.classes(from_data) - 1);
    b.output("logits", concat(b, m.scores, m.edges), 1);
    b.output("edge_reg", edge_aware_variation(b, m.scores, m.edges));
    for (int i = 0; i < 5; ++i) b.output(numbered("side", i + 1), m.sides[i]);
  }
};

inline constexpr parity_case fusionnet_parity[] = {
    {"FusionNet (edge-aware SegNet)", "fusionnet-edge-segnet", &fusionnet_case::build},
};

}  // namespace rsseg::parity
