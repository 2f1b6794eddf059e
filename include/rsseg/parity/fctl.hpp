// SPDX-License-Identifier: MIT
// FCtL's blocks under a plain 1x1 head, and the whole network with its scores times 16.
#pragma once
#include "rsseg/nets/fctl.hpp"
#include "rsseg/nets/parity_case.hpp"

namespace rsseg::parity {

struct fctl_correlation {
  static constexpr void build(builder& b) {
    const value local = b.input("local", 512), context = b.input("context", 512);
    value y;
    {
      const scope s(b, "fctl");
      y = contextual_correlation(b, graph::ops::affine(b, local, 0.125, 0), graph::ops::affine(b, context, 0.125, 0), true);
    }
    b.output("logits", conv(b, "head", y, b.classes(from_data)), 1);
    b.output("correlated", y);
  }
};

struct fctl_fusion {
  static constexpr void build(builder& b) {
    const auto small = [&](value v) { return graph::ops::affine(b, v, 0.125, 0); };
    const value local = small(b.input("local", 512)), medium = small(b.input("medium", 512)), large = small(b.input("large", 512));
    value y;
    {
      const scope s(b, "fctl");
      const value parts[] = {contextual_correlation(b, local, medium, false),
                             contextual_correlation(b, local, large, false, {"gamma_1", "conv_query_1", "conv_key_1", "conv_value_1"}),
                             contextual_correlation(b, local, local, false, {"gamma_2", "conv_query_2", "conv_key_2", "conv_value_2"})};
      y = multi_context_fusion(b, local, parts);
    }
    b.output("logits", conv(b, "head", y, b.classes(from_data)), 1);
    b.output("fused", y);
  }
};

inline constexpr parity_case fctl_parity[] = {
    {"FCtL", "block: whitened contextual correlation (DeepGlobe branch)", &fctl_correlation::build},
    {"FCtL", "block: locality-aware contextual correlation + multi-context fusion (Inria branch)", &fctl_fusion::build},
    {"FCtL", "full: FCN8s-VGG16 patch net + frozen medium and global encoders (DeepGlobe branch, mode 4)", &FCtL<from_data, true, false, 16>::build},
};

}  // namespace rsseg::parity
