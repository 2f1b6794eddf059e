// SPDX-License-Identifier: MIT
// A network's scores as they leave its classifier, before they are brought to the input's extent.
#pragma once
#include "rsseg/layers/network.hpp"

namespace rsseg::parity {

/// logits = Num / Den * Net::scores.
template <class Net, int Num = 1, int Den = 1>
struct raw_scores {
  static constexpr void build(builder& b) {
    value y = Net::scores(b, b.input("x", from_data));
    if (Num != Den) y = graph::ops::affine(b, y, double(Num) / Den, 0);
    b.output("logits", y, 1);
  }
};

}  // namespace rsseg::parity
