// SPDX-License-Identifier: MIT
// ScasNet, HCANet and its two poolings for comparison with their reconstructions, with the maps in front of the last resize.
#pragma once
#include "rsseg/nets/hcanet.hpp"
#include "rsseg/nets/parity_case.hpp"
#include "rsseg/nets/scasnet.hpp"

namespace rsseg::parity {

struct scasnet_case {
  static constexpr void build(builder& b) {
    const auto m = ScasNet<>::parts(b, b.input("x", from_data));
    b.output("logits", m.resized, 1);
    b.output("logits_stride4", m.scores);
  }
};

/// One bottleneck per stage, first width 16.
struct hcanet_case {
  static constexpr void build(builder& b) {
    const value x = b.input("x", from_data), y = HCANet<from_data, 1, 1, 1, 1, 16>::scores(b, x);
    b.output("logits", resize_like(b, y, x), 1);
    b.output("logits_stride4", y);
  }
};

struct caspp_case {
  static constexpr void build(builder& b) {
    const value first = caspp(b, "a", b.input("x", 48), {.out = 16}), second = caspp(b, "b", first, caspp_plus(16));
    b.output("logits", conv(b, "head", second, b.classes(from_data)), 1);
    b.output("caspp", first);
    b.output("caspp_plus", second);
  }
};

inline constexpr parity_case multiscale_parity[] = {
    {"ScasNet (VGG)", "scasnet-vgg", &scasnet_case::build},
    {"HCANet", "hcanet", &hcanet_case::build},
    {"HCANet", "block: CASPP then CASPP+ (16 channels)", &caspp_case::build},
};

}  // namespace rsseg::parity
