// SPDX-License-Identifier: MIT
// RefineNet for comparison with its reference (scores scaled by a power of two to keep the softmax unsaturated), and one block alone.
#pragma once
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/refinenet.hpp"
#include "rsseg/parity/raw_scores.hpp"

namespace rsseg::parity {

struct refinenet_block {
  static constexpr void build(builder& b) {
    constexpr conv_options plain{.kernel = 3, .bias = false};
    value hi = b.input("hi", 32), lo = b.input("lo", 32, {1, 2});
    hi = conv(b, "fuse_hi", residual_conv_units(b, "adapt_hi", hi, 2), 32, plain);
    lo = conv(b, "fuse_lo", residual_conv_units(b, "adapt_lo", lo, 2), 32, plain);
    value y = relu(b, add(b, hi, resize_like(b, lo, hi, true)));
    y = residual_conv_units(b, "out", chained_residual_pooling(b, "crp", y), 3);
    b.output("logits", graph::ops::affine(b, conv(b, "head", y, b.classes(from_data)), 1.0 / 16, 0), 1);
    b.output("block", y);
  }
};

inline constexpr parity_case refinenet_parity[] = {
    {"RefineNet", "refinenet-r50", &raw_scores<RefineNet<50>, 1, 16>::build},
    {"RefineNet", "refinenet-r101", &raw_scores<RefineNet<101>, 1, 64>::build},
    {"RefineNet", "block: RCU, multi-resolution fusion, chained residual pooling, output RCU (32 channels)", &refinenet_block::build},
};

}  // namespace rsseg::parity
