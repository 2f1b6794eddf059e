// SPDX-License-Identifier: MIT
// ENet and its bottlenecks for comparison with the reference; single blocks sit behind a 1x1 convolution `pre`.
#pragma once
#include "rsseg/nets/enet.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg::parity {

struct enet_initial_block {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data);
    const scope s(b, "block");
    b.output("logits", enet_initial(b, x), 1);
  }
};
template <int Dilation, bool Asymmetric>
struct enet_bottleneck_block {
  static constexpr void build(builder& b) {
    const value y = conv(b, "pre", b.input("x", from_data), 16);
    const scope s(b, "block");
    b.output("logits", enet_bottleneck(b, y, {.dilation = Dilation, .asymmetric = Asymmetric}), 1);
  }
};
struct enet_down_up_block {
  static constexpr void build(builder& b) {
    const value x = conv(b, "pre", b.input("x", from_data), 8);
    const scope s(b, "block");
    enet_pooled p;
    {
      const scope d(b, "down");
      p = enet_down(b, x, 16, {});
    }
    const scope u(b, "up");
    b.output("logits", enet_up(b, p.y, p, 8, {}), 1);
  }
};

inline constexpr parity_case enet_parity[] = {
    {"enet", "PReLU encoder, ReLU decoder, full unpool", &ENet<>::build},
    {"enet", "input not a multiple of 8", &ENet<>::build},
    {"block", "enet_initial", &enet_initial_block::build},
    {"block", "enet_regular", &enet_bottleneck_block<1, false>::build},
    {"block", "enet_dilated4", &enet_bottleneck_block<4, false>::build},
    {"block", "enet_asymmetric", &enet_bottleneck_block<1, true>::build},
    {"block", "enet_down_up", &enet_down_up_block::build},
};

}  // namespace rsseg::parity
