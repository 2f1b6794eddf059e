// SPDX-License-Identifier: MIT
// BiSeNet v1 with its auxiliary maps as outputs, and its two modules alone behind a 1x1 convolution `pre`.
#pragma once
#include "rsseg/nets/bisenet.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg::parity {

struct bisenet_arm_block {
  static constexpr void build(builder& b) {
    const value y = conv(b, "pre", b.input("x", from_data), 8);
    const scope s(b, "block");
    b.output("logits", attention_refinement(b, y, 6), 1);
  }
};
struct bisenet_ffm_block {
  static constexpr void build(builder& b) {
    const value y = conv(b, "pre", b.input("x", from_data), 8);
    const value z = conv(b, "block.a", y, 6);
    const scope s(b, "block.ffm");
    b.output("logits", feature_fusion(b, y, z, 10), 1);
  }
};

inline constexpr parity_case bisenet_parity[] = {
    {"bisenetv1", "ResNet-18", &BiSeNet<from_data, bisenet_fusion::reference, true>::build},
    {"block", "bisenet_arm", &bisenet_arm_block::build},
    {"block", "bisenet_ffm", &bisenet_ffm_block::build},
};

}  // namespace rsseg::parity
