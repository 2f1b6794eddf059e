// SPDX-License-Identifier: MIT
// MagNet (Huynh, Tran, Luu, Hoai, "Progressive semantic segmentation", CVPR 2021, Figs. 2 and 3): a segmenter of any kind and a small
// refinement module that merges, scale by scale, a patch's fresh prediction with the one brought up from the coarser scale.
//   MagNetBackbone (DeepGlobe): ResNet-50 and the pyramid of nets/smooth_fpn.hpp, bilinear to the input          (N,K,H,W)
//   MagNetRefinement: [fine K, coarse K] probabilities, BN; 3x3 64, BN, ReLU twice; two bottlenecks to 128; 1x1 to K (no bias)
// The order is (fine, coarse); the reference's training script has it the other way round. Momenta of the norms are 0.01 as published.
// The loop over scales, patches and points is around these networks.
#pragma once
#include "rsseg/layers/conv_block.hpp"
#include "rsseg/nets/entry.hpp"
#include "rsseg/nets/smooth_fpn.hpp"

namespace rsseg {

template <int Classes = from_data, class Size = BranchSize<>>
struct MagNetBackbone {
  static constexpr void build(builder& b) {
    const value x = b.input("image", from_data);
    smooth_pyramid f;
    {
      const scope s(b, "resnet_backbone");
      resnet_options o = resnet_of_depth(Size::depth);
      o.width = Size::base;
      if (Size::depth == 50) o.block_momentum = 0.01;
      f = pyramid_of(resnet(b, x, o));
    }
    build_smooth_pyramid(
        b, f, b.classes(Classes), companion_mode::none, [](int, int, value) { return value{}; }, Size::width);
    b.output("logits", resize_like(b, f.scores, x), 1);
  }
};

/// Inputs "fine" and "coarse", (N,K,H,W) class probabilities each. Width: 64 in the paper, whose last layer starts at random;
/// narrower ones start as the mean of both maps.
template <int Classes = from_data, int Width = 64>
struct MagNetRefinement {
  static constexpr void build(builder& b) {
    const int k = b.classes(Classes);
    constexpr double momentum = Width == 64 ? 0.01 : 0.1;  // hundreds of steps pass before 0.01 has seen the data
    constexpr norm_options slow{1e-5, momentum};
    const value fine = b.input("fine", k), coarse = b.input("coarse", k);
    value y = batch_norm(b, "bn0", concat(b, fine, coarse), slow);
    y = conv_bn_relu(b, "conv1", "bn1", y, Width, {.kernel = 3}, slow);
    y = conv_bn_relu(b, "conv2", "bn2", y, Width, {.kernel = 3}, slow);
    for (int i = 0; i < 2; ++i) {
      const scope s(b, numbered("residual.", i));
      residual_options o;
      o.out = 2 * Width, o.momentum = o.block_momentum = momentum;
      y = bottleneck_block(b, y, o);
    }
    if (Width == 64) {
      b.output("logits", conv(b, "seg_conv", y, k, {.bias = false}), 1);
      return;
    }
    // Ours: corrects the mean of both in logarithms, from zero on.
    const auto log = [&](value p) { return graph::ops::unary(b, graph::ops::affine(b, p, 1, 1e-6), function::log); };
    const value both = graph::ops::affine(b, add(b, log(fine), log(coarse)), 0.5, 0);
    b.output("logits", add(b, both, zero_conv(b, "seg_conv", y, k)), 1);
  }
};

inline constexpr network_entry magnet_networks[] = {
    {"magnet-backbone", "MagNet's segmenter", "Huynh et al., CVPR 2021", "ResNet-50 with GLNet's pyramid (the DeepGlobe setting)",
     &MagNetBackbone<>::build, recipe{"sgd", 0.01, 0.9, 5e-4, "poly", 12, 508}, 1, 0, 32},
    {"magnet-refinement", "MagNet's refinement module", "Huynh et al., CVPR 2021", "merges fine and coarse probabilities of a patch; any segmenter",
     &MagNetRefinement<>::build, recipe{"sgd", 1e-3, 0.9, 5e-4, "step", 8, 508}, 1, 0, 1, false},
};

}  // namespace rsseg
